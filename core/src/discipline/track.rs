//! One source as it has been seen: its last samples on the base line, and what they are worth now.

use super::observation::{Exchange, Observation};
use crate::time::{Rate, Span, Ticks};
use libm::{fabs, sqrt};

/// What kind of thing a source is: what it can say, and how much it is worth beside others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceKind {
    /// Pulses without names: a PPS.
    Pulse,
    /// Names of seconds, imprecisely: NMEA, UBX.
    Receiver,
    /// Complete samples of a reference clock: gpsd, a NIC's clock.
    Sampled,
    /// An upstream server.
    Network,
    /// The machine's own clock, the last resort.
    Machine,
}

impl SourceKind {
    /// Whether it is a reference clock, which makes stratum 1.
    #[must_use]
    pub const fn is_reference(self) -> bool {
        match self {
            Self::Pulse | Self::Receiver | Self::Sampled => true,
            Self::Network | Self::Machine => false,
        }
    }

    /// The jitter that is assumed before any was seen, s.
    pub(super) const fn jitter(self) -> f64 {
        match self {
            Self::Pulse | Self::Sampled => 1e-6,
            Self::Receiver => 1e-2,
            Self::Network | Self::Machine => 1e-4,
        }
    }
}

/// What the operator says of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceSettings {
    /// What it is.
    pub kind: SourceKind,
    /// Whether it is followed before others that agree.
    pub prefer: bool,
    /// Added to the source's time: what its cable and its electronics delay.
    pub correction: Span,
    /// The part of its error that averaging doesn't remove.
    pub error: Span,
    /// From the second's beginning to a message's first octet, where the operator states it.
    pub delay: Option<Span>,
    /// Which sources may name its pulses' seconds, a bit each.
    pub named_by: u16,
    /// What replies name while it is followed; for a server the one that its address makes.
    pub reference_id: [u8; 4],
    /// The machine clock's own stratum; unused otherwise.
    pub stratum: u8,
}

/// A sample on the base line.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Point {
    /// Seconds of the base line.
    pub(super) at: f64,
    /// Reference time less the base line, s.
    pub(super) phase: f64,
    /// How far that can be off beyond noise, s.
    pub(super) error: f64,
}

/// How far a source can be off, s.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Distance {
    /// By itself.
    pub(super) own: f64,
    /// Because the counter's rate isn't known well enough to carry its samples on to now.
    pub(super) rate: f64,
}

/// So many samples are kept.
const KEPT: usize = 8;

/// A reference clock that is silent for so many of its periods is gone, and not before the least.
const PERIODS_SILENT: f64 = 4.0;
const SILENT_MIN_S: f64 = 3.5;

/// A server's clock filter keeps back up to eight samples in a row, and a burst's period isn't the one after it: twice the
/// longest poll is waited for in any case.
const SERVER_PERIODS_SILENT: f64 = 12.0;
const SERVER_SILENT_MIN_S: f64 = 2_200.0;

/// A reference clock that was away for so many of its periods begins anew.
const GAP_PERIODS: f64 = 16.0;

/// The jitter's own estimate: so many samples of a reference clock before it is used for anything.
const SAMPLES_MIN: u64 = 3;

/// One source.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) settings: SourceSettings,
    points: [Point; KEPT],
    /// Samples since the start, and the place of the next one.
    pub(super) taken: u64,
    /// The last eight periods, a bit each, as RFC 5905 keeps them.
    pub(super) reach: u8,
    /// When anything at all was heard last.
    pub(super) heard: Option<Ticks>,
    /// How far apart such words are, s.
    pub(super) period: f64,
    pub(super) exchange: Option<Exchange>,
    /// Whether it vouches for itself.
    pub(super) valid: bool,
}

impl Track {
    pub(super) const fn new(settings: SourceSettings) -> Self {
        Self {
            settings,
            points: [Point { at: 0.0, phase: 0.0, error: 0.0 }; KEPT],
            taken: 0,
            reach: 0,
            heard: None,
            period: 1.0,
            exchange: None,
            valid: true,
        }
    }

    /// Something was heard, whatever it is worth.
    pub(super) fn hear(&mut self, observation: &Observation, rate: Rate) {
        let at = observation.at();
        if let Some(before) = self.heard {
            let apart = rate.span_of(at.since(before)).as_seconds_f64();
            if apart < 0.25 {
                return;
            }
            let mut missed = libm::round(apart / self.period).clamp(1.0, 8.0);
            self.period += (apart.min(8.0 * self.period) - self.period) / 4.0;
            while missed >= 1.0 {
                self.reach <<= 1;
                missed -= 1.0;
            }
        }
        self.reach |= 1;
        self.heard = Some(at);
    }

    /// Seconds since something was heard.
    pub(super) fn silence(&self, now: Ticks, rate: Rate) -> Option<f64> {
        self.heard.map(|heard| rate.span_of(now.since(heard)).as_seconds_f64())
    }

