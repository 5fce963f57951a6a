//! Starts the threads, waits, and stops them: the life of a server.
//!
//! All that can fail is tried before `ready` is said, and says what to do about it.

mod deal;
mod handed;
mod queues;
mod sockets;
mod workers;

pub use handed::{Handed, HandedInterface};

use crate::config::{Config, GpsdPlace, Idle, SourceKind, Stratum, WorkersError};
use crate::hands::{Hands, Past};
use crate::leaps::{self, Leaps, LeapsError};
use crate::nics::Nics;
use crate::port::ladder::{self, LadderError, Rung};
use crate::pulse::disciplined::Disciplined;
use crate::pulse::settings::{BUILD_DATE_MARGIN, clock_settings};
use crate::pulse::{CounterWithdrawn, Pulse};
use crate::report::{Flow, View, WorkerView};
use crate::source::drivers::{self, Driver};
use crate::source::{REPORTS_MAX, Report};
use crate::state::legacy::Legacy;
use crate::state_writer::StateWriter;
use crate::steer::{self, Steering};
use crate::worker::Smearing;
use maser_core::refclock::{MachineClock, MachineSettings};
use maser_core::snapshot::Snapshot;
use maser_core::time::{BUILD_DATE, Smear};
use maser_sys::af_xdp::XskError;
use maser_sys::calibration::{self, Choice, CoreError, Refusal};
use maser_sys::clock_watch::ClockWatch;
use maser_sys::counter::Counter;
use maser_sys::seccomp::Needs;
use maser_sys::snapshot_cell::{Reader, Writer, snapshot_cell};
use maser_sys::udp_socket::OpenError;
use maser_sys::uring::UringError;
use queues::Queues;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use thiserror::Error;
use tracing::info;
use workers::Common;

/// How often the TSC is tried on a machine that is too busy to tell.
const CHOOSE_TRIES: u32 = 3;

const NO_LEAPS_THREAD: &str = "no thread for the leap file";

