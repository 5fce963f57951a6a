//! The command `maser-sim`: parses the command line, runs it, and says by its exit status whether all limits were kept.

use clap::Parser as _;
use maser_sim::cli::{Cli, Command, RunArguments};
use maser_sim::plot::{self, PlotError, Track};
use maser_sim::run::{note, run, run_scenario};
use maser_sim::world::World;
use maser_sim::{grid, leap, report, sweep};
use serde::Serialize;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the result can't be written: {0}")]
    Output(#[from] io::Error),
    #[error("the result can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Plot(#[from] PlotError),
    #[error("{0} can't be written: {1}")]
    File(PathBuf, io::Error),
    #[error(transparent)]
    Leap(#[from] leap::LeapError),
}

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("maser-sim: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all limits were kept.
fn execute(cli: Cli) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match cli.command {
        Command::Run(arguments) => run_one(&mut out, &arguments),
        Command::Grid(arguments) => Ok(grid::grid(&mut out, &arguments)?),
        Command::Scenarios(arguments) => Ok(sweep::scenarios(&mut out, &arguments)?),
        Command::Leap(arguments) => Ok(leap::leap(&mut out, &arguments)?),
    }
}

fn run_one(out: &mut impl Write, arguments: &RunArguments) -> Result<bool, Failure> {
    let mut track = arguments.plot.as_ref().map(|_| Track::default());
    let watch = |world: &World| track.iter_mut().for_each(|track| note(track, world));
    let (title, kept) = if let Some(scenario) = arguments.scenario {
        let figures = run_scenario(scenario, arguments.seconds, arguments.seed, watch);
        if arguments.json {
            json(out, &figures)?;
        } else {
            report::scenario(out, scenario.story, &figures)?;
        }
        (format!("{}, seed {}", scenario.name, figures.seed), figures.faults.is_empty())
    } else {
        let setting = arguments.setting();
        let figures = run(&setting, watch);
        if arguments.json {
            json(out, &figures)?;
        } else {
            report::run(out, &figures)?;
        }
        let title =
            format!("wander {:e}, jitter {:e} s, seed {}", setting.wander, setting.jitter, setting.seed);
        // There is no limit to break: what came of it is in the figures.
        (title, true)
    };
    if let (Some(file), Some(track)) = (&arguments.plot, &track) {
        draw(file, track, &title)?;
    }
    Ok(kept)
}

fn json(out: &mut impl Write, figures: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, figures)?;
    Ok(writeln!(out)?)
}

fn draw(file: &Path, track: &Track, title: &str) -> Result<(), Failure> {
    let picture = plot::svg(track, title)?;
    fs::write(file, picture).map_err(|error| Failure::File(file.to_owned(), error))
}
