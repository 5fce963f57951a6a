//! Addresses that fall into the same sets of a server's table, under a key that the attacker has guessed.
//!
//! The server takes SipHash-1-3 of an address, IPv4's 32 bits or the upper 64 of IPv6's, under a key that it keeps to itself, and
//! the set from the hash's lower half. Who knows the key fills a set with few addresses; who doesn't, gains nothing by this
//! flood over one of as many other addresses. This is a hash of the generator's own, so that it is no copy of the server's
//! mistakes.

use super::Range;
use std::net::IpAddr;

/// How many addresses are looked through at most.
pub const SEARCHED_MAX: u32 = 1 << 28;

/// What the attacker takes the server for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guess {
    /// The hash's key: k0 and k1.
    pub key: [u64; 2],
    /// How many sets the table has for addresses.
    pub sets: u32,
}

/// Clients of a range that share as few sets as have so many of them; fewer if there aren't as many.
#[must_use]
pub fn find(range: &Range, guess: Guess, wanted: u32) -> Vec<u32> {
    // So many sets together hold what is wanted, on average; a tenth more, since it is an average.
    let each = f64::from(range.count) / f64::from(guess.sets.max(1));
    let sets = f64::from(wanted) / each * 1.1 + 1.0;
    (0..range.count)
        .filter(|client| f64::from(set_of(range.address(*client), guess)) < sets)
        .take(wanted as usize)
        .collect()
}

/// The set of an address.
#[must_use]
pub fn set_of(address: IpAddr, guess: Guess) -> u32 {
    let (word, kind) = match address {
        IpAddr::V4(address) => (u64::from(address.to_bits()), 0),
        IpAddr::V6(address) => (u64::try_from(address.to_bits() >> 64).expect("64 bits"), 1),
    };
    let hash = siphash13(guess.key, word, 8 << 56 | kind);
    u32::try_from(((hash & u64::from(u32::MAX)) * u64::from(guess.sets)) >> 32)
        .expect("below a number of sets")
}

/// SipHash with one round a word and three at the end (Aumasson and Bernstein, 2012) of two words, of which the last says the
/// length and what it is a hash of.
fn siphash13(key: [u64; 2], word: u64, last: u64) -> u64 {
    let mut state = [
        key[0] ^ 0x736F_6D65_7073_6575,
        key[1] ^ 0x646F_7261_6E64_6F6D,
        key[0] ^ 0x6C79_6765_6E65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for word in [word, last] {
        state[3] ^= word;
        round(&mut state);
        state[0] ^= word;
    }
    state[2] ^= 0xFF;
    for _ in 0..3 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::Hasher as _;

    /// The standard library's default hash is SipHash-1-3 under a key of zeros.
    #[test]
    fn the_hash_is_siphash_1_3() {
        for word in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
            let mut hasher = std::hash::DefaultHasher::new();
            hasher.write(&word.to_le_bytes());
            assert_eq!(siphash13([0, 0], word, 8 << 56), hasher.finish(), "{word:#x}");
        }
    }

    #[test]
    fn what_collides_shares_few_sets_and_under_another_key_none_in_particular() {
        let range =
            Range { prefix: "10.0.0.0/8".parse().expect("a prefix"), first: 0x0A00_0001, count: 1 << 20 };
        let guess = Guess { key: [1, 2], sets: 1 << 12 };
        let clients = find(&range, guess, 1_000);
        assert_eq!(clients.len(), 1_000);
        let sets = |guess| {
            let sets: std::collections::BTreeSet<u32> =
                clients.iter().map(|client| set_of(range.address(*client), guess)).collect();
            sets.len()
        };
        // 256 addresses a set.
        assert!(sets(guess) <= 6, "{}", sets(guess));
        assert!(sets(Guess { key: [1, 3], ..guess }) > 800);
    }
}
