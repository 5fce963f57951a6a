//! What the operator asked for, checked: the file, the command line's changes to it, and nothing else.
//!
//! [`load`] reads a TOML file and either gives a [`Config`], plain data in which every value has been checked, or
//! **all** the file's problems, each as `file:line:column: key: problem; expected …`. Whether the machine can do what
//! is asked (cores, ports, privileges) is found out by those who do it; nothing here looks at the machine.

mod access;
mod address;
mod display;
mod keys;
mod limit;
mod load;
mod metrics;
mod parse;
mod paths;
mod read_sources;
mod reload;
mod report;
mod section;
mod source;
mod span;
mod value;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use maser_core::time::Span;
use thiserror::Error;

pub use access::{ACCESS_LISTED_MAX, Access, AccessDefault, AccessEntries, AccessKind};
pub use address::Upstream;
pub use keys::{Absent, KEYS, Key, SECTIONS};
pub use limit::{
    BURST_MAX, FILL_SECONDS_MAX, KISS_MAX, KISSES_PER_SECOND_MAX, Limit, MEMORY_OCTETS, PREFIX_IP4,
    PREFIX_IP6, RATE_MAX, limit_rate,
};
pub use load::{CONFIG_OCTETS_MAX, LoadError, check, load, text};
pub use metrics::{METRICS_LISTEN_MAX, Metrics};
pub use parse::parse;
pub use report::Problem;
pub use source::{BAUDS, Edge, GpsdPlace, Serial, Source, SourceKind, SourceType, Timescale};
pub use value::{
    AGREE_MIN_MAX, BATCH_MAX, CORE_MAX, INTERFACE_OCTETS_MAX, INTERFACES_MAX, INTERLEAVED_CLIENTS_MAX, Idle,
    InterfaceError, LISTEN_MAX, ListenError, NicStamps, PortChoice, RECEIVE_BUFFER_OCTETS,
    SOCKET_PATH_OCTETS_MAX, Stratum, WORKERS_AUTO_MAX, WORKERS_MAX, WayError, Word, Workers, WorkersError,
    interface, listen,
};

/// Everything that can be configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// How requests are answered.
    pub server: Server,
    /// How much of anybody's is answered.
    pub limit: Limit,
    /// Who may ask.
    pub access: Access,
    /// How the server tells about itself.
    pub status: Status,
    /// Where figures are given to monitoring systems.
    pub metrics: Metrics,
    /// Where the time comes from: 1 to [`maser_core::discipline::SOURCES_MAX`], in the order of the file.
    pub sources: Vec<Source>,
    /// How that time is kept and served.
    pub clock: Clock,
    /// Where leap seconds are smeared; none for nowhere.
    pub smear: Option<Smear>,
    /// The stratum of replies while no source is synchronised; none to say "unsynchronised".
    pub local: Option<Stratum>,
}

/// How requests are answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Where: at least one address, none twice, no port 0.
    pub listen: Vec<SocketAddr>,
    /// Whether anyone may ask, so that what RFC 8633 forbids to public servers is refused.
    pub public: bool,
    /// How packets come in and go out.
    pub port: PortChoice,
    /// The interfaces whose requests are taken from the driver: none twice, at most [`INTERFACES_MAX`].
    pub interfaces: Vec<String>,
    /// Whose own stamps are used.
    pub nic_stamps: NicStamps,
    /// By how many workers, on which cores.
    pub workers: Workers,
    /// What they do when no packet waits.
    pub idle: Idle,
    /// Whether those over interfaces' queues poll the drivers, and spin; never without interfaces.
    pub busy_poll: bool,
    /// How many packets they take at once, at most [`BATCH_MAX`].
    pub batch: NonZeroUsize,
    /// What each socket may hold, within [`RECEIVE_BUFFER_OCTETS`].
    pub receive_buffer_octets: NonZeroU32,
    /// With how many clients at a time each worker interleaves, at most [`INTERLEAVED_CLIENTS_MAX`]; 0 for none.
    pub interleaved_clients: usize,
    /// Whether transmit timestamps say when replies are likely to leave.
    pub transmit_correction: bool,
}

/// How the server tells about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// The Unix socket; none for the one that [`crate::status::Surroundings`] suggest.
    pub socket: Option<PathBuf>,
}

