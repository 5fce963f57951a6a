//! The running server as the status tells it: every figure is read from where it is made, at the moment of asking.

mod interfaces;
mod limits;
mod nics;
mod sources;

use crate::access::Access;
use crate::clients::Clients;
use crate::config::{Config, Source, SourceKind};
use crate::count::Counts;
use crate::hands::Hands;
use crate::leaps::{Leaps, date};
use crate::nics::NicView;
use crate::port::ladder::Footing;
use crate::pulse::disciplined::Disciplined;
use crate::pulse::{Pulse, PulseState};
use crate::state::{counter_name, hertz};
use crate::status::{
    ClientsQuestion, ClientsStatus, ClockStatus, Counters, InterfaceStatus, LeapStatus, PortStatus,
    Residence, SourceStanding, SourceStatus, State, Status, SteeringStatus, Tracking, TransmitStatus,
    WorkerStatus,
};
use crate::steer::{Figures, Steering, standing_text};
use crate::worker::Limits;
use maser_core::refclock::Standing;
use maser_core::snapshot::Snapshot;
use maser_core::time::{BUILD_DATE, LeapIndicator, NtpTimestamp, Span, Ticks};
use maser_sys::calibration::Choice;
use maser_sys::snapshot_cell::Reader;
use std::sync::Arc;

pub use interfaces::{InterfaceView, QueueView};

/// A worker as the status sees it.
#[derive(Debug)]
pub struct WorkerView {
    /// The name of its thread.
    pub name: String,
    /// The core that it was told to run on.
    pub core: usize,
    /// Whether it could be pinned there.
    pub pinned: bool,
    /// Its packet port.
    pub port: String,
    /// The queues that it owns, as `eth0:0`.
    pub queues: Vec<String>,
    /// What it counted.
    pub counts: Arc<Counts>,
}

/// Where the served clock comes from.
#[derive(Debug)]
pub enum Flow {
    /// The machine's own clock, the only source, and the leap seconds known from a file.
    Machine(Arc<Pulse>, Leaps),
    /// Any other sources, and the leap seconds known from a file.
    Sources(Arc<Disciplined>, Leaps),
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
    /// The interfaces that were named, in the order of the configuration.
    pub interfaces: Vec<InterfaceView>,
    /// Those named that the keeper couldn't put the program on, and why.
    pub refused: Vec<(String, String)>,
    /// The NICs that were named for their stamps.
    pub nics: Arc<[NicView]>,
    /// Who may ask.
    pub access: Access,
    /// By what the workers limit; none where nobody is limited.
    pub limits: Option<Limits>,
    /// The pulse flow.
    pub flow: Flow,
    /// Who steers the machine's clock, if anybody is to.
    pub steering: Option<Arc<Steering>>,
    /// The workers, in order.
    pub workers: Vec<WorkerView>,
    /// Reads the snapshot.
    pub snapshots: Reader,
    /// Who asks the most.
    pub clients: Arc<Clients>,
    /// The counter when the server was ready.
    pub started: Ticks,
    /// Who knows what became of the configuration.
    pub hands: Hands,
}

