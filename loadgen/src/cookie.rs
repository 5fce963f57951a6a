//! Transmit timestamps that name their request: a reply's origin says at once which request it answers.
//!
//! A request's number goes through a keyed bijection, so that no two requests of a run share a cookie, a
//! cookie looks like the random transmit timestamps of today's clients, and one that was corrupted, or made
//! up, comes back as a number that nobody sent. It is no cipher: who knows one number's cookie can work the
//! key out. It reads no clock.

/// The bijection between requests' numbers and their transmit timestamps.
#[derive(Clone, Copy, Debug)]
pub struct Cookies {
    /// Its highest bit is set.
    key: u64,
}

impl Cookies {
    /// The bijection of this key; its highest bit doesn't count.
    #[must_use]
    pub const fn new(key: u64) -> Self {
        Self { key: key | (1 << 63) }
    }

    /// The transmit timestamp of a request. It is never 0, which would say "unknown", for numbers below 2⁶³:
    /// the scrambling keeps 0 and nothing else at 0, so that the number of cookie 0 is the key, whose highest
    /// bit is set.
    #[inline]
    #[must_use]
    pub const fn of(&self, number: u64) -> u64 {
        scramble(number ^ self.key)
    }

    /// The number of the request with this transmit timestamp; far beyond all that were sent if it was none
    /// of ours.
    #[inline]
    #[must_use]
    pub const fn number(&self, cookie: u64) -> u64 {
        unscramble(cookie) ^ self.key
    }
}

/// The multipliers and shifts of `SplitMix64`'s output function: each bit of what goes in flips half of what
/// comes out.
const MULTIPLIERS: [u64; 2] = [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB];
const SHIFTS: [u32; 3] = [30, 27, 31];
const INVERSES: [u64; 2] = [inverse(MULTIPLIERS[0]), inverse(MULTIPLIERS[1])];

/// A bijection of 64 bits that leaves no pattern; 0 stays 0.
#[inline]
#[must_use]
pub(crate) const fn scramble(number: u64) -> u64 {
    let number = (number ^ (number >> SHIFTS[0])).wrapping_mul(MULTIPLIERS[0]);
    let number = (number ^ (number >> SHIFTS[1])).wrapping_mul(MULTIPLIERS[1]);
    number ^ (number >> SHIFTS[2])
}

#[inline]
const fn unscramble(number: u64) -> u64 {
    let number = unshift(number, SHIFTS[2]).wrapping_mul(INVERSES[1]);
    let number = unshift(number, SHIFTS[1]).wrapping_mul(INVERSES[0]);
    unshift(number, SHIFTS[0])
}

/// What gave `shifted` when it was added to itself, without carries, `by` bits lower; `by` is above a third
/// of the 64 bits, so that two steps bring them all back.
#[inline]
const fn unshift(shifted: u64, by: u32) -> u64 {
    shifted ^ (shifted >> by) ^ (shifted >> (2 * by))
}

/// The inverse of an odd number modulo 2⁶⁴: Newton's step doubles the bits that are right, which are 3 at
/// first.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut right_bits = 3;
    while right_bits < u64::BITS {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        right_bits *= 2;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_corrupted_cookie_names_no_request() {
        let cookies = Cookies::new(0x0123_4567_89AB_CDEF);
        for number in 0..10_000 {
            let bit = u32::try_from(number % 64).expect("below 64");
            let named = cookies.number(cookies.of(number) ^ (1 << bit));
            assert!(named > 1 << 32, "bit {bit} of {number}'s cookie makes {named}");
        }
    }

    #[test]
    fn only_the_key_gives_zero_and_it_is_no_request() {
        for key in [0, 1, u64::MAX, 0x8000_0000_0000_0000] {
            let cookies = Cookies::new(key);
            assert!(cookies.number(0) >= 1 << 63, "{key:#x}");
            assert_eq!(cookies.of(cookies.number(0)), 0);
        }
    }

    #[test]
    fn cookies_of_one_number_under_two_keys_differ() {
        assert!((0..1000).all(|number| Cookies::new(1).of(number) != Cookies::new(2).of(number)));
    }

    proptest! {
        #[test]
        fn the_number_comes_back(key in any::<u64>(), number in any::<u64>(), cookie in any::<u64>()) {
            let cookies = Cookies::new(key);
            prop_assert_eq!(cookies.number(cookies.of(number)), number);
            prop_assert_eq!(cookies.of(cookies.number(cookie)), cookie);
        }

        #[test]
        fn below_two_to_the_63_no_cookie_is_zero(key in any::<u64>(), number in 0_u64..1 << 63) {
            prop_assert_ne!(Cookies::new(key).of(number), 0);
        }
    }
}
