//! The command line: what an operator types, parsed and explained.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::config::{self, Config, Idle, KEYS, LoadError, Overrides, PortChoice, Word, Workers};
use crate::status::{self, ClientError, Page, Surroundings};

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
    /// SIGINT, SIGTERM and SIGHUP stop it (there is no reload yet).
    Serve(ServeArguments),
    /// Put back the settings of network interfaces that a killed server left changed
    ///
    /// `maser serve` puts them back itself, however it ends, and at its next start if it was killed. This is for a service
    /// manager to run after each end (ExecStopPost). There is mostly nothing to do, which is no error.
    Restore,
    /// Check a configuration and tell everything that is wrong with it
    ///
    /// Every problem is told as FILE:LINE:COLUMN: KEY: PROBLEM; expected WHAT. When there is none, the configuration is
    /// printed with every fixed default written out (the cores are looked for by `maser serve`), and the exit status is 0.
    CheckConfig(CheckConfigArguments),
    /// Ask a running server how it is
    ///
    /// The exit status is 0 if it answered, whatever its state.
    Status(StatusArguments),
    /// Ask a running server about its sources of time
    ///
    /// A line each: the last eight polls in octal (reach), the times between and since its samples, its distance from the
    /// served clock, its jitter, its root distance, and whether it is followed or why it isn't. The exit status is 0 if the
    /// server answered.
    Sources(SourcesArguments),
    /// Ask a running server how its clock follows them
    ///
    /// The state and for how long, the frequency of the counter, what the error bound is made of, what is known of leap
    /// seconds, and the last transitions with their reasons. The exit status is 0 if the server answered.
    Tracking(TrackingArguments),
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
    /// Where `maser status` may ask (a Unix socket)
    #[arg(long, value_name = "PATH")]
    pub status_socket: Option<PathBuf>,
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
    /// The command line doesn't fit the configuration.
    #[error(transparent)]
    Override(#[from] config::OverrideError),
    /// The server doesn't answer.
    #[error(transparent)]
    Client(#[from] ClientError),
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
            status_socket: self.status_socket.clone(),
        };
        Ok(config.overridden(overrides)?)
    }
}

