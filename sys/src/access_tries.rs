//! What the XDP programs know of sources: prefixes and their standing, of which the longest that fits counts
//! (`BPF_MAP_TYPE_LPM_TRIE`). One for each version of IP, for all interfaces.
//!
//! The server replaces them while packets are looked up, with `bpf(BPF_MAP_UPDATE_ELEM)` and `BPF_MAP_DELETE_ELEM`, which
//! take no capability from Linux 5.19 on, or where `kernel.unprivileged_bpf_disabled` is 0.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use libbpf_rs::libbpf_sys::{
    BPF_MAP_DELETE_ELEM, BPF_MAP_UPDATE_ELEM, bpf_map_delete_elem, bpf_map_get_next_key, bpf_map_update_elem,
};
use maser_core::limit::access::Standing;

/// So many prefixes of each version of IP can be told. The tries have room for twice as many: those that are replaced stay
/// until the others are there.
pub const PREFIXES_MAX: usize = 65_536;

/// Octets of `struct prefix4` and `struct prefix6`: a length and an address.
pub(crate) const KEY4: usize = 8;
pub(crate) const KEY6: usize = 20;

/// What is asked of the kernel by [`AccessTries::replace`], by the first argument of `bpf`.
pub(crate) const COMMANDS: [u32; 2] = [BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM];

/// A standing that no prefix has, so that it is written or removed.
const UNKNOWN: u32 = u32::MAX;

/// The tries of both versions of IP.
#[derive(Debug)]
pub struct AccessTries {
    ip4: Trie,
    ip6: Trie,
}

