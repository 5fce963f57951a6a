//! What the oscillator has shown over long spans, for the time when no reference is there.
//!
//! While the clock is locked, forecasts run: at each of twelve spans, from a minute to a day and a half, what the
//! filter foretells is kept, with how far it expects to be off, and compared with the clock when the span is over.
//! In holdover the error may then be some times as large as the worst of its forecasts over such spans was: temperature
//! over a day, ageing, and what else is no random walk.

use super::estimator::Estimator;
use libm::{fabs, sqrt};

/// The shortest span, s; each is twice the one before.
const SPAN_MIN: f64 = 64.0;
const SPANS: usize = 12;

/// With each forecast the worst of a span so far counts this much less, if it isn't worse.
const KEPT: f64 = 0.97;

/// Forecasts so many are remembered as such; it matters only whether there was one.
const COUNT_MAX: f64 = 16.0;

/// An error may be so many times as large as the worst that was seen over such a span.
const BEYOND_WORST: f64 = 3.0;

/// Beyond the longest span that was ever over, what isn't a random walk grows against what is by the root of the span.
const SPANS_LOOKED_AT: usize = 2;

/// Nobody knows what a day does to an oscillator that wasn't watched for one: its frequency may depart by this.
const UNSEEN_DAY: f64 = 3e-8;
const DAY_SEEN_S: f64 = 65_536.0;

#[derive(Clone, Copy, PartialEq, Debug)]
struct Forecast {
    at: f64,
    phase: f64,
    frequency: f64,
    /// How far it is expected to be off when its span is over, squared.
    variance: f64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Span {
    running: Option<Forecast>,
    /// The most that forecasts were off, in what was expected of them, forgetting slowly.
    worst: f64,
    count: f64,
}

/// The record of one oscillator.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shown {
    spans: [Span; SPANS],
}

impl Shown {
    /// Nothing was shown yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { spans: [Span { running: None, worst: 0.0, count: 0.0 }; SPANS] }
    }

    /// As it was kept: the worst and the count of each span.
    #[must_use]
    pub fn kept(kept: &[(f64, f64); SPANS]) -> Self {
        let mut shown = Self::new();
        for (span, &(worst, count)) in shown.spans.iter_mut().zip(kept) {
            if worst.is_finite() && worst >= 0.0 && (0.0..=COUNT_MAX).contains(&count) {
                (span.worst, span.count) = (worst, count);
            }
        }
        shown
    }

    /// To be kept.
    #[must_use]
    pub fn to_keep(&self) -> [(f64, f64); SPANS] {
        self.spans.map(|span| (span.worst, span.count))
    }

    /// Notes the clock at `at` seconds of the base line, locked and just corrected.
    pub fn note(&mut self, at: f64, clock: &Estimator) {
        let mut length = SPAN_MIN;
        for span in &mut self.spans {
            let due = span.running.filter(|forecast| at - forecast.at >= length);
            // One that is overdue was over another span.
            if let Some(forecast) = due.filter(|forecast| at - forecast.at < 1.25 * length) {
                let passed = at - forecast.at;
                let now = clock.estimate(at);
                let error = now.phase - forecast.phase - forecast.frequency * passed;
                span.count = (span.count + 1.0).min(COUNT_MAX);
                span.worst = (KEPT * span.worst).max(fabs(error) / sqrt(forecast.variance));
            }
            if due.is_some() || span.running.is_none() {
                let (now, then) = (clock.estimate(at), clock.estimate(at + length));
                let variance = (then.phase_sd * then.phase_sd).max(f64::MIN_POSITIVE);
                span.running = Some(Forecast { at, phase: now.phase, frequency: now.frequency, variance });
            }
            length *= 2.0;
        }
    }

    /// Forecasts in flight are void: the reference was lost or contradicted.
    pub fn interrupt(&mut self) {
        for span in &mut self.spans {
            span.running = None;
        }
    }

    /// Moves the base line's origin: what was `shift` is now zero.
    pub fn shift(&mut self, shift: f64) {
        for forecast in self.spans.iter_mut().filter_map(|span| span.running.as_mut()) {
            forecast.phase -= shift;
        }
    }

    /// How far off a forecast over `ahead` seconds may be, in standard deviations of the filter, by what was shown.
    #[must_use]
    pub fn deviations(&self, ahead: f64) -> f64 {
        let mut length = SPAN_MIN / 2.0;
        let mut latest = [0.0; SPANS_LOOKED_AT];
        for span in &self.spans {
            if ahead <= length {
                break;
            }
            length *= 2.0;
            if span.count > 0.0 {
                latest.rotate_left(1);
                let beyond = sqrt((ahead / length).max(1.0));
                if let Some(last) = latest.last_mut() {
                    *last = span.worst * beyond;
                }
            }
        }
        BEYOND_WORST * latest.into_iter().fold(0.0, f64::max)
    }

    /// How far off a forecast over `ahead` seconds may be besides, s, while nothing was seen of a whole day.
    #[must_use]
    pub fn unseen(&self, ahead: f64) -> f64 {
        let mut length = SPAN_MIN;
        let mut seen = false;
        for span in &self.spans {
            seen |= length >= DAY_SEEN_S && span.count > 0.0;
            length *= 2.0;
        }
        if seen || ahead < SPAN_MIN { 0.0 } else { UNSEEN_DAY * ahead }
    }
}

impl Default for Shown {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that has followed a reference whose phase is `phase(t)` plus a little noise.
    fn followed(shown: &mut Shown, seconds: u32, phase: impl Fn(f64) -> f64) {
        let mut clock = Estimator::new(None);
        let mut noise = 1_u32;
        for second in 0..seconds {
            let t = f64::from(second);
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            clock.take(t, phase(t) + 1e-8 * (f64::from(noise) / f64::from(u32::MAX) - 0.5));
            if second > 100 {
                shown.note(t, &clock);
            }
        }
    }

    #[test]
    fn a_quiet_oscillator_shows_what_is_expected_of_it() {
        let mut shown = Shown::new();
        followed(&mut shown, 10_000, |t| 1e-6 * t);
        assert_eq!(shown.deviations(10.0), 0.0);
        for ahead in [100.0, 3_000.0] {
            assert!((1.0..15.0).contains(&shown.deviations(ahead)), "{ahead}: {}", shown.deviations(ahead));
        }
        assert!(shown.deviations(1e6) > shown.deviations(1e4), "what was never seen may be worse");
    }

    #[test]
    fn a_wave_of_temperature_shows_over_long_spans() {
        let mut shown = Shown::new();
        followed(&mut shown, 30_000, |t| 2e-5 * libm::sin(t / 1_000.0));
        assert!(shown.deviations(4_096.0) > 20.0, "{}", shown.deviations(4_096.0));
    }

    #[test]
    fn an_interruption_voids_what_is_in_flight_and_what_is_kept_comes_back() {
        let mut shown = Shown::new();
        followed(&mut shown, 1_000, |t| 1e-6 * t);
        shown.interrupt();
        assert_eq!(Shown::kept(&shown.to_keep()), shown);
        let nonsense = [(f64::NAN, 1e9); SPANS];
        assert_eq!(Shown::kept(&nonsense), Shown::new());
    }
}
