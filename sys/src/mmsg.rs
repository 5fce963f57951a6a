//! Batches through `recvmmsg` and `sendmmsg`: works on any kernel and in any container.
//!
//! With one socket a receive blocks in `recvmmsg` itself, so a batch of up to [`SEND_CHUNK`] replies takes two system
//! calls. With several, they are asked in turn without blocking, starting after the one that was served last, and
//! `ppoll` waits only when all were empty. A batch comes from one socket.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use libc::{c_uint, iovec, mmsghdr, pollfd};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::datagram::{
    Arrival, BATCH_MAX, CONTROL_LENGTH, Filled, NAME_ROOM, Outgoing, PAYLOAD_LENGTH_MAX, RETRIES_MAX,
    ReplyControl, SEND_CHUNK, Sent, SharedArray, Slot, Wait, empty_message, last_errno, passes,
};
use crate::udp_socket::UdpSocket;

/// Sockets that are read and written in batches by system call.
pub struct MmsgPort {
    sockets: Box<[UdpSocket]>,
    polls: Box<[pollfd]>,
    /// Whose datagrams the batch holds.
    current: usize,
    /// How many datagrams the batch holds.
    received: usize,
    /// The kernel holds these during a receive or a send only.
    slots: SharedArray<Slot>,
    /// Where the headers say that payloads go: `vectors[i]` is the payload of `slots[i]`.
    #[expect(dead_code, reason = "the headers point at it")]
    vectors: SharedArray<iovec>,
    headers: Box<[mmsghdr]>,
    replies: Replies,
    /// `SO_RCVTIMEO` as it was last set, with a single socket.
    timeout: Option<Duration>,
}

/// The headers of one chunk of replies; pointed at the slots for each call.
struct Replies {
    headers: [mmsghdr; SEND_CHUNK],
    vectors: [iovec; SEND_CHUNK],
    controls: [ReplyControl; SEND_CHUNK],
}

const NO_VECTOR: iovec = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
const NO_TIMEOUT: *mut libc::timespec = std::ptr::null_mut();

impl MmsgPort {
    /// A port over `sockets` that delivers up to `batch` datagrams at a time.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for no sockets, no batch or one above [`BATCH_MAX`].
    pub fn new(sockets: Vec<UdpSocket>, batch: usize) -> io::Result<Self> {
        if sockets.is_empty() || batch == 0 || batch > BATCH_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut slots = SharedArray::<Slot>::new(batch);
        let mut vectors = SharedArray::<iovec>::new(batch);
        let mut headers = vec![empty_header(); batch].into_boxed_slice();
        for (index, header) in headers.iter_mut().enumerate() {
            // SAFETY: no call is under way, so the kernel holds no slot.
            let slot = unsafe { slots.get_mut(index) };
            // SAFETY: no call is under way, so the kernel holds no vector.
            let vector = unsafe { vectors.get_mut(index) };
            *vector = iovec { iov_base: slot.payload.as_mut_ptr().cast(), iov_len: PAYLOAD_LENGTH_MAX };
            header.msg_hdr.msg_name = slot.name.as_mut_ptr().cast();
            header.msg_hdr.msg_control = slot.control.as_mut_ptr().cast();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            make_room(header);
        }
        let polls =
            sockets.iter().map(|socket| pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        Ok(Self {
            polls: polls.collect(),
            sockets: sockets.into(),
            current: 0,
            received: 0,
            slots,
            vectors,
            headers,
            replies: Replies {
                headers: [empty_header(); SEND_CHUNK],
                vectors: [NO_VECTOR; SEND_CHUNK],
                controls: [ReplyControl::NONE; SEND_CHUNK],
            },
            timeout: None,
        })
    }

    /// Takes a new batch in the place of the last; how many datagrams it holds.
    ///
    /// None after a timeout, a signal, or more errors of the network than are worth trying.
    ///
    /// # Errors
    /// Only what going on can't mend: the sockets aren't what they were.
    pub fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        for header in &mut self.headers[..self.received] {
            make_room(header);
        }
        self.received = 0;
        match wait {
            Wait::Until(limit) if !limit.is_zero() && self.sockets.len() == 1 => {
                self.set_timeout(limit)?;
                self.receive_from(0, libc::MSG_WAITFORONE)
            }
            Wait::Until(limit) if !limit.is_zero() => {
                let received = self.receive_in_turn()?;
                if received > 0 || !self.poll(limit)? { Ok(received) } else { self.receive_in_turn() }
            }
            Wait::Poll | Wait::Until(_) => self.receive_in_turn(),
        }
    }

    /// The first non-empty socket after the last that was served.
    fn receive_in_turn(&mut self) -> io::Result<usize> {
        for step in 1..=self.sockets.len() {
            let socket = (self.current + step) % self.sockets.len();
            if self.receive_from(socket, libc::MSG_DONTWAIT)? > 0 {
                break;
            }
        }
        Ok(self.received)
    }

