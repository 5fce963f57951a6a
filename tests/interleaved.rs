//! Interleaved mode (RFC 9769) and transmit timestamps that say when replies leave, through a whole worker over a port that
//! knows when they do.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "interleaved/conversation.rs"]
mod conversation;
#[path = "interleaved/correction.rs"]
mod correction;
#[path = "interleaved/port.rs"]
mod port;
mod support;

use maser::count::{Counts, Event};
use maser::worker::{Clocks, Smearing, Worker};
use maser_core::refclock::{MachineClock, MachineReading, PendingLeap};
use maser_core::snapshot::Snapshot;
use maser_core::time::{Smear, Span};
use maser_sys::datagram::{Departed, Wait};
use maser_sys::snapshot_cell::{Reader, Writer, snapshot_cell};
use port::{End, Wires, realtime};
use std::net::SocketAddr;
use std::time::Duration;
use support::{Machine, ReplyView, error_ns};

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
/// 2026-12-22: nothing happens to UTC then.
const BEGIN: i64 = 1_797_900_000 * SECOND;
/// The socket of a listener that smears leap seconds; socket 0's is plain.
const SMEARING: u16 = 1;
const CLIENTS: usize = 1_000;
const KEY: u64 = 0x0123_4567_89AB_CDEF;

/// A server over a machine and a network in the test's hands.
struct Rig<'a> {
    machine: Machine,
    wires: Wires,
    worker: Worker<'a, End, Machine>,
    clock: MachineClock,
    cell: Writer,
    reader: Reader,
    counts: &'a Counts,
    leap: PendingLeap,
}

impl<'a> Rig<'a> {
    fn new(counts: &'a Counts) -> Self {
        Self::at(BEGIN, counts, CLIENTS, false)
    }

    fn at(unix_ns: i64, counts: &'a Counts, clients: usize, corrects: bool) -> Self {
        let machine = Machine::at(unix_ns);
        let wires = Wires::new(machine.clone());
        let (cell, reader) = snapshot_cell(&Snapshot::UNKNOWN);
        let worker = worker(&wires, reader.clone(), &machine, counts, clients).correcting(corrects);
        let clock = support::machine_clock();
        Self { machine, wires, worker, clock, cell, reader, counts, leap: PendingLeap::None }
    }

    /// The server starts anew, with the same clock.
    fn restart(&mut self) {
        self.worker = worker(&self.wires, self.reader.clone(), &self.machine, self.counts, CLIENTS);
    }

    /// One beat of the pulse.
    fn beat(&mut self) {
        let clock = self.machine.reading();
        let error_max = Span::from_nanos(2 * MS);
        let reading = MachineReading { clock, synchronised: true, error_max, leap: self.leap };
        if let Some(snapshot) = self.clock.update(&reading).snapshot {
            self.cell.publish(&snapshot);
        }
    }

    /// These requests arrive together, wait 40 µs, and are answered.
    fn ask_all(&mut self, requests: &[(SocketAddr, u16, [u8; 48])]) -> Vec<ReplyView> {
        let arrived_ns = self.machine.realtime_ns();
        for (from, socket, request) in requests {
            self.wires.arrive(*from, *socket, request, arrived_ns);
        }
        self.machine.pass_ns(40_000);
        while self.worker.batch(Wait::Poll).unwrap() > 0 {}
        let sent = self.wires.take_sent();
        assert_eq!(sent.len(), requests.len(), "every request is answered");
        sent.iter().map(|(_, reply)| ReplyView::of(reply)).collect()
    }

    fn ask(&mut self, from: SocketAddr, request: [u8; 48]) -> ReplyView {
        self.ask_all(&[(from, 0, request)])[0]
    }

    fn left_ns(&self, name: u64) -> i64 {
        self.wires.0.borrow().left_ns[&name]
    }

    fn count(&self, event: Event) -> u64 {
        self.counts.of(event)
    }
}

fn worker<'a>(
    wires: &Wires,
    reader: Reader,
    machine: &Machine,
    counts: &'a Counts,
    clients: usize,
) -> Worker<'a, End, Machine> {
    let smearing = Smearing { smear: Smear::over(Span::from_seconds(86_400)), first_socket: SMEARING };
    Worker::new(wires.worker_end(), reader, machine.clone(), counts, 64)
        .smearing(Some(smearing))
        .interleaving(clients, KEY)
}

fn client(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 40_000))
}

/// A client's request: its version and mode, and three timestamps.
fn request(first: u8, origin: u64, receive: u64, transmit: u64) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[0] = first;
    for (at, timestamp) in [(24, origin), (32, receive), (40, transmit)] {
        bytes[at..at + 8].copy_from_slice(&timestamp.to_be_bytes());
    }
    bytes
}

const V4_CLIENT: u8 = 0x23;