impl CheckConfigArguments {
    /// Checks the file, or explains the keys.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), CliError> {
        let text = match &self.file {
            Some(path) => format!("# {} is in order and means:\n\n{}", path.display(), config::load(path)?),
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
mod tests {
    use super::*;
    use crate::config::Key;
    use crate::status::tests::{plausible, scratch};
    use crate::status::{SourceStatus, StatusServer, Tracking};
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
        Cli::try_parse_from([&["maser"], arguments].concat()).map(|cli| cli.command)
    }

    fn serve(arguments: &[&str]) -> ServeArguments {
        match parse(&[&["serve"], arguments].concat()).unwrap() {
            Command::Serve(arguments) => arguments,
            Command::Restore
            | Command::CheckConfig(_)
            | Command::Status(_)
            | Command::Sources(_)
            | Command::Tracking(_) => {
                panic!("not serve")
            }
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_arguments_it_serves_the_default_run() {
        assert_eq!(serve(&[]).configuration(None).unwrap(), Config::default_run());
    }

    #[test]
    fn every_argument_reaches_the_configuration() {
        let arguments = serve(&[
            "--listen",
            "127.0.0.1:1",
            "-l",
            "[::1]:2",
            "--port",
            "socket",
            "--workers",
            "0,2-3",
            "--idle",
            "spin",
            "--status-socket",
            "/s",
        ]);
        let config = arguments.configuration(None).unwrap();
        assert_eq!(config.server.listen.len(), 2);
        assert_eq!((config.server.port, config.server.idle), (PortChoice::Socket, Idle::Spin));
        assert_eq!(config.server.workers, Workers::Cores(vec![0, 2, 3]));
        assert_eq!(config.status.socket, Some("/s".into()));
        assert!(serve(&["--screen"]).screen);
    }

    #[test]
    fn interfaces_reach_the_configuration_and_go_with_their_port_only() {
        let server = |arguments: &[&str]| serve(arguments).configuration(None).map(|config| config.server);
        let told = |arguments: &[&str]| server(arguments).unwrap_err().to_string();
        let both = server(&["--port", "af-xdp", "-i", "eth0", "--interface", "ens1f0np0"]).unwrap();
        assert_eq!(
            (both.port, both.interfaces.as_slice()),
            (PortChoice::AfXdp, &["eth0".to_owned(), "ens1f0np0".to_owned()][..])
        );
        assert_eq!(server(&["--interface", "eth0"]).unwrap().port, PortChoice::Auto);
        let none = told(&["--port", "af-xdp"]);
        assert!(none.contains("no interface is named; name one with --interface DEV"), "{none}");
        for port in ["socket", "io-uring"] {
            let unused = told(&["--port", port, "--interface", "eth0"]);
            assert!(unused.contains(&format!("port = \"{port}\" doesn't use it; leave out")), "{unused}");
        }
        assert!(!both.busy_poll && server(&["-i", "eth0", "--busy-poll"]).unwrap().busy_poll);
        let nothing = told(&["--busy-poll"]);
        assert!(nothing.starts_with("busy polling is of an interface's driver"), "{nothing}");
        assert!(nothing.ends_with("or leave out --busy-poll"), "{nothing}");
        let twice = told(&["-i", "eth0", "-i", "eth0"]);
        assert_eq!(twice, "--interface eth0 is given twice; leave one out");
        let many: Vec<String> = (0..17).flat_map(|n| ["-i".to_owned(), format!("eth{n}")]).collect();
        let many = told(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(many.contains("17 times; 16 is the most"), "{many}");
        for (name, problem) in
            [("", "no name"), ("a/b", "slash"), ("..", "such a name"), ("sixteen-octets--", "15 octets")]
        {
            let error = parse(&["serve", "--interface", name]).unwrap_err().to_string();
            assert!(error.contains(problem), "{name}: {error}");
        }
    }

    #[test]
    fn a_wrong_argument_is_explained() {
        let told = |arguments: &[&str]| parse(arguments).unwrap_err().to_string();
        let port = told(&["serve", "--port", "io_uring"]);
        assert!(port.contains("[possible values: auto, af-xdp, io-uring, socket]"), "{port}");
        let listen = told(&["serve", "--listen", "localhost:123"]);
        assert!(listen.contains("a host name is not an address"), "{listen}");
        let workers = told(&["serve", "--workers", "0"]);
        assert!(workers.contains("must be from 1 to 256"), "{workers}");
        assert!(told(&["check-config"]).contains("<FILE>"));
        for command in ["status", "sources", "tracking"] {
            assert!(parse(&[command, "--json", "--watch"]).is_err());
        }
    }

    #[test]
    fn every_argument_is_explained() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_long_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
    }

    #[test]
    fn the_help_tells_the_strata_of_the_default_run() {
        let help = Cli::command().find_subcommand_mut("serve").unwrap().render_long_help().to_string();
        let config = Config::default_run();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            help.contains(&format!(
                "of stratum {} while the kernel says",
                config.sources[0].served_stratum().unwrap()
            )),
            "{help}"
        );
        assert!(help.contains(&format!("of stratum {} while it doesn't", config.local.unwrap())), "{help}");
        for address in config.server.listen {
            assert!(help.contains(&address.to_string()), "{help}");
        }
    }

    #[test]
    fn a_running_server_is_asked_for_what_each_command_shows() {
        let path = scratch("asked");
        let server = StatusServer::start(&path, plausible).unwrap();
        let asked = |arguments: &[&str]| {
            let socket = ["--status-socket", path.to_str().unwrap()];
            let (place, mut out) = (Surroundings::of_process(), Vec::new());
            match parse(&[arguments, &socket].concat()).unwrap() {
                Command::Status(arguments) => arguments.run(&place, &mut out, None),
                Command::Sources(arguments) => arguments.run(&place, &mut out, None),
                Command::Tracking(arguments) => arguments.run(&place, &mut out, None),
                Command::Serve(_) | Command::Restore | Command::CheckConfig(_) => panic!("they ask nobody"),
            }
            .unwrap();
            String::from_utf8(out).unwrap()
        };
        let told = plausible();
        assert_eq!(asked(&["status"]), status::table(&told, false));
        assert_eq!(asked(&["sources"]), status::sources_table(&told, false));
        assert_eq!(asked(&["sources", "--all"]), status::sources_table(&told, true));
        assert_eq!(asked(&["tracking"]), status::tracking_table(&told));
        let sources: Vec<SourceStatus> = serde_json::from_str(&asked(&["sources", "--json"])).unwrap();
        assert_eq!(sources, told.sources);
        let tracking: Tracking = serde_json::from_str(&asked(&["tracking", "--json"])).unwrap();
        assert_eq!(tracking, told.tracking);
        drop(server);
    }

    #[test]
    fn the_keys_are_told() {
        let mut out = Vec::new();
        CheckConfigArguments { file: None, keys: true }.run(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let told = |key: &&&Key| {
            let name = format!("{}.{}", key.section, key.name);
            text.lines().any(|line| line == name || line.starts_with(&format!("{name} (type ")))
        };
        assert_eq!(KEYS.iter().filter(told).count(), 47);
        assert!(text.contains("\nsource.baud (type nmea, ubx)\n    Takes one of 4800, "), "{text}");
    }
}
