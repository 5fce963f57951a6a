//! A NIC's clock found on the counter: from readings of both at once to a [`PhcLine`].
//!
//! A reading is a bracket: the counter stood somewhere within `error_ticks` of `at` when the clock said `phc_ns`. Nothing is
//! believed of a clock's rate but what the brackets of the last second leave open, since a daemon may be steering it
//! (ptp4l changes its rate as often as every eighth of a second), and how much that has changed before: a change that is larger than any
//! of the last minute's is noticed by the reading after it. What no reading explains is a jump: stamps from before it and
//! after it are never placed by one line.

use crate::time::{PhcLine, Rate, Span, Ticks};

/// The counter and a NIC's clock, read at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhcReading {
    /// The middle of the bracket.
    pub at: Ticks,
    /// Half of its width.
    pub error_ticks: u32,
    /// What the clock said, in nanoseconds of its own.
    pub phc_ns: i64,
}

/// What readings say of a clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PhcEvent {
    /// There is a line from now on.
    Found,
    /// It is so much later than its readings before explain: somebody set it, or changed its rate by more than in the last
    /// minute. The line is lost.
    Jumped {
        /// Nanoseconds; negative where it went back.
        by_ns: i64,
    },
    /// It doesn't move, or at less than half of its speed. The line is lost.
    Stopped,
}

/// So many readings are kept: of two seconds and more, if they come eight times in each.
const KEPT: usize = 32;
/// A line is used for so long after the last reading, and for stamps that are as much older than it.
const USED_NS: i64 = 500_000_000;
/// The rate is that of so long.
const RATE_OF_NS: i64 = 1_000_000_000;
/// And of no less.
const RATE_OF_NS_MIN: i64 = 250_000_000;
/// A clock is found when readings of so long lie on a line.
const FOUND_AFTER_NS: i64 = 375_000_000;
/// After a longer silence nothing is known of what happened in it.
const SILENCE_NS_MAX: i64 = 2_000_000_000;
/// A change of rate is forgotten so slowly: to a third.
const FORGOTTEN_NS: i64 = 64_000_000_000;
/// The line, the clock and the counter cut off as much.
const ROUNDING_TICKS: i64 = 2;

/// How fast the counter is by a NIC's clock, over some of its readings.
#[derive(Clone, Copy, Debug)]
struct Pace {
    at: Ticks,
    /// Ticks of the counter in a second of the NIC's clock.
    ticks: i64,
    /// How many more or less it can have been, by the brackets.
    open: i64,
}

/// A line, and what it leaves open.
#[derive(Clone, Copy, Debug)]
struct Fitted {
    line: PhcLine,
    /// How far it can be off at its reference point, in ticks.
    open: i64,
    /// And for each second before or after it, if the clock's rate stays.
    open_a_second: i64,
}

/// Finds one clock, and follows it.
#[derive(Clone, Debug)]
pub struct PhcFitter {
    rate: Rate,
    /// The last of them is the newest.
    readings: [Option<PhcReading>; KEPT],
    fitted: Option<Fitted>,
    is_stopped: bool,
    generation: u32,
    pace: Option<Pace>,
    /// Twice the largest change of the clock's rate of the last minute, in ticks a second.
    turns: i64,
}

