//! The whole packet flow with stamps of NICs, under clocks that the test sets: a NIC whose clock is 37 s and 5 ppm off, and NICs
//! that give stamps which can't be. The receive timestamp is compared with what the test knows to be true, at every reply.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use maser::count::{Counts, Event, Told, Way};
use maser::worker::{Worker, WorkerNic};
use maser_core::refclock::{MachineClock, MachineReading, PendingLeap};
use maser_core::snapshot::Snapshot;
use maser_core::time::{PhcLine, Span};
use maser_sys::datagram::{NicStamp, Wait};
use maser_sys::phc_cell::{PhcWriter, phc_cell};
use maser_sys::snapshot_cell::{Writer, snapshot_cell};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use support::{INTERFACE, Machine, MemoryPort, ReplyView, error_ns, request};

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
const BEGIN_NS: i64 = 1_795_000_000 * SECOND;

/// What a frame of 94 octets with its check sequence takes at 1 Gb/s.
const FRAME_NS: i64 = 752;
/// From the frame's end to the kernel's stamp, and from there to the worker.
const KERNELS_NS: i64 = 30_000;
const WORKERS_NS: i64 = 10_000;

/// What a NIC says in the place of what its clock did.
type Lie = (&'static str, fn(i64) -> i64);

/// A NIC and its clock.
struct Nic {
    interface: u32,
    cell: PhcWriter,
    off_ns: i64,
    ppm: i64,
}

impl Nic {
    fn new(interface: u32, off_ns: i64, ppm: i64) -> (Self, WorkerNic) {
        let (cell, line) = phc_cell();
        let link_mbps = Arc::new(AtomicU32::new(1_000));
        (
            Self { interface, cell, off_ns, ppm },
            WorkerNic { interface, receives: true, sends: true, line, link_mbps },
        )
    }

    /// What its clock says so long after the begin.
    fn nanos(&self, realtime_ns: i64) -> i64 {
        let elapsed_ns = realtime_ns - BEGIN_NS;
        realtime_ns
            + self.off_ns
            + elapsed_ns / 1_000_000 * self.ppm
            + elapsed_ns % 1_000_000 * self.ppm / 1_000_000
    }

    /// Its line as it is followed; the machine's counter counts nanoseconds.
    fn follow(&mut self, machine: &Machine) {
        use maser::worker::Clocks;
        let (now, origin_ns) = (machine.now(), self.nanos(machine.realtime_ns()));
        let mut line = PhcLine::through(now, origin_ns, SECOND, SECOND + self.ppm * 1_000).unwrap();
        (line.error_ticks, line.valid_until) = (100, now.offset(SECOND));
        self.cell.publish(&line);
    }

    fn stamp(&self, nanos: i64) -> Option<NicStamp> {
        Some(NicStamp { nanos, interface: self.interface, frame_octets: 90 })
    }
}

/// A server over a machine in the test's hands.
struct Rig<'a> {
    machine: Machine,
    port: MemoryPort,
    worker: Worker<'a, support::WorkerEnd, Machine>,
    clock: MachineClock,
    cell: Writer,
}

impl<'a> Rig<'a> {
    fn new(nics: Vec<WorkerNic>, counts: &'a Counts) -> Self {
        let (machine, port) = (Machine::at(BEGIN_NS), MemoryPort::default());
        let (cell, reader) = snapshot_cell(&Snapshot::UNKNOWN);
        let worker = Worker::new(port.worker_end(), reader, machine.clone(), counts, 64).believing(nics);
        let clock = support::machine_clock();
        Self { machine, port, worker, clock, cell }
    }

    fn beat(&mut self) {
        use maser::worker::Clocks;
        let reading = MachineReading {
            clock: self.machine.reading(),
            synchronised: true,
            error_max: Span::from_nanos(2 * MS),
            leap: PendingLeap::None,
        };
        if let Some(snapshot) = self.clock.update(&reading).snapshot {
            self.cell.publish(&snapshot);
        }
    }

    /// A request whose last bit comes now, and whose first bit the NIC stamped as it does; how far off the receive
    /// timestamp of its reply is.
    fn ask(&mut self, stamp: impl FnOnce(i64) -> Option<NicStamp>) -> i64 {
        let arrived_ns = self.machine.realtime_ns();
        let stamp = stamp(arrived_ns - FRAME_NS);
        self.machine.pass_ns(KERNELS_NS + WORKERS_NS);
        self.port.arrive_stamped(&request(7), arrived_ns + KERNELS_NS, stamp);
        assert_eq!(self.worker.batch(Wait::Poll).unwrap(), 1);
        let reply = ReplyView::of(&self.port.take_sent()[0]);
        assert!(reply.synchronised(), "{reply:?}");
        error_ns(reply.receive, arrived_ns)
    }
}

