//! The Internet checksum (RFC 1071): the complement of the one's complement sum of 16-bit words.
//!
//! A [`Sum`] is kept open so that what is known last, the transmit timestamp, is folded into a sum that was made
//! before it. This is the incremental update of RFC 1624 without the subtraction: the old value of the field was
//! never added. And since a one's complement sum doesn't depend on the order of its words, swapping addresses and
//! ports leaves it as it is.

/// A one's complement sum in the making, 64 bits wide with the carry brought around (RFC 1071 §2).
///
/// It is 0 only if every word added was 0: a sum of anything else that comes to zero is all ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sum(u64);

impl Sum {
    /// The sum of no words.
    pub const ZERO: Self = Self(0);

    /// With four 16-bit words more.
    #[inline]
    #[must_use]
    pub const fn with_u64(self, words: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(words);
        // After a carry the sum is at most 2^64 − 2, so bringing it around carries no further.
        Self(sum + if carry { 1 } else { 0 })
    }

    /// With one 16-bit word more.
    #[inline]
    #[must_use]
    pub const fn with_u16(self, word: u16) -> Self {
        self.with_u64(word as u64)
    }

    /// With the octets of a datagram from an even offset on; an odd last octet is the high half of its word.
    #[inline]
    #[must_use]
    pub fn with_octets(self, octets: &[u8]) -> Self {
        let (chunks, rest) = octets.as_chunks::<8>();
        let sum = chunks.iter().fold(self, |sum, chunk| sum.with_u64(u64::from_be_bytes(*chunk)));
        if rest.is_empty() {
            return sum;
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        sum.with_u64(u64::from_be_bytes(last))
    }

    /// Whether data that holds its own checksum is intact.
    #[inline]
    #[must_use]
    pub const fn is_intact(self) -> bool {
        self.fold() == 0xFFFF
    }

    /// The checksum to store in an IPv4 header.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// The checksum to store in a UDP header, where 0 would say that there is none (RFC 768).
    #[inline]
    #[must_use]
    pub const fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xFFFF,
            checksum => checksum,
        }
    }

    /// The sum in 16 bits.
    #[inline]
    const fn fold(self) -> u16 {
        // Each step brings the carries around; the comments give the largest value after it.
        let sum = (self.0 >> 32) + (self.0 & 0xFFFF_FFFF); // 2^33 − 2
        let sum = (sum >> 32) + (sum & 0xFFFF_FFFF); // 2^32 − 1
        let sum = (sum >> 16) + (sum & 0xFFFF); // 2^17 − 2
        let sum = (sum >> 16) + (sum & 0xFFFF); // 2^16 − 1
        let [.., high, low] = sum.to_be_bytes();
        u16::from_be_bytes([high, low])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// As RFC 1071 §4.1 defines it: one word at a time.
    fn slow_sum(octets: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in octets.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair.first().copied().unwrap_or(0), low]));
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        u16::try_from(sum).expect("folded at every step")
    }

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        let sum = Sum::ZERO.with_octets(&[0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]);
        assert_eq!(sum.checksum(), !0xDDF2);
    }

    #[test]
    fn the_example_of_rfc_1624_comes_out() {
        // §4: under a checksum of 0xDD2F a word goes from 0x5555 to 0x3285.
        let others = Sum::ZERO.with_u16(!0xDD2F).with_u16(!0x5555);
        assert_eq!(others.with_u16(0x3285).checksum(), 0x0000);
    }

    #[test]
    fn carries_come_around_at_every_width() {
        assert_eq!(Sum::ZERO.with_u64(u64::MAX).with_u64(1).fold(), 1);
        assert_eq!(Sum::ZERO.with_u64(u64::MAX).with_u64(u64::MAX).fold(), 0xFFFF);
        assert_eq!(Sum::ZERO.with_u64(0xFFFF_FFFF_FFFF_0000).with_u16(0xFFFF).with_u16(1).fold(), 1);
        assert_eq!(Sum::ZERO.with_u64(0x0000_0001_FFFF_FFFE).fold(), 0xFFFF);
        assert_eq!(Sum::ZERO.with_u64(0x0001_FFFE_0000_0000).fold(), 0xFFFF);
    }

    #[test]
    fn nothing_but_zeros_sums_to_zero() {
        assert_eq!(Sum::ZERO.with_octets(&[0; 40]).checksum(), 0xFFFF);
        assert!(!Sum::ZERO.with_octets(&[0; 40]).is_intact());
    }

    #[test]
    fn a_computed_udp_checksum_of_zero_is_sent_as_all_ones() {
        assert_eq!(Sum::ZERO.with_u16(0xFFFF).checksum(), 0);
        assert_eq!(Sum::ZERO.with_u16(0xFFFF).udp_checksum(), 0xFFFF);
        assert_eq!(Sum::ZERO.with_u16(0xFFFE).udp_checksum(), 1);
    }

    proptest! {
        #[test]
        fn the_wide_sum_is_the_slow_one(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::ZERO.with_octets(&octets).fold(), slow_sum(&octets));
        }

        #[test]
        fn words_near_the_carry_edges_too(
            words in proptest::collection::vec(prop_oneof![Just(u64::MAX), Just(u64::MAX - 1), Just(0), Just(1), any::<u64>()], 0..12),
        ) {
            let octets: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            let sum = words.iter().fold(Sum::ZERO, |sum, word| sum.with_u64(*word));
            prop_assert_eq!(sum.fold(), slow_sum(&octets));
        }

        #[test]
        fn what_is_folded_in_last_counts_as_if_it_had_been_there(octets in any::<[u8; 32]>(), last in any::<u64>()) {
            let mut whole = octets.to_vec();
            whole.extend(last.to_be_bytes());
            let checksum = Sum::ZERO.with_octets(&octets).with_u64(last).checksum();
            prop_assert_eq!(checksum, !slow_sum(&whole));
            prop_assert!(Sum::ZERO.with_octets(&whole).with_u16(checksum).is_intact());
        }
    }
}