/// What chronyd's client sends next in interleaved mode: the server's receive timestamp back.
fn next(reply: &ReplyView, number: u64) -> [u8; 48] {
    request(V4_CLIENT, reply.receive, 0xAAAA_0000_0000_0000 | number, 0xBBBB_0000_0000_0000 | number)
}

/// Asserts that `reply` answers `request` in interleaved mode, and says that the reply before left at `left_ns`.
fn assert_interleaved(reply: &ReplyView, request: &[u8; 48], left_ns: i64) {
    assert_eq!(reply.origin.to_be_bytes(), request[32..40], "interleaved: {reply:?}");
    let off = error_ns(reply.transmit, left_ns);
    assert!(off.abs() <= 2, "it left {off} ns earlier");
    assert_eq!((reply.receive & 1, reply.transmit & 1), (1, 0));
}

/// Asserts that `reply` answers `request` in basic mode, with a transmit timestamp within 10 µs of `now_ns`.
fn assert_basic(reply: &ReplyView, request: &[u8; 48], now_ns: i64) {
    assert_eq!(reply.origin.to_be_bytes(), request[40..48], "basic: {reply:?}");
    assert!(error_ns(reply.transmit, now_ns).abs() <= 10_000);
}

/// A client's first two exchanges, after which the server knows that it interleaves.
fn acquainted(rig: &mut Rig, from: SocketAddr) -> ReplyView {
    let first = rig.ask(from, request(V4_CLIENT, 0, 0, 0xBBBB_0000_0000_0001));
    rig.ask(from, next(&first, 2))
}

#[test]
fn a_client_that_interleaves_is_told_when_the_reply_before_left() {
    let counts = Counts::default();
    let mut rig = Rig::new(&counts);
    rig.beat();
    let first = rig.ask(client(1), request(V4_CLIENT, 0, 0, 7));
    assert_basic(&first, &request(V4_CLIENT, 0, 0, 7), rig.machine.realtime_ns());
    assert_eq!(rig.count(Event::DepartureAsked), 0, "nothing is kept for a client that doesn't ask for it");
    let second = next(&first, 2);
    let mut last = rig.ask(client(1), second);
    assert_basic(&last, &second, rig.machine.realtime_ns());
    for number in 3..50 {
        rig.machine.pass_ns(64 * SECOND / 10);
        rig.beat();
        let (request, arrived_ns) = (next(&last, number), rig.machine.realtime_ns());
        let reply = rig.ask(client(1), request);
        assert_interleaved(&reply, &request, rig.left_ns(last.receive));
        assert!(error_ns(reply.receive, arrived_ns).abs() <= 2);
        last = reply;
    }
    assert_eq!((rig.count(Event::Interleaved), rig.count(Event::Answered)), (47, 49));
    let told = [Event::DepartureAsked, Event::DepartureTold, Event::DepartureImplausible];
    assert_eq!(told.map(|event| rig.count(event)), [48, 48, 0]);
}

#[test]
fn the_oracle_finds_a_stamp_that_is_ten_nanoseconds_off() {
    let counts = Counts::default();
    let mut rig = Rig::new(&counts);
    rig.beat();
    let last = acquainted(&mut rig, client(1));
    let request = next(&last, 3);
    let reply = rig.ask(client(1), request);
    let left_ns = rig.left_ns(last.receive);
    assert_interleaved(&reply, &request, left_ns);
    let off = std::panic::catch_unwind(|| assert_interleaved(&reply, &request, left_ns + 10));
    assert!(off.is_err());
}

#[test]
fn other_requests_are_answered_in_basic_mode() {
    let counts = Counts::default();
    let mut rig = Rig::new(&counts);
    rig.beat();
    let last = acquainted(&mut rig, client(1));
    let name = last.receive;
    let others = [
        (client(2), request(V4_CLIENT, name, 8, 9), "another's address"),
        (client(1), request(V4_CLIENT, name, 9, 9), "receive and transmit are the same"),
        (client(1), request(V4_CLIENT, last.transmit, 8, 9), "it echoes the transmit timestamp"),
        (client(1), request(V4_CLIENT, name + 2, 8, 9), "a timestamp that was never sent"),
        (client(1), request(0x1B, name, 8, 9), "version 3"),
        (client(1), request(0x21, name, 8, 9), "symmetric active"),
    ];
    for (from, request, why) in others {
        println!("{why}");
        let reply = rig.ask(from, request);
        assert_basic(&reply, &request, rig.machine.realtime_ns());
    }
    assert_eq!(rig.count(Event::Interleaved), 0);
    let other_port = SocketAddr::new(client(1).ip(), 50_001);
    let good = next(&last, 3);
    assert_interleaved(&rig.ask(other_port, good), &good, rig.left_ns(name));
    // The very request again, as somebody may who saw it.
    let replayed = rig.ask(client(1), good);
    assert_basic(&replayed, &good, rig.machine.realtime_ns());
}

