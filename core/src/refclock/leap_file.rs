//! `leap-seconds.list`, the table of leap seconds that IERS, NIST and the IETF publish, read into a [`LeapTable`].
//!
//! ```text
//! #$  3960835200          when it was last updated, in seconds since 1900
//! #@  3991593600          when it expires: nothing is known of leap seconds after that
//! 2272060800  10          TAI − UTC from that second on; the first line is UTC's beginning in 1972
//! 2287785600  11
//! #h  49db2447 571e5e1b 2f002a53 9c8da8e4 39b8e49e
//! ```
//!
//! The hash is SHA-1 over the digits of the two dates and of the data lines, in the order in which they stand, without
//! whitespace and comments; its words may lack their leading zeros. It finds damage, not malice: anybody can make one.
//!
//! Octets come in through a parameter. A file of which anything isn't understood is refused as a whole: half a table
//! would be a wrong one.

use crate::time::{Instant, LeapFault, LeapTable, Span, UNIX_TO_NTP_S, Utc, is_last_of_month};
use core::fmt;
use sha1::{Digest, Sha1};

/// A file longer than this isn't read; the real one has 5,000 to 10,000 octets.
pub const LEAP_FILE_LENGTH_MAX: usize = 1 << 16;

/// Days before its expiry from which on a file is warned of. A new one is published half a year before that.
pub const EXPIRY_WARNED_DAYS: u32 = 30;

const DAY_S: i64 = 86_400;

/// 1972-01-01 in seconds since 1900 and TAI − UTC from then on: the first data line of every file.
const FIRST_LINE: (i64, i64) = (2_272_060_800, 10);

/// Words of a SHA-1 hash.
const HASH_WORDS: usize = 5;

/// What a `leap-seconds.list` says.
#[derive(Clone, Debug)]
pub struct LeapFile {
    /// The leap seconds.
    pub table: LeapTable,
    /// When the file was last updated.
    pub updated: Instant<Utc>,
    /// When it expires.
    pub expires: Instant<Utc>,
    /// It came with a hash, which is right; a file without one is taken as it is.
    pub hashed: bool,
}

/// How long a file is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// For more than [`EXPIRY_WARNED_DAYS`].
    Fresh,
    /// It expires after so many whole days, and within [`EXPIRY_WARNED_DAYS`].
    ExpiresIn {
        /// Whole days left.
        days: u32,
    },
    /// It has expired.
    Expired,
}

/// What is wrong with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeapFileFault {
    /// It is longer than [`LEAP_FILE_LENGTH_MAX`].
    TooLong,
    /// A date is not a number of seconds since 1900.
    Date,
    /// A data line isn't two numbers, a date and TAI − UTC.
    DataLine,
    /// A hash isn't five words of up to eight hexadecimal digits.
    HashLine,
    /// A date or the hash stands there twice.
    Twice,
    /// The first data line isn't 1972-01-01 with TAI − UTC = 10 s.
    FirstLine,
    /// A leap second isn't at the end of a month (UTC).
    NotEndOfMonth,
    /// TAI − UTC doesn't change by one second.
    NotOneSecond,
    /// The data lines aren't in order.
    OutOfOrder,
    /// There are more leap seconds than a table holds.
    TooMany,
    /// There are no data lines.
    NoData,
    /// The line `#$` with the date of the update is missing.
    NoUpdate,
    /// The line `#@` with the date of the expiry is missing.
    NoExpiry,
    /// It expired before it was updated.
    ExpiryBeforeUpdate,
    /// The hash isn't that of the dates and data: the file is damaged, or was edited by hand.
    WrongHash,
}

impl fmt::Display for LeapFileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "longer than any leap-seconds.list: is it the right file?",
            Self::Date => "expected one date in seconds since 1900",
            Self::DataLine => "expected a date in seconds since 1900 and TAI - UTC in seconds",
            Self::HashLine => "expected five words of up to eight hexadecimal digits",
            Self::Twice => "this line stands there a second time",
            Self::FirstLine => "expected 1972-01-01 first: 2272060800 10",
            Self::NotEndOfMonth => "a leap second must end a month",
            Self::NotOneSecond => "TAI - UTC must change by one second",
            Self::OutOfOrder => "not later than the line before",
            Self::TooMany => "more leap seconds than there is room for",
            Self::NoData => "no line with TAI - UTC: is it the right file?",
            Self::NoUpdate => "no line `#$` with the date of the last update",
            Self::NoExpiry => "no line `#@` with the date of expiry",
            Self::ExpiryBeforeUpdate => "it expired before it was updated",
            Self::WrongHash => "the hash is wrong: the file is damaged or edited; fetch it again",
        })
    }
}

/// What is wrong, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeapFileError {
    /// The line, from 1; the last one where something is missing.
    pub line: u32,
    /// What is wrong with it.
    pub fault: LeapFileFault,
}

