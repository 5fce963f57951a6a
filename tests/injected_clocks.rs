//! The whole packet flow under clocks that the test sets: era rollover, leap seconds, steps of `CLOCK_REALTIME`, a
//! dead writer. The served time is compared with what the test knows to be true, at every reply.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use maser::count::{Counts, Event};
use maser::worker::{Clocks, Smearing, Worker};
use maser_core::refclock::{MachineClock, MachineReading, PendingLeap};
use maser_core::snapshot::{Snapshot, VALIDITY};
use maser_core::time::{Smear, Span, UNIX_TO_NTP_S};
use maser_sys::datagram::Wait;
use maser_sys::snapshot_cell::{Writer, snapshot_cell};
use support::{Machine, MemoryPort, ReplyView, error_ns, request};

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
/// 2027-01-01 00:00:00 UTC.
const NEW_YEAR: i64 = 20_819 * 86_400;

/// The socket of a listener that smears leap seconds from noon to noon; socket 0's is plain.
const SMEARING: u16 = 1;
const DAY: i64 = 86_400;

/// A server over a machine in the test's hands.
struct Rig<'a> {
    machine: Machine,
    port: MemoryPort,
    worker: Worker<'a, support::WorkerEnd, Machine>,
    clock: MachineClock,
    cell: Writer,
    leap: PendingLeap,
    transmit: u64,
}

impl<'a> Rig<'a> {
    fn new(unix_ns: i64, counts: &'a Counts) -> Self {
        let machine = Machine::at(unix_ns);
        let port = MemoryPort::default();
        let (cell, reader) = snapshot_cell(&Snapshot::UNKNOWN);
        let smearing = Smearing { smear: Smear::over(Span::from_seconds(DAY)), first_socket: SMEARING };
        let worker = Worker::new(port.worker_end(), reader, machine.clone(), counts, 64);
        let worker = worker.smearing(Some(smearing));
        let clock = support::machine_clock();
        Self { machine, port, worker, clock, cell, leap: PendingLeap::None, transmit: 0 }
    }

    /// One beat of the pulse.
    fn beat(&mut self) {
        let reading = MachineReading {
            clock: self.machine.reading(),
            synchronised: true,
            error_max: Span::from_nanos(2 * MS),
            leap: self.leap,
        };
        if let Some(snapshot) = self.clock.update(&reading).snapshot {
            self.cell.publish(&snapshot);
        }
    }

    /// A request arrives, waits 40 µs, and is answered.
    fn ask(&mut self) -> ReplyView {
        let arrived_ns = self.machine.realtime_ns();
        self.machine.pass_ns(40_000);
        self.ask_with_stamp(arrived_ns)
    }

    fn ask_with_stamp(&mut self, stamp_ns: i64) -> ReplyView {
        let [reply] = self.ask_by([0], stamp_ns);
        reply
    }

    /// A request by each of these sockets, in one batch.
    fn ask_by<const N: usize>(&mut self, sockets: [u16; N], stamp_ns: i64) -> [ReplyView; N] {
        self.transmit += 1;
        for socket in sockets {
            self.port.arrive_by(socket, &request(self.transmit), stamp_ns);
        }
        assert_eq!(self.worker.batch(Wait::Poll).unwrap(), N);
        let sent: [_; N] = self.port.take_sent().try_into().expect("every request is answered");
        let replies = sent.map(|reply| ReplyView::of(&reply));
        assert!(replies.iter().all(|reply| reply.origin == self.transmit));
        replies
    }
}

/// Asserts that a reply is synchronised and right to `within_ns`, the request having arrived 40 µs ago.
fn assert_right(reply: &ReplyView, now_ns: i64, within_ns: i64) {
    assert!(reply.synchronised(), "{reply:?}");
    let (receive, transmit) = (error_ns(reply.receive, now_ns - 40_000), error_ns(reply.transmit, now_ns));
    assert!(receive.abs() <= within_ns, "receive is {receive} ns off");
    assert!(transmit.abs() <= within_ns, "transmit is {transmit} ns off");
    assert_eq!((reply.receive & 1, reply.transmit & 1), (1, 0));
}

