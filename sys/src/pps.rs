//! Pulses as the kernel stamps them: RFC 2783 through the ioctls of `linux/pps.h`.
//!
//! A device captures edges in the interrupt and stamps them with `CLOCK_REALTIME`; [`PpsDevice::fetch`] waits for the
//! next edge of the kind chosen and hands over its stamp and number, each once. What a pulse is worth, and how its
//! stamp is related to the counter, is decided elsewhere. Capturing is switched on where it is off; nothing else of the
//! device's parameters is changed, and the kernel's own discipline (`PPS_KC_BIND`) is never asked for.

use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use libc::{Ioctl, c_int};

/// Which edge of the signal begins a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    /// The one that the device calls assert.
    Assert,
    /// The other one.
    Clear,
}

impl Edge {
    const fn capture_bit(self) -> c_int {
        match self {
            Self::Assert => 0x01,
            Self::Clear => 0x02,
        }
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assert => "assert",
            Self::Clear => "clear",
        })
    }
}

/// Which edges a device can capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Assert.
    pub assert: bool,
    /// Clear.
    pub clear: bool,
}

impl Capabilities {
    const fn of_mode(mode: c_int) -> Self {
        Self { assert: mode & Edge::Assert.capture_bit() != 0, clear: mode & Edge::Clear.capture_bit() != 0 }
    }

    const fn has(self, edge: Edge) -> bool {
        match edge {
            Edge::Assert => self.assert,
            Edge::Clear => self.clear,
        }
    }
}

/// An edge that was captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PpsEvent {
    /// The kernel's number of it; one more than the last one's unless edges were missed by the reader.
    pub sequence: u32,
    /// `CLOCK_REALTIME` at the edge, in nanoseconds since 1970.
    pub realtime_ns: i64,
}

/// Why a device can't be used, and what to do about it.
#[derive(Debug)]
pub enum PpsError {
    /// There is none of this name.
    NoDevice,
    /// Its file may not be opened.
    NotPermitted,
    /// It is something else.
    NotPps,
    /// It can't capture the edge that was asked for.
    NoSuchEdge(Edge),
    /// It could capture the edge, but nobody switched that on, and this process may not.
    MayNotSwitchOn(Edge),
    /// Anything else that the kernel says.
    Failed {
        /// The call.
        call: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for PpsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str(
                "no such device; load the driver of the pin (pps-gpio, pps_parport) or attach it to the serial line \
                 (ldattach PPS), and see /sys/class/pps",
            ),
            Self::NotPermitted => {
                f.write_str("this user may not open it; give the server's user or group the right to read it (udev rule)")
            }
            Self::NotPps => f.write_str(
                "not a PPS device; name one of /dev/pps*, for a serial line the one that `ldattach PPS` makes",
            ),
            Self::NoSuchEdge(edge) => {
                write!(f, "the device can't capture the {edge} edge; choose the other edge, or another driver")
            }
            Self::MayNotSwitchOn(edge) => write!(
                f,
                "capturing the {edge} edge is off, and switching it on needs CAP_SYS_TIME; choose the other edge, or \
                 switch it on as root (ppstest does)",
            ),
            Self::Failed { call, error } => write!(f, "{call}: {error}"),
        }
    }
}

impl Error for PpsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { error, .. } => Some(error),
            Self::NoDevice
            | Self::NotPermitted
            | Self::NotPps
            | Self::NoSuchEdge(_)
            | Self::MayNotSwitchOn(_) => None,
        }
    }
}

/// `struct pps_ktime`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct KernelTime {
    seconds: i64,
    nanos: i32,
    flags: u32,
}

/// `struct pps_fdata`: `struct pps_kinfo`, whose end is padded, and a timeout.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct FetchData {
    assert_sequence: u32,
    clear_sequence: u32,
    assert_time: KernelTime,
    clear_time: KernelTime,
    current_mode: c_int,
    padding: u32,
    timeout: KernelTime,
}

/// `struct pps_kparams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Parameters {
    api_version: c_int,
    mode: c_int,
    assert_offset: KernelTime,
    clear_offset: KernelTime,
}

