//! What the server tells about itself.
//!
//! [`Status`] is the document: the server fills it, [`StatusServer`] gives it as JSON to whoever connects to the
//! status socket, [`fetch`] reads it back, and [`table`], [`sources_table`], [`tracking_table`] and [`render`] show it to people. Who asks the most is a document of its own,
//! [`ClientsStatus`], for those who ask for it. Nothing here reads a clock: what is counted per second is counted over the
//! difference of two uptimes.

mod access;
mod client;
mod clients;
mod clients_table;
mod columns;
mod interfaces;
mod limit;
mod load;
mod nics;
mod place;
mod residence;
mod screen;
mod server;
mod sources;
mod table;
mod timing;
mod tracking;
mod units;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use access::{AccessFileStatus, AccessStatus};
pub use client::{ClientError, fetch, fetch_clients, find};
pub use clients::{ByFate, ClientStatus, ClientsQuestion, ClientsStatus, Order, TOP_MAX};
pub use clients_table::clients_table;
pub use interfaces::{InterfaceStatus, QueueStatus};
pub use limit::{LimitStatus, PlacesStatus};
pub use load::{LoadStatus, RefusalStatus};
pub use nics::{NicStatus, StampStatus};
pub use place::{NoPlace, Surroundings};
pub use residence::Residence;
pub use screen::{Page, Screen, render, watch};
pub use server::{SocketError, StatusServer, StatusSocket};
pub(crate) use sources::mark;
pub use sources::sources_table;
pub use table::table;
pub(crate) use table::{core_name, reference_name};
pub use timing::{
    EventStatus, LeapKnowledge, NextLeap, SourceStanding, SourceStatus, SteeringStatus, Tracking,
};
pub use tracking::tracking_table;
pub use units::rfc3339;
pub(crate) use units::{
    count, float, interval, nanoseconds, per_second_of, printable, seconds, signed_seconds, uptime, whole,
};

/// A document longer than this isn't a status: 256 workers of each kind with every counter and bucket stay below it.
pub const STATUS_OCTETS_MAX: u64 = 8 << 20;

/// Counters by name, in the order of their names.
pub type Counters = BTreeMap<String, u64>;

/// Everything the server tells. A field that an older server doesn't send is at its default.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The server's version.
    pub version: String,
    /// Seconds since the server started, by a clock that nobody steers.
    pub uptime_s: f64,
    /// Whether clients may follow the replies.
    pub state: State,
    /// The stratum of replies; 16 when unsynchronised (it travels as 0).
    pub stratum: u8,
    /// The reference id as it is read: four characters at stratum 1, an address above.
    pub reference_id: String,
    /// What replies say of the next leap second.
    pub leap: LeapStatus,
    /// log₂ of the clock's reading precision in seconds.
    pub precision_log2_s: i8,
    /// Round trip to the primary reference.
    pub root_delay_s: f64,
    /// Error bound at the moment of asking.
    pub root_dispersion_s: f64,
    /// When the clock was last set or corrected, as [`rfc3339`] writes it; none before the first time.
    pub reference_time: Option<String>,
    /// What counts time between corrections.
    pub clock: ClockStatus,
    /// Where the time comes from, in the order of the configuration.
    pub sources: Vec<SourceStatus>,
    /// How the served clock follows them.
    pub tracking: Tracking,
    /// Where packets come in.
    pub ports: Vec<PortStatus>,
    /// The interfaces whose requests are taken from the driver, in the order of the configuration.
    pub interfaces: Vec<InterfaceStatus>,
    /// The NICs whose own stamps are used, or were to be.
    pub nics: Vec<NicStatus>,
    /// Who may ask.
    pub access: AccessStatus,
    /// How full the limiter's table is; none where nobody is limited.
    pub limit: Option<LimitStatus>,
    /// Who answers them.
    pub workers: Vec<WorkerStatus>,
    /// What became of the configuration; none where nobody can read it again.
    pub configuration: Option<LoadStatus>,
}

