//! Two schedules side by side from inside the kernel: honest clients' and a flood's, and what each of them gets back.
//!
//! [`AttackSender`] runs `send_parts` of `xdp/attack.bpf.c`, which makes the request that is due first, whosesoever it is;
//! [`AnswerCounter`] counts replies by the client that they are for. A client of IPv6 is a /64: clients differ in the
//! second half of the upper 64 bits. No policy: which addresses, which requests and how many is the caller's.

mod answers;
mod setting;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};

pub use answers::{AnswerCounter, AnswerSetting, Answers, ClientAnswers};
pub use setting::{AttackSetting, AttackVariant, PartSetting, SourceRow};

use super::object::{ATTACK, FIRST, Programs, bytes_of, words_of};
use super::parking::Parking;
use super::{
    BATCH_FULL, BATCH_PACED, FULL_BELOW_NS, ITERATIONS, Interval, LAG_BUCKETS, LiveError, next_iterations,
    run_live,
};
use crate::bpf::{Attached, io_error};

/// Honest clients, then the flood.
pub const PARTS: usize = 2;
/// Clients of a flood that can be counted one by one.
pub const COUNTED_MAX: u32 = 1 << 20;
/// The longest UDP payload of a variant, in octets.
pub const PAYLOAD_MAX: u16 = 1400;
/// Elements of a map that are read or written in a call.
const MAP_BATCH: u32 = 1 << 14;

/// When a part's requests are due: the kth at `start_ns` + k · `interval` by `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartSchedule {
    /// When the first is due.
    pub start_ns: i64,
    /// Between two.
    pub interval: Interval,
    /// How many there are; none of a part that is silent.
    pub count: u64,
    /// Clients come in turn, but at first so many of them send `rounds` requests each, then the next. At least 1.
    pub cohort: u32,
    /// At least 1: no bursts.
    pub rounds: u32,
}

/// What a part's schedule has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartCounts {
    /// Requests made.
    pub made: u64,
    /// Those of them that the interface took.
    pub sent: u64,
    /// UDP payload octets of what was made.
    pub octets: u64,
    /// How late the latest request was made.
    pub lag_ns_max: u64,
    /// How late requests were made: bucket `n` counts lags from 2ⁿ ns to twice that, and the first 0 too.
    pub lag: [u64; LAG_BUCKETS],
}

/// The words of `parts_state`, and of each part behind them.
mod state {
    pub(super) const PENDING: usize = 4;
    pub(super) const PART: usize = 6;
    pub(super) const DUE_NS: usize = 0;
    pub(super) const INTERVAL: usize = 2;
    pub(super) const LEFT: usize = 3;
    pub(super) const CLIENT: usize = 4;
    pub(super) const COHORT: usize = 6;
    pub(super) const ROUNDS: usize = 8;
    pub(super) const MADE: usize = 10;
    pub(super) const TAKEN: usize = 11;
    pub(super) const OCTETS: usize = 12;
    pub(super) const LAG_NS_MAX: usize = 13;
    pub(super) const LAG: usize = 14;
    pub(super) const PART_WORDS: usize = LAG + super::LAG_BUCKETS;
    pub(super) const WORDS: usize = PART + super::PARTS * PART_WORDS;

    /// A word of a part.
    pub(super) const fn of(part: usize, word: usize) -> usize {
        PART + part * PART_WORDS + word
    }
}

/// Sends both parts' requests from inside the kernel.
pub struct AttackSender {
    program: OwnedFd,
    /// `parts_state`, which only a run writes while one is under way.
    state: MapHandle,
    asked: MapHandle,
    counted: u32,
    _count_taken: Link,
    /// Released before the interface that it is on.
    _parked: Attached,
    _parking: Parking,
    frame: Box<[u8]>,
    context: [u32; 6],
    batch: u32,
    iterations: u32,
}

impl AttackSender {
    /// Loads the program for `setting`.
    ///
    /// # Errors
    /// What is wrong with the setting, or what this process or kernel lacks.
    pub fn new(setting: &AttackSetting<'_>) -> Result<Self, LiveError> {
        let words = setting.words()?;
        let rows = u32::try_from(setting.flood.rows.len()).map_err(|_| LiveError::Clients)?;
        let mut programs = Programs::load_sized(
            ATTACK,
            &["send_parts", "count_taken_parts"],
            &[
                (".rodata.parts", Some(&words)),
                (".data.parts", Some(&[0; state::WORDS])),
                ("sources", None),
                ("asked", None),
            ],
            &[("sources", rows.max(1)), ("asked", setting.counted.max(1))],
        )?;
        let sources = programs.map("sources")?;
        let rows = setting.flood.rows.iter().map(|row| u64::from(row.first) | u64::from(row.count) << 32);
        write_all(&sources, &rows.collect::<Vec<_>>()).map_err(|error| {
            LiveError::of_errno("writing a flood's sources", error.raw_os_error().unwrap_or(0))
        })?;
        let frame = setting.honest.frame;
        let length = u32::try_from(frame.len()).map_err(|_| LiveError::Frame)?;
        let parking = Parking::new()?;
        Ok(Self {
            program: programs.program("send_parts")?,
            state: programs.map(".data.parts")?,
            asked: programs.map("asked")?,
            counted: setting.counted,
            _count_taken: programs.trace("count_taken_parts", "xdp_devmap_xmit")?,
            _parked: programs.attach("send_parts", parking.interface)?,
            _parking: parking,
            frame: frame.into(),
            context: [0, length, 0, setting.interface, 0, 0],
            batch: BATCH_PACED,
            iterations: *ITERATIONS.start(),
        })
    }

