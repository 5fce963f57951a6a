//! The program knows what the kernel knows, at once.

use crate::rig::{Prober, ethtool, ip, listen, on_host};
use maser::interface::{Change, Interface};
use maser_sys::netlink::{Link, Tables, Tag, dump};
use maser_sys::xdp_program::Reason;

const BOTH: [&str; 2] = ["0.0.0.0:123", "[::]:123"];

#[test]
fn addresses_come_and_go() {
    on_host("addresses", |rig| {
        ip("address add 192.0.2.1/24 dev near");
        let mut interface = rig.attach("near", &BOTH).unwrap();
        let mut prober = Prober::new(&interface, &dump().unwrap());
        assert!(prober.is_served(&[], "192.0.2.1"));
        for loopback in ["127.0.0.1", "::1"] {
            assert_eq!(prober.reason(&[], loopback), Reason::NotServed, "{loopback}");
        }
        rig.follow(&mut interface);
        for (address, device) in
            [("198.51.100.7/32", "lo"), ("2001:db8:a::7/128", "lo"), ("2001:db8::1/64", "near")]
        {
            let (bare, _) = address.split_once('/').unwrap();
            assert_eq!(prober.reason(&[], bare), Reason::NotServed, "{address} before");
            ip(&format!("address add {address} dev {device} nodad")
                .replace(".7/32 dev lo nodad", ".7/32 dev lo"));
            let changes = rig.follow(&mut interface);
            let added = format!("answers {} now", std::net::SocketAddr::new(bare.parse().unwrap(), 123));
            assert!(changes.iter().any(|change| change.to_string() == added), "{address}: {changes:?}");
            assert!(prober.is_served(&[], bare), "{address}");
            ip(&format!("address delete {address} dev {device}"));
            let changes = rig.follow(&mut interface);
            assert!(
                matches!(changes.as_slice(), [Change::AddressesChanged { removed, .. }] if removed.len() == 1)
            );
            assert_eq!(prober.reason(&[], bare), Reason::NotServed, "{address} after");
        }
        assert!(prober.is_served(&[], "192.0.2.1"), "what stays is answered");
    });
}

#[test]
fn an_address_is_answered_once_it_is_known_to_be_no_duplicate() {
    on_host("duplicate address detection", |rig| {
        let mut interface = rig.attach("near", &BOTH).unwrap();
        let mut prober = Prober::new(&interface, &dump().unwrap());
        // `far` has the address, so `near` must not have it.
        ip("address add 2001:db8::5/64 dev far nodad");
        ip("address add 2001:db8::5/64 dev near");
        for _ in 0..3 {
            rig.follow(&mut interface);
        }
        let tables = dump().unwrap();
        let near = tables.link_named("near").unwrap().index;
        let theirs = tables
            .addresses
            .iter()
            .find(|had| had.interface == near && had.address.to_string() == "2001:db8::5");
        assert!(theirs.is_some_and(|had| !had.usable), "{theirs:?}");
        // The machine has it all the same, on the other interface of this host, until that goes.
        ip("address delete 2001:db8::5/64 dev far");
        rig.follow(&mut interface);
        assert_eq!(prober.reason(&[], "2001:db8::5"), Reason::NotServed);
        ip("address add 2001:db8::6/64 dev near");
        let mut changes = Vec::new();
        // The kernel takes two seconds or so to be sure, and on a busy machine longer.
        let is_added = |change: &Change| {
            matches!(change, Change::AddressesChanged { added, .. }
                if added.iter().any(|address| address.to_string() == "[2001:db8::6]:123"))
        };
        let is_told = |changes: &[Change]| changes.iter().any(is_added);
        for _ in 0..20 {
            changes.extend(rig.follow(&mut interface));
            if is_told(&changes) {
                break;
            }
        }
        assert!(is_told(&changes), "{changes:?}");
        assert!(prober.is_served(&[], "2001:db8::6"));
    });
}

