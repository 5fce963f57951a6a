//! The system calls on an AF_XDP socket.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use libc::socklen_t;

use super::XskSetting;
use super::memory::{Frames, Mapping};
use super::ring::{Taken, Written};
use crate::datagram::{ends_sending, last_errno};

/// A queue whose last owner has just closed it looks taken for some milliseconds, and sometimes for longer.
const BIND_TRIES: u32 = 250;
const BIND_PAUSE: Duration = Duration::from_millis(20);
const _: () = assert!(BIND_TRIES as u128 * BIND_PAUSE.as_millis() == 5000);

/// `AF_XDP`, in an address.
const FAMILY: u16 = 44;
const _: () = assert!(FAMILY as i32 == libc::AF_XDP);

/// Where the rings are mapped from.
const FILL_OFFSET: libc::off_t = 0x1_0000_0000;
const COMPLETION_OFFSET: libc::off_t = 0x1_8000_0000;
const _: () = assert!(libc::XDP_UMEM_PGOFF_FILL_RING == 0x1_0000_0000);
const _: () = assert!(libc::XDP_UMEM_PGOFF_COMPLETION_RING == 0x1_8000_0000);

/// The rings of a socket, with room for all frames, so that none is ever full.
///
/// The kernel says that it took entries some time after it did, and their frames may have gone round meanwhile: those
/// that it takes from hold all frames twice. Entries that it took and hasn't said so are no more than there were when it
/// last said it, one a frame at most.
pub(super) struct Rings {
    /// Where packets may be received.
    pub(super) fill: Written<u64>,
    /// What came.
    pub(super) came: Taken<libc::xdp_desc>,
    /// What is to be sent.
    pub(super) to_send: Written<libc::xdp_desc>,
    /// What was sent, or dropped on the way out.
    pub(super) completed: Taken<u64>,
}

/// What came of telling the kernel that there is something to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kick {
    /// It took what it could.
    Done,
    /// There is no room, or no memory.
    Congested,
    /// In copy mode: the device dropped one packet, and what follows it wasn't looked at.
    Dropped,
    /// Nothing can be sent: the interface is down.
    Down,
}

