//! Whether the TSC keeps one time on all cores: measuring it, and judging what was measured.
//!
//! Two measurements, because each is blind where the other sees:
//!
//! - against `CLOCK_MONOTONIC_RAW` on each core, at both ends of a window: the rate, and a core that strays from the
//!   kernel's time. Where the kernel makes that clock from the same core's TSC, a wrong offset cancels out;
//! - core against core by passing a word to and fro, as NTP does between hosts: an offset between two cores shows
//!   whatever the kernel's clock is made from.

use super::Refusal;
use crate::clock::{self, Bracket};
use crate::counter::{Counter, CounterKind};
use crate::kernel_clock::{self, KernelClock};
use crate::tsc::{self, KernelView};
use crossbeam_utils::CachePadded;
use maser_core::time::{Instant, Line, Rate, Span, Ticks};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Rates are measured over this long: two brackets of 50 ns are 1 ppm of it.
const WINDOW: Duration = Duration::from_millis(45);
/// Brackets taken at each end of the window, of which the narrowest counts.
const BRACKETS: u32 = 64;
/// Times that a word goes to another core and back; the quickest counts.
const ROUNDS: u64 = 256;
/// An exchange takes 0.1 ms between two idle cores. Between busy ones both threads must have their turn at once
/// (after 20 ms, half had not on two cores with three busy threads each), and this is the end of it.
const EXCHANGE_NS_MAX: i64 = 250_000_000;
/// Between looks at that limit.
const SPINS_BETWEEN_LOOKS: u32 = 1_000;

/// Rates of two cores may differ by this and what their brackets explain. Separate oscillators differ by more.
const RATE_PPB_MAX: i64 = 10_000;
/// A core may stray from the kernel's time, or from another core, by this and what the measurement explains.
const OFFSET_NS_MAX: i64 = 50;
/// An exchange that is no more exact than this proves nothing.
const EXCHANGE_HALF_NS_MAX: i64 = 2_000;

/// How well the TSC agrees with itself and with the kernel's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// The length of a tick, measured on the first core.
    pub rate: Rate,
    /// Cores that were measured.
    pub cores: usize,
    /// The largest distance of a core's rate from the first's, in ppb; the brackets' noise is part of it.
    pub rate_spread_ppb: i64,
    /// The largest distance of any reading from the first core's line over `CLOCK_MONOTONIC_RAW`.
    pub raw_distance_ns: i64,
    /// The largest distance between the first core's TSC and another's.
    pub core_distance_ns: i64,
    /// How well that distance is known, at worst.
    pub known_within_ns: i64,
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hertz = self.rate.ticks_in(Span::from_seconds(1));
        write!(
            f,
            "{}.{:06} MHz; {} cores agree: rates within {} ppb, readings within {} ns of the kernel's raw clock and {} ns of each other (known within {} ns)",
            hertz / 1_000_000,
            hertz % 1_000_000,
            self.cores,
            self.rate_spread_ppb,
            self.raw_distance_ns,
            self.core_distance_ns,
            self.known_within_ns
        )
    }
}

/// What rules the TSC out on a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoreError {
    /// This process may not run there.
    Unavailable,
    /// The core didn't answer, or not fast enough to tell.
    Unanswered,
    /// It runs at another rate than the first core's.
    Rate {
        /// The difference in parts per 10⁹.
        ppb: i64,
    },
    /// It strays from the kernel's raw clock.
    Strays {
        /// By so much.
        nanos: i64,
        /// Of which the measurement can explain so much.
        known_within_ns: i64,
    },
    /// It is ahead of the first core's, or behind it where that is negative.
    Ahead {
        /// By so much.
        nanos: i64,
        /// Give or take so much.
        known_within_ns: i64,
    },
}

impl fmt::Display for CoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => f.write_str("this process can't run"),
            Self::Unanswered => f.write_str("it couldn't be compared with the first core's: no quick answer"),
            Self::Rate { ppb } => write!(f, "its rate differs from the first core's by {ppb} ppb"),
            Self::Strays { nanos, known_within_ns } => {
                write!(
                    f,
                    "it strays from the kernel's raw clock by {nanos} ns (known within {known_within_ns} ns)"
                )
            }
            Self::Ahead { nanos, known_within_ns } => {
                write!(f, "it is ahead of the first core's by {nanos} ns (known within {known_within_ns} ns)")
            }
        }
    }
}

