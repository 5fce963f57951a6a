//! UBX, u-blox's binary protocol, decoded octet by octet.
//!
//! ```text
//! | 0xB5 | 0x62 | class | id | length, u16 | payload … | checksum A | checksum B |
//!                |------------- summed up -------------|
//! ```
//!
//! Numbers have their little end first. Octets come from a serial line: any are read without harm. A payload
//! is summed as it passes and only its beginning is kept, so that a long message of no interest costs no
//! memory; after a broken frame the search goes on behind it, so that at most [`PAYLOAD_OCTETS_MAX`] octets
//! are lost to a false start.

mod command;
mod payload;
mod receiver;

use super::receiver::Fix;
use crate::time::{Instant, Span, Utc};

pub use command::{UbxCommand, ubx_configuration};
pub use receiver::{UbxReceiver, UbxTold};

/// The longest payload that is believed: a raw-data message of a receiver with every signal in view is
/// shorter.
pub const PAYLOAD_OCTETS_MAX: usize = 4_096;

/// What is kept of a payload: the fields that are used lie within.
const KEPT_OCTETS: usize = 24;

const SYNC: [u8; 2] = [0xB5, 0x62];

/// Octets of a frame around its payload.
const FRAMING_OCTETS: usize = 8;

/// The receiver's solution (UBX-NAV-PVT).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NavPvt {
    /// The moment of the solution; none unless date and time are both valid and fully resolved.
    pub utc: Option<Instant<Utc>>,
    /// The receiver's own estimate of that moment's error.
    pub accuracy: Span,
    /// Whether the receiver vouches for the fix.
    pub fix_ok: bool,
    /// The kind of fix.
    pub fix: Fix,
    /// Satellites used.
    pub satellites: u8,
}

/// Where a receiver has its number of leap seconds from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeapSource {
    /// Its firmware: perhaps outdated.
    Firmware,
    /// Satellites.
    Satellites,
    /// Somebody told it.
    Told,
    /// It doesn't say.
    Unknown,
}

/// What the receiver knows of leap seconds (UBX-NAV-TIMELS).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NavTimeLs {
    /// GPS time less UTC, in seconds, where it is valid.
    pub current_s: Option<i8>,
    /// Where that comes from.
    pub source: LeapSource,
    /// What comes next; none where the receiver has no valid word of it.
    pub next: Option<NextLeap>,
}

/// The next leap second by a receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextLeap {
    /// 1 for a second inserted, −1 for one deleted, 0 for none announced.
    pub change_s: i8,
    /// Seconds until then; negative: since the last one.
    pub seconds_to_event: i32,
}

/// What a pulse's time is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeBase {
    /// UTC.
    Utc,
    /// UTC was asked for, and the receiver can't tell it yet.
    UtcUnknown,
    /// GPS time.
    Gps,
    /// Another system's time.
    Other,
}

/// The next pulse (UBX-TIM-TP).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimTp {
    /// Its week, since 1980-01-06.
    pub week: u16,
    /// Its time in that week, milliseconds.
    pub tow_ms: u32,
    /// And fraction of a millisecond, 2⁻³² ms.
    pub tow_sub_ms: u32,
    /// How much later than the pulse the moment is that it stands for, in picoseconds, where that is valid.
    pub quantisation_ps: Option<i32>,
    /// What they are counted in.
    pub base: TimeBase,
}

/// A message, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UbxMessage {
    /// The receiver's solution.
    NavPvt(NavPvt),
    /// What it knows of leap seconds.
    NavTimeLs(NavTimeLs),
    /// The next pulse.
    TimTp(TimTp),
    /// A command was carried out.
    Ack {
        /// The command's class.
        class: u8,
        /// The command's id.
        id: u8,
    },
    /// A command was refused.
    Nak {
        /// The command's class.
        class: u8,
        /// The command's id.
        id: u8,
    },
    /// A sound message of which nothing is taken.
    Other {
        /// Its class.
        class: u8,
        /// Its id.
        id: u8,
    },
}

/// Why a message isn't used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UbxFault {
    /// Its length is beyond any message's.
    TooLong(u16),
    /// Its checksum is wrong.
    Checksum {
        /// The checksum that it has.
        found: [u8; 2],
        /// The checksum that it should have.
        expected: [u8; 2],
    },
    /// Too short for what its class and id say it is.
    TooShort {
        /// Its class.
        class: u8,
        /// Its id.
        id: u8,
    },
    /// A solution that calls itself valid has a date or time that isn't one.
    Date,
}

/// UBX's checksum, which is that of RFC 1145.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sum {
    a: u8,
    b: u8,
}

