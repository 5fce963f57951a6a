//! Ethernet II with up to two VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).
//!
//! ```text
//! |<-- 6 -->|<-- 6 -->|<- 4 ->|<- 4 ->|<- 2 ->|
//! +---------+---------+-------+-------+-------+---------
//! | destin. | source  | S-tag | C-tag | type  | payload …
//! +---------+---------+-------+-------+-------+---------
//!                      0 to 2 tags, each:
//!                      type (16) | priority (3) | drop eligible (1) | VLAN (12)
//! ```

use super::DropReason;
use super::field::Field;

/// Octets of an untagged header.
pub const LENGTH: usize = 14;
/// Octets of a VLAN tag.
pub const TAG_LENGTH: usize = 4;
/// A customer tag inside a service tag (802.1ad); a third is refused.
pub const TAGS_MAX: usize = 2;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86DD;
const TYPE_TAG: u16 = 0x8100;
const TYPE_SERVICE_TAG: u16 = 0x88A8;

const DESTINATION: Field<0, 6> = Field;
const SOURCE: Field<6, 6> = Field;

/// The protocol that a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// Ethernet type 0x0800.
    Ipv4,
    /// Ethernet type 0x86DD.
    Ipv6,
}

/// A frame that has a whole header, at most two tags, and says that it carries IP.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a> {
    header: &'a [u8; LENGTH],
    network: Network,
    payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    /// Checks a frame without its frame check sequence.
    ///
    /// # Errors
    /// [`DropReason::NotEthernetIp`] for other protocols, LLC frames and a third tag; [`DropReason::Truncated`].
    #[inline]
    pub fn new_checked(frame: &'a [u8]) -> Result<Self, DropReason> {
        let header = frame.first_chunk().ok_or(DropReason::Truncated)?;
        // The type, or the type of the first tag, is the last two octets of the untagged header.
        let mut rest = frame.split_at(LENGTH - 2).1;
        for _ in 0..=TAGS_MAX {
            let (ether_type, payload) = rest.split_first_chunk().ok_or(DropReason::Truncated)?;
            match u16::from_be_bytes(*ether_type) {
                TYPE_IPV4 => return Ok(Self { header, network: Network::Ipv4, payload }),
                TYPE_IPV6 => return Ok(Self { header, network: Network::Ipv6, payload }),
                TYPE_TAG | TYPE_SERVICE_TAG => {
                    let (_priority_and_vlan, after) =
                        payload.split_first_chunk::<2>().ok_or(DropReason::Truncated)?;
                    rest = after;
                }
                _ => return Err(DropReason::NotEthernetIp),
            }
        }
        Err(DropReason::NotEthernetIp)
    }

    /// What the frame carries.
    #[inline]
    #[must_use]
    pub const fn network(&self) -> Network {
        self.network
    }

    /// What follows header and tags, padding included.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the frame was sent to more than one station: broadcast or multicast.
    #[inline]
    #[must_use]
    pub fn is_to_group(&self) -> bool {
        is_group(DESTINATION.of(self.header))
    }

    /// Whether the source is a group address, which no station may send from.
    #[inline]
    #[must_use]
    pub fn is_from_group(&self) -> bool {
        is_group(SOURCE.of(self.header))
    }
}

/// The first bit on the wire, which is an octet's lowest, says individual (0) or group (1).
#[inline]
const fn is_group(address: [u8; 6]) -> bool {
    let [first, ..] = address;
    first & 1 != 0
}

/// Turns a frame around: destination and source change places, tags stay.
#[inline]
pub fn swap_addresses(header: &mut [u8; LENGTH]) {
    let (destination, source) = (DESTINATION.of(header), SOURCE.of(header));
    DESTINATION.set(header, source);
    SOURCE.set(header, destination);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn frame(types: &[u16]) -> Vec<u8> {
        let mut frame = std::vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (at, ether_type) in types.iter().enumerate() {
            if at > 0 {
                frame.extend([0x60, 0x64]);
            }
            frame.extend(ether_type.to_be_bytes());
        }
        frame.extend([0x45, 0x00]);
        frame
    }
    fn network(types: &[u16]) -> Result<Network, DropReason> {
        Ethernet::new_checked(&frame(types)).map(|frame| {
            assert_eq!(frame.payload(), [0x45, 0x00]);
            frame.network()
        })
    }

    #[test]
    fn up_to_two_tags_of_either_type_are_passed() {
        assert_eq!(network(&[0x0800]), Ok(Network::Ipv4));
        assert_eq!(network(&[0x86DD]), Ok(Network::Ipv6));
        assert_eq!(network(&[0x8100, 0x0800]), Ok(Network::Ipv4));
        assert_eq!(network(&[0x88A8, 0x8100, 0x86DD]), Ok(Network::Ipv6));
        assert_eq!(network(&[0x8100, 0x8100, 0x0800]), Ok(Network::Ipv4));
        assert_eq!(network(&[0x8100, 0x8100, 0x8100, 0x0800]), Err(DropReason::NotEthernetIp));
        assert_eq!(network(&[0x0806]), Err(DropReason::NotEthernetIp));
        assert_eq!(network(&[0x0040]), Err(DropReason::NotEthernetIp));
    }

    #[test]
    fn a_frame_cut_anywhere_in_its_tags_is_truncated() {
        let whole = frame(&[0x88A8, 0x8100, 0x0800]);
        for length in 0..LENGTH + 2 * TAG_LENGTH {
            let cut = whole.split_at(length).0;
            assert_eq!(Ethernet::new_checked(cut).err(), Some(DropReason::Truncated), "{length}");
        }
    }
}
