//! Which steps a run is made of: one, a ladder, a search, or one for long.

use crate::outcome;
use crate::session::{Session, SessionError, Step};
use crate::summary::{Knee, Summary, share};
use hdrhistogram::Histogram;
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
    /// What stands for the run.
    pub result: Summary,
    /// The latencies of what stands for the run.
    pub latency_ns: Histogram<u64>,
    /// Its steps.
    pub steps: Vec<Summary>,
    /// What a search found.
    pub knees: Vec<Knee>,
    /// What ended it early; what was measured until then is there.
    pub error: Option<SessionError>,
}

/// Sees how a run goes.
pub trait Watcher {
    /// A second of a step has passed.
    fn second(&mut self, second: &Summary);
    /// A step has ended.
    fn step(&mut self, step: &Summary);
}

/// Runs a plan to its end, or to `stop`, or until it fails.
pub fn run(plan: &Plan, session: &mut Session, stop: &AtomicBool, watcher: &mut impl Watcher) -> Done {
    let mut run = Run { session, stop, watcher, steps: Vec::new(), whole: None };
    let mut knees = Vec::new();
    let (ended, loss_max) = match plan {
        Plan::Fixed(step) => (run.step(*step).map(drop), 1.0),
        Plan::Soak(step) => (run.soak(*step), 1.0),
        Plan::Ladder(rates, time) => (run.ladder(rates, *time), 1.0),
        Plan::Knee { losses, rate_min, rate_max, time } => {
            let search = losses.iter().try_for_each(|loss| {
                knees.extend(run.knee(*loss, *rate_min, *rate_max, *time)?);
                Ok(())
            });
            (search, losses.first().copied().unwrap_or(0.0))
        }
    };
    let Run { steps, whole, .. } = run;
    let (result, latency_ns) = whole
        .or_else(|| best(&steps, loss_max).cloned())
        .unwrap_or_else(|| (Summary::default(), outcome::times()));
    let steps = steps.into_iter().map(|(step, _)| step).collect();
    Done { result, latency_ns, steps, knees, error: ended.err() }
}

/// What a step came to, and its latencies.
type Measured = (Summary, Histogram<u64>);

struct Run<'a, W> {
    session: &'a mut Session,
    stop: &'a AtomicBool,
    watcher: &'a mut W,
    steps: Vec<Measured>,
    /// All of a soak, whose steps are seconds.
    whole: Option<Measured>,
}

impl<W: Watcher> Run<'_, W> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn step(&mut self, step: Step) -> Result<Summary, SessionError> {
        let (outcome, summary) = self.session.step(step, |second| self.watcher.second(second))?;
        self.watcher.step(&summary);
        self.steps.push((summary.clone(), outcome.latency_ns));
        Ok(summary)
    }

    fn soak(&mut self, step: Step) -> Result<(), SessionError> {
        let (steps, watcher) = (&mut self.steps, &mut self.watcher);
        let (outcome, summary) = self.session.step(step, |second| {
            watcher.step(second);
            // The latencies of the whole are what is written; a day of histograms of seconds would be gigabytes.
            steps.push((second.clone(), Histogram::new_with_bounds(1, 2, 1).expect("the smallest there is")));
        })?;
        self.whole = Some((summary, outcome.latency_ns));
        Ok(())
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
            let summary = self.step(Step { rate_per_s, duration, by_second: false })?;
            if self.stopped() || (rates.is_empty() && summary.loss() > LADDER_LOSS_MAX) {
                break;
            }
        }
        Ok(())
    }

    /// Rises until the loss is passed, then halves the distance until it is small; nothing if it was stopped before.
    fn knee(
        &mut self,
        loss_max: f64,
        rate_min: f64,
        rate_max: f64,
        time: Duration,
    ) -> Result<Option<Knee>, SessionError> {
        let mut best: Option<Summary> = None;
        let mut bad: Option<f64> = None;
        let mut at_limit = false;
        loop {
            let good = best.as_ref().map(|summary| summary.rate_requested);
            let rate_per_s = match (good, bad) {
                (None, None) => rate_min,
                (Some(good), None) if good < rate_max => (good * LADDER_FACTOR).min(rate_max),
                (Some(good), Some(bad)) if bad / good > KNEE_PRECISION => (good * bad).sqrt(),
                (Some(_), None) => {
                    at_limit = true;
                    break;
                }
                (_, Some(_)) => break,
            };
            let summary = self.tried(Step { rate_per_s, duration: time, by_second: false }, loss_max)?;
            if self.stopped() {
                return Ok(None);
            }
            let generator_is_slow =
                summary.rate_offered < GENERATOR_SHARE_MIN * rate_per_s || summary.unseen > 0;
            if unanswered(&summary) > loss_max || generator_is_slow {
                at_limit = generator_is_slow;
                bad = Some(rate_per_s);
            } else {
                best = Some(summary);
            }
        }
        Ok(Some(Knee {
            loss_max,
            rate_offered: best.as_ref().map(|summary| summary.rate_offered),
            rate_answered: best.as_ref().map(|summary| summary.rate_answered),
            at_least: at_limit,
        }))
    }

    /// The best of a few tries at a rate; the first that keeps to the loss ends it.
    fn tried(&mut self, step: Step, loss_max: f64) -> Result<Summary, SessionError> {
        let mut best = self.step(step)?;
        for _ in 1..KNEE_TRIES {
            if unanswered(&best) <= loss_max || self.stopped() {
                break;
            }
            let again = self.step(step)?;
            if unanswered(&again) < unanswered(&best) {
                best = again;
            }
        }
        Ok(best)
    }
}

/// The share of requests that expect an answer and got no valid one: a kiss or a wrong reply is none.
fn unanswered(step: &Summary) -> f64 {
    let expected = step.sent.saturating_sub(step.silence_expected);
    share(expected.saturating_sub(step.basic + step.interleaved), expected)
}

/// The step with the most answers within a loss, else the first.
fn best(steps: &[Measured], loss_max: f64) -> Option<&Measured> {
    let within = steps.iter().filter(|(step, _)| unanswered(step) <= loss_max);
    within.max_by(|(a, _), (b, _)| a.rate_answered.total_cmp(&b.rate_answered)).or(steps.first())
}
