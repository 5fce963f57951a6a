//! What no emulated NIC's clock does: run at another rate, jump, stand still, fail, latch both clocks at once, stamp pulses. Against
//! the double `maser_nic`.

use std::fs;
use std::thread;
use std::time::Duration;

use maser_sys::calibration::choose;
use maser_sys::kernel_clock::{KernelClock, read};
use maser_sys::phc::{CrossRead, Phc};

use crate::double::{Double, hardware_clock, nic};
use crate::maser::{Scratch, text};
use crate::phc::{Hand, SECOND_NS, TAI_NS, is_held, said, serve, source, true_now};
use crate::served::{Found, SETTLED, lock, offsets_by, wait_until};
use crate::{is_counted_or_skip, measured, stop};

/// A `[[source]]` that is the clock of such an interface.
fn clock(interface: &str, more: &str) -> String {
    let device = hardware_clock(interface);
    format!("[[source]]\ntype = \"phc\"\nname = \"{interface}\"\ndevice = \"{}\"\n{more}\n", text(&device))
}

/// Time by the raw clock since a moment at which it was this time.
struct Truth {
    raw_ns: i64,
    utc_ns: i64,
}

impl Truth {
    fn begin() -> Self {
        Self { raw_ns: read(KernelClock::MonotonicRaw), utc_ns: true_now() }
    }

    fn now(&self) -> i64 {
        self.utc_ns + read(KernelClock::MonotonicRaw) - self.raw_ns
    }

    /// The raw clock at the beginning of the next second.
    fn next_second_raw_ns(&self) -> i64 {
        self.raw_ns + (self.now().div_euclid(SECOND_NS) + 1) * SECOND_NS - self.utc_ns
    }
}

#[test]
fn a_clock_that_latches_both_is_read_precisely() {
    if !is_counted_or_skip("precise readings of a NIC's clock") {
        return;
    }
    let _double = Double::load("maser_nic", "");
    nic("mnic0", "phc_ppb").set(5_000);
    let device = hardware_clock("mnic0");
    let (hand, phc, counter) = (Hand::on(&device), Phc::open(&device).unwrap(), choose(&[0]).counter);
    assert_eq!(phc.cross_read(&counter).unwrap().1, CrossRead::Precise);
    for way in [CrossRead::Precise, CrossRead::ExtendedRaw, CrossRead::Extended, CrossRead::Plain] {
        let reading = phc.read_by(way, &counter).unwrap();
        let half_ns = counter.nominal_rate().span_of(reading.error_ticks.into()).as_nanos();
        measured(&format!("half bracket of maser_nic's clock, {way:?}: {half_ns} ns"));
        // The test's own reading after it is as much later as the counter says.
        let (before, now_ns, after) = (counter.now(), hand.now(), counter.now());
        let late = |at| counter.nominal_rate().span_of(reading.at.offset(0).since(at)).as_nanos();
        let (least, most) = (-late(before) - half_ns - 10, -late(after) + half_ns + 10);
        assert!((least..=most).contains(&(now_ns - reading.phc_ns)), "{way:?}: {least} to {most} ns");
    }
    nic("mnic0", "phc_fails").set(1);
    assert!(phc.cross_read(&counter).is_err());
}

#[test]
fn a_clock_of_another_rate_is_followed() {
    if !is_counted_or_skip("a NIC's clock of another rate") {
        return;
    }
    let (_double, scratch) = (Double::load("maser_nic", ""), Scratch::new());
    for ppb in [5_000, -50_000] {
        nic("mnic0", "phc_ppb").set(ppb);
        let hand = Hand::on(&hardware_clock("mnic0"));
        hand.set(true_now() + TAI_NS);
        let mut server = serve(&scratch, &clock("mnic0", ""));
        let took = lock(&server);
        let place = source(&server.status(), "mnic0")["place"].as_str().unwrap().to_owned();
        assert!(place.ends_with("(clock \"mnic0\", precise readings)"), "{place}");
        thread::sleep(SETTLED);
        let (asked, unsynchronised) = offsets_by(&server, &|| hand.now() - TAI_NS, 20);
        measured(&format!(
            "{place} at {ppb} ppb: locked after {:.1} s, {}",
            took.as_secs_f64(),
            said(&asked)
        ));
        assert_eq!(unsynchronised, 0);
        assert!(is_held(&asked), "{asked:?}");
        stop(&mut server);
        fs::remove_dir_all(scratch.path("state")).unwrap();
    }
}

