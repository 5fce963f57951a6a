//! NICs' clocks: how they are read beside the counter, and the real server with one as its source.
//!
//! True time is what the clock itself says, read by the test in its own way: `clock_gettime` on its descriptor, just before a
//! request and just after the reply.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use maser_core::refclock::PhcReading;
use maser_sys::calibration::choose;
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{KernelClock, read};
use maser_sys::phc::{CrossRead, Phc};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::time::clock_settime;
use serde_json::Value;

use crate::devices::{clock_of, nanos};
use crate::maser::{Scratch, Server, Setting, text};
use crate::peers::host::run;
use crate::served::{Found, SETTLED, lock, offsets_by, wait_until};
use crate::{is_counted_or_skip, is_vm_or_skip, measured, stop};

pub(crate) const SECOND_NS: i64 = 1_000_000_000;
/// TAI less UTC.
pub(crate) const TAI_NS: i64 = 37 * SECOND_NS;
/// How well a clock that is read within microseconds is held, beyond what the exchange leaves open.
const HELD_NS_MAX: i64 = 8_000;

/// A NIC's clock in the test's hands.
pub(crate) struct Hand(File);

impl Hand {
    pub(crate) fn on(device: &Path) -> Self {
        Self(File::options().read(true).write(true).open(device).unwrap())
    }

    pub(crate) fn now(&self) -> i64 {
        nanos(clock_of(&self.0))
    }

    pub(crate) fn set(&self, now_ns: i64) {
        clock_settime(clock_of(&self.0), TimeSpec::nanoseconds(now_ns)).unwrap();
    }
}

/// A second and some ahead of the machine's clock, so that it isn't that one under another name.
pub(crate) fn true_now() -> i64 {
    read(KernelClock::Realtime) + 3 * SECOND_NS + 271_828_183
}

/// The igb's clock; others may be there, too.
fn igb() -> PathBuf {
    let entries = fs::read_dir("/sys/class/ptp").unwrap().map(|entry| entry.unwrap().path());
    let is_igb = |path: &PathBuf| {
        fs::read_link(path.join("device/driver")).is_ok_and(|driver| driver.ends_with("igb"))
    };
    let entry = entries.into_iter().find(is_igb).expect("the VM has an igb");
    PathBuf::from("/dev").join(entry.file_name().unwrap())
}

/// With these sources, as a user writes them.
pub(crate) fn serve(scratch: &Scratch, sources: &str) -> Server {
    let setting = Setting::nowhere();
    let config = scratch.path("maser.toml");
    let lines = format!(
        "[server]\nlisten = [\"127.0.0.1:{}\"]\n\n{sources}\n[clock]\nstate = \"{}\"\n",
        setting.port,
        text(&scratch.path("state")),
    );
    fs::write(&config, lines).unwrap();
    setting.with(&["--config", text(&config)]).start()
}

/// A source as the status has it.
pub(crate) fn source(status: &Value, name: &str) -> Value {
    let sources = status["sources"].as_array().unwrap();
    sources
        .iter()
        .find(|source| source["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {status}"))
        .clone()
}

pub(crate) fn is_held(asked: &[Found]) -> bool {
    let beyond = asked.iter().filter(|asked| asked.offset_ns.abs() > HELD_NS_MAX).count();
    beyond * 20 <= asked.len()
        && asked.iter().all(|asked| asked.offset_ns.abs() <= HELD_NS_MAX + asked.round_trip_ns / 2)
        && asked.iter().all(Found::is_honest)
}

pub(crate) fn said(asked: &[Found]) -> String {
    if asked.is_empty() {
        return "nothing known".to_owned();
    }
    let at = |percent: usize| asked[(asked.len() - 1) * percent / 100].offset_ns as f64 / 1e3;
    let distances = asked.iter().map(|asked| asked.distance_ns);
    format!(
        "off by {:.2} us median, {:.2} us at 95 %, {:.2} us most, bound {:.1} us, {} in all",
        at(50),
        at(95),
        at(100),
        distances.max().unwrap_or(0) as f64 / 1e3,
        asked.len()
    )
}

/// `clock_gettime` between two readings of the counter: the way without any of the driver's help.
fn bracketed(hand: &Hand, counter: &Counter) -> PhcReading {
    let before = counter.now_ordered();
    let phc_ns = hand.now();
    let width = counter.now_ordered().since(before);
    PhcReading { at: before.offset(width / 2), error_ticks: u32::try_from(width / 2 + 1).unwrap(), phc_ns }
}

/// busybox has clock_adjtime(2) as a command; 2⁻¹⁶ ppm.
fn steer(ppm: i64) {
    run(Command::new("busybox").args(["adjtimex", "-q", "-f", &(ppm << 16).to_string()])).unwrap();
}

