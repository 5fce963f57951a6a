//! Starts the threads, waits, and stops them: the life of a server.
//!
//! All that can fail is tried before `ready` is said, and says what to do about it.

use crate::config::{Config, Idle, SourceKind, Stratum, WorkersError};
use crate::count::Counts;
use crate::leaps::{Leaps, LeapsError};
use crate::port::Port;
use crate::port::ladder::{self, LadderError, Rung};
use crate::pulse::disciplined::Disciplined;
use crate::pulse::settings::{BUILD_DATE_MARGIN, clock_settings};
use crate::pulse::{CounterWithdrawn, Pulse};
use crate::report::{Flow, View, WorkerView};
use crate::source::drivers::{self, Driver};
use crate::source::{REPORTS_MAX, Report};
use crate::state::Keeper;
use crate::worker::{Smearing, Worker};
use core_affinity::CoreId;
use maser_core::refclock::{MachineClock, MachineSettings};
use maser_core::snapshot::Snapshot;
use maser_core::time::{BUILD_DATE, LeapTable, Smear};
use maser_sys::calibration::{self, Choice, CoreError, Refusal};
use maser_sys::clock_watch::ClockWatch;
use maser_sys::counter::Counter;
use maser_sys::mmsg::MmsgPort;
use maser_sys::snapshot_cell::{Reader, Writer, snapshot_cell};
use maser_sys::udp_socket::{OpenError, SocketOptions, Steering, UdpSocket};
use maser_sys::uring::{UringError, UringPort};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;
use thiserror::Error;
use tracing::{info, warn};

/// How often a port that is in use is tried, and how long apart: 1 s in all.
const OPEN_TRIES: u32 = 11;
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// How often the TSC is tried on a machine that is too busy to tell.
const CHOOSE_TRIES: u32 = 3;

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
    #[error("worker {worker} has stopped: {error}")]
    WorkerStopped {
        /// Which one.
        worker: usize,
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
    drivers: Vec<Driver>,
    keeper: Option<JoinHandle<()>>,
    pulse: Option<JoinHandle<Result<(), CounterWithdrawn>>>,
}

impl Server {
    /// Starts everything; when it returns, requests are being answered.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn start(config: Config) -> Result<Self, ServeError> {
        let leaps = Leaps::load(&config.clock)?;
        let cores = config.server.workers.place(&available_cores())?;
        let counter = choose_counter(&cores);
        info!("{counter}");
        let footing = ladder::choose(config.server.port)?;
        info!("port: {}: {}", footing.rung, footing.why);
        let sockets = open_sockets(&config, cores.len())?;

