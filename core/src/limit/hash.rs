//! The keyed hash under which a client's place is found: SipHash-1-3 of one word.
//!
//! Aumasson and Bernstein's SipHash with one round a word and three at the end, as hash tables that strangers fill use
//! it. The message is eight octets, the word in little-endian order; what the word is goes where SipHash has the message's
//! length, so that an address and a prefix of the same bits have nothing in common. The XDP program has the same function.

use core::fmt;

/// 128 bits that nobody outside may know.
#[derive(Clone, Copy)]
pub struct Key {
    /// Octets 0 to 7, little-endian.
    pub k0: u64,
    /// Octets 8 to 15.
    pub k1: u64,
}

/// What a word is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// An IPv4 address, as a number.
    Ip4 = 0,
    /// The upper 64 bits of an IPv6 address.
    Ip6 = 1,
    /// An IPv4 address under its prefix's mask.
    Ip4Prefix = 2,
    /// The upper 64 bits of an IPv6 address under its prefix's mask.
    Ip6Prefix = 3,
}

impl fmt::Debug for Key {
    /// A secret isn't told.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key")
    }
}

/// The hash of `word` under `key`.
#[inline]
#[must_use]
pub const fn hash(key: Key, word: u64, kind: Kind) -> u64 {
    /// "somepseudorandomlygeneratedbytes", as the authors have it.
    const START: [u64; 4] =
        [0x736F_6D65_7073_6575, 0x646F_7261_6E64_6F6D, 0x6C79_6765_6E65_7261, 0x7465_6462_7974_6573];
    let [s0, s1, s2, s3] = START;
    let state = [s0 ^ key.k0, s1 ^ key.k1, s2 ^ key.k0, s3 ^ key.k1];
    let last = 8 << 56 | kind as u64;
    let [v0, v1, v2, v3] = absorb(absorb(state, word), last);
    let [v0, v1, v2, v3] = round(round(round([v0, v1, v2 ^ 0xFF, v3])));
    v0 ^ v1 ^ v2 ^ v3
}

#[inline]
const fn absorb([v0, v1, v2, v3]: [u64; 4], word: u64) -> [u64; 4] {
    let [v0, v1, v2, v3] = round([v0, v1, v2, v3 ^ word]);
    [v0 ^ word, v1, v2, v3]
}

#[inline]
const fn round([v0, v1, v2, v3]: [u64; 4]) -> [u64; 4] {
    let (v0, v2) = (v0.wrapping_add(v1), v2.wrapping_add(v3));
    let (v1, v3) = (v1.rotate_left(13) ^ v0, v3.rotate_left(16) ^ v2);
    let (v0, v2) = (v0.rotate_left(32).wrapping_add(v3), v2.wrapping_add(v1));
    let (v1, v3) = (v1.rotate_left(17) ^ v2, v3.rotate_left(21) ^ v0);
    [v0, v1, v2.rotate_left(32), v3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher as _;
    use proptest::prelude::*;
    use std::collections::hash_map::DefaultHasher;

    /// The key of the authors' own vectors: octets 0 to 15.
    const KEY: Key = Key { k0: 0x0706_0504_0302_0100, k1: 0x0F0E_0D0C_0B0A_0908 };

    /// Of an implementation written apart from this one, which agrees with CPython's own SipHash-1-3 and with the published hash of
    /// the empty message; the XDP program's test has the same.
    const VECTORS: [(u64, [u64; 4]); 6] = [
        (
            0x0000_0000_0000_0000,
            [0x5CB9_6F6B_A2A4_FCFC, 0xAEB0_BC06_B0D2_4EE1, 0xF644_6455_17B8_E4D2, 0x1E0A_CD0F_E002_041F],
        ),
        (
            0x0000_0000_0000_0001,
            [0x32C5_EA5C_E472_F19B, 0xC8DF_D79A_6F39_BA31, 0x45AF_301D_806B_056C, 0x18A9_A13B_2F86_D789],
        ),
        (
            0x0000_0000_C000_0207,
            [0x00AD_2C52_EA26_2A38, 0x501C_8331_7642_F9FD, 0xADC6_7889_06FC_9BF6, 0x8903_B2E1_6C46_4082],
        ),
        (
            0x2001_0DB8_0000_0000,
            [0x4048_4D84_E05D_EEE0, 0xDCA7_2A8B_85A4_0C29, 0xA386_25B3_BC8E_2FBC, 0x4A6A_160A_C322_9695],
        ),
        (
            0xFFFF_FFFF_FFFF_FFFF,
            [0x823F_3073_1145_3347, 0xB531_CC01_3208_96FD, 0x7332_C67D_BFA7_FF30, 0x3E77_9EE1_5196_64BA],
        ),
        (
            0x0706_0504_0302_0100,
            [0x3690_9511_8D29_9A8E, 0x623F_90BA_E3D9_D4F7, 0x793A_A4F6_7F05_9ADF, 0x9370_F93D_B180_DF9F],
        ),
    ];

    proptest! {
        /// The standard library's hasher is SipHash-1-3 with a key of zeros.
        #[test]
        fn of_an_ipv4_address_it_is_siphash_1_3(word in any::<u64>()) {
            let mut theirs = DefaultHasher::new();
            theirs.write(&word.to_le_bytes());
            prop_assert_eq!(hash(Key { k0: 0, k1: 0 }, word, Kind::Ip4), theirs.finish());
        }
    }

    #[test]
    fn vectors() {
        for (word, of_kinds) in VECTORS {
            for (kind, wanted) in
                [Kind::Ip4, Kind::Ip6, Kind::Ip4Prefix, Kind::Ip6Prefix].into_iter().zip(of_kinds)
            {
                assert_eq!(hash(KEY, word, kind), wanted, "{word:#x} {kind:?}");
            }
        }
    }
}