#[test]
fn every_way_of_reading_a_clock_agrees_whoever_steers_the_machines() {
    if !is_counted_or_skip("readings of the igb's clock") {
        return;
    }
    let device = igb();
    let (hand, phc, counter) = (Hand::on(&device), Phc::open(&device).unwrap(), choose(&[0]).counter);
    assert!(phc.read_by(CrossRead::Precise, &counter).is_err(), "the igb has no such way");
    assert_eq!(phc.cross_read(&counter).unwrap().1, CrossRead::ExtendedRaw);
    let nanos_of = |ticks: i64| counter.nominal_rate().span_of(ticks).as_nanos();
    let ways = [CrossRead::ExtendedRaw, CrossRead::Extended, CrossRead::Plain];
    let (mut halves, mut own) = (ways.map(|_| Vec::new()), Vec::new());
    for ppm in [0, 400, -400] {
        steer(ppm);
        for _ in 0..30 {
            let first = bracketed(&hand, &counter);
            own.push(nanos_of(first.error_ticks.into()));
            for (way, halves) in ways.into_iter().zip(&mut halves) {
                let reading = phc.read_by(way, &counter).unwrap();
                let counted_ns = nanos_of(reading.at.since(first.at));
                let apart_ns = reading.phc_ns - first.phc_ns - counted_ns;
                let open_ns = nanos_of(i64::from(reading.error_ticks) + i64::from(first.error_ticks));
                // The emulated clock may run by another rate.
                assert!(
                    apart_ns.abs() <= open_ns + counted_ns / 1_000,
                    "{way:?}: {apart_ns} of {open_ns} ns"
                );
                halves.push(nanos_of(reading.error_ticks.into()));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    steer(0);
    let median = |mut halves: Vec<i64>| {
        halves.sort_unstable();
        halves[halves.len() / 2]
    };
    let [raw, realtime, plain] = halves.map(median);
    measured(&format!(
        "half brackets of the igb's clock (median): extended, raw clock {raw} ns; extended {realtime} ns; plain {plain} ns; \
         clock_gettime between two readings {} ns",
        median(own)
    ));
}

#[test]
fn the_igbs_clock_is_followed_in_tai_and_in_utc() {
    if !is_counted_or_skip("the igb's clock as a source") {
        return;
    }
    let (device, scratch) = (igb(), Scratch::new());
    let hand = Hand::on(&device);
    for (timescale, ahead_ns) in [("tai", TAI_NS), ("utc", 0)] {
        hand.set(true_now() + ahead_ns);
        let sources = format!(
            "[[source]]\ntype = \"phc\"\nname = \"nic\"\ndevice = \"{}\"\ntimescale = \"{timescale}\"\n",
            text(&device)
        );
        let mut server = serve(&scratch, &sources);
        let took = lock(&server);
        let status = server.status();
        assert_eq!((&status["stratum"], &status["reference_id"]), (&1.into(), &"PHC".into()), "{status}");
        let place = source(&status, "nic")["place"].as_str().unwrap().to_owned();
        assert!(place.contains(text(&device)) && place.contains(", extended readings"), "{place}");
        thread::sleep(SETTLED);
        let (asked, unsynchronised) = offsets_by(&server, &|| hand.now() - ahead_ns, 20);
        measured(&format!(
            "{place} in {timescale}: locked after {:.1} s, {}",
            took.as_secs_f64(),
            said(&asked)
        ));
        assert_eq!(unsynchronised, 0);
        assert!(is_held(&asked), "{asked:?}");
        // The oracle finds a clock that is 12 us off.
        let (asked, _) = offsets_by(&server, &|| hand.now() - ahead_ns - 12_000, 2);
        assert!(!is_held(&asked), "{asked:?}");
        stop(&mut server);
        fs::remove_dir_all(scratch.path("state")).unwrap();
    }
}

#[test]
fn a_clock_that_nobody_has_set_is_not_believed() {
    if !is_counted_or_skip("a NIC's clock that nobody set") {
        return;
    }
    let (device, scratch) = (igb(), Scratch::new());
    Hand::on(&device).set(1_000 * SECOND_NS);
    let sources = format!("[[source]]\ntype = \"phc\"\nname = \"nic\"\ndevice = \"{}\"\n", text(&device));
    let mut server = serve(&scratch, &sources);
    wait_until(&server, "told", |status| {
        let problem = source(status, "nic")["problem"].as_str().unwrap_or_default().to_owned();
        problem.contains("nobody has set it")
    });
    let (asked, unsynchronised) = offsets_by(&server, &true_now, 3);
    assert_eq!((asked.len(), unsynchronised), (0, 30), "{asked:?}");
    stop(&mut server);
}

#[test]
fn a_device_that_is_no_clock_is_told_by_the_server() {
    if !is_vm_or_skip("a device that is no clock") {
        return;
    }
    let scratch = Scratch::new();
    let mut server = serve(&scratch, "[[source]]\ntype = \"phc\"\nname = \"nic\"\ndevice = \"/dev/null\"\n");
    wait_until(&server, "told", |status| {
        source(status, "nic")["problem"].as_str().is_some_and(|problem| problem.contains("not a NIC's clock"))
    });
    stop(&mut server);
}
