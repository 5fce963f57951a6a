//! The kernel's links and addresses in this network namespace, and word that something about them has changed (rtnetlink).
//!
//! Nothing is kept here and nothing is followed message by message: whoever hears of a change asks for everything
//! again with [`dump`] and compares. A lost message then costs nothing, and neither does one that was heard twice.
//!
//! Messages and attributes are told apart by `netlink-packet-core`; what the few that we need say is read by `decode.rs`.

mod decode;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, recvfrom, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use decode::Progress;

/// A dump during which something changed is made again, so many times in all. The last one is taken as it is: a change
/// that it may have missed is on the monitor.
const DUMPS_MAX: u32 = 4;
/// Datagrams of a dump; each holds many messages.
const DATAGRAMS_MAX: u32 = 1 << 14;
/// The kernel makes none longer than 32 KiB for one who reads with such a buffer.
const DATAGRAM_OCTETS: usize = 1 << 16;
/// The kernel answers at once.
const PATIENCE_S: i64 = 1;
/// Messages taken from the monitor at a time; what is left keeps it readable.
const NEWS_MAX: u32 = 1 << 10;

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it carries Ethernet frames.
    pub ethernet: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// Whether it is switched on (`IFF_UP`).
    pub up: bool,
    /// Whether it has a carrier, too (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Its kind, if software makes it: `vlan`, `bond`, `bridge`, `team`, `veth`.
    pub kind: Option<String>,
    /// Its MAC address.
    pub hardware_address: Option<[u8; 6]>,
    /// The longest packet in octets, without the Ethernet header.
    pub mtu: u32,
    /// The bond, team or bridge that it is a member of.
    pub master: Option<u32>,
    /// Whether what comes in by it is dropped behind it: a bond's backup member, a bridge's port that doesn't forward.
    pub standby: bool,
    /// The interface of this namespace that it is stacked on.
    pub below: Option<u32>,
    /// Its tag, if it is a VLAN device.
    pub tag: Option<Tag>,
    /// The number of the XDP program on it.
    pub xdp_program: Option<u32>,
}

/// The tag of a VLAN device's frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// VLAN id, 0 to 4095.
    pub id: u16,
    /// The tag's type: 0x8100 (802.1Q) or 0x88a8 (802.1ad).
    pub protocol: u16,
}

/// An address of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The interface's index.
    pub interface: u32,
    /// The machine's own end of it.
    pub address: IpAddr,
    /// False while duplicate address detection is under way, and after it has found a duplicate.
    pub usable: bool,
}

/// Everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tables {
    /// Every interface, in the kernel's order.
    pub links: Vec<Link>,
    /// Every address, in the kernel's order.
    pub addresses: Vec<Address>,
}

impl Tables {
    /// The interface of this number.
    #[must_use]
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The interface of this name.
    #[must_use]
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// Asks for everything.
///
/// # Errors
/// When the process has no descriptor left, or the kernel doesn't answer within a second or not as it should.
pub fn dump() -> io::Result<Tables> {
    let socket = open(0)?;
    let patience = TimeVal::new(PATIENCE_S, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    let mut buffer = vec![0; DATAGRAM_OCTETS];
    let mut tables = Tables::default();
    for sequence in 0..DUMPS_MAX {
        tables = Tables::default();
        let links_whole = ask(&socket, libc::RTM_GETLINK, 2 * sequence, &mut buffer, &mut tables)?;
        let addresses_whole = ask(&socket, libc::RTM_GETADDR, 2 * sequence + 1, &mut buffer, &mut tables)?;
        if links_whole && addresses_whole {
            break;
        }
    }
    Ok(tables)
}

/// Whether nothing changed during the dump.
fn ask(
    socket: &OwnedFd,
    request: u16,
    sequence: u32,
    buffer: &mut [u8],
    tables: &mut Tables,
) -> io::Result<bool> {
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &decode::dump_request(request, sequence), &kernel, MsgFlags::empty())?;
    let mut whole = true;
    for _ in 0..DATAGRAMS_MAX {
        let (length, from) = match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), buffer) {
            Ok(received) => received,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if from.is_some_and(|from| from.pid() != 0) {
            continue;
        }
        match decode::read(&buffer[..length], sequence, tables)? {
            Progress::More { interrupted } => whole &= !interrupted,
            Progress::Done { interrupted } => return Ok(whole && !interrupted),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "rtnetlink: a dump without an end"))
}

/// Tells that a link or an address of this namespace has changed. Its descriptor becomes readable then, so that it can
/// be polled along with others. Open it before the first [`dump`], so that nothing is missed in between.
#[derive(Debug)]
pub struct Monitor {
    socket: OwnedFd,
}

impl Monitor {
    /// Starts watching.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn open() -> io::Result<Self> {
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        Ok(Self { socket: open(groups.cast_unsigned())? })
    }

    /// Whether something has changed since the last call; doesn't wait.
    ///
    /// # Errors
    /// None that isn't the kernel's fault.
    pub fn changed(&self) -> io::Result<bool> {
        let mut changed = false;
        for _ in 0..NEWS_MAX {
            // What has changed isn't asked here: an octet of the message will do.
            match recv(self.socket.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) {
                // There were more messages than the socket holds, so something has changed.
                Ok(_) | Err(Errno::ENOBUFS) => changed = true,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(changed),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(changed)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(groups: u32) -> io::Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback_interface() {
        let tables = dump().unwrap();
        let loopback = tables.link_named("lo").expect("every namespace has one");
        assert!(loopback.loopback && !loopback.ethernet, "{loopback:?}");
        assert_eq!(tables.link(loopback.index), Some(loopback));
        assert!(tables.addresses.iter().all(|address| tables.link(address.interface).is_some()));
    }

    #[test]
    fn nothing_changes_by_itself() {
        let monitor = Monitor::open().unwrap();
        // Other tests change their own namespaces, not this one.
        assert!(!monitor.changed().unwrap());
    }
}
