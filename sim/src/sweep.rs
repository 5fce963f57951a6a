//! Scenarios over many seeds: what must never happen, and what only many seeds together tell.

use crate::cli::ScenariosArguments;
use crate::parallel;
use crate::report::Progress;
use crate::scenario::{Fault, SCENARIOS, Scenario};
use crate::units::{maybe_time, quantile, sorted, time};
use std::io::{self, Write};

/// With fewer seeds their spread says nothing of the distance at the probe.
const PROBED_SEEDS_MIN: usize = 50;
/// At the probe the median distance is at most so many times the error that one seed in a hundred passes.
const PROBE_MAX: f64 = 5.0;
/// While locked the median distance is at most so many times RMS and stamp error together.
const DISTANCE_MAX: f64 = 10.0;

/// What is kept of a scenario with one seed.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    seed: u64,
    faults: Vec<Fault>,
    lock_s: Option<f64>,
    synchronised: f64,
    worst_share: f64,
    violations: u64,
    wrong_labels: u64,
    probe: Option<(f64, f64)>,
    /// The median distance over RMS and stamp error together.
    distance: f64,
}

impl Seen {
    /// Runs a scenario with a seed.
    #[must_use]
    pub fn of(scenario: &Scenario, seed: u64) -> Self {
        let outcome = scenario.run(seed, |_| {});
        let judge = &outcome.judge;
        let stamp_error = (scenario.world)(seed).stamp_error.as_seconds_f64();
        Self {
            seed,
            faults: scenario.faults(&outcome),
            lock_s: judge.locked_at,
            synchronised: judge.share_synchronised(),
            worst_share: judge.worst_share,
            violations: judge.violations,
            wrong_labels: judge.wrong_labels,
            probe: outcome.probe,
            distance: judge.median_distance() / (judge.rms() + stamp_error),
        }
    }
}

/// A scenario over its seeds.
#[derive(Clone, Debug)]
pub struct Row {
    scenario: &'static str,
    story: &'static str,
    seen: Vec<Seen>,
    /// What only the seeds together tell.
    pub together: Vec<String>,
}

impl Row {
    /// Of all that was seen of a scenario.
    #[must_use]
    pub fn of(scenario: &Scenario, seen: Vec<Seen>) -> Self {
        let mut together = Vec::new();
        let probes: Vec<_> = seen.iter().filter_map(|seen| seen.probe).collect();
        if probes.len() >= PROBED_SEEDS_MIN {
            let error = quantile(&sorted(probes.iter().map(|(error, _)| error.abs())), 99, 100);
            let distance = quantile(&sorted(probes.iter().map(|&(_, distance)| distance)), 1, 2);
            if distance.is_nan() || distance > PROBE_MAX * error {
                let (distance, error) = (time(distance), time(error));
                together.push(format!("a median distance of {distance} at the probe is more than {PROBE_MAX} times the 99th percentile of the error, {error}"));
            }
        }
        let distance = quantile(&sorted(seen.iter().map(|seen| seen.distance)), 1, 2);
        if scenario.limits.worth_reading && (distance.is_nan() || distance > DISTANCE_MAX) {
            together.push(format!("the median distance is {distance:.1} times RMS and stamp error together, more than {DISTANCE_MAX}"));
        }
        Self { scenario: scenario.name, story: scenario.story, seen, together }
    }

    /// How many seeds broke a limit.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.seen.iter().filter(|seen| !seen.faults.is_empty()).count()
    }

    /// Whether all limits are kept.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.faults() == 0 && self.together.is_empty()
    }

    /// The first seed that broke a limit, how, and the command that shows it.
    #[must_use]
    pub fn first_fault(&self) -> Option<String> {
        let seen = self.seen.iter().find(|seen| !seen.faults.is_empty())?;
        let faults: Vec<_> = seen.faults.iter().map(ToString::to_string).collect();
        let command = format!("maser-sim run --scenario {} --seed {}", self.scenario, seen.seed);
        Some(format!("seed {}: {}; again: {command}", seen.seed, faults.join("; ")))
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let seen = &self.seen;
        let lock = sorted(seen.iter().filter_map(|seen| seen.lock_s));
        let worst = |figure: fn(&Seen) -> f64| seen.iter().map(figure).fold(0.0, f64::max);
        let synchronised = seen.iter().map(|seen| seen.synchronised).fold(f64::INFINITY, f64::min);
        let locked = |at: f64| maybe_time(Some(at).filter(|at| at.is_finite()));
        writeln!(
            out,
            "{:<19}{:>5} {:>8} {:>8} {:>8.2} {:>7.3} {:>6} {:>6} {:>6}  {}",
            self.scenario,
            seen.len(),
            locked(quantile(&lock, 1, 2)),
            locked(quantile(&lock, 1, 1)),
            synchronised * 100.0,
            worst(|seen| seen.worst_share),
            seen.iter().map(|seen| seen.violations).sum::<u64>(),
            seen.iter().map(|seen| seen.wrong_labels).sum::<u64>(),
            self.faults() + self.together.len(),
            self.story,
        )?;
        let faults = self.first_fault().into_iter().chain(self.together.iter().cloned());
        faults.into_iter().try_for_each(|fault| writeln!(out, "  FAULT: {fault}"))
    }
}

