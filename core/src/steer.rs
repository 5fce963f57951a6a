//! Steering the machine's clock to the served one: what the kernel is to be told, decided once a second.
//!
//! ```text
//! reading, snapshot, kernel → somebody else? → rate → offset → too large? → Order → (the shell obeys) → Steerer::obeyed
//! ```
//!
//! The kernel's clock gets the frequency at which it would run as reference time does, and beside it what removes the offset
//! within seconds. Nothing here sets a clock; whoever obeys an order says so, and what wasn't obeyed was never applied.

mod frequency;
mod rate;

pub use frequency::Frequency;

use crate::snapshot::Snapshot;
use crate::time::{ClockReading, Instant, LeapIndicator, Line, Rate, Span, Tai, Ticks, Utc};
use rate::NaturalRate;

/// An offset is removed with this time constant, s: four looks, so that one that comes late or not at all does no harm.
const TIME_CONSTANT_S: f64 = 4.0;
/// A greater offset is stepped: at the start at once, later after [`STEP_OUT`] (ntpd's STEPT).
pub const STEP_THRESHOLD: Span = Span::from_nanos(128_000_000);
/// A great offset has to last for so long (ntpd's WATCH).
pub const STEP_OUT: Span = Span::from_seconds(900);
/// A greater offset is never stepped, unless the operator allows it at the start (ntpd's PANICT).
pub const PANIC_THRESHOLD: Span = Span::from_seconds(1_000);
/// So long before and after a leap second nothing is judged.
const LEAP_QUIET: Span = Span::from_seconds(3);
/// The kernel is told of a leap second so long before it: its own day has to be the right one by then.
const LEAP_ARMED: Span = Span::from_seconds(43_200);
/// `CLOCK_REALTIME − CLOCK_MONOTONIC` moves by more than this, and what the readings explain, only when somebody steps.
const STEP_SEEN: Span = Span::from_nanos(20_000);
/// A frequency that is as near to the one that was kept is left alone until more is known: 1 ppm.
const KEPT_APART: u64 = 1 << 16;
/// By so much `CLOCK_BOOTTIME − CLOCK_MONOTONIC` moves only when the machine is suspended.
const SUSPEND_SEEN: Span = Span::from_nanos(10_000_000);
/// Somebody else has changed the clock so often: whoever that is does it again, and two that steer are worse than one.
pub const STRIKES_MAX: u32 = 3;
/// One of these is forgotten after so long: longer than anybody's polls are apart.
const STRIKE_FORGOTTEN: Span = Span::from_seconds(6 * 3_600);
/// The weight of the last offset's square in the mean.
const SQUARE_GAIN: f64 = 0.25;

/// What the kernel says of how its clock runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelClock {
    /// By `freq` and `tick` together.
    pub frequency: Frequency,
    /// What its phase-locked loop has still to slew.
    pub offset: Span,
    /// What an `adjtime(3)` has still to slew.
    pub adjtime_left: Span,
}

/// All that a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The counter with the kernel's clocks.
    pub clock: ClockReading,
    /// What is served.
    pub snapshot: Snapshot,
    /// What is served comes from the sources, or did until a moment ago: it isn't an operator's local stratum.
    pub is_synchronised: bool,
    /// The kernel's word, asked for after the reading.
    pub kernel: KernelClock,
    /// How long the machine has been suspended since it started, to a millisecond: `CLOCK_BOOTTIME − CLOCK_MONOTONIC`.
    pub suspended: Span,
}

/// What is done to the kernel's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// With this the clock runs as reference time does.
    pub frequency: Frequency,
    /// Added for now, to remove an offset; it must not outlive whoever looks after it. Both together are within
    /// [`Frequency::MAX`].
    pub phase: Frequency,
    /// The clock is moved by so much.
    pub step: Option<Span>,
    /// What the kernel is to say of its clock.
    pub word: KernelWord,
    /// Whatever others have left (a loop, a slew, a tick) is ended first.
    pub takes_over: bool,
}

