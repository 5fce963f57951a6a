//! A NIC's own clock (a PTP hardware clock, `/dev/ptpN`) through the ioctls of `linux/ptp_clock.h`.
//!
//! [`Phc::cross_read`] says where the counter stood when the clock was read, by the best way that the driver offers, and how
//! far that can be off: half of the bracket, since nothing says where in it the device was read. The clock is never set
//! or steered. Stamps of its pins come from [`Phc::edge`], once [`ExternalStamps`] has switched them on, which takes the
//! right to write to the device. What a reading is worth is decided elsewhere.

use std::error::Error;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use libc::{Ioctl, c_int, c_uint};
use maser_core::refclock::PhcReading;
use maser_core::time::{Span, Ticks};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock::{self, Bracket};
use crate::counter::Counter;
use crate::kernel_clock::KernelClock;

mod external;
mod layout;

pub use external::{Channel, ExternalStamps, hear_only};
use layout::{Argument, CapabilitiesTold, Event, Extended, Plain, Precise, SAMPLES_MAX, Time};

const TYPE: u32 = b'=' as u32;
const GET_CAPABILITIES: Ioctl = libc::_IOR::<CapabilitiesTold>(TYPE, 1);
const OFFSET: Ioctl = libc::_IOW::<Plain>(TYPE, 5);
const OFFSET_PRECISE: Ioctl = libc::_IOWR::<Precise>(TYPE, 8);
const OFFSET_EXTENDED: Ioctl = libc::_IOWR::<Extended>(TYPE, 9);

/// What an open clock is asked.
pub(crate) const REQUESTS: [Ioctl; 4] = [GET_CAPABILITIES, OFFSET, OFFSET_PRECISE, OFFSET_EXTENDED];

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const _: () = {
    assert!(GET_CAPABILITIES == 0x8050_3d01 && OFFSET == 0x4340_3d05);
    assert!(OFFSET_PRECISE == 0xc040_3d08 && OFFSET_EXTENDED == 0xc4c0_3d09);
};

/// Why a clock can't be used, and what to do about it.
#[derive(Debug)]
pub enum PhcError {
    /// There is none of this name.
    NoDevice,
    /// Its file may not be opened.
    NotPermitted,
    /// Its file may be read, and switching stamps on takes more.
    MayNotSwitchOn,
    /// It is something else.
    NotPhc,
    /// It has fewer channels for stamps of its pins than that.
    NoSuchChannel {
        /// What it has.
        channels: u32,
    },
    /// It has no such pin.
    NoSuchPin {
        /// What it has, by name.
        pins: String,
    },
    /// None of its pins leads to the channel, and none was named.
    NoPinLeadsThere {
        /// What it has, by name.
        pins: String,
    },
    /// Anything else that the kernel says.
    Failed {
        /// The call.
        call: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for PhcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str(
                "no such device; `ethtool -T INTERFACE` says which clock an interface has (PTP Hardware Clock: N is \
                 /dev/ptpN), and /sys/class/ptp which there are",
            ),
            Self::NotPermitted => {
                f.write_str("this user may not open it; give the server's user or group the right to read it (udev rule)")
            }
            Self::MayNotSwitchOn => f.write_str(
                "this user may read it, but stamps of its pins are switched on by writing; start maser as root, or give \
                 its user or group that right, too (udev rule)",
            ),
            Self::NotPhc => f.write_str("not a NIC's clock; name one of /dev/ptp*"),
            Self::NoSuchChannel { channels: 0 } => f.write_str(
                "the device (or its driver) stamps no external signal; leave out `channel` to take its own time, or feed the \
                 pulse to another",
            ),
            Self::NoSuchChannel { channels } => {
                write!(f, "no such channel; the device has {channels}, counted from 0")
            }
            Self::NoSuchPin { pins } if pins.is_empty() => {
                f.write_str("the device's pins aren't programmable; leave out `pin`")
            }
            Self::NoSuchPin { pins } => write!(f, "no such pin; the device has {pins}"),
            Self::NoPinLeadsThere { pins } => {
                write!(f, "no pin leads to the channel; name the one that has the pulse as `pin`: the device has {pins}")
            }
            Self::Failed { call, error } => write!(f, "{call}: {error}"),
        }
    }
}

impl Error for PhcError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { error, .. } => Some(error),
            Self::NoDevice
            | Self::NotPermitted
            | Self::MayNotSwitchOn
            | Self::NotPhc
            | Self::NoSuchChannel { .. }
            | Self::NoSuchPin { .. }
            | Self::NoPinLeadsThere { .. } => None,
        }
    }
}

/// What a clock can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhcCapabilities {
    /// By how many ppb its rate can be changed.
    pub adjusted_ppb_max: u32,
    /// How many channels stamp external signals.
    pub channels: u32,
    /// How many pins can be programmed.
    pub pins: u32,
    /// Whether the device and the processor latch both clocks at one moment.
    pub is_precise: bool,
}

