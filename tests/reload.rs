//! A running server that is told to read its configuration again: what a good one changes and what it leaves, that a wrong one
//! changes nothing, and that nobody who asks meanwhile notices.
//!
//! | module | what it is |
//! |---|---|
//! | `applied` | keys that hold from then on, and what goes on as before |
//! | `refused` | configurations that are wrong, each in another way |
//! | `asked` | requests all the while, at a rate that `MASER_RELOAD_FULL=1` makes whole |
//! | `wired` | the same over the queues of an interface |
//! | `given` | sockets that a service manager has opened, and a terminal that goes |

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "reload/applied.rs"]
mod applied;
#[path = "reload/asked.rs"]
mod asked;
#[path = "reload/given.rs"]
mod given;
#[allow(dead_code, reason = "of the daemon's tests only what starts a server is used here")]
#[path = "daemon/maser.rs"]
mod maser;
#[allow(dead_code, reason = "of the meter only its runs are used here")]
#[path = "meter/load.rs"]
mod meter;
#[allow(dead_code, reason = "of the peers only what starts and ends processes is used here")]
mod peers;
#[path = "reload/refused.rs"]
mod refused;
mod support;
#[path = "keeper/wire.rs"]
#[allow(dead_code, reason = "shared with the keeper's tests")]
mod wire;
#[path = "reload/wired.rs"]
mod wired;

use maser::{Finished, Scratch, Server, Setting, finish, text};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A next server may take long to start on a machine that is busy.
pub(crate) const RELOAD_LIMIT: Duration = Duration::from_secs(60);

/// A source that is always there.
pub(crate) const MACHINE: &str = "[[source]]\ntype = \"machine\"\nstratum = 1\n[local]\nstratum = 10\n";

/// A server with a configuration that can be written anew.
pub(crate) struct Reloaded {
    pub(crate) server: Server,
    pub(crate) reloader: Reloader,
}

/// Who writes it anew, from any thread.
pub(crate) struct Reloader {
    pub(crate) file: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    port: u16,
    scratch: Scratch,
}

impl Reloaded {
    /// Starts it with this configuration, in which PORT is its port.
    pub(crate) fn start(setting: Setting, config: &str) -> Self {
        let reloader = Reloader {
            file: setting.scratch.path("maser.toml"),
            socket: setting.status_socket().to_owned(),
            log: setting.scratch.path("log"),
            port: setting.port,
            scratch: Scratch::new(),
        };
        reloader.write(config);
        let server = setting.with(&["--config", text(&reloader.file)]).start();
        Self { server, reloader }
    }

    /// What the status says of the configuration.
    pub(crate) fn load(&self) -> Value {
        self.server.status()["configuration"].clone()
    }
}

impl Reloader {
    fn write(&self, config: &str) {
        fs::write(&self.file, config.replace("PORT", &self.port.to_string())).unwrap();
    }

    /// `maser reload` once this is what the file says.
    pub(crate) fn reload(&self, config: &str) -> Finished {
        self.write(config);
        self.ask()
    }

    /// `maser reload`.
    pub(crate) fn ask(&self) -> Finished {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maser"));
        command.args(["reload", "--status-socket"]).arg(&self.socket);
        finish(command, &self.scratch, RELOAD_LIMIT)
    }

    /// Reloads, which must succeed.
    pub(crate) fn apply(&self, config: &str) {
        let Finished { code, output, errors } = self.reload(config);
        let log = || fs::read_to_string(&self.log).unwrap_or_default();
        assert_eq!(code, Some(0), "{output}{errors}; the log says:\n{}", log());
        assert!(output.ends_with(": applied\n"), "{output}");
    }
}

/// Requests a second, and for how many.
pub(crate) fn load() -> (&'static str, u32) {
    if std::env::var_os("MASER_RELOAD_FULL").is_some() { ("100k", 20) } else { ("20k", 4) }
}

/// The keeper's open descriptors.
pub(crate) fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.process_id())).unwrap().count()
}

/// A configuration of `[server]` lines, with this machine's clock.
pub(crate) fn serving(server: &str) -> String {
    format!("[server]\nlisten = [\"127.0.0.1:PORT\"]\n{server}\n[limit]\nrate = 0\n{MACHINE}")
}
