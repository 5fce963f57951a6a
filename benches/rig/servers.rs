//! The servers that are measured: one entry each in a table, with how it is started and what is measured of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::host::Server;
use crate::hosts::{GENERATOR, Hosts, Mode, SERVER};

/// A server of the table.
pub(crate) struct Entry {
    /// Its row in the table; also the key in the raw results.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) measured: Measured,
}

/// What is measured of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measured {
    /// Its highest rate, latency and accuracy.
    All,
    /// Its latency alone.
    Latency,
    /// Its highest rate alone.
    Peak,
}

/// How a server is started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The example `echo` of `maser-sys`, with its word; replies are echoes.
    Echo(&'static str),
    /// The example `xdp_echo`: one AF_XDP socket.
    XdpEcho(Mode),
    /// The example `reflect`, which turns requests round inside the driver: the limit of the rig. Its latency isn't the rig's:
    /// without a program on the generator's end a reply waits for the next socket buffer.
    Reflector,
    Chronyd,
    /// `maser serve` with a packet port and what it does when idle.
    Maser {
        port: &'static str,
        idle: &'static str,
    },
    /// `maser serve` with AF_XDP on the server's interface, in copy mode.
    MaserXdp {
        mode: Mode,
        idle: &'static str,
    },
}

/// In the order in which they take turns. Those without time, and chronyd, are what the others are compared with.
pub(crate) const SERVERS: &[Entry] = &[
    Entry { name: "XDP_TX reflector", kind: Kind::Reflector, measured: Measured::Peak },
    Entry { name: XDP_ECHO, kind: Kind::XdpEcho(Mode::Native), measured: Measured::All },
    Entry {
        name: AF_XDP,
        kind: Kind::MaserXdp { mode: Mode::Native, idle: "block" },
        measured: Measured::All,
    },
    Entry { name: XDP_ECHO_GENERIC, kind: Kind::XdpEcho(Mode::Generic), measured: Measured::Peak },
    Entry {
        name: "maser af-xdp, generic",
        kind: Kind::MaserXdp { mode: Mode::Generic, idle: "block" },
        measured: Measured::All,
    },
    Entry { name: CHRONYD, kind: Kind::Chronyd, measured: Measured::All },
    Entry { name: "bare echo", kind: Kind::Echo("plain"), measured: Measured::All },
    Entry { name: ECHO_WITH_STAMPS, kind: Kind::Echo("stamps"), measured: Measured::All },
    Entry {
        name: "maser socket",
        kind: Kind::Maser { port: "socket", idle: "block" },
        measured: Measured::All,
    },
    Entry {
        name: "maser io-uring",
        kind: Kind::Maser { port: "io-uring", idle: "block" },
        measured: Measured::All,
    },
    Entry {
        name: "maser socket, spinning",
        kind: Kind::Maser { port: "socket", idle: "spin" },
        measured: Measured::Latency,
    },
    Entry {
        name: "maser io-uring, spinning",
        kind: Kind::Maser { port: "io-uring", idle: "spin" },
        measured: Measured::Latency,
    },
    Entry {
        name: "maser af-xdp, spinning",
        kind: Kind::MaserXdp { mode: Mode::Native, idle: "spin" },
        measured: Measured::Latency,
    },
];

pub(crate) const XDP_ECHO: &str = "bare AF_XDP echo";
pub(crate) const XDP_ECHO_GENERIC: &str = "bare AF_XDP echo, generic";
pub(crate) const ECHO_WITH_STAMPS: &str = "bare echo, stamps";
pub(crate) const CHRONYD: &str = "chronyd";
pub(crate) const AF_XDP: &str = "maser af-xdp";

/// The cores of a server with one worker.
const ONE: &str = "0-0";
const STATUS_SOCKET: &str = "status.sock";
/// Replies are refused connections until a server is there.
const BOUND_TRIES_MAX: u32 = 500;
/// What a server does once after its start is over by then.
const SETTLE: Duration = Duration::from_millis(200);

/// Who is limited is what it costs here, and not who is: clients of a rig ask much more often than others.
const LIMIT: &str = "10000";

/// As maser serves without a configuration, but for the correction.
const UNCORRECTED: &str = "[server]\ntransmit_correction = false\n[[source]]\ntype = \"machine\"\nstratum = 1\n[local]\nstratum = 10\n";

/// Where the programs are.
pub(crate) struct Programs {
    maser: PathBuf,
    echo: PathBuf,
    chronyd: PathBuf,
    pub(crate) generator: PathBuf,
}

