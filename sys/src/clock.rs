//! The kernel's clocks, read together with the counter.
//!
//! A kernel clock is read between two readings of the [`Counter`]: the moment lies inside, so half the width is the
//! error, and no more is claimed. A preemption in between widens the bracket; it is retried a bounded number of
//! times, and what is left is in the result. This module must not judge the clocks' values.

use crate::counter::Counter;
use crate::kernel_clock::{KernelClock, read};
use maser_core::time::{ClockReading, Ticks};

/// A clock's value, and the counter at that moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bracket {
    /// The middle of the bracket.
    pub ticks: Ticks,
    /// Half its width, rounded up; saturates.
    pub error_ticks: u32,
    /// What the clock said, in nanoseconds.
    pub nanos: i64,
}

/// [`bracket`] tries so often for a narrow one.
pub const BRACKET_TRIES: u32 = 8;
/// A bracket of a tenth of a microsecond is narrow: twice what a read through the vDSO takes.
const NARROW_PER_US: u32 = 10;
/// [`reading`] tries so often for a good one.
pub const READING_TRIES: u32 = 3;
/// Two clocks that are so far apart were read from a warm cache. The first reading after a wait isn't: it is several times
/// as wide, and stamps are only as good as it is.
const APART_NS_ENOUGH: u32 = 100;

/// `clock` and the counter at one moment: the narrowest of up to [`BRACKET_TRIES`] brackets. For the pulse thread.
#[must_use]
pub fn bracket(counter: &Counter, clock: KernelClock) -> Bracket {
    narrowest(counter, clock, BRACKET_TRIES, counter.ticks_per_us() / NARROW_PER_US)
}

/// The narrowest of up to `tries` brackets, or the first that is no wider than `enough_ticks`.
pub(crate) fn narrowest(counter: &Counter, clock: KernelClock, tries: u32, enough_ticks: u32) -> Bracket {
    let mut best = one_bracket(counter, clock);
    for _ in 1..tries {
        if best.error_ticks <= enough_ticks / 2 {
            break;
        }
        let again = one_bracket(counter, clock);
        if again.error_ticks < best.error_ticks {
            best = again;
        }
    }
    best
}

fn one_bracket(counter: &Counter, clock: KernelClock) -> Bracket {
    let before = counter.now_ordered();
    let nanos = read(clock);
    let width = counter.now_ordered().since(before);
    Bracket { ticks: before.offset(width / 2), error_ticks: half_up(width), nanos }
}

/// The counter and both clocks that packets are stamped in: one for a batch of packets, taken after they came.
///
/// The narrowest of up to [`READING_TRIES`]; under load the first is narrow. Where each was torn by a preemption
/// [`ClockReading::is_torn`] says so, and the caller counts it.
#[must_use]
pub fn reading(counter: &Counter) -> ClockReading {
    let mut best = one_reading(counter);
    for _ in 1..READING_TRIES {
        if best.apart_ns <= APART_NS_ENOUGH {
            break;
        }
        let again = one_reading(counter);
        if again.apart_ns < best.apart_ns {
            best = again;
        }
    }
    best
}

fn one_reading(counter: &Counter) -> ClockReading {
    let before = counter.now_ordered();
    let realtime_ns = read(KernelClock::Realtime);
    let between = counter.now_ordered();
    let monotonic_ns = read(KernelClock::Monotonic);
    let after = counter.now_ordered();
    let width = between.since(before);
    // The middles of the two brackets are half of both widths apart, and so much is the error of their distance.
    let apart_ns = counter.nominal_rate().span_of(after.since(before)).as_nanos() / 2;
    ClockReading {
        ticks: before.offset(width / 2),
        error_ticks: half_up(width),
        realtime_ns,
        monotonic_ns: monotonic_ns - apart_ns,
        // Each clock cuts off less than a nanosecond.
        apart_ns: u32::try_from(apart_ns + 1).unwrap_or(u32::MAX),
    }
}

fn half_up(width: i64) -> u32 {
    u32::try_from(width.unsigned_abs().div_ceil(2)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_width_is_rounded_up_and_saturates() {
        assert_eq!([0, 1, 2, 3].map(half_up), [0, 1, 1, 2]);
        assert_eq!(half_up(i64::MAX), u32::MAX);
    }
}