impl AccessTries {
    /// Of what [`SharedMaps::sources_maps`](crate::xdp_program::SharedMaps::sources_maps) gave, whatever is in them.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn from_fds([ip4, ip6]: [OwnedFd; 2]) -> io::Result<Self> {
        Ok(Self { ip4: Trie::new(ip4, encode4, decode4)?, ip6: Trie::new(ip6, encode6, decode6)? })
    }

    /// Brings the tries to these prefixes: the whole set, each with the octets of its address that belong to it. Of two
    /// entries for the same prefix the last counts. What is new comes before what is gone goes, so that a source for which
    /// both sets say the same is never without it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for more than [`PREFIXES_MAX`] or a length above the address's; nothing is changed.
    /// Else the kernel's: part of it is done, and switching the lists off
    /// ([`DriverSettings::lists`](crate::driver_limits::DriverSettings::lists)) leaves sources to user space.
    pub fn replace(&mut self, prefixes: &[(IpAddr, u8, Standing)]) -> io::Result<()> {
        let (mut ip4, mut ip6) = (Prefixes::new(), Prefixes::new());
        for &(address, length, standing) in prefixes {
            let (wanted, bits, width) = match address {
                IpAddr::V4(address) => (&mut ip4, u128::from(address.to_bits()), 32),
                IpAddr::V6(address) => (&mut ip6, address.to_bits(), 128),
            };
            if length > width {
                let message = format!("{address}/{length}: no prefix is longer than {width} bits");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            let beyond = u32::from(width - length);
            let bits = bits.checked_shr(beyond).unwrap_or(0).checked_shl(beyond).unwrap_or(0);
            wanted.insert((length, bits), code(standing));
        }
        for (wanted, ip) in [(&ip4, "IPv4"), (&ip6, "IPv6")] {
            if wanted.len() > PREFIXES_MAX {
                let message = format!(
                    "{} {ip} prefixes, and the XDP program knows at most {PREFIXES_MAX}",
                    wanted.len()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
        self.ip4.replace(&ip4)?;
        self.ip6.replace(&ip6)
    }
}

/// What the program does with a source's datagrams: nothing for 0, never drops them for limits or overload for 1, and drops
/// them but for one in 64 for 2 and, counted apart, 3.
const fn code(standing: Standing) -> u32 {
    match standing {
        Standing::Allowed => 0,
        Standing::Exempt => 1,
        Standing::Denied => 2,
        Standing::Bogon => 3,
    }
}

/// Prefixes by length and address, the host's bits 0, and their standing.
type Prefixes = BTreeMap<(u8, u128), u32>;

/// A trie, and what is in it: only this process writes it, so that is known, also after an error.
#[derive(Debug)]
struct Trie {
    map: OwnedFd,
    there: Prefixes,
    encode: fn(u8, u128) -> [u8; KEY6],
}

impl Trie {
    fn new(
        map: OwnedFd,
        encode: fn(u8, u128) -> [u8; KEY6],
        decode: fn(&[u8; KEY6]) -> (u8, u128),
    ) -> io::Result<Self> {
        let mut there = Prefixes::new();
        let mut key = [0; KEY6];
        let mut last: Option<[u8; KEY6]> = None;
        // A map that somebody else writes to might go on for ever.
        while there.len() <= 2 * PREFIXES_MAX {
            let from = last.as_ref().map_or(std::ptr::null(), |last| last.as_ptr().cast());
            // SAFETY: a key of the map's has at most as many octets as the two that the pointers lead to.
            let result = unsafe { bpf_map_get_next_key(map.as_raw_fd(), from, key.as_mut_ptr().cast()) };
            match -result {
                0 => {}
                libc::ENOENT => break,
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
            there.insert(decode(&key), UNKNOWN);
            last = Some(key);
        }
        Ok(Self { map, there, encode })
    }

    fn replace(&mut self, wanted: &Prefixes) -> io::Result<()> {
        let map = self.map.as_raw_fd();
        // The longest first: a shorter one's exceptions are there before it is.
        for (prefix, standing) in wanted.iter().rev() {
            if self.there.get(prefix) != Some(standing) {
                let key = (self.encode)(prefix.0, prefix.1);
                let (key, value) = (key.as_ptr().cast(), std::ptr::from_ref(standing).cast());
                // SAFETY: the map's keys have at most as many octets as that which the pointer leads to, and its values four.
                done(unsafe { bpf_map_update_elem(map, key, value, 0) })?;
                self.there.insert(*prefix, *standing);
            }
        }
        let gone: Vec<_> = self.there.keys().filter(|prefix| !wanted.contains_key(prefix)).copied().collect();
        for prefix in gone {
            let key = (self.encode)(prefix.0, prefix.1);
            // SAFETY: the map's keys have at most as many octets as that which the pointer leads to.
            done(unsafe { bpf_map_delete_elem(map, key.as_ptr().cast()) })?;
            self.there.remove(&prefix);
        }
        Ok(())
    }
}

fn done(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-result)) }
}

fn encode4(length: u8, bits: u128) -> [u8; KEY6] {
    let address = Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX));
    key(length, &address.octets())
}

fn encode6(length: u8, bits: u128) -> [u8; KEY6] {
    key(length, &Ipv6Addr::from_bits(bits).octets())
}

fn key(length: u8, address: &[u8]) -> [u8; KEY6] {
    let mut key = [0; KEY6];
    key[..4].copy_from_slice(&u32::from(length).to_ne_bytes());
    key[4..4 + address.len()].copy_from_slice(address);
    key
}

fn decode4(key: &[u8; KEY6]) -> (u8, u128) {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    (length([a, b, c, d]), u32::from_be_bytes([e, f, g, h]).into())
}

fn decode6(key: &[u8; KEY6]) -> (u8, u128) {
    let [a, b, c, d, address @ ..] = *key;
    (length([a, b, c, d]), u128::from_be_bytes(address))
}

fn length(octets: [u8; 4]) -> u8 {
    u8::try_from(u32::from_ne_bytes(octets)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_kernels() {
        let address = Ipv4Addr::new(192, 0, 2, 0).to_bits().into();
        assert_eq!(encode4(24, address)[..KEY4], [&24_u32.to_ne_bytes()[..], &[192, 0, 2, 0]].concat());
        assert_eq!(decode4(&encode4(24, address)), (24, address));
        let address = Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1).to_bits();
        assert_eq!(encode6(128, address)[4..6], [0x20, 0x01]);
        assert_eq!(decode6(&encode6(128, address)), (128, address));
    }
}
