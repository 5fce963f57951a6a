//! What the operator asked for, checked: the file, the command line's changes to it, and nothing else.
//!
//! [`load`] reads a TOML file and either gives a [`Config`], plain data in which every value has been checked, or
//! **all** the file's problems, each as `file:line:column: key: problem; expected …`. Whether the machine can do what
//! is asked (cores, ports, privileges) is found out by those who do it; nothing here looks at the machine.

mod keys;
mod load;
mod parse;
mod report;
mod section;
mod value;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use thiserror::Error;

pub use keys::{Absent, KEYS, Key, SECTIONS};
pub use load::{CONFIG_OCTETS_MAX, LoadError, load};
pub use parse::parse;
pub use report::Problem;
pub use value::{
    BATCH_MAX, CORE_MAX, Idle, LISTEN_MAX, ListenError, PortChoice, RECEIVE_BUFFER_OCTETS,
    SOCKET_PATH_OCTETS_MAX, Stratum, WORKERS_AUTO_MAX, WORKERS_MAX, Word, Workers, WorkersError, listen,
};

/// Everything that can be configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// How requests are answered.
    pub server: Server,
    /// How the server tells about itself.
    pub status: Status,
    /// Where the time comes from.
    pub source: Source,
    /// The stratum of replies while no source is synchronised; none to say "unsynchronised".
    pub local: Option<Stratum>,
}

/// How requests are answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Where: at least one address, none twice, no port 0.
    pub listen: Vec<SocketAddr>,
    /// How packets come in and go out.
    pub port: PortChoice,
    /// By how many workers, on which cores.
    pub workers: Workers,
    /// What they do when no packet waits.
    pub idle: Idle,
    /// How many packets they take at once, at most [`BATCH_MAX`].
    pub batch: NonZeroUsize,
    /// What each socket may hold, within [`RECEIVE_BUFFER_OCTETS`].
    pub receive_buffer_octets: NonZeroU32,
}

/// How the server tells about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// The Unix socket; none for the one that [`crate::status::Surroundings`] suggest.
    pub socket: Option<PathBuf>,
}

/// Where the time comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The machine's own clock, kept by another daemon.
    Machine {
        /// The stratum of that daemon, 1 to 14, as the operator states it.
        stratum: Stratum,
        /// What replies name as their reference (RFC 5905 §7.3, for stratum 2 and above).
        reference_id: Ipv4Addr,
    },
}

impl Source {
    /// The reference id of a clock that names no server, as chrony sends it.
    pub const LOCAL_CLOCK: Ipv4Addr = Ipv4Addr::new(127, 127, 1, 1);

    /// The stratum of a reply while the source is synchronised: one above its own.
    #[must_use]
    pub fn served_stratum(&self) -> Stratum {
        match self {
            // 15 can't be exceeded: the source's own is at most 14.
            Self::Machine { stratum, .. } => stratum.above().unwrap_or(*stratum),
        }
    }
}

/// The defaults of the `[server]` section; they answer this machine only and need no privilege.
impl Default for Server {
    fn default() -> Self {
        const PORT: u16 = 11_123;
        const BATCH: NonZeroUsize = NonZeroUsize::new(64).expect("64 isn't 0");
        const RECEIVE_BUFFER_OCTETS: NonZeroU32 = NonZeroU32::new(4 << 20).expect("4 MiB isn't 0");
        Self {
            listen: vec![(Ipv4Addr::LOCALHOST, PORT).into(), (Ipv6Addr::LOCALHOST, PORT).into()],
            port: PortChoice::default(),
            workers: Workers::default(),
            idle: Idle::default(),
            batch: BATCH,
            receive_buffer_octets: RECEIVE_BUFFER_OCTETS,
        }
    }
}

impl Config {
    /// The stratum that is stated for the machine's clock when no file states one: what a host has that follows the
    /// public pool, whose servers are mostly of stratum 2.
    const MACHINE_STRATUM_UNSTATED: Stratum = Stratum::new(3).expect("3 is a stratum");
    /// Far above any server that has a source (chrony's and ntpd's choice too).
    const LOCAL_STRATUM_UNSTATED: Stratum = Stratum::new(10).expect("10 is a stratum");

    /// What `maser serve` does without a file: this machine's clock, on loopback, and still a time at stratum 10
    /// when nobody keeps the machine's clock.
    #[must_use]
    pub fn default_run() -> Self {
        Self {
            server: Server::default(),
            status: Status::default(),
            source: Source::Machine {
                stratum: Self::MACHINE_STRATUM_UNSTATED,
                reference_id: Source::LOCAL_CLOCK,
            },
            local: Some(Self::LOCAL_STRATUM_UNSTATED),
        }
    }

    /// With what the command line says instead.
    pub fn overridden(mut self, overrides: Overrides) -> Result<Self, OverrideError> {
        let Overrides { listen, port, workers, idle, status_socket } = overrides;
        if listen.len() > LISTEN_MAX {
            return Err(OverrideError::TooMany(listen.len()));
        }
        for (index, address) in listen.iter().enumerate() {
            if listen.iter().take(index).any(|earlier| earlier == address) {
                return Err(OverrideError::Twice(*address));
            }
        }
        if !listen.is_empty() {
            self.server.listen = listen;
        }
        self.server.port = port.unwrap_or(self.server.port);
        self.server.idle = idle.unwrap_or(self.server.idle);
        if let Some(workers) = workers {
            self.server.workers = workers;
        }
        self.status.socket = status_socket.or(self.status.socket);
        Ok(self)
    }
}

/// What the command line can say instead of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overrides {
    /// Where to answer; empty to leave it.
    pub listen: Vec<SocketAddr>,
    /// How packets come in and go out.
    pub port: Option<PortChoice>,
    /// How many workers, on which cores.
    pub workers: Option<Workers>,
    /// What they do when no packet waits.
    pub idle: Option<Idle>,
    /// Where the status is asked for.
    pub status_socket: Option<PathBuf>,
}

/// Why the command line can't be followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum OverrideError {
    /// An address is given twice.
    #[error("--listen {0} is given twice; leave one out")]
    Twice(SocketAddr),
    /// More than a server may have.
    #[error("--listen is given {0} times; {LISTEN_MAX} is the most")]
    TooMany(usize),
}

/// As a file that says the same, every key written out.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { listen, port, workers, idle, batch, receive_buffer_octets } = &self.server;
        let listen: Vec<String> = listen.iter().map(|address| format!("\"{address}\"")).collect();
        writeln!(f, "[server]\nlisten = [{}]\nport = \"{}\"", listen.join(", "), port.word())?;
        match workers {
            Workers::Auto => {}
            Workers::Count(number) => writeln!(f, "workers = {number}")?,
            Workers::Cores(cores) => writeln!(f, "workers = {cores:?}")?,
        }
        writeln!(f, "idle = \"{}\"\nbatch = {batch}\nreceive_buffer = {receive_buffer_octets}", idle.word())?;
        if let Some(socket) = &self.status.socket {
            // TOML writes its own escapes; a path of the file was UTF-8.
            writeln!(f, "\n[status]\nsocket = {}", toml::Value::from(socket.to_string_lossy().as_ref()))?;
        }
        match &self.source {
            Source::Machine { stratum, reference_id } => writeln!(
                f,
                "\n[[source]]\ntype = \"machine\"\nstratum = {stratum}\nreference_id = \"{reference_id}\""
            )?,
        }
        if let Some(stratum) = self.local {
            writeln!(f, "\n[local]\nstratum = {stratum}")?;
        }
        Ok(())
    }
}
