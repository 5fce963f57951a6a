//! A serial line: a tty, or a pty that stands for one.
//!
//! Opened raw, 8N1, without flow control, and to ourselves where the system lets us. Reading waits no longer than it
//! is told and tells silence from a line that was hung up (an adapter unplugged, a pty's other end closed). What the
//! octets mean, and when they came, is decided elsewhere.

use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::termios::{self, BaudRate, ControlFlags, FlushArg, InputFlags, SetArg, Termios};
use nix::sys::time::TimeSpec;

/// Why a line can't be used, and what to do about it.
#[derive(Debug)]
pub enum SerialError {
    /// There is none of this name.
    NoDevice,
    /// Its file may not be opened.
    NotPermitted,
    /// Another program has it.
    Busy,
    /// It is something else.
    NotALine,
    /// No line has this speed.
    NoSuchBaud(u32),
    /// Anything else that the kernel says.
    Failed {
        /// The call.
        call: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for SerialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("no such device; connect the receiver, or name another path"),
            Self::NotPermitted => f.write_str(
                "this user may not open it; add the server's user to the device's group (dialout on many systems)",
            ),
            Self::Busy => {
                f.write_str("another program has it open to itself; stop that one (gpsd, a getty, a modem manager)")
            }
            Self::NotALine => f.write_str("not a serial line; name a tty"),
            Self::NoSuchBaud(baud) => write!(
                f,
                "a serial line has no speed of {baud} baud; take one of {}",
                BAUD_RATES.map(|(rate, _)| rate.to_string()).join(", ")
            ),
            Self::Failed { call, error } => write!(f, "{call}: {error}"),
        }
    }
}

impl Error for SerialError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { error, .. } => Some(error),
            Self::NoDevice | Self::NotPermitted | Self::Busy | Self::NotALine | Self::NoSuchBaud(_) => None,
        }
    }
}

impl SerialError {
    fn of(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Failed { call, error: errno.into() }
    }
}

/// The speeds that receivers have.
const BAUD_RATES: [(u32, BaudRate); 11] = [
    (1_200, BaudRate::B1200),
    (2_400, BaudRate::B2400),
    (4_800, BaudRate::B4800),
    (9_600, BaudRate::B9600),
    (19_200, BaudRate::B19200),
    (38_400, BaudRate::B38400),
    (57_600, BaudRate::B57600),
    (115_200, BaudRate::B115200),
    (230_400, BaudRate::B230400),
    (460_800, BaudRate::B460800),
    (921_600, BaudRate::B921600),
];

/// What reading brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// So many octets, at least one.
    Octets(usize),
    /// Nothing in the time given.
    Silence,
    /// The line was hung up: it has to be opened again.
    HungUp,
}

/// An open line. Dropping it lets others open it again.
#[derive(Debug)]
pub struct SerialLine {
    file: Flock<File>,
}

impl SerialLine {
    /// Opens a line at `baud`, or at the speed that it has.
    ///
    /// # Errors
    /// What keeps it from being read.
    pub fn open(path: &Path, baud: Option<u32>) -> Result<Self, SerialError> {
        Self::of_file(open_file(path)?, baud)
    }

