//! The machine's own clock as the reference: kept by somebody else, read and never written.
//!
//! A reading pairs the counter with `CLOCK_REALTIME` and with what the kernel says of it. Each reading moves the
//! served clock's line onto it, so that the server follows whatever keeps the machine's clock within one period of
//! reading; between readings the line runs on at the rate of the last two. The offset between `CLOCK_REALTIME` and
//! `CLOCK_MONOTONIC`, which slewing leaves alone, tells a step from a slew.

use crate::snapshot::{Growth, STRATUM_UNSYNCHRONISED, Snapshot, VALIDITY};
use crate::time::{
    ClockReading, Instant, LeapTable, Line, NtpShort, NtpTimestamp, Rate, Span, Tai, TaiOf, Ticks, Utc,
    is_last_of_month,
};

/// `CLOCK_REALTIME − CLOCK_MONOTONIC` moves by more than this, and what the readings explain, only when somebody
/// steps the clock.
const STEP_MIN: Span = Span::from_nanos(20_000);

/// A reading whose bracket is wider was preempted: it isn't used while a better one may still come.
const BRACKET_ERROR_MAX: Span = Span::from_nanos(5_000);

/// How long the line may run on past unusable readings before one is taken as it is.
const PATIENCE: Span = Span::from_nanos(500_000_000);

/// The shortest time over which a rate is measured.
const RATE_BASELINE_MIN: Span = Span::from_nanos(100_000_000);

/// The kernel slews by 10 % at most (its tick), so a rate further from the nominal one isn't believed.
const RATE_DEVIATION_MAX_PPB: u64 = 110_000_000;

/// What a crystal may be off, and what the kernel's own frequency correction can reach: a rate further from the
/// nominal one is a slew that ends at some moment, and nobody says when.
const RATE_STEADY_MAX_PPB: u64 = 500_000;

/// How fast the clock may part from a line through it at the least: the kernel's own allowance, by which it raises
/// its bound. Whoever keeps the clock may change its frequency by as much at any moment.
const GROWTH_MIN_PPB: u64 = 500_000;

/// The kernel moves its clock for a leap second at a tick, a few milliseconds late; around it no reading is believed.
const LEAP_TICK_MAX: Span = Span::from_nanos(20_000_000);

/// A kernel that wasn't let run may be later still: for this long a reading that is off by the leap second itself is
/// taken for one from before it.
const LEAP_LATE_MAX: Span = Span::from_seconds(2);

/// The reference id of a clock that is its own reference, at stratum 2 and above (as chrony sends it).
pub const LOCAL_REFERENCE_ID: [u8; 4] = [127, 127, 1, 1];

/// The same at stratum 1: RFC 5905 figure 12's uncalibrated local clock.
const LOCAL_REFERENCE_ID_STRATUM_1: [u8; 4] = *b"LOCL";

/// What the kernel says of a coming leap second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PendingLeap {
    /// Nothing.
    None,
    /// A second is inserted at the end of this UTC day.
    Insert,
    /// It is being inserted: the last second of the day is counted again.
    Inserting,
    /// A second is deleted at the end of this UTC day.
    Delete,
}

/// The machine's clock and the counter, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineReading {
    /// The counter with the kernel's clocks.
    pub clock: ClockReading,
    /// Whether the kernel calls its clock synchronised.
    pub synchronised: bool,
    /// The kernel's bound on its clock's error.
    pub error_max: Span,
    /// The leap second that the kernel is armed for.
    pub leap: PendingLeap,
}

/// What the operator says of the machine's clock, and what was measured of its counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineSettings {
    /// The stratum of the machine's clock, 1 to 14; it is served as one above.
    pub stratum: u8,
    /// The reference id that is served while synchronised.
    pub reference_id: [u8; 4],
    /// The stratum to serve while the machine isn't synchronised; without one, replies say so.
    pub local_stratum: Option<u8>,
    /// log₂ of the reading precision in seconds, measured.
    pub precision: i8,
    /// The counter's rate as calibrated, for the time before two readings have measured it.
    pub nominal_rate: Rate,
    /// A clock that says an earlier date is wrong: the build date, less what time zones can explain.
    pub not_before: Instant<Utc>,
}

/// What the served clock stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The machine's clock, which the kernel calls synchronised.
    Synchronised,
    /// The machine's clock as it is, at the configured local stratum.
    Local,
    /// Nothing: the machine isn't synchronised and no local stratum is configured.
    Unsynchronised,
    /// Nothing: the machine's clock says a date before this program was built.
    BeforeBuild,
}