/// How a clock is read beside the counter, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CrossRead {
    /// Both are latched at one moment (`PTP_SYS_OFFSET_PRECISE`).
    Precise,
    /// The driver takes `CLOCK_MONOTONIC_RAW` just before and after (`PTP_SYS_OFFSET_EXTENDED`, from Linux 6.12 on).
    ExtendedRaw,
    /// The driver takes `CLOCK_REALTIME` just before and after.
    Extended,
    /// The kernel takes `CLOCK_REALTIME` before and after the driver's work (`PTP_SYS_OFFSET`).
    Plain,
}

impl CrossRead {
    const ALL: [Self; 4] = [Self::Precise, Self::ExtendedRaw, Self::Extended, Self::Plain];

    /// What the other side of the reading is.
    const fn clock(self) -> KernelClock {
        match self {
            Self::Precise | Self::ExtendedRaw => KernelClock::MonotonicRaw,
            Self::Extended | Self::Plain => KernelClock::Realtime,
        }
    }
}

impl fmt::Display for CrossRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Precise => "precise",
            Self::ExtendedRaw | Self::Extended => "extended",
            Self::Plain => "plain",
        })
    }
}

/// An edge that the clock has stamped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhcEdge {
    /// On this channel.
    pub channel: u32,
    /// At this time of the clock's, in nanoseconds.
    pub phc_ns: i64,
}

/// The narrowest of so many readings of the device is taken; each takes it a microsecond or two.
const READINGS: u32 = 8;
const _: () = assert!(READINGS as usize <= SAMPLES_MAX);

/// A system clock and the device's, one after the other, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Between {
    before_ns: i64,
    phc_ns: i64,
    after_ns: i64,
}

/// An open clock.
#[derive(Debug)]
pub struct Phc {
    file: File,
    capabilities: PhcCapabilities,
}

impl Phc {
    /// Opens a clock to read it.
    ///
    /// # Errors
    /// What keeps it from being read.
    pub fn open(path: &Path) -> Result<Self, PhcError> {
        Self::of_file(open_file(path)?)
    }

    /// What [`open_file`] gave, here or in another process.
    ///
    /// # Errors
    /// When it is something else.
    pub fn of_file(file: File) -> Result<Self, PhcError> {
        let capabilities = capabilities(&file)?;
        Ok(Self { file, capabilities })
    }

    /// What it can do.
    #[must_use]
    pub const fn capabilities(&self) -> PhcCapabilities {
        self.capabilities
    }

    /// The clock and the counter at one moment, and how that was found out: the best way that works.
    ///
    /// # Errors
    /// When the device is gone (`ENODEV`), or can't be read.
    pub fn cross_read(&self, counter: &Counter) -> io::Result<(PhcReading, CrossRead)> {
        first_that_works(|by| {
            if by == CrossRead::Precise && !self.capabilities.is_precise {
                return Err(unsupported());
            }
            self.read_by(by, counter)
        })
    }

    /// In this way alone.
    ///
    /// # Errors
    /// When the driver or the kernel doesn't offer it, or the device is gone.
    pub fn read_by(&self, by: CrossRead, counter: &Counter) -> io::Result<PhcReading> {
        let before = clock::bracket(counter, by.clock());
        let between = match by {
            CrossRead::Precise => self.precise()?,
            CrossRead::ExtendedRaw => self.extended(libc::CLOCK_MONOTONIC_RAW)?,
            CrossRead::Extended => self.extended(libc::CLOCK_REALTIME)?,
            CrossRead::Plain => self.plain()?,
        };
        let after = clock::bracket(counter, by.clock());
        Ok(placed(counter, &before, &between, &after))
    }

    fn precise(&self) -> io::Result<Between> {
        let mut both = Precise::default();
        call(&self.file, OFFSET_PRECISE, &mut both)?;
        let raw_ns = both.monotonic_raw.nanos();
        Ok(Between { before_ns: raw_ns, phc_ns: both.device.nanos(), after_ns: raw_ns })
    }

    fn extended(&self, clock: libc::clockid_t) -> io::Result<Between> {
        let mut read = Extended::new(READINGS, clock);
        call(&self.file, OFFSET_EXTENDED, &mut read)?;
        narrowest(read.times.iter().take(READINGS as usize).copied())
    }

    fn plain(&self) -> io::Result<Between> {
        let mut read = Plain::new(READINGS);
        call(&self.file, OFFSET, &mut read)?;
        // The system's time after one reading is that before the next.
        let threes = read.times.windows(3).step_by(2).take(READINGS as usize);
        narrowest(threes.filter_map(|three| three.try_into().ok()))
    }

    /// The next edge on any channel that this descriptor hears of, each once; waits for it, but no longer than `timeout`.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn edge(&mut self, timeout: Duration) -> io::Result<Option<PhcEdge>> {
        // A read waits for ever, whatever the descriptor's flags.
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut octets = [0; size_of::<Event>()];
        let length = self.file.read(&mut octets)?;
        Ok((length == octets.len()).then(|| Event::of(&octets)).flatten())
    }
}

