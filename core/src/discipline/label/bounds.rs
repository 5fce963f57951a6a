//! What intervals of reference time say together of one pulse.
//!
//! Each source's last interval is carried on to the pulse by the counter, widened by what the counter's rate leaves
//! open; all of them are intersected. It knows nothing of trains or sentences.

use super::train::Pace;
use super::{Interval, Need};
use crate::time::{Instant, Span, Tai, Ticks};

/// Intervals are widened by this much on both sides: a second just outside isn't excluded.
const GUARD: Span = Span::from_nanos(50_000_000);

/// An interval names a second only if its half-width is less than half a second by the guard.
const WIDTH_MAX: Span = Span::from_seconds(1);

/// An interval is carried on for so long; a source that says nothing for longer isn't heard.
const AGE_MAX: Span = Span::from_seconds(4096);

/// Where reference time was at a pulse, guard included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    low: Instant<Tai>,
    high: Instant<Tai>,
}

impl Bounds {
    /// What one interval says of the moment `at`; none if it is too old.
    fn of(interval: &Interval, at: Ticks, pace: &Pace) -> Option<Self> {
        let elapsed = pace.between(at, interval.at);
        let middle = interval.tai + elapsed;
        let error = interval.error.abs() + pace.open(elapsed) + GUARD;
        (elapsed.abs() <= AGE_MAX).then(|| Self { low: middle - error, high: middle + error })
    }

    /// What all intervals say together; none if there are none, an error if they exclude each other.
    pub(super) fn of_all<'i>(
        intervals: impl Iterator<Item = &'i Interval>,
        at: Ticks,
        pace: &Pace,
    ) -> Result<Option<Self>, Need> {
        let mut all: Option<Self> = None;
        for one in intervals.filter_map(|interval| Self::of(interval, at, pace)) {
            let both =
                all.map_or(one, |all| Self { low: all.low.max(one.low), high: all.high.min(one.high) });
            if both.low > both.high {
                return Err(Need::Agreement { apart: both.low - both.high + GUARD + GUARD });
            }
            all = Some(both);
        }
        Ok(all)
    }

    /// The one second that may have begun.
    pub(super) fn only_second(&self) -> Result<i64, Need> {
        let width = self.high - self.low;
        if width >= WIDTH_MAX {
            let half_width = Span::from_raw(width.raw() / 2) - GUARD;
            return Err(Need::NarrowerInterval { half_width });
        }
        let last = self.high.unix_seconds();
        if self.allows(last) { Ok(last) } else { Err(Need::OnTheSecond { off: self.apart(self.nearest()) }) }
    }

    /// Whether this second may have begun.
    pub(super) fn allows(&self, second: i64) -> bool {
        let second = Instant::from_unix(second, 0);
        self.low <= second && second <= self.high
    }

    /// The second nearest to the middle.
    pub(super) fn nearest(&self) -> i64 {
        (self.middle() + Span::from_nanos(500_000_000)).unix_seconds()
    }

    /// How far the middle is from a second.
    pub(super) fn apart(&self, second: i64) -> Span {
        (self.middle() - Instant::from_unix(second, 0)).abs()
    }

    fn middle(&self) -> Instant<Tai> {
        self.low + Span::from_raw((self.high - self.low).raw() / 2)
    }
}