/// What a reading brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineUpdate {
    /// The snapshot to publish; none where the reading was preempted or too near to a leap second, and the last
    /// snapshot stands.
    pub snapshot: Option<Snapshot>,
    /// How far the machine's clock had moved from the served one since the last reading, other than by a step.
    pub offset: Option<Span>,
    /// `CLOCK_REALTIME` was stepped by this much, or jumped against the counter, and the served clock followed.
    pub step: Option<Span>,
    /// The served clock now stands on something else than before.
    pub standing: Option<Standing>,
}

impl MachineUpdate {
    const NOTHING: Self = Self { snapshot: None, offset: None, step: None, standing: None };
}

/// The reading that the served clock is anchored to, with what is needed to compare it with the next.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    line: Line,
    /// How far the line's origin can be from the machine's clock at its reference point.
    error: Span,
    /// TAI less `CLOCK_MONOTONIC`: constant but for steps.
    tai_less_monotonic: Span,
    /// How far that can be off.
    apart: Span,
    standing: Standing,
}

/// A line and how good it is.
struct Fit {
    line: Line,
    /// At the reference point.
    error: Span,
    growth: Growth,
    offset: Option<Span>,
    step: Option<Span>,
}

/// The served clock while the machine's clock is its reference.
#[derive(Clone, Debug)]
pub struct MachineClock {
    settings: MachineSettings,
    leaps: LeapTable,
    /// The leap second that the kernel is armed for: the day (since 1970) that begins after it, and its sign.
    armed: Option<(i64, i32)>,
    anchor: Option<Anchor>,
    steps: u32,
}

impl MachineClock {
    /// A clock that has read nothing, with the leap seconds known so far.
    #[must_use]
    pub const fn new(settings: MachineSettings, leaps: LeapTable) -> Self {
        Self { settings, leaps, armed: None, anchor: None, steps: 0 }
    }

    /// Takes a newer list of leap seconds. Refused where TAI - UTC would change for the present: the served TAI would be
    /// another.
    #[must_use]
    pub fn set_leaps(&mut self, leaps: LeapTable) -> bool {
        let known = self.with_leap(self.armed);
        let is_same = |anchor: Anchor| {
            let now = anchor.line.origin;
            leaps.offset_at(now) == known.offset_at(now)
        };
        let is_taken = self.anchor.is_none_or(is_same);
        if is_taken {
            self.leaps = leaps;
        }
        is_taken
    }

    /// Takes a reading and says what to publish and what is worth logging.
    pub fn update(&mut self, reading: &MachineReading) -> MachineUpdate {
        let clock = &reading.clock;
        let utc = Instant::<Utc>::from_unix_nanos(clock.realtime_ns);
        let predicted = self.anchor.map(|last| last.line.at(clock.ticks));
        if predicted.is_some_and(|predicted| self.is_near_leap(predicted)) {
            return MachineUpdate::NOTHING;
        }
        let leaps = self.leaps_with(reading.leap, utc, predicted);
        let meaning = leaps.tai(utc);
        match self.anchor.zip(predicted) {
            // A count that was skipped: the kernel is late to delete it.
            Some(_) if matches!(meaning, TaiOf::Never(_)) => MachineUpdate::NOTHING,
            None => {
                let fit = self.first_fit(reading, meaning);
                self.stand_on(reading, &leaps, &fit)
            }
            Some((last, predicted)) => {
                match self.next_fit(clock, &last, predicted, meaning.nearest(predicted)) {
                    Some(fit) if is_late_leap(&leaps, &fit) => self.in_doubt(reading, &leaps, &last),
                    Some(fit) => self.stand_on(reading, &leaps, &fit),
                    None => MachineUpdate::NOTHING,
                }
            }
        }
    }

    fn first_fit(&self, reading: &MachineReading, meaning: TaiOf) -> Fit {
        // Whoever starts within an inserted second is in the second of the two that count alike.
        let inserting = reading.leap == PendingLeap::Inserting;
        let origin = if inserting { meaning.last() } else { meaning.first() };
        let line = Line { reference: reading.clock.ticks, origin, rate: self.settings.nominal_rate };
        let error = line.rate.span_of(i64::from(reading.clock.error_ticks));
        Fit { line, error, growth: Growth::from_ppb(GROWTH_MIN_PPB), offset: None, step: None }
    }

