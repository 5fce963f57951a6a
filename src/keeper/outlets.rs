//! The sockets at which the server tells about itself. They are the keeper's, so that they outlive servers: who asks while
//! one takes another's place waits, and a connection is refused by none.

use crate::config::Config;
use crate::status::{StatusSocket, Surroundings};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use tracing::{info, warn};

/// Connections that may wait until the server takes them.
const METRICS_BACKLOG: i32 = 16;

/// Where the status and the metrics are asked for.
#[derive(Default)]
pub(super) struct Outlets {
    status: Option<StatusSocket>,
    metrics: Vec<(SocketAddr, TcpListener)>,
}

/// Which descriptors come along, in this order.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Which {
    status: bool,
    metrics: usize,
}

/// The server's ends.
pub(super) struct Handed {
    /// Where the status is asked for; none if it isn't.
    pub(super) status: Option<UnixListener>,
    /// Where metrics are.
    pub(super) metrics: Vec<TcpListener>,
}

impl Outlets {
    /// As the configuration has them.
    pub(super) fn open(config: &Config) -> Result<Self, Box<dyn Error>> {
        let mut outlets = Self { status: status_socket(config.status.socket.clone())?, metrics: Vec::new() };
        outlets.extend(config)?;
        Ok(outlets)
    }

    /// Opens what another configuration needs besides, but for the status.
    ///
    /// # Errors
    /// What is in the way: nothing has been opened then.
    pub(super) fn extend(&mut self, config: &Config) -> Result<(), String> {
        let missing = config.metrics.listen.iter().filter(|address| self.metric(address).is_none());
        let open = |&address: &SocketAddr| match tcp_socket(address) {
            Ok(socket) => Ok((address, socket)),
            Err(error) => Err(refused(address, &error)),
        };
        let opened = missing.map(open).collect::<Result<Vec<_>, _>>()?;
        for (address, _) in &opened {
            info!("metrics at http://{address}/metrics");
        }
        self.metrics.extend(opened);
        Ok(())
    }

    /// Closes what this configuration doesn't need.
    pub(super) fn close_others(&mut self, config: &Config) {
        self.metrics.retain(|(address, _)| config.metrics.listen.contains(address));
    }

    /// What is handed to each server of this configuration.
    pub(super) fn which(&self, config: &Config) -> Which {
        Which { status: self.status.is_some(), metrics: config.metrics.listen.len() }
    }

    /// In the order of [`Which`].
    pub(super) fn descriptors(&self, config: &Config) -> impl Iterator<Item = BorrowedFd<'_>> {
        let metrics = config.metrics.listen.iter().filter_map(|address| self.metric(address));
        self.status.iter().map(StatusSocket::as_fd).chain(metrics.map(AsFd::as_fd))
    }

    fn metric(&self, address: &SocketAddr) -> Option<&TcpListener> {
        self.metrics.iter().find(|(listened, _)| listened == address).map(|(_, listener)| listener)
    }
}

impl Which {
    /// Takes them from what came.
    pub(super) fn take(self, mut next: impl FnMut() -> io::Result<OwnedFd>) -> io::Result<Handed> {
        let status = self.status.then(&mut next).transpose()?.map(UnixListener::from);
        let metrics = (0..self.metrics).map(|_| next().map(TcpListener::from));
        Ok(Handed { status, metrics: metrics.collect::<io::Result<_>>()? })
    }
}

/// Listens at an address, of IPv6 at none of IPv4 as well: as those where requests are answered.
fn tcp_socket(address: SocketAddr) -> nix::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // Connections of a keeper before this one may still be remembered.
    setsockopt(&socket, ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(METRICS_BACKLOG)?)?;
    Ok(TcpListener::from(socket))
}

fn refused(address: SocketAddr, error: &Errno) -> String {
    let advices = [
        (Errno::EADDRINUSE, "another program listens there; stop it, or use another port"),
        (Errno::EACCES, "ports below 1024 need CAP_NET_BIND_SERVICE; use another port"),
        (Errno::EADDRNOTAVAIL, "this machine has no such address; `ip address` lists those that it has"),
    ];
    let advice = advices.iter().find(|(cause, _)| cause == error);
    let advice = advice.map_or("use another address", |(_, advice)| advice);
    format!("metrics.listen (or --metrics) {address}: {error}: {advice}")
}

/// Where `maser status` asks. A socket that was asked for is a must; without the usual one the server serves all the same.
fn status_socket(asked_for: Option<PathBuf>) -> Result<Option<StatusSocket>, Box<dyn Error>> {
    let bind = |path: PathBuf| {
        StatusSocket::bind(&path)
            .inspect(|_| info!("status at {}", path.display()))
            .map_err(Box::<dyn Error>::from)
    };
    if let Some(path) = asked_for {
        return bind(path).map(Some);
    }
    match Surroundings::of_process().own().map_err(Box::<dyn Error>::from).and_then(bind) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) => {
            warn!("no status: {error}");
            Ok(None)
        }
    }
}
