//! The memory that the kernel works on: datagrams, the ring that offers them to it, and the headers of replies.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use libc::{iovec, msghdr, sockaddr};

use crate::datagram::{
    CONTROL_LENGTH, Filled, NAME_LENGTH, NAME_ROOM, Plain, SendControl, SharedArray, Slot, empty_message,
};

// SAFETY: an entry is integers only.
unsafe impl Plain for BufRingEntry {}

/// The header that the kernel writes before each datagram (`struct io_uring_recvmsg_out`): the lengths of the
/// address, the control messages and the payload as received, then the flags.
const HEADER_LENGTH: usize = size_of::<[u32; 4]>();
const _: () = assert!(offset_of!(Slot, name) == HEADER_LENGTH);
const _: () = assert!(offset_of!(Slot, control) == HEADER_LENGTH + NAME_LENGTH);
const _: () = assert!(offset_of!(Slot, payload) == HEADER_LENGTH + NAME_LENGTH + CONTROL_LENGTH);

/// Datagrams, the ring that offers them, and what replies are sent with, by buffer number.
///
/// The kernel's pointers come from the arrays' own, so that no borrow of a datagram in between ends them.
pub(super) struct Memory {
    slots: SharedArray<Slot>,
    messages: SharedArray<msghdr>,
    vectors: SharedArray<iovec>,
    controls: SharedArray<SendControl>,
    ring: SharedArray<BufRingEntry>,
    /// How the kernel is to lay out a buffer: which fields come before the payload. A single one.
    layout: SharedArray<msghdr>,
    /// How many buffers were ever offered; wraps as the kernel's does.
    offered: u16,
}

impl Memory {
    /// Room for `total` datagrams, a power of two up to 2¹⁵; none is offered yet.
    pub(super) fn new(total: u16) -> Self {
        assert!(total.is_power_of_two() && total <= 1 << 15, "a ring of {total} buffers");
        let total = usize::from(total);
        let mut layout = SharedArray::new(1);
        let fields = msghdr { msg_namelen: NAME_ROOM, msg_controllen: CONTROL_LENGTH, ..empty_message() };
        // SAFETY: the kernel wasn't shown it yet.
        unsafe { layout.put(0, fields) };
        Self {
            slots: SharedArray::new(total),
            messages: SharedArray::new(total),
            vectors: SharedArray::new(total),
            controls: SharedArray::new(total),
            ring: SharedArray::new(total),
            layout,
            offered: 0,
        }
    }

    /// Where the ring of buffers is, to be registered.
    pub(super) fn ring_address(&self) -> u64 {
        self.ring.pointer(0).expose_provenance() as u64
    }

