//! What everything that loads BPF programs shares: putting one on an interface, and the loader's errors.
//!
//! Nothing is pinned: a program lives as long as a descriptor of ours, and is off its interface when the last one is
//! closed, however the process ends. A program of somebody else's is never replaced: a link can't.

use std::error::Error;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys::{BPF_XDP, bpf_link_create, bpf_link_create_opts};
use nix::net::if_::if_indextoname;

/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE`.
const GENERIC: u32 = 1 << 1;
const NATIVE: u32 = 1 << 2;

/// An object file, which libbpf reads in place as 64-bit words.
#[repr(C, align(8))]
pub(crate) struct Aligned<T: ?Sized>(pub(crate) T);

/// Where an XDP program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// After the kernel has made a socket buffer, since the driver has no place for it: correct, but slow.
    Generic,
}

/// A program on an interface for as long as this lives.
#[derive(Debug)]
pub(crate) struct Attached {
    _link: OwnedFd,
    pub(crate) mode: AttachMode,
}

impl Attached {
    /// Puts a program on an interface; else the kernel's error number.
    pub(crate) fn new(program: BorrowedFd<'_>, interface: u32, mode: AttachMode) -> Result<Self, i32> {
        let sz = size_of::<bpf_link_create_opts>() as libbpf_rs::libbpf_sys::size_t;
        let flags = match mode {
            AttachMode::Native => NATIVE,
            AttachMode::Generic => GENERIC,
        };
        let options = bpf_link_create_opts { sz, flags, ..Default::default() };
        let interface = interface.try_into().map_err(|_| libc::ENODEV)?;
        // SAFETY: the program's descriptor is open, and the options' size is their own.
        let link = unsafe { bpf_link_create(program.as_raw_fd(), interface, BPF_XDP, &raw const options) };
        if link < 0 {
            return Err(-link);
        }
        // SAFETY: the call returned a new descriptor, which nobody else knows.
        Ok(Self { _link: unsafe { OwnedFd::from_raw_fd(link) }, mode })
    }
}

/// Whether there is an interface of this index in this network namespace.
pub(crate) fn is_interface(index: u32) -> bool {
    // The kernel calls an interface that isn't there an invalid argument, and nix 0.31 an empty name.
    !if_indextoname(index).is_ok_and(|name| name.is_empty())
}

/// The kernel's number in an error of the loader's; 0 if it gave none.
pub(crate) fn errno_of(error: &libbpf_rs::Error) -> i32 {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return errno;
        }
        cause = error.source();
    }
    // An error of input or output that nothing was said about keeps its number to itself.
    if error.kind() == libbpf_rs::ErrorKind::PermissionDenied { libc::EPERM } else { 0 }
}

/// An error on a map.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn io_error(error: libbpf_rs::Error) -> io::Error {
    match errno_of(&error) {
        0 => io::Error::other(error.to_string()),
        errno => io::Error::from_raw_os_error(errno),
    }
}
