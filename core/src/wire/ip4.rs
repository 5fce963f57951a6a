//! IPv4 (RFC 791).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version|  IHL  |Type of Service|          Total Length         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         Identification        |Flags|      Fragment Offset    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Time to Live |    Protocol   |         Header Checksum       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                       Source Address                          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    Destination Address                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use core::net::Ipv4Addr;

use super::DropReason;
use super::checksum::Sum;
use super::field::Field;
use super::{HOP_LIMIT, PROTOCOL_UDP};

/// Octets of a header without options.
pub const LENGTH: usize = 20;

/// Version 4, five 32-bit words.
const VERSION_AND_IHL: u8 = 0x45;
/// The flag "more fragments" and the fragment offset: 0 in a whole datagram.
const FRAGMENT_BITS: u16 = 0x3FFF;
/// With this set and no fragments the identification means nothing (RFC 6864 §4.1) and is sent as 0.
const DONT_FRAGMENT: u16 = 0x4000;

/// Version to protocol: everything before the checksum.
const BEFORE_CHECKSUM: Field<0, 10> = Field;
const CHECKSUM: Field<10, 2> = Field;
const SOURCE: Field<12, 4> = Field;
const DESTINATION: Field<16, 4> = Field;
const ADDRESSES: Field<12, 8> = Field;

/// A whole UDP datagram in an IPv4 header without options, whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    header: &'a [u8; LENGTH],
    payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Checks what an Ethernet frame carries; what lies beyond the total length is padding.
    ///
    /// # Errors
    /// The first thing that is wrong, or that the kernel should rather handle: options, fragments, other protocols.
    #[inline]
    pub fn new_checked(octets: &'a [u8]) -> Result<Self, DropReason> {
        let header: &[u8; LENGTH] = octets.first_chunk().ok_or(DropReason::Truncated)?;
        let [version_and_ihl, _tos, length0, length1, _id0, _id1, flags0, flags1, _ttl, protocol] =
            BEFORE_CHECKSUM.of(header);
        match version_and_ihl {
            VERSION_AND_IHL => {}
            0x46..=0x4F => return Err(DropReason::IpOptions),
            _ => return Err(DropReason::BadIpHeader),
        }
        if !Sum::ZERO.with_octets(header).is_intact() {
            return Err(DropReason::BadIpChecksum);
        }
        if u16::from_be_bytes([flags0, flags1]) & FRAGMENT_BITS != 0 {
            return Err(DropReason::Fragment);
        }
        if protocol != PROTOCOL_UDP {
            return Err(DropReason::NotUdp);
        }
        let total_length = usize::from(u16::from_be_bytes([length0, length1]));
        let payload = octets.get(LENGTH..total_length).ok_or(DropReason::Truncated)?;
        Ok(Self { header, payload })
    }

    /// What the total length says is carried.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Who sent it.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        SOURCE.of(self.header).into()
    }

    /// Whom it was sent to.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        DESTINATION.of(self.header).into()
    }

    /// The address part of UDP's pseudo-header (RFC 768).
    #[inline]
    #[must_use]
    pub fn address_sum(&self) -> Sum {
        address_sum(self.header)
    }
}

#[inline]
fn address_sum(header: &[u8; LENGTH]) -> Sum {
    Sum::ZERO.with_u64(u64::from_be_bytes(ADDRESSES.of(header)))
}

/// Turns a request's header into that of its reply: addresses swapped, everything else this server's own. Returns
/// the address part of the pseudo-header.
#[inline]
pub fn turn(header: &mut [u8; LENGTH], total_length: u16) -> Sum {
    let addresses = address_sum(header);
    let (source, destination) = (SOURCE.of(header), DESTINATION.of(header));
    let [length0, length1] = total_length.to_be_bytes();
    let [flags0, flags1] = DONT_FRAGMENT.to_be_bytes();
    let before_checksum =
        [VERSION_AND_IHL, 0, length0, length1, 0, 0, flags0, flags1, HOP_LIMIT, PROTOCOL_UDP];
    let checksum = addresses.with_octets(&before_checksum).checksum();
    BEFORE_CHECKSUM.set(header, before_checksum);
    CHECKSUM.set(header, checksum.to_be_bytes());
    SOURCE.set(header, destination);
    DESTINATION.set(header, source);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// The header of a datagram of 8 octets, as the fields are before its checksum is made.
    const HEADER: [u8; LENGTH] = [0x45, 0, 0, 28, 1, 2, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];

    fn packet(octet: usize, value: u8) -> Vec<u8> {
        let mut header = HEADER;
        *header.get_mut(octet).expect("an octet of the header") = value;
        let checksum = Sum::ZERO.with_octets(&header).checksum();
        CHECKSUM.set(&mut header, checksum.to_be_bytes());
        let mut packet = header.to_vec();
        packet.extend([7; 8]);
        packet
    }
    fn refusal(packet: &[u8]) -> Option<DropReason> {
        Ipv4::new_checked(packet).err()
    }

    #[test]
    fn the_payload_ends_where_the_total_length_says() {
        let mut padded = packet(0, 0x45);
        padded.extend([0xEE; 18]);
        let ip = Ipv4::new_checked(&padded).expect("padding is no fault");
        assert_eq!(ip.payload(), [7; 8]);
        assert_eq!((ip.source(), ip.destination()), (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)));
    }

    #[test]
    fn each_fault_has_its_reason() {
        assert_eq!(refusal(&packet(0, 0x46)), Some(DropReason::IpOptions));
        assert_eq!(refusal(&packet(0, 0x44)), Some(DropReason::BadIpHeader));
        assert_eq!(refusal(&packet(0, 0x65)), Some(DropReason::BadIpHeader));
        assert_eq!(refusal(&packet(6, 0x20)), Some(DropReason::Fragment));
        assert_eq!(refusal(&packet(7, 1)), Some(DropReason::Fragment));
        assert_eq!(refusal(&packet(6, 0x00)), None);
        assert_eq!(refusal(&packet(9, 6)), Some(DropReason::NotUdp));
        assert_eq!(refusal(&packet(3, 29)), Some(DropReason::Truncated));
        assert_eq!(refusal(&packet(3, 19)), Some(DropReason::Truncated));
        assert_eq!(refusal(packet(0, 0x45).split_at(19).0), Some(DropReason::Truncated));
        let mut flipped = packet(0, 0x45);
        *flipped.get_mut(8).expect("the time to live") ^= 1;
        assert_eq!(refusal(&flipped), Some(DropReason::BadIpChecksum));
    }
}
