//! The `[metrics]` section: where figures are given to monitoring systems.

use std::net::SocketAddr;

use toml::de::DeTable;

use super::keys::metrics::LISTEN;
use super::report::Report;
use super::section::table;

/// The most addresses at which metrics may be asked for.
pub const METRICS_LISTEN_MAX: usize = 8;

/// Where figures are given to monitoring systems.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Metrics {
    /// The addresses, TCP: none twice, no port 0, at most [`METRICS_LISTEN_MAX`]; empty for nowhere.
    pub listen: Vec<SocketAddr>,
}

pub(super) fn read(document: &DeTable<'_>, report: &mut Report<'_>) -> Metrics {
    let field = table("metrics", document, report).and_then(|section| section.field(&LISTEN));
    let listen = field.and_then(|field| field.addresses(METRICS_LISTEN_MAX, report));
    Metrics { listen: listen.unwrap_or_default() }
}
