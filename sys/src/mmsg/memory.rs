//! The memory that the system calls work on: datagrams with their headers, and the headers of replies.
//!
//! The kernel holds it during a call only. The headers' pointers are made once from the arrays' own, and no borrow of a
//! datagram in between ends them.

use std::mem::offset_of;

use libc::{iovec, mmsghdr};
use maser_core::wire::DATAGRAM_LENGTH_MAX;

use crate::datagram::{
    CONTROL_LENGTH, Filled, NAME_ROOM, Outgoing, SEND_CHUNK, SendControl, SharedArray, Slot, empty_message,
};
use crate::transmit_stamp::Departures;

/// A batch of datagrams, and the headers that tell the kernel where to put them.
pub(super) struct Requests {
    slots: SharedArray<Slot>,
    /// Where the headers say that payloads go: `vectors[i]` is the payload of `slots[i]`.
    #[expect(dead_code, reason = "the headers point at it")]
    vectors: SharedArray<iovec>,
    headers: Box<[mmsghdr]>,
    /// How many datagrams the batch holds.
    received: usize,
}

impl Requests {
    /// Room for `batch` datagrams; there are none yet.
    pub(super) fn new(batch: usize) -> Self {
        let slots = SharedArray::<Slot>::new(batch);
        let mut vectors = SharedArray::new(batch);
        let mut headers = vec![empty_header(); batch].into_boxed_slice();
        for (index, header) in headers.iter_mut().enumerate() {
            let payload = slots.field(index, offset_of!(Slot, payload));
            let vector = iovec { iov_base: payload, iov_len: DATAGRAM_LENGTH_MAX };
            header.msg_hdr.msg_name = slots.field(index, offset_of!(Slot, name));
            header.msg_hdr.msg_control = slots.field(index, offset_of!(Slot, control));
            // SAFETY: no call is under way, so the kernel holds no vector.
            header.msg_hdr.msg_iov = unsafe { vectors.put(index, vector) };
            header.msg_hdr.msg_iovlen = 1;
            make_room(header);
        }
        Self { slots, vectors, headers, received: 0 }
    }

    /// Ends the batch; the headers of the next, whose pointers lead to memory that lives as long as this.
    pub(super) fn clear(&mut self) -> &mut [mmsghdr] {
        for header in &mut self.headers[..self.received] {
            make_room(header);
        }
        self.received = 0;
        &mut self.headers
    }

    /// Makes the first `received` headers, which the kernel has filled, the batch.
    pub(super) fn fill(&mut self, received: usize) {
        assert!(received <= self.headers.len(), "{received} datagrams for {} headers", self.headers.len());
        self.received = received;
    }

    pub(super) const fn received(&self) -> usize {
        self.received
    }

    /// What the kernel wrote of datagram `index`, and the datagram.
    pub(super) fn datagram(&mut self, index: usize) -> (Filled, &mut Slot) {
        assert!(index < self.received, "datagram {index} of {}", self.received);
        let header = &self.headers[index];
        let filled = Filled {
            name: usize::try_from(header.msg_hdr.msg_namelen).unwrap_or(0),
            control: header.msg_hdr.msg_controllen,
            payload: usize::try_from(header.msg_len).unwrap_or(usize::MAX),
            flags: header.msg_hdr.msg_flags,
        };
        // SAFETY: no call is under way, so the kernel holds no slot.
        (filled, unsafe { self.slots.get_mut(index) })
    }
}

/// The headers of one chunk of replies; pointed at the datagrams for each call.
pub(super) struct Replies {
    headers: [mmsghdr; SEND_CHUNK],
    vectors: SharedArray<iovec>,
    controls: SharedArray<SendControl>,
    /// The names of those that are to be stamped.
    names: [Option<u64>; SEND_CHUNK],
}

