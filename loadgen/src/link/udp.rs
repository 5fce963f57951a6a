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

/// The most sockets of a thread: each costs a system call a round.
pub const UDP_SOCKETS_MAX: u32 = 16;

struct Socket {
    client: UdpClient,
    outbox: Outbox,
    /// The numbers of the requests in the outbox.
    numbers: Vec<u64>,
}

/// The sockets of a thread.
pub struct UdpLink {
    target: SocketAddr,
    clients: Clients,
    sockets: Vec<Socket>,
}

impl UdpLink {
    /// Opens the sockets for the requests of `clients` to `target`.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn open(target: SocketAddr, clients: Clients) -> Result<Self, OpenError> {
        let local = if clients.address(0).is_some() { anywhere(target) } else { local_for(target) };
        let mut sockets = Vec::new();
        for _ in 0..clients.count().clamp(1, UDP_SOCKETS_MAX) {
            sockets.push(Socket {
                client: UdpClient::open(local, target, BATCH)?,
                outbox: Outbox::new(BATCH),
                numbers: Vec::with_capacity(BATCH),
            });
        }
        Ok(Self { target, clients, sockets })
    }
}

impl Link for UdpLink {
    fn is_full(&self) -> bool {
        self.sockets.iter().any(|socket| socket.outbox.is_full())
    }

    fn push(&mut self, number: u64, client: u32, stamped: bool, write: impl FnOnce(&mut [u8]) -> usize) {
        let place = usize::try_from(client).unwrap_or(0) % self.sockets.len();
        let socket = &mut self.sockets[place];
        socket.outbox.push(self.clients.address(client), stamped, write);
        socket.numbers.push(number);
    }

    fn flush(&mut self, mut refused: impl FnMut(u64)) -> io::Result<()> {
        for socket in &mut self.sockets {
            if socket.outbox.is_empty() {
                continue;
            }
            let taken = socket.client.send(&mut socket.outbox)?;
            socket.numbers.drain(..).skip(taken).for_each(&mut refused);
        }
        Ok(())
    }

    fn receive(&mut self, mut take: impl FnMut(Incoming<'_>)) -> io::Result<usize> {
        let target = self.target;
        let mut received = 0;
        for socket in &mut self.sockets {
            received += socket.client.receive(|reply| {
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
        for socket in &mut self.sockets {
            socket.client.transmit_stamps(|payload, stamp| take(payload, stamp.nanos))?;
        }
        Ok(())
    }

    fn unseen(&mut self) -> u64 {
        // What a socket's buffer has no room for looks like a loss; only the packet sender's ring counts it.
        0
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
    connected.and_then(|socket| socket.local_addr()).map_or(anywhere(target), |address| address.ip())
}

/// The scope and flow of an IPv6 address don't make another host.
fn same_host(source: SocketAddr, target: SocketAddr) -> bool {
    source.ip() == target.ip() && source.port() == target.port()
}
