//! One NIC's clock, followed: read some times a second beside the counter, and found as a line.
//!
//! Used by the driver of a source (`source/phc.rs`) and by the thread that follows the clocks of NICs that stamp packets.

use maser_core::refclock::{PhcEvent, PhcFitter, PhcReading};
use maser_core::time::PhcLine;
use maser_sys::counter::Counter;
use maser_sys::phc::{CrossRead, Phc};
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
    jumps: u64,
}

impl PhcFollower {
    /// Of an open clock.
    #[must_use]
    pub fn new(phc: Phc, counter: Counter) -> Self {
        Self { phc, counter, fitter: PhcFitter::new(counter.nominal_rate()), jumps: 0 }
    }

    /// Reads the clock once, and finds where it is.
    ///
    /// # Errors
    /// When the device can't be read: its line is lost.
    pub fn look(&mut self) -> io::Result<Look> {
        let (reading, by) = self.phc.cross_read(&self.counter).inspect_err(|_| self.fitter.lose())?;
        let event = self.fitter.take(reading);
        if let Some(PhcEvent::Jumped { .. }) = event {
            self.jumps += 1;
        }
        Ok(Look { reading, by, event })
    }

    /// Where the clock is by the counter; not good for anything while that isn't known.
    #[must_use]
    pub fn line(&self) -> PhcLine {
        self.fitter.line()
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
}