#[test]
fn a_step_a_restart_and_an_unsynchronised_clock_end_in_basic_mode() {
    let counts = Counts::default();
    let mut rig = Rig::new(&counts);
    rig.beat();
    let last = acquainted(&mut rig, client(1));
    rig.machine.step_ns(30 * MS);
    rig.beat();
    let good = next(&last, 3);
    let last = rig.ask(client(1), good);
    assert_basic(&last, &good, rig.machine.realtime_ns());
    rig.machine.pass_ns(2 * SECOND);
    rig.beat();
    let last = rig.ask(client(1), next(&last, 4));
    assert_eq!(
        rig.count(Event::Interleaved),
        0,
        "a departure by a clock that was just stepped isn't believed"
    );
    rig.restart();
    let good = next(&last, 5);
    let last = rig.ask(client(1), good);
    assert_basic(&last, &good, rig.machine.realtime_ns());
    let asked = rig.count(Event::DepartureAsked);
    rig.machine.pass_ns(9 * SECOND);
    let unsynchronised = rig.ask(client(1), next(&last, 6));
    assert!(!unsynchronised.synchronised());
    assert_eq!((rig.count(Event::DepartureAsked), rig.count(Event::Interleaved)), (asked, 0));
}

#[test]
fn departures_that_come_late_twice_never_or_for_nobody_do_no_harm() {
    let counts = Counts::default();
    let mut rig = Rig::new(&counts);
    rig.beat();
    rig.wires.0.borrow_mut().tells_at_once = false;
    let last = acquainted(&mut rig, client(1));
    // Not told yet when the client comes back.
    let early = next(&last, 3);
    let second = rig.ask(client(1), early);
    assert_basic(&second, &early, rig.machine.realtime_ns());
    let told: Vec<Departed> = rig.wires.0.borrow_mut().to_tell.drain(..).collect();
    assert_eq!(told.iter().map(|told| told.name).collect::<Vec<_>>(), [last.receive, second.receive]);
    let stranger = Departed { name: 0x1111_1111, ..told[0] };
    rig.wires.0.borrow_mut().to_tell = vec![stranger, told[1], told[1], told[0]];
    rig.wires.0.borrow_mut().tells_at_once = true;
    assert_eq!(rig.worker.batch(Wait::Poll).unwrap(), 0, "while nothing comes");
    assert_eq!((rig.count(Event::DepartureTold), rig.count(Event::DepartureImplausible)), (4, 2));
    let good = next(&second, 4);
    assert_interleaved(&rig.ask(client(1), good), &good, rig.left_ns(second.receive));
}

#[test]
fn a_departure_that_cant_be_is_counted_and_not_told() {
    let shifts: [(i64, &str); 4] = [
        (-10_000, "before it was written"),
        (2_000, "in the future"),
        (-30 * MS, "long ago"),
        (SECOND, "a second ahead"),
    ];
    for (shift_ns, what) in shifts {
        let counts = Counts::default();
        let mut rig = Rig::new(&counts);
        rig.beat();
        rig.wires.0.borrow_mut().tells_at_once = false;
        let last = acquainted(&mut rig, client(1));
        let left_ns = rig.left_ns(last.receive);
        let told = Departed {
            name: last.receive,
            stamp: realtime(left_ns + shift_ns),
            interface: 0,
            nic_stamp: None,
        };
        rig.wires.0.borrow_mut().to_tell = vec![told];
        rig.wires.0.borrow_mut().tells_at_once = true;
        rig.worker.batch(Wait::Poll).unwrap();
        assert_eq!(
            (rig.count(Event::DepartureTold), rig.count(Event::DepartureImplausible)),
            (1, 1),
            "{what}"
        );
        let good = next(&last, 3);
        assert_basic(&rig.ask(client(1), good), &good, rig.machine.realtime_ns());
    }
}

#[test]
fn a_worker_that_waits_looks_soon_for_what_it_asked_and_then_less_often() {
    let counts = Counts::default();
    let mut rig = Rig::new(&counts);
    rig.beat();
    rig.wires.0.borrow_mut().tells_at_once = false;
    acquainted(&mut rig, client(1));
    let usual = Duration::from_millis(100);
    let mut waits = Vec::new();
    for _ in 0..40 {
        rig.worker.batch(Wait::Until(usual)).unwrap();
        let wait = rig.wires.0.borrow().last_wait.unwrap();
        rig.machine.pass_ns(i64::try_from(wait.as_nanos()).unwrap());
        waits.push(wait);
    }
    assert!(waits[0] <= Duration::from_millis(4), "{waits:?}");
    assert!(waits.iter().filter(|wait| **wait < usual).count() < 10, "{waits:?}");
    // After two seconds nobody waits for it any more.
    rig.wires.0.borrow_mut().tells_at_once = true;
    rig.worker.batch(Wait::Until(usual)).unwrap();
    assert_eq!(rig.count(Event::DepartureTold), 0);
}

