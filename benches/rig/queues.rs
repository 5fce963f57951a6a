//! An interface with several queues and two workers: which worker a client meets.
//!
//! Rates say nothing here, since the generator shares a core with a worker; who answered whom does. A veth deals what a
//! socket sends to its queues by a hash of addresses and ports, as a NIC that nobody has set does: clients with one port
//! each meet one worker, and one client with many ports meets both, which maser must count.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::hosts::{CLIENTS, GENERATOR_CORE, Hosts, SERVER};
use crate::servers::{Programs, maser_xdp, words};

const QUEUES: u32 = 4;
const WORKERS: &str = "0-1";
const RATE: &str = "20k";
const TIMEOUT: &str = "1s";
const PATIENCE: Duration = Duration::from_secs(20);

/// Who asks, and the generator's words for it.
const CASES: [(&str, &[&str]); 2] = [
    ("10,000 addresses, one port each", &["--clients", "10000", "--from", CLIENTS]),
    ("one address, 16 ports", &["--clients", "16"]),
];

/// Who got what in one case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct QueueSample {
    pub(crate) clients: &'static str,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) invalid: u64,
    /// Frames that the driver gave to the program, by queue.
    pub(crate) queues: Vec<u64>,
    /// What each AF_XDP worker answered.
    pub(crate) workers: Vec<u64>,
    /// Requests whose client another worker had answered last.
    pub(crate) splits: u64,
}

/// Both cases, each on hosts of its own, so that all counts are its own.
pub(crate) fn measure(programs: &Programs, seconds: f64) -> Result<Vec<QueueSample>, String> {
    CASES.iter().map(|case| sample(programs, case, seconds)).collect()
}

fn sample(
    programs: &Programs,
    &(clients, specific): &(&'static str, &[&str]),
    seconds: f64,
) -> Result<QueueSample, String> {
    let hosts = Hosts::with_queues(QUEUES)?;
    let server = hosts.serve_unpinned(&words(&maser_xdp(programs, &hosts, WORKERS, "block")))?;
    server.wait_until_ready()?;
    let output = hosts.directory().join("queues.json");
    let (generator, time) = (programs.generator.display().to_string(), format!("{seconds}s"));
    let whom = [&*generator, "fixed", SERVER, "--sender", "udp", "--rate", RATE, "--time", &time];
    let how = ["--timeout", TIMEOUT, "--cores", GENERATOR_CORE, "--stamps", "0", "--json", "--quiet"];
    hosts.generate_into(&[&whom, how.as_slice(), specific].concat(), PATIENCE, &output)?;
    let text = std::fs::read_to_string(&output).map_err(|error| error.to_string())?;
    let run = parse(&text)?;
    let status = parse(&hosts.on_server(&words(&programs.status(&hosts)))?)?;
    let queues = queues_of(&hosts.on_server(&["ethtool", "-S", &hosts.server_interface])?);
    server.stop()?;
    let workers = status["workers"].as_array().ok_or("no workers in the status")?;
    let bypassing = || workers.iter().filter(|worker| worker["port"] == "af-xdp");
    let count = |name: &str| run[name].as_u64().ok_or_else(|| format!("no {name} in maser-load's document"));
    Ok(QueueSample {
        clients,
        sent: count("sent")?,
        lost: count("lost")?,
        invalid: count("invalid")?,
        queues,
        workers: bypassing().map(|worker| sum(&worker["answers"])).collect(),
        splits: bypassing().filter_map(|worker| worker["events"]["split-clients"].as_u64()).sum(),
    })
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{error} in {text}"))
}

fn sum(counters: &Value) -> u64 {
    counters.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}

/// The lines `rx_queue_2_xdp_packets: 123` of `ethtool -S`, in the order of the queues.
pub(crate) fn queues_of(text: &str) -> Vec<u64> {
    let count = |queue: u32| {
        let name = format!("rx_queue_{queue}_xdp_packets: ");
        text.lines().find_map(|line| line.trim().strip_prefix(&name)?.parse().ok())
    };
    (0..).map_while(count).collect()
}

/// A row for each case, and what it shows.
pub(crate) fn table(samples: &[QueueSample]) -> String {
    let Some(first) = samples.first() else { return String::new() };
    let mut text = format!(
        "{QUEUES} queues, 2 workers, {RATE} requests a second; a split is a request whose client another worker had answered \
         last.\n\n| clients | sent | lost | invalid | by queue | by worker | splits |\n|---|---:|---:|---:|---:|---:|---:|\n"
    );
    let list = |counts: &[u64]| counts.iter().map(u64::to_string).collect::<Vec<_>>().join(" / ");
    for QueueSample { clients, sent, lost, invalid, queues, workers, splits } in samples {
        // Writing to a string doesn't fail.
        let _ = writeln!(
            text,
            "| {clients} | {sent} | {lost} | {invalid} | {} | {} | {splits} |",
            list(queues),
            list(workers)
        );
    }
    let verdict = if first.splits == 0 && first.sent > 0 { "met" } else { "MISSED" };
    let _ = writeln!(text, "\n- every client with one port meets one worker: {verdict}");
    text
}
