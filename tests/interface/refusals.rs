//! What stands in the way is said before anything is changed, with what to do about it.

use std::thread::sleep;
use std::time::Duration;

use crate::peers::log;
use crate::rig::{can_add, ethtool, ip, listen, on_host};
use maser::interface::{Interface, Mode};
use maser_sys::netlink::{Tables, Tag, dump};

#[test]
fn what_is_no_interface_of_the_right_kind_is_refused() {
    on_host("refusals by kind", |rig| {
        let refusal = |name: &str| rig.attach(name, &["0.0.0.0:123"]).unwrap_err().to_string();
        let none = refusal("eth9");
        assert!(none.contains("eth9: no such interface") && none.contains("far, near"), "{none}");
        assert!(refusal("lo").starts_with("lo: the loopback interface"), "{}", refusal("lo"));
        ip("link add br0 type bridge");
        assert!(refusal("br0").contains("it has none"), "{}", refusal("br0"));
        ip("link set near master br0");
        ip("link set far master br0");
        assert!(refusal("br0").ends_with("name the members far, near"), "{}", refusal("br0"));
        ip("link set near nomaster");
        ip("tuntap add mode tun tun0");
        assert!(refusal("tun0").contains("not an Ethernet interface"), "{}", refusal("tun0"));
        assert!(dump().unwrap().links.iter().all(|link| link.xdp_program.is_none()), "nothing was changed");
        // The other end of a bridged pair, and with it a member, is fine.
        rig.attach("far", &["0.0.0.0:123"]).unwrap();
    });
}

#[test]
fn a_bond_names_its_members_and_a_vlan_device_what_is_below() {
    on_host("refusals of bonds and VLAN devices", |rig| {
        let refusal = |name: &str| rig.attach(name, &["0.0.0.0:123"]).unwrap_err().to_string();
        if can_add("link near name near.5 type vlan id 5") {
            assert!(refusal("near.5").contains("name that one, near:"), "{}", refusal("near.5"));
            ethtool("-K near rxvlan on");
            assert!(refusal("near").contains("on it (near.5), and its tag offload"), "{}", refusal("near"));
            ethtool("-K near rxvlan off");
            rig.attach("near", &["0.0.0.0:123"]).unwrap();
            ip("link delete near.5");
        } else {
            log(
                "SKIPPED: a VLAN device is refused: this kernel has none (CONFIG_VLAN_8021Q); the unit tests have tables with some",
            );
        }
        if can_add("bond0 type bond") {
            ip("link set near down");
            ip("link set near master bond0");
            assert!(refusal("bond0").ends_with("name its member near"), "{}", refusal("bond0"));
            rig.attach("near", &["0.0.0.0:123"]).unwrap();
        } else {
            log(
                "SKIPPED: a bond is refused: this kernel has none (CONFIG_BONDING); the unit tests have tables with one",
            );
        }
    });
}

#[test]
fn tag_offload_is_refused_where_vlan_devices_are() {
    on_host("tag offload", |rig| {
        ethtool("-K near rxvlan on txvlan on");
        rig.attach("near", &["0.0.0.0:123"]).expect("nobody needs the tags");
        // The kernel's own tables with a VLAN device put into them: not every kernel has such devices.
        let mut tables = dump().unwrap();
        let near = tables.link_named("near").unwrap().clone();
        let mut device = near.clone();
        (device.name, device.index, device.kind) = ("near.5".to_owned(), 99, Some("vlan".to_owned()));
        (device.below, device.tag) = (Some(near.index), Some(Tag { id: 5, protocol: 0x8100 }));
        tables.links.push(device);
        let attach = |tables: &Tables| Interface::attach("near", listen(&["0.0.0.0:123"]), None, tables);
        let refusal = attach(&tables).unwrap_err().to_string();
        assert!(refusal.contains("(near.5)"), "{refusal}");
        assert!(refusal.ends_with("`ethtool -K near rxvlan off txvlan off`"), "{refusal}");
        // The other type of tag has an offload of its own, which is on, too; this one may stay on then.
        tables.links.last_mut().unwrap().tag = Some(Tag { id: 5, protocol: 0x88a8 });
        let refusal = attach(&tables).unwrap_err().to_string();
        let advice = "`ethtool -K near rx-vlan-stag-hw-parse off tx-vlan-stag-hw-insert off`";
        assert!(refusal.ends_with(advice), "{refusal}");
        ethtool("-K near rx-vlan-stag-hw-parse off tx-vlan-stag-hw-insert off");
        attach(&tables).unwrap();
    });
}

#[test]
fn a_second_one_is_refused_and_the_first_one_stays() {
    on_host("a second program", |rig| {
        let first = rig.attach("near", &["0.0.0.0:123"]).unwrap();
        let before = dump().unwrap().link_named("near").unwrap().xdp_program;
        let second = rig.attach("near", &["0.0.0.0:123"]).unwrap_err().to_string();
        assert!(second.starts_with("near: another XDP program is on it (number "), "{second}");
        assert!(before.is_some());
        assert_eq!(dump().unwrap().link_named("near").unwrap().xdp_program, before);
        drop(first);
        rig.attach("near", &["0.0.0.0:123"]).expect("it goes with its owner");
    });
}

#[test]
fn the_mode_is_native_where_the_driver_can_and_else_generic_with_the_reason() {
    on_host("modes", |rig| {
        let interface = rig.attach("near", &["0.0.0.0:123"]).unwrap();
        let facts = interface.facts();
        assert_eq!(facts.mode, Mode::Native);
        assert_eq!((facts.name.as_str(), facts.queues, facts.mtu), ("near", 2, 1500));
        assert_eq!((facts.driver.as_str(), facts.numa_node), ("veth", None));
        assert_eq!((facts.rss.as_str(), facts.spread.len()), ("udp4 unknown, udp6 unknown", 0));
        assert_eq!(facts.nic_stamps, facts.why.is_empty(), "{}", facts.why);
        drop(interface);
        let asked =
            Interface::attach("near", listen(&["0.0.0.0:123"]), Some(Mode::Generic), &dump().unwrap());
        assert_eq!(asked.as_ref().unwrap().facts().mode, Mode::Generic);
        drop(asked);
        // A veth's driver takes no program while its peer may send longer packets than fit a page.
        ip("link set far mtu 9000");
        ip("link set near mtu 9000");
        let stepped_down = rig.attach("near", &["0.0.0.0:123"]).unwrap();
        let facts = stepped_down.facts();
        assert_eq!((facts.mode, facts.nic_stamps, facts.mtu), (Mode::Generic, false, 9000));
        assert!(facts.why.contains("the MTU is above"), "{}", facts.why);
        drop(stepped_down);
        // The generic program may stay a moment longer: another test's child has its descriptor until it runs another program.
        let refusal = || {
            let native =
                Interface::attach("near", listen(&["0.0.0.0:123"]), Some(Mode::Native), &dump().unwrap());
            native.unwrap_err().to_string()
        };
        let is_expected = |said: &str| said.starts_with("near: the driver takes no XDP program");
        let mut said = refusal();
        for _ in 0..100 {
            if is_expected(&said) {
                break;
            }
            sleep(Duration::from_millis(20));
            said = refusal();
        }
        assert!(is_expected(&said), "{said}");
    });
}

#[test]
fn a_link_that_is_down_is_no_reason() {
    on_host("a link that is down", |rig| {
        ip("link set near down");
        ip("link set far down");
        rig.attach("near", &["0.0.0.0:123"]).unwrap();
    });
}
