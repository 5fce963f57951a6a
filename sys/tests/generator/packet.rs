//! The packet socket, between two namespaces and over loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use maser_core::time::StampClock;
use maser_sys::outbox::Outbox;
use maser_sys::packet_socket::{Checksum, PacketError, PacketSocket, Ports, Way, way_to};

use crate::frame::frame;
use crate::namespace::{FAR_V4, NEAR_V4, PORT, alone, ip, run, with_far};
use crate::{Echo, LIMIT, assert_near, payload, until};

const RING_FRAMES: usize = 64;

/// A packet socket along the way to `target`, and a UDP socket that keeps the kernel from answering the replies.
fn open(target: SocketAddr, ring_frames: usize) -> (PacketSocket, Way, UdpSocket) {
    let way = way_to(target, &payload(0), LIMIT).unwrap();
    let holder = UdpSocket::bind((way.source, 0)).unwrap();
    let socket = PacketSocket::open(way.interface, target, Ports::ALL, ring_frames).unwrap();
    (socket, way, holder)
}

fn push(outbox: &mut Outbox, stamped: bool, frame: &[u8]) {
    outbox.push(None, stamped, |slot| {
        slot[..frame.len()].copy_from_slice(frame);
        frame.len()
    });
}

/// The last octet of each frame that is in the ring.
fn numbers(socket: &mut PacketSocket) -> Vec<u8> {
    let mut numbers = Vec::new();
    socket.receive(|frame| numbers.push(*frame.octets.last().unwrap()));
    numbers
}

fn a_round_trip(echo: &Echo) {
    let target = echo.address;
    let (mut socket, way, holder) = open(target, RING_FRAMES);
    let port = holder.local_addr().unwrap().port();
    let mut outbox = Outbox::new(4);
    let (mut received, mut stamped) = (BTreeMap::new(), BTreeMap::new());
    let frames: Vec<Vec<u8>> = (0..4).map(|number| frame(&way, port, target, &payload(number))).collect();
    for (number, frame) in frames.iter().enumerate() {
        push(&mut outbox, number % 2 == 1, frame);
    }
    assert_eq!((socket.send(&mut outbox).unwrap(), outbox.len()), (4, 0));
    until(|| {
        socket.receive(|frame| {
            assert!(frame.whole && frame.stamped_on_arrival);
            assert_eq!(frame.stamp.clock, StampClock::Realtime);
            // The echo's kernel leaves checksums to the veth "NIC", which passes them on unmade.
            assert_eq!(frame.checksum, Checksum::LeftOut);
            received.insert(frame.octets.last().copied(), (frame.octets.to_vec(), frame.stamp.nanos));
        });
        socket.transmit_stamps(|frame, stamp| _ = stamped.insert(frame.to_vec(), stamp)).unwrap();
        received.len() == 4 && stamped.len() == 2
    });
    for (number, sent) in (0..).zip(&frames) {
        let (reply, received_ns) = &received[&Some(number)];
        assert_eq!((&reply[..6], &reply[6..12]), (&way.source_mac[..], &way.next_hop_mac[..]));
        assert_eq!((reply.len(), &reply[reply.len() - 48..]), (sent.len(), &payload(number)[..]));
        let stamp = stamped.get(sent);
        assert_eq!(stamp.is_some(), number % 2 == 1, "{number}");
        if let Some(stamp) = stamp {
            assert_eq!(stamp.clock, StampClock::Realtime);
            assert_near(stamp.nanos, *received_ns);
        }
    }
    assert_eq!(socket.overflowed().unwrap(), 0);
}

#[test]
fn frames_go_to_another_host_and_back() {
    with_far("frames_go_to_another_host_and_back", |far| {
        a_round_trip(&far.v4);
        a_round_trip(&far.v6);
    });
}

#[test]
fn frames_go_over_loopback() {
    alone("frames_go_over_loopback", || {
        for setting in ["route_localnet", "accept_local"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/lo/{setting}"), "1").unwrap();
        }
        a_round_trip(&Echo::at("127.0.0.1:0"));
        a_round_trip(&Echo::at("[::1]:0"));
    });
}