impl Programs {
    /// Finds all of them, or says which command makes them.
    pub(crate) fn find() -> Result<Self, String> {
        // The others are built into the same directory.
        let maser = PathBuf::from(env!("CARGO_BIN_EXE_maser"));
        let built = maser.parent().ok_or("maser is in no directory")?;
        let cache = std::env::var_os("MASER_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/maser")));
        let programs = Self {
            echo: built.join("examples/echo"),
            generator: built.join("maser-load"),
            chronyd: cache
                .ok_or("neither MASER_CACHE nor HOME is set")?
                .join("peers/chrony/usr/sbin/chronyd"),
            maser,
        };
        let examples = ["blast", "live_blast", "sink", "reflect", "xdp_echo"]
            .map(|name| programs.echo.with_file_name(name));
        let others = [&programs.maser, &programs.echo, &programs.chronyd, &programs.generator];
        for program in others.into_iter().chain(&examples) {
            if !program.exists() {
                return Err(format!(
                    "{} isn't there: `make bench` prepares and builds it",
                    program.display()
                ));
            }
        }
        Ok(programs)
    }

    /// An example of `maser-sys`.
    pub(crate) fn example(&self, name: &str) -> String {
        text(&self.echo.with_file_name(name))
    }

    /// `maser status` of the server that [`maser`] starts.
    pub(crate) fn status(&self, hosts: &Hosts) -> Vec<String> {
        let socket = text(&hosts.directory().join(STATUS_SOCKET));
        [&*text(&self.maser), "status", "--json", "--status-socket", &socket].map(str::to_owned).to_vec()
    }

    /// chronyd as a client that ends by itself and leaves the clock alone.
    pub(crate) fn chronyd_client(&self, configuration: &Path, seconds: u32) -> Vec<String> {
        let seconds = seconds.to_string();
        let (program, configuration) = (text(&self.chronyd), text(configuration));
        [&program, "-x", "-d", "-4", "-u", "root", "-t", &seconds, "-f", &configuration]
            .map(str::to_owned)
            .to_vec()
    }

    /// What `chronyd --version` says of itself.
    pub(crate) fn chronyd_version(&self) -> Result<String, String> {
        let said = crate::host::run(std::process::Command::new(&self.chronyd).arg("--version"))?;
        Ok(said.split_whitespace().nth(3).unwrap_or("of unknown version").to_owned())
    }
}

impl Entry {
    /// Replies are the requests, not NTP's.
    pub(crate) const fn is_echo(&self) -> bool {
        matches!(self.kind, Kind::Echo(_) | Kind::XdpEcho(_) | Kind::Reflector)
    }

