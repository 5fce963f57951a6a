//! What the served clock stands on, and every way from one standing to another, in one table.

/// What the served clock stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing has named the time yet.
    Cold,
    /// A source is followed, and it is too early to say how far off the clock can be, or that is too far.
    Acquiring,
    /// A source is followed and the root distance is within the configured one.
    Locked,
    /// No source is followed; the clock runs on within the configured root distance.
    Holdover,
    /// The clock was contradicted, or its root distance has grown past the configured one.
    Unsynchronised,
}

/// What is so at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// A source is followed and has spoken lately.
    pub followed: bool,
    /// There are samples enough to say how far off the clock can be.
    pub settled: bool,
    /// The root distance is within the configured one.
    pub within: bool,
    /// Evidence has contradicted the clock by more than its error since the last look.
    pub contradicted: bool,
}

impl State {
    /// Whether replies may claim to be synchronised.
    #[must_use]
    pub const fn is_synchronised(self) -> bool {
        matches!(self, Self::Locked | Self::Holdover)
    }

    /// The table: where `facts` lead from here.
    #[must_use]
    pub const fn next(self, facts: Facts) -> Self {
        let Facts { followed, settled, within, contradicted } = facts;
        match self {
            // What was never served can't be contradicted.
            Self::Cold | Self::Acquiring if followed && settled && within => Self::Locked,
            Self::Cold | Self::Acquiring if followed => Self::Acquiring,
            Self::Cold => Self::Cold,
            Self::Acquiring => Self::Unsynchronised,
            Self::Locked | Self::Holdover if contradicted || !settled || !within => Self::Unsynchronised,
            Self::Locked | Self::Holdover if followed => Self::Locked,
            Self::Locked | Self::Holdover => Self::Holdover,
            Self::Unsynchronised if followed => Self::Acquiring,
            Self::Unsynchronised => Self::Unsynchronised,
        }
    }

    /// Its name, for people and for documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Acquiring => "acquiring",
            Self::Locked => "locked",
            Self::Holdover => "holdover",
            Self::Unsynchronised => "unsynchronised",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 5] =
        [State::Cold, State::Acquiring, State::Locked, State::Holdover, State::Unsynchronised];

    fn facts() -> impl Iterator<Item = Facts> {
        (0..16_u8).map(|bits| Facts {
            followed: bits & 1 != 0,
            settled: bits & 2 != 0,
            within: bits & 4 != 0,
            contradicted: bits & 8 != 0,
        })
    }

    #[test]
    fn synchronised_is_settled_and_within_and_never_contradicted() {
        for state in STATES {
            for facts in facts() {
                let next = state.next(facts);
                if next.is_synchronised() {
                    assert!(facts.settled && facts.within, "{state:?} {facts:?}");
                    assert!(!state.is_synchronised() || !facts.contradicted, "{state:?} {facts:?}");
                    assert!(state != State::Unsynchronised, "only by acquiring: {facts:?}");
                }
                assert_eq!(next == State::Cold, state == State::Cold && !facts.followed);
            }
        }
    }

    #[test]
    fn holdover_is_only_reached_from_locked() {
        for state in STATES {
            for facts in facts() {
                if state.next(facts) == State::Holdover {
                    assert!(matches!(state, State::Locked | State::Holdover) && !facts.followed);
                }
            }
        }
    }
}
