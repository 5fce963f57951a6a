//! What the datagram ports deliver, and what they have in common.
//!
//! A port fills a batch ([`receive`](crate::mmsg::MmsgPort::receive)), shows its datagrams one by one
//! ([`datagram`](crate::mmsg::MmsgPort::datagram)), and sends replies in place from the buffers that the requests came
//! in ([`send`](crate::mmsg::MmsgPort::send)). All memory is allocated when the port is made. A port belongs to the
//! thread that made it.
//!
//! What comes from the kernel beside the payload is parsed here without trust in its lengths; what it means (who may
//! be answered, how old a stamp is) is decided elsewhere.

mod control;
mod shared_array;

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use maser_core::time::Stamp;
use maser_core::wire::{DATAGRAM_LENGTH_MAX, Peer};

pub(crate) use control::{Control, SendControl, address};
pub(crate) use shared_array::{Plain, SharedArray};

/// How many replies share a system call, so that who stamps them can tell when each will leave.
///
/// Each call is also a moment at which the worker may lose its core to a driver's thread that shares it, so few calls are
/// better than many. Since replies are stamped with the moment when they will leave, sharing a call doesn't make their
/// stamps earlier.
pub const SEND_CHUNK: usize = 16;

/// The largest batch, so that an index fits [`Outgoing`] and the rings of io_uring.
pub const BATCH_MAX: usize = 4096;

/// The most sockets of a port: listen addresses, not workers.
pub const SOCKETS_MAX: usize = 256;

/// A receive, or a chunk's send, that fails for a reason outside this program is tried again this often.
pub(crate) const RETRIES_MAX: usize = 8;

/// A receive that may block and that only failed takes this long, so that a failure that lasts doesn't take a core.
/// What arrives meanwhile waits in the socket's buffer.
const FAILURE_PAUSE: Duration = Duration::from_millis(1);

/// What a port delivers: how much of what was sent, and who says whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carried {
    /// UDP's payload. The source is what the packet alleges; the destination is the address in its header, and our port;
    /// unicast is false also where the kernel didn't say.
    Datagram(Peer),
    /// A whole Ethernet frame, sent to this port of an address of ours: the program that steered it looked no further.
    Frame {
        /// The port that it was sent to.
        service_port: u16,
    },
}

/// What came, by which way and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Which of the port's sockets, that is of its listen addresses, it came by, in the order in which they were given.
    pub socket: u16,
    /// What it is.
    pub carried: Carried,
    /// The payload is all that was sent. If it is longer than [`DATAGRAM_LENGTH_MAX`], it is not, and an empty payload is
    /// shown.
    pub whole: bool,
    /// When the kernel took it from the driver, in `CLOCK_REALTIME`, or when the driver handed it over, in
    /// `CLOCK_MONOTONIC`. The first packets after the first socket with stamps was opened may come without.
    pub stamp: Option<Stamp>,
    /// The interface that it came by, by its index: the NIC, or a device over it (VLAN, bond). 0 where nobody said.
    pub interface: u32,
    /// When the NIC saw it begin, where the NIC was told to stamp and somebody wants to know
    /// ([`SocketOptions::nic_stamps`](crate::udp_socket::SocketOptions::nic_stamps)).
    pub nic_stamp: Option<NicStamp>,
    /// How many packets it stands for: more than 1 if it was drawn from those that were dropped in the driver
    /// ([`Metadata::weight`](crate::xdp_program::Metadata::weight)).
    pub weight: u16,
}

/// A NIC's own stamp of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NicStamp {
    /// Nanoseconds of the NIC's own clock.
    pub nanos: i64,
    /// The NIC's interface by its index; 0 where nobody said.
    pub interface: u32,
    /// The frame that came, in octets from its Ethernet header on, without its check sequence and without a tag that the
    /// NIC took off; 0 if it isn't known, or left.
    pub frame_octets: u32,
}

/// How long a receive may wait for the first datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// It returns at once.
    Poll,
    /// It blocks for at most this long, to the kernel's tick; zero is [`Poll`](Self::Poll).
    Until(Duration),
}

impl Wait {
    /// How long it may block, if it may.
    pub(crate) fn limit(self) -> Option<Duration> {
        match self {
            Self::Until(limit) if !limit.is_zero() => Some(limit),
            Self::Poll | Self::Until(_) => None,
        }
    }

    /// What a receive that only failed does before it returns.
    pub(crate) fn pause_after_failure(self) {
        if let Some(limit) = self.limit() {
            thread::sleep(limit.min(FAILURE_PAUSE));
        }
    }
}

/// A reply to send: which datagram of the batch, and how much of its buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// The datagram of the current batch that this answers; at most once a batch.
    pub index: u16,
    /// Octets of its buffer to send, at most what was received: replies are never longer than requests.
    pub length: u16,
    /// What names the reply when its departure is told, where somebody wants to know; unique among those that a port has
    /// still to tell. Over sockets it must be octets 32 to 40 of the reply, its receive timestamp, as a big-endian number:
    /// the kernel loops stamped packets back, and knows them by nothing else.
    pub departure: Option<u64>,
}

/// When a reply left, as its port tells it afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departed {
    /// Which one: [`Outgoing::departure`].
    pub name: u64,
    /// When the kernel handed it to the driver, in `CLOCK_REALTIME`; over AF_XDP in copy mode an estimate of that, in
    /// `CLOCK_MONOTONIC`.
    pub stamp: Option<Stamp>,
    /// The interface that it left by, by its index; 0 where nobody said.
    pub interface: u32,
    /// When the NIC sent it. Over AF_XDP there is no other stamp then.
    pub nic_stamp: Option<NicStamp>,
}

