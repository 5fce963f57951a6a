//! The servers that are measured: one entry each in a table, with how it is started and what is measured of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::host::Server;
use crate::hosts::{Hosts, SERVER};

/// A server of the table.
pub(crate) struct Entry {
    /// Its row in the table; also the key in the raw results.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Its highest rate is looked for; without, only the latency is measured.
    pub(crate) peak: bool,
}

/// How a server is started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The example `echo` of `maser-sys`, with its word; replies are echoes.
    Echo(&'static str),
    Chronyd,
    /// `maser serve` with a packet port and what it does when idle.
    Maser {
        port: &'static str,
        idle: &'static str,
    },
}

/// In the order in which they take turns. The first two and chronyd are what the others are compared with.
pub(crate) const SERVERS: &[Entry] = &[
    Entry { name: "bare echo", kind: Kind::Echo("plain"), peak: true },
    Entry { name: ECHO_WITH_STAMPS, kind: Kind::Echo("stamps"), peak: true },
    Entry { name: CHRONYD, kind: Kind::Chronyd, peak: true },
    Entry { name: "maser socket", kind: Kind::Maser { port: "socket", idle: "block" }, peak: true },
    Entry { name: "maser io-uring", kind: Kind::Maser { port: "io-uring", idle: "block" }, peak: true },
    Entry { name: "maser socket, spinning", kind: Kind::Maser { port: "socket", idle: "spin" }, peak: false },
    Entry {
        name: "maser io-uring, spinning",
        kind: Kind::Maser { port: "io-uring", idle: "spin" },
        peak: false,
    },
];

pub(crate) const ECHO_WITH_STAMPS: &str = "bare echo, stamps";
pub(crate) const CHRONYD: &str = "chronyd";

/// Replies are refused connections until a server is there.
const BOUND_TRIES_MAX: u32 = 500;
/// What a server does once after its start is over by then.
const SETTLE: Duration = Duration::from_millis(200);

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
        let examples = ["blast", "live_blast", "sink"].map(|name| programs.echo.with_file_name(name));
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

    /// What `chronyd --version` says of itself.
    pub(crate) fn chronyd_version(&self) -> Result<String, String> {
        let said = crate::host::run(std::process::Command::new(&self.chronyd).arg("--version"))?;
        Ok(said.split_whitespace().nth(3).unwrap_or("of unknown version").to_owned())
    }
}

impl Entry {
    /// Replies are the requests, not NTP's.
    pub(crate) const fn is_echo(&self) -> bool {
        matches!(self.kind, Kind::Echo(_))
    }

    /// Starts it and waits until it answers.
    ///
    /// All listen at the same one address. chronyd is as its package ships it, the client log on, but that it has no
    /// command port and leaves the clock alone.
    pub(crate) fn start(&self, programs: &Programs, hosts: &Hosts) -> Result<Server, String> {
        let listen = format!("{SERVER}:123");
        let command: Vec<String> = match self.kind {
            Kind::Echo(word) => vec![text(&programs.echo), word.to_owned(), listen],
            Kind::Chronyd => {
                let configuration = hosts.directory().join("chrony.conf");
                let pidfile = hosts.directory().join("chronyd.pid");
                let lines = format!(
                    "local stratum 1\nallow\nport 123\nbindaddress {SERVER}\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
                    text(&pidfile)
                );
                fs::write(&configuration, lines).map_err(|error| error.to_string())?;
                let options = ["-x", "-d", "-4", "-u", "root", "-f"].map(str::to_owned);
                [vec![text(&programs.chronyd)], options.to_vec(), vec![text(&configuration)]].concat()
            }
            Kind::Maser { port, idle } => {
                let socket = text(&hosts.directory().join("status.sock"));
                let options =
                    ["--port", port, "--idle", idle, "--workers", "0-0", "--status-socket", &socket];
                let options = options.map(str::to_owned).to_vec();
                [vec![text(&programs.maser), "serve".to_owned(), "--listen".to_owned(), listen], options]
                    .concat()
            }
        };
        let server = hosts.serve(&command.iter().map(String::as_str).collect::<Vec<_>>())?;
        if self.kind == Kind::Chronyd {
            wait_until_bound(&server)?
        } else {
            server.wait_until_ready()?
        }
        thread::sleep(SETTLE);
        Ok(server)
    }
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

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
