//! This program once more, as another part of itself, and how such a process ended.

use super::loaded::Loaded;
use maser_sys::handover::Channel;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, getpid, getppid};
use std::env;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

/// The variable that says which part a process has; "PART KEEPER'S-PROCESS-ID". A process without it is a keeper.
const PART: &str = "MASER_PART";

/// A server that isn't ready by then is killed. A start takes a second, and longer where a disk sleeps.
pub(super) const START_MAX: Duration = Duration::from_secs(30);

/// What a process does that the keeper started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Serves.
    Server,
    /// Looks a name up.
    Resolver,
}

impl Part {
    const fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Resolver => "resolver",
        }
    }

    /// What `ps` and `top` call it.
    const fn name(self) -> &'static CStr {
        match self {
            Self::Server => c"maser-server",
            Self::Resolver => c"maser-resolver",
        }
    }
}

/// This very program, whatever its path leads to by now.
pub(super) fn again(part: Part) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env(PART, format!("{} {}", part.word(), getpid())).env_remove("NOTIFY_SOCKET");
    command.arg0(env::args_os().next().unwrap_or_default());
    command
}

/// Which part this process has; none for the keeper itself. From here on it dies with its keeper.
///
/// # Errors
/// When the keeper has died already.
pub(super) fn part() -> io::Result<Option<Part>> {
    let Ok(text) = env::var(PART) else { return Ok(None) };
    let (word, keeper) = text.split_once(' ').unwrap_or_default();
    let part = [Part::Server, Part::Resolver].into_iter().find(|part| part.word() == word);
    let part = part.ok_or_else(|| io::Error::other(format!("{PART} is for maser's own use; unset it")))?;
    maser_sys::handover::close_inherited();
    // Its main thread would be called after /proc/self/exe.
    prctl::set_name(part.name())?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // After that, since a keeper that died before it told nobody.
    let keeper = keeper.parse().map(Pid::from_raw);
    if keeper == Ok(getppid()) { Ok(Some(part)) } else { Err(io::Error::other("the keeper has ended")) }
}

/// A server that runs, or that has ended and isn't waited for yet.
pub(super) struct Running {
    pub(super) process: Pid,
    /// What it was started with.
    pub(super) loaded: Rc<Loaded>,
    /// None once it has closed its end.
    pub(super) channel: Option<Channel>,
    pub(super) started: Duration,
    /// When it first answered requests.
    pub(super) ready: Option<Duration>,
    /// The keeper killed it, which has been told.
    pub(super) is_killed: bool,
}

impl Running {
    /// When it should have been ready.
    pub(super) fn start_limit(&self) -> Option<Duration> {
        (self.ready.is_none() && !self.is_killed).then(|| self.started + START_MAX)
    }

    pub(super) fn kill(&mut self) {
        self.is_killed = true;
        let _gone = kill(self.process, Signal::SIGKILL);
    }
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// By itself, with this status.
    Exit(i32),
    /// By this signal.
    Signal(Signal),
}

impl Ended {
    /// What the kernel says, if it is of an end.
    pub(super) fn of(status: WaitStatus) -> Option<(Pid, Self)> {
        match status {
            WaitStatus::Exited(process, code) => Some((process, Self::Exit(code))),
            WaitStatus::Signaled(process, signal, _) => Some((process, Self::Signal(signal))),
            WaitStatus::Stopped(..)
            | WaitStatus::PtraceEvent(..)
            | WaitStatus::PtraceSyscall(_)
            | WaitStatus::Continued(_)
            | WaitStatus::StillAlive => None,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "signal {}", signal.as_str()),
        }
    }
}