#[test]
fn only_replies_with_a_time_count_as_residence() {
    let counts = Counts::default();
    let mut rig = Rig::new((NEW_YEAR - 900_000) * SECOND, &counts);
    let resided = || counts.residence().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
    assert!(!rig.ask().synchronised());
    assert_eq!(resided(), [], "nothing was known of the time");
    rig.beat();
    assert!(rig.ask().synchronised());
    assert!(matches!(resided()[..], [(from_ns, 1)] if from_ns > 0), "{:?}", resided());
}

#[test]
fn the_oracle_finds_a_planted_microsecond() {
    let counts = Counts::default();
    let mut rig = Rig::new((NEW_YEAR - 900_000) * SECOND, &counts);
    rig.beat();
    let reply = rig.ask();
    assert_right(&reply, rig.machine.realtime_ns(), 2);
    let planted =
        std::panic::catch_unwind(|| assert_right(&reply, 1_000 + (NEW_YEAR - 900_000) * SECOND + 40_000, 2));
    assert!(planted.is_err());
}

#[test]
fn replies_are_right_across_the_era() {
    let counts = Counts::default();
    let rollover = ((1_i64 << 32) - UNIX_TO_NTP_S) * SECOND;
    let mut rig = Rig::new(rollover - 500 * MS, &counts);
    let mut eras = [0, 0];
    for _ in 0..1_000 {
        if eras.iter().sum::<u64>() % 100 == 0 {
            rig.beat();
        }
        let reply = rig.ask();
        assert_right(&reply, rig.machine.realtime_ns(), 3);
        assert!(reply.transmit != 0 && reply.receive != 0);
        eras[usize::from(reply.transmit >> 63 == 0)] += 1;
        rig.machine.pass_ns(MS - 40_000);
    }
    assert!(eras[0] >= 499 && eras[1] >= 499, "both eras were served: {eras:?}");
}

/// Runs through the end of a year that ends with a leap second, the kernel acting 4 ms late as it may.
fn through_a_leap_second(leap: PendingLeap, count_moves_s: i64) {
    let counts = Counts::default();
    // Requests come 0.3 ms after each millisecond, so that none arrives at the very moment of the leap.
    let mut rig = Rig::new((NEW_YEAR - 3) * SECOND + 300_000, &counts);
    rig.leap = leap;
    // Inserted: at 00:00:00 by the plain count; deleted: at 23:59:59.
    let moves_at_ms = if count_moves_s < 0 { 3_000 } else { 2_000 };
    let mut true_ns = rig.machine.realtime_ns();
    for elapsed_ms in 0..6_000 {
        if elapsed_ms == moves_at_ms {
            true_ns += count_moves_s * SECOND;
        }
        if elapsed_ms == moves_at_ms + 4 {
            rig.machine.step_ns(count_moves_s * SECOND);
        }
        if elapsed_ms % 125 == 0 {
            rig.beat();
        }
        let reply = rig.ask();
        assert_right_or_split(&reply, true_ns + 40_000, elapsed_ms);
        let over_ms = if count_moves_s < 0 { moves_at_ms + 1_000 } else { moves_at_ms };
        let warning = if count_moves_s < 0 { 1 } else { 2 };
        let announced = if elapsed_ms < over_ms { warning } else { 0 };
        assert_eq!(reply.leap, announced, "after {elapsed_ms} ms");
        rig.machine.pass_ns(MS - 40_000);
        true_ns += MS;
    }
    assert_eq!(counts.of(Event::AnsweredUnsynchronised), 0);
}

