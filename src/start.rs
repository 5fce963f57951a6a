//! Starts the threads, waits, and stops them: the life of a server.
//!
//! All that can fail is tried before `ready` is said, and says what to do about it.

mod access;
mod deal;
mod driver;
mod handed;
mod limits;
mod queues;
mod threads;
mod workers;

pub use driver::DriverSide;
pub use handed::{Handed, HandedInterface};

use crate::access::{AccessError, load as load_access};
use crate::config::{Config, GpsdPlace, SourceKind, Stratum};
use crate::hands::Fault;
use crate::leaps::{Leaps, LeapsError};
use crate::nics::Nics;
use crate::port::ladder::{self, LadderError, Rung};
use crate::pulse::settings::BUILD_DATE_MARGIN;
use crate::report::{InterfaceView, View};
use crate::sockets;
use crate::worker::Smearing;
use maser_core::refclock::MachineSettings;
use maser_core::snapshot::Snapshot;
use maser_core::time::{BUILD_DATE, Smear};
use maser_sys::af_xdp::XskError;
use maser_sys::calibration::{self, Choice, CoreError, Refusal};
use maser_sys::counter::Counter;
use maser_sys::seccomp::Needs;
use maser_sys::snapshot_cell::snapshot_cell;
use maser_sys::udp_socket::OpenError;
use maser_sys::uring::UringError;
use queues::Queues;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use thiserror::Error;
use threads::Threads;
use tracing::info;
use workers::Common;

/// How often the TSC is tried on a machine that is too busy to tell.
const CHOOSE_TRIES: u32 = 3;

/// Why the server can't start, or had to stop.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The list of leap seconds can't be used.
    #[error(transparent)]
    Leaps(#[from] LeapsError),
    /// The lists of who may ask can't be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The keeper doesn't answer.
    #[error("the keeper doesn't answer: {0}")]
    Keeper(Fault),
    /// A socket isn't what it should be.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The packet port could not be chosen.
    #[error(transparent)]
    Ladder(#[from] LadderError),
    /// A queue's AF_XDP socket could not be had.
    #[error(
        "port = \"af-xdp\": interface {interface}: {error}; or use port = \"auto\", which takes what this machine offers"
    )]
    Queues {
        /// Which interface's.
        interface: String,
        /// Why.
        error: XskError,
    },
    /// A worker's io_uring could not be made.
    #[error(transparent)]
    Uring(#[from] UringError),
    /// A thread or a kernel object could not be had.
    #[error("{what}: {error}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// A worker has stopped by itself.
    #[error("{worker} has stopped: {error}")]
    WorkerStopped {
        /// The name of its thread.
        worker: String,
        /// Why.
        error: io::Error,
    },
    /// The kernel has withdrawn the TSC as a clock source.
    #[error(
        "the kernel no longer trusts the TSC (dmesg says why); start again to serve from CLOCK_MONOTONIC_RAW"
    )]
    CounterWithdrawn,
    /// A source's driver has ended, which it never does by itself: a bug.
    #[error("the driver of source {0} has stopped: please report this, with the lines above")]
    DriverStopped(String),
    /// A thread has panicked: a bug.
    #[error("the {0} thread has panicked: please report this, with the lines above")]
    Panicked(&'static str),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> ServeError {
    move |error| ServeError::System { what, error }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    view: Arc<View>,
    threads: Threads,
}

impl Server {
    /// Starts everything; when it returns, requests are being answered, by a process that is locked down if a keeper opens
    /// for it.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn start(config: Config, handed: Handed) -> Result<Self, ServeError> {
        let Handed {
            cores,
            sockets,
            table,
            key,
            interfaces,
            sources,
            refused,
            nics,
            hands,
            legacy,
            steering: past,
        } = handed;
        let leaps = Leaps::load(&config.clock)?;
        let (access, watched) = load_access(&config.access, &hands)?;
        let counter = choose_counter(&cores);
        info!("{counter}");
        let footing = ladder::choose(config.server.port)?;
        info!("port: {}: {}", footing.rung, footing.why);
        let nics = Nics::new(nics, counter.counter);
        let sockets = sockets::shares(&config, sockets, cores.len(), nics.are_used())?;
        let limits = limits::made(&config.limit, table.as_ref(), key);
        let mut driver = DriverSide::new(sources, table.as_ref(), &interfaces);
        if !interfaces.is_empty() {
            hands.queues().map_err(ServeError::Keeper)?;
        }
        driver.clear();
        let Queues { shares, views: interfaces } = Queues::open(&config.server, interfaces, &cores)?;

