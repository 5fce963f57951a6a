//! A packet socket on one interface: whole Ethernet frames out, past the queueing discipline, and the frames of one
//! peer in, from a ring shared with the kernel.
//!
//! It is what a generator uses where a UDP socket is too slow, or where requests are to come from addresses that this
//! machine doesn't have. The kernel's own stack sees the replies too: to an address and port of this machine that no
//! socket is bound to, it answers each with an ICMP error, so the caller binds one or uses other addresses.
//!
//! On the loopback interface the kernel takes IPv4 frames of a packet socket for martians, unless `route_localnet` and
//! `accept_local` of `net.ipv4.conf.lo` are 1.
//!
//! [`way_to`] finds the addresses that a frame to a target takes. What is in the frames is the caller's.

mod error;
mod filter;
mod ring;
mod way;

use std::ffi::{c_int, c_void};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libc::socklen_t;
use maser_core::time::{Stamp, StampClock};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, TimestampingFlag, setsockopt, sockopt};

use crate::outbox::Outbox;
use crate::transmit_stamp::TransmitStamps;

pub use error::PacketError;
pub use filter::Ports;
use ring::Ring;
pub use way::{Way, WayError, way_to};

/// The smallest ring: a page.
pub const RING_FRAMES_MIN: usize = 4096 / ring::SLOT_LENGTH;
/// The largest: 128 megabytes.
pub const RING_FRAMES_MAX: usize = 1 << 16;

/// The most transmit stamps that one call hands over.
const STAMPS_BATCH: usize = 64;
/// Octets of send buffer: what the device's queue may hold of ours.
const SEND_BUFFER: usize = 1 << 20;
/// Octets of receive buffer, in which transmit stamps wait with their frames; the ring is apart from it.
const STAMPS_BUFFER: usize = 4 << 20;

/// Frames to and from one interface.
pub struct PacketSocket {
    fd: OwnedFd,
    ring: Ring,
    ring_frames: usize,
    stamps: TransmitStamps,
}

// SAFETY: the pointers within lead into memory and into a mapping that the value owns; nothing of it belongs to a
// thread.
unsafe impl Send for PacketSocket {}

/// What is known of a frame's UDP checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// Nobody has looked at it.
    Unchecked,
    /// The kernel or the NIC found it right.
    Verified,
    /// It was left to a NIC that the frame never met, as between two ends of a veth pair: what the frame has in its
    /// place is no checksum, and no fault of the sender.
    LeftOut,
}

/// A frame that came in.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// From the Ethernet header on, without frame check sequence, and without a VLAN tag that the NIC took off.
    pub octets: &'a [u8],
    /// It is all that came, rather than too long for the ring.
    pub whole: bool,
    /// In `CLOCK_REALTIME`, by software: when the kernel took it from the driver if `stamped_on_arrival`, else when it
    /// was put into the ring. Stamps of the NIC aren't asked for.
    pub stamp: Stamp,
    /// The kernel stamped the frame as it took it from the driver (`TP_STATUS_TS_SOFTWARE`).
    pub stamped_on_arrival: bool,
    /// What is known of its UDP checksum.
    pub checksum: Checksum,
}

