//! Interleaved mode (RFC 9769) and the honesty of transmit timestamps: chronyd and maser's ports, at one rate and rising
//! numbers of clients, and what a chronyd with `xleave` computes from each.
//!
//! The transmit error is how early a transmit timestamp is, by the generator's receive stamp of the reply, both of one
//! clock: of basic replies its own, of interleaved ones that of the reply before. Packets are received within the call that
//! sends them, so that the way is hardly more than the code of the veth. Before the replies that count come as many others,
//! since a client's first ones can't be interleaved; and each number of clients meets a server that has just started.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::figures::{Figure, float};
use crate::hosts::{CLIENTS, GENERATOR_CORE, Hosts, SERVER};
use crate::measure::Spread;
use crate::servers::{CHRONYD, Entry, Programs, SERVERS, text, words};

/// The servers, by their names in [`SERVERS`].
const NAMES: [&str; 4] = [CHRONYD, "maser socket", "maser io-uring", "maser af-xdp"];
const CLIENT_COUNTS: [u32; 3] = [1_000, 5_000, 100_000];
/// Requests a second: about a quarter of what chronyd answers here.
const RATE_PER_S: u32 = 30_000;
/// What each client sends, before the replies that count and again while they come.
const REQUESTS_EACH: f64 = 2.5;
const TIME_S_MIN: f64 = 1.5;
const BASIC_TIME_S: f64 = 1.0;
/// Replies a second whose timestamps are compared with the kernel's; of interleaved ones all are.
const STAMPS: &str = "5k";
const TIMEOUT: &str = "200ms";
const PATIENCE: Duration = Duration::from_secs(20);
/// How long chronyd asks as a client, sixteen times a second.
const ASKING_S: u32 = 6;

/// The limits that the issue sets: of interleaved replies, and of the mean transmit error beside chronyd's.
const SHARE_MIN: f64 = 0.99;

/// One server and number of clients.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct InterleavedSample {
    pub(crate) server: &'static str,
    pub(crate) clients: u32,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) invalid: u64,
    /// Replies to requests that asked for interleaved mode, and those of them that are.
    pub(crate) asked: u64,
    pub(crate) interleaved: u64,
    /// Transmit errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) basic_ns: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interleaved_ns: Option<Spread>,
}

/// What a chronyd with `xleave` made of one server's replies.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FollowerSample {
    pub(crate) server: &'static str,
    pub(crate) samples: usize,
    pub(crate) interleaved: usize,
    pub(crate) mean_ns: f64,
    pub(crate) stddev_ns: f64,
    /// The median of the magnitude, and the greatest.
    pub(crate) p50_ns: f64,
    pub(crate) max_ns: f64,
}

/// Both parts of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Interleaved {
    pub(crate) replies: Vec<InterleavedSample>,
    pub(crate) followers: Vec<FollowerSample>,
}

/// Every server with every number of clients.
pub(crate) fn measure(programs: &Programs, hosts: &Hosts) -> Result<Interleaved, String> {
    hosts.take_at_once()?;
    let mut all = Interleaved::default();
    for entry in SERVERS.iter().filter(|entry| NAMES.contains(&entry.name)) {
        for clients in CLIENT_COUNTS {
            eprintln!("interleaved: {}, {clients} clients", entry.name);
            let of = |error| format!("{}: {error}", entry.name);
            all.replies.push(replies(programs, hosts, entry, clients).map_err(of)?);
        }
        all.followers.push(follower(programs, hosts, entry)?);
    }
    Ok(all)
}

