//! The way to a target, learnt from a reply.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use maser_sys::packet_socket::{WayError, way_to};

use crate::namespace::{NEAR_V4, alone, ip, with_far};
use crate::{Echo, LIMIT, payload};

/// An interface's hardware address, as the kernel tells it in another way.
fn mac_of(interface: &str) -> [u8; 6] {
    let output = std::process::Command::new("ip").args(["-o", "link", "show", interface]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mac = text.split_whitespace().skip_while(|word| !word.starts_with("link/")).nth(1).unwrap();
    let octets: Vec<u8> = mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    octets.try_into().unwrap()
}

fn mac_of_neighbour(address: &str) -> String {
    let output = std::process::Command::new("ip").args(["neigh", "show", address]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap().to_owned()
}

#[test]
fn the_way_to_another_host_is_that_of_the_kernel() {
    with_far("the_way_to_another_host_is_that_of_the_kernel", |far| {
        for (echo, source) in [(&far.v4, NEAR_V4), (&far.v6, "fd6d:61::2")] {
            let way = way_to(echo.address, &payload(1), LIMIT).unwrap();
            assert_eq!((way.interface_name.as_str(), way.source_mac), ("near", mac_of("near")));
            assert_eq!(way.interface, nix::net::if_::if_nametoindex("near").unwrap());
            assert_eq!(way.source.to_string(), source);
            let next_hop = way.next_hop_mac.map(|octet| format!("{octet:02x}")).join(":");
            assert_eq!(next_hop, mac_of_neighbour(&echo.address.ip().to_string()));
        }
    });
}

#[test]
fn the_way_over_loopback_has_no_hardware_addresses() {
    alone("the_way_over_loopback_has_no_hardware_addresses", || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let echo = Echo::at(address);
            let way = way_to(echo.address, &payload(1), LIMIT).unwrap();
            assert_eq!((way.interface, way.interface_name.as_str()), (1, "lo"));
            assert_eq!((way.source_mac, way.next_hop_mac), ([0; 6], [0; 6]));
            assert_eq!(way.source, echo.address.ip());
        }
    });
}

#[test]
fn the_way_through_a_bridge_is_the_bridge() {
    with_far("the_way_through_a_bridge_is_the_bridge", |far| {
        ip("link add name bridge address 02:00:00:00:00:07 type bridge");
        ip("link set near master bridge");
        ip(&format!("address del {NEAR_V4}/24 dev near"));
        ip(&format!("address add {NEAR_V4}/24 dev bridge"));
        ip("link set bridge up");
        let way = way_to(far.v4.address, &payload(1), LIMIT).unwrap();
        assert_eq!((way.interface_name.as_str(), way.source_mac), ("bridge", [2, 0, 0, 0, 0, 7]));
    });
}

#[test]
fn silence_ends_with_what_was_tried() {
    alone("silence_ends_with_what_was_tried", || {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (target, patience) = (silent.local_addr().unwrap(), Duration::from_millis(100));
        let begin = Instant::now();
        assert_eq!(way_to(target, &payload(1), patience), Err(WayError::NoReply { target, patience }));
        assert!((patience..LIMIT).contains(&begin.elapsed()));
        ip("link set lo down");
        let target = SocketAddr::new([192, 0, 2, 1].into(), 123);
        assert_eq!(way_to(target, &payload(1), patience), Err(WayError::Unsent { target }));
    });
}