impl PacketSocket {
    /// Opens a socket on the interface of this index, into which only UDP datagrams of `peer` to `ports` come: unfragmented,
    /// IPv4 without options or IPv6 without extension headers. Frames that are sent must be of `peer`'s address family.
    ///
    /// `ring_frames` is how many may wait: a power of two from [`RING_FRAMES_MIN`] to [`RING_FRAMES_MAX`].
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn open(
        interface: u32,
        peer: SocketAddr,
        ports: Ports,
        ring_frames: usize,
    ) -> Result<Self, PacketError> {
        if !ring_frames.is_power_of_two() || !(RING_FRAMES_MIN..=RING_FRAMES_MAX).contains(&ring_frames) {
            return Err(PacketError::RingSize { frames: ring_frames });
        }
        let fd = unbound(peer, ports, SockFlag::empty())?;
        let refused = |what| PacketError::of(what, interface);
        let stamps =
            TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
        setsockopt(&fd, sockopt::Timestamping, &stamps)
            .map_err(|errno| refused("SO_TIMESTAMPING")(errno.into()))?;
        set_packet(&fd, libc::PACKET_QDISC_BYPASS, &1).map_err(refused("PACKET_QDISC_BYPASS"))?;
        let version = libc::tpacket_versions::TPACKET_V2 as c_int;
        set_packet(&fd, libc::PACKET_VERSION, &version).map_err(refused("PACKET_VERSION"))?;
        set_packet(&fd, libc::PACKET_RX_RING, &Ring::request(ring_frames))
            .map_err(refused("PACKET_RX_RING"))?;
        buffers(&fd).map_err(refused("SO_SNDBUF"))?;
        let ring = Ring::map(fd.as_fd(), ring_frames).map_err(refused("mmap"))?;
        bind(&fd, interface, peer).map_err(refused("bind"))?;
        // An interface that is down can be bound to; it is an error of the socket then.
        let pending = socket::getsockopt(&fd, sockopt::SocketError)
            .map_err(|errno| refused("SO_ERROR")(errno.into()))?;
        if pending != 0 {
            return Err(refused("bind")(io::Error::from_raw_os_error(pending)));
        }
        expect_ethernet(interface, hardware(&fd).map_err(refused("getsockname"))?)?;
        Ok(Self { fd, ring, ring_frames, stamps: TransmitStamps::new(STAMPS_BATCH) })
    }

    /// Sends the frames that the outbox holds, in order; how many the kernel took.
    ///
    /// The outbox is empty afterwards. What the kernel refused, for want of room or for another reason, is never sent
    /// late: the caller counts it.
    ///
    /// # Errors
    /// Only what going on can't mend.
    pub fn send(&mut self, outbox: &mut Outbox) -> io::Result<usize> {
        outbox.send(self.fd.as_fd(), None)
    }

