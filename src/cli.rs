//! The command line: what an operator types, parsed and explained.

mod clients;
mod doctor;
mod reload;
mod top;

pub use self::clients::ClientsArguments;
pub use self::doctor::DoctorArguments;
pub use self::reload::{ReloadArguments, ReloadError};
pub use self::top::TopArguments;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::access::{self, AccessError};
use crate::config::{self, Config, Idle, KEYS, LoadError, Overrides, PortChoice, Word, Workers};
use crate::hands::Hands;
use crate::status::{self, ClientError, Page, Surroundings};
use crate::top::TerminalError;

/// A stratum-1 NTP server for bare metal.
#[derive(Clone, Debug, Parser)]
#[command(name = "maser", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What maser can be told to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Answer NTP requests until told to stop
    ///
    /// Without a configuration it answers at `127.0.0.1:11123` and `[::1]:11123` from this machine's clock, which needs
    /// no privilege: replies are of stratum 4 while the kernel says that the clock is synchronised (as on a host that
    /// follows public servers) and of stratum 10 while it doesn't. What is given here overrides the configuration.
    /// SIGINT and SIGTERM stop it; at SIGHUP it reads the configuration again (see `maser reload`). Sockets that a service
    /// manager has opened for it (LISTEN_FDS) are used for the addresses that they are bound to.
    Serve(ServeArguments),
    /// Have a running server read its configuration again
    ///
    /// As SIGHUP does, and says what came of it. A second server is started beside the one that answers and takes over: no
    /// request is lost, the clock goes on, and clients keep what they have left of their limits. A configuration that is wrong
    /// in any way changes nothing. Counters begin anew. server.interface, server.nic_stamps, server.busy_poll, status.socket and
    /// clock.state take a restart, with server.interface limit.memory as well. The exit status is 0 if it was applied, 1 if
    /// it was refused, 2 if there is no server, or nothing was heard of it.
    Reload(ReloadArguments),
    /// Put back the settings of network interfaces that a killed server left changed
    ///
    /// `maser serve` puts them back itself, however it ends, and at its next start if it was killed. This is for a service
    /// manager to run after each end (ExecStopPost). There is mostly nothing to do, which is no error.
    Restore,
    /// Check a configuration and tell everything that is wrong with it
    ///
    /// Every problem is told as FILE:LINE:COLUMN: KEY: PROBLEM; expected WHAT, those of the files of prefixes that it names as
    /// well. When there is none, the configuration is printed with every fixed default written out (the cores are looked for by `maser serve`), and the exit status is 0.
    CheckConfig(CheckConfigArguments),
    /// Ask a running server how it is
    ///
    /// The exit status is 0 if it answered, whatever its state.
    Status(StatusArguments),
    /// Ask a running server about its sources of time
    ///
    /// A line each, marked as chronyc and ntpq do it (* followed, + averaged, - right and not used, x wrong, ? not to be used):
    /// the last eight polls in octal (reach), the times between and since its samples, its distance from the served clock
    /// (positive where the source is ahead), its jitter, its root distance, and whether it is followed or why it isn't. The
    /// exit status is 0 if the server answered.
    Sources(SourcesArguments),
    /// Ask a running server how its clock follows them
    ///
    /// The state and for how long, the offset (positive where the source is ahead of the served clock), the frequency of the
    /// counter, what the error bound is made of, what is known of leap seconds, and the last transitions with their reasons. The
    /// exit status is 0 if the server answered.
    Tracking(TrackingArguments),
    /// Ask a running server who asks it the most
    ///
    /// The heaviest addresses (of IPv6 /64 networks) and prefixes (/24 and /48): requests a second of the last minutes, and
    /// how many were served, limited, kissed and denied since each is counted. No name is looked up. The server counts so
    /// many of the heaviest one by one as its fixed memory holds, and says how far each figure may be off. The exit status
    /// is 0 if it answered.
    Clients(ClientsArguments),
    /// Watch a running server on a live screen
    ///
    /// What comes and what becomes of it, the clock's offset and its error bound over the last minutes, the sources, the
    /// workers, and who asks the most. The terminal needs 80 columns and 24 rows; more are used. Keys: q leaves, p pauses, ?
    /// explains. While no server answers it waits for one. There are no colours with NO_COLOR set.
    Top(TopArguments),
    /// Look at the machine, and say what to do about it, by benefit
    ///
    /// Sources and devices, other daemons, packet filters, the list of leap seconds, interfaces, and everything that
    /// tuning/ sets: a line of verdict each, why it matters, and the command to run. Nothing is changed. Run it as root,
    /// or much can't be seen. Each server that the configuration names is asked for the time, once or twice.
    /// docs/doctor.md has all checks. The exit status is 0 if nothing should be done, 1 if something should, 2 if
    /// something couldn't be looked at or the configuration is wrong.
    Doctor(DoctorArguments),
}

