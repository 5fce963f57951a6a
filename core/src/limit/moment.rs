//! The limiter's time: what is kept of it in an entry, and how a clock's readings become it.

/// log₂ of a unit's nanoseconds: 4.096 µs.
pub(super) const UNIT_LOG2: u32 = 12;

/// Bits of a moment: it comes round after 52 days.
pub(super) const MOMENT_BITS: u32 = 40;
pub(super) const MOMENT_MASK: u64 = (1 << MOMENT_BITS) - 1;

/// The longest that a bucket takes to fill again, in units: 9 minutes.
pub(super) const FULL_MAX: u64 = 1 << 27;

/// A clock may go back by so much, in units: 9 minutes. What is further back is no time at all.
const BACK_MAX: u64 = 1 << 27;

/// So a bucket's moment is never further ahead. What seems to be lies in the past, up to 52 days.
pub(super) const AHEAD_MAX: u64 = FULL_MAX + BACK_MAX;

/// A moment, in units of 4.096 µs of `CLOCK_MONOTONIC`, modulo 2⁴⁰. It wraps and has no order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment(u64);

impl Moment {
    /// The moment of these bits; those above the 40th are left out.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & MOMENT_MASK)
    }

    /// Its 40 bits.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// So many units later.
    #[inline]
    pub(super) const fn after(self, units: u64) -> Self {
        Self::from_bits(self.0.wrapping_add(units))
    }

    /// How far ahead of `now` it lies, in units; none if it is past.
    #[inline]
    pub(super) const fn ahead_of(self, now: Self) -> Option<u64> {
        let ahead = self.0.wrapping_sub(now.0) & MOMENT_MASK;
        if ahead <= AHEAD_MAX { Some(ahead) } else { None }
    }

    /// How long before `now` it lay, in units, if it isn't ahead.
    #[inline]
    pub(super) const fn before(self, now: Self) -> u64 {
        now.0.wrapping_sub(self.0) & MOMENT_MASK
    }
}

/// Makes moments of a clock's readings.
///
/// A clock that went back by more than nine minutes is taken to have stood still, and to go on from there: else, as moments wrap,
/// a bucket's could come to lie in the past of a clock that never went forward.
#[derive(Clone, Copy, Default, Debug)]
pub struct Clock {
    newest: u64,
    last: u64,
    shift: u64,
}

impl Clock {
    /// The moment at which `CLOCK_MONOTONIC` says so many nanoseconds.
    #[inline]
    pub fn moment(&mut self, monotonic_ns: i64) -> Moment {
        let units = u64::try_from(monotonic_ns).unwrap_or(0) >> UNIT_LOG2;
        let mut at = units + self.shift;
        if self.newest.saturating_sub(at) > BACK_MAX {
            self.shift += self.last - at;
            at = self.last;
        }
        self.last = at;
        self.newest = self.newest.max(at);
        Moment::from_bits(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_ahead_or_past_for_52_days() {
        for now in [0, 1, AHEAD_MAX, MOMENT_MASK / 2, MOMENT_MASK] {
            let now = Moment::from_bits(now);
            assert_eq!(now.ahead_of(now), Some(0));
            assert_eq!(now.after(AHEAD_MAX).ahead_of(now), Some(AHEAD_MAX));
            let past = now.after(AHEAD_MAX + 1);
            assert_eq!((past.ahead_of(now), past.before(now)), (None, MOMENT_MASK - AHEAD_MAX));
        }
    }

    #[test]
    fn a_clock_that_goes_far_back_stands_still_and_goes_on() {
        let mut clock = Clock::default();
        let unit_ns = 1 << UNIT_LOG2;
        let hour_ns = 3_600_000_000_000;
        let at = clock.moment(1_000 * hour_ns - 5 * unit_ns);
        assert_eq!(clock.moment(1_000 * hour_ns), at.after(5));
        assert_eq!(clock.moment(1_000 * hour_ns - 5 * unit_ns), at, "a little back is back");
        assert_eq!(clock.moment(0), at);
        assert_eq!(clock.moment(7 * unit_ns), at.after(7));
        assert_eq!(clock.moment(-1).after(7), at.after(7));
    }
}
