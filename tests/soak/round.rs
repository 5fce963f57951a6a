//! A round of packets, nine tenths requests and one tenth garbage, and what was counted of it.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::maser::{Scratch, finish};
use crate::wire::Wire;

/// What two cores that also have to answer bring about; a round that is worth less than this many seconds is slower.
const RATE_MAX: u64 = 300_000;
const ROUND_S_MIN: u64 = 3;
/// Generators have learnt the way by then.
const LEARNT: Duration = Duration::from_millis(800);
const ROUND_LIMIT: Duration = Duration::from_secs(120);

/// What the generators of a round, or of all, say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) requests: u64,
    pub(crate) garbage: u64,
    /// Right replies.
    pub(crate) received: u64,
    /// Invalid ones, duplicates, and those to garbage.
    pub(crate) wrong: u64,
    /// Requests by which the generators learnt the way.
    learning: u64,
}

impl Sent {
    pub(crate) const fn packets(&self) -> u64 {
        self.requests + self.garbage + self.learning
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.garbage += other.garbage;
        self.received += other.received;
        self.wrong += other.wrong;
        self.learning += other.learning;
    }
}

/// Sends a round while `disturb` runs. Both generators share a core with each other rather than with the server's worker.
pub(crate) fn send_round(wire: &Wire, to: SocketAddr, packets: u64, disturb: impl FnOnce()) -> Sent {
    let rate = (packets / ROUND_S_MIN).clamp(1_000, RATE_MAX);
    let seconds = packets.div_ceil(rate);
    let words = |mix, from, rate| {
        format!(
            "fixed {to} --sender packet --mix {mix} --from {from} --clients 10000 --rate {rate} --time {seconds} --stamps 0 --quiet --json"
        )
    };
    let scratches = [Scratch::new(), Scratch::new()];
    let commands = [
        wire.load(&words("pool", "10.1.0.0/16", rate - rate / 10)),
        wire.load(&words("garbage", "10.2.0.0/16", rate / 10)),
    ];
    thread::scope(|scope| {
        let runs: Vec<_> = commands
            .into_iter()
            .zip(&scratches)
            .map(|(command, scratch)| scope.spawn(|| document(command, scratch)))
            .collect();
        thread::sleep(LEARNT);
        disturb();
        let mut runs = runs.into_iter().map(|run| run.join().expect("it doesn't panic"));
        let (requests, garbage) = (runs.next().expect("two"), runs.next().expect("two"));
        let of = |run: &Value, name: &str| run[name].as_u64().unwrap_or_else(|| panic!("no {name} in {run}"));
        assert_eq!(of(&garbage, "silence_expected"), of(&garbage, "sent"), "nobody answers garbage");
        let wrong = |run: &Value| of(run, "invalid") + of(run, "duplicate");
        Sent {
            requests: of(&requests, "sent"),
            garbage: of(&garbage, "sent"),
            received: of(&requests, "received"),
            wrong: wrong(&requests) + wrong(&garbage) + of(&garbage, "received"),
            learning: 2,
        }
    })
}

fn document(command: Command, scratch: &Scratch) -> Value {
    let finished = finish(command, scratch, ROUND_LIMIT);
    assert_eq!(finished.code, Some(0), "maser-load: {}", finished.errors);
    serde_json::from_str(&finished.output).unwrap_or_else(|error| panic!("{error} in {}", finished.output))
}

/// What the program and those behind it count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// Left to the kernel, since one checksum in 65,536 looks like one that a NIC is to finish.
    pub(crate) passed: u64,
    /// Dropped by the program: garbage that nobody would answer.
    pub(crate) dropped: u64,
    /// Given to AF_XDP sockets.
    pub(crate) steered: u64,
    /// Answered or dropped, each with its reason, by the kernel's part of AF_XDP or by the worker.
    pub(crate) settled: u64,
}

impl Counted {
    pub(crate) const fn since(&self, before: &Self) -> Self {
        Self {
            passed: self.passed - before.passed,
            dropped: self.dropped - before.dropped,
            steered: self.steered - before.steered,
            settled: self.settled - before.settled,
        }
    }
}

/// From the server's status.
pub(crate) fn counted(status: &Value) -> Counted {
    let all = |counters: &Value| -> u64 {
        let counters = counters.as_object().expect("counters").values();
        counters.map(|value| value.as_u64().expect("a count")).sum()
    };
    let some = |counters: &Value, names: &[&str]| -> u64 {
        names
            .iter()
            .map(|name| counters[name].as_u64().unwrap_or_else(|| panic!("no {name}: {counters}")))
            .sum()
    };
    let interface = &status["interfaces"][0];
    let queues = interface["queues"].as_array().expect("queues").iter();
    let workers = status["workers"].as_array().expect("workers").iter();
    let by_kernel: u64 = queues.map(|queue| some(&queue["events"], &["rx-dropped", "rx-ring-full"])).sum();
    let by_workers: u64 = workers
        .filter(|worker| worker["port"] == "af-xdp")
        .map(|worker| {
            all(&worker["answers"])
                + all(&worker["drops"])
                + some(&worker["events"], &["send-congested", "send-refused"])
        })
        .sum();
    let verdicts = &interface["verdicts"];
    Counted {
        passed: some(verdicts, &["partial-checksum"]),
        dropped: some(verdicts, &["dropped-short", "dropped-version", "dropped-mode"]),
        steered: some(verdicts, &["steered"]),
        settled: by_kernel + by_workers,
    }
}