const TYPE: u32 = b'p' as u32;
// The header gives a pointer's size for the argument's: so these numbers are, and so they stay.
const GET_PARAMETERS: Ioctl = libc::_IOR::<*mut Parameters>(TYPE, 0xa1);
const SET_PARAMETERS: Ioctl = libc::_IOW::<*mut Parameters>(TYPE, 0xa2);
const GET_CAPABILITIES: Ioctl = libc::_IOR::<*mut c_int>(TYPE, 0xa3);
const FETCH: Ioctl = libc::_IOWR::<*mut FetchData>(TYPE, 0xa4);

/// What an open device is asked.
pub(crate) const REQUESTS: [Ioctl; 2] = [GET_CAPABILITIES, FETCH];

const _: () = {
    assert!(size_of::<KernelTime>() == 16 && size_of::<Parameters>() == 40 && size_of::<FetchData>() == 64);
    assert!(std::mem::offset_of!(FetchData, clear_time) == 24);
    assert!(std::mem::offset_of!(FetchData, timeout) == 48);
};
#[cfg(all(target_pointer_width = "64", any(target_arch = "x86_64", target_arch = "aarch64")))]
const _: () = {
    assert!(GET_PARAMETERS == 0x8008_70a1 && SET_PARAMETERS == 0x4008_70a2);
    assert!(GET_CAPABILITIES == 0x8008_70a3 && FETCH == 0xc008_70a4);
};

/// An open device, and the edge that is read from it.
#[derive(Debug)]
pub struct PpsDevice {
    file: File,
    edge: Edge,
    capabilities: Capabilities,
    /// The number of the last edge that was handed over; the kernel counts from 1.
    last_sequence: u32,
}

impl PpsDevice {
    /// Opens the device and sees to it that `edge` is captured.
    ///
    /// # Errors
    /// What keeps it from delivering this edge.
    pub fn open(path: &Path, edge: Edge) -> Result<Self, PpsError> {
        Self::of_file(open_file(path, edge)?, edge)
    }

    /// What [`open_file`] gave, here or in another process. The edge captured last, if any, is the first that
    /// [`fetch`](Self::fetch) hands over, however old it is.
    ///
    /// # Errors
    /// What keeps it from delivering this edge.
    pub fn of_file(file: File, edge: Edge) -> Result<Self, PpsError> {
        let capabilities = capabilities(&file)?;
        if capabilities.has(edge) {
            Ok(Self { file, edge, capabilities, last_sequence: 0 })
        } else {
            Err(PpsError::NoSuchEdge(edge))
        }
    }

    /// Which edges the device can capture.
    #[must_use]
    pub const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The last captured edge that wasn't handed over yet; where there is none, waits for one, but no longer than
    /// `timeout`, and may return a little earlier with nothing.
    ///
    /// # Errors
    /// When the device is gone. A kernel keeps a device that is gone silent rather than failing, as long as it is
    /// open: who hears nothing for long opens it again.
    pub fn fetch(&mut self, timeout: Duration) -> io::Result<Option<PpsEvent>> {
        let seen = self.fetch_once(Duration::ZERO)?;
        if seen.is_some() || timeout.is_zero() {
            return Ok(seen);
        }
        // An edge just before this call woke nobody and is found by the next: late, but with its own stamp.
        self.fetch_once(timeout)
    }

    fn fetch_once(&mut self, timeout: Duration) -> io::Result<Option<PpsEvent>> {
        let mut data = FetchData {
            timeout: KernelTime {
                seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(timeout.subsec_nanos()).unwrap_or(0),
                flags: 0,
            },
            ..FetchData::default()
        };
        match call(&self.file, FETCH, &mut data) {
            Ok(()) => Ok(self.unseen(&data)),
            Err(error) if [Some(libc::ETIMEDOUT), Some(libc::EINTR)].contains(&error.raw_os_error()) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn unseen(&mut self, data: &FetchData) -> Option<PpsEvent> {
        let (sequence, time) = match self.edge {
            Edge::Assert => (data.assert_sequence, data.assert_time),
            Edge::Clear => (data.clear_sequence, data.clear_time),
        };
        if sequence == self.last_sequence {
            return None;
        }
        self.last_sequence = sequence;
        let realtime_ns = time.seconds.saturating_mul(1_000_000_000).saturating_add(time.nanos.into());
        Some(PpsEvent { sequence, realtime_ns })
    }
}

/// Opens a device and sees to it that `edge` is captured: what takes privileges.
///
/// # Errors
/// What keeps it from delivering this edge.
pub fn open_file(path: &Path, edge: Edge) -> Result<File, PpsError> {
    // Non-blocking: the path may be a FIFO or a serial line by mistake, on which opening could wait for ever.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        // A node without a driver behind it is no device either.
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENXIO | libc::ENODEV) => PpsError::NoDevice,
        Some(libc::EACCES | libc::EPERM) => PpsError::NotPermitted,
        _ => PpsError::Failed { call: "open", error },
    })?;
    if !capabilities(&file)?.has(edge) {
        return Err(PpsError::NoSuchEdge(edge));
    }
    switch_on(&file, edge)?;
    Ok(file)
}

