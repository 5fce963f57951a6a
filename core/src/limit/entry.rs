//! What is known of an address: one word.
//!
//! ```text
//! 63            48 47  45 44    40 39                                      0
//! +---------------+------+--------+----------------------------------------+
//! |      tag      |level | kissed |         full again at (moment)         |
//! +---------------+------+--------+----------------------------------------+
//! ```
//!
//! The **tag** is 16 bits of the address's hash, never 0: other bits than those that choose the set. The **level** counts how
//! often it came back with its bucket full. **Kissed** is when, in units of 2¹⁶ moments (268 ms) modulo 32. A word of 0 is
//! an empty place; it is also a bucket that is full.

use super::moment::{MOMENT_BITS, MOMENT_MASK, Moment};

const TAG_MASK: u64 = 0xFFFF << 48;
const LEVEL_SHIFT: u32 = 45;
const LEVEL_MASK: u64 = 7 << LEVEL_SHIFT;
const KISSED_SHIFT: u32 = MOMENT_BITS;
const KISSED_MASK: u64 = 31 << KISSED_SHIFT;

/// log₂ of the moments in a unit of [`Entry`]'s memory of kisses.
const KISS_UNIT_LOG2: u32 = 16;
/// Another kiss after so many of them: 1.07 s at least, as the last one may have come at a unit's end.
const KISS_AGAIN_AFTER: u64 = 5;

/// From this level on an address is a regular.
pub(super) const REGULAR: u64 = 2;
/// An entry is worth one level less after each 2²⁸ moments (18 minutes) without its owner, more than the longest usual
/// poll interval (1,024 s).
const LEVEL_LASTS_LOG2: u32 = 28;

/// 537 ms.
const RESTED: u64 = 1 << 17;

/// One word of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry(u64);

impl Entry {
    /// An empty place.
    pub const EMPTY: Self = Self(0);

    /// As it lies in the table.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As it lies in the table.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The tag of an address's hash, in its place in the word.
    #[must_use]
    #[inline]
    pub const fn tag_of(hash: u64) -> u64 {
        let tag = hash & TAG_MASK;
        if tag == 0 { 1 << 48 } else { tag }
    }

    /// Whose it is, in its place in the word; 0 for nobody's.
    #[must_use]
    #[inline]
    pub const fn tag(self) -> u64 {
        self.0 & TAG_MASK
    }

    /// 0 to 7: how often its owner came back with a full bucket.
    #[must_use]
    #[inline]
    pub const fn level(self) -> u64 {
        (self.0 & LEVEL_MASK) >> LEVEL_SHIFT
    }

    /// In how many units of 4.096 µs its bucket will be full; 0 if it is.
    #[must_use]
    #[inline]
    pub const fn debt(self, now: Moment) -> u64 {
        match Moment::from_bits(self.0).ahead_of(now) {
            Some(debt) => debt,
            None => 0,
        }
    }

    /// Whether its bucket has been full for half a second and more: who asks more often than every other second or so hasn't come
    /// back, but is still there.
    #[inline]
    pub(super) const fn has_rested(self, now: Moment) -> bool {
        self.debt(now) == 0 && Moment::from_bits(self.0).before(now) >= RESTED
    }

    /// One whose bucket is full at `now`.
    #[inline]
    pub(super) const fn newcomer(tag: u64, level: u64, now: Moment) -> Self {
        Self(tag | level << LEVEL_SHIFT | now.bits())
    }

    /// The same, whose bucket will be full at `moment`.
    #[inline]
    pub(super) const fn full_at(self, moment: Moment) -> Self {
        Self(self.0 & !MOMENT_MASK | moment.bits())
    }

    /// The same, a level higher up to the highest.
    #[inline]
    pub(super) const fn raised(self) -> Self {
        if self.0 & LEVEL_MASK == LEVEL_MASK { self } else { Self(self.0 + (1 << LEVEL_SHIFT)) }
    }

    /// The same, kissed at `now`; none if it is too soon.
    #[inline]
    pub(super) const fn kissed(self, now: Moment) -> Option<Self> {
        let units = now.bits() >> KISS_UNIT_LOG2;
        let last = (self.0 & KISSED_MASK) >> KISSED_SHIFT;
        if units.wrapping_sub(last) % 32 < KISS_AGAIN_AFTER {
            return None;
        }
        Some(Self(self.0 & !KISSED_MASK | (units % 32) << KISSED_SHIFT))
    }

    /// How much is lost when a newcomer of `level` takes this place; none if it mustn't. The owner's worth counts first,
    /// then how lately it was there.
    #[inline]
    pub(super) const fn loss(self, level: u64, now: Moment) -> Option<u64> {
        if self.0 == 0 {
            return Some(0);
        }
        if self.debt(now) > 0 {
            return None;
        }
        let idle = Moment::from_bits(self.0).before(now);
        let worth = self.level().saturating_sub(idle >> LEVEL_LASTS_LOG2);
        if worth > level { None } else { Some(worth << MOMENT_BITS | (MOMENT_MASK - idle)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_bits(1 << 39);
    const AGE: u64 = 1 << LEVEL_LASTS_LOG2;

    #[test]
    fn fields_are_where_the_xdp_program_looks() {
        let entry = Entry::newcomer(0xABCD << 48, 1, Moment::from_bits(0x12_3456_789A));
        assert_eq!(entry.bits(), 0xABCD_2012_3456_789A);
        assert_eq!(entry.raised().bits(), 0xABCD_4012_3456_789A);
        assert_eq!(entry.kissed(Moment::from_bits(0x1F << 16)).unwrap().bits(), 0xABCD_3F12_3456_789A);
        assert_eq!(entry.full_at(Moment::from_bits(1)).bits(), 0xABCD_2000_0000_0001);
        assert_eq!((Entry::tag_of(0), Entry::tag_of(u64::MAX)), (1 << 48, 0xFFFF << 48));
        let highest = (0..9).fold(entry, |entry, _| entry.raised());
        assert_eq!((highest.level(), highest.tag()), (7, 0xABCD << 48));
    }

    #[test]
    fn no_kiss_within_a_second_of_another() {
        let second = 1_000_000_000 >> 12;
        for start in (0..40).map(|part| part * 9_973) {
            let first = Moment::from_bits(start + 6 * (1 << KISS_UNIT_LOG2));
            let entry = Entry::EMPTY.kissed(first).unwrap();
            let again =
                (0..3 * second).step_by(100).find(|later| entry.kissed(first.after(*later)).is_some());
            let again = again.unwrap();
            assert!(again >= second && again < 2 * second, "{again}");
        }
    }

    #[test]
    fn who_makes_room() {
        let of = |level, moment| Entry::newcomer(1 << 48, level, moment);
        let ago = |units| Moment::from_bits(NOW.bits() - units);
        assert_eq!(Entry::EMPTY.loss(0, NOW), Some(0));
        assert_eq!(of(0, NOW.after(1)).loss(7, NOW), None, "a debt is kept");
        assert_eq!((of(2, NOW).loss(1, NOW), of(2, ago(AGE - 1)).loss(1, NOW)), (None, None));
        assert!(of(2, ago(AGE)).loss(1, NOW).is_some() && of(7, ago(5 * AGE)).loss(1, NOW).is_none());
        assert!(of(1, ago(5)).loss(1, NOW) < of(1, NOW).loss(1, NOW), "the older goes first");
        assert!(of(0, NOW).loss(1, NOW) < of(1, ago(AGE - 1)).loss(1, NOW), "the lower goes first");
        assert_eq!(of(1, NOW).loss(0, NOW), None);
    }
}