/// What was measured on one core.
#[derive(Clone, Copy, Debug)]
struct CoreReadings {
    core: usize,
    /// The TSC against `CLOCK_MONOTONIC_RAW` at both ends of the window.
    start: Bracket,
    end: Bracket,
    /// How far its TSC is ahead of the first core's; none for the first core itself.
    ahead: Option<Offset>,
}

/// A difference in ticks, and how well it is known.
#[derive(Clone, Copy, Debug)]
struct Offset {
    ticks: i64,
    half_ticks: i64,
}

/// Measures the TSC on each of `cores`, or on all where none is named.
pub(super) fn tsc_agreement(cores: &[usize]) -> Result<Agreement, Refusal> {
    if !tsc::is_present() {
        return Err(Refusal::Absent);
    }
    if !tsc::is_invariant() {
        return Err(Refusal::NotInvariant);
    }
    if KernelView::read().distrusts_tsc() {
        return Err(Refusal::KernelDistrusts);
    }
    let mut cores = cores.to_vec();
    if cores.is_empty() {
        cores = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    }
    cores.sort_unstable();
    cores.dedup();
    judge(&measure(&cores)?)
}

fn measure(cores: &[usize]) -> Result<Vec<CoreReadings>, Refusal> {
    let refused = |core, error| Refusal::Core { core, error };
    let bracket = |core| on_core(core, bracket_tsc).ok_or(refused(core, CoreError::Unavailable));
    let window_start_ns = kernel_clock::read(KernelClock::Monotonic);
    let mut readings = Vec::with_capacity(cores.len());
    for &core in cores {
        let start = bracket(core)?;
        readings.push(CoreReadings { core, start, end: start, ahead: None });
    }
    if let Some((first, others)) = readings.split_first_mut() {
        for other in others {
            let ahead = exchange(first.core, other.core).ok_or(refused(other.core, CoreError::Unanswered))?;
            other.ahead = Some(ahead);
        }
    }
    let spent_ns = kernel_clock::read(KernelClock::Monotonic).saturating_sub(window_start_ns).unsigned_abs();
    thread::sleep(WINDOW.saturating_sub(Duration::from_nanos(spent_ns)));
    for reading in &mut readings {
        reading.end = bracket(reading.core)?;
    }
    Ok(readings)
}

fn bracket_tsc() -> Bracket {
    clock::narrowest(&Counter::uncalibrated(CounterKind::Tsc), KernelClock::MonotonicRaw, BRACKETS, 0)
}

/// Runs `work` on a thread of its own, pinned to `core`; none where this process can't run there.
fn on_core<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| scope.spawn(|| pin(core).then(work)).join().ok().flatten())
}

