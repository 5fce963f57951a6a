//! The rings that are shared with the kernel: each has one side that writes entries and one that takes them.
//!
//! Two words that count for ever, modulo 2³², say how much was written and how much was taken; their difference is what
//! waits, and an entry's place is its number modulo the ring's size. Each side writes its own word only:
//!
//! | step | order | pairs with |
//! |---|---|---|
//! | the writer's word is stored | release | the taker's load: it sees the entries that the word counts |
//! | the writer's word is loaded | acquire | the store above |
//! | the taker's word is stored | release | the writer's load: it overwrites no entry that is still being read |
//! | the taker's word is loaded | acquire | the store above |
//!
//! (Linux, `net/xdp/xsk_queue.h`, orders its side the same way.)

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::memory::Mapping;

/// A ring in memory.
struct Ring<T> {
    entries: NonNull<T>,
    producer: NonNull<u32>,
    consumer: NonNull<u32>,
    flags: NonNull<u32>,
    /// A power of two.
    size: u32,
    _memory: Mapping,
    _entries: PhantomData<T>,
}

// SAFETY: the pointers lead into the mapping that the value owns; nothing of it belongs to a thread.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    /// The ring of `size` entries that `memory` holds at the kernel's `offsets`.
    fn new(memory: Mapping, offsets: &libc::xdp_ring_offset, size: u32) -> Self {
        assert!(size.is_power_of_two());
        let offset = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        Self {
            entries: memory.place(offset(offsets.desc), size as usize),
            producer: memory.place(offset(offsets.producer), 1),
            consumer: memory.place(offset(offsets.consumer), 1),
            flags: memory.place(offset(offsets.flags), 1),
            size,
            _memory: memory,
            _entries: PhantomData,
        }
    }

    /// A word that both sides may access.
    #[inline]
    fn word(&self, word: NonNull<u32>) -> &AtomicU32 {
        // SAFETY: `new` took the word from the mapping, aligned, which lives as long as `self`; this process accesses it
        // only through here, and the kernel with single loads and stores.
        unsafe { AtomicU32::from_ptr(word.as_ptr()) }
    }

    /// Where entry `number` is.
    #[inline]
    fn entry(&self, number: u32) -> NonNull<T> {
        // SAFETY: `new` checked that `size` entries are in the mapping, and the mask keeps the place below that.
        unsafe { self.entries.add((number & (self.size - 1)) as usize) }
    }
}

/// A ring that this process writes and the kernel takes from: addresses to fill, packets to send.
pub(super) struct Written<T> {
    ring: Ring<T>,
    /// Entries written so far.
    written: u32,
    /// Those of them that the kernel knows of.
    published: u32,
    /// Entries taken, when it was last looked.
    taken: u32,
}

impl<T: Copy> Written<T> {
    pub(super) fn new(memory: Mapping, offsets: &libc::xdp_ring_offset, size: u32) -> Self {
        let ring = Ring::new(memory, offsets, size);
        let written = ring.word(ring.producer).load(Ordering::Relaxed);
        let taken = ring.word(ring.consumer).load(Ordering::Acquire);
        Self { ring, written, published: written, taken }
    }

    /// Writes an entry; the kernel doesn't see it yet.
    ///
    /// # Panics
    /// If there is no room: each ring has room for all frames there are.
    #[inline]
    pub(super) fn push(&mut self, entry: T) {
        if self.written.wrapping_sub(self.taken) == self.ring.size {
            self.taken = self.ring.word(self.ring.consumer).load(Ordering::Acquire);
            assert!(
                self.written.wrapping_sub(self.taken) < self.ring.size,
                "a ring with room for all frames is full"
            );
        }
        let place = self.ring.entry(self.written);
        // SAFETY: the place is in the ring and not among those that the kernel may read: it is neither published nor,
        // by the check above, still to be taken.
        unsafe { place.write(entry) };
        self.written = self.written.wrapping_add(1);
    }

    /// Shows the kernel what was written. Without anything new the word's cache line is left alone.
    #[inline]
    pub(super) fn publish(&mut self) {
        if self.published != self.written {
            self.published = self.written;
            self.ring.word(self.ring.producer).store(self.written, Ordering::Release);
        }
    }

    /// How many entries the kernel hasn't taken.
    #[inline]
    pub(super) fn waiting(&mut self) -> u32 {
        self.taken = self.ring.word(self.ring.consumer).load(Ordering::Acquire);
        self.written.wrapping_sub(self.taken)
    }

    /// What the kernel hasn't taken.
    pub(super) fn untaken(&mut self) -> impl Iterator<Item = T> {
        (0..self.waiting()).map(|step| {
            let place = self.ring.entry(self.taken.wrapping_add(step));
            // SAFETY: the place is in the ring, `push` wrote it before it counted it, and the kernel only reads it.
            unsafe { place.read() }
        })
    }