/// Runs scenarios over their seeds and prints a row each as it is done; whether all keep their limits.
///
/// # Errors
/// As the output's.
pub fn scenarios(out: &mut impl Write, arguments: &ScenariosArguments) -> io::Result<bool> {
    let all: Vec<&Scenario> =
        if arguments.names.is_empty() { SCENARIOS.iter().collect() } else { arguments.names.clone() };
    if arguments.list {
        all.iter().try_for_each(|scenario| writeln!(out, "{:<19} {}", scenario.name, scenario.story))?;
        return Ok(true);
    }
    writeln!(
        out,
        "{:<19}{:>5} {:>8} {:>8} {:>8} {:>7} {:>6} {:>6} {:>6}  story",
        "scenario", "seeds", "lock", "worst", "% sync", "error", "beyond", "labels", "faults"
    )?;
    let seeds = usize::try_from(arguments.seeds).unwrap_or(usize::MAX);
    let count = all.len().saturating_mul(seeds);
    let progress = Progress::of(count);
    let mut seen = Vec::new();
    let mut passed = true;
    parallel::in_order::<_, io::Error>(
        count,
        |index| Seen::of(all[index / seeds], arguments.first_seed.wrapping_add((index % seeds) as u64)),
        |index, one| {
            seen.push(one);
            if seen.len() == seeds {
                let row = Row::of(all[index / seeds], std::mem::take(&mut seen));
                passed &= row.passes();
                progress.clear();
                row.print(out)?;
            }
            progress.done(index + 1);
            Ok(())
        },
    )?;
    progress.clear();
    writeln!(
        out,
        "% sync: of the time after the first lock, the worst seed's; error: the worst in parts of the root distance;\n\
         beyond: looks at which it was greater; labels: pulses with a wrong second; faults: seeds that broke a limit"
    )?;
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Limits;

    fn seen(probe: (f64, f64), distance: f64) -> Seen {
        Seen {
            seed: 7,
            faults: Vec::new(),
            lock_s: Some(9.0),
            synchronised: 1.0,
            worst_share: 0.5,
            violations: 0,
            wrong_labels: 0,
            probe: Some(probe),
            distance,
        }
    }

    fn scenario() -> Scenario {
        let limits = Limits { probe: Some(1), worth_reading: true, ..Limits::locked_by(60.0) };
        Scenario { limits, ..SCENARIOS[0] }
    }

    #[test]
    fn a_distance_that_is_too_wide_fails_over_all_seeds() {
        let row = |seeds: usize, probe, distance| Row::of(&scenario(), vec![seen(probe, distance); seeds]);
        assert!(row(50, (1e-6, 4.9e-6), 9.0).passes());
        assert!(!row(50, (-1e-6, 5.1e-6), 9.0).passes());
        assert!(row(49, (1e-6, 5.1e-6), 9.0).passes());
        assert!(!row(1, (1e-6, 1e-6), 10.1).passes());
        assert!(!row(1, (1e-6, 1e-6), f64::NAN).passes());
    }

    #[test]
    fn a_fault_comes_with_the_command_that_shows_it() {
        let mut broken = seen((0.0, 0.0), 1.0);
        broken.faults = vec![Fault::Labels(3)];
        let row = Row::of(&scenario(), vec![seen((0.0, 0.0), 1.0), broken]);
        assert_eq!((row.faults(), row.passes()), (1, false));
        let fault = row.first_fault().expect("there is one");
        assert!(fault.contains("3 pulses") && fault.ends_with("run --scenario cold --seed 7"), "{fault}");
    }
}
