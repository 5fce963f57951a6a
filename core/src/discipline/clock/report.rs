//! What can be told of the clock and of each source, for people.

use super::numbers::seconds_on;
use super::{Budget, Clock, Followed};
use crate::discipline::estimator::{Estimate, Noise};
use crate::discipline::label::Need;
use crate::discipline::leap_keeper::LeapAuthority;
use crate::discipline::observation::Exchange;
use crate::discipline::select::{Nobody, Verdict};
use crate::discipline::shown::Shown;
use crate::discipline::state::State;
use crate::time::{Span, Ticks};
use libm::sqrt;

/// The clock as it stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tracking {
    /// What it stands on.
    pub state: State,
    /// Since when, s.
    pub since_s: f64,
    /// Whose samples move it now.
    pub followed: Followed,
    /// Whose samples it was made from.
    pub fed_by: Followed,
    /// Why nobody is followed, where that is so.
    pub nobody: Option<Nobody>,
    /// The last sample's distance from what was foretold, s.
    pub residual_s: f64,
    /// Root of the mean square of those, s.
    pub rms_residual_s: f64,
    /// Against the base line; none before the first sample.
    pub estimate: Option<Estimate>,
    /// What the samples tell of the noise.
    pub noise: Noise,
    /// What the root distance is made of.
    pub budget: Budget,
    /// The configured root distance, s.
    pub distance_max_s: f64,
    /// Served at this stratum while synchronised.
    pub stratum: u8,
    /// Round trip to the primary reference.
    pub root_delay: Span,
    /// How often evidence has contradicted the clock.
    pub contradictions: u32,
    /// Samples that were too far off to be noise.
    pub outliers: u64,
    /// Who says what the next leap second is.
    pub leap_authority: LeapAuthority,
}

/// A source as it stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SourceReport {
    /// What became of it in the selection.
    pub verdict: Verdict,
    /// What its pulses wait for.
    pub need: Option<Need>,
    /// The last eight periods, a bit each.
    pub reach: u8,
    /// Its distance from the served clock, s (positive: it is ahead); none before both are known.
    pub offset_s: Option<f64>,
    /// Its scatter, s.
    pub jitter_s: f64,
    /// How far it can be off, s.
    pub distance_s: f64,
    /// Since it was heard, s.
    pub silence_s: Option<f64>,
    /// Between its words, s.
    pub period_s: f64,
    /// What a server said of itself last.
    pub exchange: Option<Exchange>,
    /// GPS weeks added to its dates.
    pub weeks: i64,
    /// Samples taken.
    pub samples: u64,
}

impl Clock {
    /// What the oscillator has shown, to be kept.
    #[must_use]
    pub const fn shown(&self) -> &Shown {
        &self.shown
    }

    /// The clock as it stands at `now`.
    #[must_use]
    pub fn tracking(&self, now: Ticks) -> Tracking {
        let at = self.base.map_or(0.0, |base| seconds_on(&base, now));
        let (stratum, _, root_delay) = self.reference();
        Tracking {
            state: self.state,
            since_s: self.settings.rate.span_of(now.since(self.since)).as_seconds_f64(),
            followed: self.followed,
            fed_by: self.fed_by,
            nobody: self.selection.nobody,
            residual_s: self.last_sample.map_or(0.0, |last| last.residual),
            rms_residual_s: sqrt(self.rms_residual),
            estimate: self.estimator.has_begun().then(|| self.estimator.estimate(at)),
            noise: self.estimator.noise(),
            budget: self.budget(at),
            distance_max_s: self.settings.root_distance_max.as_seconds_f64(),
            stratum,
            root_delay,
            contradictions: self.contradictions,
            outliers: self.outliers,
            leap_authority: self.leaps.authority(),
        }
    }

    /// A source as it stands at `now`.
    #[must_use]
    pub fn source(&self, source: usize, now: Ticks) -> Option<SourceReport> {
        let track = self.tracks.get(source)?;
        let candidate = self.candidates.get(source)?;
        let at = self.base.map(|base| seconds_on(&base, now));
        let served = at.filter(|_| self.estimator.has_begun()).map(|at| self.estimator.estimate(at));
        let offset_s = at.zip(served).filter(|_| track.taken > 0);
        let offset_s = offset_s.map(|(at, served)| track.phase(at, served.frequency).0 - served.phase);
        Some(SourceReport {
            verdict: *self.selection.verdicts.get(source)?,
            need: *self.needs.get(source)?,
            reach: track.reach,
            offset_s,
            jitter_s: candidate.jitter_s,
            distance_s: candidate.distance_s,
            silence_s: track.silence(now, self.settings.rate),
            period_s: track.period,
            exchange: track.exchange,
            weeks: *self.weeks.get(source)?,
            samples: track.taken,
        })
    }
}
