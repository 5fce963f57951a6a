//! From request to reply, in the request's own octets.
//!
//! [`rewrite`] does everything that can be done before the transmit timestamp is taken; [`stamp`] stores that one
//! and completes the UDP checksum with it. A reply is the headers of its request turned around and 48 octets of
//! NTP, so it is never longer than the request, and nothing of the request's tail or padding goes back.

use crate::time::{LeapIndicator, NtpShort, NtpTimestamp};
use crate::wire::checksum::Sum;
use crate::wire::{Envelope, Request, Version};
use crate::wire::{ethernet, ip4, ip6, ntp, udp};

/// The mode of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ReplyMode {
    /// To a peer in mode 1.
    SymmetricPassive = 2,
    /// To a client.
    Server = 4,
}

/// Everything that a reply says but its transmit timestamp. Nothing in it has a default: each field comes from the
/// request or from measured state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The leap bits.
    pub leap: LeapIndicator,
    /// The request's version.
    pub version: Version,
    /// The mode that answers the request's.
    pub mode: ReplyMode,
    /// As it travels: 0 for a kiss and when unsynchronised.
    pub stratum: u8,
    /// log₂ seconds, the request's unless a kiss asks for more.
    pub poll: i8,
    /// log₂ seconds.
    pub precision: i8,
    /// Round trip to the primary reference.
    pub root_delay: NtpShort,
    /// Error bound.
    pub root_dispersion: NtpShort,
    /// What the server is synchronised to, or a kiss code.
    pub reference_id: [u8; 4],
    /// When the clock was last set or corrected.
    pub reference_time: NtpTimestamp,
    /// The request's transmit timestamp, or in interleaved mode its receive timestamp.
    pub origin: NtpTimestamp,
    /// When the request arrived.
    pub receive: NtpTimestamp,
}

impl Reply {
    /// The header up to the transmit timestamp, as five words of 64 bits.
    #[inline]
    fn words(&self) -> [u64; 5] {
        let first_octet = (self.leap as u8) << 6 | (self.version as u8) << 3 | self.mode as u8;
        let [poll] = self.poll.to_be_bytes();
        let [precision] = self.precision.to_be_bytes();
        let head = u32::from_be_bytes([first_octet, self.stratum, poll, precision]);
        [
            u64::from(head) << 32 | u64::from(self.root_delay.bits()),
            u64::from(self.root_dispersion.bits()) << 32 | u64::from(u32::from_be_bytes(self.reference_id)),
            self.reference_time.bits(),
            self.origin.bits(),
            self.receive.bits(),
        ]
    }
}

/// A reply that lacks its transmit timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a reply must be stamped before it is sent"]
pub struct Prepared {
    /// Octets before the NTP header.
    envelope_length: usize,
    /// The sum of everything that the UDP checksum covers but the transmit timestamp; none where the
    /// kernel makes it.
    sum: Option<Sum>,
}

impl Prepared {
    /// How many octets of the buffer are the reply.
    #[inline]
    #[must_use]
    pub const fn length(&self) -> usize {
        self.envelope_length + ntp::LENGTH
    }
}

/// UDP header and NTP header; the constants fit because a reply has one length only.
const UDP_LENGTH: u16 = 56;
const IPV4_LENGTH: u16 = 76;
const _: () = assert!(UDP_LENGTH as usize == udp::LENGTH + ntp::LENGTH);
const _: () = assert!(IPV4_LENGTH as usize == ip4::LENGTH + UDP_LENGTH as usize);

/// Turns a request into its reply, all but the transmit timestamp, which still is the client's.
///
/// In a frame the reply has a UDP checksum even where the request had none, which RFC 768 leaves to the sender.
///
/// # Panics
/// If `bytes` isn't as long as the packet that `request` was parsed from: only that very buffer can be rewritten.
#[inline]
pub fn rewrite(bytes: &mut [u8], request: &Request, reply: &Reply) -> Prepared {
    assert_eq!(bytes.len(), request.length(), "rewrite takes the buffer that the request was parsed from");
    let (envelope_length, sum) = match request.layout().envelope {
        Envelope::Datagram => (0, None),
        Envelope::Ipv4 { link_length } => {
            let (ip, datagram) = split(turn_link(bytes, link_length));
            let sum = udp::turn(first(datagram), UDP_LENGTH, ip4::turn(ip, IPV4_LENGTH));
            (link_length + ip4::LENGTH + udp::LENGTH, Some(sum))
        }
        Envelope::Ipv6 { link_length } => {
            let (ip, datagram) = split(turn_link(bytes, link_length));
            let sum = udp::turn(first(datagram), UDP_LENGTH, ip6::turn(ip, UDP_LENGTH));
            (link_length + ip6::LENGTH + udp::LENGTH, Some(sum))
        }
    };
    let words = reply.words();
    let header = first(bytes.split_at_mut(envelope_length).1);
    ntp::set_before_transmit(header, words);
    // The words are summed as they were made, since octets just stored are slow to load again.
    let sum = sum.map(|sum| words.into_iter().fold(sum, Sum::with_u64));
    Prepared { envelope_length, sum }
}

/// Stores the transmit timestamp and completes the UDP checksum with it: the last thing before sending.
///
/// # Panics
/// If `bytes` is shorter than the reply that was prepared in it.
#[inline]
pub fn stamp(bytes: &mut [u8], prepared: &Prepared, transmit: NtpTimestamp) {
    let (envelope, message) = bytes.split_at_mut(prepared.envelope_length);
    if let Some(sum) = prepared.sum {
        let header = envelope.last_chunk_mut().expect(PROVEN);
        udp::set_checksum(header, sum.with_u64(transmit.bits()));
    }
    ntp::set_transmit(first(message), transmit);
}

const PROVEN: &str = "the request's length was checked when it was parsed";

/// The first header of `bytes`, which the parser has seen there.
#[inline]
fn first<const LENGTH: usize>(bytes: &mut [u8]) -> &mut [u8; LENGTH] {
    bytes.first_chunk_mut().expect(PROVEN)
}

/// The first header of `bytes`, which the parser has seen there, and the rest.
#[inline]
fn split<const LENGTH: usize>(bytes: &mut [u8]) -> (&mut [u8; LENGTH], &mut [u8]) {
    bytes.split_first_chunk_mut().expect(PROVEN)
}

/// Sends the frame back where it came from, under the tags that it came with; the packet is left to be turned.
#[inline]
fn turn_link(frame: &mut [u8], link_length: usize) -> &mut [u8] {
    let (link, packet) = frame.split_at_mut(link_length);
    ethernet::swap_addresses(first(link));
    packet
}
