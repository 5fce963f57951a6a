//! What is answered on an interface: which destinations, in which VLANs, at which MAC addresses. Pure: from the kernel's
//! tables and the listen addresses to sets.
//!
//! The program answers what the kernel would deliver to a socket on these addresses, and not more. What it leaves out is
//! lost to nobody: the kernel has it, and the sockets answer.

use maser_sys::netlink::{Link, Tables, Tag};
use maser_sys::xdp_program::{Destination, Vlan};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Everything that the program has to know, as sets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Targets {
    /// Whether it stands by for a bond or bridge, which drops what comes in by it: nobody is answered for then.
    pub standby: bool,
    /// Who is answered for, by address and port, with the place of the listen address that it belongs to.
    pub destinations: BTreeMap<(IpAddr, u16), u16>,
    /// The tags of the VLAN devices stacked here, outer and inner; inner 0 where there is one tag.
    pub vlans: BTreeSet<(u16, u16)>,
    /// Whose frames are ours.
    pub hardware_addresses: BTreeSet<[u8; 6]>,
}

impl Targets {
    /// Those of an interface; nothing where it is gone.
    #[must_use]
    pub fn of(tables: &Tables, interface: u32, listen: &[SocketAddr]) -> Self {
        Self {
            standby: is_standby(tables, interface),
            destinations: destinations(tables, interface, listen),
            vlans: vlans(tables, interface),
            hardware_addresses: hardware_addresses(tables, interface),
        }
    }

    /// For the program.
    pub(super) fn destination_list(&self) -> Vec<Destination> {
        let entries = self.destinations.iter();
        entries.map(|(&(address, port), &listener)| Destination { address, port, listener }).collect()
    }

    /// For the program.
    pub(super) fn vlan_list(&self) -> Vec<Vlan> {
        self.vlans.iter().map(|&(outer, inner)| Vlan { outer, inner }).collect()
    }
}

/// The interface and, if a bond or team has it, that one: its packets arrive here, and its VLANs and addresses are on it.
fn base(tables: &Tables, interface: u32) -> Vec<&Link> {
    let own = tables.link(interface);
    let master = own.and_then(|link| link.master).and_then(|master| tables.link(master));
    let master = master.filter(|master| matches!(master.kind.as_deref(), Some("bond" | "team")));
    own.into_iter().chain(master).collect()
}

fn is_standby(tables: &Tables, interface: u32) -> bool {
    tables.link(interface).is_some_and(|link| link.standby)
}

/// VLAN devices right above one of `below`, with their tags.
fn stacked<'a>(tables: &'a Tables, below: &[&Link]) -> Vec<(&'a Link, Tag)> {
    let is_above = |link: &&Link| below.iter().any(|below| link.below == Some(below.index));
    tables.links.iter().filter(is_above).filter_map(|link| Some((link, link.tag?))).collect()
}

/// The VLAN devices right above the interface, on or off, which is who shares its tag offload.
pub(super) fn vlan_devices(tables: &Tables, interface: u32) -> Vec<(&Link, Tag)> {
    stacked(tables, &base(tables, interface))
}

/// Addresses of the machine that a packet to it can name here, with the place of the listen address that takes it: the
/// exact one, else the wildcard of its family.
///
/// As the kernel has it, an address is the machine's and not an interface's: one on `lo` is answered on any. Not so
/// IPv6's link-local ones. None is answered for while the interface stands by for a bond or bridge. Addresses of interfaces that are switched off aren't answered, nor those that may turn out to
/// be somebody else's; those of the loopback networks never are, from outside.
#[must_use]
pub fn destinations(tables: &Tables, interface: u32, listen: &[SocketAddr]) -> BTreeMap<(IpAddr, u16), u16> {
    let base: Vec<u32> = base(tables, interface).iter().map(|link| link.index).collect();
    let mut destinations = BTreeMap::new();
    if base.is_empty() || is_standby(tables, interface) {
        return destinations;
    }
    let is_up = |interface| tables.link(interface).is_some_and(|link| link.up);
    let had = tables.addresses.iter().filter(|had| had.usable && is_up(had.interface));
    let here = had.filter(|had| !is_link_local(had.address) || base.contains(&had.interface));
    let addresses = || here.clone().map(|had| had.address).filter(|&address| is_answerable(address));
    let listeners = || (0..).zip(listen).map(|(place, listen): (u16, _)| (place, listen));
    for (place, listen) in listeners().filter(|(_, listen)| listen.ip().is_unspecified()) {
        for address in addresses().filter(|address| address.is_ipv4() == listen.is_ipv4()) {
            destinations.entry((address, listen.port())).or_insert(place);
        }
    }
    for (place, listen) in listeners().filter(|(_, listen)| is_for(listen, &base)) {
        if addresses().any(|address| address == listen.ip()) {
            destinations.insert((listen.ip(), listen.port()), place);
        }
    }
    destinations
}

/// Whether a packet may carry it as a destination, and be for one.
fn is_answerable(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_broadcast)
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// A listen address with a scope is of one interface.
fn is_for(listen: &SocketAddr, base: &[u32]) -> bool {
    match listen {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(listen) => listen.scope_id() == 0 || base.contains(&listen.scope_id()),
    }
}

/// The tags of the VLAN devices on the interface that are switched on, one tag deep and two.
#[must_use]
pub fn vlans(tables: &Tables, interface: u32) -> BTreeSet<(u16, u16)> {
    let mut vlans = BTreeSet::new();
    for (outer, outer_tag) in stacked(tables, &base(tables, interface)) {
        if outer.up {
            let inside = stacked(tables, &[outer]).into_iter().filter(|(inner, _)| inner.up);
            vlans.insert((outer_tag.id, 0));
            vlans.extend(inside.map(|(_, inner_tag)| (outer_tag.id, inner_tag.id)));
        }
    }
    vlans
}

/// The MAC addresses of the interface, of the VLAN devices on it, and of the bond that has it.
#[must_use]
pub fn hardware_addresses(tables: &Tables, interface: u32) -> BTreeSet<[u8; 6]> {
    let base = base(tables, interface);
    let mut addresses: BTreeSet<_> = base.iter().filter_map(|link| link.hardware_address).collect();
    for (outer, _) in stacked(tables, &base) {
        addresses.extend(outer.hardware_address);
        addresses.extend(stacked(tables, &[outer]).iter().filter_map(|(inner, _)| inner.hardware_address));
    }
    addresses
}

#[cfg(test)]
mod tests;
