//! What completions change: who holds which buffer, what waits to be delivered, what was sent.

use std::collections::VecDeque;

use io_uring::cqueue;

use super::ledger::{Holder, Ledger};
use super::memory::Memory;
use crate::datagram::{Sent, ends_receiving, ends_sending};
use crate::transmit_stamp::Departures;

/// Marks a completion as that of a send; the rest is the buffer, or for a receive the socket.
pub(super) const SEND: u64 = 1 << 32;

/// A datagram that came in: in which buffer, on which socket.
#[derive(Clone, Copy)]
pub(super) struct Received {
    pub(super) buffer: u16,
    pub(super) socket: u16,
}

/// What completions change.
pub(super) struct Books {
    pub(super) memory: Memory,
    pub(super) ledger: Ledger,
    /// Received but in no batch yet.
    pub(super) waiting: VecDeque<Received>,
    /// Which of the sockets that receive have a receive with the kernel.
    pub(super) armed: Box<[bool]>,
    /// The socket that a reply leaves by which is being sent and stamped, and its name, by its buffer.
    pub(super) names: Box<[Option<(u16, u64)>]>,
    pub(super) departures: Departures,
    /// What became of replies since the last that was reported.
    pub(super) sent: Sent,
    /// An error that going on can't mend.
    pub(super) fault: Option<i32>,
    pub(super) rearmed: u64,
    pub(super) receive_failures: u64,
}

impl Books {
    /// For so many sockets that receive, of so many.
    pub(super) fn new(buffers: u16, (receiving, sockets): (usize, usize), nic_stamps: bool) -> Self {
        let mut books = Self {
            memory: Memory::new(buffers),
            ledger: Ledger::new(usize::from(buffers)),
            waiting: VecDeque::with_capacity(usize::from(buffers)),
            armed: vec![false; receiving].into(),
            names: vec![None; usize::from(buffers)].into(),
            departures: Departures::new(sockets, nic_stamps),
            sent: Sent::default(),
            fault: None,
            rearmed: 0,
            receive_failures: 0,
        };
        for buffer in 0..buffers {
            books.offer(buffer, Holder::Port);
        }
        books.memory.publish();
        books
    }

    fn offer(&mut self, buffer: u16, from: Holder) {
        self.ledger.pass(buffer, from, Holder::Kernel);
        self.memory.offer(buffer);
    }

    /// Ends a batch: what isn't being sent is for the kernel to receive into.
    pub(super) fn give_back(&mut self, batch: &mut Vec<Received>) {
        for Received { buffer, .. } in batch.drain(..) {
            if self.ledger.holder(buffer) == Holder::Sending {
                self.ledger.pass(buffer, Holder::Sending, Holder::SendingLate);
            } else {
                self.offer(buffer, Holder::Port);
            }
        }
        self.memory.publish();
    }

    pub(super) fn complete(&mut self, entry: &cqueue::Entry) {
        let subject = entry.user_data() & (SEND - 1);
        // Both kinds of subject were made from 16 bits.
        let subject = u16::try_from(subject).unwrap_or(u16::MAX);
        if entry.user_data() & SEND == 0 {
            self.received(subject, entry);
        } else {
            self.was_sent(subject, entry.result());
        }
    }

    fn received(&mut self, socket: u16, entry: &cqueue::Entry) {
        if !cqueue::more(entry.flags()) {
            self.armed[usize::from(socket)] = false;
            self.rearmed += 1;
        }
        if let Some(buffer) = cqueue::buffer_select(entry.flags()) {
            self.ledger.pass(buffer, Holder::Kernel, Holder::Port);
            if entry.result() >= 0 {
                self.waiting.push_back(Received { buffer, socket });
            } else {
                self.offer(buffer, Holder::Port);
                self.memory.publish();
            }
        }
        match -entry.result() {
            // Out of buffers, which are given back; and what a closing port ends.
            ..=0 | libc::ENOBUFS | libc::ECANCELED => {}
            errno if ends_receiving(errno) => self.fault = Some(errno),
            _ => self.receive_failures += 1,
        }
    }

    fn was_sent(&mut self, buffer: u16, result: i32) {
        let name = self.names[usize::from(buffer)].take();
        if result >= 0 {
            self.sent.sent += 1;
            if let Some((socket, name)) = name {
                self.departures.sent(socket, name);
            }
        } else {
            self.sent.count_failure(-result);
            if ends_sending(-result) {
                self.fault = Some(-result);
            }
        }
        if self.ledger.holder(buffer) == Holder::SendingLate {
            self.offer(buffer, Holder::SendingLate);
            self.memory.publish();
        } else {
            self.ledger.pass(buffer, Holder::Sending, Holder::Port);
        }
    }
}
