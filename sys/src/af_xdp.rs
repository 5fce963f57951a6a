//! Frames straight from an interface's queues, past the kernel's network stack (AF_XDP).
//!
//! A program on the interface ([`xdp_program`](crate::xdp_program)) chooses the frames, writes what it knows of each in
//! front of it and hands them to the [`Xsk`] of their queue. An [`XskPort`] takes them in batches from the rings and sends
//! each reply from the frame that its request came in. Without the program nothing comes.
//!
//! Each socket has frames of its own, and each frame is in exactly one place: with the kernel to receive into, with the
//! port in the current batch, or with the kernel to send from (`ledger`). The rings have room for all frames, so
//! none is ever full.
//!
//! In zero-copy mode the driver receives into the frames and sends from them; in copy mode the kernel copies, and sends in
//! the worker's own system call. Either works with the program in the driver or behind it.
//!
//! (Linux, `Documentation/networking/af_xdp.rst`.)

mod departures;
mod error;
mod ledger;
mod memory;
mod port;
mod ring;
mod socket;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::datagram::{Departed, RETRIES_MAX, SEND_CHUNK, Sent};
use crate::xdp_program::Metadata;
use departures::{Departures, Moment};
pub use error::XskError;
use ledger::{Holder, Ledger};
use memory::{Frames, Request, frame_of, start_of};
pub use port::XskPort;
use socket::{Kick, Rings, Socket};
pub use socket::{XskCounts, XskStatistics};

/// The fewest frames of a socket.
pub const FRAMES_MIN: u32 = 64;
/// The most: 128 megabytes.
pub const FRAMES_MAX: u32 = 1 << 16;

/// In copy mode a system call sends no more packets than this, unless it is told to.
const TX_BATCH_SIZE: usize = 32;
const _: () = assert!(SEND_CHUNK <= TX_BATCH_SIZE);

/// Octets of a station's address; a frame begins with its destination's and its source's.
const STATION: usize = 6;

/// Octets of send buffer a frame: what the kernel counts for a short packet in copy mode is less.
const SEND_BUFFER_PER_FRAME: u32 = 2048;

/// Whose memory packets are received into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyChoice {
    /// The driver's own where it has that, else copies.
    Auto,
    /// The driver receives into the frames, or it is an error.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// Who polls the driver: each [`Poll`](crate::datagram::Wait::Poll) receive, rather than interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BusyPoll {
    /// How long interrupts may stay off between two receives, in microseconds (`SO_BUSY_POLL`; above the system's
    /// `net.core.busy_read` it takes CAP_NET_ADMIN).
    pub microseconds: u16,
    /// Packets a time, at most 64 without CAP_NET_ADMIN (`SO_BUSY_POLL_BUDGET`).
    pub budget: u16,
}

/// Which queue, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XskSetting {
    /// The interface's index.
    pub interface: u32,
    /// The queue's.
    pub queue: u32,
    /// How many frames: a power of two from [`FRAMES_MIN`] to [`FRAMES_MAX`], 2 KiB each. More than the driver's own ring
    /// in zero-copy mode.
    pub frames: u32,
    /// Whose memory.
    pub copy: CopyChoice,
    /// Polling in the place of interrupts, where wanted.
    pub busy_poll: Option<BusyPoll>,
}

/// A queue of an interface, with frames of its own.
pub struct Xsk {
    socket: Socket,
    rings: Rings,
    ledger: Ledger,
    frames: Frames,
    zero_copy: bool,
    why_copied: Option<XskError>,
    busy_poll: bool,
    departures: Departures,
    /// Whether the kernel takes requests in front of frames.
    takes_requests: bool,
    /// In zero-copy mode: the interface was down when a chunk was sent, and the driver hasn't taken all since.
    stalled: bool,
}

/// A frame of the current batch: where it begins, and its length.
#[derive(Clone, Copy)]
struct Received {
    address: u64,
    length: u32,
}

