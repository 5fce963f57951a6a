//! Millions of packets, a tenth of them garbage, over AF_XDP while links flap, addresses come and go and the server is
//! killed twice: no frame leaks, no reply is wrong, memory stays flat, and the counts add up.
//!
//! `MASER_SOAK_PACKETS` says how many; `tests/run xdp_soak` sends 20 million from the release build.

#[path = "daemon/maser.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod maser;
#[path = "soak/memory.rs"]
mod memory;
#[allow(dead_code, reason = "shared with other tests")]
mod peers;
#[path = "soak/round.rs"]
mod round;
mod support;
#[path = "keeper/wire.rs"]
#[allow(dead_code, reason = "shared with the keeper's tests")]
mod wire;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use maser::{READY_LIMIT, Server, serving_process, within};
use memory::{Lives, is_flat};
use nix::sys::signal::Signal;
use peers::{log, skip};
use round::{Counted, Sent, counted, send_round};
use serde_json::Value;
use support::request;
use wire::{ADDRESS, ANOTHER, Asker, Wire, judge};

const PACKETS: &str = "MASER_SOAK_PACKETS";
/// What a run of all tests has the time for.
const PACKETS_USUAL: u64 = 300_000;
const ROUNDS: u64 = 7;
/// A machine that others load sends less in a round than it is told to.
const ROUNDS_MAX: u64 = 60;
/// The server is killed in these.
const KILLED_IN: [u64; 2] = [2, 5];
/// How long an address may be answered that isn't ours any more.
const ADDRESS_GONE: Duration = Duration::from_secs(1);
/// What is under way when the generators end has arrived by then.
const QUIET: Duration = Duration::from_millis(600);
const PROBE_EVERY: Duration = Duration::from_millis(10);
const SAMPLED_EVERY: Duration = Duration::from_millis(200);

#[test]
fn frames_replies_memory_and_counts_hold() {
    let wire = match Wire::new() {
        Ok(wire) => wire,
        Err(reason) => return skip("frames_replies_memory_and_counts_hold", &reason),
    };
    let packets = std::env::var(PACKETS).map_or(PACKETS_USUAL, |text| text.parse().expect("a number"));
    let mut server = wire.setting().start();
    let (address, keeper) = (server.at(ADDRESS), server.process_id());
    let stop = AtomicBool::new(false);
    let (lives, faults, total) = thread::scope(|scope| {
        // Both end however this one does: a failure must not wait for them.
        let _stop = StopAtEnd(&stop);
        let probe = scope.spawn(|| probe(&wire, address, &stop));
        let sampler = scope.spawn(|| sample(keeper, &stop));
        let total = rounds(&wire, &server, packets);
        stop.store(true, Ordering::Relaxed);
        let asker = probe.join().expect("it doesn't panic");
        log(&format!("soak: {} replies to a client between, {} wrong", asker.answered, asker.faults.len()));
        assert!(asker.answered > 0, "the client between was never answered");
        (sampler.join().expect("it doesn't panic"), asker.faults, total)
    });
    assert_eq!(faults, Vec::<String>::new(), "wrong replies");
    check_counts(&wire, &server);
    let missing = frames_missing(&server.status());
    log(&format!("soak: {total:?}; {missing} frames missing"));
    assert_eq!(missing, 0, "leaked frames");
    assert!(total.packets() >= packets, "{total:?}");
    assert!(total.received > 0 && total.garbage * 20 > total.packets(), "{total:?}");
    assert_eq!(total.wrong, 0, "wrong replies: {total:?}");
    assert_eq!(lives.0.len(), 1 + KILLED_IN.len(), "each server was seen: {lives:?}");
    for (process, memory_kib) in &lives.0 {
        let verdict = is_flat(memory_kib);
        log(&format!("soak: memory of server {process}: {verdict:?}"));
        assert!(verdict.is_ok(), "server {process}: {verdict:?} of {memory_kib:?} KiB");
    }
    server.stop();
}

/// Sets it when dropped.
struct StopAtEnd<'s>(&'s AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends `packets` in all, in rounds with disturbances.
fn rounds(wire: &Wire, server: &Server, packets: u64) -> Sent {
    let mut total = Sent::default();
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS && total.packets() >= packets {
            break;
        }
        // The link is down for a while.
        let share = packets * 11 / 10 / ROUNDS;
        let sent = send_round(wire, server.at(ADDRESS), share, || {
            if KILLED_IN.contains(&round) {
                kill(server);
            } else {
                wire.flap(Duration::from_millis(100));
                change_addresses(wire, server);
            }
        });
        total.add(&sent);
        log(&format!("soak: round {round}: {sent:?}; {} of {packets} packets", total.packets()));
    }
    total
}

