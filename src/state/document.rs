//! The document that is kept, and how much of it can still be right.

use maser_core::discipline::{KeptSpan, Noise, Saved, Shown};
use maser_core::time::{Instant, Rate, Utc};
use maser_sys::counter::{Counter, CounterKind};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Raised when an older program must not understand a document.
const VERSION: u32 = 2;

/// Older than this it isn't used, days.
const AGE_DAYS_MAX: f64 = 90.0;
const DAY_S: f64 = 86_400.0;

/// Two calibrations of one counter are never further apart, and of two counters seldom nearer.
const NOMINAL_APART_MAX: f64 = 100e-6;

/// No counter is further from its nominal frequency.
pub(super) const FREQUENCY_MAX: f64 = 500e-6;

/// A restart may have been a cold one, and the oscillator is at another temperature: its frequency is known no better.
const FREQUENCY_SD_MIN: f64 = 5e-8;

/// What is kept. All figures are in seconds and their powers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Document {
    /// Of this layout.
    pub version: u32,
    /// When it was written by the served clock, s since 1970.
    pub written_unix_s: i64,
    /// Which counter was measured.
    pub counter: String,
    /// Its frequency as it had been calibrated, which differs from start to start.
    pub nominal_hz: f64,
    /// Its frequency as the reference has shown it.
    pub ticks_per_true_s: f64,
    /// The standard deviation of that, as a share.
    pub frequency_sd: f64,
    /// The reference's white noise, standard deviation.
    pub jitter_s: f64,
    /// The oscillator's random walk of frequency.
    pub wander_per_sqrt_s: f64,
    /// From how many samples the noise is known.
    pub noise_samples: f64,
    /// How far off the oscillator was at the worst, by span: in what was foretold, in seconds, and from how many
    /// forecasts.
    pub shown: [KeptSpan; 12],
}

/// Why a document isn't used.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum Stale {
    /// Another program's.
    #[error("it is of version {0}, and this program's is {VERSION}")]
    Version(u32),
    /// Of another counter.
    #[error("it is about the counter {kept}, and this server runs on {present}")]
    Counter {
        /// The document's.
        kept: String,
        /// Ours.
        present: &'static str,
    },
    /// Of another machine's counter.
    #[error("the counter runs at {present_hz:.0} Hz, and it is about one of {kept_hz:.0} Hz")]
    Nominal {
        /// The document's.
        kept_hz: f64,
        /// Ours.
        present_hz: f64,
    },
    /// It says nothing of today any more.
    #[error("it is {0:.0} days old, and {AGE_DAYS_MAX:.0} is the most")]
    Old(f64),
    /// It holds what can't be.
    #[error("its {0} can't be right")]
    Nonsense(&'static str),
}

impl Document {
    /// For a counter, as of `written`.
    #[must_use]
    pub fn new(counter: &Counter, saved: &Saved, written: Instant<Utc>) -> Self {
        let nominal_hz = hertz(counter.nominal_rate());
        Self {
            version: VERSION,
            written_unix_s: written.unix_seconds(),
            counter: counter_name(counter.kind()).to_owned(),
            nominal_hz,
            // Reference time gains this share on the nominal tick: a true second has so many fewer of them.
            ticks_per_true_s: nominal_hz / (1.0 + saved.frequency),
            frequency_sd: saved.frequency_sd,
            jitter_s: saved.noise.jitter,
            wander_per_sqrt_s: saved.noise.wander,
            noise_samples: saved.noise.samples,
            shown: saved.shown.to_keep(),
        }
    }

    /// What of it holds for `counter` at `now` by the machine's clock.
    ///
    /// # Errors
    /// Why none of it does.
    pub fn saved(&self, counter: &Counter, now: Instant<Utc>) -> Result<Saved, Stale> {
        let present_hz = hertz(counter.nominal_rate());
        self.check(counter_name(counter.kind()), present_hz)?;
        let age_s = seconds(now.unix_seconds().saturating_sub(self.written_unix_s));
        if age_s > AGE_DAYS_MAX * DAY_S {
            return Err(Stale::Old(age_s / DAY_S));
        }
        // A machine without a battery clock wakes up in the past, and nobody knows how long it slept.
        // Some seconds are no wonder, since nobody steers that clock.
        let age_s = if age_s < -DAY_S { AGE_DAYS_MAX * DAY_S } else { age_s.max(0.0) };
        let strayed = self.wander_per_sqrt_s * age_s.sqrt();
        Ok(Saved {
            frequency: present_hz / self.ticks_per_true_s - 1.0,
            frequency_sd: self.frequency_sd.max(FREQUENCY_SD_MIN).max(strayed),
            noise: Noise {
                jitter: self.jitter_s,
                wander: self.wander_per_sqrt_s,
                samples: self.noise_samples,
            },
            shown: Shown::kept(&self.shown),
        })
    }

    fn check(&self, present: &'static str, present_hz: f64) -> Result<(), Stale> {
        self.check_by_itself()?;
        if self.counter != present {
            return Err(Stale::Counter { kept: self.counter.clone(), present });
        }
        let kept_hz = self.nominal_hz;
        if (present_hz / kept_hz - 1.0).abs() > NOMINAL_APART_MAX {
            return Err(Stale::Nominal { kept_hz, present_hz });
        }
        Ok(())
    }

