//! What selection says of a source, for people too.

use core::fmt;

/// Why a source has no say; the caller finds out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// Nothing has come from it yet.
    Silent,
    /// Nothing has come from it for too long.
    Unreachable,
    /// It doesn't vouch for what it says.
    Invalid,
    /// Its pulses have no labels yet.
    NoLabel,
    /// What was computed of it is no number.
    NoNumber,
    /// It was wrong a short while ago.
    Probation,
}

/// What became of a candidate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict {
    /// There is no such candidate.
    Absent,
    /// It can't be used.
    Unusable(Unusable),
    /// It can be further off than is allowed.
    TooDistant {
        /// How far it can be off, in seconds.
        distance_s: f64,
        /// The most that is allowed, in seconds.
        most_s: f64,
    },
    /// No majority tells whether it is right.
    NoMajority,
    /// A pulse, but nobody who tells seconds is right for sure.
    PulseWithoutSecond,
    /// It is wrong.
    Falseticker {
        /// By this much at least, in seconds: so far its interval is from where all of the majority agree.
        off_s: f64,
    },
    /// It is right, but too far from the other network sources for their average.
    Outlier,
    /// It is right, and others are followed.
    Agrees,
    /// It is right, and no more is asked of it.
    Votes,
    /// It is right, and averaged with the followed one.
    Combined,
    /// It is right, and the clock follows it.
    Followed,
}

/// Why nobody is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nobody {
    /// No source that tells the whole time can be used.
    NoVoter,
    /// No more than half of them agree.
    NoMajority,
    /// Those who agree can all be further off than the clock may be.
    AllTooDistant,
    /// Fewer agree than the operator demands.
    TooFew {
        /// How many agree.
        have: usize,
        /// How many have to.
        want: usize,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "nothing heard yet",
            Self::Unreachable => "not heard for too long",
            Self::Invalid => "calls itself invalid",
            Self::NoLabel => "its pulses have no seconds yet",
            Self::NoNumber => "its offset is no number",
            Self::Probation => "was wrong a short while ago, and is watched",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Unusable(why) => why.fmt(f),
            Self::TooDistant { distance_s, most_s } => {
                write!(f, "may be {distance_s:.3} s off, {most_s:.3} s is allowed")
            }
            Self::NoMajority => f.write_str("no majority tells whether it is right"),
            Self::PulseWithoutSecond => f.write_str("nobody agrees on the second of its pulses"),
            Self::Falseticker { off_s } => write!(f, "wrong by {off_s:.6} s at least"),
            Self::Outlier => f.write_str("right, but too far from the others to be averaged"),
            Self::Agrees => f.write_str("right"),
            Self::Votes => f.write_str("right, and bears witness"),
            Self::Combined => f.write_str("right, averaged"),
            Self::Followed => f.write_str("followed"),
        }
    }
}

impl fmt::Display for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVoter => f.write_str("no source tells the time"),
            Self::NoMajority => f.write_str("no majority of sources agrees"),
            Self::AllTooDistant => {
                f.write_str("the sources that agree can be further off than the clock may be")
            }
            Self::TooFew { have, want } => write!(f, "{have} sources agree, {want} are demanded"),
        }
    }
}