#[test]
fn a_nic_that_is_37_s_and_5_ppm_off_says_when_a_frame_was_there() {
    for (off_ns, ppm) in [(37 * SECOND, 5), (-37 * SECOND, -5), (0, 0), (-BEGIN_NS, 500)] {
        let counts = Counts::default();
        let (mut nic, given) = Nic::new(INTERFACE, off_ns, ppm);
        let mut rig = Rig::new(vec![given], &counts);
        for _ in 0..1_000 {
            rig.beat();
            nic.follow(&rig.machine);
            let off = rig.ask(|begun_ns| nic.stamp(nic.nanos(begun_ns)));
            assert!(off.abs() <= 5, "{off} ns");
            rig.machine.pass_ns(100 * MS);
        }
        assert_eq!(counts.of_nic(0, Way::Received)[Told::Used as usize], 1_000);
        // The kernel's stamp, which is used without, is no nearer than it is late.
        let off = rig.ask(|_| None);
        assert!((off - KERNELS_NS).abs() <= 5, "{off} ns");
        assert_eq!(counts.of(Event::NicStampMissing), 1);
    }
}

#[test]
fn what_cannot_be_true_is_left_for_the_kernels_stamp_and_counted() {
    let counts = Counts::default();
    let (mut nic, given) = Nic::new(INTERFACE, 37 * SECOND, 5);
    let mut rig = Rig::new(vec![given], &counts);
    rig.beat();
    nic.follow(&rig.machine);
    assert!(rig.ask(|begun_ns| nic.stamp(nic.nanos(begun_ns))).abs() <= 5);
    let lies: [Lie; 9] = [
        ("zero", |_| 0),
        ("one", |_| 1),
        ("the end of time", |_| i64::MAX),
        ("a second ahead", |true_ns| true_ns + SECOND),
        ("37 s ahead", |true_ns| true_ns + 37 * SECOND),
        ("as far ahead as the worker is late", |true_ns| true_ns + KERNELS_NS + WORKERS_NS + FRAME_NS),
        ("after the kernel's", |true_ns| true_ns + KERNELS_NS + FRAME_NS + 3_000),
        ("11 ms old", |true_ns| true_ns - 11 * MS),
        ("a second old", |true_ns| true_ns - SECOND),
    ];
    for (name, lie) in lies {
        let off = rig.ask(|begun_ns| nic.stamp(lie(nic.nanos(begun_ns))));
        assert!((off - KERNELS_NS).abs() <= 5, "{name}: {off} ns");
    }
    assert_eq!(counts.of(Event::NicStampImplausible), lies.len() as u64);
    // That of the packet before, which came just before it.
    let last_ns = nic.nanos(rig.machine.realtime_ns() - FRAME_NS);
    assert!(rig.ask(|_| nic.stamp(last_ns)).abs() <= 5);
    assert!((rig.ask(|_| nic.stamp(last_ns)) - KERNELS_NS).abs() <= 5);
    assert_eq!(counts.of(Event::NicStampImplausible), lies.len() as u64 + 1);
    // One whose clock nobody follows any more.
    rig.machine.pass_ns(2 * SECOND);
    rig.beat();
    assert!((rig.ask(|begun_ns| nic.stamp(nic.nanos(begun_ns))) - KERNELS_NS).abs() <= 5);
    assert_eq!(counts.of(Event::NicStampUnplaced), 1);
    nic.follow(&rig.machine);
    assert!(rig.ask(|begun_ns| nic.stamp(nic.nanos(begun_ns))).abs() <= 5, "and is followed again");
}

#[test]
fn each_nic_has_a_clock_of_its_own() {
    let counts = Counts::default();
    let (mut first, given) = Nic::new(INTERFACE, 37 * SECOND, 5);
    let (mut second, other) = Nic::new(INTERFACE + 4, -500 * SECOND, -80);
    let mut rig = Rig::new(vec![given, other], &counts);
    for _ in 0..100 {
        rig.beat();
        for nic in [&mut first, &mut second] {
            nic.follow(&rig.machine);
            let off = rig.ask(|begun_ns| nic.stamp(nic.nanos(begun_ns)));
            assert!(off.abs() <= 5, "{off} ns");
        }
        rig.machine.pass_ns(300 * MS);
    }
    let used = |nic| counts.of_nic(nic, Way::Received)[Told::Used as usize];
    assert_eq!((used(0), used(1)), (100, 100));
    // Shows that the clocks are told apart: the one's stamp under the other's name isn't believed.
    let off = rig.ask(|begun_ns| second.stamp(first.nanos(begun_ns)));
    assert!((off - KERNELS_NS).abs() <= 5, "{off} ns");
}

#[test]
fn a_step_of_the_machines_clock_leaves_a_nics_stamp_as_good_as_it_was() {
    let counts = Counts::default();
    let (mut nic, given) = Nic::new(INTERFACE, 37 * SECOND, 0);
    let mut rig = Rig::new(vec![given], &counts);
    rig.beat();
    nic.follow(&rig.machine);
    rig.ask(|begun_ns| nic.stamp(nic.nanos(begun_ns)));
    // The served clock is the old one until the next beat, and so is the NIC's line.
    rig.machine.step_ns(-700 * MS);
    let off = rig.ask(|begun_ns| nic.stamp(nic.nanos(begun_ns + 700 * MS)));
    assert!((off - 700 * MS).abs() <= 5, "{off} ns");
    assert_eq!((counts.of(Event::StampClockStepped), counts.of(Event::NicStampUsed)), (1, 2));
}
