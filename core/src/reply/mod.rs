//! The answer: decided from the request and the clock, written over the request, stamped last.

pub mod rewrite;

mod decide;
mod departure;
mod receive;

pub use decide::{Verdict, decide, transmit_after};
pub use departure::Departure;
pub use receive::ReceiveStamps;
pub use rewrite::{Prepared, Reply, ReplyMode, rewrite, stamp};
