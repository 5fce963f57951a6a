//! Why a packet socket can't be opened, and what to do about it.

use std::fmt;
use std::io;

/// Why frames can't be sent and received on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketError {
    /// Packet sockets are for the privileged.
    NoPrivilege,
    /// The kernel was built without packet sockets.
    NotInKernel,
    /// No interface has this index.
    NoSuchInterface {
        /// The index.
        interface: u32,
    },
    /// The interface is down.
    InterfaceDown {
        /// The index.
        interface: u32,
    },
    /// The interface carries something else than Ethernet frames.
    NotEthernet {
        /// The index.
        interface: u32,
        /// The kernel's number of what it carries (`ARPHRD_…`).
        hardware: u16,
    },
    /// Not a power of two, or not within the limits.
    RingSize {
        /// How many frames were asked for.
        frames: usize,
    },
    /// The kernel refused something that it grants to the privileged.
    Refused {
        /// The call or option.
        what: &'static str,
        /// The kernel's error number.
        errno: i32,
    },
}

impl PacketError {
    /// What the refusal of `what` means.
    pub(super) fn of(what: &'static str, interface: u32) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.raw_os_error().unwrap_or(0) {
            libc::EPERM | libc::EACCES => Self::NoPrivilege,
            libc::EAFNOSUPPORT => Self::NotInKernel,
            libc::ENODEV | libc::ENXIO => Self::NoSuchInterface { interface },
            libc::ENETDOWN => Self::InterfaceDown { interface },
            errno => Self::Refused { what, errno },
        }
    }
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoPrivilege => {
                write!(f, "packet sockets take CAP_NET_RAW; start as root or with that capability")
            }
            Self::NotInKernel => write!(f, "the kernel has no packet sockets (CONFIG_PACKET)"),
            Self::NoSuchInterface { interface } => {
                write!(f, "there is no interface {interface}; `ip link` lists those there are")
            }
            Self::InterfaceDown { interface } => {
                write!(f, "interface {interface} is down; `ip link set up` starts it")
            }
            Self::NotEthernet { interface, hardware } => write!(
                f,
                "interface {interface} carries no Ethernet frames (type {hardware}); use UDP sockets for what is \
                 behind it"
            ),
            Self::RingSize { frames } => write!(
                f,
                "a ring of {frames} frames; a power of two from {} to {} can be",
                super::RING_FRAMES_MIN,
                super::RING_FRAMES_MAX
            ),
            Self::Refused { what, errno } => write!(f, "{what}: {}", io::Error::from_raw_os_error(errno)),
        }
    }
}

impl std::error::Error for PacketError {}
