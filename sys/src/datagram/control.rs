//! Addresses and control messages as the kernel lays them out, read and written as octets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use maser_core::time::{Stamp, StampClock};

use super::{NicStamp, Plain};

// The layouts below are those of 64-bit Linux: a control message's length takes 8 octets, a timespec 16.
const _: () = assert!(size_of::<libc::cmsghdr>() == 16 && size_of::<libc::timespec>() == 16);

/// A control message: its length with this header (8 octets), its level (4), its type (4), its data, padding to 8.
const HEADER_LENGTH: usize = size_of::<libc::cmsghdr>();

/// `SCM_TIMESTAMPING_PKTINFO`, from `asm-generic/socket.h`.
const STAMPED: i32 = 58;

/// The address in a `sockaddr_in` or `sockaddr_in6`.
pub(crate) fn address(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let ip: [u8; 4] = *rest.first_chunk()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into())
        }
        libc::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let scope = rest.first_chunk()?;
            let (flow, scope) = (u32::from_be_bytes(*flow), u32::from_ne_bytes(*scope));
            Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, flow, scope).into())
        }
        _ => None,
    }
}

/// What the control messages of a datagram say.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Control {
    pub(crate) stamp: Option<Stamp>,
    nic_stamp_ns: Option<i64>,
    /// The NIC that stamped; 0 where the kernel didn't say.
    stamped_by: u32,
    frame_octets: u32,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) unicast: bool,
    /// The stamps are of a datagram of ours that left: it came back through the error queue, and not for an error.
    pub(crate) is_departure: bool,
    /// The address that a reply leaves from: the destination, or an address of ours on its network if that was a
    /// broadcast address.
    answer_from: Option<IpAddr>,
    /// Where it came in, or left.
    pub(crate) interface: u32,
}

impl Control {
    #[cfg(test)]
    pub(crate) fn stamped_by_nic(nic_stamp_ns: Option<i64>) -> Self {
        Self { nic_stamp_ns, ..Self::default() }
    }

    /// Reads as many whole messages as there are; unknown ones are passed over.
    pub(crate) fn parse(mut messages: &[u8]) -> Self {
        let mut control = Self::default();
        while let Some((length, level, kind)) = header(messages) {
            let Some(data) = messages.get(HEADER_LENGTH..length) else { break };
            control.take(level, kind, data);
            let Some(next) = messages.get(length.next_multiple_of(align_of::<libc::cmsghdr>())..) else {
                break;
            };
            messages = next;
        }
        control
    }

