//! The client's UDP socket over loopback, which takes no privilege.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use maser_core::time::{Stamp, StampClock};
use maser_core::wire::DATAGRAM_LENGTH_MAX;
use maser_sys::outbox::Outbox;
use maser_sys::udp_client::UdpClient;

use crate::{Echo, assert_near, payload, until};

const BATCH: usize = 8;

fn open(local: &str, target: SocketAddr) -> UdpClient {
    UdpClient::open(local.parse().unwrap(), target, BATCH).unwrap()
}

fn push(outbox: &mut Outbox, from: Option<IpAddr>, stamped: bool, octets: &[u8]) {
    outbox.push(from, stamped, |slot| {
        slot[..octets.len()].copy_from_slice(octets);
        octets.len()
    });
}

fn realtime_ns(stamp: Stamp) -> i64 {
    assert_eq!(stamp.clock, StampClock::Realtime);
    stamp.nanos
}

fn a_round_trip(local: &str, echo: &str) {
    // The kernel turns receive stamps on a little after the first socket that wants them was opened.
    let echo = Echo::at(echo);
    let (mut client, mut outbox) = (open(local, echo.address), Outbox::new(BATCH));
    let (mut received, mut stamped) = (BTreeMap::new(), BTreeMap::new());
    for round in 0..3 {
        for number in 0..4 {
            push(&mut outbox, None, number % 2 == 1, &payload(4 * round + number));
        }
        assert_eq!(client.send(&mut outbox).unwrap(), 4);
        assert!(outbox.is_empty());
        until(|| {
            client
                .receive(|reply| {
                    assert_eq!((reply.source, reply.whole), (echo.address, true));
                    assert_eq!(reply.destination, echo.address.ip());
                    received.insert(reply.payload.to_vec(), reply.stamp);
                })
                .unwrap();
            client.transmit_stamps(|octets, stamp| _ = stamped.insert(octets.to_vec(), stamp)).unwrap();
            received.len() == usize::from(round + 1) * 4 && stamped.len() == usize::from(round + 1) * 2
        });
    }
    for number in 0..12 {
        let stamp = stamped.get(payload(number).as_slice());
        assert_eq!(stamp.is_some(), number % 2 == 1, "{number}");
        if let (Some(stamp), Some(reply)) = (stamp, received[payload(number).as_slice()]) {
            assert_near(realtime_ns(*stamp), realtime_ns(reply));
        }
    }
    assert!(received[payload(11).as_slice()].is_some(), "the last reply has a stamp");
}

#[test]
fn requests_and_replies_are_stamped_over_ipv4() {
    a_round_trip("0.0.0.0", "127.0.0.1:0");
}

#[test]
fn requests_and_replies_are_stamped_over_ipv6() {
    a_round_trip("::", "[::1]:0");
}

#[test]
fn requests_leave_from_all_of_a_prefix_and_those_that_cannot_are_passed_over() {
    let echo = Echo::at("127.0.0.1:0");
    let (mut client, mut outbox) = (open("0.0.0.0", echo.address), Outbox::new(BATCH));
    for (number, from) in
        [[127, 0, 0, 9], [127, 45, 6, 7], [192, 0, 2, 1], [127, 255, 0, 1]].iter().enumerate()
    {
        push(&mut outbox, Some((*from).into()), number == 0, &payload(number.try_into().unwrap()));
    }
    // 192.0.2.1 is for documentation, so no address of this machine.
    assert_eq!((client.send(&mut outbox).unwrap(), outbox.len()), (3, 0));
    assert_eq!(outbox.refused(), [2], "the third");
    let mut to = BTreeMap::new();
    let mut stamps = 0;
    until(|| {
        client.receive(|reply| _ = to.insert(reply.payload[47], reply.destination)).unwrap();
        stamps += client.transmit_stamps(|octets, _| assert_eq!(octets, payload(0))).unwrap();
        to.len() == 3 && stamps == 1
    });
    let expected: Vec<(u8, IpAddr)> =
        vec![(0, [127, 0, 0, 9].into()), (1, [127, 45, 6, 7].into()), (3, [127, 255, 0, 1].into())];
    assert_eq!(to.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_wrong_sender_is_seen_and_what_is_too_long_is_not_whole() {
    let (target, other) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.2:0").unwrap());
    let mut client = open("127.0.0.1", target.local_addr().unwrap());
    other.send_to(&payload(1), client.address()).unwrap();
    target.send_to(&[2; DATAGRAM_LENGTH_MAX], client.address()).unwrap();
    target.send_to(&[3; DATAGRAM_LENGTH_MAX + 1], client.address()).unwrap();
    let mut replies = Vec::new();
    until(|| {
        client.receive(|reply| replies.push((reply.source, reply.payload.to_vec(), reply.whole))).unwrap();
        replies.len() == 3
    });
    let (target, other) = (target.local_addr().unwrap(), other.local_addr().unwrap());
    assert_eq!(replies[0], (other, payload(1).to_vec(), true));
    assert_eq!(replies[1], (target, vec![2; DATAGRAM_LENGTH_MAX], true));
    assert_eq!(replies[2], (target, vec![], false));
}

#[test]
fn a_call_hands_over_a_batch_at_most() {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut client = open("0.0.0.0", target.local_addr().unwrap());
    let to = SocketAddr::new([127, 0, 0, 1].into(), client.address().port());
    for number in 0..BATCH + 2 {
        target.send_to(&payload(number.try_into().unwrap()), to).unwrap();
    }
    let counts: Vec<usize> = (0..3).map(|_| client.receive(|_| {}).unwrap()).collect();
    assert_eq!(counts, [BATCH, 2, 0]);
}

#[test]
fn what_finds_the_buffer_full_is_counted() {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = open("0.0.0.0", target.local_addr().unwrap());
    let to = SocketAddr::new([127, 0, 0, 1].into(), client.address().port());
    assert_eq!(client.overflowed().unwrap(), 0);
    for _ in 0..50_000 {
        target.send_to(&payload(0), to).unwrap();
    }
    assert!(client.overflowed().unwrap() > 0);
}

#[test]
fn a_silent_target_is_no_error() {
    // Nobody has the port, so the kernel says with ICMP that it is unreachable.
    let target = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (mut client, mut outbox) = (open("0.0.0.0", target), Outbox::new(1));
    for _ in 0..3 {
        push(&mut outbox, None, false, &payload(0));
        assert_eq!(client.send(&mut outbox).unwrap(), 1);
        assert_eq!(client.receive(|_| {}).unwrap(), 0);
    }
}

#[test]
fn the_longest_request_comes_back_with_its_stamp() {
    let echo = Echo::at("127.0.0.1:0");
    let (mut client, mut outbox) = (open("0.0.0.0", echo.address), Outbox::new(1));
    let long = [7; DATAGRAM_LENGTH_MAX];
    push(&mut outbox, None, true, &long);
    assert_eq!(client.send(&mut outbox).unwrap(), 1);
    let (mut replies, mut stamps) = (0, 0);
    until(|| {
        replies += client.receive(|reply| assert_eq!(reply.payload, long)).unwrap();
        client
            .transmit_stamps(|octets, _| {
                assert_eq!(octets, long);
                stamps += 1;
            })
            .unwrap();
        (replies, stamps) == (1, 1)
    });
}
