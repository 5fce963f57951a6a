//! Why an AF_XDP socket can't be had, and what to do about it.

use std::fmt;
use std::io;

use super::{FRAMES_MAX, FRAMES_MIN};
use crate::datagram::{BATCH_MAX, SOCKETS_MAX};

/// Why packets can't be taken from a queue of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XskError {
    /// Not a power of two of frames, or not within the limits.
    Frames {
        /// How many were asked for.
        frames: u32,
    },
    /// A port of no sockets or too many, no batch, or one above the limit.
    Size,
    /// AF_XDP is for the privileged.
    NoPrivilege,
    /// The kernel was built without AF_XDP.
    NotInKernel,
    /// The memory that may be locked is used up.
    LockedMemory {
        /// Octets that the frames take.
        octets: u64,
    },
    /// There is no memory.
    NoMemory,
    /// No interface has this index.
    NoSuchInterface {
        /// The index.
        interface: u32,
    },
    /// The interface has no such queue.
    NoSuchQueue {
        /// The interface's index.
        interface: u32,
        /// The queue.
        queue: u32,
    },
    /// The driver wants the interface to be up first.
    InterfaceDown {
        /// The index.
        interface: u32,
    },
    /// Another socket has the queue, and kept it for the second that it was waited for.
    QueueTaken {
        /// The interface's index.
        interface: u32,
        /// The queue.
        queue: u32,
    },
    /// The driver doesn't lend its own memory.
    NoZeroCopy {
        /// The kernel's error number.
        errno: i32,
    },
    /// The kernel refused a step for another reason.
    Refused {
        /// The step.
        what: &'static str,
        /// The kernel's error number.
        errno: i32,
    },
}

impl XskError {
    /// What the refusal of `what` means.
    pub(super) fn of(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.raw_os_error().unwrap_or(0) {
            libc::EPERM | libc::EACCES => Self::NoPrivilege,
            libc::EAFNOSUPPORT => Self::NotInKernel,
            libc::ENOMEM => Self::NoMemory,
            errno => Self::Refused { what, errno },
        }
    }

    /// What the refusal to bind to a queue means.
    pub(super) const fn of_bind(errno: i32, interface: u32, queue: u32, zero_copy: bool) -> Self {
        match errno {
            libc::EBUSY => Self::QueueTaken { interface, queue },
            libc::ENODEV => Self::NoSuchInterface { interface },
            errno if zero_copy => Self::NoZeroCopy { errno },
            libc::EINVAL => Self::NoSuchQueue { interface, queue },
            libc::ENETDOWN => Self::InterfaceDown { interface },
            libc::ENOMEM => Self::NoMemory,
            errno => Self::Refused { what: "bind", errno },
        }
    }
}

impl fmt::Display for XskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Frames { frames } => {
                write!(f, "AF_XDP: {frames} frames; a power of two from {FRAMES_MIN} to {FRAMES_MAX} can be")
            }
            Self::Size => {
                write!(f, "AF_XDP: 1 to {SOCKETS_MAX} queues a port, a batch of 1 to {BATCH_MAX}")
            }
            Self::NoPrivilege => {
                write!(f, "AF_XDP takes CAP_NET_RAW; start as root or with that capability")
            }
            Self::NotInKernel => write!(f, "AF_XDP isn't in this kernel (CONFIG_XDP_SOCKETS)"),
            Self::LockedMemory { octets } => write!(
                f,
                "AF_XDP: {octets} octets for frames are more than may be locked; raise `ulimit -l` (LimitMEMLOCK), \
                 grant CAP_IPC_LOCK or use fewer frames"
            ),
            Self::NoMemory => write!(f, "AF_XDP: no memory for frames and rings; use fewer frames"),
            Self::NoSuchInterface { interface } => {
                write!(f, "there is no interface {interface}; `ip link` lists those there are")
            }
            Self::NoSuchQueue { interface, queue } => write!(
                f,
                "interface {interface} has no queue {queue}; `ethtool -l` says how many it has (with Linux older than \
                 5.4 there is no AF_XDP here at all)"
            ),
            Self::InterfaceDown { interface } => {
                write!(f, "interface {interface} is down; `ip link set up` starts it")
            }
            Self::QueueTaken { interface, queue } => write!(
                f,
                "another socket has queue {queue} of interface {interface}: a second instance of this server, or \
                 another program with AF_XDP; `ss --xdp -p` names it"
            ),
            Self::NoZeroCopy { errno: libc::EOPNOTSUPP } => {
                write!(f, "the driver has no zero-copy AF_XDP")
            }
            Self::NoZeroCopy { errno } => {
                write!(f, "the driver refuses zero-copy AF_XDP: {}", io::Error::from_raw_os_error(errno))
            }
            Self::Refused { what, errno } => {
                write!(f, "AF_XDP: {what}: {}", io::Error::from_raw_os_error(errno))
            }
        }
    }
}

impl std::error::Error for XskError {}