fn capabilities(file: &File) -> Result<Capabilities, PpsError> {
    let mut mode: c_int = 0;
    call(file, GET_CAPABILITIES, &mut mode).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTTY | libc::EINVAL | libc::EOPNOTSUPP) => PpsError::NotPps,
        _ => PpsError::Failed { call: "PPS_GETCAP", error },
    })?;
    Ok(Capabilities::of_mode(mode))
}

/// Sees to it that the edge is captured, and changes nothing where it is already.
fn switch_on(file: &File, edge: Edge) -> Result<(), PpsError> {
    let mut parameters = Parameters::default();
    call(file, GET_PARAMETERS, &mut parameters)
        .map_err(|error| PpsError::Failed { call: "PPS_GETPARAMS", error })?;
    if Capabilities::of_mode(parameters.mode).has(edge) {
        return Ok(());
    }
    parameters.mode |= edge.capture_bit();
    call(file, SET_PARAMETERS, &mut parameters).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => PpsError::MayNotSwitchOn(edge),
        _ => PpsError::Failed { call: "PPS_SETPARAMS", error },
    })
}

/// What the PPS ioctls take: structures of integers, as `linux/pps.h` lays them out.
trait Argument {}
impl Argument for c_int {}
impl Argument for Parameters {}
impl Argument for FetchData {}

fn call<T: Argument>(file: &File, request: Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: each caller in this file pairs a request with the structure that the kernel reads and writes for it, whose
    // size is asserted above; every bit pattern of its integers is valid.
    let failed = unsafe { libc::ioctl(file.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(path: &str) -> String {
        PpsDevice::open(Path::new(path), Edge::Assert).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_device_is_told_apart() {
        assert!(why("/dev/no-such-pps").starts_with("no such device; load the driver"));
        assert!(why("/dev/null").starts_with("not a PPS device; name one of /dev/pps*"));
        assert!(why("/proc/self/status").starts_with("not a PPS device"));
        assert!(why("/").contains("not a PPS device"), "{}", why("/"));
    }

    #[test]
    fn an_edge_is_handed_over_once_and_by_its_own_number() {
        let file = File::open("/dev/null").unwrap();
        let capabilities = Capabilities { assert: true, clear: true };
        let mut device = PpsDevice { file, edge: Edge::Clear, capabilities, last_sequence: 0 };
        assert_eq!(device.unseen(&FetchData::default()), None, "nothing was captured yet");
        let clear_time = KernelTime { seconds: 1_795_000_000, nanos: 7, flags: 0 };
        let mut data =
            FetchData { assert_sequence: 9, clear_sequence: 8, clear_time, ..FetchData::default() };
        let event = PpsEvent { sequence: 8, realtime_ns: 1_795_000_000_000_000_007 };
        assert_eq!(device.unseen(&data), Some(event));
        data.assert_sequence += 1;
        assert_eq!(device.unseen(&data), None, "the other edge");
        data.clear_sequence = 0;
        assert_eq!(device.unseen(&data).map(|event| event.sequence), Some(0), "the number wraps");
    }

    #[test]
    fn a_device_that_fails_is_not_silent() {
        let file = File::open("/dev/null").unwrap();
        let capabilities = Capabilities::of_mode(0x1133);
        assert_eq!(capabilities, Capabilities { assert: true, clear: true });
        let mut device = PpsDevice { file, edge: Edge::Assert, capabilities, last_sequence: 0 };
        assert_eq!(device.fetch(Duration::from_millis(1)).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
