//! What is measured of a server, by `maser-load`: rates around its peak, latency far below it, accuracy at half of it.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::Server;
use crate::hosts::{CLIENTS, GENERATOR_CORE, Hosts, Replies, SERVER};
use crate::servers::{Entry, Measured, Programs};

/// Simulated clients, each with an address of its own.
const CLIENTS_COUNT: &str = "10000";
/// Replies come within the time in which a full receive buffer is worked off.
const TIMEOUT: &str = "200ms";
/// Replies a second whose timestamps are compared with the kernel's.
const STAMPS: &str = "2000";
const NO_STAMPS: &str = "0";
/// A generator that is later than this, in shares of a step, has not offered what it says.
const LAG_SHARE_MAX: f64 = 0.02;
/// What a run may take beyond the time that it sends for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Rates at which a server's peak is looked for at first, by doubling.
const SEARCH: [f64; 7] = [25e3, 50e3, 100e3, 200e3, 400e3, 800e3, 1_600e3];
/// The ladder, in shares of the peak that was found so: it overlaps the peak whichever way the search was wrong.
const LADDER: [f64; 7] = [0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0];
/// How a peak is looked for: the least that the generator costs.
const MODERATED: (&str, Replies) = ("live", Replies::Moderated);
/// The loss of a step that may lie below the peak still: half of what comes at twice the peak is lost.
const LOSS_AT_THE_END_MAX: f64 = 0.25;
/// How often a round moves its ladder up.
const MOVES_MAX: u32 = 2;
/// How often a ladder is measured of which the generator kept no step: something else had the machine meanwhile.
const TRIES_MAX: u32 = 3;
/// The same for the peak while replies are taken within the server's call, which is work on its core.
const LADDER_DIRECT: [f64; 5] = [0.4, 0.55, 0.7, 0.85, 1.0];
const LADDER_QUICK: [f64; 4] = [0.7, 0.85, 1.0, 1.4];
/// The rate at which latency is measured.
pub(crate) const LATENCY_RATE: f64 = 10_000.0;

/// How long each measurement sends, in seconds.
pub(crate) struct Times {
    search_s: f64,
    ladder_s: f64,
    single_s: f64,
    ladder: &'static [f64],
}

impl Times {
    pub(crate) const FULL: Self = Self { search_s: 0.15, ladder_s: 0.35, single_s: 0.8, ladder: &LADDER };
    pub(crate) const QUICK: Self =
        Self { search_s: 0.1, ladder_s: 0.2, single_s: 0.4, ladder: &LADDER_QUICK };

    /// About how long a server takes; the overheads are those of the machine that the README's figures are from.
    pub(crate) fn sample_s(&self, entry: &Entry, is_first: bool) -> f64 {
        const START_AND_STOP_S: f64 = 0.5;
        const STEP_S: f64 = 0.15;
        const PROCESS_S: f64 = 0.2;
        let steps = |count: usize, step_s: f64| -> f64 {
            PROCESS_S + (0..count).map(|_| step_s + STEP_S).sum::<f64>()
        };
        let latency_s = steps(1, self.single_s);
        let search_s = if is_first { steps(SEARCH.len(), self.search_s) } else { 0.0 };
        let peak_s = steps(self.ladder.len(), self.ladder_s) + search_s;
        START_AND_STOP_S
            + match entry.measured {
                Measured::All => {
                    let half_s = steps(1, self.single_s);
                    let accuracy_s = steps(LADDER_DIRECT.len(), self.ladder_s) + half_s;
                    latency_s + peak_s + half_s + if entry.is_echo() { 0.0 } else { accuracy_s }
                }
                Measured::Latency => latency_s,
                Measured::Peak => peak_s,
            }
    }
}

/// A step of `maser-load`: the fields of its JSON that are used here, under its names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) rate_requested: f64,
    pub(crate) rate_offered: f64,
    pub(crate) rate_answered: f64,
    pub(crate) duration_s: f64,
    pub(crate) sent: u64,
    pub(crate) unsent: u64,
    pub(crate) lost: u64,
    pub(crate) invalid: u64,
    pub(crate) unseen: u64,
    pub(crate) latency_ns: Percentiles,
    pub(crate) lag_ns: Percentiles,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offset_error_ns: Option<Spread>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receive_error_ns: Option<Spread>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transmit_error_ns: Option<Spread>,
}

impl Step {
    /// The generator kept its schedule, so that the rates are what they say: one that falls behind sends for longer.
    pub(crate) fn is_on_schedule(&self) -> bool {
        float(self.lag_ns.p99) / 1e9 <= LAG_SHARE_MAX * self.duration_s
    }

