//! Which port is used: the first rung that this machine offers, or the one that was asked for by name.

use crate::config::PortChoice;
use maser_sys::udp_socket::{OpenError, SocketOptions, UdpSocket};
use maser_sys::uring::{UringError, UringPort};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use thiserror::Error;

/// A packet port that can be stood on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rung {
    /// io_uring: multishot receives, batched sends.
    IoUring,
    /// `recvmmsg` and `sendmmsg`.
    Socket,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => PortChoice::IoUring.word(),
            Self::Socket => PortChoice::Socket.word(),
        })
    }
}

/// The rung in use and why.
#[derive(Clone, Debug)]
pub struct Footing {
    /// The rung.
    pub rung: Rung,
    /// Why it is this one, for the log and the status.
    pub why: String,
}

/// Why the port that was asked for can't be had.
#[derive(Debug, Error)]
pub enum LadderError {
    /// io_uring was asked for by name and is refused.
    #[error("port = \"io-uring\": {0}; with port = \"auto\" the server would use \"socket\" instead")]
    IoUring(UringError),
    /// Not even a socket on loopback could be opened to try it.
    #[error("no socket can be opened on loopback to try io_uring: {0}")]
    Loopback(OpenError),
}

/// Chooses the port. The order of `auto` is fixed and nothing is measured at start.
///
/// # Errors
/// When a port was asked for by name and this machine doesn't offer it.
pub fn choose(choice: PortChoice) -> Result<Footing, LadderError> {
    let footing = |rung, why: &str| Footing { rung, why: why.to_owned() };
    match choice {
        PortChoice::Socket => Ok(footing(Rung::Socket, "asked for by name")),
        PortChoice::IoUring => match try_io_uring()? {
            Ok(()) => Ok(footing(Rung::IoUring, "asked for by name")),
            Err(error) => Err(LadderError::IoUring(error)),
        },
        PortChoice::Auto => Ok(match try_io_uring()? {
            Ok(()) => footing(Rung::IoUring, "the first of the ladder that this machine offers"),
            Err(error) => Footing { rung: Rung::Socket, why: format!("one rung down: {error}") },
        }),
    }
}

/// Opens a small port on loopback with everything that a worker's will use, and closes it again.
fn try_io_uring() -> Result<Result<(), UringError>, LadderError> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let small = SocketOptions { receive_buffer: 1 << 14, send_buffer: 1 << 14, nic_stamps: false };
    let socket = UdpSocket::open(anywhere, small).map_err(LadderError::Loopback)?;
    Ok(UringPort::new(vec![socket], 1).map(drop))
}
