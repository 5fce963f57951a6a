//! A place for a program that is run and not attached: an interface of our own that no packet meets.
//!
//! Each call of BPF_PROG_RUN has the kernel add the program to its XDP dispatcher and take it out again, waiting twice
//! for every core to be out of the old one: 22 ms a call as measured, in which nothing is sent. A program that is
//! attached anywhere is in the dispatcher already, and the call's own work is 30 µs. The interface is a tap that is never
//! up; it goes with its descriptor, however the process ends.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{IFF_NO_PI, IFF_TAP, TUNSETIFF, c_char, c_short, ifreq};

use super::LiveError;

const WHAT: &str = "making a tap from /dev/net/tun to park the program on";

/// The interface, until it is dropped.
#[derive(Debug)]
pub(super) struct Parking {
    _tap: OwnedFd,
    pub(super) interface: u32,
}

impl Parking {
    pub(super) fn new() -> Result<Self, LiveError> {
        let refused = |error: std::io::Error| LiveError::of_errno(WHAT, error.raw_os_error().unwrap_or(0));
        let tap = File::options().read(true).write(true).open("/dev/net/tun").map_err(refused)?;
        // SAFETY: zeros are a value of a request's fields.
        let mut request: ifreq = unsafe { std::mem::zeroed() };
        // The kernel puts a number for the pattern and leaves the whole name in its place.
        for (to, octet) in request.ifr_name.iter_mut().zip(b"maser%d") {
            *to = c_char::from_ne_bytes([*octet]);
        }
        request.ifr_ifru.ifru_flags = c_short::try_from(IFF_TAP | IFF_NO_PI).expect("flags of 16 bits");
        // SAFETY: the request is whole, and the kernel writes nothing beyond it.
        if unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETIFF, &raw mut request) } != 0 {
            return Err(refused(std::io::Error::last_os_error()));
        }
        // SAFETY: the kernel left a name of at most 15 octets and a zero, in memory that lives on to the next line.
        let interface = unsafe { libc::if_nametoindex(request.ifr_name.as_ptr()) };
        if interface == 0 {
            return Err(refused(std::io::Error::last_os_error()));
        }
        Ok(Self { _tap: tap.into(), interface })
    }
}
