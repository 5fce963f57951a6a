//! Whole frames: the headers around a request, and the payload inside a reply.

use crate::reply::Fault;
use maser_core::wire::checksum::Sum;
use maser_core::wire::ethernet::{Ethernet, Network};
use maser_core::wire::ip4::Ipv4;
use maser_core::wire::ip6::Ipv6;
use maser_core::wire::udp::Udp;
use maser_core::wire::{DropReason, ethernet, ip4, ip6, udp};
use maser_sys::packet_socket::Way;
use std::net::{IpAddr, SocketAddr};

const PROTOCOL_UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;
/// "Don't fragment" of RFC 791.
const DONT_FRAGMENT: u16 = 0x4000;

/// The headers from this machine's interface to a server.
#[derive(Clone, Debug)]
pub struct Framer {
    ethernet: [u8; ethernet::LENGTH],
    /// Where requests come from unless they say.
    source: IpAddr,
    target: SocketAddr,
}

impl Framer {
    /// Frames that go `way` to `target`.
    #[must_use]
    pub fn new(way: &Way, target: SocketAddr) -> Self {
        let ether_type: [u8; 2] = if target.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xDD] };
        let mut header = [0; ethernet::LENGTH];
        header[..6].copy_from_slice(&way.next_hop_mac);
        header[6..12].copy_from_slice(&way.source_mac);
        header[12..].copy_from_slice(&ether_type);
        Self { ethernet: header, source: way.source, target }
    }

    /// Octets before the UDP payload.
    #[must_use]
    pub const fn headers_length(&self) -> usize {
        let ip = if self.target.is_ipv4() { ip4::LENGTH } else { ip6::LENGTH };
        ethernet::LENGTH + ip + udp::LENGTH
    }

    /// Writes a frame with a payload of `payload`'s making; its length.
    pub fn write(
        &self,
        from: Option<IpAddr>,
        port: u16,
        frame: &mut [u8],
        payload: impl FnOnce(&mut [u8]) -> usize,
    ) -> usize {
        let (headers, rest) = frame.split_at_mut(self.headers_length());
        let length = payload(rest);
        let (link, after) = headers.split_at_mut(ethernet::LENGTH);
        link.copy_from_slice(&self.ethernet);
        let (ip, transport) = after.split_at_mut(after.len() - udp::LENGTH);
        let udp_length = short(udp::LENGTH + length);
        let addresses = match (from.unwrap_or(self.source), self.target.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                write_ip4(ip, udp_length, [from.octets(), to.octets()].as_flattened())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                write_ip6(ip, udp_length, [from.octets(), to.octets()].as_flattened())
            }
            (from, to) => unreachable_families(from, to),
        };
        let header = [port, self.target.port(), udp_length, 0];
        for (octets, word) in transport.chunks_exact_mut(2).zip(header) {
            octets.copy_from_slice(&word.to_be_bytes());
        }
        let sum = addresses
            .with_u16(PROTOCOL_UDP.into())
            .with_u16(udp_length)
            .with_octets(transport)
            .with_octets(&rest[..length]);
        transport[6..].copy_from_slice(&sum.udp_checksum().to_be_bytes());
        self.headers_length() + length
    }
}

/// Clients of one family are never made for a target of the other: `Clients` and the command line see to it.
fn unreachable_families(from: IpAddr, to: IpAddr) -> Sum {
    panic!("a client at {from} for a server at {to}");
}

fn short(length: usize) -> u16 {
    u16::try_from(length).expect("a slot of an outbox is far smaller than 64 KiB")
}

/// RFC 791 §3.1; gives the sum of the addresses.
fn write_ip4(header: &mut [u8], udp_length: u16, addresses: &[u8]) -> Sum {
    let total = short(ip4::LENGTH) + udp_length;
    let [high, low] = total.to_be_bytes();
    let [flags, offset] = DONT_FRAGMENT.to_be_bytes();
    let sum = Sum::ZERO.with_octets(addresses);
    header[..12].copy_from_slice(&[0x45, 0, high, low, 0, 0, flags, offset, HOP_LIMIT, PROTOCOL_UDP, 0, 0]);
    let checksum = sum.with_octets(&header[..12]).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header[12..].copy_from_slice(addresses);
    sum
}

/// RFC 8200 §3; gives the sum of the addresses.
fn write_ip6(header: &mut [u8], udp_length: u16, addresses: &[u8]) -> Sum {
    let [high, low] = udp_length.to_be_bytes();
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, PROTOCOL_UDP, HOP_LIMIT]);
    header[8..].copy_from_slice(addresses);
    Sum::ZERO.with_octets(addresses)
}

