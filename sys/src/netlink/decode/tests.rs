use super::*;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A message as the kernel lays it out.
fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).unwrap();
    let mut octets = length.to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(flags.to_ne_bytes());
    octets.extend(sequence.to_ne_bytes());
    octets.extend([0; 4]);
    octets.extend(payload);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

fn link_payload(index: u32, flags: i32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = vec![0, 0, 1, 0];
    octets.extend(index.to_ne_bytes());
    octets.extend(flags.to_ne_bytes());
    octets.extend([0; 4]);
    octets.extend(attributes.concat());
    octets
}

fn address_payload(flags: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = vec![0, 24, flags, 0];
    octets.extend(7_u32.to_ne_bytes());
    octets.extend(attributes.concat());
    octets
}

fn vlan_link() -> Vec<u8> {
    let vlan = [attribute(1, &17_u16.to_ne_bytes()), attribute(5, &[0x88, 0xa8])].concat();
    // The nested flag is set by some kernels and not by others.
    let info = [attribute(1, b"vlan\0"), attribute(2 | 0x8000, &vlan)].concat();
    let attributes = [
        attribute(3, b"eth0.17\0"),
        attribute(1, &[2, 0, 0, 0, 0, 9]),
        attribute(4, &1500_u32.to_ne_bytes()),
        attribute(5, &4_u32.to_ne_bytes()),
        attribute(10, &9_u32.to_ne_bytes()),
        attribute(999, &[1, 2, 3]),
        attribute(18, &info),
        attribute(43, &[attribute(2, &[2]), attribute(4, &77_u32.to_ne_bytes())].concat()),
    ];
    link_payload(7, libc::IFF_UP, &attributes)
}

fn read_one(payload: &[u8], kind: u16) -> Tables {
    let mut tables = Tables::default();
    let outcome = read(&message(kind, 0, 3, payload), 3, &mut tables);
    assert_eq!(outcome.unwrap(), Progress::More { interrupted: false });
    tables
}

#[test]
fn a_vlan_device_is_read_with_all_that_it_says() {
    let expected = Link {
        index: 7,
        name: "eth0.17".to_owned(),
        ethernet: true,
        up: true,
        kind: Some("vlan".to_owned()),
        hardware_address: Some([2, 0, 0, 0, 0, 9]),
        mtu: 1500,
        master: Some(9),
        below: Some(4),
        tag: Some(Tag { id: 17, protocol: 0x88a8 }),
        xdp_program: Some(77),
        ..Link::default()
    };
    assert_eq!(read_one(&vlan_link(), libc::RTM_NEWLINK).links, [expected]);
}

#[test]
fn a_member_stands_by_while_its_bond_or_bridge_leaves_it_aside() {
    for (kind, state, standby) in [
        ("bond\0", vec![attribute(1, &[0])], false),
        ("bond\0", vec![attribute(1, &[1]), attribute(2, &[0])], true),
        ("bond\0", vec![attribute(2, &[1])], false),
        ("bridge\0", vec![attribute(1, &[3])], false),
        ("bridge\0", vec![attribute(1, &[2])], true),
        ("bridge\0", vec![attribute(1, &[4])], true),
        ("bridge\0", vec![attribute(1, &[])], false),
        ("team\0", vec![attribute(1, &[1])], false),
    ] {
        let info = [attribute(4, kind.as_bytes()), attribute(5 | 0x8000, &state.concat())].concat();
        let tables = read_one(&link_payload(7, libc::IFF_UP, &[attribute(18, &info)]), libc::RTM_NEWLINK);
        assert_eq!(tables.links[0].standby, standby, "{kind} {state:?}");
    }
}

#[test]
fn what_is_below_in_another_namespace_is_not_below_here() {
    let attributes = [attribute(5, &4_u32.to_ne_bytes()), attribute(37, &0_u32.to_ne_bytes())];
    let tables = read_one(&link_payload(7, 0, &attributes), libc::RTM_NEWLINK);
    assert_eq!(tables.links[0].below, None);
}