        let (writer, snapshots) = snapshot_cell(&Snapshot::UNKNOWN);
        let mut threads = Threads::default();
        let flow = match machine_source(&config) {
            Some(machine) => {
                let settings = machine_settings(machine, &config, &counter.counter);
                threads.start_machine(settings, counter.counter, leaps.table(), writer)?
            }
            None => threads.start_sources(&config, counter.counter, leaps, writer)?,
        };
        let smearing = smearing(&config);
        let tasks = cores.iter().zip(sockets).map(|(&core, sockets)| WorkerTask {
            core,
            sockets,
            rung: footing.rung,
            counter: counter.counter,
            snapshots: snapshots.clone(),
            counts: Arc::default(),
            smearing,
            batch: config.server.batch.get(),
            idle: config.server.idle,
            stop: Arc::clone(&threads.stop_workers),
        });
        let workers = threads.start_workers(tasks.collect())?;
        let started = counter.counter.now();
        let view = View { config, counter, footing, flow, workers, snapshots, started };
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
            || threads.keeper.iter().any(JoinHandle::is_finished)
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
        leaps: LeapTable,
        mut writer: Writer,
    ) -> Result<Flow, ServeError> {
        let pulse = Arc::new(Pulse::default());
        let mut clock = MachineClock::new(settings, leaps);
        // Before the first request, so that no reply goes out without the time.
        pulse.beat(&mut clock, counter, &mut writer);
        let watch = ClockWatch::new().map_err(system("no timer that notices steps of CLOCK_REALTIME"))?;
        let (stop, running) = (Arc::clone(&self.stop_pulse), Arc::clone(&pulse));
        self.spawn_pulse(move || running.run(&mut clock, counter, &mut writer, &watch, &stop))?;
        Ok(Flow::Machine(pulse))
    }

    /// The pulse flow of any other sources: their drivers, the clock over them, and what is kept of it.
    fn start_sources(
        &mut self,
        config: &Config,
        counter: Counter,
        leaps: Leaps,
        mut writer: Writer,
    ) -> Result<Flow, ServeError> {
        let (mut keeper, saved) = Keeper::open(config, counter, leaps.clone());
        let settings = clock_settings(config, &counter, &leaps, saved);
        let clock = Arc::new(Disciplined::new(config, counter, settings));
        let (reports, heard): (_, Receiver<Report>) = sync_channel(REPORTS_MAX);
        let (stop, running) = (Arc::clone(&self.stop_pulse), Arc::clone(&clock));
        self.spawn_pulse(move || running.run(&heard, &mut writer, &stop))?;
        let no_driver = system("no thread for a source's driver");
        self.drivers =
            drivers::start(&config.sources, counter, &reports, &self.stop_drivers).map_err(no_driver)?;
        let (stop, kept) = (Arc::clone(&self.stop_drivers), Arc::clone(&clock));
        let keeper = Builder::new().name("state".into()).spawn(move || keeper.run(&kept, &stop));
        self.keeper = Some(keeper.map_err(system("no thread for the state"))?);
        Ok(Flow::Sources(clock, leaps))
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

    /// Starts the workers and waits until each of them serves.
    fn start_workers(&mut self, tasks: Vec<WorkerTask>) -> Result<Vec<WorkerView>, ServeError> {
        let (ready, all_ready) = channel();
        let mut views = Vec::with_capacity(tasks.len());
        for (number, task) in tasks.into_iter().enumerate() {
            views.push(WorkerView { core: task.core, pinned: false, counts: Arc::clone(&task.counts) });
            let ready = ready.clone();
            let thread = Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || task.run(number, ready))
                .map_err(system("no thread for a worker"))?;
            self.workers.push(thread);
        }
        // So that the channel closes when the last worker has gone without a word.
        drop(ready);
        for _ in 0..views.len() {
            let Ready { worker, pinned } = all_ready.recv().map_err(|_| ServeError::Panicked("worker"))?;
            let view: &mut WorkerView = &mut views[worker];
            view.pinned = pinned?;
            if !view.pinned {
                warn!("worker {worker} could not be pinned to core {}", view.core);
            }
        }
        Ok(views)
    }

    fn stop(&mut self) -> Result<(), ServeError> {
        self.stop_workers.store(true, Ordering::Relaxed);
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
        if let Some(keeper) = self.keeper.take() {
            outcome = outcome.and(keeper.join().map_err(|_| ServeError::Panicked("state")));
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

/// What a worker thread says once: whether it is pinned and serving.
struct Ready {
    worker: usize,
    pinned: Result<bool, ServeError>,
}

/// What a worker thread takes with it.
struct WorkerTask {
    core: usize,
    sockets: Vec<UdpSocket>,
    rung: Rung,
    counter: Counter,
    snapshots: Reader,
    counts: Arc<Counts>,
    smearing: Option<Smearing>,
    batch: usize,
    idle: Idle,
    stop: Arc<AtomicBool>,
}

impl WorkerTask {
    /// The life of a worker thread. The port is made here: io_uring belongs to the thread that made it, and memory
    /// to the node of the core that touches it first.
    fn run(mut self, worker: usize, ready: Sender<Ready>) -> Result<(), ServeError> {
        let pinned = core_affinity::set_for_current(CoreId { id: self.core });
        let sockets = std::mem::take(&mut self.sockets);
        let ended = match self.rung {
            Rung::IoUring => {
                let port = UringPort::new(sockets, self.batch).map_err(ServeError::from);
                self.serve(port, Ready { worker, pinned: Ok(pinned) }, ready)
            }
            Rung::Socket => {
                let port = MmsgPort::new(sockets, self.batch).map_err(system("no socket port"));
                self.serve(port, Ready { worker, pinned: Ok(pinned) }, ready)
            }
        };
        ended.map_err(|error| ServeError::WorkerStopped { worker, error })
    }

    /// Says that it is ready, or why it isn't, and answers until it is stopped. The word is said once and the channel
    /// closed with it, so that the one who waits learns of a worker that went without a word.
    fn serve(
        &self,
        port: Result<impl Port, ServeError>,
        word: Ready,
        ready: Sender<Ready>,
    ) -> io::Result<()> {
        let (word, port) = match port {
            Ok(port) => (word, Some(port)),
            Err(error) => (Ready { pinned: Err(error), ..word }, None),
        };
        // All memory of the packet path is there before the word is said.
        let worker = port.map(|port| {
            Worker::new(port, self.snapshots.clone(), self.counter, &self.counts, self.batch)
                .smearing(self.smearing)
        });
        // Nobody waits for it any more once starting has failed.
        let _heard = ready.send(word);
        drop(ready);
        worker.map_or(Ok(()), |mut worker| worker.run(self.idle, &self.stop))
    }
}

/// The sockets of the addresses that smear leap seconds come after the others.
fn smearing(config: &Config) -> Option<Smearing> {
    let first_socket = u16::try_from(config.server.listen.len()).unwrap_or(u16::MAX);
    config.smear.as_ref().map(|smear| Smearing { smear: Smear::over(smear.length), first_socket })
}

/// One list of sockets a worker: its share of every listen address, those that smear leap seconds last.
fn open_sockets(config: &Config, workers: usize) -> Result<Vec<Vec<UdpSocket>>, ServeError> {
    let asked = config.server.receive_buffer_octets.get() as usize;
    let options = SocketOptions { receive_buffer: asked, ..SocketOptions::default() };
    let mut shares: Vec<Vec<UdpSocket>> = (0..workers).map(|_| Vec::new()).collect();
    let smearing = config.smear.iter().flat_map(|smear| &smear.listen);
    for &address in config.server.listen.iter().chain(smearing) {
        // Nobody outside can choose addresses that all meet one worker without knowing this number.
        let steering = Steering::new(random_u32());
        let group = open_group_patiently(address, workers, steering, options)?;
        if let Some(socket) = group.first().filter(|socket| socket.receive_buffer() < asked) {
            warn!(
                "{address}: the receive buffer is {} octets, not {asked}: raise net.core.rmem_max (sysctl)",
                socket.receive_buffer()
            );
        }
        info!("listening on {address}");
        for (share, socket) in shares.iter_mut().zip(group) {
            share.push(socket);
        }
    }
    Ok(shares)
}

/// The kernel lets go of a killed server's io_uring sockets a moment after the process: a restart waits for that.
fn open_group_patiently(
    address: SocketAddr,
    workers: usize,
    steering: Steering,
    options: SocketOptions,
) -> Result<Vec<UdpSocket>, OpenError> {
    for _ in 1..OPEN_TRIES {
        match UdpSocket::open_group(address, workers, steering, options) {
            Err(OpenError::PortInUse(_)) => thread::sleep(OPEN_PAUSE),
            outcome => return outcome,
        }
    }
    UdpSocket::open_group(address, workers, steering, options)
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

/// From the standard library's randomly keyed hasher: all that is needed of a secret that lives as long as we do.
#[expect(clippy::cast_possible_truncation, reason = "any 32 of its bits will do")]
fn random_u32() -> u32 {
    RandomState::new().hash_one(0_u8) as u32
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

#[cfg(test)]
mod tests {
    use super::*;

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
