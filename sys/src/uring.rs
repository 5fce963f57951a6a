//! Batches through io_uring: multishot receives into provided buffers, replies submitted by the chunk.
//!
//! Each socket has one receive that stays armed and completes once a datagram, into a buffer that the kernel takes
//! from a ring; the reply is sent from the same buffer, which goes back into the ring only when the send has
//! completed. A [ledger](Buffers) says who holds each buffer.
//!
//! The ring runs its work in this thread and only when asked (`DEFER_TASKRUN`), so it belongs to the thread that made
//! it: a worker makes its port after it was pinned. It starts disabled and is enabled with restrictions, since its
//! operations pass by seccomp: it can receive from and send to the registered sockets, and nothing else.
//!
//! Transmit stamps are read from the sockets' error queues as the other port does
//! ([`departures`](UringPort::departures)), past the ring: one call a batch that asked for any. A stamp in the queue of a socket
//! whose receive is armed wakes that receive, for nothing and before the driver has the packet, by which the stamp is early:
//! so stamped replies leave by sockets of their own where there are any.
//! `SOCKET_URING_OP_TX_TIMESTAMP` (Linux 6.17) would save that call, but every completion of its ring is twice as long, and
//! it passes on stamps without their packets, so that replies could be known by number alone.
//!
//! The last chunk's submission also runs the receives that are due, so at full load a batch of [`SEND_CHUNK`] takes a
//! single system call.
//!
//! ```compile_fail
//! fn leaves_its_thread(port: maser_sys::uring::UringPort) {
//!     std::thread::spawn(move || drop(port));
//! }
//! ```

mod books;
mod error;
mod ledger;
mod memory;
mod setup;

use std::io;
use std::mem::ManuallyDrop;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode};

use crate::datagram::{
    Arrival, BATCH_MAX, Departed, Outgoing, RETRIES_MAX, SEND_CHUNK, SOCKETS_MAX, Sent, Wait, last_errno,
};
use crate::udp_socket::UdpSocket;
use books::{Books, Received, SEND};
pub use error::UringError;
pub use ledger::Buffers;
use ledger::Holder;
use setup::open_ring;

/// Buffers for each datagram of a batch: one batch is answered while the kernel fills the next. Twice as many were 2 %
/// slower over loopback; a burst waits in the sockets' buffers.
const BUFFERS_PER_DATAGRAM: usize = 2;
const _: () = assert!(BATCH_MAX * BUFFERS_PER_DATAGRAM <= 1 << 15);

/// The number of the only group of buffers.
const GROUP: u16 = 0;

/// A closing port waits this long for the kernel to let go of its memory, [`RETRIES_MAX`] times: a second in all.
const CANCEL_LIMIT_NS: u32 = 125_000_000;
const _: () = assert!(CANCEL_LIMIT_NS as usize * RETRIES_MAX == 1_000_000_000);

/// Sockets that are read and written through one io_uring.
pub struct UringPort {
    /// Closed before the memory that it works on is freed.
    ring: ManuallyDrop<IoUring>,
    books: ManuallyDrop<Books>,
    /// Those with a receive each, and behind them those that stamped replies leave by.
    sockets: Box<[UdpSocket]>,
    receiving: usize,
    /// How far behind a socket that receives the one is that stamped replies leave by: there is either none or one for each.
    apart: u16,
    /// The current batch.
    batch: Vec<Received>,
    /// How many datagrams it holds at most.
    batch_max: usize,
    /// Whose receive is armed first: each socket's in turn, so that none takes all buffers.
    first_armed: usize,
    /// No receive is armed any more.
    closed: bool,
}