    /// The share of requests that got no reply. What the receiver's full ring refused (`unsent`) is lost as in a NIC's.
    pub(crate) fn loss(&self) -> f64 {
        let due = self.sent + self.unsent;
        if due == 0 { 1.0 } else { float(self.lost + self.unsent) / float(due) }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    pub(crate) stddev: f64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

#[derive(Deserialize)]
struct Document {
    steps: Vec<Step>,
}

/// All of one server in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) placement: &'static str,
    pub(crate) server: &'static str,
    pub(crate) round: u32,
    /// Around the peak, by rising rate.
    pub(crate) ladder: Vec<Step>,
    /// At [`LATENCY_RATE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Step>,
    /// Where the peak lies while replies are taken within the server's call; none of servers that tell no time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) direct: Vec<Step>,
    /// At half of that peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) accuracy: Option<Step>,
    /// What the server, and the thread that receives for it, had of a core for an answer at half of the peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ns: Option<f64>,
}

impl Sample {
    /// For a line of progress.
    pub(crate) fn in_short(&self) -> String {
        let peak = best(&self.ladder).map(|step| format!("peak {:.0} k/s", step.rate_answered / 1e3));
        let p50_us = |step: &Step| format!("p50 {:.0} µs", float(step.latency_ns.p50) / 1e3);
        let parts: Vec<String> = peak.into_iter().chain(self.latency.as_ref().map(p50_us)).collect();
        parts.join(", ")
    }
}

/// Measures one server on one pair of hosts.
pub(crate) struct Run<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) programs: &'a Programs,
    pub(crate) hosts: &'a Hosts,
    pub(crate) times: &'a Times,
    pub(crate) round: u32,
}

