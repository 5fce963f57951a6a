//! A namespace of the test's own, the program on an interface of it, and frames that are run through it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use libbpf_rs::libbpf_sys::{bpf_prog_test_run_opts, bpf_test_run_opts, size_t};
use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::xdp_program::{
    AttachMode, Destination, Metadata, Reason, SharedMaps, SocketsMap, Vlan, XdpCounts, XdpProgram,
    XdpReasons,
};

use crate::oracle::SERVICE_PORT;
use crate::oracle::frame::{Wrapping, wrap};

/// The loopback interface of every namespace.
pub(crate) const LOOPBACK: u32 = 1;
/// The hardware address that `wrap` sends to.
pub(crate) const STATION: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const IP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const IP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1);
/// The listen addresses' indices: no two octets of them alike.
pub(crate) const LISTENER_IP4: u16 = 0x0102;
pub(crate) const LISTENER_IP6: u16 = 0x0304;

pub(crate) const DESTINATIONS: [Destination; 2] = [
    Destination { address: IpAddr::V4(IP4), port: SERVICE_PORT, listener: LISTENER_IP4 },
    Destination { address: IpAddr::V6(IP6), port: SERVICE_PORT, listener: LISTENER_IP6 },
];
pub(crate) const VLANS: [Vlan; 2] = [Vlan { outer: 100, inner: 0 }, Vlan { outer: 200, inner: 300 }];

/// A namespace for this thread, which goes with it, where `near` and `far` are a veth's ends; false, said loudly, for who
/// isn't root.
pub(crate) fn namespace() -> bool {
    if !std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the XDP program is tested as root");
        eprintln!("SKIPPED: the XDP program needs root for a namespace and BPF programs");
        return false;
    }
    // SAFETY: the call takes plain flags and concerns this thread only.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "a network namespace");
    ip("link add near type veth peer name far");
    for end in ["near", "far", "lo"] {
        ip(&format!("link set {end} up"));
    }
    true
}

pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn index_of(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

/// Leaves this thread with these capabilities (`linux/capability.h`) and no other.
pub(crate) fn keep_capabilities(kept: &[u32]) {
    let header = [0x2008_0522_u32, 0];
    let set = kept.iter().fold(0_u64, |set, bit| set | 1 << bit).to_le_bytes();
    let [low, high] = [&set[..4], &set[4..]].map(|half| u32::from_le_bytes(half.try_into().unwrap()));
    let sets = [low, low, 0, high, high, 0];
    // SAFETY: a header of version 3 for this thread, and two sets of three words, as the version has them.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(result, 0);
}

/// An AF_XDP socket, bound to nothing: enough to be redirected to as far as a test run goes.
pub(crate) fn xdp_socket() -> OwnedFd {
    // SAFETY: plain numbers.
    let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0) };
    assert!(socket >= 0, "AF_XDP: {}", std::io::Error::last_os_error());
    // SAFETY: the call returned a new descriptor, which nobody else knows.
    unsafe { OwnedFd::from_raw_fd(socket) }
}

/// What the program did with a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Steered(Metadata),
    Passed(Reason),
    Dropped(Reason),
}

/// Octets of the limiter's table: 1,024 sets.
pub(crate) const TABLE_OCTETS: u64 = 64 << 10;

/// The program on the loopback interface, told [`STATION`], [`DESTINATIONS`] and [`VLANS`].
pub(crate) struct Rig {
    pub(crate) program: XdpProgram,
    pub(crate) sockets: SocketsMap,
    pub(crate) socket: OwnedFd,
    pub(crate) counts: XdpCounts,
    pub(crate) shared: SharedMaps,
}

impl Rig {
    pub(crate) fn new() -> Option<Self> {
        if !namespace() {
            return None;
        }
        let shared = SharedMaps::new(TABLE_OCTETS).unwrap();
        let mut program = XdpProgram::attach_sharing(LOOPBACK, AttachMode::Generic, &shared).unwrap();
        program.set_hardware_addresses(&[STATION]).unwrap();
        program.set_destinations(&DESTINATIONS).unwrap();
        program.set_vlans(&VLANS).unwrap();
        let sockets = SocketsMap::from_fd(program.sockets_map().unwrap());
        let counts = XdpCounts::from_fd(program.counts_map().unwrap()).unwrap();
        let socket = xdp_socket();
        sockets.insert(0, socket.as_fd()).unwrap();
        Some(Self { program, sockets, socket, counts, shared })
    }

    /// Runs the program over a frame. Whatever it decides, the frame is as it was, and one reason has counted it.
    pub(crate) fn run(&self, frame: &[u8]) -> Outcome {
        let (before, began) = (self.counts.read(), kernel_clock::read(KernelClock::Monotonic));
        let mut output = vec![0; frame.len() + Metadata::LENGTH];
        let (verdict, length, _) = test_run(&self.program, frame, &mut output, 1);
        let ended = kernel_clock::read(KernelClock::Monotonic);
        output.truncate(length);
        let reason = the_reason(&before, &self.counts.read());
        if reason != Reason::Steered {
            let (expected, outcome) = if reason.name().starts_with("dropped-") {
                (XDP_DROP, Outcome::Dropped(reason))
            } else {
                (XDP_PASS, Outcome::Passed(reason))
            };
            assert_eq!((verdict, &*output), (expected, frame), "{reason:?}");
            assert_eq!(reason.is_drop(), verdict == XDP_DROP);
            return outcome;
        }
        let (metadata, rest) = output.split_first_chunk().unwrap();
        assert_eq!((verdict, rest), (XDP_REDIRECT, frame));
        let metadata = Metadata::of(metadata);
        assert!((began..=ended).contains(&metadata.hook_ns), "{began} {metadata:?} {ended}");
        assert_eq!(metadata.nic_ns, None);
        Outcome::Steered(metadata)
    }

