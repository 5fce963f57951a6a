//! The judge knows true time, and holds every snapshot against it.

use maser_core::snapshot::{STRATUM_UNSYNCHRONISED, Snapshot};
use maser_core::time::{Instant, Span, Tai, Ticks};
use std::fmt;

/// From when on the statistics count, s.
pub const SETTLED_FROM: u64 = 10_000;

/// A snapshot's words round what is advertised, and a tick of the counter is the least there is: nobody sees less, s.
const RESOLUTION: f64 = 1e-9;

/// What the server could not know at once.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Excuse {
    /// From this second on, until so many seconds after the first sample that contradicts the served clock by more than
    /// its distance and five times the reference's jitter.
    UntilContradicted {
        /// The second of the cause.
        from: u64,
        /// The grace, s.
        grace: u64,
    },
    /// From this second on the error may be as wide as the upstreams' agreement (a spoofer), s.
    Agreement {
        /// The second of the cause.
        from: u64,
        /// The width, s.
        width: f64,
    },
}

/// A broken promise.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Violation {
    /// When, true seconds.
    pub at: f64,
    /// By how much the served clock was off, s.
    pub error: f64,
    /// What it advertised, s.
    pub distance: f64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:.3} s: off by {:.3e} s, advertised {:.3e} s", self.at, self.error, self.distance)
    }
}

/// What was seen of one run.
#[derive(Clone, Debug)]
pub struct Judge {
    excuse: Option<Excuse>,
    /// What a sample of the reference may be off by its noise, s: five times its jitter.
    noise: f64,
    contradicted: Option<u64>,
    /// Broken promises, and the first of them.
    pub violations: u64,
    /// See `violations`.
    pub first: Option<Violation>,
    /// The greatest error in parts of what was advertised, unless forgiven.
    pub worst_share: f64,
    /// Looks at a synchronised clock, and at any.
    pub synchronised: u64,
    /// See `synchronised`.
    pub looks: u64,
    looks_since_locked: u64,
    /// Stratum 1 was served with a root distance past the configured one.
    pub out_of_budget: u64,
    /// When the clock was first synchronised, true seconds.
    pub locked_at: Option<f64>,
    /// Pulses that were given a wrong second, and pulses that were given any.
    pub wrong_labels: u64,
    /// See `wrong_labels`.
    pub labels: u64,
    squares: f64,
    samples: u64,
    worst: f64,
    distances: Vec<f64>,
}

impl Judge {
    /// Of a run whose reference has this jitter, s.
    #[must_use]
    pub const fn new(excuse: Option<Excuse>, jitter: f64) -> Self {
        Self {
            excuse,
            noise: 5.0 * jitter,
            contradicted: None,
            violations: 0,
            first: None,
            worst_share: 0.0,
            synchronised: 0,
            looks: 0,
            looks_since_locked: 0,
            out_of_budget: 0,
            locked_at: None,
            wrong_labels: 0,
            labels: 0,
            squares: 0.0,
            samples: 0,
            worst: 0.0,
            distances: Vec::new(),
        }
    }

    /// Error and advertised distance of a snapshot at a moment; none without a time.
    #[must_use]
    pub fn error(snapshot: &Snapshot, ticks: Ticks, truth: Instant<Tai>) -> Option<(f64, f64)> {
        let line = snapshot.line?;
        let error = (line.at(ticks) - truth).as_seconds_f64();
        let delay = snapshot.root_delay.to_span().as_seconds_f64() / 2.0;
        Some((error, snapshot.root_dispersion_at(ticks).as_seconds_f64() + delay))
    }

    /// Looks at what is served at a moment.
    pub fn look(
        &mut self,
        snapshot: &Snapshot,
        ticks: Ticks,
        truth: Instant<Tai>,
        at: f64,
        distance_max: Span,
    ) {
        self.looks += 1;
        self.looks_since_locked += u64::from(self.locked_at.is_some());
        if !snapshot.synchronised_at(ticks) {
            return;
        }
        self.synchronised += 1;
        self.locked_at.get_or_insert(at);
        let Some((error, distance)) = Self::error(snapshot, ticks, truth) else { return };
        if snapshot.stratum < STRATUM_UNSYNCHRONISED && distance > distance_max.as_seconds_f64() + RESOLUTION
        {
            self.out_of_budget += 1;
        }
        if self.is_excused(at, error) {
            return;
        }
        self.worst_share = self.worst_share.max(error.abs() / (distance + RESOLUTION));
        if error.abs() > distance + RESOLUTION {
            self.violations += 1;
            self.first.get_or_insert(Violation { at, error, distance });
        }
    }

    fn is_excused(&self, at: f64, error: f64) -> bool {
        match self.excuse {
            None => false,
            Some(Excuse::UntilContradicted { from, grace }) => {
                let until = self.contradicted.map_or(f64::INFINITY, |second| crate::float(second + grace));
                // A pulse's noise may bring it before its second, and what comes to light in a second shows at its end.
                at >= crate::float(from) - 0.01 && at < until + 0.01
            }
            Some(Excuse::Agreement { from, width }) => at >= crate::float(from) && error.abs() <= width,
        }
    }

    /// A sample of the reference came that says `sample`, while `served` was advertised.
    pub fn sample(&mut self, served: &Snapshot, ticks: Ticks, sample: Instant<Tai>, second: u64) {
        let Some(Excuse::UntilContradicted { from, .. }) = self.excuse else { return };
        let Some((error, distance)) = Self::error(served, ticks, sample) else { return };
        if second >= from && error.abs() > distance + self.noise {
            self.contradicted.get_or_insert(second);
        }
    }

    /// The clock just after it took a sample: what the statistics are made of.
    pub fn corrected(&mut self, snapshot: &Snapshot, ticks: Ticks, truth: Instant<Tai>, second: u64) {
        if second < SETTLED_FROM {
            return;
        }
        let Some((error, distance)) = Self::error(snapshot, ticks, truth) else { return };
        self.squares += error * error;
        self.samples += 1;
        self.worst = self.worst.max(error.abs());
        self.distances.push(distance);
    }

    /// A pulse was given a second.
    pub fn label(&mut self, given: Instant<Tai>, truth: Instant<Tai>) {
        self.labels += 1;
        if (given - truth).abs() > Span::from_nanos(500_000_000) {
            self.wrong_labels += 1;
        }
    }

    /// Root of the mean square of the error, s, after [`SETTLED_FROM`].
    #[must_use]
    pub fn rms(&self) -> f64 {
        (self.squares / crate::float(self.samples.max(1))).sqrt()
    }

    /// The greatest error after [`SETTLED_FROM`], s.
    #[must_use]
    pub const fn worst(&self) -> f64 {
        self.worst
    }

    /// The share of the looks after it was first synchronised at which it was.
    #[must_use]
    pub fn share_synchronised(&self) -> f64 {
        crate::float(self.synchronised) / crate::float(self.looks_since_locked.max(1))
    }

    /// The median of the advertised distances after [`SETTLED_FROM`], s.
    #[must_use]
    pub fn median_distance(&self) -> f64 {
        let mut distances = self.distances.clone();
        distances.sort_by(f64::total_cmp);
        distances.get(distances.len() / 2).copied().unwrap_or(f64::NAN)
    }
}
