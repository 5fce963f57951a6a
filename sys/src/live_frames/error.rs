//! Why live frames can't be sent or counted, and what to do about it.

use std::fmt;
use std::io;

use super::VARIANTS_MAX;
use super::attack::PAYLOAD_MAX;

/// Why a program can't be loaded, attached or run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LiveError {
    /// The template isn't one that `send` knows.
    Frame,
    /// No clients.
    Clients,
    /// More variants than there is room for, none, or too long a one.
    Variants,
    /// The process may not load BPF programs, or not attach them to interfaces.
    Forbidden,
    /// Another program has the interface's hook; it stays.
    AnotherProgram,
    /// The kernel doesn't know live frames, or the interface has no receive queue to take them from.
    Live,
    /// The interface took none of the frames.
    CannotTransmit,
    /// There is no such interface in this network namespace.
    NoInterface,
    /// The kernel refused a step for another reason.
    Refused {
        /// The step.
        what: &'static str,
        /// The kernel's error number; 0 if it gave none.
        errno: i32,
    },
}

impl LiveError {
    /// What the refusal of `what` means.
    pub(super) const fn of_errno(what: &'static str, errno: i32) -> Self {
        match errno {
            libc::EPERM => Self::Forbidden,
            libc::EBUSY | libc::EEXIST => Self::AnotherProgram,
            libc::ENODEV => Self::NoInterface,
            errno => Self::Refused { what, errno },
        }
    }
}

impl fmt::Display for LiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Frame => write!(
                f,
                "live frames: the template must be Ethernet, IPv4 without options or IPv6, UDP and 48 octets"
            ),
            Self::Clients => write!(f, "live frames: at least 1 client"),
            Self::Variants => write!(
                f,
                "live frames: at most {VARIANTS_MAX} variants, and of an attack 1 and no payload above {PAYLOAD_MAX} octets"
            ),
            Self::Forbidden => write!(
                f,
                "live frames: loading and attaching BPF programs takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; start \
                 as root or with these"
            ),
            Self::AnotherProgram => write!(
                f,
                "live frames: the interface has an XDP program of somebody else's; `ip link show` names it; take it \
                 off or use another interface"
            ),
            Self::Live => write!(
                f,
                "live frames take Linux 5.18, and an interface with a receive queue that is ready for XDP: a veth \
                 needs an XDP program of its own (count replies on it) and must be up"
            ),
            Self::CannotTransmit => write!(
                f,
                "live frames: the interface takes none (XDP_TX, ndo_xdp_xmit): it must be up, its driver must know \
                 this, and a veth's peer needs an XDP program or `ethtool -K PEER gro on`; or send through sockets"
            ),
            Self::NoInterface => {
                write!(
                    f,
                    "live frames: no such interface in this network namespace; `ip link` lists those there are"
                )
            }
            Self::Refused { what, errno } => {
                write!(f, "live frames: {what}: {}", io::Error::from_raw_os_error(errno))
            }
        }
    }
}

impl std::error::Error for LiveError {}