impl fmt::Display for LeapFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.fault)
    }
}

impl LeapFile {
    /// Reads a file. Comments may hold any octets.
    ///
    /// # Errors
    /// The first thing that is wrong, and its line.
    pub fn parse(text: &[u8]) -> Result<Self, LeapFileError> {
        if text.len() > LEAP_FILE_LENGTH_MAX {
            return Err(LeapFileError { line: 1, fault: LeapFileFault::TooLong });
        }
        let mut read = Reading::new();
        let mut last = 1;
        for (number, line) in (1..).zip(text.split(|octet| *octet == b'\n')) {
            last = number;
            read.line(number, line).map_err(|fault| LeapFileError { line: number, fault })?;
        }
        read.finish(last)
    }

    /// How long the file is good for at `now`.
    #[must_use]
    pub fn expiry_state(&self, now: Instant<Utc>) -> Expiry {
        let left = self.expires - now;
        if left <= Span::ZERO {
            Expiry::Expired
        } else if left > Span::from_seconds(i64::from(EXPIRY_WARNED_DAYS) * DAY_S) {
            Expiry::Fresh
        } else {
            // At most EXPIRY_WARNED_DAYS, so it fits.
            let days = u32::try_from((left.raw() >> 64) / i128::from(DAY_S)).unwrap_or(EXPIRY_WARNED_DAYS);
            Expiry::ExpiresIn { days }
        }
    }
}

/// What has been read so far.
struct Reading {
    table: LeapTable,
    /// TAI − UTC of the last data line.
    offset_s: Option<i64>,
    updated: Option<i64>,
    expires: Option<i64>,
    /// The hash in the file, and its line.
    claimed: Option<(u32, [u32; HASH_WORDS])>,
    hash: Sha1,
}

impl Reading {
    fn new() -> Self {
        Self {
            table: LeapTable::empty(),
            offset_s: None,
            updated: None,
            expires: None,
            claimed: None,
            hash: Sha1::new(),
        }
    }

    fn line(&mut self, number: u32, line: &[u8]) -> Result<(), LeapFileFault> {
        match line {
            [b'#', b'$', rest @ ..] => {
                let date = self.date(rest)?;
                once(&mut self.updated, date)
            }
            [b'#', b'@', rest @ ..] => {
                let date = self.date(rest)?;
                once(&mut self.expires, date)
            }
            [b'#', b'h', rest @ ..] => once(&mut self.claimed, (number, hash_words(rest)?)),
            _ => {
                let data = line.split(|octet| *octet == b'#').next().unwrap_or_default();
                let mut words = words(data);
                match (words.next(), words.next(), words.next()) {
                    (None, None, None) => Ok(()),
                    (Some(date), Some(offset), None) => self.data(date, offset),
                    _ => Err(LeapFileFault::DataLine),
                }
            }
        }
    }

    fn date(&mut self, rest: &[u8]) -> Result<i64, LeapFileFault> {
        let mut words = words(rest);
        let (Some(date), None) = (words.next(), words.next()) else { return Err(LeapFileFault::Date) };
        let seconds = decimal(date).ok_or(LeapFileFault::Date)?;
        self.hash.update(date);
        Ok(seconds)
    }

    fn data(&mut self, date: &[u8], offset: &[u8]) -> Result<(), LeapFileFault> {
        self.hash.update(date);
        self.hash.update(offset);
        let line = decimal(date).zip(decimal(offset)).ok_or(LeapFileFault::DataLine)?;
        let (ntp_s, offset_s) = line;
        match self.offset_s.replace(offset_s) {
            None if line == FIRST_LINE => Ok(()),
            None => Err(LeapFileFault::FirstLine),
            Some(before_s) => {
                let unix_s = ntp_s - UNIX_TO_NTP_S;
                let day = unix_s.div_euclid(DAY_S);
                if unix_s.rem_euclid(DAY_S) != 0 || !is_last_of_month(day - 1) {
                    return Err(LeapFileFault::NotEndOfMonth);
                }
                let seconds = match offset_s - before_s {
                    1 => 1,
                    -1 => -1,
                    _ => return Err(LeapFileFault::NotOneSecond),
                };
                self.table.add(day, seconds).map_err(|fault| match fault {
                    LeapFault::Full => LeapFileFault::TooMany,
                    LeapFault::OutOfOrder => LeapFileFault::OutOfOrder,
                })
            }
        }
    }

