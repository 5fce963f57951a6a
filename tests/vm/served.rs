//! The real `maser serve` with a configuration as a user writes it, on a PPS device and a serial line.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use maser_sys::kernel_clock::{KernelClock, read};
use serde_json::Value;

use crate::maser::{Client, Scratch, Server, Setting, text, within};
use crate::pulses::device;
use crate::receiver::{BAUD, LINE, Reader, Receiver, Truth};
use crate::support::error_ns;
use crate::{is_counted_or_skip, is_vm_or_skip, measured, stop};

/// What the issue promises.
pub(crate) const LOCK_LIMIT: Duration = Duration::from_secs(60);
/// The receiver's rate against the machine's oscillator.
pub(crate) const PPM: i64 = 7;
/// How well the rate is known after half a minute.
const RATE_ERROR_PPM_MAX: f64 = 1.0;
/// From the lock to when it is held as well as it will be.
pub(crate) const SETTLED: Duration = Duration::from_secs(10);
/// What the issue promises, of 95 % of what a client computes. All of an exchange's other error is at most half of what it took.
const HELD_NS_MAX: i64 = 20_000;

fn serve(scratch: &Scratch) -> Server {
    serve_on(scratch, "nmea", &device())
}

/// With a receiver that speaks `kind` on the line, and with its pulses on this device.
pub(crate) fn serve_on(scratch: &Scratch, kind: &str, pulses: &Path) -> Server {
    serve_as(Setting::nowhere(), scratch, (kind, pulses), "")
}

/// With more lines about the machine's clock.
pub(crate) fn serve_with(setting: Setting, scratch: &Scratch, clock: &str) -> Server {
    serve_as(setting, scratch, ("nmea", &device()), clock)
}

fn serve_as(setting: Setting, scratch: &Scratch, (kind, pulses): (&str, &Path), clock: &str) -> Server {
    let config = scratch.path("maser.toml");
    let lines = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\n\n\
         [[source]]\ntype = \"{kind}\"\nname = \"roof\"\ndevice = \"{LINE}\"\nbaud = {BAUD}\n\n\
         [[source]]\ntype = \"pps\"\nname = \"pulses\"\ndevice = \"{pulses}\"\nlabel = [\"roof\"]\nprefer = true\n\
         reference_id = \"GPS\"\n\n\
         [clock]\nstate = \"{state}\"\n{clock}",
        port = setting.port,
        pulses = text(pulses),
        state = text(&scratch.path("state")),
    );
    fs::write(&config, lines).unwrap();
    setting.with(&["--config", text(&config)]).start()
}

/// How long it takes until its status is so, which has a limit.
pub(crate) fn wait_until(server: &Server, what: &str, is: impl Fn(&Value) -> bool) -> Duration {
    let begun_ns = read(KernelClock::Monotonic);
    let told = within(LOCK_LIMIT, || {
        thread::sleep(Duration::from_millis(250));
        is(&server.status()).then_some(())
    });
    let took_ns = read(KernelClock::Monotonic) - begun_ns;
    if told.is_none() {
        let told = server.ask_status(&[]);
        panic!("not {what} after {LOCK_LIMIT:?}:\n{}\nthe log says:\n{}", told.output, server.log());
    }
    Duration::from_nanos(u64::try_from(took_ns).unwrap())
}

pub(crate) fn lock(server: &Server) -> Duration {
    wait_until(server, "locked", |status| status["state"] == "locked")
}

/// What a client finds: the offset that it computes, the round trip, what the server says it may be off; in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) offset_ns: i64,
    pub(crate) round_trip_ns: i64,
    pub(crate) distance_ns: i64,
}

impl Found {
    /// Whether time is as good as the server says: what is left of the exchange is at most half of what it took.
    pub(crate) fn is_honest(&self) -> bool {
        self.offset_ns.abs() <= self.distance_ns + self.round_trip_ns / 2
    }
}