#[test]
fn a_clock_that_jumps_is_outvoted_by_others() {
    if !is_counted_or_skip("a NIC's clock that jumps beside others") {
        return;
    }
    let (_double, scratch) = (Double::load("maser_nic", "pairs=2"), Scratch::new());
    let interfaces = ["mnic0", "mnic1", "mnic2"];
    for interface in interfaces {
        Hand::on(&hardware_clock(interface)).set(true_now() + TAI_NS);
    }
    let hand = Hand::on(&hardware_clock("mnic1"));
    // They were set one after the other, which takes its time.
    let error = "error = \"100 us\"";
    let preferred = format!("{error}\nprefer = true");
    let sources = [clock("mnic0", &preferred), clock("mnic1", error), clock("mnic2", error)].concat();
    let mut server = serve(&scratch, &sources);
    lock(&server);
    thread::sleep(SETTLED);
    assert_eq!(server.status()["tracking"]["source"], "mnic0");
    nic("mnic0", "phc_jump_ns").set(1_000_000);
    let (asked, unsynchronised) = offsets_by(&server, &|| hand.now() - TAI_NS, 30);
    measured(&format!(
        "one of three clocks jumped by 1 ms: {}; {unsynchronised} unsynchronised",
        said(&asked)
    ));
    assert!(asked.iter().all(Found::is_honest), "{asked:?}");
    let status = server.status();
    assert!(source(&status, "mnic0")["verdict"].as_str().unwrap().contains("wrong"), "{status}");
    assert!(source(&status, "mnic0")["place"].as_str().unwrap().ends_with(", 1 jump)"), "{status}");
    assert!(server.log().contains("the clock jumped by +0.001000"), "{}", server.log());
    wait_until(&server, "locked to another", |status| {
        status["state"] == "locked" && status["tracking"]["source"] != "mnic0"
    });
    stop(&mut server);
}

#[test]
fn a_lone_clock_that_jumps_or_stands_is_never_served_as_it_was() {
    if !is_counted_or_skip("a lone NIC's clock that jumps and stands") {
        return;
    }
    let (_double, scratch) = (Double::load("maser_nic", ""), Scratch::new());
    let hand = Hand::on(&hardware_clock("mnic0"));
    let truth = Truth::begin();
    hand.set(truth.now() + TAI_NS);
    let mut server = serve(&scratch, &clock("mnic0", ""));
    lock(&server);
    thread::sleep(SETTLED);
    let problem =
        |of: &serde_json::Value| source(of, "mnic0")["problem"].as_str().unwrap_or_default().to_owned();
    nic("mnic0", "phc_stopped").set(1);
    let (asked, unsynchronised) = offsets_by(&server, &|| truth.now(), 10);
    let status = server.status();
    measured(&format!(
        "a clock that stands: {}, {}; {unsynchronised} unsynchronised",
        status["state"],
        said(&asked)
    ));
    assert!(asked.iter().all(Found::is_honest), "{asked:?}");
    assert_eq!(status["state"], "holdover", "{status}");
    assert!(problem(&status).contains("stands still"), "{status}");
    nic("mnic0", "phc_stopped").set(0);
    hand.set(truth.now() + TAI_NS);
    wait_until(&server, "locked again", |status| status["state"] == "locked" && problem(status).is_empty());
    // Alone, nobody can say which of its times was right: a reply that claims any is within its bound of the one or of the other.
    let by_ns = 250_000_000;
    nic("mnic0", "phc_jump_ns").set(by_ns);
    let (asked, unsynchronised) = offsets_by(&server, &|| truth.now(), 20);
    let is_new = |asked: &Found| Found { offset_ns: asked.offset_ns - by_ns, ..*asked }.is_honest();
    assert!(asked.iter().all(|asked| asked.is_honest() || is_new(asked)), "{asked:?}");
    let after = asked.iter().filter(|asked| is_new(asked)).count();
    let state = server.status()["state"].clone();
    measured(&format!(
        "a lone clock that jumped by 0.25 s: {state}; {} replies by the old time, {after} by the new, {unsynchronised} none",
        asked.len() - after
    ));
    assert!(unsynchronised > 0, "it said at once that it was wrong");
    wait_until(&server, "locked to the new time", |status| status["state"] == "locked");
    let (asked, _) = offsets_by(&server, &|| truth.now() + by_ns, 2);
    assert!(!asked.is_empty() && asked.iter().all(Found::is_honest), "{asked:?}");
    nic("mnic0", "phc_fails").set(1);
    wait_until(&server, "told that it fails", |status| problem(status).contains("reading the clock failed"));
    stop(&mut server);
}

