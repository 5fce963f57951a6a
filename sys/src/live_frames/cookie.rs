//! What a request carries as its transmit timestamp: when it was due, and a keyed hash of that.
//!
//! A reply that brings it back in its origin timestamp says so when its request was due; nothing is kept per request.
//! `xdp/load.bpf.c` makes and checks the same. The hash keeps out what isn't an answer to this run; it doesn't withstand
//! an attacker.

const DUE_BITS: u32 = 40;
const DUE_MASK: u64 = (1 << DUE_BITS) - 1;
const HASH_BITS: u32 = 24;
const _: () = assert!(DUE_BITS + HASH_BITS == u64::BITS);

/// A request's transmit timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cookie(pub u64);

impl Cookie {
    /// Of a request that is due at `due_ns` by `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn new(due_ns: i64, key: u64) -> Self {
        let due = due_ns.cast_unsigned() & DUE_MASK;
        Self(due << HASH_BITS | keyed_hash(due, key) >> DUE_BITS)
    }

    /// How long after its due time it is `now_ns`, modulo 2⁴⁰ ns (18 minutes); none if the hash isn't ours.
    #[must_use]
    pub const fn age_ns(self, now_ns: i64, key: u64) -> Option<u64> {
        let due = self.0 >> HASH_BITS;
        if Self::new(due.cast_signed(), key).0 == self.0 {
            Some(now_ns.cast_unsigned().wrapping_sub(due) & DUE_MASK)
        } else {
            None
        }
    }
}

const fn keyed_hash(due: u64, key: u64) -> u64 {
    let x = (due ^ key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    x ^ (x >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: u64 = 0x0123_4567_89AB_CDEF;

    #[test]
    fn a_cookie_says_when_it_was_due() {
        for (due, now, age) in [(5, 7, 2), (1 << 40, (1 << 40) + 9, 9), ((1 << 40) - 1, (1 << 40) + 1, 2)] {
            assert_eq!(Cookie::new(due, KEY).age_ns(now, KEY), Some(age), "{due} {now}");
        }
    }

    #[test]
    fn a_changed_cookie_or_another_key_is_found() {
        let cookie = Cookie::new(123_456_789_012, KEY);
        let flips = (0..64).filter(|bit| Cookie(cookie.0 ^ 1 << bit).age_ns(0, KEY).is_some());
        assert_eq!(flips.count(), 0);
        assert_eq!(cookie.age_ns(0, KEY ^ 1), None);
    }
}
