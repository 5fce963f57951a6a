//! The pulse flow: reads the reference, lets the core decide, publishes the snapshot.
//!
//! Today's only reference is the machine's own clock, read eight times a second and at once after a step of it.
//! The thread is off the packet path: it may log and lock. If it stalls or dies, the last snapshot's limit makes
//! every reply say "unsynchronised".

use maser_core::refclock::{KernelLeap, MachineClock, MachineReading, MachineUpdate, Standing};
use maser_core::snapshot::Snapshot;
use maser_core::time::Span;
use maser_sys::adjtimex::{KernelLeap as Announced, KernelState};
use maser_sys::clock;
use maser_sys::clock_watch::{ClockWatch, Woken};
use maser_sys::counter::Counter;
use maser_sys::snapshot_cell::Writer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// How often the machine's clock is read.
const PERIOD: Duration = Duration::from_millis(125);

/// The kernel is asked every five seconds whether it still trusts the counter.
const COUNTER_CHECKED_EVERY_BEATS: u64 = 40;

/// Readings of which the best is taken: one of a few is seldom disturbed.
const READINGS: usize = 5;

/// The kernel no longer trusts the counter that the served clock runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CounterWithdrawn;

/// What the status says of the clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct PulseState {
    /// The snapshot published last.
    pub snapshot: Option<Snapshot>,
    /// What it stands on.
    pub standing: Option<Standing>,
    /// How far the machine's clock had moved from the served one at the last reading.
    pub offset: Option<Span>,
    /// Steps of the machine's clock that were seen.
    pub steps: u32,
    /// The last of them.
    pub last_step: Option<Span>,
    /// Snapshots published.
    pub published: u64,
    /// Readings that were not used: preempted, or too near to a leap second.
    pub unused: u64,
}

/// Shared between the pulse thread and the status.
#[derive(Debug, Default)]
pub struct Pulse {
    state: Mutex<PulseState>,
}

impl Pulse {
    /// What the status says of the clock, as of the last reading.
    pub fn state(&self) -> PulseState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads, decides and publishes until `stop`.
    ///
    /// # Errors
    /// When the kernel has withdrawn the counter: nothing that was measured with it holds any more.
    pub fn run(
        &self,
        clock: &mut MachineClock,
        counter: Counter,
        cell: &mut Writer,
        watch: &ClockWatch,
        stop: &AtomicBool,
    ) -> Result<(), CounterWithdrawn> {
        for beat in 1_u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if beat.is_multiple_of(COUNTER_CHECKED_EVERY_BEATS) && !counter.is_still_trusted() {
                cell.publish(&Snapshot::UNKNOWN);
                return Err(CounterWithdrawn);
            }
            self.beat(clock, counter, cell);
            match watch.wait(PERIOD) {
                Ok(Woken::Timeout) => {}
                Ok(Woken::ClockStepped) => info!("somebody set CLOCK_REALTIME: it is read again at once"),
                Err(error) => {
                    // Steps are still seen by comparing readings, a period later at most.
                    warn!(%error, "the kernel's notice of clock steps failed");
                    std::thread::sleep(PERIOD);
                }
            }
        }
        Ok(())
    }

    /// One reading: the machine's clock is read, the core decides, the snapshot is published.
    pub fn beat(&self, clock: &mut MachineClock, counter: Counter, cell: &mut Writer) {
        let update = clock.update(&read_machine(&counter));
        if let Some(snapshot) = update.snapshot {
            cell.publish(&snapshot);
        }
        log(&update);
        self.record(&update);
    }

    fn record(&self, update: &MachineUpdate) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.published += u64::from(update.snapshot.is_some());
        state.unused += u64::from(update.snapshot.is_none());
        state.snapshot = update.snapshot.or(state.snapshot);
        state.standing = update.standing.or(state.standing);
        state.offset = update.offset.or(state.offset);
        state.last_step = update.step.or(state.last_step);
        state.steps = update.snapshot.map_or(state.steps, |snapshot| snapshot.generation);
    }
}

/// The counter, the kernel's clocks, and what the kernel says of them.
fn read_machine(counter: &Counter) -> MachineReading {
    let best = (1..READINGS).fold(clock::reading(counter), |best, _| {
        let next = clock::reading(counter);
        if next.error_ticks < best.error_ticks { next } else { best }
    });
    let kernel = KernelState::read().unwrap_or(NOTHING_SAID);
    MachineReading {
        clock: best,
        synchronised: kernel.synchronised,
        error_max: kernel.maxerror,
        leap: match kernel.leap {
            Announced::None | Announced::Over => KernelLeap::None,
            Announced::Insert | Announced::InProgress => KernelLeap::Insert,
            Announced::Delete => KernelLeap::Delete,
        },
    }
}

/// Where adjtimex is refused nobody vouches for the clock, as when the kernel says so itself.
const NOTHING_SAID: KernelState = KernelState {
    synchronised: false,
    pps_fault: false,
    maxerror: Span::from_seconds(16),
    esterror: Span::from_seconds(16),
    leap: Announced::None,
    tai_offset_s: None,
    frequency_ppb: 0,
    offset: Span::ZERO,
};

fn log(update: &MachineUpdate) {
    if let Some(step) = update.step {
        warn!(seconds = step.as_seconds_f64(), "the machine's clock was stepped; the served time follows it");
    }
    match update.standing {
        None => {}
        Some(Standing::Synchronised) => {
            info!("synchronised: the kernel calls the machine's clock synchronised")
        }
        Some(Standing::Local) => {
            info!("local: the machine's clock isn't synchronised; serving the local stratum")
        }
        Some(Standing::Unsynchronised) => {
            warn!(
                "unsynchronised: the machine's clock isn't synchronised and no local stratum is configured"
            );
        }
        Some(Standing::BeforeBuild) => {
            warn!(
                "unsynchronised: the machine's clock says a date before this program was built; set it right"
            );
        }
    }
}
