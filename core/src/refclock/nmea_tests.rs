//! Sentences of the standard's textbooks and of real receivers, broken ones, and any octets.

use super::*;
use crate::refclock::calendar::{CivilTime, Date};
use proptest::prelude::*;
use std::format;
use std::string::String;
use std::vec::Vec;

type Reported = Vec<Result<NmeaMessage, NmeaFault>>;

fn decode(octets: &[u8]) -> Reported {
    let mut nmea = Nmea::new();
    octets.iter().filter_map(|octet| nmea.push(*octet)).collect()
}
fn only(line: &str) -> Result<NmeaMessage, NmeaFault> {
    let reported = decode(format!("{line}\r\n").as_bytes());
    assert_eq!(reported.len(), 1, "{line}");
    reported[0]
}
/// The sentence with this body and the right checksum.
fn sentence(body: &str) -> String {
    format!("${body}*{:02X}", nmea_checksum(body.as_bytes()))
}
fn utc(
    year: i32,
    month: u8,
    day: u8,
    (hour, minute, second): (u8, u8, u8),
    nanos: u32,
) -> Option<Instant<Utc>> {
    let time = TimeOfDay::new(hour, minute, second, nanos)?;
    CivilTime { date: Date { year, month, day }, time }.utc()
}

#[test]
fn golden_sentences() {
    let rmc = only("$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A");
    assert_eq!(rmc, Ok(NmeaMessage::Rmc { utc: utc(1994, 3, 23, (12, 35, 19), 0), valid: true }));
    let multi = only("$GNRMC,065959.00,A,5742.76987,N,01201.36421,E,0.034,,280723,,,A*60");
    assert_eq!(multi, Ok(NmeaMessage::Rmc { utc: utc(2023, 7, 28, (6, 59, 59), 0), valid: true }));
    let zda = only("$GPZDA,201530.00,04,07,2002,00,00*60");
    assert_eq!(zda, Ok(NmeaMessage::Zda { utc: utc(2002, 7, 4, (20, 15, 30), 0) }));
    let gga = only("$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47");
    let time_of_day = TimeOfDay::new(12, 35, 19, 0);
    assert_eq!(gga, Ok(NmeaMessage::Gga { time_of_day, quality: 1, satellites: 8 }));
    let gsa = only("$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39");
    assert_eq!(gsa, Ok(NmeaMessage::Gsa { fix: Fix::ThreeD }));
    let gsv = only("$GPGSV,2,1,08,01,40,083,46,02,17,308,41,12,07,344,39,14,22,228,45*75");
    assert_eq!(gsv, Ok(NmeaMessage::Gsv { talker: *b"GP", in_view: 8 }));
}

#[test]
fn any_talker_and_nobodys_proprietary_sentence() {
    for talker in ["GA", "GB", "GL", "GQ", "BD", "IN"] {
        let line = sentence(&format!("{talker}ZDA,000000,01,01,2026,,"));
        assert_eq!(only(&line), Ok(NmeaMessage::Zda { utc: utc(2026, 1, 1, (0, 0, 0), 0) }));
    }
    for body in
        ["PGRMC,A,545.0,100,,,,,,A,3,1,1,0,30", "PUBX,04,073731.00,091202", "GPGLL,1", "CCGPQ,ZDA", ""]
    {
        assert_eq!(only(&sentence(body)), Ok(NmeaMessage::Other), "{body}");
    }
}

#[test]
fn a_receiver_without_a_fix_says_so() {
    let cold = only(&sentence("GPRMC,,V,,,,,,,,,,N"));
    assert_eq!(cold, Ok(NmeaMessage::Rmc { utc: None, valid: false }));
    for (mode, expected) in
        [("A", true), ("D", true), ("R", true), ("N", false), ("E", false), ("M", false), ("S", false)]
    {
        let line = sentence(&format!("GPRMC,000000,A,,,,,,,010126,,,{mode}"));
        let Ok(NmeaMessage::Rmc { valid, .. }) = only(&line) else { panic!("{line}") };
        assert_eq!(valid, expected, "{mode}");
    }
    assert_eq!(only(&sentence("GPZDA,,,,,,")), Ok(NmeaMessage::Zda { utc: None }));
    let gga = only(&sentence("GPGGA,,,,,,0,,,,,,,,"));
    assert_eq!(gga, Ok(NmeaMessage::Gga { time_of_day: None, quality: 0, satellites: 0 }));
}