impl Order {
    /// What the kernel is set to: both parts, never more than it takes.
    #[must_use]
    pub fn total(&self) -> Frequency {
        self.frequency.with(self.phase).unwrap_or(self.frequency)
    }

    /// The same without what moves the clock. What it says of the error grows in the kernel by itself, and TAI − UTC may
    /// have changed there since, in a leap second.
    #[must_use]
    pub const fn settled(&self) -> Self {
        let word = KernelWord { error: None, tai_offset_s: None, ..self.word };
        Self { phase: Frequency::ZERO, step: None, takes_over: false, word, ..*self }
    }
}

/// What the kernel is to say of its clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelWord {
    /// Whether it is synchronised; then the kernel also sets the hardware clock, every eleven minutes.
    pub synchronised: bool,
    /// How far off it can be, and how far it probably is; none to leave the kernel's own count, which grows.
    pub error: Option<(Span, Span)>,
    /// The leap second that ends this UTC day.
    pub leap: Option<LeapSecond>,
    /// TAI − UTC; none where it isn't known.
    pub tai_offset_s: Option<i32>,
}

/// A leap second at the end of the UTC day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeapSecond {
    /// The day has 86,401 seconds.
    Inserted,
    /// The day has 86,399 seconds.
    Deleted,
}

/// How the machine's clock is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Not yet: the served clock hasn't been synchronised.
    Waiting,
    /// It follows the served clock.
    Steered,
    /// It runs on at the frequency that was learnt: the served clock isn't synchronised.
    Held,
    /// It runs on at the frequency that was learnt: the offset is too large to be slewed, and hasn't lasted yet.
    TooLarge,
    /// It is left alone: the offset is so large that a person has to look.
    Panic,
    /// It is left alone until the server is started again: somebody else steers it.
    Contested,
}

/// What somebody else did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tampering {
    /// Stepped the clock by so much.
    Stepped(Span),
    /// Changed its frequency.
    Frequency(Frequency),
    /// Had the kernel's loop slew so much (ntpd, systemd-timesyncd).
    Slew(Span),
    /// Had the kernel slew so much in the old way (`adjtime`, as OpenNTPD).
    Adjtime(Span),
}

/// What came of a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// What to do; none to leave everything as it is.
    pub order: Option<Order>,
    /// The machine's clock less the served one, where both are known.
    pub offset: Option<Span>,
    /// What somebody else did since the last look.
    pub tampering: Option<Tampering>,
}

/// What the operator lets the steering do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SteerSettings {
    /// The counter's rate as calibrated.
    pub nominal_rate: Rate,
    /// The first step may be larger than [`PANIC_THRESHOLD`].
    pub first_step_unlimited: bool,
    /// What reference time gained a second of the counter at its nominal rate, as it was kept from the run before.
    pub kept: Option<f64>,
    /// A steerer before this one has had the clock within [`STEP_THRESHOLD`]: no step is the first any more.
    pub has_begun: bool,
    /// A steerer before this one has left the clock to somebody else.
    pub is_contested: bool,
}

/// What the kernel was left with.
#[derive(Clone, Copy, Debug)]
struct Left {
    order: Order,
    /// `CLOCK_REALTIME − CLOCK_MONOTONIC` at the reading that the order was made from, and how well that is known; none
    /// where the order moved it, or a leap second may have.
    apart: Option<(Span, Span)>,
}

/// Steers by one look a second.
#[derive(Clone, Debug)]
pub struct Steerer {
    settings: SteerSettings,
    rate: NaturalRate,
    left: Option<Left>,
    standing: Standing,
    /// The offset has been small enough once, or was stepped.
    has_begun: bool,
    large_since: Option<Ticks>,
    suspended: Option<Span>,
    /// Mean square of the offsets, s².
    square: f64,
    strikes: u32,
    struck: Ticks,
}

impl Steerer {
    /// One that has seen nothing.
    #[must_use]
    pub const fn new(settings: SteerSettings) -> Self {
        Self {
            settings,
            rate: NaturalRate::new(settings.nominal_rate),
            left: None,
            standing: if settings.is_contested { Standing::Contested } else { Standing::Waiting },
            has_begun: settings.has_begun,
            large_since: None,
            suspended: None,
            square: 0.0,
            strikes: 0,
            struck: Ticks::from_bits(0),
        }
    }

