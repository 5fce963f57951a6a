//! From a name to addresses, apart from whoever asks: the system's resolver may take half a minute, can't be interrupted
//! and parses what strangers send.
//!
//! The keeper starts a process for it that has no capability, is nobody's if the keeper is root's, and ends by itself. What is found goes through a pipe, from
//! which the server reads: the keeper never sees it.

use super::process;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, getppid, setgid, setgroups, setuid};
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::thread::Builder;

/// A lookup takes no longer, s: the process ends then.
const LIMIT_S: u32 = 30;
/// Of a name's addresses so many are told.
const ADDRESSES_MAX: usize = 16;

/// The user and the group that own nothing.
const NOBODY: u32 = 65_534;

/// What stands before the reason why nothing was found.
const FAILED: &str = "failed: ";

/// What the text says that came through the pipe: addresses, in their order, or why there are none.
///
/// # Errors
/// As the resolver put it.
pub fn found(text: &str) -> io::Result<Vec<SocketAddr>> {
    if let Some(why) = text.strip_prefix(FAILED) {
        return Err(io::Error::other(why.trim_end()));
    }
    Ok(text.lines().filter_map(|line| line.parse().ok()).take(ADDRESSES_MAX).collect())
}

fn look_up(host: &str, port: u16, mut out: impl Write) -> io::Result<()> {
    match (host, port).to_socket_addrs() {
        Ok(addresses) => {
            let lines: String = addresses.take(ADDRESSES_MAX).map(|address| format!("{address}\n")).collect();
            out.write_all(lines.as_bytes())
        }
        Err(error) => writeln!(out, "{FAILED}{error}"),
    }
}

/// Looks up in a thread of this process, which is left behind when nobody reads.
pub(super) fn in_thread(host: &str, port: u16) -> io::Result<OwnedFd> {
    let (found, out) = io::pipe()?;
    let host = host.to_owned();
    let _lookup = Builder::new().name("lookup".into()).spawn(move || look_up(&host, port, out))?;
    Ok(found.into())
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn what_is_written_is_read() {
        let found_of = |host: &str| {
            let mut text = String::new();
            File::from(in_thread(host, 123).unwrap()).read_to_string(&mut text).unwrap();
            found(&text)
        };
        assert!(found_of("localhost").unwrap().iter().all(|address| address.ip().is_loopback()));
        assert_eq!(found_of("fe80::1").unwrap(), ["[fe80::1]:123".parse().unwrap()]);
        assert!(!found_of("no such name").unwrap_err().to_string().is_empty());
        assert!(found("rubbish\n").unwrap().is_empty());
    }
}
