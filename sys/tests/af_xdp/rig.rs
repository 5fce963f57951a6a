//! A veth pair: at its far end the program and the port, at its near end a packet socket that asks and sees the replies.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use maser_core::wire::checksum::Sum;
use maser_sys::af_xdp::{CopyChoice, Xsk, XskPort, XskSetting};
use maser_sys::datagram::{Outgoing, Sent, Wait};
use maser_sys::xdp_program::{AttachMode, Destination, SocketsMap, XdpProgram};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};

pub(crate) const MODES: [AttachMode; 2] = [AttachMode::Native, AttachMode::Generic];
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
pub(crate) const SHORT: Wait = Wait::Until(Duration::from_millis(20));
/// What is under way has arrived by then, on a busy machine too.
pub(crate) const SETTLED: Duration = Duration::from_millis(200);
pub(crate) const SERVICE_PORT: u16 = 123;
/// The listen address's index.
pub(crate) const LISTENER: u16 = 3;
pub(crate) const FRAMES: u32 = 256;

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The first of many clients.
pub(crate) const CLIENT_RANGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Where in a frame a request's number is, and where the server writes that it stamped it.
const NUMBER_AT: usize = 42;
pub(crate) const STAMP_AT: usize = 50;
const FRAME_LENGTH: usize = 90;

pub(crate) struct Rig {
    pub(crate) near: u32,
    pub(crate) far: u32,
    pub(crate) client: PacketSocket,
    pub(crate) program: XdpProgram,
    pub(crate) sockets: SocketsMap,
}

