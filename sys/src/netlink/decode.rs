//! What rtnetlink's messages say: `linux/rtnetlink.h`, `if_link.h`, `if_addr.h`.
//!
//! Only the attributes that are needed are looked at. An unknown one, or a known one in a shape that a newer kernel may
//! give it, is passed over: one interface's exotic attribute must not hide all the others.

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
    parse_ip, parse_mac, parse_u16_be, parse_u32,
};

use super::{Address, Link, Tables, Tag};

/// `struct nlmsghdr`, and `struct rtgenmsg` with its padding: any family.
const REQUEST_OCTETS: u8 = 16 + 4;
/// `struct ifinfomsg` and `struct ifaddrmsg`.
const LINK_OCTETS: usize = 16;
const ADDRESS_OCTETS: usize = 8;
const ALIGNMENT: usize = 4;

/// `IFLA_VLAN_ID` and `IFLA_VLAN_PROTOCOL` within `IFLA_INFO_DATA`.
const VLAN_ID: u16 = 1;
const VLAN_PROTOCOL: u16 = 5;
/// `IFLA_BOND_SLAVE_STATE` and `IFLA_BRPORT_STATE` within `IFLA_INFO_SLAVE_DATA`; a bond's `BOND_STATE_BACKUP`, and a
/// bridge's `BR_STATE_FORWARDING`.
const MEMBER_STATE: u16 = 1;
const BOND_BACKUP: u8 = 1;
const BRIDGE_FORWARDING: u8 = 3;
/// `IFLA_XDP_ATTACHED` and the three places where the program's number can be: the one program's, or by mode.
const XDP_ATTACHED: u16 = 2;
const XDP_PROGRAM: [u16; 4] = [4, 5, 6, 7];
/// 802.1Q, which kernels before 3.10 took for granted.
const TAG_UNSTATED: u16 = 0x8100;
/// A VLAN id's 12 bits.
const VLAN_ID_MASK: u16 = 0x0FFF;

/// How far a dump is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Its end hasn't come yet. `interrupted`: something changed while it was made.
    More { interrupted: bool },
    /// That was its end.
    Done { interrupted: bool },
}

/// Asks for everything that `request` is about.
pub(super) fn dump_request(request: u16, sequence: u32) -> [u8; REQUEST_OCTETS as usize] {
    let mut octets = [0; REQUEST_OCTETS as usize];
    let mut message = NetlinkBuffer::new(&mut octets);
    message.set_length(REQUEST_OCTETS.into());
    message.set_message_type(request);
    message.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
    message.set_sequence_number(sequence);
    octets
}

/// Adds a datagram's links and addresses to `tables`.
pub(super) fn read(mut datagram: &[u8], sequence: u32, tables: &mut Tables) -> io::Result<Progress> {
    let mut interrupted = false;
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(|_| malformed())?;
        let payload = message.payload();
        // An answer to an earlier question isn't one to this.
        if message.sequence_number() == sequence {
            interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            match message.message_type() {
                NLMSG_DONE => return Ok(Progress::Done { interrupted }),
                NLMSG_ERROR => return Err(error(payload)),
                libc::RTM_NEWLINK => tables.links.push(link(payload)?),
                libc::RTM_NEWADDR => tables.addresses.extend(address(payload)?),
                _ => {}
            }
        }
        let length = usize::try_from(message.length()).map_err(|_| malformed())?;
        datagram = datagram.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    Ok(Progress::More { interrupted })
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "rtnetlink: a message that isn't as it should be")
}

/// `struct nlmsgerr` begins with the negative number.
fn error(payload: &[u8]) -> io::Error {
    match payload.first_chunk() {
        Some(&errno) => io::Error::from_raw_os_error(i32::from_ne_bytes(errno).wrapping_neg()),
        None => malformed(),
    }
}

/// The attributes that are whole.
fn attributes(octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(octets).map_while(Result::ok).map(move |attribute| {
        let (from, length) = (attribute.into_inner(), attribute.value_length());
        (attribute.kind(), &from[4..4 + length])
    })
}

fn text(octets: &[u8]) -> String {
    let ended = octets.split(|&octet| octet == 0).next().unwrap_or_default();
    String::from_utf8_lossy(ended).into_owned()
}

fn word_at(octets: &[u8], at: usize) -> io::Result<u32> {
    let word = octets.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(malformed)?;
    Ok(u32::from_ne_bytes(*word))
}

