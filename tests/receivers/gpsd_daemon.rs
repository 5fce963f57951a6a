//! The daemon serves what the real gpsd hears from gpsfake: gpsfake → gpsd → shared memory → `maser serve` → NTP.
//!
//! The log begins in another second than the machine's, and gpsd's own protocol tells the test which of its sentences was
//! played last, so that neither the machine's clock nor a date alone passes for the receiver's time.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use maser_sys::kernel_clock::{KernelClock, read};
use serde_json::Value;

use super::gpsd_rig::{GPSD_PORT, Gpsfake, in_namespaces};
use super::maser::{Client, Server, Setting, text, within};
use super::messages::burst;
use super::peers::log;
use super::support::error_ns;

/// gpsd believes no date that is years away from the machine's own.
const BEHIND_S: i64 = 1_000;
/// A sentence a second: none but the first of a second's begins it.
const LOG_S: i64 = 120;
const SENTENCE_PAUSE_S: &str = "1";

const GPSD_LIMIT: Duration = Duration::from_secs(15);
const LOCK_LIMIT: Duration = Duration::from_secs(40);
const HOLDOVER_LIMIT: Duration = Duration::from_secs(20);
const ASKED: usize = 10;
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// What a second of served time may differ from one of the counter's: gpsfake's pauses are longer than it is told, by
/// how much depends on the load.
const SECOND_WITHIN_NS: i64 = 20_000_000;

#[test]
fn the_daemon_serves_what_the_real_gpsd_hears() {
    in_namespaces("gpsd_daemon::the_daemon_serves_what_the_real_gpsd_hears", inside);
}

fn inside(tree: &Path) {
    let first_s = read(KernelClock::Realtime) / 1_000_000_000 - BEHIND_S;
    let sentences = (first_s..first_s + LOG_S).map(|unix_s| burst(unix_s).lines().next().unwrap().to_owned());
    let sentences: Vec<String> = sentences.collect();
    let server = start();
    let played = sentences.join("\r\n") + "\r\n";
    let gpsfake = Gpsfake::start(tree, &server.setting.scratch.path("gpsfake"), &played, SENTENCE_PAUSE_S);
    let heard = listen(first_s, sentences, &gpsfake);

    let locked = reaches(&server, "locked", LOCK_LIMIT, &gpsfake);
    assert_eq!(
        (&locked["source"], &locked["stratum"], &locked["reference_id"]),
        (&"roof".into(), &1.into(), &"GPS".into())
    );
    let status = server.status();
    let source = &status["sources"][0];
    assert_eq!((&source["name"], &source["verdict"]), (&"roof".into(), &"followed".into()), "{source:#}");
    expect_replies(&server, &heard, first_s);

    drop(gpsfake);
    let gone = "gpsfake was killed";
    let holdover = within(HOLDOVER_LIMIT, || tracking_if(&server, "holdover"));
    let holdover = holdover.unwrap_or_else(|| panic!("{gone}, and no holdover:\n{}", server.log()));
    assert!(server.log().contains("holdover: no source tells the time"), "{}", server.log());
    let (reply, _) = Client::at(Ipv4Addr::LOCALHOST).ask(server.address()).unwrap();
    assert!(reply.synchronised() && reply.stratum == 1, "{gone}: {reply:?}");
    let grown = holdover["root_distance_s"].as_f64() > locked["root_distance_s"].as_f64();
    assert!(grown, "{gone}, and the distance doesn't grow:\n{locked:#}\n{holdover:#}");
    log(&format!("gpsd: {gone}: holdover at a distance of {} s", holdover["root_distance_s"]));
}

/// A server whose only source is the segment that gpsd puts the time of sentences in.
fn start() -> Server {
    let setting = Setting::new();
    let (config, state) = (setting.scratch.path("maser.toml"), setting.scratch.path("state"));
    for directory in [&state, &setting.scratch.path("gpsfake")] {
        fs::create_dir(directory).unwrap();
    }
    let lines = format!(
        "[server]\nworkers = 1\n[clock]\nstate = \"{}\"\nroot_distance_max = \"500 ms\"\n\
         [[source]]\ntype = \"gpsd\"\nname = \"roof\"\nshm = 0\n",
        text(&state)
    );
    fs::write(&config, lines).unwrap();
    setting.with(&["--config", text(&config)]).start()
}

