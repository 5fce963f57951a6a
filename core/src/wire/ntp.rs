//! The NTP header (RFC 5905 §7.3), which versions 1 to 4 share.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |LI | VN  |Mode |    Stratum    |     Poll      |   Precision   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                          Root Delay                           |
//! |                        Root Dispersion                        |
//! |                         Reference ID                          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    Reference Timestamp (64)                   |
//! |                     Origin Timestamp (64)                     |
//! |                     Receive Timestamp (64)                    |
//! |                    Transmit Timestamp (64)                    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use super::field::Field;
use crate::time::NtpTimestamp;

/// Octets of the header, and of every reply.
pub const LENGTH: usize = 48;

const POLL: Field<2, 1> = Field;
const REFERENCE: Field<16, 8> = Field;
/// Leap indicator to root delay.
const HEAD: Field<0, 8> = Field;
/// Root dispersion and reference id.
const DISPERSION_AND_ID: Field<8, 8> = Field;
const ORIGIN: Field<24, 8> = Field;
const RECEIVE: Field<32, 8> = Field;
const TRANSMIT: Field<40, 8> = Field;

/// A version that this server speaks; a reply has that of its request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Version {
    /// RFC 1059.
    V1 = 1,
    /// RFC 1119.
    V2 = 2,
    /// RFC 1305.
    V3 = 3,
    /// RFC 5905.
    V4 = 4,
}

impl Version {
    /// From a header's first octet, where the version is spoken here.
    #[inline]
    #[must_use]
    pub const fn from_first_octet(octet: u8) -> Option<Self> {
        match (octet >> 3) & 7 {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            4 => Some(Self::V4),
            _ => None,
        }
    }
}

/// The association mode (RFC 5905 §3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    /// Reserved; NTPv1 had no modes, so its clients send this.
    Reserved = 0,
    /// A peer that looks for another.
    SymmetricActive = 1,
    /// A peer's answer.
    SymmetricPassive = 2,
    /// A request.
    Client = 3,
    /// Its answer.
    Server = 4,
    /// Sent to everybody, for nobody's request.
    Broadcast = 5,
    /// Control messages (RFC 9327).
    Control = 6,
    /// Private to an implementation.
    Private = 7,
}

impl Mode {
    /// From a header's first octet.
    #[inline]
    #[must_use]
    pub const fn from_first_octet(octet: u8) -> Self {
        match octet & 7 {
            0 => Self::Reserved,
            1 => Self::SymmetricActive,
            2 => Self::SymmetricPassive,
            3 => Self::Client,
            4 => Self::Server,
            5 => Self::Broadcast,
            6 => Self::Control,
            _ => Self::Private,
        }
    }
}

/// A whole header, of which nothing is known but its length.
#[derive(Clone, Copy, Debug)]
pub struct NtpHeader<'a>(&'a [u8; LENGTH]);

impl<'a> NtpHeader<'a> {
    /// The header and what follows it; none where the datagram is too short.
    #[inline]
    #[must_use]
    pub fn split(datagram: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = datagram.split_first_chunk()?;
        Some((Self(header), rest))
    }

    /// log₂ of the poll interval in seconds, as the sender has it.
    #[inline]
    #[must_use]
    pub fn poll(self) -> i8 {
        i8::from_be_bytes(POLL.of(self.0))
    }

    /// The origin timestamp.
    #[inline]
    #[must_use]
    pub fn origin(self) -> NtpTimestamp {
        timestamp(ORIGIN.of(self.0))
    }

    /// The receive timestamp.
    #[inline]
    #[must_use]
    pub fn receive(self) -> NtpTimestamp {
        timestamp(RECEIVE.of(self.0))
    }

    /// The transmit timestamp.
    #[inline]
    #[must_use]
    pub fn transmit(self) -> NtpTimestamp {
        timestamp(TRANSMIT.of(self.0))
    }
}

#[inline]
const fn timestamp(octets: [u8; 8]) -> NtpTimestamp {
    NtpTimestamp::from_bits(u64::from_be_bytes(octets))
}

/// Writes everything but the transmit timestamp, as words of 64 bits: leap indicator to root delay; root dispersion
/// and reference id; reference, origin and receive timestamps.
#[inline]
pub fn set_before_transmit(header: &mut [u8; LENGTH], words: [u64; 5]) {
    let [head, dispersion_and_id, reference, origin, receive] = words.map(u64::to_be_bytes);
    HEAD.set(header, head);
    DISPERSION_AND_ID.set(header, dispersion_and_id);
    REFERENCE.set(header, reference);
    ORIGIN.set(header, origin);
    RECEIVE.set(header, receive);
}

/// Writes the transmit timestamp.
#[inline]
pub fn set_transmit(header: &mut [u8; LENGTH], transmit: NtpTimestamp) {
    TRANSMIT.set(header, transmit.bits().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_octet_has_one_mode_and_at_most_one_version() {
        for octet in 0..=u8::MAX {
            assert_eq!(Mode::from_first_octet(octet) as u8, octet % 8);
            let version = (octet / 8) % 8;
            assert_eq!(
                Version::from_first_octet(octet).map(|version| version as u8),
                (1..=4).contains(&version).then_some(version)
            );
        }
    }

    #[test]
    fn fields_are_where_rfc_5905_puts_them() {
        let mut octets = [0; LENGTH];
        for (at, octet) in (0..).zip(octets.iter_mut()) {
            *octet = at;
        }
        let (header, rest) = NtpHeader::split(&octets).expect("48 octets");
        assert!(rest.is_empty());
        assert_eq!(header.poll(), 2);
        assert_eq!(header.origin().bits(), 0x1819_1A1B_1C1D_1E1F);
        assert_eq!(header.receive().bits(), 0x2021_2223_2425_2627);
        assert_eq!(header.transmit().bits(), 0x2829_2A2B_2C2D_2E2F);
        assert!(NtpHeader::split(octets.split_at(47).0).is_none());
    }
}
