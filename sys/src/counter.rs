//! The machine's own counter, which nobody steers: the TSC where it can be trusted, else `CLOCK_MONOTONIC_RAW`.
//!
//! The served clock is a line over this counter, and every packet's receive and transmit stamps are readings of it.
//! [`calibration`](crate::calibration) says which it is and why; this module must not judge the time that the counter
//! is turned into.

use crate::kernel_clock::{self, KernelClock};
use crate::tsc::{self, KernelView};
use maser_core::time::{Rate, Span, Ticks};
use std::fmt;

/// What a [`Counter`] reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CounterKind {
    /// The processor's time stamp counter.
    Tsc,
    /// `CLOCK_MONOTONIC_RAW` in nanoseconds, through the vDSO or a system call.
    MonotonicRaw,
}

impl fmt::Display for CounterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tsc => "TSC",
            Self::MonotonicRaw => "CLOCK_MONOTONIC_RAW",
        })
    }
}

/// A counter that all threads of this process read alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counter {
    kind: CounterKind,
    nominal_rate: Rate,
    ticks_per_us: u32,
    precision: i8,
}

/// [`Counter::precision`] is the least of so many runs of so many readings.
const PRECISION_RUNS: usize = 32;
const PRECISION_READINGS: usize = 64;

impl Counter {
    /// `CLOCK_MONOTONIC_RAW`, which works everywhere.
    #[must_use]
    pub fn monotonic_raw() -> Self {
        Self::new(CounterKind::MonotonicRaw, Rate::NANOSECOND)
    }

    /// A counter whose rate has been measured.
    pub(crate) fn new(kind: CounterKind, nominal_rate: Rate) -> Self {
        let mut counter = Self::uncalibrated(kind);
        counter.nominal_rate = nominal_rate;
        let ticks_per_us = nominal_rate.ticks_in(Span::from_nanos(1_000)).max(1);
        counter.ticks_per_us = u32::try_from(ticks_per_us).unwrap_or(u32::MAX);
        counter.precision = counter.measure_precision();
        counter
    }

    /// A counter whose rate isn't known yet, to measure it with.
    pub(crate) const fn uncalibrated(kind: CounterKind) -> Self {
        Self { kind, nominal_rate: Rate::NANOSECOND, ticks_per_us: 1_000, precision: 0 }
    }

    /// Which counter this is.
    #[must_use]
    pub const fn kind(&self) -> CounterKind {
        self.kind
    }

    /// The counter now. The processor may move the reading by the few nanoseconds that it runs ahead.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Ticks {
        match self.kind {
            CounterKind::Tsc => Ticks::from_bits(tsc::read()),
            CounterKind::MonotonicRaw => raw_ticks(),
        }
    }

    /// The counter now, after all that comes before in the program, and before any store or read of a kernel clock
    /// that comes after.
    #[inline]
    #[must_use]
    pub fn now_ordered(&self) -> Ticks {
        match self.kind {
            CounterKind::Tsc => Ticks::from_bits(tsc::read_ordered()),
            CounterKind::MonotonicRaw => raw_ticks(),
        }
    }

    /// How long a tick is, as measured against `CLOCK_MONOTONIC_RAW` at start-up: good to about a ppm of that
    /// clock, which itself is off by tens.
    #[must_use]
    pub const fn nominal_rate(&self) -> Rate {
        self.nominal_rate
    }

    /// Ticks in a microsecond, rounded down.
    #[must_use]
    pub const fn ticks_per_us(&self) -> u32 {
        self.ticks_per_us
    }

    /// log₂ seconds, rounded up, of what it takes to read this counter or of its resolution, whichever is longer
    /// (RFC 5905 §7.3 and its definition of precision in §4).
    #[must_use]
    pub const fn precision(&self) -> i8 {
        self.precision
    }

    /// Whether the kernel has turned against this counter since it was chosen (its watchdog withdraws a TSC that
    /// strays). Reads a file: for the pulse thread, now and then.
    #[must_use]
    pub fn is_still_trusted(&self) -> bool {
        match self.kind {
            CounterKind::Tsc => !KernelView::read_clocksources().distrusts_tsc(),
            CounterKind::MonotonicRaw => true,
        }
    }

    fn measure_precision(&self) -> i8 {
        let mut least_read = i64::MAX;
        let mut least_step = i64::MAX;
        for _ in 0..PRECISION_RUNS {
            let mut readings = [Ticks::default(); PRECISION_READINGS];
            readings.fill_with(|| self.now());
            let steps = readings.windows(2).map(|pair| pair[1].since(pair[0])).filter(|step| *step > 0);
            least_step = steps.min().unwrap_or(i64::MAX).min(least_step);
            let total = readings[PRECISION_READINGS - 1].since(readings[0]).unsigned_abs();
            let a_read = total.div_ceil(PRECISION_READINGS as u64 - 1);
            least_read = i64::try_from(a_read).unwrap_or(i64::MAX).min(least_read);
        }
        log2_seconds_up(self.nominal_rate.span_of(least_read.max(least_step)))
    }
}

#[inline]
fn raw_ticks() -> Ticks {
    Ticks::from_bits(kernel_clock::read(KernelClock::MonotonicRaw).cast_unsigned())
}

/// The least power of two seconds that is not shorter than `span`, as its exponent; 2⁻⁶³ to 1 s.
fn log2_seconds_up(span: Span) -> i8 {
    (-63..0).find(|exponent| Span::from_raw(1 << (64 + i32::from(*exponent))) >= span).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_rounds_up_to_a_power_of_two() {
        assert_eq!(log2_seconds_up(Span::from_nanos(12)), -26);
        assert_eq!(log2_seconds_up(Span::from_nanos(32)), -24);
        assert_eq!(log2_seconds_up(Span::from_raw(1 << 40)), -24);
        assert_eq!(log2_seconds_up(Span::from_raw((1 << 40) + 1)), -23);
        assert_eq!(log2_seconds_up(Span::from_seconds(5)), 0);
        assert_eq!(log2_seconds_up(Span::ZERO), -63);
    }
}
