//! Records as gpsd and NTP's drivers lay them out, and any others.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

/// 2026-11-22 04:00:00 UTC.
const SECONDS: i64 = 1_795_320_000;

fn sock(seconds: i64, micros: i64, offset: f64, pulse: i32, leap: i32, magic: u32) -> Vec<u8> {
    [
        seconds.to_le_bytes().as_slice(),
        &micros.to_le_bytes(),
        &offset.to_le_bytes(),
        &pulse.to_le_bytes(),
        &leap.to_le_bytes(),
        &[0xAA; 4],
        &magic.to_le_bytes(),
    ]
    .concat()
}

#[test]
fn a_record_octet_by_octet() {
    let mut record = [0_u8; 40];
    record[..8].copy_from_slice(&[0x40, 0xD6, 0x02, 0x6B, 0, 0, 0, 0]);
    record[8..11].copy_from_slice(&[0x40, 0x42, 0x06]);
    // 2.5 as a double.
    record[16..24].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0x04, 0x40]);
    record[28] = 1;
    record[36..].copy_from_slice(b"KCOS");
    assert_eq!(
        parse_sock(&record),
        Ok(GpsdSample {
            clock_ns: 0x6B02_D640 * 1_000_000_000 + 410_176_000,
            offset: Span::from_nanos(2_500_000_000),
            is_pulse: false,
            leap: LeapClaim::Insert,
        })
    );
}

#[test]
fn a_pulse_says_only_the_fraction() {
    for (offset, expected_ns) in
        [(0.25, 250_000_000), (0.75, -250_000_000), (-7.25, -250_000_000), (0.5, -500_000_000)]
    {
        let sample = parse_sock(&sock(SECONDS, 0, offset, 1, 0, SOCK_MAGIC)).unwrap();
        assert!(sample.is_pulse);
        assert_eq!(sample.offset.as_nanos(), expected_ns, "{offset}");
    }
}

#[test]
fn what_makes_no_sense_in_a_record_is_refused() {
    let good = sock(SECONDS, 999_999, -1.0, 0, 2, SOCK_MAGIC);
    assert_eq!(parse_sock(&good).map(|sample| sample.leap), Ok(LeapClaim::Delete));
    let reasons = [
        (good[..32].to_vec(), GpsdFault::Length(32)),
        (sock(SECONDS, 0, 0.0, 0, 0, 0x4B43_4F53), GpsdFault::Magic(0x4B43_4F53)),
        (sock(SECONDS, 1_000_000, 0.0, 0, 0, SOCK_MAGIC), GpsdFault::Clock),
        (sock(SECONDS, -1, 0.0, 0, 0, SOCK_MAGIC), GpsdFault::Clock),
        (sock(SECONDS, i64::MAX, 0.0, 0, 0, SOCK_MAGIC), GpsdFault::Clock),
        (sock(-1, 0, 0.0, 0, 0, SOCK_MAGIC), GpsdFault::Clock),
        (sock(i64::MAX, 0, 0.0, 0, 0, SOCK_MAGIC), GpsdFault::Clock),
        (sock(SECONDS, 0, f64::NAN, 0, 0, SOCK_MAGIC), GpsdFault::Offset),
        (sock(SECONDS, 0, f64::NEG_INFINITY, 1, 0, SOCK_MAGIC), GpsdFault::Offset),
        (sock(SECONDS, 0, 1.1e10, 0, 0, SOCK_MAGIC), GpsdFault::Offset),
        (sock(SECONDS, 0, 0.0, 0, 3, SOCK_MAGIC), GpsdFault::Unsynchronised),
        (sock(SECONDS, 0, 0.0, 0, -1, SOCK_MAGIC), GpsdFault::Leap(-1)),
    ];
    for (record, reason) in reasons {
        assert_eq!(parse_sock(&record), Err(reason));
    }
}

