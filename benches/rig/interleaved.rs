//! Interleaved mode (RFC 9769) and the honesty of transmit timestamps: chronyd and maser's ports, at one rate and rising
//! numbers of clients, and what a chronyd with `xleave` computes from each.
//!
//! The transmit error is how early a transmit timestamp is, by the generator's receive stamp of the reply, both of one
//! clock: of basic replies its own, of interleaved ones that of the reply before. Packets are received within the call that
//! sends them, so that the way is hardly more than the code of the veth. Before the replies that count come as many others,
//! since a client's first ones can't be interleaved; and each number of clients meets a server that has just started.

use std::fs;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::figures::Figure;
use crate::hosts::{CLIENTS, GENERATOR_CORE, Hosts, SERVER};
use crate::measure::{Spread, float};
use crate::servers::{AF_XDP, CHRONYD, Entry, Programs, SERVERS, text, words};

/// The servers, by their names in [`SERVERS`].
pub(crate) const NAMES: [&str; 4] = [CHRONYD, "maser socket", "maser io-uring", AF_XDP];
const CLIENT_COUNTS: [u32; 3] = [1_000, 5_000, 100_000];
/// Requests a second: about a quarter of what chronyd answers here.
pub(crate) const RATE_PER_S: u32 = 30_000;
/// What each client sends, before the replies that count and again while they come.
const REQUESTS_EACH: f64 = 2.5;
const TIME_S_MIN: f64 = 1.5;
const BASIC_TIME_S: f64 = 1.0;
/// Replies a second whose timestamps are compared with the kernel's; of interleaved ones all are.
const STAMPS: &str = "5k";
const TIMEOUT: &str = "200ms";
const PATIENCE: Duration = Duration::from_secs(20);
/// chronyd with a program on its interface that passes its requests on, as maser's over AF_XDP has one that takes them: a veth
/// runs such a program in a softirq of its own, after making a frame of the packet, and who stamps there stamps later.
pub(crate) const CHRONYD_BEHIND: &str = "chronyd behind XDP";
/// The port whose requests the program takes (RFC 863): nobody sends any.
const DISCARD: u16 = 9;
/// How long chronyd asks as a client, sixteen times a second, each server once a round.
const ASKING_S: u32 = 10;
pub(crate) const FOLLOWING_ROUNDS: u32 = 5;
/// So often every port is measured without its correction of transmit timestamps and with it.
pub(crate) const CORRECTION_ROUNDS: u32 = 3;
/// Rates among which the peak is looked for whose half is the load of mixed clients, and for how long each.
const MIXED_RATES: &str = "50k,100k,150k,200k,250k,300k";
const MIXED_SEARCH_TIME_S: f64 = 0.4;
const MIXED_TIME_S: f64 = 2.0;
/// What a worker takes to learn its correction, and more.
const LEARNING_TIME_S: f64 = 0.6;

/// The limits that the issue sets: of interleaved replies, and of the median transmit error with the correction to that without.
pub(crate) const SHARE_MIN: f64 = 0.99;
pub(crate) const CORRECTED_MAX: f64 = 0.5;

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

/// What a chronyd with `xleave` made of one server's replies in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FollowerSample {
    pub(crate) server: &'static str,
    pub(crate) samples: usize,
    pub(crate) interleaved: usize,
    pub(crate) mean_ns: f64,
    pub(crate) stddev_ns: f64,
    /// The median distance from the median: half of them lie closer, and single disturbances don't matter.
    pub(crate) spread_ns: f64,
    pub(crate) max_ns: f64,
}

/// The median transmit errors of a port's basic replies, a round each.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CorrectionSample {
    pub(crate) server: &'static str,
    pub(crate) without_ns: Vec<f64>,
    pub(crate) with_ns: Vec<f64>,
}

/// Interleaving and basic clients, half of each, at half of what the server answers of such.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MixedSample {
    pub(crate) server: &'static str,
    pub(crate) rate_per_s: u64,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) invalid: u64,
}