impl View {
    /// Everything, as of now.
    #[must_use]
    pub fn status(&self) -> Status {
        let counter = self.counter.counter;
        let now = counter.now();
        // Exactly what a worker would serve at this moment.
        let snapshot = self.snapshots.read().map_or(Snapshot::UNKNOWN, |read| read.snapshot);
        let header = snapshot.header_at(now, Span::ZERO);
        let root_delay_s = header.root_delay.to_span().as_seconds_f64();
        let root_dispersion_s = snapshot.root_dispersion_at(now).as_seconds_f64();
        let served = Tracking {
            reference_id: reference_id(header.stratum, header.reference_id),
            stratum: if header.stratum == 0 { 16 } else { header.stratum },
            root_delay_s,
            root_dispersion_s,
            root_distance_s: root_dispersion_s + root_delay_s / 2.0,
            root_distance_max_s: self.config.clock.root_distance_max.as_seconds_f64(),
            ..Tracking::default()
        };
        let (sources, mut tracking) = match &self.flow {
            Flow::Machine(pulse, leaps) => {
                let (sources, tracking) = self.machine(pulse.state(), served, snapshot.synchronised_at(now));
                (sources, Tracking { leap: sources::leap_file(leaps, &snapshot, now), ..tracking })
            }
            Flow::Sources(clock, leaps) => {
                sources::figures(&self.config, &clock.figures(now), leaps, served, &snapshot, now)
            }
        };
        tracking.steering = self.steering.as_ref().map(|steering| steering_status(&steering.figures()));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: counter.nominal_rate().span_of(now.since(self.started)).as_seconds_f64(),
            state: tracking.state,
            stratum: tracking.stratum,
            reference_id: tracking.reference_id.clone(),
            leap: leap(header.leap),
            precision_log2_s: header.precision,
            root_delay_s,
            root_dispersion_s,
            reference_time: moment(header.reference_time),
            clock: ClockStatus {
                counter: counter_name(counter.kind()).to_owned(),
                why: self.counter.to_string(),
                frequency_hz: hertz(snapshot.line.map_or(counter.nominal_rate(), |line| line.rate)),
            },
            sources,
            tracking,
            ports: self.ports(),
            interfaces: self.interfaces(),
            nics: self.nics.iter().map(|nic| nics::status(nic, &self.workers, &snapshot)).collect(),
            access: self.access.status(),
            limit: self.limits.as_ref().and_then(limits::status),
            workers: self.workers.iter().map(|view| self.worker(view)).collect(),
            configuration: self.hands.load(),
        }
    }

    /// The heaviest clients, as of now.
    #[must_use]
    pub fn clients(&self, question: &ClientsQuestion) -> ClientsStatus {
        self.clients.status(question, self.config.limit.rate != 0, self.clients.now())
    }

    fn machine(
        &self,
        pulse: PulseState,
        served: Tracking,
        synchronised: bool,
    ) -> (Vec<SourceStatus>, Tracking) {
        let tracking = Tracking {
            source: self.config.sources.first().map(|source| source.name.clone()).unwrap_or_default(),
            state: state(synchronised, pulse.standing),
            offset_s: pulse.offset.map(Span::as_seconds_f64),
            ..served
        };
        (self.sources(&pulse), tracking)
    }

    /// The machine's own clock, the only source that there is here.
    fn sources(&self, pulse: &PulseState) -> Vec<SourceStatus> {
        let standing = match pulse.standing {
            Some(Standing::Synchronised | Standing::Local) => SourceStanding::Followed,
            Some(Standing::Unsynchronised | Standing::BeforeBuild) => SourceStanding::Invalid,
            None => SourceStanding::Waiting,
        };
        let verdict = match pulse.standing {
            Some(Standing::Synchronised) => "synchronised by whatever keeps it",
            Some(Standing::Local) => "not synchronised, served at the local stratum",
            Some(Standing::Unsynchronised) => "not synchronised (if chronyd keeps it, does it have rtcsync?)",
            Some(Standing::BeforeBuild) => "says a date before this program was built",
            None => "not read yet",
        };
        let source = |source: &Source| SourceStatus {
            name: source.name.clone(),
            kind: source.kind.of_type().word().to_owned(),
            place: source.kind.to_string(),
            verdict: verdict.to_owned(),
            standing,
            stratum: match source.kind {
                SourceKind::Machine { stratum } => Some(stratum.get()),
                SourceKind::Gpsd(_)
                | SourceKind::Nmea(_)
                | SourceKind::Ubx { .. }
                | SourceKind::Pps { .. }
                | SourceKind::Phc { .. }
                | SourceKind::PhcPulses { .. }
                | SourceKind::Ntp { .. } => None,
            },
            offset_s: pulse.offset.map(Span::as_seconds_f64),
            steps: pulse.steps.into(),
            ..SourceStatus::default()
        };
        self.config.sources.iter().map(source).collect()
    }

    /// Those that the keeper handed over, and those that it couldn't put the program on.
    fn interfaces(&self) -> Vec<InterfaceStatus> {
        let rung = self.footing.rung;
        let refused = self.refused.iter().map(|(name, why)| interfaces::refused(name, why, rung));
        let by_nic =
            |index| self.nics.iter().any(|nic| nic.facts.index == index && nic.says_when_frames_come());
        let status = |view: &InterfaceView| view.status(rung, by_nic(view.facts.index));
        self.interfaces.iter().map(status).chain(refused).collect()
    }

    fn worker(&self, view: &WorkerView) -> WorkerStatus {
        let named = |(name, count): (&str, u64)| (name.to_owned(), count);
        let buckets: Vec<(u64, u64)> = view.counts.residence().collect();
        let errors: Vec<(u64, u64)> = view.counts.stamp_errors().collect();
        let lateness = view.counts.lateness();
        let seconds = |nanos: i64| Span::from_nanos(nanos).as_seconds_f64();
        WorkerStatus {
            core: view.pinned.then_some(view.core),
            port: view.port.clone(),
            queues: view.queues.clone(),
            frames_missing: view.counts.frames_missing(),
            answers: view.counts.answers().map(named).collect::<Counters>(),
            drops: view.counts.drops().map(named).collect(),
            events: view.counts.events_by_name().map(named).collect(),
            residence: Residence::from_buckets(&buckets),
            transmit: TransmitStatus {
                corrected: self.config.server.transmit_correction,
                lateness_s: lateness.map(|lateness| seconds(lateness.median_ns.into())),
                spread_s: lateness.map(|lateness| seconds(lateness.spread_ns.into())),
                errors: Residence::from_buckets(&errors),
            },
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

fn steering_status(figures: &Figures) -> SteeringStatus {
    SteeringStatus {
        state: standing_text(figures),
        offset_s: figures.offset.map(Span::as_seconds_f64),
        frequency_ppm: figures.frequency.map(|frequency| frequency.fraction() * 1e6),
        steps: figures.steps,
        problem: figures.problem.clone(),
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
    Some(date(timestamp.to_utc(BUILD_DATE)))
}