/// An AF_XDP socket.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        // SAFETY: the call takes plain numbers.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call returned a new descriptor, which nobody else knows.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Lends the kernel the frames; whether it takes requests in front of them, which it does since Linux 6.8 (and says
    /// since 6.11).
    pub(super) fn register(&self, frames: &Frames) -> io::Result<bool> {
        let register = |with_requests| {
            set(&self.0, libc::SOL_XDP, libc::XDP_UMEM_REG, &frames.registration(with_requests))
        };
        match register(true) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => register(false).map(|()| false),
            done => done.map(|()| true),
        }
    }

    /// Makes the rings for so many frames, and maps them.
    pub(super) fn rings(&self, frames: u32) -> io::Result<Rings> {
        let twice = 2 * frames;
        for (ring, size) in [
            (libc::XDP_UMEM_FILL_RING, twice),
            (libc::XDP_UMEM_COMPLETION_RING, frames),
            (libc::XDP_RX_RING, frames),
            (libc::XDP_TX_RING, twice),
        ] {
            set(&self.0, libc::SOL_XDP, ring, &size)?;
        }
        let none = libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
        let mut at = libc::xdp_mmap_offsets { rx: none, tx: none, fr: none, cr: none };
        if get(&self.0, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, &mut at)? < size_of_val(&at) {
            // Linux before 5.4 doesn't say where the flags are.
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let map = |offsets: &libc::xdp_ring_offset, octets: usize, place: libc::off_t| {
            let entries = usize::try_from(offsets.desc).unwrap_or(usize::MAX);
            Mapping::of(self.0.as_fd(), entries.saturating_add(octets), place)
        };
        let addresses = |count: u32| count as usize * size_of::<u64>();
        let descriptors = |count: u32| count as usize * size_of::<libc::xdp_desc>();
        Ok(Rings {
            fill: Written::new(map(&at.fr, addresses(twice), FILL_OFFSET)?, &at.fr, twice),
            came: Taken::new(map(&at.rx, descriptors(frames), libc::XDP_PGOFF_RX_RING)?, &at.rx, frames),
            to_send: Written::new(map(&at.tx, descriptors(twice), libc::XDP_PGOFF_TX_RING)?, &at.tx, twice),
            completed: Taken::new(map(&at.cr, addresses(frames), COMPLETION_OFFSET)?, &at.cr, frames),
        })
    }

    /// Binds to the setting's queue, in the mode that `mode` names (`XDP_ZEROCOPY` or `XDP_COPY`); waits five seconds at most
    /// for who has it.
    pub(super) fn bind(&self, setting: &XskSetting, mode: u16) -> Result<(), i32> {
        let address = libc::sockaddr_xdp {
            sxdp_family: FAMILY,
            sxdp_flags: mode | libc::XDP_USE_NEED_WAKEUP,
            sxdp_ifindex: setting.interface,
            sxdp_queue_id: setting.queue,
            sxdp_shared_umem_fd: 0,
        };
        let place = (&raw const address).cast();
        for _ in 0..BIND_TRIES {
            // SAFETY: the kernel reads the address, whose length is given, before the call returns.
            let failed = unsafe { libc::bind(self.0.as_raw_fd(), place, length_of::<libc::sockaddr_xdp>()) };
            match last_errno() {
                _ if failed == 0 => return Ok(()),
                libc::EBUSY => thread::sleep(BIND_PAUSE),
                errno => return Err(errno),
            }
        }
        Err(libc::EBUSY)
    }

    pub(super) fn set_socket(&self, option: c_int, value: c_int) -> io::Result<()> {
        set(&self.0, libc::SOL_SOCKET, option, &value)
    }

    /// That the interface is still there: the kernel takes it from a socket for good when it is removed.
    pub(super) fn expect_interface(&self) -> io::Result<()> {
        let mut errno: c_int = 0;
        get(&self.0, libc::SOL_SOCKET, libc::SO_ERROR, &mut errno)?;
        if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
    }

    /// Tells the kernel that there is something to send.
    ///
    /// # Errors
    /// Only what going on can't mend.
    pub(super) fn kick_sending(&self) -> io::Result<Kick> {
        let (nothing, nobody) = (std::ptr::null(), std::ptr::null());
        // SAFETY: no octets are sent, and no address is given.
        let kicked = unsafe { libc::sendto(self.0.as_raw_fd(), nothing, 0, libc::MSG_DONTWAIT, nobody, 0) };
        if kicked >= 0 {
            return Ok(Kick::Done);
        }
        match last_errno() {
            libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM => Ok(Kick::Congested),
            libc::EBUSY => Ok(Kick::Dropped),
            errno if ends(errno) => Err(io::Error::from_raw_os_error(errno)),
            _ => self.expect_interface().map(|()| Kick::Down),
        }
    }

    /// Tells the kernel that there is room to receive into, or has it look for packets where the socket polls.
    ///
    /// # Errors
    /// Only what going on can't mend.
    pub(super) fn kick_receiving(&self) -> io::Result<()> {
        let (nothing, nobody) = (std::ptr::null_mut(), std::ptr::null_mut());
        let (fd, no_length) = (self.0.as_raw_fd(), std::ptr::null_mut());
        // SAFETY: there is no room for octets, and none for an address.
        let kicked = unsafe { libc::recvfrom(fd, nothing, 0, libc::MSG_DONTWAIT, nobody, no_length) };
        match last_errno() {
            _ if kicked >= 0 => Ok(()),
            errno if ends(errno) => Err(io::Error::from_raw_os_error(errno)),
            libc::ENXIO => self.expect_interface(),
            // It is down or busy, and asks again.
            _ => Ok(()),
        }
    }

    pub(super) fn statistics(&self) -> io::Result<XskStatistics> {
        self.0.try_clone().map(XskStatistics)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether an error of a kick ends the port: this program misused the socket, or a filter of system calls refuses the
/// call. Anything else comes from the driver, which may be in the middle of a change of its settings.
const fn ends(errno: i32) -> bool {
    ends_sending(errno) || matches!(errno, libc::EPERM | libc::EACCES)
}

/// What the kernel counts of a queue's socket, for any thread.
///
/// The queue stays taken until this is gone too.
#[derive(Debug)]
pub struct XskStatistics(OwnedFd);

/// What the kernel has counted since the socket was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct XskCounts {
    /// Packets dropped since they were too long, or since there was no frame to receive into.
    pub rx_dropped: u64,
    /// Frames given to receive into that aren't any: a fault of this program.
    pub rx_invalid_descs: u64,
    /// Frames given to send that aren't any: a fault of this program.
    pub tx_invalid_descs: u64,
    /// Packets dropped since too many waited to be taken.
    pub rx_ring_full: u64,
    /// How often the kernel found no frame to receive into.
    pub rx_fill_ring_empty_descs: u64,
    /// How often the kernel found nothing more to send: no fault.
    pub tx_ring_empty_descs: u64,
}

impl XskStatistics {
    /// What was counted so far.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn read(&self) -> io::Result<XskCounts> {
        let mut counts = [0_u64; 6];
        const _: () = assert!(size_of::<libc::xdp_statistics>() == size_of::<[u64; 6]>());
        get(&self.0, libc::SOL_XDP, libc::XDP_STATISTICS, &mut counts)?;
        let [
            rx_dropped,
            rx_invalid_descs,
            tx_invalid_descs,
            rx_ring_full,
            rx_fill_ring_empty_descs,
            tx_ring_empty_descs,
        ] = counts;
        Ok(XskCounts {
            rx_dropped,
            rx_invalid_descs,
            tx_invalid_descs,
            rx_ring_full,
            rx_fill_ring_empty_descs,
            tx_ring_empty_descs,
        })
    }
}

fn set<T>(fd: &OwnedFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let place = std::ptr::from_ref(value).cast::<c_void>();
    // SAFETY: the kernel reads the value, whose length is given, before the call returns. The one address within a value,
    // that of frames, is the kernel's to use from then on; they are never freed, only unmapped.
    let failed = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, place, length_of::<T>()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option of integers; how many octets the kernel wrote.
fn get<T>(fd: &OwnedFd, level: c_int, option: c_int, value: &mut T) -> io::Result<usize> {
    let place = std::ptr::from_mut(value).cast::<c_void>();
    let mut length = length_of::<T>();
    // SAFETY: the kernel writes at most `length` octets of integers to where they fit.
    let failed = unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, place, &raw mut length) };
    if failed == 0 { Ok(length as usize) } else { Err(io::Error::last_os_error()) }
}

fn length_of<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).expect("an option of a few octets")
}
