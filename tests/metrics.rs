//! The metrics as Prometheus meets them: over HTTP from a running server, beside its status, under load, and read by
//! Prometheus itself, which the dashboard's queries and the alerts are given to.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "metrics/figures.rs"]
mod figures;
#[path = "metrics/http.rs"]
mod http;
#[path = "metrics/load.rs"]
mod load;
#[allow(dead_code, reason = "of the daemon's tests only what starts a server is used here")]
#[path = "daemon/maser.rs"]
mod maser;
#[allow(dead_code, reason = "of the meter only its runs are used here")]
#[path = "meter/load.rs"]
mod meter;
#[allow(dead_code, reason = "of the peers only where their programs are is used here")]
mod peers;
#[path = "metrics/prometheus.rs"]
mod prometheus;
#[path = "metrics/queries.rs"]
mod queries;
#[path = "metrics/scrape.rs"]
mod scrape;
mod support;

use maser::{Server, Setting};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A request of version 0, which nobody answers.
pub(crate) const OF_VERSION_0: [u8; 48] = {
    let mut octets = [0; 48];
    octets[0] = 3;
    octets
};

/// A server that gives metrics, and where.
pub(crate) fn started(setting: impl FnOnce(Setting) -> Setting) -> (Server, SocketAddr) {
    let address = free_address();
    let server = setting(Setting::new()).with(&["--metrics", &address.to_string()]).start();
    (server, address)
}

/// An address where nobody listened a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it has an address")
}