impl UringPort {
    /// A port over `sockets` that delivers up to `batch` datagrams at a time, for this thread. Replies leave by those of
    /// `departing` whose departure is to be told: one for each of the others, of the same address, or none.
    ///
    /// # Errors
    /// What the kernel lacks or refuses, and what to do about it; found out by trying.
    pub fn new(
        mut sockets: Vec<UdpSocket>,
        departing: Vec<UdpSocket>,
        batch: usize,
    ) -> Result<Self, UringError> {
        let receiving = sockets.len();
        let is_paired = departing.is_empty() || departing.len() == receiving;
        if receiving == 0 || receiving > SOCKETS_MAX || !is_paired || batch == 0 || batch > BATCH_MAX {
            return Err(UringError::Size);
        }
        let apart = u16::try_from(departing.len()).expect("bounded by SOCKETS_MAX");
        sockets.extend(departing);
        let buffers = (batch * BUFFERS_PER_DATAGRAM).next_power_of_two();
        let nic_stamps = sockets.iter().any(UdpSocket::has_nic_stamps);
        let numbered = u16::try_from(buffers).map_err(|_| UringError::Size)?;
        let books = Books::new(numbered, (receiving, sockets.len()), nic_stamps);
        let ring = open_ring(&sockets, receiving, buffers, books.memory.ring_address())?;
        let mut port = Self {
            ring: ManuallyDrop::new(ring),
            books: ManuallyDrop::new(books),
            sockets: sockets.into(),
            receiving,
            apart,
            batch: Vec::with_capacity(batch),
            batch_max: batch,
            first_armed: 0,
            closed: false,
        };
        port.arm();
        port.enter(0, EnterFlags::GETEVENTS, None).map_err(UringError::of("receiving", "6.1"))?;
        port.reap();
        match port.books.fault {
            None => Ok(port),
            Some(errno) => Err(UringError::of_errno("multishot receive", "6.0", errno)),
        }
    }