    /// How the clock is kept, as of the last look.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// The frequency that the kernel was left with, without what removes an offset.
    #[must_use]
    pub fn frequency(&self) -> Option<Frequency> {
        self.left.map(|left| left.order.frequency)
    }

    /// Decides what is to be done.
    pub fn look(&mut self, look: &Look) -> Decision {
        let nothing = Decision { order: None, offset: None, tampering: None };
        if self.was_suspended(look) {
            self.begin_apart();
        }
        if self.standing == Standing::Contested || self.is_near_leap(look) {
            return nothing;
        }
        let now = look.clock.ticks;
        let tampering = self.tampering(look);
        if tampering.is_some() {
            self.rate.interrupt();
            if self.strike(now) >= STRIKES_MAX {
                self.standing = Standing::Contested;
                return Decision { tampering, ..nothing };
            }
        }
        let is_usable = self.measure(look);
        let is_synchronised = look.is_synchronised && look.snapshot.synchronised_at(now);
        let line = look.snapshot.line.filter(|_| is_synchronised);
        let Some(line) = line else {
            return Decision { order: self.hold(Standing::Held, look, tampering), tampering, ..nothing };
        };
        let Some(realtime) = self.realtime(look, is_usable) else { return Decision { tampering, ..nothing } };
        self.rate.assume(self.left.map_or(look.kernel.frequency, |left| left.order.frequency), line.rate);
        let offset = realtime - look.snapshot.leap.utc(line.at(now));
        let order = self.correct(look, line, offset, is_usable, tampering);
        Decision { order, offset: Some(offset), tampering }
    }

    /// The order of this look was obeyed.
    pub fn obeyed(&mut self, order: &Order, look: &Look) {
        let apart = order.step.is_none().then(|| apart(&look.clock));
        if self.left.replace(Left { order: *order, apart }).is_none() {
            // Others may have slewed it until now.
            self.rate.forget();
        }
        if order.step.is_some() {
            self.rate.interrupt();
            self.has_begun = true;
            self.large_since = None;
        }
    }

    /// The order of this look was refused: a clock that isn't stepped is one that nobody vouches for. What to do instead.
    pub fn refused(&mut self, order: &Order) -> Option<Order> {
        order.step?;
        self.standing = Standing::TooLarge;
        let word = KernelWord { synchronised: false, error: None, leap: None, ..order.word };
        Some(Order { phase: Frequency::ZERO, step: None, word, ..*order })
    }

    /// Around a leap second the kernel steps by itself, at a tick of its own.
    fn is_near_leap(&mut self, look: &Look) -> bool {
        let Some((line, leap)) = look.snapshot.line.zip(look.snapshot.leap.next) else { return false };
        let after = line.at(look.clock.ticks) - leap.at;
        // An inserted second lies after the moment at which the new offset holds.
        let is_near = after > -LEAP_QUIET && after < LEAP_QUIET + Span::from_seconds(1);
        if is_near {
            self.begin_apart();
        }
        is_near
    }

    /// While a machine is suspended the kernel's clock goes on by another than the counter, and `CLOCK_MONOTONIC` stands still.
    fn was_suspended(&mut self, look: &Look) -> bool {
        let before = self.suspended.replace(look.suspended);
        before.is_some_and(|before| (look.suspended - before).abs() > SUSPEND_SEEN)
    }

    /// Nothing is compared with what was read before.
    const fn begin_apart(&mut self) {
        self.rate.interrupt();
        if let Some(left) = &mut self.left {
            left.apart = None;
        }
    }

