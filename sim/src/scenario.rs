//! The scenarios: what may happen to a clock, and what it may do then, in one table.

mod table;
mod worlds;

pub use table::SCENARIOS;

use crate::judge::{Judge, Violation};
use crate::world::{World, WorldShape};
use maser_core::discipline::Event;
use std::fmt;

/// A scenario: a world, how long, and what must come of it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens, for people.
    pub story: &'static str,
    /// How long, s.
    pub seconds: u64,
    /// The world of a seed.
    pub world: fn(u64) -> WorldShape,
    /// What must come of it, apart from what must never happen anywhere.
    pub limits: Limits,
}

/// What must come of a scenario.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// Synchronised for the first time by then, s; none where it must never be.
    pub locked_by: Option<f64>,
    /// The share of the time after that in which it is synchronised, at least.
    pub synchronised: f64,
    /// Whether it is synchronised when the scenario ends.
    pub at_end: bool,
    /// Looked at closely at this second: the advertised distance, over all seeds, must be worth reading there.
    pub probe: Option<u64>,
    /// Whether its distance must be worth reading all the time: where it is locked and nothing ails it.
    pub worth_reading: bool,
}

impl Limits {
    /// Locked by `seconds`, synchronised ever after.
    #[must_use]
    pub const fn locked_by(seconds: f64) -> Self {
        Self {
            locked_by: Some(seconds),
            synchronised: 0.9999,
            at_end: true,
            probe: None,
            worth_reading: false,
        }
    }

    /// Never synchronised.
    #[must_use]
    pub const fn never() -> Self {
        Self { locked_by: None, synchronised: 0.0, at_end: false, probe: None, worth_reading: false }
    }
}

/// What came of a scenario with one seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Everything that was seen.
    pub judge: Judge,
    /// What the clock told of, and when, s.
    pub events: Vec<(f64, Event)>,
    /// Whether it was synchronised at the end.
    pub at_end: bool,
    /// True error and advertised distance at the probe, s.
    pub probe: Option<(f64, f64)>,
}

/// A limit that was broken.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// The true error was greater than what was advertised.
    Bound(u64, Violation),
    /// Stratum 1 beyond the configured distance, so often.
    Budget(u64),
    /// Pulses with a wrong second, so many.
    Labels(u64),
    /// Locked too late, or never, or though it must not.
    Locked(Option<f64>),
    /// Synchronised too seldom.
    Synchronised(f64),
    /// Not synchronised, or synchronised, at the end.
    AtEnd(bool),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound(count, first) => {
                write!(f, "the error passed the root distance {count} times, first {first}")
            }
            Self::Budget(count) => write!(f, "stratum 1 past the configured root distance {count} times"),
            Self::Labels(count) => write!(f, "{count} pulses were given a wrong second"),
            Self::Locked(None) => write!(f, "never synchronised"),
            Self::Locked(Some(at)) => {
                write!(f, "synchronised at {at:.1} s, which is too late or must never be")
            }
            Self::Synchronised(share) => {
                write!(f, "synchronised for {:.2} % of the time only", share * 100.0)
            }
            Self::AtEnd(true) => write!(f, "synchronised at the end, and must not be"),
            Self::AtEnd(false) => write!(f, "not synchronised at the end"),
        }
    }
}

impl Scenario {
    /// Runs it with a seed; `watch` is shown the world at the beginning of every second.
    pub fn run(&self, seed: u64, mut watch: impl FnMut(&World)) -> Outcome {
        let mut world = World::new((self.world)(seed), seed);
        let mut probe = None;
        for second in 0..self.seconds {
            world.step();
            if self.limits.probe == Some(second) {
                probe = world.error_now();
            }
            watch(&world);
        }
        Outcome { seed, at_end: world.is_synchronised(), judge: world.judge, events: world.events, probe }
    }

    /// What limits an outcome breaks.
    #[must_use]
    pub fn faults(&self, outcome: &Outcome) -> Vec<Fault> {
        let Outcome { judge, at_end, .. } = outcome;
        let mut faults = Vec::new();
        if let Some(first) = judge.first {
            faults.push(Fault::Bound(judge.violations, first));
        }
        if judge.out_of_budget > 0 {
            faults.push(Fault::Budget(judge.out_of_budget));
        }
        if judge.wrong_labels > 0 {
            faults.push(Fault::Labels(judge.wrong_labels));
        }
        let in_time = match (self.limits.locked_by, judge.locked_at) {
            (None, locked) => locked.is_none(),
            (Some(by), Some(at)) => at <= by,
            (Some(_), None) => false,
        };
        if !in_time {
            faults.push(Fault::Locked(judge.locked_at));
        }
        if judge.share_synchronised() < self.limits.synchronised {
            faults.push(Fault::Synchronised(judge.share_synchronised()));
        }
        if *at_end != self.limits.at_end {
            faults.push(Fault::AtEnd(*at_end));
        }
        faults
    }
}
