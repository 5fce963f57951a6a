//! The ring in which the kernel leaves frames: `TPACKET_V2`, slots of one size, in order (Linux,
//! `Documentation/networking/packet_mmap.rst`).
//!
//! The first word of a slot says whose it is. The kernel hands a slot over by setting `TP_STATUS_USER` in it, we hand it
//! back by writing `TP_STATUS_KERNEL`, and each side touches the rest of it only while it has it.

use std::ffi::c_void;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::tpacket2_hdr;

/// Octets of a slot, with its header.
pub(super) const SLOT_LENGTH: usize = 2048;

/// Octets that the kernel allocates at a time.
const BLOCK_LENGTH_MAX: usize = 1 << 16;

/// A slot's header, as far as the kernel fills it, and the frame. The status is set apart, since the kernel writes it.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    pub(super) status: u32,
    pub(super) header: tpacket2_hdr,
    /// What was kept of the frame.
    pub(super) octets: &'a [u8],
}

pub(super) struct Ring {
    start: NonNull<u8>,
    slots: usize,
    /// The slot that the kernel fills next, or has filled.
    next: usize,
}

impl Ring {
    /// What to ask the kernel for: `slots` is a power of two, and at least two.
    pub(super) fn request(slots: usize) -> libc::tpacket_req {
        let number = |count: usize| u32::try_from(count).expect("bounded by RING_FRAMES_MAX");
        let block = (slots * SLOT_LENGTH).min(BLOCK_LENGTH_MAX);
        libc::tpacket_req {
            tp_block_size: number(block),
            tp_block_nr: number(slots * SLOT_LENGTH / block),
            tp_frame_size: number(SLOT_LENGTH),
            tp_frame_nr: number(slots),
        }
    }

    /// Maps the ring of `slots` slots that `socket` was given.
    pub(super) fn map(socket: BorrowedFd<'_>, slots: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let length = slots * SLOT_LENGTH;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this process.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, socket.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, slots, next: 0 })
    }

    /// Shows the next slot that the kernel has filled to `take` and hands it back; whether there was one.
    #[inline]
    pub(super) fn take_one(&mut self, take: impl FnOnce(Slot<'_>)) -> bool {
        // Slots fill blocks and blocks the mapping without gaps, since both sizes are powers of two.
        // SAFETY: `next` is below `slots`, so the slot is within the mapping.
        let slot = unsafe { self.start.add(self.next * SLOT_LENGTH) };
        let word = slot.as_ptr().wrapping_add(offset_of!(tpacket2_hdr, tp_status)).cast::<u32>();
        // SAFETY: the word is in the mapping, which lives as long as `self`, and is aligned, as slots are; this process
        // accesses it only through here, and the kernel with single stores and loads.
        let status_word = unsafe { AtomicU32::from_ptr(word) };
        // Pairs with the kernel's write barrier before its store of the status: what it wrote into the slot is seen.
        let status = status_word.load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return false;
        }
        // SAFETY: the slot begins with this header, aligned; it is ours until the status is written below.
        let header = unsafe { slot.cast::<tpacket2_hdr>().read() };
        // The kernel keeps these within the slot; a frame that wasn't would be no frame.
        let (offset, length) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        let (offset, length) = if offset + length <= SLOT_LENGTH { (offset, length) } else { (0, 0) };
        let start = slot.as_ptr().wrapping_add(offset);
        // SAFETY: checked to be within the slot, which is ours, initialised by the kernel, until the status is written
        // below, after the borrow's end.
        let octets = unsafe { std::slice::from_raw_parts(start, length) };
        // Handed back even if `take` panics, or the kernel and we would wait for each other.
        self.next = (self.next + 1) & (self.slots - 1);
        let hand_back = HandBack(status_word);
        take(Slot { status, header, octets });
        drop(hand_back);
        true
    }
}

struct HandBack<'a>(&'a AtomicU32);

impl Drop for HandBack<'_> {
    fn drop(&mut self) {
        // Pairs with the kernel's read barrier after its load of the status: it writes to the slot only after we have
        // read it.
        self.0.store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length; no borrow of it outlives `self`.
        let unmapped =
            unsafe { libc::munmap(self.start.as_ptr().cast::<c_void>(), self.slots * SLOT_LENGTH) };
        debug_assert_eq!(unmapped, 0, "{}", io::Error::last_os_error());
    }
}