#[test]
fn nothing_but_the_peer_comes_in() {
    alone("nothing_but_the_peer_comes_in", || {
        for (peer, other_address) in [("127.0.0.1:0", "127.0.0.2"), ("[::1]:0", "fd6d:61::9")] {
            ip("address replace fd6d:61::9/128 dev lo nodad");
            let peer = UdpSocket::bind(peer).unwrap();
            let mut socket =
                PacketSocket::open(1, peer.local_addr().unwrap(), Ports::ALL, RING_FRAMES).unwrap();
            let to = UdpSocket::bind(SocketAddr::new(peer.local_addr().unwrap().ip(), 0)).unwrap();
            let here = to.local_addr().unwrap();
            // Another port, another address, TCP, fragments of the peer; to the peer rather than from it.
            UdpSocket::bind(SocketAddr::new(here.ip(), 0)).unwrap().send_to(&payload(1), here).unwrap();
            let other = (other_address, peer.local_addr().unwrap().port());
            UdpSocket::bind(other).unwrap().send_to(&payload(2), here).unwrap();
            assert!(std::net::TcpStream::connect(here).is_err());
            ip("link set lo mtu 1500");
            peer.send_to(&[3; 4000], here).unwrap();
            to.send_to(&payload(4), peer.local_addr().unwrap()).unwrap();
            peer.send_to(&payload(9), here).unwrap();
            assert_eq!(numbers(&mut socket), [9]);
            peer.send_to(&payload(10), here).unwrap();
            assert_eq!((numbers(&mut socket), numbers(&mut socket)), (vec![10], vec![]));
        }
    });
}

#[test]
fn sockets_share_the_ports_out() {
    alone("sockets_share_the_ports_out", || {
        for peer in ["127.0.0.1:0", "[::1]:0"] {
            let peer = UdpSocket::bind(peer).unwrap();
            let address = peer.local_addr().unwrap();
            let mut sockets = [0, 1]
                .map(|value| PacketSocket::open(1, address, Ports { mask: 1, value }, RING_FRAMES).unwrap());
            for port in 40_000..40_006 {
                let to = UdpSocket::bind(SocketAddr::new(address.ip(), port)).unwrap();
                peer.send_to(&payload(port.to_be_bytes()[1]), to.local_addr().unwrap()).unwrap();
            }
            let seen = sockets.each_mut().map(numbers);
            let even = payload(40_000_u16.to_be_bytes()[1])[47];
            assert_eq!(seen, [[even, even + 2, even + 4], [even + 1, even + 3, even + 5]]);
        }
    });
}

#[test]
fn a_full_ring_is_counted_and_goes_on() {
    with_far("a_full_ring_is_counted_and_goes_on", |far| {
        let target = far.v4.address;
        let (mut socket, way, holder) = open(target, 4);
        let port = holder.local_addr().unwrap().port();
        far.v4.wait_for(1);
        let mut outbox = Outbox::new(20);
        for (round, answers) in [(0_u8, 21), (1, 41)] {
            for number in 0..20 {
                push(&mut outbox, false, &frame(&way, port, target, &payload(20 * round + number)));
            }
            assert_eq!(socket.send(&mut outbox).unwrap(), 20);
            far.v4.wait_for(answers);
            // The last reply may still be on its way up.
            let mut overflowed = 0;
            until(|| {
                overflowed += socket.overflowed().unwrap();
                overflowed >= 16
            });
            assert_eq!(overflowed, 16);
            let first = 20 * round;
            assert_eq!(numbers(&mut socket), [first, first + 1, first + 2, first + 3]);
        }
        assert_eq!((numbers(&mut socket), socket.overflowed().unwrap()), (vec![], 0));
    });
}

