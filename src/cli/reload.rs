//! `maser reload`: its arguments, and what it does.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use maser_sys::kernel_clock::{self, KernelClock};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;
use thiserror::Error;

use super::{CliError, print, socket};
use crate::status::{self, ClientError, LoadStatus, Surroundings};

/// A next server may take 30 s to start, the one before 10 to end.
const LIMIT: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// `maser reload`.
#[derive(Clone, Debug, Default, Args)]
pub struct ReloadArguments {
    /// The server's status socket, if it isn't at a usual place
    #[arg(long, value_name = "PATH")]
    pub status_socket: Option<PathBuf>,
}

/// Why it isn't known what became of it.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// No server answers.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It was started by somebody else.
    #[error("process {process} isn't this user's: {errno}; reload it as root, or as the user that runs it")]
    NotPermitted {
        /// The keeper.
        process: Pid,
        /// What the kernel says.
        errno: Errno,
    },
    /// Who answers is no keeper's server.
    #[error(
        "{0}: who answers there says nothing of its configuration, so that it can't be told to read it again"
    )]
    NoKeeper(PathBuf),
    /// It takes too long.
    #[error("nothing has come of it within {} s; its log says what it does", LIMIT.as_secs())]
    Unheard,
    /// The output can't be written.
    #[error(transparent)]
    Output(#[from] CliError),
}

impl ReloadArguments {
    /// The exit status when the configuration is refused.
    pub const REFUSED: u8 = 1;
    /// The exit status when there is nobody to reload, or nothing is heard of it.
    pub const UNKNOWN: u8 = 2;

    /// Has a running server read its configuration again, and tells what became of it.
    ///
    /// # Errors
    /// When that isn't known.
    pub fn run(
        &self,
        surroundings: &Surroundings,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<ExitCode, ReloadError> {
        let path = socket(self.status_socket.as_deref(), surroundings)?;
        if status::fetch(&path)?.configuration.is_none() {
            return Err(ReloadError::NoKeeper(path));
        }
        let keeper = keeper_at(&path).ok_or_else(|| ReloadError::NoKeeper(path.clone()))?;
        let asked_s = now().as_secs_f64();
        kill(keeper, Signal::SIGHUP).map_err(|errno| ReloadError::NotPermitted { process: keeper, errno })?;
        let load = outcome(&path, asked_s).ok_or(ReloadError::Unheard)?;
        let file = load.file.as_deref().unwrap_or("the configuration without a file");
        match load.refused {
            None => {
                print(out, &format!("{file}: applied\n"))?;
                Ok(ExitCode::SUCCESS)
            }
            Some(refused) => {
                print(err, &format!("{}\nmaser: refused: the server goes on as before\n", refused.why))?;
                Ok(ExitCode::from(Self::REFUSED))
            }
        }
    }
}

/// The process that made the socket at which the server answers: its keeper.
fn keeper_at(path: &Path) -> Option<Pid> {
    let connection = UnixStream::connect(path).ok()?;
    let keeper = getsockopt(&connection.as_fd(), sockopt::PeerCredentials).ok()?.pid();
    (keeper > 1).then(|| Pid::from_raw(keeper))
}

/// What became of a reading that began at this time of `CLOCK_MONOTONIC` or later; none if that isn't told in time.
fn outcome(path: &Path, asked_s: f64) -> Option<LoadStatus> {
    let limit = now() + LIMIT;
    while now() < limit {
        thread::sleep(ASK_EVERY);
        // While the servers change places nobody may answer for a moment.
        let load = status::fetch(path).ok().and_then(|status| status.configuration);
        if let Some(load) = load.filter(|load| load.began_s >= asked_s) {
            return Some(load);
        }
    }
    None
}

fn now() -> Duration {
    Duration::from_nanos(kernel_clock::read(KernelClock::Monotonic).unsigned_abs())
}
