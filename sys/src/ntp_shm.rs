//! The shared memory segments through which gpsd and others hand time to an NTP server (ntpd's driver 28).
//!
//! Segment `unit` is a System V segment of a known key and layout, made by whichever side comes first. A writer in mode
//! 1 raises a count before and after it changes the fields, so a copy with the same count before and after is whole; in
//! mode 0 there is only the flag `valid`, which the reader takes back. In mode 1 this reader leaves the flag alone, so
//! that another may read the same segment. What the octets mean is decided elsewhere.

use std::error::Error;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering, fence};

use libc::{c_int, key_t, time_t};

/// The length of a segment: `struct shmTime` where `time_t` has 64 bits.
pub const SEGMENT_LENGTH: usize = 96;

/// The first segment's key: `NTP0`.
const KEY_BASE: key_t = 0x4e54_5030;
/// Units below this one are their owner's alone; both sides make them so.
const OPEN_UNIT_MIN: u8 = 2;

/// Where the fields are that reading needs.
const MODE_AT: usize = 0;
const COUNT_AT: usize = 4;
const VALID_AT: usize = 48;

/// So many copies are tried while a writer is at work.
const TRIES_MAX: u32 = 3;

const WORD: usize = size_of::<u64>();
const _: () = assert!(SEGMENT_LENGTH.is_multiple_of(WORD) && VALID_AT + 4 <= SEGMENT_LENGTH);
// The layout is that of 64-bit programs, on both sides.
const _: () = assert!(size_of::<time_t>() == 8 && align_of::<time_t>() == 8);

/// Why a segment can't be had, and what to do about it.
#[derive(Debug)]
pub enum ShmError {
    /// It is another user's.
    NotPermitted,
    /// It is too short: somebody else's, or a 32-bit program's.
    OtherLayout,
    /// Anything else that the kernel says.
    Failed {
        /// The call.
        call: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for ShmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPermitted => f.write_str(
                "another user's segment (`ipcs -m` shows whose); units 0 and 1 are root's: run gpsd without root so that it \
                 takes unit 2 and above, or the server as the segment's owner",
            ),
            Self::OtherLayout => f.write_str(
                "the segment is too short for 64-bit time; remove it (`ipcrm -M KEY`) and start its writer again, as \
                 a 64-bit program",
            ),
            Self::Failed { call, error } => write!(f, "{call}: {error}"),
        }
    }
}

impl Error for ShmError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { error, .. } => Some(error),
            Self::NotPermitted | Self::OtherLayout => None,
        }
    }
}

/// A segment of this process's address space; dropping it detaches, and the segment stays.
#[derive(Debug)]
pub struct Segment {
    unit: u8,
    id: c_int,
    base: NonNull<u8>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and it is accessed through atomics only.
unsafe impl Send for Segment {}

impl Segment {
    /// Attaches the segment of this unit, making it where it isn't there yet.
    ///
    /// # Errors
    /// What keeps it from being read.
    pub fn attach(unit: u8) -> Result<Self, ShmError> {
        let access = if unit < OPEN_UNIT_MIN { 0o600 } else { 0o666 };
        let id = identify(unit, libc::IPC_CREAT | access).map_err(|error| match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => ShmError::NotPermitted,
            Some(libc::EINVAL) => ShmError::OtherLayout,
            _ => ShmError::Failed { call: "shmget", error },
        })?;
        // SAFETY: the kernel chooses a free place and maps at least `SEGMENT_LENGTH` octets there, which it compared when
        // it found the segment.
        let base = unsafe { libc::shmat(id, std::ptr::null(), 0) };
        match NonNull::new(base.cast::<u8>()) {
            // What the call returns for a failure: minus one.
            Some(base) if base.addr().get() != usize::MAX => Ok(Self { unit, id, base }),
            _ => Err(ShmError::Failed { call: "shmat", error: io::Error::last_os_error() }),
        }
    }

    /// Whether the unit still leads to this segment; somebody may have removed it and made another.
    #[must_use]
    pub fn is_current(&self) -> bool {
        identify(self.unit, 0).is_ok_and(|id| id == self.id)
    }

