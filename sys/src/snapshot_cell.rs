//! The cell in which the pulse flow leaves the [`Snapshot`] and the packet flow finds it.
//!
//! One writer, many readers, no lock, no allocation and no system call. It is a two-copy latch rather than a plain
//! seqlock: a writer that is preempted in mid-update would make every reader of a seqlock fail until it runs again
//! (measured: up to 14 % of the reads inside a driver did). Here it costs freshness only: readers go on with the whole old
//! copy. A reader that is lapped retries a bounded number of times and then says so; the caller answers as
//! unsynchronised ([`Snapshot::UNKNOWN`]) and counts it. This module must not judge what it carries.

pub(crate) mod latch;
#[cfg(all(test, loom))]
mod model;

/// The atomics, or the model checker's.
mod atomic {
    #[cfg(loom)]
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};
    #[cfg(not(loom))]
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}

use latch::Latch;
#[cfg(loom)]
use loom::sync::Arc;
use maser_core::snapshot::{Snapshot, WORDS};
#[cfg(not(loom))]
use std::sync::Arc;

/// How often a reader tries before it says [`Lapped`].
///
/// A try takes about 3 ns and fails only if the writer, which publishes about once a second, moved during it.
pub const READ_TRIES: u32 = 8;

/// The writer moved during every one of [`READ_TRIES`] tries: what was read can't be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lapped;

/// A whole snapshot, and what it took to read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    /// As it was published.
    pub snapshot: Snapshot,
    /// Tries that were spoilt by the writer before this one, for the caller to count.
    pub retries: u32,
}

/// A new cell that holds `initial`: its one writer, and a reader to clone.
#[must_use]
pub fn snapshot_cell(initial: &Snapshot) -> (Writer, Reader) {
    let latch = Arc::new(Latch::new(&initial.to_words()));
    (Writer { latch: Arc::clone(&latch) }, Reader { latch })
}

/// The only writer of a cell: it can't be cloned, and publishing takes it whole.
#[derive(Debug)]
pub struct Writer {
    latch: Arc<Latch<WORDS>>,
}

impl Writer {
    /// Replaces what readers find.
    pub fn publish(&mut self, snapshot: &Snapshot) {
        self.latch.publish(&snapshot.to_words());
    }
}

/// A reader of a cell.
#[derive(Clone, Debug)]
pub struct Reader {
    latch: Arc<Latch<WORDS>>,
}

impl Reader {
    /// The newest whole snapshot.
    ///
    /// # Errors
    /// When the writer moved during every one of [`READ_TRIES`] tries.
    // In the caller's own code, words that it doesn't use aren't decoded: 2 ns instead of 9 for one field.
    #[inline(always)]
    pub fn read(&self) -> Result<Read, Lapped> {
        let whole = self.latch.read(READ_TRIES).ok_or(Lapped)?;
        Ok(Read { snapshot: Snapshot::from_words(&whole.words), retries: whole.retries })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_is_read() {
        let (mut writer, reader) = snapshot_cell(&Snapshot::UNKNOWN);
        assert_eq!(reader.read(), Ok(Read { snapshot: Snapshot::UNKNOWN, retries: 0 }));
        for generation in 1..20 {
            let snapshot = Snapshot { generation, stratum: 1, ..Snapshot::UNKNOWN };
            writer.publish(&snapshot);
            assert_eq!(reader.clone().read(), Ok(Read { snapshot, retries: 0 }));
        }
    }
}
