//! Memory that the kernel reads and writes while we hold it: mappings of its rings, and the frames.
//!
//! All of it is mapped rather than allocated: pages that the kernel still uses when the port is gone aren't used for
//! anything else.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// Octets of a frame's chunk: the smallest that the kernel has. The kernel keeps 256 of them in front of a packet, room
/// for the metadata; what is left takes any packet that isn't a jumbo frame.
const CHUNK: u32 = 2048;

/// A mapping of this process's, page-aligned, zeroed or the kernel's.
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    /// New memory.
    pub(super) fn anonymous(length: usize) -> io::Result<Self> {
        Self::map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// What `socket` has at `offset`.
    pub(super) fn of(socket: BorrowedFd<'_>, length: usize, offset: libc::off_t) -> io::Result<Self> {
        Self::map(length, libc::MAP_SHARED, socket.as_raw_fd(), offset)
    }

    fn map(length: usize, flags: c_int, fd: c_int, offset: libc::off_t) -> io::Result<Self> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, flags | libc::MAP_POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this process.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// Where `count` values of `T` are from octet `offset` on.
    ///
    /// # Panics
    /// If they aren't aligned or don't fit.
    pub(super) fn place<T>(&self, offset: usize, count: usize) -> NonNull<T> {
        let end = count.checked_mul(size_of::<T>()).and_then(|octets| octets.checked_add(offset));
        assert!(end.is_some_and(|end| end <= self.length), "{count} at {offset} of {} octets", self.length);
        assert!(offset.is_multiple_of(align_of::<T>()), "{offset} isn't aligned");
        // SAFETY: `offset` is within the mapping, checked above.
        unsafe { self.start.add(offset) }.cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length; its owner, whom no borrow outlives, is gone.
        let unmapped = unsafe { libc::munmap(self.start.as_ptr().cast::<c_void>(), self.length) };
        debug_assert_eq!(unmapped, 0, "{}", io::Error::last_os_error());
    }
}

// SAFETY: the memory belongs to the value, whichever thread has that.
unsafe impl Send for Mapping {}

/// The frames that packets come in and leave from (the kernel's "UMEM"), each of [`CHUNK`] octets.
pub(super) struct Frames {
    memory: Mapping,
    count: u32,
}

impl Frames {
    pub(super) fn new(count: u32) -> io::Result<Self> {
        Ok(Self { memory: Mapping::anonymous(octets(count))?, count })
    }

    /// How many there are.
    #[inline]
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Octets of all.
    pub(super) const fn length(&self) -> u64 {
        octets(self.count) as u64
    }

    /// How the kernel is told of them, and if `with_requests` that a [`Request`] may stand in front of what is sent.
    pub(super) fn registration(&self, with_requests: bool) -> libc::xdp_umem_reg {
        let (flags, tx_metadata_len) =
            if with_requests { (libc::XDP_UMEM_TX_METADATA_LEN, Request::LENGTH_WORD) } else { (0, 0) };
        libc::xdp_umem_reg {
            addr: self.memory.start.as_ptr().expose_provenance() as u64,
            len: self.length(),
            chunk_size: CHUNK,
            headroom: 0,
            flags,
            tx_metadata_len,
        }
    }

    /// The `BEFORE` octets in front of an address of the kernel's, and the `length` from there on.
    ///
    /// # Panics
    /// If they aren't all in one frame.
    ///
    /// # Safety
    /// The kernel must not hold the frame, nor be given it while the borrow lasts.
    #[inline]
    pub(super) unsafe fn octets<const BEFORE: usize>(
        &mut self,
        address: u64,
        length: usize,
    ) -> (&mut [u8; BEFORE], &mut [u8]) {
        let start = usize::try_from(address).unwrap_or(usize::MAX);
        let within = start % CHUNK as usize;
        assert!(
            start < octets(self.count) && within >= BEFORE && within + length <= CHUNK as usize,
            "{length} octets at {address:#x} aren't in a frame"
        );
        let place = self.memory.place::<u8>(start - BEFORE, BEFORE + length);
        // SAFETY: in bounds, initialised since mappings are zeroed, and the caller upholds that nobody else touches it;
        // `&mut self` keeps this process from having two.
        let octets = unsafe { std::slice::from_raw_parts_mut(place.as_ptr(), BEFORE + length) };
        octets.split_first_chunk_mut().expect("BEFORE and more")
    }
}

/// What is asked of the driver for a frame that it sends, in the octets in front of it; and the answer, in their place
/// (`struct xsk_tx_metadata`: the flags, then for a stamp that was asked its nanoseconds).
pub(super) struct Request;

impl Request {
    /// Octets of the kernel's struct, of Linux 6.14: where it is shorter, the rest is left alone.
    pub(super) const LENGTH: usize = 24;
    const LENGTH_WORD: u32 = 24;
    const STAMP: std::ops::Range<usize> = 8..16;

    /// Asks for a stamp; none is there yet.
    pub(super) fn ask_for_stamp(octets: &mut [u8; Self::LENGTH]) {
        octets.fill(0);
        octets[..8].copy_from_slice(&u64::from(libc::XDP_TXMD_FLAGS_TIMESTAMP).to_ne_bytes());
    }

    /// The stamp that the driver wrote, if it did.
    pub(super) fn stamp_ns(octets: &[u8; Self::LENGTH]) -> Option<i64> {
        let stamp = octets[Self::STAMP].first_chunk().map(|stamp| i64::from_ne_bytes(*stamp));
        stamp.filter(|stamp| *stamp != 0)
    }
}

/// Octets of so many frames.
const fn octets(frames: u32) -> usize {
    frames as usize * CHUNK as usize
}

/// Which frame an address is in.
pub(super) fn frame_of(address: u64) -> u32 {
    u32::try_from(address / u64::from(CHUNK)).unwrap_or(u32::MAX)
}

/// Where a frame begins.
pub(super) fn start_of(frame: u32) -> u64 {
    u64::from(frame) * u64::from(CHUNK)
}
