//! UDP sockets with receive stamps, packet info, and groups steered by source address.
//!
//! A listen address is served by one socket a worker. The sockets of an address share its port (`SO_REUSEPORT`), and
//! a filter program in the kernel chooses among them by the source address alone, so that a client meets the same
//! worker's state whatever port it sends from. A filter of this kind needs no privilege.
//!
//! The sockets are left in blocking mode: each port says with every call whether it may block, and io_uring reports
//! `EAGAIN` instead of waiting where the file is non-blocking.

mod error;
mod steering;

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, SetSockOpt, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage,
    TimestampingFlag, setsockopt, sockopt,
};

pub use error::OpenError;
pub use steering::Steering;

/// With the NIC's stamps come: whose they are and the frame's length; the interface that a stamped packet left by; the kernel's
/// own transmit stamp besides the NIC's (Linux, `Documentation/networking/timestamping.rst`, 1.3.4).
const NIC_STAMP_OPTIONS: libc::c_uint =
    libc::SOF_TIMESTAMPING_OPT_PKTINFO | libc::SOF_TIMESTAMPING_OPT_CMSG | libc::SOF_TIMESTAMPING_OPT_TX_SWHW;

/// The most sockets that a group may have; Linux starts a group with room for 128 and doubles it.
pub const GROUP_SIZE_MAX: usize = 1024;

/// What is asked of the sockets of a listen address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketOptions {
    /// Octets of receive buffer to ask for; what was granted is [`UdpSocket::receive_buffer`]. A waiting 48-octet
    /// datagram takes about 768.
    pub receive_buffer: usize,
    /// Octets of send buffer to ask for.
    pub send_buffer: usize,
    /// Report the NICs' stamps too; these must be told to stamp by other means ([`hwtstamp`](crate::hwtstamp)).
    pub nic_stamps: bool,
}

impl Default for SocketOptions {
    /// Four megabytes: 5,000 requests, or 10 ms at half a million a second.
    fn default() -> Self {
        Self { receive_buffer: 4 << 20, send_buffer: 1 << 20, nic_stamps: false }
    }
}

/// A bound UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    address: SocketAddr,
    receive_buffer: usize,
    nic_stamps: bool,
}

impl UdpSocket {
    /// Opens a socket of its own for `address`.
    ///
    /// # Errors
    /// As for [`open_group`](Self::open_group).
    pub fn open(address: SocketAddr, options: SocketOptions) -> Result<Self, OpenError> {
        let socket = Self::unbound(address, options)?;
        socket.bind(address)
    }

    /// Opens one socket a worker for `address`, in the order of the workers; `steering` chooses among them.
    ///
    /// The order is that of the kernel until one of the sockets is closed, so a group is replaced as a whole.
    ///
    /// # Errors
    /// What is in the way, and what to do about it; also when another program has the port, which `SO_REUSEPORT`
    /// alone would let two servers of the same user share without noticing. An address that is covered by another
    /// that is already open (`0.0.0.0`) counts as in use.
    pub fn open_group(
        address: SocketAddr,
        workers: usize,
        steering: Steering,
        options: SocketOptions,
    ) -> Result<Vec<Self>, OpenError> {
        if workers == 0 || workers > GROUP_SIZE_MAX {
            return Err(OpenError::GroupSize { workers });
        }
        // With port 0 the first socket has the kernel choose one, which the others then join.
        let mut address = Self::probe(address)?;
        let mut group = Vec::with_capacity(workers);
        for _ in 0..workers {
            let socket = Self::join(address, options)?;
            address = socket.address;
            group.push(socket);
        }
        steering.steer(&group)?;
        Ok(group)
    }

    /// One more socket for an address, the last of the group that serves it, if there is one already: then nothing comes to it
    /// before the group is [steered](Steering::steer) with it. Whoever else has the port isn't noticed.
    ///
    /// # Errors
    /// As for [`open_group`](Self::open_group).
    pub fn join(address: SocketAddr, options: SocketOptions) -> Result<Self, OpenError> {
        let socket = Self::unbound(address, options)?;
        set(&socket.fd, sockopt::ReusePort, &true, "SO_REUSEPORT")?;
        socket.bind(address)
    }

    /// A bound socket that another process has opened as this one would ([`Self::open_group`]), or a service manager has, which
    /// knows nothing of stamps; its buffers stay.
    ///
    /// # Errors
    /// [`OpenError::NotOurs`] for one that isn't bound, isn't UDP's, or serves IPv4 by IPv6.
    pub fn of_fd(fd: OwnedFd, nic_stamps: bool) -> Result<Self, OpenError> {
        let not_ours = |_| OpenError::NotOurs;
        let kind = socket::getsockopt(&fd, sockopt::SockType).map_err(not_ours)?;
        let address = bound_address(&fd)?.filter(|address| address.port() != 0).ok_or(OpenError::NotOurs)?;
        let takes_ip4 =
            address.is_ipv6() && !socket::getsockopt(&fd, sockopt::Ipv6V6Only).map_err(not_ours)?;
        if kind != SockType::Datagram || takes_ip4 {
            return Err(OpenError::NotOurs);
        }
        ask_for_control(&fd, address, nic_stamps)?;
        let receive_buffer = granted(&fd)?;
        Ok(Self { fd, address, receive_buffer, nic_stamps })
    }

