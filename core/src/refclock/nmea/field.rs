//! The fields of the sentences that are used, from a body whose checksum was right.

use super::{NmeaField, NmeaMessage};
use crate::refclock::calendar::{CivilTime, Date, TimeOfDay};
use crate::refclock::receiver::Fix;
use crate::time::{Instant, Utc};

/// Two-digit years from this one on are of the twentieth century: GPS time began in 1980.
const CENTURY_PIVOT: u16 = 80;

/// A sentence's fields, by their number: 0 is the address.
pub(super) struct Fields<'t> {
    body: &'t [u8],
}

impl<'t> Fields<'t> {
    pub(super) const fn of(body: &'t [u8]) -> Self {
        Self { body }
    }

    /// A field that the sentence must have, be it empty.
    fn at(&self, place: usize, name: NmeaField) -> Result<&'t [u8], NmeaField> {
        self.body.split(|octet| *octet == b',').nth(place).ok_or(name)
    }

    /// A small number; an empty field is 0.
    fn small(&self, place: usize, name: NmeaField) -> Result<u8, NmeaField> {
        match self.at(place, name)? {
            [] => Ok(0),
            digits => number(digits).and_then(|value| u8::try_from(value).ok()).ok_or(name),
        }
    }

    /// `hhmmss` and perhaps a fraction; none where it is empty.
    fn time(&self) -> Result<Option<TimeOfDay>, NmeaField> {
        match self.at(1, NmeaField::Time)? {
            [] => Ok(None),
            text => time_of_day(text).map(Some).ok_or(NmeaField::Time),
        }
    }

    pub(super) fn rmc(&self) -> Result<NmeaMessage, NmeaField> {
        let date = match self.at(9, NmeaField::Date)? {
            [] => None,
            text => Some(date_of_six(text).ok_or(NmeaField::Date)?),
        };
        let active = match self.at(2, NmeaField::Status)? {
            b"A" => true,
            b"V" | b"" => false,
            _ => return Err(NmeaField::Status),
        };
        // The mode came with NMEA 2.3: N no fix, E estimated, M typed in, S simulated.
        let mode = self.at(12, NmeaField::Status).unwrap_or_default();
        let by_satellites = !matches!(mode, b"N" | b"E" | b"M" | b"S");
        Ok(NmeaMessage::Rmc { utc: moment(date, self.time()?)?, valid: active && by_satellites })
    }

    pub(super) fn zda(&self) -> Result<NmeaMessage, NmeaField> {
        let [day, month, year] = [2, 3, 4].map(|place| self.at(place, NmeaField::Date));
        let date = match (day?, month?, year?) {
            ([], [], []) => None,
            (day, month, year) => {
                let part = |digits| number(digits).ok_or(NmeaField::Date);
                Some(date(part(year)?, part(month)?, part(day)?).ok_or(NmeaField::Date)?)
            }
        };
        Ok(NmeaMessage::Zda { utc: moment(date, self.time()?)? })
    }

    pub(super) fn gga(&self) -> Result<NmeaMessage, NmeaField> {
        Ok(NmeaMessage::Gga {
            time_of_day: self.time()?,
            quality: self.small(6, NmeaField::Quality)?,
            satellites: self.small(7, NmeaField::Satellites)?,
        })
    }

    pub(super) fn gsa(&self) -> Result<NmeaMessage, NmeaField> {
        let fix = match self.small(2, NmeaField::Fix)? {
            0 | 1 => Fix::None,
            2 => Fix::TwoD,
            3 => Fix::ThreeD,
            _ => return Err(NmeaField::Fix),
        };
        Ok(NmeaMessage::Gsa { fix })
    }

    /// The number in view stands in each sentence of a group: it is taken from the first.
    pub(super) fn gsv(&self, talker: [u8; 2]) -> Result<NmeaMessage, NmeaField> {
        let place = self.small(2, NmeaField::Place)?;
        let in_view = self.small(3, NmeaField::Satellites)?;
        Ok(if place <= 1 { NmeaMessage::Gsv { talker, in_view } } else { NmeaMessage::Other })
    }
}

/// A date and a time make a moment, if the receiver knows both.
fn moment(date: Option<Date>, time: Option<TimeOfDay>) -> Result<Option<Instant<Utc>>, NmeaField> {
    match date.zip(time) {
        None => Ok(None),
        Some((date, time)) => CivilTime { date, time }.utc().map(Some).ok_or(NmeaField::Date),
    }
}

/// `hhmmss` and perhaps a point and digits, of which those beyond the nanosecond are dropped.
fn time_of_day(text: &[u8]) -> Option<TimeOfDay> {
    let (whole, fraction) = match text.iter().position(|octet| *octet == b'.') {
        Some(point) => (text.get(..point)?, text.get(point + 1..)?),
        None => (text, [].as_slice()),
    };
    let [hour, minute, second] = three_pairs(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = (0..9).fold(0, |nanos, place| {
        let digit = fraction.get(place).map_or(0, |digit| u32::from(digit.wrapping_sub(b'0')));
        nanos * 10 + digit
    });
    TimeOfDay::new(hour, minute, second, nanos)
}

/// `ddmmyy`.
fn date_of_six(text: &[u8]) -> Option<Date> {
    let [day, month, year] = three_pairs(text)?.map(u16::from);
    let century = if year >= CENTURY_PIVOT { 1900 } else { 2000 };
    date(century + year, month, day)
}

/// A date that the calendar has.
fn date(year: u16, month: u16, day: u16) -> Option<Date> {
    let date = Date { year: year.into(), month: month.try_into().ok()?, day: day.try_into().ok()? };
    date.day().map(|_| date)
}

/// Six digits as three numbers.
fn three_pairs(text: &[u8]) -> Option<[u8; 3]> {
    let [a, b, c, d, e, f] = text else { return None };
    let pair = |high: u8, low: u8| number(&[high, low]).and_then(|value| u8::try_from(value).ok());
    Some([pair(*a, *b)?, pair(*c, *d)?, pair(*e, *f)?])
}

/// One digit or more.
fn number(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u16, |value, digit| {
        let digit = char::from(*digit).to_digit(10).and_then(|digit| u16::try_from(digit).ok())?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// A hexadecimal digit of either case.
pub(super) fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