/// The UDP payload of a frame, its checksums verified unless the sender left the UDP one to a network card that there
/// isn't (`checksum_pending`).
///
/// # Errors
/// [`Fault::Checksum`], or [`Fault::Length`] for whatever else is wrong with the headers.
pub fn udp_payload(frame: &[u8], checksum_pending: bool) -> Result<&[u8], Fault> {
    let parsed = Ethernet::new_checked(frame).and_then(|link| {
        let network = link.network();
        let (octets, addresses) = match network {
            Network::Ipv4 => Ipv4::new_checked(link.payload()).map(|ip| (ip.payload(), ip.address_sum()))?,
            Network::Ipv6 => Ipv6::new_checked(link.payload()).map(|ip| (ip.payload(), ip.address_sum()))?,
        };
        match Udp::new_checked(octets, network, addresses) {
            Ok(udp) => Ok(udp.payload()),
            // The length was checked before the checksum.
            Err(DropReason::BadUdpChecksum | DropReason::MissingUdpChecksum) if checksum_pending => {
                let length = octets.get(4..6).map_or(0, |at| usize::from(at[0]) << 8 | usize::from(at[1]));
                octets.get(udp::LENGTH..length).ok_or(DropReason::Truncated)
            }
            Err(reason) => Err(reason),
        }
    });
    parsed.map_err(|reason| {
        let of_checksum = matches!(
            reason,
            DropReason::BadUdpChecksum | DropReason::MissingUdpChecksum | DropReason::BadIpChecksum
        );
        if of_checksum { Fault::Checksum } else { Fault::Length }
    })
}

/// Whom a frame's datagram is for; none of a frame with headers that aren't simple.
pub(super) fn destination(frame: &[u8]) -> Option<(IpAddr, u16)> {
    let link = Ethernet::new_checked(frame).ok()?;
    let (address, datagram): (IpAddr, _) = match link.network() {
        Network::Ipv4 => {
            let ip = Ipv4::new_checked(link.payload()).ok()?;
            (ip.destination().into(), ip.payload())
        }
        Network::Ipv6 => {
            let ip = Ipv6::new_checked(link.payload()).ok()?;
            (ip.destination().into(), ip.payload())
        }
    };
    Some((address, u16::from_be_bytes(*datagram.get(2..)?.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use maser_core::wire::parse_frame;

    fn frame(source: &str, target: &str) -> Vec<u8> {
        let target: SocketAddr = target.parse().expect("an address");
        let way = Way {
            interface: 1,
            interface_name: "eth0".to_owned(),
            source_mac: [2, 0, 0, 0, 0, 1],
            next_hop_mac: [2, 0, 0, 0, 0, 2],
            source: source.parse().expect("an address"),
        };
        let mut frame = vec![0xEE; 200];
        let length = Framer::new(&way, target).write(None, 40_001, &mut frame, |payload| {
            payload[..48].fill(0);
            payload[0] = 0x23;
            payload[47] = 9;
            48
        });
        frame.truncate(length);
        frame
    }

    #[test]
    fn the_server_takes_the_frames_that_are_made() {
        for (source, target) in [("198.18.0.7", "192.0.2.1:123"), ("2001:db8::7", "[2001:db8::1]:123")] {
            let frame = frame(source, target);
            let request = parse_frame(&frame, 123).expect("a request");
            assert_eq!((request.client, request.client_port), (source.parse().expect("an address"), 40_001));
            assert_eq!(udp_payload(&frame, false).expect("intact").len(), 48);
            let server: SocketAddr = target.parse().expect("an address");
            assert_eq!(destination(&frame), Some((server.ip(), 123)));
        }
    }

    #[test]
    fn a_flipped_bit_is_a_fault_of_the_checksum_unless_it_is_pending() {
        let mut frame = frame("198.18.0.7", "192.0.2.1:123");
        *frame.last_mut().expect("a frame") ^= 1;
        assert_eq!(udp_payload(&frame, false), Err(Fault::Checksum));
        assert_eq!(udp_payload(&frame, true).map(<[u8]>::len), Ok(48));
        frame[15] ^= 1;
        assert_eq!(udp_payload(&frame, true), Err(Fault::Checksum));
        frame[15] ^= 1;
        assert_eq!(udp_payload(&frame[..40], true), Err(Fault::Length));
    }
}