#[test]
fn pulses_on_a_pin_are_followed_whatever_the_clock_says() {
    if !is_counted_or_skip("pulses that a NIC's clock stamps") {
        return;
    }
    let (_double, scratch) = (Double::load("maser_nic", ""), Scratch::new());
    let device = hardware_clock("mnic0");
    let pins = std::path::Path::new("/sys/class/ptp").join(device.file_name().unwrap()).join("pins");
    let pin = fs::read_dir(&pins).unwrap().next().unwrap().unwrap().path();
    let function = || fs::read_to_string(&pin).unwrap().trim().to_owned();
    let before = function();
    // Its clock is in 1970 and runs free; the other one only says which second it is, and is 300 us off.
    nic("mnic0", "phc_ns").set(1_000 * SECOND_NS);
    nic("mnic0", "phc_ppb").set(5_000);
    let truth = Truth::begin();
    Hand::on(&hardware_clock("mnic1")).set(truth.now() + TAI_NS + 300_000);
    nic("mnic0", "pulse_raw_ns").set(truth.next_second_raw_ns());
    let name = pin.file_name().unwrap().to_str().unwrap().to_owned();
    let pulses = format!("channel = 0\npin = \"{name}\"\nprefer = true\nlabel = [\"mnic1\"]");
    let sources = clock("mnic0", &pulses) + &clock("mnic1", "error = \"1 ms\"");
    let mut server = serve(&scratch, &sources);
    let took = wait_until(&server, "following the pulses", |status| {
        status["state"] == "locked" && status["tracking"]["source"] == "mnic0"
    });
    assert_eq!(function(), "1 0", "the pin is programmed");
    thread::sleep(SETTLED);
    let (asked, unsynchronised) = offsets_by(&server, &|| truth.now(), 20);
    measured(&format!("pulses on a NIC's pin: followed after {:.1} s, {}", took.as_secs_f64(), said(&asked)));
    assert_eq!(unsynchronised, 0);
    assert!(is_held(&asked), "{asked:?}");
    // Somebody sets the clock: its stamps are placed anew, and no pulse is taken for another.
    nic("mnic0", "phc_jump_ns").set(-5_300_000_000_i64);
    let (asked, unsynchronised) = offsets_by(&server, &|| truth.now(), 10);
    measured(&format!("and while its clock jumps: {}; {unsynchronised} unsynchronised", said(&asked)));
    assert_eq!(unsynchronised, 0);
    assert!(is_held(&asked), "{asked:?}");
    nic("mnic0", "pulse_silent").set(1);
    wait_until(&server, "told that no edge comes", |status| {
        source(status, "mnic0")["problem"].as_str().is_some_and(|problem| problem.contains("no edge comes"))
    });
    nic("mnic0", "pulse_silent").set(0);
    wait_until(&server, "following the pulses again", |status| status["tracking"]["source"] == "mnic0");
    stop(&mut server);
    assert_eq!(function(), before, "the pin is as it was");
    thread::sleep(Duration::from_millis(10));
}