    /// The line through a new reading; none where the reading was disturbed and a better one may still come.
    fn next_fit(
        &self,
        clock: &ClockReading,
        last: &Anchor,
        predicted: Instant<Tai>,
        tai: Instant<Tai>,
    ) -> Option<Fit> {
        let elapsed = predicted - last.line.origin;
        let offset = tai - predicted;
        let moved = tai_less_monotonic(tai, clock) - last.tai_less_monotonic;
        let stepped = moved.abs() > STEP_MIN + Span::from_nanos(i64::from(clock.apart_ns)) + last.apart;
        let error = last.line.rate.span_of(i64::from(clock.error_ticks));
        let disturbed = error > BRACKET_ERROR_MAX || clock.is_torn();
        if disturbed && !stepped && elapsed >= Span::ZERO && elapsed < PATIENCE {
            return None;
        }
        let jumped = offset.abs() > STEP_MIN + slewed_at_most(elapsed) + error + last.error;
        let step = if stepped {
            Some(moved)
        } else if jumped {
            Some(offset)
        } else {
            None
        };
        let rate = if step.is_some() { last.line.rate } else { self.rate_since(last.line, clock.ticks, tai) };
        let line = Line { reference: clock.ticks, origin: tai, rate };
        Some(Fit {
            line,
            // Where the line was off by the time of this reading it may be again by the next.
            error: if step.is_some() { error } else { error + offset.abs() },
            growth: self.growth(&line, last, error, elapsed),
            offset: step.is_none().then_some(offset),
            step,
        })
    }

    /// How fast the line may part from the machine's clock: by the kernel's allowance, by as much as its rate has
    /// just changed, by what the two readings leave open of the rate, and by all of a slew, which may end at any moment (an
    /// eighth more, since the age that it is multiplied with is counted at the slewed rate).
    fn growth(&self, line: &Line, last: &Anchor, error: Span, elapsed: Span) -> Growth {
        let changed = line.rate.ppb_from(last.line.rate).unsigned_abs();
        let deviation = line.rate.ppb_from(self.settings.nominal_rate).unsigned_abs();
        let slew = if deviation > RATE_STEADY_MAX_PPB { deviation + deviation / 8 } else { 0 };
        let elapsed_ns = elapsed.max(RATE_BASELINE_MIN).as_nanos().unsigned_abs();
        let open_ns = (error + last.error.min(BRACKET_ERROR_MAX)).as_nanos().unsigned_abs();
        let open = open_ns.saturating_mul(1_000_000_000) / elapsed_ns.max(1);
        let sum = changed.saturating_add(slew).saturating_add(open);
        Growth::from_ppb(sum.saturating_add(GROWTH_MIN_PPB))
    }

    /// The rate from the line's reference point to here, or the line's own where that can't be told.
    fn rate_since(&self, line: Line, ticks: Ticks, tai: Instant<Tai>) -> Rate {
        let span = tai - line.origin;
        if span < RATE_BASELINE_MIN {
            return line.rate;
        }
        Rate::measured(span, ticks.since(line.reference))
            .filter(|rate| rate.ppb_from(self.settings.nominal_rate).unsigned_abs() <= RATE_DEVIATION_MAX_PPB)
            .unwrap_or(line.rate)
    }

    /// Whether the kernel may be about to act on a leap second, or late in doing so.
    fn is_near_leap(&self, now: Instant<Tai>) -> bool {
        let expected = self.with_leap(self.armed);
        expected.known().last().is_some_and(|leap| (leap.at - now).abs() < LEAP_TICK_MAX)
    }

    /// The leap seconds known, with the one that the kernel is armed for if this is a day that can end with one.
    /// An armed one that has passed by the served clock becomes history.
    fn leaps_with(
        &mut self,
        pending: PendingLeap,
        utc: Instant<Utc>,
        now: Option<Instant<Tai>>,
    ) -> LeapTable {
        let day = utc.unix_seconds().div_euclid(86_400);
        let seconds = match pending {
            PendingLeap::None => 0,
            PendingLeap::Insert | PendingLeap::Inserting => 1,
            PendingLeap::Delete => -1,
        };
        let armed = (seconds != 0 && is_last_of_month(day)).then_some((day + 1, seconds));
        let expected = self.with_leap(self.armed);
        if expected.known().last().is_some_and(|leap| now.is_some_and(|now| now >= leap.at)) {
            self.leaps = expected;
        }
        // The kernel stays armed during the inserted second: the table refuses to add that one again.
        self.armed = armed;
        self.with_leap(armed)
    }

    fn with_leap(&self, leap: Option<(i64, i32)>) -> LeapTable {
        let mut leaps = self.leaps.clone();
        if let Some((day, seconds)) = leap {
            // Refused where it is known already or the table is full: then what is known stands.
            let _known = leaps.add(day, seconds);
        }
        leaps
    }