/// How the time of the sources is kept and served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Clock {
    /// Past this root distance replies say "unsynchronised".
    pub root_distance_max: Span,
    /// How many sources have to agree, 1 to [`AGREE_MIN_MAX`] and not more than there are.
    pub agree_min: usize,
    /// The list of leap seconds; none for [`LEAP_FILE_USUAL`], if it is there.
    pub leap_file: Option<PathBuf>,
    /// The directory for what is kept across restarts; none for the one that [`crate::status::Surroundings`] suggest.
    pub state: Option<PathBuf>,
    /// How long the clock may run without any source.
    pub holdover_max: Span,
    /// Whether the machine's clock is steered to the served one; never with a source of type machine.
    pub steer: bool,
    /// Whether the first step may be larger than [`maser_core::steer::PANIC_THRESHOLD`]; never without `steer`.
    pub first_step_unlimited: bool,
}

/// Where Debian and others install the list of leap seconds.
pub const LEAP_FILE_USUAL: &str = "/usr/share/zoneinfo/leap-seconds.list";

/// Where leap seconds are smeared, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Smear {
    /// The addresses: at least one, none twice, none of [`Server::listen`].
    pub listen: Vec<SocketAddr>,
    /// Over how long, its middle at the leap.
    pub length: Span,
}

impl Smear {
    const LENGTH_UNSTATED: Span = Span::from_seconds(86_400);
}

impl Clock {
    const ROOT_DISTANCE_MAX_REFERENCE_CLOCK: Span = Span::from_nanos(10_000_000);
    const ROOT_DISTANCE_MAX_NETWORK: Span = Span::from_seconds(1);
    const HOLDOVER_MAX_UNSTATED: Span = Span::from_seconds(86_400);

    /// What holds for these sources where the file states nothing.
    fn unstated(sources: &[Source]) -> Self {
        let has_reference_clock = sources.iter().any(|source| source.kind.of_type().is_reference_clock());
        Self {
            root_distance_max: if has_reference_clock {
                Self::ROOT_DISTANCE_MAX_REFERENCE_CLOCK
            } else {
                Self::ROOT_DISTANCE_MAX_NETWORK
            },
            agree_min: 1,
            leap_file: None,
            state: None,
            holdover_max: Self::HOLDOVER_MAX_UNSTATED,
            steer: false,
            first_step_unlimited: false,
        }
    }
}

/// The defaults of the `[server]` section; they answer this machine only and need no privilege.
impl Default for Server {
    fn default() -> Self {
        const PORT: u16 = 11_123;
        const BATCH: NonZeroUsize = NonZeroUsize::new(64).expect("64 isn't 0");
        const INTERLEAVED_CLIENTS: usize = 100_000;
        const RECEIVE_BUFFER_OCTETS: NonZeroU32 = NonZeroU32::new(4 << 20).expect("4 MiB isn't 0");
        Self {
            listen: vec![(Ipv4Addr::LOCALHOST, PORT).into(), (Ipv6Addr::LOCALHOST, PORT).into()],
            public: false,
            port: PortChoice::default(),
            interfaces: Vec::new(),
            nic_stamps: NicStamps::default(),
            workers: Workers::default(),
            idle: Idle::default(),
            busy_poll: false,
            batch: BATCH,
            receive_buffer_octets: RECEIVE_BUFFER_OCTETS,
            interleaved_clients: INTERLEAVED_CLIENTS,
            transmit_correction: true,
        }
    }
}

impl Config {
    /// The stratum that is stated for the machine's clock when no file states one: what a host has that follows the
    /// public pool, whose servers are mostly of stratum 2.
    const MACHINE_STRATUM_UNSTATED: Stratum = Stratum::new(3).expect("3 is a stratum");
    /// Far above any server that has a source (chrony's and ntpd's choice too).
    const LOCAL_STRATUM_UNSTATED: Stratum = Stratum::new(10).expect("10 is a stratum");

    /// What `maser serve` does without a file: this machine's clock, on loopback, and still a time at stratum 10
    /// when nobody keeps the machine's clock.
    #[must_use]
    pub fn default_run() -> Self {
        let sources = vec![Source::machine(Self::MACHINE_STRATUM_UNSTATED, Source::LOCAL_CLOCK)];
        Self {
            server: Server::default(),
            limit: Limit::default(),
            access: Access::default(),
            status: Status::default(),
            metrics: Metrics::default(),
            clock: Clock::unstated(&sources),
            sources,
            smear: None,
            local: Some(Self::LOCAL_STRATUM_UNSTATED),
        }
    }

    /// Where requests are taken, in the order of the listeners' numbers: those that smear leap seconds last.
    pub fn listeners(&self) -> impl Iterator<Item = SocketAddr> {
        let smearing = self.smear.iter().flat_map(|smear| &smear.listen);
        self.server.listen.iter().chain(smearing).copied()
    }