/// A segment of mode 1: true time 04:00:00.25, received at 04:00:00.100200300 by the system's clock.
fn segment() -> [u8; SHM_LENGTH] {
    let mut record = [0_u8; SHM_LENGTH];
    let mut put = |at: usize, value: i64, length: usize| {
        record[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
    };
    put(0, 1, 4);
    put(4, 77, 4);
    put(8, SECONDS, 8);
    put(16, 250_000, 4);
    put(24, SECONDS, 8);
    put(32, 100_200, 4);
    put(36, 1, 4);
    put(40, -20, 4);
    put(44, 3, 4);
    put(48, 1, 4);
    put(52, 250_000_000, 4);
    put(56, 100_200_300, 4);
    record
}

#[test]
fn a_segment_with_nanoseconds() {
    let sample = parse_shm(&segment()).unwrap();
    assert_eq!(sample.utc, Instant::from_unix(SECONDS, 250_000_000));
    assert_eq!(sample.receive_ns, SECONDS * 1_000_000_000 + 100_200_300);
    assert_eq!((sample.leap, sample.precision, sample.count), (LeapClaim::Insert, -20, 77));
    assert_eq!(sample.mode, ShmMode::Counted);
}

#[test]
fn nanoseconds_that_contradict_either_microseconds_are_not_used() {
    for at in [52, 56] {
        let mut record = segment();
        record[at..at + 4].copy_from_slice(&7_u32.to_le_bytes());
        let sample = parse_shm(&record).unwrap();
        assert_eq!(sample.receive_ns, SECONDS * 1_000_000_000 + 100_200_000);
        assert_eq!(sample.utc, Instant::from_unix(SECONDS, 250_000_000));
    }
}

#[test]
fn a_segment_of_mode_0_is_told_from_one_that_counts() {
    let mut record = segment();
    record[0] = 0;
    assert_eq!(parse_shm(&record).unwrap().mode, ShmMode::Plain);
}

#[test]
fn what_makes_no_sense_in_a_segment_is_refused() {
    let with = |at: usize, value: i32| {
        let mut record = segment();
        record[at..at + 4].copy_from_slice(&value.to_le_bytes());
        parse_shm(&record)
    };
    assert_eq!(with(0, 2), Err(GpsdFault::Mode(2)));
    assert_eq!(with(48, 0), Err(GpsdFault::Empty));
    assert_eq!(with(16, -1), Err(GpsdFault::Clock));
    assert_eq!(with(32, 1_000_000), Err(GpsdFault::Clock));
    assert_eq!(with(12, 1 << 30), Err(GpsdFault::Clock), "seconds beyond 2262");
    assert_eq!(with(28, -1), Err(GpsdFault::Clock), "seconds before 1970");
    assert_eq!(with(36, 3), Err(GpsdFault::Unsynchronised));
    assert_eq!(with(36, 4), Err(GpsdFault::Leap(4)));
    assert_eq!(parse_shm(&[0; SHM_LENGTH]), Err(GpsdFault::Empty), "a new segment");
}

proptest! {
    #[test]
    fn the_offset_is_the_double_exactly(offset in -1e10..1e10_f64) {
        let sample = parse_sock(&sock(SECONDS, 0, offset, 0, 0, SOCK_MAGIC)).unwrap();
        prop_assert_eq!(sample.offset.as_seconds_f64(), offset);
        let pulse = parse_sock(&sock(SECONDS, 0, offset, -1, 0, SOCK_MAGIC)).unwrap();
        prop_assert!(pulse.offset >= Span::from_nanos(-500_000_000) && pulse.offset < Span::from_nanos(500_000_000));
        let whole = (sample.offset - pulse.offset).raw().rem_euclid(1 << 64);
        prop_assert_eq!(whole, 0);
    }

    #[test]
    fn any_octets_are_read_without_harm(record in proptest::collection::vec(any::<u8>(), SHM_LENGTH)) {
        let _sample = parse_shm(record.as_slice().try_into().unwrap());
        for length in [0, 39, 40, 41] {
            let _sample = parse_sock(&record[..length]);
        }
    }
}
