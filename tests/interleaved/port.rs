//! A port in memory that knows when its replies leave, and tells it as a test wants.

use super::support::Machine;
use maser::port::Port;
use maser_core::time::{Stamp, StampClock};
use maser_core::wire::Peer;
use maser_sys::datagram::{Arrival, Carried, Departed, Outgoing, Sent, Wait};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// A datagram and who sent it, or is to have it.
pub(crate) type Datagram = (SocketAddr, Vec<u8>);

/// What a test holds of the port; the worker has the other end.
#[derive(Clone)]
pub(crate) struct Wires(pub(crate) Rc<RefCell<State>>);

pub(crate) struct State {
    machine: Machine,
    coming: VecDeque<(Datagram, u16, i64)>,
    pub(crate) sent: Vec<Datagram>,
    /// When each of them left, by `CLOCK_REALTIME`.
    pub(crate) sent_ns: Vec<i64>,
    /// When each reply that was asked about left, by `CLOCK_REALTIME`.
    pub(crate) left_ns: HashMap<u64, i64>,
    pub(crate) to_tell: Vec<Departed>,
    /// Departures are told a microsecond after the batch was sent, or when a test says so.
    pub(crate) tells_at_once: bool,
    /// From the system call to the first reply's leaving, by the number of the call.
    pub(crate) latency_ns: fn(u64) -> i64,
    /// So much longer for a call that is asked about after one that wasn't.
    pub(crate) cold_ns: i64,
    was_asked: bool,
    /// From one reply of a call to the next.
    pub(crate) each_ns: i64,
    calls: u64,
    pub(crate) last_wait: Option<Duration>,
}

impl Wires {
    pub(crate) fn new(machine: Machine) -> Self {
        Self(Rc::new(RefCell::new(State {
            machine,
            coming: VecDeque::new(),
            sent: Vec::new(),
            sent_ns: Vec::new(),
            left_ns: HashMap::new(),
            to_tell: Vec::new(),
            tells_at_once: true,
            latency_ns: |_| 7_000,
            cold_ns: 0,
            was_asked: false,
            each_ns: 1_000,
            calls: 0,
            last_wait: None,
        })))
    }

    pub(crate) fn worker_end(&self) -> End {
        End { wires: self.clone(), batch: Vec::new() }
    }

    pub(crate) fn arrive(&self, from: SocketAddr, socket: u16, request: &[u8], realtime_ns: i64) {
        self.0.borrow_mut().coming.push_back(((from, request.to_vec()), socket, realtime_ns));
    }

    pub(crate) fn take_sent(&self) -> Vec<Datagram> {
        std::mem::take(&mut self.0.borrow_mut().sent)
    }
}

/// The worker's end, with the batch that it is working on.
pub(crate) struct End {
    wires: Wires,
    batch: Vec<(Datagram, u16, i64)>,
}

pub(crate) fn realtime(nanos: i64) -> Option<Stamp> {
    Some(Stamp { clock: StampClock::Realtime, nanos })
}

const CHUNK: usize = 16;

impl Port for End {
    const SEND_CHUNK: u32 = 16;

    fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        let mut state = self.wires.0.borrow_mut();
        state.last_wait = match wait {
            Wait::Poll => None,
            Wait::Until(limit) => Some(limit),
        };
        let count = state.coming.len().min(64);
        self.batch = state.coming.drain(..count).collect();
        Ok(self.batch.len())
    }

    fn receive_failures(&self) -> u64 {
        0
    }

    fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        let ((source, bytes), socket, stamp_ns) = &mut self.batch[index];
        let destination = SocketAddr::from(([198, 51, 100, 1], 123));
        let arrival = Arrival {
            socket: *socket,
            carried: Carried::Datagram(Peer { source: *source, destination, unicast: true }),
            whole: true,
            stamp: realtime(*stamp_ns),
            interface: 0,
            nic_stamp: None,
            weight: 1,
        };
        (arrival, bytes)
    }

    fn send(&mut self, replies: &[Outgoing], mut stamp: impl FnMut(usize, &mut [u8])) -> io::Result<Sent> {
        let mut state = self.wires.0.borrow_mut();
        for call in replies.chunks(CHUNK) {
            for reply in call {
                stamp(usize::from(reply.index), &mut self.batch[usize::from(reply.index)].0.1);
            }
            state.calls += 1;
            let is_asked = call.iter().any(|reply| reply.departure.is_some());
            let was_asked = std::mem::replace(&mut state.was_asked, is_asked);
            let cold_ns = if is_asked && !was_asked { state.cold_ns } else { 0 };
            let latency_ns = (state.latency_ns)(state.calls) + cold_ns;
            for (number, reply) in call.iter().enumerate() {
                state.machine.pass_ns(if number == 0 { latency_ns } else { state.each_ns });
                let (to, bytes) = &self.batch[usize::from(reply.index)].0;
                let bytes = bytes[..usize::from(reply.length)].to_vec();
                let now_ns = state.machine.realtime_ns();
                state.sent_ns.push(now_ns);
                if let Some(name) = reply.departure {
                    assert_eq!(name.to_be_bytes(), bytes[32..40], "a name is the receive timestamp");
                    state.left_ns.insert(name, now_ns);
                    state.to_tell.push(Departed {
                        name,
                        stamp: realtime(now_ns),
                        interface: 0,
                        nic_stamp: None,
                    });
                }
                state.sent.push((*to, bytes));
            }
        }
        Ok(Sent { sent: replies.len(), ..Sent::default() })
    }

    fn departures(&mut self, told: impl FnMut(Departed)) -> io::Result<()> {
        let mut state = self.wires.0.borrow_mut();
        if state.tells_at_once {
            state.machine.pass_ns(1_000);
            state.to_tell.drain(..).for_each(told);
        }
        Ok(())
    }
}
