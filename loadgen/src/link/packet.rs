//! A packet socket: whole frames, past the network stack of this machine, from as many addresses as one likes.
//!
//! Needs `CAP_NET_RAW`. The server must route its replies to the clients' prefix to this machine, which drops them after
//! this link has seen them.

use super::frame::{Framer, destination, udp_payload};
use super::{BATCH, Incoming, Link};
use crate::clients::Clients;
use maser_sys::outbox::Outbox;
use maser_sys::packet_socket::{Checksum, PacketError, PacketSocket, Ports, Way};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use thiserror::Error;

/// Replies that may wait to be looked at: 80 ms at 400,000 a second.
const RING_FRAMES: usize = 1 << 15;
/// Ports that are used where the clients have no addresses of their own.
const HELD_PORTS: usize = 16;
/// So many ports are asked for until enough of them are this thread's.
const HOLD_TRIES: usize = 64 * HELD_PORTS;

/// One thread's packet socket.
pub struct PacketLink {
    socket: PacketSocket,
    framer: Framer,
    clients: Clients,
    ports: Ports,
    /// Bound and never read: this machine answers what comes to a port that nobody has with an ICMP error.
    holders: Vec<Holder>,
    outbox: Outbox,
    numbers: Vec<u64>,
    /// Some request asked for its transmit stamp.
    stamped: bool,
}

/// A socket that keeps a port.
struct Holder {
    _socket: UdpSocket,
    port: u16,
}

impl PacketLink {
    /// Opens the socket of thread `turn` of `turns`, which must be a power of two: each sees the replies to its own
    /// requests only, by their ports.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn open(
        target: SocketAddr,
        way: &Way,
        clients: Clients,
        turn: u16,
        turns: u16,
    ) -> Result<Self, PacketLinkError> {
        let ports = Ports { mask: turns - 1, value: turn };
        let has_addresses = clients.address(0).is_some();
        Ok(Self {
            socket: PacketSocket::open(way.interface, target, ports, RING_FRAMES)?,
            framer: Framer::new(way, target),
            clients,
            ports,
            holders: if has_addresses { Vec::new() } else { hold(way, ports)? },
            outbox: Outbox::new(BATCH),
            numbers: Vec::with_capacity(BATCH),
            stamped: false,
        })
    }

    /// The port that a request leaves from.
    fn port(&self, number: u64, client: u32) -> u16 {
        match usize::try_from(client).unwrap_or(0).checked_rem(self.holders.len()) {
            Some(place) => self.holders[place].port,
            // The low bits say which thread's reply it will be.
            None => self.clients.port(number) & !self.ports.mask | self.ports.value,
        }
    }
}

/// Whether a frame is for one of the clients: others on this machine may ask the same server. What can't be told is.
fn is_for_us(frame: &[u8], clients: &Clients, holders: &[Holder]) -> bool {
    let Some((address, port)) = destination(frame) else { return true };
    clients.contains(address) && (holders.is_empty() || holders.iter().any(|holder| holder.port == port))
}

/// Why a packet link can't be had.
#[derive(Debug, Error)]
pub enum PacketLinkError {
    /// No packet socket.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// No port can be kept at our own address.
    #[error(
        "no UDP port can be bound at {address}: {error}; or give the clients a network of their own with --from"
    )]
    Hold {
        /// Our address.
        address: IpAddr,
        /// Why.
        error: io::Error,
    },
}

/// An address of a link can't be bound to without its link; every address can.
fn bindable(address: IpAddr) -> IpAddr {
    let of_link = matches!(address, IpAddr::V6(link) if link.is_unicast_link_local());
    if of_link { Ipv6Addr::UNSPECIFIED.into() } else { address }
}

/// Ports of ours that are `ports`.
fn hold(way: &Way, ports: Ports) -> Result<Vec<Holder>, PacketLinkError> {
    let refused = |error| PacketLinkError::Hold { address: way.source, error };
    let mut holders = Vec::with_capacity(HELD_PORTS);
    let mut others = Vec::new();
    for _ in 0..HOLD_TRIES {
        let socket = UdpSocket::bind((bindable(way.source), 0)).map_err(refused)?;
        let port = socket.local_addr().map_err(refused)?.port();
        if port & ports.mask == ports.value {
            holders.push(Holder { _socket: socket, port });
        } else {
            // Kept meanwhile, so that it isn't given out again.
            others.push(socket);
        }
        if holders.len() == HELD_PORTS {
            break;
        }
    }
    if holders.is_empty() { Err(refused(io::ErrorKind::AddrInUse.into())) } else { Ok(holders) }
}

impl Link for PacketLink {
    fn is_full(&self) -> bool {
        self.outbox.is_full()
    }

    fn push(&mut self, number: u64, client: u32, stamped: bool, write: impl FnOnce(&mut [u8]) -> usize) {
        let port = self.port(number, client);
        let from = self.clients.address(client);
        let framer = &self.framer;
        self.outbox.push(None, stamped, |frame| framer.write(from, port, frame, write));
        self.numbers.push(number);
        self.stamped |= stamped;
    }

    fn flush(&mut self, refused: impl FnMut(u64)) -> io::Result<()> {
        if !self.outbox.is_empty() {
            self.socket.send(&mut self.outbox)?;
            self.outbox.refused().iter().map(|place| self.numbers[*place]).for_each(refused);
            self.numbers.clear();
        }
        Ok(())
    }

    fn receive(&mut self, mut take: impl FnMut(Incoming<'_>)) -> io::Result<usize> {
        let Self { socket, clients, holders, .. } = self;
        Ok(socket.receive(|frame| {
            if !is_for_us(frame.octets, clients, holders) {
                return;
            }
            take(Incoming {
                payload: udp_payload(frame.octets, frame.checksum == Checksum::LeftOut),
                // The socket's filter lets nothing else in.
                from_target: true,
                stamp_ns: Some(frame.stamp.nanos),
            });
        }))
    }

    fn transmit_stamps(&mut self, mut take: impl FnMut(&[u8], i64)) -> io::Result<()> {
        if !self.stamped {
            return Ok(());
        }
        self.socket.transmit_stamps(|frame, stamp| {
            if let Ok(payload) = udp_payload(frame, true) {
                take(payload, stamp.nanos);
            }
        })?;
        Ok(())
    }

    fn unseen(&mut self) -> u64 {
        self.socket.overflowed().unwrap_or(0)
    }
}
