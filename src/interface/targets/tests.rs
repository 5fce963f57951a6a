use super::*;

use crate::interface::change::between;

use maser_sys::netlink::Address;
use std::net::Ipv6Addr;

const LO: u32 = 1;
const ETH0: u32 = 2;
const ETH1: u32 = 3;
const BOND: u32 = 4;

fn link(index: u32, kind: Option<&str>) -> Link {
    Link {
        index,
        name: format!("if{index}"),
        ethernet: index != LO,
        loopback: index == LO,
        up: true,
        carrier: true,
        kind: kind.map(ToOwned::to_owned),
        hardware_address: Some(mac(index)),
        mtu: 1500,
        ..Link::default()
    }
}

fn mac(index: u32) -> [u8; 6] {
    let [_, _, _, last] = index.to_be_bytes();
    [2, 0, 0, 0, 0, last]
}

fn vlan(index: u32, below: u32, id: u16) -> Link {
    Link { below: Some(below), tag: Some(Tag { id, protocol: 0x8100 }), ..link(index, Some("vlan")) }
}

fn address(interface: u32, address: &str) -> Address {
    Address { interface, address: address.parse().unwrap(), usable: true }
}

fn machine() -> Tables {
    Tables {
        links: vec![link(LO, None), link(ETH0, None), link(ETH1, None)],
        addresses: vec![
            address(LO, "127.0.0.1"),
            address(LO, "127.0.0.53"),
            address(LO, "::1"),
            address(LO, "198.51.100.1"),
            address(LO, "2001:db8:a::1"),
            address(ETH0, "192.0.2.1"),
            address(ETH0, "2001:db8::1"),
            address(ETH0, "fe80::1"),
            address(ETH1, "203.0.113.1"),
            address(ETH1, "fe80::2"),
        ],
    }
}

#[test]
fn who_stands_by_answers_nobody_and_says_so() {
    let mut machine = machine();
    let of = |machine: &Tables| Targets::of(machine, ETH0, &listen(&["0.0.0.0:123"]));
    let active = of(&machine);
    machine.links[1].standby = true;
    let standby = of(&machine);
    assert!(!active.destinations.is_empty() && standby.destinations.is_empty());
    let told =
        |before, now| between(before, now).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(told(&active, &standby).contains("it stands by: its bond or bridge drops"));
    assert!(told(&standby, &active).contains("takes in what comes by it again"));
    // The other interface goes on.
    assert_eq!(Targets::of(&machine, ETH1, &listen(&["0.0.0.0:123"])).destinations, active.destinations);
}