impl Sum {
    const fn add(&mut self, octet: u8) {
        self.a = self.a.wrapping_add(octet);
        self.b = self.b.wrapping_add(self.a);
    }
}

/// UBX's checksum of what lies between the sync octets and it.
#[must_use]
pub fn ubx_checksum(summed: &[u8]) -> [u8; 2] {
    let mut sum = Sum::default();
    summed.iter().for_each(|octet| sum.add(*octet));
    [sum.a, sum.b]
}

/// What of a frame comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Sync,
    SecondSync,
    Class,
    Id,
    LengthLow,
    LengthHigh,
    Payload,
    ChecksumA,
    ChecksumB,
}

/// Decodes a stream of octets into messages.
#[derive(Clone, Debug)]
pub struct Ubx {
    next: Part,
    sum: Sum,
    class: u8,
    id: u8,
    length: u16,
    /// Payload octets that came.
    came: usize,
    kept: [u8; KEPT_OCTETS],
    checksum_a: u8,
    octets: usize,
}

impl Default for Ubx {
    fn default() -> Self {
        Self::new()
    }
}

impl Ubx {
    /// A decoder that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: Part::Sync,
            sum: Sum { a: 0, b: 0 },
            class: 0,
            id: 0,
            length: 0,
            came: 0,
            kept: [0; KEPT_OCTETS],
            checksum_a: 0,
            octets: 0,
        }
    }

    /// Octets of the message reported last, from its first sync octet to the one that ended it.
    #[must_use]
    pub const fn octets(&self) -> usize {
        self.octets
    }

    /// Whether both sync octets have come, so that what comes next belongs to a frame.
    #[must_use]
    pub const fn is_in_frame(&self) -> bool {
        !matches!(self.next, Part::Sync | Part::SecondSync)
    }

    /// Takes the next octet.
    pub fn push(&mut self, octet: u8) -> Option<Result<UbxMessage, UbxFault>> {
        let [first, second] = SYNC;
        self.next = match self.next {
            Part::Sync | Part::SecondSync if octet == first => Part::SecondSync,
            Part::SecondSync if octet == second => {
                *self = Self { next: Part::Class, octets: self.octets, ..Self::new() };
                return None;
            }
            Part::Sync | Part::SecondSync => Part::Sync,
            Part::ChecksumA => {
                self.checksum_a = octet;
                Part::ChecksumB
            }
            Part::ChecksumB => {
                let found = [self.checksum_a, octet];
                return Some(
                    self.report(FRAMING_OCTETS + usize::from(self.length), |frame| frame.message(found)),
                );
            }
            Part::Class | Part::Id | Part::LengthLow | Part::LengthHigh | Part::Payload => {
                self.sum.add(octet);
                match self.take(octet) {
                    Some(next) => next,
                    None => return Some(self.report(6, |frame| Err(UbxFault::TooLong(frame.length)))),
                }
            }
        };
        None
    }

    /// Takes an octet that is summed up, and says what comes next; none when the frame is too long.
    fn take(&mut self, octet: u8) -> Option<Part> {
        match self.next {
            Part::Class => {
                self.class = octet;
                return Some(Part::Id);
            }
            Part::Id => {
                self.id = octet;
                return Some(Part::LengthLow);
            }
            Part::LengthLow => {
                self.length = u16::from(octet);
                return Some(Part::LengthHigh);
            }
            Part::LengthHigh => self.length |= u16::from(octet) << 8,
            Part::Payload | Part::Sync | Part::SecondSync | Part::ChecksumA | Part::ChecksumB => {
                if let Some(kept) = self.kept.get_mut(self.came) {
                    *kept = octet;
                }
                self.came += 1;
            }
        }
        let length = usize::from(self.length);
        let next = if self.came < length { Part::Payload } else { Part::ChecksumA };
        (length <= PAYLOAD_OCTETS_MAX).then_some(next)
    }

    fn report<T>(&mut self, octets: usize, told: impl FnOnce(&Self) -> T) -> T {
        self.octets = octets;
        self.next = Part::Sync;
        told(self)
    }

    fn message(&self, found: [u8; 2]) -> Result<UbxMessage, UbxFault> {
        let expected = [self.sum.a, self.sum.b];
        if found != expected {
            return Err(UbxFault::Checksum { found, expected });
        }
        let kept = self.kept.get(..self.came.min(KEPT_OCTETS)).unwrap_or_default();
        payload::message(self.class, self.id, kept, usize::from(self.length))
    }
}

#[cfg(test)]
#[path = "ubx_tests.rs"]
mod tests;
