//! What a worker tells the time by.

use maser_core::time::{ClockReading, Span, Ticks};
use maser_sys::clock;
use maser_sys::counter::Counter;

/// The clocks of the machine, as a worker reads them; a test's own clocks in a test.
pub trait Clocks {
    /// The counter.
    fn now(&self) -> Ticks;
    /// The counter and the kernel's clocks together.
    fn reading(&self) -> ClockReading;
    /// How long so many ticks last, as nearly as a calibration tells.
    fn span_of(&self, ticks: u32) -> Span;
}

impl Clocks for Counter {
    fn now(&self) -> Ticks {
        Counter::now(self)
    }
    fn reading(&self) -> ClockReading {
        clock::reading(self)
    }
    fn span_of(&self, ticks: u32) -> Span {
        self.nominal_rate().span_of(i64::from(ticks))
    }
}
