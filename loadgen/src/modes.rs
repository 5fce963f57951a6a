//! Which steps a run is made of: one, a ladder, a search, or one for long.

use crate::outcome::Outcome;
use crate::session::{Session, SessionError, Step};
use crate::summary::{Knee, Summary};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A default ladder begins here, and its steps rise by half.
const LADDER_RATE_MIN: f64 = 1_000.0;
const LADDER_RATE_MAX: f64 = 1_000_000.0;
const LADDER_FACTOR: f64 = 1.5;
/// A default ladder ends when so much is lost.
const LADDER_LOSS_MAX: f64 = 0.5;
/// A search ends when it knows the rate this well.
const KNEE_PRECISION: f64 = 1.03;
/// A step that fails is tried again: a machine that was stopped for a moment isn't a server that can't keep up.
const KNEE_TRIES: u32 = 2;
/// A generator that sends less than this of what it was told is at its own limit.
const GENERATOR_SHARE_MIN: f64 = 0.97;

/// What a run is.
#[derive(Clone, PartialEq, Debug)]
pub enum Plan {
    /// One rate.
    Fixed(Step),
    /// One rate, a row a second.
    Soak(Step),
    /// These rates; none for the default ones.
    Ladder(Vec<f64>, Duration),
    /// The highest rates within these losses.
    Knee {
        /// Shares of requests, from large to small.
        losses: Vec<f64>,
        /// Where to begin.
        rate_min: f64,
        /// Where to end.
        rate_max: f64,
        /// For how long at each rate.
        time: Duration,
    },
}

impl Plan {
    /// As on the command line.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Fixed(_) => "fixed",
            Self::Soak(_) => "soak",
            Self::Ladder(..) => "ladder",
            Self::Knee { .. } => "knee",
        }
    }

    /// The highest rate that it may ask for.
    #[must_use]
    pub fn rate_max(&self) -> f64 {
        match self {
            Self::Fixed(step) | Self::Soak(step) => step.rate_per_s,
            Self::Ladder(rates, _) if rates.is_empty() => LADDER_RATE_MAX,
            Self::Ladder(rates, _) => rates.iter().copied().fold(0.0, f64::max),
            Self::Knee { rate_max, .. } => *rate_max,
        }
    }
}

/// What a plan came to.
#[derive(Debug)]
pub struct Done {
    /// All that was measured.
    pub whole: Outcome,
    /// What stands for the run.
    pub result: Summary,
    /// Its steps.
    pub steps: Vec<Summary>,
    /// What a search found.
    pub knees: Vec<Knee>,
}

/// Sees how a run goes.
pub trait Watcher {
    /// A second of a step has passed.
    fn second(&mut self, second: &Summary);
    /// A step has ended.
    fn step(&mut self, step: &Summary);
}

/// Runs a plan to its end, or to `stop`.
///
/// # Errors
/// What ended it.
pub fn run(
    plan: &Plan,
    session: &mut Session,
    stop: &AtomicBool,
    watcher: &mut impl Watcher,
) -> Result<Done, SessionError> {
    let mut run = Run { session, stop, watcher, whole: Outcome::new(), steps: Vec::new() };
    let mut knees = Vec::new();
    let result = match plan {
        Plan::Fixed(step) => run.step(*step)?,
        Plan::Soak(step) => run.soak(*step)?,
        Plan::Ladder(rates, time) => {
            run.ladder(rates, *time)?;
            best(&run.steps, 1.0)
        }
        Plan::Knee { losses, rate_min, rate_max, time } => {
            for loss in losses {
                let knee = run.knee(*loss, *rate_min, *rate_max, *time)?;
                knees.push(knee);
            }
            best(&run.steps, losses.first().copied().unwrap_or(0.0))
        }
    };
    Ok(Done { whole: run.whole, result, steps: run.steps, knees })
}

