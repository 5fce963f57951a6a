//! The rig that judges maser: bare echo servers, chronyd and maser's ports take turns at answering `maser-load`.
//!
//! `make bench` prepares, builds and runs it; `QUICK=1 make bench` in less time, with rougher figures that stay out of the tree;
//! `ONLY=chronyd,socket` measures those whose names hold one of these words, `meter`, `queues`, `interleaved` and `limits` among them.
//! Each server answers on a core of its own over a veth pair ([`hosts`]) and is measured for its peak, its latency and the accuracy
//! of its stamps ([`measure`]), in interleaved rounds. The generator is measured too ([`meter`]), who meets which worker where there
//! are several queues ([`queues`]), how honest transmit timestamps are ([`interleaved`]), and what floods do to regulars
//! ([`limits`]). The table is printed, the run goes to `docs/results`, and the figures of the README are rewritten ([`report`]). A
//! ratio that is missed is told, and fails nothing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its table is for the standard output")]

mod figures;
#[path = "../../tests/peers/host.rs"]
#[allow(dead_code, reason = "the clients' tests use more of it")]
mod host;
mod hosts;
mod interleaved;
mod interleaved_table;
mod limits;
mod limits_table;
mod measure;
mod meter;
mod picture;
mod queues;
mod report;
mod servers;
mod table;

use std::error::Error;
use std::time::Duration;

use hosts::{Hosts, Placement};
use maser_sys::kernel_clock::{self, KernelClock};
use measure::{Run, Sample, Times};
use servers::{Programs, SERVERS};

const ROUNDS: u32 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo says so to what it runs as a benchmark; `cargo test --benches` doesn't.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("nothing measured: this is run by `make bench`");
        return Ok(());
    }
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty() && value != "0");
    let (quick, only) = (set("QUICK").is_some(), set("ONLY"));
    let programs = Programs::find()?;
    let (rounds, times) = if quick { (1, Times::QUICK) } else { (ROUNDS, Times::FULL) };
    let (busy, begun) = (report::busy_share()?, report::MachineTime::now()?);
    let wanted =
        |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|word| name.contains(word)));
    let samples = measure_all(&programs, &times, rounds, &wanted)?;
    let seconds = if quick { 0.3 } else { 1.0 };
    let meter_rounds = if wanted("meter") { rounds } else { 0 };
    let meter = meter::measure(&programs, &Hosts::new(Placement::ServerCore)?, meter_rounds, seconds)?;
    let queues = if wanted("queues") { queues::measure(&programs, seconds)? } else { Vec::new() };
    let interleaved = if wanted("interleaved") {
        interleaved::measure(&programs, &Hosts::new(Placement::GeneratorCore)?)?
    } else {
        interleaved::Interleaved::default()
    };
    let limits = if wanted("limits") {
        limits::measure(&programs, &Hosts::new(Placement::ServerCore)?)?
    } else {
        limits::Limits::default()
    };
    let surroundings = report::Surroundings::look(&programs, rounds, busy, begun)?;
    let run = report::Run { samples, meter, queues, interleaved, limits };
    report::publish(&run, &surroundings, quick || only.is_some())?;
    Ok(())
}

/// Every server on every pair of hosts, in rounds, with a line of progress each.
fn measure_all(
    programs: &Programs,
    times: &Times,
    rounds: u32,
    wanted: &impl Fn(&str) -> bool,
) -> Result<Vec<Sample>, String> {
    let pairs = Placement::ALL.map(Hosts::new).into_iter().collect::<Result<Vec<_>, _>>()?;
    // Where the ladders stand, by pair of hosts and server, from the first round on.
    let mut peaks = vec![vec![None; SERVERS.len()]; pairs.len()];
    let mut progress = Progress::begin(times, rounds, pairs.len());
    let mut samples = Vec::new();
    for round in 1..=rounds {
        for (hosts, peaks) in pairs.iter().zip(&mut peaks) {
            for (entry, peak) in SERVERS.iter().zip(peaks).filter(|(entry, _)| wanted(entry.name)) {
                let place = hosts.placement.name();
                eprint!("round {round} of {rounds}, {place}, {}: ", entry.name);
                let expected_s = times.sample_s(entry, peak.is_none());
                let run = Run { entry, programs, hosts, times, round };
                let sample = run.sample(peak).map_err(|error| format!("{}: {error}", entry.name))?;
                eprintln!("{}; {}", sample.in_short(), progress.after(expected_s));
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}

/// How much of the run is over, by what it was expected to take.
struct Progress {
    begun_ns: i64,
    all_s: f64,
    done_s: f64,
}

impl Progress {
    fn begin(times: &Times, rounds: u32, pairs: usize) -> Self {
        let of_round =
            |is_first| -> f64 { SERVERS.iter().map(|entry| times.sample_s(entry, is_first)).sum() };
        let pairs = f64::from(u32::try_from(pairs).unwrap_or(u32::MAX));
        let all_s = pairs * (of_round(true) + f64::from(rounds - 1) * of_round(false));
        eprintln!("{rounds} rounds of {} servers, about {:.0} s", SERVERS.len(), all_s);
        Self { begun_ns: kernel_clock::read(KernelClock::Monotonic), all_s, done_s: 0.0 }
    }

    /// Takes note of what is done; how long the rest will take, should it go on as until now.
    fn after(&mut self, expected_s: f64) -> String {
        self.done_s += expected_s;
        let elapsed_ns = kernel_clock::read(KernelClock::Monotonic) - self.begun_ns;
        let elapsed_s = Duration::from_nanos(elapsed_ns.unsigned_abs()).as_secs_f64();
        format!("{:.0} s left", (self.all_s - self.done_s) * elapsed_s / self.done_s)
    }
}
