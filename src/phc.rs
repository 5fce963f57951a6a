//! One NIC's clock, followed: read some times a second beside the counter, found as a line, and left in a cell for those who
//! have stamps in it.
//!
//! Used by the driver of a source (`source/phc.rs`) and by the thread that follows the clocks of NICs that stamp packets.

use maser_core::refclock::{PhcEvent, PhcFitter, PhcReading};
use maser_core::time::PhcLine;
use maser_sys::counter::Counter;
use maser_sys::phc::{CrossRead, Phc};
use maser_sys::phc_cell::PhcWriter;
use std::io;
use std::time::Duration;

/// A clock is read so often.
pub const READ_EVERY: Duration = Duration::from_millis(125);

/// What a look at the clock brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// The clock and the counter.
    pub reading: PhcReading,
    /// How it was read.
    pub by: CrossRead,
    /// What it says of the clock, if that is news.
    pub event: Option<PhcEvent>,
}

/// Follows a clock. Whoever owns it has to [`look`](Self::look) every [`READ_EVERY`].
#[derive(Debug)]
pub struct PhcFollower {
    phc: Phc,
    counter: Counter,
    fitter: PhcFitter,
    cell: PhcWriter,
    jumps: u64,
}

impl PhcFollower {
    /// Of an open clock, whose line is left in `cell`.
    #[must_use]
    pub fn new(phc: Phc, counter: Counter, cell: PhcWriter) -> Self {
        Self { phc, counter, fitter: PhcFitter::new(counter.nominal_rate()), cell, jumps: 0 }
    }

    /// The device was opened again: it may be another, so its line has another generation.
    pub fn replace(&mut self, phc: Phc) {
        self.phc = phc;
        self.lose();
    }

    /// Reads the clock once, finds it and publishes where it is.
    ///
    /// # Errors
    /// When the device can't be read: its line is lost, and published as that.
    pub fn look(&mut self) -> io::Result<Look> {
        let (reading, by) = self.phc.cross_read(&self.counter).inspect_err(|_| self.lose())?;
        let event = self.fitter.take(reading);
        if let Some(PhcEvent::Jumped { .. }) = event {
            self.jumps += 1;
        }
        self.cell.publish(&self.fitter.line());
        Ok(Look { reading, by, event })
    }

    /// Where the clock is by the counter; not good for anything while that isn't known.
    #[must_use]
    pub fn line(&self) -> PhcLine {
        self.fitter.line()
    }

    /// Whether the clock stands still.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.fitter.is_stopped()
    }

    /// How often it has jumped.
    #[must_use]
    pub const fn jumps(&self) -> u64 {
        self.jumps
    }

    /// The device, to wait for what its pins bring.
    pub const fn device(&mut self) -> &mut Phc {
        &mut self.phc
    }

    fn lose(&mut self) {
        self.fitter.lose();
        self.cell.publish(&self.fitter.line());
    }
}
