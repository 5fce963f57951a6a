//! The command line: what an operator types, parsed, checked and explained.

use crate::attack::collisions::Guess;
use crate::attack::floods::FloodKind;
use crate::clients::Prefix;
use crate::key::Key;
use crate::mix::MixName;
use crate::session::SenderName;
use crate::units::{self, Cores};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// A load generator for NTP servers that also measures the accuracy of their timestamps.
///
/// Requests leave by a schedule whether or not replies come, and latency counts from the scheduled moment. Rates may be
/// written 10k or 1.5M, times 500ms, 10s, 5m. Every run is bounded in rate and time, and Ctrl-C ends one with what was
/// measured until then.
#[derive(Clone, Debug, Parser)]
#[command(name = "maser-load", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What maser-load can be told to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Send at one rate
    #[command(visible_alias = "run")]
    Fixed(FixedArguments),
    /// Send at rising rates: a row each
    Ladder(LadderArguments),
    /// Search the highest rate that the server answers within a loss
    Knee(KneeArguments),
    /// Send at one rate for long: a row a second
    Soak(FixedArguments),
    /// Attack a server beside honest clients: what these get of it, and what the attackers
    Attack(AttackArguments),
    /// Show what changed between two runs, from their JSON files
    Compare(CompareArguments),
}

/// Whom, what and how.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The server: ADDRESS, ADDRESS:PORT or NAME; port 123 unless given
    pub target: String,
    /// Which way requests leave and replies are seen
    #[arg(long, value_enum, default_value = "udp")]
    pub sender: SenderName,
    /// What the requests are
    #[arg(long, value_enum, default_value = "ntpv4", hide_possible_values = false)]
    pub mix: MixName,
    /// The share of the clients that interleave (RFC 9769), whatever the mix: 50%; without a share all do
    ///
    /// Each names the last reply that it got, so that the server may tell when that one left. The table says how many replies
    /// that were asked to be interleaved are, and how early the transmit timestamps are of both kinds. A client that sends
    /// again before its reply has come gets basic replies. Servers know a conversation by its address: use --from.
    #[arg(
        long,
        value_name = "SHARE",
        num_args = 0..=1,
        require_equals = true,
        default_value = "0",
        default_missing_value = "100%",
        hide_default_value = true,
        value_parser = units::share
    )]
    pub interleaved: f64,
    /// How many clients to simulate [default: 16 ports; with --from 10000 addresses, or all that there are if fewer]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub clients: Option<u32>,
    /// The network whose addresses the clients have; the server must route its replies for them to this machine
    #[arg(long, value_name = "PREFIX")]
    pub from: Option<Prefix>,
    /// The cores to send from, a thread each, which spins: 1 or 0,2 or 4-7 [default: the last one]
    #[arg(long, value_name = "CORES", value_parser = units::cores)]
    pub cores: Option<Cores>,
    /// What replies must be: "echo" is for bare echo servers, whose replies are the requests
    #[arg(long, value_name = "WHAT", default_value = "ntp", value_parser = ["ntp", "echo"])]
    pub expect: String,
    /// The key of the mix "mac", as ID:TYPE:HEX; types are MD5, SHA1 and AES128
    #[arg(long, value_name = "KEY")]
    pub key: Option<Key>,
    /// How long a reply is waited for before its request counts as lost
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::time)]
    pub timeout: Duration,
    /// Measure the accuracy of the server's timestamps on up to this many requests a second; 0 doesn't
    ///
    /// Only true where both ends share a clock: on one machine, or two that are kept together far better than the errors
    /// that are looked for.
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = stamps)]
    pub stamps: f64,
    /// Make the same random choices again
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Send to an address that isn't private: only to a server that you operate
    #[arg(long)]
    pub i_operate_this_target: bool,
    /// Where results go.
    #[command(flatten)]
    pub output: Output,
}

/// Where results go.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Results")]
pub struct Output {
    /// Write the results as JSON to a file, or instead of the table to the standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// Write the latencies' percentiles in HdrHistogram's text format, in microseconds
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Draw rate against answers, latency and offset error
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Draw rate against answers on the terminal
    #[arg(long)]
    pub plot: bool,
    /// Print no progress and no table
    #[arg(long, short)]
    pub quiet: bool,
}

fn stamps(text: &str) -> Result<f64, String> {
    if text == "0" { Ok(0.0) } else { units::rate(text) }
}

/// `maser-load fixed` and `maser-load soak`.
#[derive(Clone, Debug, Args)]
pub struct FixedArguments {
    /// Whom, what and how.
    #[command(flatten)]
    pub common: Common,
    /// Requests a second
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = units::rate)]
    pub rate: f64,
    /// For how long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::time)]
    pub time: Duration,
    /// Send the next request only when the last was replied to: what other generators do, and what hides a server's
    /// stalls; to show the difference
    #[arg(long)]
    pub closed_loop: bool,
}

