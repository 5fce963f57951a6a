//! The clock beside the best filter there is, for oscillators and references of every quality and no setting changed.

use crate::cli::GridArguments;
use crate::parallel;
use crate::report::Progress;
use crate::run::{Figures, Setting, run};
use crate::units::{maybe_time, quantile, sorted, time};
use std::io::{self, Write};

/// Per √s: from an oven's to a cheap crystal's.
pub const WANDERS: [f64; 3] = [1e-11, 1e-10, 1e-9];
/// In seconds: from a timing receiver's to sentences'.
pub const JITTERS: [f64; 4] = [2e-8, 1e-7, 1e-6, 1e-5];

/// What a real oscillator and receiver have beside that.
const FLICKER: f64 = 1e-10;
const SAWTOOTH: f64 = 15e-9;
const DAILY: f64 = 5e-8;

/// With a time constant beyond this, s, a run is too short for the clock to learn as much as the filter was told.
const SLOW_FROM: f64 = 500.0;

/// How far above the best filter's the clock's error may be: the median over seeds, and the worst seed's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// See above.
    pub median: f64,
    /// See above.
    pub worst: f64,
}

impl Limits {
    /// Those of a combination.
    #[must_use]
    pub fn of(wander: f64, jitter: f64, real: bool) -> Self {
        if real {
            Self { median: 1.5, worst: 1.5 }
        } else if (jitter / wander).sqrt() > SLOW_FROM {
            Self { median: 1.25, worst: 1.6 }
        } else {
            Self { median: 1.15, worst: 1.4 }
        }
    }
}

/// A combination of oscillator and reference, over its seeds.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Per √s.
    pub wander: f64,
    /// In seconds.
    pub jitter: f64,
    /// The clock's error over the best filter's.
    pub median: f64,
    /// See `median`.
    pub worst: f64,
    /// What they may be.
    pub limits: Limits,
    rms_s: f64,
    rival_rms_s: f64,
    bound_to_error: f64,
    lock_s: Option<f64>,
    violations: u64,
    /// The seed that did worst.
    worst_seed: u64,
}

impl Row {
    /// Of runs that differ by nothing but their seeds.
    #[must_use]
    pub fn of(runs: &[Figures], real: bool) -> Option<Self> {
        let first = runs.first()?;
        // A run without an error to tell is worse than any.
        let infinite = |figure: Option<f64>| figure.unwrap_or(f64::INFINITY);
        let ratio = |run: &Figures| if real { run.ratio_to_best_fixed } else { run.ratio };
        let rival = |run: &Figures| if real { run.best_fixed_rms_s } else { run.optimal_rms_s };
        let median = |figure: &dyn Fn(&Figures) -> Option<f64>| {
            quantile(&sorted(runs.iter().map(|run| infinite(figure(run)))), 1, 2)
        };
        let last = |values: Vec<f64>| values.last().copied();
        let lock_s = last(sorted(runs.iter().map(|run| infinite(run.lock_s)))).filter(|at| at.is_finite());
        Some(Self {
            wander: first.wander,
            jitter: first.jitter,
            median: median(&ratio),
            worst: last(sorted(runs.iter().map(|run| infinite(ratio(run))))).unwrap_or(f64::INFINITY),
            limits: Limits::of(first.wander, first.jitter, real),
            rms_s: median(&|run| run.rms_offset_s),
            rival_rms_s: median(&rival),
            bound_to_error: median(&|run| run.bound_to_error),
            lock_s,
            violations: runs.iter().map(|run| run.bound_violations).sum(),
            worst_seed: runs
                .iter()
                .max_by(|one, other| {
                    let broken = one.bound_violations.cmp(&other.bound_violations);
                    broken.then(infinite(ratio(one)).total_cmp(&infinite(ratio(other))))
                })
                .map_or(first.seed, |worst| worst.seed),
        })
    }