    /// Hands over the frames that are in the ring, at most as many as it has room for; how many there were. It makes no
    /// system call.
    pub fn receive(&mut self, mut take: impl FnMut(Frame<'_>)) -> usize {
        for taken in 0..self.ring_frames {
            if !self.ring.take_one(|slot| take(Frame::of(slot))) {
                return taken;
            }
        }
        self.ring_frames
    }

    /// Hands over transmit stamps that are waiting, at most 64, each with its frame as it was sent; how many were taken
    /// from the queue.
    ///
    /// A stamp is the driver's moment of handing the frame to the device, in `CLOCK_REALTIME`. It arrives after the
    /// frame has left, often after the reply.
    ///
    /// # Errors
    /// Only what going on can't mend.
    pub fn transmit_stamps(&mut self, take: impl FnMut(&[u8], Stamp)) -> io::Result<usize> {
        self.stamps.receive(self.fd.as_fd(), take)
    }

    /// Frames of the peer that found the ring full since the last call: they came, and we were too slow to see them.
    ///
    /// # Errors
    /// Only what going on can't mend.
    pub fn overflowed(&mut self) -> io::Result<u64> {
        let mut counts = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = length_of::<libc::tpacket_stats>();
        let place = (&raw mut counts).cast::<c_void>();
        let fd = self.fd.as_raw_fd();
        // SAFETY: the kernel writes at most `length` octets of integers to where they fit.
        let failed = unsafe {
            libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, place, &raw mut length)
        };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(counts.tp_drops.into())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<'a> Frame<'a> {
    fn of(slot: ring::Slot<'a>) -> Self {
        let has = |flag| slot.status & flag != 0;
        let nanos = i64::from(slot.header.tp_sec) * 1_000_000_000 + i64::from(slot.header.tp_nsec);
        let whole = slot.octets.len() == usize::try_from(slot.header.tp_len).unwrap_or(usize::MAX);
        let checksum = if has(libc::TP_STATUS_CSUMNOTREADY) {
            Checksum::LeftOut
        } else if has(libc::TP_STATUS_CSUM_VALID) {
            Checksum::Verified
        } else {
            Checksum::Unchecked
        };
        Self {
            octets: slot.octets,
            whole,
            stamp: Stamp { clock: StampClock::Realtime, nanos },
            stamped_on_arrival: has(libc::TP_STATUS_TS_SOFTWARE),
            checksum,
        }
    }
}

/// A packet socket into which, once it is bound, only datagrams of `peer` to `ports` come.
fn unbound(peer: SocketAddr, ports: Ports, flags: SockFlag) -> Result<OwnedFd, PacketError> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    // Without a protocol nothing comes in yet, so nothing comes in that the filter hasn't seen.
    let fd = socket::socket(AddressFamily::Packet, SockType::Raw, flags, None)
        .map_err(|errno| PacketError::of("socket", 0)(errno.into()))?;
    let mut program = filter::program(peer, ports);
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("a filter of some thirty instructions"),
        filter: program.as_mut_ptr(),
    };
    set(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
        .map_err(PacketError::of("SO_ATTACH_FILTER", 0))?;
    Ok(fd)
}

/// Binds to an interface, or with 0 to all, and to the network protocol of `peer`.
///
/// Bound to a protocol rather than to all, a socket sees no outgoing frame, and an incoming one once, on the interface
/// that it ends up on: the VLAN, bond or bridge above the device that it came through.
fn bind(fd: &OwnedFd, interface: u32, peer: SocketAddr) -> io::Result<()> {
    let protocol = if peer.is_ipv4() { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
    let protocol = u16::try_from(protocol).map_err(|_| io::ErrorKind::InvalidInput)?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(|_| io::ErrorKind::InvalidInput)?,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(interface).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?,
        ..NO_ADDRESS
    };
    let place = (&raw const address).cast();
    // SAFETY: the kernel reads the address, whose length is given, before the call returns.
    let failed = unsafe { libc::bind(fd.as_raw_fd(), place, length_of::<libc::sockaddr_ll>()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the interface that `fd` is bound to carries.
fn hardware(fd: &OwnedFd) -> io::Result<u16> {
    let mut address = NO_ADDRESS;
    let mut length = length_of::<libc::sockaddr_ll>();
    let place = (&raw mut address).cast();
    // SAFETY: the kernel writes at most `length` octets of integers to where they fit.
    let failed = unsafe { libc::getsockname(fd.as_raw_fd(), place, &raw mut length) };
    if failed == 0 { Ok(address.sll_hatype) } else { Err(io::Error::last_os_error()) }
}

const NO_ADDRESS: libc::sockaddr_ll = libc::sockaddr_ll {
    sll_family: 0,
    sll_protocol: 0,
    sll_ifindex: 0,
    sll_hatype: 0,
    sll_pkttype: 0,
    sll_halen: 0,
    sll_addr: [0; 8],
};

fn expect_ethernet(interface: u32, hardware: u16) -> Result<(), PacketError> {
    match hardware {
        // The loopback interface's frames have an Ethernet header, of zeros.
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Ok(()),
        hardware => Err(PacketError::NotEthernet { interface, hardware }),
    }
}

/// Buffers past the system's limit if that is granted, else within it; the kernel doubles them.
fn buffers(fd: &OwnedFd) -> io::Result<()> {
    if setsockopt(fd, sockopt::SndBufForce, &(SEND_BUFFER / 2)).is_err() {
        setsockopt(fd, sockopt::SndBuf, &(SEND_BUFFER / 2))?;
    }
    if setsockopt(fd, sockopt::RcvBufForce, &(STAMPS_BUFFER / 2)).is_err() {
        setsockopt(fd, sockopt::RcvBuf, &(STAMPS_BUFFER / 2))?;
    }
    Ok(())
}

fn set_packet<T>(fd: &OwnedFd, option: c_int, value: &T) -> io::Result<()> {
    set(fd, libc::SOL_PACKET, option, value)
}

fn set<T>(fd: &OwnedFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let place = std::ptr::from_ref(value).cast();
    // SAFETY: the kernel reads the value, whose length is given, before the call returns. The one pointer within a
    // value, a filter's, leads to instructions that its caller keeps until then.
    let failed = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, place, length_of::<T>()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn length_of<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).expect("an option of a few octets")
}
