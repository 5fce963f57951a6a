//! The generator's own time: schedules and latencies are in `CLOCK_MONOTONIC`, which nobody steps.
//!
//! Kernel stamps come in `CLOCK_REALTIME`; the distance of the two clocks is read each time round the loop and
//! changes only when somebody steps the machine's clock.

use maser_core::time::{Instant, NtpTimestamp, Utc};
use maser_sys::kernel_clock::{KernelClock, read};
use std::time::Duration;

/// A moment of `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(i64);

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self(read(KernelClock::Monotonic))
    }

    /// From nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// In nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// So much later; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier`; nothing if it isn't.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A moment, and what `CLOCK_REALTIME` said about then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The moment.
    pub moment: Moment,
    /// `CLOCK_REALTIME`, in nanoseconds since 1970.
    pub realtime_ns: i64,
}

impl Reading {
    /// Both clocks, one after the other: some 30 ns apart.
    #[must_use]
    pub fn now() -> Self {
        Self { realtime_ns: read(KernelClock::Realtime), moment: Moment::now() }
    }

    /// When a stamp of `CLOCK_REALTIME` was made.
    #[must_use]
    pub const fn moment_of(&self, realtime_ns: i64) -> Moment {
        Moment(self.moment.0.saturating_sub(self.realtime_ns.saturating_sub(realtime_ns)))
    }
}

/// How much later a server's timestamp is than a stamp of `CLOCK_REALTIME`, in nanoseconds.
#[must_use]
pub fn later_ns(timestamp: NtpTimestamp, realtime_ns: i64) -> i64 {
    let nanos = u32::try_from(realtime_ns.rem_euclid(1_000_000_000)).unwrap_or(0);
    let stamp = Instant::<Utc>::from_unix(realtime_ns.div_euclid(1_000_000_000), nanos);
    timestamp.since(NtpTimestamp::from_utc(stamp)).as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_as_old_in_one_clock_as_in_the_other() {
        let reading = Reading { moment: Moment(7_000), realtime_ns: 1_000_000_000_000 };
        assert_eq!(reading.moment_of(999_999_999_000), Moment(6_000));
        assert_eq!(Moment(7_000).since(Moment(9_000)), Duration::ZERO);
    }

    #[test]
    fn a_timestamp_is_compared_within_a_nanosecond() {
        let stamp_ns = 1_795_000_000_123_456_789;
        let utc = Instant::<Utc>::from_unix(1_795_000_000, 123_457_789);
        let difference = later_ns(NtpTimestamp::from_utc(utc), stamp_ns);
        assert!((999..=1_000).contains(&difference), "{difference}");
    }
}
