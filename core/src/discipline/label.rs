//! Which second did a pulse begin?
//!
//! A pulse says when, never which. The answer comes from sentences that name seconds, from intervals of reference
//! time that others vouch for, and from the neighbours in the pulse train that have it already. A wrong answer would
//! be served as a clock that is whole seconds off, so where the evidence can't tell, the pulse waits and its label
//! says what is missing. Nothing here judges who is right: sources that selection has thrown out are to be
//! [forgotten](Labeller::forget), GPS weeks and leap seconds are to be applied before.

mod bounds;
mod need;
mod train;
mod window;

pub use need::Need;
pub use window::CONTRADICTING_MIN;

use super::SOURCES_MAX;
use crate::time::{Instant, Rate, Span, Tai, Ticks};
use bounds::Bounds;
use train::{Pace, Place, TRAIN_MIN, Trains};
use window::{Arrival, Window};

/// How far the counter's rate may be off while nothing has measured it: any crystal, in parts per 10⁹.
pub const RATE_ERROR_UNKNOWN_PPB: u32 = 500_000;

/// So many kinds of messages (a source's own second, a source's next pulse) are listened to; further ones aren't.
const WINDOWS_MAX: usize = 8;

/// A stated delay is half a second from both ends of the window in which its sentences may come.
const HALF_SECOND: Span = Span::from_nanos(500_000_000);

/// A message that is further from the last pulse isn't used: over longer spans its phase is uncertain.
const PULSE_AGE_MAX: Span = Span::from_seconds(16);

/// A message named a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Who sent it, below [`SOURCES_MAX`].
    pub source: usize,
    /// The counter at its first octet.
    pub at: Ticks,
    /// The moment that it names; a fraction of a second is kept.
    pub second: Instant<Tai>,
    /// Whether it speaks of the next pulse rather than of the last one.
    pub of_next_pulse: bool,
    /// What the operator states of the time from the second's beginning to the first octet, to within 0.4 s; the same
    /// with every claim of a source. Without it the time is taken to be less than a second for most messages.
    pub delay: Option<Span>,
}

/// Somebody vouches that at `at` reference time was `tai`, within `error`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interval {
    /// The counter at that moment.
    pub at: Ticks,
    /// Reference time then.
    pub tai: Instant<Tai>,
    /// How far that can be off: a bound.
    pub error: Span,
}

/// Which second a pulse began, or what is missing to say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    /// This one.
    Second(Instant<Tai>),
    /// That can't be told yet.
    Waiting(Need),
}

/// Whose word a label is contradicted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Witness {
    /// This source's sentences, at least [`CONTRADICTING_MIN`] in a row.
    Sentences(usize),
    /// The intervals together, which are bounds: one is enough.
    Intervals,
}

/// Evidence names another second than the one that was counted on to. The caller decides who is wrong: it forgets the
/// witness, or starts the labeller [anew](Labeller::restart).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contradiction {
    /// Who says so.
    pub by: Witness,
    /// The second that it names less the label, in seconds.
    pub difference_s: i64,
}

/// What became of a pulse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Labelled {
    /// Its label.
    pub label: Label,
    /// What contradicts the label.
    pub contradicted: Option<Contradiction>,
}

impl Labelled {
    const fn waiting(need: Need) -> Self {
        Self { label: Label::Waiting(need), contradicted: None }
    }
}

/// Labels the pulses of one source.
#[derive(Clone, Debug)]
pub struct Labeller {
    pace: Pace,
    trains: Trains,
    windows: [Window; WINDOWS_MAX],
    intervals: [Option<Interval>; SOURCES_MAX],
    /// The second of the train's pulse 0, once it is known: the others follow by counting.
    second_of_first: Option<i64>,
}

impl Labeller {
    /// A labeller that has seen nothing, over a counter of this rate, give or take `rate_error_ppb`.
    #[must_use]
    pub const fn new(rate: Rate, rate_error_ppb: u32) -> Self {
        Self {
            pace: Pace { rate, error_ppb: rate_error_ppb },
            trains: Trains::NONE,
            windows: [Window::NONE; WINDOWS_MAX],
            intervals: [None; SOURCES_MAX],
            second_of_first: None,
        }
    }

    /// Takes a sentence of a source that calls itself valid.
    pub fn sentence(&mut self, claim: &Claim) {
        let stated = claim.delay.filter(|_| !claim.of_next_pulse);
        let earliest = stated.map_or(Span::ZERO, |delay| delay - HALF_SECOND);
        let fraction = Span::from_raw(i128::from(claim.second.fraction()));
        let Some((since_last, last)) = self.trains.since_last(claim.at, &self.pace) else {
            return;
        };
        if since_last.abs() > PULSE_AGE_MAX {
            return;
        }
        // Where the message would have come at the earliest, had it named a whole second: after that second's pulse.
        let from_last = (since_last - fraction - earliest).raw();
        let before = i64::try_from(from_last >> 64).unwrap_or(0).saturating_add(last);
        let second = claim.second.unix_seconds().saturating_sub(i64::from(claim.of_next_pulse));
        let phase = u32::try_from((from_last >> 32) & i128::from(u32::MAX)).unwrap_or(0);
        let arrival = Arrival { second, offset: second.saturating_sub(before), phase };
        if let Some(window) = self.window_of((claim.source, claim.of_next_pulse)) {
            window.stated = stated.is_some();
            window.push(arrival);
        }
    }