    /// What [`open_file`] gave, here or in another process.
    ///
    /// # Errors
    /// What keeps it from being read.
    pub fn of_file(file: File, baud: Option<u32>) -> Result<Self, SerialError> {
        let rate = baud.map(rate_of).transpose()?;
        let or = |errno, known, meaning, call| {
            if errno == known { meaning } else { SerialError::Failed { call, error: io::Error::from(errno) } }
        };
        let mut settings = termios::tcgetattr(&file)
            .map_err(|errno| or(errno, Errno::ENOTTY, SerialError::NotALine, "tcgetattr"))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| or(errno, Errno::EWOULDBLOCK, SerialError::Busy, "flock"))?;
        make_raw(&mut settings, rate).map_err(SerialError::of("cfsetspeed"))?;
        termios::tcsetattr(&*file, SetArg::TCSANOW, &settings).map_err(SerialError::of("tcsetattr"))?;
        // What came at another speed or under another discipline is no message of ours.
        termios::tcflush(&*file, FlushArg::TCIFLUSH).map_err(SerialError::of("tcflush"))?;
        let line = Self { file };
        // Where it is refused others may read our octets away, but we can still read.
        let _ = line.set_exclusive(libc::TIOCEXCL);
        Ok(line)
    }

    /// Reads what has come; where there is nothing, waits for some, but no longer than `timeout`.
    ///
    /// # Errors
    /// What the kernel says that is neither silence nor a line hung up.
    pub fn read(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Heard> {
        let mut descriptors = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut descriptors, Some(TimeSpec::from_duration(timeout)), None) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Heard::Silence),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        match self.file.read(buffer) {
            Ok(0) => Ok(Heard::HungUp),
            Ok(count) => Ok(Heard::Octets(count)),
            Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind()) => {
                Ok(Heard::Silence)
            }
            Err(error) if [Some(libc::EIO), Some(libc::ENXIO)].contains(&error.raw_os_error()) => {
                Ok(Heard::HungUp)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes all of `octets`, or fails with [`TimedOut`](io::ErrorKind::TimedOut) where the line takes nothing for
    /// `timeout`.
    ///
    /// # Errors
    /// That, and what the kernel says.
    pub fn write(&mut self, octets: &[u8], timeout: Duration) -> io::Result<()> {
        let mut left = octets;
        while !left.is_empty() {
            let mut descriptors = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
            if ppoll(&mut descriptors, Some(TimeSpec::from_duration(timeout)), None)? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.file.write(left) {
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn set_exclusive(&self, request: libc::Ioctl) -> io::Result<()> {
        // SAFETY: both requests that this file makes (`TIOCEXCL`, `TIOCNXCL`) take no argument.
        let failed = unsafe { libc::ioctl(self.file.as_raw_fd(), request) };
        if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        // Another process may hold the line open too, and would keep it closed to others for ever.
        let _ = self.set_exclusive(libc::TIOCNXCL);
        // Closing waits until what was written has left, for up to 30 s (the kernel's closing_wait) where the other end
        // takes nothing. Where the driver can't discard it, that wait is left.
        let _ = termios::tcflush(&*self.file, FlushArg::TCOFLUSH);
    }
}

/// Opens a line, which may take privileges, and changes nothing of it.
///
/// # Errors
/// What keeps it from being opened.
pub fn open_file(path: &Path) -> Result<File, SerialError> {
    // Non-blocking, or opening would wait for the carrier that three wires don't have.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    file.map_err(|error| match error.raw_os_error() {
        // A pty whose other end is gone and an adapter's node that outlived it are no devices either.
        Some(libc::ENOENT | libc::ENOTDIR | libc::EIO | libc::ENXIO | libc::ENODEV) => SerialError::NoDevice,
        Some(libc::EACCES | libc::EPERM) => SerialError::NotPermitted,
        Some(libc::EBUSY) => SerialError::Busy,
        Some(libc::EISDIR) => SerialError::NotALine,
        _ => SerialError::Failed { call: "open", error },
    })
}

fn rate_of(baud: u32) -> Result<BaudRate, SerialError> {
    let found = BAUD_RATES.into_iter().find(|(number, _)| *number == baud);
    found.map(|(_, rate)| rate).ok_or(SerialError::NoSuchBaud(baud))
}

/// Eight bits, no parity, one stop bit, no flow control, nothing translated, and the modem's lines left alone. A read
/// wants one octet at least, so that one of none means a line that was hung up.
fn make_raw(settings: &mut Termios, rate: Option<BaudRate>) -> nix::Result<()> {
    termios::cfmakeraw(settings);
    settings.input_flags.remove(InputFlags::IXOFF | InputFlags::IXANY | InputFlags::INPCK);
    settings.control_flags.remove(ControlFlags::CSTOPB | ControlFlags::CRTSCTS | ControlFlags::HUPCL);
    settings.control_flags.insert(ControlFlags::CLOCAL | ControlFlags::CREAD);
    rate.map_or(Ok(()), |rate| termios::cfsetspeed(settings, rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
    use std::path::PathBuf;

    const SOON: Duration = Duration::from_millis(20);

    fn pty() -> (PtyMaster, PathBuf) {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname_r(&master).unwrap().into();
        (master, path)
    }
    fn why(path: &str, baud: Option<u32>) -> String {
        SerialLine::open(Path::new(path), baud).unwrap_err().to_string()
    }

    #[test]
    fn octets_pass_as_they_are_both_ways() {
        let (mut master, path) = pty();
        let mut line = SerialLine::open(&path, Some(9_600)).unwrap();
        let mut buffer = [0; 600];
        assert_eq!(line.read(&mut buffer, SOON).unwrap(), Heard::Silence);
        // Every octet: an interrupt, an end of file, a carriage return and XOFF would be eaten or changed by a line
        // that isn't raw.
        let all: Vec<u8> = (0..=255).collect();
        master.write_all(&all).unwrap();
        let mut heard = Vec::new();
        while heard.len() < all.len() {
            match line.read(&mut buffer, Duration::from_secs(5)).unwrap() {
                Heard::Octets(count) => heard.extend_from_slice(&buffer[..count]),
                Heard::Silence | Heard::HungUp => panic!("no more after {} octets", heard.len()),
            }
        }
        assert_eq!(heard, all);
        assert_eq!(line.read(&mut buffer, SOON).unwrap(), Heard::Silence, "no echo of an echo");
        line.write(&all, SOON).unwrap();
        let mut back = vec![0; all.len()];
        master.read_exact(&mut back).unwrap();
        assert_eq!(back, all);
    }

    #[test]
    fn a_line_hung_up_is_not_silent() {
        let (mut master, path) = pty();
        let mut line = SerialLine::open(&path, None).unwrap();
        master.write_all(b"last").unwrap();
        drop(master);
        let mut buffer = [0; 16];
        let first = line.read(&mut buffer, SOON).unwrap();
        assert!(matches!(first, Heard::Octets(4) | Heard::HungUp), "{first:?}");
        assert_eq!(line.read(&mut buffer, SOON).unwrap(), Heard::HungUp);
        assert!(SerialLine::open(&path, None).is_err(), "there is no other end to it");
    }

    #[test]
    fn a_line_is_ours_alone_until_it_is_dropped() {
        let (_master, path) = pty();
        let line = SerialLine::open(&path, None).unwrap();
        assert!(matches!(SerialLine::open(&path, None), Err(SerialError::Busy)));
        drop(line);
        assert!(SerialLine::open(&path, None).is_ok());
    }

    #[test]
    fn a_line_that_takes_nothing_holds_nobody_up() {
        let (_master, path) = pty();
        let mut line = SerialLine::open(&path, None).unwrap();
        let error = line.write(&[0; 1 << 20], SOON).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    /// A pty's close never waits, so that this shows only that the kernel is told to discard: a master in packet mode
    /// (tty_ioctl(4), `TIOCPKT`) hears so.
    #[test]
    fn what_was_not_taken_is_discarded_before_the_line_is_closed() {
        // TIOCPKT_FLUSHWRITE of asm-generic/ioctls.h.
        const FLUSHWRITE: u8 = 2;
        let (mut master, path) = pty();
        let mut line = SerialLine::open(&path, None).unwrap();
        let on: libc::c_int = 1;
        // SAFETY: `TIOCPKT` reads one int, and `on` lives until it returns.
        let failed = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCPKT, &raw const on) };
        assert_eq!(failed, 0);
        line.write(b"never read", SOON).unwrap();
        drop(line);
        let mut said = [0; 16];
        assert_eq!(master.read(&mut said).unwrap(), 1, "{said:?}");
        assert_eq!(said[0] & FLUSHWRITE, FLUSHWRITE, "{said:?}");
    }

    #[test]
    fn what_is_no_line_is_told_apart() {
        assert!(why("/dev/no-such-line", None).starts_with("no such device; connect the receiver"));
        assert!(why("/dev/null", None).starts_with("not a serial line"));
        let no_speed = why("/dev/null", Some(9_601));
        assert!(no_speed.contains("no speed of 9601 baud; take one of 1200, 2400"), "{no_speed}");
    }
}
