//! The clock filter (RFC 5905 §10): of the last eight samples, the one that says most of the time now.
//!
//! That is the one with the least distance, half its delay and its dispersion, where dispersion grows with age: a
//! quick exchange of some time ago is worth more than a slow one now, for as long as our counter keeps time over the
//! age. A sample is given out once, and never one that is older than the last.

use crate::discipline::Exchange;
use crate::snapshot::Growth;
use crate::time::{Rate, Span, Ticks};

use super::reply::half;

/// Samples that are kept.
pub const STAGES: usize = 8;

/// The last samples, newest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ClockFilter {
    stages: [Option<Exchange>; STAGES],
    /// The moment of the last sample that was given out.
    given: Option<Ticks>,
    rate: Rate,
    growth: Growth,
}

impl ClockFilter {
    pub(super) const fn new(rate: Rate, growth: Growth) -> Self {
        Self { stages: [None; STAGES], given: None, rate, growth }
    }

    /// The samples, newest first.
    pub(super) fn samples(&self) -> impl Iterator<Item = &Exchange> {
        self.stages.iter().flatten()
    }

    /// Takes a sample in; the best one, with the dispersion that it has now, if it wasn't given out yet.
    pub(super) fn take(&mut self, sample: Exchange) -> Option<Exchange> {
        self.stages.rotate_right(1);
        if let Some(newest) = self.stages.first_mut() {
            *newest = Some(sample);
        }
        let aged = |stage: &Exchange| Exchange {
            dispersion: stage.dispersion + self.growth.over(self.rate.span_of(sample.at.since(stage.at))),
            ..*stage
        };
        let best = self.samples().map(aged).min_by_key(|stage| half(stage.delay) + stage.dispersion)?;
        if self.given.is_some_and(|given| best.at.since(given) <= 0) {
            return None;
        }
        self.given = Some(best.at);
        Some(best)
    }

    /// Forgets the samples, and not which was given out last.
    pub(super) const fn clear(&mut self) {
        self.stages = [None; STAGES];
    }
}

/// The samples' spread and its reasons, as [`ClockFilter::prediction`] found it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Prediction {
    /// How far the newest sample lies from the line through those before it, in seconds.
    pub(super) error_s: f64,
    /// The RMS distance of those before from their line, in seconds.
    pub(super) jitter_s: f64,
    /// What the delays explain of both: the RMS of what each is above the least, in seconds.
    pub(super) excess_delay_s: f64,
}

/// So many samples before the newest make a line that is worth comparing with.
const LINE_SAMPLES_MIN: u32 = 4;

impl ClockFilter {
    /// How well the samples before the newest one foretell it, if the counter's rate is constant and unknown.
    pub(super) fn prediction(&self) -> Option<Prediction> {
        let newest = self.stages.first()?.as_ref()?;
        // Seconds before the newest, and the change of the offset since, so that the newest is at (0, 0).
        let points = || {
            self.samples().skip(1).map(|stage| {
                let before = self.rate.span_of(stage.at.since(newest.at));
                (before.as_seconds_f64(), (stage.utc - newest.utc - before).as_seconds_f64())
            })
        };
        let count = u32::try_from(points().count()).unwrap_or(0);
        if count < LINE_SAMPLES_MIN {
            return None;
        }
        let n = f64::from(count);
        let (sum_x, sum_y) = points().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (mean_x, mean_y) = (sum_x / n, sum_y / n);
        let (square, product) = points().fold((0.0, 0.0), |(square, product), (x, y)| {
            (square + (x - mean_x) * (x - mean_x), product + (x - mean_x) * (y - mean_y))
        });
        let slope = if square > 0.0 { product / square } else { 0.0 };
        let rest: f64 = points().fold(0.0, |rest, (x, y)| {
            let distance = y - mean_y - slope * (x - mean_x);
            rest + distance * distance
        });
        Some(Prediction {
            error_s: libm::fabs(mean_y - slope * mean_x),
            // Two parameters were fitted.
            jitter_s: libm::sqrt(rest / (n - 2.0)),
            excess_delay_s: self.excess_delay_s(),
        })
    }

    fn excess_delay_s(&self) -> f64 {
        let least = self.samples().map(|stage| stage.delay).min().unwrap_or(Span::ZERO);
        let (count, sum) = self.samples().fold((0.0, 0.0), |(count, sum), stage| {
            let excess = (stage.delay - least).as_seconds_f64();
            (count + 1.0, sum + excess * excess)
        });
        libm::sqrt(sum / f64::max(count, 1.0))
    }
}

/// The spread as a span; for people.
pub(super) fn span_of_seconds(seconds: f64) -> Span {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float becomes the nearest integer, or the last one"
    )]
    let nanos = (seconds * 1e9) as i64;
    Span::from_nanos(nanos)
}
