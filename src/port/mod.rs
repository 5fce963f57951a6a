//! Packet ports: where requests come from and replies go.
//!
//! The worker above is the same for all of them; the contract test runs the same cases through each. Which one is
//! used is decided once, at start: see [`ladder`].

pub mod ladder;

use maser_sys::datagram::{Arrival, Outgoing, Sent, Wait};
use maser_sys::{mmsg::MmsgPort, uring::UringPort};
use std::io;

/// A source of datagrams in batches and a way back for their replies.
pub trait Port {
    /// Makes the datagrams that are there the current batch, waiting as told for the first; gives their number.
    ///
    /// # Errors
    /// Only what ends the port: errors of single datagrams and of the network pass.
    fn receive(&mut self, wait: Wait) -> io::Result<usize>;

    /// Datagram `index` of the current batch, for reading and for answering in place.
    fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]);

    /// Sends replies from the buffers of their requests. `stamp` is called for each, in order, just before the
    /// system call that sends it.
    ///
    /// # Errors
    /// Only what ends the port.
    fn send(&mut self, replies: &[Outgoing], stamp: impl FnMut(usize, &mut [u8])) -> io::Result<Sent>;
}

macro_rules! port {
    ($port:ty) => {
        impl Port for $port {
            fn receive(&mut self, wait: Wait) -> io::Result<usize> {
                self.receive(wait)
            }
            fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]) {
                self.datagram(index)
            }
            fn send(
                &mut self,
                replies: &[Outgoing],
                stamp: impl FnMut(usize, &mut [u8]),
            ) -> io::Result<Sent> {
                self.send(replies, stamp)
            }
        }
    };
}
port!(MmsgPort);
port!(UringPort);