    /// A whole copy of what a writer calls valid; none where there is nothing, or a writer was at work at every try.
    ///
    /// In mode 0 the flag is taken back, so that a value comes once; in mode 1 it comes until it changes.
    #[must_use]
    pub fn read(&self) -> Option<[u8; SEGMENT_LENGTH]> {
        for _ in 0..TRIES_MAX {
            if self.word(VALID_AT).load(Ordering::Acquire) == 0 {
                return None;
            }
            // The acquire pairs with the writer's barrier after it raised the count the first time: who sees the fields of
            // a new value sees its count too.
            let count = self.word(COUNT_AT).load(Ordering::Acquire);
            let copy = self.copy();
            fence(Ordering::Acquire);
            // In this order: who sees the flag that ends a writer's work sees the count that it raised before.
            let still_valid = self.word(VALID_AT).load(Ordering::Acquire) != 0;
            let counts_agree = self.word(COUNT_AT).load(Ordering::Relaxed) == count;
            if self.word(MODE_AT).load(Ordering::Relaxed) == 0 {
                self.word(VALID_AT).store(0, Ordering::Release);
                return still_valid.then_some(copy);
            }
            if counts_agree && still_valid {
                return Some(copy);
            }
        }
        None
    }

    fn copy(&self) -> [u8; SEGMENT_LENGTH] {
        let mut copy = [0; SEGMENT_LENGTH];
        let (words, _) = copy.as_chunks_mut::<WORD>();
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.long(index * WORD).load(Ordering::Relaxed).to_ne_bytes();
        }
        copy
    }

    fn word(&self, at: usize) -> &AtomicI32 {
        let place = self.place(at).cast::<i32>();
        // SAFETY: `place` is inside the mapping, which lives as long as `self`, at a multiple of four octets of a page's
        // beginning; this process accesses it through atomics only.
        unsafe { AtomicI32::from_ptr(place.as_ptr()) }
    }

    fn long(&self, at: usize) -> &AtomicU64 {
        let place = self.place(at).cast::<u64>();
        // SAFETY: as in `word`, at a multiple of eight.
        unsafe { AtomicU64::from_ptr(place.as_ptr()) }
    }

    fn place(&self, at: usize) -> NonNull<u8> {
        assert!(at < SEGMENT_LENGTH, "a field of the segment");
        // SAFETY: the mapping is at least `SEGMENT_LENGTH` octets long.
        unsafe { self.base.add(at) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: `base` is where `attach` mapped the segment; no borrow of it outlives `self`.
        let _ = unsafe { libc::shmdt(self.base.as_ptr().cast()) };
    }
}

fn identify(unit: u8, flags: c_int) -> io::Result<c_int> {
    // SAFETY: the call takes and returns integers.
    let id = unsafe { libc::shmget(key(unit), SEGMENT_LENGTH, flags) };
    if id < 0 { Err(io::Error::last_os_error()) } else { Ok(id) }
}

pub(crate) fn key(unit: u8) -> key_t {
    KEY_BASE + key_t::from(unit)
}

/// The other side, for tests: writes as gpsd does, or as a writer of mode 0, and removes the segment when dropped.
#[doc(hidden)]
#[derive(Debug)]
pub struct Writer {
    segment: Segment,
    mode: i32,
}

/// What a [`Writer`] writes.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// UTC, in nanoseconds since 1970.
    pub clock_ns: i64,
    /// `CLOCK_REALTIME` at that moment, in nanoseconds since 1970.
    pub receive_ns: i64,
    /// NTP's leap indicator.
    pub leap: i32,
    /// log₂ of the precision in seconds.
    pub precision: i32,
}

impl Writer {
    /// Attaches the unit's segment to write to it in this mode.
    ///
    /// # Errors
    /// As [`Segment::attach`].
    pub fn attach(unit: u8, mode: i32) -> Result<Self, ShmError> {
        let segment = Segment::attach(unit)?;
        segment.word(MODE_AT).store(mode, Ordering::Relaxed);
        Ok(Self { segment, mode })
    }

