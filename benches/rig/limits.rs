//! A server under attack on pinned cores: what its regulars get beside a flood at rates below and above what it can answer, and what
//! a request that is dropped costs its core beside one that is answered.
//!
//! The flood's rates are shares of what the server answered without a flood just before, so that they mean the same on every
//! machine. chronyd with its own `ratelimit` is measured beside maser, which is as it comes.

use std::fs;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::host::Server;
use crate::hosts::{CLIENTS, GENERATOR_CORE, Hosts, Replies, SERVER};
use crate::measure::float;
use crate::meter::FarEnd;
use crate::servers::{AF_XDP, CHRONYD, Entry, Programs, SERVERS, text};

/// The servers, by their names in [`SERVERS`].
pub(crate) const NAMES: [&str; 3] = [CHRONYD, "maser socket", AF_XDP];
/// Where a flood's addresses are from, and where those that are denied.
const FLOODS: &str = "10.0.0.0/8";
const DENIED: &str = "10.200.0.0/16";
const GARBAGE: &str = "10.201.0.0/16";
/// Rates among which the peak is looked for, and for how long each.
const SEARCH_RATES: &str = "50k,100k,150k,200k,300k,400k,600k,800k";
const SEARCH_S: f64 = 1.0;
/// Shares of the peak: below saturation, and above it.
const SHARES: [f64; 2] = [0.5, 1.5];
/// Regulars, and how often they all ask together.
const REGULARS: u32 = 2_000;
const REGULARS_PER_S: u32 = 2_000;
/// Beside a flood that is denied or hopeless: a request a second of each, so that they become regulars.
const MANY_REGULARS: u32 = 50_000;
const MANY_REGULARS_PER_S: u32 = 50_000;
/// A second of a request for each: long enough that every regular is known as one.
const WARM_UP: &str = "8s";
/// What a server does from time to time it has done by then.
const FIRST_S: f64 = 12.0;
const ALONE_S: f64 = 3.0;
const ATTACKED_S: f64 = 5.0;
/// What the cost of an answer and of a drop is measured at, to the peak.
const COST_SHARE: f64 = 0.5;
const COST_S: f64 = 3.0;
const TIMEOUT: &str = "200ms";
const PATIENCE: Duration = Duration::from_secs(30);

/// The example `sink`, which drops what comes to the port: what the wire costs whoever is at its end.
pub(crate) const SINK: &str = "bare sink";

/// The limits that the issue sets.
pub(crate) const BELOW_MIN: f64 = 0.99;
pub(crate) const ABOVE_MIN: f64 = 0.95;
pub(crate) const BESIDE_MIN: f64 = 0.99;
pub(crate) const COST_RATIO_MAX: f64 = 1.0 / 3.0;

const MASER: &str = "[[source]]\ntype = \"machine\"\nstratum = 1\n[local]\nstratum = 10\n";
/// The limits and lists that are measured.
const LIMITS: &str = "[access]\ndeny = [\"10.200.0.0/16\"]\n";
/// Nobody is over these.
const WIDE_LIMITS: &str = "[limit]\nrate = 10000\nprefix_rate = \"off\"\n";
/// As chronyd's manual has it by default, over a table that holds the regulars, and the denied prefix.
const CHRONYD_LIMITS: &str =
    "ratelimit interval 3 burst 8 leak 2\nclientloglimit 67108864\ndeny 10.200.0.0/16\n";

/// Regulars beside one flood.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FloodSample {
    pub(crate) server: &'static str,
    pub(crate) flood: &'static str,
    pub(crate) flood_per_s: f64,
    /// To what the server answered before.
    pub(crate) share_of_peak: f64,
    /// The shares of the regulars' requests that were answered, alone and beside the flood.
    pub(crate) alone: f64,
    pub(crate) attacked: f64,
    /// Of the flood's.
    pub(crate) flood_answered: f64,
    pub(crate) flood_kissed: f64,
    pub(crate) p99_alone_ns: u64,
    pub(crate) p99_attacked_ns: u64,
    pub(crate) generator_kept_up: bool,
    /// The pages that the server held before and afterwards.
    pub(crate) pages: [u64; 2],
}

/// What the server's core spends on a request, in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CostSample {
    pub(crate) server: &'static str,
    /// What is not answered; or `answered`.
    pub(crate) what: &'static str,
    pub(crate) cpu_ns: f64,
}