    fn standing(&self, reading: &MachineReading) -> Standing {
        let utc = Instant::<Utc>::from_unix_nanos(reading.clock.realtime_ns);
        if utc < self.settings.not_before {
            Standing::BeforeBuild
        } else if reading.synchronised {
            Standing::Synchronised
        } else if self.settings.local_stratum.is_some() {
            Standing::Local
        } else {
            Standing::Unsynchronised
        }
    }

    fn stand_on(&mut self, reading: &MachineReading, leaps: &LeapTable, fit: &Fit) -> MachineUpdate {
        let standing = self.standing(reading);
        let before = self.anchor.map(|anchor| anchor.standing);
        let line = fit.line;
        self.anchor = Some(Anchor {
            line,
            error: line.rate.span_of(i64::from(reading.clock.error_ticks)),
            tai_less_monotonic: tai_less_monotonic(line.origin, &reading.clock),
            apart: Span::from_nanos(i64::from(reading.clock.apart_ns)),
            standing,
        });
        self.steps = self.steps.wrapping_add(u32::from(fit.step.is_some()));
        MachineUpdate {
            snapshot: Some(self.snapshot(reading, standing, leaps, fit)),
            offset: fit.offset,
            step: fit.step,
            standing: Some(standing).filter(|now| before != Some(*now)),
        }
    }

    /// The line runs on, but for a second of doubt: either the kernel is late with a leap second, or it was called
    /// off and this was missed.
    fn in_doubt(&self, reading: &MachineReading, leaps: &LeapTable, last: &Anchor) -> MachineUpdate {
        let error = last.error + Span::from_seconds(1);
        let growth = Growth::from_ppb(GROWTH_MIN_PPB);
        let fit = Fit { line: last.line, error, growth, offset: None, step: None };
        MachineUpdate {
            snapshot: Some(self.snapshot(reading, self.standing(reading), leaps, &fit)),
            ..MachineUpdate::NOTHING
        }
    }

    fn snapshot(
        &self,
        reading: &MachineReading,
        standing: Standing,
        leaps: &LeapTable,
        fit: &Fit,
    ) -> Snapshot {
        let line = fit.line;
        let local_stratum = self.settings.local_stratum.unwrap_or(STRATUM_UNSYNCHRONISED);
        let (stratum, reference_id, error) = match standing {
            Standing::Synchronised => {
                (self.settings.stratum + 1, self.settings.reference_id, reading.error_max)
            }
            Standing::Local if local_stratum == 1 => (1, LOCAL_REFERENCE_ID_STRATUM_1, Span::ZERO),
            Standing::Local => (local_stratum, LOCAL_REFERENCE_ID, Span::ZERO),
            Standing::Unsynchronised | Standing::BeforeBuild => {
                (STRATUM_UNSYNCHRONISED, [0; 4], reading.error_max)
            }
        };
        let leap = leaps.window(line.origin);
        Snapshot {
            line: Some(line),
            valid_until: line.reference.offset(line.rate.ticks_in(VALIDITY)),
            leap,
            stratum,
            precision: self.settings.precision,
            reference_id,
            // The kernel's bound includes half of the round trip to whatever its clock follows.
            root_delay: NtpShort::from_bits(0),
            root_dispersion: error + fit.error,
            dispersion_growth: fit.growth,
            reference_time: NtpTimestamp::from_utc(leap.utc(line.origin)),
            generation: self.steps,
        }
    }
}

/// The furthest that two slewed clocks can part in `elapsed`: more is a jump of the counter or of the clock.
fn slewed_at_most(elapsed: Span) -> Span {
    let ppb = i128::from(2 * RATE_DEVIATION_MAX_PPB);
    Span::from_raw(elapsed.raw().max(0) / 1_000_000_000 * ppb)
}

/// Whether a reading is off by just the leap second that lies shortly behind it: the kernel hasn't acted yet.
fn is_late_leap(leaps: &LeapTable, fit: &Fit) -> bool {
    let Some(step) = fit.step else { return false };
    let now = fit.line.origin - step;
    let just_passed =
        leaps.known().last().is_some_and(|leap| now >= leap.at && now - leap.at < LEAP_LATE_MAX);
    just_passed && (step.abs() - Span::from_seconds(1)).abs() < LEAP_TICK_MAX
}

fn tai_less_monotonic(tai: Instant<Tai>, clock: &ClockReading) -> Span {
    (tai - Instant::from_unix(0, 0)) - Span::from_nanos(clock.monotonic_ns)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