impl Xsk {
    /// Opens a socket for the queue and gives the kernel all frames to receive into.
    ///
    /// A queue that is taken is asked for again for a second: one that was just closed looks so.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn open(setting: &XskSetting) -> Result<Self, XskError> {
        let in_mode = |mode| Self::open_in(setting, mode);
        match setting.copy {
            CopyChoice::Copy => in_mode(libc::XDP_COPY),
            CopyChoice::ZeroCopy => in_mode(libc::XDP_ZEROCOPY),
            CopyChoice::Auto => match in_mode(libc::XDP_ZEROCOPY) {
                Err(why @ XskError::NoZeroCopy { .. }) => {
                    in_mode(libc::XDP_COPY).map(|xsk| Self { why_copied: Some(why), ..xsk })
                }
                done => done,
            },
        }
    }

    fn open_in(setting: &XskSetting, mode: u16) -> Result<Self, XskError> {
        let XskSetting { interface, queue, frames: count, busy_poll, .. } = *setting;
        if !count.is_power_of_two() || !(FRAMES_MIN..=FRAMES_MAX).contains(&count) {
            return Err(XskError::Frames { frames: count });
        }
        let socket = Socket::open().map_err(XskError::of("socket"))?;
        let frames = Frames::new(count).map_err(XskError::of("mmap"))?;
        let takes_requests = socket.register(&frames).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOBUFS) => XskError::LockedMemory { octets: frames.length() },
            _ => XskError::of("XDP_UMEM_REG")(error),
        })?;
        let rings = socket.rings(count).map_err(XskError::of("rings"))?;
        set_options(&socket, setting)?;
        let zero_copy = mode == libc::XDP_ZEROCOPY;
        let mut xsk = Self {
            socket,
            rings,
            ledger: Ledger::new(count),
            frames,
            zero_copy,
            why_copied: None,
            busy_poll: busy_poll.is_some(),
            departures: Departures::new(interface, count),
            takes_requests,
            stalled: false,
        };
        for frame in 0..count {
            xsk.offer(frame, Holder::Port);
        }
        // Before it is bound, which is when a driver fills its own ring.
        xsk.rings.fill.publish();
        let bound = xsk.socket.bind(setting, mode);
        bound.map_err(|errno| XskError::of_bind(errno, interface, queue, zero_copy))?;
        Ok(xsk)
    }

    /// Whether the driver receives into the frames.
    #[must_use]
    pub const fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Why it doesn't, where it was asked to.
    #[must_use]
    pub const fn why_copied(&self) -> Option<XskError> {
        self.why_copied
    }

    /// What the kernel counts of this queue.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn statistics(&self) -> io::Result<XskStatistics> {
        self.socket.statistics()
    }

    /// The interface's index.
    const fn interface(&self) -> u32 {
        self.departures.interface()
    }

    /// That the interface wasn't removed.
    fn expect_interface(&self) -> io::Result<()> {
        self.socket.expect_interface()
    }

    /// Gives a frame to the kernel to receive into; it sees it when that is published.
    #[inline]
    fn offer(&mut self, frame: u32, from: Holder) {
        self.ledger.pass(frame, from, Holder::Kernel);
        self.rings.fill.push(start_of(frame));
    }

    /// Ends a batch: what isn't being sent is for the kernel to receive into.
    fn give_back(&mut self, batch: &mut Vec<Received>) {
        for received in batch.drain(..) {
            let frame = frame_of(received.address);
            if self.ledger.holder(frame) == Holder::Port {
                self.offer(frame, Holder::Port);
            }
        }
    }

    /// Gives the kernel what was sent to receive into, and wakes it where it asks for that; has it look for packets if
    /// `looking` and the socket polls. There is no batch.
    fn tend(&mut self, looking: bool) -> io::Result<()> {
        debug_assert_eq!(self.ledger.recounted(Holder::Port), 0, "a frame is in no batch");
        self.collect();
        self.rings.fill.publish();
        if self.rings.fill.needs_wakeup() || (looking && self.busy_poll) {
            self.socket.kick_receiving()?;
        }
        // What the kernel didn't take when it was sent.
        if self.ledger.sending() > 0 && self.rings.to_send.waiting() > 0 && self.rings.to_send.needs_wakeup()
        {
            self.socket.kick_sending()?;
        }
        Ok(())
    }

    /// Takes back what was sent, for the kernel to receive into once that is published, and hears when it left.
    fn collect(&mut self) {
        while let Some(address) = self.rings.completed.pop() {
            let frame = frame_of(address);
            if self.departures.are_awaited() {
                assert!(self.ledger.holder(frame) == Holder::Sending, "frame {frame} wasn't sent");
                // SAFETY: the kernel has given the frame back, and the ledger says that nobody else was given it since.
                let (request, _) = unsafe { self.frames.octets(address, 0) };
                let stamp_ns = Request::stamp_ns(request).filter(|_| self.takes_requests);
                self.departures.complete(frame, stamp_ns);
            }
            self.offer(frame, Holder::Sending);
        }
        self.rings.completed.release();
    }

    /// Tells when replies left, each once.
    fn departures(&mut self, told: impl FnMut(Departed)) {
        if self.zero_copy && self.departures.are_awaited() {
            self.collect();
        }
        self.departures.drain().for_each(told);
    }

    /// How many frames wait, and of how many before some are lost. In zero-copy mode the driver may keep half of them to
    /// receive into.
    #[inline]
    fn backlog(&mut self) -> (u32, u32) {
        let room = self.frames.count();
        (self.rings.came.waiting(), if self.zero_copy { room / 2 } else { room })
    }

    /// Moves what came into the batch, which may hold up to `most`.
    fn take(&mut self, batch: &mut Vec<Received>, most: usize) {
        while batch.len() < most
            && let Some(libc::xdp_desc { addr: address, len: length, .. }) = self.rings.came.pop()
        {
            self.ledger.pass(frame_of(address), Holder::Kernel, Holder::Port);
            batch.push(Received { address, length });
        }
        self.rings.came.release();
    }

    /// The metadata and the octets of a frame of the batch.
    #[inline]
    fn frame(&mut self, Received { address, length }: Received) -> (&mut [u8; Metadata::LENGTH], &mut [u8]) {
        let frame = frame_of(address);
        assert!(self.ledger.holder(frame) == Holder::Port, "frame {frame} is being sent");
        // SAFETY: the ledger says that the port holds the frame.
        unsafe { self.frames.octets(address, length as usize) }
    }

    /// Queues the first `length` octets of a frame of the batch; the kernel sees it when that is published.
    #[inline]
    fn queue(&mut self, Received { address, .. }: Received, length: u32) {
        self.push(address, length, 0);
    }

    /// The same with a name under which its departure is told, or without one beside such.
    fn queue_asked(&mut self, Received { address, .. }: Received, length: u32, name: Option<u64>) {
        let frame = frame_of(address);
        if self.takes_requests && (name.is_some() || !self.zero_copy) {
            assert!(self.ledger.holder(frame) == Holder::Port, "frame {frame} is being sent");
            // SAFETY: the ledger says that the port holds the frame.
            let (request, _) = unsafe { self.frames.octets(address, 0) };
            Request::ask_for_stamp(request);
            self.push(address, length, libc::XDP_TX_METADATA);
        } else {
            self.push(address, length, 0);
        }
        self.departures.queue(frame, name);
    }

    #[inline]
    fn push(&mut self, address: u64, length: u32, options: u32) {
        self.ledger.pass(frame_of(address), Holder::Port, Holder::Sending);
        self.rings.to_send.push(libc::xdp_desc { addr: address, len: length, options });
    }

    /// Whether a chunk may be queued: once the kernel has taken the last, in zero-copy mode only after the interface was
    /// down.
    fn has_sent(&mut self) -> io::Result<bool> {
        if !self.zero_copy || self.stalled {
            if self.rings.to_send.waiting() > 0 {
                self.socket.kick_sending()?;
            }
            self.stalled = self.rings.to_send.waiting() > 0;
            return Ok(!self.stalled);
        }
        Ok(true)
    }

    /// Addresses what the kernel hasn't taken to the interface itself: once it can leave, its time isn't true any more, and
    /// an entry of the ring can't be taken back. Nobody on the wire takes such a frame in.
    ///
    /// Where the kernel has taken a frame that it hasn't told of, the frame leaves as it is or so, and was given up anyway.
    fn spoil_untaken(&mut self) {
        for libc::xdp_desc { addr: address, .. } in self.rings.to_send.untaken() {
            // SAFETY: the kernel may hold the frame, to read it; it never writes what it sends from, this process has no
            // other borrow, and whichever octets are read before and after make a frame that may be lost.
            let (_, stations) = unsafe { self.frames.octets::<0>(address, 2 * STATION) };
            stations.copy_within(STATION.., 0);
        }
    }

    /// Hands the chunk of `count` replies that was queued to the kernel.
    fn send(&mut self, count: usize, sent: &mut Sent) -> io::Result<()> {
        self.rings.to_send.publish();
        if self.zero_copy {
            // The driver takes them in its own time.
            if self.rings.to_send.needs_wakeup() && self.socket.kick_sending()? == Kick::Down {
                self.stalled = true;
                self.spoil_untaken();
                self.departures.drop_chunk();
                sent.refused += count;
            } else {
                self.departures.await_chunk();
                sent.sent += count;
            }
            return Ok(());
        }
        let begun = self.departures.are_asked().then(Moment::now);
        let (mut left, mut dropped, mut tries, mut kick) = (count, 0, 0, Kick::Done);
        while left > 0 && dropped < count && tries < RETRIES_MAX && kick != Kick::Down {
            kick = self.socket.kick_sending()?;
            match kick {
                Kick::Done | Kick::Congested => tries += 1,
                Kick::Dropped => dropped += 1,
                Kick::Down => {}
            }
            // Before Linux 6.16 the kernel says what it took of a chunk only once it took all, so less may be left.
            left = count.min(self.rings.to_send.waiting() as usize);
        }
        if let Some(begun) = begun {
            // Else nobody knows which went by which call.
            if left == 0 && tries == 1 && dropped == 0 {
                let ended = Moment::now();
                self.collect();
                self.departures.conclude(begun, ended);
            }
            self.departures.drop_chunk();
        }
        if left > 0 {
            self.spoil_untaken();
        }
        let dropped = dropped.min(count - left);
        sent.sent += count - left - dropped;
        sent.congested += dropped;
        *(if kick == Kick::Down { &mut sent.refused } else { &mut sent.congested }) += left;
        Ok(())
    }

    /// Those of its frames that are neither in a ring nor in the `batch`, if that is this one's.
    fn frames_missing(&mut self, batch: &[Received]) -> u32 {
        let is_held = |received: &&Received| self.ledger.holder(frame_of(received.address)) == Holder::Port;
        let batch = u32::try_from(batch.iter().filter(is_held).count()).unwrap_or(u32::MAX);
        let held = self.ledger.held().saturating_sub(batch);
        let Rings { fill, came, to_send, completed } = &mut self.rings;
        let receiving = self.ledger.receiving().saturating_sub(fill.waiting() + came.waiting());
        let sending = self.ledger.sending().saturating_sub(to_send.waiting() + completed.waiting());
        held + receiving + sending
    }
}

impl AsFd for Xsk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Room for all frames to be on their way out, and polling where it is wanted.
fn set_options(socket: &Socket, setting: &XskSetting) -> Result<(), XskError> {
    let room = i32::try_from(setting.frames * SEND_BUFFER_PER_FRAME).unwrap_or(i32::MAX);
    socket
        .set_socket(libc::SO_SNDBUFFORCE, room)
        .or_else(|_| socket.set_socket(libc::SO_SNDBUF, room))
        .map_err(XskError::of("SO_SNDBUF"))?;
    if let Some(BusyPoll { microseconds, budget }) = setting.busy_poll {
        for (what, option, value) in [
            ("SO_PREFER_BUSY_POLL", libc::SO_PREFER_BUSY_POLL, 1),
            ("SO_BUSY_POLL", libc::SO_BUSY_POLL, i32::from(microseconds)),
            ("SO_BUSY_POLL_BUDGET", libc::SO_BUSY_POLL_BUDGET, i32::from(budget)),
        ] {
            socket.set_socket(option, value).map_err(XskError::of(what))?;
        }
    }
    Ok(())
}
