//! What people read of runs: tables to the standard output, progress to the terminal's other end.

use crate::judge::SETTLED_FROM;
use crate::run::{Figures, ScenarioFigures};
use crate::units::{maybe_ratio, maybe_time, time};
use std::io::{self, IsTerminal as _, Write};

/// So many of the clock's events are shown.
const EVENTS_SHOWN: usize = 30;

/// How far a long command has come, on a terminal only: a line that is written over and over.
#[derive(Debug)]
pub struct Progress {
    total: usize,
    is_seen: bool,
}

impl Progress {
    /// Of so many runs.
    #[must_use]
    pub fn of(total: usize) -> Self {
        let progress = Self { total, is_seen: io::stderr().is_terminal() };
        progress.done(0);
        progress
    }

    /// So many are done.
    pub fn done(&self, count: usize) {
        if self.is_seen {
            eprint!("\r{count} of {} runs\x1b[K", self.total);
        }
    }

    /// Makes room for a line of the table.
    pub fn clear(&self) {
        if self.is_seen {
            eprint!("\r\x1b[K");
        }
    }
}

fn lines(out: &mut impl Write, lines: &[(&str, String)]) -> io::Result<()> {
    for (name, value) in lines {
        writeln!(out, "  {name:<24} {value}")?;
    }
    Ok(())
}

/// A run, read at a glance.
///
/// # Errors
/// As the output's.
pub fn run(out: &mut impl Write, figures: &Figures) -> io::Result<()> {
    let Figures { seconds, seed, wander, jitter, .. } = figures;
    writeln!(out, "{seconds} s, wander {wander:e} per root second, jitter {}, seed {seed}", time(*jitter))?;
    if figures.best_fixed_rms_s.is_some() {
        let (flicker, sawtooth) = (figures.flicker, time(figures.sawtooth));
        writeln!(out, "flicker {flicker:e}, sawtooth {sawtooth} either way, daily wave {:e}", figures.daily)?;
    }
    let mut all = vec![
        ("error, RMS", maybe_time(figures.rms_offset_s)),
        ("error, greatest", maybe_time(figures.max_offset_s)),
        ("optimal filter, RMS", maybe_time(figures.optimal_rms_s)),
        ("RMS over that", maybe_ratio(figures.ratio)),
    ];
    if figures.best_fixed_rms_s.is_some() {
        all.push(("best fixed filter, RMS", maybe_time(figures.best_fixed_rms_s)));
        all.push(("RMS over that", maybe_ratio(figures.ratio_to_best_fixed)));
    }
    all.extend([
        ("root distance over RMS", maybe_ratio(figures.bound_to_error)),
        ("error beyond it", times(figures.bound_violations)),
        ("synchronised after", maybe_time(figures.lock_s)),
        (
            "noise found",
            format!("wander {:.2e}, jitter {}", figures.wander_found, time(figures.jitter_found)),
        ),
    ]);
    lines(out, &all)?;
    unsettled(out, figures.rms_offset_s)
}

/// A scenario with one seed, read at a glance.
///
/// # Errors
/// As the output's.
pub fn scenario(out: &mut impl Write, story: &str, figures: &ScenarioFigures) -> io::Result<()> {
    writeln!(out, "{}: {story}", figures.scenario)?;
    writeln!(out, "{} s, seed {}", figures.seconds, figures.seed)?;
    let end = if figures.synchronised_at_end { "yes" } else { "no" };
    let all = [
        ("synchronised after", maybe_time(figures.lock_s)),
        ("and from then on", format!("{:.2} % of the time", figures.synchronised * 100.0)),
        ("at the end", end.to_owned()),
        ("error, RMS", maybe_time(figures.rms_offset_s)),
        ("error, greatest", maybe_time(figures.max_offset_s)),
        ("root distance over RMS", maybe_ratio(figures.bound_to_error)),
        ("worst error over it", maybe_ratio(Some(figures.worst_error_to_bound))),
        ("error beyond it", times(figures.bound_violations)),
        ("past the budget", times(figures.budget_violations)),
        ("pulses labelled", format!("{}, {} of them wrong", figures.labels, figures.wrong_labels)),
    ];
    lines(out, &all)?;
    unsettled(out, figures.rms_offset_s)?;
    for event in figures.events.iter().take(EVENTS_SHOWN) {
        writeln!(out, "  {event}")?;
    }
    if let Some(more) = figures.events.len().checked_sub(EVENTS_SHOWN).filter(|more| *more > 0) {
        writeln!(out, "  and {more} more (--json has them)")?;
    }
    figures.faults.iter().try_for_each(|fault| writeln!(out, "  FAULT: {fault}"))
}

fn unsettled(out: &mut impl Write, rms_offset_s: Option<f64>) -> io::Result<()> {
    if rms_offset_s.is_some() {
        return Ok(());
    }
    writeln!(out, "  no error to tell: they count just after a reference's samples, from {SETTLED_FROM} s on")
}

fn times(count: u64) -> String {
    match count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        many => format!("{many} times"),
    }
}
