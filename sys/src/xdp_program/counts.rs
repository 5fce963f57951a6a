//! The program's counts, read where they lie.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use libbpf_rs::MapInfo;

use super::reasons::{REASONS, XdpReasons};
use crate::bpf::io_error;

/// The program's counts, mapped for reading: an array of `REASONS` words for each core.
#[derive(Debug)]
pub struct XdpCounts {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping is the process's, and its words are only ever read, each at once.
unsafe impl Send for XdpCounts {}
// SAFETY: as above; whoever holds a shared reference only reads words atomically.
unsafe impl Sync for XdpCounts {}

impl XdpCounts {
    /// Maps what [`counts_map`](super::XdpProgram::counts_map) gave, and closes it: the kernel never lets the mapping be
    /// written to, and the descriptor could be. (One that can only be read, `BPF_F_RDONLY`, can't be mapped: `EINVAL` in
    /// Linux 6.18.)
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for another map; else none that isn't the kernel's fault.
    pub fn from_fd(map: OwnedFd) -> io::Result<Self> {
        let info = MapInfo::new(map.as_fd()).map_err(io_error)?.info;
        if info.value_size as usize != REASONS * size_of::<u64>() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "this map has no counts of the XDP program's",
            ));
        }
        let words = info.max_entries as usize * REASONS;
        let length = words * size_of::<u64>();
        let flags = libc::MAP_SHARED;
        // SAFETY: a new mapping, wherever the kernel likes, that nothing else knows.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, flags, map.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // The mapping keeps the map.
        drop(map);
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, words })
    }

    /// What the program did so far, added up over the cores. No system call.
    #[must_use]
    pub fn read(&self) -> XdpReasons {
        // SAFETY: the mapping has so many words, begins on a page and lasts as long as `self`; the program writes them
        // whole.
        let words = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) };
        let mut sums = [0_u64; REASONS];
        for core in words.chunks_exact(REASONS) {
            for (sum, word) in sums.iter_mut().zip(core) {
                // Each word counts by itself: nothing else is known from it.
                *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
            }
        }
        XdpReasons(sums)
    }
}

impl Drop for XdpCounts {
    fn drop(&mut self) {
        let length = self.words * size_of::<u64>();
        // SAFETY: the mapping was made in `from_fd` with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), length) };
    }
}