fn tracking_if(server: &Server, state: &str) -> Option<Value> {
    thread::sleep(Duration::from_millis(200));
    Some(server.status()["tracking"].clone()).filter(|tracking| tracking["state"] == state)
}

fn reaches(server: &Server, state: &str, limit: Duration, gpsfake: &Gpsfake) -> Value {
    within(limit, || tracking_if(server, state))
        .unwrap_or_else(|| panic!("not {state}:\n{}\ngpsfake said:\n{}", server.log(), gpsfake.output()))
}

/// A second of the log, and `CLOCK_MONOTONIC_RAW` when gpsd had heard of it.
#[derive(Clone, Copy)]
struct Heard {
    unix_s: i64,
    raw_ns: i64,
}

/// What gpsd hears, by its own protocol, sentence by sentence.
fn listen(first_s: i64, sentences: Vec<String>, gpsfake: &Gpsfake) -> Receiver<Heard> {
    let connected = within(GPSD_LIMIT, || TcpStream::connect((Ipv4Addr::LOCALHOST, GPSD_PORT)).ok());
    let mut gpsd = connected
        .unwrap_or_else(|| panic!("no gpsd at port {GPSD_PORT}; gpsfake said:\n{}", gpsfake.output()));
    gpsd.write_all(b"?WATCH={\"enable\":true,\"raw\":1};\n").unwrap();
    let (teller, heard) = channel();
    // Ends with gpsd, or once nobody listens any more.
    thread::spawn(move || {
        for line in BufReader::new(gpsd).lines().map_while(Result::ok) {
            let raw_ns = read(KernelClock::MonotonicRaw);
            let Some(index) = sentences.iter().position(|sentence| *sentence == line) else { continue };
            let unix_s = first_s + i64::try_from(index).unwrap();
            if teller.send(Heard { unix_s, raw_ns }).is_err() {
                break;
            }
        }
    });
    heard
}

/// Asks for some seconds and holds each reply against what gpsfake has played by then.
fn expect_replies(server: &Server, heard: &Receiver<Heard>, first_s: i64) {
    let client = Client::at(Ipv4Addr::LOCALHOST);
    let mut last = heard.recv_timeout(GPSD_LIMIT).expect("gpsd heard of the seconds that are served");
    let mut previous: Option<(i64, i64)> = None;
    for _ in 0..ASKED {
        thread::sleep(ASKED_EVERY);
        last = heard.try_iter().last().unwrap_or(last);
        let before_ns = read(KernelClock::MonotonicRaw);
        let (reply, _) = client.ask(server.address()).expect("a server that is locked answers");
        let raw_ns = before_ns.midpoint(read(KernelClock::MonotonicRaw));
        assert_eq!((reply.leap, reply.stratum, &reply.reference_id), (0, 1, b"GPS\0"), "{reply:?}");
        let off_ns = error_ns(reply.transmit, last.unix_s * 1_000_000_000 + raw_ns - last.raw_ns);
        let distance_ns = reply.distance_ns();
        assert!(off_ns.abs() <= distance_ns, "{off_ns} ns from what is played, {distance_ns} ns stated");
        let after_first_ns = error_ns(reply.transmit, first_s * 1_000_000_000);
        assert!((0..LOG_S * 1_000_000_000).contains(&after_first_ns), "{after_first_ns} ns isn't in the log");
        if let Some((previous_ns, previous_raw_ns)) = previous {
            let apart_ns = after_first_ns - previous_ns - (raw_ns - previous_raw_ns);
            assert!(apart_ns.abs() <= SECOND_WITHIN_NS, "{apart_ns} ns apart after a second");
        }
        log(&format!(
            "gpsd: served {} µs from what is played, within {} µs",
            off_ns / 1_000,
            distance_ns / 1_000
        ));
        previous = Some((after_first_ns, raw_ns));
    }
}