/// Why the server can't start, or had to stop.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The list of leap seconds can't be used.
    #[error(transparent)]
    Leaps(#[from] LeapsError),
    /// The workers can't be placed as they were asked for.
    #[error("server.workers: {0}")]
    Workers(#[from] WorkersError),
    /// A socket could not be opened.
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

/// What runs, and how it is told to stop.
#[derive(Debug, Default)]
struct Threads {
    stop_workers: Arc<AtomicBool>,
    stop_drivers: Arc<AtomicBool>,
    stop_pulse: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Result<(), ServeError>>>,
    /// Makes each worker serve; one that this is dropped for ends instead.
    waiting: Vec<Sender<()>>,
    drivers: Vec<Driver>,
    /// By what they keep.
    keepers: Vec<(&'static str, JoinHandle<()>)>,
    pulse: Option<JoinHandle<Result<(), CounterWithdrawn>>>,
}

impl Server {
    /// Starts everything; when it returns, requests are being answered, by a process that is locked down if a keeper opens
    /// for it.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn start(config: Config, handed: Handed) -> Result<Self, ServeError> {
        let Handed { interfaces, refused, nics, hands, again, legacy, steering: past } = handed;
        let leaps = Leaps::load(&config.clock)?;
        let cores = config.server.workers.place(&available_cores())?;
        let counter = choose_counter(&cores);
        info!("{counter}");
        let footing = ladder::choose(config.server.port)?;
        info!("port: {}: {}", footing.rung, footing.why);
        let nics = Nics::new(nics, counter.counter);
        let sockets = sockets::open(&config, cores.len(), nics.are_used(), again)?;
        let Queues { shares, views: interfaces } = Queues::open(&config.server, interfaces, &cores)?;

        let (writer, snapshots) = snapshot_cell(&Snapshot::UNKNOWN);
        let mut threads = Threads::default();
        let (flow, reports) = match machine_source(&config) {
            Some(machine) => {
                let settings = machine_settings(machine, &config, &counter.counter);
                (threads.start_machine(settings, counter.counter, leaps, &hands, writer)?, None)
            }
            None => {
                let legacy = legacy.filter(|legacy| legacy.is_of(&counter.counter));
                let (flow, reports) =
                    threads.start_clock(&config, counter.counter, leaps, &hands, legacy, writer)?;
                (flow, Some(reports))
            }
        };
        let steering = threads.start_steering(&config, counter.counter, &flow, &snapshots, &hands, past)?;
        let common = Common {
            counter: counter.counter,
            snapshots: snapshots.clone(),
            smearing: smearing(&config),
            nics: nics.for_worker(),
            batch: config.server.batch.get(),
            interleaved_clients: config.server.interleaved_clients,
            transmit_correction: config.server.transmit_correction,
            stop: Arc::clone(&threads.stop_workers),
        };
        // Nobody polls a driver while its worker sleeps.
        let idle = if config.server.busy_poll { Idle::Spin } else { config.server.idle };
        let mut tasks = workers::over_queues(idle, shares, &common);
        tasks.extend(workers::over_sockets(
            config.server.idle,
            footing.rung,
            &cores,
            sockets,
            &tasks,
            &common,
        ));
        let workers = threads.start_workers(tasks)?;
        // Nothing more needs to be opened, and nobody has been answered or heard.
        hands.lock_down(&needs(&config, footing.rung));
        let nic_views = Arc::clone(&nics.views);
        threads.start_nics(nics, &workers, &hands)?;
        // What receivers and servers say is parsed by nobody before.
        if let Some(reports) = reports {
            threads.start_drivers(&config, counter.counter, &reports, &hands)?;
        }
        threads.let_go();
        let started = counter.counter.now();
        let view = View {
            config,
            counter,
            footing,
            interfaces,
            refused,
            nics: nic_views,
            flow,
            steering,
            workers,
            snapshots,
            started,
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
        threads.workers.iter().any(JoinHandle::is_finished)
            || threads.drivers.iter().any(|driver| driver.thread.is_finished())
            || threads.keepers.iter().any(|(_, thread)| thread.is_finished())
            || threads.pulse.iter().any(JoinHandle::is_finished)
    }

    /// Drains and ends the workers, then those that keep the clock.
    ///
    /// # Errors
    /// What ended a thread before it was asked to.
    pub fn stop(mut self) -> Result<(), ServeError> {
        self.threads.stop()
    }
}

impl Threads {
    /// The pulse flow of the machine's own clock, which has no other source beside it.
    fn start_machine(
        &mut self,
        settings: MachineSettings,
        counter: Counter,
        leaps: Leaps,
        hands: &Hands,
        mut writer: Writer,
    ) -> Result<Flow, ServeError> {
        let pulse = Arc::new(Pulse::default());
        let mut clock = MachineClock::new(settings, leaps.table());
        // Before the first request, so that no reply goes out without the time.
        pulse.beat(&mut clock, counter, &mut writer);
        let watch = ClockWatch::new().map_err(system("no timer that notices steps of CLOCK_REALTIME"))?;
        let (stop, running) = (Arc::clone(&self.stop_pulse), Arc::clone(&pulse));
        self.spawn_pulse(move || running.run(&mut clock, counter, &mut writer, &watch, &stop))?;
        let watch = leaps::watch(leaps, Arc::clone(&pulse), hands.clone(), &self.stop_drivers);
        self.keepers.push(("leaps", watch.map_err(system(NO_LEAPS_THREAD))?));
        Ok(Flow::Machine(pulse))
    }

    /// The pulse flow of any other sources, without their drivers: the clock over them, and what is kept of it.
    fn start_clock(
        &mut self,
        config: &Config,
        counter: Counter,
        leaps: Leaps,
        hands: &Hands,
        legacy: Option<Legacy>,
        mut writer: Writer,
    ) -> Result<(Flow, SyncSender<Report>), ServeError> {
        let left = legacy.as_ref().and_then(Legacy::document);
        let (mut state, saved) = StateWriter::open(config, counter, hands, left);
        let settings = clock_settings(config, &counter, &leaps, saved);
        let inherited = legacy.map(|legacy| legacy.inherited());
        let clock = Arc::new(Disciplined::new(config, counter, settings).inheriting(inherited));
        // Before the first request, so that a heir serves on.
        clock.beat(None, &mut writer);
        let (reports, heard): (_, Receiver<Report>) = sync_channel(REPORTS_MAX);
        let (stop, running) = (Arc::clone(&self.stop_pulse), Arc::clone(&clock));
        self.spawn_pulse(move || running.run(&heard, &mut writer, &stop))?;
        let (stop, kept) = (Arc::clone(&self.stop_drivers), Arc::clone(&clock));
        let written = Builder::new().name("state".into()).spawn(move || state.run(&kept, &stop));
        self.keepers.push(("state", written.map_err(system("no thread for the state"))?));
        let watch = leaps::watch(leaps.clone(), Arc::clone(&clock), hands.clone(), &self.stop_drivers);
        self.keepers.push(("leaps", watch.map_err(system(NO_LEAPS_THREAD))?));
        Ok((Flow::Sources(clock, leaps), reports))
    }

    /// Steers the machine's clock, if that is wanted.
    fn start_steering(
        &mut self,
        config: &Config,
        counter: Counter,
        flow: &Flow,
        snapshots: &Reader,
        hands: &Hands,
        past: Past,
    ) -> Result<Option<Arc<Steering>>, ServeError> {
        let Flow::Sources(clock, _) = flow else { return Ok(None) };
        if !config.clock.steer {
            return Ok(None);
        }
        let steering = Arc::new(Steering::default());
        let (running, clock, stop) =
            (Arc::clone(&steering), Arc::clone(clock), Arc::clone(&self.stop_drivers));
        let (snapshots, hands) = (snapshots.clone(), hands.clone());
        let settings = steer::settings(&counter, &clock, config.clock.first_step_unlimited, past);
        let run = move || running.run(counter, &clock, &snapshots, &hands, settings, &stop);
        let thread = Builder::new().name("steering".into()).spawn(run);
        self.keepers.push(("steering", thread.map_err(system("no thread for the machine's clock"))?));
        Ok(Some(steering))
    }

    fn start_drivers(
        &mut self,
        config: &Config,
        counter: Counter,
        reports: &SyncSender<Report>,
        hands: &Hands,
    ) -> Result<(), ServeError> {
        let started = drivers::start(config, counter, reports, hands, &self.stop_drivers);
        self.drivers = started.map_err(system("no thread for a source's driver"))?;
        Ok(())
    }

    /// The thread that follows the clocks of NICs, where there are any.
    fn start_nics(&mut self, nics: Nics, workers: &[WorkerView], hands: &Hands) -> Result<(), ServeError> {
        if nics.views.is_empty() {
            return Ok(());
        }
        let counts: Vec<_> = workers.iter().map(|worker| Arc::clone(&worker.counts)).collect();
        let (stop, hands) = (Arc::clone(&self.stop_drivers), hands.clone());
        let thread = Builder::new().name("nics".into()).spawn(move || nics.run(&counts, &hands, &stop));
        self.keepers.push(("nics", thread.map_err(system("no thread for the NICs' clocks"))?));
        Ok(())
    }

    fn spawn_pulse(
        &mut self,
        run: impl FnOnce() -> Result<(), CounterWithdrawn> + Send + 'static,
    ) -> Result<(), ServeError> {
        let thread =
            Builder::new().name("pulse".into()).spawn(run).map_err(system("no thread for the pulse"))?;
        self.pulse = Some(thread);
        Ok(())
    }

    fn stop(&mut self) -> Result<(), ServeError> {
        self.stop_workers.store(true, Ordering::Relaxed);
        self.waiting.clear();
        let mut outcome = self.drivers_ended();
        // Those that keep the clock may take a moment to notice: meanwhile the workers drain on the last snapshots.
        self.stop_drivers.store(true, Ordering::Relaxed);
        for thread in self.workers.drain(..) {
            let ended = thread.join().unwrap_or(Err(ServeError::Panicked("worker")));
            outcome = outcome.and(ended);
        }
        for Driver { name, thread } in self.drivers.drain(..) {
            outcome = outcome.and(thread.join().map_err(|_| ServeError::DriverStopped(name)));
        }
        for (what, thread) in self.keepers.drain(..) {
            outcome = outcome.and(thread.join().map_err(|_| ServeError::Panicked(what)));
        }
        self.stop_pulse.store(true, Ordering::Relaxed);
        if let Some(thread) = self.pulse.take() {
            let ended = match thread.join() {
                Ok(ended) => ended.map_err(|CounterWithdrawn| ServeError::CounterWithdrawn),
                Err(_) => Err(ServeError::Panicked("pulse")),
            };
            outcome = outcome.and(ended);
        }
        outcome
    }

    /// Whether a driver has ended before it was told to.
    fn drivers_ended(&self) -> Result<(), ServeError> {
        let ended = self.drivers.iter().find(|driver| driver.thread.is_finished());
        ended.map_or(Ok(()), |driver| Err(ServeError::DriverStopped(driver.name.clone())))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A caller that cares for the outcome has called `stop` already.
        let _ended = self.stop();
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
fn available_cores() -> Vec<usize> {
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
fn needs(config: &Config, rung: Rung) -> Needs {
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
    Needs { io_uring: rung == Rung::IoUring, segments: segments.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_driver_that_ends_by_itself_is_an_error_of_the_server() {
        for run in [|| panic!("as a bug would, shown here on purpose"), || {}] {
            let thread = Builder::new().spawn(run).unwrap();
            while !thread.is_finished() {
                thread::yield_now();
            }
            let mut threads = Threads::default();
            threads.drivers.push(Driver { name: "gps".to_owned(), thread });
            let stopped = threads.stop().unwrap_err();
            assert!(stopped.to_string().starts_with("the driver of source gps has stopped"), "{stopped}");
        }
        let mut threads = Threads::default();
        let stop = Arc::clone(&threads.stop_drivers);
        let until_told = move || {
            while !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        };
        let thread = Builder::new().spawn(until_told).unwrap();
        threads.drivers.push(Driver { name: "gps".to_owned(), thread });
        assert!(threads.stop().is_ok());
    }
}
