//! The clients, and what each prints once it has accepted a server.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use super::rig::{Output, Rig, deadline_after, end};

/// What one machine's clock may seem to differ from itself, as seen through the network: a few microseconds, some
/// milliseconds where the machine stalls. (`make accept` measures it.)
const OFFSET_SECONDS_MAX: f64 = 0.05;

/// Lines of a client's output that a failure report shows.
const REPORT_LINES_MAX: usize = 60;

pub(crate) struct Client {
    /// As `client.sh` knows it.
    pub(crate) name: &'static str,
    /// What must be there, below the cache; `setup.sh` makes it.
    program: &'static str,
    /// Whether a line of output is the client's own word that it accepts the server with the address.
    accepts: fn(line: &str, server: &str) -> bool,
}

pub(crate) const CLIENTS: [Client; 8] = [
    Client {
        name: "chronyd-once",
        program: "chrony/usr/sbin/chronyd",
        accepts: |line, _| number_after(line, "System clock wrong by ").is_some_and(is_small),
    },
    Client {
        name: "chronyd",
        program: "chrony/usr/bin/chronyc",
        accepts: |line, server| line.starts_with(&format!("^* {server} ")),
    },
    Client {
        name: "ntpdig",
        program: "ntpsec/usr/bin/ntpdig",
        accepts: |line, server| {
            line.ends_with(&format!(" {server} s10 no-leap"))
                && number_after(line, "(+0000) ").is_some_and(is_small)
        },
    },
    Client {
        name: "ntpsec",
        program: "ntpsec/usr/sbin/ntpd",
        accepts: |line, server| line.starts_with(&format!("*{server} ")),
    },
    Client {
        name: "openntpd",
        program: "openntpd/usr/sbin/ntpd",
        accepts: |line, server| line == format!("peer {server} now valid"),
    },
    Client {
        name: "timesyncd",
        program: "timesyncd/lib/systemd/systemd-timesyncd",
        accepts: |line, server| line.contains("Contacted time server ") && line.contains(server),
    },
    Client {
        name: "ntpd-rs",
        // Made after the client itself, which would end without it.
        program: "ntpd-rs/clock_shim.so",
        // It counts itself one stratum below the server that it follows, and above 15 when it follows none.
        accepts: |line, server| {
            line.contains(" Stratum: 11 ")
                && line.contains(server)
                && number_after(line, " Offset: ").is_some_and(is_small)
        },
    },
    Client {
        name: "ntplib",
        program: "ntplib/usr/lib/python3/dist-packages/ntplib.py",
        accepts: |line, server| line.starts_with(&format!("accepted versions 1 2 3 4 from {server},")),
    },
];

/// Not among the others: it is asked of servers that interleave.
pub(crate) const CHRONYD_XLEAVE: Client = Client {
    name: "chronyd-xleave",
    program: "chrony/usr/bin/chronyc",
    accepts: |line, server| {
        line.contains("Interleaved : Yes ")
            && number_after(line, "Total valid RX : ").is_some_and(|replies| replies >= REPLIES_MIN)
            && number_after(line, "Offset : ").is_some_and(is_small)
            && line.contains(&format!(" {server} "))
    },
};

/// So many replies have to be followed before the last is looked at: some seconds of asking.
const REPLIES_MIN: f64 = 20.0;

impl Client {
    /// Why this client can't run on this machine, if it can't.
    pub(crate) fn missing(&self) -> Option<String> {
        let program = cache().join(self.program);
        (!program.exists()).then(|| format!("no {}: run tests/peers/setup.sh", self.program))
    }

    /// Runs the client until it accepts the server and returns the line that says so; else, at its end or after `patience`,
    /// returns what it said instead.
    pub(crate) fn ask(&self, rig: &Rig, patience: Duration) -> Result<String, String> {
        let deadline = deadline_after(patience);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/client.sh");
        let cache = cache();
        let server = rig.server_address();
        let mut process = rig
            .on_client_host(&["sh", script, self.name, server, &cache.to_string_lossy()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let output = Output::of(&mut process);
        let mut said = Vec::new();
        let mut evidence = None;
        while let Some(line) = output.next_line(deadline) {
            if (self.accepts)(line.trim(), server) {
                evidence = Some(line.trim().to_owned());
                break;
            }
            said.push(line);
        }
        let clock = rig.check_clock_is_out_of_reach();
        end(&mut process);
        clock?;
        evidence.ok_or_else(|| said.split_off(said.len().saturating_sub(REPORT_LINES_MAX)).join("\n"))
    }
}

/// A program by its path below the cache.
pub(crate) fn program(path: &str) -> PathBuf {
    cache().join(path)
}

/// Where `setup.sh` puts the clients.
fn cache() -> PathBuf {
    let root = std::env::var_os("MASER_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/maser"),
        PathBuf::from,
    );
    root.join("peers")
}

fn is_small(offset_seconds: f64) -> bool {
    offset_seconds.abs() < OFFSET_SECONDS_MAX
}

/// The number that follows `label` in a line.
fn number_after(line: &str, label: &str) -> Option<f64> {
    let (_, rest) = line.split_once(label)?;
    rest.split_whitespace().next()?.parse().ok()
}
