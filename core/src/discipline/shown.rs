//! What the oscillator has shown over long spans, for the time when no reference is there.
//!
//! While the clock is locked, forecasts run: at each of twelve spans, from a minute to a day and a half, what the
//! filter foretells is kept, with how far it expects to be off, and compared with the clock when the span is over.
//! In holdover the error is then taken for as many times larger than the filter says as its forecasts over such spans
//! have been: temperature over a day, ageing, and what else is no random walk.

use super::estimator::Estimator;
use libm::sqrt;

/// The shortest span, s; each is twice the one before.
const SPAN_MIN: f64 = 64.0;
const SPANS: usize = 12;

/// Forecasts over a span of which the mean is taken: the latest so many, about.
const REMEMBERED: f64 = 16.0;

/// The mean begins as if so many forecasts had been just as far off as was expected.
const EXPECTED: f64 = 4.0;

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
    /// Mean of the squares of how many times further off than expected forecasts were.
    mean_square: f64,
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
        Self { spans: [Span { running: None, mean_square: 1.0, count: EXPECTED }; SPANS] }
    }

    /// As it was kept: the mean squares and counts of each span.
    #[must_use]
    pub fn kept(kept: &[(f64, f64); SPANS]) -> Self {
        let mut shown = Self::new();
        for (span, &(mean_square, count)) in shown.spans.iter_mut().zip(kept) {
            if mean_square.is_finite() && mean_square >= 0.0 && (EXPECTED..=REMEMBERED).contains(&count) {
                (span.mean_square, span.count) = (mean_square, count);
            }
        }
        shown
    }

    /// To be kept.
    #[must_use]
    pub fn to_keep(&self) -> [(f64, f64); SPANS] {
        self.spans.map(|span| (span.mean_square, span.count))
    }

    /// Notes the clock at `at` seconds of the base line, locked and just corrected.
    pub fn note(&mut self, at: f64, clock: &Estimator) {
        let mut length = SPAN_MIN;
        for span in &mut self.spans {
            let due = span.running.filter(|forecast| at - forecast.at >= length);
            if let Some(forecast) = due {
                let passed = at - forecast.at;
                let now = clock.estimate(at);
                let error = now.phase - forecast.phase - forecast.frequency * passed;
                span.count = (span.count + 1.0).min(REMEMBERED);
                span.mean_square += (error * error / forecast.variance - span.mean_square) / span.count;
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

    /// How many times further off than the filter expects a forecast over `ahead` seconds is: 1 or more. Beyond the longest
    /// span that was ever over, what the longest ones have shown.
    #[must_use]
    pub fn factor(&self, ahead: f64) -> f64 {
        let mut length = SPAN_MIN / 2.0;
        let mut square: f64 = 1.0;
        for span in &self.spans {
            if ahead <= length {
                break;
            }
            if span.count > EXPECTED {
                square = span.mean_square;
            }
            length *= 2.0;
        }
        sqrt(square.max(1.0))
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
        for ahead in [10.0, 100.0, 3_000.0, 1e6] {
            assert!((1.0..2.0).contains(&shown.factor(ahead)), "{ahead}: {}", shown.factor(ahead));
        }
    }

    #[test]
    fn a_wave_of_temperature_shows_over_long_spans() {
        let mut shown = Shown::new();
        followed(&mut shown, 30_000, |t| 2e-5 * libm::sin(t / 1_000.0));
        assert!(shown.factor(4_096.0) > 2.0, "{}", shown.factor(4_096.0));
        assert_eq!(shown.factor(10.0), 1.0);
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
