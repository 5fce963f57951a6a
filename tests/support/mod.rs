//! What the tests of the worker share: a port in memory, clocks in the test's hands, requests and replies.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test's own arithmetic"
)]

use maser::port::Port;
use maser::worker::Clocks;
use maser_core::refclock::{MachineClock, MachineSettings};
use maser_core::time::{ClockReading, Instant, LeapTable, Rate, Span, Stamp, StampClock, Ticks};
use maser_core::wire::Peer;
use maser_sys::datagram::{Arrival, Carried, NicStamp, Outgoing, Sent, Wait};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// The clock made of a [`Machine`]'s, at stratum 1.
pub(crate) fn machine_clock() -> MachineClock {
    let settings = MachineSettings {
        stratum: 1,
        reference_id: [192, 0, 2, 9],
        local_stratum: None,
        precision: -25,
        nominal_rate: Rate::NANOSECOND,
        not_before: Instant::from_unix(0, 0),
    };
    MachineClock::new(settings, LeapTable::built_in())
}

/// A machine whose clocks a test sets: a nanosecond counter, `CLOCK_REALTIME`, `CLOCK_MONOTONIC`.
#[derive(Clone, Debug)]
pub(crate) struct Machine(Rc<RefCell<ClockReading>>, Rc<RefCell<i64>>);

impl Machine {
    pub(crate) fn at(unix_ns: i64) -> Self {
        Self(
            Rc::new(RefCell::new(ClockReading {
                ticks: Ticks::from_bits(10_000_000_000),
                error_ticks: 20,
                realtime_ns: unix_ns,
                monotonic_ns: 5_000_000_000,
                apart_ns: 30,
            })),
            Rc::default(),
        )
    }
    /// The worker is preempted for so long right after its next reading of the clocks.
    pub(crate) fn preempt_after_reading_ns(&self, ns: i64) {
        *self.1.borrow_mut() = ns;
    }
    /// Lets `ns` pass while somebody slews the kernel's clocks by `ppb`.
    pub(crate) fn pass_slewed_ns(&self, ns: i64, ppb: i64) {
        self.pass_ns(ns);
        let mut clocks = self.0.borrow_mut();
        let slewed_ns = ns / 1_000 * ppb / 1_000_000;
        clocks.realtime_ns += slewed_ns;
        clocks.monotonic_ns += slewed_ns;
    }
    /// Lets `ns` pass on every clock.
    pub(crate) fn pass_ns(&self, ns: i64) {
        let mut clocks = self.0.borrow_mut();
        clocks.ticks = clocks.ticks.offset(ns);
        clocks.realtime_ns += ns;
        clocks.monotonic_ns += ns;
    }
    /// Steps `CLOCK_REALTIME`, as somebody who may.
    pub(crate) fn step_ns(&self, ns: i64) {
        self.0.borrow_mut().realtime_ns += ns;
    }
    pub(crate) fn realtime_ns(&self) -> i64 {
        self.0.borrow().realtime_ns
    }
}

impl Clocks for Machine {
    fn now(&self) -> Ticks {
        self.0.borrow().ticks
    }
    fn reading(&self) -> ClockReading {
        let reading = *self.0.borrow();
        self.pass_ns(self.1.take());
        reading
    }
    fn span_of(&self, ticks: u32) -> Span {
        Span::from_nanos(i64::from(ticks))
    }
}

/// The interface that what comes in by the port in memory came by.
pub(crate) const INTERFACE: u32 = 3;

/// A port in memory: what a test pushed comes in, what the worker sends is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryPort(Rc<RefCell<Wires>>);

#[derive(Debug, Default)]
struct Wires {
    coming: VecDeque<Coming>,
    sent: Vec<Vec<u8>>,
}

/// The port's end for the worker, with the batch that it is working on.
#[derive(Debug, Default)]
pub(crate) struct WorkerEnd {
    port: MemoryPort,
    batch: Vec<Coming>,
}

#[derive(Debug)]
struct Coming {
    source: SocketAddr,
    bytes: Vec<u8>,
    stamp: Option<Stamp>,
    nic_stamp: Option<NicStamp>,
    socket: u16,
}

/// Whose the requests are that nobody else is named for.
fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 40_000))
}

