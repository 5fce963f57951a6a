//! NMEA 0183: the sentences of a receiver, decoded octet by octet.
//!
//! ```text
//! $ GP RMC ,123519.00,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W *6A <CR><LF>
//! | |  |   fields, separated by commas                                    checksum: exclusive or from $ to *
//! | |  type
//! | talker: GP, GL, GA, GB, GN … any two letters
//! start
//! ```
//!
//! Octets come from a serial line: any are read without harm. What stands between sentences is skipped, a
//! broken sentence is reported once, and a `$` begins a new one wherever it comes. Only time, date and the
//! quality of the fix are taken from a sentence, and nothing is decided here.

mod field;
mod receiver;

use super::calendar::TimeOfDay;
use super::receiver::Fix;
use crate::time::{Instant, Utc};

pub use receiver::NmeaReceiver;

/// Octets from `$` to before the line's end: the standard has 80, receivers send more.
const SENTENCE_OCTETS_MAX: usize = 255;

/// A sentence, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NmeaMessage {
    /// Recommended minimum data. The date has two digits of the year: 80 to 99 are 1980 to 1999, 00 to 79 are
    /// 2000 to 2079.
    Rmc {
        /// The moment that it names; none while the receiver knows none.
        utc: Option<Instant<Utc>>,
        /// Whether the receiver has a fix by satellites: neither invalid nor estimated, typed in or
        /// simulated.
        valid: bool,
    },
    /// Time and date.
    Zda {
        /// The moment that it names; none while the receiver knows none.
        utc: Option<Instant<Utc>>,
    },
    /// Fix data.
    Gga {
        /// The time of day; none while the receiver knows none.
        time_of_day: Option<TimeOfDay>,
        /// 0 no fix, 1 to 5 by satellites, 6 estimated, 7 typed in, 8 simulated.
        quality: u8,
        /// Satellites used.
        satellites: u8,
    },
    /// Satellites used.
    Gsa {
        /// The kind of fix.
        fix: Fix,
    },
    /// Satellites in view: the first sentence of a group.
    Gsv {
        /// Which system's.
        talker: [u8; 2],
        /// How many.
        in_view: u8,
    },
    /// A sound sentence of which nothing is taken.
    Other,
}

/// Which field of a sentence makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NmeaField {
    /// The time of day.
    Time,
    /// The date, or a leap second on it.
    Date,
    /// RMC's status.
    Status,
    /// GGA's quality.
    Quality,
    /// A number of satellites.
    Satellites,
    /// GSA's kind of fix.
    Fix,
    /// GSV's place in its group.
    Place,
}

/// Why a sentence isn't used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NmeaFault {
    /// Longer than any sentence.
    TooLong,
    /// A `$` came before its end.
    Truncated,
    /// An octet that isn't printable ASCII.
    NotAscii(u8),
    /// It doesn't end with a checksum.
    NoChecksum,
    /// Its checksum is wrong.
    Checksum {
        /// The checksum that it has.
        found: u8,
        /// The checksum that it should have.
        expected: u8,
    },
    /// A field is missing or makes no sense.
    Field(NmeaField),
}

/// Decodes a stream of octets into sentences.
#[derive(Clone, Debug)]
pub struct Nmea {
    /// What follows the `$`.
    text: [u8; SENTENCE_OCTETS_MAX - 1],
    /// How much of it came; none between sentences.
    length: Option<usize>,
    octets: usize,
}

impl Default for Nmea {
    fn default() -> Self {
        Self::new()
    }
}

impl Nmea {
    /// A decoder that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: [0; SENTENCE_OCTETS_MAX - 1], length: None, octets: 0 }
    }

    /// Octets of the sentence reported last, from its `$` to the octet that ended it.
    #[must_use]
    pub const fn octets(&self) -> usize {
        self.octets
    }

    /// Takes the next octet. A sentence is reported at the first octet of its line's end.
    pub fn push(&mut self, octet: u8) -> Option<Result<NmeaMessage, NmeaFault>> {
        if octet == b'$' {
            let broken = self.length.replace(0);
            return broken.map(|length| self.report(length, Err(NmeaFault::Truncated)));
        }
        let length = self.length.take()?;
        let reported = match octet {
            b'\r' | b'\n' => message(self.text.get(..length).unwrap_or_default()),
            b' '..=b'~' => match self.text.get_mut(length) {
                Some(free) => {
                    *free = octet;
                    self.length = Some(length + 1);
                    return None;
                }
                None => Err(NmeaFault::TooLong),
            },
            _ => Err(NmeaFault::NotAscii(octet)),
        };
        Some(self.report(length, reported))
    }

    /// Between the `$` and the octet that ended the sentence there were `length`.
    const fn report<T>(&mut self, length: usize, reported: T) -> T {
        self.octets = length + 2;
        reported
    }
}

/// The exclusive or of all octets between `$` and `*`.
#[must_use]
pub fn nmea_checksum(body: &[u8]) -> u8 {
    body.iter().fold(0, |sum, octet| sum ^ octet)
}

/// What a sentence between its `$` and its line's end says.
fn message(text: &[u8]) -> Result<NmeaMessage, NmeaFault> {
    let Some((body, [b'*', high, low])) = text.split_last_chunk() else { return Err(NmeaFault::NoChecksum) };
    let found = field::hexadecimal(*high)
        .zip(field::hexadecimal(*low))
        .map(|(high, low)| high << 4 | low)
        .ok_or(NmeaFault::NoChecksum)?;
    let expected = nmea_checksum(body);
    if found != expected {
        return Err(NmeaFault::Checksum { found, expected });
    }
    let fields = field::Fields::of(body);
    match body.split(|octet| *octet == b',').next() {
        // Proprietary sentences: Garmin's $PGRMC is no RMC.
        Some([b'P', ..]) => Ok(NmeaMessage::Other),
        Some([_, _, b'R', b'M', b'C']) => fields.rmc(),
        Some([_, _, b'Z', b'D', b'A']) => fields.zda(),
        Some([_, _, b'G', b'G', b'A']) => fields.gga(),
        Some([_, _, b'G', b'S', b'A']) => fields.gsa(),
        Some([first, second, b'G', b'S', b'V']) => fields.gsv([*first, *second]),
        Some(_) | None => Ok(NmeaMessage::Other),
    }
    .map_err(NmeaFault::Field)
}

#[cfg(test)]
#[path = "nmea_tests.rs"]
mod tests;