    /// With what the command line says instead.
    pub fn overridden(mut self, overrides: Overrides) -> Result<Self, OverrideError> {
        let Overrides { listen, port, interfaces, workers, idle, busy_poll, limit, status_socket, metrics } =
            overrides;
        if listen.len() > LISTEN_MAX {
            return Err(OverrideError::TooMany(listen.len()));
        }
        for (index, address) in listen.iter().enumerate() {
            if listen.iter().take(index).any(|earlier| earlier == address) {
                return Err(OverrideError::Twice(*address));
            }
            if self.smear.as_ref().is_some_and(|smear| smear.listen.contains(address)) {
                return Err(OverrideError::Smeared(*address));
            }
        }
        if !listen.is_empty() {
            self.server.listen = listen;
        }
        self.server.port = port.unwrap_or(self.server.port);
        if interfaces.len() > INTERFACES_MAX {
            return Err(OverrideError::TooManyInterfaces(interfaces.len()));
        }
        if let Some(twice) = first_repeated(&interfaces) {
            return Err(OverrideError::InterfaceTwice(twice.clone()));
        }
        if !interfaces.is_empty() {
            self.server.interfaces = interfaces;
        }
        self.server.busy_poll |= busy_poll;
        value::check_way(self.server.port, self.server.interfaces.len(), self.server.busy_poll)?;
        self.server.idle = idle.unwrap_or(self.server.idle);
        if let Some(workers) = workers {
            self.server.workers = workers;
        }
        if let Some(rate) = limit {
            self.limit = self.limit.at(rate);
        }
        self.status.socket = status_socket.or(self.status.socket);
        if metrics.len() > METRICS_LISTEN_MAX {
            return Err(OverrideError::TooManyMetrics(metrics.len()));
        }
        if let Some(twice) = first_repeated(&metrics) {
            return Err(OverrideError::MetricsTwice(*twice));
        }
        if !metrics.is_empty() {
            self.metrics.listen = metrics;
        }
        Ok(self)
    }
}

fn first_repeated<T: PartialEq>(names: &[T]) -> Option<&T> {
    names
        .iter()
        .enumerate()
        .find(|(index, name)| names.iter().take(*index).any(|earlier| earlier == *name))
        .map(|(_, name)| name)
}

/// What the command line can say instead of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overrides {
    /// Where to answer; empty to leave it.
    pub listen: Vec<SocketAddr>,
    /// How packets come in and go out.
    pub port: Option<PortChoice>,
    /// The interfaces whose requests are taken from the driver; empty to leave them.
    pub interfaces: Vec<String>,
    /// How many workers, on which cores.
    pub workers: Option<Workers>,
    /// What they do when no packet waits.
    pub idle: Option<Idle>,
    /// Whether the interfaces' drivers are polled; false to leave it.
    pub busy_poll: bool,
    /// Requests a second of an address, 0 for as many as it likes.
    pub limit: Option<u32>,
    /// Where the status is asked for.
    pub status_socket: Option<PathBuf>,
    /// Where metrics are asked for; empty to leave it.
    pub metrics: Vec<SocketAddr>,
}

/// Why the command line can't be followed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum OverrideError {
    /// An address is given twice.
    #[error("--listen {0} is given twice; leave one out")]
    Twice(SocketAddr),
    /// An address of the section for smeared time.
    #[error("--listen {0} is in smear.listen, too; an address smears or it doesn't")]
    Smeared(SocketAddr),
    /// More than a server may have.
    #[error("--listen is given {0} times; {LISTEN_MAX} is the most")]
    TooMany(usize),
    /// An interface is given twice.
    #[error("--interface {0} is given twice; leave one out")]
    InterfaceTwice(String),
    /// More interfaces than a server may have.
    #[error("--interface is given {0} times; {INTERFACES_MAX} is the most")]
    TooManyInterfaces(usize),
    /// An address for metrics is given twice.
    #[error("--metrics {0} is given twice; leave one out")]
    MetricsTwice(SocketAddr),
    /// More addresses for metrics than a server may have.
    #[error("--metrics is given {0} times; {METRICS_LISTEN_MAX} is the most")]
    TooManyMetrics(usize),
    /// Port and interfaces don't go together.
    #[error("{0}; {advice}", advice = match .0 {
        WayError::NoInterface => "name one with --interface DEV (`ip link` lists them), or use --port auto",
        WayError::Unused(_) => "leave out --port and --interface, or use --port af-xdp or auto",
        WayError::NothingToPoll => "name one with --interface DEV (`ip link` lists them), or leave out --busy-poll",
    })]
    Way(#[from] WayError),
}
