//! How fast the kernel's clock runs by itself, measured against the counter.
//!
//! Against the counter and not against the served clock, whose small corrections would be taken for the kernel's: the two
//! mostly stand on one oscillator, so that the figure is a constant, and what the oscillator does is known from the served
//! line's own rate.

use super::{Frequency, span};
use crate::time::{ClockReading, Instant, Rate, Span, Ticks, Utc};

/// The least weight of a new measurement.
const GAIN_MIN: f64 = 1.0 / 32.0;
/// A reading is usable whose error is within so many times the usual one, and this much more, s.
const USUAL_ERRORS: f64 = 3.0;
const ERROR_ALWAYS_USABLE: f64 = 200e-9;
/// After so many measurements it is known four times as well as by one; most clocks are locked by then.
const MEASURED_WELL: u32 = 16;
/// A measurement has to be as sure as this: with poor readings it takes longer.
const UNCERTAINTY_MAX: f64 = 1e-6;
/// So fast the usual error grows while readings are worse, each time: on a machine that has become slow for good they are
/// taken again after a while.
const USUAL_ERROR_GROWTH: f64 = 1.1;

/// The last usable reading, and what the kernel was told to gain since then.
#[derive(Clone, Copy, Debug)]
struct Base {
    ticks: Ticks,
    realtime_ns: i64,
    /// How far the counter can be from the moment, s.
    error: f64,
    looked: Ticks,
    gained: f64,
}

/// The rate of the kernel's clock without any correction, less the counter's nominal one, as a fraction.
#[derive(Clone, Copy, Debug)]
pub(super) struct NaturalRate {
    nominal: Rate,
    excess: f64,
    measured: u32,
    usual_error: Option<f64>,
    base: Option<Base>,
}

impl NaturalRate {
    pub(super) const fn new(nominal: Rate) -> Self {
        Self { nominal, excess: 0.0, measured: 0, usual_error: None, base: None }
    }

    /// Until it is measured, `applied` is taken for right by which the clock runs as reference time does.
    pub(super) fn assume(&mut self, applied: Frequency, reference: Rate) {
        if self.measured == 0 {
            self.excess = as_float(reference) / as_float(self.nominal) / (1.0 + applied.fraction()) - 1.0;
        }
    }

    /// Whether the reading is as good as they usually are, so that it may be compared with others. To be asked once each.
    pub(super) fn is_usable(&mut self, reading: &ClockReading) -> bool {
        let error = self.error(reading);
        let usual = self.usual_error.map_or(error, |usual| error.min(usual * USUAL_ERROR_GROWTH));
        self.usual_error = Some(usual);
        error <= USUAL_ERRORS * usual + ERROR_ALWAYS_USABLE
    }

    /// How far the counter can be from the moment of the reading, s.
    pub(super) fn error(&self, reading: &ClockReading) -> f64 {
        self.nominal.span_of(reading.error_ticks.into()).as_seconds_f64()
    }

    /// The kernel has run with `applied` until `now`.
    pub(super) fn passed(&mut self, now: Ticks, applied: Frequency) {
        if let Some(base) = &mut self.base {
            let seconds = self.nominal.span_of(now.since(base.looked)).as_seconds_f64();
            base.gained += applied.fraction() * (1.0 + self.excess) * seconds;
            base.looked = now;
        }
    }

    /// Measures from an earlier usable reading to this one, and begins anew from here, if the two are far enough apart
    /// for how good they are.
    pub(super) fn measure(&mut self, reading: &ClockReading) {
        let (ticks, realtime_ns, error) = (reading.ticks, reading.realtime_ns, self.error(reading));
        if let Some(base) = self.base {
            let counted = self.nominal.span_of(ticks.since(base.ticks));
            let seconds = counted.as_seconds_f64();
            if error + base.error > UNCERTAINTY_MAX * seconds {
                return;
            }
            let passed = Span::from_nanos(realtime_ns.saturating_sub(base.realtime_ns));
            let found = ((passed - counted).as_seconds_f64() - base.gained) / seconds;
            self.measured = self.measured.saturating_add(1);
            let gain = (1.0 / f64::from(self.measured)).max(GAIN_MIN);
            self.excess += gain * (found - self.excess);
        }
        self.base = Some(Base { ticks, realtime_ns, error, looked: ticks, gained: 0.0 });
    }

    /// Where the kernel's clock stands by what is known of its rate, as of the last [`passed`](Self::passed).
    pub(super) fn predicted(&self) -> Option<Instant<Utc>> {
        let base = self.base?;
        let counted = self.nominal.span_of(base.looked.since(base.ticks));
        let gained = self.excess * counted.as_seconds_f64() + base.gained;
        Some(Instant::from_unix_nanos(base.realtime_ns) + counted + span(gained))
    }

    /// What the correction has to be for the clock to run as reference time does, which counts `reference` a tick.
    pub(super) fn correction(&self, reference: Rate) -> f64 {
        let nominal = as_float(self.nominal) * (1.0 + self.excess);
        as_float(reference) / nominal - 1.0
    }

    /// The same for a reference that gains `ratio` on the counter; nothing before it is measured well.
    pub(super) fn correction_by(&self, ratio: f64) -> Option<f64> {
        (self.measured >= MEASURED_WELL).then(|| ratio / (1.0 + self.excess) - 1.0)
    }

    /// What was measured is worth little: the next measurement counts in full.
    pub(super) const fn forget(&mut self) {
        self.measured = 0;
        self.base = None;
    }

    /// The last reading can't be compared with the next one: the clock was stepped, or ran nobody knows how.
    pub(super) const fn interrupt(&mut self) {
        self.base = None;
    }
}

/// As a float: relative errors of 2⁻⁵³ are none.
#[expect(clippy::cast_precision_loss, reason = "53 bits of a rate are what is asked")]
const fn as_float(rate: Rate) -> f64 {
    rate.bits() as f64
}
