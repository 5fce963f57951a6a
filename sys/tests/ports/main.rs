//! The datagram ports over loopback.
//!
//! `contract` takes the same cases through both ports, and `departures` and `two_hosts` those about when replies left; `ring` is about what
//! only io_uring has; `refusals` about calls that fail; `sockets` about the sockets that both work on. Some cases take root and say so when they are skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests bound their loops by the real clock")]

mod contract;
mod departures;
mod refusals;
mod ring;
mod sockets;
mod two_hosts;

use std::io;
use std::net::{SocketAddr, UdpSocket as Client};
use std::time::{Duration, Instant};

use maser_core::wire::Peer;
use maser_sys::alloc_count::CountingAllocator;
use maser_sys::datagram::{Arrival, Carried, Departed, Outgoing, Sent, Wait};
use maser_sys::mmsg::MmsgPort;
use maser_sys::udp_socket::{SocketOptions, UdpSocket};
use maser_sys::uring::UringPort;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(20);

pub(crate) trait Port: Sized {
    fn over(sockets: Vec<UdpSocket>, batch: usize) -> Self;
    fn receive(&mut self, wait: Wait) -> io::Result<usize>;
    fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]);
    fn send(&mut self, replies: &[Outgoing], stamp: impl FnMut(usize, &mut [u8])) -> io::Result<Sent>;
    fn receive_failures(&self) -> u64;
    fn departures(&mut self, told: impl FnMut(Departed)) -> io::Result<()>;
    /// That no buffer is lost; the port must be idle.
    fn assert_whole(&mut self);
}

impl Port for MmsgPort {
    fn over(sockets: Vec<UdpSocket>, batch: usize) -> Self {
        Self::new(sockets, batch).unwrap()
    }
    fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        self.receive(wait)
    }
    fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        self.datagram(index)
    }
    fn send(&mut self, replies: &[Outgoing], stamp: impl FnMut(usize, &mut [u8])) -> io::Result<Sent> {
        self.send(replies, stamp)
    }
    fn receive_failures(&self) -> u64 {
        self.receive_failures()
    }
    fn departures(&mut self, told: impl FnMut(Departed)) -> io::Result<()> {
        self.departures(told)
    }
    fn assert_whole(&mut self) {}
}

impl Port for UringPort {
    fn over(sockets: Vec<UdpSocket>, batch: usize) -> Self {
        Self::new(sockets, Vec::new(), batch).unwrap_or_else(|error| panic!("{error}"))
    }
    fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        self.receive(wait)
    }
    fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        self.datagram(index)
    }
    fn send(&mut self, replies: &[Outgoing], stamp: impl FnMut(usize, &mut [u8])) -> io::Result<Sent> {
        self.send(replies, stamp)
    }
    fn receive_failures(&self) -> u64 {
        self.receive_failures()
    }
    fn departures(&mut self, told: impl FnMut(Departed)) -> io::Result<()> {
        self.departures(told)
    }
    fn assert_whole(&mut self) {
        let total = self.buffers().total();
        assert_eq!(self.receive(Wait::Poll).unwrap(), 0, "the port isn't idle");
        assert_eq!(self.buffers().receiving, total, "{:?}", self.buffers());
    }
}

pub(crate) fn options() -> SocketOptions {
    SocketOptions::default()
}
pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
pub(crate) fn open(text: &str) -> UdpSocket {
    UdpSocket::open(address(text), options()).unwrap_or_else(|error| panic!("{error}"))
}
pub(crate) fn peer(arrival: &Arrival) -> Peer {
    match arrival.carried {
        Carried::Datagram(peer) => peer,
        Carried::Frame { .. } => panic!("a socket's port delivers datagrams"),
    }
}

fn client(text: &str) -> Client {
    let client = Client::bind(address(text)).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client
}
pub(crate) fn all_of(count: usize, port: &mut impl Port) -> Vec<Outgoing> {
    (0..count)
        .map(|index| {
            let length = port.datagram(index).1.len();
            Outgoing { index: index.try_into().unwrap(), length: length.try_into().unwrap(), departure: None }
        })
        .collect()
}
pub(crate) fn echo(port: &mut impl Port, wait: Wait) -> Sent {
    let count = port.receive(wait).unwrap();
    let replies = all_of(count, port);
    port.send(&replies, |_, _| {}).unwrap()
}

/// Answers until `wanted` replies were sent, failing after [`LIMIT`].
pub(crate) fn echo_all(port: &mut impl Port, wanted: usize) -> Sent {
    let (mut total, end) = (Sent::default(), Instant::now() + LIMIT);
    while total.sent + total.failed() < wanted {
        let sent = echo(port, Wait::Until(SHORT));
        total.sent += sent.sent;
        total.congested += sent.congested;
        total.refused += sent.refused;
        assert!(Instant::now() < end, "{total:?} of {wanted}");
    }
    total
}

/// Whether the tests run as root; if not, `what` is skipped.
pub(crate) fn is_root(what: &str) -> bool {
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !root {
        eprintln!("skipped: {what} takes root");
    }
    root
}