/// What became of replies.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sent {
    /// Handed to the network.
    pub sent: usize,
    /// Refused for want of room in the socket's or the device's queue, or of memory (`EAGAIN`, `ENOBUFS`, `ENOMEM`).
    pub congested: usize,
    /// Refused for another reason: no route, a packet filter, a source port of 0.
    pub refused: usize,
}

impl Sent {
    /// All that did not leave.
    #[must_use]
    pub const fn failed(&self) -> usize {
        self.congested + self.refused
    }

    pub(crate) fn count_failure(&mut self, errno: i32) {
        if is_congestion(errno) {
            self.congested += 1;
        } else {
            self.refused += 1;
        }
    }
}

/// Whether an error of a send says that there is no room, which the next send would find too.
pub(crate) const fn is_congestion(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)
}

/// Whether an error of a receive ends the port: this program misused the socket, or a filter of system calls refuses
/// the call (`EPERM`, `ENOSYS`). Nothing would get better by going on; every other error comes from the network or the
/// load.
pub(crate) const fn ends_receiving(errno: i32) -> bool {
    ends_sending(errno) || matches!(errno, libc::EINVAL | libc::EOPNOTSUPP | libc::EACCES | libc::EPERM)
}

/// Whether an error of a send ends the port. Most of those that end receiving are a single reply's here: a source port
/// of 0 is `EINVAL`, a broadcast address `EACCES`, a packet filter gives `EPERM`, a route's tunnel `EOPNOTSUPP`.
pub(crate) const fn ends_sending(errno: i32) -> bool {
    matches!(errno, libc::EBADF | libc::EFAULT | libc::ENOTSOCK | libc::ENOSYS)
}

pub(crate) fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Octets kept for a source address: that of IPv6, padded so that what follows is aligned for control messages.
pub(crate) const NAME_LENGTH: usize = 32;

/// The same as the kernel counts it.
pub(crate) const NAME_ROOM: libc::socklen_t = 32;
const _: () = assert!(NAME_LENGTH == 32 && NAME_LENGTH >= size_of::<libc::sockaddr_in6>());

/// Octets kept for control messages: three stamps (64), packet info (40), the NIC that stamped (32), rounded up.
pub(crate) const CONTROL_LENGTH: usize = 144;

/// The memory of one datagram, laid out as io_uring fills a provided buffer: its header, the address, the control
/// messages, the payload. recvmmsg is pointed at the same fields. The payload starts on a cache line.
#[repr(C, align(64))]
pub(crate) struct Slot {
    pub(crate) header: [u32; 4],
    pub(crate) name: [u8; NAME_LENGTH],
    pub(crate) control: [u8; CONTROL_LENGTH],
    pub(crate) payload: [u8; DATAGRAM_LENGTH_MAX],
}

const _: () = assert!(std::mem::offset_of!(Slot, control).is_multiple_of(align_of::<libc::cmsghdr>()));
const _: () =
    assert!(std::mem::offset_of!(Slot, payload) == 192 && size_of::<Slot>() == 192 + DATAGRAM_LENGTH_MAX);

// SAFETY: a slot is integers only, all of whose bit patterns are values.
unsafe impl Plain for Slot {}

impl SharedArray<Slot> {
    /// Where the kernel finds a field of slot `index`, by the field's offset.
    ///
    /// It comes from the array's own pointer rather than from a borrow of the slot, so that it stays good for the kernel
    /// while the slot is borrowed again.
    pub(crate) fn field(&self, index: usize, offset: usize) -> *mut libc::c_void {
        self.pointer(index).wrapping_byte_add(offset).cast()
    }
}

// SAFETY: zeroed vectors are null pointers of length zero, which are values.
unsafe impl Plain for libc::iovec {}

// SAFETY: zeroed messages are null pointers of length zero, which are values.
unsafe impl Plain for libc::msghdr {}

/// A message that points at nothing.
pub(crate) const fn empty_message() -> libc::msghdr {
    // SAFETY: null pointers and zero lengths are values of a header's fields.
    unsafe { std::mem::zeroed() }
}

/// How much of a slot's fields the kernel filled.
#[derive(Clone, Copy)]
pub(crate) struct Filled {
    pub(crate) name: usize,
    pub(crate) control: usize,
    pub(crate) payload: usize,
    pub(crate) flags: i32,
}

impl Filled {
    pub(crate) fn name_length(self) -> libc::socklen_t {
        libc::socklen_t::try_from(self.name).unwrap_or(NAME_ROOM)
    }
}

impl Slot {
    /// The datagram in this slot, received by the port's socket number `socket`, which is bound to `bound`.
    pub(crate) fn datagram(
        &mut self,
        filled: Filled,
        socket: u16,
        bound: SocketAddr,
    ) -> (Arrival, &mut [u8]) {
        let control = Control::parse(self.control.get(..filled.control).unwrap_or_default());
        let source = address(self.name.get(..filled.name).unwrap_or_default());
        let whole =
            source.is_some() && filled.flags & libc::MSG_TRUNC == 0 && filled.payload <= DATAGRAM_LENGTH_MAX;
        let arrival = Arrival {
            socket,
            carried: Carried::Datagram(Peer {
                source: source.unwrap_or(bound),
                destination: SocketAddr::new(control.destination.unwrap_or(bound.ip()), bound.port()),
                unicast: control.unicast,
            }),
            whole,
            stamp: control.stamp,
            interface: control.interface,
            nic_stamp: control.nic_stamp(),
            weight: 1,
        };
        let length = if whole { filled.payload } else { 0 };
        (arrival, &mut self.payload[..length])
    }

    /// The control messages that make a reply leave from the address that was asked.
    pub(crate) fn reply_control(&self, filled: Filled) -> SendControl {
        SendControl::answering(&Control::parse(self.control.get(..filled.control).unwrap_or_default()))
    }
}
