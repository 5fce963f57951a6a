//! How far the clock can be off, what of, and what may be served of it.

use super::followed::RATE_COVERAGE;
use super::numbers::{is_right, seconds_on, span_of};
use super::{Clock, Followed, LastSample};
use crate::discipline::estimator::Prior;
use crate::discipline::state::{Facts, State};
use crate::discipline::track::{SourceKind, Track};
use crate::snapshot::{Growth, STRATUM_UNSYNCHRONISED, Snapshot};
use crate::time::{LeapWindow, NtpShort, NtpTimestamp, Span, Ticks};
use libm::fabs;

/// [`VALIDITY`](crate::snapshot::VALIDITY) in seconds.
const VALIDITY_S: f64 = 8.0;

/// Of servers so many samples do: they say themselves how far off they can be.
const SERVED_SAMPLES_MIN: u64 = 2;

/// What stands for "nobody can say", s.
const UNKNOWN_S: f64 = 65_536.0;

/// What the root distance is made of, in seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Budget {
    /// The filter's own uncertainty, by the reference's jitter and the oscillator's wander, as a bound.
    pub filter_s: f64,
    /// What the oscillator has shown over such a span beyond that.
    pub shown_s: f64,
    /// The part of the source's error that no averaging removes: cable, stamps, cross-reads, asymmetry.
    pub source_s: f64,
}

impl Budget {
    /// All of it together.
    #[must_use]
    pub fn distance_s(&self) -> f64 {
        self.filter_s + self.shown_s + self.source_s
    }
}

impl Clock {
    /// How far the served clock can be off at `at` seconds of the base line.
    pub(super) fn budget(&self, at: f64) -> Budget {
        if !self.is_settled() {
            return Budget { filter_s: UNKNOWN_S, shown_s: 0.0, source_s: 0.0 };
        }
        let filter_s = if self.estimator.is_settled() { self.estimator.bound(at) } else { UNKNOWN_S };
        if let Some(agreed_s) = self.agreed_distance(at).filter(|_| self.fed_by == Followed::Network) {
            // However few samples there are: the servers that agree say where the truth is.
            if agreed_s < filter_s + self.source_error {
                return Budget { filter_s: 0.0, shown_s: 0.0, source_s: agreed_s };
            }
        }
        let ahead = at - self.estimator.last();
        let shown_s = self.shown.error_s(ahead, self.estimator.estimate(at).phase_sd);
        let shown_s = (shown_s - filter_s).max(0.0) + self.shown.unseen(ahead);
        Budget { filter_s, shown_s, source_s: self.source_error }
    }

    /// Whether it can be said how far off the clock can be: by its samples, or by what the servers agree on.
    const fn is_settled(&self) -> bool {
        match self.fed_by {
            Followed::Network => self.estimator.taken() >= SERVED_SAMPLES_MIN,
            Followed::Reference(_) | Followed::Nobody => self.estimator.is_settled(),
        }
    }

    /// How far the clock can be from the furthest moment that the servers allow.
    fn agreed_distance(&self, at: f64) -> Option<f64> {
        let combined = self.selection.combined?;
        let served = self.estimator.estimate(self.selected_at);
        let (rate, rate_error) = self.rate_known();
        let runs_away = rate_error + fabs(served.frequency - rate);
        let passed = (at - self.selected_at).max(0.0);
        Some(fabs(served.phase - combined.offset_s) + combined.distance_s + passed * runs_away)
    }

    /// Looks at who still speaks, steps the state, and says what may be served from `now` on.
    pub fn publish(&mut self, now: Ticks) -> Snapshot {
        self.see(now);
        self.reselect(now);
        let Some(base) = self.base else { return self.nothing() };
        let at = seconds_on(&base, now);
        let distance_s = self.budget(at).distance_s();
        let over = self.state == State::Holdover
            && self.settings.rate.span_of(now.since(self.since)) > self.settings.holdover_max;
        let facts = Facts {
            followed: self.followed != Followed::Nobody,
            settled: self.is_settled(),
            within: distance_s <= self.settings.root_distance_max.as_seconds_f64() && !over,
            contradicted: self.contradicted.is_some(),
        };
        self.step_state(now, facts);
        self.contradicted = None;
        self.note_oscillator(now);
        self.snapshot(now, at)
    }

