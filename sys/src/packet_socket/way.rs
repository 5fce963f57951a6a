//! The way to a target: the interface and the addresses that frames to it have.
//!
//! Routing tables and neighbour tables say it in many parts; the reply to a request that the kernel sent says it in one.
//! Its frame comes in by our interface, from the next hop's hardware address, to our hardware and network addresses.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use maser_core::wire::ethernet::{self, Ethernet, Network};
use maser_core::wire::{ip4::Ipv4, ip6::Ipv6};
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{LinkAddr, SockFlag, recvfrom};

use super::{PacketError, Ports, bind, expect_ethernet, unbound};
use crate::kernel_clock::{KernelClock, read};
use crate::outbox::{Outbox, SLOT_LENGTH};
use crate::udp_client::UdpClient;
use crate::udp_socket::OpenError;

/// How frames to a target leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// The interface's index.
    pub interface: u32,
    /// The interface's name.
    pub interface_name: String,
    /// Our hardware address there; zeros on the loopback interface.
    pub source_mac: [u8; 6],
    /// The hardware address of the next hop: a router, or the target itself.
    pub next_hop_mac: [u8; 6],
    /// The address that the kernel sends from.
    pub source: IpAddr,
}

/// Why the way to a target isn't known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WayError {
    /// No UDP socket to ask with.
    Socket(OpenError),
    /// No packet socket to watch with, or the way leads through an interface without Ethernet frames.
    Packet(PacketError),
    /// The kernel didn't send the request.
    Unsent {
        /// Where to.
        target: SocketAddr,
    },
    /// Nothing came back.
    NoReply {
        /// Who was asked.
        target: SocketAddr,
        /// How long was waited each time.
        patience: Duration,
    },
    /// The kernel refused a step.
    Refused {
        /// The step.
        what: &'static str,
        /// The kernel's error number.
        errno: i32,
    },
}

/// How often is asked: a datagram can be lost, and a server with more to do than it can answers strangers last.
const ASKED_MAX: u32 = 5;

/// Sends `first_request` to `target`, as a plain UDP datagram, and learns the way from the frame of the reply; five times,
/// `patience` apart, before it gives up.
///
/// # Errors
/// Why it isn't known; when nothing came back, what was tried.
///
/// # Panics
/// If the request is longer than [`SLOT_LENGTH`].
pub fn way_to(target: SocketAddr, first_request: &[u8], patience: Duration) -> Result<Way, WayError> {
    let frames = unbound(target, Ports::ALL, SockFlag::SOCK_NONBLOCK).map_err(WayError::Packet)?;
    bind(&frames, 0, target).map_err(|error| WayError::Packet(PacketError::of("bind", 0)(error)))?;
    let any = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // The socket is kept until the reply is here, or the kernel would answer that with an ICMP error.
    let mut client = UdpClient::open(any, target, 1).map_err(WayError::Socket)?;
    let mut outbox = Outbox::new(1);
    for _ in 0..ASKED_MAX {
        outbox.push(None, false, |slot| {
            slot[..first_request.len()].copy_from_slice(first_request);
            first_request.len()
        });
        if client.send(&mut outbox).map_err(refused("sendmmsg"))? == 0 {
            return Err(WayError::Unsent { target });
        }
        if let Some(way) = way_of_reply(&frames, client.address().port(), patience)? {
            return Ok(way);
        }
    }
    Err(WayError::NoReply { target, patience })
}

/// The way that a frame for this port shows; none if none comes in time.
fn way_of_reply(frames: &OwnedFd, our_port: u16, patience: Duration) -> Result<Option<Way>, WayError> {
    let deadline_ns =
        read(KernelClock::Monotonic).saturating_add(i64::try_from(patience.as_nanos()).unwrap_or(i64::MAX));
    while wait(frames, deadline_ns)? {
        let mut frame = [0; SLOT_LENGTH];
        match recvfrom::<LinkAddr>(frames.as_raw_fd(), &mut frame) {
            Ok((length, Some(from))) => {
                if let Some((destination, port)) = destination(&frame[..length])
                    && port == our_port
                {
                    return way_back(&frame, &from, destination).map(Some);
                }
            }
            Ok((_, None)) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(refused("recvfrom")(errno.into())),
        }
    }
    Ok(None)
}

/// Waits for something to read; false once the time is up.
fn wait(frames: &OwnedFd, deadline_ns: i64) -> Result<bool, WayError> {
    let left_ms = (deadline_ns - read(KernelClock::Monotonic)) / 1_000_000;
    if left_ms < 0 {
        return Ok(false);
    }
    let limit = PollTimeout::try_from(left_ms + 1).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(frames.as_fd(), PollFlags::POLLIN)], limit) {
        Ok(_) | Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(refused("poll")(errno.into())),
    }
}

/// The address and port that the UDP datagram in a frame is for.
fn destination(frame: &[u8]) -> Option<(IpAddr, u16)> {
    let ethernet = Ethernet::new_checked(frame).ok()?;
    let (ip, datagram) = match ethernet.network() {
        Network::Ipv4 => {
            let ip = Ipv4::new_checked(ethernet.payload()).ok()?;
            (ip.destination().into(), ip.payload())
        }
        Network::Ipv6 => {
            let ip = Ipv6::new_checked(ethernet.payload()).ok()?;
            (ip.destination().into(), ip.payload())
        }
    };
    let (_source_port, rest) = datagram.split_first_chunk::<2>()?;
    Some((ip, u16::from_be_bytes(*rest.first_chunk()?)))
}

/// The way that the reply in `frame` came, turned round.
fn way_back(frame: &[u8; SLOT_LENGTH], from: &LinkAddr, source: IpAddr) -> Result<Way, WayError> {
    let interface = u32::try_from(from.ifindex()).unwrap_or(0);
    expect_ethernet(interface, from.hatype()).map_err(WayError::Packet)?;
    let name = if_indextoname(interface).map_err(|errno| refused("if_indextoname")(errno.into()))?;
    let (macs, _) = frame.split_first_chunk::<{ ethernet::LENGTH }>().expect("a slot holds a header");
    let [to @ .., _, _, _, _, _, _, _, _] = *macs;
    let [_, _, _, _, _, _, from @ .., _, _] = *macs;
    Ok(Way {
        interface,
        interface_name: name.to_string_lossy().into_owned(),
        source_mac: to,
        next_hop_mac: from,
        source,
    })
}

fn refused(what: &'static str) -> impl FnOnce(io::Error) -> WayError {
    move |error| WayError::Refused { what, errno: error.raw_os_error().unwrap_or(0) }
}

impl fmt::Display for WayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Socket(error) => error.fmt(f),
            Self::Packet(error) => error.fmt(f),
            Self::Unsent { target } => {
                write!(
                    f,
                    "{target}: the kernel didn't send a request; `ip route get {}` says why",
                    target.ip()
                )
            }
            Self::NoReply { target, patience } => write!(
                f,
                "{target}: {ASKED_MAX} UDP requests were sent, {patience:?} apart, and no reply came on any interface; see \
                 that the server runs and answers this machine"
            ),
            Self::Refused { what, errno } => write!(f, "{what}: {}", io::Error::from_raw_os_error(errno)),
        }
    }
}

impl std::error::Error for WayError {}
