//! When each request is due: evenly spaced from a start, whether or not replies come.

use crate::clock::Moment;
use std::time::Duration;

/// Fractional bits of the interval: after a day the schedule is off by less than 2 µs at 10 million a second.
const FRACTION_BITS: u32 = 32;

/// Requests 0, 1, 2, … of a step and the moments when they are due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    start: Moment,
    /// Nanoseconds, 2⁻³² each.
    interval: u128,
    count: u64,
    end: Moment,
}

impl Schedule {
    /// `rate_per_s` requests a second for `duration`, beginning at `start`. At least one.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates and times are bounded on the command line; float conversions saturate"
    )]
    pub fn new(start: Moment, rate_per_s: f64, duration: Duration) -> Self {
        let interval = ((1e9 / rate_per_s) * 2.0_f64.powi(FRACTION_BITS.cast_signed())).round() as u128;
        let count = (rate_per_s * duration.as_secs_f64()).round().max(1.0) as u64;
        Self { start, interval: interval.max(1), count, end: start.after(duration) }
    }

    /// The same for one of `threads` that take turns: thread `index` sends every `threads`-th request.
    #[must_use]
    pub fn part(self, index: u64, threads: u64) -> Self {
        let offset_ns = (self.interval * u128::from(index)) >> FRACTION_BITS;
        Self {
            start: Moment::from_nanos(self.start.nanos() + i64::try_from(offset_ns).unwrap_or(0)),
            interval: self.interval * u128::from(threads),
            count: (self.count + threads - 1 - index) / threads,
            end: self.end,
        }
    }

    /// How many requests there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Requests a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate is known to less than 53 bits")]
    pub fn rate_per_s(&self) -> f64 {
        1e9 * 2.0_f64.powi(FRACTION_BITS.cast_signed()) / self.interval as f64
    }

    /// When the first is due.
    #[must_use]
    pub const fn start(&self) -> Moment {
        self.start
    }

    /// The time between two, in nanoseconds of 2⁻³².
    #[must_use]
    pub const fn interval(&self) -> u128 {
        self.interval
    }

    /// When request `number` is due.
    #[must_use]
    pub fn due(&self, number: u64) -> Moment {
        let after_ns = (self.interval * u128::from(number)) >> FRACTION_BITS;
        Moment::from_nanos(self.start.nanos().saturating_add(i64::try_from(after_ns).unwrap_or(i64::MAX)))
    }

    /// How many are due by `now`.
    #[must_use]
    pub fn due_by(&self, now: Moment) -> u64 {
        if now < self.start {
            return 0;
        }
        let passed = now.since(self.start).as_nanos() << FRACTION_BITS;
        u64::try_from(passed / self.interval).unwrap_or(u64::MAX).saturating_add(1).min(self.count)
    }

    /// When sending ends.
    #[must_use]
    pub const fn end(&self) -> Moment {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_due_is_due(rate in 1.0..10_000_000.0_f64, number in 0_u64..100_000) {
            let schedule = Schedule::new(Moment::from_nanos(5_000), rate, Duration::from_secs(86_400));
            let due = schedule.due(number);
            prop_assert!(schedule.due_by(due) >= number);
            prop_assert!(schedule.due_by(due.after(Duration::from_nanos(1))) > number);
            prop_assert!(schedule.due_by(Moment::from_nanos(due.nanos() - 1)) <= number);
        }

        #[test]
        fn threads_share_a_schedule_out(rate in 1.0..1_000_000.0_f64, threads in 1_u64..9) {
            let schedule = Schedule::new(Moment::from_nanos(0), rate, Duration::from_secs(1));
            let parts: Vec<_> = (0..threads).map(|index| schedule.part(index, threads)).collect();
            prop_assert_eq!(parts.iter().map(Schedule::count).sum::<u64>(), schedule.count());
            for (index, part) in (0..).zip(&parts) {
                let apart = part.due(3).nanos() - schedule.due(3 * threads + index).nanos();
                prop_assert!(apart.abs() <= 2, "{}", apart);
            }
        }
    }

    #[test]
    fn a_day_at_a_high_rate_keeps_time() {
        let schedule = Schedule::new(Moment::from_nanos(0), 3_000_000.0, Duration::from_secs(86_400));
        let apart = schedule.due(schedule.count()).nanos() - 86_400 * 1_000_000_000;
        assert!(apart.abs() < 100_000, "{apart}");
    }
}
