//! What the oscillator has shown over long spans, for the time when no reference is there.
//!
//! While the clock is locked, forecasts run: at each of twelve spans, from a minute to a day and a half, what the
//! filter foretells is kept, with how far it expects to be off, and compared with the clock when the span is over.
//! Several run at a time, one after the other begun, so that a wave of temperature is met at many of its phases.
//! In holdover the error may then be some times as large as the worst of its forecasts over such spans was: in what was
//! expected of it, as a random walk's is, and in seconds, as that of temperature over a day, which comes again whatever
//! the filter expects at the moment.

use super::estimator::Estimator;
use libm::{fabs, sqrt};

/// The shortest span, s; each is twice the one before.
const SPAN_MIN: f64 = 64.0;
const SPANS: usize = 12;

/// So many forecasts of a span are under way at a time.
const AT_A_TIME: usize = 8;
const STAGGER: f64 = 1.0 / 8.0;

/// With each forecast the worst of a span so far counts this much less, if it isn't worse: 0.97 a span.
const KEPT: f64 = 0.9962;

/// Forecasts so many are remembered as such; it matters only whether there was one.
const COUNT_MAX: f64 = 16.0;

/// An error may be so many times as large as the worst that was seen over such a span, in either measure.
const BEYOND_WORST: f64 = 2.0;

/// The longest spans that count.
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
    /// The next to be over first.
    running: [Option<Forecast>; AT_A_TIME],
    /// The most that forecasts were off, in what was expected of them and in seconds, forgetting slowly.
    worst: f64,
    worst_s: f64,
    count: f64,
}

/// What is kept of a span across restarts: the worst in what was expected, the worst in seconds, the count.
pub type KeptSpan = (f64, f64, f64);

impl Span {
    /// Judges the oldest forecast if its time is over.
    fn end(&mut self, at: f64, length: f64, clock: &Estimator) {
        let [oldest, ..] = &mut self.running;
        let Some(forecast) = oldest.filter(|forecast| at - forecast.at >= length) else { return };
        *oldest = None;
        self.running.rotate_left(1);
        let passed = at - forecast.at;
        // One that is overdue was over another span.
        if passed < 1.25 * length {
            let now = clock.estimate(at);
            let error = now.phase - forecast.phase - forecast.frequency * passed;
            self.count = (self.count + 1.0).min(COUNT_MAX);
            self.worst = (KEPT * self.worst).max(fabs(error) / sqrt(forecast.variance));
            self.worst_s = (KEPT * self.worst_s).max(fabs(error));
        }
    }

    /// Begins another if the last one has got far enough.
    fn begin(&mut self, at: f64, length: f64, clock: &Estimator) {
        let last = self.running.iter().flatten().last();
        if last.is_some_and(|last| at - last.at < STAGGER * length) {
            return;
        }
        if let Some(free) = self.running.iter_mut().find(|forecast| forecast.is_none()) {
            let (now, then) = (clock.estimate(at), clock.estimate(at + length));
            let variance = (then.phase_sd * then.phase_sd).max(f64::MIN_POSITIVE);
            *free = Some(Forecast { at, phase: now.phase, frequency: now.frequency, variance });
        }
    }
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
        Self { spans: [Span { running: [None; AT_A_TIME], worst: 0.0, worst_s: 0.0, count: 0.0 }; SPANS] }
    }

    /// As it was kept.
    #[must_use]
    pub fn kept(kept: &[KeptSpan; SPANS]) -> Self {
        let mut shown = Self::new();
        let is_size = |worst: f64| worst.is_finite() && worst >= 0.0;
        for (span, &(worst, worst_s, count)) in shown.spans.iter_mut().zip(kept) {
            if is_size(worst) && is_size(worst_s) && (0.0..=COUNT_MAX).contains(&count) {
                (span.worst, span.worst_s, span.count) = (worst, worst_s, count);
            }
        }
        shown
    }

    /// To be kept.
    #[must_use]
    pub fn to_keep(&self) -> [KeptSpan; SPANS] {
        self.spans.map(|span| (span.worst, span.worst_s, span.count))
    }

    /// Notes the clock at `at` seconds of the base line, locked and just corrected.
    pub fn note(&mut self, at: f64, clock: &Estimator) {
        let mut length = SPAN_MIN;
        for span in &mut self.spans {
            span.end(at, length, clock);
            span.begin(at, length, clock);
            length *= 2.0;
        }
    }

    /// Forecasts in flight are void: the reference was lost or contradicted.
    pub fn interrupt(&mut self) {
        for span in &mut self.spans {
            span.running = [None; AT_A_TIME];
        }
    }

    /// Moves the base line's origin: what was `shift` is now zero.
    pub fn shift(&mut self, shift: f64) {
        for forecast in self.spans.iter_mut().flat_map(|span| span.running.iter_mut().flatten()) {
            forecast.phase -= shift;
        }
    }

    /// How far off a forecast over `ahead` seconds may be by what was shown, s, if the filter expects `expected_s`.
    ///
    /// Beyond the longest span that was ever over, what is no random walk grows by the root of the span in what is
    /// expected, and with the span in seconds.
    #[must_use]
    pub fn error_s(&self, ahead: f64, expected_s: f64) -> f64 {
        let mut length = SPAN_MIN / 2.0;
        let mut latest = [0.0; SPANS_LOOKED_AT];
        for span in &self.spans {
            if ahead <= length {
                break;
            }
            length *= 2.0;
            if span.count > 0.0 {
                latest.rotate_left(1);
                let beyond = (ahead / length).max(1.0);
                if let Some(last) = latest.last_mut() {
                    *last = (span.worst * sqrt(beyond) * expected_s).max(span.worst_s * beyond);
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
        assert_eq!(shown.error_s(10.0, 1e-8), 0.0);
        for ahead in [100.0, 3_000.0] {
            let error_s = shown.error_s(ahead, 1e-6);
            assert!((1e-6..15e-6).contains(&error_s), "{ahead}: {error_s}");
        }
        assert!(shown.error_s(1e6, 1e-6) > shown.error_s(1e4, 1e-6), "what was never seen may be worse");
    }

    #[test]
    fn a_wave_of_temperature_shows_over_long_spans() {
        let mut shown = Shown::new();
        followed(&mut shown, 30_000, |t| 2e-5 * libm::sin(t / 1_000.0));
        // Whatever the filter expects: 20 µs either way.
        for expected_s in [0.0, 1e-6] {
            let error_s = shown.error_s(4_096.0, expected_s);
            assert!((40e-6..2e-3).contains(&error_s), "{error_s}");
        }
    }

    #[test]
    fn an_interruption_voids_what_is_in_flight_and_what_is_kept_comes_back() {
        let mut shown = Shown::new();
        followed(&mut shown, 1_000, |t| 1e-6 * t);
        shown.interrupt();
        assert_eq!(Shown::kept(&shown.to_keep()), shown);
        let nonsense = [(f64::NAN, -1.0, 1e9); SPANS];
        assert_eq!(Shown::kept(&nonsense), Shown::new());
    }
}
