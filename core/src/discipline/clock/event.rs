//! What is worth telling of the clock, and the few of it that wait to be told.

use super::Followed;
use crate::discipline::state::State;

/// So many events wait; the oldest make room.
pub const EVENTS_MAX: usize = 32;

/// Why the clock's standing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// By its samples.
    Samples,
    /// The source that is followed now is further away than both errors explain.
    OtherSource,
    /// The source that the clock was made from is wrong, by the majority's word.
    VotedOut,
    /// Pulses come where no second begins by the clock.
    Strays,
    /// No source is followed.
    NobodyFollowed,
    /// Too few samples came to say how far off the clock can be.
    NotSettled,
    /// The root distance is past the configured one.
    Budget,
}

/// Something happened.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Event {
    /// The clock stands on something else.
    State {
        /// What it stood on.
        from: State,
        /// What it stands on.
        to: State,
        /// Why.
        why: Why,
    },
    /// Another source is followed.
    Follows {
        /// Who.
        followed: Followed,
    },
    /// Evidence contradicted the served clock beyond its error.
    Contradicted {
        /// By so much, s.
        by_s: f64,
        /// It had said that it can be off by so much, s.
        advertised_s: f64,
        /// Whose evidence.
        why: Why,
    },
    /// A source is outside of what the majority agrees on.
    Falseticker {
        /// Which.
        source: usize,
        /// By so much, s.
        by_s: f64,
    },
    /// A source agrees again.
    Truechimer {
        /// Which.
        source: usize,
    },
    /// A receiver's dates are whole GPS week cycles off; they are corrected.
    WeekRollover {
        /// Which.
        source: usize,
        /// Added to its dates.
        weeks: i64,
    },
    /// A receiver's sentences name another second than its pulses have by counting.
    SecondJumped {
        /// Whose pulses.
        source: usize,
        /// By so many seconds.
        by_s: i64,
    },
}

/// Events in order.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Events {
    kept: [Option<Event>; EVENTS_MAX],
    count: usize,
}

impl Events {
    pub(super) const fn new() -> Self {
        Self { kept: [None; EVENTS_MAX], count: 0 }
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.count == EVENTS_MAX {
            self.kept.rotate_left(1);
            self.count -= 1;
        }
        if let Some(place) = self.kept.get_mut(self.count) {
            *place = Some(event);
            self.count += 1;
        }
    }

    /// The events, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        self.kept.iter().copied().flatten()
    }
}
