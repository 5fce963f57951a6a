//! When a port's replies left: their names, found again in the error queues of its sockets.
//!
//! The kernel loops back what it stamped, and a reply is known by octets of its own that no other has. So nothing that
//! fails on the way shifts one name to another's stamp: what isn't recognised is never told. (Linux has numbers for stamped
//! packets, too, but counts refused ones along, or not, by release; those that the caller may give it are of 6.13.)
//!
//! Where the NIC's stamps are wanted, a reply has two, one after the other (`SOF_TIMESTAMPING_OPT_TX_SWHW`): the kernel's waits
//! for the NIC's, so that both are told together, and is told alone where the NIC's doesn't come. So a driver that promises
//! stamps and delivers none, or an interface without, costs some milliseconds and no departure.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

use super::TransmitStamps;
use super::asked::Asked;
use crate::datagram::{Control, Departed};
use crate::kernel_clock::{KernelClock, read};
use maser_core::wire::ethernet::{Ethernet, Network};
use maser_core::wire::{ip4::Ipv4, ip6::Ipv6, udp};

/// Most stamps that one call takes.
const STAMPS_MAX: usize = 64;

/// Where a reply's name is: its receive timestamp (RFC 5905 §7.3).
const NAME_AT: usize = 32;

/// A queue that was empty is looked at again after this, unless more was asked: what a NIC may take to report a stamp.
const REST_NS: i64 = 200_000;

/// The kernel's stamp waits this long for the NIC's, which drivers report within a millisecond.
const HELD_NS: i64 = 3_000_000;

/// The most that wait; the oldest makes room.
const HELD_MAX: usize = 256;

/// What the kernel's stamp says of a reply that the NIC may still stamp.
#[derive(Clone, Copy)]
struct Held {
    socket: u16,
    departed: Departed,
    since_ns: i64,
}

/// What a port over UDP sockets asked of departures, and hears.
pub(crate) struct Departures {
    asked: Asked,
    /// In the order in which they came; none without the NIC's stamps.
    held: VecDeque<Held>,
    nic_stamps: bool,
    stamps: TransmitStamps,
    sockets: Box<[Queue]>,
    /// A filter of system calls refuses to have the queues read.
    refused: bool,
}

/// What is known of a socket's error queue.
#[derive(Clone, Copy, Default)]
struct Queue {
    /// Not worth a look before this moment of `CLOCK_MONOTONIC`.
    rests_until_ns: i64,
    /// The kernel says that something is in it.
    is_waiting: bool,
}

/// The name that a reply has for its port.
fn name_of(reply: &[u8]) -> Option<u64> {
    reply.get(NAME_AT..)?.first_chunk().map(|name| u64::from_be_bytes(*name))
}

impl Departures {
    /// All memory, for a port over so many sockets, with the NIC's stamps or without.
    pub(crate) fn new(sockets: usize, nic_stamps: bool) -> Self {
        Self {
            asked: Asked::new(sockets),
            held: VecDeque::with_capacity(if nic_stamps { HELD_MAX } else { 0 }),
            nic_stamps,
            stamps: TransmitStamps::new(STAMPS_MAX),
            sockets: vec![Queue::default(); sockets].into(),
            refused: false,
        }
    }

    /// The name to ask for, if one is wanted and the reply can be known by it.
    #[inline]
    pub(crate) fn wanted(&self, departure: Option<u64>, reply: &[u8]) -> Option<u64> {
        departure.filter(|name| !self.refused && name_of(reply) == Some(*name))
    }

    /// The kernel took a reply that it is to stamp.
    pub(crate) fn sent(&mut self, socket: u16, name: u64) {
        self.asked.insert(socket, name);
        self.sockets[usize::from(socket)].rests_until_ns = i64::MIN;
    }

    /// The kernel says that the error queue of a socket isn't empty: waiting for the socket would end at once.
    pub(crate) fn notice(&mut self, socket: usize) {
        self.sockets[socket].is_waiting = true;
    }

