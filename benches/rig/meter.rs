//! The meter's own rate: each sender of `maser-load` beside the fastest loop there is for it, on the same hosts in the
//! same minutes, and what left beside what arrived.
//!
//! The far end drops requests in its driver (the example `sink`), so that nothing but the sender is measured; the
//! server's core receives. The bars are the examples `blast` and `live_blast`: loops that send identical requests without
//! a schedule, addresses or a ledger. For live frames there are two: one transmits the same untouched page again and
//! again, the other writes an address and a timestamp into it, as whatever sends requests must.

use std::fs;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::figures::Figure;
use crate::hosts::{CLIENTS, GENERATOR_CORE, Hosts, SERVER};
use crate::servers::{Programs, words};

const PORT: &str = "123";
/// Requests wait for no reply here: the sink swallows them.
const TIMEOUT: &str = "10ms";
/// The limit that the meter sets itself, against the bar.
const RATIO_MIN: f64 = 0.85;
/// What left and what arrived may differ by so much.
const DIFFERENCE_MAX: f64 = 0.001;
/// A request from 198.18.0.1 to 172.29.2.1 port 123; checksums don't matter to a sink.
const FRAME: &str = "0200000000010200000000020800450000\
4c0000400040110000c6120001c00002010009007b00380000";
const PATIENCE: Duration = Duration::from_secs(20);

/// A sender, the bar for it, and a rate that it can't reach.
struct Contest {
    sender: &'static str,
    bar: Bar,
    rate: &'static str,
}

#[derive(Clone, Copy)]
enum Bar {
    /// The example `blast`.
    Blast(&'static str),
    /// The example `live_blast`.
    Live(&'static str),
}

const CONTESTS: [Contest; 4] = [
    Contest { sender: "udp", bar: Bar::Blast("udp"), rate: "1M" },
    Contest { sender: "packet", bar: Bar::Blast("packet"), rate: "2M" },
    Contest { sender: "live", bar: Bar::Live("touched"), rate: "20M" },
    Contest { sender: "live", bar: Bar::Live("bare"), rate: "20M" },
];

impl Bar {
    fn name(self) -> &'static str {
        match self {
            Self::Blast(_) => "sendmmsg of identical requests",
            Self::Live("bare") => "one frame, never written to",
            Self::Live(_) => "one frame, two fields written each time",
        }
    }
}

/// One sender beside its bar, once.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct MeterSample {
    sender: &'static str,
    bar: &'static str,
    bar_per_s: f64,
    rate_per_s: f64,
    /// What the sender says it sent.
    sent: u64,
    /// What the far end's kernel received meanwhile, and what the device dropped unnoticed by a UDP socket.
    arrived: u64,
}

/// Measures each sender so many times, in turns.
pub(crate) fn measure(
    programs: &Programs,
    hosts: &Hosts,
    rounds: u32,
    seconds: f64,
) -> Result<Vec<MeterSample>, String> {
    let mut samples = Vec::new();
    for round in 1..=rounds {
        for contest in &CONTESTS {
            let sample = contest.sample(programs, hosts, seconds)?;
            eprintln!(
                "round {round} of {rounds}, the meter: {} {:.0}/s, its bar {:.0}/s",
                sample.sender, sample.rate_per_s, sample.bar_per_s
            );
            samples.push(sample);
        }
    }
    Ok(samples)
}

impl Contest {
    fn sample(&self, programs: &Programs, hosts: &Hosts, seconds: f64) -> Result<MeterSample, String> {
        let output = hosts.directory().join("meter.out");
        let bar_per_s = {
            let _far = FarEnd::start(programs, hosts)?;
            let command = self.bar.command(programs, hosts, seconds);
            hosts.generate_into(&words(&command), PATIENCE, &output)?;
            bar_rate(&fs::read_to_string(&output).map_err(|error| error.to_string())?)?
        };
        let _far = FarEnd::start(programs, hosts)?;
        let before = hosts.received_and_dropped()?;
        let command: Vec<String> = [
            &programs.generator.display().to_string(),
            "fixed",
            SERVER,
            "--sender",
            self.sender,
            "--rate",
            self.rate,
            "--time",
            &seconds.to_string(),
            "--cores",
            GENERATOR_CORE,
            "--stamps",
            "0",
            "--timeout",
            TIMEOUT,
            "--json",
            "--quiet",
        ]
        .map(str::to_owned)
        .into_iter()
        // The bar of the sockets has one address, and so have they.
        .chain(if self.sender == "udp" { vec![] } else { vec!["--from".to_owned(), CLIENTS.to_owned()] })
        .collect();
        hosts.generate_into(&words(&command), PATIENCE, &output)?;
        let after = hosts.received_and_dropped()?;
        // A UDP socket isn't told that its datagram found the device full; the other senders are, and don't count it.
        let dropped = if self.sender == "udp" { after.1 - before.1 } else { 0 };
        let arrived = after.0 - before.0 + dropped;
        let text = fs::read_to_string(&output).map_err(|error| error.to_string())?;
        let run: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))?;
        let asked = u64::from(self.sender != "udp");
        Ok(MeterSample {
            sender: self.sender,
            bar: self.bar.name(),
            bar_per_s,
            rate_per_s: run["rate_offered"].as_f64().ok_or("no rate in maser-load's document")?,
            // The senders of frames ask once, the plain way, before they begin.
            sent: run["sent"].as_u64().ok_or("no count in maser-load's document")? + asked,
            arrived,
        })
    }
}