    /// Why a frame isn't steered; [`Reason::Steered`] if it is.
    pub(crate) fn reason(&self, frame: &[u8]) -> Reason {
        match self.run(frame) {
            Outcome::Steered(_) => Reason::Steered,
            Outcome::Passed(reason) | Outcome::Dropped(reason) => reason,
        }
    }
}

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// The one reason that counted one frame more.
fn the_reason(before: &XdpReasons, after: &XdpReasons) -> Reason {
    let more = before.iter().zip(after.iter()).filter(|((_, before), (_, after))| before != after);
    let more: Vec<_> = more.map(|((reason, before), (_, after))| (reason, after - before)).collect();
    assert!(matches!(more[..], [(_, 1)]), "each frame counts once: {more:?}");
    more[0].0
}

/// `BPF_PROG_TEST_RUN`: the verdict, how much came out, and nanoseconds a run.
pub(crate) fn test_run(
    program: &impl AsFd,
    frame: &[u8],
    output: &mut [u8],
    repeat: i32,
) -> (u32, usize, u32) {
    let options = bpf_test_run_opts {
        data_out: output.as_mut_ptr().cast(),
        data_size_out: output.len().try_into().unwrap(),
        repeat,
        ..Default::default()
    };
    let options = run_with(program, frame, options);
    (options.retval, options.data_size_out.try_into().unwrap(), options.duration)
}

/// Runs the program over a frame that has somebody's metadata in front; why it went on, or that it didn't.
pub(crate) fn test_run_behind(rig: &Rig, metadata: &[u8], frame: &[u8]) -> Reason {
    let octets = [metadata, frame].concat();
    // `struct xdp_md`: data, its end, metadata, the interface and queue that the frame seems to come from.
    let context: [u32; 6] =
        [metadata.len().try_into().unwrap(), octets.len().try_into().unwrap(), 0, LOOPBACK, 0, 0];
    let options = bpf_test_run_opts {
        ctx_in: context.as_ptr().cast(),
        ctx_size_in: size_of_val(&context).try_into().unwrap(),
        repeat: 1,
        ..Default::default()
    };
    let before = rig.counts.read();
    run_with(&rig.program, &octets, options);
    the_reason(&before, &rig.counts.read())
}

fn run_with(program: &impl AsFd, frame: &[u8], options: bpf_test_run_opts) -> bpf_test_run_opts {
    let mut options = bpf_test_run_opts {
        sz: size_of::<bpf_test_run_opts>() as size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len().try_into().unwrap(),
        ..options
    };
    let program = program.as_fd().as_raw_fd();
    // SAFETY: the options' size is their own, and their pointers lead to memory of the lengths given, which the callers
    // hold.
    let result = unsafe { bpf_prog_test_run_opts(program, &raw mut options) };
    assert_eq!(result, 0, "{}", std::io::Error::from_raw_os_error(-result));
    options
}

/// Sends a frame `times` times from an interface, as it is.
pub(crate) fn send_from(interface: u32, frame: &[u8], times: usize) {
    // SAFETY: plain numbers.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
    assert!(socket >= 0, "AF_PACKET: {}", std::io::Error::last_os_error());
    // SAFETY: the call returned a new descriptor, which nobody else knows.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: zeros are a value of a link-layer address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET.try_into().unwrap();
    address.sll_ifindex = interface.try_into().unwrap();
    let length = size_of_val(&address).try_into().unwrap();
    for _ in 0..times {
        let (start, to) = (frame.as_ptr().cast(), (&raw const address).cast());
        // SAFETY: frame and address are of the lengths given and live to the end of the call.
        let sent = unsafe { libc::sendto(socket.as_raw_fd(), start, frame.len(), 0, to, length) };
        assert_eq!(sent, frame.len().try_into().unwrap(), "{}", std::io::Error::last_os_error());
    }
}

/// A request over IPv4 to [`IP4`].
pub(crate) fn ip4_wrapping() -> Wrapping {
    Wrapping {
        tags: vec![],
        source: vec![198, 51, 100, 7],
        destination: IP4.octets().to_vec(),
        source_port: 40_000,
        padding: 0,
        udp_checksum: true,
    }
}

/// A request over IPv6 to [`IP6`].
pub(crate) fn ip6_wrapping() -> Wrapping {
    let source = Ipv6Addr::new(0x2001, 0xDB8, 7, 0, 0, 0, 0, 9).octets().to_vec();
    Wrapping { source, destination: IP6.octets().to_vec(), ..ip4_wrapping() }
}

/// A tag of a type and a VLAN, with a priority and the drop-eligible bit.
pub(crate) fn tag(ether_type: u16, vlan: u16) -> [u8; 4] {
    let ([type0, type1], [control0, control1]) = (ether_type.to_be_bytes(), (0xB000 | vlan).to_be_bytes());
    [type0, type1, control0, control1]
}

pub(crate) fn message() -> Vec<u8> {
    let mut message: Vec<u8> = (0..48).collect();
    message[0] = 0x23;
    message
}

pub(crate) fn ip4() -> Vec<u8> {
    wrap(&message(), &ip4_wrapping())
}

pub(crate) fn ip6() -> Vec<u8> {
    wrap(&message(), &ip6_wrapping())
}

/// The XDP programs that `ip link show` finds on an interface.
pub(crate) fn programs_on(name: &str) -> BTreeSet<u32> {
    let shown = ip(&format!("-details link show {name}"));
    let mut words = shown.split_whitespace();
    let mut found = BTreeSet::new();
    while let Some(word) = words.next() {
        if word.starts_with("prog/xdp") {
            assert_eq!(words.next(), Some("id"));
            found.insert(words.next().unwrap().parse().unwrap());
        }
    }
    found
}