/// Runs `test` in a thread and a namespace of its own, with a veth pair of `queues` queues; or skips it loudly.
pub(crate) fn with_rig(name: &str, queues: u32, mode: AttachMode, test: impl FnOnce(&mut Rig) + Send) {
    if !std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "{name} must not be skipped in CI: it takes root"
        );
        // The harness swallows what `eprintln!` says, but not what is written to the stream itself.
        writeln!(std::io::stderr().lock(), "SKIPPED: {name}: AF_XDP in a namespace takes root").unwrap();
        return;
    }
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: the call takes plain flags and concerns this thread only.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "a network namespace");
            test(&mut Rig::new(queues, mode));
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Rig {
    fn new(queues: u32, mode: AttachMode) -> Self {
        // Only what the tests send is on the wire; this is the new namespace's setting.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let ends = format!("numtxqueues {queues} numrxqueues {queues}");
        ip(&format!("link add near {ends} type veth peer name far {ends}"));
        ip("link set near address 02:00:00:00:00:02");
        ip("link set far address 02:00:00:00:00:01");
        ip("link set near up");
        ip("link set far up");
        let index = |name| nix::net::if_::if_nametoindex(name).unwrap();
        let (near, far) = (index("near"), index("far"));
        let mut program = XdpProgram::attach(far, mode).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(program.footing().mode, mode);
        let to = Destination { address: IpAddr::V4(SERVER), port: SERVICE_PORT, listener: LISTENER };
        program.set_destinations(&[to]).unwrap();
        program.set_hardware_addresses(&[SERVER_MAC]).unwrap();
        let sockets = SocketsMap::from_fd(program.sockets_map().unwrap());
        let rig = Self { near, far, client: PacketSocket::on(near), program, sockets };
        rig.wait_for_link();
        rig
    }

    /// Waits until frames pass: what is sent before the kernel has seen to a new carrier is dropped, without an error.
    pub(crate) fn wait_for_link(&self) {
        let far = PacketSocket::on(self.far);
        let mut probe = request(0, 40_000);
        // An experimental type (IEEE 802), which the program passes by.
        probe[12..14].copy_from_slice(&[0x88, 0xB5]);
        let end = Instant::now() + LIMIT;
        while !far.received(&probe) {
            assert!(Instant::now() < end, "no frame passes");
            self.client.send(&probe);
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn setting(&self, queue: u32) -> XskSetting {
        XskSetting { interface: self.far, queue, frames: FRAMES, copy: CopyChoice::Auto, busy_poll: None }
    }

    /// Opens a queue's socket; the program knows of it.
    pub(crate) fn open(&self, setting: &XskSetting) -> Xsk {
        let xsk = Xsk::open(setting).unwrap_or_else(|error| panic!("{error}"));
        self.sockets.insert(setting.queue, xsk.as_fd()).unwrap();
        xsk
    }

    /// A port over the first `queues` queues.
    pub(crate) fn port(&self, queues: u32, batch: usize) -> XskPort {
        let xsks = (0..queues).map(|queue| self.open(&self.setting(queue))).collect();
        XskPort::new(xsks, batch).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until the kernel has let go of all frames in flight: none is missing.
    pub(crate) fn assert_whole(&self, port: &mut XskPort) {
        let end = Instant::now() + Duration::from_secs(2);
        while port.frames_missing() > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(port.frames_missing(), 0, "frames are lost");
    }
}

/// Runs `ip` in the namespace of the calling thread.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// A request with a number, from a source port.
pub(crate) fn request(number: u64, source_port: u16) -> [u8; FRAME_LENGTH] {
    let mut header = [0x45, 0, 0, 76, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&CLIENT.octets());
    header[16..].copy_from_slice(&SERVER.octets());
    let checksum = Sum::ZERO.with_octets(&header).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = [0; FRAME_LENGTH];
    frame[..6].copy_from_slice(&SERVER_MAC);
    frame[6..12].copy_from_slice(&CLIENT_MAC);
    frame[12] = 8;
    frame[14..34].copy_from_slice(&header);
    frame[34..36].copy_from_slice(&source_port.to_be_bytes());
    frame[36..38].copy_from_slice(&SERVICE_PORT.to_be_bytes());
    frame[39] = 56;
    frame[NUMBER_AT..NUMBER_AT + 8].copy_from_slice(&number.to_be_bytes());
    frame
}

/// The number of the request that a frame is or answers.
pub(crate) fn number(frame: &[u8]) -> u64 {
    u64::from_be_bytes(*frame[NUMBER_AT..].first_chunk().unwrap())
}

/// What an echo of a request is: its stations change places, the stamp is written.
pub(crate) fn answered(mut request: [u8; FRAME_LENGTH]) -> [u8; FRAME_LENGTH] {
    turn(&mut request);
    request[STAMP_AT] = 0x55;
    request
}

pub(crate) fn turn(frame: &mut [u8]) {
    let (to, from) = frame[..12].split_at_mut(6);
    to.swap_with_slice(from);
}

/// Answers those frames of the batch that are `wanted`.
pub(crate) fn answer(port: &mut XskPort, count: usize, mut wanted: impl FnMut(u64) -> bool) -> Sent {
    let mut replies = Vec::with_capacity(count);
    for index in 0..count {
        let frame = port.datagram(index).1;
        if wanted(number(frame)) {
            turn(frame);
            let length = frame.len().try_into().unwrap();
            replies.push(Outgoing { index: index.try_into().unwrap(), length, departure: None });
        }
    }
    port.send(&replies, |_, frame| frame[STAMP_AT] = 0x55).unwrap()
}

/// Receives until `count` frames came, answering all; how many came in the largest batch.
pub(crate) fn echo_all(port: &mut XskPort, count: usize) -> usize {
    let (mut came, mut largest, end) = (0, 0, Instant::now() + LIMIT);
    while came < count {
        let received = port.receive(SHORT).unwrap();
        assert_eq!(answer(port, received, |_| true), Sent { sent: received, ..Sent::default() });
        came += received;
        largest = largest.max(received);
        assert!(Instant::now() < end, "{came} of {count} came");
    }
    largest
}

/// Sees all that comes to an interface, and sends from it as it is.
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

    /// Whether the frame left.
    pub(crate) fn send(&self, frame: &[u8]) -> bool {
        send(self.0.as_raw_fd(), frame, MsgFlags::empty()).is_ok()
    }

    /// Whether this frame is among those that wait.
    fn received(&self, frame: &[u8]) -> bool {
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| {
            recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())
                .ok()
                .map(|length| buffer[..length] == *frame)
        })
        .any(|it| it)
    }

    /// A reply that waits.
    pub(crate) fn reply(&self) -> Option<[u8; FRAME_LENGTH]> {
        loop {
            let mut buffer = [0; 2048];
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
            if length == FRAME_LENGTH && buffer[..6] == CLIENT_MAC {
                return buffer.first_chunk().copied();
            }
        }
    }

    /// All replies that come until there are `count`, or until none came for a while.
    pub(crate) fn replies(&self, count: usize) -> Vec<[u8; FRAME_LENGTH]> {
        let (mut replies, mut last) = (Vec::new(), Instant::now());
        while replies.len() < count && last.elapsed() < Duration::from_millis(300) {
            match self.reply() {
                Some(reply) => {
                    replies.push(reply);
                    last = Instant::now();
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
        replies
    }
}
