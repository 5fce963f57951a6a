//! Plain UDP sockets: no privilege, and the kernel does what it does for any program.
//!
//! Clients are spread over the sockets; with a prefix each request also says which address it leaves from, which must
//! be one of the machine's own (`ip route add local PREFIX dev lo` makes it so; 127.0.0.0/8 always is).

use super::{BATCH, Incoming, Link};
use crate::clients::Clients;
use crate::reply::Fault;
use maser_sys::outbox::Outbox;
use maser_sys::udp_client::UdpClient;
use maser_sys::udp_socket::OpenError;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use thiserror::Error;

/// The most sockets of a thread.
pub const UDP_SOCKETS_MAX: u32 = 16;
/// Sockets that are looked at for replies each time round: each costs a system call, and the kernel stamps what waits.
const LOOKED_AT: usize = 4;
/// Where clients are told apart by nothing but their socket, so many requests in a row leave by one, in one system call.
const RUN: u64 = 64;

/// Why a link of sockets can't be had.
#[derive(Debug, Error)]
pub enum UdpLinkError {
    /// A socket could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The clients' network isn't this machine's.
    #[error(
        "{address} isn't an address of this machine ({error}): make the network its own with `ip route add local PREFIX \
         dev lo`, or use --sender packet"
    )]
    NotOurs {
        /// The first client's address.
        address: IpAddr,
        /// What the kernel said.
        error: io::Error,
    },
}

struct Socket {
    client: UdpClient,
    outbox: Outbox,
    /// The numbers of the requests in the outbox.
    numbers: Vec<u64>,
    /// What had found the receive buffer full when it was last asked.
    overflowed: u32,
}

/// The sockets of a thread.
pub struct UdpLink {
    target: SocketAddr,
    clients: Clients,
    sockets: Vec<Socket>,
    /// Requests choose their socket by number rather than by client.
    in_runs: bool,
    /// The next socket to be looked at.
    next: usize,
    /// Some request asked for its transmit stamp.
    stamped: bool,
}

impl UdpLink {
    /// Opens the sockets for the requests of `clients` to `target`; `alike` says that it doesn't matter which client sends
    /// which request.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn open(target: SocketAddr, clients: Clients, alike: bool) -> Result<Self, UdpLinkError> {
        if let Some(address) = clients.address(0) {
            // One of them stands for all: bound for a moment, to hear now what each send would say.
            UdpSocket::bind((address, 0)).map_err(|error| UdpLinkError::NotOurs { address, error })?;
        }
        let local = if clients.address(0).is_some() { anywhere(target) } else { local_for(target) };
        let mut sockets = Vec::new();
        for _ in 0..clients.count().clamp(1, UDP_SOCKETS_MAX) {
            sockets.push(Socket {
                client: UdpClient::open(local, target, BATCH)?,
                outbox: Outbox::new(BATCH),
                numbers: Vec::with_capacity(BATCH),
                overflowed: 0,
            });
        }
        let in_runs = alike && clients.address(0).is_none();
        Ok(Self { target, clients, sockets, in_runs, next: 0, stamped: false })
    }
}

impl Link for UdpLink {
    fn is_full(&self) -> bool {
        self.sockets.iter().any(|socket| socket.outbox.is_full())
    }

    fn push(&mut self, number: u64, client: u32, stamped: bool, write: impl FnOnce(&mut [u8]) -> usize) {
        let chosen = if self.in_runs { number / RUN } else { client.into() };
        let place = usize::try_from(chosen).unwrap_or(0) % self.sockets.len();
        let socket = &mut self.sockets[place];
        self.stamped |= stamped;
        socket.outbox.push(self.clients.address(client), stamped, write);
        socket.numbers.push(number);
    }

    fn flush(&mut self, mut refused: impl FnMut(u64)) -> io::Result<()> {
        for socket in &mut self.sockets {
            if socket.outbox.is_empty() {
                continue;
            }
            socket.client.send(&mut socket.outbox)?;
            for place in socket.outbox.refused() {
                refused(socket.numbers[*place]);
            }
            socket.numbers.clear();
        }
        Ok(())
    }

    fn receive(&mut self, mut take: impl FnMut(Incoming<'_>)) -> io::Result<usize> {
        let target = self.target;
        let mut received = 0;
        for _ in 0..LOOKED_AT.min(self.sockets.len()) {
            self.next = (self.next + 1) % self.sockets.len();
            received += self.sockets[self.next].client.receive(|reply| {
                take(Incoming {
                    payload: if reply.whole { Ok(reply.payload) } else { Err(Fault::Length) },
                    from_target: same_host(reply.source, target),
                    stamp_ns: reply.stamp.map(|stamp| stamp.nanos),
                });
            })?;
        }
        Ok(received)
    }

    fn transmit_stamps(&mut self, mut take: impl FnMut(&[u8], i64)) -> io::Result<()> {
        // Of the sockets whose replies were just looked at, and only where a stamp can be.
        let looked_at = if self.stamped { LOOKED_AT.min(self.sockets.len()) } else { 0 };
        for back in 0..looked_at {
            let place = (self.next + self.sockets.len() - back) % self.sockets.len();
            self.sockets[place].client.transmit_stamps(|payload, stamp| take(payload, stamp.nanos))?;
        }
        Ok(())
    }

    fn unseen(&mut self) -> u64 {
        let mut unseen = 0;
        for socket in &mut self.sockets {
            let overflowed = socket.client.overflowed().unwrap_or(socket.overflowed);
            unseen += u64::from(overflowed.wrapping_sub(socket.overflowed));
            socket.overflowed = overflowed;
        }
        unseen
    }
}

fn anywhere(target: SocketAddr) -> IpAddr {
    match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The address that the kernel would choose: a socket that has one doesn't choose again for each request. Nothing is sent
/// by connecting; where there is no way to the server, the sends will say so.
fn local_for(target: SocketAddr) -> IpAddr {
    let scratch = UdpSocket::bind((anywhere(target), 0));
    let connected = scratch.and_then(|socket| socket.connect(target).map(|()| socket));
    let address = connected.and_then(|socket| socket.local_addr()).map(|address| address.ip());
    match address {
        // An address of a link means nothing without its link, which the socket would have to be told.
        Ok(IpAddr::V6(address)) if address.is_unicast_link_local() => anywhere(target),
        Ok(address) => address,
        Err(_) => anywhere(target),
    }
}

/// The scope and flow of an IPv6 address don't make another host.
fn same_host(source: SocketAddr, target: SocketAddr) -> bool {
    source.ip() == target.ip() && source.port() == target.port()
}