    /// Whether the kernel takes entries only when it is told that there are some.
    ///
    /// It may say so just after it was asked; what is missed then is seen when the port next looks.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.ring.word(self.ring.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// A ring that the kernel writes and this process takes from: packets that came, addresses that were sent from.
pub(super) struct Taken<T> {
    ring: Ring<T>,
    /// Entries taken so far.
    taken: u32,
    /// Those of them that the kernel knows of.
    released: u32,
    /// Entries written, when it was last looked.
    written: u32,
}

impl<T: Copy> Taken<T> {
    pub(super) fn new(memory: Mapping, offsets: &libc::xdp_ring_offset, size: u32) -> Self {
        let ring = Ring::new(memory, offsets, size);
        let taken = ring.word(ring.consumer).load(Ordering::Relaxed);
        Self { ring, taken, released: taken, written: taken }
    }

    /// The next entry. The kernel may write in its place after the next [`release`](Self::release).
    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.taken == self.written && self.waiting() == 0 {
            return None;
        }
        let place = self.ring.entry(self.taken);
        // SAFETY: the place is in the ring, initialised by the kernel, which wrote it before it counted it in the word
        // that `waiting` loaded, and writes there again only after `release`.
        let entry = unsafe { place.read() };
        self.taken = self.taken.wrapping_add(1);
        Some(entry)
    }

    /// Gives the places of what was taken back to the kernel. Without any the word's cache line is left alone.
    #[inline]
    pub(super) fn release(&mut self) {
        if self.released != self.taken {
            self.released = self.taken;
            self.ring.word(self.ring.consumer).store(self.taken, Ordering::Release);
        }
    }

    /// How many entries wait.
    #[inline]
    pub(super) fn waiting(&mut self) -> u32 {
        self.written = self.ring.word(self.ring.producer).load(Ordering::Acquire);
        self.written.wrapping_sub(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};
    use std::thread;

    const SIZE: u32 = 8;
    const OFFSETS: libc::xdp_ring_offset =
        libc::xdp_ring_offset { producer: 0, consumer: 64, flags: 128, desc: 192 };

    /// Both sides of a ring whose counts begin at `first`, in a file's memory as in the kernel's.
    fn ring(first: u32) -> (Written<u64>, Taken<u64>) {
        // SAFETY: the name is a string with its end.
        let file = unsafe { libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(file >= 0);
        // SAFETY: the descriptor is new, and nobody else knows it.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        nix::unistd::ftruncate(&file, 4096).unwrap();
        let mapping = || Mapping::of(file.as_fd(), 4096, 0).unwrap();
        let words = mapping();
        for offset in [OFFSETS.producer, OFFSETS.consumer] {
            // SAFETY: nobody else has the memory yet.
            unsafe { words.place::<u32>(offset.try_into().unwrap(), 1).write(first) };
        }
        (Written::new(mapping(), &OFFSETS, SIZE), Taken::new(mapping(), &OFFSETS, SIZE))
    }

    #[test]
    fn a_ring_goes_on_where_the_counts_begin_again() {
        let (mut written, mut taken) = ring(u32::MAX - 2 * SIZE - 3);
        for round in 0..6 {
            let entries = || (0..u64::from(SIZE)).map(|entry| round * 100 + entry);
            entries().for_each(|entry| written.push(entry));
            assert_eq!(
                (taken.pop(), written.waiting()),
                (None, SIZE),
                "nothing is seen before it is published"
            );
            written.publish();
            assert_eq!(taken.waiting(), SIZE);
            assert!(written.untaken().eq(entries()));
            assert!(entries().all(|entry| taken.pop() == Some(entry)));
            assert_eq!(
                (taken.pop(), written.waiting()),
                (None, SIZE),
                "no place is given back before the release"
            );
            taken.release();
            assert_eq!(written.waiting(), 0);
        }
        assert!(written.written < SIZE * 4, "the counts began again");
    }

    #[test]
    #[should_panic(expected = "a ring with room for all frames is full")]
    fn a_full_ring_is_noticed() {
        let (mut written, _taken) = ring(u32::MAX - 3);
        (0..=u64::from(SIZE)).for_each(|entry| written.push(entry));
    }

    #[test]
    fn two_threads_pass_entries_in_order() {
        const ENTRIES: u64 = 50_000;
        /// Where either side gives up.
        const TURNS_MAX: u32 = 2_000_000;
        let (mut written, mut taken) = ring(u32::MAX - 25_000);
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut next = 0;
                for _ in 0..TURNS_MAX {
                    while next < ENTRIES && written.waiting() < SIZE {
                        written.push(next);
                        next += 1;
                    }
                    written.publish();
                    if next == ENTRIES {
                        break;
                    }
                    thread::yield_now();
                }
            });
            let mut next = 0;
            for _ in 0..TURNS_MAX {
                while let Some(entry) = taken.pop() {
                    assert_eq!(entry, next);
                    next += 1;
                }
                taken.release();
                if next == ENTRIES {
                    return;
                }
                thread::yield_now();
            }
            panic!("{next} of {ENTRIES} entries came");
        });
    }
}
