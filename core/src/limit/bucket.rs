//! A token bucket as GCRA has it: one number, the moment at which it will be full again.

use super::moment::{FULL_MAX, UNIT_LOG2};

/// A bucket that is ahead by more than it could ever have been charged, and by so much more (1 s, in units), is from before its
/// clock went back. Less than that is how far the readings of two workers are apart.
const SKEW_MAX: u64 = 1_000_000_000 >> UNIT_LOG2;

/// A rate and a burst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// Between requests at the rate, in units.
    interval: u64,
    /// From empty to full, in units.
    full: u64,
}

/// What a request makes of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Charge {
    /// It is paid for, and the bucket will be full in so many units.
    Paid(u64),
    /// It isn't, and nothing changes.
    Short,
    /// It isn't, and the bucket's moment is put right: it will be full in so many units.
    Astray(u64),
}

impl Bucket {
    /// Of one request every `interval_ns`, rounded up to units of 4.096 µs, and `burst` at once; none if either is 0 or it would take more
    /// than nine minutes to fill.
    #[must_use]
    pub const fn new(interval_ns: u64, burst: u32) -> Option<Self> {
        let interval = interval_ns.div_ceil(1 << UNIT_LOG2);
        match interval.checked_mul(burst as u64) {
            Some(full) if full > 0 && full <= FULL_MAX => Some(Self { interval, full }),
            Some(_) | None => None,
        }
    }

    /// Of `rate` requests a second and `burst` at once.
    #[must_use]
    pub const fn per_second(rate: u32, burst: u32) -> Option<Self> {
        match 1_000_000_000_u64.checked_div(rate as u64) {
            Some(interval_ns) => Self::new(interval_ns, burst),
            None => None,
        }
    }

    /// Between requests at the rate, in units of 4.096 µs.
    #[must_use]
    pub const fn interval_units(&self) -> u64 {
        self.interval
    }

    /// From empty to full, in units of 4.096 µs.
    #[must_use]
    pub const fn full_units(&self) -> u64 {
        self.full
    }

    /// log₂ of the least poll interval in whole seconds that keeps to the rate.
    #[must_use]
    pub const fn poll(&self) -> i8 {
        let mut poll = 0;
        // The interval was rounded up by less than a unit.
        while (1_000_000_000_u64 << poll) <= (self.interval - 1) << UNIT_LOG2 {
            poll += 1;
        }
        poll
    }

    /// Whether a bucket that will be full in `debt` units has enough for a request.
    #[inline]
    pub(super) const fn affords(&self, debt: u64) -> bool {
        debt + self.interval <= self.full
    }

    /// Charges a bucket that will be full in `debt` units.
    #[inline]
    pub(super) const fn charge(&self, debt: u64) -> Charge {
        if self.affords(debt) {
            Charge::Paid(debt + self.interval)
        } else if debt > self.full + SKEW_MAX {
            Charge::Astray(self.full)
        } else {
            Charge::Short
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_no_more() {
        let bucket = Bucket::per_second(8, 32).unwrap();
        assert_eq!((bucket.interval_units(), bucket.full_units()), (30_518, 976_576));
        let mut debt = 0;
        for _ in 0..32 {
            let Charge::Paid(owed) = bucket.charge(debt) else { panic!("{debt}") };
            debt = owed;
        }
        assert_eq!((debt, bucket.charge(debt)), (bucket.full, Charge::Short));
        assert_eq!(bucket.charge(bucket.full + SKEW_MAX), Charge::Short);
        assert_eq!(bucket.charge(bucket.full + SKEW_MAX + 1), Charge::Astray(bucket.full));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (rate, burst) in [(0, 1), (1, 0), (1, 550)] {
            assert_eq!(Bucket::per_second(rate, burst), None, "{rate} {burst}");
        }
        assert!(Bucket::per_second(1, 549).is_some() && Bucket::per_second(u32::MAX, 1).is_none());
        assert!(Bucket::new(u64::MAX, u32::MAX).is_none());
    }

    #[test]
    fn the_poll_interval_keeps_to_the_rate() {
        let of = |seconds: u64| Bucket::new(seconds * 1_000_000_000, 1).unwrap().poll();
        assert_eq!(Bucket::per_second(8, 32).unwrap().poll(), 0);
        assert_eq!((of(1), of(2), of(3), of(16), of(17), of(500)), (0, 1, 2, 4, 5, 9));
    }
}
