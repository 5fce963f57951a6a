//! Leap seconds in the machine's clock, as the kernel makes them and `maser serve` has it make them.

use std::fs;
use std::thread;
use std::time::Duration;

use maser_core::time::{LeapTable, UNIX_TO_NTP_S, is_last_of_month};
use maser_sys::adjtimex::KernelLeap;
use maser_sys::kernel_clock::{KernelClock, read};

use crate::maser::{Client, Scratch, Server, text};
use crate::receiver::{Leap, Receiver, Truth};
use crate::served::wait_until;
use crate::steering::{
    ADJ_STATUS, HELD_NS_MAX, PPM, SECOND_NS, STEERED, adjtimex, is_steered, kernel, off_ns, set_off, steer,
    step, wait_for,
};
use crate::support::error_ns;
use crate::{is_counted_or_skip, measured, stop};

const DAY_S: i64 = 86_400;

/// The last seconds of a month, `months` months' ends from tomorrow: the midnight after it.
fn midnight_of(months: usize) -> i64 {
    let tomorrow = read(KernelClock::Realtime) / SECOND_NS / DAY_S + 1;
    let day = (tomorrow..).filter(|&day| is_last_of_month(day)).nth(months).unwrap();
    (day + 1) * DAY_S
}

/// All leap seconds that there were, and one more.
fn leap_file(scratch: &Scratch, midnight: i64, seconds: i64) -> String {
    let mut lines = format!("{UNIX_TO_NTP_S_1972}\t10\n");
    let mut before = 10;
    for leap in LeapTable::built_in().known() {
        lines += &format!("{}\t{}\n", leap.at.unix_seconds() - before + UNIX_TO_NTP_S, leap.offset_after_s);
        before = leap.offset_after_s.into();
    }
    lines += &format!("{}\t{}\n", midnight + UNIX_TO_NTP_S, before + seconds);
    let dates = |at: i64| at + UNIX_TO_NTP_S;
    let text_of =
        format!("#$\t{}\n#@\t{}\n{lines}", dates(midnight - 200 * DAY_S), dates(midnight + 100 * DAY_S));
    let path = scratch.path("leap-seconds.list");
    fs::write(&path, text_of).unwrap();
    text(&path).to_owned()
}

const UNIX_TO_NTP_S_1972: i64 = 2_272_060_800;

/// What is seen at one moment around a leap second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    /// Tenths of a second from the leap second on, by the count.
    tenths: i64,
    off_ns: i64,
    kernel: KernelLeap,
    tai_offset_s: Option<i32>,
    /// `CLOCK_TAI` less what it was at the first look, and the count.
    tai_off_ns: i64,
    /// The reply's leap bits, and how far off its timestamps are.
    leap: u8,
    reply_off_ns: i64,
}

fn see(server: &Server, client: &Client, truth: &Truth, leap: Leap, tenths: i64) -> Seen {
    let at_ns = leap.at_s * SECOND_NS + tenths * SECOND_NS / 10 + SECOND_NS / 20;
    let left_ns = at_ns - truth.count_now();
    thread::sleep(Duration::from_nanos(u64::try_from(left_ns).unwrap_or(0)));
    let off_ns = off_ns(truth);
    let kernel = kernel();
    let raw = read(KernelClock::MonotonicRaw);
    let tai_off_ns = read(KernelClock::Tai) - truth.count_at(raw) - 37 * SECOND_NS;
    let sent = truth.at(read(KernelClock::MonotonicRaw));
    let (reply, _) = client.ask(server.address()).expect("it answers");
    let received = truth.at(read(KernelClock::MonotonicRaw));
    let reply_off_ns = i64::midpoint(error_ns(reply.receive, sent), error_ns(reply.transmit, received));
    let (kernel, tai_offset_s) = (kernel.leap, kernel.tai_offset_s);
    Seen { tenths, off_ns, kernel, tai_offset_s, tai_off_ns, leap: reply.leap, reply_off_ns }
}

/// All of it is as it has to be.
fn is_right(seen: &Seen, leap: Leap) -> bool {
    let &Seen { tenths, off_ns, kernel, tai_offset_s, tai_off_ns, leap: bits, reply_off_ns } = seen;
    let is_inserted = leap.seconds > 0;
    let is_over = tenths >= if is_inserted { 10 } else { 0 };
    let announced = if is_inserted { 1 } else { 2 };
    let states: &[KernelLeap] = match tenths {
        ..0 if is_inserted => &[KernelLeap::Insert],
        ..0 => &[KernelLeap::Delete],
        0..10 if is_inserted => &[KernelLeap::InProgress],
        _ => &[KernelLeap::Over, KernelLeap::None],
    };
    let tai = if tenths < 0 { 37 } else { 37 + i32::try_from(leap.seconds).unwrap() };
    states.contains(&kernel)
        && off_ns.abs() < HELD_NS_MAX
        && tai_offset_s == Some(tai)
        && tai_off_ns.abs() < 10 * HELD_NS_MAX
        && bits == if is_over { 0 } else { announced }
        && reply_off_ns.abs() < 5 * HELD_NS_MAX
}

