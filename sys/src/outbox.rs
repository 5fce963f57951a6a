//! What a generator has ready to send: datagrams or frames, for one `sendmmsg`.
//!
//! The caller fills an outbox and hands it to a [`UdpClient`](crate::udp_client::UdpClient) or a
//! [`PacketSocket`](crate::packet_socket::PacketSocket), which empties it. All memory is allocated when it is made. It
//! never keeps what the kernel refused: a generator that sends late would report its own delay as the server's.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_uint, iovec, mmsghdr, sockaddr};
use maser_core::wire::{DATAGRAM_LENGTH_MAX, ethernet, ip6, udp};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use crate::datagram::{
    BATCH_MAX, Plain, RETRIES_MAX, SendControl, SharedArray, empty_message, ends_sending, is_congestion,
    last_errno,
};

/// Octets of a slot: a frame with the longest NTP datagram, whole cache lines.
pub const SLOT_LENGTH: usize = 1408;
const _: () = assert!(
    SLOT_LENGTH
        >= ethernet::LENGTH
            + ethernet::TAGS_MAX * ethernet::TAG_LENGTH
            + ip6::LENGTH
            + udp::LENGTH
            + DATAGRAM_LENGTH_MAX
);

/// The memory of one datagram or frame.
#[repr(C, align(64))]
struct Slot([u8; SLOT_LENGTH]);

// SAFETY: a slot is octets only.
unsafe impl Plain for Slot {}

/// Datagrams or frames that one system call sends.
pub struct Outbox {
    slots: SharedArray<Slot>,
    /// Where the headers find payloads: `vectors[i]` is what is used of `slots[i]`.
    vectors: SharedArray<iovec>,
    controls: SharedArray<SendControl>,
    headers: Box<[mmsghdr]>,
    length: usize,
    /// By their place, those that the last send didn't get rid of.
    refused: Vec<usize>,
}

// SAFETY: the pointers in the headers lead only into the arrays, which move with them, and to an address that is
// set anew for every call; nothing of it belongs to a thread.
unsafe impl Send for Outbox {}

impl Outbox {
    /// Room for `batch`, and nothing in it.
    ///
    /// # Panics
    /// If `batch` is 0 or above [`BATCH_MAX`].
    #[must_use]
    pub fn new(batch: usize) -> Self {
        assert!((1..=BATCH_MAX).contains(&batch), "a batch of {batch}");
        let slots = SharedArray::<Slot>::new(batch);
        let mut vectors = SharedArray::new(batch);
        let controls = SharedArray::<SendControl>::new(batch);
        let mut headers = vec![mmsghdr { msg_hdr: empty_message(), msg_len: 0 }; batch].into_boxed_slice();
        for (index, header) in headers.iter_mut().enumerate() {
            let vector = iovec { iov_base: slots.pointer(index).cast(), iov_len: 0 };
            // SAFETY: no call is under way, so the kernel holds no vector.
            header.msg_hdr.msg_iov = unsafe { vectors.put(index, vector) };
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = controls.pointer(index).cast();
        }
        Self { slots, vectors, controls, headers, length: 0, refused: Vec::with_capacity(batch) }
    }