/// All parts of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Interleaved {
    pub(crate) replies: Vec<InterleavedSample>,
    pub(crate) mixed: Vec<MixedSample>,
    pub(crate) corrections: Vec<CorrectionSample>,
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
        eprintln!("interleaved: {}, mixed clients", entry.name);
        all.mixed.push(mixed(programs, hosts, entry)?);
        if entry.name != CHRONYD {
            eprintln!("interleaved: {}, its correction", entry.name);
            all.corrections.push(correction(programs, hosts, entry)?);
        }
    }
    for round in 1..=FOLLOWING_ROUNDS {
        for entry in SERVERS.iter().filter(|entry| NAMES.contains(&entry.name)) {
            eprintln!("interleaved: round {round} of {FOLLOWING_ROUNDS}, {} followed by chronyd", entry.name);
            let server = entry.start(programs, hosts)?;
            all.followers.push(follower(programs, hosts, entry.name)?);
            if entry.name == CHRONYD {
                let echo = programs.example("xdp_echo");
                let taken = format!("{SERVER}:{DISCARD}");
                let program = hosts.serve(&[&echo, "native", &hosts.server_interface, &taken])?;
                program.wait_until_ready()?;
                all.followers.push(follower(programs, hosts, CHRONYD_BEHIND)?);
                program.stop()?;
            }
            server.stop()?;
        }
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

/// Half of the clients interleave, at half of the most that is answered of such.
fn mixed(programs: &Programs, hosts: &Hosts, entry: &Entry) -> Result<MixedSample, String> {
    const MIX: &str = "--interleaved=50%";
    let server = entry.start(programs, hosts)?;
    let generate = |time_s, words: &[&str]| generate(programs, hosts, CLIENT_COUNTS[0], time_s, words);
    let search = generate(MIXED_SEARCH_TIME_S, &["ladder", "--rates", MIXED_RATES, MIX])?;
    let steps = search["steps"].as_array().ok_or("no steps")?;
    let answered = steps.iter().filter_map(|step| step["rate_answered"].as_f64());
    let rate = format!("{:.0}", answered.reduce(f64::max).ok_or("no rates")? / 2.0);
    let run = generate(MIXED_TIME_S, &["fixed", "--rate", &rate, MIX])?;
    server.stop()?;
    let count = |name: &str| run[name].as_u64().ok_or_else(|| format!("no {name} in maser-load's document"));
    Ok(MixedSample {
        server: entry.name,
        rate_per_s: rate.parse().map_err(|error| format!("{error}"))?,
        sent: count("sent")?,
        lost: count("lost")?,
        invalid: count("invalid")?,
    })
}

/// Basic replies without the correction and with it, in turns.
fn correction(programs: &Programs, hosts: &Hosts, entry: &Entry) -> Result<CorrectionSample, String> {
    let rate = RATE_PER_S.to_string();
    let mut sample = CorrectionSample { server: entry.name, without_ns: Vec::new(), with_ns: Vec::new() };
    for _ in 0..CORRECTION_ROUNDS {
        for corrects in [false, true] {
            let server = entry.start_correcting(programs, hosts, corrects)?;
            let generate =
                |time_s| generate(programs, hosts, CLIENT_COUNTS[0], time_s, &["fixed", "--rate", &rate]);
            generate(LEARNING_TIME_S)?;
            let run = generate(BASIC_TIME_S)?;
            server.stop()?;
            let p50_ns = run["transmit_error_ns"]["p50"].as_f64().ok_or("no transmit errors")?;
            (if corrects { &mut sample.with_ns } else { &mut sample.without_ns }).push(p50_ns);
        }
    }
    Ok(sample)
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
fn follower(programs: &Programs, hosts: &Hosts, server: &'static str) -> Result<FollowerSample, String> {
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
    let log = fs::read_to_string(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    FollowerSample::of(server, &log)
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
        let median_ns = Figure::of(offsets_ns.iter().copied()).map_or(0.0, |figure| figure.median);
        let distances = Figure::of(offsets_ns.iter().map(|offset_ns| (offset_ns - median_ns).abs()));
        let magnitudes = Figure::of(offsets_ns.iter().map(|offset_ns| offset_ns.abs()));
        Ok(Self {
            server,
            samples: offsets_ns.len(),
            interleaved,
            mean_ns,
            stddev_ns: mean(&squares).map_or(0.0, f64::sqrt),
            spread_ns: distances.map_or(0.0, |figure| figure.median),
            max_ns: magnitudes.map_or(0.0, |figure| figure.max),
        })
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    let count: f64 = values.iter().map(|_| 1.0).sum();
    (count > 0.0).then(|| values.iter().sum::<f64>() / count)
}

impl CorrectionSample {
    /// Without the correction, and with it.
    pub(crate) fn figures(&self) -> (Option<Figure>, Option<Figure>) {
        (Figure::of(self.without_ns.iter().copied()), Figure::of(self.with_ns.iter().copied()))
    }

    pub(crate) fn ratio(&self) -> Option<f64> {
        let (without, with) = self.figures();
        Some(with?.median / without?.median)
    }
}

impl InterleavedSample {
    pub(crate) fn share(&self) -> f64 {
        if self.asked == 0 { 0.0 } else { float(self.interleaved) / float(self.asked) }
    }
}
