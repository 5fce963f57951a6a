//! A host in a namespace of its own: `near`, from which requests are taken, and `far`, the other end of the veth pair, from
//! which frames are sent as they are.
//!
//! sysfs is mounted anew there, since it shows the namespace that it was mounted in.

use crate::peers::{host, skip};
use maser::interface::{Change, Interface, Refusal};
use maser_sys::netlink::{Monitor, Tables, dump};
use maser_sys::outbox::Outbox;
use maser_sys::packet_socket::{PacketSocket, Ports, RING_FRAMES_MIN};
use maser_sys::xdp_program::{Reason, XdpCounts};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

pub(crate) const PORT: u16 = 123;
/// An address that is gone must not be answered any longer than this.
const PATIENCE_MS: u16 = 1000;

/// The host, as seen from the thread that is in it.
pub(crate) struct Rig {
    pub(crate) monitor: Monitor,
}

/// Runs `test` on a host of its own, or leaves it out loudly.
pub(crate) fn on_host(name: &str, test: impl FnOnce(&Rig) + Send + 'static) {
    if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        skip(name, "network namespaces and XDP programs take root");
        return;
    }
    let host = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).unwrap();
        ip("link set lo up");
        ip("link add near numrxqueues 2 numtxqueues 2 type veth peer name far numrxqueues 2 numtxqueues 2");
        for end in ["near", "far"] {
            ethtool(&format!("-K {end} rxvlan off txvlan off"));
            ip(&format!("link set {end} up"));
        }
        test(&Rig { monitor: Monitor::open().unwrap() });
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn ip(arguments: &str) {
    host::ip(arguments).unwrap();
}

pub(crate) fn ethtool(arguments: &str) {
    host::run(Command::new("ethtool").args(arguments.split(' '))).unwrap();
}

/// Whether this kernel has such interfaces.
pub(crate) fn can_add(arguments: &str) -> bool {
    host::ip(&format!("link add {arguments}")).is_ok()
}

pub(crate) fn listen(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

impl Rig {
    pub(crate) fn attach(&self, name: &str, addresses: &[&str]) -> Result<Interface, Refusal> {
        Interface::attach(name, listen(addresses), None, &dump().unwrap())
    }

    /// What follows when the kernel says that something has changed, which it must within [`PATIENCE_MS`]; and what else
    /// follows until it has been quiet for a moment.
    pub(crate) fn follow(&self, interface: &mut Interface) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut patience = PollTimeout::from(PATIENCE_MS);
        for _ in 0..100 {
            let mut descriptors = [PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN)];
            if poll(&mut descriptors, patience).unwrap() == 0 {
                break;
            }
            assert!(self.monitor.changed().unwrap(), "readable for a change");
            changes.extend(interface.follow(&dump().unwrap()).unwrap());
            patience = PollTimeout::from(50_u8);
        }
        changes
    }
}

/// Sends from `far`, and sees what the program counts.
pub(crate) struct Prober {
    counts: XdpCounts,
    socket: PacketSocket,
    to: [u8; 6],
}

impl Prober {
    pub(crate) fn new(interface: &Interface, tables: &Tables) -> Self {
        let far = tables.link_named("far").unwrap().index;
        let peer = SocketAddr::from(([192, 0, 2, 2], 40_000));
        Self {
            counts: XdpCounts::from_fd(interface.counts_map().unwrap()).unwrap(),
            socket: PacketSocket::open(far, peer, Ports::ALL, RING_FRAMES_MIN).unwrap(),
            to: tables.link_named("near").unwrap().hardware_address.unwrap(),
        }
    }

    /// Has frames sent to another MAC address.
    pub(crate) fn to(mut self, hardware_address: [u8; 6]) -> Self {
        self.to = hardware_address;
        self
    }

    /// Why the program passed on a request to `to`: for want of a socket if it would have steered it.
    pub(crate) fn reason(&mut self, tags: &[u16], to: &str) -> Reason {
        let before = self.counts.read();
        let frame = frame(self.to, tags, to.parse().unwrap());
        let mut outbox = Outbox::new(1);
        outbox.push(None, false, |slot| {
            slot[..frame.len()].copy_from_slice(&frame);
            frame.len()
        });
        assert_eq!(self.socket.send(&mut outbox).unwrap(), 1);
        for _ in 0..200 {
            let now = self.counts.read();
            // Neighbour discovery and the like are sent to groups.
            let grown = |reason: &Reason| *reason != Reason::Group && now.of(*reason) > before.of(*reason);
            if let Some(reason) = Reason::ALL.into_iter().find(grown) {
                return reason;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the frame to {to} never came");
    }

    pub(crate) fn is_served(&mut self, tags: &[u16], to: &str) -> bool {
        self.reason(tags, to) == Reason::NoSocket
    }
}

/// A request: Ethernet, 802.1Q tags, IP, UDP, 48 octets.
fn frame(to: [u8; 6], tags: &[u16], address: IpAddr) -> Vec<u8> {
    let mut frame = [to, [2, 0, 0, 0, 0, 0x99]].concat();
    for tag in tags {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    let udp =
        [&40_000_u16.to_be_bytes()[..], &PORT.to_be_bytes(), &[0, 56, 0, 0], &[0x23], &[0; 47]].concat();
    match address {
        IpAddr::V4(address) => {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 76, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 2]);
            frame.extend(address.octets());
        }
        IpAddr::V6(address) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 56, 17, 64]);
            frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            frame.extend(address.octets());
        }
    }
    frame.extend(udp);
    frame
}
