//! A request that is under way: its socket, when it left, and what comes back.
//!
//! The kernel stamps both in `CLOCK_REALTIME`, and its stamps are put on the counter. Where there is none that can be
//! believed, the counter before sending and after receiving stands in: that makes the round trip longer, and the error
//! no larger than the round trip admits.

use crate::source::STOP_LOOKED_AT;
use crate::source::realtime::{Placed, RealtimeStamps};
use maser_core::time::{Span, Stamp, Ticks};
use maser_core::upstream::Stamps;
use maser_core::wire::ntp::LENGTH;
use maser_sys::counter::Counter;
use maser_sys::outbox::Outbox;
use maser_sys::udp_client::UdpClient;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

/// So much is taken from the socket at once.
const BATCH: usize = 8;

/// A request and the socket that waits for its reply.
pub(super) struct Question {
    client: UdpClient,
    target: SocketAddr,
    request: [u8; LENGTH],
    /// The counter before it was sent, or the kernel's stamp once that has come.
    sent: Placed,
}

/// A datagram that came in.
pub(super) struct Arrival {
    pub(super) octets: Vec<u8>,
    pub(super) source: SocketAddr,
    /// It came from where the request went.
    pub(super) from_target: bool,
    pub(super) stamps: Stamps,
}

impl Question {
    /// Sends the request from a port of its own.
    pub(super) fn ask(
        stamps: &mut RealtimeStamps,
        counter: &Counter,
        local: IpAddr,
        target: SocketAddr,
        request: [u8; LENGTH],
    ) -> Result<Self, String> {
        let mut client = UdpClient::open(local, target, BATCH).map_err(|error| error.to_string())?;
        let mut outbox = Outbox::new(1);
        outbox.push(None, true, |slot| {
            slot[..LENGTH].copy_from_slice(&request);
            LENGTH
        });
        // So that a step of the clock between this and the reply is noticed.
        stamps.look();
        let sent = Placed { at: counter.now_ordered(), error: Span::ZERO };
        match client.send(&mut outbox) {
            Ok(1..) => Ok(Self { client, target, request, sent }),
            Ok(0) => Err(format!("no request can be sent to {target}: is there a route to it?")),
            Err(error) => Err(format!("no request can be sent to {target}: {error}")),
        }
    }

    pub(super) const fn target(&self) -> SocketAddr {
        self.target
    }

    /// Waits for a datagram or a stamp, for so long at most and never so long that a stop would go unnoticed.
    pub(super) fn wait(&self, limit: Duration) {
        let limit_ms = limit.min(STOP_LOOKED_AT).as_micros().div_ceil(1_000);
        let timeout = PollTimeout::from(u8::try_from(limit_ms).unwrap_or(u8::MAX));
        let mut fds = [PollFd::new(self.client.as_fd(), PollFlags::POLLIN)];
        // A signal, or anything else that ends the wait, does no harm: what has come is looked at next.
        let _woken = poll(&mut fds, timeout);
    }

    /// What has come since the last call.
    pub(super) fn arrivals(
        &mut self,
        stamps: &mut RealtimeStamps,
        counter: &Counter,
    ) -> io::Result<Vec<Arrival>> {
        let mut left = None;
        let request = self.request;
        self.client.transmit_stamps(|payload, stamp| {
            if payload == request {
                left = Some(stamp);
            }
        })?;
        let mut came = Vec::new();
        self.client.receive(|reply| {
            came.push((reply.payload.to_vec(), reply.source, reply.stamp));
        })?;
        let after = counter.now_ordered();
        stamps.look();
        // Neither can lie outside the round trip, whatever the clock of the stamps went through.
        let place = |stamp: Option<Stamp>, not_before: Ticks| {
            let placed = stamps.place(stamp?.nanos).ok()?;
            let possible = placed.at.since(not_before) >= 0 && placed.at.since(after) <= 0;
            possible.then_some(placed)
        };
        if let Some(placed) = place(left, self.sent.at) {
            self.sent = placed;
        }
        let (sent, target) = (self.sent, self.target);
        let arrival = |(octets, source, stamp): (Vec<u8>, SocketAddr, Option<Stamp>)| {
            let received = place(stamp, sent.at).unwrap_or(Placed { at: after, error: Span::ZERO });
            let from_target = source.ip() == target.ip() && source.port() == target.port();
            let error = sent.error.max(received.error);
            Arrival {
                octets,
                source,
                from_target,
                stamps: Stamps { sent: sent.at, received: received.at, error },
            }
        };
        Ok(came.into_iter().map(arrival).collect())
    }
}

/// The address that the kernel asks `target` from: replies to it alone come in, and it is what an upstream that follows
/// us would name. Nothing is sent by connecting; where there is no way to the server, sending will say so.
pub(super) fn local_for(target: SocketAddr) -> IpAddr {
    let anywhere: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let connected = UdpSocket::bind((anywhere, 0)).and_then(|socket| {
        socket.connect(target)?;
        socket.local_addr()
    });
    match connected.map(|address| address.ip()) {
        // An address of a link means nothing without its link, which the socket would have to be told.
        Ok(IpAddr::V6(address)) if address.is_unicast_link_local() => anywhere,
        Ok(address) => address,
        Err(_) => anywhere,
    }
}
