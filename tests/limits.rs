//! The packet flow under limits, in memory and under clocks that the test sets: who is answered, kissed, or gets silence,
//! and that each packet is counted once.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use maser::count::{Counts, Event};
use maser::port::Port;
use maser::worker::{Limits, Worker};
use maser_core::limit::Rules;
use maser_core::limit::hash::Key;
use maser_core::limit::overload::LEVEL;
use maser_core::refclock::{MachineReading, PendingLeap};
use maser_core::snapshot::Snapshot;
use maser_core::time::Span;
use maser_sys::datagram::{Arrival, Outgoing, Sent, Wait};
use maser_sys::limit_table::{self, SharedTable};
use maser_sys::snapshot_cell::{Reader, snapshot_cell};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use support::{Machine, MemoryPort, ReplyView, WorkerEnd, machine_clock, request};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_795_000_000 * SECOND;
const BATCH: usize = 512;

fn limits() -> Limits {
    Limits {
        table: limit_table::memory(1 << 20).and_then(SharedTable::of_memory).unwrap(),
        key: Key { k0: 1, k1: 2 },
        rules: Rules::USUAL,
        driver: true,
    }
}

/// What the machine's own clock says now.
fn snapshots(machine: &Machine) -> Reader {
    let (mut cell, reader) = snapshot_cell(&Snapshot::UNKNOWN);
    let reading = MachineReading {
        clock: maser::worker::Clocks::reading(machine),
        synchronised: true,
        error_max: Span::from_nanos(1_000_000),
        leap: PendingLeap::None,
    };
    cell.publish(&machine_clock().update(&reading).snapshot.unwrap());
    reader
}

/// Counters that aren't 0.
fn counted(counts: &Counts) -> Vec<(&'static str, u64)> {
    counts.answers().chain(counts.drops()).filter(|(_, count)| *count > 0).collect()
}

fn from(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 40_000))
}

/// `each` requests of so many clients in one batch, and the replies.
fn ask<P: Port>(
    port: &MemoryPort,
    worker: &mut Worker<'_, P, Machine>,
    now_ns: i64,
    clients: impl Iterator<Item = u8>,
    each: u64,
) -> Vec<ReplyView> {
    for client in clients {
        (0..each).for_each(|number| port.arrive_from(from(client), &request(1 + number), now_ns));
    }
    worker.batch(Wait::Poll).unwrap();
    port.take_sent().iter().map(|reply| ReplyView::of(reply)).collect()
}

#[test]
fn one_that_asks_too_often_is_limited_and_kissed_once() {
    let (machine, port, counts) = (Machine::at(START), MemoryPort::default(), Counts::default());
    let reader = snapshots(&machine);
    let mut worker = Worker::new(port.worker_end(), reader, machine.clone(), &counts, BATCH)
        .interleaving(1_000, 1)
        .limiting(Some(limits()));
    let replies = ask(&port, &mut worker, machine.realtime_ns(), 7..8, 100);
    let (kisses, answers): (Vec<ReplyView>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.stratum == 0);
    assert!(answers.len() == 32 && answers.iter().all(ReplyView::synchronised));
    let [kiss] = kisses.try_into().unwrap();
    // The fourth that is refused.
    assert_eq!((kiss.leap, kiss.version, kiss.mode, kiss.reference_id, kiss.origin), (3, 4, 4, *b"RATE", 36));
    assert_eq!(counted(&counts), [("answered", 32), ("kissed", 1), ("rate-limited", 67)]);
    // Another isn't concerned, and a second is worth eight requests less what rounding takes.
    assert_eq!(ask(&port, &mut worker, machine.realtime_ns(), 8..9, 4).len(), 4);
    machine.pass_ns(SECOND);
    let replies = ask(&port, &mut worker, machine.realtime_ns(), 7..8, 8);
    assert_eq!(replies.iter().filter(|reply| reply.synchronised()).count(), 7);
}

