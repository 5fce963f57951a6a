//! The maser daemon: wiring, no arithmetic.
//!
//! Two functions tell what it does: [`worker::Worker::batch`], the packet flow, and [`pulse::Pulse::beat`], the
//! pulse flow. The rest starts them, counts, and tells about them.

pub mod cli;
pub mod config;
pub mod count;
pub mod port;
pub mod pulse;
pub mod report;
pub mod start;
pub mod status;
pub mod worker;
