//! A process that looks a name up: it has no capability, is nobody's if the keeper is root's, and ends by itself. What is
//! found goes through a pipe, from which the server reads: the keeper never sees it.

use super::process;
use crate::hands::lookup::look_up;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, getppid, setgid, setgroups, setuid};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

/// A lookup takes no longer, s: the process ends then.
const LIMIT_S: u32 = 30;

/// The user and the group that own nothing.
const NOBODY: u32 = 65_534;

/// Looks up in a process of its own, which the caller reaps.
pub(super) fn in_process(host: &str, port: u16) -> io::Result<(OwnedFd, Pid)> {
    let (found, out) = io::pipe()?;
    let mut command = process::again(process::Part::Resolver);
    command.args([host, &port.to_string()]).stdin(Stdio::null()).stdout(out);
    let process = Pid::from_raw(i32::try_from(command.spawn()?.id()).map_err(io::Error::other)?);
    Ok((found.into(), process))
}

/// Root without a capability still owns root's files.
fn become_nobody() -> io::Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    setgroups(&[])?;
    setgid(Gid::from_raw(NOBODY))?;
    Ok(setuid(Uid::from_raw(NOBODY))?)
}

/// The life of that process.
pub(super) fn run() -> io::Result<()> {
    let keeper = getppid();
    if let Err(error) = become_nobody() {
        // It may be a container's to forbid; the keeper's log is the place to say so, if anybody still reads it.
        let _unread = writeln!(io::stderr(), "maser: names are looked up as root: {error}");
    }
    maser_sys::privileges::drop_all_of_one_thread()?;
    // The kernel forgets this when a process changes its user.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != keeper {
        return Err(io::Error::other("the keeper has ended"));
    }
    nix::unistd::alarm::set(LIMIT_S);
    let mut arguments = std::env::args().skip(1);
    let (host, port) = (arguments.next(), arguments.next().and_then(|port| port.parse().ok()));
    match (host, port) {
        (Some(host), Some(port)) => look_up(&host, port, io::stdout()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
