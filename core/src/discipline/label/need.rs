//! What a pulse without a label waits for, said so that an operator can act on it.

use crate::time::Span;
use core::fmt;

/// What is missing to say which second a pulse began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// More pulses: a train is made of three.
    Pulses {
        /// How many came.
        have: u32,
        /// How many it takes.
        want: u32,
    },
    /// This pulse isn't near a whole second from the others.
    Stray,
    /// Pulses come twice a second: which of them begin seconds isn't clear.
    OneTrain,
    /// Nobody names seconds at all.
    NothingNamesSeconds,
    /// More sentences.
    Sentences {
        /// How many came.
        have: usize,
        /// How many it takes, by how they have come so far.
        want: usize,
    },
    /// Sentences come anywhere in a second, so that they can't be told from those of the second before.
    Narrower {
        /// The part of the second that they fill.
        spread: Span,
    },
    /// Sentences come on both sides of the pulse (or, with a delay stated, too far from it).
    Straddle,
    /// Too many sentences of a source name different seconds.
    Consistent {
        /// How many agree.
        agree: usize,
        /// Of so many.
        have: usize,
    },
    /// Reference time isn't known well enough.
    NarrowerInterval {
        /// How far it can be off.
        half_width: Span,
    },
    /// By reference time the pulse doesn't begin a second.
    OnTheSecond {
        /// It is this far from the nearest one.
        off: Span,
    },
    /// Sources name different seconds.
    Agreement {
        /// So far apart.
        apart: Span,
    },
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pulses { have, want } => write!(f, "waits for pulses: {have} of {want} came"),
            Self::Stray => write!(f, "the pulse is not a whole second after the others"),
            Self::OneTrain => write!(f, "pulses come more than once a second; set the receiver to one"),
            Self::NothingNamesSeconds => {
                write!(f, "nothing names seconds: add the receiver's sentences or an upstream server")
            }
            Self::Sentences { have, want } => write!(f, "waits for sentences: {have} of {want} came"),
            Self::Narrower { spread } => write!(
                f,
                "sentences come anywhere in {:.2} s of a second: state their delay or add an upstream server",
                spread.as_seconds_f64()
            ),
            Self::Straddle => {
                write!(
                    f,
                    "sentences come before and after the pulse: state their delay or add an upstream server"
                )
            }
            Self::Consistent { agree, have } => {
                write!(f, "sentences name different seconds: {agree} of {have} agree")
            }
            Self::NarrowerInterval { half_width } => {
                write!(
                    f,
                    "reference time is known to {:.3} s only; it takes 0.45 s",
                    half_width.as_seconds_f64()
                )
            }
            Self::OnTheSecond { off } => {
                write!(f, "the pulse is {:.3} s from a second's beginning", off.as_seconds_f64())
            }
            Self::Agreement { apart } => {
                write!(f, "sources disagree by {:.3} s on which second it is", apart.as_seconds_f64())
            }
        }
    }
}
