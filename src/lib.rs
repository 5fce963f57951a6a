//! The maser daemon: wiring, no arithmetic.
//!
//! A few functions tell what it does: [`worker::Worker::batch`], the packet flow, and the pulse flow, which is
//! [`pulse::Pulse::beat`] where the machine's clock is the only source and [`pulse::disciplined::Disciplined::beat`]
//! otherwise. The rest starts them, counts, and tells about them.

// What tests of the whole and of a part share calls this crate by its name.
#[cfg(test)]
extern crate self as maser;

pub mod access;
pub mod cli;
pub mod clients;
pub mod config;
pub mod count;
pub mod doctor;
pub mod hands;
pub mod interface;
pub mod keeper;
pub mod leaps;
pub mod log;
pub mod metrics;
pub mod nics;
pub mod phc;
pub mod port;
pub mod pulse;
pub mod report;
pub mod sockets;
pub mod source;
pub mod splits;
pub mod start;
pub mod state;
pub mod state_writer;
pub mod status;
pub mod steer;
pub mod top;
pub mod worker;