/// From `struct ifinfomsg` and its attributes.
fn link(payload: &[u8]) -> io::Result<Link> {
    let (header, rest) = payload.split_at_checked(LINK_OCTETS).ok_or_else(malformed)?;
    let hardware = u16::from_ne_bytes([header[2], header[3]]);
    let flags = word_at(header, 8)?;
    let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
    let mut link = Link {
        index: word_at(header, 4)?,
        ethernet: hardware == libc::ARPHRD_ETHER,
        loopback: has(libc::IFF_LOOPBACK),
        up: has(libc::IFF_UP),
        carrier: has(libc::IFF_UP) && has(libc::IFF_LOWER_UP),
        ..Link::default()
    };
    let mut elsewhere = false;
    for (kind, value) in attributes(rest) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_ADDRESS => link.hardware_address = parse_mac(value).ok(),
            libc::IFLA_MTU => link.mtu = parse_u32(value).unwrap_or(0),
            libc::IFLA_MASTER => link.master = parse_u32(value).ok(),
            libc::IFLA_LINK => link.below = parse_u32(value).ok().filter(|&index| index != 0),
            libc::IFLA_LINK_NETNSID => elsewhere = true,
            libc::IFLA_LINKINFO => read_kind(value, &mut link),
            libc::IFLA_XDP => link.xdp_program = xdp_program(value),
            _ => {}
        }
    }
    if elsewhere {
        link.below = None;
    }
    Ok(link)
}

/// `IFLA_LINKINFO`: the kind, a VLAN device's tag, and whether a bond or bridge leaves it aside.
fn read_kind(octets: &[u8], link: &mut Link) {
    let (mut data, mut member_kind, mut member): (&[u8], _, &[u8]) = (&[], String::new(), &[]);
    for (kind, value) in attributes(octets) {
        match kind {
            libc::IFLA_INFO_KIND => link.kind = Some(text(value)),
            libc::IFLA_INFO_DATA => data = value,
            libc::IFLA_INFO_SLAVE_KIND => member_kind = text(value),
            libc::IFLA_INFO_SLAVE_DATA => member = value,
            _ => {}
        }
    }
    let state = attributes(member).find(|(kind, _)| *kind == MEMBER_STATE);
    link.standby = match (member_kind.as_str(), state.and_then(|(_, value)| value.first())) {
        ("bond", Some(&state)) => state == BOND_BACKUP,
        ("bridge", Some(&state)) => state != BRIDGE_FORWARDING,
        _ => false,
    };
    if link.kind.as_deref() == Some("vlan") {
        let mut tag = Tag { id: 0, protocol: TAG_UNSTATED };
        for (kind, value) in attributes(data) {
            match (kind, value.first_chunk()) {
                (VLAN_ID, Some(&id)) => tag.id = u16::from_ne_bytes(id) & VLAN_ID_MASK,
                (VLAN_PROTOCOL, Some(_)) => tag.protocol = parse_u16_be(value).unwrap_or(TAG_UNSTATED),
                _ => {}
            }
        }
        link.tag = Some(tag);
    }
}

/// `IFLA_XDP`: the first program's number, if there is any program; 0 if the kernel doesn't say which.
fn xdp_program(octets: &[u8]) -> Option<u32> {
    let mut attached = false;
    let mut program = 0;
    for (kind, value) in attributes(octets) {
        if kind == XDP_ATTACHED {
            attached = value.first().is_some_and(|&mode| mode != 0);
        } else if XDP_PROGRAM.contains(&kind) && program == 0 {
            program = parse_u32(value).unwrap_or(0);
        }
    }
    attached.then_some(program)
}

/// From `struct ifaddrmsg` and its attributes; none if there is no address in it.
fn address(payload: &[u8]) -> io::Result<Option<Address>> {
    let (header, rest) = payload.split_at_checked(ADDRESS_OCTETS).ok_or_else(malformed)?;
    let interface = word_at(header, 4)?;
    let mut flags = u32::from(header[2]);
    let (mut local, mut other) = (None, None);
    for (kind, value) in attributes(rest) {
        match kind {
            // With a peer, `IFA_ADDRESS` is the peer's; otherwise they are the same, or there is only the latter.
            libc::IFA_LOCAL => local = parse_ip(value).ok(),
            libc::IFA_ADDRESS => other = parse_ip(value).ok(),
            // All 32 bits of what the header has eight of.
            libc::IFA_FLAGS => flags = parse_u32(value).unwrap_or(flags),
            _ => {}
        }
    }
    let tentative = flags & libc::IFA_F_TENTATIVE != 0 && flags & libc::IFA_F_OPTIMISTIC == 0;
    let usable = !tentative && flags & libc::IFA_F_DADFAILED == 0;
    Ok(local.or(other).map(|address| Address { interface, address, usable }))
}

#[cfg(test)]
mod tests;
