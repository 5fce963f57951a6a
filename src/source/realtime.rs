//! Stamps in `CLOCK_REALTIME`, put on the counter.
//!
//! Pulses and gpsd's samples are stamped in the machine's clock, which another daemon may be steering. A stamp is as
//! old as that clock says at a reading that is taken after it, and its age is turned into ticks at the rate that the
//! clock has been running at since a reading before it: so a stamp lies on the line between two readings, and a steady
//! slew costs nothing. A step of the clock makes stamps refused until none from before it can come any more.

use maser_core::time::{ClockReading, Rate, Span, Stamp, StampClock, StampConverter, StampFault, Ticks};
use maser_sys::clock;
use maser_sys::counter::Counter;

/// The reading before is at least so long before, as long as a stamp is believed: so it lies before every stamp.
const BASE_NS_MIN: i64 = 1_000_000_000;

/// Until there is a reading that old, the rate is taken from one this old, or it is the counter's nominal one.
const FIRST_BASE_NS_MIN: i64 = 100_000_000;

/// The narrowest of so many readings is taken.
const READINGS: u32 = 3;

/// Where a stamp is on the counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Placed {
    /// The counter at the stamp's moment.
    pub at: Ticks,
    /// How far it can be off: what the readings leave open.
    pub error: Span,
}

/// Puts stamps on the counter. One per driver; it has to [`look`](Self::look) every second or so.
#[derive(Debug)]
pub(super) struct RealtimeStamps {
    counter: Counter,
    converter: StampConverter,
    /// The readings since the last step that the rate may be taken from, the older first.
    bases: [Option<ClockReading>; 2],
    latest: Option<ClockReading>,
}

impl RealtimeStamps {
    pub(super) fn new(counter: Counter) -> Self {
        let mut stamps = Self { counter, converter: StampConverter::new(), bases: [None; 2], latest: None };
        stamps.look();
        stamps
    }

    /// Reads the clocks; every stamp that has come by now can be placed then.
    pub(super) fn look(&mut self) {
        let readings = (0..READINGS).map(|_| clock::reading(&self.counter));
        if let Some(narrowest) = readings.min_by_key(|reading| reading.error_ticks) {
            self.take(narrowest);
        }
    }

    fn take(&mut self, reading: ClockReading) {
        if self.converter.begin_batch(reading) {
            self.bases = [None; 2];
        }
        match self.bases {
            [_, Some(newer)] if elapsed_ns(&newer, &reading) >= BASE_NS_MIN => {
                self.bases = [Some(newer), Some(reading)];
            }
            [_, None] => self.bases = [None, Some(reading)],
            [_, Some(_)] => {}
        }
        self.latest = Some(reading);
    }

    /// Where a stamp is that came before the last [`look`](Self::look).
    pub(super) fn place(&self, realtime_ns: i64) -> Result<Placed, StampFault> {
        let stamp = Stamp { clock: StampClock::Realtime, nanos: realtime_ns };
        let age = self.converter.age(Some(stamp))?;
        let reading = self.latest.ok_or(StampFault::UnknownClock)?;
        let base = self.bases[0].or(self.bases[1]);
        let base = base.filter(|base| elapsed_ns(base, &reading) >= FIRST_BASE_NS_MIN);
        let rate = base.and_then(|base| {
            let span = Span::from_nanos(elapsed_ns(&base, &reading));
            Rate::measured(span, reading.ticks.since(base.ticks))
        });
        let at = reading.ticks.offset(-rate.unwrap_or(self.counter.nominal_rate()).ticks_in(age));
        let error_ticks = reading.error_ticks.max(base.map_or(0, |base| base.error_ticks));
        Ok(Placed { at, error: self.counter.nominal_rate().span_of(error_ticks.into()) })
    }
}

/// By `CLOCK_REALTIME`: between two readings of which neither comes after a step of it.
const fn elapsed_ns(base: &ClockReading, reading: &ClockReading) -> i64 {
    reading.realtime_ns.saturating_sub(base.realtime_ns)
}

/// Why a stamp isn't used, for people.
pub(super) const fn refusal(fault: StampFault) -> &'static str {
    match fault {
        StampFault::Missing => "it has no stamp",
        StampFault::Future => "its stamp lies in the future",
        StampFault::Stale => "its stamp is more than a second old",
        StampFault::ClockStepped => "the machine's clock was stepped a moment ago",
        StampFault::UnknownClock => "its clock isn't known",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT_NS: i64 = 1_795_000_000_000_000_000;

    /// A reading of clocks that are slewed by `ppm` against the counter, and were stepped by `step_ns`.
    fn reading(ticks: u64, ppm: i64, step_ns: i64) -> ClockReading {
        let elapsed_ns = i64::try_from(ticks).unwrap();
        let slewed_ns = elapsed_ns + elapsed_ns / 1_000_000 * ppm;
        ClockReading {
            ticks: Ticks::from_bits(ticks),
            error_ticks: 30,
            realtime_ns: BOOT_NS + slewed_ns + step_ns,
            monotonic_ns: slewed_ns,
            apart_ns: 60,
        }
    }
    fn stamps(readings: impl IntoIterator<Item = ClockReading>) -> RealtimeStamps {
        let mut stamps = RealtimeStamps {
            counter: Counter::monotonic_raw(),
            converter: StampConverter::new(),
            bases: [None; 2],
            latest: None,
        };
        readings.into_iter().for_each(|reading| stamps.take(reading));
        stamps
    }

    #[test]
    fn a_steady_slew_costs_nothing() {
        for ppm in [-500, 0, 83_000] {
            let stamps = stamps((0..20).map(|look| reading(look * 250_000_000, ppm, 0)));
            let before = reading(4_000_000_000, ppm, 0);
            let placed = stamps.place(before.realtime_ns).unwrap();
            assert!(placed.at.since(before.ticks).abs() <= 1, "{ppm} ppm: {placed:?}");
            assert_eq!(placed.error, Span::from_nanos(30));
        }
    }

    #[test]
    fn a_first_stamp_is_placed_by_the_nominal_rate() {
        let placed = stamps([reading(5_000, 0, 0)]).place(BOOT_NS + 4_000).unwrap();
        assert_eq!(placed.at, Ticks::from_bits(4_000));
    }

    #[test]
    fn a_step_is_refused_and_then_forgotten() {
        const STEP_NS: i64 = 5_000_000;
        let quarter = |quarters: u64, step_ns| reading(quarters * 250_000_000, 0, step_ns);
        let mut stamps = stamps((0..5).map(|quarters| quarter(quarters, 0)));
        for quarters in 5..9 {
            stamps.take(quarter(quarters, STEP_NS));
            let stamp_ns = quarter(quarters, STEP_NS).realtime_ns - 1_000;
            assert_eq!(stamps.place(stamp_ns), Err(StampFault::ClockStepped));
        }
        stamps.take(quarter(9, STEP_NS));
        let before = quarter(8, STEP_NS);
        let placed = stamps.place(before.realtime_ns).unwrap();
        assert!(placed.at.since(before.ticks).abs() <= 1, "{placed:?}");
    }
}
