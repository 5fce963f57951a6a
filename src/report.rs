//! The running server as the status tells it: every figure is read from where it is made, at the moment of asking.

use crate::config::{Config, Source};
use crate::count::Counts;
use crate::port::ladder::Footing;
use crate::pulse::{Pulse, PulseState};
use crate::status::{
    ClockStatus, Counters, LeapStatus, PortStatus, Residence, SourceStatus, State, Status, WorkerStatus,
    rfc3339,
};
use maser_core::refclock::Standing;
use maser_core::snapshot::Snapshot;
use maser_core::time::{BUILD_DATE, LeapIndicator, NtpTimestamp, Rate, Span, Ticks};
use maser_sys::calibration::Choice;
use maser_sys::counter::CounterKind;
use maser_sys::snapshot_cell::Reader;
use std::sync::Arc;

/// A worker as the status sees it.
#[derive(Debug)]
pub struct WorkerView {
    /// The core that it was told to run on.
    pub core: usize,
    /// Whether it could be pinned there.
    pub pinned: bool,
    /// What it counted.
    pub counts: Arc<Counts>,
}

/// What can be told of a running server.
#[derive(Debug)]
pub struct View {
    /// What it was started with.
    pub config: Config,
    /// The counter and why it was chosen.
    pub counter: Choice,
    /// The packet port and why it was chosen.
    pub footing: Footing,
    /// The pulse flow's state.
    pub pulse: Arc<Pulse>,
    /// The workers, in order.
    pub workers: Vec<WorkerView>,
    /// Reads the snapshot.
    pub snapshots: Reader,
    /// The counter when the server was ready.
    pub started: Ticks,
}

impl View {
    /// Everything, as of now.
    #[must_use]
    pub fn status(&self) -> Status {
        let counter = self.counter.counter;
        let now = counter.now();
        let pulse = self.pulse.state();
        // Exactly what a worker would serve at this moment.
        let snapshot = self.snapshots.read().map_or(Snapshot::UNKNOWN, |read| read.snapshot);
        let header = snapshot.header_at(now, Span::ZERO);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: counter.nominal_rate().span_of(now.since(self.started)).as_seconds_f64(),
            state: state(snapshot.synchronised_at(now), pulse.standing),
            stratum: if header.stratum == 0 { 16 } else { header.stratum },
            reference_id: reference_id(header.stratum, header.reference_id),
            leap: leap(header.leap),
            precision_log2_s: header.precision,
            root_delay_s: header.root_delay.to_span().as_seconds_f64(),
            root_dispersion_s: snapshot.root_dispersion_at(now).as_seconds_f64(),
            reference_time: moment(header.reference_time),
            clock: ClockStatus {
                counter: counter_name(counter.kind()).to_owned(),
                why: self.counter.to_string(),
                frequency_hz: frequency_hz(snapshot.line.map_or(counter.nominal_rate(), |line| line.rate)),
            },
            source: self.source(&pulse),
            ports: self.ports(),
            workers: self.workers.iter().map(worker).collect(),
        }
    }

    fn source(&self, pulse: &PulseState) -> SourceStatus {
        let Source::Machine { stratum, .. } = &self.config.source;
        let standing = match pulse.standing {
            Some(Standing::Synchronised) => "synchronised by whatever keeps it",
            Some(Standing::Local) => "not synchronised, served at the local stratum",
            Some(Standing::Unsynchronised) => "not synchronised (if chronyd keeps it, does it have rtcsync?)",
            Some(Standing::BeforeBuild) => "says a date before this program was built",
            None => "not read yet",
        };
        SourceStatus {
            kind: "machine".to_owned(),
            description: format!("this machine's clock (stratum {stratum} by configuration): {standing}"),
            synchronised: pulse.standing == Some(Standing::Synchronised),
            offset_s: pulse.offset.map(Span::as_seconds_f64),
            steps: pulse.steps.into(),
        }
    }

    fn ports(&self) -> Vec<PortStatus> {
        let port = |address: &std::net::SocketAddr| PortStatus {
            listen: address.to_string(),
            rung: self.footing.rung.to_string(),
            why: self.footing.why.clone(),
        };
        self.config.server.listen.iter().map(port).collect()
    }
}

fn worker(view: &WorkerView) -> WorkerStatus {
    let named = |(name, count): (&str, u64)| (name.to_owned(), count);
    let buckets: Vec<(u64, u64)> = view.counts.residence().collect();
    WorkerStatus {
        core: view.pinned.then_some(view.core),
        answers: view.counts.answers().map(named).collect::<Counters>(),
        drops: view.counts.drops().map(named).collect(),
        events: view.counts.events_by_name().map(named).collect(),
        residence: Residence::from_buckets(&buckets),
    }
}

fn state(synchronised: bool, standing: Option<Standing>) -> State {
    match standing {
        Some(Standing::Synchronised) if synchronised => State::Synchronised,
        Some(Standing::Local) if synchronised => State::Local,
        _ => State::Unsynchronised,
    }
}

const fn leap(indicator: LeapIndicator) -> LeapStatus {
    match indicator {
        LeapIndicator::None => LeapStatus::None,
        LeapIndicator::Insert => LeapStatus::Insert,
        LeapIndicator::Delete => LeapStatus::Delete,
        LeapIndicator::Unsynchronised => LeapStatus::Unsynchronised,
    }
}

/// Four characters at stratum 1, an address above it, nothing while unsynchronised (RFC 5905 §7.3).
fn reference_id(stratum: u8, id: [u8; 4]) -> String {
    match stratum {
        0 => String::new(),
        1 => id.iter().filter(|octet| octet.is_ascii_graphic()).map(|octet| char::from(*octet)).collect(),
        _ => std::net::Ipv4Addr::from(id).to_string(),
    }
}

fn moment(timestamp: NtpTimestamp) -> Option<String> {
    if timestamp == NtpTimestamp::ZERO {
        return None;
    }
    let utc = timestamp.to_utc(BUILD_DATE);
    let nanos = utc.unix_nanos().rem_euclid(1_000_000_000);
    Some(rfc3339(utc.unix_seconds(), u32::try_from(nanos).unwrap_or(0)))
}

const fn counter_name(kind: CounterKind) -> &'static str {
    match kind {
        CounterKind::Tsc => "tsc",
        CounterKind::MonotonicRaw => "monotonic_raw",
    }
}

fn frequency_hz(rate: Rate) -> f64 {
    // A million ticks, so that a double has digits enough of the span.
    1e6 / rate.span_of(1_000_000).as_seconds_f64()
}
