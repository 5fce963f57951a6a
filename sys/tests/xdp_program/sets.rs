//! What the program is told: whole sets, which may change while it runs; and that it counts on every core.

use std::net::{IpAddr, Ipv4Addr};

use maser_sys::xdp_program::{Destination, Reason, SocketsMap, Vlan, XdpCounts};

use crate::oracle::frame::{Wrapping, wrap};
use crate::rig::{
    DESTINATIONS, LISTENER_IP4, Outcome, Rig, STATION, VLANS, ip4, ip4_wrapping, ip6, message, tag, test_run,
};

fn tagged(vlan: u16) -> Vec<u8> {
    wrap(&message(), &Wrapping { tags: vec![tag(0x8100, vlan)], ..ip4_wrapping() })
}

#[test]
fn a_destination_that_is_gone_is_served_no_more() {
    let Some(mut rig) = Rig::new() else { return };
    let [v4, v6] = DESTINATIONS;
    rig.program.set_destinations(&[v6]).unwrap();
    assert_eq!((rig.reason(&ip4()), rig.reason(&ip6())), (Reason::NotServed, Reason::Steered));
    // Another port and listener for the same address.
    let moved = Destination { port: 124, listener: 9, ..v4 };
    rig.program.set_destinations(&[moved]).unwrap();
    assert_eq!((rig.reason(&ip4()), rig.reason(&ip6())), (Reason::NotServed, Reason::NotServed));
    let both = [moved, Destination { listener: 8, ..v4 }];
    rig.program.set_destinations(&both).unwrap();
    let Outcome::Steered(metadata) = rig.run(&ip4()) else { panic!("not steered") };
    assert_eq!(metadata.listener, 8);
    // A change of the listener alone, and the last of two for the same address and port.
    rig.program.set_destinations(&[both[1], v4]).unwrap();
    let Outcome::Steered(metadata) = rig.run(&ip4()) else { panic!("not steered") };
    assert_eq!(metadata.listener, LISTENER_IP4);
    rig.program.set_destinations(&[]).unwrap();
    assert_eq!(rig.reason(&ip4()), Reason::NotServed);
}

#[test]
fn as_many_destinations_as_there_is_room_for() {
    let Some(mut rig) = Rig::new() else { return };
    let others = |count: u32| {
        let each =
            |number| Destination { address: Ipv4Addr::from(0x0A00_0000 + number).into(), ..DESTINATIONS[0] };
        (0..count).map(each).collect::<Vec<_>>()
    };
    let error = rig.program.set_destinations(&others(1025)).unwrap_err();
    assert!(error.to_string().contains("at most 1024"), "{error}");
    assert_eq!(rig.reason(&ip4()), Reason::Steered, "what was told before holds");
    // Room is made first.
    rig.program.set_destinations(&others(1024)).unwrap();
    assert_eq!(rig.reason(&ip4()), Reason::NotServed);
    rig.program.set_destinations(&[&others(1023)[..], &DESTINATIONS[..1]].concat()).unwrap();
    assert_eq!(rig.reason(&ip4()), Reason::Steered);
    let IpAddr::V4(last) = others(1023)[1022].address else { panic!("IPv4") };
    let to_last = Wrapping { destination: last.octets().to_vec(), ..ip4_wrapping() };
    assert_eq!(rig.reason(&wrap(&message(), &to_last)), Reason::Steered);
}

#[test]
fn vlans_and_hardware_addresses_are_sets_too() {
    let Some(mut rig) = Rig::new() else { return };
    rig.program.set_vlans(&[Vlan { outer: 7, inner: 0 }]).unwrap();
    assert_eq!((rig.reason(&tagged(100)), rig.reason(&tagged(7))), (Reason::Vlan, Reason::Steered));
    assert_eq!(rig.reason(&ip4()), Reason::Steered, "untagged frames always are ours");
    for wrong in [Vlan { outer: 4095, inner: 0 }, Vlan { outer: 1, inner: 4096 }] {
        let error = rig.program.set_vlans(&[wrong]).unwrap_err();
        assert!(error.to_string().contains("end at 4094"), "{error}");
    }
    assert_eq!(rig.reason(&tagged(7)), Reason::Steered);
    rig.program.set_vlans(&VLANS).unwrap();
    assert_eq!(rig.reason(&tagged(7)), Reason::Vlan);

    let other = [2, 0, 0, 0, 0, 9];
    let to_other = [&other[..], &ip4()[6..]].concat();
    rig.program.set_hardware_addresses(&[other, STATION]).unwrap();
    assert_eq!((rig.reason(&ip4()), rig.reason(&to_other)), (Reason::Steered, Reason::Steered));
    rig.program.set_hardware_addresses(&[other]).unwrap();
    assert_eq!((rig.reason(&ip4()), rig.reason(&to_other)), (Reason::AnotherStation, Reason::Steered));
    let error = rig.program.set_hardware_addresses(&[STATION; 9]).unwrap_err();
    assert!(error.to_string().contains("at most 8"), "{error}");
    let mut eight = [other; 8];
    eight[7] = STATION;
    rig.program.set_hardware_addresses(&eight).unwrap();
    assert_eq!(rig.reason(&ip4()), Reason::Steered);
    rig.program.set_hardware_addresses(&[]).unwrap();
    // An unused place is no address.
    assert_eq!(rig.reason(&[&[0; 6][..], &ip4()[6..]].concat()), Reason::AnotherStation);
    assert_eq!(rig.reason(&to_other), Reason::AnotherStation);
}

/// A server that was taken over has the mapping, and no descriptor to make another by.
#[test]
fn counts_can_never_be_written_to() {
    let Some(_rig) = Rig::new() else { return };
    let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut found = 0;
    let mut lines = mappings.lines();
    // The loader has some of its own, to write to.
    let is_ours = |line: &str| line.contains(" r--s ") && line.ends_with("anon_inode:bpf-map");
    while lines.by_ref().any(is_ours) {
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
        // What may be made writable.
        assert!(!flags.split_whitespace().any(|flag| flag == "mw"), "{flags}");
        found += 1;
    }
    assert!(found > 0, "the counts are mapped");
}

#[test]
fn counts_are_added_up_over_the_cores() {
    let Some(rig) = Rig::new() else { return };
    let before = rig.counts.read();
    let cores = core_affinity::get_core_ids().unwrap();
    for core in &cores {
        assert!(core_affinity::set_for_current(*core));
        test_run(&rig.program, &ip4(), &mut [0; 200], 1);
        assert_eq!(rig.reason(&tagged(1)), Reason::Vlan);
    }
    let after = rig.counts.read();
    for (reason, count) in after.iter() {
        let ran = matches!(reason, Reason::Steered | Reason::Vlan);
        let more = if ran { cores.len() as u64 } else { 0 };
        assert_eq!(count - before.of(reason), more, "{}", reason.name());
    }
    // Two readers see the same, and a map of another kind is refused.
    let again = XdpCounts::from_fd(rig.program.counts_map().unwrap()).unwrap();
    assert_eq!(again.read(), after);
    let error = XdpCounts::from_fd(rig.program.sockets_map().unwrap()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let _ = SocketsMap::from_fd(rig.program.sockets_map().unwrap());
}