    /// Takes a new batch in the place of the last; how many datagrams it holds.
    ///
    /// None after a timeout, a signal, or an error of the network: these are [counted](Self::receive_failures), and a
    /// receive that may block pauses after them.
    ///
    /// # Errors
    /// Only what going on can't mend: the ring or the sockets aren't what they were, or a filter refuses a call.
    pub fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        let failures = self.books.receive_failures;
        self.books.give_back(&mut self.batch);
        self.reap();
        if self.books.waiting.is_empty() {
            self.arm();
            let entered = match wait.limit() {
                Some(limit) => self.enter(1, EnterFlags::GETEVENTS, Some(limit))?,
                None => self.poll()?,
            };
            self.books.receive_failures += u64::from(!entered);
            self.reap();
        }
        if let Some(errno) = self.books.fault {
            return Err(io::Error::from_raw_os_error(errno));
        }
        while self.batch.len() < self.batch_max
            && let Some(received) = self.books.waiting.pop_front()
        {
            self.batch.push(received);
        }
        if self.batch.is_empty() && self.books.receive_failures > failures {
            wait.pause_after_failure();
        }
        Ok(self.batch.len())
    }

    /// How often a receive failed for a reason that may pass, such as a lack of memory.
    #[must_use]
    pub fn receive_failures(&self) -> u64 {
        self.books.receive_failures
    }

    /// Datagram `index` of the current batch: what is known of it, and its payload.
    ///
    /// # Panics
    /// If the batch has no such datagram.
    pub fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        let Received { buffer, socket } = self.batch[index];
        let bound = self.sockets[usize::from(socket)].address();
        assert!(self.books.ledger.holder(buffer) == Holder::Port, "datagram {index} is being sent");
        // SAFETY: the ledger says that the port holds the buffer.
        let slot = unsafe { self.books.memory.slot(buffer) };
        slot.datagram(slot.filled(), socket, bound)
    }

    /// Sends replies in place of the datagrams that they answer, from the addresses that were asked.
    ///
    /// `stamp` writes the transmit stamp of a reply, once, in a chunk of at most [`SEND_CHUNK`] just before the chunk's
    /// system call. It isn't called for replies that are given up because there is no room for them. A reply that the
    /// kernel doesn't take in that call never leaves, since its stamp would be wrong.
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
        let mut chunks = replies.chunks(SEND_CHUNK).peekable();
        while let Some(chunk) = chunks.next() {
            if !self.has_room(chunk.len()) {
                self.books.sent.congested += chunk.len();
                continue;
            }
            for reply in chunk {
                self.queue(*reply, &mut stamp);
            }
            if chunks.peek().is_some() {
                self.submit(chunk, EnterFlags::empty())?;
            } else {
                // Behind the sends, so that no receive delays a stamped reply.
                self.arm();
                self.submit(chunk, EnterFlags::GETEVENTS)?;
            }
        }
        self.reap();
        Ok(std::mem::take(&mut self.books.sent))
    }

    /// Tells when replies left, as [`MmsgPort::departures`](crate::mmsg::MmsgPort::departures) does.
    ///
    /// # Errors
    /// Only what going on can't mend. Where a filter refuses the call, nothing is asked for any more.
    pub fn departures(&mut self, told: impl FnMut(Departed)) -> io::Result<()> {
        self.books.departures.tell(&self.sockets, told)
    }

    /// Receives no more than what the kernel has put into the port's buffers already; that isn't lost.
    pub fn close(&mut self) {
        self.closed = true;
        self.cancel_all();
    }

    /// Whether so many sends fit, besides a receive for each socket. They do unless the kernel took nothing for a
    /// while, for want of memory.
    fn has_room(&mut self, sends: usize) -> bool {
        let queue = self.ring.submission();
        queue.capacity() - queue.len() >= sends + self.receiving
    }

    /// Stamps a reply and queues its send: by the cheaper operation, which can't say where the reply comes from nor that its
    /// departure is to be told, if the socket's own address is the one that was asked and nobody wants to know.
    fn queue(&mut self, reply: Outgoing, stamp: &mut impl FnMut(usize, &mut [u8])) {
        let (index, length) = (usize::from(reply.index), usize::from(reply.length));
        let Received { buffer, socket } = self.batch[index];
        let way = &self.sockets[usize::from(socket)];
        let (wildcard, nic_stamps) = (way.is_wildcard(), way.has_nic_stamps());
        let books = &mut *self.books;
        books.ledger.pass(buffer, Holder::Port, Holder::Sending);
        // SAFETY: the port held the buffer a line above, and nothing was submitted since.
        let slot = unsafe { books.memory.slot(buffer) };
        let filled = slot.filled();
        assert!(length <= filled.payload, "a reply of {length} octets to a request of {}", filled.payload);
        let payload = &mut slot.payload[..length];
        stamp(index, payload);
        let name = books.departures.wanted(reply.departure, payload);
        let leaves_by = if name.is_some() { socket + self.apart } else { socket };
        books.names[usize::from(buffer)] = name.map(|name| (leaves_by, name));
        let file = Fixed(u32::from(leaves_by));
        let send = if wildcard || name.is_some() {
            let stamps = name.map(|_| nic_stamps);
            // SAFETY: as above.
            let message = unsafe { books.memory.reply(buffer, length, wildcard, stamps) };
            opcode::SendMsg::new(file, message).flags(DONT_WAIT).build()
        } else {
            opcode::Send::new(file, books.memory.payload(buffer), u32::from(reply.length))
                .dest_addr(books.memory.name(buffer))
                .dest_addr_len(filled.name_length())
                .flags(libc::MSG_DONTWAIT)
                .build()
        };
        self.push(&send.user_data(SEND | u64::from(buffer)));
    }

    /// Queues a receive for each socket that has none.
    fn arm(&mut self) {
        if self.closed {
            return;
        }
        let sockets = self.receiving;
        for socket in (self.first_armed..sockets).chain(0..self.first_armed) {
            if !self.books.armed[socket] {
                self.books.armed[socket] = true;
                let (file, layout) = (Fixed(small(socket)), self.books.memory.layout());
                let receive = opcode::RecvMsgMulti::new(file, layout, GROUP).build();
                self.push(&receive.user_data(u64::from(small(socket))));
            }
        }
        self.first_armed = (self.first_armed + 1) % sockets;
    }

    fn push(&mut self, entry: &Entry) {
        let mut queue = self.ring.submission();
        // SAFETY: a receive's layout lives as long as the port and its buffers come from the registered ring; a send's
        // header, address and payload stay in place while the ledger says that the buffer is being sent.
        let pushed = unsafe { queue.push(entry) };
        assert!(pushed.is_ok(), "the queue has room for a chunk and a receive for each socket");
    }

    /// Hands what is queued to the kernel, with a chunk's replies; what it doesn't take of these never leaves.
    fn submit(&mut self, chunk: &[Outgoing], flags: EnterFlags) -> io::Result<()> {
        for _ in 0..RETRIES_MAX {
            self.enter(0, flags, None)?;
            if self.ring.submission().is_empty() {
                return Ok(());
            }
        }
        self.void(chunk);
        Ok(())
    }

    /// Makes those of a chunk's replies fail that the kernel didn't take: they stay in the queue, and their stamps would
    /// be wrong when it is taken. Their completions count them.
    fn void(&mut self, chunk: &[Outgoing]) {
        self.reap();
        for reply in chunk {
            let Received { buffer, .. } = self.batch[usize::from(reply.index)];
            if self.books.ledger.holder(buffer) == Holder::Sending {
                // SAFETY: what the kernel took has completed, since no send waits; this is still in the queue.
                unsafe { self.books.memory.void(buffer) };
            }
        }
    }

    /// Runs the receives that are due, if there are any or something is queued.
    fn poll(&mut self) -> io::Result<bool> {
        let queue = self.ring.submission();
        let due = queue.taskrun() || queue.cq_overflow() || !queue.is_empty();
        drop(queue);
        if due { self.enter(0, EnterFlags::GETEVENTS, None) } else { Ok(true) }
    }

    /// Submits what is queued and runs what is due; false if the kernel couldn't, for want of memory.
    fn enter(&mut self, want: u32, flags: EnterFlags, limit: Option<Duration>) -> io::Result<bool> {
        let queued = u32::try_from(self.ring.submission().len()).unwrap_or(0);
        let timespec = limit.map(Timespec::from);
        let args = timespec.as_ref().map(|limit| SubmitArgs::new().timespec(limit));
        let flags = if args.is_some() { flags | EnterFlags::EXT_ARG } else { flags };
        // SAFETY: what is queued was pushed with memory that stays in place; the argument is of the type that
        // `EXT_ARG` announces and lives to the end of the call, and without that flag there is none.
        let entered = unsafe { self.ring.submitter().enter(queued, want, flags.bits(), args.as_ref()) };
        match entered.map_err(|error| error.raw_os_error()) {
            Ok(_) | Err(Some(libc::ETIME | libc::EINTR)) => Ok(true),
            Err(Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM)) => Ok(false),
            Err(errno) => Err(io::Error::from_raw_os_error(errno.unwrap_or_else(last_errno))),
        }
    }

    /// Books what has completed.
    fn reap(&mut self) {
        for entry in self.ring.completion() {
            self.books.complete(&entry);
        }
    }

    /// Ends all receives and sends; whether the kernel has let go of the memory.
    fn cancel_all(&mut self) -> bool {
        let limit = Timespec::new().nsec(CANCEL_LIMIT_NS);
        for _ in 0..RETRIES_MAX {
            // "None found" is an error too; what counts is which completions came.
            let _ = self.ring.submitter().register_sync_cancel(Some(limit), CancelBuilder::any());
            if self.enter(0, EnterFlags::GETEVENTS, None).is_err() {
                return false;
            }
            self.reap();
            if self.books.armed.iter().all(|armed| !armed) && self.buffers().sending == 0 {
                return true;
            }
        }
        false
    }

    /// Who holds the port's buffers.
    #[must_use]
    pub fn buffers(&self) -> Buffers {
        self.books.ledger.count()
    }

    /// How often a receive ended and had to be armed again: a lack of buffers ends one, and so does an empty datagram.
    ///
    /// Whoever may send chooses how many are empty: batches of a flood hold 7 datagrams with one in eight empty, and a
    /// single one with one in two. Sockets don't mind, a reason for them to come first.
    #[must_use]
    pub fn rearmed(&self) -> u64 {
        self.books.rearmed
    }
}

