//! The memory of the limiter's table, one for the whole machine: one that servers hand on ([`memory`]), or the one that the XDP
//! programs look into, too ([`SharedMaps`](crate::xdp_program::SharedMaps)). What its words mean is `core`'s to say.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::shared_words::{Access, SharedWords};

/// Words of a set: a cache line.
pub const SET_WORDS: usize = 8;

/// Octets of a set.
pub const SET_OCTETS: u64 = 64;

/// New memory for a table, to be shared with other processes: all 0, and of this length for ever.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for less than a set; no descriptor left.
pub fn memory(octets: u64) -> io::Result<OwnedFd> {
    let octets = u64::from(sets(octets)?) * SET_OCTETS;
    let file =
        File::from(memfd_create(c"maser-limits", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.set_len(octets)?;
    // Nobody who has it can make those fail who look into it.
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// The table's words, all 0 at first; begins on a page. A clone is the same memory.
#[derive(Clone, Debug)]
pub struct SharedTable(Arc<SharedWords>);

impl SharedTable {
    /// Of what [`memory`] gave, with what is in it. Closes it: the mapping keeps it. All of it is there when this returns.
    ///
    /// # Errors
    /// No memory.
    pub fn of_memory(memory: OwnedFd) -> io::Result<Self> {
        let file = File::from(memory);
        let words = sets(file.metadata()?.len())? as usize * SET_WORDS;
        SharedWords::of_file(file, words).map(|words| Self(Arc::new(words)))
    }

    /// Of what [`SharedMaps::table_map`](crate::xdp_program::SharedMaps::table_map) gave, with what is in it. Closes it: the
    /// mapping keeps it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for another map; else none that isn't the kernel's fault.
    pub fn from_fd(map: OwnedFd) -> io::Result<Self> {
        SharedWords::of_map(map, SET_WORDS, Access::Write).map(|words| Self(Arc::new(words)))
    }
}

impl Deref for SharedTable {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        &self.0
    }
}

/// Whole sets of so many octets, if a map can have so many.
pub(crate) fn sets(octets: u64) -> io::Result<u32> {
    let sets = u32::try_from(octets / SET_OCTETS).ok().filter(|sets| *sets > 0);
    sets.ok_or_else(|| {
        let message = format!("{octets} octets are no limiter's table: it takes {SET_OCTETS} to 256 GiB");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn it_is_as_large_as_asked_for_and_begins_on_a_line() {
        for (octets, words) in [(64, 8), (127, 8), (128, 16), (1 << 20, 1 << 17), ((1 << 20) + 63, 1 << 17)] {
            let table = SharedTable::of_memory(memory(octets).unwrap()).unwrap();
            assert_eq!(table.len(), words);
            assert!(table.as_ptr().addr().is_multiple_of(64));
            assert!(table.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        }
        for none in [0, 63, u64::MAX] {
            assert_eq!(memory(none).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows no memfd")]
    fn memory_is_shared_by_who_maps_it_and_keeps_its_length() {
        let shared = memory((1 << 16) + 63).unwrap();
        let first = SharedTable::of_memory(shared.try_clone().unwrap()).unwrap();
        assert_eq!((first.len(), first[8191].load(Ordering::Relaxed)), (1 << 13, 0));
        first[8191].store(7, Ordering::Relaxed);
        let second = SharedTable::of_memory(shared.try_clone().unwrap()).unwrap();
        assert_eq!(second[8191].load(Ordering::Relaxed), 7, "mapping it again changes nothing");
        second[0].store(9, Ordering::Relaxed);
        assert_eq!(first[0].load(Ordering::Relaxed), 9);
        let file = File::from(shared);
        assert!(file.set_len(0).is_err() && file.set_len(1 << 20).is_err(), "sealed");
    }

    #[test]
    fn a_clone_is_the_same_memory_and_outlives_the_first() {
        let table = SharedTable::of_memory(memory(4096).unwrap()).unwrap();
        let clone = table.clone();
        table[511].store(7, Ordering::Relaxed);
        drop(table);
        assert_eq!(clone[511].load(Ordering::Relaxed), 7);
    }
}
