//! The command line: what a person types, parsed, checked and explained.

use crate::run::Setting;
use crate::scenario::{SCENARIOS, Scenario};
use clap::{Args, Parser, Subcommand};
use maser_core::refclock::Date;
use std::path::PathBuf;

/// Simulates oscillators, receivers and networks around the clock's own code, and holds what it serves against true time.
///
/// Everything follows from the seed: the same command prints the same figures on every machine, a day in a few seconds.
/// Times are in seconds, frequencies are fractions (1e-6 is 1 ppm).
#[derive(Clone, Debug, Parser)]
#[command(name = "maser-sim", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What maser-sim can be told to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run one world and say how well the clock did
    Run(RunArguments),
    /// Compare the clock with the best possible filter for oscillators and references of every quality
    Grid(GridArguments),
    /// Run what may happen to a clock, over many seeds
    Scenarios(ScenariosArguments),
    /// Rehearse a leap second and print the packets around it
    Leap(LeapArguments),
}

/// `maser-sim run`.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// For how long [default: 40000, or the scenario's own length]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub seconds: Option<u64>,
    /// Where all random numbers come from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// What happens: one of "maser-sim scenarios --list"; otherwise a reference's samples come once a second
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    pub scenario: Option<&'static Scenario>,
    /// Print JSON instead of the table
    #[arg(long)]
    pub json: bool,
    /// Draw time error and Allan deviation, as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// The world without a scenario.
    #[command(flatten)]
    pub noise: NoiseArguments,
}

/// Oscillator and reference.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Noise, without a scenario")]
pub struct NoiseArguments {
    /// Standard deviation of the random walk of the oscillator's frequency, per root of a second
    #[arg(long, value_name = "NUMBER", default_value = "1e-10", value_parser = positive, conflicts_with = "scenario")]
    pub wander: f64,
    /// Standard deviation of the reference's white noise, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1e-7", value_parser = positive, conflicts_with = "scenario")]
    pub jitter: f64,
    /// Flicker noise of the oscillator's frequency: its Allan deviation is about so much at any span
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = amplitude, conflicts_with = "scenario")]
    pub flicker: f64,
    /// The reference's sawtooth, in seconds either way
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = amplitude, conflicts_with = "scenario")]
    pub sawtooth: f64,
    /// Amplitude of the daily wave that temperature makes of the oscillator's frequency
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = amplitude, conflicts_with = "scenario")]
    pub daily: f64,
}

impl RunArguments {
    /// The world without a scenario.
    #[must_use]
    pub fn setting(&self) -> Setting {
        let NoiseArguments { wander, jitter, flicker, sawtooth, daily } = self.noise;
        let seconds = self.seconds.unwrap_or(Setting::SECONDS);
        Setting { seconds, seed: self.seed, wander, jitter, flicker, sawtooth, daily }
    }
}

/// `maser-sim grid`.
#[derive(Clone, Copy, Debug, Args)]
pub struct GridArguments {
    /// Runs of each combination
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub seeds: u64,
    /// The first seed; the others follow it
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub first_seed: u64,
    /// For how long; the first 10000 don't count
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = Setting::SECONDS,
        value_parser = clap::value_parser!(u64).range(10_100..=100_000_000)
    )]
    pub seconds: u64,
    /// With flicker noise, a sawtooth of 15 ns and a daily wave, against the best of many fixed filters
    #[arg(long)]
    pub real: bool,
}

/// `maser-sim scenarios`.
#[derive(Clone, Debug, Args)]
pub struct ScenariosArguments {
    /// Which [default: all]
    #[arg(value_name = "NAME", value_parser = scenario)]
    pub names: Vec<&'static Scenario>,
    /// Runs of each
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub seeds: u64,
    /// The first seed; the others follow it
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub first_seed: u64,
    /// Print their names and stories only
    #[arg(long)]
    pub list: bool,
}

/// `maser-sim leap`.
#[derive(Clone, Copy, Debug, Args)]
pub struct LeapArguments {
    /// The day that ends with it, as 2026-12-31: the last of a month
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub date: Date,
    /// Delete a second instead of inserting one
    #[arg(long)]
    pub delete: bool,
    /// Ask a listener that smears the second over so many hours of its count, their middle at the leap
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=48))]
    pub smear: Option<u64>,
    /// Where all random numbers come from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
    found.ok_or_else(|| "there is no such scenario; \"maser-sim scenarios --list\" lists them".to_owned())
}

fn amplitude(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number, as 1e-9".to_owned())?;
    if (0.0..=1.0).contains(&number) { Ok(number) } else { Err("expected 0 to 1".to_owned()) }
}

fn positive(text: &str) -> Result<f64, String> {
    // Smaller ones drown in the digits of a double.
    let number = amplitude(text)?;
    if number >= 1e-18 { Ok(number) } else { Err("expected 1e-18 to 1".to_owned()) }
}

fn date(text: &str) -> Result<Date, String> {
    let expected = || "expected a date, as 2026-12-31".to_owned();
    let mut parts = text.splitn(3, '-');
    let mut part = || parts.next().and_then(|part| part.parse::<u16>().ok()).ok_or_else(expected);
    let (year, month, day) = (part()?, part()?, part()?);
    let narrow = |number: u16| u8::try_from(number).map_err(|_| expected());
    let date = Date { year: i32::from(year), month: narrow(month)?, day: narrow(day)? };
    date.day().map(|_| date).ok_or_else(|| "the calendar has no such day".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn dates_are_read_and_refused() {
        assert_eq!(date("2026-12-31"), Ok(Date { year: 2026, month: 12, day: 31 }));
        for wrong in ["2026-02-30", "2026-12", "26-12-31x", "2026-12-311", "today", ""] {
            assert!(date(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn noise_and_a_scenario_exclude_each_other() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' '));
        assert!(parse("maser-sim run --scenario cold").is_ok());
        assert!(parse("maser-sim run --scenario cold --wander 1e-9").is_err());
        assert!(parse("maser-sim run --scenario nonsense").is_err());
        assert!(parse("maser-sim run --wander 0").is_err());
    }
}