/// Where the served clock stands. Clients may follow the replies while it is locked, in holdover, local or synchronised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No source has said what time it is.
    Cold,
    /// A source is followed, and the error isn't small enough yet.
    Acquiring,
    /// A source is followed within the root distance that is allowed.
    Locked,
    /// The sources are gone, and what is known of the oscillator still keeps the error within it.
    Holdover,
    /// There is no telling what time it is, and replies say so.
    #[default]
    Unsynchronised,
    /// As before, but the operator wants a common time at a stratum far above.
    Local,
    /// This machine's own clock is served, and the kernel calls it synchronised.
    Synchronised,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Cold,
        Self::Acquiring,
        Self::Locked,
        Self::Holdover,
        Self::Unsynchronised,
        Self::Local,
        Self::Synchronised,
    ];
}

/// What replies say of the next leap second (RFC 5905 §7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeapStatus {
    /// None is near.
    None,
    /// The last minute of the month has 61 seconds.
    Insert,
    /// The last minute of the month has 59 seconds.
    Delete,
    /// The clock isn't synchronised.
    #[default]
    Unsynchronised,
}

impl LeapStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Insert, Self::Delete, Self::Unsynchronised];

    /// As the document has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Insert => "insert",
            Self::Delete => "delete",
            Self::Unsynchronised => "unsynchronised",
        }
    }
}

/// What counts time between corrections.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClockStatus {
    /// Its name, as `tsc` or `monotonic_raw`.
    pub counter: String,
    /// Why it was taken and not another.
    pub why: String,
    /// How fast it counts.
    pub frequency_hz: f64,
}

/// Where packets come in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortStatus {
    /// The address and port.
    pub listen: String,
    /// The way packets take: the rung of the ladder that it stands on.
    pub rung: String,
    /// Why not a better one.
    pub why: String,
}

/// One worker.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerStatus {
    /// The core that it is pinned to; none if it couldn't be.
    pub core: Option<usize>,
    /// Its packet port, as `socket` or `af-xdp`.
    pub port: String,
    /// The queues that it owns, as `eth0:0`; none with another port.
    pub queues: Vec<String>,
    /// Frames that nobody held when last no packet was waiting: those in the driver's own rings; always 0 in copy mode and
    /// with another port.
    pub frames_missing: u64,
    /// Requests that were answered, by the kind of answer.
    pub answers: Counters,
    /// Packets that weren't, by the reason.
    pub drops: Counters,
    /// What else happened: lapped snapshot reads, steps of the kernel's clock, full queues.
    pub events: Counters,
    /// How long packets stayed between their receive stamp and their transmit stamp.
    pub residence: Residence,
    /// When its replies leave.
    pub transmit: TransmitStatus,
}

/// How much later than foreseen a worker's replies leave, as its port told of the last ones.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TransmitStatus {
    /// Whether transmit timestamps are corrected by it.
    pub corrected: bool,
    /// The median; none while too few are known, or where the port can't tell.
    pub lateness_s: Option<f64>,
    /// Half of the distance between the quartiles; none as well.
    pub spread_s: Option<f64>,
    /// How far from the departures that were told transmit timestamps are, to either side.
    pub errors: Residence,
}

impl Status {
    /// The counters of all workers together.
    #[must_use]
    pub fn total(&self, which: impl Fn(&WorkerStatus) -> &Counters) -> Counters {
        let mut total = Counters::new();
        for (name, count) in self.workers.iter().flat_map(which) {
            let sum = total.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        total
    }

    /// How often the sources' clocks were stepped while the server ran.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.sources.iter().fold(0, |sum, source| sum.saturating_add(source.steps))
    }

    /// The residence of all workers' packets together.
    #[must_use]
    pub fn residence(&self) -> Residence {
        Residence::together(self.workers.iter().map(|worker| &worker.residence))
    }
}

impl WorkerStatus {
    /// How many requests it answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        sum(&self.answers)
    }

    /// How many packets it left unanswered.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        sum(&self.drops)
    }
}

/// All counters together.
fn sum(counters: &Counters) -> u64 {
    counters.values().fold(0, |sum, count| sum.saturating_add(*count))
}

#[cfg(test)]
pub(crate) mod tests;
