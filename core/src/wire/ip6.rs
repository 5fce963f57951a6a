//! IPv6 (RFC 8200), without extension headers.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version| Traffic Class |           Flow Label                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         Payload Length        |  Next Header  |   Hop Limit   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                 Source Address (128 bits)                     |
//! |               Destination Address (128 bits)                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use core::net::Ipv6Addr;

use super::DropReason;
use super::checksum::Sum;
use super::field::Field;
use super::{HOP_LIMIT, PROTOCOL_UDP};

/// Octets of the fixed header.
pub const LENGTH: usize = 40;

/// Version to hop limit: everything before the addresses.
const BEFORE_ADDRESSES: Field<0, 8> = Field;
const SOURCE: Field<8, 16> = Field;
const DESTINATION: Field<24, 16> = Field;
const ADDRESSES: Field<8, 32> = Field;

/// The version's four bits in the first octet.
const VERSION: u8 = 6 << 4;
/// The next-header value of the fragment header.
const FRAGMENT: u8 = 44;

/// A whole UDP datagram right behind an IPv6 header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    header: &'a [u8; LENGTH],
    payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// Checks what an Ethernet frame carries; what lies beyond the payload length is padding.
    ///
    /// # Errors
    /// The first thing that is wrong, or that the kernel should rather handle: extension headers, other protocols.
    #[inline]
    pub fn new_checked(octets: &'a [u8]) -> Result<Self, DropReason> {
        let (header, rest) = octets.split_first_chunk::<LENGTH>().ok_or(DropReason::Truncated)?;
        let [version, _class, _flow0, _flow1, length0, length1, next_header, _hop_limit] =
            BEFORE_ADDRESSES.of(header);
        if version & 0xF0 != VERSION {
            return Err(DropReason::BadIpHeader);
        }
        match next_header {
            PROTOCOL_UDP => {}
            FRAGMENT => return Err(DropReason::Fragment),
            // IANA's list of IPv6 extension header types.
            0 | 43 | 50 | 51 | 60 | 135 | 139 | 140 | 253 | 254 => return Err(DropReason::Ipv6Extension),
            _ => return Err(DropReason::NotUdp),
        }
        let payload_length = usize::from(u16::from_be_bytes([length0, length1]));
        let payload = rest.get(..payload_length).ok_or(DropReason::Truncated)?;
        Ok(Self { header, payload })
    }

    /// What the payload length says is carried.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Who sent it.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        SOURCE.of(self.header).into()
    }

    /// Whom it was sent to.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        DESTINATION.of(self.header).into()
    }

    /// The address part of the pseudo-header (RFC 8200 §8.1).
    #[inline]
    #[must_use]
    pub fn address_sum(&self) -> Sum {
        address_sum(self.header)
    }
}

#[inline]
fn address_sum(header: &[u8; LENGTH]) -> Sum {
    Sum::ZERO.with_octets(&ADDRESSES.of(header))
}

/// Turns a request's header into that of its reply: addresses swapped, everything else this server's own. Returns
/// the address part of the pseudo-header.
#[inline]
pub fn turn(header: &mut [u8; LENGTH], payload_length: u16) -> Sum {
    let addresses = address_sum(header);
    let (source, destination) = (SOURCE.of(header), DESTINATION.of(header));
    let [length0, length1] = payload_length.to_be_bytes();
    BEFORE_ADDRESSES.set(header, [VERSION, 0, 0, 0, length0, length1, PROTOCOL_UDP, HOP_LIMIT]);
    SOURCE.set(header, destination);
    DESTINATION.set(header, source);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn packet(octet: usize, value: u8) -> Vec<u8> {
        let mut packet = std::vec![0; LENGTH];
        packet.extend([7; 8]);
        let head = [VERSION, 0, 0, 0, 0, 8, PROTOCOL_UDP, 64];
        packet.splice(..8, head);
        *packet.get_mut(octet).expect("an octet of the packet") = value;
        packet
    }
    fn refusal(packet: &[u8]) -> Option<DropReason> {
        Ipv6::new_checked(packet).err()
    }

    #[test]
    fn the_payload_ends_where_its_length_says() {
        let mut padded = packet(0, VERSION | 0x0F);
        padded.extend([0xEE; 6]);
        assert_eq!(Ipv6::new_checked(&padded).map(|ip| ip.payload()), Ok([7; 8].as_slice()));
    }

    #[test]
    fn each_fault_has_its_reason() {
        assert_eq!(refusal(&packet(0, 0x45)), Some(DropReason::BadIpHeader));
        assert_eq!(refusal(&packet(6, 0)), Some(DropReason::Ipv6Extension));
        assert_eq!(refusal(&packet(6, 60)), Some(DropReason::Ipv6Extension));
        assert_eq!(refusal(&packet(6, 44)), Some(DropReason::Fragment));
        assert_eq!(refusal(&packet(6, 58)), Some(DropReason::NotUdp));
        assert_eq!(refusal(&packet(5, 9)), Some(DropReason::Truncated));
        assert_eq!(refusal(packet(0, VERSION).split_at(39).0), Some(DropReason::Truncated));
    }
}
