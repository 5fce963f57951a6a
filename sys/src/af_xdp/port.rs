//! The port: batches from the rings, replies in place.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use libc::pollfd;
use maser_core::time::{Stamp, StampClock};

use super::{Received, Xsk, XskError};
use crate::datagram::{
    Arrival, BATCH_MAX, Carried, Departed, NicStamp, Outgoing, SEND_CHUNK, SOCKETS_MAX, Sent, Wait,
    ends_receiving, last_errno,
};
use crate::driver_limits::Floor;
use crate::xdp_program::Metadata;

/// Queues whose packets are taken and answered without the kernel's network stack.
pub struct XskPort {
    xsks: Box<[Xsk]>,
    polls: Box<[pollfd]>,
    /// Whose packets the batch holds.
    current: usize,
    batch: Vec<Received>,
    batch_max: usize,
    receive_failures: u64,
    floors: Box<[Floor]>,
}

impl XskPort {
    /// A port over `xsks` that delivers up to `batch` frames at a time.
    ///
    /// # Errors
    /// [`XskError::Size`].
    pub fn new(xsks: Vec<Xsk>, batch: usize) -> Result<Self, XskError> {
        if xsks.is_empty() || xsks.len() > SOCKETS_MAX || batch == 0 || batch > BATCH_MAX {
            return Err(XskError::Size);
        }
        let polls =
            xsks.iter().map(|xsk| pollfd { fd: xsk.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 });
        Ok(Self {
            polls: polls.collect(),
            xsks: xsks.into(),
            current: 0,
            batch: Vec::with_capacity(batch),
            batch_max: batch,
            receive_failures: 0,
            floors: Box::default(),
        })
    }

    /// The same, whose queues' programs drop below [`set_floor`](Self::set_floor)'s floor.
    #[must_use]
    pub fn dropping(mut self, floors: Vec<Floor>) -> Self {
        self.floors = floors.into();
        self
    }

    /// How many frames wait behind the batch in the fullest queue, and of how many before some are lost.
    #[inline]
    pub fn backlog(&mut self) -> (u32, u32) {
        let backlogs = self.xsks.iter_mut().map(Xsk::backlog);
        let fuller = |one: (u32, u32), other: (u32, u32)| {
            let [one_of_other, other_of_one] = [(one.0, other.1), (other.0, one.1)]
                .map(|(waiting, room)| u64::from(waiting) * u64::from(room));
            if one_of_other >= other_of_one { one } else { other }
        };
        backlogs.reduce(fuller).unwrap_or((0, 1))
    }

    /// What comes by these queues is dropped in the driver below this floor ([`Floor::set`]).
    #[inline]
    pub fn set_floor(&self, floor: u32) {
        self.floors.iter().for_each(|own| own.set(floor));
    }

    /// While few are refused the driver looks nobody up ([`Floor::set_few_refused`]).
    #[inline]
    pub fn set_few_refused(&self, few: bool) {
        self.floors.iter().for_each(|own| own.set_few_refused(few));
    }

    /// Takes a new batch in the place of the last, from one queue, each in its turn; how many frames it holds. Frames of
    /// the last one that weren't answered are for the kernel to receive into.
    ///
    /// None after a timeout, a signal, or while the interface is down.
    ///
    /// # Errors
    /// Only what going on can't mend: the interface was removed, or a filter refuses a call. That an interface is gone is
    /// seen only by a receive that may block.
    pub fn receive(&mut self, wait: Wait) -> io::Result<usize> {
        let failures = self.receive_failures;
        self.xsks[self.current].give_back(&mut self.batch);
        for xsk in &mut self.xsks {
            xsk.tend(wait.limit().is_none())?;
        }
        self.take();
        if let Some(limit) = wait.limit()
            && self.batch.is_empty()
        {
            if self.poll(limit)? {
                self.take();
            }
            if self.batch.is_empty() && self.receive_failures > failures {
                wait.pause_after_failure();
            }
        }
        Ok(self.batch.len())
    }

    /// Fills the batch from the first queue after the last that has something.
    fn take(&mut self) {
        for step in 1..=self.xsks.len() {
            let next = (self.current + step) % self.xsks.len();
            self.xsks[next].take(&mut self.batch, self.batch_max);
            if !self.batch.is_empty() {
                self.current = next;
                break;
            }
        }
    }