    fn window_of(&mut self, owner: (usize, bool)) -> Option<&mut Window> {
        let own = self.windows.iter().position(|window| window.owner == Some(owner));
        let place = own.or_else(|| self.windows.iter().position(|window| window.owner.is_none()))?;
        let window = self.windows.get_mut(place)?;
        window.owner = Some(owner);
        Some(window)
    }

    /// Takes what `source` vouches for now; it replaces what the source said before.
    pub fn interval(&mut self, source: usize, interval: Interval) {
        if let Some(slot) = self.intervals.get_mut(source) {
            *slot = Some(interval);
        }
    }

    /// Forgets what a source has said: selection has thrown it out, or it is gone.
    pub fn forget(&mut self, source: usize) {
        if let Some(slot) = self.intervals.get_mut(source) {
            *slot = None;
        }
        for window in &mut self.windows {
            if window.owner.is_some_and(|(owner, _)| owner == source) {
                *window = Window::NONE;
            }
        }
    }

    /// Forgets all that was heard: the counter jumped, or the label was wrong.
    pub fn restart(&mut self) {
        self.trains = Trains::NONE;
        self.forget_evidence();
    }

    fn forget_evidence(&mut self) {
        self.second_of_first = None;
        self.windows.iter_mut().for_each(Window::clear);
        self.intervals = [None; SOURCES_MAX];
    }

    /// Labels a pulse.
    pub fn pulse(&mut self, at: Ticks) -> Labelled {
        match self.trains.place(at, &self.pace) {
            Place::Stray => return Labelled::waiting(Need::Stray),
            // It may be the counter that moved, and then intervals from before can't be carried on by it.
            Place::Anew => self.forget_evidence(),
            Place::First | Place::Next => {}
        }
        let index = self.trains.index();
        if let Some(first) = self.second_of_first {
            return self.counted_on(at, first.saturating_add(index));
        }
        match self.named(at, index) {
            Ok(second) => {
                self.second_of_first = Some(second.saturating_sub(index));
                Labelled { label: Label::Second(Instant::from_unix(second, 0)), contradicted: None }
            }
            Err(need) => Labelled::waiting(need),
        }
    }

    /// The label of a pulse whose neighbours are labelled.
    fn counted_on(&self, at: Ticks, second: i64) -> Labelled {
        let label = Label::Second(Instant::from_unix(second, 0));
        Labelled { label, contradicted: self.contradiction(at, second) }
    }

    fn contradiction(&self, at: Ticks, second: i64) -> Option<Contradiction> {
        let first = second.saturating_sub(self.trains.index());
        for window in &self.windows {
            if let Some(((source, _), difference_s)) = window.owner.zip(window.contradicts(first)) {
                return Some(Contradiction { by: Witness::Sentences(source), difference_s });
            }
        }
        // Intervals that exclude each other are selection's business.
        let bounds = self.bounds(at).ok().flatten()?;
        let difference_s = bounds.nearest().saturating_sub(second);
        let excluded = !bounds.allows(second) && difference_s != 0;
        excluded.then_some(Contradiction { by: Witness::Intervals, difference_s })
    }

    fn bounds(&self, at: Ticks) -> Result<Option<Bounds>, Need> {
        Bounds::of_all(self.intervals.iter().flatten(), at, &self.pace)
    }

    /// The second that the evidence names for the pulse at `at`, if it names one and nothing speaks against it.
    fn named(&self, at: Ticks, index: i64) -> Result<i64, Need> {
        let (have, rival) = self.trains.counts(at, &self.pace);
        if have < TRAIN_MIN {
            return Err(Need::Pulses { have, want: TRAIN_MIN });
        }
        if rival * 2 >= have {
            return Err(Need::OneTrain);
        }
        let sentences = self.named_by_sentences(index);
        let bounds = self.bounds(at)?;
        match (sentences, bounds) {
            (Ok(second), Some(bounds)) if !bounds.allows(second) => {
                Err(Need::Agreement { apart: bounds.apart(second) })
            }
            (Ok(second), _) => Ok(second),
            // Sentences that don't agree with each other stop the intervals too: somebody is wrong.
            (Err(Need::Agreement { apart }), _) => Err(Need::Agreement { apart }),
            (Err(_), Some(bounds)) => bounds.only_second(),
            (Err(need), None) => Err(need),
        }
    }

    /// The second that all sources whose sentences name one agree on, else what the one heard most still needs.
    fn named_by_sentences(&self, index: i64) -> Result<i64, Need> {
        let mut named: Option<i64> = None;
        let mut need = (0, Need::NothingNamesSeconds);
        for window in self.windows.iter().filter(|window| window.owner.is_some()) {
            match window.names() {
                Ok(first) => {
                    let second = first.saturating_add(index);
                    let apart = second.saturating_sub(*named.get_or_insert(second));
                    if apart != 0 {
                        return Err(Need::Agreement { apart: Span::from_seconds(apart).abs() });
                    }
                }
                Err(lack) if window.len() > need.0 => need = (window.len(), lack),
                Err(_) => {}
            }
        }
        named.ok_or(need.1)
    }
}

#[cfg(test)]
#[path = "label_receiver_tests.rs"]
mod receiver;

#[cfg(test)]
#[path = "label_tests.rs"]
mod tests;
