//! Packet ports: where requests come from and replies go.
//!
//! The worker above is the same for all of them; the contract test runs the same cases through each. Which one is
//! used is decided once, at start: see [`ladder`].

pub mod faulty;
pub mod ladder;

use maser_sys::datagram::{Arrival, Departed, Outgoing, SEND_CHUNK, Sent, Wait};
use maser_sys::{af_xdp::XskPort, mmsg::MmsgPort, uring::UringPort};
use std::io;

/// A source of datagrams in batches and a way back for their replies.
pub trait Port {
    /// How many replies, in the order in which they are given, share a system call.
    const SEND_CHUNK: u32;

    /// Makes the datagrams that are there the current batch, waiting as told for the first; gives their number.
    ///
    /// # Errors
    /// Only what ends the port: errors of single datagrams, of the network and for want of memory pass.
    fn receive(&mut self, wait: Wait) -> io::Result<usize>;

    /// How often a receive failed since the port was made, for a reason that may pass.
    fn receive_failures(&self) -> u64;

    /// Frames that nobody holds, as of now; of use while nothing comes.
    fn frames_missing(&mut self) -> u64 {
        0
    }

    /// How many datagrams wait behind the batch, and of how many before some are lost; none where nobody says.
    fn backlog(&mut self) -> Option<(u32, u32)> {
        None
    }

    /// Has what is below this floor dropped before it comes here, where something in front can.
    fn set_floor(&mut self, _floor: u32) {}

    /// Says that few of those that come are refused, or many: something in front looks sources up only for many.
    fn set_few_refused(&mut self, _few: bool) {}

    /// Datagram `index` of the current batch, for reading and for answering in place.
    fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]);

    /// Sends replies from the buffers of their requests. `stamp` is called once for each, in order, just before the
    /// system call that sends it; not for those that are given up because there is no room.
    ///
    /// # Errors
    /// Only what ends the port.
    fn send(&mut self, replies: &[Outgoing], stamp: impl FnMut(usize, &mut [u8])) -> io::Result<Sent>;

    /// Takes no more datagrams than have come into the port's own memory, from where nobody else can have them; these are still
    /// received.
    fn close(&mut self) {}

    /// Tells what is known by now of replies sent whose departure somebody wanted to know, each at most once. Some are
    /// never told: what isn't stamped within a second or two never will be.
    ///
    /// # Errors
    /// Only what ends the port.
    fn departures(&mut self, _told: impl FnMut(Departed)) -> io::Result<()> {
        Ok(())
    }
}

macro_rules! port {
    ($port:ty $(, $own:item)*) => {
        impl Port for $port {
            #[expect(clippy::cast_possible_truncation, reason = "a handful")]
            const SEND_CHUNK: u32 = SEND_CHUNK as u32;

            fn receive(&mut self, wait: Wait) -> io::Result<usize> {
                self.receive(wait)
            }
            fn receive_failures(&self) -> u64 {
                self.receive_failures()
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
            fn departures(&mut self, told: impl FnMut(Departed)) -> io::Result<()> {
                self.departures(told)
            }
            $($own)*
        }
    };
}
port!(MmsgPort);
port!(
    UringPort,
    fn close(&mut self) {
        UringPort::close(self);
    }
);
port!(
    XskPort,
    fn frames_missing(&mut self) -> u64 {
        self.frames_missing().into()
    },
    fn backlog(&mut self) -> Option<(u32, u32)> {
        Some(self.backlog())
    },
    fn set_floor(&mut self, floor: u32) {
        XskPort::set_floor(self, floor);
    },
    fn set_few_refused(&mut self, few: bool) {
        XskPort::set_few_refused(self, few);
    }
);