    /// Asks for other buffers than it has.
    ///
    /// # Errors
    /// When the kernel says no.
    pub fn set_buffers(&mut self, options: SocketOptions) -> Result<(), OpenError> {
        self.receive_buffer = buffers(&self.fd, options)?;
        Ok(())
    }

    /// Binds without sharing and closes again, to learn whether anybody else has the port.
    fn probe(address: SocketAddr) -> Result<SocketAddr, OpenError> {
        let options = SocketOptions { receive_buffer: 0, send_buffer: 0, nic_stamps: false };
        Ok(Self::unbound(address, options)?.bind(address)?.address)
    }

    fn unbound(address: SocketAddr, options: SocketOptions) -> Result<Self, OpenError> {
        let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let fd = socket::socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|errno| OpenError::of_socket(address, errno))?;
        if address.is_ipv6() {
            set(&fd, sockopt::Ipv6V6Only, &true, "IPV6_V6ONLY")?;
        }
        ask_for_control(&fd, address, options.nic_stamps)?;
        let receive_buffer = buffers(&fd, options)?;
        Ok(Self { fd, address, receive_buffer, nic_stamps: options.nic_stamps })
    }

    fn bind(mut self, address: SocketAddr) -> Result<Self, OpenError> {
        let bound = match address {
            SocketAddr::V4(v4) => socket::bind(self.as_raw_fd(), &SockaddrIn::from(v4)),
            SocketAddr::V6(v6) => socket::bind(self.as_raw_fd(), &SockaddrIn6::from(v6)),
        };
        bound.map_err(|errno| OpenError::of_bind(address, errno))?;
        self.address = bound_address(&self.fd)?.unwrap_or(address);
        Ok(self)
    }

    /// What it is bound to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Octets of receive buffer that the kernel granted, of which it counts its own overhead too.
    #[must_use]
    pub const fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// Whether it reports the NIC's stamps.
    pub(crate) const fn has_nic_stamps(&self) -> bool {
        self.nic_stamps
    }

    /// Whether it serves every address of the machine, so that a reply must say which it comes from.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.address.ip().is_unspecified()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Asks for buffers past the system's limit first, which takes CAP_NET_ADMIN, then within it; the receive buffer that
/// was granted. The kernel doubles what it is asked for, to cover its own overhead (socket(7)).
fn buffers(fd: &OwnedFd, options: SocketOptions) -> Result<usize, OpenError> {
    let half = options.receive_buffer / 2;
    if half > 0 && setsockopt(fd, sockopt::RcvBufForce, &half).is_err() {
        set(fd, sockopt::RcvBuf, &half, "SO_RCVBUF")?;
    }
    let half = options.send_buffer / 2;
    if half > 0 && setsockopt(fd, sockopt::SndBufForce, &half).is_err() {
        set(fd, sockopt::SndBuf, &half, "SO_SNDBUF")?;
    }
    granted(fd)
}

/// Octets of receive buffer.
fn granted(fd: &OwnedFd) -> Result<usize, OpenError> {
    socket::getsockopt(fd, sockopt::RcvBuf)
        .map_err(|errno| OpenError::Refused { what: "SO_RCVBUF", errno: errno as i32 })
}

/// What it is bound to; none for a family other than IP's.
fn bound_address(fd: &OwnedFd) -> Result<Option<SocketAddr>, OpenError> {
    let name: SockaddrStorage = socket::getsockname(fd.as_raw_fd())
        .map_err(|errno| OpenError::Refused { what: "getsockname", errno: errno as i32 })?;
    let v4 = name.as_sockaddr_in().map(|name| SocketAddr::V4(SocketAddrV4::from(*name)));
    let v6 = name.as_sockaddr_in6().map(|name| SocketAddr::V6(SocketAddrV6::from(*name)));
    Ok(v4.or(v6))
}

/// Has each datagram come with its stamps and the address that it was sent to.
fn ask_for_control(fd: &OwnedFd, address: SocketAddr, nic_stamps: bool) -> Result<(), OpenError> {
    if address.is_ipv6() {
        set(fd, sockopt::Ipv6RecvPacketInfo, &true, "IPV6_RECVPKTINFO")?;
    } else {
        set(fd, sockopt::Ipv4PacketInfo, &true, "IP_PKTINFO")?;
    }
    let mut stamps =
        TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
    if nic_stamps {
        stamps |= TimestampingFlag::SOF_TIMESTAMPING_RX_HARDWARE
            | TimestampingFlag::SOF_TIMESTAMPING_RAW_HARDWARE
            | TimestampingFlag::from_bits_retain(NIC_STAMP_OPTIONS);
    }
    set(fd, sockopt::Timestamping, &stamps, "SO_TIMESTAMPING")
}

fn set<O: SetSockOpt>(fd: &OwnedFd, option: O, value: &O::Val, what: &'static str) -> Result<(), OpenError> {
    setsockopt(fd, option, value).map_err(|errno: Errno| OpenError::Refused { what, errno: errno as i32 })
}

/// The error of the operating system that a number stands for.
pub(crate) fn os_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
