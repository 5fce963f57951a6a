//! Batches through `recvmmsg` and `sendmmsg`: works on any kernel and in any container.
//!
//! With one socket a receive blocks in `recvmmsg` itself, so a batch of up to [`SEND_CHUNK`] replies takes two system
//! calls. With several, they are asked in turn without blocking, starting after the one that was served last, and
//! `ppoll` waits only when all were empty. A batch comes from one socket.

mod memory;

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use libc::{c_uint, pollfd};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::datagram::{
    Arrival, BATCH_MAX, Departed, Outgoing, RETRIES_MAX, SEND_CHUNK, SOCKETS_MAX, Sent, Wait, ends_receiving,
    ends_sending, is_congestion, last_errno,
};
use crate::transmit_stamp::Departures;
use crate::udp_socket::UdpSocket;
use memory::{Replies, Requests, Way};

/// Sockets that are read and written in batches by system call.
pub struct MmsgPort {
    sockets: Box<[UdpSocket]>,
    polls: Box<[pollfd]>,
    /// Whose datagrams the batch holds.
    current: usize,
    requests: Requests,
    replies: Replies,
    departures: Departures,
    /// `SO_RCVTIMEO` as it was last set, with a single socket.
    timeout: Option<Duration>,
    receive_failures: u64,
}

const NO_TIMEOUT: *mut libc::timespec = std::ptr::null_mut();

impl MmsgPort {
    /// A port over `sockets` that delivers up to `batch` datagrams at a time.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for no sockets or more than [`SOCKETS_MAX`], no batch or one above [`BATCH_MAX`].
    pub fn new(sockets: Vec<UdpSocket>, batch: usize) -> io::Result<Self> {
        if sockets.is_empty() || sockets.len() > SOCKETS_MAX || batch == 0 || batch > BATCH_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let polls =
            sockets.iter().map(|socket| pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        Ok(Self {
            polls: polls.collect(),
            departures: Departures::new(sockets.len(), sockets.iter().any(UdpSocket::has_nic_stamps)),
            sockets: sockets.into(),
            current: 0,
            requests: Requests::new(batch),
            replies: Replies::new(),
            timeout: None,
            receive_failures: 0,
        })
    }

    /// Takes a new batch in the place of the last; how many datagrams it holds.
    ///
    /// None after a timeout, a signal, or more errors of the network than are worth trying: these are
    /// [counted](Self::receive_failures), and a receive that may block pauses after them.
    ///
    /// # Errors
    /// Only what going on can't mend: the sockets aren't what they were, or a filter refuses the call.
    pub fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        let failures = self.receive_failures;
        self.requests.clear();
        match wait.limit() {
            Some(limit) if self.sockets.len() == 1 => {
                self.set_timeout(limit)?;
                self.receive_from(0, libc::MSG_WAITFORONE)?;
            }
            Some(limit) => {
                self.receive_in_turn(|_| true)?;
                if self.requests.received() == 0 && self.poll(limit)? {
                    self.receive_in_turn(|poll| poll.revents != 0)?;
                }
            }
            None => self.receive_in_turn(|_| true)?,
        }
        let received = self.requests.received();
        if received == 0 && self.receive_failures > failures {
            wait.pause_after_failure();
        }
        Ok(received)
    }

