//! The same over AF_XDP: the program stays while the keeper lives, and goes with it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::maser::{END_LIMIT, READY_LIMIT, Server, now, within};
use crate::peers::{log, skip};
use crate::wire::{ADDRESS, ANOTHER, Wire};
use crate::{BACK_LIMIT, TRIES, status_of};

const PROBE_EVERY: Duration = Duration::from_millis(5);
/// Requests a second while the server is killed.
const RATE: u32 = 100_000;
const FLOOD_S: u32 = 4;

fn wire_or_skip(name: &str) -> Option<Wire> {
    Wire::new().map_err(|reason| skip(name, &reason)).ok()
}

/// Frames that the program gave to AF_XDP sockets.
fn steered(server: &Server) -> u64 {
    server.status()["interfaces"][0]["verdicts"]["steered"].as_u64().expect("a count")
}

/// Whether replies come over AF_XDP: the program hands on as many requests as are asked.
fn assert_serves(wire: &Wire, server: &Server) {
    let (mut asker, address) = (wire.asker(), server.at(ADDRESS));
    let answers = within(READY_LIMIT, || asker.ask(address).then_some(()));
    assert!(answers.is_some(), "nobody answers; the log says:\n{}", server.log());
    let before = steered(server);
    assert!((0..10).any(|_| asker.ask(address)), "{}", server.log());
    assert!(steered(server) > before, "replies don't come over AF_XDP");
    assert_eq!(asker.faults, Vec::<String>::new());
}

#[test]
fn the_program_outlives_servers() {
    let Some(wire) = wire_or_skip("the_program_outlives_servers") else { return };
    let mut server = wire.setting().start();
    let program = wire.program();
    assert!(program.is_some(), "there is a program");
    for signal in [Signal::SIGKILL, Signal::SIGABRT, Signal::SIGTERM] {
        // One that died at its start would have to wait.
        thread::sleep(Duration::from_millis(1_100));
        let first = server.server_id();
        server.signal_server(signal);
        let told = within(READY_LIMIT, || {
            let serves = server.server_id();
            (serves != first && serves != server.process_id() && status_of(first).is_none()).then_some(())
        });
        assert!(told.is_some(), "{signal}: no other server; the log says:\n{}", server.log());
        assert_serves(&wire, &server);
        assert_eq!(wire.program(), program, "{signal}: it is the same");
    }
    server.stop();
    assert_eq!(wire.program(), None);
}

#[test]
fn the_program_goes_with_the_keeper() {
    let Some(wire) = wire_or_skip("the_program_goes_with_the_keeper") else { return };
    for signal in [Signal::SIGKILL, Signal::SIGABRT, Signal::SIGTERM] {
        let mut server = wire.setting().start();
        assert_serves(&wire, &server);
        assert!(wire.program().is_some());
        let process = server.server_id();
        server.signal(signal);
        let gone = within(END_LIMIT, || {
            (server.has_ended().is_some() && status_of(process).is_none() && wire.program().is_none())
                .then_some(())
        });
        assert!(
            gone.is_some(),
            "{signal}: keeper {:?}, server {}, program {:?}; the log says:\n{}",
            server.has_ended(),
            status_of(process).is_some(),
            wire.program(),
            server.log()
        );
        let mut next = wire.setting().start();
        assert_serves(&wire, &next);
        next.stop();
    }
}

/// The longest time without a reply, asking every [`PROBE_EVERY`], until `stop`; and what was wrong with replies.
fn longest_gap(wire: &Wire, to: SocketAddr, stop: &AtomicBool) -> (Duration, Vec<String>) {
    let mut asker = wire.asker();
    let (mut longest, mut last) = (Duration::ZERO, now());
    while !stop.load(Ordering::Relaxed) {
        asker.send(to);
        thread::sleep(PROBE_EVERY);
        if asker.take() {
            longest = longest.max(last.elapsed());
            last = now();
        }
    }
    (longest.max(last.elapsed()), asker.faults)
}

#[test]
fn a_flood_waits_less_than_a_second_for_the_next_server() {
    let name = "a_flood_waits_less_than_a_second_for_the_next_server";
    let Some(wire) = wire_or_skip(name) else { return };
    let mut server = wire.setting().start();
    let address = server.at(ADDRESS);
    let words = format!(
        "fixed {address} --sender packet --mix pool --from 10.1.0.0/16 --rate {RATE} --time {FLOOD_S} --stamps 0 --quiet --json"
    );
    // Built now, so that the flood is under way when the server is killed.
    assert!(wire.load("--version").output().expect("maser-load runs").status.success());
    // Other tests load this machine, too.
    let is_soon = (0..TRIES).any(|_| {
        assert_serves(&wire, &server);
        let stop = AtomicBool::new(false);
        let (gap, faults, flood) = thread::scope(|scope| {
            let probe = scope.spawn(|| longest_gap(&wire, address, &stop));
            let flood = scope.spawn(|| wire.load(&words).output().expect("maser-load runs"));
            thread::sleep(Duration::from_secs(2));
            server.signal_server(Signal::SIGKILL);
            let flood = flood.join().expect("it doesn't panic");
            stop.store(true, Ordering::Relaxed);
            let (gap, faults) = probe.join().expect("it doesn't panic");
            (gap, faults, flood)
        });
        if !flood.status.success() {
            // The one request by which it learns the way met nobody.
            log(&format!("no flood: {}", String::from_utf8_lossy(&flood.stderr)));
            return false;
        }
        let flood: serde_json::Value = serde_json::from_slice(&flood.stdout).expect("a document");
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!((&flood["invalid"], &flood["duplicate"]), (&0.into(), &0.into()), "{flood}");
        log(&format!(
            "SIGKILL under {RATE} requests a second: no reply for {} ms; of {} requests {} were answered",
            gap.as_millis(),
            flood["sent"],
            flood["received"]
        ));
        gap < BACK_LIMIT
    });
    assert!(is_soon, "the log says:\n{}", server.log());
    server.stop();
}

#[test]
fn an_address_that_is_away_at_a_restart_is_served_once_it_is_back() {
    let name = "an_address_that_is_away_at_a_restart_is_served_once_it_is_back";
    let Some(wire) = wire_or_skip(name) else { return };
    wire.another_address("add");
    let mut server = wire.setting_at(ANOTHER).start();
    let (mut asker, address) = (wire.asker(), server.at(ANOTHER));
    let mut answers = |within_limit: Duration| within(within_limit, || asker.ask(address).then_some(()));
    assert!(answers(READY_LIMIT).is_some(), "{}", server.log());
    // One that died at its start would have to wait.
    thread::sleep(Duration::from_millis(1_100));
    wire.another_address("delete");
    let first = server.server_id();
    server.signal_server(Signal::SIGKILL);
    let again =
        || (server.log().contains("the server answers again") && server.server_id() != first).then_some(());
    assert!(within(READY_LIMIT, again).is_some(), "no other server; the log says:\n{}", server.log());
    assert!(answers(Duration::from_millis(100)).is_none(), "nobody has this address");
    wire.another_address("add");
    assert!(answers(READY_LIMIT).is_some(), "nobody answers; the log says:\n{}", server.log());
    server.stop();
    // At the first start that is a mistake.
    wire.another_address("delete");
    let refused = wire.setting_at(ANOTHER).refused(END_LIMIT);
    assert!(refused.code != Some(0) && refused.errors.contains("10.55.2.9"), "{}", refused.errors);
}
