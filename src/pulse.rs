//! The pulse flow: reads the reference, lets the core decide, publishes the snapshot.
//!
//! Here is the flow of the machine's own clock where it is the only source, read eight times a second and at once after a
//! step of it; that of any other sources is in [`disciplined`]. The thread is off the packet path: it may log and lock.
//! If it stalls or dies, the last snapshot's limit makes every reply say "unsynchronised".

pub mod disciplined;
pub mod settings;
mod told;

use crate::leaps::{NotTaken, TakesLeaps};
use maser_core::refclock::{
    KernelError, LeapFile, MachineClock, MachineReading, MachineUpdate, PendingLeap, Standing,
};
use maser_core::snapshot::Snapshot;
use maser_core::steer::Frequency;
use maser_core::time::{ClockReading, Instant, LeapTable, Span, Utc};
use maser_sys::adjtimex::{KernelLeap, KernelState};
use maser_sys::clock;
use maser_sys::clock_watch::{ClockWatch, Woken};
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::snapshot_cell::Writer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tracing::{debug, info, warn};

/// How often the machine's clock is read.
const PERIOD: Duration = Duration::from_millis(125);

/// The kernel is asked every five seconds whether it still trusts the counter.
const COUNTER_CHECKED_EVERY_BEATS: u64 = 40;

/// A newer list of leap seconds is taken at the next beat: within a period, on a machine that isn't stalled.
const LEAPS_TAKEN_WITHIN: Duration = Duration::from_secs(1);

/// Readings of which the best is taken: one of a few is seldom disturbed.
const READINGS: usize = 5;

/// The kernel no longer trusts the counter that the served clock runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CounterWithdrawn;

/// What the status says of the clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct PulseState {
    /// What the served clock stands on.
    pub standing: Option<Standing>,
    /// How far the machine's clock had moved from the served one at the last reading.
    pub offset: Option<Span>,
    /// Steps of the machine's clock that were seen.
    pub steps: u32,
}

/// Shared between the pulse thread and the status.
#[derive(Debug, Default)]
pub struct Pulse {
    state: Mutex<PulseState>,
    /// The next beat takes them, and says whether it could.
    newer_leaps: Mutex<Option<(LeapTable, Sender<bool>)>>,
}

impl TakesLeaps for Pulse {
    fn utc(&self) -> Instant<Utc> {
        Instant::from_unix_nanos(kernel_clock::read(KernelClock::Realtime))
    }

    fn set_leaps(&self, file: &LeapFile) -> Result<(), NotTaken> {
        let (taken, is_taken) = channel();
        *self.newer_leaps.lock().unwrap_or_else(PoisonError::into_inner) = Some((file.table.clone(), taken));
        match is_taken.recv_timeout(LEAPS_TAKEN_WITHIN) {
            Ok(true) => Ok(()),
            Ok(false) => Err(NotTaken::OtherOffset),
            Err(_) => Err(NotTaken::Busy),
        }
    }
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
                Ok(Woken::ClockStepped) => {
                    debug!("CLOCK_REALTIME was set, or moved for a leap second: it is read again at once")
                }
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
        self.record(&update);
        log(&update);
        let newer = self.newer_leaps.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((leaps, taken)) = newer {
            // Nobody listens any longer where this came late: it is tried again.
            let _heard = taken.send(clock.set_leaps(leaps));
        }
    }

    fn record(&self, update: &MachineUpdate) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.standing = update.standing.or(state.standing);
        state.offset = update.offset.or(state.offset);
        state.steps = update.snapshot.map_or(state.steps, |snapshot| snapshot.generation);
    }
}

/// The kernel's word is asked for before the clock is read and again after it, until both times it is the same.
const WORDS_MAX: usize = 4;

/// The counter, the kernel's clocks, and what the kernel says of them: of one moment, not from both sides of a step
/// or of a leap second. Where the kernel's word won't stand still, nobody vouches for the clock.
fn read_machine(counter: &Counter) -> MachineReading {
    let mut before = word();
    for _ in 1..WORDS_MAX {
        let clock = best_reading(counter);
        let after = word();
        if before.synchronised == after.synchronised && before.leap == after.leap {
            let error_max = error_bound(&before).max(error_bound(&after));
            return MachineReading {
                clock,
                synchronised: after.synchronised,
                error_max,
                leap: pending(after.leap),
            };
        }
        before = after;
    }
    MachineReading {
        clock: best_reading(counter),
        synchronised: false,
        error_max: error_bound(&NOTHING_SAID),
        leap: pending(before.leap),
    }
}

