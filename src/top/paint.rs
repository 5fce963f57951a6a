//! Colours by meaning, never alone: whatever has one says the same in words.

use ratatui::style::{Color, Modifier, Style};

use crate::status::State;

/// What something means for the operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// As it should be.
    Good,
    /// To be watched.
    Doubtful,
    /// To be seen to.
    Bad,
    /// Said for the second time, or of the past.
    Aside,
}

/// Whether there are colours at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paint {
    /// Not with `NO_COLOR`.
    pub has_colours: bool,
}

impl Paint {
    /// The style for a meaning.
    pub(super) fn of(self, meaning: Meaning) -> Style {
        let colour = match meaning {
            Meaning::Good => Color::Green,
            Meaning::Doubtful => Color::Yellow,
            Meaning::Bad => Color::Red,
            Meaning::Aside => return Style::new().add_modifier(Modifier::DIM),
        };
        let style = if self.has_colours { Style::new().fg(colour) } else { Style::new() };
        if meaning == Meaning::Bad { style.add_modifier(Modifier::BOLD) } else { style }
    }

    /// The style for the clock's state.
    pub(super) fn state(self, state: State) -> Style {
        self.of(match state {
            State::Locked | State::Synchronised => Meaning::Good,
            State::Acquiring | State::Holdover | State::Local | State::Cold => Meaning::Doubtful,
            State::Unsynchronised => Meaning::Bad,
        })
    }

    /// The style for a source's mark.
    pub(super) fn mark(self, mark: char) -> Style {
        match mark {
            '*' | '+' => self.of(Meaning::Good),
            'x' => self.of(Meaning::Bad),
            '?' => self.of(Meaning::Doubtful),
            _ => Style::new(),
        }
    }
}