/// Opens a clock for reading alone: its time and its stamps, and nothing that changes it.
///
/// # Errors
/// What keeps it from being read.
pub fn open_file(path: &Path) -> Result<File, PhcError> {
    let file = open(path, OpenOptions::new().read(true))?;
    capabilities(&file)?;
    Ok(file)
}

/// What the driver calls it; empty where sysfs doesn't say.
#[must_use]
pub fn clock_name(file: &File) -> String {
    let device = file.metadata().map_or(0, |metadata| metadata.rdev());
    let (major, minor) = (libc::major(device), libc::minor(device));
    let name = fs::read_to_string(format!("/sys/dev/char/{major}:{minor}/clock_name"));
    name.unwrap_or_default().trim().to_owned()
}

fn open(path: &Path, options: &mut OpenOptions) -> Result<File, PhcError> {
    // Non-blocking: the path may be a FIFO or a serial line by mistake, on which opening could wait for ever.
    let file = options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    file.map_err(|error| match error.raw_os_error() {
        // A node without a driver behind it is no device either.
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENXIO | libc::ENODEV) => PhcError::NoDevice,
        Some(libc::EACCES | libc::EPERM) => PhcError::NotPermitted,
        Some(libc::EISDIR) => PhcError::NotPhc,
        _ => PhcError::Failed { call: "open", error },
    })
}

fn capabilities(file: &File) -> Result<PhcCapabilities, PhcError> {
    let mut told = CapabilitiesTold::default();
    call(file, GET_CAPABILITIES, &mut told).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTTY | libc::EINVAL | libc::EOPNOTSUPP) => PhcError::NotPhc,
        Some(libc::ENODEV) => PhcError::NoDevice,
        _ => PhcError::Failed { call: "PTP_CLOCK_GETCAPS", error },
    })?;
    let count = |told: c_int| u32::try_from(told).unwrap_or(0);
    Ok(PhcCapabilities {
        adjusted_ppb_max: count(told.adjusted_ppb_max),
        channels: count(told.external_stamps),
        pins: count(told.pins),
        is_precise: told.cross_timestamping != 0,
    })
}

/// The best way that works; if none does, why the last one doesn't.
fn first_that_works(
    mut read: impl FnMut(CrossRead) -> io::Result<PhcReading>,
) -> io::Result<(PhcReading, CrossRead)> {
    let mut failed = None;
    for by in CrossRead::ALL {
        match read(by) {
            Ok(reading) => return Ok((reading, by)),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(unsupported))
}

fn unsupported() -> io::Error {
    io::Error::from_raw_os_error(libc::EOPNOTSUPP)
}

/// The narrowest of the readings. One across which the system's clock went back is none.
fn narrowest(readings: impl Iterator<Item = [Time; 3]>) -> io::Result<Between> {
    let read = readings.map(|[before, phc, after]| Between {
        before_ns: before.nanos(),
        phc_ns: phc.nanos(),
        after_ns: after.nanos(),
    });
    let forward = read.filter(|between| between.after_ns >= between.before_ns);
    let narrowest = forward.min_by_key(|between| between.after_ns.saturating_sub(between.before_ns));
    narrowest.ok_or_else(|| io::Error::other("the machine's clock went back while the device was read"))
}

/// A kernel's and the device's clock cut off less than a nanosecond each.
const ROUNDING: Span = Span::from_nanos(2);

/// Puts a reading beside a kernel's clock on the counter, by readings of both before it and after it. As much as the
/// kernel's clock went otherwise than the counter meanwhile (it was stepped or slewed) is the reading's error, too.
fn placed(counter: &Counter, before: &Bracket, between: &Between, after: &Bracket) -> PhcReading {
    let ticks_of = |nanos: i64| counter.nominal_rate().ticks_in(Span::from_nanos(nanos));
    let on_counter = |nanos: i64| before.ticks.offset(ticks_of(nanos.saturating_sub(before.nanos)));
    let apart = after.ticks.since(on_counter(after.nanos)).saturating_abs();
    let width_ns = between.after_ns.saturating_sub(between.before_ns);
    let at: Ticks = on_counter(between.before_ns.saturating_add(width_ns / 2));
    let rounding = counter.nominal_rate().ticks_in(ROUNDING) + 1;
    let error = (ticks_of(width_ns) / 2 + rounding).saturating_add(apart);
    let error = error.saturating_add(before.error_ticks.into());
    PhcReading { at, error_ticks: u32::try_from(error).unwrap_or(u32::MAX), phc_ns: between.phc_ns }
}

fn call<T: Argument>(file: &File, request: Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: each caller in this module pairs a request with the structure that the kernel reads and writes for it, whose
    // size is part of the request's number; every bit pattern of its integers is valid.
    let failed = unsafe { libc::ioctl(file.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A request without an argument.
fn tell(file: &File, request: Ioctl) -> io::Result<()> {
    // SAFETY: the requests that are made this way take no argument, and the kernel ignores the null pointer.
    let failed = unsafe { libc::ioctl(file.as_raw_fd(), request, std::ptr::null_mut::<c_uint>()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
#[path = "phc/tests.rs"]
mod tests;