/// Kills the server's process, and waits until another has started.
fn kill(server: &Server) {
    let first = server.server_id();
    server.signal_server(Signal::SIGKILL);
    let another = || {
        let serves = server.server_id();
        (serves != first && serves != server.process_id()).then_some(())
    };
    assert!(within(READY_LIMIT, another).is_some(), "no other server; the log says:\n{}", server.log());
}

/// Another address is answered while it is ours, and a second later no longer.
fn change_addresses(wire: &Wire, server: &Server) {
    let (mut asker, another) = (wire.asker(), server.at(ANOTHER));
    wire.another_address("add");
    let answers = within(READY_LIMIT, || asker.ask(another).then_some(()));
    assert!(answers.is_some(), "{another} isn't answered; the log says:\n{}", server.log());
    wire.another_address("delete");
    thread::sleep(ADDRESS_GONE);
    asker.take();
    for _ in 0..10 {
        assert!(!asker.ask(another), "{another} is answered {ADDRESS_GONE:?} after it was removed");
    }
    assert_eq!(asker.faults, Vec::<String>::new());
}

/// A client that asks all the time and judges what it gets.
fn probe(wire: &Wire, to: SocketAddr, stop: &AtomicBool) -> Asker {
    let mut asker = wire.asker();
    while !stop.load(Ordering::Relaxed) {
        asker.send(to);
        thread::sleep(PROBE_EVERY);
        asker.take();
    }
    asker
}

/// The memory of a keeper's servers.
fn sample(keeper: u32, stop: &AtomicBool) -> Lives {
    let mut lives = Lives::default();
    while !stop.load(Ordering::Relaxed) {
        let serves = serving_process(keeper);
        if serves != keeper {
            lives.sample(serves);
        }
        thread::sleep(SAMPLED_EVERY);
    }
    lives
}

/// An undisturbed round: what was sent, what the program gave to sockets, and what became of it, are one number.
fn check_counts(wire: &Wire, server: &Server) {
    thread::sleep(QUIET);
    let before = counted(&server.status());
    let sent = send_round(wire, server.at(ADDRESS), PACKETS_USUAL / ROUNDS, || ());
    thread::sleep(QUIET);
    let Counted { passed, dropped, steered, settled } = counted(&server.status()).since(&before);
    let sent = sent.packets();
    log(&format!(
        "soak: undisturbed: sent {sent}, passed {passed}, dropped {dropped}, steered {steered}, accounted for {settled}"
    ));
    assert_eq!(
        (sent, steered),
        (passed + dropped + steered, settled),
        "sent and seen; steered and accounted for"
    );
    assert!(passed * 5_000 < sent, "{passed} of {sent} passed to the kernel");
}

fn frames_missing(status: &Value) -> u64 {
    let workers = status["workers"].as_array().expect("workers");
    assert!(workers.iter().any(|worker| worker["port"] == "af-xdp"), "{status}");
    workers.iter().map(|worker| worker["frames_missing"].as_u64().expect("a count")).sum()
}

/// Makes a reply wrong.
type Spoil<'a> = &'a dyn Fn(&mut Vec<u8>);

/// Shows that the judge can fail.
#[test]
fn each_fault_of_a_reply_is_seen() {
    let [asked, stranger]: [SocketAddr; 2] =
        ["10.55.2.1:123", "10.55.2.9:123"].map(|text| text.parse().expect("an address"));
    let judged = |from, spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut reply = request(0).to_vec();
        (reply[0], reply[1], reply[31], reply[47]) = (0x24, 1, 7, 1);
        spoil(&mut reply);
        judge(&reply, from, &mut HashSet::from([(asked, 7)]))
    };
    assert_eq!(judged(asked, &|_| ()), Ok(()));
    assert!(judged(stranger, &|_| ()).is_err(), "from another address");
    let spoilt: [(&str, Spoil<'_>); 6] = [
        ("length", &|reply| reply.push(0)),
        ("origin", &|reply| reply[31] = 8),
        ("mode", &|reply| reply[0] = 0x23),
        ("stratum", &|reply| reply[1] = 16),
        ("leap", &|reply| reply[0] = 0xE4),
        ("order of timestamps", &|reply| reply[39] = 2),
    ];
    for (what, spoil) in spoilt {
        assert!(judged(asked, spoil).is_err(), "{what}");
    }
}