fn listen(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// As `address:port=listener`, sorted as text.
fn answered(tables: &Tables, interface: u32, listen: &[SocketAddr]) -> Vec<String> {
    let destinations = destinations(tables, interface, listen);
    let mut shown: Vec<_> = destinations
        .iter()
        .map(|(&(address, port), listener)| format!("{}={listener}", SocketAddr::new(address, port)))
        .collect();
    shown.sort();
    shown
}

#[test]
fn listen_addresses_are_turned_into_what_a_packet_can_name() {
    for (wanted, expected) in [
        (vec![], vec![]),
        // A wildcard: every address of its family that is reachable here, on whatever interface.
        (vec!["0.0.0.0:123"], vec!["192.0.2.1:123=0", "198.51.100.1:123=0", "203.0.113.1:123=0"]),
        (vec!["[::]:123"], vec!["[2001:db8::1]:123=0", "[2001:db8:a::1]:123=0", "[fe80::1]:123=0"]),
        // An exact one: while the machine has it.
        (vec!["192.0.2.1:123", "192.0.2.2:123"], vec!["192.0.2.1:123=0"]),
        (vec!["203.0.113.1:11123"], vec!["203.0.113.1:11123=0"]),
        (vec!["127.0.0.1:123", "[::1]:123"], vec![]),
        // The exact one before the wildcard, in either order; another port is another matter.
        (
            vec!["0.0.0.0:123", "192.0.2.1:123", "192.0.2.1:124"],
            vec!["192.0.2.1:123=1", "192.0.2.1:124=2", "198.51.100.1:123=0", "203.0.113.1:123=0"],
        ),
        (
            vec!["198.51.100.1:123", "0.0.0.0:123"],
            vec!["192.0.2.1:123=1", "198.51.100.1:123=0", "203.0.113.1:123=1"],
        ),
        // Link-local addresses belong to one interface, and the scope says which.
        (vec!["[fe80::1%2]:123"], vec!["[fe80::1]:123=0"]),
        (vec!["[fe80::1%3]:123", "[fe80::2%3]:123"], vec![]),
    ] {
        assert_eq!(answered(&machine(), ETH0, &listen(&wanted)), expected, "{wanted:?}");
    }
}

#[test]
fn what_the_kernel_would_not_answer_is_not_answered() {
    let all = listen(&["0.0.0.0:123", "[::]:123"]);
    let without = |text: &str, tables: &Tables| {
        let before = answered(&machine(), ETH0, &all);
        let after = answered(tables, ETH0, &all);
        let gone: Vec<_> = before.iter().filter(|entry| !after.contains(entry)).collect();
        assert!(gone.iter().any(|entry| entry.starts_with(text)), "{text}: {gone:?}");
        assert_eq!(after.len() + gone.len(), before.len());
        gone.len()
    };
    // An address that may be somebody else's.
    let mut tentative = machine();
    tentative.addresses[6].usable = false;
    assert_eq!(without("[2001:db8::1]", &tentative), 1);
    // Those of an interface that is switched off, as with a withdrawn anycast address.
    let mut off = machine();
    off.links[2].up = false;
    assert_eq!(without("203.0.113.1", &off), 1);
    let mut lo_off = machine();
    lo_off.links[0].up = false;
    assert_eq!(without("198.51.100.1", &lo_off), 2);
    // An interface without a carrier still has its addresses.
    let mut dark = machine();
    dark.links[1].carrier = false;
    assert_eq!(answered(&dark, ETH0, &all).len(), 6);
    // An interface that is gone answers nothing.
    assert_eq!(answered(&machine(), 99, &all), Vec::<String>::new());
}

#[test]
fn odd_addresses_are_left_to_the_kernel() {
    let mut tables = machine();
    for odd in ["0.0.0.0", "255.255.255.255", "224.0.1.1", "ff02::1", "::", "127.9.9.9"] {
        tables.addresses.push(address(ETH0, odd));
    }
    let all = listen(&["0.0.0.0:123", "[::]:123"]);
    assert_eq!(answered(&tables, ETH0, &all), answered(&machine(), ETH0, &all));
}

#[test]
fn vlans_are_those_of_devices_that_are_on() {
    let mut tables = machine();
    tables.links.extend([
        vlan(10, ETH0, 5),
        vlan(11, ETH0, 6),
        vlan(12, 10, 7),
        vlan(13, 12, 8),
        vlan(14, ETH1, 9),
        vlan(15, 11, 4094),
        // A macvlan is above the interface, too, and has no tag.
        Link { below: Some(ETH0), ..link(16, Some("macvlan")) },
    ]);
    assert_eq!(vlans(&tables, ETH0), [(5, 0), (5, 7), (6, 0), (6, 4094)].into());
    assert_eq!(vlans(&tables, ETH1), [(9, 0)].into());
    tables.links[4].up = false;
    // With the outer one off what is in it is unreachable; the same number elsewhere isn't.
    assert_eq!(vlans(&tables, ETH0), [(5, 0), (5, 7)].into());
    assert_eq!(vlan_devices(&tables, ETH0).len(), 2, "on or off");
    assert_eq!(hardware_addresses(&tables, ETH0), [2, 10, 11, 12, 15].map(mac).into());
}

#[test]
fn a_members_packets_are_its_bonds() {
    let mut tables = machine();
    tables.links[1].master = Some(BOND);
    tables.links.extend([link(BOND, Some("bond")), vlan(20, BOND, 30)]);
    tables.addresses.extend([address(BOND, "192.0.2.9"), address(BOND, "fe80::9")]);
    assert_eq!(vlans(&tables, ETH0), [(30, 0)].into());
    assert_eq!(hardware_addresses(&tables, ETH0), [2, BOND, 20].map(mac).into());
    let all = listen(&["[::]:123"]);
    let link_local = IpAddr::V6("fe80::9".parse::<Ipv6Addr>().unwrap());
    assert!(destinations(&tables, ETH0, &all).contains_key(&(link_local, 123)));
    assert!(!destinations(&tables, ETH1, &all).contains_key(&(link_local, 123)));
    // A bridge's frames may be anybody's: only what is the port's own is ours.
    tables.links[3].kind = Some("bridge".to_owned());
    assert_eq!(vlans(&tables, ETH0), BTreeSet::new());
    assert_eq!(hardware_addresses(&tables, ETH0), [mac(ETH0)].into());
}