impl MemoryPort {
    pub(crate) fn worker_end(&self) -> WorkerEnd {
        WorkerEnd { port: self.clone(), batch: Vec::new() }
    }
    /// A request that arrives with a kernel stamp of `realtime_ns`.
    pub(crate) fn arrive(&self, request: &[u8], realtime_ns: i64) {
        self.arrive_by(0, request, realtime_ns);
    }
    /// The same by a socket of the port.
    pub(crate) fn arrive_by(&self, socket: u16, request: &[u8], realtime_ns: i64) {
        let stamp = Some(Stamp { clock: StampClock::Realtime, nanos: realtime_ns });
        self.push(Coming { source: client(), bytes: request.to_vec(), stamp, nic_stamp: None, socket });
    }
    /// The same from another client.
    pub(crate) fn arrive_from(&self, source: SocketAddr, request: &[u8], realtime_ns: i64) {
        let stamp = Some(Stamp { clock: StampClock::Realtime, nanos: realtime_ns });
        self.push(Coming { source, bytes: request.to_vec(), stamp, nic_stamp: None, socket: 0 });
    }
    /// The same, which a NIC stamped, too.
    pub(crate) fn arrive_stamped(&self, request: &[u8], realtime_ns: i64, nic_stamp: Option<NicStamp>) {
        let stamp = Some(Stamp { clock: StampClock::Realtime, nanos: realtime_ns });
        self.push(Coming { source: client(), bytes: request.to_vec(), stamp, nic_stamp, socket: 0 });
    }
    fn push(&self, coming: Coming) {
        self.0.borrow_mut().coming.push_back(coming);
    }
    pub(crate) fn take_sent(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.borrow_mut().sent)
    }
}

impl Port for WorkerEnd {
    const SEND_CHUNK: u32 = 1;

    fn receive(&mut self, _wait: Wait) -> io::Result<usize> {
        self.batch = self.port.0.borrow_mut().coming.drain(..).collect();
        Ok(self.batch.len())
    }
    fn receive_failures(&self) -> u64 {
        0
    }
    fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        let Coming { source, bytes, stamp, nic_stamp, socket } = &mut self.batch[index];
        let arrival = Arrival {
            socket: *socket,
            carried: Carried::Datagram(Peer {
                source: *source,
                destination: SocketAddr::from(([192, 0, 2, 1], 123)),
                unicast: true,
            }),
            whole: true,
            stamp: *stamp,
            interface: INTERFACE,
            nic_stamp: *nic_stamp,
            weight: 1,
        };
        (arrival, bytes)
    }
    fn send(&mut self, replies: &[Outgoing], mut stamp: impl FnMut(usize, &mut [u8])) -> io::Result<Sent> {
        for reply in replies {
            let bytes = &mut self.batch[usize::from(reply.index)].bytes;
            stamp(usize::from(reply.index), bytes);
            self.port.0.borrow_mut().sent.push(bytes[..usize::from(reply.length)].to_vec());
        }
        Ok(Sent { sent: replies.len(), ..Sent::default() })
    }
}

/// A plain version 4 client request.
pub(crate) fn request(transmit: u64) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[0] = 0x23;
    bytes[40..].copy_from_slice(&transmit.to_be_bytes());
    bytes
}

/// A reply's fields, read by plain offsets: an oracle of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReplyView {
    pub(crate) leap: u8,
    pub(crate) version: u8,
    pub(crate) mode: u8,
    pub(crate) stratum: u8,
    pub(crate) root_delay: u32,
    pub(crate) root_dispersion: u32,
    pub(crate) reference_id: [u8; 4],
    pub(crate) reference: u64,
    pub(crate) origin: u64,
    pub(crate) receive: u64,
    pub(crate) transmit: u64,
}

impl ReplyView {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        assert_eq!(bytes.len(), 48, "a reply has 48 octets");
        let long = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let short = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        Self {
            leap: bytes[0] >> 6,
            version: (bytes[0] >> 3) & 7,
            mode: bytes[0] & 7,
            stratum: bytes[1],
            root_delay: short(4),
            root_dispersion: short(8),
            reference_id: bytes[12..16].try_into().unwrap(),
            reference: long(16),
            origin: long(24),
            receive: long(32),
            transmit: long(40),
        }
    }
    pub(crate) fn synchronised(&self) -> bool {
        self.leap != 3 && self.stratum != 0
    }
    /// How far off the server says that it can be, as a client takes it (RFC 5905 §10), less the way to the client.
    pub(crate) fn distance_ns(&self) -> i64 {
        let short_ns = |short: u32| (i64::from(short) * 1_000_000_000) >> 16;
        short_ns(self.root_dispersion) + short_ns(self.root_delay) / 2
    }
}

/// How far an NTP timestamp is from nanoseconds since 1970, taken in the era of the latter, in nanoseconds.
pub(crate) fn error_ns(timestamp: u64, unix_ns: i64) -> i64 {
    let seconds = unix_ns.div_euclid(1_000_000_000) + 2_208_988_800;
    let fraction = (i128::from(unix_ns.rem_euclid(1_000_000_000)) << 32) / 1_000_000_000;
    let expected = ((i128::from(seconds) << 32) + fraction) as u64;
    let difference = timestamp.wrapping_sub(expected) as i64;
    ((i128::from(difference) * 1_000_000_000) >> 32) as i64
}
