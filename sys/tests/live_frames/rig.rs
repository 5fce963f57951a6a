//! Two ends of a veth pair in a namespace of the test's own, and the frames that pass between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use maser_core::wire::checksum::Sum;
use maser_sys::live_frames::{CountSetting, Interval};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};

pub(crate) const PORT: u16 = 123;
pub(crate) const KEY: u64 = 0xFEED_5EED_0BAD_CAFE;
pub(crate) const SAMPLE: u32 = 10;

/// The ends' indices.
pub(crate) struct Rig {
    pub(crate) near: u32,
    pub(crate) far: u32,
}

/// A namespace for this thread with a veth pair; none, said loudly, for who isn't root.
pub(crate) fn rig() -> Option<Rig> {
    if !std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "live frames are tested as root");
        eprintln!("SKIPPED: live frames need root for a namespace and BPF programs");
        return None;
    }
    // SAFETY: the call takes plain flags and concerns this thread only.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "a network namespace");
    ip("link add near type veth peer name far");
    for end in ["near", "far"] {
        ip(&format!("link set {end} up"));
    }
    let index = |name| nix::net::if_::if_nametoindex(name).unwrap();
    Some(Rig { near: index("near"), far: index("far") })
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Leaves this thread without any capability.
pub(crate) fn drop_capabilities() {
    let header = [0x2008_0522_u32, 0];
    let none = [0_u32; 6];
    // SAFETY: a header of version 3 for this thread, and two sets of three words, as the version has them.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(set, 0);
}

impl Rig {
    /// A count that has stopped growing: what is under way arrives within a few milliseconds.
    pub(crate) fn settled<T: PartialEq>(&self, count: impl Fn() -> T) -> T {
        let end = Instant::now() + Duration::from_secs(5);
        let mut last = count();
        loop {
            thread::sleep(Duration::from_millis(30));
            let now = count();
            if now == last || Instant::now() > end {
                return now;
            }
            last = now;
        }
    }
}

/// Counts replies to [`Family::request`]s at the near end.
pub(crate) fn counting(rig: &Rig, family: Family, echo: bool) -> CountSetting {
    CountSetting {
        interface: rig.near,
        target: SocketAddr::new(family.server(), PORT),
        key: KEY,
        echo,
        sample: SAMPLE,
        interval: Interval::of_rate(20_000).unwrap(),
        versions: 1 << 4 | 1 << 3,
        modes: 1 << 4,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The last octets of the first client's address: some of the clients after it carry into the next octet.
const FIRST_CLIENT: u32 = 0x0A01_00F0;

impl Family {
    pub(crate) const fn server(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(10, 200, 0, 1)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0xFD00, 0, 0, 1, 0, 0, 0, 1)),
        }
    }

    fn client(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from(FIRST_CLIENT).into(),
            Self::V6 => Ipv6Addr::from(0xFD00_0000_0000_0002 << 64 | u128::from(FIRST_CLIENT)).into(),
        }
    }

    pub(crate) const fn ntp_at(self) -> usize {
        match self {
            Self::V4 => 42,
            Self::V6 => 62,
        }
    }

    /// A template: its checksums are left out.
    pub(crate) fn request(self) -> Vec<u8> {
        let mut ntp = [0; 48];
        ntp[0] = 0x23;
        self.frame(self.client(), self.server(), [40_000, PORT], &ntp)
    }

    /// A datagram to the first client.
    pub(crate) fn reply(self, from: IpAddr, from_port: u16, payload: &[u8]) -> Vec<u8> {
        self.frame(from, self.client(), [from_port, 40_000], payload)
    }

    fn frame(self, from: IpAddr, to: IpAddr, ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + payload.len()).unwrap();
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                header[2..4].copy_from_slice(&(20 + length).to_be_bytes());
                header[12..16].copy_from_slice(&from.octets());
                header[16..].copy_from_slice(&to.octets());
                let checksum = Sum::ZERO.with_octets(&header).checksum();
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                frame.extend([0x08, 0x00]);
                frame.extend(header);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend([0x86, 0xDD, 0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([17, 64]);
                frame.extend(from.octets());
                frame.extend(to.octets());
            }
            mixed => panic!("{mixed:?}"),
        }
        for half in [ports[0], ports[1], length, 0] {
            frame.extend(half.to_be_bytes());
        }
        frame.extend(payload);
        frame
    }

    fn is_ours(self, frame: &[u8]) -> bool {
        let ethertype: [u8; 2] = if self == Self::V4 { [8, 0] } else { [0x86, 0xDD] };
        let protocol_at = if self == Self::V4 { 23 } else { 20 };
        frame.len() == self.ntp_at() + 48 && frame[12..14] == ethertype && frame[protocol_at] == 17
    }

    pub(crate) fn is_request(self, frame: &[u8]) -> bool {
        self.is_ours(frame) && frame[self.ntp_at() - 6..self.ntp_at() - 4] == PORT.to_be_bytes()
    }

    pub(crate) fn is_reply(self, frame: &[u8]) -> bool {
        self.is_ours(frame) && frame[self.ntp_at() - 8..self.ntp_at() - 6] == PORT.to_be_bytes()
    }

    /// Which client a request came from.
    pub(crate) fn client_number(self, frame: &[u8]) -> u32 {
        let at = if self == Self::V4 { 26 } else { 34 };
        u32::from_be_bytes(*frame[at..].first_chunk().unwrap()).wrapping_sub(FIRST_CLIENT)
    }

    pub(crate) fn source_port(self, frame: &[u8]) -> u16 {
        u16::from_be_bytes(*frame[self.ntp_at() - 8..].first_chunk().unwrap())
    }
}

/// Sees all that passes at an interface, and sends from it as it is.
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    pub(crate) fn on(interface: u32) -> Self {
        let flags = SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20)).unwrap();
        // SAFETY: zeros are a value of a link-layer address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET.try_into().unwrap();
        address.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        address.sll_ifindex = interface.try_into().unwrap();
        let length = size_of_val(&address).try_into().unwrap();
        // SAFETY: the address is of the length given and lives to the end of the call.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(bound, 0);
        Self(socket)
    }

    /// All frames that have come, until none comes for a while.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Vec<u8>> {
        std::iter::from_fn(|| {
            (0..30).find_map(|_| {
                let mut buffer = [0; 2048];
                let received = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok();
                if received.is_none() {
                    thread::sleep(Duration::from_millis(1));
                }
                received.map(|length| buffer[..length].to_vec())
            })
        })
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        assert_eq!(send(self.0.as_raw_fd(), frame, MsgFlags::empty()).unwrap(), frame.len());
    }
}