/// Right to 100 ns: the kernel's own stamps are a second off for the milliseconds that it acts late, and what is
/// asked then is stamped by the batch's reading instead, 40 µs later.
fn assert_right_or_split(reply: &ReplyView, now_ns: i64, elapsed_ms: i64) {
    let transmit = error_ns(reply.transmit, now_ns);
    assert!(transmit.abs() <= 100, "after {elapsed_ms} ms transmit is {transmit} ns off");
    let receive = error_ns(reply.receive, now_ns - 40_000);
    assert!((-100..=40_100).contains(&receive), "after {elapsed_ms} ms receive is {receive} ns off");
}

#[test]
fn replies_are_right_across_an_inserted_second() {
    through_a_leap_second(PendingLeap::Insert, -1);
}

#[test]
fn replies_are_right_across_a_deleted_second() {
    through_a_leap_second(PendingLeap::Delete, 1);
}

/// From an hour before the noon before a leap second to an hour after the noon after it, a plain listener and one that
/// smears asked together every second; the kernel acts 4 ms late.
fn smeared_through_a_leap_second(leap: PendingLeap, count_moves_s: i64) {
    let counts = Counts::default();
    let noon = NEW_YEAR - DAY / 2;
    // A request arrives 40 µs before the whole second, so that its reply leaves at the noons themselves.
    let mut rig = Rig::new((noon - 3_600) * SECOND - 40_000, &counts);
    let takes_s = DAY - count_moves_s;
    let moves_at_s = DAY / 2 - count_moves_s.max(0);
    let mut last: Option<ReplyView> = None;
    for since_noon_s in -3_600..=takes_s + 3_600 {
        rig.leap = if since_noon_s < moves_at_s { leap } else { PendingLeap::None };
        // At the leap itself the kernel is late, and its stamps aren't believed for a second after.
        let (at_leap, near) = (since_noon_s == moves_at_s, (0..3).contains(&(since_noon_s - moves_at_s)));
        if !at_leap {
            rig.beat();
        }
        let arrived_ns = rig.machine.realtime_ns();
        rig.machine.pass_ns(40_000);
        let [plain, smeared] = rig.ask_by([0, SMEARING], arrived_ns);
        let warning = if count_moves_s < 0 { 1 } else { 2 };
        if !near {
            assert_right(&plain, rig.machine.realtime_ns(), 3);
            assert_eq!(plain.leap, if since_noon_s < moves_at_s { warning } else { 0 });
        }
        assert_eq!((smeared.leap, smeared.stratum), (0, plain.stratum), "{since_noon_s} s after noon");

        // In `takes_s` the smeared clock counts a day.
        let counted_ns = i128::from(since_noon_s) * i128::from(DAY * SECOND) / i128::from(takes_s);
        let counted_ns = match since_noon_s {
            ..=0 => since_noon_s * SECOND,
            _ if since_noon_s >= takes_s => since_noon_s * SECOND + count_moves_s * SECOND,
            _ => i64::try_from(counted_ns).unwrap(),
        };
        let off = error_ns(smeared.transmit, noon * SECOND + counted_ns);
        assert!(off.abs() <= 3, "{since_noon_s} s after noon it is {off} ns off");
        let residence = smeared.transmit.wrapping_sub(smeared.receive);
        // 40 µs in units of 2⁻³² s.
        assert!(residence.abs_diff(171_799) <= 20 || near, "{residence}");
        assert_eq!((smeared.receive & 1, smeared.transmit & 1), (1, 0));
        // The machine's clock was read at the beat, 40 µs before the reply; but at the leap, a second before that.
        let since_beat = (smeared.transmit.wrapping_sub(smeared.reference) * 1_000_000) >> 32;
        assert!((39..=41).contains(&since_beat) || at_leap, "reference time is {since_beat} µs old");
        if since_noon_s <= 0 || since_noon_s >= takes_s {
            assert!(smeared.transmit.abs_diff(plain.transmit) <= 2, "at both noons it is UTC");
        }
        if let Some(last) = last.replace(smeared) {
            assert!(smeared.receive.wrapping_sub(last.transmit) < 2 << 32, "it never goes back");
        }
        let step_ns = if at_leap { 4_000_000 } else { 0 };
        rig.machine.pass_ns(step_ns);
        rig.machine.step_ns(if at_leap { count_moves_s * SECOND } else { 0 });
        rig.machine.pass_ns(SECOND - 40_000 - step_ns);
    }
    assert_eq!(counts.of(Event::AnsweredUnsynchronised), 0);
}