#[test]
fn more_news_than_the_monitor_holds_are_news() {
    on_host("an overflow of the monitor", |rig| {
        let mut interface = rig.attach("near", &BOTH).unwrap();
        rig.follow(&mut interface);
        let file = std::env::temp_dir().join(format!("maser-interface-{}", std::process::id()));
        for verb in ["add", "delete"] {
            let line =
                |number| format!("address {verb} 10.0.{}.{}/32 dev lo\n", number / 200, number % 200 + 1);
            std::fs::write(&file, (0..600).map(line).collect::<String>()).unwrap();
            // Far more messages than there is room for, and nobody reads meanwhile.
            ip(&format!("-batch {}", file.display()));
            // All at once, or in parts if it takes the kernel long.
            let mut counts = (0, 0);
            for change in rig.follow(&mut interface) {
                let Change::AddressesChanged { added, removed } = change else { panic!("{change:?}") };
                counts = (counts.0 + added.len(), counts.1 + removed.len());
            }
            assert_eq!(counts, if verb == "add" { (600, 0) } else { (0, 600) });
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(interface.follow(&dump().unwrap()).unwrap(), []);
    });
}

/// A VLAN device, as the kernel would list it.
fn vlan(index: u32, below: u32, id: u16) -> Link {
    Link {
        index,
        name: format!("v{index}"),
        ethernet: true,
        up: true,
        kind: Some("vlan".to_owned()),
        below: Some(below),
        tag: Some(Tag { id, protocol: 0x8100 }),
        hardware_address: Some([2, 0, 0, 0, 0, 0x77]),
        ..Link::default()
    }
}

#[test]
fn tags_are_those_of_the_vlan_devices_one_deep_and_two() {
    on_host("VLAN devices", |rig| {
        ip("address add 192.0.2.1/24 dev near");
        let mut interface = rig.attach("near", &BOTH).unwrap();
        // The kernel's own tables with VLAN devices put into them: not every kernel has such devices.
        let tables = dump().unwrap();
        let near = tables.link_named("near").unwrap().index;
        let mut with = tables.clone();
        with.links.extend([vlan(90, near, 5), vlan(91, 90, 7), vlan(92, near, 6)]);
        let mut prober = Prober::new(&interface, &tables);
        let served = |prober: &mut Prober| {
            [&[][..], &[5], &[5, 7], &[6], &[6, 7], &[7, 5]].map(|tags| prober.is_served(tags, "192.0.2.1"))
        };
        assert_eq!(served(&mut prober), [true, false, false, false, false, false]);
        let changes = interface.follow(&with).unwrap();
        assert_eq!(served(&mut prober), [true, true, true, true, false, false]);
        let added = "answers in VLAN 5, 5.7, 6 now";
        assert!(changes.iter().any(|change| change.to_string() == added), "{changes:?}");
        assert!(changes.contains(&Change::HardwareAddressesChanged), "{changes:?}");
        let mut to_vlan = Prober::new(&interface, &tables).to([2, 0, 0, 0, 0, 0x77]);
        assert!(to_vlan.is_served(&[5], "192.0.2.1"));
        // The outer one is switched off, and with it what is in it.
        with.links.iter_mut().find(|link| link.index == 90).unwrap().up = false;
        interface.follow(&with).unwrap();
        assert_eq!(served(&mut prober), [true, false, false, true, false, false]);
        interface.follow(&tables).unwrap();
        assert_eq!(served(&mut prober), [true, false, false, false, false, false]);
        assert_eq!(to_vlan.reason(&[5], "192.0.2.1"), Reason::AnotherStation);
    });
}

#[test]
fn with_tags_hidden_all_is_left_to_the_kernel_until_they_are_seen() {
    on_host("tags hidden", |rig| {
        ip("address add 192.0.2.1/24 dev near");
        let mut interface = rig.attach("near", &BOTH).unwrap();
        let tables = dump().unwrap();
        let mut prober = Prober::new(&interface, &tables);
        let mut with = tables.clone();
        with.links.push(vlan(90, tables.link_named("near").unwrap().index, 5));
        ethtool("-K near rxvlan on");
        let passing = |changes: &[Change]| {
            changes.iter().filter(|change| matches!(change, Change::Passing(_) | Change::Steering)).count()
        };
        let changes = interface.follow(&with).unwrap();
        let words = changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(
            words.contains("left to the kernel's sockets for now: near: VLAN devices are on it (v90)"),
            "{words}"
        );
        assert_eq!(prober.reason(&[], "192.0.2.1"), Reason::NotServed);
        assert_eq!(passing(&interface.follow(&with).unwrap()), 0, "it is said once");
        ethtool("-K near rxvlan off");
        assert_eq!(interface.follow(&with).unwrap(), [Change::Steering]);
        assert!(prober.is_served(&[5], "192.0.2.1"));
    });
}

#[test]
fn more_than_the_program_can_know_is_left_to_the_kernel() {
    on_host("too many addresses", |rig| {
        ip("address add 192.0.2.1/24 dev near");
        let mut interface = rig.attach("near", &BOTH).unwrap();
        let tables = dump().unwrap();
        let mut prober = Prober::new(&interface, &tables);
        let mut many: Tables = tables.clone();
        let first =
            many.addresses.iter().find(|had| had.address.to_string() == "192.0.2.1").copied().unwrap();
        many.addresses.extend((0..2000_u32).map(|number| {
            let mut added = first;
            added.address = std::net::Ipv4Addr::from(0x0A00_0001 + number).into();
            added
        }));
        let changes = interface.follow(&many).unwrap();
        assert!(changes.iter().any(|change| matches!(change, Change::Passing(_))), "{changes:?}");
        assert_eq!(prober.reason(&[], "192.0.2.1"), Reason::NotServed);
        assert!(interface.follow(&tables).unwrap().contains(&Change::Steering));
        assert!(prober.is_served(&[], "192.0.2.1"));
        let refused = Interface::attach("far", listen(&BOTH), None, &many).unwrap_err().to_string();
        assert!(refused.contains("far: the XDP program can't be told the addresses"), "{refused}");
        assert_eq!(dump().unwrap().link_named("far").unwrap().xdp_program, None);
    });
}

#[test]
fn the_links_own_changes_are_told() {
    on_host("link changes", |rig| {
        let mut interface = rig.attach("near", &["192.0.2.1:123"]).unwrap();
        let index = interface.facts().index;
        rig.follow(&mut interface);
        ip("link set far down");
        assert_eq!(rig.follow(&mut interface), [Change::LinkDown]);
        ip("link set far up");
        assert_eq!(rig.follow(&mut interface), [Change::LinkUp]);
        ip("link set near mtu 1400");
        assert_eq!(rig.follow(&mut interface), [Change::MtuChanged { from: 1500, to: 1400 }]);
        // Of this rtnetlink says nothing: the look once a second finds it.
        assert_eq!(interface.facts().queues, 2);
        ethtool("-L far tx 1");
        ethtool("-L near rx 1");
        assert_eq!(interface.follow(&dump().unwrap()).unwrap(), [Change::QueuesChanged { from: 2, to: 1 }]);
        ip("link set near down");
        rig.follow(&mut interface);
        ip("link set near name nearer");
        let changes = rig.follow(&mut interface);
        assert_eq!(changes, [Change::Renamed { from: "near".to_owned(), to: "nearer".to_owned() }]);
        ip("link set nearer up");
        rig.follow(&mut interface);
        ip("link set nearer address 02:00:00:00:00:42");
        assert_eq!(rig.follow(&mut interface), [Change::HardwareAddressesChanged]);
        ip("link delete nearer");
        assert_eq!(rig.follow(&mut interface), [Change::Gone]);
        assert_eq!(interface.follow(&dump().unwrap()).unwrap(), [], "once");
        // One that comes in its place is another.
        ip("link add near index 77 type veth peer name far");
        assert_eq!(interface.follow(&dump().unwrap()).unwrap(), []);
        assert_ne!(rig.attach("near", &["192.0.2.1:123"]).unwrap().facts().index, index);
    });
}