impl Bar {
    fn command(self, programs: &Programs, hosts: &Hosts, seconds: f64) -> Vec<String> {
        let seconds = seconds.to_string();
        match self {
            Self::Blast(word) => {
                let target = format!("{SERVER}:{PORT}");
                [&programs.example("blast"), word, &target, &seconds, GENERATOR_CORE]
                    .map(str::to_owned)
                    .to_vec()
            }
            Self::Live(word) => {
                // Behind the headers: version 4, client, and zeros.
                let frame = format!("{FRAME}23{}", "00".repeat(47));
                [&programs.example("live_blast"), word, &hosts.interface, "-", &frame, &seconds]
                    .map(str::to_owned)
                    .to_vec()
            }
        }
    }
}

/// A server that answers the first question, and a program that swallows everything behind it.
pub(crate) struct FarEnd {
    _echo: crate::host::Server,
    pub(crate) sink: crate::host::Server,
}

impl FarEnd {
    pub(crate) fn start(programs: &Programs, hosts: &Hosts) -> Result<Self, String> {
        let echo = hosts.serve(&[&programs.example("echo"), "plain", &format!("{SERVER}:{PORT}")])?;
        echo.wait_until_ready()?;
        let sink = hosts.serve(&[&programs.example("sink"), &hosts.server_interface, PORT])?;
        sink.wait_until_ready()?;
        Ok(Self { _echo: echo, sink })
    }
}

/// `udp: 123 sent/s, …` or `touched: 123 made/s`.
fn bar_rate(text: &str) -> Result<f64, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let place = words.iter().position(|word| word.starts_with("sent/s") || word.starts_with("made/s"));
    let rate = place.and_then(|place| words.get(place.checked_sub(1)?)?.parse().ok());
    rate.ok_or_else(|| format!("no rate in \"{text}\""))
}

/// A row for each contest, and what is missed.
pub(crate) fn table(samples: &[MeterSample]) -> String {
    let mut text = String::from(
        "| sender | k/s | the bar for it | k/s | ratio | left and arrived differ by |\n|---|---:|---|---:|---:|---:|\n",
    );
    let mut verdicts = String::new();
    for contest in &CONTESTS {
        let own: Vec<_> = samples
            .iter()
            .filter(|sample| sample.sender == contest.sender && sample.bar == contest.bar.name())
            .collect();
        let figure = |value: fn(&MeterSample) -> f64| Figure::of(own.iter().map(|sample| value(sample)));
        let (Some(rate), Some(bar), Some(ratio), Some(difference)) = (
            figure(|sample| sample.rate_per_s),
            figure(|sample| sample.bar_per_s),
            figure(|sample| sample.rate_per_s / sample.bar_per_s),
            figure(difference),
        ) else {
            continue;
        };
        text += &format!(
            "| {} | {:.0} | {} | {:.0} | {:.2} ({:.2}–{:.2}) | {:.3} % |\n",
            contest.sender,
            rate.median / 1e3,
            contest.bar.name(),
            bar.median / 1e3,
            ratio.median,
            ratio.min,
            ratio.max,
            difference.max * 100.0
        );
        let verdict = |is_met: bool| if is_met { "met" } else { "MISSED" };
        verdicts += &format!(
            "- {} beside {}: {:.2}, at least {RATIO_MIN}: {}; counts within {} %: {}\n",
            contest.sender,
            contest.bar.name(),
            ratio.median,
            verdict(ratio.median >= RATIO_MIN),
            DIFFERENCE_MAX * 100.0,
            verdict(difference.max <= DIFFERENCE_MAX)
        );
    }
    format!("{text}\n{verdicts}")
}

/// The share by which what left and what arrived differ.
#[expect(clippy::cast_precision_loss, reason = "a share is for people")]
fn difference(sample: &MeterSample) -> f64 {
    sample.sent.abs_diff(sample.arrived) as f64 / sample.sent.max(1) as f64
}