/// All parts of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Limits {
    pub(crate) floods: Vec<FloodSample>,
    pub(crate) costs: Vec<CostSample>,
}

/// Every server with every flood.
pub(crate) fn measure(programs: &Programs, hosts: &Hosts) -> Result<Limits, String> {
    hosts.take_replies(Replies::Moderated)?;
    hosts.interrupt()?;
    hosts.route(FLOODS)?;
    let mut all = Limits::default();
    for entry in SERVERS.iter().filter(|entry| NAMES.contains(&entry.name)) {
        let of = |error| format!("{}: {error}", entry.name);
        eprintln!("limits: {}", entry.name);
        let peak = peak(programs, hosts, entry).map_err(of)?;
        for share in SHARES {
            all.floods.push(flood(programs, hosts, entry, &Flood::spoofed(peak, share)).map_err(of)?);
        }
        for name in ["denied", "garbage"] {
            all.floods.push(flood(programs, hosts, entry, &Flood::silent(name, peak)).map_err(of)?);
        }
        all.costs.extend(costs(programs, hosts, entry, peak).map_err(of)?);
    }
    Ok(all)
}

/// A flood, and who asks beside it.
struct Flood {
    name: &'static str,
    per_s: f64,
    share_of_peak: f64,
    from: &'static str,
    clients: &'static str,
    regulars: u32,
    regulars_per_s: u32,
}

impl Flood {
    const fn spoofed(peak: f64, share_of_peak: f64) -> Self {
        Self {
            name: "spoofed",
            per_s: peak * share_of_peak,
            share_of_peak,
            from: FLOODS,
            clients: "5000000",
            regulars: REGULARS,
            regulars_per_s: REGULARS_PER_S,
        }
    }

    const fn silent(name: &'static str, peak: f64) -> Self {
        Self {
            name,
            per_s: peak,
            share_of_peak: 1.0,
            from: if matches!(name.as_bytes(), b"garbage") { GARBAGE } else { DENIED },
            clients: "65000",
            regulars: MANY_REGULARS,
            regulars_per_s: MANY_REGULARS_PER_S,
        }
    }
}

/// Starts it with its limits on, or with such as nobody is over.
fn start(programs: &Programs, hosts: &Hosts, entry: &Entry, limited: bool) -> Result<Server, String> {
    let is_chronyd = entry.name == CHRONYD;
    let limits = match (is_chronyd, limited) {
        (true, true) => CHRONYD_LIMITS,
        (true, false) => "",
        (false, false) => WIDE_LIMITS,
        (false, true) => LIMITS,
    };
    entry.start_with(programs, hosts, &[if is_chronyd { "" } else { MASER }, limits].concat())
}

/// The most that it answers of clients who stay within their limits.
fn peak(programs: &Programs, hosts: &Hosts, entry: &Entry) -> Result<f64, String> {
    let server = start(programs, hosts, entry, false)?;
    let time = format!("{SEARCH_S}s");
    let search =
        ["ladder", SERVER, "--rates", SEARCH_RATES, "--time", &time, "--sender", "live", "--from", CLIENTS];
    let run = generate(programs, hosts, &search)?;
    server.stop()?;
    let steps = run["steps"].as_array().ok_or("no steps")?;
    let answered = steps.iter().filter_map(|step| step["rate_answered"].as_f64());
    answered.reduce(f64::max).ok_or_else(|| "no rates".to_owned())
}

fn flood(programs: &Programs, hosts: &Hosts, entry: &Entry, flood: &Flood) -> Result<FloodSample, String> {
    let server = start(programs, hosts, entry, true)?;
    // What is used for the first time is there afterwards.
    let little = Flood { per_s: 1e3, regulars: 100, regulars_per_s: 100, ..*flood };
    attack(programs, hosts, &little, &[0.1, FIRST_S], &[])?;
    let before = hosts.pages(&server);
    let run = attack(programs, hosts, flood, &[ALONE_S, ATTACKED_S], &["--iburst", "--warm-up", WARM_UP])?;
    let pages = [before, hosts.pages(&server)];
    server.stop()?;
    let (alone, attacked) = (phase(&run, "alone")?, phase(&run, "attacked")?);
    let part = |part: &Value, name: &str| share(part, name);
    let p99 = |phase: &Value| phase["honest"]["latency_ns"]["p99"].as_u64().unwrap_or(0);
    Ok(FloodSample {
        server: entry.name,
        flood: flood.name,
        flood_per_s: flood.per_s,
        share_of_peak: flood.share_of_peak,
        alone: part(&alone["honest"], "answered"),
        attacked: part(&attacked["honest"], "answered"),
        flood_answered: part(&attacked["flood"], "answered"),
        flood_kissed: part(&attacked["flood"], "kissed"),
        p99_alone_ns: p99(alone),
        p99_attacked_ns: p99(attacked),
        generator_kept_up: attacked["generator_kept_up"].as_bool().unwrap_or(false),
        pages,
    })
}

