//! A kernel's clock over the world's counter, steered as a kernel lets it be: a frequency that takes effect at the next tick,
//! steps, and leap seconds that it was told of (kernel/time/ntp.c, `second_overflow`).

use crate::random::Random;
use maser_core::steer::{Frequency, KernelClock as KernelSays, LeapSecond, Order};
use maser_core::time::{ClockReading, Instant, Rate, Span, Ticks, Utc};

const DAY_S: i64 = 86_400;
/// Between two ticks, s: an order takes effect at the next.
const TICK_S: f64 = 4e-3;
/// `CLOCK_MONOTONIC` began so long after 1970, s.
const BOOTED_S: i64 = 1_700_000_000;

/// What readings of it are like.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reads {
    /// White noise, s.
    pub noise: f64,
    /// How often one is torn by a preemption, and how far that can lead it astray, s.
    pub torn: (f64, f64),
}

/// The clock.
#[derive(Debug)]
pub struct KernelClock {
    nominal: Rate,
    /// How much faster than the counter it runs by itself.
    natural: f64,
    at: Ticks,
    now: Instant<Utc>,
    /// All steps together.
    stepped: Span,
    frequency: Frequency,
    /// A frequency that is to take effect, and how many ticks of the counter until then.
    ordered: Option<(Frequency, i64)>,
    leap: Option<LeapSecond>,
    /// What the orders left, and what another daemon did.
    pub says: KernelSays,
    /// TAI − UTC as it was told and has counted itself.
    pub tai_offset_s: Option<i32>,
    /// Whether it was told that it is synchronised.
    pub synchronised: bool,
    random: Random,
    reads: Reads,
}

impl KernelClock {
    /// Off by `offset` from `utc` at `ticks`, and faster than the counter by `natural`.
    #[must_use]
    pub fn new(
        nominal: Rate,
        at: Ticks,
        utc: Instant<Utc>,
        (offset, natural): (f64, f64),
        reads: Reads,
        random: Random,
    ) -> Self {
        let frequency = Frequency::ZERO;
        Self {
            nominal,
            natural,
            at,
            now: utc + crate::span(offset),
            stepped: Span::ZERO,
            frequency,
            ordered: None,
            leap: None,
            says: KernelSays { frequency, offset: Span::ZERO, adjtime_left: Span::ZERO },
            tai_offset_s: None,
            synchronised: false,
            random,
            reads,
        }
    }

    /// What it says at `ticks`, which aren't before the last that were asked for.
    pub fn at(&mut self, ticks: Ticks) -> Instant<Utc> {
        if let Some((frequency, until)) = self.ordered.take() {
            let tick = self.at.offset(until);
            if ticks.since(tick) >= 0 {
                self.run(tick);
                self.frequency = frequency;
            } else {
                self.ordered = Some((frequency, tick.since(ticks)));
            }
        }
        self.run(ticks);
        self.now
    }

    fn run(&mut self, until: Ticks) {
        let counted = self.nominal.span_of(until.since(self.at));
        let rate = (1.0 + self.natural) * (1.0 + self.frequency.fraction()) - 1.0;
        let day = self.now.unix_seconds().div_euclid(DAY_S);
        let now = self.now + counted + crate::span(rate * counted.as_seconds_f64());
        let midnight = Instant::from_unix((day + 1) * DAY_S, 0);
        self.at = until;
        self.now = now;
        let by = match self.leap {
            Some(LeapSecond::Inserted) if now >= midnight => -1,
            Some(LeapSecond::Deleted) if now >= midnight - Span::from_seconds(1) => 1,
            Some(LeapSecond::Inserted | LeapSecond::Deleted) | None => return,
        };
        // Over, and not done again before it is told anew: `TIME_WAIT`.
        self.leap = None;
        self.step(Span::from_seconds(by));
        self.tai_offset_s = self.tai_offset_s.map(|offset| offset - i32::try_from(by).unwrap_or(0));
    }

    /// Moved by somebody.
    pub fn step(&mut self, by: Span) {
        self.now = self.now + by;
        self.stepped = self.stepped + by;
    }

    /// As the server reads it at `ticks`.
    pub fn read(&mut self, ticks: Ticks) -> ClockReading {
        let realtime = self.at(ticks);
        let Reads { noise, torn: (chance, astray) } = self.reads;
        let (by, error) = if self.random.chance(chance) {
            (self.random.between(-astray, astray), astray)
        } else {
            (noise * self.random.normal(), 3.0 * noise)
        };
        let error_ticks = self.nominal.ticks_in(crate::span(error)).unsigned_abs();
        let realtime_ns = realtime.unix_nanos();
        ClockReading {
            ticks: ticks.offset(self.nominal.ticks_in(crate::span(by))),
            error_ticks: u32::try_from(error_ticks).unwrap_or(u32::MAX),
            realtime_ns,
            monotonic_ns: realtime_ns - self.stepped.as_nanos() - BOOTED_S * 1_000_000_000,
            apart_ns: 60,
        }
    }

    /// Does what the order says, at the moment that was read last.
    pub fn obey(&mut self, order: &Order) {
        if let Some(step) = order.step {
            self.step(step);
        }
        let total = order.total();
        let until = self.nominal.ticks_in(crate::span(TICK_S * self.random.unit()));
        self.ordered = Some((total, until));
        self.says.frequency = total;
        if order.takes_over {
            self.says.offset = Span::ZERO;
            self.says.adjtime_left = Span::ZERO;
        }
        self.synchronised = order.word.synchronised;
        self.tai_offset_s = order.word.tai_offset_s.or(self.tai_offset_s);
        // In `TIME_WAIT` a flag that is left set does nothing.
        self.leap = order.word.leap;
    }
}