/// `maser serve`.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArguments {
    /// The configuration file (TOML; `maser check-config --keys` explains its keys)
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Answer at this address and port instead of the configured ones; may be given several times
    #[arg(long, short, value_name = "ADDRESS:PORT", value_parser = config::listen)]
    pub listen: Vec<SocketAddr>,
    /// How packets come in and go out; "auto" takes the best that there is, the others that or nothing
    #[arg(long, value_name = "PORT", value_parser = words::<PortChoice>())]
    pub port: Option<PortChoice>,
    /// Take requests from this network interface's driver (AF_XDP); may be given several times. Requests to the addresses
    /// of --listen only; the rest stays with the kernel
    #[arg(long, short, value_name = "DEV", value_parser = config::interface)]
    pub interface: Vec<String>,
    /// How many workers (4), or on which cores (0,2-5; a single one as 3-3)
    #[arg(long, short, value_name = "NUMBER|CORES")]
    pub workers: Option<Workers>,
    /// What a worker does when no packet waits: sleep, or look again at once, which takes its whole core
    #[arg(long, value_name = "IDLE", value_parser = words::<Idle>())]
    pub idle: Option<Idle>,
    /// Have the workers over interfaces' queues poll the drivers, which takes their cores whole, and put off interrupts
    #[arg(long)]
    pub busy_poll: bool,
    /// Answer an address (of IPv6 a /64) so often a second at most, or "off"; prefixes that may have less aren't limited then
    #[arg(long, value_name = "RATE", value_parser = config::limit_rate)]
    pub limit: Option<u32>,
    /// Where `maser status` may ask (a Unix socket)
    #[arg(long, value_name = "PATH")]
    pub status_socket: Option<PathBuf>,
    /// Give metrics to Prometheus and others over HTTP at this address and port (/metrics); may be given several times.
    /// Whoever reaches it may ask
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = config::listen)]
    pub metrics: Vec<SocketAddr>,
    /// Show the state and the rates live; a line every 10 s if the output isn't a terminal
    #[arg(long)]
    pub screen: bool,
}

/// `maser check-config`.
#[derive(Clone, Debug, Default, Args)]
pub struct CheckConfigArguments {
    /// The configuration file
    #[arg(value_name = "FILE", required_unless_present = "keys")]
    pub file: Option<PathBuf>,
    /// Explain every key of the configuration instead
    #[arg(long, conflicts_with = "file")]
    pub keys: bool,
}

/// `maser status`.
#[derive(Clone, Debug, Default, Args)]
pub struct StatusArguments {
    /// The server's own document, JSON, without interpretation
    #[arg(long, conflicts_with_all = ["all", "watch"])]
    pub json: bool,
    /// Show counters that are zero, too
    #[arg(long, short, conflicts_with = "watch")]
    pub all: bool,
    /// Go on once a second until interrupted, with rates; a line every 10 s if the output isn't a terminal
    #[arg(long, short)]
    pub watch: bool,
    /// The server's status socket, if it isn't at a usual place
    #[arg(long, value_name = "PATH")]
    pub status_socket: Option<PathBuf>,
}

/// `maser sources`.
#[derive(Clone, Debug, Default, Args)]
pub struct SourcesArguments {
    /// The `sources` of the server's own document, JSON, without interpretation
    #[arg(long, conflicts_with_all = ["all", "watch"])]
    pub json: bool,
    /// Show what each source's driver counted, too
    #[arg(long, short, conflicts_with = "watch")]
    pub all: bool,
    /// Go on once a second until interrupted; every 10 s if the output isn't a terminal
    #[arg(long, short)]
    pub watch: bool,
    /// The server's status socket, if it isn't at a usual place
    #[arg(long, value_name = "PATH")]
    pub status_socket: Option<PathBuf>,
}

/// `maser tracking`.
#[derive(Clone, Debug, Default, Args)]
pub struct TrackingArguments {
    /// The `tracking` of the server's own document, JSON, without interpretation
    #[arg(long, conflicts_with = "watch")]
    pub json: bool,
    /// Go on once a second until interrupted; every 10 s if the output isn't a terminal
    #[arg(long, short)]
    pub watch: bool,
    /// The server's status socket, if it isn't at a usual place
    #[arg(long, value_name = "PATH")]
    pub status_socket: Option<PathBuf>,
}

/// A parser for one of a few words, which clap lists in the help and in its messages.
fn words<W: Word + Send + Sync>() -> impl TypedValueParser<Value = W> {
    PossibleValuesParser::new(W::words())
        .map(|word| W::of_word(&word).expect("clap lets no other word through than those it was given"))
}