    fn take(&mut self, level: i32, kind: i32, data: &[u8]) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => self.take_stamps(data),
            (libc::SOL_SOCKET, STAMPED) => self.take_stamped(data),
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => self.take_packet_info_4(data),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => self.take_packet_info_6(data),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                self.take_error(data);
            }
            _ => {}
        }
    }

    /// `struct sock_extended_err`: the error, where it comes from, two octets and padding, its information (ip(7)). For
    /// stamps the error is `ENOMSG` and the information when it was taken (Linux,
    /// `Documentation/networking/timestamping.rst`, 2.1.1).
    fn take_error(&mut self, data: &[u8]) {
        /// `SCM_TSTAMP_SND`: when the datagram left.
        const LEFT: u32 = 0;
        let Some((errno, rest)) = data.split_first_chunk() else { return };
        let Some(([origin, _, _, _], rest)) = rest.split_first_chunk() else { return };
        let Some(information) = rest.first_chunk() else { return };
        self.is_departure = i32::from_ne_bytes(*errno) == libc::ENOMSG
            && *origin == libc::SO_EE_ORIGIN_TIMESTAMPING
            && u32::from_ne_bytes(*information) == LEFT;
    }

    /// `struct scm_timestamping`: the kernel's stamp, one that is no longer used, the NIC's (Linux,
    /// `Documentation/networking/timestamping.rst`, 2.1). A zero is none.
    fn take_stamps(&mut self, data: &[u8]) {
        let stamp_ns = |slot: usize| -> Option<i64> {
            let (seconds, nanos) = data.get(slot * 16..)?.split_first_chunk()?;
            let seconds = i64::from_ne_bytes(*seconds);
            let nanos = i64::from_ne_bytes(*nanos.first_chunk()?);
            if seconds == 0 && nanos == 0 {
                None
            } else {
                seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
            }
        };
        self.stamp = stamp_ns(0).map(|nanos| Stamp { clock: StampClock::Realtime, nanos });
        self.nic_stamp_ns = stamp_ns(2);
    }

    /// `struct scm_ts_pktinfo`: the NIC that stamped, the frame's octets (Linux, `include/uapi/linux/net_tstamp.h`). It
    /// comes with what was received alone, and the NIC is 0 if its driver doesn't poll by NAPI.
    fn take_stamped(&mut self, data: &[u8]) {
        let Some((interface, rest)) = data.split_first_chunk() else { return };
        let Some(octets) = rest.first_chunk() else { return };
        self.stamped_by = u32::from_ne_bytes(*interface);
        self.frame_octets = u32::from_ne_bytes(*octets);
    }

    /// The NIC's stamp. Whose it is says the packet's own interface where nothing else does: then that is no device over
    /// the NIC, or one that nobody knows a clock of.
    pub(crate) fn nic_stamp(&self) -> Option<NicStamp> {
        let interface = if self.stamped_by == 0 { self.interface } else { self.stamped_by };
        self.nic_stamp_ns.map(|nanos| NicStamp { nanos, interface, frame_octets: self.frame_octets })
    }

    /// `struct in_pktinfo`: the interface, our address for a reply, the address in the header (ip(7)).
    fn take_packet_info_4(&mut self, data: &[u8]) {
        let Some((interface, rest)) = data.split_first_chunk() else { return };
        let Some((ours, rest)) = rest.split_first_chunk::<4>() else { return };
        let Some(destination) = rest.first_chunk::<4>() else { return };
        self.interface = u32::from_ne_bytes(*interface);
        self.destination = Some(Ipv4Addr::from(*destination).into());
        self.answer_from = Some(Ipv4Addr::from(*ours).into());
        self.unicast = ours == destination;
    }

    /// `struct in6_pktinfo`: the address in the header, the interface (RFC 3542 §6).
    fn take_packet_info_6(&mut self, data: &[u8]) {
        let Some((destination, rest)) = data.split_first_chunk::<16>() else { return };
        let Some(interface) = rest.first_chunk() else { return };
        let destination = Ipv6Addr::from(*destination);
        self.interface = u32::from_ne_bytes(*interface);
        self.destination = Some(destination.into());
        self.unicast = !destination.is_multicast();
        self.answer_from = self.unicast.then_some(destination.into());
    }
}

/// The length, level and type of the first message, if its header is whole and its length can be.
fn header(messages: &[u8]) -> Option<(usize, i32, i32)> {
    let (length, rest) = messages.split_first_chunk()?;
    let (level, rest) = rest.split_first_chunk()?;
    let length = usize::from_ne_bytes(*length);
    (length >= HEADER_LENGTH && length <= messages.len()).then_some((
        length,
        i32::from_ne_bytes(*level),
        i32::from_ne_bytes(*rest.first_chunk()?),
    ))
}

/// Octets of the longest control messages of a datagram to send: packet info of IPv6 (40), what stamps to take (24).
const SEND_CONTROL_LENGTH: usize = 64;

/// The control messages of a datagram to send: the address that it leaves from, what stamps to take of it.
#[repr(C, align(8))]
pub(crate) struct SendControl {
    octets: [u8; SEND_CONTROL_LENGTH],
    length: usize,
}

// SAFETY: zeroed, it is no message: octets and a length.
unsafe impl Plain for SendControl {}

impl SendControl {
    /// No message: the socket's own address, or one of the kernel's choice, and no stamp.
    pub(crate) const NONE: Self = Self { octets: [0; SEND_CONTROL_LENGTH], length: 0 };

