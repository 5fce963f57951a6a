//! The oracle of NMEA: what sentences are in a stream, found by looking at it as a whole, and what they
//! write.

use maser_core::refclock::{CivilTime, Fix, Nmea, NmeaFault, NmeaMessage, NmeaReceiver};
use maser_core::time::{Instant, Span, Ticks, Utc};

use crate::accepted;

type Reported = Result<NmeaMessage, NmeaFault>;

/// Streams of a cold receiver, a receiver of one system, of several, and of one with sentences of its own.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "\0$GPRMC,,V,,,,,,,,,,N*53\r\n$GPGGA,,,,,,0,00,99.99,,,,,,*48\r\n$GPGSV,1,1,00*79\r\n$GPZDA,,,,,,*48\r\n",
        "\0$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n\
         $GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n\
         $GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39\r\n\
         $GPGSV,2,1,08,01,40,083,46,02,17,308,41,12,07,344,39,14,22,228,45*75\r\n",
        "\0$GNRMC,235960.00,A,,,,,,,311216,,,D,V*00\n$GNZDA,235960.00,31,12,2016,00,00*00\n$GLGSV,1,1,07*00\n",
        "\0$GPZDA,201530.00,04,07,2002,00,00*60\r\n$GPZDA,201531.00,04,07,2002,00,00*61\r\n$PGRMC,A,545.0*00\r\n",
    ]
    .map(|stream| stream.as_bytes().to_vec())
    .to_vec()
}

/// Puts the checksum of every line that has a place for one right.
pub fn seal(stream: &mut [u8]) {
    for sentence in stream.split_mut(|octet| *octet == b'$').skip(1) {
        let length = sentence.iter().position(|octet| matches!(octet, b'\r' | b'\n')).unwrap_or(0);
        if let Some((body, [b'*', sum @ ..])) = sentence[..length].split_last_chunk_mut::<3>() {
            *sum = hexadecimal(body);
        }
    }
}

fn hexadecimal(body: &[u8]) -> [u8; 2] {
    let sum = body.iter().fold(0, |sum, octet| sum ^ octet);
    [sum / 16, sum % 16].map(|digit| b"0123456789ABCDEF"[usize::from(digit)])
}

/// The bodies of the sentences whose form and checksum are right.
pub fn sound(stream: &[u8]) -> Vec<&str> {
    let is_sound = |sentence: &&[u8]| {
        let ascii = sentence.iter().all(|octet| (0x20..0x7F).contains(octet));
        let sum = sentence.split_last_chunk::<3>();
        let right = |(body, end): (&[u8], &[u8; 3])| {
            end[0] == b'*' && end[1..].to_ascii_uppercase() == hexadecimal(body)
        };
        sentence.len() < 255 && ascii && sum.is_some_and(right)
    };
    stream
        .split(|octet| *octet == b'$')
        .skip(1)
        .filter_map(|piece| Some(&piece[..piece.iter().position(|octet| matches!(octet, b'\r' | b'\n'))?]))
        .filter(is_sound)
        .map(|sentence| std::str::from_utf8(&sentence[..sentence.len() - 3]).expect("printable"))
        .collect()
}

fn decode(stream: &[u8]) -> Vec<(usize, Reported)> {
    let mut nmea = Nmea::new();
    (1..).zip(stream).filter_map(|(after, octet)| Some((after, nmea.push(*octet)?))).collect()
}

/// Decodes a stream and compares what comes with what is in it.
pub fn judge(stream: &[u8]) {
    let mut reported = decode(stream);
    if cfg!(feature = "planted") {
        reported.iter_mut().for_each(|(_, told)| plant(told));
    }
    let begun = stream.iter().filter(|octet| **octet == b'$').count();
    assert!(reported.len() <= begun, "no more is reported than was begun");
    check(stream, &reported.iter().map(|(_, told)| *told).collect::<Vec<_>>());
    if let Some(at) = reported.iter().position(|(_, told)| told.is_ok()) {
        let after = reported[at].0;
        let rest: Vec<_> =
            decode(&stream[after..]).into_iter().map(|(place, told)| (place + after, told)).collect();
        assert!(cfg!(feature = "planted") || reported[at + 1..] == rest, "a sentence leaves nothing behind");
    }
    if reported.iter().any(|(_, told)| matches!(told, Ok(message) if *message != NmeaMessage::Other)) {
        accepted();
    }
    receive(&reported);
}

