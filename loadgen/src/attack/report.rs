//! What an attack came to, as plain data and as a table.
//!
//! Field names are a promise to scripts: add, don't rename. As in [`summary`](crate::summary), counts are of packets, rates a
//! second, times in nanoseconds.

use crate::outcome::approximate;
use crate::report::units::{exact, percent, short, time};
use crate::summary::{Percentiles, share};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The version of the document's shape.
pub const FORMAT: u32 = 1;
/// A generator that is later than this, in shares of a phase, hasn't offered what it says.
const LAG_SHARE_MAX: f64 = 0.02;
/// So much of what was due must have been made.
const MADE_SHARE_MIN: f64 = 0.995;

/// A whole attack.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AttackDocument {
    /// [`FORMAT`].
    pub format: u32,
    /// The generator's name and version.
    pub program: String,
    /// The arguments that it was called with.
    pub command: Vec<String>,
    /// When it began, in seconds since 1970.
    pub begun_unix_s: i64,
    /// Whether it was ended before its time (Ctrl-C).
    pub interrupted: bool,
    /// How it was done.
    pub setting: Setting,
    /// `warm-up` if there was one, `alone`, `attacked`.
    pub phases: Vec<Phase>,
}

/// How an attack was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Setting {
    /// Address and port of the server.
    pub target: String,
    /// `live` or `udp`.
    pub sender: String,
    /// The flood's kind.
    pub flood: String,
    /// The network of the flood's addresses.
    pub flood_from: String,
    /// How many it has.
    pub flood_clients: u32,
    /// The network of the honest clients' addresses.
    pub from: String,
    /// How many these are.
    pub regulars: u32,
}

/// A phase of an attack.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// For how long requests were due, in seconds.
    pub duration_s: f64,
    /// Whether the generator made what was due, and in time: if not, the phase shows the generator's limit.
    pub generator_kept_up: bool,
    /// What the honest clients sent and got.
    pub honest: Part,
    /// What the flood sent and got; none where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flood: Option<Part>,
}

/// What one part sent and got back.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Part {
    /// Requests a second that were asked for.
    pub rate_requested: f64,
    /// Requests that were due.
    pub due: u64,
    /// Requests that were made in time: what is left is the generator's fault.
    pub made: u64,
    /// Requests of `made` that the other end took.
    pub sent: u64,
    /// Requests of `made` that found the other end's queue full, as a NIC's may be: lost on the way to the server.
    pub refused: u64,
    /// Replies with the time, or that say that the server has none.
    pub answered: u64,
    /// Of `answered`, replies that say that the server has no time.
    pub unsynchronised: u64,
    /// Requests of `sent` with neither an answer nor a kiss.
    pub silent: u64,
    /// Kisses of all codes.
    pub kissed: u64,
    /// Kisses by code.
    pub kisses: BTreeMap<String, u64>,
    /// Replies that break a rule, by what was wrong.
    pub faults: BTreeMap<String, u64>,
    /// Replies to what had been replied to.
    pub duplicate: u64,
    /// Replies longer than 48 octets, the longest that answers any request here.
    pub longer: u64,
    /// UDP payload octets that were sent.
    pub octets_sent: u64,
    /// UDP payload octets that came back.
    pub octets_received: u64,
    /// From due to the arrival of the answer.
    pub latency_ns: Percentiles,
    /// How late requests were made.
    pub lag_ns: Percentiles,
    /// What its clients got one by one, where they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<ByClient>,
}

/// What clients got one by one.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ByClient {
    /// How many sent anything.
    pub asked: u64,
    /// Requests a second, over those who sent any.
    pub asked_per_s: Spread,
    /// Answers a second.
    pub answered_per_s: Spread,
    /// Kisses, in all.
    pub kissed: Spread,
    /// Those who sent most, from the first on; of equal ones the lower address.
    pub top: Vec<Client>,
}