    /// The message that makes a reply leave from where `request` was sent to.
    pub(crate) fn answering(request: &Control) -> Self {
        let mut control = Self::NONE;
        if let Some(from) = request.answer_from {
            control.leave_from(from, request.interface);
        }
        control
    }

    /// Makes the datagram leave from an address of ours; `interface` is the link that a link-local one is of.
    pub(crate) fn leave_from(&mut self, from: IpAddr, interface: u32) {
        match from {
            // The route decides by which interface the reply leaves, as for any packet of this machine.
            IpAddr::V4(from) => {
                self.put(libc::IPPROTO_IP, libc::IP_PKTINFO, &[&[0; 4], &from.octets(), &[0; 4]]);
            }
            IpAddr::V6(from) => {
                let interface = if from.is_unicast_link_local() { interface } else { 0 };
                self.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[&from.octets(), &interface.to_ne_bytes()]);
            }
        }
    }

    /// Asks for the kernel's transmit stamp of this datagram alone (Linux, `Documentation/networking/timestamping.rst`,
    /// 1.3.4).
    pub(crate) fn ask_for_stamp(&mut self) {
        self.ask_for_stamps(false);
    }

    /// Asks for the kernel's transmit stamp of this datagram, or if `nics` for the NIC's in its place.
    pub(crate) fn ask_for_stamps(&mut self, nics: bool) {
        let nics = if nics { libc::SOF_TIMESTAMPING_TX_HARDWARE } else { 0 };
        let stamps = libc::SOF_TIMESTAMPING_TX_SOFTWARE | nics;
        self.put(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &[&stamps.to_ne_bytes()]);
    }

    fn put(&mut self, level: i32, kind: i32, data: &[&[u8]]) {
        let length = HEADER_LENGTH + data.iter().map(|part| part.len()).sum::<usize>();
        let mut end = self.length;
        let header = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes()];
        for part in header.iter().chain(data) {
            self.octets[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        self.length = end.next_multiple_of(align_of::<libc::cmsghdr>());
    }

    /// Octets of the messages, which begin where this does.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }
}