    fn finish(self, last: u32) -> Result<LeapFile, LeapFileError> {
        let at_end = |fault| LeapFileError { line: last, fault };
        if self.offset_s.is_none() {
            return Err(at_end(LeapFileFault::NoData));
        }
        let updated = self.updated.ok_or_else(|| at_end(LeapFileFault::NoUpdate))?;
        let expires = self.expires.ok_or_else(|| at_end(LeapFileFault::NoExpiry))?;
        if expires < updated {
            return Err(at_end(LeapFileFault::ExpiryBeforeUpdate));
        }
        if let Some((line, claimed)) = self.claimed {
            let digest: [u8; 4 * HASH_WORDS] = self.hash.finalize().into();
            let (computed, _) = digest.as_chunks::<4>();
            if !computed.iter().map(|word| u32::from_be_bytes(*word)).eq(claimed) {
                return Err(LeapFileError { line, fault: LeapFileFault::WrongHash });
            }
        }
        Ok(LeapFile {
            table: self.table,
            updated: Instant::from_unix(updated - UNIX_TO_NTP_S, 0),
            expires: Instant::from_unix(expires - UNIX_TO_NTP_S, 0),
            hashed: self.claimed.is_some(),
        })
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), LeapFileFault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(LeapFileFault::Twice),
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Ten digits are enough until the year 2216, and can't overflow anything.
fn decimal(word: &[u8]) -> Option<i64> {
    const DIGITS_MAX: usize = 10;
    if word.len() > DIGITS_MAX || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(word).ok()?.parse().ok()
}

fn hash_words(rest: &[u8]) -> Result<[u32; HASH_WORDS], LeapFileFault> {
    let mut found = [0; HASH_WORDS];
    let mut words = words(rest);
    for place in &mut found {
        // `from_str_radix` would also take a sign.
        let word = words.next().filter(|word| word.len() <= 8 && word.iter().all(u8::is_ascii_hexdigit));
        let word = word.and_then(|word| core::str::from_utf8(word).ok());
        *place = word.and_then(|word| u32::from_str_radix(word, 16).ok()).ok_or(LeapFileFault::HashLine)?;
    }
    if words.next().is_some() { Err(LeapFileFault::HashLine) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    /// The days (since 1970) that began with a new TAI − UTC, from 11 s on, as the calendar has them: January 1st or
    /// July 1st of these years.
    const JANUARY: [i64; 16] =
        [1973, 1974, 1975, 1976, 1977, 1978, 1979, 1980, 1988, 1990, 1991, 1996, 1999, 2006, 2009, 2017];
    const JULY: [i64; 11] = [1972, 1981, 1982, 1983, 1985, 1992, 1993, 1994, 1997, 2012, 2015];

    /// What IERS published in July 2025: its dates and its hash.
    const UPDATED: i64 = 3_960_835_200;
    const EXPIRES: i64 = 3_991_593_600;
    const HASH: &str = "49db2447 571e5e1b 2f002a53 9c8da8e4 39b8e49e";

    fn data() -> String {
        let january_1 = |year: i64| (year - 1970) * 365 + (year - 1969) / 4;
        let is_leap_year = |year: i64| year % 4 == 0;
        let january = JANUARY.map(january_1);
        let july = JULY.map(|year| january_1(year) + 181 + i64::from(is_leap_year(year)));
        let mut days: std::vec::Vec<i64> = january.into_iter().chain(july).collect();
        days.sort_unstable();
        let mut text = String::from("2272060800\t10\t# 1 Jan 1972\n");
        for (offset, day) in (11..).zip(days) {
            text += &format!("{}      {offset}   # a comment\n", day * DAY_S + UNIX_TO_NTP_S);
        }
        text
    }

    fn file(updated: i64, hash: &str) -> String {
        format!("# a comment\n#\n#$\t {updated}\n#@\t{EXPIRES}\r\n{}#h\t{hash}\n", data())
    }

    fn parse(text: &str) -> Result<LeapFile, LeapFileError> {
        LeapFile::parse(text.as_bytes())
    }

    #[test]
    fn the_published_file_makes_the_built_in_table() {
        let read = parse(&file(UPDATED, HASH)).expect("the hash is that of IERS");
        assert!(read.hashed);
        assert_eq!(read.table.known(), LeapTable::built_in().known());
        assert_eq!(read.updated.unix_seconds(), 1_751_846_400, "2025-07-07");
        assert_eq!(read.expires.unix_seconds(), 1_782_604_800, "2026-06-28");
    }

    #[test]
    fn words_of_the_hash_may_lack_their_leading_zeros() {
        for first in ["0fbb517e", "fbb517e", "FBB517E"] {
            let text = file(3_961_008_000, &format!("{first} bec74b79 2f60e0ce 8a091b78 2f3b30cc"));
            assert!(parse(&text).is_ok_and(|file| file.hashed), "{first}");
        }
    }

    #[test]
    fn a_file_without_a_hash_is_taken_and_says_so() {
        let text = file(UPDATED, HASH).replace("#h", "# ");
        assert!(parse(&text).is_ok_and(|file| !file.hashed));
    }

    #[test]
    fn one_digit_of_the_dates_or_the_data_spoils_the_hash() {
        let good = file(UPDATED, HASH);
        let line = u32::try_from(good.lines().count()).expect("a short file");
        for (from, to) in [("#@\t39915", "#@\t39925"), ("\t 3960", "\t 3950"), ("49db", "49dc")] {
            let spoilt = good.replacen(from, to, 1);
            assert_ne!(spoilt, good);
            let error = parse(&spoilt).expect_err("damage is found");
            assert_eq!(error, LeapFileError { line, fault: LeapFileFault::WrongHash });
        }
    }

    #[test]
    fn each_fault_is_named_with_its_line() {
        use LeapFileFault as Fault;
        let head = format!("#$ {UPDATED}\n#@ {EXPIRES}\n2272060800 10\n");
        let many: String = (0..65).map(|n| format!("{} {}\n", month_end(n), 11 + n)).collect();
        for (line, fault, text) in [
            (1, Fault::Date, String::from("#$ soon\n")),
            (1, Fault::Date, String::from("#@ 1 2\n")),
            (1, Fault::Date, String::from("#@ -3991593600\n")),
            (2, Fault::Twice, format!("#$ {UPDATED}\n#$ {UPDATED}\n")),
            (4, Fault::DataLine, format!("{head}2287785600\n")),
            (4, Fault::DataLine, format!("{head}2287785600 11 12\n")),
            (4, Fault::DataLine, format!("{head}22877856000 11\n")),
            (4, Fault::DataLine, format!("{head}2287785600 eleven\n")),
            (4, Fault::HashLine, format!("{head}#h 1 2 3 4\n")),
            (4, Fault::HashLine, format!("{head}#h 1 2 3 4 5 6\n")),
            (4, Fault::HashLine, format!("{head}#h 1 2 3 4 +5\n")),
            (4, Fault::HashLine, format!("{head}#h 1 2 3 4 123456789\n")),
            (1, Fault::FirstLine, String::from("2287785600 11\n")),
            (4, Fault::NotEndOfMonth, format!("{head}2287785601 11\n")),
            (4, Fault::NotEndOfMonth, format!("{head}2287872000 11\n")),
            (4, Fault::NotOneSecond, format!("{head}2287785600 12\n")),
            (4, Fault::NotOneSecond, format!("{head}2287785600 10\n")),
            (5, Fault::OutOfOrder, format!("{head}2287785600 11\n2287785600 12\n")),
            (68, Fault::TooMany, format!("{head}{many}")),
            (3, Fault::NoData, format!("#$ {UPDATED}\n#@ {EXPIRES}\n")),
            (2, Fault::NoUpdate, String::from("2272060800 10\n")),
            (3, Fault::NoExpiry, format!("#$ {UPDATED}\n2272060800 10\n")),
            (4, Fault::ExpiryBeforeUpdate, head.replace("#@ 3", "#@ 2")),
            (1, Fault::TooLong, "\n".repeat(LEAP_FILE_LENGTH_MAX + 1)),
            (1, Fault::NoData, String::new()),
        ] {
            let error = parse(&text).expect_err("a fault");
            assert_eq!(error, LeapFileError { line, fault }, "{text}");
        }
        assert_eq!(
            format!("{}", LeapFileError { line: 4, fault: Fault::NotEndOfMonth }),
            "line 4: a leap second must end a month"
        );
    }

    /// January 1st, `n` years after 1973, in seconds since 1900; good until 2099.
    fn month_end(n: i64) -> i64 {
        ((3 + n) * 365 + (4 + n) / 4) * DAY_S + UNIX_TO_NTP_S
    }

    #[test]
    fn a_deleted_second_is_read() {
        let text = format!("#$ {UPDATED}\n#@ {EXPIRES}\n2272060800 10\n2287785600 9");
        let read = parse(&text).expect("a well-formed file");
        assert_eq!(read.table.known().last().map(|leap| leap.offset_after_s), Some(9));
    }

    #[test]
    fn expiry_is_warned_of_thirty_days_ahead() {
        let read = parse(&file(UPDATED, HASH)).expect("a good file");
        let before = |seconds: i64| read.expiry_state(read.expires - Span::from_seconds(seconds));
        assert_eq!(before(30 * DAY_S + 1), Expiry::Fresh);
        assert_eq!(before(30 * DAY_S), Expiry::ExpiresIn { days: 30 });
        assert_eq!(before(30 * DAY_S - 1), Expiry::ExpiresIn { days: 29 });
        assert_eq!(before(1), Expiry::ExpiresIn { days: 0 });
        assert_eq!(before(0), Expiry::Expired);
        assert_eq!(before(-DAY_S), Expiry::Expired);
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_or_refused(text in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = LeapFile::parse(&text);
        }
    }
}