#[test]
fn no_program_is_none_and_one_without_a_number_is_0() {
    for (octets, program) in [
        (vec![attribute(2, &[0])], None),
        (vec![attribute(2, &[4]), attribute(6, &5_u32.to_ne_bytes())], Some(5)),
        (vec![attribute(2, &[1])], Some(0)),
    ] {
        assert_eq!(xdp_program(&octets.concat()), program);
    }
}

#[test]
fn an_address_is_the_local_one_and_usable_once_it_is_no_duplicate() {
    let (local, peer) = ([192, 0, 2, 1], [192, 0, 2, 9]);
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let v4_address = IpAddr::V4(Ipv4Addr::from(local));
    let v6_address = IpAddr::V6(Ipv6Addr::from(v6));
    for (flags, attributes, expected) in [
        (0, vec![attribute(1, &peer), attribute(2, &local)], Some((v4_address, true))),
        (0x80, vec![attribute(1, &local)], Some((v4_address, true))),
        (0x40, vec![attribute(1, &v6)], Some((v6_address, false))),
        (0x40, vec![attribute(1, &v6), attribute(8, &0x44_u32.to_ne_bytes())], Some((v6_address, true))),
        (0, vec![attribute(1, &v6), attribute(8, &0x08_u32.to_ne_bytes())], Some((v6_address, false))),
        (0, vec![attribute(3, b"label\0")], None),
        (0, vec![attribute(1, &[1, 2, 3])], None),
    ] {
        let tables = read_one(&address_payload(flags, &attributes), libc::RTM_NEWADDR);
        let found = tables.addresses.first().map(|address| (address.address, address.usable));
        assert_eq!(found, expected);
        assert!(tables.addresses.iter().all(|address| address.interface == 7));
    }
}

#[test]
fn a_dump_has_an_end_an_interruption_and_an_error() {
    let done = message(3, 0, 3, &[0; 4]);
    let mut tables = Tables::default();
    let both = [message(libc::RTM_NEWLINK, 0x10, 3, &vlan_link()), done.clone()].concat();
    assert_eq!(read(&both, 3, &mut tables).unwrap(), Progress::Done { interrupted: true });
    assert_eq!(tables.links.len(), 1);
    // The end of another question's answer isn't this one's.
    assert_eq!(read(&done, 4, &mut tables).unwrap(), Progress::More { interrupted: false });
    let refused = message(2, 0, 3, &(-libc::EPERM).to_ne_bytes());
    assert_eq!(read(&refused, 3, &mut tables).unwrap_err().raw_os_error(), Some(libc::EPERM));
}

#[test]
fn what_is_cut_short_is_an_error_or_left_out_and_never_a_panic() {
    let whole = message(libc::RTM_NEWLINK, 0, 3, &vlan_link());
    for length in 0..whole.len() {
        let mut tables = Tables::default();
        // A message's own length tells.
        assert_eq!(read(&whole[..length], 3, &mut tables).is_ok(), length == 0, "{length}");
        let mut shorter = whole[..length.max(16)].to_vec();
        shorter[..4].copy_from_slice(&u32::try_from(length.max(16)).unwrap().to_ne_bytes());
        // An attribute that isn't whole is left out, and so is what follows; a link without its head is none.
        assert_eq!(read(&shorter, 3, &mut tables).is_ok(), length >= 32, "{length}");
    }
    // Any octet may be anything.
    for at in 16..whole.len() {
        for octet in [0, 1, 0x7f, 0xff] {
            let mut spoilt = whole.clone();
            spoilt[at] = octet;
            assert!(read(&spoilt, 3, &mut Tables::default()).is_ok());
        }
    }
}

#[test]
fn a_request_asks_for_a_dump() {
    let request = dump_request(libc::RTM_GETADDR, 9);
    let message = NetlinkBuffer::new_checked(&request[..]).unwrap();
    assert_eq!((message.message_type(), message.sequence_number(), message.flags()), (22, 9, 0x301));
}
