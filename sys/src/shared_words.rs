//! Words in memory that others read and write at the same time: another process, or a BPF program.
//!
//! A mapping of a BPF map or of a file in memory. Each word is accessed at once and stands for itself; what is known from
//! several of them is said where they are used.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use libbpf_rs::{MapInfo, MapType};

use crate::bpf::io_error;

const WORD: usize = size_of::<u64>();

/// As many pages as a machine has at least.
const PAGE: usize = 4096;

/// Whether the words of a map may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The words, until this is dropped.
#[derive(Debug)]
pub(crate) struct SharedWords {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping is the process's, and its words are accessed atomically, whichever thread does.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Of a file in memory that has so many words and keeps them, all there. It is closed: the mapping keeps it.
    pub(crate) fn of_file(file: File, words: usize) -> io::Result<Self> {
        let this = Self::map(words, Access::Write, libc::MAP_SHARED, file.as_raw_fd())?;
        drop(file);
        // Fewer, larger pages, so that a look into it seldom waits for the page's place, too: a gain and no need, and the kernel's to
        // allow (`/sys/kernel/mm/transparent_hugepage/shmem_enabled`).
        let (start, octets) = (this.start.as_ptr().cast(), this.words * WORD);
        // SAFETY: advice on the mapping just made changes nothing that can be read from it.
        let _advised = unsafe { libc::madvise(start, octets, libc::MADV_HUGEPAGE) };
        // Has each page there, unchanged.
        for page in this.chunks(PAGE / WORD) {
            page[0].fetch_or(0, Ordering::Relaxed);
        }
        Ok(this)
    }

    /// Of a map (`BPF_MAP_TYPE_ARRAY`, mmapable) whose values have so many words; all of its entries. The descriptor is
    /// closed: the mapping keeps the map, and what is mapped for reading can't be written any more. (A descriptor that can
    /// only be read, `BPF_F_RDONLY`, can't be mapped: `EINVAL` in Linux 6.18.)
    pub(crate) fn of_map(map: OwnedFd, value_words: usize, access: Access) -> io::Result<Self> {
        let info = MapInfo::new(map.as_fd()).map_err(io_error)?;
        let is_array = matches!(info.map_type(), MapType::Array);
        if !is_array || info.info.value_size as usize != value_words * WORD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "this map isn't laid out as the XDP program's",
            ));
        }
        let words = info.info.max_entries as usize * value_words;
        let mapped = Self::map(words, access, libc::MAP_SHARED, map.as_raw_fd())?;
        // The mapping keeps the map.
        drop(map);
        Ok(mapped)
    }

    fn map(words: usize, access: Access, flags: c_int, fd: c_int) -> io::Result<Self> {
        let access = match access {
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: a new mapping, wherever the kernel likes, that nothing else of this process knows.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), words * WORD, access, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, words })
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has so many words, begins on a page and lasts as long as `self`; whoever else has it accesses
        // words whole.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, and nothing refers to it any more.
        let unmapped = unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * WORD) };
        debug_assert_eq!(unmapped, 0, "{}", io::Error::last_os_error());
    }
}