    /// What isn't as it was left.
    fn tampering(&mut self, look: &Look) -> Option<Tampering> {
        let left = self.left.as_mut()?;
        let kernel = &look.kernel;
        let now = apart(&look.clock);
        let before = left.apart.replace(now);
        if let Some(before) = before
            && (now.0 - before.0).abs() > now.1 + before.1 + STEP_SEEN
        {
            return Some(Tampering::Stepped(now.0 - before.0));
        }
        if kernel.frequency != left.order.total() {
            if kernel.frequency != left.order.frequency {
                return Some(Tampering::Frequency(kernel.frequency));
            }
            // The keeper has ended a correction that nobody looked after for too long.
            self.rate.interrupt();
        }
        if kernel.offset != Span::ZERO {
            return Some(Tampering::Slew(kernel.offset));
        }
        (kernel.adjtime_left != Span::ZERO).then_some(Tampering::Adjtime(kernel.adjtime_left))
    }

    fn strike(&mut self, now: Ticks) -> u32 {
        let forgotten = self.passed(self.struck, now) >= STRIKE_FORGOTTEN;
        self.strikes = if forgotten { 1 } else { self.strikes + 1 };
        self.struck = now;
        self.strikes
    }

    /// Learns the rate from the reading, if it is good enough to be used.
    fn measure(&mut self, look: &Look) -> bool {
        let applied = self.left.map_or(look.kernel.frequency, |left| left.order.total());
        self.rate.passed(look.clock.ticks, applied);
        if look.kernel.offset != Span::ZERO || look.kernel.adjtime_left != Span::ZERO {
            self.rate.interrupt();
        }
        let is_usable = self.rate.is_usable(&look.clock);
        if is_usable {
            self.rate.measure(&look.clock);
        }
        is_usable
    }

    /// Where the machine's clock stands: as read, or where a preemption came between, as known from before.
    fn realtime(&self, look: &Look, is_usable: bool) -> Option<Instant<Utc>> {
        let read = Instant::from_unix_nanos(look.clock.realtime_ns);
        if is_usable { Some(read) } else { self.rate.predicted() }
    }

    fn correct(
        &mut self,
        look: &Look,
        line: Line,
        offset: Span,
        is_usable: bool,
        tampering: Option<Tampering>,
    ) -> Option<Order> {
        let now = look.clock.ticks;
        let order = self.order(look, line, offset, tampering.is_some());
        if offset.abs() <= STEP_THRESHOLD {
            self.has_begun = true;
            self.large_since = None;
            self.standing = Standing::Steered;
            return Some(order);
        }
        let is_first = !self.has_begun;
        let is_clear = is_first || is_missed_leap(&look.snapshot, line.at(now), offset);
        if offset.abs() > PANIC_THRESHOLD && !(is_first && self.settings.first_step_unlimited) {
            self.large_since = None;
            return self.hold(Standing::Panic, look, tampering);
        }
        let since = *self.large_since.get_or_insert(now);
        // Moved by what was read, not by what is believed.
        if !is_usable || !(is_clear || self.passed(since, now) >= STEP_OUT) {
            return self.hold(Standing::TooLarge, look, tampering);
        }
        self.standing = Standing::Steered;
        self.square = 0.0;
        // Until it has been stepped, the kernel's day may be another.
        let word = KernelWord { leap: None, ..self.word(look, line, Span::ZERO) };
        Some(Order { phase: Frequency::ZERO, step: Some(-offset), word, ..order })
    }

    /// Frequency and phase for a small offset.
    fn order(&mut self, look: &Look, line: Line, offset: Span, again: bool) -> Order {
        let correction = self.rate.correction(line.rate);
        let frequency = Frequency::nearest(correction);
        let off = offset.as_seconds_f64();
        let total = Frequency::nearest(correction - off / TIME_CONSTANT_S);
        let phase = Frequency::from_units(total.units() - frequency.units());
        self.square += SQUARE_GAIN * (off * off - self.square);
        let takes_over = self.left.is_none() || again;
        Order { frequency, phase, step: None, word: self.word(look, line, offset), takes_over }
    }

