//! Ways for requests to leave and for replies to come in.
//!
//! A link knows addresses and frames; it knows neither schedules nor what a valid reply is. The sender inside the
//! kernel is no link: see [`live`](crate::live).

mod frame;
mod packet;
mod udp;

use crate::reply::Fault;
use std::io;

pub use frame::{Framer, udp_payload};
pub use packet::{PacketLink, PacketLinkError};
pub use udp::{UDP_SOCKETS_MAX, UdpLink, UdpLinkError};

/// Requests that share a system call.
pub const BATCH: usize = 64;

/// A datagram that came in.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Its UDP payload, or what was wrong with what it came in.
    pub payload: Result<&'a [u8], Fault>,
    /// It came from the address and port that the requests went to.
    pub from_target: bool,
    /// When the kernel took it from the driver, by `CLOCK_REALTIME`, in nanoseconds since 1970.
    pub stamp_ns: Option<i64>,
}

/// One thread's way to the server and back.
pub trait Link {
    /// Whether the batch must be flushed before more is pushed.
    fn is_full(&self) -> bool;

    /// Adds a request of `client` to the batch. `write` fills in the UDP payload and gives its length; `stamped` asks
    /// the kernel when it leaves.
    fn push(&mut self, number: u64, client: u32, stamped: bool, write: impl FnOnce(&mut [u8]) -> usize);

    /// Sends the batch. What the kernel has no room for is not sent later: `refused` is told its number.
    ///
    /// # Errors
    /// Only what going on can't mend.
    fn flush(&mut self, refused: impl FnMut(u64)) -> io::Result<()>;

    /// Hands over what has come in, a bounded number a call; how many.
    ///
    /// # Errors
    /// Only what going on can't mend.
    fn receive(&mut self, take: impl FnMut(Incoming<'_>)) -> io::Result<usize>;

    /// Hands over the transmit stamps that were asked for, each with the UDP payload that it belongs to.
    ///
    /// # Errors
    /// Only what going on can't mend.
    fn transmit_stamps(&mut self, take: impl FnMut(&[u8], i64)) -> io::Result<()>;

    /// Replies that found no room on this side since the last call.
    fn unseen(&mut self) -> u64;
}