    /// Tells what the error queues hold, with one call at most for each socket that has something to come.
    pub(crate) fn tell<S: AsFd>(&mut self, sockets: &[S], mut told: impl FnMut(Departed)) -> io::Result<()> {
        let mut now_ns = None;
        for (index, socket) in sockets.iter().enumerate() {
            let Queue { rests_until_ns, is_waiting } = self.sockets[index];
            if self.asked.awaited(index) == 0 && !is_waiting {
                continue;
            }
            let now_ns = *now_ns.get_or_insert_with(|| read(KernelClock::Monotonic));
            if now_ns < rests_until_ns && !is_waiting {
                continue;
            }
            let number = u16::try_from(index).expect("bounded by SOCKETS_MAX");
            let Self { asked, held, nic_stamps, stamps, .. } = self;
            let mut tell = |socket: u16, departed: Departed| {
                if asked.remove(socket, departed.name) {
                    told(departed);
                }
            };
            let found = stamps.receive_each(socket.as_fd(), |octets, control| {
                let Some(departed) = departed(octets, control) else { return };
                if departed.nic_stamp.is_some() {
                    tell(number, with_kernels(held, number, departed));
                } else if *nic_stamps {
                    if held.len() == HELD_MAX
                        && let Some(Held { socket, departed, .. }) = held.pop_front()
                    {
                        tell(socket, departed);
                    }
                    held.push_back(Held { socket: number, departed, since_ns: now_ns });
                } else {
                    tell(number, departed);
                }
            });
            let found = found.or_else(|error| match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => {
                    self.refused = true;
                    Ok(0)
                }
                _ => Err(error),
            })?;
            let rests_until_ns = if found == 0 { now_ns.saturating_add(REST_NS) } else { i64::MIN };
            self.sockets[index] = Queue { rests_until_ns, is_waiting: false };
        }
        if let Some(now_ns) = now_ns {
            while let Some(Held { socket, departed, .. }) =
                self.held.pop_front_if(|held| now_ns.saturating_sub(held.since_ns) > HELD_NS)
            {
                if self.asked.remove(socket, departed.name) {
                    told(departed);
                }
            }
            self.asked.pass(now_ns);
        }
        Ok(())
    }
}

/// The NIC's stamp with the kernel's, if that came before it.
fn with_kernels(held: &mut VecDeque<Held>, socket: u16, nics: Departed) -> Departed {
    let is_same = |held: &Held| held.departed.name == nics.name && held.socket == socket;
    let kernels = held.iter().position(is_same).and_then(|at| held.remove(at));
    Departed { stamp: kernels.and_then(|held| held.departed.stamp), ..nics }
}

/// What a message of the error queue says, if it is a transmit stamp of a datagram.
///
/// Where it is the NIC's, the kernel's is whatever the packet's owner last kept in the same field, and isn't told.
fn departed(frame: &[u8], control: &Control) -> Option<Departed> {
    let name = name_of(udp_payload(frame)?)?;
    let nic_stamp = control.nic_stamp();
    let stamp = control.stamp.filter(|_| nic_stamp.is_none());
    (control.is_departure && (stamp.is_some() || nic_stamp.is_some())).then_some(Departed {
        name,
        stamp,
        interface: control.interface,
        nic_stamp,
    })
}

