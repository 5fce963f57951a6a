//! The program's counts, read where they lie.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use super::reasons::{REASONS, XdpReasons};
use crate::shared_words::{Access, SharedWords};

/// The program's counts, mapped for reading: an array of `REASONS` words for each core.
#[derive(Debug)]
pub struct XdpCounts(SharedWords);

impl XdpCounts {
    /// Maps what [`counts_map`](super::XdpProgram::counts_map) gave, and closes it: the kernel never lets the mapping be
    /// written to, and the descriptor could be.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for another map; else none that isn't the kernel's fault.
    pub fn from_fd(map: OwnedFd) -> io::Result<Self> {
        SharedWords::of_map(map, REASONS, Access::Read).map(Self)
    }

    /// What the program did so far, added up over the cores. No system call.
    #[must_use]
    pub fn read(&self) -> XdpReasons {
        let mut sums = [0_u64; REASONS];
        for core in self.0.chunks_exact(REASONS) {
            for (sum, word) in sums.iter_mut().zip(core) {
                // Each word counts by itself: nothing else is known from it.
                *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
            }
        }
        XdpReasons(sums)
    }
}