    /// Where the layout of a buffer is.
    pub(super) fn layout(&self) -> *const msghdr {
        self.layout.pointer(0)
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

    /// Where the payload of a buffer is.
    pub(super) fn payload(&self, buffer: u16) -> *const u8 {
        self.slots.field(usize::from(buffer), offset_of!(Slot, payload)).cast()
    }

    /// Where the address is that the datagram in a buffer came from.
    pub(super) fn name(&self, buffer: u16) -> *const sockaddr {
        self.slots.field(usize::from(buffer), offset_of!(Slot, name)).cast()
    }

    /// Writes the header of a reply of `length` octets, in place of the datagram in `buffer`; where that header is. If
    /// `from_asked`, it leaves from the address that was asked; with `stamps` it is stamped, by the NIC if these are the
    /// NIC's.
    ///
    /// # Safety
    /// The kernel must not hold the buffer, neither to receive into nor to send from.
    pub(super) unsafe fn reply(
        &mut self,
        buffer: u16,
        length: usize,
        from_asked: bool,
        stamps: Option<bool>,
    ) -> *const msghdr {
        let index = usize::from(buffer);
        // SAFETY: the caller upholds it.
        let slot = unsafe { self.slots.get_mut(index) };
        let filled = slot.filled();
        let mut control = if from_asked { slot.reply_control(filled) } else { SendControl::NONE };
        if let Some(nics) = stamps {
            control.ask_for_stamps(nics);
        }
        let vector = iovec { iov_base: self.payload(buffer).cast_mut().cast(), iov_len: length };
        let mut message = empty_message();
        message.msg_name = self.name(buffer).cast_mut().cast();
        message.msg_namelen = filled.name_length();
        message.msg_iovlen = 1;
        message.msg_controllen = control.length();
        // SAFETY: the caller upholds it.
        message.msg_control = unsafe { self.controls.put(index, control) }.cast();
        // SAFETY: the caller upholds it.
        message.msg_iov = unsafe { self.vectors.put(index, vector) };
        // SAFETY: the caller upholds it.
        unsafe { self.messages.put(index, message) }
    }

    /// Makes a reply fail that the kernel has not been given yet: to port 0, which no datagram can be sent to.
    ///
    /// # Safety
    /// The kernel must not have taken the send.
    pub(super) unsafe fn void(&mut self, buffer: u16) {
        // SAFETY: the caller upholds it.
        let slot = unsafe { self.slots.get_mut(usize::from(buffer)) };
        // In both families' addresses the port follows the family.
        slot.name[2..4].fill(0);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel does with an offered buffer: it fills what the entry of the ring points at.
    fn deliver(memory: &Memory, entry: usize, octet: u8) {
        // SAFETY: the entry was written by `offer`.
        let entry = unsafe { &*memory.ring.pointer(entry) };
        let slot = std::ptr::with_exposed_provenance_mut::<Slot>(usize::try_from(entry.addr()).unwrap());
        // SAFETY: a header fits a slot, which is aligned for it.
        unsafe { slot.cast::<[u32; 4]>().write([16, 0, 48, 0]) };
        // SAFETY: the rest of a slot is octets, of which there are as many.
        unsafe {
            slot.cast::<u8>()
                .wrapping_add(HEADER_LENGTH)
                .write_bytes(octet, size_of::<Slot>() - HEADER_LENGTH)
        };
    }

    /// Under Miri (`cargo miri test -p maser-sys memory`) this fails if a borrow ends the kernel's pointers.
    #[test]
    fn what_the_kernel_was_shown_stays_good_while_datagrams_are_borrowed() {
        let mut memory = Memory::new(2);
        for (round, first) in [(1, 0), (2, 0)] {
            memory.offer(0);
            memory.offer(1);
            memory.publish();
            deliver(&memory, first, round);
            deliver(&memory, first + 1, round + 10);
            // SAFETY: there is no kernel here.
            let slot = unsafe { memory.slot(0) };
            assert_eq!((slot.filled().payload, slot.payload[47]), (48, round));
            slot.payload[0] = 90;
            // SAFETY: as above.
            let message = unsafe { memory.reply(0, 2, true, None) };
            let plain = memory.payload(1);
            // SAFETY: as above.
            unsafe { memory.slot(1) }.payload[0] = 91;
            // SAFETY: as above.
            unsafe { memory.void(0) };
            // SAFETY: `reply` wrote it.
            let message = unsafe { message.read() };
            // SAFETY: as above.
            let vector = unsafe { message.msg_iov.read() };
            assert_eq!((message.msg_iovlen, vector.iov_len), (1, 2));
            // SAFETY: the payload was written.
            assert_eq!(unsafe { vector.iov_base.cast::<[u8; 2]>().read() }, [90, round]);
            // SAFETY: so was the name.
            let name = unsafe { message.msg_name.cast::<[u8; 5]>().read() };
            assert_eq!(name, [round, round, 0, 0, round]);
            // SAFETY: as above.
            assert_eq!(unsafe { plain.cast::<[u8; 2]>().read() }, [91, round + 10]);
            // SAFETY: it lives as long as the memory.
            assert_eq!(unsafe { memory.layout().read() }.msg_controllen, CONTROL_LENGTH);
        }
    }
}
