//! Replies whose departure somebody wants to know, until it is told.
//!
//! A reply's name is its receive timestamp. Departures come in any order, late or never; each is told once, and of those
//! that never come the oldest make room.

use super::interleaved::Client;
use crate::time::{NtpTimestamp, Span, Ticks};

/// Replies that are looked through together.
const WAYS: usize = 4;

/// A clock read before a send may, by the errors of its reading, seem to be read after it.
const EARLY_MAX: Span = Span::from_nanos(2_000);

/// What a reply takes to leave, at most: longer is another reply's stamp, or tells nothing of replies to come.
const LATE_MAX: Span = Span::from_seconds(1);

/// A stamp that is told later isn't used: until then its clock may have been slewed by 500 ppm, that is by 10 µs.
const TOLD_WITHIN: Span = Span::from_nanos(20_000_000);

/// When a reply was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Just before the system call that sends it.
    pub at: Ticks,
    /// That moment, as the reply's listener counts.
    pub timestamp: NtpTimestamp,
    /// How much later it is to leave for those that leave before it.
    pub ahead: Span,
}

/// A reply whose departure is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Its receive timestamp.
    pub receive: NtpTimestamp,
    /// Who will want to know, if anybody, and whether they came back for an earlier one.
    pub client: Option<(Client, bool)>,
    /// What sends take is learnt from it.
    pub sampled: bool,
}

/// When a reply left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// As the reply's listener counts.
    pub at: NtpTimestamp,
    /// How much later than it was to leave.
    pub late: Span,
}

impl Written {
    /// When the reply left, by a stamp that is `age` old at a reading of the counter that is `since` later than the
    /// writing; none if it can't have.
    #[must_use]
    pub fn left(&self, since: Span, age: Span) -> Option<Left> {
        let took = since - age;
        let units = i64::try_from(took.raw() >> 32).ok()?;
        if age > TOLD_WITHIN || took < -EARLY_MAX || took > LATE_MAX {
            return None;
        }
        // Counted on from the reply's own moment, so that both of a pair's stamps are of one count and one line, whatever
        // the clock or a leap second did meanwhile.
        let at = NtpTimestamp::from_bits(self.timestamp.bits().wrapping_add_signed(units));
        Some(Left { at, late: took - self.ahead })
    }
}

/// A place for one.
#[derive(Clone, Copy, Debug)]
pub struct Slot(Option<(Ticks, Asked, Option<Written>)>);

impl Slot {
    /// Nothing in it.
    pub const EMPTY: Self = Self(None);

    const fn is_named(&self, name: u64) -> bool {
        matches!(&self.0, Some((_, asked, _)) if asked.receive.bits() == name)
    }
}

/// The replies whose departure isn't told yet, in memory that the caller gives: four times as many slots as may be told
/// together are enough that hardly any makes room too early.
#[derive(Debug)]
pub struct Outstanding<M> {
    slots: M,
    count: usize,
    newest: Ticks,
}

impl<M: AsMut<[Slot]>> Outstanding<M> {
    /// Nothing outstanding, in `slots` that are all [`EMPTY`](Slot::EMPTY).
    #[must_use]
    pub const fn new(slots: M) -> Self {
        Self { slots, count: 0, newest: Ticks::from_bits(0) }
    }

    /// Whether nothing more will be told.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// When last anything was asked for, where anything is outstanding.
    #[must_use]
    pub const fn newest(&self) -> Ticks {
        self.newest
    }

    /// Notes `asked` at `now`; where it lies, for [`written`](Self::written), or none if a reply of its name is
    /// outstanding already.
    pub fn ask(&mut self, asked: Asked, now: Ticks) -> Option<usize> {
        let name = asked.receive.bits();
        let (first, set) = self.set(name)?;
        if set.iter().any(|slot| slot.is_named(name)) {
            return None;
        }
        let age = |slot: &Slot| slot.0.as_ref().map_or(i64::MAX, |(asked_at, ..)| now.since(*asked_at));
        let (way, slot) = set.iter_mut().enumerate().max_by_key(|(_, slot)| age(slot))?;
        let was_free = slot.0.replace((now, asked, None)).is_none();
        self.count += usize::from(was_free);
        self.newest = now;
        Some(first + way)
    }

    /// Notes when the reply at `slot` was written.
    #[inline]
    pub fn written(&mut self, slot: usize, written: Written) {
        if let Some((.., noted)) = self.slots.as_mut().get_mut(slot).and_then(|slot| slot.0.as_mut()) {
            *noted = Some(written);
        }
    }

    /// What was asked for under `name`, and when it was written; told once.
    pub fn told(&mut self, name: u64) -> Option<(Asked, Written)> {
        let (_, set) = self.set(name)?;
        let (_, asked, written) = set.iter_mut().find(|slot| slot.is_named(name))?.0.take()?;
        self.count -= 1;
        Some((asked, written?))
    }

    /// Gives up on all that is outstanding.
    pub fn forget(&mut self) {
        self.slots.as_mut().fill(Slot::EMPTY);
        self.count = 0;
    }

    /// The slots among which `name` lies, and the first one's index.
    fn set(&mut self, name: u64) -> Option<(usize, &mut [Slot])> {
        /// 2⁶⁴ divided by the golden ratio: names that follow each other part.
        const SCATTER: u64 = 0x9E37_79B9_7F4A_7C15;
        let slots = self.slots.as_mut();
        let sets = slots.len() / WAYS;
        let set = usize::try_from(name.wrapping_mul(SCATTER) >> 32).ok()?.checked_rem(sets)?;
        let first = set * WAYS;
        Some((first, slots.get_mut(first..first + WAYS)?))
    }
}

#[cfg(test)]
#[path = "outstanding_tests.rs"]
mod tests;