    /// Whether it has spoken lately.
    pub(super) fn is_heard(&self, now: Ticks, rate: Rate) -> bool {
        let silent_max = match self.settings.kind {
            SourceKind::Pulse | SourceKind::Receiver | SourceKind::Sampled | SourceKind::Machine => {
                (PERIODS_SILENT * self.period).max(SILENT_MIN_S)
            }
            SourceKind::Network => (SERVER_PERIODS_SILENT * self.period).max(SERVER_SILENT_MIN_S),
        };
        self.silence(now, rate).is_some_and(|silence| silence < silent_max)
    }

    /// A sample.
    pub(super) fn push(&mut self, point: Point) {
        let gap = self.last().map_or(0.0, |last| point.at - last.at);
        // What a reference clock said before it was away is too old to be compared with what it says now.
        if self.settings.kind.is_reference() && gap > GAP_PERIODS * self.period.max(1.0) {
            self.taken = 0;
        }
        let place = usize::try_from(self.taken % KEPT as u64).unwrap_or(0);
        if let Some(kept) = self.points.get_mut(place) {
            *kept = point;
        }
        self.taken += 1;
    }

    fn kept(&self) -> &[Point] {
        let count = usize::try_from(self.taken).unwrap_or(KEPT).min(KEPT);
        self.points.get(..count).unwrap_or(&[])
    }

    pub(super) fn last(&self) -> Option<Point> {
        let place = usize::try_from(self.taken.checked_sub(1)? % KEPT as u64).ok()?;
        self.points.get(place).copied()
    }

    /// Whether there are samples enough to judge it by.
    pub(super) const fn is_known(&self) -> bool {
        match self.settings.kind {
            SourceKind::Pulse | SourceKind::Receiver | SourceKind::Sampled => self.taken >= SAMPLES_MIN,
            SourceKind::Network | SourceKind::Machine => self.taken >= 1,
        }
    }

    /// Its phase at `at` seconds of the base line, which runs fast against reference time by `frequency`: the median of
    /// what its last samples say, and their scatter (a standard deviation where they are normal).
    pub(super) fn phase(&self, at: f64, frequency: f64) -> (f64, f64) {
        if let SourceKind::Network | SourceKind::Machine = self.settings.kind {
            // The clock filter has chosen this sample among eight already.
            let last = self.last().unwrap_or_default();
            return (last.phase + frequency * (at - last.at), self.scatter(at, frequency, None));
        }
        let mut phases = [0.0; KEPT];
        for (phase, point) in phases.iter_mut().zip(self.kept()) {
            *phase = point.phase + frequency * (at - point.at);
        }
        let middle = median(phases.get_mut(..self.kept().len()).unwrap_or(&mut []));
        (middle, self.scatter(at, frequency, Some(middle)))
    }

    fn scatter(&self, at: f64, frequency: f64, middle: Option<f64>) -> f64 {
        let kept = self.kept();
        if kept.len() < 3 {
            return self.settings.kind.jitter();
        }
        let mut apart = [0.0; KEPT];
        let phases = kept.iter().map(|point| point.phase + frequency * (at - point.at));
        let count = crate::discipline::float(kept.len());
        let middle = middle.unwrap_or_else(|| phases.clone().sum::<f64>() / count);
        for (apart, phase) in apart.iter_mut().zip(phases) {
            *apart = fabs(phase - middle);
        }
        // The median absolute deviation of a normal distribution is 0.6745 of its standard deviation.
        let deviation = median(apart.get_mut(..kept.len()).unwrap_or(&mut [])) / 0.6745;
        deviation.max(1e-10)
    }

    /// How far its phase can be off at `at`, when the base line's rate is known within `frequency_error`.
    pub(super) fn distance(&self, at: f64, scatter: f64, frequency_error: f64) -> Distance {
        let last = self.last().unwrap_or_default();
        let age = (at - last.at).max(0.0);
        let seconds = |span: Span| span.as_seconds_f64();
        let own = match self.exchange {
            Some(exchange) => {
                let delay = exchange.delay + exchange.root_delay;
                seconds(delay) / 2.0 + seconds(exchange.dispersion + exchange.root_dispersion)
            }
            None => 0.0,
        };
        // The samples that the phase was made from needn't be equally good.
        let error = self.kept().iter().map(|point| point.error).fold(0.0, f64::max);
        // Half of the samples kept may be noise to one side.
        let noise = 4.0 * scatter / sqrt(crate::discipline::float(self.kept().len().max(1)));
        // The median is of samples that lie some periods back.
        let back = match self.settings.kind {
            SourceKind::Network | SourceKind::Machine => 0.0,
            SourceKind::Pulse | SourceKind::Receiver | SourceKind::Sampled => 4.0 * self.period,
        };
        Distance { own: own + error + noise, rate: (age + back) * frequency_error }
    }

    /// Moves the base line's origin: what was `shift` is now zero.
    pub(super) fn shift(&mut self, shift: f64) {
        for point in &mut self.points {
            point.phase -= shift;
        }
    }
}

/// The middle one; of an even number the upper of the two in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
