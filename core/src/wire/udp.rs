//! UDP (RFC 768; its checksum over IPv6: RFC 8200 §8.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          Source Port          |       Destination Port        |
//! |             Length            |           Checksum            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use super::checksum::Sum;
use super::ethernet::Network;
use super::field::Field;
use super::{DropReason, PROTOCOL_UDP};

/// Octets of the header.
pub const LENGTH: usize = 8;

const SOURCE_PORT: Field<0, 2> = Field;
const DESTINATION_PORT: Field<2, 2> = Field;
const LENGTH_FIELD: Field<4, 2> = Field;
const CHECKSUM: Field<6, 2> = Field;

/// A datagram of the length that it says, whose checksum is right or rightly absent.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    header: &'a [u8; LENGTH],
    payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Checks what an IP packet carries, `addresses` being the sum of its addresses. Octets beyond the datagram's
    /// own length are none of it, as in every kernel.
    ///
    /// # Errors
    /// [`DropReason::Truncated`], [`DropReason::BadUdpChecksum`], or [`DropReason::MissingUdpChecksum`] for a
    /// checksum of 0 over IPv6.
    #[inline]
    pub fn new_checked(octets: &'a [u8], network: Network, addresses: Sum) -> Result<Self, DropReason> {
        let header: &[u8; LENGTH] = octets.first_chunk().ok_or(DropReason::Truncated)?;
        let length = u16::from_be_bytes(LENGTH_FIELD.of(header));
        let datagram = octets.get(..usize::from(length)).ok_or(DropReason::Truncated)?;
        let payload = datagram.get(LENGTH..).ok_or(DropReason::Truncated)?;
        if CHECKSUM.of(header) != [0, 0] {
            let sum = pseudo_header_sum(addresses, length).with_octets(datagram);
            if !sum.is_intact() {
                return Err(DropReason::BadUdpChecksum);
            }
        } else if network == Network::Ipv6 {
            return Err(DropReason::MissingUdpChecksum);
        }
        Ok(Self { header, payload })
    }

    /// The NTP message.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The client's port.
    #[inline]
    #[must_use]
    pub fn source_port(&self) -> u16 {
        u16::from_be_bytes(SOURCE_PORT.of(self.header))
    }

    /// The service's port.
    #[inline]
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        u16::from_be_bytes(DESTINATION_PORT.of(self.header))
    }
}

/// The pseudo-header of IPv4 and that of IPv6 sum to the same: addresses, protocol, length.
#[inline]
fn pseudo_header_sum(addresses: Sum, length: u16) -> Sum {
    addresses.with_u16(u16::from(PROTOCOL_UDP)).with_u16(length)
}

/// Turns a request's header into that of its reply: ports swapped, no checksum yet. Returns the sum of
/// pseudo-header and header, to which the payload is to be added.
#[inline]
pub fn turn(header: &mut [u8; LENGTH], length: u16, addresses: Sum) -> Sum {
    let (source, destination) = (SOURCE_PORT.of(header), DESTINATION_PORT.of(header));
    SOURCE_PORT.set(header, destination);
    DESTINATION_PORT.set(header, source);
    LENGTH_FIELD.set(header, length.to_be_bytes());
    CHECKSUM.set(header, [0, 0]);
    pseudo_header_sum(addresses, length)
        .with_u16(length)
        .with_u16(u16::from_be_bytes(source))
        .with_u16(u16::from_be_bytes(destination))
}

/// Completes a reply's header with the sum of everything else.
#[inline]
pub fn set_checksum(header: &mut [u8; LENGTH], sum: Sum) {
    CHECKSUM.set(header, sum.udp_checksum().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: Sum = Sum::ZERO.with_u64(0x0A00_0001_0A00_0002);

    /// Port 0x8001 to port 123, four octets of payload, and `checksum`.
    fn datagram(checksum: u16) -> [u8; 12] {
        let [high, low] = checksum.to_be_bytes();
        [0x80, 0x01, 0, 123, 0, 12, high, low, 1, 2, 3, 4]
    }
    fn right_checksum() -> u16 {
        pseudo_header_sum(ADDRESSES, 12).with_octets(&datagram(0)).udp_checksum()
    }
    fn refusal(octets: &[u8], network: Network) -> Option<DropReason> {
        Udp::new_checked(octets, network, ADDRESSES).err()
    }

    #[test]
    fn a_right_checksum_passes_and_a_wrong_one_does_not() {
        let octets = datagram(right_checksum());
        let udp = Udp::new_checked(&octets, Network::Ipv6, ADDRESSES).expect("an intact datagram");
        assert_eq!(
            (udp.source_port(), udp.destination_port(), udp.payload()),
            (0x8001, 123, [1, 2, 3, 4].as_slice())
        );
        assert_eq!(refusal(&datagram(right_checksum() ^ 1), Network::Ipv4), Some(DropReason::BadUdpChecksum));
    }

    #[test]
    fn a_checksum_of_zero_is_fine_over_ipv4_only() {
        assert_eq!(refusal(&datagram(0), Network::Ipv4), None);
        assert_eq!(refusal(&datagram(0), Network::Ipv6), Some(DropReason::MissingUdpChecksum));
    }

    #[test]
    fn the_length_field_rules() {
        let mut octets = datagram(0);
        LENGTH_FIELD.set(octets.first_chunk_mut::<LENGTH>().expect("a header"), [0, 10]);
        let payload = Udp::new_checked(&octets, Network::Ipv4, ADDRESSES).map(|udp| udp.payload().len());
        assert_eq!(payload, Ok(2));
        for length in [7, 13] {
            LENGTH_FIELD.set(octets.first_chunk_mut::<LENGTH>().expect("a header"), [0, length]);
            assert_eq!(refusal(&octets, Network::Ipv4), Some(DropReason::Truncated));
        }
    }
}
