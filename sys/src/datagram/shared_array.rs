//! Memory that the kernel fills while we hold it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Types of which zeroed memory is a value.
///
/// # Safety
/// All octets zero must be a valid value of the type, and dropping it must do nothing.
pub(crate) unsafe trait Plain {}

/// The kernel's unit of registered memory; io_uring wants its buffer ring to begin on one.
const PAGE: usize = 4096;

/// An array that is never borrowed as a whole, since the kernel may write into some of its elements at any time.
///
/// Who holds which element is known to the port; here only the bounds are.
pub(crate) struct SharedArray<T: Plain> {
    start: NonNull<T>,
    length: usize,
}

impl<T: Plain> SharedArray<T> {
    const NOT_EMPTY: () = assert!(size_of::<T>() > 0);

    /// `length` zeroed elements, page-aligned.
    pub(crate) fn new(length: usize) -> Self {
        let () = Self::NOT_EMPTY;
        assert!(length > 0, "an array of nothing");
        let layout = Self::layout(length);
        // SAFETY: the layout's size isn't zero, asserted above for both factors.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start.cast()) else { handle_alloc_error(layout) };
        Self { start, length }
    }

    fn layout(length: usize) -> Layout {
        Layout::array::<T>(length)
            .and_then(|layout| layout.align_to(PAGE))
            .expect("a port's memory is bounded by BATCH_MAX")
    }

    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// Where element `index` is.
    pub(crate) fn pointer(&self, index: usize) -> *mut T {
        assert!(index < self.length, "element {index} of {}", self.length);
        // SAFETY: the index was checked against the length of the allocation.
        unsafe { self.start.as_ptr().add(index) }
    }

    /// Replaces element `index`; where it is, for the kernel.
    ///
    /// # Safety
    /// The kernel must not hold the element.
    pub(crate) unsafe fn put(&mut self, index: usize, value: T) -> *mut T {
        let element = self.pointer(index);
        // SAFETY: the pointer is in bounds, and the caller upholds that nobody else uses the element; what is
        // overwritten needs no drop (`Plain`).
        unsafe { element.write(value) };
        element
    }

    /// Element `index`.
    ///
    /// # Safety
    /// The kernel must not hold the element, nor be given it while the borrow lasts.
    pub(crate) unsafe fn get_mut(&mut self, index: usize) -> &mut T {
        let element = self.pointer(index);
        // SAFETY: the pointer is in bounds, zeroed memory is a `T` (`Plain`), and the caller upholds that nobody
        // else writes to it; `&mut self` keeps this process from having two.
        unsafe { &mut *element }
    }
}

impl<T: Plain> Drop for SharedArray<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout; the port has taken it back from the kernel, or leaks it.
        unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.length)) }
    }
}
