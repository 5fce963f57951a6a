//! From a server's name to its addresses.
//!
//! The system's resolver may take half a minute and can't be interrupted, so it works in a thread of its own, which is
//! left behind when it takes too long or the driver is to end. Nothing is cached: whoever asks wants to know anew.

use crate::source::{STOP_LOOKED_AT, Teller};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;

/// A lookup may take so many times [`STOP_LOOKED_AT`]: 30 s.
const WAITS_MAX: u32 = 150;
/// Of a name's addresses so many are tried.
const ADDRESSES_MAX: usize = 16;

/// The addresses of a name, at least one.
pub(super) fn resolve(host: &str, port: u16, teller: &Teller<'_>) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let (found, finding) = channel();
    let name = host.to_owned();
    let lookup = move || {
        let addresses = (name.as_str(), port).to_socket_addrs();
        // Nobody listens any longer if it took too long.
        let _heard = found.send(addresses.map(|addresses| addresses.take(ADDRESSES_MAX).collect::<Vec<_>>()));
    };
    // The thread isn't waited for: it ends when the resolver gives up.
    let _lookup = Builder::new().name("lookup".into()).spawn(lookup)?;
    for _ in 0..WAITS_MAX {
        match finding.recv_timeout(STOP_LOOKED_AT) {
            Ok(Ok(addresses)) if addresses.is_empty() => break,
            Ok(found) => return found,
            Err(RecvTimeoutError::Timeout) if !teller.is_stopped() => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no address was found in time"))
}
