//! Over the queues of an interface: they change hands, and requests come by sockets meanwhile.

use crate::applied::stops;
use crate::maser::{Finished, READY_LIMIT, within};
use crate::meter::{count, settles};
use crate::peers::skip;
use crate::wire::{ADDRESS, ANOTHER, Wire};
use crate::{MACHINE, Reloaded, load};
use serde_json::Value;
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

/// How many requests the program has given to AF_XDP sockets.
fn steered(reloaded: &Reloaded) -> u64 {
    reloaded.server.status()["interfaces"][0]["verdicts"]["steered"].as_u64().unwrap()
}

#[test]
fn queues_change_hands_and_nothing_is_lost() {
    let Some(wire) = Wire::new().map_err(|why| skip("queues_change_hands_and_nothing_is_lost", &why)).ok()
    else {
        return;
    };
    wire.another_address("add");
    let setting = wire.host_setting();
    let reloaded = Reloaded::start(setting, &config(&[ADDRESS], ""));
    let (first, second) = (reloaded.server.at(ADDRESS), reloaded.server.at(ANOTHER));
    let mut asker = wire.asker();
    assert!(within(READY_LIMIT, || asker.ask(first).then_some(())).is_some(), "{}", reloaded.server.log());
    let serves_over_queues = |reloaded: &Reloaded, to| {
        let mut asker = wire.asker();
        let before = steered(reloaded);
        let answered =
            (0..10).filter(|_| within(READY_LIMIT, || asker.ask(to).then_some(())).is_some()).count();
        assert_eq!(answered, 10, "{}", reloaded.server.log());
        assert!(steered(reloaded) >= before + 10, "replies to {to} don't come over AF_XDP");
    };
    serves_over_queues(&reloaded, first);
    let program = wire.program();
    let stop = AtomicBool::new(false);
    let (sent, answered, faults) = thread::scope(|scope| {
        // However the reloads end.
        let stopping = Stop(&stop);
        let probe = scope.spawn(|| {
            let mut asker = wire.asker();
            let mut sent: u64 = 0;
            while !stop.load(Ordering::Relaxed) {
                asker.send(first);
                sent += 1;
                thread::sleep(PROBE_EVERY);
                asker.take();
            }
            let _late = within(Duration::from_secs(2), || {
                asker.take();
                (asker.answered >= sent).then_some(())
            });
            (sent, asker.answered, asker.faults)
        });
        for batch in [32, 48, 64] {
            reloaded.reloader.apply(&config(&[ADDRESS, ANOTHER], &format!("batch = {batch}")));
        }
        drop(stopping);
        probe.join().unwrap()
    });
    crate::peers::log(&format!("AF_XDP: {answered} of {sent} answered over three reloads"));
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(answered, sent, "the log says:\n{}", reloaded.server.log());
    assert_eq!(wire.program(), program, "the program is the same");
    serves_over_queues(&reloaded, first);
    serves_over_queues(&reloaded, second);

    // The rings of queues that change hands hold more than one request at such a rate.
    let (rate, seconds) = load();
    let words = format!(
        "fixed {first} --sender packet --mix pool --from 10.1.0.0/16 --rate {rate} --time {seconds} --stamps 0 --quiet --json"
    );
    assert!(wire.load("--version").output().unwrap().status.success());
    settles(|| {
        let without: Value = serde_json::from_slice(&wire.load(&words).output().unwrap().stdout).unwrap();
        let (flood, reloads) = thread::scope(|scope| {
            let flood = scope.spawn(|| wire.load(&words).output().unwrap());
            let mut reloads = 0;
            while !flood.is_finished() {
                reloads += 1;
                reloaded.reloader.apply(&config(&[ADDRESS, ANOTHER], &format!("batch = {}", 32 + reloads)));
            }
            (flood.join().unwrap(), reloads)
        });
        let with: Value = serde_json::from_slice(&flood.stdout).unwrap();
        let (before, lost, sent) = (count(&without, "lost"), count(&with, "lost"), count(&with, "sent"));
        crate::peers::log(&format!(
            "AF_XDP: {rate}/s: {lost} of {sent} lost in {reloads} reloads, {before} without any"
        ));
        if before > 0 {
            return Err(format!("{before} lost without reloads: nothing can be told here"));
        }
        if lost > 0 || reloads < 3 { Err(format!("{lost} lost in {reloads} reloads")) } else { Ok(()) }
    });

    // What is refused leaves the queues where they are.
    let broken = config(&[ADDRESS], "batch = 16").replace("\n[limit]", "\nbusy_poll = true\n[limit]");
    let Finished { code, errors, .. } = reloaded.reloader.reload(&broken);
    assert!(code == Some(1) && errors.contains("server.busy_poll"), "{errors}");
    let resized = config(&[ADDRESS], "").replace("rate = 0", "rate = 0\nmemory = \"1 MiB\"");
    let Finished { code, errors, .. } = reloaded.reloader.reload(&resized);
    assert!(code == Some(1) && errors.contains("limit.memory (with server.interface)"), "{errors}");
    serves_over_queues(&reloaded, first);
    reloaded.reloader.apply(&config(&[ADDRESS], ""));
    serves_over_queues(&reloaded, first);
    stops(reloaded.server);
    assert_eq!(wire.program(), None);
}