    fn receive_from(&mut self, socket: usize, flags: i32) -> io::Result<usize> {
        let fd = self.sockets[socket].as_raw_fd();
        let (headers, length) = (self.headers.as_mut_ptr(), vector_length(self.headers.len()));
        for _ in 0..RETRIES_MAX {
            // SAFETY: `headers` are `length` initialised headers whose pointers lead to slots and vectors of this
            // port, alive as long as it is, with the lengths that `make_room` set; nothing borrows a slot, since a
            // borrow would hold `self`.
            let received = unsafe { libc::recvmmsg(fd, headers, length, flags, NO_TIMEOUT) };
            if let Ok(received) = usize::try_from(received) {
                (self.current, self.received) = (socket, received);
                return Ok(received);
            }
            match last_errno() {
                libc::EAGAIN | libc::EINTR => return Ok(0),
                errno if passes(errno) => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
        Ok(0)
    }

    fn set_timeout(&mut self, limit: Duration) -> io::Result<()> {
        if self.timeout != Some(limit) {
            // Zero would mean for ever, so less than a microsecond is one.
            let microseconds = i64::try_from(limit.as_micros()).unwrap_or(i64::MAX).max(1);
            setsockopt(&self.sockets[0], sockopt::ReceiveTimeout, &TimeVal::microseconds(microseconds))?;
            self.timeout = Some(limit);
        }
        Ok(())
    }

    /// Whether any socket has something before the time is up.
    fn poll(&mut self, limit: Duration) -> io::Result<bool> {
        let limit = libc::timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let count = libc::nfds_t::try_from(self.polls.len()).unwrap_or(0);
        // SAFETY: `polls` are `count` initialised entries, `limit` lives to the end of the call, and no signal mask is
        // given.
        let ready =
            unsafe { libc::ppoll(self.polls.as_mut_ptr(), count, &raw const limit, std::ptr::null()) };
        match ready {
            0 => Ok(false),
            1.. => Ok(true),
            _ if last_errno() == libc::EINTR => Ok(false),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Datagram `index` of the current batch: what is known of it, and its payload.
    ///
    /// # Panics
    /// If the batch has no such datagram.
    pub fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        let bound = self.sockets[self.current].address();
        let filled = self.filled(index);
        // SAFETY: no call is under way, so the kernel holds no slot.
        unsafe { self.slots.get_mut(index) }.datagram(filled, bound)
    }

    fn filled(&self, index: usize) -> Filled {
        assert!(index < self.received, "datagram {index} of {}", self.received);
        let header = &self.headers[index];
        Filled {
            name: usize::try_from(header.msg_hdr.msg_namelen).unwrap_or(0),
            control: header.msg_hdr.msg_controllen,
            payload: usize::try_from(header.msg_len).unwrap_or(usize::MAX),
            flags: header.msg_hdr.msg_flags,
        }
    }

    /// Sends replies in place of the datagrams that they answer, from the addresses that were asked.
    ///
    /// `stamp` writes the transmit stamp of a reply, in a chunk of at most [`SEND_CHUNK`] just before the chunk's system
    /// call. It is called again for a reply that was left over because one before it in its chunk failed: the last
    /// call counts.
    ///
    /// # Errors
    /// Only what going on can't mend. A reply that can't leave is counted, and the next one is sent.
    ///
    /// # Panics
    /// If the batch has no such datagram, or a reply is longer than its request.
    pub fn send(
        &mut self,
        replies: &[Outgoing],
        mut stamp: impl FnMut(usize, &mut [u8]),
    ) -> io::Result<Sent> {
        let mut sent = Sent::default();
        let mut rest = replies;
        let mut interruptions = 0;
        while !rest.is_empty() {
            let chunk = &rest[..rest.len().min(SEND_CHUNK)];
            for (position, reply) in chunk.iter().enumerate() {
                self.prepare(position, *reply, &mut stamp);
            }
            let done = match self.send_prepared(chunk.len()) {
                Ok(count) => {
                    sent.sent += count;
                    count
                }
                Err(libc::EINTR) if interruptions < RETRIES_MAX => {
                    interruptions += 1;
                    0
                }
                Err(errno) if passes(errno) || errno == libc::EINVAL || errno == libc::EACCES => {
                    // The first of the chunk is what failed; a source port of 0 is EINVAL, a broadcast address EACCES.
                    sent.count_failure(errno);
                    1
                }
                Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
            };
            rest = &rest[done..];
        }
        Ok(sent)
    }

    fn prepare(&mut self, position: usize, reply: Outgoing, stamp: &mut impl FnMut(usize, &mut [u8])) {
        let (index, length) = (usize::from(reply.index), usize::from(reply.length));
        let filled = self.filled(index);
        assert!(length <= filled.payload, "a reply of {length} octets to a request of {}", filled.payload);
        // SAFETY: no call is under way, so the kernel holds no slot.
        let slot = unsafe { self.slots.get_mut(index) };
        let header = &mut self.replies.headers[position].msg_hdr;
        let vector = &mut self.replies.vectors[position];
        let control = &mut self.replies.controls[position];
        *control = if self.sockets[self.current].is_wildcard() {
            slot.reply_control(filled)
        } else {
            ReplyControl::NONE
        };
        control.attach(header);
        stamp(index, &mut slot.payload[..length]);
        *vector = iovec { iov_base: slot.payload.as_mut_ptr().cast(), iov_len: length };
        header.msg_name = slot.name.as_mut_ptr().cast();
        header.msg_namelen = self.headers[index].msg_hdr.msg_namelen;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
    }

    /// How many of the first `count` prepared replies left, or why the first did not.
    fn send_prepared(&mut self, count: usize) -> Result<usize, i32> {
        let fd = self.sockets[self.current].as_raw_fd();
        let headers = self.replies.headers.as_mut_ptr();
        // SAFETY: `prepare` has pointed the first `count` headers at slots, vectors and controls of this port, which
        // don't move or change before the call returns.
        let sent = unsafe { libc::sendmmsg(fd, headers, vector_length(count), libc::MSG_DONTWAIT) };
        usize::try_from(sent).map_err(|_| last_errno())
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

fn vector_length(count: usize) -> c_uint {
    c_uint::try_from(count).expect("bounded by BATCH_MAX")
}
