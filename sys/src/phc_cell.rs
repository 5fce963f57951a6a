//! The cell in which a thread that follows a NIC's clock leaves its [`PhcLine`], and those who have stamps in it find it.
//!
//! The latch is [`snapshot_cell`](crate::snapshot_cell)'s: one writer, many readers, no lock, no allocation and no system
//! call; a writer that stops in mid-update costs freshness only.

use crate::snapshot_cell::READ_TRIES;
use crate::snapshot_cell::latch::Latch;
#[cfg(loom)]
use loom::sync::Arc;
use maser_core::time::{PHC_LINE_WORDS, PhcLine};
#[cfg(not(loom))]
use std::sync::Arc;

/// A new cell that holds [`PhcLine::UNKNOWN`]: its one writer, and a reader to clone.
#[must_use]
pub fn phc_cell() -> (PhcWriter, PhcReader) {
    let latch = Arc::new(Latch::new(&PhcLine::UNKNOWN.to_words()));
    (PhcWriter { latch: Arc::clone(&latch) }, PhcReader { latch })
}

/// The only writer of a cell.
#[derive(Debug)]
pub struct PhcWriter {
    latch: Arc<Latch<PHC_LINE_WORDS>>,
}

impl PhcWriter {
    /// Replaces what readers find.
    pub fn publish(&mut self, line: &PhcLine) {
        self.latch.publish(&line.to_words());
    }
}

/// A reader of a cell.
#[derive(Clone, Debug)]
pub struct PhcReader {
    latch: Arc<Latch<PHC_LINE_WORDS>>,
}

impl PhcReader {
    /// The newest whole line; [`PhcLine::UNKNOWN`] if the writer moved during every one of [`READ_TRIES`] tries.
    #[must_use]
    #[inline]
    pub fn read(&self) -> PhcLine {
        self.latch.read(READ_TRIES).map_or(PhcLine::UNKNOWN, |whole| PhcLine::from_words(&whole.words))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use maser_core::time::Ticks;

    #[test]
    fn what_is_published_is_what_is_read() {
        let (mut writer, reader) = phc_cell();
        assert_eq!(reader.read(), PhcLine::UNKNOWN);
        for generation in 1..20 {
            let mut line = PhcLine::through(Ticks::from_bits(7), 5, 2_500, 1_000).unwrap();
            line.generation = generation;
            writer.publish(&line);
            assert_eq!(reader.clone().read(), line);
        }
    }
}
