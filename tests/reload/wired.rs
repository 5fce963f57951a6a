//! Over the queues of an interface: they change hands, and requests come by sockets meanwhile.

use crate::applied::stops;
use crate::asked::LOST_IN_10000;
use crate::maser::{Finished, READY_LIMIT, within};
use crate::meter::{count, settles};
use crate::peers::{log, skip};
use crate::wire::{ADDRESS, ANOTHER, Asker, Wire};
use crate::{MACHINE, Reloaded, load};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const PROBE_EVERY: Duration = Duration::from_millis(2);

/// Ends a loop when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn config(addresses: &[std::net::Ipv4Addr], more: &str) -> String {
    let listen: Vec<_> = addresses.iter().map(|address| format!("\"{address}:PORT\"")).collect();
    format!(
        "[server]\nlisten = [{}]\nport = \"af-xdp\"\ninterface = [\"eth0\"]\n{more}\n[limit]\nrate = 0\n{MACHINE}",
        listen.join(", ")
    )
}

/// The two hosts, and a server over AF_XDP on one.
struct Rig {
    wire: Wire,
    reloaded: Reloaded,
    first: SocketAddr,
    second: SocketAddr,
}

impl Rig {
    fn new(name: &str) -> Option<Self> {
        let wire = Wire::new().map_err(|why| skip(name, &why)).ok()?;
        wire.another_address("add");
        let reloaded = Reloaded::start(wire.host_setting(), &config(&[ADDRESS], ""));
        let (first, second) = (reloaded.server.at(ADDRESS), reloaded.server.at(ANOTHER));
        let rig = Self { wire, reloaded, first, second };
        rig.serves_over_queues(first);
        Some(rig)
    }

    /// How many requests the program has given to AF_XDP sockets.
    fn steered(&self) -> u64 {
        self.reloaded.server.status()["interfaces"][0]["verdicts"]["steered"].as_u64().unwrap()
    }

    fn serves_over_queues(&self, to: SocketAddr) {
        let mut asker = self.wire.asker();
        let mut answers = || within(READY_LIMIT, || asker.ask(to).then_some(())).is_some();
        // The first one learns the way.
        assert!(answers(), "{}", self.reloaded.server.log());
        let before = self.steered();
        assert!((0..10).all(|_| answers()), "{}", self.reloaded.server.log());
        assert!(self.steered() >= before + 10, "replies to {to} don't come over AF_XDP");
    }

    /// Reloads with another batch and both addresses.
    fn reload(&self, batch: u32) {
        self.reloaded.reloader.apply(&config(&[ADDRESS, ANOTHER], &format!("batch = {batch}")));
    }
}

/// Asks every few milliseconds until `stop`: how often, how often there was an answer, what was wrong with it.
fn probe(mut asker: Asker, to: SocketAddr, stop: &AtomicBool) -> (u64, u64, Vec<String>) {
    let mut sent: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        asker.send(to);
        sent += 1;
        thread::sleep(PROBE_EVERY);
        asker.take();
    }
    let _late = within(Duration::from_secs(2), || {
        asker.take();
        (asker.answered >= sent).then_some(())
    });
    (sent, asker.answered, asker.faults)
}

#[test]
fn queues_change_hands_and_the_program_stays() {
    let Some(rig) = Rig::new("queues_change_hands_and_the_program_stays") else { return };
    let program = rig.wire.program();
    let stop = AtomicBool::new(false);
    let (sent, answered, faults) = thread::scope(|scope| {
        // However the reloads end.
        let stopping = Stop(&stop);
        let (asker, to) = (rig.wire.asker(), rig.first);
        let stop = &stop;
        let probe = scope.spawn(move || probe(asker, to, stop));
        for batch in [32, 48, 64] {
            rig.reload(batch);
        }
        drop(stopping);
        probe.join().unwrap()
    });
    log(&format!("AF_XDP: {answered} of {sent} answered over three reloads"));
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(answered, sent, "the log says:\n{}", rig.reloaded.server.log());
    assert_eq!(rig.wire.program(), program, "the program is the same");
    rig.serves_over_queues(rig.first);
    rig.serves_over_queues(rig.second);
    let Rig { wire, reloaded, .. } = rig;
    stops(reloaded.server);
    assert_eq!(wire.program(), None);
}

/// The rings of queues that change hands hold more than one request at such a rate.
#[test]
fn reloads_under_load_lose_nothing_of_the_queues() {
    let Some(rig) = Rig::new("reloads_under_load_lose_nothing_of_the_queues") else { return };
    let (rate, seconds) = load();
    let words = format!(
        "fixed {} --sender packet --mix pool --from 10.1.0.0/16 --rate {rate} --time {seconds} --stamps 0 --quiet --json",
        rig.first
    );
    let wire = &rig.wire;
    let flood = || wire.load(&words).output().unwrap();
    let document = |output: Output| serde_json::from_slice::<Value>(&output.stdout).unwrap();
    // Built before anything is measured.
    assert!(rig.wire.load("--version").output().unwrap().status.success());
    settles(|| {
        let without = document(flood());
        let (with, reloads) = thread::scope(|scope| {
            let flood = scope.spawn(flood);
            let mut reloads = 0;
            while !flood.is_finished() {
                reloads += 1;
                rig.reload(32 + reloads);
            }
            (document(flood.join().unwrap()), reloads)
        });
        let (before, lost, sent) = (count(&without, "lost"), count(&with, "lost"), count(&with, "sent"));
        log(&format!("AF_XDP: {rate}/s: {lost} of {sent} lost in {reloads} reloads, {before} without any"));
        if before > sent / 1_000 {
            return Err(format!("{before} lost without reloads: nothing can be told here"));
        }
        if lost > before + sent * LOST_IN_10000 / 10_000 || reloads < 3 {
            return Err(format!("{lost} of {sent} lost in {reloads} reloads, {before} without"));
        }
        Ok(())
    });
    rig.serves_over_queues(rig.first);
    stops(rig.reloaded.server);
}

#[test]
fn what_is_refused_leaves_the_queues_where_they_are() {
    let Some(rig) = Rig::new("what_is_refused_leaves_the_queues_where_they_are") else { return };
    let process = rig.reloaded.server.server_id();
    let polling = config(&[ADDRESS], "busy_poll = true");
    let resized = config(&[ADDRESS], "").replace("rate = 0", "rate = 0\nmemory = \"1 MiB\"");
    let listed = format!("{}[access]\ndeny_file = \"/nonexistent/list\"\n", config(&[ADDRESS], ""));
    for (config, said) in [
        (polling, "server.busy_poll"),
        (resized, "limit.memory (with server.interface)"),
        (listed, "/nonexistent/list"),
    ] {
        let Finished { code, errors, .. } = rig.reloaded.reloader.reload(&config);
        assert!(code == Some(1) && errors.contains(said), "{errors}");
        assert_eq!(rig.reloaded.server.server_id(), process);
        rig.serves_over_queues(rig.first);
    }
    stops(rig.reloaded.server);
}