/// Compares what was reported of a stream's sentences with the sentences.
pub fn check(stream: &[u8], reported: &[Reported]) {
    let judged: Vec<_> =
        reported.iter().filter(|told| matches!(told, Ok(_) | Err(NmeaFault::Field(_)))).collect();
    let sound = sound(stream);
    assert_eq!(judged.len(), sound.len(), "every sound sentence is read: {sound:?}");
    for (told, body) in judged.into_iter().zip(sound) {
        let Ok(message) = told else { continue };
        let fields: Vec<_> = body.split(',').collect();
        let is = |name: &str| !body.starts_with('P') && fields[0].len() == 5 && fields[0].ends_with(name);
        match *message {
            NmeaMessage::Rmc { utc, valid } => {
                assert!(is("RMC") && (!valid || fields[2] == "A"), "a valid sentence says so: {body}");
                writes(utc, fields[1], |date, utc| date == utc.day_month_year(), fields[9]);
            }
            NmeaMessage::Zda { utc } => {
                let date = |numbers: &str, utc: Written| {
                    let numbers: Vec<i64> =
                        numbers.split(',').map(|number| number.parse().expect("a number")).collect();
                    numbers == [utc.day, utc.month, utc.year]
                };
                assert!(is("ZDA"));
                writes(utc, fields[1], date, &fields[2..5].join(","));
            }
            NmeaMessage::Gga { quality, satellites, .. } => {
                assert!(is("GGA"));
                assert_eq!(
                    (number(fields[6]), number(fields[7])),
                    (quality.into(), satellites.into()),
                    "{body}"
                );
            }
            NmeaMessage::Gsa { fix } => {
                let expected = [Fix::None, Fix::None, Fix::TwoD, Fix::ThreeD];
                assert!(
                    is("GSA") && usize::try_from(number(fields[2])).is_ok_and(|at| expected[at] == fix),
                    "{body}"
                );
            }
            NmeaMessage::Gsv { talker, .. } => assert!(is("GSV") && body.as_bytes().starts_with(&talker)),
            NmeaMessage::Other => {
                assert!(!["RMC", "ZDA", "GGA", "GSA"].into_iter().any(is), "a sentence that is used: {body}");
            }
        }
    }
}

fn number(field: &str) -> u64 {
    if field.is_empty() { 0 } else { field.parse().expect("a number") }
}

/// A moment as a sentence writes it.
struct Written {
    day: i64,
    month: i64,
    year: i64,
}

impl Written {
    fn day_month_year(&self) -> String {
        format!("{:02}{:02}{:02}", self.day, self.month, self.year % 100)
    }
}

/// Checks that a moment, written again, gives the sentence's own digits (23:59:59 for a leap second).
fn writes(utc: Option<Instant<Utc>>, time: &str, same_date: impl Fn(&str, Written) -> bool, date: &str) {
    let Some(utc) = utc else {
        assert!(
            time.is_empty() || date.chars().all(|digit| digit == ','),
            "a moment that is written is read"
        );
        return;
    };
    let civil = CivilTime::of(utc).expect("a year of four digits at most");
    let (seconds, nanos) = (civil.time.seconds, civil.time.nanos);
    let again = format!("{:02}{:02}{:02}.{nanos:09}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut expected = time.replacen("235960", "235959", usize::from(time.starts_with("235960")));
    if !expected.contains('.') {
        expected.push('.');
    }
    expected.truncate(16);
    let day =
        Written { day: civil.date.day.into(), month: civil.date.month.into(), year: civil.date.year.into() };
    let same = again == format!("{expected:0<16}") && same_date(date, day);
    assert!(same, "the moment is the one that the sentence writes: {time} {date}, not {again}");
}

/// What a receiver tells comes from its messages and names each second once.
fn receive(reported: &[(usize, Reported)]) {
    let mut receiver = NmeaReceiver::new();
    let mut last = None;
    for (at, message) in reported.iter().filter_map(|(at, told)| Some((*at as u64, told.ok()?))) {
        let Some(sentence) = receiver.take(&message, Ticks::from_bits(at)) else { continue };
        let (NmeaMessage::Rmc { utc, .. } | NmeaMessage::Zda { utc }) = message else {
            panic!("only RMC and ZDA name a second")
        };
        assert_eq!((Some(sentence.utc), sentence.at), (utc, Ticks::from_bits(at)));
        assert!(
            last.replace(sentence.utc.unix_seconds()) != Some(sentence.utc.unix_seconds()),
            "one a second"
        );
    }
}

/// A fault that no seed brings about: a ZDA in the seconds 32 to 58 of a minute names the next.
fn plant(told: &mut Reported) {
    if let Ok(NmeaMessage::Zda { utc: Some(utc) }) = told
        && (32..59).contains(&(utc.unix_seconds() % 60))
    {
        *utc = *utc + Span::from_seconds(1);
    }
}