    /// Sets both schedules, in the place of the last. Counts begin anew; clients that come in turn go on with the next.
    ///
    /// # Errors
    /// A start before the clock's; else none that isn't the kernel's fault.
    pub fn schedule(&mut self, parts: [PartSchedule; PARTS]) -> io::Result<()> {
        let before = self.state_words()?;
        let mut words = [0; state::WORDS];
        let mut fastest = u64::MAX;
        for (part, schedule) in parts.iter().enumerate() {
            let start_ns = u64::try_from(schedule.start_ns).map_err(|_| io::ErrorKind::InvalidInput)?;
            words[state::of(part, state::DUE_NS)] = start_ns;
            words[state::of(part, state::INTERVAL)] = schedule.interval.to_bits();
            words[state::of(part, state::LEFT)] = schedule.count;
            words[state::of(part, state::COHORT)] = u64::from(schedule.cohort.max(1));
            words[state::of(part, state::ROUNDS)] = u64::from(schedule.rounds.max(1));
            if schedule.rounds <= 1 {
                words[state::of(part, state::CLIENT)] = before[state::of(part, state::CLIENT)];
            }
            if schedule.count > 0 {
                fastest = fastest.min(schedule.interval.ns());
            }
        }
        self.batch = if fastest < FULL_BELOW_NS { BATCH_FULL } else { BATCH_PACED };
        self.iterations = *ITERATIONS.start();
        self.state.update(FIRST, &bytes_of(&words), MapFlags::ANY).map_err(io_error)?;
        write_all(&self.asked, &vec![0; self.counted as usize])
    }

    /// Sends what is due for some 20 ms; whether both schedules are done. Call it in a loop, on a core that is kept for
    /// it: what is due between calls is made late, never left out.
    ///
    /// # Errors
    /// As of [`LiveSender::run`](super::LiveSender::run).
    pub fn run(&mut self) -> io::Result<bool> {
        let program = self.program.as_fd();
        if let Some(each_ns) = run_live(program, &self.frame, self.context, self.iterations, self.batch)? {
            self.iterations = next_iterations(each_ns);
        }
        let words = self.state_words()?;
        let sum = |word| (0..PARTS).map(|part| words[state::of(part, word)]).sum::<u64>();
        // A far end that takes nothing at all, though it has been told of many.
        if sum(state::MADE) > 0 && sum(state::TAKEN) == 0 {
            return Err(io::Error::new(io::ErrorKind::Unsupported, LiveError::CannotTransmit));
        }
        Ok(sum(state::LEFT) == 0)
    }

    /// What the schedules have come to so far.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn counts(&self) -> io::Result<[PartCounts; PARTS]> {
        let words = self.state_words()?;
        debug_assert!(words[state::PENDING] <= 64, "a queue of 16 frames at most is unsettled");
        Ok(std::array::from_fn(|part| {
            let word = |word| words[state::of(part, word)];
            let mut lag = [0; LAG_BUCKETS];
            let first = state::of(part, state::LAG);
            lag.copy_from_slice(&words[first..first + LAG_BUCKETS]);
            PartCounts {
                made: word(state::MADE),
                sent: word(state::TAKEN),
                octets: word(state::OCTETS),
                lag_ns_max: word(state::LAG_NS_MAX),
                lag,
            }
        }))
    }

    /// Requests that were made for each of the flood's clients that are counted.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn asked(&self) -> io::Result<Vec<u64>> {
        read_all(&self.asked, self.counted, 1)
    }

    fn state_words(&self) -> io::Result<[u64; state::WORDS]> {
        let mut octets = [0; state::WORDS * 8];
        self.state.lookup_into(FIRST, &mut octets, MapFlags::ANY).map_err(io_error)?;
        let mut words = [0; state::WORDS];
        words.iter_mut().zip(words_of(&octets)).for_each(|(to, word)| *to = word);
        Ok(words)
    }
}

/// Writes an array's first elements, a word or more each.
fn write_all(map: &MapHandle, words: &[u64]) -> io::Result<()> {
    let each = map.value_size() as usize / 8;
    for (batch, words) in (0..).zip(words.chunks(MAP_BATCH as usize * each)) {
        let count = u32::try_from(words.len() / each).expect("a batch's number of elements");
        let keys: Vec<u8> = (0..count).flat_map(|key| (batch * MAP_BATCH + key).to_ne_bytes()).collect();
        map.update_batch(&keys, &bytes_of(words), count, MapFlags::ANY, MapFlags::ANY).map_err(io_error)?;
    }
    Ok(())
}

/// The first `count` elements of an array of `each` words, one after the other.
fn read_all(map: &MapHandle, count: u32, each: usize) -> io::Result<Vec<u64>> {
    let mut words = vec![0; count as usize * each];
    for (key, value) in map.lookup_batch(MAP_BATCH, MapFlags::ANY, MapFlags::ANY).map_err(io_error)? {
        let place = key.first_chunk().map_or(u32::MAX, |key| u32::from_ne_bytes(*key)) as usize * each;
        if let Some(to) = words.get_mut(place..place.saturating_add(each)) {
            to.iter_mut().zip(words_of(&value)).for_each(|(to, word)| *to = word);
        }
    }
    Ok(words)
}

impl fmt::Debug for AttackSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttackSender").field("interface", &self.context[3]).finish_non_exhaustive()
    }
}
