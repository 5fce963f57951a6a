//! Two hosts out of network namespaces, joined by a veth pair, on which the tests run as threads.
//!
//! Nothing here touches the machine's own network. A namespace goes with the last thread, socket and program in it.

use std::fs::{File, metadata};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use maser_sys::af_xdp::{CopyChoice, Xsk, XskSetting};
use maser_sys::xdp_program::{AttachMode, Destination, SocketsMap, Vlan, XdpCounts, XdpProgram};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};

use crate::oracle::SERVICE_PORT;
use crate::peers::skip;

/// Whom the oracle's frames are from and to.
pub(crate) const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 55, 2, 1);
pub(crate) const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 55, 2, 2);
pub(crate) const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xFD6D, 0x61, 0, 0, 0, 0, 0, 1);
pub(crate) const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xFD6D, 0x61, 0, 0, 0, 0, 0, 2);
/// The listener that smears.
pub(crate) const SMEARING_PORT: u16 = 1_123;
/// The VLANs of both hosts: one, and one within another.
pub(crate) const VLANS: [Vlan; 2] = [Vlan { outer: 100, inner: 0 }, Vlan { outer: 200, inner: 300 }];

/// The interface's name at both ends.
pub(crate) const INTERFACE: &str = "wire";
const FRAMES: u32 = 256;

/// A network namespace that threads can enter.
pub(crate) struct Namespace(File);

impl Namespace {
    fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(made.join().unwrap())
    }

    /// Runs `work` there, on a thread of its own; the threads that it starts are there, too.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let there = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(there).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// The two hosts.
pub(crate) struct Wire {
    pub(crate) server: Namespace,
    pub(crate) client: Namespace,
}

impl Wire {
    /// Joined by a pair with so many queues at either end; none, said loudly, for who isn't root.
    pub(crate) fn new(test: &str, queues: u32) -> Option<Self> {
        if !metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            skip(test, "network namespaces and XDP programs need root");
            return None;
        }
        let wire = Self { server: Namespace::new(), client: Namespace::new() };
        let far = format!("/proc/{}/fd/{}", std::process::id(), wire.client.0.as_raw_fd());
        wire.server.run(|| {
            let queues = format!("numtxqueues {queues} numrxqueues {queues}");
            run(&format!("ip link add {INTERFACE} {queues} type veth peer name far {queues}"));
            run(&format!("ip link set far netns {far}"));
        });
        wire.client.run(|| run(&format!("ip link set far name {INTERFACE}")));
        let ends = [
            (&wire.server, SERVER_MAC, SERVER_V4, SERVER_V6),
            (&wire.client, CLIENT_MAC, CLIENT_V4, CLIENT_V6),
        ];
        for (host, mac, v4, v6) in ends {
            let mac = mac.map(|octet| format!("{octet:02x}")).join(":");
            host.run(|| {
                // Checksums and tags are in the frames, as with a wire between the hosts.
                run(&format!("ethtool -K {INTERFACE} tx off txvlan off rxvlan off"));
                run(&format!("ip link set {INTERFACE} address {mac}"));
                run(&format!("ip address add {v4}/24 dev {INTERFACE}"));
                // Without nodad the address could not be used for the first two seconds.
                run(&format!("ip address add {v6}/64 dev {INTERFACE} nodad"));
                run("ip link set lo up");
                run(&format!("ip link set {INTERFACE} up"));
            });
        }
        Some(wire)
    }
}

/// Runs a command in the namespace of the calling thread; what it printed.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The program on the interface of the calling thread's namespace, with a socket at each queue.
pub(crate) struct Steered {
    pub(crate) program: XdpProgram,
    pub(crate) counts: XdpCounts,
    pub(crate) sockets: Vec<Xsk>,
}

impl Steered {
    /// Steers what is sent to these addresses; the n-th is listener n.
    pub(crate) fn new(mode: AttachMode, mac: [u8; 6], served: &[SocketAddr], queues: u32) -> Self {
        let interface = if_nametoindex(INTERFACE).unwrap();
        let mut program = XdpProgram::attach(interface, mode).unwrap();
        assert_eq!(program.footing().mode, mode);
        let destination = |(listener, served): (usize, &SocketAddr)| Destination {
            address: served.ip(),
            port: served.port(),
            listener: u16::try_from(listener).unwrap(),
        };
        program.set_hardware_addresses(&[mac]).unwrap();
        program.set_vlans(&VLANS).unwrap();
        program.set_destinations(&served.iter().enumerate().map(destination).collect::<Vec<_>>()).unwrap();
        let map = SocketsMap::from_fd(program.sockets_map().unwrap());
        let open = |queue| {
            let setting =
                XskSetting { interface, queue, frames: FRAMES, copy: CopyChoice::Auto, busy_poll: None };
            let socket = Xsk::open(&setting).unwrap();
            map.insert(queue, socket.as_fd()).unwrap();
            socket
        };
        let sockets = (0..queues).map(open).collect();
        let counts = XdpCounts::from_fd(program.counts_map().unwrap()).unwrap();
        Self { program, counts, sockets }
    }
}

/// The server's listeners at an address of the wire: plain and smearing.
pub(crate) fn listeners(ip: IpAddr) -> [SocketAddr; 2] {
    [SERVICE_PORT, SMEARING_PORT].map(|port| (ip, port).into())
}