    /// While the clock is locked, what is known of the oscillator is worth keeping.
    fn note_oscillator(&mut self, now: Ticks) {
        let Some((frequency, error)) = self.estimator.rate().filter(|_| self.state == State::Locked) else {
            return;
        };
        let prior = Prior { frequency, frequency_sd: error / RATE_COVERAGE, noise: self.estimator.noise() };
        self.oscillator = Some((prior, now));
    }

    fn snapshot(&mut self, now: Ticks, at: f64) -> Snapshot {
        let Some(line) = self.line(now) else { return self.nothing() };
        if self.state.is_synchronised() {
            self.leaps.decide(line.origin, self.naming(now), self.agreeing());
        }
        let leaps = self.leaps.table();
        let leap = leaps.window(line.origin);
        let synchronised = self.state.is_synchronised();
        let (distance, later) = (self.budget(at).distance_s(), self.budget(at + VALIDITY_S).distance_s());
        let growth = ((later - distance) / VALIDITY_S).max(0.0);
        let (stratum, reference_id, root_delay) = self.reference();
        let root_delay = NtpShort::from_span_up(root_delay);
        let half_delay = root_delay.to_span().as_seconds_f64() / 2.0;
        // The window is that of now; a sample may be from before a leap second.
        let reference_time = self
            .last_sample
            .map_or(NtpTimestamp::ZERO, |last| NtpTimestamp::from_utc(leaps.utc(line.at(last.at))));
        // The advertised distance must not pass the configured one before the snapshot ends.
        let left_s = self.settings.root_distance_max.as_seconds_f64() - distance;
        let holds_s = if growth > 0.0 { (left_s / growth).clamp(0.0, VALIDITY_S) } else { VALIDITY_S };
        Snapshot {
            line: Some(line),
            valid_until: now.offset(line.rate.ticks_in(span_of(holds_s))),
            leap,
            stratum: if synchronised { stratum } else { STRATUM_UNSYNCHRONISED },
            precision: self.settings.precision,
            reference_id: if synchronised { reference_id } else { [0; 4] },
            root_delay,
            root_dispersion: span_of((distance - half_delay).clamp(0.0, UNKNOWN_S)),
            dispersion_growth: growth_of(growth),
            reference_time,
            generation: self.generation,
        }
    }

    /// Stratum, reference id and round trip of what the clock is made from.
    pub(super) fn reference(&self) -> (u8, [u8; 4], Span) {
        match self.last_sample {
            Some(LastSample { origin, .. }) => (origin.stratum, origin.reference_id, origin.root_delay),
            None => (STRATUM_UNSYNCHRONISED, [0; 4], Span::ZERO),
        }
    }

    /// The receivers that name the seconds which are followed, a bit each.
    fn naming(&self, now: Ticks) -> u16 {
        let Followed::Reference(source) = self.fed_by else { return 0 };
        let named_by = self.tracks.get(source).map_or(0, |track| track.settings.named_by);
        self.bits(|other, track| {
            (named_by >> other & 1 != 0 || other == source)
                && track.valid
                && track.is_heard(now, self.settings.rate)
                && !self.is_falseticker(other)
        })
    }

    /// The servers that are right, followed or not, a bit each.
    fn agreeing(&self) -> u16 {
        self.bits(|source, track| {
            let verdict = self.selection.verdicts.get(source);
            track.settings.kind == SourceKind::Network && verdict.is_some_and(is_right)
        })
    }

    fn bits(&self, such: impl Fn(usize, &Track) -> bool) -> u16 {
        let tracks = self.tracks.iter().take(self.settings.count()).enumerate();
        tracks.filter(|(source, track)| such(*source, track)).fold(0, |bits, (source, _)| bits | 1 << source)
    }

    const fn nothing(&self) -> Snapshot {
        Snapshot {
            precision: self.settings.precision,
            leap: LeapWindow { offset_s: 0, next: None },
            ..Snapshot::UNKNOWN
        }
    }
}

/// Seconds a second as the snapshot has them, rounded up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn growth_of(share: f64) -> Growth {
    Growth::from_bits(libm::ceil(share * 4_294_967_296.0).clamp(0.0, 4_294_967_295.0) as u32)
}
