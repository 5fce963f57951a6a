//! Which port is used: the first rung of the ladder that this machine offers, or the one that was asked for by name.
//!
//! An interface that is named stands on AF_XDP or, with `auto`, a step down where all others stand: on the port of the
//! kernel's own stack that [`choose`] finds. That one is there in any case, for what the XDP program passes up.

use crate::config::PortChoice;
use maser_sys::af_xdp::XskError;
use maser_sys::datagram::Wait;
use maser_sys::mmsg::MmsgPort;
use maser_sys::udp_socket::{OpenError, SocketOptions, UdpSocket};
use maser_sys::uring::{UringError, UringPort};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use thiserror::Error;

/// A packet port of the kernel's own stack that can be stood on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rung {
    /// `recvmmsg` and `sendmmsg`.
    Socket,
    /// io_uring: multishot receives, batched sends.
    IoUring,
}

/// The order of `auto` without interfaces, fixed, so that a machine doesn't change its port from one start to the next.
///
/// Where the core does nothing but serve, `make bench` can't tell the two apart; where a driver's thread shares the core,
/// io_uring answers more at its peak (README.md, "Figures"). Sockets come first all the same: they are fair among
/// addresses whatever their load, and immune to empty datagrams, each of which ends a ring's receive and which an attacker
/// can send; and less needs to be allowed for a socket. Whoever names `io-uring` gets it.
const ORDER: [Rung; 2] = [Rung::Socket, Rung::IoUring];

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

/// What an interface stands on that was named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InterfaceFooting {
    /// AF_XDP.
    AfXdp {
        /// The driver receives into the worker's own frames.
        zero_copy: bool,
        /// Why it doesn't.
        why_copied: Option<XskError>,
    },
    /// The port of the kernel's own stack.
    Stack {
        /// Why.
        why: String,
    },
}

/// Why a rung doesn't bear.
#[derive(Debug, Error)]
pub enum RungError {
    /// Not even a socket on loopback could be opened to try it.
    #[error("no socket can be opened on loopback to try it: {0}")]
    Loopback(#[from] OpenError),
    /// io_uring is refused.
    #[error(transparent)]
    IoUring(#[from] UringError),
    /// `recvmmsg` is refused.
    #[error("recvmmsg is refused: {0}; allow it in the container's or the service's system call filter")]
    Socket(io::Error),
}

/// Why no port can be had.
#[derive(Debug, Error)]
pub enum LadderError {
    /// The port that was asked for by name is refused.
    #[error("port = \"{rung}\": {error}; or use port = \"auto\", which takes what this machine offers")]
    Named {
        /// Which one.
        rung: Rung,
        /// Why.
        error: RungError,
    },
    /// All of them are.
    #[error("no packet port can be used here: {0}")]
    None(String),
}

/// Chooses the port of the kernel's own stack; nothing is measured at start.
///
/// # Errors
/// When this machine offers none, or not the one that was asked for by name.
pub fn choose(choice: PortChoice) -> Result<Footing, LadderError> {
    choose_with(choice, try_rung)
}

fn choose_with(
    choice: PortChoice,
    try_rung: impl Fn(Rung) -> Result<(), RungError>,
) -> Result<Footing, LadderError> {
    let named = match choice {
        // AF_XDP by name says nothing of what the program passes up.
        PortChoice::Auto | PortChoice::AfXdp => None,
        PortChoice::Socket => Some(Rung::Socket),
        PortChoice::IoUring => Some(Rung::IoUring),
    };
    if let Some(rung) = named {
        return match try_rung(rung) {
            Ok(()) => Ok(Footing { rung, why: "asked for by name".to_owned() }),
            Err(error) => Err(LadderError::Named { rung, error }),
        };
    }
    let mut refused = Vec::new();
    for rung in ORDER {
        match try_rung(rung) {
            Ok(()) if refused.is_empty() => {
                return Ok(Footing { rung, why: "the first rung of the ladder".to_owned() });
            }
            Ok(()) => return Ok(Footing { rung, why: format!("a step down: {}", refused.join("; ")) }),
            Err(error) => refused.push(format!("{rung}: {error}")),
        }
    }
    Err(LadderError::None(refused.join("; ")))
}

/// Opens a small port on loopback with everything that a worker's will use, and closes it again.
fn try_rung(rung: Rung) -> Result<(), RungError> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let small = SocketOptions { receive_buffer: 1 << 14, send_buffer: 1 << 14, ..SocketOptions::default() };
    let sockets = vec![UdpSocket::open(anywhere, small)?];
    match rung {
        Rung::IoUring => drop(UringPort::new(sockets, Vec::new(), 1)?),
        Rung::Socket => {
            MmsgPort::new(sockets, 1)
                .and_then(|mut port| port.receive(Wait::Poll))
                .map_err(RungError::Socket)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> RungError {
        RungError::IoUring(UringError::Forbidden)
    }

    #[test]
    fn auto_takes_the_first_rung_that_bears_and_says_what_was_refused() {
        let footing = choose_with(PortChoice::Auto, |_| Ok(())).unwrap();
        assert_eq!((footing.rung, footing.why.as_str()), (ORDER[0], "the first rung of the ladder"));
        let down =
            choose_with(PortChoice::Auto, |rung| if rung == ORDER[0] { Err(refused()) } else { Ok(()) })
                .unwrap();
        assert_eq!(down.rung, ORDER[1]);
        assert!(down.why.contains(&refused().to_string()), "{}", down.why);
        let none = choose_with(PortChoice::Auto, |_| Err(refused())).unwrap_err().to_string();
        assert!(none.contains("socket: ") && none.contains("io-uring: "), "{none}");
    }

    #[test]
    fn a_name_is_that_or_nothing() {
        assert_eq!(choose_with(PortChoice::IoUring, |_| Ok(())).unwrap().rung, Rung::IoUring);
        let error = choose_with(PortChoice::IoUring, |_| Err(refused())).unwrap_err().to_string();
        assert!(error.contains("io-uring") && error.contains("auto"), "{error}");
    }
}