#[test]
fn without_limits_all_are_answered() {
    let (machine, port, counts) = (Machine::at(START), MemoryPort::default(), Counts::default());
    let mut worker = Worker::new(port.worker_end(), snapshots(&machine), machine.clone(), &counts, BATCH);
    assert_eq!(ask(&port, &mut worker, START, 7..8, 500).len(), 500);
    assert_eq!(counted(&counts), [("answered", 500)]);
}

/// Peers, old versions and what isn't a request are never kissed, and garbage isn't charged to anybody.
#[test]
fn only_clients_are_kissed() {
    for (first, limited) in
        [(0x21_u8, true), (0x19, true), (0x08, true), (0x0B, true), (0x24, false), (0x17, false)]
    {
        let (machine, port, counts) = (Machine::at(START), MemoryPort::default(), Counts::default());
        let mut worker = Worker::new(port.worker_end(), snapshots(&machine), machine.clone(), &counts, BATCH)
            .limiting(Some(limits()));
        let mut message = request(1);
        message[0] = first;
        (0..200).for_each(|_| port.arrive(&message, START));
        worker.batch(Wait::Poll).unwrap();
        let sent = port.take_sent().len();
        assert_eq!((sent, counts.of(Event::Kissed)), (if limited { 32 } else { 0 }, 0), "{first:#x}");
        let replies = ask(&port, &mut worker, START, 7..8, 1);
        assert_eq!(replies.iter().any(ReplyView::synchronised), !limited, "{first:#x}");
    }
}

/// Who knows nothing of the time limits all the same.
#[test]
fn unsynchronised_replies_are_limited_alike() {
    let (machine, port, counts) = (Machine::at(START), MemoryPort::default(), Counts::default());
    let (_cell, reader) = snapshot_cell(&Snapshot::UNKNOWN);
    let mut worker = Worker::new(port.worker_end(), reader, machine, &counts, BATCH).limiting(Some(limits()));
    let replies = ask(&port, &mut worker, START, 7..8, 100);
    assert_eq!(replies.iter().filter(|reply| reply.reference_id == *b"RATE").count(), 1);
    let wanted = [("answered-unsynchronised", 32), ("kissed", 1), ("rate-limited", 67)];
    assert_eq!(counted(&counts), wanted);
}

#[test]
fn workers_that_share_a_table_share_the_limit() {
    let (machine, limits) = (Machine::at(START), limits());
    let ports = [MemoryPort::default(), MemoryPort::default()];
    let counts = [Counts::default(), Counts::default()];
    for (port, counts) in ports.iter().zip(&counts) {
        let mut worker = Worker::new(port.worker_end(), snapshots(&machine), machine.clone(), counts, BATCH)
            .limiting(Some(limits.clone()));
        ask(port, &mut worker, START, 7..8, 20);
    }
    assert_eq!(counted(&counts[0]), [("answered", 20)]);
    assert_eq!(counted(&counts[1]), [("answered", 12), ("kissed", 1), ("rate-limited", 7)]);
}

#[test]
fn a_prefix_is_limited_as_a_whole() {
    let (machine, port, counts) = (Machine::at(START), MemoryPort::default(), Counts::default());
    let mut worker = Worker::new(port.worker_end(), snapshots(&machine), machine.clone(), &counts, 8_192)
        .limiting(Some(limits()));
    ask(&port, &mut worker, START, 0..=255, 30);
    assert_eq!(counted(&counts), [("answered", 1_024), ("prefix-limited", 256 * 30 - 1_024)]);
}

/// A port whose ring is as full as is said.
struct Crowded {
    port: WorkerEnd,
    waiting: Rc<Cell<u32>>,
    /// What it was told to drop, in turn.
    floors: Rc<RefCell<Vec<u32>>>,
    /// And whether few are refused, last.
    few_refused: Rc<Cell<bool>>,
    /// How many each request stands for.
    weight: Rc<Cell<u16>>,
}