/// How replies leave.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    /// From the address that was asked, rather than from the socket's own.
    pub(super) from_asked: bool,
    /// With the NIC's stamp, where they are stamped.
    pub(super) nic_stamps: bool,
    /// Who hears when.
    pub(super) departures: &'a Departures,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            headers: [empty_header(); SEND_CHUNK],
            vectors: SharedArray::new(SEND_CHUNK),
            controls: SharedArray::new(SEND_CHUNK),
            names: [None; SEND_CHUNK],
        }
    }

    /// Stamps a reply and makes it number `position` of the chunk.
    pub(super) fn prepare(
        &mut self,
        position: usize,
        reply: Outgoing,
        requests: &mut Requests,
        way: Way<'_>,
        stamp: &mut impl FnMut(usize, &mut [u8]),
    ) {
        let (index, length) = (usize::from(reply.index), usize::from(reply.length));
        let (filled, slot) = requests.datagram(index);
        assert!(length <= filled.payload, "a reply of {length} octets to a request of {}", filled.payload);
        let mut control = if way.from_asked { slot.reply_control(filled) } else { SendControl::NONE };
        let payload = &mut slot.payload[..length];
        stamp(index, payload);
        let name = way.departures.wanted(reply.departure, payload);
        if name.is_some() {
            control.ask_for_stamps(way.nic_stamps);
        }
        self.names[position] = name;
        let vector =
            iovec { iov_base: requests.slots.field(index, offset_of!(Slot, payload)), iov_len: length };
        let header = &mut self.headers[position].msg_hdr;
        header.msg_name = requests.slots.field(index, offset_of!(Slot, name));
        header.msg_namelen = filled.name_length();
        header.msg_controllen = control.length();
        // SAFETY: no call is under way, so the kernel holds no control message.
        header.msg_control = unsafe { self.controls.put(position, control) }.cast();
        // SAFETY: no call is under way, so the kernel holds no vector.
        header.msg_iov = unsafe { self.vectors.put(position, vector) };
        header.msg_iovlen = 1;
    }

    /// The headers of the first `count` of the chunk, whose pointers lead into this and into the datagrams; their names.
    pub(super) fn prepared(&mut self, count: usize) -> (&mut [mmsghdr], &[Option<u64>]) {
        (&mut self.headers[..count], &self.names[..count])
    }
}

/// Tells the kernel how much it may write; it overwrites these with how much it wrote.
const fn make_room(header: &mut mmsghdr) {
    header.msg_hdr.msg_namelen = NAME_ROOM;
    header.msg_hdr.msg_controllen = CONTROL_LENGTH;
    header.msg_hdr.msg_flags = 0;
}

const fn empty_header() -> mmsghdr {
    mmsghdr { msg_hdr: empty_message(), msg_len: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel does to a header: it writes through its pointers, however often the slots were borrowed since.
    fn deliver(header: &mut mmsghdr, octet: u8) {
        // SAFETY: the vector's pointer is the port's own, for one vector.
        let vector = unsafe { header.msg_hdr.msg_iov.read() };
        assert_eq!(vector.iov_len, DATAGRAM_LENGTH_MAX);
        // SAFETY: the payload has room for `DATAGRAM_LENGTH_MAX` octets.
        unsafe { vector.iov_base.cast::<u8>().write_bytes(octet, 48) };
        // SAFETY: the name has `NAME_LENGTH` octets of room.
        unsafe { header.msg_hdr.msg_name.cast::<u8>().write_bytes(octet, 16) };
        // SAFETY: the control messages have `CONTROL_LENGTH` octets of room.
        unsafe { header.msg_hdr.msg_control.cast::<u8>().write_bytes(0, 16) };
        (header.msg_hdr.msg_namelen, header.msg_hdr.msg_controllen, header.msg_len) = (16, 16, 48);
    }

    /// What the kernel would send: the octets of the payload and of the name.
    fn taken(header: &mmsghdr) -> (Vec<u8>, u8) {
        // SAFETY: as above.
        let vector = unsafe { header.msg_hdr.msg_iov.read() };
        // SAFETY: the payload was written by `deliver`, and nothing borrows it.
        let payload = unsafe { std::slice::from_raw_parts(vector.iov_base.cast(), vector.iov_len) };
        // SAFETY: so was the name.
        (payload.to_vec(), unsafe { header.msg_hdr.msg_name.cast::<u8>().read() })
    }

    /// Under Miri (`cargo miri test -p maser-sys memory`) this fails if a borrow ends the headers' pointers.
    #[test]
    fn the_headers_stay_good_while_datagrams_are_borrowed() {
        let (mut requests, mut replies, departures) =
            (Requests::new(3), Replies::new(), Departures::new(1, false));
        for round in 1..4 {
            for header in requests.clear() {
                deliver(header, round);
            }
            requests.fill(3);
            for index in 0..3 {
                let (filled, slot) = requests.datagram(index);
                assert_eq!((filled.payload, slot.payload[47]), (48, round));
                slot.payload[0] = 10;
            }
            for (position, index) in [2, 0].into_iter().enumerate() {
                let reply = Outgoing { index, length: 4, departure: None };
                let way = Way { from_asked: index == 0, nic_stamps: false, departures: &departures };
                replies.prepare(position, reply, &mut requests, way, &mut |_, octets| octets[3] = 7);
            }
            requests.datagram(0).1.payload[1] = 20;
            let (headers, names) = replies.prepared(2);
            assert_eq!(taken(&headers[0]), (vec![10, round, round, 7], round));
            assert_eq!(taken(&headers[1]), (vec![10, 20, round, 7], round));
            assert_eq!(names, [None; 2]);
        }
    }
}
