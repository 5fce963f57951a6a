//! Transmit timestamps in basic mode: what is learnt from departures and added to them.

use super::{BEGIN, Event, MS, Rig, V4_CLIENT, client, request};
use crate::support::error_ns;
use maser::count::Counts;

/// The median of how early the transmit timestamps of `rounds` batches of `batch` requests are, in nanoseconds, from the
/// moment when each reply really left.
fn earliness_ns(rig: &mut Rig, rounds: u64, batch: u32) -> i64 {
    earliness_every_ns(rig, 25 * MS, rounds, batch)
}

/// The same of batches that come so often.
fn earliness_every_ns(rig: &mut Rig, pause_ns: i64, rounds: u64, batch: u32) -> i64 {
    let mut early = Vec::new();
    for round in 0..rounds {
        rig.machine.pass_ns(pause_ns);
        rig.beat();
        let requests: Vec<_> =
            (0..batch).map(|number| (client(number), 0, request(V4_CLIENT, 0, 0, round + 1))).collect();
        rig.wires.0.borrow_mut().sent_ns.clear();
        let replies = rig.ask_all(&requests);
        let left_ns = rig.wires.0.borrow().sent_ns.clone();
        early.extend(replies.iter().zip(left_ns).map(|(reply, left_ns)| -error_ns(reply.transmit, left_ns)));
    }
    early.sort_unstable();
    early[early.len() / 2]
}

#[test]
fn the_median_of_what_replies_take_to_leave_is_added() {
    let counts = Counts::default();
    let mut rig = Rig::at(BEGIN, &counts, 0, false);
    rig.beat();
    let off = earliness_ns(&mut rig, 100, 1);
    assert!((6_900..7_100).contains(&off), "{off} ns");
    assert_eq!((rig.count(Event::DepartureAsked), counts.lateness()), (0, None), "nobody asks in vain");

    let counts = Counts::default();
    let mut rig = Rig::at(BEGIN, &counts, 0, true);
    rig.beat();
    // A third of all calls are held up by somebody else.
    rig.wires.0.borrow_mut().latency_ns =
        |call| if call % 3 == 0 { 90_000 } else { 7_000 + i64::from(call % 5 == 0) * 300 };
    earliness_ns(&mut rig, 20, 1);
    let on = earliness_ns(&mut rig, 200, 1);
    println!("median of the error: {off} ns off, {on} ns on");
    assert!(on.abs() <= 300, "{on} ns");
    let lateness = counts.lateness().unwrap();
    assert!((6_900..7_400).contains(&lateness.median_ns), "{lateness:?}");
    assert_eq!(rig.count(Event::DepartureAsked), 220, "one every 25 ms");
}

#[test]
fn replies_that_are_late_because_they_are_asked_about_correct_nobody() {
    let counts = Counts::default();
    let mut rig = Rig::at(BEGIN, &counts, 0, true);
    rig.beat();
    rig.wires.0.borrow_mut().cold_ns = 3_000;
    earliness_every_ns(&mut rig, MS, 1_000, 1);
    let on = earliness_every_ns(&mut rig, MS, 500, 1);
    println!("{on} ns early");
    assert!(on.abs() <= 300, "{on} ns");
    let asked = rig.count(Event::DepartureAsked);
    assert!((200..300).contains(&asked), "{asked} of 1500 were asked about, a few in every 20 ms");
}

#[test]
fn one_that_shares_a_call_is_corrected_once() {
    for batch in [2, 10, 40] {
        let counts = Counts::default();
        let mut rig = Rig::at(BEGIN, &counts, 0, true);
        rig.beat();
        earliness_ns(&mut rig, 200, batch);
        let on = earliness_ns(&mut rig, 100, batch);
        println!("batches of {batch}: {on} ns early");
        assert!(on.abs() <= 1_000, "batches of {batch}: {on} ns");
    }
}

#[test]
fn a_faster_way_out_is_learnt_within_two_seconds() {
    let counts = Counts::default();
    let mut rig = Rig::at(BEGIN, &counts, 0, true);
    rig.beat();
    earliness_ns(&mut rig, 100, 1);
    rig.wires.0.borrow_mut().latency_ns = |_| 2_000;
    earliness_ns(&mut rig, 2_000 / 25, 1);
    let on = earliness_ns(&mut rig, 10, 1);
    assert!(on.abs() <= 100, "{on} ns");
}
