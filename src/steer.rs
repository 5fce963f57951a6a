//! The thread that has the machine's clock follow the served one: a look a second, what the core decides of it, and the
//! keeper's hands to do it.
//!
//! ```text
//! reading, snapshot, kernel's word → Steerer::look → Hands::steer → Steerer::obeyed
//! ```
//!
//! Whatever goes wrong here, serving goes on: the served clock doesn't stand on the machine's.

use crate::hands::{Fault, Hands, Past};
use crate::pulse::disciplined::{Disciplined, ToLeave};
use crate::status::{seconds, signed_seconds};
use maser_core::steer::{
    Decision, Frequency, KernelClock, Look, Order, PANIC_THRESHOLD, STEP_OUT, STEP_THRESHOLD, STRIKES_MAX,
    Standing, SteerSettings, Steerer, Tampering,
};
use maser_core::time::Span;
use maser_sys::adjtimex::KernelState;
use maser_sys::clock;
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{self, KernelClock as KernelsClock};
use maser_sys::snapshot_cell::Reader;
use maser_sys::steering::because;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::{error, info, warn};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often is looked whether the server is to stop.
const PAUSE: Duration = Duration::from_millis(100);
/// Readings of which the best is taken: one of a few is seldom disturbed.
const READINGS: usize = 5;

/// What the status says of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Figures {
    /// How the clock is kept.
    pub standing: Standing,
    /// The machine's clock less the served one, at the last look.
    pub offset: Option<Span>,
    /// The correction that makes it run as the served one does.
    pub frequency: Option<Frequency>,
    /// How often it was stepped.
    pub steps: u64,
    /// Why the last order wasn't obeyed, or the kernel's clock couldn't be looked at.
    pub problem: Option<String>,
}

/// The machine's clock behind the served one: written by the thread, asked by the status.
#[derive(Debug)]
pub struct Steering(Mutex<Figures>);

impl Default for Steering {
    fn default() -> Self {
        let standing = Standing::Waiting;
        Self(Mutex::new(Figures { standing, offset: None, frequency: None, steps: 0, problem: None }))
    }
}

/// What may be done, after what servers before have done.
#[must_use]
pub fn settings(
    counter: &Counter,
    clock: &Disciplined,
    first_step_unlimited: bool,
    past: Past,
) -> SteerSettings {
    let Past { has_begun, is_contested } = past;
    let (nominal_rate, kept) = (counter.nominal_rate(), clock.kept_frequency());
    SteerSettings { nominal_rate, first_step_unlimited, kept, has_begun, is_contested }
}

impl Steering {
    /// As of the last look.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Steers until `stop`; then the clock is left at the frequency that was learnt.
    pub fn run(
        &self,
        counter: Counter,
        clock: &Disciplined,
        snapshots: &Reader,
        hands: &Hands,
        settings: SteerSettings,
        stop: &AtomicBool,
    ) {
        let mut steerer = Steerer::new(settings);
        let mut last = None;
        let mut is_left = settings.is_contested;
        while !stop.load(Ordering::Relaxed) {
            match look(&counter, clock, snapshots, KernelState::read) {
                Ok(Some(look)) => {
                    let order = self.beat(&mut steerer, &look, |order| hands.steer(order));
                    last = order.or(last);
                }
                Ok(None) => {}
                Err(error) => self.unreadable(&error),
            }
            if steerer.standing() == Standing::Contested && !is_left {
                is_left = hands.leave_clock().is_ok();
            }
            let mut waited = Duration::ZERO;
            while waited < LOOK_EVERY && !stop.load(Ordering::Relaxed) {
                thread::sleep(PAUSE);
                waited += PAUSE;
            }
        }
        let order = last.filter(|_| steerer.standing() != Standing::Contested);
        let frequency = KernelState::read().ok().map(|kernel| kernel.frequency);
        if let Some(settled) = order.and_then(|order| last_order(&order, frequency))
            && let Err(error) = hands.steer(&settled)
        {
            warn!("the machine's clock is left with a correction: {error}");
        }
    }

    /// One look: the core decides, it is done, what has changed is told. What was obeyed.
    fn beat(
        &self,
        steerer: &mut Steerer,
        look: &Look,
        obey: impl Fn(&Order) -> Result<(), Fault>,
    ) -> Option<Order> {
        let before = self.figures();
        let decision = steerer.look(look);
        let (mut obeyed, mut problem) = (decision.order, before.problem.clone());
        if let Some(order) = &decision.order {
            problem = obey(order).err().map(|fault| fault.to_string());
        }
        if let Some(order) = decision.order.filter(|_| problem.is_some()) {
            obeyed = steerer.refused(&order).filter(|instead| obey(instead).is_ok());
        }
        if let Some(order) = &obeyed {
            steerer.obeyed(order, look);
        }
        let step = obeyed.and_then(|order| order.step);
        let figures = Figures {
            standing: steerer.standing(),
            offset: decision.offset.or(before.offset),
            frequency: steerer.frequency(),
            steps: before.steps + u64::from(step.is_some()),
            problem,
        };
        tell(&before, &figures, &decision, step);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
        obeyed
    }

