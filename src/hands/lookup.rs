//! From a name to addresses, apart from whoever asks: the system's resolver may take half a minute, can't be interrupted
//! and parses what strangers send. What it finds goes through a pipe.

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::thread::Builder;

/// Of a name's addresses so many are told.
const ADDRESSES_MAX: usize = 16;

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

pub(crate) fn look_up(host: &str, port: u16, mut out: impl Write) -> io::Result<()> {
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