/// `maser-load ladder`.
#[derive(Clone, Debug, Args)]
pub struct LadderArguments {
    /// Whom, what and how.
    #[command(flatten)]
    pub common: Common,
    /// The rates, in this order: 10k,20k,50k [default: 1k, half as much more each, to 1M or until half is lost]
    #[arg(long, value_name = "RATES", value_delimiter = ',', value_parser = units::rate)]
    pub rates: Vec<f64>,
    /// For how long at each rate
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::time)]
    pub time: Duration,
}

/// `maser-load knee`.
#[derive(Clone, Debug, Args)]
pub struct KneeArguments {
    /// Whom, what and how.
    #[command(flatten)]
    pub common: Common,
    /// The losses that are looked for
    #[arg(long, value_name = "SHARES", value_delimiter = ',', default_value = "1%,0.1%", value_parser = units::share)]
    pub loss: Vec<f64>,
    /// Where to begin
    #[arg(long, value_name = "RATE", default_value = "10k", value_parser = units::rate)]
    pub rate_min: f64,
    /// Where to end
    #[arg(long, value_name = "RATE", default_value = "5M", value_parser = units::rate)]
    pub rate_max: f64,
    /// For how long at each rate
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::time)]
    pub time: Duration,
}

/// `maser-load attack`.
#[derive(Clone, Debug, Args)]
pub struct AttackArguments {
    /// The server: ADDRESS, ADDRESS:PORT or NAME; port 123 unless given
    pub target: String,
    /// What the flood is
    #[arg(long, value_enum, default_value = "spoofed")]
    pub flood: FloodKind,
    /// Requests a second of the flood
    #[arg(long, value_name = "RATE", default_value = "100k", value_parser = units::rate)]
    pub flood_rate: f64,
    /// The network whose addresses the flood has [default: 10.0.0.0/8 or fd00:1::/33]; of IPv6 each is of a /64 of its own
    #[arg(long, value_name = "PREFIX")]
    pub flood_from: Option<Prefix>,
    /// How many addresses the flood has [default: as the flood's kind says]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub flood_clients: Option<u32>,
    /// Honest clients, which ask in turn
    #[arg(long, value_name = "NUMBER", default_value = "2000", value_parser = clap::value_parser!(u32).range(1..))]
    pub regulars: u32,
    /// Requests a second of all honest clients together
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = units::rate)]
    pub rate: f64,
    /// The network whose addresses honest clients have [default: 198.18.0.0/15 or fd00:1:ffff::/48]
    #[arg(long, value_name = "PREFIX")]
    pub from: Option<Prefix>,
    /// Honest clients begin the warm-up with 8 requests each, 2 s apart if there are enough of them
    #[arg(long, requires = "warm_up")]
    pub iburst: bool,
    /// How long honest clients ask before anything is measured
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub warm_up: Option<Duration>,
    /// How long honest clients are measured alone [default: as --time]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub alone: Option<Duration>,
    /// How long they are measured beside the flood
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::time)]
    pub time: Duration,
    /// The key of the server's table, as the attacker guesses it for --flood collisions: 32 hexadecimal digits, k0 and then k1
    #[arg(long, value_name = "HEX", default_value = "00000000000000000000000000000000", value_parser = hash_key)]
    pub hash_key: [u64; 2],
    /// The sets that the server's table has for addresses, as the attacker guesses: as of one of 64 MiB
    #[arg(long, value_name = "NUMBER", default_value = "917504")]
    pub hash_sets: u32,
    /// Which way requests leave and replies are seen: live or udp. By udp each network must be this machine's, as of
    /// `ip route add local PREFIX dev lo`, and rates low
    #[arg(long, value_enum, default_value = "live")]
    pub sender: SenderName,
    /// The core to send from, by a thread that spins [default: the last one]
    #[arg(long, value_name = "CORE", value_parser = units::cores)]
    pub cores: Option<Cores>,
    /// How long a reply is waited for before its request counts as lost
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::time)]
    pub timeout: Duration,
    /// Make the same random choices again
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Send to an address that isn't private: only to a server that you operate
    #[arg(long)]
    pub i_operate_this_target: bool,
    /// Write the results as JSON to a file, or instead of the table to the standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// Print no table
    #[arg(long, short)]
    pub quiet: bool,
}

impl AttackArguments {
    /// What the attacker takes the server for.
    #[must_use]
    pub const fn guess(&self) -> Guess {
        Guess { key: self.hash_key, sets: self.hash_sets }
    }
}

fn hash_key(text: &str) -> Result<[u64; 2], String> {
    let wrong = || format!("\"{text}\" is no key; expected 32 hexadecimal digits");
    let (k0, k1) = text.split_at_checked(16).filter(|(_, k1)| k1.len() == 16).ok_or_else(wrong)?;
    let word = |digits| u64::from_str_radix(digits, 16).map_err(|_| wrong());
    Ok([word(k0)?, word(k1)?])
}

/// `maser-load compare`.
#[derive(Clone, Debug, Args)]
pub struct CompareArguments {
    /// The run before
    pub a: PathBuf,
    /// The run after
    pub b: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
