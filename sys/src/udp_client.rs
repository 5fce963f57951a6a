//! A client's UDP socket: many requests to one target, their replies, and the kernel's stamps of both.
//!
//! It takes no privilege. The socket isn't connected, so that a reply from a wrong sender is seen rather than dropped,
//! and an unreachable target is silence rather than an error. No call waits; [`AsFd`] is for a caller that polls.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use maser_core::time::Stamp;
use maser_core::wire::ethernet::{Ethernet, Network};
use maser_core::wire::{ip4::Ipv4, ip6::Ipv6, udp};
use nix::sys::socket::SockaddrStorage;

use crate::datagram::{BATCH_MAX, Carried, Wait};
use crate::mmsg::MmsgPort;
use crate::outbox::Outbox;
use crate::transmit_stamp::TransmitStamps;
use crate::udp_socket::{OpenError, SocketOptions, UdpSocket};

/// What the receive buffer is asked to hold: ten thousand replies.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A UDP socket that asks one target.
pub struct UdpClient {
    port: MmsgPort,
    stamps: TransmitStamps,
    target: SockaddrStorage,
}

// SAFETY: the pointers within lead into memory that the value owns and that moves with it; nothing of it belongs to a
// thread.
unsafe impl Send for UdpClient {}

/// A datagram that came in.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Who sent it, as the packet alleges.
    pub source: SocketAddr,
    /// Which address of ours it was sent to.
    pub destination: IpAddr,
    /// What it carries; empty if it isn't `whole`.
    pub payload: &'a [u8],
    /// The payload is all that was sent, rather than too long for an NTP datagram.
    pub whole: bool,
    /// When the kernel took it from the driver, in `CLOCK_REALTIME`. The first replies after the first socket with
    /// stamps was opened may come without.
    pub stamp: Option<Stamp>,
}

impl UdpClient {
    /// Opens a socket that asks `target` from `local`, on a port of the kernel's choice.
    ///
    /// With `local` unspecified, requests may leave [`from`](Outbox::push) any address of this machine and replies to
    /// all of them come in; else only replies to `local` do, and sending is cheaper (over IPv6 by a fifth), since the
    /// kernel has no address to choose for each. `batch` bounds what one call hands over.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    ///
    /// # Panics
    /// If `batch` is 0 or above [`BATCH_MAX`], or the two addresses aren't of one family.
    pub fn open(local: IpAddr, target: SocketAddr, batch: usize) -> Result<Self, OpenError> {
        assert!((1..=BATCH_MAX).contains(&batch), "a batch of {batch}");
        assert!(local.is_ipv4() == target.is_ipv4(), "{local} can't ask {target}");
        let options = SocketOptions { receive_buffer: RECEIVE_BUFFER, ..SocketOptions::default() };
        let socket = UdpSocket::open(SocketAddr::new(local, 0), options)?;
        Ok(Self {
            port: MmsgPort::new(vec![socket], batch).expect("one socket and a batch within the limit"),
            stamps: TransmitStamps::new(batch),
            target: target.into(),
        })
    }

    /// What it is bound to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.socket().address()
    }

    /// Sends what the outbox holds to the target, in order; how many the kernel took.
    ///
    /// The outbox is empty afterwards. What the kernel refused, for want of room or for another reason, is never sent
    /// late: the caller counts it.
    ///
    /// # Errors
    /// Only what going on can't mend.
    pub fn send(&mut self, outbox: &mut Outbox) -> io::Result<usize> {
        outbox.send(self.port.socket().as_fd(), Some(&self.target))
    }

    /// Hands over what has arrived, at most a batch; how many there were.
    ///
    /// # Errors
    /// Only what going on can't mend.
    pub fn receive(&mut self, mut take: impl FnMut(Reply<'_>)) -> io::Result<usize> {
        let received = self.port.receive(Wait::Poll)?;
        for index in 0..received {
            let (arrival, payload) = self.port.datagram(index);
            let Carried::Datagram(peer) = arrival.carried else { continue };
            take(Reply {
                source: peer.source,
                destination: peer.destination.ip(),
                payload,
                whole: arrival.whole,
                stamp: arrival.stamp,
            });
        }
        Ok(received)
    }

    /// Hands over the transmit stamps that are waiting, at most a batch, each with the payload of its datagram; how
    /// many were taken from the queue.
    ///
    /// A stamp is the driver's moment of handing the datagram to the device, in `CLOCK_REALTIME`. It arrives after the
    /// datagram has left, often after the reply. Devices without Ethernet headers (tunnels) are passed over.
    ///
    /// # Errors
    /// Only what going on can't mend.
    pub fn transmit_stamps(&mut self, mut take: impl FnMut(&[u8], Stamp)) -> io::Result<usize> {
        self.stamps.receive(self.port.socket().as_fd(), |frame, stamp| {
            if let Some(payload) = udp_payload(frame) {
                take(payload, stamp);
            }
        })
    }
}

impl UdpClient {
    /// Datagrams that found the receive buffer full since the socket was opened (`SO_MEMINFO`; modulo 2³²).
    ///
    /// # Errors
    /// None on Linux 4.12 or newer.
    pub fn overflowed(&self) -> io::Result<u32> {
        // `SK_MEMINFO_DROPS` of linux/sock_diag.h, the last of nine.
        const DROPS: usize = 8;
        let mut figures = [0_u32; DROPS + 1];
        let mut length = libc::socklen_t::try_from(size_of_val(&figures)).expect("36 octets");
        let fd = self.as_fd().as_raw_fd();
        let place = figures.as_mut_ptr().cast();
        // SAFETY: the kernel writes at most `length` octets of integers to where they fit.
        let failed =
            unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, place, &raw mut length) };
        if failed == 0 { Ok(figures[DROPS]) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for UdpClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.port.socket().as_fd()
    }
}

/// What follows the headers of a frame that the kernel made. Its UDP checksum may be left to the NIC and isn't looked
/// at.
fn udp_payload(frame: &[u8]) -> Option<&[u8]> {
    let ethernet = Ethernet::new_checked(frame).ok()?;
    let datagram = match ethernet.network() {
        Network::Ipv4 => Ipv4::new_checked(ethernet.payload()).ok()?.payload(),
        Network::Ipv6 => Ipv6::new_checked(ethernet.payload()).ok()?.payload(),
    };
    datagram.get(udp::LENGTH..)
}