/// Nothing from a server that says that it doesn't know.
pub(crate) fn ask(client: &Client, server: &Server, truth: &Truth) -> Option<Found> {
    ask_by(client, server, &|| truth.at(read(KernelClock::MonotonicRaw)))
}

/// The same with true time by any clock.
fn ask_by(client: &Client, server: &Server, true_utc: &dyn Fn() -> i64) -> Option<Found> {
    let sent = true_utc();
    let (reply, _) = client.ask(server.address()).expect("it answers");
    let received = true_utc();
    let there = error_ns(reply.receive, sent);
    let back = error_ns(reply.transmit, received);
    let found = Found {
        offset_ns: i64::midpoint(there, back),
        round_trip_ns: received - sent,
        distance_ns: reply.distance_ns(),
    };
    reply.synchronised().then_some(found)
}

/// Asks ten times a second for so long; what was found, sorted by the offsets' size, and how many replies said that they had
/// none.
pub(crate) fn offsets(server: &Server, truth: &Truth, seconds: u64) -> (Vec<Found>, usize) {
    offsets_by(server, &|| truth.at(read(KernelClock::MonotonicRaw)), seconds)
}

/// The same with true time by any clock.
pub(crate) fn offsets_by(server: &Server, true_utc: &dyn Fn() -> i64, seconds: u64) -> (Vec<Found>, usize) {
    let client = Client::at([127, 0, 0, 1].into());
    let mut found = Vec::new();
    for _ in 0..seconds * 10 {
        found.push(ask_by(&client, server, true_utc));
        thread::sleep(Duration::from_millis(100));
    }
    let mut offsets: Vec<_> = found.iter().flatten().copied().collect();
    offsets.sort_unstable_by_key(|found| found.offset_ns.abs());
    (offsets, found.iter().filter(|found| found.is_none()).count())
}

pub(crate) fn is_held(offsets: &[Found]) -> bool {
    let beyond = offsets.iter().filter(|found| found.offset_ns.abs() > HELD_NS_MAX).count();
    beyond * 20 <= offsets.len() && is_held_but_for_round_trips(offsets)
}

/// The same where something else takes the processor, and exchanges are slow for reasons that aren't the server's.
pub(crate) fn is_held_but_for_round_trips(offsets: &[Found]) -> bool {
    offsets.iter().all(|found| found.offset_ns.abs() <= HELD_NS_MAX + found.round_trip_ns / 2)
}

/// Fails where a reply was further off than it said.
pub(crate) fn expect_honest(what: &str, server: &Server, offsets: &[Found]) {
    let wrong: Vec<_> = offsets.iter().filter(|found| !found.is_honest()).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:?}; the log says:\n{}", server.log());
}

pub(crate) fn offset_micros(offsets: &[Found]) -> String {
    micros(&offsets.iter().map(|found| found.offset_ns).collect::<Vec<_>>())
}

pub(crate) fn micros(sorted_ns: &[i64]) -> String {
    if sorted_ns.is_empty() {
        return "nothing known".to_owned();
    }
    let at = |percent: usize| sorted_ns[(sorted_ns.len() - 1) * percent / 100] as f64 / 1e3;
    format!(
        "{:.1} us median, {:.1} us at 95 %, {:.1} us most, {} in all",
        at(50),
        at(95),
        at(100),
        sorted_ns.len()
    )
}

/// How much faster than it says the counter runs, as it was kept.
fn kept_ppm(state: &Path) -> f64 {
    let told = fs::read_to_string(state.join("clock.json")).unwrap();
    let document: Value = serde_json::from_str(&told).unwrap();
    let figure = |name: &str| document[name].as_f64().unwrap_or_else(|| panic!("no {name} in {told}"));
    (figure("ticks_per_true_s") / figure("nominal_hz") - 1.0) * 1e6
}