fn replies(
    programs: &Programs,
    hosts: &Hosts,
    entry: &Entry,
    clients: u32,
) -> Result<InterleavedSample, String> {
    let server = entry.start(programs, hosts)?;
    let rate = RATE_PER_S.to_string();
    let basic = generate(programs, hosts, clients, BASIC_TIME_S, &["fixed", "--rate", &rate])?;
    let time_s = (f64::from(clients) * REQUESTS_EACH / f64::from(RATE_PER_S)).max(TIME_S_MIN);
    // The second step goes on where the first has come to.
    let rates = format!("{rate},{rate}");
    let run = generate(programs, hosts, clients, time_s, &["ladder", "--rates", &rates, "--interleaved"])?;
    server.stop()?;
    let step = run["steps"].as_array().and_then(|steps| steps.last()).ok_or("no steps")?;
    let count = |name: &str| step[name].as_u64().ok_or_else(|| format!("no {name} in maser-load's document"));
    let spread = |value: &Value| serde_json::from_value(value.clone()).ok();
    Ok(InterleavedSample {
        server: entry.name,
        clients,
        sent: count("sent")?,
        lost: count("lost")?,
        invalid: count("invalid")?,
        asked: count("interleaving")?,
        interleaved: count("interleaved")?,
        basic_ns: spread(&basic["transmit_error_ns"]),
        interleaved_ns: spread(&step["interleaved_transmit_error_ns"]),
    })
}

/// Runs `maser-load` with these words; its document.
fn generate(
    programs: &Programs,
    hosts: &Hosts,
    clients: u32,
    time_s: f64,
    specific: &[&str],
) -> Result<Value, String> {
    let output = hosts.directory().join("interleaved.json");
    let [mode, specific @ ..] = specific else { return Err("no mode".to_owned()) };
    let (generator, clients, time) = (text(&programs.generator), clients.to_string(), format!("{time_s}s"));
    let whom = [&*generator, *mode, SERVER, "--from", CLIENTS, "--clients", &clients, "--time", &time];
    let how = ["--sender", "packet", "--cores", GENERATOR_CORE, "--stamps", STAMPS, "--timeout", TIMEOUT];
    let command = [&whom, how.as_slice(), specific, &["--json", "--quiet"]].concat();
    hosts.generate_into(&command, PATIENCE + Duration::from_secs_f64(2.0 * time_s), &output)?;
    let text = fs::read_to_string(&output).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))
}