const _: () = assert!(std::mem::offset_of!(SendControl, octets) == 0);

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut octets = (HEADER_LENGTH + data.len()).to_ne_bytes().to_vec();
        octets.extend(level.to_ne_bytes());
        octets.extend(kind.to_ne_bytes());
        octets.extend(data);
        octets.resize(octets.len().next_multiple_of(8), 0);
        octets
    }

    fn stamps(kernel: [i64; 2], nic: [i64; 2]) -> Vec<u8> {
        let data: Vec<u8> =
            [kernel, [0, 0], nic].as_flattened().iter().flat_map(|n| n.to_ne_bytes()).collect();
        message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &data)
    }

    #[test]
    fn both_stamps_are_read_and_a_zero_is_none() {
        let control = Control::parse(&stamps([5, 7], [0, 0]));
        assert_eq!(control.stamp, Some(Stamp { clock: StampClock::Realtime, nanos: 5_000_000_007 }));
        assert_eq!(control.nic_stamp(), None);
        let control = Control::parse(&stamps([0, 0], [1, 2]));
        let stamp = NicStamp { nanos: 1_000_000_002, interface: 0, frame_octets: 0 };
        assert_eq!((control.stamp, control.nic_stamp()), (None, Some(stamp)));
    }

    #[test]
    fn a_nics_stamp_is_whose_the_kernel_says() {
        let came_by = message(libc::IPPROTO_IP, libc::IP_PKTINFO, &[7, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 1]);
        let stamped = |by: u32| {
            let data = [by.to_ne_bytes(), 90_u32.to_ne_bytes(), [0; 4], [0; 4]].concat();
            message(libc::SOL_SOCKET, STAMPED, &data)
        };
        let of = |messages: &[Vec<u8>]| {
            let control = Control::parse(&messages.concat());
            (control.interface, control.nic_stamp().map(|stamp| (stamp.interface, stamp.frame_octets)))
        };
        let both = stamps([5, 7], [1, 2]);
        assert_eq!(
            of(&[both.clone(), stamped(3), came_by.clone()]),
            (7, Some((3, 90))),
            "over a VLAN device"
        );
        assert_eq!(of(&[both.clone(), stamped(0), came_by.clone()]), (7, Some((7, 90))));
        assert_eq!(of(&[both.clone(), came_by.clone()]), (7, Some((7, 0))));
        assert_eq!(of(&[both, stamped(3)]), (0, Some((3, 90))));
        assert_eq!(of(&[stamps([5, 7], [0, 0]), came_by]), (7, None));
    }

    #[test]
    fn only_what_came_back_stamped_is_a_departure() {
        let error = |errno: i32, origin: u8, information: u32| {
            let mut data = errno.to_ne_bytes().to_vec();
            data.extend([origin, 0, 0, 0]);
            data.extend(information.to_ne_bytes());
            data.extend([0; 4]);
            data
        };
        for (level, kind) in [(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)]
        {
            let of = |data: &[u8]| {
                let control = Control::parse(&[stamps([5, 7], [0, 0]), message(level, kind, data)].concat());
                assert!(control.stamp.is_some());
                control.is_departure
            };
            let stamped = error(libc::ENOMSG, libc::SO_EE_ORIGIN_TIMESTAMPING, 0);
            assert!(of(&stamped));
            assert!((0..12).all(|length| !of(&stamped[..length])));
            assert!(!of(&error(libc::ECONNREFUSED, libc::SO_EE_ORIGIN_ICMP, 0)));
            assert!(
                !of(&error(libc::ENOMSG, libc::SO_EE_ORIGIN_TIMESTAMPING, 1)),
                "on its way to the driver"
            );
        }
        assert!(!Control::parse(&stamps([5, 7], [0, 0])).is_departure, "one that came");
    }

    #[test]
    fn a_broadcast_is_not_unicast_and_is_answered_from_our_own_address() {
        let mut messages = stamps([5, 7], [0, 0]);
        messages.extend(message(
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            &[2, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 255],
        ));
        let control = Control::parse(&messages);
        assert!(control.stamp.is_some() && !control.unicast);
        assert_eq!(control.destination, Some(Ipv4Addr::new(10, 0, 0, 255).into()));
        assert_eq!(control.answer_from, Some(Ipv4Addr::new(10, 0, 0, 1).into()));
    }

    #[test]
    fn a_link_local_reply_names_its_link() {
        for (ip, interface) in [("fe80::1", 3_u32), ("2001:db8::1", 0)] {
            let ip: Ipv6Addr = ip.parse().unwrap();
            let mut data = ip.octets().to_vec();
            data.extend(3_u32.to_ne_bytes());
            let request = Control::parse(&message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data));
            assert!(request.unicast);
            let reply = SendControl::answering(&request);
            let reply = Control::parse(&reply.octets[..reply.length]);
            assert_eq!((reply.destination, reply.interface), (Some(ip.into()), interface));
        }
    }

    #[test]
    fn no_length_reaches_past_the_end() {
        let whole = [stamps([5, 7], [1, 2]), message(libc::IPPROTO_IP, libc::IP_PKTINFO, &[1; 12])].concat();
        for length in 0..whole.len() {
            let control = Control::parse(&whole[..length]);
            assert_eq!(control.stamp.is_some(), length >= 64, "{length}");
        }
        for length in [0, 1, 15, 65, usize::MAX - 7, usize::MAX] {
            let mut octets = whole.clone();
            octets[..8].copy_from_slice(&length.to_ne_bytes());
            // Only what is whole is believed; nothing panics.
            Control::parse(&octets);
            assert!(Control::parse(&octets).nic_stamp().is_none() || length == 65);
        }
        for length in 0..28 {
            address(&[10_u8; 28][..length]);
        }
    }
}