/// What answers cost, and what the drop of a denied and of a hopeless request does, at one rate, hardly anybody beside them;
/// and what the wire does, where the drop is in the driver.
fn costs(programs: &Programs, hosts: &Hosts, entry: &Entry, peak: f64) -> Result<Vec<CostSample>, String> {
    let mut samples = Vec::new();
    let mut tell = |server, what, cpu_ns| samples.push(CostSample { server, what, cpu_ns });
    let per_s = peak * COST_SHARE;
    for (what, limited) in [("answered", false), ("denied", true), ("garbage", true)] {
        let server = start(programs, hosts, entry, limited)?;
        // Answers are to addresses of which each stays within its limit.
        let name = if what == "answered" { "many" } else { what };
        tell(entry.name, what, cost(programs, hosts, &server, name, per_s)?);
        server.stop()?;
    }
    if entry.name == NAMES[2] {
        let far_end = FarEnd::start(programs, hosts)?;
        tell(SINK, "denied", cost(programs, hosts, &far_end.sink, "denied", per_s)?);
    }
    Ok(samples)
}

/// What a request of this kind costs its core, in nanoseconds.
fn cost(
    programs: &Programs,
    hosts: &Hosts,
    server: &Server,
    name: &'static str,
    per_s: f64,
) -> Result<f64, String> {
    let one = Flood { regulars: 1, regulars_per_s: 1, per_s, ..Flood::silent(name, 0.0) };
    let before_ns = hosts.busy_ns(server);
    let run = attack(programs, hosts, &one, &[0.1, COST_S], &[])?;
    let busy_ns = hosts.busy_ns(server).saturating_sub(before_ns);
    let flood = &phase(&run, "attacked")?["flood"];
    let requests = if name == "many" { &flood["answered"] } else { &flood["sent"] };
    let requests =
        requests.as_u64().filter(|requests| *requests > 0).ok_or("nothing was answered or sent")?;
    Ok(float(busy_ns) / float(requests))
}

fn attack(
    programs: &Programs,
    hosts: &Hosts,
    flood: &Flood,
    [alone_s, attacked_s]: &[f64; 2],
    more: &[&str],
) -> Result<Value, String> {
    let [alone, time] = [alone_s, attacked_s].map(|seconds| format!("{seconds}s"));
    let (rate, regulars) = (flood.regulars_per_s.to_string(), flood.regulars.to_string());
    let flood_rate = format!("{:.0}", flood.per_s);
    let who = ["attack", SERVER, "--from", CLIENTS, "--regulars", &regulars, "--rate", &rate];
    let what = ["--flood", flood.name, "--flood-from", flood.from, "--flood-clients", flood.clients];
    let when = ["--flood-rate", &flood_rate, "--alone", &alone, "--time", &time];
    generate(programs, hosts, &[&who, what.as_slice(), &when, more].concat())
}

/// Runs `maser-load` with these words; its document.
fn generate(programs: &Programs, hosts: &Hosts, specific: &[&str]) -> Result<Value, String> {
    let output = hosts.directory().join("limits.json");
    let program = text(&programs.generator);
    let common = ["--cores", GENERATOR_CORE, "--timeout", TIMEOUT, "--json", "--quiet"];
    let command = [&[&*program], specific, &common].concat();
    hosts.generate_into(&command, PATIENCE, &output)?;
    let text = fs::read_to_string(&output).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))
}

fn phase<'a>(run: &'a Value, name: &str) -> Result<&'a Value, String> {
    let phases = run["phases"].as_array().ok_or("no phases")?;
    phases.iter().find(|phase| phase["name"] == name).ok_or_else(|| format!("no phase {name}"))
}

/// The share of a part's due requests.
fn share(part: &Value, name: &str) -> f64 {
    let count = |name: &str| part[name].as_u64().map_or(0.0, float);
    count(name) / count("due").max(1.0)
}