impl Run<'_> {
    /// Starts the server, measures it and ends it. `peak` is where the ladder stands: looked for where it isn't known
    /// yet, and kept, so that rounds are comparable.
    pub(crate) fn sample(&self, peak: &mut Option<f64>) -> Result<Sample, String> {
        let server = self.entry.start(self.programs, self.hosts)?;
        let mut sample = Sample {
            placement: self.hosts.placement.name(),
            server: self.entry.name,
            round: self.round,
            ladder: Vec::new(),
            latency: None,
            direct: Vec::new(),
            accuracy: None,
            cpu_ns: None,
        };
        let measured = self.entry.measured;
        if measured != Measured::Peak {
            sample.latency = Some(self.single(LATENCY_RATE, self.stamps(), Replies::Direct)?);
        }
        if measured != Measured::Latency {
            sample.ladder = self.ladder_to_the_peak(peak)?;
        }
        if measured == Measured::All {
            self.at_half_of_peak(&server, &mut sample)?;
        }
        server.stop()?;
        Ok(sample)
    }

    /// Measures around the peak, which is looked for where it isn't known yet. A search or a round that was disturbed finds too
    /// little: while a ladder ends at its peak it is moved up, for the rounds to come, too.
    fn ladder_to_the_peak(&self, peak: &mut Option<f64>) -> Result<Vec<Step>, String> {
        let mut centre = match *peak {
            Some(centre) => centre,
            None => peak_of(&self.ladder(&SEARCH, self.times.search_s, MODERATED)?)?,
        };
        let mut ladder = self.ladder_around(centre)?;
        for _ in 0..MOVES_MAX {
            // Where the generator is at its end, too, there is nothing to be found further up.
            if !ladder.last().is_some_and(Step::is_on_schedule) || !ends_at_its_peak(&ladder) {
                break;
            }
            centre = peak_of(&ladder)?;
            ladder = self.ladder_around(centre)?;
        }
        *peak = Some(centre);
        Ok(ladder)
    }

    fn ladder_around(&self, centre: f64) -> Result<Vec<Step>, String> {
        self.ladder(&shares_of(centre, self.times.ladder), self.times.ladder_s, MODERATED)
    }

    fn at_half_of_peak(&self, server: &Server, sample: &mut Sample) -> Result<(), String> {
        let peak = peak_of(&sample.ladder)?;
        let before_ns = self.hosts.busy_ns(server);
        let half = self.single(peak / 2.0, NO_STAMPS, Replies::Threaded)?;
        let answers = half.sent.saturating_sub(half.lost);
        if answers > 0 {
            sample.cpu_ns =
                Some(float(self.hosts.busy_ns(server).saturating_sub(before_ns)) / float(answers));
        }
        if !self.entry.is_echo() {
            // Between a reply's leaving and its stamp nothing may stand that isn't the server's: not the rig's own wake-up, and
            // not the queue of all clients' replies before one reader. The core that does this, too, has another peak.
            let rates = shares_of(peak, &LADDER_DIRECT);
            sample.direct = self.ladder(&rates, self.times.ladder_s, ("packet", Replies::Direct))?;
            let peak = peak_of(&sample.direct)?;
            sample.accuracy = Some(self.single(peak / 2.0, STAMPS, Replies::Direct)?);
        }
        Ok(())
    }

    /// An echo has no timestamps.
    const fn stamps(&self) -> &'static str {
        if self.entry.is_echo() { NO_STAMPS } else { STAMPS }
    }

    fn single(&self, rate: f64, stamps: &str, replies: Replies) -> Result<Step, String> {
        self.hosts.take_replies(replies)?;
        self.hosts.receive_at_once(true)?;
        let rate = rate.round().to_string();
        let seconds = self.times.single_s;
        let specific = ["fixed", "--rate", &rate, "--sender", "packet", "--stamps", stamps];
        self.generate(&specific, seconds, seconds)?.pop().ok_or_else(|| "no step".to_owned())
    }

    fn ladder(
        &self,
        rates: &[f64],
        step_s: f64,
        (sender, replies): (&str, Replies),
    ) -> Result<Vec<Step>, String> {
        self.hosts.take_replies(replies)?;
        self.hosts.receive_at_once(false)?;
        let count: f64 = rates.iter().map(|_| 1.0).sum();
        let rates = rates.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        let specific = ["ladder", "--rates", &rates, "--sender", sender, "--stamps", NO_STAMPS];
        let mut steps = Vec::new();
        for _ in 0..TRIES_MAX {
            steps = self.generate(&specific, step_s, step_s * count)?;
            if best(&steps).is_some() {
                break;
            }
        }
        Ok(steps)
    }

    fn generate(&self, specific: &[&str], step_s: f64, total_s: f64) -> Result<Vec<Step>, String> {
        let results = self.hosts.directory().join("results.json");
        let (generator, json) =
            (self.programs.generator.to_string_lossy(), format!("--json={}", results.display()));
        let (time, expect) = (format!("{step_s}s"), if self.entry.is_echo() { "echo" } else { "ntp" });
        let [mode, specific @ ..] = specific else { return Err("no mode".to_owned()) };
        let common = [
            ["--clients", CLIENTS_COUNT, "--from", CLIENTS],
            ["--cores", GENERATOR_CORE, "--mix", "ntpv4"],
            ["--expect", expect, "--timeout", TIMEOUT],
            ["--time", &time, "--quiet", &json],
        ];
        let command = [&[&*generator, *mode, SERVER], specific, common.as_flattened()].concat();
        self.hosts.generate(&command, Duration::from_secs_f64(total_s) + PATIENCE)?;
        let text = fs::read_to_string(&results).map_err(|error| format!("{}: {error}", results.display()))?;
        let document: Document =
            serde_json::from_str(&text).map_err(|error| format!("maser-load: {error}"))?;
        Ok(document.steps)
    }
}

/// The step with the most answers, of those that the generator kept to.
pub(crate) fn best(steps: &[Step]) -> Option<&Step> {
    let steps = steps.iter().filter(|step| step.is_on_schedule() && step.rate_answered > 0.0);
    steps.max_by(|a, b| a.rate_answered.total_cmp(&b.rate_answered))
}

/// The most answers came at the highest rate that was offered, and most requests got theirs: what the server has no time for is
/// half of the highest of a ladder that stands at its peak. Steps that the generator didn't keep to say nothing.
pub(crate) fn ends_at_its_peak(ladder: &[Step]) -> bool {
    let on_schedule = ladder.iter().filter(|step| step.is_on_schedule());
    let highest = on_schedule.map(|step| step.rate_offered).fold(0.0, f64::max);
    best(ladder).is_some_and(|step| step.rate_offered >= highest && step.loss() <= LOSS_AT_THE_END_MAX)
}

fn shares_of(peak: f64, shares: &[f64]) -> Vec<f64> {
    shares.iter().map(|share| (share * peak).round()).collect()
}

fn peak_of(steps: &[Step]) -> Result<f64, String> {
    best(steps)
        .map(|step| step.rate_answered)
        .ok_or_else(|| "the generator never kept its schedule".to_owned())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of packets and nanoseconds of seconds stay far below 2^53"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