#[test]
fn in_full_batches_strangers_wait_and_those_who_come_back_dont() {
    let counts = Counts::default();
    let mut rig = Rig::new(&counts);
    rig.beat();
    let last = acquainted(&mut rig, client(1));
    let asked = rig.count(Event::DepartureAsked);
    let stranger = |number| (client(number), 0, request(V4_CLIENT, 0x1234_5677, 8, 9));
    let full: Vec<_> = (100..163).map(stranger).chain([(client(1), 0, next(&last, 3))]).collect();
    let replies = rig.ask_all(&full);
    assert_interleaved(replies.last().unwrap(), &full.last().unwrap().2, rig.left_ns(last.receive));
    assert_eq!(rig.count(Event::DepartureAsked) - asked, 8 + 1);
    let asked = rig.count(Event::DepartureAsked);
    rig.ask_all(&full[..63]);
    assert_eq!(rig.count(Event::DepartureAsked) - asked, 63);
}

#[test]
fn a_batch_that_is_not_sent_leaves_nothing_outstanding() {
    let counts = Counts::default();
    let mut rig = Rig::new(&counts);
    rig.beat();
    let last = acquainted(&mut rig, client(1));
    rig.machine.preempt_after_reading_ns(SECOND / 2);
    rig.wires.arrive(client(1), 0, &next(&last, 3), rig.machine.realtime_ns());
    rig.worker.batch(Wait::Until(Duration::from_millis(100))).unwrap();
    assert_eq!((rig.count(Event::BatchOvertaken), rig.count(Event::Interleaved)), (1, 0));
    rig.worker.batch(Wait::Until(Duration::from_millis(100))).unwrap();
    assert_eq!(rig.wires.0.borrow().last_wait, Some(Duration::from_millis(100)));
}

#[test]
fn a_listener_that_smears_tells_what_it_would_have_said() {
    let counts = Counts::default();
    // 2027-01-01, an inserted second before: two hours into the smear.
    let noon = (20_819 * 86_400 - 43_200) * SECOND;
    let mut rig = Rig::at(noon + 7_200 * SECOND, &counts, CLIENTS, false);
    rig.leap = PendingLeap::Insert;
    rig.beat();
    let from = client(1);
    let ask = |rig: &mut Rig, socket, request| rig.ask_all(&[(from, socket, request)])[0];
    let first = ask(&mut rig, SMEARING, request(V4_CLIENT, 0, 0, 7));
    let second = ask(&mut rig, SMEARING, next(&first, 2));
    let third = next(&second, 3);
    let crossed = ask(&mut rig, 0, third);
    assert_basic(&crossed, &third, rig.machine.realtime_ns());
    let reply = ask(&mut rig, SMEARING, third);
    let behind_ns = |left_ns: i64| (left_ns - noon) / 86_401;
    let left_ns = rig.left_ns(second.receive);
    assert!(behind_ns(left_ns) > 80 * MS, "it matters");
    assert_interleaved(&reply, &third, left_ns - behind_ns(left_ns));
}

#[test]
fn a_hundred_thousand_clients_interleave_at_one_worker() {
    const MANY: u32 = 100_000;
    let counts = Counts::default();
    let mut rig = Rig::at(BEGIN, &counts, 100_000, true);
    let mut last: Vec<Option<ReplyView>> = vec![None; 100_000];
    for round in 0..4_u64 {
        rig.beat();
        let before = rig.count(Event::Interleaved);
        let numbers: Vec<u32> = (0..MANY).collect();
        // Batches of 50, so that the worker isn't overloaded; of 64 it would be.
        for batch in numbers.chunks(50) {
            let of = |number: &u32| {
                let known = last[*number as usize];
                let bytes = known.map_or(request(V4_CLIENT, 0, 0, 7), |known| next(&known, round));
                (client(*number), 0, bytes)
            };
            let requests: Vec<_> = batch.iter().map(of).collect();
            let replies = rig.ask_all(&requests);
            for ((number, reply), (_, _, request)) in batch.iter().zip(replies).zip(&requests) {
                let known = last[*number as usize].replace(reply);
                if reply.origin.to_be_bytes() == request[32..40] && round > 0 {
                    assert_interleaved(&reply, request, rig.left_ns(known.unwrap().receive));
                }
            }
        }
        let interleaved = rig.count(Event::Interleaved) - before;
        println!("round {round}: {interleaved} of {MANY} interleaved");
        assert_eq!(interleaved >= 99_000, round >= 2, "{interleaved} in round {round}");
        rig.machine.pass_ns(SECOND);
    }
}
