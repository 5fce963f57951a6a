//! Where a run goes: the table to the standard output, everything to `docs/results`, the figures into the README.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::figures::{Row, rows, verdicts};
use crate::hosts::Placement;
use crate::interleaved::Interleaved;
use crate::interleaved_table;
use crate::limits::Limits;
use crate::limits_table;
use crate::measure::Sample;
use crate::meter::{self, MeterSample};
use crate::queues::{self, QueueSample};
use crate::servers::Programs;
use crate::{host, picture, table};

const BEGIN: &str = "<!-- figures begin -->";
const END: &str = "<!-- figures end -->";

/// All that was measured.
pub(crate) struct Run {
    pub(crate) samples: Vec<Sample>,
    pub(crate) meter: Vec<MeterSample>,
    pub(crate) queues: Vec<QueueSample>,
    pub(crate) interleaved: Interleaved,
    pub(crate) limits: Limits,
}

/// What the figures depend on beside the programs.
#[derive(Serialize)]
pub(crate) struct Surroundings {
    date: String,
    kernel: String,
    processor: String,
    cores: usize,
    chronyd: String,
    rounds: u32,
    /// The share of the machine that others had just before.
    busy_before: f64,
    /// The share of the machine's time that the hypervisor gave to others during the run.
    stolen: f64,
}

/// The machine's time by use since it started, as `/proc/stat` counts it.
#[derive(Clone, Copy)]
pub(crate) struct MachineTime {
    all: f64,
    idle: f64,
    stolen: f64,
}

impl MachineTime {
    pub(crate) fn now() -> Result<Self, String> {
        let text = fs::read_to_string("/proc/stat").map_err(|error| format!("/proc/stat: {error}"))?;
        let first = text.lines().next().unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in the first two.
        let ticks: Vec<f64> =
            first.split_whitespace().skip(1).take(8).filter_map(|ticks| ticks.parse().ok()).collect();
        let [_, _, _, idle, waiting, _, _, stolen] = ticks[..] else {
            return Err("/proc/stat is strange".to_owned());
        };
        Ok(Self { all: ticks.iter().sum(), idle: idle + waiting, stolen })
    }

    /// The shares of the time since `earlier` in which the machine was busy, and in which it was stolen.
    fn since(self, earlier: Self) -> (f64, f64) {
        let all = (self.all - earlier.all).max(1.0);
        (1.0 - (self.idle - earlier.idle) / all, (self.stolen - earlier.stolen) / all)
    }
}

/// Waits a moment to see what else the machine does, and warns of it.
pub(crate) fn busy_share() -> Result<f64, String> {
    const LOOK: Duration = Duration::from_secs(1);
    const BUSY_MAX: f64 = 0.05;
    let before = MachineTime::now()?;
    thread::sleep(LOOK);
    let (busy, _) = MachineTime::now()?.since(before);
    if busy > BUSY_MAX {
        eprintln!("other work has {:.0} % of this machine: the figures will be rough", busy * 100.0);
    }
    Ok(busy)
}

impl Surroundings {
    pub(crate) fn look(
        programs: &Programs,
        rounds: u32,
        busy_before: f64,
        begun: MachineTime,
    ) -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let release = read("/proc/sys/kernel/osrelease")?;
        let processors = read("/proc/cpuinfo")?;
        let named = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            date: host::run(Command::new("date").args(["-u", "+%F"]))?.trim().to_owned(),
            // What follows a hyphen is the builder's.
            kernel: release.trim().split('-').next().unwrap_or("unknown").to_owned(),
            processor: named.map_or("unknown", |(_, name)| name).to_owned(),
            cores: thread::available_parallelism().map_or(1, std::num::NonZero::get),
            chronyd: programs.chronyd_version()?,
            rounds,
            busy_before,
            stolen: MachineTime::now()?.since(begun).1,
        })
    }

    fn line(&self) -> String {
        let Self { date, kernel, processor, cores, chronyd, rounds, busy_before, stolen } = self;
        let rounds = if *rounds == 1 { "1 round".to_owned() } else { format!("{rounds} interleaved rounds") };
        let (busy, stolen) = (busy_before * 100.0, stolen * 100.0);
        format!(
            "{date}, {cores} cores ({processor}), Linux {kernel}, chronyd {chronyd}, {rounds}; other work had {busy:.0} % of \
             the machine before, the hypervisor took {stolen:.1} % during the run"
        )
    }
}

/// Prints the run and writes it down; one that was quick leaves the tree as it is.
pub(crate) fn publish(run: &Run, surroundings: &Surroundings, quick: bool) -> Result<(), String> {
    let placements = Placement::ALL.map(|placement| (placement, rows(&run.samples, placement)));
    let figures = [
        figures(&placements),
        meter::table(&run.meter),
        queues::table(&run.queues),
        interleaved_table::table(&run.interleaved),
        limits_table::table(&run.limits),
    ]
    .join("\n");
    println!("{}\n\n{figures}", surroundings.line());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = if quick { built()?.join("rig") } else { root.join("docs/results") };
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let name = format!("{}-rig", surroundings.date);
    let (raw, drawn) = (directory.join(format!("{name}.json")), directory.join(format!("{name}.svg")));
    write(&raw, &json(run, surroundings)?)?;
    write(&drawn, &picture::svg(&run.samples, "Answered of what was offered, one server core"))?;
    println!("the run: {}\nthe picture: {}", raw.display(), drawn.display());
    if quick {
        return Ok(());
    }
    let readme = root.join("README.md");
    let text = fs::read_to_string(&readme).map_err(|error| error.to_string())?;
    let section = readme_section(surroundings, &name, &stages()?, &figures);
    let Some(rewritten) = between_markers(&text, &section) else {
        return Err(format!("README.md lacks the lines {BEGIN} and {END}"));
    };
    write(&readme, &rewritten)?;
    println!("the figures in README.md are rewritten");
    Ok(())
}