/// A distribution over clients.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// One in a hundred has less.
    pub p01: f64,
    /// Half of them have less.
    pub p50: f64,
    /// 99 in a hundred have less.
    pub p99: f64,
    /// The most.
    pub max: f64,
}

/// One client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Client {
    /// Its address.
    pub address: String,
    /// What it sent.
    pub sent: u64,
    /// What it got.
    pub answered: u64,
    /// Kisses that it got.
    pub kissed: u64,
}

impl Spread {
    /// Of these values.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |per_cent: usize| {
            let last = values.len().saturating_sub(1);
            values.get(last * per_cent / 100).copied().unwrap_or(0.0)
        };
        Self { min: at(0), p01: at(1), p50: at(50), p99: at(99), max: at(100) }
    }
}

impl Part {
    /// The share of requests due that were answered: what was lost on the way or not even made isn't.
    #[must_use]
    pub fn answered_share(&self) -> f64 {
        share(self.answered, self.due)
    }

    /// Whether the generator made what was due, and in time, over `duration_s`.
    #[must_use]
    pub fn kept_up(&self, duration_s: f64) -> bool {
        share(self.made, self.due.max(1)) >= MADE_SHARE_MIN
            && approximate(self.lag_ns.p99) / 1e9 <= LAG_SHARE_MAX * duration_s
    }
}

/// The table: a row for each part of each phase, and below it what has no column.
#[must_use]
pub fn table(document: &AttackDocument) -> String {
    let Setting { target, flood, flood_clients, flood_from, regulars, from, .. } = &document.setting;
    let mut text = format!(
        "{target}: {} honest clients of {from}; {flood} by {} of {flood_from}\n{:<9}{:<8}{:>9}{:>11}{:>9}{:>10}{:>9}{:>9} |{:>9}{:>9}{:>9}\n",
        exact(u64::from(*regulars)),
        exact(u64::from(*flood_clients)),
        "phase",
        "who",
        "rate",
        "sent",
        "refused",
        "answered",
        "kissed",
        "silent",
        "p50",
        "p99",
        "lag p99"
    );
    for phase in &document.phases {
        for (who, part) in [("honest", Some(&phase.honest)), ("flood", phase.flood.as_ref())] {
            if let Some(part) = part {
                row(&mut text, phase, who, part);
            }
        }
        if !phase.generator_kept_up {
            text += "          └ the generator didn't keep up: these figures are its own, not the server's\n";
        }
    }
    text
}

fn row(text: &mut String, phase: &Phase, who: &str, part: &Part) {
    let of_due = |count| percent(count, part.due);
    // Writing to a string doesn't fail.
    let _ = writeln!(
        text,
        "{:<9}{who:<8}{:>9}{:>11}{:>9}{:>10}{:>9}{:>9} |{:>9}{:>9}{:>9}",
        phase.name,
        short(part.rate_requested),
        exact(part.sent),
        of_due(part.refused),
        of_due(part.answered),
        of_due(part.kissed),
        of_due(part.silent),
        time(approximate(part.latency_ns.p50)),
        time(approximate(part.latency_ns.p99)),
        time(approximate(part.lag_ns.p99)),
    );
    let faults: Vec<String> =
        part.faults.iter().map(|(fault, count)| format!("{fault} {}", exact(*count))).collect();
    let kisses = part.kisses.iter().map(|(code, count)| format!("{code} {}", exact(*count)));
    let notes: Vec<String> = kisses.chain(faults).collect();
    if !notes.is_empty() {
        let _ = writeln!(text, "{:>11} {}", "└", notes.join(", "));
    }
    if let Some(ByClient { answered_per_s, asked, .. }) = &part.clients {
        let Spread { min, p50, max, .. } = answered_per_s;
        let _ = writeln!(
            text,
            "{:>11} answers a second of each of {}: {min:.2} to {max:.2}, half below {p50:.2}",
            "└",
            exact(*asked)
        );
    }
}