    /// The frequency that was left before, and that nobody vouches for the clock; a clock that isn't ours is left alone.
    fn hold(&mut self, standing: Standing, look: &Look, tampering: Option<Tampering>) -> Option<Order> {
        let is_waiting = standing == Standing::Held && !self.has_begun;
        self.standing = if is_waiting { Standing::Waiting } else { standing };
        let Some(left) = self.left else {
            return self.as_kept(look).filter(|_| is_waiting);
        };
        let tai = look.snapshot.line.map(|line| line.at(look.clock.ticks));
        // By a clock that is that far off, the day would end at a wrong moment.
        let leap =
            tai.filter(|_| standing == Standing::Held).and_then(|tai| leap_second(&look.snapshot, tai));
        let tai_offset_s = tai.map(|tai| look.snapshot.leap.offset_at(tai));
        let word = KernelWord { synchronised: false, error: None, leap, tai_offset_s };
        let frequency = left.order.frequency;
        let takes_over = tampering.is_some();
        Some(Order { frequency, phase: Frequency::ZERO, step: None, word, takes_over })
    }

    /// Until the served clock is synchronised: a kernel that was started anew gets the frequency of the run before.
    fn as_kept(&self, look: &Look) -> Option<Order> {
        let frequency = Frequency::nearest(self.rate.correction_by(1.0 + self.settings.kept?)?);
        if frequency.units().abs_diff(look.kernel.frequency.units()) < KEPT_APART {
            return None;
        }
        let word = KernelWord { synchronised: false, error: None, leap: None, tai_offset_s: None };
        Some(Order { frequency, phase: Frequency::ZERO, step: None, word, takes_over: true })
    }

    fn word(&self, look: &Look, line: Line, offset: Span) -> KernelWord {
        let (snapshot, now) = (&look.snapshot, look.clock.ticks);
        let tai = line.at(now);
        let delay = snapshot.root_delay.to_span();
        let distance = snapshot.root_dispersion_at(now) + Span::from_raw(delay.raw() / 2);
        let reading = span(self.rate.error(&look.clock));
        let probable = span(libm::sqrt(self.square));
        KernelWord {
            synchronised: true,
            error: Some((distance + offset.abs() + reading, probable)),
            leap: leap_second(snapshot, tai),
            tai_offset_s: Some(snapshot.leap.offset_at(tai)),
        }
    }

    fn passed(&self, since: Ticks, now: Ticks) -> Span {
        self.settings.nominal_rate.span_of(now.since(since))
    }
}

/// The leap second that the kernel is to be armed for.
fn leap_second(snapshot: &Snapshot, tai: Instant<Tai>) -> Option<LeapSecond> {
    let coming = snapshot.leap.coming(tai)?;
    match snapshot.leap.indicator(tai) {
        LeapIndicator::Insert if coming.at - tai <= LEAP_ARMED => Some(LeapSecond::Inserted),
        LeapIndicator::Delete if coming.at - tai <= LEAP_ARMED => Some(LeapSecond::Deleted),
        LeapIndicator::None
        | LeapIndicator::Insert
        | LeapIndicator::Delete
        | LeapIndicator::Unsynchronised => None,
    }
}

/// Whether an offset is the leap second of a moment ago, which the kernel has missed: then there is nothing to wait for.
fn is_missed_leap(snapshot: &Snapshot, tai: Instant<Tai>, offset: Span) -> bool {
    let Some(leap) = snapshot.leap.next else { return false };
    let missed = Span::from_seconds(i64::from(leap.offset_after_s) - i64::from(snapshot.leap.offset_s));
    let since = tai - leap.at;
    since >= Span::ZERO && since < STEP_OUT && (offset - missed).abs() <= STEP_THRESHOLD
}

/// `CLOCK_REALTIME − CLOCK_MONOTONIC`, and how well that is known.
fn apart(reading: &ClockReading) -> (Span, Span) {
    let apart_ns = reading.realtime_ns.saturating_sub(reading.monotonic_ns);
    (Span::from_nanos(apart_ns), Span::from_nanos(reading.apart_ns.into()))
}

/// A span of so many seconds.
#[expect(clippy::cast_possible_truncation, reason = "saturates; no number is 0")]
fn span(seconds: f64) -> Span {
    Span::from_raw((seconds * 18_446_744_073_709_551_616.0) as i128)
}

#[cfg(test)]
#[path = "steer_tests.rs"]
mod tests;