impl PhcFitter {
    /// For a counter of about this rate.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        let readings = [None; KEPT];
        Self { rate, readings, fitted: None, is_stopped: false, generation: 1, pace: None, turns: 0 }
    }

    /// The clock as a line; [`PhcLine::UNKNOWN`] but for its generation where it isn't found.
    #[must_use]
    pub fn line(&self) -> PhcLine {
        let mut line = self.fitted.map_or(PhcLine::UNKNOWN, |fitted| fitted.line);
        line.generation = self.generation;
        line
    }

    /// Whether it stands still.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Begins anew, under another generation: the device went away, or may be another.
    pub fn lose(&mut self) {
        self.readings = [None; KEPT];
        self.fitted = None;
        self.generation = self.generation.wrapping_add(1);
    }

    /// Takes a reading; one that isn't after the last is left alone.
    pub fn take(&mut self, reading: PhcReading) -> Option<PhcEvent> {
        if let Some(last) = self.newest() {
            let elapsed = reading.at.since(last.at);
            if elapsed <= 0 {
                return None;
            }
            let forgotten = self.ticks(FORGOTTEN_NS);
            self.turns -= ratio(self.turns, elapsed.min(forgotten), forgotten);
            if self.stands(&last, &reading) {
                if !self.is_stopped {
                    self.lose();
                }
                self.push(reading);
                let was_stopped = core::mem::replace(&mut self.is_stopped, true);
                return (!was_stopped).then_some(PhcEvent::Stopped);
            }
            if self.is_stopped {
                self.readings = [None; KEPT];
            }
            if elapsed > self.ticks(SILENCE_NS_MAX) {
                self.lose();
            } else if let Some(late) = self.unexplained(&reading) {
                self.lose();
                self.push(reading);
                return Some(PhcEvent::Jumped { by_ns: self.rate.span_of(late).as_nanos() });
            }
        }
        self.is_stopped = false;
        self.push(reading);
        self.follow(reading)
    }

    fn follow(&mut self, newest: PhcReading) -> Option<PhcEvent> {
        let was_found = self.fitted.is_some();
        if !was_found && !self.is_long_enough(&newest) {
            return None;
        }
        let Some((fitted, pace, unexplained)) = self.fit(&newest) else {
            self.fitted = None;
            return None;
        };
        if !was_found && unexplained > fitted.open {
            // It jumped while it was looked for.
            self.lose();
            self.push(newest);
            return None;
        }
        self.learn(pace, !was_found);
        // Read again: what has just been learnt of its changes counts.
        self.fitted = self.fit(&newest).map(|(fitted, _, _)| fitted);
        (!was_found && self.fitted.is_some()).then_some(PhcEvent::Found)
    }

    /// It moved by less than half of the time that passed.
    fn stands(&self, last: &PhcReading, reading: &PhcReading) -> bool {
        let advance = reading.phc_ns.saturating_sub(last.phc_ns);
        let errors = i64::from(last.error_ticks) + i64::from(reading.error_ticks);
        let elapsed = self.nanos(reading.at.since(last.at).saturating_sub(errors));
        // What goes on slowly is told from a jump back by the reading after it.
        let is_slow = self.fitted.is_none() && advance < elapsed / 2;
        elapsed > 0 && (advance == 0 || (advance > 0 && is_slow))
    }

    /// By how many ticks the clock is later than the line and all that is open explain; what a change of its rate explains, as
    /// there have been, is learnt.
    fn unexplained(&mut self, reading: &PhcReading) -> Option<i64> {
        let (fitted, second) = (self.fitted?, self.ticks(RATE_OF_NS));
        let late = fitted.line.ticks_at(reading.phc_ns).since(reading.at);
        let age = reading.at.since(fitted.line.reference);
        let open = fitted.open.saturating_add(ratio(fitted.open_a_second, age, second));
        let open = open.saturating_add(i64::from(reading.error_ticks) + ROUNDING_TICKS);
        let beyond = late.saturating_abs().saturating_sub(open);
        if beyond > ratio(self.turns, age, second) {
            return Some(late);
        }
        self.turns = self.turns.max(ratio(beyond, second, age).saturating_mul(2));
        None
    }

    fn is_long_enough(&self, newest: &PhcReading) -> bool {
        let oldest = self.readings.iter().flatten().next();
        oldest.is_some_and(|oldest| newest.at.since(oldest.at) >= self.ticks(FOUND_AFTER_NS))
    }

    /// A line, what it is made from, and how far the reading that fits it worst lies off it beyond its own bracket.
    fn fit(&self, newest: &PhcReading) -> Option<(Fitted, Pace, i64)> {
        let second = self.ticks(RATE_OF_NS);
        let age = |reading: &PhcReading| newest.at.since(reading.at);
        let open_now = |reading: &PhcReading| {
            let error = i64::from(reading.error_ticks);
            error.saturating_add(ratio(self.turns.saturating_add(2 * error), age(reading), second))
        };
        let near = self.readings.iter().flatten().filter(|reading| age(reading) <= self.ticks(USED_NS));
        let near = near.min_by_key(|reading| open_now(reading))?;
        let open_rate = |base: &PhcReading| {
            let errors = i64::from(near.error_ticks) + i64::from(base.error_ticks);
            ratio(errors, second, near.at.since(base.at)).saturating_add(1)
        };
        let apart = self.ticks(RATE_OF_NS_MIN)..=self.ticks(RATE_OF_NS + RATE_OF_NS_MIN);
        let bases = self.readings.iter().flatten().filter(|base| apart.contains(&near.at.since(base.at)));
        let base = bases.min_by_key(|base| open_rate(base))?;
        let (ticks, nanos) = (near.at.since(base.at), near.phc_ns.saturating_sub(base.phc_ns));
        let mut line = PhcLine::through(near.at, near.phc_ns, ticks, nanos)?;
        let since_base = self.readings.iter().flatten().filter(|reading| reading.at.since(base.at) >= 0);
        let beyond = since_base.map(|reading| {
            let off = line.ticks_at(reading.phc_ns).since(reading.at).saturating_abs();
            off.saturating_sub(i64::from(reading.error_ticks) + ROUNDING_TICKS)
        });
        let beyond = beyond.max().unwrap_or(0).max(0);
        let pace = Pace { at: newest.at, ticks: ratio(ticks, RATE_OF_NS, nanos), open: open_rate(base) };
        let open = beyond.saturating_add(i64::from(near.error_ticks) + ROUNDING_TICKS);
        // More than once, since the rate may have changed within what the brackets hide: at thrice, no stamp of a hundred thousand
        // made-up histories of a steered clock was further off than this says; at two and a half a few were.
        let open_a_second = pace.open.saturating_mul(3);
        let used = age(near) + self.ticks(USED_NS);
        let error = open.saturating_add(ratio(open_a_second.saturating_add(self.turns), used, second));
        line.error_ticks = u32::try_from(error).unwrap_or(u32::MAX);
        line.generation = self.generation;
        line.valid_until = newest.at.offset(self.ticks(USED_NS));
        Some((Fitted { line, open, open_a_second }, pace, beyond))
    }

    /// How much a clock's rate changes, from one second to the next.
    fn learn(&mut self, pace: Pace, is_new: bool) {
        let Some(before) = self.pace else {
            self.pace = Some(pace);
            return;
        };
        if !is_new && pace.at.since(before.at) < self.ticks(RATE_OF_NS) {
            return;
        }
        let changed = pace.ticks.saturating_sub(before.ticks).saturating_abs();
        let open = pace.open.saturating_add(before.open);
        if changed > open {
            // As large as it can have been, or twice as large as it was for sure.
            let most = changed.saturating_add(open).max((changed - open).saturating_mul(2));
            self.turns = self.turns.max(most);
        }
        self.pace = Some(pace);
    }

    fn newest(&self) -> Option<PhcReading> {
        self.readings.last().copied().flatten()
    }

    fn push(&mut self, reading: PhcReading) {
        self.readings.rotate_left(1);
        if let Some(last) = self.readings.last_mut() {
            *last = Some(reading);
        }
    }

    fn ticks(&self, nanos: i64) -> i64 {
        self.rate.ticks_in(Span::from_nanos(nanos))
    }

    fn nanos(&self, ticks: i64) -> i64 {
        self.rate.span_of(ticks).as_nanos()
    }
}

/// `value × of / per`; saturates.
fn ratio(value: i64, of: i64, per: i64) -> i64 {
    let exact = i128::from(value) * i128::from(of) / i128::from(per.max(1));
    i64::try_from(exact).unwrap_or(if exact < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
#[path = "phc_tests.rs"]
mod tests;
