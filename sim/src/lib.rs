//! maser-sim: oscillators, receivers and networks, deterministic from a seed, around the clock's own code.
//!
//! ```text
//! oscillator → counter ┐
//! receiver, network ───┴→ observations → maser_core's clock → snapshots → judge (who knows the truth)
//! ```
//!
//! The clock sees nothing but readings of the counter and what sources say; the judge compares every snapshot with
//! true time, which only the simulator has.

pub mod allan;
pub mod cli;
pub mod grid;
pub mod judge;
pub mod kernel_clock;
pub mod leap;
pub mod network;
pub mod optimum;
pub mod oscillator;
pub mod parallel;
pub mod plot;
pub mod random;
pub mod receiver;
pub mod report;
pub mod run;
pub mod scenario;
pub mod sweep;
pub mod units;
pub mod world;

/// A count as a double; exact up to 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "counts of seconds and samples are far below 2^53")]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

/// A span of so many seconds.
#[expect(clippy::cast_possible_truncation, reason = "saturates, and no simulation is that long")]
pub(crate) fn span(seconds: f64) -> maser_core::time::Span {
    maser_core::time::Span::from_raw((seconds * 18_446_744_073_709_551_616.0) as i128)
}