    /// Whether it keeps the limits, and every promise.
    #[must_use]
    pub fn passes(&self) -> bool {
        let near = self.median <= self.limits.median && self.worst <= self.limits.worst;
        near && self.violations == 0 && self.lock_s.is_some()
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { wander, median, worst, limits, bound_to_error, violations, .. } = self;
        writeln!(
            out,
            "{:>7} {:>7} {:>9} {:>9} {median:>7.3} {worst:>7.3} {:>11} {bound_to_error:>9.2} {:>8} {violations:>10}  {}",
            format!("{wander:e}"),
            time(self.jitter),
            time(self.rms_s),
            time(self.rival_rms_s),
            format!("{:.2} {:.2}", limits.median, limits.worst),
            maybe_time(self.lock_s),
            if self.passes() { "ok".to_owned() } else { format!("FAIL, worst seed {}", self.worst_seed) }
        )
    }
}

/// Runs the grid and prints a row a combination as it is done; whether all keep their limits.
///
/// # Errors
/// As the output's.
pub fn grid(out: &mut impl Write, arguments: &GridArguments) -> io::Result<bool> {
    let settings = settings(arguments);
    writeln!(
        out,
        "{:>7} {:>7} {:>9} {:>9} {:>7} {:>7} {:>11} {:>9} {:>8} {:>10}",
        "wander", "jitter", "RMS", "possible", "median", "worst", "limits", "bound/RMS", "lock", "violations"
    )?;
    let progress = Progress::of(settings.len());
    let mut cell = Vec::new();
    let mut passed = true;
    let seeds = usize::try_from(arguments.seeds).unwrap_or(usize::MAX);
    parallel::in_order::<_, io::Error>(
        settings.len(),
        |index| run(&settings[index], |_| {}),
        |index, figures| {
            cell.push(figures);
            if cell.len() == seeds
                && let Some(row) = Row::of(&std::mem::take(&mut cell), arguments.real)
            {
                progress.clear();
                passed &= row.passes();
                row.print(out)?;
            }
            progress.done(index + 1);
            Ok(())
        },
    )?;
    progress.clear();
    Ok(passed)
}

fn settings(arguments: &GridArguments) -> Vec<Setting> {
    let GridArguments { seeds, first_seed, seconds, real } = *arguments;
    let cells = WANDERS.into_iter().flat_map(|wander| JITTERS.map(|jitter| (wander, jitter)));
    // No seed twice: with the same numbers, combinations of the same time constant would see the same run to scale.
    let ideal = (0..).zip(cells).flat_map(|(cell, (wander, jitter))| {
        let first = first_seed.wrapping_add(cell * seeds);
        (0..seeds).map(move |seed| Setting::ideal(wander, jitter, seconds, first.wrapping_add(seed)))
    });
    let with_all = |ideal| Setting { flicker: FLICKER, sawtooth: SAWTOOTH, daily: DAILY, ..ideal };
    if real { ideal.map(with_all).collect() } else { ideal.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(ratio: f64) -> Figures {
        let mut figures = run(&Setting::ideal(1e-10, 1e-7, 10, 1), |_| {});
        (figures.ratio, figures.lock_s) = (Some(ratio), Some(9.0));
        figures
    }

    #[test]
    fn a_row_fails_by_its_median_its_worst_and_a_broken_promise() {
        let passes = |ratios: [f64; 3], violations: u64| {
            let mut runs = ratios.map(figures);
            runs[0].bound_violations = violations;
            Row::of(&runs, false).is_some_and(|row| row.passes())
        };
        assert!(passes([1.0, 1.1, 1.39], 0));
        assert!(!passes([1.0, 1.16, 1.39], 0));
        assert!(!passes([1.0, 1.1, 1.41], 0));
        assert!(!passes([1.0, 1.1, 1.39], 1));
        assert!(!passes([1.0, 1.1, f64::NAN], 0));
    }

    #[test]
    fn a_slow_optimum_has_more_room() {
        assert_eq!(Limits::of(1e-11, 1e-5, false), Limits { median: 1.25, worst: 1.6 });
        assert_eq!(Limits::of(1e-11, 1e-6, false), Limits { median: 1.15, worst: 1.4 });
        assert_eq!(Limits::of(1e-11, 1e-5, true), Limits { median: 1.5, worst: 1.5 });
    }
}
