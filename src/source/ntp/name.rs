//! From a server's name to its addresses.
//!
//! The system's resolver may take half a minute and can't be interrupted, so it works elsewhere, and is left behind when it
//! takes too long or the driver is to end. Nothing is cached: whoever asks wants to know anew.

use crate::hands::found;
use crate::source::{STOP_LOOKED_AT, Teller};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

/// A lookup may take so many times [`STOP_LOOKED_AT`]: 30 s.
const WAITS_MAX: u32 = 150;
/// What a lookup tells is shorter.
const ANSWER_OCTETS_MAX: usize = 4_096;

/// The addresses of a name, at least one.
pub(super) fn resolve(host: &str, port: u16, teller: &Teller<'_>) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let mut finding = teller.hands().resolve(teller.source(), host, port)?;
    let text = read_to_end(&mut finding, teller)?;
    match found(&text)?.as_slice() {
        [] => Err(io::Error::other("no address was found")),
        addresses => Ok(addresses.to_vec()),
    }
}

fn read_to_end(finding: &mut File, teller: &Teller<'_>) -> io::Result<String> {
    let timeout = PollTimeout::try_from(STOP_LOOKED_AT).unwrap_or(PollTimeout::ZERO);
    let mut text = Vec::new();
    let mut part = [0; ANSWER_OCTETS_MAX];
    for _ in 0..WAITS_MAX {
        let mut waiting = [PollFd::new(finding.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, timeout) {
            Ok(0) | Err(Errno::EINTR) if teller.is_stopped() => break,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => match finding.read(&mut part)? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                length => text.extend_from_slice(part.get(..length).unwrap_or_default()),
            },
            Err(error) => return Err(error.into()),
        }
        if text.len() > ANSWER_OCTETS_MAX {
            break;
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no address was found in time"))
}
