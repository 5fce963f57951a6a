//! What gpsd hands over: the records of its SOCK protocol and of NTP's shared memory segments.
//!
//! Both are C structures as a 64-bit Linux lays them out, little end first, from a process that may be
//! anybody's: any octets are read without harm, and what makes no sense is refused. Records of 32-bit
//! programs (32 octets) are refused by their length. Reading a segment that another process writes is the
//! edge's work.
//!
//! ```text
//! SOCK, 40 octets                       shmTime, 96 octets
//!  0 i64 seconds   system clock          0 i32 mode               36 i32 leap
//!  8 i64 microseconds                    4 i32 count              40 i32 precision
//! 16 f64 offset, seconds                 8 i64 clock seconds      44 i32 number of samples
//! 24 i32 pulse                          16 i32   microseconds     48 i32 valid
//! 28 i32 leap                           24 i64 receive seconds    52 u32 clock nanoseconds
//! 32 i32 padding                        32 i32   microseconds     56 u32 receive nanoseconds
//! 36 i32 magic, "SOCK"                                            60 reserved
//! ```

use crate::discipline::LeapClaim;
use crate::time::{Instant, Span, Utc};

/// Octets of a SOCK record.
pub const SOCK_LENGTH: usize = 40;

/// Octets of a shared memory segment's record.
pub const SHM_LENGTH: usize = 96;

/// "SOCK", big end first.
const SOCK_MAGIC: u32 = 0x534F_434B;

/// No clock is further off than this: 317 years, more than any wrong date that 32-bit counts bring about.
const OFFSET_S_MAX: f64 = 1e10;

const NANOS_PER_S: i64 = 1_000_000_000;

/// A sample from gpsd's socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GpsdSample {
    /// `CLOCK_REALTIME` at the sample, nanoseconds since 1970.
    pub clock_ns: i64,
    /// True time less `CLOCK_REALTIME`; of a pulse, modulo a second and within half a second.
    pub offset: Span,
    /// Whether it is a pulse, which doesn't say what second it began.
    pub is_pulse: bool,
    /// What it says of leap seconds: gpsd sends "none" for "not known" too, so that is all that is made of
    /// it.
    pub leap: LeapClaim,
}

/// What a writer of a segment promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShmMode {
    /// A record whose `valid` is set may be used.
    Plain,
    /// Only if `count` was the same before and after it was copied.
    Counted,
}

/// A sample from a shared memory segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShmSample {
    /// True time at the sample.
    pub utc: Instant<Utc>,
    /// `CLOCK_REALTIME` at the sample, nanoseconds since 1970.
    pub receive_ns: i64,
    /// What it says of leap seconds ("none" means "not known", as in [`GpsdSample`]).
    pub leap: LeapClaim,
    /// log₂ of the writer's precision in seconds, as it states it.
    pub precision: i8,
    /// The writer's count at the copy.
    pub count: i32,
    /// What the writer promises.
    pub mode: ShmMode,
}

/// Why a record isn't used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GpsdFault {
    /// The segment has nothing new: its `valid` isn't set.
    Empty,
    /// Not the length of a record of a 64-bit program.
    Length(usize),
    /// Not marked as a SOCK record.
    Magic(u32),
    /// A mode that nobody has defined.
    Mode(i32),
    /// A time that isn't one: before 1970, beyond 2262, or with too many microseconds.
    Clock,
    /// An offset that isn't a number or more than any clock is off.
    Offset,
    /// The writer isn't synchronised.
    Unsynchronised,
    /// A leap indicator that nobody has defined.
    Leap(i32),
}

/// Reads a record from gpsd's socket.
///
/// # Errors
/// Why it isn't used.
pub fn parse_sock(record: &[u8]) -> Result<GpsdSample, GpsdFault> {
    let record: &[u8; SOCK_LENGTH] = record.try_into().map_err(|_| GpsdFault::Length(record.len()))?;
    let magic = u32::from_le_bytes(octets::<36, 4, _>(record));
    if magic != SOCK_MAGIC {
        return Err(GpsdFault::Magic(magic));
    }
    let micros = i64::from_le_bytes(octets::<8, 8, _>(record));
    let nanos = micros_as_nanos(micros).ok_or(GpsdFault::Clock)?;
    let clock_ns = unix_ns(i64::from_le_bytes(octets::<0, 8, _>(record)), nanos).ok_or(GpsdFault::Clock)?;
    let is_pulse = i32::from_le_bytes(octets::<24, 4, _>(record)) != 0;
    let offset = span(f64::from_le_bytes(octets::<16, 8, _>(record))).ok_or(GpsdFault::Offset)?;
    let leap = leap_claim(i32::from_le_bytes(octets::<28, 4, _>(record)))?;
    Ok(GpsdSample {
        clock_ns,
        offset: if is_pulse { within_half_a_second(offset) } else { offset },
        is_pulse,
        leap,
    })
}

