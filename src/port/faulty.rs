//! A port that loses, repeats, spoils and delays replies: for the tests of those who measure servers.
//!
//! It stands around another port and is never on the ladder. Faults come at exact shares rather than at random, so that a
//! short run shows what was planted.

use super::Port;
use maser_sys::datagram::{Arrival, Departed, Outgoing, Sent, Wait};
use maser_sys::kernel_clock::{KernelClock, read};
use std::io;
use std::time::Duration;

/// What goes wrong, as shares of all replies from 0 to 1; each is its own, so that a reply may be spoilt and repeated.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Faults {
    /// Replies that are never sent.
    pub loss: f64,
    /// Replies that are sent twice.
    pub duplicates: f64,
    /// Replies of which an octet is changed that a client must look at: in turn the mode, the version, the origin.
    pub corrupt: f64,
    /// How long a batch of replies waits before it is sent.
    pub delay: Duration,
}

/// Says yes for an exact share of the times that it is asked.
#[derive(Clone, Copy, Debug)]
struct Share {
    share: f64,
    sum: f64,
}

impl Share {
    /// Shares that begin at different points of their round don't meet in the same replies.
    const fn new(share: f64, begin: f64) -> Self {
        Self { share, sum: begin }
    }

    fn is_due(&mut self) -> bool {
        self.sum += self.share;
        let due = self.sum >= 1.0;
        if due {
            self.sum -= 1.0;
        }
        due
    }
}

/// A port whose replies suffer.
#[derive(Debug)]
pub struct FaultyPort<P> {
    port: P,
    delay: Duration,
    loss: Share,
    duplicates: Share,
    corrupt: Share,
    spoilt: usize,
    kept: Vec<Outgoing>,
    repeated: Vec<Outgoing>,
}

/// Where a reply is spoilt: an octet and the bits of it that are turned.
const SPOILS: [(usize, u8); 3] = [(0, 0b0000_0001), (0, 0b0001_0000), (27, 0xFF)];

impl<P: Port> FaultyPort<P> {
    /// `port`, with `faults`, and room for batches of `batch`.
    pub fn new(port: P, faults: Faults, batch: usize) -> Self {
        Self {
            port,
            delay: faults.delay,
            loss: Share::new(faults.loss, 0.0),
            duplicates: Share::new(faults.duplicates, 0.3),
            corrupt: Share::new(faults.corrupt, 0.6),
            spoilt: 0,
            kept: Vec::with_capacity(batch),
            repeated: Vec::with_capacity(batch),
        }
    }
}

impl<P: Port> Port for FaultyPort<P> {
    const SEND_CHUNK: u32 = P::SEND_CHUNK;

    fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        self.port.receive(wait)
    }

    fn receive_failures(&self) -> u64 {
        self.port.receive_failures()
    }

    fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        self.port.datagram(index)
    }

    fn send(&mut self, replies: &[Outgoing], mut stamp: impl FnMut(usize, &mut [u8])) -> io::Result<Sent> {
        self.kept.clear();
        self.repeated.clear();
        for reply in replies {
            if self.loss.is_due() {
                continue;
            }
            self.kept.push(*reply);
            if self.duplicates.is_due() {
                // It has left already, as far as its server knows.
                self.repeated.push(Outgoing { departure: None, ..*reply });
            }
        }
        wait_for(self.delay);
        let (corrupt, spoilt) = (&mut self.corrupt, &mut self.spoilt);
        let sent = self.port.send(&self.kept, |index, reply| {
            stamp(index, reply);
            if corrupt.is_due() {
                let (octet, bits) = SPOILS[*spoilt % SPOILS.len()];
                *spoilt += 1;
                if let Some(octet) = reply.get_mut(octet) {
                    *octet ^= bits;
                }
            }
        })?;
        // As they were sent the first time: a network repeats packets and doesn't change them.
        self.port.send(&self.repeated, |_, _| ())?;
        Ok(sent)
    }

    fn departures(&mut self, told: impl FnMut(Departed)) -> io::Result<()> {
        self.port.departures(told)
    }
}

/// Spins, since a sleep is late by as much as the delays that are looked for.
fn wait_for(delay: Duration) {
    let delay_ns = i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX);
    let begin = read(KernelClock::Monotonic);
    while delay_ns > 0 && read(KernelClock::Monotonic) - begin < delay_ns {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_over_its_round() {
        let mut share = Share::new(0.005, 0.3);
        assert_eq!((0..100_000).filter(|_| share.is_due()).count(), 500);
        let mut never = Share::new(0.0, 0.6);
        assert!(!(0..1_000).any(|_| never.is_due()));
    }
}