#[test]
fn years_turn_at_80_and_fractions_stay() {
    let rmc = |time: &str, date: &str| match only(&sentence(&format!("GPRMC,{time},A,,,,,,,{date},,,A"))) {
        Ok(NmeaMessage::Rmc { utc, .. }) => utc,
        other => panic!("{other:?}"),
    };
    assert_eq!(rmc("000000", "060180"), utc(1980, 1, 6, (0, 0, 0), 0));
    assert_eq!(rmc("000000", "311279"), utc(2079, 12, 31, (0, 0, 0), 0));
    assert_eq!(rmc("000000", "010100"), utc(2000, 1, 1, (0, 0, 0), 0));
    assert_eq!(rmc("235959.25", "010100"), utc(2000, 1, 1, (23, 59, 59), 250_000_000));
    assert_eq!(rmc("235959.", "010100"), utc(2000, 1, 1, (23, 59, 59), 0));
    assert_eq!(rmc("000000.0123456789", "010100"), utc(2000, 1, 1, (0, 0, 0), 12_345_678));
    assert_eq!(rmc("235960", "311216"), utc(2016, 12, 31, (23, 59, 59), 0), "a leap second");
}

#[test]
fn fields_that_make_no_sense_are_named() {
    let bodies = [
        ("GPRMC,250000,A,,,,,,,010126,,,A", NmeaField::Time),
        ("GPRMC,00000,A,,,,,,,010126,,,A", NmeaField::Time),
        ("GPRMC,000000.1x,A,,,,,,,010126,,,A", NmeaField::Time),
        ("GPRMC,000000,A,,,,,,,310226,,,A", NmeaField::Date),
        ("GPRMC,235960,A,,,,,,,300126,,,A", NmeaField::Date),
        ("GPRMC,000000,A", NmeaField::Date),
        ("GPRMC,000000,X,,,,,,,010126,,,A", NmeaField::Status),
        ("GPZDA,000000,01,01,26x6,,", NmeaField::Date),
        ("GPZDA,000000,01,,2026,,", NmeaField::Date),
        ("GPZDA,000000,01,01,65536,,", NmeaField::Date),
        ("GPGGA,000000,,,,,-1,08", NmeaField::Quality),
        ("GPGGA,000000,,,,,1,256", NmeaField::Satellites),
        ("GPGSA,A,4", NmeaField::Fix),
        ("GPGSA", NmeaField::Fix),
        ("GPGSV,1,a,00", NmeaField::Place),
        ("GPGSV,1,1", NmeaField::Satellites),
    ];
    for (body, field) in bodies {
        assert_eq!(only(&sentence(body)), Err(NmeaFault::Field(field)), "{body}");
    }
}

#[test]
fn a_broken_sentence_is_reported_once_and_the_next_is_read() {
    let good = sentence("GPZDA,000000,01,01,2026,,");
    let read = Ok(NmeaMessage::Zda { utc: utc(2026, 1, 1, (0, 0, 0), 0) });
    let broken: [(&[u8], NmeaFault); 7] = [
        (b"$GPZDA,0000", NmeaFault::Truncated),
        (b"$GPZDA,\xFFfoo\r\n", NmeaFault::NotAscii(0xFF)),
        (b"$GPZDA,000000\r\n", NmeaFault::NoChecksum),
        (b"$*1\r\n", NmeaFault::NoChecksum),
        (b"$GPZDA*4G\n", NmeaFault::NoChecksum),
        (b"$GPZDA*49\n", NmeaFault::Checksum { found: 0x49, expected: 0x48 }),
        (b"$GPZDA*C8\n", NmeaFault::Checksum { found: 0xC8, expected: 0x48 }),
    ];
    for (octets, fault) in broken {
        let stream = [b"noise*00\r\n", octets, good.as_bytes(), b"\n\r\n"].concat();
        assert_eq!(decode(&stream), [Err(fault), read], "{}", octets.escape_ascii());
    }
    let lower = good.to_lowercase().replace("gpzda", "GPZDA");
    assert_eq!(only(&lower), read, "hexadecimal digits of either case");
}

