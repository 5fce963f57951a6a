//! Requests that the kernel makes itself: a BPF program run over live frames, and programs that count what arrives.
//!
//! A load generator's fastest way out: [`LiveSender`] gives the kernel a schedule and runs `send` of `xdp/load.bpf.c`
//! for some milliseconds at a time; each request leaves as soon as its time has come, in the frame memory of the
//! driver's own kind. [`ReplyCounter`] judges, times and counts the replies where the driver hands them over;
//! [`Sink`], [`Reflector`] and [`Pass`] are for the far end of a rig. No policy: what to send, how fast and for how long
//! is the caller's, and so is what a count means.
//!
//! [`attack`] has two schedules side by side, honest clients' and a flood's, whose replies are counted apart.
//!
//! The programs' own words (settings, state, counts) are laid out here once more; the lengths are compared on loading.

pub mod attack;
mod cookie;
mod ends;
mod error;
mod object;
mod parking;
mod replies;
mod template;

use std::fmt;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_rs::libbpf_sys::{bpf_prog_test_run_opts, bpf_test_run_opts};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};

pub use crate::bpf::AttachMode;
pub use cookie::Cookie;
pub use ends::{EndCounts, Pass, Reflector, Sink};
pub use error::LiveError;
pub use replies::{CountSetting, ReplyCounter, ReplyCounts};
pub use template::VARIANTS_MAX;

use crate::bpf::{Attached, io_error};
use object::{FIRST, Programs, bytes_of, words_of};
use parking::Parking;

/// The buckets of a lag histogram: bucket `n` counts lags from 2ⁿ ns to twice that, and the first 0 too.
pub const LAG_BUCKETS: usize = 40;

/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE_FRAMES: u32 = 1 << 1;
/// How long a call into the kernel may take; setting it up takes 30 to 60 µs of that, in which nothing is sent.
const CALL_NS: u32 = 20_000_000;
/// The least and the most iterations of a call, whatever the last one says of their cost.
const ITERATIONS: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 20;
/// What may wait for its batch's end before it leaves: little where there is time, much where there is none.
const BATCH_PACED: u32 = 16;
const BATCH_FULL: u32 = 64;
/// Below this interval requests come fast enough to fill a batch.
const FULL_BELOW_NS: u64 = 2_000;

/// Time between requests, in 2⁻³² ns: 1 ns to 4.29 s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Interval(u64);

impl Interval {
    /// The interval of so many requests a second; none of 0, or of more than 10⁹.
    #[must_use]
    pub const fn of_rate(per_second: u32) -> Option<Self> {
        if per_second == 0 {
            return None;
        }
        let bits = (1_000_000_000 << 32) / per_second as u64;
        Self::from_bits(bits)
    }

    /// From units of 2⁻³² ns; none below 1 ns.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits < 1 << 32 { None } else { Some(Self(bits)) }
    }

    /// In units of 2⁻³² ns.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Whole nanoseconds of it.
    const fn ns(self) -> u64 {
        self.0 >> 32
    }
}

/// What to send, and from where.
#[derive(Clone, Copy, Debug)]
pub struct LiveSetting<'a> {
    /// The interface's index; a veth needs an XDP program of its own and on its peer ([`ReplyCounter`], [`Pass`]).
    pub interface: u32,
    /// Ethernet, IPv4 without options or IPv6, UDP and 48 octets of NTP. Checksums in it don't matter.
    pub frame: &'a [u8],
    /// Source addresses: the template's, and those that follow in its low 32 bits. At least 1.
    pub clients: u32,
    /// First 40 octets of NTP, taken in turn; the template's own when empty. At most [`VARIANTS_MAX`].
    pub variants: &'a [[u8; 40]],
    /// The secret of the [`Cookie`]s.
    pub key: u64,
}

/// What a schedule has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendCounts {
    /// Requests that the interface took.
    pub sent: u64,
    /// Requests that it didn't take: its queue was full, or it can't transmit such frames.
    pub refused: u64,
    /// Turns at which no request was due.
    pub idle: u64,
    /// How late the latest request was made.
    pub lag_ns_max: u64,
    /// How late requests were made.
    pub lag: [u64; LAG_BUCKETS],
}

/// The words of `send_state`.
mod state {
    pub(super) const DUE_NS: usize = 0;
    pub(super) const INTERVAL: usize = 2;
    pub(super) const LEFT: usize = 3;
    pub(super) const MADE: usize = 9;
    pub(super) const TAKEN: usize = 11;
    pub(super) const IDLE: usize = 12;
    pub(super) const LAG_NS_MAX: usize = 13;
    pub(super) const LAG: usize = 14;
    pub(super) const WORDS: usize = LAG + super::LAG_BUCKETS;
}

/// Sends requests from inside the kernel by a schedule.
pub struct LiveSender {
    program: OwnedFd,
    /// `send_state`, which only a run writes while one is under way.
    state: MapHandle,
    _count_taken: Link,
    /// Released before the interface that it is on.
    _parked: Attached,
    _parking: Parking,
    frame: Box<[u8]>,
    context: [u32; 6],
    batch: u32,
    /// Iterations of the next call.
    iterations: u32,
}

