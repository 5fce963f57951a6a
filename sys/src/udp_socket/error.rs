//! Why a socket can't be opened, and what to do about it.

use std::fmt;
use std::net::SocketAddr;

use nix::errno::Errno;

use super::os_error;

/// Why a listen address can't be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// Another socket has the port.
    PortInUse(SocketAddr),
    /// The port is reserved for privileged processes.
    NoPrivilege(SocketAddr),
    /// No interface has the address.
    AddressNotHere(SocketAddr),
    /// The kernel has no such address family, or it is switched off.
    FamilyNotHere(SocketAddr),
    /// The process or the system has no descriptor left.
    TooManyFiles,
    /// A group of no sockets, or of too many.
    GroupSize {
        /// How many were asked for.
        workers: usize,
    },
    /// A socket that was opened elsewhere can't serve.
    NotOurs,
    /// The kernel refused something that it grants to anybody.
    Refused {
        /// The call or option.
        what: &'static str,
        /// The kernel's error number.
        errno: i32,
    },
}

impl OpenError {
    pub(super) const fn of_bind(address: SocketAddr, errno: Errno) -> Self {
        match errno as i32 {
            libc::EADDRINUSE => Self::PortInUse(address),
            libc::EACCES => Self::NoPrivilege(address),
            libc::EADDRNOTAVAIL => Self::AddressNotHere(address),
            errno => Self::Refused { what: "bind", errno },
        }
    }

    pub(super) const fn of_socket(address: SocketAddr, errno: Errno) -> Self {
        match errno as i32 {
            libc::EAFNOSUPPORT => Self::FamilyNotHere(address),
            libc::EMFILE | libc::ENFILE => Self::TooManyFiles,
            errno => Self::Refused { what: "socket", errno },
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PortInUse(address) => write!(
                f,
                "{address}: the port is in use; `ss -ulpn 'sport = :{}'` names the program (often chronyd, ntpd or \
                 systemd-timesyncd); stop it, or listen elsewhere",
                address.port()
            ),
            Self::NoPrivilege(address) => write!(
                f,
                "{address}: ports below `sysctl net.ipv4.ip_unprivileged_port_start` take CAP_NET_BIND_SERVICE; \
                 start as root or with that capability"
            ),
            Self::AddressNotHere(address) => {
                write!(f, "{address}: no interface has this address; `ip address` lists those there are")
            }
            Self::FamilyNotHere(address) => write!(
                f,
                "{address}: the kernel doesn't speak {}; remove the address from the configuration",
                if address.is_ipv6() { "IPv6 (`sysctl net.ipv6.conf.all.disable_ipv6`)" } else { "IPv4" }
            ),
            Self::TooManyFiles => write!(f, "no file descriptor left; raise `ulimit -n` (LimitNOFILE)"),
            Self::GroupSize { workers } => {
                write!(f, "{workers} workers share an address; from 1 to {} can", super::GROUP_SIZE_MAX)
            }
            Self::NotOurs => {
                write!(
                    f,
                    "not a bound UDP socket of IPv4, or of IPv6 alone (BindIPv6Only=ipv6-only in systemd's .socket unit)"
                )
            }
            Self::Refused { what, errno } => write!(f, "{what}: {}", os_error(errno)),
        }
    }
}

impl std::error::Error for OpenError {}