impl Drop for UringPort {
    /// Takes the memory back from the kernel before freeing it; if that can't be confirmed, it is never freed.
    fn drop(&mut self) {
        // After a broken invariant the books can't be relied on.
        let idle = !std::thread::panicking() && self.cancel_all();
        // A closed ring lets go of its files only some time later, and their port would look taken to who comes next.
        // If it fails, that is so.
        let _ = self.ring.submitter().unregister_files();
        // SAFETY: nothing uses the ring after this; it is dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        if idle {
            // SAFETY: nothing uses the books after this; they are dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.books) };
        }
    }
}

/// A reply that can't leave at once is dropped: its stamp would be wrong.
const DONT_WAIT: u32 = libc::MSG_DONTWAIT.cast_unsigned();

fn small(count: usize) -> u32 {
    u32::try_from(count).expect("bounded by SOCKETS_MAX and BATCH_MAX")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp_socket::SocketOptions;
    use std::os::fd::AsRawFd;

    fn port() -> UringPort {
        let socket = UdpSocket::open(([127, 0, 0, 1], 0).into(), SocketOptions::default()).unwrap();
        UringPort::new(vec![socket], Vec::new(), 4).unwrap()
    }

    /// What the kernel answers to an operation.
    fn result(port: &mut UringPort, entry: &Entry) -> i32 {
        port.push(&entry.clone().user_data(SEND));
        assert!(port.enter(0, EnterFlags::GETEVENTS, None).unwrap());
        port.ring.completion().next().expect("a completion").result()
    }

    #[test]
    fn a_ring_can_do_nothing_but_receive_and_send_on_its_sockets() {
        let mut port = port();
        let mut octets = [0; 8];
        let file = Fixed(0);
        let read = opcode::Read::new(file, octets.as_mut_ptr(), 8).build();
        assert_eq!(result(&mut port, &read), -libc::EACCES);
        let open = opcode::OpenAt::new(io_uring::types::Fd(libc::AT_FDCWD), c"/dev/null".as_ptr()).build();
        assert_eq!(result(&mut port, &open), -libc::EACCES);
        let unregistered = io_uring::types::Fd(port.sockets[0].as_raw_fd());
        let send = opcode::Send::new(unregistered, octets.as_ptr(), 8).build();
        assert_eq!(result(&mut port, &send), -libc::EACCES);
        // The same on a registered socket is let through, and fails for want of a destination.
        let send = opcode::Send::new(file, octets.as_ptr(), 8).build();
        assert_eq!(result(&mut port, &send), -libc::EDESTADDRREQ);
        let more = port.ring.submitter().register_files(&[0]).unwrap_err();
        assert_eq!(more.raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    #[should_panic(expected = "passes from Port to Kernel but is with Kernel")]
    fn a_buffer_that_is_lost_by_the_port_is_noticed() {
        // The planted fault: a datagram is booked in two batches.
        let mut port = port();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&[1; 48], port.sockets[0].address()).unwrap();
        assert_eq!(port.receive(Wait::Until(Duration::from_secs(5))).unwrap(), 1);
        let received = port.batch[0];
        port.books.waiting.push_back(received);
        port.receive(Wait::Poll).unwrap();
        port.receive(Wait::Poll).unwrap();
    }
}
