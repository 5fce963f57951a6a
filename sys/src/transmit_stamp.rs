//! Transmit stamps, from a socket's error queue.
//!
//! The kernel loops back what it was asked to stamp, with all headers that it had when the driver got it. Nothing here
//! says which datagram that was: the caller knows it by its octets. A NIC's stamps are in the NIC's own clock.

mod asked;
mod departures;

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_uint, iovec, mmsghdr};
use maser_core::time::Stamp;

use crate::datagram::{Control, Plain, RETRIES_MAX, SharedArray, empty_message, ends_receiving, last_errno};
use crate::outbox::SLOT_LENGTH;
pub(crate) use departures::Departures;

/// Octets kept for control messages: the stamps (64), packet info (40), the extended error (64), rounded up.
const CONTROL_LENGTH: usize = 192;

#[repr(C, align(64))]
struct Slot {
    control: [u8; CONTROL_LENGTH],
    octets: [u8; SLOT_LENGTH],
}

// SAFETY: a slot is octets only.
unsafe impl Plain for Slot {}

/// Memory for what a batch of transmit stamps comes with.
pub(crate) struct TransmitStamps {
    slots: SharedArray<Slot>,
    #[expect(dead_code, reason = "the headers point at it")]
    vectors: SharedArray<iovec>,
    headers: Box<[mmsghdr]>,
}

impl TransmitStamps {
    pub(crate) fn new(batch: usize) -> Self {
        let slots = SharedArray::<Slot>::new(batch);
        let mut vectors = SharedArray::new(batch);
        let mut headers = vec![mmsghdr { msg_hdr: empty_message(), msg_len: 0 }; batch].into_boxed_slice();
        for (index, header) in headers.iter_mut().enumerate() {
            let slot = slots.pointer(index);
            let octets = slot.wrapping_byte_add(offset_of!(Slot, octets)).cast();
            let vector = iovec { iov_base: octets, iov_len: SLOT_LENGTH };
            // SAFETY: no call is under way, so the kernel holds no vector.
            header.msg_hdr.msg_iov = unsafe { vectors.put(index, vector) };
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = slot.wrapping_byte_add(offset_of!(Slot, control)).cast();
        }
        Self { slots, vectors, headers }
    }

    /// Hands over the kernel's stamps in the error queue of `socket`, at most a batch; how many messages there were.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        mut take: impl FnMut(&[u8], Stamp),
    ) -> io::Result<usize> {
        self.receive_each(socket, |octets, control| {
            if let Some(stamp) = control.stamp {
                take(octets, stamp);
            }
        })
    }

    /// Hands over all that waits in the error queue of `socket`, at most a batch; how many messages there were.
    fn receive_each(
        &mut self,
        socket: BorrowedFd<'_>,
        mut take: impl FnMut(&[u8], &Control),
    ) -> io::Result<usize> {
        let received = self.fill(socket)?;
        for (index, header) in self.headers.iter().enumerate().take(received) {
            // SAFETY: no call is under way, so the kernel holds no slot.
            let slot = unsafe { self.slots.get_mut(index) };
            let control = slot.control.get(..header.msg_hdr.msg_controllen).unwrap_or_default();
            let length = usize::try_from(header.msg_len).unwrap_or(usize::MAX);
            if let Some(octets) = slot.octets.get(..length) {
                take(octets, &Control::parse(control));
            }
        }
        Ok(received)
    }

    fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        const NO_TIMEOUT: *mut libc::timespec = std::ptr::null_mut();
        for header in &mut self.headers {
            header.msg_hdr.msg_controllen = CONTROL_LENGTH;
            header.msg_hdr.msg_flags = 0;
        }
        let count = c_uint::try_from(self.headers.len()).expect("bounded by BATCH_MAX");
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        for _ in 0..RETRIES_MAX {
            // SAFETY: the headers lead to slots and vectors of this value with the lengths set above, and nothing borrows
            // a slot, since a borrow would hold `self`.
            let received = unsafe {
                libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, flags, NO_TIMEOUT)
            };
            if let Ok(received) = usize::try_from(received) {
                return Ok(received);
            }
            match last_errno() {
                libc::EAGAIN => break,
                errno if ends_receiving(errno) => return Err(io::Error::from_raw_os_error(errno)),
                // A signal, or an error of the network, which this has taken off the socket.
                _ => {}
            }
        }
        Ok(0)
    }
}