/// The table, what went wrong, and the verdicts.
fn figures(placements: &[(Placement, Vec<Row>)]) -> String {
    let mut text = format!("{}\n{}", table::LEGEND, table::table(placements));
    for (placement, rows) in placements {
        let troubled = rows.iter().filter(|row| !row.troubles.is_empty());
        let troubles: Vec<_> =
            troubled.map(|row| format!("{}: {}", row.server, row.troubles.join(", "))).collect();
        if !troubles.is_empty() {
            text += &format!("\n{}: {}.\n", placement.name(), troubles.join("; "));
        }
    }
    text += "\n```text\n";
    for (placement, rows) in placements {
        text += &format!("{}\n", placement.name());
        for verdict in verdicts(rows) {
            text += &format!("  {}\n", table::verdict(&verdict));
        }
    }
    text + "```\n\n" + &ways(placements)
}

/// Where the median latency goes.
fn ways(placements: &[(Placement, Vec<Row>)]) -> String {
    let mut text = String::from(
        "Of the p50 at 10,000/s, in µs: the way there, from the generator's kernel to the server's receive timestamp (where the \
         server's core receives, the rig wakes a thread of the kernel for it); the way back, from its transmit timestamp to the \
         generator's kernel; and the rest, in which the generator sends and the server wakes up and works.\n\n\
         | requests received | server | p50 | there | back | rest |\n|---|---|---:|---:|---:|---:|\n",
    );
    for (placement, rows) in placements {
        for row in rows {
            if let (Some(p50), Some(there), Some(back)) = (row.p50_ns, row.there_ns, row.back_ns) {
                let us = |nanos: f64| nanos / 1e3;
                text += &format!(
                    "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
                    placement.label(),
                    row.server,
                    us(p50.median),
                    us(there.median),
                    us(back.median),
                    us(p50.median - there.median - back.median)
                );
            }
        }
    }
    text
}

/// One sample a line, so that runs can be told apart by `diff`.
fn json(run: &Run, surroundings: &Surroundings) -> Result<String, String> {
    let line = |value: Result<String, serde_json::Error>| value.map_err(|error| error.to_string());
    let samples: Vec<String> =
        run.samples.iter().map(|sample| line(serde_json::to_string(sample))).collect::<Result<_, _>>()?;
    let surroundings = line(serde_json::to_string(surroundings))?;
    let meter = line(serde_json::to_string(&run.meter))?;
    let queues = line(serde_json::to_string(&run.queues))?;
    let interleaved = line(serde_json::to_string(&run.interleaved))?;
    let limits = line(serde_json::to_string(&run.limits))?;
    Ok(format!(
        "{{\"surroundings\": {surroundings},\n\"meter\": {meter},\n\"queues\": {queues},\n\"interleaved\": {interleaved},\n\
         \"limits\": {limits},\n\"samples\": [\n{}\n]}}\n",
        samples.join(",\n")
    ))
}

fn readme_section(surroundings: &Surroundings, name: &str, stages: &str, figures: &str) -> String {
    format!(
        "Written by `make bench` on {}. Medians of the rounds, in brackets the least and the greatest; the raw run is \
         [docs/results/{name}.json](docs/results/{name}.json).\n\n{stages}{figures}\n\
         ![answered of what was offered](docs/results/{name}.svg)\n",
        surroundings.line()
    )
}

/// The text with what is between the markers replaced.
pub(crate) fn between_markers(text: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{section}{END}{after}"))
}

/// The stages' figures as criterion wrote them down at its last run, which `make bench` makes just before.
fn stages() -> Result<String, String> {
    const REPLY: &str = "packet/parse + decide + rewrite + stamp, 64 datagrams";
    const FRAMES: &str = "packet/parse + decide + rewrite + checksums + stamp, 64 frames, ";
    const BATCH: f64 = 64.0;
    let directory = built()?.parent().ok_or("no target directory")?.join("criterion");
    let median_ns = |name: &str| -> Result<f64, String> {
        let path = directory.join(name).join("new/estimates.json");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let estimates: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        estimates["median"]["point_estimate"].as_f64().ok_or_else(|| format!("{}: no median", path.display()))
    };
    let snapshot = median_ns("clock/snapshot read + counter + conversion")?;
    let reply = median_ns(REPLY)? / BATCH;
    let kinds = ["IPv4", "IPv6"].map(|kind| median_ns(&format!("{FRAMES}{kind}")));
    let [first, second] = kinds.map(|nanos| nanos.map(|nanos| nanos / BATCH));
    Ok(format!(
        "| stage | ns |\n|---|---:|\n\
         | snapshot read + counter + conversion to NTP | {snapshot:.1} |\n\
         | parse + decide + rewrite + stamp, a datagram | {reply:.0} |\n\
         | the same with IP and UDP checksums, a frame, IPv4 / IPv6 | {:.0} / {:.0} |\n\n",
        first?, second?
    ))
}

/// The directory of the programs that cargo has built.
fn built() -> Result<PathBuf, String> {
    Path::new(env!("CARGO_BIN_EXE_maser"))
        .parent()
        .map(Path::to_owned)
        .ok_or_else(|| "maser is in no directory".to_owned())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