fn word() -> KernelState {
    KernelState::read().unwrap_or(NOTHING_SAID)
}

fn best_reading(counter: &Counter) -> ClockReading {
    (1..READINGS).fold(clock::reading(counter), |best, _| {
        let next = clock::reading(counter);
        if next.error_ticks < best.error_ticks { next } else { best }
    })
}

fn error_bound(kernel: &KernelState) -> Span {
    let left_to_slew = kernel.offset.abs() + kernel.adjtime_left.abs();
    KernelError { maximum: kernel.maxerror, estimated: kernel.esterror, left_to_slew }.bound()
}

const fn pending(leap: KernelLeap) -> PendingLeap {
    match leap {
        KernelLeap::None | KernelLeap::Over => PendingLeap::None,
        KernelLeap::Insert => PendingLeap::Insert,
        KernelLeap::InProgress => PendingLeap::Inserting,
        KernelLeap::Delete => PendingLeap::Delete,
    }
}

/// Where adjtimex is refused nobody vouches for the clock, as when the kernel says so itself.
const NOTHING_SAID: KernelState = KernelState {
    synchronised: false,
    pps_fault: false,
    maxerror: Span::from_seconds(16),
    esterror: Span::from_seconds(16),
    leap: KernelLeap::None,
    tai_offset_s: None,
    frequency: Frequency::ZERO,
    offset: Span::ZERO,
    adjtime_left: Span::ZERO,
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

#[cfg(test)]
mod tests {
    use super::*;
    use maser_core::refclock::MachineSettings;

    fn settings(counter: Counter) -> MachineSettings {
        MachineSettings {
            stratum: 1,
            reference_id: [192, 0, 2, 9],
            local_stratum: Some(10),
            precision: counter.precision(),
            nominal_rate: counter.nominal_rate(),
            not_before: Instant::from_unix(0, 0),
        }
    }

    #[test]
    fn this_machine_is_read_and_published() {
        let (mut cell, reader) = maser_sys::snapshot_cell::snapshot_cell(&Snapshot::UNKNOWN);
        let counter = Counter::monotonic_raw();
        let pulse = Pulse::default();
        let mut clock = MachineClock::new(settings(counter), LeapTable::built_in());
        pulse.beat(&mut clock, counter, &mut cell);
        let snapshot = reader.read().unwrap().snapshot;
        assert!(snapshot.synchronised_at(counter.now()));
        assert!(matches!(pulse.state().standing, Some(Standing::Local | Standing::Synchronised)));
    }

    #[test]
    fn a_newer_list_of_leap_seconds_is_taken_between_two_beats() {
        let (mut cell, reader) = maser_sys::snapshot_cell::snapshot_cell(&Snapshot::UNKNOWN);
        let counter = Counter::monotonic_raw();
        let pulse = Pulse::default();
        let mut clock = MachineClock::new(settings(counter), LeapTable::built_in());
        let mut table = LeapTable::built_in();
        let day = pulse.utc().unix_seconds() / 86_400 + 40;
        assert!((day..day + 31).any(|day| table.add(day, 1).is_ok()), "some day begins a month");
        let expires = pulse.utc() + Span::from_seconds(86_400 * 180);
        let mut file = LeapFile { table, updated: pulse.utc(), expires, hashed: true };
        let mut set_while_it_beats = |file: &LeapFile| {
            std::thread::scope(|scope| {
                let setting = scope.spawn(|| pulse.set_leaps(file));
                while !setting.is_finished() {
                    pulse.beat(&mut clock, counter, &mut cell);
                    std::thread::sleep(Duration::from_millis(20));
                }
                pulse.beat(&mut clock, counter, &mut cell);
                setting.join().unwrap()
            })
        };
        assert_eq!(set_while_it_beats(&file), Ok(()));
        let leap = reader.read().unwrap().snapshot.leap;
        assert_eq!(leap.next.map(|next| next.offset_after_s), Some(leap.offset_s + 1));
        file.table = LeapTable::empty();
        assert_eq!(set_while_it_beats(&file), Err(NotTaken::OtherOffset));
        assert_eq!(pulse.set_leaps(&file), Err(NotTaken::Busy), "nobody beats");
    }
}