/// What follows the headers of a packet that the kernel made, from the link's header on or, on a link without, from IP's.
/// Its UDP checksum may be left to the NIC and isn't looked at.
fn udp_payload(frame: &[u8]) -> Option<&[u8]> {
    let (network, packet) = match (Ethernet::new_checked(frame), frame.first().map(|first| first >> 4)) {
        (Ok(ethernet), _) => (ethernet.network(), ethernet.payload()),
        (Err(_), Some(4)) => (Network::Ipv4, frame),
        (Err(_), Some(6)) => (Network::Ipv6, frame),
        (Err(_), _) => return None,
    };
    let datagram = match network {
        Network::Ipv4 => Ipv4::new_checked(packet).ok()?.payload(),
        Network::Ipv6 => Ipv6::new_checked(packet).ok()?.payload(),
    };
    datagram.get(udp::LENGTH..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::NicStamp;
    use maser_core::time::{Stamp, StampClock};
    use maser_core::wire::checksum::Sum;

    /// A datagram of `payload` in IP, without a link's header.
    fn packet(ipv4: bool, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(udp::LENGTH + payload.len()).unwrap();
        let mut packet = if ipv4 {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
            header[2..4].copy_from_slice(&(20 + length).to_be_bytes());
            let checksum = Sum::ZERO.with_octets(&header).checksum();
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            header
        } else {
            let mut header = vec![0; 40];
            header[0] = 0x60;
            header[4..6].copy_from_slice(&length.to_be_bytes());
            (header[6], header[7], header[8], header[24], header[39]) = (17, 64, 0xfd, 0xfd, 1);
            header
        };
        packet.extend([0, 123, 0, 124]);
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        packet
    }

    /// The same behind an Ethernet header with `tags` VLAN tags.
    fn frame(ipv4: bool, tags: usize, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x81, 0, 0, 5].repeat(tags));
        frame.extend(if ipv4 { [8, 0] } else { [0x86, 0xdd] });
        frame.extend(packet(ipv4, payload));
        frame
    }

    const STAMP: Stamp = Stamp { clock: StampClock::Realtime, nanos: 7 };

    #[test]
    fn a_reply_is_known_on_any_link_and_in_no_other_place() {
        let payload: Vec<u8> = (0..48).collect();
        let name = name_of(&payload).unwrap();
        assert_eq!(name, 0x2021_2223_2425_2627);
        let mut control = Control::default();
        (control.stamp, control.is_departure) = (Some(STAMP), true);
        control.interface = 4;
        let told = Some(Departed { name, stamp: Some(STAMP), interface: 4, nic_stamp: None });
        for ipv4 in [true, false] {
            for octets in [packet(ipv4, &payload), frame(ipv4, 0, &payload), frame(ipv4, 2, &payload)] {
                assert_eq!(departed(&octets, &control), told, "{ipv4} {}", octets.len());
                for length in 0..octets.len() {
                    assert_eq!(departed(&octets[..length], &control), None, "cut to {length}");
                }
            }
            assert_eq!(departed(&frame(ipv4, 0, &payload[..39]), &control), None);
        }
    }

    #[test]
    fn a_nics_stamp_is_told_alone_and_what_is_none_is_not_told() {
        let octets = frame(true, 0, &[9; 48]);
        let told = |stamp, nic_stamp_ns: Option<i64>, is_departure| {
            let mut control = Control::stamped_by_nic(nic_stamp_ns);
            (control.stamp, control.interface, control.is_departure) = (stamp, 4, is_departure);
            departed(&octets, &control)
        };
        let nics = Some(NICS);
        assert_eq!(told(None, Some(5), true), nics);
        assert_eq!(told(Some(STAMP), Some(5), true), nics);
        assert_eq!(told(None, None, true), None);
        assert_eq!(told(Some(STAMP), None, false), None, "an error, or a datagram that came");
    }

    const NICS: Departed = Departed {
        name: 0x0909_0909_0909_0909,
        stamp: None,
        interface: 4,
        nic_stamp: Some(NicStamp { nanos: 5, interface: 4, frame_octets: 0 }),
    };

    #[test]
    fn the_nics_stamp_finds_the_kernels_of_its_reply_and_socket() {
        let kernels = |name| Departed { name, stamp: Some(STAMP), nic_stamp: None, ..NICS };
        let held = |socket, name| Held { socket, departed: kernels(name), since_ns: 0 };
        let mut waiting = VecDeque::from([held(0, 1), held(1, NICS.name), held(0, NICS.name), held(0, 2)]);
        assert_eq!(with_kernels(&mut waiting, 0, NICS), Departed { stamp: Some(STAMP), ..NICS });
        let left: Vec<_> = waiting.iter().map(|held| (held.socket, held.departed.name)).collect();
        assert_eq!(left, [(0, 1), (1, NICS.name), (0, 2)]);
        assert_eq!(with_kernels(&mut waiting, 0, NICS), NICS, "none came");
    }
}