/// Reads a copy of a segment's record. Whoever made the copy sees to it that it is one record and not parts of two.
///
/// # Errors
/// Why it isn't used.
pub fn parse_shm(record: &[u8; SHM_LENGTH]) -> Result<ShmSample, GpsdFault> {
    let mode = match i32::from_le_bytes(octets::<0, 4, _>(record)) {
        0 => ShmMode::Plain,
        1 => ShmMode::Counted,
        other => return Err(GpsdFault::Mode(other)),
    };
    if octets::<48, 4, _>(record) == [0; 4] {
        return Err(GpsdFault::Empty);
    }
    let clock_micros = i32::from_le_bytes(octets::<16, 4, _>(record));
    let receive_micros = i32::from_le_bytes(octets::<32, 4, _>(record));
    let clock_nanos = u32::from_le_bytes(octets::<52, 4, _>(record));
    let receive_nanos = u32::from_le_bytes(octets::<56, 4, _>(record));
    // Old writers leave the nanoseconds as they find them; they are believed where they refine both
    // microseconds.
    let refined = i64::from(clock_nanos / 1_000) == i64::from(clock_micros)
        && i64::from(receive_nanos / 1_000) == i64::from(receive_micros);
    let nanos = |micros: i32, nanos: u32| {
        let coarse = micros_as_nanos(i64::from(micros))?;
        Some(if refined { i64::from(nanos) } else { coarse })
    };
    let clock_ns = nanos(clock_micros, clock_nanos)
        .and_then(|nanos| unix_ns(i64::from_le_bytes(octets::<8, 8, _>(record)), nanos));
    let receive_ns = nanos(receive_micros, receive_nanos)
        .and_then(|nanos| unix_ns(i64::from_le_bytes(octets::<24, 8, _>(record)), nanos));
    let (clock_ns, receive_ns) = clock_ns.zip(receive_ns).ok_or(GpsdFault::Clock)?;
    let precision = i32::from_le_bytes(octets::<40, 4, _>(record));
    Ok(ShmSample {
        utc: Instant::from_unix_nanos(clock_ns),
        receive_ns,
        leap: leap_claim(i32::from_le_bytes(octets::<36, 4, _>(record)))?,
        precision: i8::try_from(precision).unwrap_or(if precision < 0 { i8::MIN } else { i8::MAX }),
        count: i32::from_le_bytes(octets::<4, 4, _>(record)),
        mode,
    })
}

/// `LENGTH` octets of a record from `AT` on; that they lie inside it is checked when the program is compiled.
fn octets<const AT: usize, const LENGTH: usize, const RECORD: usize>(record: &[u8; RECORD]) -> [u8; LENGTH] {
    const { assert!(AT + LENGTH <= RECORD, "a field lies inside its record") };
    record.split_at(AT).1.first_chunk().map_or([0; LENGTH], |field| *field)
}

fn micros_as_nanos(micros: i64) -> Option<i64> {
    (0..1_000_000).contains(&micros).then(|| micros * 1_000)
}

fn unix_ns(seconds: i64, nanos: i64) -> Option<i64> {
    seconds.checked_mul(NANOS_PER_S)?.checked_add(nanos).filter(|_| seconds >= 0)
}

#[expect(clippy::cast_possible_truncation, reason = "finite and bounded, and the scaling is exact")]
fn span(seconds: f64) -> Option<Span> {
    // Not a number is within no range.
    (-OFFSET_S_MAX..=OFFSET_S_MAX)
        .contains(&seconds)
        .then_some(Span::from_raw((seconds * 18_446_744_073_709_551_616.0) as i128))
}

/// The same offset modulo a second, from −0.5 s to below 0.5 s.
fn within_half_a_second(offset: Span) -> Span {
    let second = Span::from_seconds(1).raw();
    Span::from_raw((offset.raw() + second / 2).rem_euclid(second) - second / 2)
}

fn leap_claim(leap: i32) -> Result<LeapClaim, GpsdFault> {
    match leap {
        0 => Ok(LeapClaim::Unknown),
        1 => Ok(LeapClaim::Insert),
        2 => Ok(LeapClaim::Delete),
        3 => Err(GpsdFault::Unsynchronised),
        other => Err(GpsdFault::Leap(other)),
    }
}

#[cfg(test)]
#[path = "gpsd_tests.rs"]
mod tests;