struct Run<'a, W> {
    session: &'a mut Session,
    stop: &'a AtomicBool,
    watcher: &'a mut W,
    whole: Outcome,
    steps: Vec<Summary>,
}

impl<W: Watcher> Run<'_, W> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn step(&mut self, step: Step) -> Result<Summary, SessionError> {
        let (outcome, summary) = self.session.step(step, |second| self.watcher.second(second))?;
        self.whole.merge(&outcome);
        self.watcher.step(&summary);
        self.steps.push(summary.clone());
        Ok(summary)
    }

    fn soak(&mut self, step: Step) -> Result<Summary, SessionError> {
        let mut seconds = Vec::new();
        let (outcome, summary) = self.session.step(step, |second| {
            self.watcher.step(second);
            seconds.push(second.clone());
        })?;
        self.whole.merge(&outcome);
        self.steps = seconds;
        Ok(summary)
    }

    fn ladder(&mut self, rates: &[f64], duration: Duration) -> Result<(), SessionError> {
        let mut rate_per_s = LADDER_RATE_MIN;
        let default = std::iter::from_fn(|| {
            let rate = rate_per_s.round();
            rate_per_s *= LADDER_FACTOR;
            (rate <= LADDER_RATE_MAX).then_some(rate)
        });
        let chosen: Vec<f64> = if rates.is_empty() { default.collect() } else { rates.to_vec() };
        for rate_per_s in chosen {
            let summary = self.step(Step { rate_per_s, duration })?;
            if self.stopped() || (rates.is_empty() && summary.loss() > LADDER_LOSS_MAX) {
                break;
            }
        }
        Ok(())
    }

    /// Rises until the loss is passed, then halves the distance until it is small.
    fn knee(
        &mut self,
        loss_max: f64,
        rate_min: f64,
        rate_max: f64,
        time: Duration,
    ) -> Result<Knee, SessionError> {
        let mut best: Option<Summary> = None;
        let mut bad: Option<f64> = None;
        let mut at_limit = false;
        while !self.stopped() {
            let good = best.as_ref().map(|summary| summary.rate_requested);
            let rate_per_s = match (good, bad) {
                (None, None) => rate_min,
                (Some(good), None) => (good * LADDER_FACTOR).min(rate_max),
                (Some(good), Some(bad)) if bad / good > KNEE_PRECISION => (good * bad).sqrt(),
                (_, Some(_)) => break,
            };
            let summary = self.tried(Step { rate_per_s, duration: time }, loss_max)?;
            let generator_is_slow = summary.rate_offered < GENERATOR_SHARE_MIN * rate_per_s;
            if summary.loss() > loss_max || generator_is_slow {
                at_limit = generator_is_slow && summary.loss() <= loss_max;
                bad = Some(rate_per_s);
            } else {
                best = Some(summary);
            }
            if rate_per_s >= rate_max && bad.is_none() {
                at_limit = true;
                break;
            }
        }
        Ok(Knee {
            loss_max,
            rate_offered: best.as_ref().map(|summary| summary.rate_offered),
            rate_answered: best.as_ref().map(|summary| summary.rate_answered),
            at_least: at_limit,
        })
    }

    /// The best of a few tries at a rate; the first that keeps to the loss ends it.
    fn tried(&mut self, step: Step, loss_max: f64) -> Result<Summary, SessionError> {
        let mut best = self.step(step)?;
        for _ in 1..KNEE_TRIES {
            if best.loss() <= loss_max || self.stopped() {
                break;
            }
            let again = self.step(step)?;
            if again.loss() < best.loss() {
                best = again;
            }
        }
        Ok(best)
    }
}

/// The step with the most answers within a loss, else the first.
fn best(steps: &[Summary], loss_max: f64) -> Summary {
    let within = steps.iter().filter(|step| step.loss() <= loss_max);
    within
        .max_by(|a, b| a.rate_answered.total_cmp(&b.rate_answered))
        .or(steps.first())
        .cloned()
        .unwrap_or_default()
}