    /// Writes a value.
    pub fn write(&self, value: &Written) {
        let segment = &self.segment;
        let raise = || {
            if self.mode == 1 {
                segment.word(COUNT_AT).fetch_add(1, Ordering::AcqRel);
            }
        };
        segment.word(VALID_AT).store(0, Ordering::Relaxed);
        raise();
        fence(Ordering::SeqCst);
        for (nanos, [seconds_at, micros_at, nanos_at]) in
            [(value.clock_ns, [8, 16, 52]), (value.receive_ns, [24, 32, 56])]
        {
            let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
            let word = |at: usize, number: i64| {
                segment.word(at).store(i32::try_from(number).unwrap_or(-1), Ordering::Relaxed);
            };
            segment.long(seconds_at).store(seconds.cast_unsigned(), Ordering::Relaxed);
            word(micros_at, rest / 1_000);
            word(nanos_at, rest);
        }
        segment.word(36).store(value.leap, Ordering::Relaxed);
        segment.word(40).store(value.precision, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        raise();
        segment.word(VALID_AT).store(1, Ordering::Release);
    }

    /// What a reader has left of the flag.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.segment.word(VALID_AT).load(Ordering::Relaxed) != 0
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // SAFETY: this command takes no structure.
        let _ = unsafe { libc::shmctl(self.segment.id, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    /// Units far above those of gpsd, so that a test disturbs no server of this machine, and hardly another's test.
    fn unit(number: u32) -> u8 {
        u8::try_from(200 + std::process::id() % 11 * 5 + number).unwrap()
    }

    fn value(second: i64) -> Written {
        let clock_ns = second * 1_000_000_000 + 123_456_789;
        Written { clock_ns, receive_ns: clock_ns, leap: 0, precision: -20 }
    }
    fn number(copy: &[u8], at: usize) -> i32 {
        i32::from_ne_bytes(copy[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn a_value_is_where_the_protocol_has_it() {
        let writer = Writer::attach(unit(0), 1).unwrap();
        let segment = Segment::attach(unit(0)).unwrap();
        assert_eq!(segment.read(), None, "nothing was written yet");
        writer.write(&Written { leap: 2, ..value(1_795_000_000) });
        let copy = segment.read().unwrap();
        assert_eq!([0, 4, 36, 40, 48].map(|at| number(&copy, at)), [1, 2, 2, -20, 1]);
        assert_eq!(
            [16, 32, 52, 56].map(|at| number(&copy, at)),
            [123_456, 123_456, 123_456_789, 123_456_789]
        );
        for at in [8, 24] {
            let seconds = i64::from_ne_bytes(copy[at..at + 8].try_into().unwrap());
            assert_eq!(seconds, 1_795_000_000, "at {at}");
        }
        assert!(writer.is_valid() && segment.read().is_some(), "others may read it too");
    }

    #[test]
    fn in_mode_0_a_value_comes_once() {
        let writer = Writer::attach(unit(1), 0).unwrap();
        let segment = Segment::attach(unit(1)).unwrap();
        writer.write(&value(7));
        assert!(segment.read().is_some());
        assert!(!writer.is_valid() && segment.read().is_none());
    }

    #[test]
    fn a_copy_is_whole_while_a_writer_writes() {
        const TRIES: u32 = 10_000_000;
        const COPIES: usize = 20_000;
        let (unit, stop) = (unit(2), &AtomicBool::new(false));
        let writer = Writer::attach(unit, 1).unwrap();
        let segment = Segment::attach(unit).unwrap();
        let copies = thread::scope(|scope| {
            scope.spawn(move || {
                for second in (1..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    writer.write(&value(second));
                    // Half the time there is something to copy, and the other half a writer at work on it.
                    (0..20).for_each(|_| std::hint::spin_loop());
                }
            });
            let copies: Vec<_> = (0..TRIES).filter_map(|_| segment.read()).take(COPIES).collect();
            stop.store(true, Ordering::Relaxed);
            copies
        });
        assert_eq!(copies.len(), COPIES, "of {TRIES} tries");
        let torn = copies.iter().filter(|copy| copy[8..16] != copy[24..32]).count();
        assert_eq!(torn, 0, "halves of two values");
    }

    #[test]
    fn a_segment_that_was_replaced_is_noticed() {
        let unit = unit(3);
        let segment = Segment::attach(unit).unwrap();
        assert!(segment.is_current());
        drop(Writer::attach(unit, 1).unwrap());
        assert!(!segment.is_current(), "removed");
        let _writer = Writer::attach(unit, 1).unwrap();
        assert!(!segment.is_current(), "made anew");
    }
}
