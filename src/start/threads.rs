//! The threads beside each other: how each is started, and how all are stopped.

use super::{ServeError, machine_settings, machine_source, system};
use crate::config::Config;
use crate::hands::{Hands, Past};
use crate::leaps::{self, Leaps};
use crate::nics::Nics;
use crate::pulse::disciplined::Disciplined;
use crate::pulse::settings::clock_settings;
use crate::pulse::{CounterWithdrawn, Pulse};
use crate::report::{Flow, WorkerView};
use crate::source::drivers::{self, Driver};
use crate::source::{REPORTS_MAX, Report};
use crate::state::legacy::Legacy;
use crate::state_writer::StateWriter;
use crate::steer::{self, Steering};
use maser_core::refclock::{MachineClock, MachineSettings};
use maser_sys::clock_watch::ClockWatch;
use maser_sys::counter::Counter;
use maser_sys::snapshot_cell::{Reader, Writer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

const NO_LEAPS_THREAD: &str = "no thread for the leap file";

/// What runs, and how it is told to stop.
#[derive(Debug, Default)]
pub(super) struct Threads {
    pub(super) stop_workers: Arc<AtomicBool>,
    pub(super) stop_drivers: Arc<AtomicBool>,
    pub(super) stop_pulse: Arc<AtomicBool>,
    pub(super) stop_queues: Arc<AtomicBool>,
    pub(super) workers: Vec<JoinHandle<Result<(), ServeError>>>,
    /// Those over interfaces' queues.
    pub(super) queue_workers: Vec<JoinHandle<Result<(), ServeError>>>,
    /// Makes each worker serve; one that this is dropped for ends instead.
    pub(super) waiting: Vec<Sender<()>>,
    pub(super) drivers: Vec<Driver>,
    /// By what they keep.
    pub(super) keepers: Vec<(&'static str, JoinHandle<()>)>,
    pub(super) pulse: Option<JoinHandle<Result<(), CounterWithdrawn>>>,
}

impl Threads {
    /// The pulse flow; with sources other than the machine's own clock, where their drivers report to.
    pub(super) fn start_flow(
        &mut self,
        config: &Config,
        counter: Counter,
        leaps: Leaps,
        hands: &Hands,
        legacy: Option<Legacy>,
        writer: Writer,
    ) -> Result<(Flow, Option<SyncSender<Report>>), ServeError> {
        if let Some(machine) = machine_source(config) {
            let settings = machine_settings(machine, config, &counter);
            return Ok((self.start_machine(settings, counter, leaps, hands, writer)?, None));
        }
        let legacy = legacy.filter(|legacy| legacy.is_of(&counter));
        let (flow, reports) = self.start_clock(config, counter, leaps, hands, legacy, writer)?;
        Ok((flow, Some(reports)))
    }

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
        let watch = leaps::watch(leaps.clone(), Arc::clone(&pulse), hands.clone(), &self.stop_drivers);
        self.keepers.push(("leaps", watch.map_err(system(NO_LEAPS_THREAD))?));
        Ok(Flow::Machine(pulse, leaps))
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
    pub(super) fn start_steering(
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

    pub(super) fn start_drivers(
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
    pub(super) fn start_nics(
        &mut self,
        nics: Nics,
        workers: &[WorkerView],
        hands: &Hands,
    ) -> Result<(), ServeError> {
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

    pub(super) fn stop(&mut self) -> Result<(), ServeError> {
        self.stop_workers.store(true, Ordering::Relaxed);
        self.stop_queues.store(true, Ordering::Relaxed);
        self.waiting.clear();
        let mut outcome = self.drivers_ended();
        // Those that keep the clock may take a moment to notice: meanwhile the workers drain on the last snapshots.
        self.stop_drivers.store(true, Ordering::Relaxed);
        outcome = outcome.and(all_ended(&mut self.workers)).and(self.leave_queues());
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

    /// Ends the workers over interfaces' queues.
    pub(super) fn leave_queues(&mut self) -> Result<(), ServeError> {
        self.stop_queues.store(true, Ordering::Relaxed);
        all_ended(&mut self.queue_workers)
    }

    /// Whether a driver has ended before it was told to.
    pub(super) fn drivers_ended(&self) -> Result<(), ServeError> {
        let ended = self.drivers.iter().find(|driver| driver.thread.is_finished());
        ended.map_or(Ok(()), |driver| Err(ServeError::DriverStopped(driver.name.clone())))
    }
}

/// Waits until these workers have ended; how the first ended that didn't well.
fn all_ended(workers: &mut Vec<JoinHandle<Result<(), ServeError>>>) -> Result<(), ServeError> {
    let ended = workers.drain(..).map(|thread| thread.join().unwrap_or(Err(ServeError::Panicked("worker"))));
    ended.fold(Ok(()), Result::and)
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A caller that cares for the outcome has called `stop` already.
        let _ended = self.stop();
    }
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
