//! Figures for monitoring systems: `GET /metrics` over HTTP, for Prometheus and whoever reads its formats.
//!
//! ```text
//! Status → figures() → families → text: OpenMetrics, or the older format → connection ← server: one thread
//!          clock, sources, packets, interfaces                             http: the head
//! ```
//!
//! All of it is made from the [`Status`] document, which is read as `maser status` reads it: no lock and no
//! turn of a worker. What stands in labels is named by the configuration or by this program, never by who asks for the
//! time, so that no number of clients makes more figures. `docs/metrics.md` lists all of them.

mod clock;
mod connection;
mod family;
mod http;
mod interfaces;
mod packets;
mod server;
mod sources;
mod text;

pub use family::{Families, Family, Kind, Sample, Value};
pub use server::MetricsServer;
pub use text::{Format, text};

use crate::status::Status;

/// Every family, those without a figure too; `started_unix_s` is when this process was ready.
#[must_use]
pub fn figures(status: &Status, started_unix_s: f64) -> Families {
    let mut families = Families::default();
    clock::gather(status, started_unix_s, &mut families);
    sources::gather(status, &mut families);
    packets::gather(status, &mut families);
    interfaces::gather(status, &mut families);
    families
}

#[cfg(test)]
mod tests;