#[test]
fn a_smearing_listener_slides_through_an_inserted_second() {
    smeared_through_a_leap_second(PendingLeap::Insert, -1);
}

#[test]
fn a_smearing_listener_slides_through_a_deleted_second() {
    smeared_through_a_leap_second(PendingLeap::Delete, 1);
}

#[test]
fn a_smearing_listener_says_unsynchronised_as_any_other() {
    let counts = Counts::default();
    let mut rig = Rig::new((NEW_YEAR - 3_600) * SECOND, &counts);
    rig.leap = PendingLeap::Insert;
    let now_ns = rig.machine.realtime_ns();
    let [plain, smeared] = rig.ask_by([0, SMEARING], now_ns);
    assert_eq!(plain, smeared);
    assert_eq!((smeared.leap, smeared.stratum, smeared.receive, smeared.transmit), (3, 0, 0, 0));
    rig.beat();
    rig.machine.pass_ns(9 * SECOND);
    let now_ns = rig.machine.realtime_ns();
    let [plain, smeared] = rig.ask_by([0, SMEARING], now_ns);
    assert_eq!((plain.leap, smeared.leap), (3, 3));
    assert_eq!((plain.stratum, plain.root_dispersion), (smeared.stratum, smeared.root_dispersion));
}

#[test]
fn a_step_of_the_machines_clock_is_followed_and_never_mixed_into_a_reply() {
    for step_ns in [-3_600 * SECOND, -700 * MS, -MS, -30_000, 30_000, MS, 700 * MS, 3_600 * SECOND] {
        let counts = Counts::default();
        let mut rig = Rig::new((NEW_YEAR - 900_000) * SECOND, &counts);
        rig.beat();
        let before = rig.ask();
        assert_right(&before, rig.machine.realtime_ns(), 2);

        // The request is stamped, then the clock is stepped, then the worker gets to it: before the pulse has
        // read the clock again, the served clock still is the old one, and both stamps must be in it.
        let stamped_ns = rig.machine.realtime_ns();
        rig.machine.pass_ns(20_000);
        rig.machine.step_ns(step_ns);
        rig.machine.pass_ns(20_000);
        let during = rig.ask_with_stamp(stamped_ns);
        let old_ns = rig.machine.realtime_ns() - step_ns;
        assert!(error_ns(during.transmit, old_ns).abs() <= 2);
        let receive = error_ns(during.receive, old_ns - 40_000);
        assert!((-2..=40_002).contains(&receive), "step {step_ns}: receive is {receive} ns off");
        assert_eq!(counts.of(Event::RealtimeStep), 1, "step {step_ns}");
        assert_eq!(counts.of(Event::StampClockStepped), 1);

        // The pulse follows within its period.
        rig.beat();
        let after = rig.ask();
        assert!(after.synchronised());
        assert!(error_ns(after.transmit, rig.machine.realtime_ns()).abs() <= 2, "step {step_ns}");
        // A second later kernel stamps are trusted again.
        for _ in 0..9 {
            rig.machine.pass_ns(125 * MS);
            rig.beat();
        }
        assert_right(&rig.ask(), rig.machine.realtime_ns(), 2);
    }
}