    /// The socket of a port over one.
    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.sockets[0]
    }

    /// How often a receive failed for a reason that may pass, such as a lack of memory.
    #[must_use]
    pub const fn receive_failures(&self) -> u64 {
        self.receive_failures
    }

    /// The first non-empty socket after the last that was served, of those that `may_have` something.
    fn receive_in_turn(&mut self, may_have: impl Fn(&pollfd) -> bool) -> io::Result<()> {
        for step in 1..=self.sockets.len() {
            let socket = (self.current + step) % self.sockets.len();
            if may_have(&self.polls[socket]) {
                self.receive_from(socket, libc::MSG_DONTWAIT)?;
                if self.requests.received() > 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    fn receive_from(&mut self, socket: usize, flags: i32) -> io::Result<()> {
        let fd = self.sockets[socket].as_raw_fd();
        let headers = self.requests.clear();
        let length = vector_length(headers.len());
        for _ in 0..RETRIES_MAX {
            // SAFETY: `headers` are `length` initialised headers whose pointers lead to slots and vectors of this
            // port, alive as long as it is, with the lengths that `clear` set; nothing borrows a slot, since a borrow
            // would hold `self`.
            let received = unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), length, flags, NO_TIMEOUT) };
            if let Ok(received) = usize::try_from(received) {
                self.current = socket;
                self.requests.fill(received);
                return Ok(());
            }
            match last_errno() {
                libc::EAGAIN | libc::EINTR => return Ok(()),
                errno if ends_receiving(errno) => return Err(io::Error::from_raw_os_error(errno)),
                _ => self.receive_failures += 1,
            }
        }
        Ok(())
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
            1.. => {
                for (socket, poll) in self.polls.iter().enumerate() {
                    if poll.revents & libc::POLLERR != 0 {
                        self.departures.notice(socket);
                    }
                }
                Ok(true)
            }
            _ => match last_errno() {
                libc::EINTR => Ok(false),
                errno if ends_receiving(errno) => Err(io::Error::from_raw_os_error(errno)),
                _ => {
                    self.receive_failures += 1;
                    Ok(false)
                }
            },
        }
    }

    /// Datagram `index` of the current batch: what is known of it, and its payload.
    ///
    /// # Panics
    /// If the batch has no such datagram.
    pub fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        let bound = self.sockets[self.current].address();
        let socket = u16::try_from(self.current).expect("bounded by SOCKETS_MAX");
        let (filled, slot) = self.requests.datagram(index);
        slot.datagram(filled, socket, bound)
    }

    /// Sends replies in place of the datagrams that they answer, from the addresses that were asked.
    ///
    /// `stamp` writes the transmit stamp of a reply, once, in a chunk of at most [`SEND_CHUNK`] just before the chunk's
    /// system call. It isn't called for replies that are given up because there was no room for those before them.
    ///
    /// # Errors
    /// Only what going on can't mend. A reply that can't leave is counted, and the next one is sent; for want of room
    /// all that are left are counted.
    ///
    /// # Panics
    /// If the batch has no such datagram, or a reply is longer than its request.
    pub fn send(
        &mut self,
        replies: &[Outgoing],
        mut stamp: impl FnMut(usize, &mut [u8]),
    ) -> io::Result<Sent> {
        let socket = &self.sockets[self.current];
        let (from_asked, nic_stamps) = (socket.is_wildcard(), socket.has_nic_stamps());
        let mut sent = Sent::default();
        for chunk in replies.chunks(SEND_CHUNK) {
            for (position, reply) in chunk.iter().enumerate() {
                let way = Way { from_asked, nic_stamps, departures: &self.departures };
                self.replies.prepare(position, *reply, &mut self.requests, way, &mut stamp);
            }
            if !self.send_chunk(chunk.len(), &mut sent)? {
                sent.congested = replies.len() - sent.sent - sent.refused;
                break;
            }
        }
        Ok(sent)
    }

    /// Sends the first `count` prepared replies; false if there was no room for all of them.
    ///
    /// What follows one that failed goes with the stamp that it has: it is no older than a chunk's sends.
    fn send_chunk(&mut self, count: usize, sent: &mut Sent) -> io::Result<bool> {
        let fd = self.sockets[self.current].as_raw_fd();
        let socket = u16::try_from(self.current).expect("bounded by SOCKETS_MAX");
        let (mut rest, mut names) = self.replies.prepared(count);
        let mut interruptions = 0;
        while !rest.is_empty() {
            let length = vector_length(rest.len());
            // SAFETY: `prepare` has pointed the headers at slots, vectors and controls of this port, which don't move
            // or change before the call returns.
            let taken = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), length, libc::MSG_DONTWAIT) };
            let done = match usize::try_from(taken).map_err(|_| last_errno()) {
                Ok(taken) => {
                    sent.sent += taken;
                    for name in names[..taken].iter().flatten() {
                        self.departures.sent(socket, *name);
                    }
                    taken
                }
                Err(libc::EINTR) if interruptions < RETRIES_MAX => {
                    interruptions += 1;
                    0
                }
                Err(errno) if is_congestion(errno) => return Ok(false),
                Err(errno) if ends_sending(errno) => return Err(io::Error::from_raw_os_error(errno)),
                Err(_) => {
                    // The first is what failed.
                    sent.refused += 1;
                    1
                }
            };
            rest = &mut rest[done..];
            names = &names[done..];
        }
        Ok(true)
    }

    /// Tells when replies left, as far as the kernel has said so, each once; a stamp that doesn't come within a second or two
    /// is not told any more. Without any to come there is no system call.
    ///
    /// A reply is known by octets 32 to 40 of its payload, its receive timestamp: if these aren't the name that was given,
    /// or if two have the same, it is never told. The NIC's own stamp is told with the kernel's on sockets that
    /// [report it](crate::udp_socket::SocketOptions::nic_stamps), for packets that the NIC stamps within some milliseconds.
    ///
    /// # Errors
    /// Only what going on can't mend. Where a filter refuses the call, nothing is asked for any more.
    pub fn departures(&mut self, told: impl FnMut(Departed)) -> io::Result<()> {
        self.departures.tell(&self.sockets, told)
    }
}

fn vector_length(count: usize) -> c_uint {
    c_uint::try_from(count).expect("bounded by BATCH_MAX")
}