    /// The bare echo that its peak is compared with: the one that takes requests the same way, if there is one.
    pub(crate) const fn echo(&self) -> Option<&'static str> {
        match self.kind {
            Kind::XdpEcho(Mode::Native) | Kind::MaserXdp { mode: Mode::Native, .. } => Some(XDP_ECHO),
            Kind::XdpEcho(Mode::Generic) | Kind::MaserXdp { mode: Mode::Generic, .. } => {
                Some(XDP_ECHO_GENERIC)
            }
            Kind::Echo(_) | Kind::Chronyd | Kind::Maser { .. } => Some(ECHO_WITH_STAMPS),
            Kind::Reflector => None,
        }
    }

    /// Its line is in the picture; the reflector's would leave the others no room.
    pub(crate) fn is_pictured(&self) -> bool {
        self.measured != Measured::Latency && self.kind != Kind::Reflector
    }

    /// Where its program takes requests from the interface.
    const fn mode(&self) -> Option<Mode> {
        match self.kind {
            Kind::XdpEcho(mode) | Kind::MaserXdp { mode, .. } => Some(mode),
            Kind::Reflector => Some(Mode::Native),
            Kind::Echo(_) | Kind::Chronyd | Kind::Maser { .. } => None,
        }
    }

    /// Starts it and waits until it answers.
    ///
    /// All listen at the same one address. chronyd is as its package ships it, the client log on, but that it has no
    /// command port and leaves the clock alone.
    pub(crate) fn start(&self, programs: &Programs, hosts: &Hosts) -> Result<Server, String> {
        self.start_correcting(programs, hosts, true)
    }

    /// The same with these lines: of chronyd behind its others, of maser in the place of its own settings.
    pub(crate) fn start_with(
        &self,
        programs: &Programs,
        hosts: &Hosts,
        lines: &str,
    ) -> Result<Server, String> {
        let mut command = self.command(programs, hosts)?;
        let path =
            hosts.directory().join(if self.kind == Kind::Chronyd { "chrony.conf" } else { "maser.toml" });
        let before = if self.kind == Kind::Chronyd {
            fs::read_to_string(&path).map_err(|error| error.to_string())?
        } else {
            command.retain(|word| word != "--limit" && word != LIMIT);
            command.extend(["--config".to_owned(), text(&path)]);
            String::new()
        };
        fs::write(&path, before + lines).map_err(|error| error.to_string())?;
        self.start_as(hosts, &command)
    }

    /// The same as [`start`](Self::start); maser with the correction of its transmit timestamps, which is as it comes, or without.
    pub(crate) fn start_correcting(
        &self,
        programs: &Programs,
        hosts: &Hosts,
        corrects: bool,
    ) -> Result<Server, String> {
        let mut command = self.command(programs, hosts)?;
        if !corrects {
            let configuration = hosts.directory().join("uncorrected.toml");
            fs::write(&configuration, UNCORRECTED).map_err(|error| error.to_string())?;
            command.extend(["--config".to_owned(), text(&configuration)]);
        }
        self.start_as(hosts, &command)
    }

    fn start_as(&self, hosts: &Hosts, command: &[String]) -> Result<Server, String> {
        hosts.allow_native(self.mode() != Some(Mode::Generic))?;
        let server = hosts.serve(&words(command))?;
        if self.kind == Kind::Chronyd {
            wait_until_bound(&server)?
        } else {
            server.wait_until_ready()?
        }
        thread::sleep(SETTLE);
        let mode = hosts.mode()?;
        if mode != self.mode() {
            return Err(format!(
                "its XDP program is {mode:?}, not {:?}; it said:\n{}",
                self.mode(),
                server.errors()
            ));
        }
        Ok(server)
    }

    fn command(&self, programs: &Programs, hosts: &Hosts) -> Result<Vec<String>, String> {
        let listen = format!("{SERVER}:123");
        let interface = &*hosts.server_interface;
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Ok(match self.kind {
            Kind::Echo(word) => own(&[&programs.example("echo"), word, &listen]),
            Kind::XdpEcho(mode) => own(&[&programs.example("xdp_echo"), mode.word(), interface, &listen]),
            Kind::Reflector => own(&[&programs.example("reflect"), interface, "123", GENERATOR]),
            Kind::Chronyd => chronyd(programs, hosts)?,
            Kind::Maser { port, idle } => maser(programs, hosts, ONE, &["--port", port, "--idle", idle]),
            Kind::MaserXdp { idle, .. } => maser_xdp(programs, hosts, ONE, idle),
        })
    }
}

fn chronyd(programs: &Programs, hosts: &Hosts) -> Result<Vec<String>, String> {
    let configuration = hosts.directory().join("chrony.conf");
    let pidfile = hosts.directory().join("chronyd.pid");
    let lines = format!(
        "local stratum 1\nallow\nport 123\nbindaddress {SERVER}\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
        text(&pidfile)
    );
    fs::write(&configuration, lines).map_err(|error| error.to_string())?;
    let options = ["-x", "-d", "-4", "-u", "root", "-f"].map(str::to_owned);
    Ok([vec![text(&programs.chronyd)], options.to_vec(), vec![text(&configuration)]].concat())
}

/// `maser serve` with AF_XDP on the server's interface and workers on these cores.
pub(crate) fn maser_xdp(programs: &Programs, hosts: &Hosts, cores: &str, idle: &str) -> Vec<String> {
    let way = ["--port", "af-xdp", "--interface", &hosts.server_interface, "--idle", idle];
    maser(programs, hosts, cores, &way)
}

fn maser(programs: &Programs, hosts: &Hosts, cores: &str, way: &[&str]) -> Vec<String> {
    let (program, listen) = (text(&programs.maser), format!("{SERVER}:123"));
    let socket = text(&hosts.directory().join(STATUS_SOCKET));
    let common = [
        &program,
        "serve",
        "--listen",
        &listen,
        "--workers",
        cores,
        "--status-socket",
        &socket,
        "--limit",
        LIMIT,
    ];
    [&common, way].concat().into_iter().map(str::to_owned).collect()
}

pub(crate) fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

/// Waits until a socket of the server's host has port 123; chronyd says nothing when it is ready.
fn wait_until_bound(server: &Server) -> Result<(), String> {
    for _ in 0..BOUND_TRIES_MAX {
        let sockets = fs::read_to_string(format!("/proc/{}/net/udp", server.id())).unwrap_or_default();
        if sockets.lines().any(|line| line.contains(":007B ")) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(format!("nothing listens at port 123; it said:\n{}", server.errors()))
}

pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
