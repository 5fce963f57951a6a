//! The oracle of gpsd's records: what is accepted, written again, is the record; what makes sense is
//! accepted.

use maser_core::discipline::LeapClaim;
use maser_core::refclock::{GpsdFault, GpsdSample, SHM_LENGTH, SOCK_LENGTH, ShmMode, parse_shm, parse_sock};
use maser_core::time::Span;

use crate::accepted;

/// The last second of which a 64-bit count of nanoseconds holds all.
const SECOND_MAX: i64 = i64::MAX / 1_000_000_000 - 1;

/// A SOCK record of a time, one of a pulse, and segments of both modes, with and without nanoseconds.
pub fn seeds() -> Vec<Vec<u8>> {
    let seconds = 1_795_320_000_i64.to_le_bytes();
    let sock = |offset: f64, pulse: u8, leap: u8| {
        let mut record = vec![0; 1 + SOCK_LENGTH];
        record[1..9].copy_from_slice(&seconds);
        record[9..12].copy_from_slice(&[0x40, 0x42, 0x06]);
        record[17..25].copy_from_slice(&offset.to_le_bytes());
        record[25] = pulse;
        record[29] = leap;
        record[37..].copy_from_slice(b"KCOS");
        record
    };
    let shm = |mode: u8, nanos: u32| {
        let mut record = vec![0; 1 + SHM_LENGTH];
        record[..2].copy_from_slice(&[1, mode]);
        record[9..17].copy_from_slice(&seconds);
        record[25..33].copy_from_slice(&seconds);
        record[33..35].copy_from_slice(&[0xE8, 0x03]);
        record[49] = 1;
        record[57..61].copy_from_slice(&nanos.to_le_bytes());
        record
    };
    vec![sock(2.5, 0, 0), sock(0.25, 1, 0), sock(-1e-6, 0, 1), shm(0, 0), shm(1, 1_000_999)]
}

/// Reads an input's record: the control octet's lowest bit says of which kind, the next whether length and
/// magic number are left as they are.
pub fn judge(control: u8, record: &[u8]) {
    let mut record = record.to_vec();
    if control % 2 == 1 {
        record.resize(SHM_LENGTH, 0);
        judge_shm(record.as_slice().try_into().expect("resized"));
        return;
    }
    if control & 2 == 0 {
        record.resize(SOCK_LENGTH, 0);
        record[36..].copy_from_slice(b"KCOS");
    }
    judge_sock(&record);
}

fn number<const LENGTH: usize>(record: &[u8], at: usize) -> [u8; LENGTH] {
    record[at..at + LENGTH].try_into().expect("inside the record")
}

fn is_time(seconds: i64, micros: i64) -> bool {
    (0..=SECOND_MAX).contains(&seconds) && (0..1_000_000).contains(&micros)
}

fn judge_sock(record: &[u8]) {
    let mut told = parse_sock(record);
    if cfg!(feature = "planted") {
        plant(&mut told);
    }
    if record.len() != SOCK_LENGTH {
        assert_eq!(told, Err(GpsdFault::Length(record.len())));
        return;
    }
    let seconds = i64::from_le_bytes(number(record, 0));
    let micros = i64::from_le_bytes(number(record, 8));
    let offset = f64::from_le_bytes(number(record, 16));
    let pulse = i32::from_le_bytes(number(record, 24)) != 0;
    let leap = i32::from_le_bytes(number(record, 28));
    let sense = is_time(seconds, micros)
        && offset.abs() <= 1e10
        && (0..3).contains(&leap)
        && &record[36..] == b"KCOS";
    if sense {
        assert!(told.is_ok(), "what makes sense is accepted: {told:?}");
    }
    let Ok(sample) = told else { return };
    accepted();
    assert_eq!(sample.clock_ns, seconds * 1_000_000_000 + micros * 1_000);
    assert_eq!((sample.is_pulse, claim(sample.leap)), (pulse, leap));
    let left = match offset % 1.0 {
        _ if !pulse => offset,
        part if part >= 0.5 => part - 1.0,
        part if part < -0.5 => part + 1.0,
        part => part,
    };
    let told = sample.offset.as_seconds_f64();
    assert!((told - left).abs() < 1e-15, "the offset is the record's: {told}, not {left}");
    assert!(!pulse || (-0.5..0.5).contains(&told), "a pulse says the fraction only");
}

fn judge_shm(record: &[u8; SHM_LENGTH]) {
    let told = parse_shm(record);
    let int = |at| i64::from(i32::from_le_bytes(number(record, at)));
    let long = |at| i64::from_le_bytes(number(record, at));
    let times = is_time(long(8), int(16)) && is_time(long(24), int(32));
    let sense = (0..2).contains(&int(0)) && int(48) != 0 && times && (0..3).contains(&int(36));
    // Within the last second that a count of nanoseconds holds, either answer will do.
    let edge = long(8) > SECOND_MAX || long(24) > SECOND_MAX;
    assert!(edge || told.is_ok() == sense, "what makes sense is accepted, and nothing else: {told:?}");
    let Ok(sample) = told else { return };
    accepted();
    let nanos = |at: usize| i64::from(u32::from_le_bytes(number(record, at)));
    let refined = nanos(52) / 1_000 == int(16) && nanos(56) / 1_000 == int(32);
    let [clock, receive] = if refined { [nanos(52), nanos(56)] } else { [int(16) * 1_000, int(32) * 1_000] };
    assert_eq!(sample.utc.unix_nanos(), long(8) * 1_000_000_000 + clock);
    assert_eq!(sample.receive_ns, long(24) * 1_000_000_000 + receive);
    assert_eq!((i64::from(sample.count), i64::from(claim(sample.leap))), (int(4), int(36)));
    assert_eq!(i64::from(sample.precision), int(40).clamp(-128, 127));
    assert_eq!(sample.mode == ShmMode::Plain, int(0) == 0, "mode 1 counts");
}

/// The number that a claim stands for in a record, where "none" means "not known".
fn claim(leap: LeapClaim) -> i32 {
    match leap {
        LeapClaim::Unknown => 0,
        LeapClaim::Insert => 1,
        LeapClaim::Delete => 2,
        LeapClaim::None => -1,
    }
}

/// A fault that no seed brings about: a pulse that announces a deleted second is off by a nanosecond.
fn plant(told: &mut Result<GpsdSample, GpsdFault>) {
    if let Ok(sample) = told
        && sample.is_pulse
        && sample.leap == LeapClaim::Delete
    {
        sample.offset = sample.offset + Span::from_nanos(1);
    }
}
