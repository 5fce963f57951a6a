//! The memory that the kernel works on: datagrams, the ring that offers them to it, and the headers of replies.

use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use libc::{iovec, msghdr};

use crate::datagram::{
    CONTROL_LENGTH, Filled, NAME_LENGTH, NAME_ROOM, Plain, ReplyControl, SharedArray, Slot, empty_message,
};

/// What a reply is sent with; it stays where it is until the send has completed.
pub(super) struct Reply {
    message: msghdr,
    vector: iovec,
    control: ReplyControl,
}

// SAFETY: zeroed, it is null pointers, zero lengths and no control message.
unsafe impl Plain for Reply {}

// SAFETY: an entry is integers only.
unsafe impl Plain for BufRingEntry {}

/// The header that the kernel writes before each datagram (`struct io_uring_recvmsg_out`): the lengths of the
/// address, the control messages and the payload as received, then the flags.
const HEADER_LENGTH: usize = size_of::<[u32; 4]>();
const _: () = assert!(std::mem::offset_of!(Slot, name) == HEADER_LENGTH);
const _: () = assert!(std::mem::offset_of!(Slot, control) == HEADER_LENGTH + NAME_LENGTH);
const _: () = assert!(std::mem::offset_of!(Slot, payload) == HEADER_LENGTH + NAME_LENGTH + CONTROL_LENGTH);

/// Datagrams, the ring that offers them, and replies, by buffer number.
pub(super) struct Memory {
    slots: SharedArray<Slot>,
    replies: SharedArray<Reply>,
    ring: SharedArray<BufRingEntry>,
    /// How many buffers were ever offered; wraps as the kernel's does.
    offered: u16,
}

impl Memory {
    /// Room for `total` datagrams, a power of two up to 2¹⁵; none is offered yet.
    pub(super) fn new(total: u16) -> Self {
        assert!(total.is_power_of_two() && total <= 1 << 15, "a ring of {total} buffers");
        let total = usize::from(total);
        Self {
            slots: SharedArray::new(total),
            replies: SharedArray::new(total),
            ring: SharedArray::new(total),
            offered: 0,
        }
    }

    /// Where the ring of buffers is, to be registered.
    pub(super) fn ring_address(&self) -> u64 {
        self.ring.pointer(0).expose_provenance() as u64
    }

    /// How the kernel is to lay out a buffer: which fields come before the payload.
    pub(super) const fn layout() -> msghdr {
        let mut layout = empty_message();
        layout.msg_namelen = NAME_ROOM;
        layout.msg_controllen = CONTROL_LENGTH;
        layout
    }

    /// Puts a buffer in the ring; the kernel sees it after [`publish`](Self::publish).
    ///
    /// The caller's ledger says that the kernel doesn't have it.
    pub(super) fn offer(&mut self, buffer: u16) {
        let address = self.slots.pointer(usize::from(buffer)).expose_provenance() as u64;
        let index = usize::from(self.offered) & (self.ring.length() - 1);
        // SAFETY: the kernel reads entries up to the published tail only, and there are no more buffers than entries,
        // so it is done with this one.
        let entry = unsafe { self.ring.get_mut(index) };
        entry.set_addr(address);
        entry.set_len(SLOT_LENGTH);
        entry.set_bid(buffer);
        self.offered = self.offered.wrapping_add(1);
    }

    /// Shows the kernel what was offered.
    pub(super) fn publish(&mut self) {
        // SAFETY: the pointer is to the first entry of the ring, which `new` zeroed.
        let tail = unsafe { BufRingEntry::tail(self.ring.pointer(0)) };
        // SAFETY: the field is aligned and lives as long as the ring; the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Pairs with the kernel's acquiring load of the tail: it sees the entries before their count.
        tail.store(self.offered, Ordering::Release);
    }

    /// The datagram of a buffer.
    ///
    /// # Safety
    /// The kernel must not hold the buffer to receive into.
    pub(super) unsafe fn slot(&mut self, buffer: u16) -> &mut Slot {
        // SAFETY: the caller upholds it.
        unsafe { self.slots.get_mut(usize::from(buffer)) }
    }

    /// Writes the header of a reply of `length` octets, in place of the datagram in `buffer` and from the address that
    /// it was sent to; where that header is.
    ///
    /// # Safety
    /// The kernel must not hold the buffer, neither to receive into nor to send from.
    pub(super) unsafe fn reply(&mut self, buffer: u16, length: usize) -> *const msghdr {
        // SAFETY: the caller upholds it.
        let slot = unsafe { self.slots.get_mut(usize::from(buffer)) };
        // SAFETY: the caller upholds it.
        let reply = unsafe { self.replies.get_mut(usize::from(buffer)) };
        let filled = slot.filled();
        reply.control = slot.reply_control(filled);
        reply.vector = iovec { iov_base: slot.payload.as_mut_ptr().cast(), iov_len: length };
        reply.message = empty_message();
        reply.message.msg_name = slot.name.as_mut_ptr().cast();
        reply.message.msg_namelen = filled.name_length();
        reply.message.msg_iov = &raw mut reply.vector;
        reply.message.msg_iovlen = 1;
        reply.control.attach(&mut reply.message);
        ptr::from_ref(&reply.message)
    }
}

impl Slot {
    /// What the kernel's header says of this buffer.
    pub(super) fn filled(&self) -> Filled {
        let [name, control, payload, flags] =
            self.header.map(|field| usize::try_from(field).unwrap_or(usize::MAX));
        Filled {
            name: name.min(NAME_LENGTH),
            control: control.min(CONTROL_LENGTH),
            payload,
            flags: i32::try_from(flags).unwrap_or(libc::MSG_TRUNC),
        }
    }
}

const SLOT_LENGTH: u32 = 1472;
const _: () = assert!(size_of::<Slot>() == 1472);
