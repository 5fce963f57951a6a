//! What a clock is made with: the operator's word, the machine's, and what was kept from the last run.

use crate::discipline::estimator::{Noise, Prior};
use crate::discipline::observation::SOURCES_MAX;
use crate::discipline::shown::Shown;
use crate::discipline::track::{SourceKind, SourceSettings};
use crate::time::{Instant, LeapTable, Rate, Span, Utc};

/// What is kept across restarts, against the raw counter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Saved {
    /// Reference time gained a second of the counter at its nominal rate.
    pub frequency: f64,
    /// Its standard deviation by now: whatever has passed since is in it.
    pub frequency_sd: f64,
    /// The noise as it was known.
    pub noise: Noise,
    /// What the oscillator has shown.
    pub shown: Shown,
}

impl Saved {
    pub(super) const fn prior(self) -> Prior {
        Prior { frequency: self.frequency, frequency_sd: self.frequency_sd, noise: self.noise }
    }
}

/// What a clock is made with.
#[derive(Clone, Debug)]
pub struct ClockSettings {
    /// The sources, from the first place on without a gap.
    pub sources: [Option<SourceSettings>; SOURCES_MAX],
    /// The counter's rate as calibrated.
    pub rate: Rate,
    /// log₂ of the reading precision in seconds, measured.
    pub precision: i8,
    /// Past this root distance replies say unsynchronised.
    pub root_distance_max: Span,
    /// So long without a source, and replies say unsynchronised whatever the distance.
    pub holdover_max: Span,
    /// So many sources have to agree.
    pub agree_min: usize,
    /// A date before this is wrong: the build date, less a margin.
    pub not_before: Instant<Utc>,
    /// The leap seconds known.
    pub leaps: LeapTable,
    /// Until when they are complete by leap-seconds.list's word.
    pub leaps_complete_until: Option<Instant<Utc>>,
    /// What was kept from the last run.
    pub saved: Option<Saved>,
}

impl ClockSettings {
    pub(super) fn count(&self) -> usize {
        self.sources.iter().take_while(|source| source.is_some()).count()
    }
}

/// Stands in the places that no source has.
pub(super) const ABSENT: SourceSettings = SourceSettings {
    kind: SourceKind::Network,
    prefer: false,
    correction: Span::ZERO,
    error: Span::ZERO,
    delay: None,
    named_by: 0,
    reference_id: [0; 4],
    stratum: 15,
};
