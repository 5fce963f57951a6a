//! An allocator that counts, for tests that the packet path allocates nothing.
//!
//! ```
//! use maser_sys::alloc_count::{CountingAllocator, allocations_in};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! assert_eq!(allocations_in(|| 2 + 2), (4, 0));
//! assert_eq!(allocations_in(|| vec![1, 2]).1, 1);
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, counting every allocation and every change of size; freeing isn't counted.
#[derive(Clone, Copy, Debug)]
pub struct CountingAllocator;

thread_local! {
    // Without a destructor and made at compile time, so that counting never allocates.
    static ON_THIS_THREAD: Cell<u64> = const { Cell::new(0) };
}

static ON_ALL_THREADS: AtomicU64 = AtomicU64::new(0);

fn count() {
    ON_THIS_THREAD.with(|allocations| allocations.set(allocations.get() + 1));
    // A statistic: nothing else is ordered by it.
    ON_ALL_THREADS.fetch_add(1, Ordering::Relaxed);
}

/// Allocations made by the calling thread so far. It stays 0 unless [`CountingAllocator`] is the global allocator.
#[must_use]
pub fn allocations_on_this_thread() -> u64 {
    ON_THIS_THREAD.with(Cell::get)
}

/// Allocations made by all threads so far.
#[must_use]
pub fn allocations_on_all_threads() -> u64 {
    ON_ALL_THREADS.load(Ordering::Relaxed)
}

/// Runs `work`, and counts what it allocates on this thread.
///
/// # Panics
/// When [`CountingAllocator`] isn't the global allocator: a count that can only be 0 would prove nothing.
pub fn allocations_in<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = allocations_on_this_thread();
    drop(black_box(Box::new(0_u8)));
    assert!(allocations_on_this_thread() > before, "CountingAllocator isn't the global allocator");
    let before = allocations_on_this_thread();
    let result = work();
    (result, allocations_on_this_thread() - before)
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`, which is the same; the block came from `System`.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same; the block came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}