#[test]
fn a_ring_goes_round() {
    alone("a_ring_goes_round", || {
        let (peer, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut socket = PacketSocket::open(1, peer.local_addr().unwrap(), Ports::ALL, 128).unwrap();
        let mut sent = 0_u8;
        for step in [3, 50, 100, 128, 90, 128, 1] {
            let numbers_sent: Vec<u8> = (0..step).map(|n: u8| sent.wrapping_add(n)).collect();
            for number in &numbers_sent {
                peer.send_to(&payload(*number), to.local_addr().unwrap()).unwrap();
            }
            sent = sent.wrapping_add(step);
            assert_eq!(numbers(&mut socket), numbers_sent);
        }
        assert_eq!(socket.overflowed().unwrap(), 0);
        // The longest that fits is whole; past it, the frame is cut and says so.
        let mut seen = Vec::new();
        for length in [1500, 3000] {
            peer.send_to(&vec![5; length], to.local_addr().unwrap()).unwrap();
            socket.receive(|frame| seen.push((frame.whole, frame.octets.len() < length)));
        }
        assert_eq!(seen, [(true, false), (false, true)]);
    });
}

#[test]
fn frames_go_past_the_queueing_discipline() {
    with_far("frames_go_past_the_queueing_discipline", |far| {
        let target = far.v4.address;
        let (mut socket, way, holder) = open(target, RING_FRAMES);
        run("tc", "qdisc replace dev near root blackhole");
        holder.send_to(&payload(1), target).unwrap();
        let mut outbox = Outbox::new(1);
        push(&mut outbox, true, &frame(&way, holder.local_addr().unwrap().port(), target, &payload(2)));
        assert_eq!(socket.send(&mut outbox).unwrap(), 1);
        let mut seen = Vec::new();
        until(|| {
            seen.extend(numbers(&mut socket));
            !seen.is_empty()
        });
        assert_eq!(seen, [2]);
    });
}

#[test]
fn requests_from_addresses_of_nobody_are_answered() {
    with_far("requests_from_addresses_of_nobody_are_answered", |far| {
        let target = far.v4.address;
        let (mut socket, way, _holder) = open(target, RING_FRAMES);
        let mac = way.source_mac.map(|octet| format!("{octet:02x}")).join(":");
        let mut outbox = Outbox::new(3);
        for last in [77, 78, 79] {
            far.ip(&format!("neigh add 192.0.2.{last} lladdr {mac} dev far"));
            let way = Way { source: [192, 0, 2, last].into(), ..way.clone() };
            push(&mut outbox, false, &frame(&way, 5000, target, &payload(last)));
            assert_eq!(socket.send(&mut outbox).unwrap(), 1);
        }
        let mut seen = BTreeSet::new();
        until(|| {
            seen.extend(numbers(&mut socket));
            seen.len() == 3
        });
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [77, 78, 79]);
    });
}

#[test]
fn what_is_in_the_way_is_named() {
    alone("what_is_in_the_way_is_named", || {
        let peer = SocketAddr::new(FAR_V4.parse().unwrap(), PORT);
        let refusal = |interface, frames| PacketSocket::open(interface, peer, Ports::ALL, frames).err();
        assert_eq!(refusal(1, 64), None);
        for frames in [0, 1, 3, 1 << 17] {
            assert_eq!(refusal(1, frames), Some(PacketError::RingSize { frames }));
        }
        for interface in [77, u32::MAX] {
            assert_eq!(refusal(interface, 64), Some(PacketError::NoSuchInterface { interface }));
        }
        ip("link set lo down");
        assert_eq!(refusal(1, 64), Some(PacketError::InterfaceDown { interface: 1 }));
        ip("link add name other index 40 type veth peer name end index 41");
        ip(&format!("address add {NEAR_V4}/24 dev other"));
        assert_eq!(refusal(40, 64), Some(PacketError::InterfaceDown { interface: 40 }));
        ip("tuntap add dev tunnel mode tun");
        ip("link set tunnel up");
        let tunnel = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap().contains("tunnel");
        assert!(tunnel);
        let interface = nix::net::if_::if_nametoindex("tunnel").unwrap();
        assert_eq!(refusal(interface, 64), Some(PacketError::NotEthernet { interface, hardware: 65534 }));
        let silent = way_to(peer, &payload(0), Duration::from_millis(50)).unwrap_err();
        assert!(silent.to_string().starts_with("192.0.2.1:123: "), "{silent}");
    });
}