#[test]
fn up_to_255_octets_are_a_sentence() {
    for (filling, expected) in [(247, Ok(NmeaMessage::Other)), (248, Err(NmeaFault::TooLong))] {
        let line = sentence(&format!("GNTXT{}", ",".repeat(filling - 1)));
        assert_eq!(line.len(), 8 + filling);
        assert_eq!(only(&line), expected);
    }
}

#[test]
fn octets_are_counted_from_the_start_to_the_end() {
    let mut nmea = Nmea::new();
    for (line, octets) in [("xx$GPZDA*48\r\n", 10), ("$\r", 2), ("$GP$", 4), ("ZDA\u{7F}", 5)] {
        assert!(line.bytes().filter_map(|octet| nmea.push(octet)).count() <= 1);
        assert_eq!(nmea.octets(), octets, "{line:?}");
    }
}

/// Pieces of sentences and noise: put together they reach what random octets never would.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8),
        "[A-Z0-9,.]{0,12}".prop_map(String::into_bytes),
        "G[PNL](RMC|ZDA|GGA|GSA|GSV)(,[AV0-9.]{0,6}){0,13}".prop_map(|body| format!(
            "{}\r\n",
            sentence(&body)
        )
        .into_bytes()),
        prop_oneof![Just("$"), Just("*"), Just("\r\n"), Just("\n")].prop_map(|mark| mark.as_bytes().to_vec()),
    ]
}

proptest! {
    #[test]
    fn any_moment_of_a_century_is_read_as_it_was_written(unix_s in 315_532_800_i64..3_471_292_800, nanos in 0_u32..1_000_000_000) {
        let moment = Instant::from_unix(unix_s, nanos);
        let civil = CivilTime::of(moment).unwrap();
        let (date, time) = (civil.date, civil.time);
        let clock = format!("{:02}{:02}{:02}.{nanos:09}", time.seconds / 3_600, time.seconds / 60 % 60, time.seconds % 60);
        let rmc = sentence(&format!("GPRMC,{clock},A,,,,,,,{:02}{:02}{:02},,", date.day, date.month, date.year % 100));
        prop_assert_eq!(only(&rmc), Ok(NmeaMessage::Rmc { utc: Some(moment), valid: true }));
        let zda = sentence(&format!("GPZDA,{clock},{:02},{:02},{:04},,", date.day, date.month, date.year));
        prop_assert_eq!(only(&zda), Ok(NmeaMessage::Zda { utc: Some(moment) }));
    }

    #[test]
    fn no_more_is_reported_than_was_begun(pieces in proptest::collection::vec(piece(), 0..12)) {
        let stream = pieces.concat();
        prop_assert!(decode(&stream).len() <= stream.iter().filter(|octet| **octet == b'$').count());
    }

    #[test]
    fn a_sentence_after_anything_is_read(pieces in proptest::collection::vec(piece(), 0..6)) {
        let stream = [pieces.concat().as_slice(), sentence("GPGSA,A,2").as_bytes(), b"\r"].concat();
        prop_assert_eq!(decode(&stream).last().copied(), Some(Ok(NmeaMessage::Gsa { fix: Fix::TwoD })));
    }

    #[test]
    fn one_flipped_bit_is_never_read(bit in 0_usize..8, at in 1_usize..60) {
        let mut line = *b"$GNRMC,065959.00,A,5742.76987,N,01201.36421,E,0.034,,280723,,,A*60\r\n";
        line[at] ^= 1 << bit;
        prop_assert!(decode(&line).iter().all(Result::is_err));
    }
}