        let (writer, snapshots) = snapshot_cell(&Snapshot::UNKNOWN);
        let mut threads = Threads::default();
        let (flow, reports) = threads.start_flow(&config, counter.counter, leaps, &hands, legacy, writer)?;
        let common = Common::new(&config, counter.counter, &snapshots, &nics, limits.as_ref(), &access);
        let tasks = workers::tasks(&config.server, footing.rung, &cores, shares, sockets, &common);
        let workers = threads.start_workers(tasks, &common.clients)?;
        // Nothing more needs to be opened, and nobody has been answered or heard.
        hands.lock_down(&needs(&config, footing.rung, driver.has_lists()));
        let nic_views = Arc::clone(&nics.views);
        threads.start_nics(nics, &workers, &hands)?;
        threads.let_go();
        // From here on this server is the only one.
        hands.ready().map_err(ServeError::Keeper)?;
        if config.limit.driver {
            driver.begin(limits.as_ref(), access.reader().prefixes());
        }
        threads.start_access(watched, driver)?;
        let steering = threads.start_steering(&config, counter.counter, &flow, &snapshots, &hands, past)?;
        // What receivers and servers say is parsed by nobody before.
        if let Some(reports) = reports {
            threads.start_drivers(&config, counter.counter, &reports, &hands)?;
        }
        let view = View {
            started: counter.counter.now(),
            config,
            counter,
            footing,
            interfaces,
            refused,
            nics: nic_views,
            access,
            limits,
            flow,
            steering,
            workers,
            snapshots,
            clients: common.clients,
            hands,
        };
        Ok(Self { view: Arc::new(view), threads })
    }

    /// What can be told of the server while it runs.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// Whether a thread has stopped by itself, which only a failed port or a bug can bring about.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let threads = &self.threads;
        threads.workers.iter().chain(&threads.queue_workers).any(JoinHandle::is_finished)
            || threads.drivers.iter().any(|driver| driver.thread.is_finished())
            || threads.keepers.iter().any(|(_, thread)| thread.is_finished())
            || threads.pulse.iter().any(JoinHandle::is_finished)
    }

    /// Drains and ends the workers over interfaces' queues, and closes these; the others go on.
    ///
    /// # Errors
    /// What ended one of them before.
    pub fn leave_queues(&mut self) -> Result<(), ServeError> {
        let ended = self.threads.leave_queues();
        self.view.interfaces.iter().for_each(InterfaceView::leave_queues);
        ended
    }

    /// Drains and ends the workers, then those that keep the clock.
    ///
    /// # Errors
    /// What ended a thread before it was asked to.
    pub fn stop(mut self) -> Result<(), ServeError> {
        self.threads.stop()
    }
}

/// The sockets of the addresses that smear leap seconds come after the others.
fn smearing(config: &Config) -> Option<Smearing> {
    let first_socket = u16::try_from(config.server.listen.len()).unwrap_or(u16::MAX);
    config.smear.as_ref().map(|smear| Smearing { smear: Smear::over(smear.length), first_socket })
}

/// Chooses the counter again where a busy machine kept a core from answering in time.
fn choose_counter(cores: &[usize]) -> Choice {
    let mut choice = calibration::choose(cores);
    for _ in 1..CHOOSE_TRIES {
        if !matches!(choice.tsc, Err(Refusal::Core { error: CoreError::Unanswered, .. })) {
            break;
        }
        choice = calibration::choose(cores);
    }
    choice
}

/// The cores that this process may run on.
pub(crate) fn available_cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// The machine's own clock, if it is the only source: its stratum and reference id, as the operator states them.
fn machine_source(config: &Config) -> Option<(Stratum, [u8; 4])> {
    match config.sources.as_slice() {
        [source] => match source.kind {
            SourceKind::Machine { stratum } => Some((stratum, source.reference_id?)),
            SourceKind::Gpsd(_)
            | SourceKind::Nmea(_)
            | SourceKind::Ubx { .. }
            | SourceKind::Pps { .. }
            | SourceKind::Phc { .. }
            | SourceKind::PhcPulses { .. }
            | SourceKind::Ntp { .. } => None,
        },
        _ => None,
    }
}

fn machine_settings(
    (stratum, reference_id): (Stratum, [u8; 4]),
    config: &Config,
    counter: &Counter,
) -> MachineSettings {
    MachineSettings {
        stratum: stratum.get(),
        reference_id,
        local_stratum: config.local.map(Stratum::get),
        precision: counter.precision(),
        nominal_rate: counter.nominal_rate(),
        not_before: BUILD_DATE - BUILD_DATE_MARGIN,
    }
}

/// What a server that is locked down still needs, beside its sockets.
fn needs(config: &Config, rung: Rung, access_tries: bool) -> Needs {
    let segments = config.sources.iter().filter_map(|source| match source.kind {
        SourceKind::Gpsd(GpsdPlace::SharedMemory(unit)) => Some(unit),
        SourceKind::Gpsd(GpsdPlace::Socket(_))
        | SourceKind::Nmea(_)
        | SourceKind::Ubx { .. }
        | SourceKind::Pps { .. }
        | SourceKind::Phc { .. }
        | SourceKind::PhcPulses { .. }
        | SourceKind::Ntp { .. }
        | SourceKind::Machine { .. } => None,
    });
    Needs { io_uring: rung == Rung::IoUring, segments: segments.collect(), access_tries }
}