    /// The kernel doesn't say how its clock runs; told once.
    fn unreadable(&self, error: &io::Error) {
        let before = self.figures();
        let figures = Figures { problem: Some(because(error)), ..before };
        tell_problem(&before, &figures);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }
}

/// What ends the correction of an order at the end, if the kernel's clock still runs at what was ordered.
fn last_order(order: &Order, frequency: Option<Frequency>) -> Option<Order> {
    let is_ours = order.phase != Frequency::ZERO && frequency == Some(order.total());
    is_ours.then(|| order.settled())
}

/// The kernel's clock beside the served one; none where that can't be had.
fn look(
    counter: &Counter,
    clock: &Disciplined,
    snapshots: &Reader,
    kernel: impl FnOnce() -> io::Result<KernelState>,
) -> io::Result<Option<Look>> {
    let best = (1..READINGS).fold(clock::reading(counter), |best, _| {
        let next = clock::reading(counter);
        if next.error_ticks < best.error_ticks { next } else { best }
    });
    let KernelState { frequency, offset, adjtime_left, .. } = kernel()?;
    let look = |snapshot| Look {
        clock: best,
        snapshot,
        is_synchronised: clock.to_leave(best.ticks) != ToLeave::Nothing,
        kernel: KernelClock { frequency, offset, adjtime_left },
        suspended: suspended(),
    };
    Ok(snapshots.read().ok().map(|read| look(read.snapshot)))
}

/// How long the machine has been suspended since it started. Whatever comes between two readings makes it less.
fn suspended() -> Span {
    let one = || {
        let before = kernel_clock::read(KernelsClock::Boottime);
        before.saturating_sub(kernel_clock::read(KernelsClock::Monotonic))
    };
    Span::from_nanos((1..READINGS).fold(one(), |most, _| most.max(one())))
}

/// What has changed, in the log.
fn tell(before: &Figures, now: &Figures, decision: &Decision, step: Option<Span>) {
    if let Some(tampering) = &decision.tampering {
        warn!("the machine's clock isn't as it was left: {}", tampering_text(tampering));
    }
    if let Some(step) = step {
        warn!("the machine's clock was stepped by {}", signed_seconds(step.as_seconds_f64()));
    }
    tell_problem(before, now);
    if now.standing != before.standing {
        let text = format!("the machine's clock: {}", standing_text(now));
        match now.standing {
            Standing::Waiting | Standing::Steered => info!("{text}"),
            Standing::Held | Standing::TooLarge => warn!("{text}"),
            Standing::Panic | Standing::Contested => error!("{text}"),
        }
    }
}

fn tell_problem(before: &Figures, now: &Figures) {
    if now.problem != before.problem {
        match &now.problem {
            Some(problem) => error!("the machine's clock isn't steered: {problem}"),
            None => info!("the machine's clock can be steered again"),
        }
    }
}

fn tampering_text(tampering: &Tampering) -> String {
    let suspects = "does chronyd, ntpd or systemd-timesyncd run, too?";
    match tampering {
        Tampering::Stepped(by) => {
            format!("somebody stepped it by {}; {suspects}", signed_seconds(by.as_seconds_f64()))
        }
        Tampering::Frequency(frequency) => {
            format!("somebody set its frequency to {:+.3} ppm; {suspects}", frequency.fraction() * 1e6)
        }
        Tampering::Slew(left) => {
            format!("somebody has it slewed by {}; {suspects}", signed_seconds(left.as_seconds_f64()))
        }
        Tampering::Adjtime(left) => {
            let left = signed_seconds(left.as_seconds_f64());
            format!("somebody has it slewed by {left} with adjtime; does OpenNTPD's ntpd run, too?")
        }
    }
}

/// How the clock is kept and why, in words.
#[must_use]
pub fn standing_text(figures: &Figures) -> String {
    let off = || figures.offset.map_or_else(String::new, |offset| signed_seconds(offset.as_seconds_f64()));
    let whole = |span: Span| seconds(span.as_seconds_f64());
    match figures.standing {
        Standing::Waiting => "not steered yet: the served clock isn't synchronised".to_owned(),
        Standing::Steered => "steered".to_owned(),
        Standing::Held => {
            "runs on at the frequency that was learnt: the served clock isn't synchronised".to_owned()
        }
        Standing::TooLarge => {
            let (most, lasts) = (whole(STEP_THRESHOLD), whole(STEP_OUT));
            format!("{} off, more than {most}: it is stepped when that has lasted {lasts}", off())
        }
        Standing::Panic => format!(
            "{} off, more than {}: not steered; set it by hand (`date`), or set clock.first_step_unlimited and start again",
            off(),
            whole(PANIC_THRESHOLD)
        ),
        Standing::Contested => format!(
            "not steered until maser is started again: somebody else changed it {STRIKES_MAX} times; stop chronyd, ntpd or \
             systemd-timesyncd, or leave out clock.steer"
        ),
    }
}

#[cfg(test)]
#[path = "steer_tests.rs"]
mod tests;
