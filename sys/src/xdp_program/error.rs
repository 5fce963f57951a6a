//! Why the program can't be put on an interface, and what to do about it.

use std::fmt;
use std::io;

/// Why the program can't be loaded or attached. Who prints it says which interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XdpError {
    /// The process may not load BPF programs, or not attach them to interfaces.
    Forbidden,
    /// Another program has the interface's hook; it stays.
    AnotherProgram {
        /// The kernel's number for it, where it told.
        id: Option<u32>,
    },
    /// There is no such interface in this network namespace.
    NoInterface,
    /// The driver has no place for a program, or not as the interface is set; generic mode may do.
    NotNative {
        /// The kernel's error number.
        errno: i32,
    },
    /// The kernel refused a step: most likely it is too old, or built without what is needed.
    Refused {
        /// The step.
        what: &'static str,
        /// The kernel's error number; 0 if it gave none.
        errno: i32,
    },
}

impl fmt::Display for XdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Forbidden => write!(
                f,
                "the kernel doesn't let this process load or attach the XDP program: it takes CAP_BPF, CAP_NET_ADMIN and \
                 CAP_PERFMON (start as root or with these), and Linux 5.10"
            ),
            Self::AnotherProgram { id } => {
                write!(f, "the interface has another XDP program")?;
                if let Some(id) = id {
                    write!(f, ", number {id}")?;
                }
                write!(
                    f,
                    ", which stays; `ip link show` and `bpftool net` name it, and it may be another maser; take it off \
                     or use another interface"
                )
            }
            Self::NoInterface => {
                write!(f, "no such interface in this network namespace; `ip link` lists those there are")
            }
            Self::NotNative { errno } => write!(
                f,
                "the driver takes no XDP program ({}): it doesn't know XDP, or the MTU is above what it can do with \
                 XDP (about 3,500), or it has too few queues left; `ip link set mtu 1500` and `ethtool -L` help, else \
                 generic mode does",
                words(errno)
            ),
            Self::Refused { what, errno } => write!(
                f,
                "{what}: {}; it takes Linux 5.10 with XDP_SOCKETS and BTF (`ls /sys/kernel/btf/vmlinux`)",
                words(errno)
            ),
        }
    }
}

fn words(errno: i32) -> io::Error {
    if errno == 0 { io::Error::other("no reason given") } else { io::Error::from_raw_os_error(errno) }
}

impl std::error::Error for XdpError {}

/// Whether the NIC's own stamps are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NicStamps {
    /// The driver is asked for each frame; it may have none all the same.
    Asked,
    /// They are asked for in the driver only, and the program runs behind it.
    Generic,
    /// The kernel doesn't let the program ask this device.
    Refused {
        /// The kernel's error number.
        errno: i32,
    },
}

impl fmt::Display for NicStamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Asked => write!(f, "the driver is asked for the NIC's stamps"),
            Self::Generic => write!(f, "no NIC stamps: only a program in the driver can ask for them"),
            Self::Refused { errno } => write!(
                f,
                "no NIC stamps: the kernel doesn't let a program ask this device for them ({}); Linux 6.3 does",
                words(errno)
            ),
        }
    }
}