#[test]
fn with_a_dead_writer_dispersion_grows_and_then_replies_say_unsynchronised() {
    let counts = Counts::default();
    let mut rig = Rig::new((NEW_YEAR - 900_000) * SECOND, &counts);
    rig.beat();
    let first = rig.ask();
    let limit_ns = VALIDITY.as_nanos();
    let mut last = first;
    let mut elapsed_ns = 40_000;
    while elapsed_ns < 3 * limit_ns {
        rig.machine.pass_ns(100 * MS);
        let reply = rig.ask();
        elapsed_ns += 100 * MS + 40_000;
        assert!(reply.root_dispersion >= last.root_dispersion);
        if elapsed_ns <= limit_ns {
            assert_right(&reply, rig.machine.realtime_ns(), 2);
            // 500 ppm at least, in the wire's units of 15 µs.
            let grown = i64::from(reply.root_dispersion - first.root_dispersion) * SECOND / 65_536;
            assert!(grown + 15_300 >= elapsed_ns / 2_000, "{grown} ns after {elapsed_ns}");
        } else {
            assert!(!reply.synchronised(), "{elapsed_ns} ns after the last reading");
            assert_eq!((reply.leap, reply.stratum, reply.reference_id), (3, 0, [0; 4]));
        }
        last = reply;
    }
    // The writer comes back: so does the server.
    rig.beat();
    assert!(rig.ask().synchronised());
}

#[test]
fn with_a_writer_that_dies_during_a_slew_the_bound_still_holds() {
    for (slew_ppb, then_ppb) in [(490_000, 0), (-490_000, 0), (83_000_000, 0), (-83_000_000, 0)] {
        let counts = Counts::default();
        let mut rig = Rig::new((NEW_YEAR - 900_000) * SECOND, &counts);
        for _ in 0..16 {
            rig.beat();
            rig.machine.pass_slewed_ns(125 * MS, slew_ppb);
        }
        rig.beat();
        for _ in 0..90 {
            rig.machine.pass_slewed_ns(100 * MS, then_ppb);
            let reply = rig.ask();
            let error = error_ns(reply.transmit, rig.machine.realtime_ns()).abs();
            let admitted = i64::from(reply.root_dispersion) * 15_258;
            assert!(!reply.synchronised() || error <= admitted, "{error} ns off, {admitted} ns admitted");
        }
    }
}

#[test]
fn a_batch_that_was_overtaken_is_not_sent() {
    let counts = Counts::default();
    let mut rig = Rig::new((NEW_YEAR - 900_000) * SECOND, &counts);
    rig.beat();
    rig.machine.preempt_after_reading_ns(5 * SECOND);
    rig.port.arrive(&request(1), rig.machine.realtime_ns());
    rig.worker.batch(Wait::Poll).unwrap();
    assert_eq!(rig.port.take_sent().len(), 0);
    assert_eq!((counts.of(Event::BatchOvertaken), counts.of(Event::Answered)), (1, 0));
    rig.beat();
    assert!(rig.ask().synchronised(), "the next is answered again");
}

#[test]
fn before_the_first_reading_replies_carry_no_time() {
    let counts = Counts::default();
    let mut rig = Rig::new((NEW_YEAR - 900_000) * SECOND, &counts);
    let reply = rig.ask();
    assert_eq!((reply.leap, reply.stratum, reply.receive, reply.transmit), (3, 0, 0, 0));
    assert_eq!(counts.of(Event::AnsweredUnsynchronised), 1);
}

#[test]
fn receive_stamps_are_unique_even_when_the_kernels_are_not() {
    for socket in [0, SMEARING] {
        let counts = Counts::default();
        let mut rig = Rig::new((NEW_YEAR - 900) * SECOND, &counts);
        rig.leap = PendingLeap::Insert;
        rig.beat();
        let same_ns = rig.machine.realtime_ns();
        rig.machine.pass_ns(40_000);
        for _ in 0..50 {
            rig.port.arrive_by(socket, &request(1), same_ns);
        }
        rig.worker.batch(Wait::Poll).unwrap();
        let sent = rig.port.take_sent();
        let mut stamps: Vec<_> = sent.iter().map(|reply| ReplyView::of(reply).receive).collect();
        stamps.sort_unstable();
        stamps.dedup();
        assert_eq!(stamps.len(), 50);
        assert_eq!(counts.of(Event::StampMoved), 49);
    }
}