/// Why a command came to nothing; its text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// A file of prefixes that it names is wrong.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The command line doesn't fit the configuration.
    #[error(transparent)]
    Override(#[from] config::OverrideError),
    /// The server doesn't answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is nothing to draw on.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// An interface was named that isn't there.
    #[error("--interface {name}: no such interface here; there are: {there}")]
    NoInterface {
        /// What was named.
        name: String,
        /// What could have been.
        there: String,
    },
    /// The output can't be written.
    #[error("the output can't be written: {0}")]
    Output(io::Error),
}

impl ServeArguments {
    /// The text of the configuration file, if one is named.
    pub fn text(&self) -> Result<Option<String>, CliError> {
        Ok(self.config.as_deref().map(config::text).transpose()?)
    }

    /// The configuration that these arguments ask for: the file's, which has this text, or the one without a file, and
    /// what overrides it.
    pub fn configuration(&self, text: Option<&str>) -> Result<Config, CliError> {
        let config = match self.config.as_deref().zip(text) {
            Some((path, text)) => config::check(path, text)?,
            None => Config::default_run(),
        };
        let overrides = Overrides {
            listen: self.listen.clone(),
            port: self.port,
            interfaces: self.interface.clone(),
            workers: self.workers.clone(),
            idle: self.idle,
            busy_poll: self.busy_poll,
            limit: self.limit,
            status_socket: self.status_socket.clone(),
            metrics: self.metrics.clone(),
        };
        Ok(config.overridden(overrides)?)
    }
}

impl CheckConfigArguments {
    /// Checks the file, or explains the keys.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), CliError> {
        let text = match &self.file {
            Some(path) => {
                let config = config::load(path)?;
                // The lists that it names are a part of it.
                access::load(&config.access, &Hands::own())?;
                format!("# {} is in order and means:\n\n{config}", path.display())
            }
            None => KEYS.iter().map(|key| format!("{key}\n")).collect(),
        };
        print(out, &text)
    }
}

impl StatusArguments {
    /// Asks the server and shows what it says; `terminal_width` is none if `out` isn't a terminal.
    pub fn run(
        &self,
        surroundings: &Surroundings,
        out: &mut dyn Write,
        terminal_width: Option<usize>,
    ) -> Result<(), CliError> {
        let path = socket(self.status_socket.as_deref(), surroundings)?;
        if self.watch {
            return watch(Page::Status, &path, out, terminal_width);
        }
        let status = status::fetch(&path)?;
        let text = if self.json { json(&status)? } else { status::table(&status, self.all) };
        print(out, &text)
    }
}

impl SourcesArguments {
    /// Asks the server and shows its sources; `terminal_width` is none if `out` isn't a terminal.
    pub fn run(
        &self,
        surroundings: &Surroundings,
        out: &mut dyn Write,
        terminal_width: Option<usize>,
    ) -> Result<(), CliError> {
        let path = socket(self.status_socket.as_deref(), surroundings)?;
        if self.watch {
            return watch(Page::Sources, &path, out, terminal_width);
        }
        let status = status::fetch(&path)?;
        let text = if self.json { json(&status.sources)? } else { status::sources_table(&status, self.all) };
        print(out, &text)
    }
}

impl TrackingArguments {
    /// Asks the server and shows how its clock follows the sources; `terminal_width` is none if `out` isn't a terminal.
    pub fn run(
        &self,
        surroundings: &Surroundings,
        out: &mut dyn Write,
        terminal_width: Option<usize>,
    ) -> Result<(), CliError> {
        let path = socket(self.status_socket.as_deref(), surroundings)?;
        if self.watch {
            return watch(Page::Tracking, &path, out, terminal_width);
        }
        let status = status::fetch(&path)?;
        let text = if self.json { json(&status.tracking)? } else { status::tracking_table(&status) };
        print(out, &text)
    }
}

/// Where to ask: at the socket that is named, or else at a usual place.
fn socket(named: Option<&Path>, surroundings: &Surroundings) -> Result<PathBuf, ClientError> {
    named.map_or_else(|| status::find(surroundings), |path| Ok(path.to_owned()))
}

fn watch(
    page: Page,
    path: &Path,
    out: &mut dyn Write,
    terminal_width: Option<usize>,
) -> Result<(), CliError> {
    // A server that isn't there at all is told as by the other commands.
    let mut first = Some(status::fetch(path)?);
    let next = || first.take().map_or_else(|| status::fetch(path), Ok);
    // Nothing stops it but the reader, an interrupt, or a server that is gone.
    let never = AtomicBool::new(false);
    status::watch(page, next, out, terminal_width, &never).map_err(CliError::Output)
}

fn json(part: &impl Serialize) -> Result<String, CliError> {
    let document = serde_json::to_string(part).map_err(|error| CliError::Output(error.into()))?;
    Ok(document + "\n")
}

/// Writes everything; a reader that has seen enough (`| head`) is no error.
fn print(out: &mut dyn Write, text: &str) -> Result<(), CliError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
#[path = "cli/tests.rs"]
mod tests;
