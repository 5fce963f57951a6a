//! How full the limiter's table is, as the status tells it.

use crate::status::{LimitStatus, PlacesStatus};
use crate::worker::Limits;
use maser_core::limit::{Census, Places};
use maser_sys::kernel_clock::{self, KernelClock};

/// As of now: words that workers write are read, and nobody waits.
pub(super) fn status(limits: &Limits) -> Option<LimitStatus> {
    let Census { addresses, prefixes } =
        Census::of(&limits.table, kernel_clock::read(KernelClock::Monotonic))?;
    Some(LimitStatus { addresses: places(&addresses), prefixes: places(&prefixes) })
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^32")]
fn places(places: &Places) -> PlacesStatus {
    let share = |some: u64| some as f64 / places.seen.max(1) as f64;
    let [taken, held, regular] = [places.taken, places.held, places.regular].map(share);
    PlacesStatus { places: places.all, taken, held, regular }
}