    /// Whether any queue has something before the time is up.
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
        if ready < 0 {
            return match last_errno() {
                libc::EINTR => Ok(false),
                errno if ends_receiving(errno) => Err(io::Error::from_raw_os_error(errno)),
                _ => {
                    self.receive_failures += 1;
                    Ok(false)
                }
            };
        }
        if !self.polls.iter().any(|poll| poll.revents & libc::POLLIN != 0) {
            self.xsks.iter().try_for_each(Xsk::expect_interface)?;
        }
        Ok(ready > 0)
    }

    /// How often a receive failed for a reason that may pass, such as a lack of memory.
    #[must_use]
    pub const fn receive_failures(&self) -> u64 {
        self.receive_failures
    }

    /// Frame `index` of the current batch: what is known of it, and its octets.
    ///
    /// # Panics
    /// If the batch has no such frame, or it is being sent.
    #[inline]
    pub fn datagram(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        let received = self.batch[index];
        let (interface, frame_octets) = (self.xsks[self.current].interface(), received.length);
        let (metadata, frame) = self.xsks[self.current].frame(received);
        let Metadata { hook_ns, nic_ns, listener, service_port, weight } = Metadata::of(metadata);
        let arrival = Arrival {
            socket: listener,
            carried: Carried::Frame { service_port },
            whole: true,
            stamp: Some(Stamp { clock: StampClock::Monotonic, nanos: hook_ns }),
            interface,
            nic_stamp: nic_ns.map(|nanos| NicStamp { nanos, interface, frame_octets }),
            weight,
        };
        (arrival, frame)
    }

    /// Sends replies in place of the frames that they answer, by the queue that they came from.
    ///
    /// `stamp` writes the transmit stamp of a reply, once, in a chunk of at most [`SEND_CHUNK`] just before the chunk's
    /// system call. It isn't called for replies that are given up because those before them wait.
    ///
    /// What the kernel didn't take of a chunk after some tries is counted as congested, or as refused while the interface is
    /// down. It waits in the ring, addressed to the interface itself, so that no reply leaves with an old stamp; nothing is
    /// queued behind it. In zero-copy mode the driver takes chunks in its own time, and that holds while the interface is
    /// down.
    ///
    /// # Errors
    /// Only what going on can't mend.
    ///
    /// # Panics
    /// If the batch has no such frame, it is being sent, or a reply is longer than its request.
    pub fn send(
        &mut self,
        replies: &[Outgoing],
        mut stamp: impl FnMut(usize, &mut [u8]),
    ) -> io::Result<Sent> {
        let xsk = &mut self.xsks[self.current];
        let mut sent = Sent::default();
        for chunk in replies.chunks(SEND_CHUNK) {
            if !xsk.has_sent()? {
                sent.congested += chunk.len();
                continue;
            }
            let asked = chunk.iter().any(|reply| reply.departure.is_some());
            for reply in chunk {
                let (index, length) = (usize::from(reply.index), usize::from(reply.length));
                let request = self.batch[index];
                let (_, frame) = xsk.frame(request);
                assert!(length <= frame.len(), "a reply of {length} octets to a request of {}", frame.len());
                stamp(index, &mut frame[..length]);
                let length = u32::from(reply.length);
                if asked {
                    xsk.queue_asked(request, length, reply.departure);
                } else {
                    xsk.queue(request, length);
                }
            }
            xsk.send(chunk.len(), &mut sent)?;
        }
        Ok(sent)
    }

    /// Tells when replies left, each once: with the NIC's stamp in zero-copy mode, where the driver has such; in copy mode
    /// with an estimate, within the call that sent it, in `CLOCK_MONOTONIC` (`departures.rs` says how good). What isn't known
    /// well enough is never told. There is no system call.
    ///
    /// # Errors
    /// None.
    pub fn departures(&mut self, mut told: impl FnMut(Departed)) -> io::Result<()> {
        self.xsks.iter_mut().for_each(|xsk| xsk.departures(&mut told));
        Ok(())
    }

    /// Frames that are in no ring and not in the batch: while nothing comes or leaves none in copy mode, and no more than
    /// the driver's own rings hold in zero-copy mode. What stays above that is lost.
    pub fn frames_missing(&mut self) -> u32 {
        let batch_of = |index| if index == self.current { &self.batch[..] } else { &[] };
        self.xsks.iter_mut().enumerate().map(|(index, xsk)| xsk.frames_missing(batch_of(index))).sum()
    }
}
