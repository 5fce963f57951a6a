use super::*;

use maser_sys::netlink::Tag;

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        ethernet: true,
        up: true,
        carrier: true,
        mtu: 1500,
        hardware_address: Some([2, 0, 0, 0, 0, 1]),
        ..Link::default()
    }
}

fn tables(links: Vec<Link>) -> Tables {
    Tables { links, addresses: Vec::new() }
}

fn refusal(name: &str, tables: &Tables) -> String {
    find(name, tables).unwrap_err().to_string()
}

#[test]
fn each_refusal_says_what_and_what_to_do() {
    let bond = Link { kind: Some("bond".to_owned()), ..link(4, "bond0") };
    let empty = Link { kind: Some("bridge".to_owned()), ..link(5, "br0") };
    let member = |index, name| Link { master: Some(4), ..link(index, name) };
    let vlan = Link {
        kind: Some("vlan".to_owned()),
        below: Some(2),
        tag: Some(Tag { id: 5, protocol: 0x8100 }),
        ..link(6, "eth0.5")
    };
    let elsewhere = Link { below: None, ..vlan.clone() };
    let elsewhere = Link { name: "lone.5".to_owned(), index: 9, ..elsewhere };
    let tables = tables(vec![
        Link { loopback: true, ethernet: false, ..link(1, "lo") },
        member(2, "eth0"),
        member(3, "eth1"),
        bond,
        empty,
        vlan,
        elsewhere,
        Link { ethernet: false, ..link(7, "tun0") },
        Link { xdp_program: Some(77), ..link(8, "eth2") },
    ]);
    for (name, expected) in [
        (
            "eth9",
            "eth9: no such interface in this network namespace; there are: eth0, eth1, bond0, br0, eth0.5, lone.5, eth2",
        ),
        ("lo", "lo: the loopback interface carries this machine's own packets only"),
        ("bond0", "name the members eth0, eth1"),
        ("br0", "it has none: give it some, and name these"),
        ("eth0.5", "name that one, eth0: the VLANs on it are answered, too"),
        ("lone.5", "name that one, which is in another network namespace"),
        ("tun0", "tun0: not an Ethernet interface"),
        ("eth2", "eth2: another XDP program is on it (number 77)"),
    ] {
        let words = refusal(name, &tables);
        assert!(words.contains(expected), "{words}");
    }
    // A bond's member is fine, and so is an interface alone.
    assert_eq!(find("eth0", &tables).unwrap().index, 2);
}

#[test]
fn what_should_be_known_is_a_warning() {
    let known = |link: &Link| warnings(link, &Features::default());
    assert_eq!(known(&link(2, "eth0")), Vec::<String>::new());
    let off = known(&Link { up: false, carrier: false, ..link(2, "eth0") });
    assert!(matches!(off.as_slice(), [words] if words.contains("ip link set eth0 up")), "{off:?}");
    let dark = known(&Link { carrier: false, ..link(2, "eth0") });
    assert_eq!(dark, ["eth0: it has no carrier"]);
    let jumbo = known(&Link { mtu: 9000, ..link(2, "eth0") });
    assert!(
        matches!(jumbo.as_slice(), [words] if words.contains("its MTU is 9000; above 1770")),
        "{jumbo:?}"
    );
    let standby = known(&Link { standby: true, ..link(2, "eth0") });
    assert!(matches!(standby.as_slice(), [words] if words.contains("bond or bridge drops")), "{standby:?}");
    let offload = ["rx-vlan-hw-parse", "tx-vlan-hw-insert"].map(ToOwned::to_owned).into_iter().collect();
    let offload = warnings(&link(2, "eth0"), &offload);
    assert!(
        matches!(offload.as_slice(), [words] if words.ends_with("`ethtool -K eth0 rxvlan off`")),
        "{offload:?}"
    );
}

#[test]
fn offloads_that_hide_what_came_are_refused() {
    let vlan = |index, below, id, protocol| Link {
        kind: Some("vlan".to_owned()),
        below: Some(below),
        tag: Some(Tag { id, protocol }),
        up: false,
        ..link(index, &format!("v{index}"))
    };
    let on = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Features>();
    let all =
        on(&["rx-vlan-hw-parse", "tx-vlan-hw-insert", "rx-vlan-stag-hw-parse", "tx-vlan-stag-hw-insert"]);
    let eth0 = link(2, "eth0");
    let check = |devices: &[Link], on: &Features| {
        let tables = tables([std::slice::from_ref(&eth0), devices].concat());
        check_features(&eth0, &tables, on).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(check(&[], &all), Ok(()), "without VLANs tags don't matter");
    let tagged = vlan(6, 2, 5, 0x8100);
    assert_eq!(check(std::slice::from_ref(&tagged), &on(&["rx-vlan-filter"])), Ok(()));
    for (devices, names, advice) in [
        (vec![tagged.clone()], &all, "rxvlan off txvlan off"),
        (vec![tagged.clone()], &on(&["tx-vlan-hw-insert"]), "txvlan off"),
        // The tag within another is left alone.
        (
            vec![tagged, vlan(7, 6, 8, 0x88a8)],
            &on(&["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"]),
            "rxvlan off",
        ),
        (vec![vlan(6, 2, 5, 0x88a8)], &all, "rx-vlan-stag-hw-parse off tx-vlan-stag-hw-insert off"),
    ] {
        let refusal = check(&devices, names).unwrap_err();
        assert!(refusal.ends_with(&format!("`ethtool -K eth0 {advice}`")), "{refusal}");
        assert!(refusal.contains("on it (v6)"), "{refusal}");
    }
    let lro = check(&[], &on(&["rx-lro"])).unwrap_err();
    assert!(lro.ends_with("`ethtool -K eth0 lro off`"), "{lro}");
}
