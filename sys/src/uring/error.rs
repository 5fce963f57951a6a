//! Why io_uring can't be used, and what to do about it.

use std::fmt;
use std::io;

/// Why the io_uring port can't be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UringError {
    /// No sockets, no batch, or a batch above the limit.
    Size,
    /// The kernel was built without io_uring, or a filter says so.
    NotInKernel,
    /// The administrator or a container's filter refuses it.
    Forbidden,
    /// The kernel lacks something that the port needs.
    KernelTooOld {
        /// What it lacks.
        feature: &'static str,
        /// The first release that has it.
        since: &'static str,
    },
    /// The memory that may be locked is used up.
    NoMemory,
    /// The kernel refused a step for another reason.
    Refused {
        /// The step.
        what: &'static str,
        /// The kernel's error number.
        errno: i32,
    },
}

impl UringError {
    /// What the refusal of `what`, which the kernel knows from release `since` on, means.
    pub(super) fn of(what: &'static str, since: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::of_errno(what, since, error.raw_os_error().unwrap_or(0))
    }

    pub(super) const fn of_errno(what: &'static str, since: &'static str, errno: i32) -> Self {
        match errno {
            libc::ENOSYS => Self::NotInKernel,
            libc::EPERM | libc::EACCES => Self::Forbidden,
            libc::EINVAL | libc::EOPNOTSUPP => Self::KernelTooOld { feature: what, since },
            libc::ENOMEM => Self::NoMemory,
            errno => Self::Refused { what, errno },
        }
    }
}

impl fmt::Display for UringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Size => {
                write!(
                    f,
                    "io_uring: 1 to {} sockets, a batch of 1 to {}",
                    super::SOCKETS_MAX,
                    super::BATCH_MAX
                )
            }
            Self::NotInKernel => write!(
                f,
                "io_uring isn't in this kernel (CONFIG_IO_URING), or a container's seccomp profile hides it"
            ),
            Self::Forbidden => write!(
                f,
                "io_uring is forbidden: `sysctl kernel.io_uring_disabled` must be 0 (1 takes CAP_SYS_ADMIN or the \
                 group of kernel.io_uring_group), and a container's seccomp profile must allow io_uring_setup, \
                 io_uring_enter and io_uring_register"
            ),
            Self::KernelTooOld { feature, since } => {
                write!(f, "io_uring: this kernel has no {feature}, Linux {since} has")
            }
            Self::NoMemory => {
                write!(f, "io_uring: no memory; raise `ulimit -l` (LimitMEMLOCK) or use a smaller batch")
            }
            Self::Refused { what, errno } => {
                write!(f, "io_uring: {what}: {}", io::Error::from_raw_os_error(errno))
            }
        }
    }
}

impl std::error::Error for UringError {}