#[test]
fn pulses_and_sentences_are_followed() {
    if !is_vm_or_skip("the server on a PPS device and a serial line") {
        return;
    }
    let scratch = Scratch::new();
    let receiver = Receiver::start(PPM);
    let mut server = serve(&scratch);
    let took =
        wait_until(&server, "followed", |status| status["tracking"]["source"] == "pulses").as_secs_f64();
    let (offsets, unsynchronised) = offsets(&server, &receiver.truth, 5);
    // By real time a pulse is made as late as this machine is busy, and whether that is a lock is chance.
    measured(&format!(
        "pulses were followed after {took:.1} s, and were made late by {}",
        micros(&receiver.take_late_ns())
    ));
    measured(&format!("served time is off by {}; {unsynchronised} unsynchronised", offset_micros(&offsets)));
    stop(&mut server);
}

#[test]
fn it_holds_and_the_next_run_begins_where_it_ended() {
    if !is_counted_or_skip("how well it holds") {
        return;
    }
    let scratch = Scratch::new();
    let receiver = Receiver::start(PPM);
    let mut server = serve(&scratch);
    measured(&format!("locked after {:.1} s", lock(&server).as_secs_f64()));
    let status = server.status();
    assert_eq!((&status["stratum"], &status["reference_id"]), (&1.into(), &"GPS".into()), "{status}");
    assert_eq!(status["tracking"]["source"], "pulses");
    let shown = server.ask_status(&[]);
    assert!(shown.output.contains("locked"), "{}", shown.output);
    thread::sleep(SETTLED);
    receiver.take_late_ns();
    let reader = Reader::start(&device(), receiver.truth);
    let (offsets, unsynchronised) = offsets(&server, &receiver.truth, 30);
    measured(&format!("pulses were made late by {}", micros(&receiver.take_late_ns())));
    measured(&format!("to a plain reader the kernel's stamps are late by {}", micros(&reader.late_ns())));
    measured(&format!("served time is off by {}", offset_micros(&offsets)));
    assert_eq!(unsynchronised, 0);
    assert!(is_held(&offsets), "{offsets:?}");
    stop(&mut server);
    let kept = kept_ppm(&scratch.path("state"));
    // The receiver is faster than the counter, so there are fewer ticks to its second.
    assert!((kept + PPM as f64).abs() < RATE_ERROR_PPM_MAX, "{kept} ppm of {PPM}");
    let mut server = serve(&scratch);
    let log = server.log();
    assert!(log.contains("begins with the counter's frequency as kept"), "{log}");
    let took = lock(&server).as_secs_f64();
    measured(&format!("with the frequency as kept, {kept:+.3} ppm, locked again after {took:.1} s"));
    stop(&mut server);
}

#[test]
fn a_bad_receiver_spoils_nothing() {
    if !is_counted_or_skip("a bad receiver") {
        return;
    }
    let scratch = Scratch::new();
    let receiver = Receiver::start(-PPM);
    let mut server = serve(&scratch);
    lock(&server);
    thread::sleep(SETTLED);
    let faults = &receiver.faults;
    // What replies said, and whether all of them said something.
    let hold = |what: &str, seconds: u64| {
        let (offsets, unsynchronised) = offsets(&server, &receiver.truth, seconds);
        let state = &server.status()["state"];
        measured(&format!(
            "{what}: {state}, off by {}; {unsynchronised} unsynchronised",
            offset_micros(&offsets)
        ));
        assert!(is_held(&offsets), "{what}: {offsets:?}; the log says:\n{}", server.log());
        unsynchronised
    };
    let set = |fault: &AtomicBool, is: bool| fault.store(is, Ordering::Relaxed);
    set(&faults.double, true);
    assert_eq!(hold("two pulses a second", 6), 0);
    set(&faults.double, false);
    set(&faults.speechless, true);
    assert_eq!(hold("no sentences", 6), 0);
    set(&faults.mute, true);
    assert_eq!(hold("neither pulses nor sentences", 12), 0);
    set(&faults.mute, false);
    set(&faults.speechless, false);
    assert_eq!(hold("back again", 12), 0);
    faults.wrong_s.store(1, Ordering::Relaxed);
    // Nobody is there to say who is right: it may lose its faith, but not follow.
    hold("sentences that name the next second", 12);
    stop(&mut server);
}