    /// Whether nothing more fits.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.length == self.headers.len()
    }

    /// How many are in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The places of those that the kernel didn't take at the last send, in order.
    #[must_use]
    pub fn refused(&self) -> &[usize] {
        &self.refused
    }

    /// Forgets what is in it.
    pub const fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends one: `write` fills the slot of [`SLOT_LENGTH`] octets, which may hold an older one, and returns how many
    /// to send.
    ///
    /// A datagram leaves `from` an address of this machine, or from the socket's with `None`; a frame has its addresses
    /// in it. If `stamped`, the kernel keeps its transmit stamp for `transmit_stamps`.
    ///
    /// # Panics
    /// If the outbox is full, or the length is more than the slot's.
    pub fn push(&mut self, from: Option<IpAddr>, stamped: bool, write: impl FnOnce(&mut [u8]) -> usize) {
        assert!(!self.is_full(), "an outbox for {} is full", self.length);
        let index = self.length;
        // SAFETY: no call is under way, so the kernel holds no slot.
        let length = write(&mut unsafe { self.slots.get_mut(index) }.0);
        assert!(length <= SLOT_LENGTH, "{length} octets in a slot of {SLOT_LENGTH}");
        let vector = iovec { iov_base: self.slots.pointer(index).cast(), iov_len: length };
        // SAFETY: no call is under way, so the kernel holds no vector.
        unsafe { self.vectors.put(index, vector) };
        self.headers[index].msg_hdr.msg_controllen = if from.is_some() || stamped {
            let mut control = SendControl::NONE;
            if let Some(from) = from {
                control.leave_from(from, 0);
            }
            if stamped {
                control.ask_for_stamp();
            }
            let length = control.length();
            // SAFETY: no call is under way, so the kernel holds no control message.
            unsafe { self.controls.put(index, control) };
            length
        } else {
            0
        };
        self.length += 1;
    }

    /// Sends all of it, in order, to `target` or to where the socket is bound; how many the kernel took.
    ///
    /// It is empty afterwards. For want of room all that are left are given up; one that is refused for another reason
    /// is passed over.
    pub(crate) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        target: Option<&SockaddrStorage>,
    ) -> io::Result<usize> {
        let (name, name_length) =
            target.map_or((std::ptr::null(), 0), |target| (target.as_ptr(), target.len()));
        let length = self.length;
        let mut rest = &mut self.headers[..length];
        self.length = 0;
        self.refused.clear();
        for header in &mut *rest {
            header.msg_hdr.msg_name = name.cast::<sockaddr>().cast_mut().cast();
            header.msg_hdr.msg_namelen = name_length;
        }
        let (mut sent, mut interruptions) = (0, 0);
        while !rest.is_empty() {
            let count = c_uint::try_from(rest.len()).expect("bounded by BATCH_MAX");
            // SAFETY: `new` has pointed the headers at vectors, slots and control messages of this outbox, and the name
            // is borrowed until the call returns; the kernel reads all of them and writes to the headers only.
            let taken =
                unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
            let done = match usize::try_from(taken).map_err(|_| last_errno()) {
                Ok(taken) => {
                    sent += taken;
                    taken
                }
                Err(libc::EINTR) if interruptions < RETRIES_MAX => {
                    interruptions += 1;
                    0
                }
                Err(errno) if is_congestion(errno) => break,
                Err(errno) if ends_sending(errno) => return Err(io::Error::from_raw_os_error(errno)),
                Err(_) => {
                    // The first is what was refused.
                    self.refused.push(length - rest.len());
                    1
                }
            };
            rest = &mut rest[done..];
        }
        self.refused.extend(length - rest.len()..length);
        Ok(sent)
    }
}

#[cfg(test)]
mod memory_tests {
    use super::*;

    /// What the kernel would send of header `index`: the octets, and how many there are of control messages.
    fn taken(outbox: &Outbox, index: usize) -> (Vec<u8>, usize) {
        let header = &outbox.headers[index].msg_hdr;
        // SAFETY: the vector's pointer is the outbox's own, for one vector.
        let vector = unsafe { header.msg_iov.read() };
        // SAFETY: `push` has written this many octets, and nothing borrows them.
        let octets = unsafe { std::slice::from_raw_parts(vector.iov_base.cast::<u8>(), vector.iov_len) };
        // SAFETY: the control messages have this many octets, and nothing borrows them.
        let control =
            unsafe { std::slice::from_raw_parts(header.msg_control.cast::<u8>(), header.msg_controllen) };
        (octets.to_vec(), control.len())
    }

    /// Under Miri this fails if writing one slot ends the pointers to another.
    #[test]
    fn the_headers_stay_good_while_slots_are_filled() {
        let mut outbox = Outbox::new(3);
        for round in 1..4_u8 {
            let addresses = [None, Some([127, 0, 0, 2].into()), Some([0_u16; 8].into())];
            for (index, from) in addresses.into_iter().enumerate() {
                assert_eq!((outbox.len(), outbox.is_full()), (index, false));
                outbox.push(from, index == 2, |slot| {
                    slot[..=index].fill(round);
                    index + 1
                });
            }
            assert!(outbox.is_full() && !outbox.is_empty());
            let expected = [(vec![round], 0), (vec![round; 2], 32), (vec![round; 3], 64)];
            for (index, expected) in expected.into_iter().enumerate() {
                assert_eq!(taken(&outbox, index), expected);
            }
            outbox.clear();
        }
    }

    #[test]
    #[should_panic(expected = "is full")]
    fn a_full_outbox_takes_no_more() {
        let mut outbox = Outbox::new(1);
        outbox.push(None, false, |_| 0);
        outbox.push(None, false, |_| 0);
    }
}
