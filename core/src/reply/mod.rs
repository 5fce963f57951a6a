//! The answer: decided from the request and the clock, written over the request, stamped last.

pub mod interleaved;
pub mod outstanding;
pub mod rewrite;

mod decide;
mod departure;
mod kiss;
mod median;
mod receive;

pub use decide::{Verdict, decide, transmit_after};
pub use departure::{Departure, Lateness};
pub use interleaved::{Pairs, may_interleave};
pub use kiss::{Kiss, may_be_kissed};
pub use outstanding::Outstanding;
pub use receive::ReceiveStamps;
pub use rewrite::{Prepared, Reply, ReplyMode, rewrite, stamp};