impl LiveSender {
    /// Loads the program for `setting`.
    ///
    /// # Errors
    /// What is wrong with the setting, or what this process or kernel lacks.
    pub fn new(setting: &LiveSetting<'_>) -> Result<Self, LiveError> {
        let words = template::setting_words(setting)?;
        let mut programs = Programs::load(
            &["send", "count_taken"],
            &[(".rodata.send", Some(&words)), (".data.send", Some(&[0; state::WORDS]))],
        )?;
        let length = u32::try_from(setting.frame.len()).map_err(|_| LiveError::Frame)?;
        let parking = Parking::new()?;
        Ok(Self {
            program: programs.program("send")?,
            state: programs.map(".data.send")?,
            _count_taken: programs.trace("count_taken", "xdp_devmap_xmit")?,
            _parked: programs.attach("send", parking.interface)?,
            _parking: parking,
            frame: setting.frame.into(),
            context: [0, length, 0, setting.interface, 0, 0],
            batch: BATCH_PACED,
            iterations: *ITERATIONS.start(),
        })
    }

    /// Sets the schedule, in the place of the last: request k, from 0 to `count`, is due at `start_ns` + k · `interval`
    /// by `CLOCK_MONOTONIC`. Counts begin anew.
    ///
    /// # Errors
    /// A start before the clock's; else none that isn't the kernel's fault.
    pub fn schedule(&mut self, start_ns: i64, interval: Interval, count: u64) -> io::Result<()> {
        let mut words = [0; state::WORDS];
        words[state::DUE_NS] = u64::try_from(start_ns).map_err(|_| io::ErrorKind::InvalidInput)?;
        words[state::INTERVAL] = interval.to_bits();
        words[state::LEFT] = count;
        self.batch = if interval.ns() < FULL_BELOW_NS { BATCH_FULL } else { BATCH_PACED };
        self.iterations = *ITERATIONS.start();
        self.state.update(FIRST, &bytes_of(&words), MapFlags::ANY).map_err(io_error)
    }

    /// Sends what is due for some 20 ms; whether the schedule is done. Call it in a loop, on a core that is kept
    /// for it: what is due between calls is made late, never left out.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] when the interface took none of the requests made; [`LiveError::Live`] says
    /// when the kernel doesn't know live frames, or the interface isn't ready for them.
    pub fn run(&mut self) -> io::Result<bool> {
        let program = self.program.as_fd();
        if let Some(each_ns) = run_live(program, &self.frame, self.context, self.iterations, self.batch)? {
            self.iterations = next_iterations(each_ns);
        }
        let words = self.state_words()?;
        if words[state::MADE] > 0 && words[state::TAKEN] == 0 {
            return Err(io::Error::new(io::ErrorKind::Unsupported, LiveError::CannotTransmit));
        }
        Ok(words[state::LEFT] == 0)
    }

    /// What the schedule has come to so far.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn counts(&self) -> io::Result<SendCounts> {
        let words = self.state_words()?;
        let (made, sent) = (words[state::MADE], words[state::TAKEN]);
        let mut lag = [0; LAG_BUCKETS];
        lag.copy_from_slice(&words[state::LAG..]);
        Ok(SendCounts {
            sent,
            refused: made.saturating_sub(sent),
            idle: words[state::IDLE],
            lag_ns_max: words[state::LAG_NS_MAX],
            lag,
        })
    }

    fn state_words(&self) -> io::Result<[u64; state::WORDS]> {
        let mut octets = [0; state::WORDS * 8];
        self.state.lookup_into(FIRST, &mut octets, MapFlags::ANY).map_err(io_error)?;
        let mut words = [0; state::WORDS];
        words.iter_mut().zip(words_of(&octets)).for_each(|(to, word)| *to = word);
        Ok(words)
    }
}

/// Runs a program over live frames so many times, in such batches; nanoseconds a time, or none where a signal came.
///
/// `context` is `struct xdp_md`: data, its end, metadata, the interface and queue that the frames seem to come from, and go to.
fn run_live(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: [u32; 6],
    iterations: u32,
    batch: u32,
) -> io::Result<Option<u32>> {
    let mut options = bpf_test_run_opts {
        sz: size_of::<bpf_test_run_opts>() as libbpf_rs::libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        ctx_in: context.as_ptr().cast(),
        ctx_size_in: u32::try_from(size_of_val(&context)).expect("24 octets"),
        repeat: i32::try_from(iterations).expect("at most 2^20"),
        flags: LIVE_FRAMES,
        batch_size: batch,
        ..Default::default()
    };
    // SAFETY: the options' size is their own, and their input pointers lead to memory that outlives the call with the
    // lengths given, which the kernel copies; there is no output.
    match -unsafe { bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) } {
        0 => Ok(Some(options.duration)),
        // A signal for the caller to see to; what was sent is in the state.
        libc::EINTR => Ok(None),
        libc::EINVAL | libc::EOPNOTSUPP => Err(io::Error::other(LiveError::Live)),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// As many iterations as fit a call, when one takes `each_ns`.
fn next_iterations(each_ns: u32) -> u32 {
    (CALL_NS / each_ns.max(1)).clamp(*ITERATIONS.start(), *ITERATIONS.end())
}

impl fmt::Debug for LiveSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSender").field("interface", &self.context[3]).finish_non_exhaustive()
    }
}