fn pin(core: usize) -> bool {
    let known = usize::try_from(libc::CPU_SETSIZE).is_ok_and(|size| core < size);
    known && core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

/// What two cores pass to each other.
#[derive(Default)]
struct Table {
    /// The round that was asked; [`OVER`] ends the exchange.
    asked: CachePadded<AtomicU64>,
    /// The round that was answered, and the answering core's TSC then.
    answered: CachePadded<AtomicU64>,
    stamp: AtomicU64,
}

const OVER: u64 = u64::MAX;

/// How far the TSC of `other` is ahead of that of `first`; none if too slow, or one of them can't be had.
fn exchange(first: usize, other: usize) -> Option<Offset> {
    let table = Table::default();
    thread::scope(|scope| {
        let answering = scope.spawn(|| pin(other).then(|| answer(&table)));
        let asked = scope.spawn(|| {
            let offset = pin(first).then(|| ask(&table)).flatten();
            table.asked.store(OVER, Ordering::Relaxed);
            offset
        });
        let offset = asked.join().ok().flatten();
        answering.join().ok().flatten().and(offset)
    })
}

fn ask(table: &Table) -> Option<Offset> {
    let mut quickest: Option<Offset> = None;
    let deadline = Deadline::start();
    for round in 1..=ROUNDS {
        let before = Ticks::from_bits(tsc::read_ordered());
        table.asked.store(round, Ordering::Release);
        // Pairs with the release in `answer`, so that the stamp is this round's.
        if deadline.wait(|| table.answered.load(Ordering::Acquire) == round).is_none() {
            break;
        }
        let after = Ticks::from_bits(tsc::read_ordered());
        let width = after.since(before);
        let answer = Ticks::from_bits(table.stamp.load(Ordering::Relaxed));
        let offset = Offset { ticks: answer.since(before.offset(width / 2)), half_ticks: width / 2 + 1 };
        if quickest.is_none_or(|best| offset.half_ticks < best.half_ticks) {
            quickest = Some(offset);
        }
    }
    quickest
}

fn answer(table: &Table) {
    let deadline = Deadline::start();
    for round in 1..=ROUNDS {
        // Pairs with the release in `ask`: this core's stamp is taken after it.
        let mut asked = 0;
        let came = deadline.wait(|| {
            asked = table.asked.load(Ordering::Acquire);
            asked >= round
        });
        if came.is_none() || asked == OVER {
            return;
        }
        table.stamp.store(tsc::read_ordered(), Ordering::Relaxed);
        table.answered.store(round, Ordering::Release);
    }
}

/// When to give up spinning.
struct Deadline {
    start_ns: i64,
}

impl Deadline {
    fn start() -> Self {
        Self { start_ns: kernel_clock::read(KernelClock::Monotonic) }
    }

    /// Spins until `done`; none when time runs out.
    fn wait(&self, mut done: impl FnMut() -> bool) -> Option<()> {
        while kernel_clock::read(KernelClock::Monotonic).saturating_sub(self.start_ns) < EXCHANGE_NS_MAX {
            for _ in 0..SPINS_BETWEEN_LOOKS {
                if done() {
                    return Some(());
                }
                std::hint::spin_loop();
            }
        }
        None
    }
}

/// What the readings of all cores prove. Pure, so that it can be shown what a bad TSC looks like.
fn judge(readings: &[CoreReadings]) -> Result<Agreement, Refusal> {
    let first = readings.first().ok_or(Refusal::NoRate)?;
    let rate_of = |reading: &CoreReadings| {
        let span = Span::from_nanos(reading.end.nanos.saturating_sub(reading.start.nanos));
        Rate::measured(span, reading.end.ticks.since(reading.start.ticks)).ok_or(Refusal::NoRate)
    };
    let rate = rate_of(first)?;
    let line =
        Line { reference: first.start.ticks, origin: Instant::from_unix_nanos(first.start.nanos), rate };
    let nanos_of = |ticks: i64| rate.span_of(ticks).as_nanos();
    let mut agreement = Agreement {
        rate,
        cores: readings.len(),
        rate_spread_ppb: 0,
        raw_distance_ns: 0,
        core_distance_ns: 0,
        known_within_ns: 0,
    };
    for reading in readings {
        let refused = |error| Err(Refusal::Core { core: reading.core, error });
        let brackets = [reading.start, reading.end, first.start, first.end];
        let explained_ns = nanos_of(brackets.iter().map(|bracket| i64::from(bracket.error_ticks)).sum()) + 1;
        let window_us = reading.end.nanos.saturating_sub(reading.start.nanos) / 1_000;
        let ppb = rate_of(reading)?.ppb_from(rate).saturating_abs();
        if ppb > RATE_PPB_MAX.saturating_add(explained_ns.saturating_mul(1_000_000) / window_us.max(1)) {
            return refused(CoreError::Rate { ppb });
        }
        agreement.rate_spread_ppb = agreement.rate_spread_ppb.max(ppb);
        for bracket in [reading.start, reading.end] {
            let nanos = (line.at(bracket.ticks) - Instant::from_unix_nanos(bracket.nanos)).as_nanos();
            if nanos.saturating_abs() > explained_ns + OFFSET_NS_MAX {
                return refused(CoreError::Strays { nanos, known_within_ns: explained_ns });
            }
            agreement.raw_distance_ns = agreement.raw_distance_ns.max(nanos.saturating_abs());
        }
        if let Some(ahead) = reading.ahead {
            let (nanos, known_within_ns) = (nanos_of(ahead.ticks), nanos_of(ahead.half_ticks) + 1);
            if known_within_ns > EXCHANGE_HALF_NS_MAX {
                return refused(CoreError::Unanswered);
            }
            if nanos.saturating_abs() > known_within_ns + OFFSET_NS_MAX {
                return refused(CoreError::Ahead { nanos, known_within_ns });
            }
            agreement.core_distance_ns = agreement.core_distance_ns.max(nanos.saturating_abs());
            agreement.known_within_ns = agreement.known_within_ns.max(known_within_ns);
        }
    }
    Ok(agreement)
}

#[cfg(test)]
mod tests;
