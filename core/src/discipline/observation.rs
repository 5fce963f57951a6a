//! What sources observe: the only way in which anything about the outside time reaches the clock.
//!
//! An observation pairs a reading of the counter with what a source says of that moment. It claims no more than the
//! source does: a pulse doesn't say which second it began, a sentence doesn't say precisely when. What follows is
//! decided by labelling, selection and the clock.

use crate::time::{Instant, Span, Tai, Ticks, Utc};

/// The most sources a server may have.
pub const SOURCES_MAX: usize = 16;

/// What a source says of the next leap second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeapClaim {
    /// It says nothing of leap seconds, or doesn't know yet.
    Unknown,
    /// None at the end of this month.
    None,
    /// One is inserted at the end of this month.
    Insert,
    /// One is deleted at the end of this month.
    Delete,
}

/// A second of reference time began; which one isn't said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pulse {
    /// The counter when it began, corrected for cable and latency as far as these are known.
    pub at: Ticks,
    /// How far `at` can be off, beyond the pulse's own noise: the stamp's bracket and what the operator states.
    pub error: Span,
}

/// A receiver makes its pulses at ticks of its own clock, and says how far the next one is from where it should be (u-blox
/// TIM-TP): a sawtooth that can be taken off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sawtooth {
    /// The counter when it said so.
    pub at: Ticks,
    /// To be added to the next pulse's moment.
    pub quantisation: Span,
}

/// A receiver named a second, in a message that came some time after it had begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sentence {
    /// The counter at the message's first octet.
    pub at: Ticks,
    /// The moment that it names, as it stands in the message: dates are not yet corrected for the week's rollover.
    pub utc: Instant<Utc>,
    /// Whether the receiver calls itself locked to satellites.
    pub valid: bool,
    /// Whether the message speaks of the **next** pulse rather than of the last one (u-blox TIM-TP).
    pub of_next_pulse: bool,
    /// What it says of leap seconds.
    pub leap: LeapClaim,
}

/// A complete sample: at `at` it was `utc` (gpsd's sockets and segments, the machine's own clock).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeSample {
    /// The counter at the moment of the sample.
    pub at: Ticks,
    /// UTC at that moment by the source.
    pub utc: Instant<Utc>,
    /// How far that can be off, beyond the samples' own noise.
    pub error: Span,
    /// Whether the source vouches for it.
    pub valid: bool,
    /// What it says of leap seconds.
    pub leap: LeapClaim,
}

/// A complete sample of a clock that keeps TAI, and knows nothing of leap seconds (a NIC's own, kept by PTP).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaiSample {
    /// The counter at the moment of the sample.
    pub at: Ticks,
    /// TAI at that moment by the source.
    pub tai: Instant<Tai>,
    /// How far that can be off, beyond the samples' own noise.
    pub error: Span,
}

/// What an exchange with an upstream server brought, after the clock filter (RFC 5905 §10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// The counter at the middle of the exchange.
    pub at: Ticks,
    /// The server's time at that moment if both ways took equally long.
    pub utc: Instant<Utc>,
    /// Round trip to the server, less what it spent there.
    pub delay: Span,
    /// What stamps, precision and age leave open (RFC 5905's dispersion of the sample), without the server's own.
    pub dispersion: Span,
    /// The server's own root delay.
    pub root_delay: Span,
    /// The server's own root dispersion.
    pub root_dispersion: Span,
    /// The server's stratum, 1 to 15.
    pub stratum: u8,
    /// What the server names as its reference.
    pub reference_id: [u8; 4],
    /// What it says of leap seconds.
    pub leap: LeapClaim,
}

/// Anything that a source can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observation {
    /// A second began.
    Pulse(Pulse),
    /// A second was named.
    Sentence(Sentence),
    /// The next pulse's sawtooth was told.
    Sawtooth(Sawtooth),
    /// It was that time.
    Time(TimeSample),
    /// It was that time of TAI.
    Tai(TaiSample),
    /// A server was asked.
    Exchange(Exchange),
}

impl Observation {
    /// The counter at the moment that it speaks of.
    #[must_use]
    pub const fn at(&self) -> Ticks {
        match self {
            Self::Pulse(pulse) => pulse.at,
            Self::Sentence(sentence) => sentence.at,
            Self::Sawtooth(sawtooth) => sawtooth.at,
            Self::Time(sample) => sample.at,
            Self::Tai(sample) => sample.at,
            Self::Exchange(exchange) => exchange.at,
        }
    }
}
