//! What a run came to, as plain data: the JSON document that `--json` writes and that every other report is made from.
//!
//! Field names are a promise to scripts: add, don't rename. Counts are of packets, rates of packets a second, times in
//! nanoseconds where the name says so. Nothing here measures; [`outcome`](crate::outcome) does.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the document's shape.
pub const FORMAT: u32 = 1;

/// A whole run: what was asked, what came of it in all, and its steps.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Document {
    /// [`FORMAT`].
    pub format: u32,
    /// The generator's name and version.
    pub program: String,
    /// The arguments that it was called with.
    pub command: Vec<String>,
    /// When the run began, in seconds since 1970.
    pub begun_unix_s: i64,
    /// The kernel's release.
    pub kernel: String,
    /// Whether the run was ended before its time (Ctrl-C): the figures are of what was done until then.
    pub interrupted: bool,
    /// How it was run.
    pub setting: Setting,
    /// All steps together; of a ladder or a knee search, whose steps differ in rate, the step that stands for it: the
    /// one with the highest answered rate within the first loss limit, else the first.
    #[serde(flatten)]
    pub result: Summary,
    /// In the order in which they were run; a fixed run has one, a soak one a second.
    pub steps: Vec<Summary>,
    /// What a knee search found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knees: Vec<Knee>,
}

/// How a run was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Setting {
    /// `fixed`, `ladder`, `knee` or `soak`.
    pub mode: String,
    /// Address and port of the server.
    pub target: String,
    /// `udp`, `packet` or `live`.
    pub sender: String,
    /// The mix of requests.
    pub mix: String,
    /// How many clients interleave, whatever the mix is.
    #[serde(default)]
    pub interleaving_clients: u32,
    /// Threads that send.
    pub threads: usize,
    /// Who saw the replies and checked them: see [`Coverage`].
    pub coverage: Coverage,
    /// Whether requests waited for replies: the latencies of such a run hide a server's stalls.
    pub closed_loop: bool,
}

/// How many replies were checked, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coverage {
    /// Each reply was read and validated in user space.
    All,
    /// The kernel counted and timed each reply; one in so many was validated in user space.
    SampleOneIn(u32),
}

/// What a run, or a step of it, came to.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Requests a second that were asked for.
    pub rate_requested: f64,
    /// Requests a second that were sent.
    pub rate_offered: f64,
    /// Valid replies a second that came while requests were being sent: kisses and invalid replies aren't answers, and
    /// what a server works off from its queue afterwards is no rate that it could keep.
    pub rate_answered: f64,
    /// How long was sent, in seconds.
    pub duration_s: f64,
    /// Simulated clients: different source addresses, or ports where there is one address.
    pub clients: u64,
    /// Requests that left.
    pub sent: u64,
    /// Requests that the kernel refused for want of room: the generator's fault, not the server's.
    pub unsent: u64,
    /// Of `sent`, those that a server rightly passes over in silence (attacks, requests for signatures).
    pub silence_expected: u64,
    /// First replies to requests: valid ones, kisses, and invalid ones.
    pub received: u64,
    /// Requests that expect a reply and got none in time. `sent = received + lost + silence_expected` but for replies to what expects
    /// none.
    pub lost: u64,
    /// Replies that broke a rule; `faults` says which.
    pub invalid: u64,
    /// Replies to a request that had been replied to.
    pub duplicate: u64,
    /// Replies that came after their request had been given up as lost.
    pub late: u64,
    /// Kiss-o'-Death packets; `kisses` says which.
    pub kod: u64,
    /// Valid replies in basic mode.
    pub basic: u64,
    /// Valid replies in interleaved mode (RFC 9769).
    pub interleaved: u64,
    /// Valid replies to requests that asked for interleaved mode: the others of these are basic.
    #[serde(default)]
    pub interleaving: u64,
    /// Replies that came in but that the generator was too slow to look at: they count as lost, and the run should be
    /// repeated at a lower rate or with a sender of more capacity.
    pub unseen: u64,
    /// UDP payload octets of all requests.
    pub octets_sent: u64,
    /// UDP payload octets of all replies.
    pub octets_received: u64,
    /// Invalid replies by what was wrong.
    pub faults: BTreeMap<String, u64>,
    /// Kisses by code.
    pub kisses: BTreeMap<String, u64>,
    /// From the moment when a request was due by the schedule to the arrival of its valid reply.
    pub latency_ns: Percentiles,
    /// How late requests left, against the schedule: the generator's own share of the latency.
    pub lag_ns: Percentiles,
    /// The offset that a client would compute from a reply, though both ends share a clock.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset_error_ns: Option<ErrorSpread>,
    /// The server's receive timestamp less our transmit stamp: its way there and its lateness.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub receive_error_ns: Option<ErrorSpread>,
    /// Our receive stamp less the server's transmit timestamp, of basic replies: its way back and how early it was stamped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub transmit_error_ns: Option<ErrorSpread>,
    /// The same of interleaved replies, each with the receive stamp of the reply before, whose transmit timestamp it has; of
    /// every one of them, sampled or not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interleaved_transmit_error_ns: Option<ErrorSpread>,
}

impl Summary {
    /// The share of requests that expect a reply and got none.
    #[must_use]
    pub fn loss(&self) -> f64 {
        share(self.lost, self.sent.saturating_sub(self.silence_expected))
    }
}

/// `part` of `whole`; nothing of nothing is nothing.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a share is for people, and counts stay far below 2^53")]
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A distribution of times, in nanoseconds; all 0 where `count` is 0.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// The least.
    pub min: u64,
    /// Their mean.
    pub mean: f64,
    /// The median.
    pub p50: u64,
    /// Nine in ten are at most this.
    pub p90: u64,
    /// 99 in a hundred.
    pub p99: u64,
    /// 999 in a thousand.
    pub p999: u64,
    /// The greatest.
    pub max: u64,
}

/// A distribution of signed errors, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ErrorSpread {
    /// How many replies it was measured on.
    pub count: u64,
    /// The most negative error.
    pub lowest: i64,
    /// The mean error.
    pub mean: f64,
    /// The most positive error.
    pub highest: i64,
    /// The standard deviation.
    pub stddev: f64,
    /// The median of the magnitude.
    pub p50: u64,
    /// Nine in ten magnitudes are at most this.
    pub p90: u64,
    /// 99 in a hundred.
    pub p99: u64,
    /// The greatest magnitude.
    pub max: u64,
}

/// The highest rate within a loss limit.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Knee {
    /// The limit: the share of requests that may be lost.
    pub loss_max: f64,
    /// The highest rate that was offered and kept to it; none if not even the lowest did.
    pub rate_offered: Option<f64>,
    /// Valid replies a second at that rate.
    pub rate_answered: Option<f64>,
    /// The search ended at the generator's own limit or at the highest rate that was asked for, not at the server's: it can do
    /// more.
    pub at_least: bool,
}