/// A chronyd asks the server, with `xleave` and without setting the clock, and logs what it measures.
fn follower(programs: &Programs, hosts: &Hosts, entry: &Entry) -> Result<FollowerSample, String> {
    let server = entry.start(programs, hosts)?;
    let directory = hosts.directory().join("follower");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let (configuration, log) = (directory.join("chrony.conf"), directory.join("measurements.log"));
    let lines = format!(
        "server {SERVER} xleave minpoll -4 maxpoll -4\ncmdport 0\nbindcmdaddress /\nlogbanner 0\nlog rawmeasurements\n\
         logdir {0}\npidfile {0}/pid\n",
        directory.display()
    );
    fs::write(&configuration, lines).map_err(|error| error.to_string())?;
    let command = programs.chronyd_client(&configuration, ASKING_S);
    hosts.generate(&words(&command), PATIENCE)?;
    server.stop()?;
    let log = fs::read_to_string(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    FollowerSample::of(entry.name, &log)
}

impl FollowerSample {
    /// From chronyd's log of measurements: the offset is the twelfth column, mode and kind of timestamps end the line, as in
    /// `4I K K`.
    pub(crate) fn of(server: &'static str, log: &str) -> Result<Self, String> {
        let mut offsets_ns = Vec::new();
        let mut interleaved = 0;
        for line in log.lines() {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let offset_s: f64 = columns
                .get(11)
                .and_then(|column| column.parse().ok())
                .ok_or_else(|| format!("no offset in \"{line}\""))?;
            offsets_ns.push(offset_s * 1e9);
            interleaved += usize::from(columns.iter().rev().nth(2).is_some_and(|mode| mode.ends_with('I')));
        }
        let mean_ns = mean(&offsets_ns).ok_or("chronyd as a client measured nothing")?;
        let squares: Vec<f64> = offsets_ns.iter().map(|offset_ns| (offset_ns - mean_ns).powi(2)).collect();
        let magnitudes = Figure::of(offsets_ns.iter().map(|offset_ns| offset_ns.abs()));
        Ok(Self {
            server,
            samples: offsets_ns.len(),
            interleaved,
            mean_ns,
            stddev_ns: mean(&squares).map_or(0.0, f64::sqrt),
            p50_ns: magnitudes.map_or(0.0, |figure| figure.median),
            max_ns: magnitudes.map_or(0.0, |figure| figure.max),
        })
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    let count: f64 = values.iter().map(|_| 1.0).sum();
    (count > 0.0).then(|| values.iter().sum::<f64>() / count)
}

/// Both tables and the verdicts.
pub(crate) fn table(run: &Interleaved) -> String {
    if run.replies.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "Transmit error in µs, {RATE_PER_S} requests a second: how early transmit timestamps are. **share** of the replies that \
         were asked to be interleaved are; its transmit timestamps are of the reply before.\n\n\
         | server | clients | lost | invalid | share | basic p50 | p99 | interleaved mean | stddev | p99 |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    let us = |nanos: Option<f64>| nanos.map_or("–".to_owned(), |nanos| format!("{:.2}", nanos / 1e3));
    for sample in &run.replies {
        let InterleavedSample { server, clients, lost, invalid, .. } = sample;
        let basic = |value: fn(&Spread) -> f64| us(sample.basic_ns.as_ref().map(value));
        let leaved = |value: fn(&Spread) -> f64| us(sample.interleaved_ns.as_ref().map(value));
        // Writing to a string doesn't fail.
        let _ = writeln!(
            text,
            "| {server} | {clients} | {lost} | {invalid} | {:.1} % | {} | {} | {} | {} | {} |",
            sample.share() * 100.0,
            basic(|errors| float(errors.p50)),
            basic(|errors| float(errors.p99)),
            leaved(|errors| errors.mean),
            leaved(|errors| errors.stddev),
            leaved(|errors| float(errors.p99)),
        );
    }
    text += "\nThe offset that a chronyd with `xleave` measures, in µs; both share the clock, so all of it is error.\n\n\
             | server | samples | interleaved | mean | stddev | p50 | max |\n|---|---:|---:|---:|---:|---:|---:|\n";
    for FollowerSample { server, samples, interleaved, mean_ns, stddev_ns, p50_ns, max_ns } in &run.followers
    {
        let [mean, stddev, p50, max] = [mean_ns, stddev_ns, p50_ns, max_ns].map(|nanos| us(Some(*nanos)));
        let _ =
            writeln!(text, "| {server} | {samples} | {interleaved} | {mean} | {stddev} | {p50} | {max} |");
    }
    text + "\n" + &verdicts(run)
}

/// What the issue asks of maser's ports, each beside chronyd.
fn verdicts(run: &Interleaved) -> String {
    let verdict = |is_met: bool| if is_met { "met" } else { "MISSED" };
    let least_mean_ns = |server: &str| {
        let own = run.replies.iter().filter(|sample| sample.server == server);
        own.filter_map(|sample| Some(sample.interleaved_ns?.mean.abs())).reduce(f64::min)
    };
    let follower = |server: &str| run.followers.iter().find(|sample| sample.server == server);
    let mut text = String::new();
    for server in NAMES.iter().filter(|name| **name != CHRONYD) {
        let Some(most) = run.replies.iter().rfind(|sample| sample.server == *server) else {
            continue;
        };
        // A stamp of after the arrival is as wrong as one of before it.
        let mean_ns = most.interleaved_ns.map(|errors| errors.mean.abs());
        let chronyd_ns = least_mean_ns(CHRONYD);
        let ratio = mean_ns.zip(chronyd_ns).map(|(own, chronyds)| own / chronyds);
        let spread =
            follower(server).zip(follower(CHRONYD)).map(|(own, chronyds)| own.p50_ns / chronyds.p50_ns);
        let written =
            |ratio: Option<f64>| ratio.map_or("not measured".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(
            text,
            "- {server}, {} clients: {:.1} % interleaved, at least {:.0} %: {}; mean transmit error / chronyd's least: {}: {}; \
             a follower's offset p50 / with chronyd: {}: {}",
            most.clients,
            most.share() * 100.0,
            SHARE_MIN * 100.0,
            verdict(most.share() >= SHARE_MIN),
            written(ratio),
            verdict(ratio.is_some_and(|ratio| ratio <= 1.0)),
            written(spread),
            verdict(spread.is_some_and(|ratio| ratio <= 1.0)),
        );
    }
    text
}

impl InterleavedSample {
    fn share(&self) -> f64 {
        if self.asked == 0 { 0.0 } else { float(self.interleaved) / float(self.asked) }
    }
}