fn through_a_leap_second(months: usize, seconds: i64) {
    let scratch = Scratch::new();
    let midnight = midnight_of(months);
    let leap = Leap { at_s: midnight + seconds.min(0), seconds };
    let receiver = Receiver::start_at(PPM, (midnight - 75) * SECOND_NS + SECOND_NS / 3, Some(leap));
    let truth = &receiver.truth;
    set_off(truth, 300_000_000);
    let file = leap_file(&scratch, midnight, seconds);
    let mut server = steer(&scratch, &format!("leap_file = \"{file}\"\n"));
    wait_until(&server, STEERED, is_steered);
    let armed = if seconds > 0 { KernelLeap::Insert } else { KernelLeap::Delete };
    wait_for("armed", &server, 10, || kernel().leap == armed);
    // Whoever steps the clock has the kernel forget when the leap second is, but not that there is one.
    step(2_000_000);
    let client = Client::at([127, 0, 0, 1].into());
    let seen: Vec<Seen> = (-80..120).map(|tenths| see(&server, &client, truth, leap, tenths)).collect();
    let wrong: Vec<_> = seen.iter().filter(|seen| !is_right(seen, leap)).collect();
    let most = seen.iter().map(|seen| seen.off_ns.abs()).max().unwrap();
    let replies = seen.iter().map(|seen| seen.reply_off_ns.abs()).max().unwrap();
    let mut states: Vec<_> = seen.iter().map(|seen| (seen.kernel, seen.tai_offset_s)).collect();
    states.dedup();
    measured(&format!(
        "a leap second, {seconds:+}: {states:?}; the clock is off by {:.1} us at most, replies by {:.1} us",
        most as f64 / 1e3,
        replies as f64 / 1e3
    ));
    assert!(
        wrong.is_empty(),
        "{} wrong, of which {:#?}\n{}",
        wrong.len(),
        &wrong[..wrong.len().min(20)],
        server.log()
    );
    wait_for("calm", &server, 10, || kernel().leap == KernelLeap::None);
    let log = server.log();
    assert_eq!(
        (log.matches("isn't as it was left").count(), log.matches("was stepped by").count()),
        (1, 1),
        "{log}"
    );
    assert!(is_steered(&server.status()), "{log}");
    stop(&mut server);
}

#[test]
fn a_second_is_inserted() {
    if is_counted_or_skip("a leap second in the machine's clock") {
        through_a_leap_second(0, 1);
    }
}

#[test]
fn a_second_is_deleted() {
    if is_counted_or_skip("a leap second left out by the machine's clock") {
        through_a_leap_second(1, -1);
    }
}

#[test]
fn a_leap_second_that_the_kernel_missed_is_made_up_for() {
    if !is_counted_or_skip("a leap second that the machine's clock misses") {
        return;
    }
    let scratch = Scratch::new();
    let midnight = midnight_of(2);
    let receiver =
        Receiver::start_at(PPM, (midnight - 30) * SECOND_NS, Some(Leap { at_s: midnight, seconds: 1 }));
    let truth = &receiver.truth;
    set_off(truth, 0);
    let file = leap_file(&scratch, midnight, 1);
    let mut server = steer(&scratch, &format!("leap_file = \"{file}\"\n"));
    wait_until(&server, STEERED, is_steered);
    wait_for("armed", &server, 10, || kernel().leap == KernelLeap::Insert);
    let until = |seconds: i64| {
        let left_ns = (midnight + seconds) * SECOND_NS - truth.count_now();
        thread::sleep(Duration::from_nanos(u64::try_from(left_ns).expect("it was armed in time")));
    };
    // Somebody takes it back when it is too late to be noticed.
    until(-2);
    adjtimex(ADJ_STATUS, [0, 0, 0], 0);
    until(3);
    assert!((off_ns(truth) - SECOND_NS).abs() < HELD_NS_MAX, "it has to miss: {} ns", off_ns(truth));
    wait_for("back", &server, 5, || off_ns(truth).abs() < HELD_NS_MAX);
    let log = server.log();
    assert!(log.contains("was stepped by -1") && !log.contains("isn't as it was left"), "{log}");
    measured("a leap second that the kernel missed was made up for within 5 s");
    stop(&mut server);
}