    /// What can be said without the counter.
    pub(crate) fn check_by_itself(&self) -> Result<(), Stale> {
        if self.version != VERSION {
            return Err(Stale::Version(self.version));
        }
        if ![CounterKind::Tsc, CounterKind::MonotonicRaw].map(counter_name).contains(&self.counter.as_str()) {
            return Err(Stale::Nonsense("counter"));
        }
        let positive = |value: f64, most: f64| value > 0.0 && value <= most;
        for (name, right) in [
            ("frequency", positive(self.nominal_hz, 1e12) && positive(self.ticks_per_true_s, 1e12)),
            ("frequency", (self.nominal_hz / self.ticks_per_true_s - 1.0).abs() <= FREQUENCY_MAX),
            ("frequency's deviation", positive(self.frequency_sd, FREQUENCY_MAX)),
            ("jitter", positive(self.jitter_s, 1.0)),
            ("wander", positive(self.wander_per_sqrt_s, 1e-5)),
            ("count of samples", positive(self.noise_samples, 1e12)),
        ] {
            if !right {
                return Err(Stale::Nonsense(name));
            }
        }
        Ok(())
    }
}

/// The counter's name, in the status too.
pub(crate) const fn counter_name(kind: CounterKind) -> &'static str {
    match kind {
        CounterKind::Tsc => "tsc",
        CounterKind::MonotonicRaw => "monotonic_raw",
    }
}

/// Ticks in a second.
pub(crate) fn hertz(rate: Rate) -> f64 {
    // A thousand million ticks, so that a double has digits enough of the span.
    1e9 / rate.span_of(1_000_000_000).as_seconds_f64()
}

#[expect(clippy::cast_precision_loss, reason = "no clock has been written for longer than 2^53 s")]
const fn seconds(seconds: i64) -> f64 {
    seconds as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_000_000;

    fn document() -> (Counter, Document) {
        let counter = Counter::monotonic_raw();
        let noise = Noise { jitter: 1e-6, wander: 1e-10, samples: 500.0 };
        let saved = Saved { frequency: -37e-6, frequency_sd: 1e-9, noise, shown: Shown::new() };
        let document = Document::new(&counter, &saved, Instant::from_unix(NOW, 0));
        (counter, document)
    }

    #[test]
    fn what_was_written_comes_back_through_json() {
        let (counter, document) = document();
        let text = serde_json::to_string(&document).unwrap();
        let back: Document = serde_json::from_str(&text).unwrap();
        assert_eq!(back, document);
        let saved = back.saved(&counter, Instant::from_unix(NOW + 60, 0)).unwrap();
        assert!((saved.frequency + 37e-6).abs() < 1e-14, "{}", saved.frequency);
        assert_eq!((saved.frequency_sd, saved.noise.samples), (FREQUENCY_SD_MIN, 500.0));
        assert_eq!(saved.shown, Shown::new());
    }

    #[test]
    fn the_frequency_is_of_the_raw_counter_whatever_its_calibration() {
        let (counter, mut document) = document();
        // The last start took the counter for 20 ppm faster: the true frequency is the same.
        document.nominal_hz *= 1.0 + 20e-6;
        let saved = document.saved(&counter, Instant::from_unix(NOW, 0)).unwrap();
        assert!((saved.frequency + 37e-6).abs() < 1e-14, "{}", saved.frequency);
    }

    #[test]
    fn an_old_frequency_is_known_less_well() {
        let (counter, document) = document();
        let sd =
            |age_s: i64| document.saved(&counter, Instant::from_unix(NOW + age_s, 0)).unwrap().frequency_sd;
        assert_eq!(sd(10), FREQUENCY_SD_MIN);
        assert!((sd(4_000_000) - 2e-7).abs() < 1e-12, "{}", sd(4_000_000));
        // Nobody knows its age: as bad as at the greatest.
        assert!((sd(-200_000) - 1e-10 * (90.0 * DAY_S).sqrt()).abs() < 1e-12, "{}", sd(-200_000));
        assert_eq!(sd(-5), FREQUENCY_SD_MIN, "the machine's clock is some seconds behind");
    }

    #[test]
    fn what_cannot_be_right_is_refused_with_a_reason() {
        let (counter, good) = document();
        let refused = |change: fn(&mut Document), after_s: i64| {
            let mut document = good.clone();
            change(&mut document);
            document.saved(&counter, Instant::from_unix(NOW + after_s, 0)).unwrap_err()
        };
        assert_eq!(refused(|it| it.version = VERSION + 1, 0), Stale::Version(VERSION + 1));
        let other = refused(|it| it.counter = "tsc".to_owned(), 0);
        assert!(other.to_string().contains("tsc") && other.to_string().contains("monotonic_raw"), "{other}");
        let faster: fn(&mut Document) = |it| {
            it.nominal_hz *= 1.0 + 101e-6;
            it.ticks_per_true_s *= 1.0 + 101e-6;
        };
        assert!(matches!(refused(faster, 0), Stale::Nominal { .. }));
        assert!(matches!(refused(|_| {}, 91 * 86_400), Stale::Old(_)));
        assert_eq!(refused(|it| it.ticks_per_true_s = -1.0, 0), Stale::Nonsense("frequency"));
        assert_eq!(refused(|it| it.ticks_per_true_s *= 1.001, 0), Stale::Nonsense("frequency"));
        assert_eq!(refused(|it| it.jitter_s = f64::NAN, 0), Stale::Nonsense("jitter"));
        assert_eq!(refused(|it| it.counter = "x".repeat(90_000), 0), Stale::Nonsense("counter"));
        assert_eq!(refused(|it| it.wander_per_sqrt_s = 0.0, 0), Stale::Nonsense("wander"));
    }
}