impl Port for Crowded {
    const SEND_CHUNK: u32 = WorkerEnd::SEND_CHUNK;

    fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        self.port.receive(wait)
    }
    fn receive_failures(&self) -> u64 {
        0
    }
    fn backlog(&mut self) -> Option<(u32, u32)> {
        Some((self.waiting.get(), 100))
    }
    fn set_floor(&mut self, floor: u32) {
        self.floors.borrow_mut().push(floor);
    }
    fn set_few_refused(&mut self, few: bool) {
        self.few_refused.set(few);
    }
    fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        let (arrival, octets) = self.port.datagram(index);
        (Arrival { weight: self.weight.get(), ..arrival }, octets)
    }
    fn send(&mut self, replies: &[Outgoing], stamp: impl FnMut(usize, &mut [u8])) -> io::Result<Sent> {
        self.port.send(replies, stamp)
    }
}

#[test]
fn a_full_ring_raises_the_floor_and_rest_lowers_it() {
    let (machine, port, counts) = (Machine::at(START), MemoryPort::default(), Counts::default());
    let (waiting, floors) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
    let crowded = Crowded {
        port: port.worker_end(),
        waiting: Rc::clone(&waiting),
        floors: Rc::clone(&floors),
        few_refused: Rc::default(),
        weight: Rc::new(Cell::new(1)),
    };
    let mut worker =
        Worker::new(crowded, snapshots(&machine), machine.clone(), &counts, BATCH).limiting(Some(limits()));
    ask(&port, &mut worker, START, 1..2, 1);
    assert!(floors.borrow().is_empty());
    waiting.set(100);
    for number in 2..12 {
        machine.pass_ns(500_000);
        ask(&port, &mut worker, machine.realtime_ns(), number..number + 1, 1);
    }
    let floor = || *floors.borrow().last().unwrap();
    assert!(floor() > LEVEL && counts.of(Event::BatchOverloaded) == 10, "{}", floor());
    for _ in 0..20 {
        machine.pass_ns(SECOND);
        worker.batch(Wait::Poll).unwrap();
    }
    assert_eq!(floor(), 0, "it falls though nothing comes");
    assert!(floors.borrow().is_sorted_by_key(|floor| *floor == 0), "0 is told last");
}

#[test]
fn the_driver_looks_up_while_many_are_refused() {
    let (machine, port, counts) = (Machine::at(START), MemoryPort::default(), Counts::default());
    let (few_refused, weight) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(1)));
    let crowded = Crowded {
        port: port.worker_end(),
        waiting: Rc::default(),
        floors: Rc::default(),
        few_refused: Rc::clone(&few_refused),
        weight: Rc::clone(&weight),
    };
    let mut worker =
        Worker::new(crowded, snapshots(&machine), machine.clone(), &counts, BATCH).limiting(Some(limits()));
    // Each asks once in a while, until it is known that few are refused.
    for number in 0..6_000 {
        machine.pass_ns(5_000_000);
        let host = u8::try_from(number % 250).unwrap();
        ask(&port, &mut worker, machine.realtime_ns(), host..host + 1, 1);
        assert_eq!(few_refused.get(), number >= 4_096, "{number}");
    }
    assert!(counted(&counts).iter().all(|(name, _)| name.starts_with("answered")), "nobody was refused");
    // One asks too much.
    let mut asked = 0;
    while few_refused.get() {
        asked += 10;
        assert!(asked <= 500, "of {asked} all but 32 were refused");
        ask(&port, &mut worker, machine.realtime_ns(), 7..8, 10);
    }
    assert!(asked > 32, "so many are allowed at once");
    // All but one in 16 of another's are dropped in the driver: nobody would look them up if those weren't counted.
    weight.set(16);
    for number in 0..10_000 {
        machine.pass_ns(200_000_000);
        ask(&port, &mut worker, machine.realtime_ns(), 8..9, 1);
        assert!(!few_refused.get(), "{number}");
    }
}
