//! What holds for every port.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use maser_core::time::StampClock;
use maser_core::wire::{DATAGRAM_LENGTH_MAX, Peer};
use maser_sys::alloc_count::allocations_in;
use maser_sys::datagram::{Carried, Outgoing, SEND_CHUNK, Sent, Wait};

use crate::{LIMIT, Port, SHORT, all_of, client, echo_all, open, peer};

fn stamps_are_of_the_last_second<P: Port>() {
    for text in ["127.0.0.1:0", "[::1]:0"] {
        let socket = open(text);
        let server = socket.address();
        let mut port = P::over(vec![socket], 8);
        let client = client(text);
        // The kernel turns its stamping on a moment after the first socket asked for it.
        let found = (0..100).find_map(|_| {
            client.send_to(&[7; 48], server).unwrap();
            assert_eq!(port.receive(Wait::Until(LIMIT)).unwrap(), 1);
            let (arrival, payload) = port.datagram(0);
            let peer = Peer { source: client.local_addr().unwrap(), destination: server, unicast: true };
            assert_eq!((arrival.carried, arrival.whole), (Carried::Datagram(peer), true));
            assert_eq!(payload, [7; 48]);
            thread::sleep(Duration::from_millis(1));
            arrival.stamp
        });
        let stamp = found.expect("a stamp within 100 packets");
        assert_eq!(stamp.clock, StampClock::Realtime);
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        assert!((0..1_000_000_000).contains(&(now - stamp.nanos)), "{} ns old", now - stamp.nanos);
    }
}

fn replies_leave_from_the_asked_address<P: Port>() {
    let (four, six) = (open("0.0.0.0:0"), open("[::]:0"));
    let (port_4, port_6) = (four.address().port(), six.address().port());
    let mut port = P::over(vec![four, six], 8);
    for (asked, from, socket) in
        [("127.0.0.2", "127.0.0.1:0", 0), ("127.0.0.1", "127.0.0.3:0", 0), ("::1", "[::1]:0", 1)]
    {
        let client = client(from);
        let asked: IpAddr = asked.parse().unwrap();
        let server = SocketAddr::new(asked, if asked.is_ipv4() { port_4 } else { port_6 });
        client.send_to(b"who are you", server).unwrap();
        assert_eq!(port.receive(Wait::Until(LIMIT)).unwrap(), 1);
        let arrival = port.datagram(0).0;
        let peer = Peer { source: client.local_addr().unwrap(), destination: server, unicast: true };
        assert_eq!((arrival.carried, arrival.socket), (Carried::Datagram(peer), socket));
        let stamped = port
            .send(&[Outgoing { index: 0, length: 11, departure: None }], |_, octets| octets[0] = b'W')
            .unwrap();
        assert_eq!(stamped, Sent { sent: 1, ..Sent::default() });
        let mut answer = [0; 64];
        assert_eq!(client.recv_from(&mut answer).unwrap(), (11, server));
        assert_eq!(&answer[..11], b"Who are you");
    }
    port.assert_whole();
}

fn a_burst_longer_than_a_batch_is_answered<P: Port>() {
    let socket = open("127.0.0.1:0");
    let server = socket.address();
    let mut port = P::over(vec![socket], 5);
    let client = client("127.0.0.1:0");
    for number in 0..64_u8 {
        client.send_to(&[number; 48], server).unwrap();
    }
    assert_eq!(port.receive(Wait::Until(LIMIT)).unwrap(), 5, "a batch is no longer than asked");
    let replies = all_of(5, &mut port);
    assert_eq!(port.send(&replies, |_, _| {}).unwrap().sent, 5);
    assert_eq!(echo_all(&mut port, 59).sent, 59);
    let mut answer = [0; 64];
    for number in 0..64 {
        assert_eq!((client.recv(&mut answer).unwrap(), answer[0]), (48, number));
    }
    port.assert_whole();
}

fn long_and_empty_datagrams_are_told_apart<P: Port>() {
    let socket = open("127.0.0.1:0");
    let server = socket.address();
    let mut port = P::over(vec![socket], 1);
    let client = client("127.0.0.1:0");
    let longest = DATAGRAM_LENGTH_MAX;
    for length in [0, 1, longest, longest + 1, 9_000, 0, 0, 48] {
        client.send_to(&vec![1; length], server).unwrap();
        assert_eq!(port.receive(Wait::Until(LIMIT)).unwrap(), 1);
        let (arrival, payload) = port.datagram(0);
        let peer = Peer { source: client.local_addr().unwrap(), destination: server, unicast: true };
        assert_eq!(arrival.carried, Carried::Datagram(peer));
        assert_eq!(
            (arrival.whole, payload.len()),
            if length > longest { (false, 0) } else { (true, length) }
        );
    }
    // An empty datagram can be answered, as RFC 868's time protocol does.
    client.send_to(&[], server).unwrap();
    assert_eq!(echo_all(&mut port, 1).sent, 1);
    assert_eq!(client.recv(&mut [0; 8]).unwrap(), 0);
    port.assert_whole();
}

/// What a client saw of its numbered datagrams.
#[derive(Default)]
struct Tally {
    answers: HashMap<u32, usize>,
}

impl Tally {
    fn count(&mut self, answer: &[u8]) {
        let number = u32::from_be_bytes(answer[..4].try_into().unwrap());
        *self.answers.entry(number).or_default() += 1;
    }

    /// Each of the first `total` was answered exactly once.
    fn check(&self, total: u32) -> Result<(), String> {
        match (0..total).find(|number| self.answers.get(number) != Some(&1)) {
            Some(number) => Err(format!("{number} was answered {:?} times", self.answers.get(&number))),
            None if self.answers.len() != total as usize => Err("answers to what wasn't asked".into()),
            None => Ok(()),
        }
    }
}

/// Sends `total` numbered datagrams, at most 256 outstanding, over two sockets of one port; every 97th is answered
/// only if `all`.
fn tally<P: Port>(total: u32, all: bool) -> Tally {
    let sockets = vec![open("127.0.0.1:0"), open("127.0.0.2:0")];
    let servers = [sockets[0].address(), sockets[1].address()];
    let mut port = P::over(sockets, 16);
    let client = client("127.0.0.1:0");
    client.set_nonblocking(true).unwrap();
    let (mut tally, mut asked, mut done) = (Tally::default(), 0, 0);
    let end = Instant::now() + LIMIT;
    while done < total && Instant::now() < end {
        while asked < total && asked - done < 256 {
            client.send_to(&asked.to_be_bytes(), servers[asked as usize % 2]).unwrap();
            asked += 1;
        }
        let count = port.receive(Wait::Poll).unwrap();
        let mut replies = all_of(count, &mut port);
        replies.retain(|reply| {
            let number = u32::from_be_bytes((&*port.datagram(reply.index.into()).1).try_into().unwrap());
            all || number % 97 != 0
        });
        let sent = port.send(&replies, |_, _| {}).unwrap();
        assert_eq!(sent, Sent { sent: replies.len(), ..Sent::default() });
        done += u32::try_from(count).unwrap();
        let mut answer = [0; 64];
        while let Ok(length) = client.recv(&mut answer) {
            tally.count(&answer[..length]);
        }
    }
    port.assert_whole();
    tally
}

fn ten_thousand_are_each_answered_once<P: Port>() {
    tally::<P>(10_000, true).check(10_000).unwrap();
    // The oracle fails when replies are missing, and when one comes twice.
    assert_eq!(tally::<P>(1_000, false).check(1_000).unwrap_err(), "0 was answered None times");
    let mut twice = tally::<P>(100, true);
    twice.count(&7_u32.to_be_bytes());
    assert_eq!(twice.check(100).unwrap_err(), "7 was answered Some(2) times");
}

fn what_a_client_breaks_does_not_stop_the_others<P: Port>() {
    let socket = open("127.0.0.1:0");
    let server = socket.address();
    let mut port = P::over(vec![socket], 8);
    for _ in 0..50 {
        // Closed before the reply comes: the kernel answers it with an ICMP error.
        client("127.0.0.1:0").send_to(&[1; 48], server).unwrap();
        assert_eq!(echo_all(&mut port, 1).sent, 1);
    }
    let client = client("127.0.0.1:0");
    client.send_to(&[2; 48], server).unwrap();
    assert_eq!(echo_all(&mut port, 1).sent, 1);
    assert_eq!(client.recv(&mut [0; 64]).unwrap(), 48);
    port.assert_whole();
}

fn a_reply_that_cannot_leave_is_counted_and_the_rest_leave<P: Port>() {
    if !crate::is_root("a datagram from port 0") {
        return;
    }
    let socket = open("0.0.0.0:0");
    let port_number = socket.address().port();
    let mut port = P::over(vec![socket], 64);
    let client = client("127.0.0.1:0");
    let broken = raw_from_port_0(port_number, &[1, 2, 3, 4]);
    for number in 0..40_u8 {
        client.send_to(&[number; 48], ("127.0.0.1", port_number)).unwrap();
        if number % 4 == 0 {
            broken();
        }
    }
    let (mut sent, mut stamped) = (Sent::default(), 0);
    while sent.sent + sent.failed() < 50 {
        let count = port.receive(Wait::Until(LIMIT)).unwrap();
        let replies = all_of(count, &mut port);
        let part = port.send(&replies, |_, _| stamped += 1).unwrap();
        sent.sent += part.sent;
        sent.refused += part.refused;
        sent.congested += part.congested;
    }
    assert_eq!((sent.sent, sent.refused, sent.congested), (40, 10, 0));
    assert_eq!(stamped, 50, "each reply is stamped once");
    for number in 0..40 {
        let mut answer = [0; 64];
        assert_eq!((client.recv(&mut answer).unwrap(), answer[0]), (48, number));
    }
    port.assert_whole();
}

/// Sends a UDP datagram with the source port 0, which nobody can answer, through a raw socket.
pub(crate) fn raw_from_port_0(to: u16, payload: &[u8]) -> impl Fn() {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
    };
    use std::os::fd::AsRawFd;
    let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Udp).unwrap();
    // RFC 768: source port, destination port, length, no checksum.
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut datagram = [[0; 2], to.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    datagram.extend(payload);
    let to = SockaddrIn::new(127, 0, 0, 1, 0);
    move || assert_eq!(sendto(raw.as_raw_fd(), &datagram, &to, MsgFlags::empty()), Ok(datagram.len()))
}

fn stamps_are_written_once_a_chunk_just_before_it_leaves<P: Port>() {
    let socket = open("127.0.0.1:0");
    let server = socket.address();
    let mut port = P::over(vec![socket], 64);
    let client = client("127.0.0.1:0");
    client.set_nonblocking(true).unwrap();
    for number in 0..40_u8 {
        client.send_to(&[number; 48], server).unwrap();
    }
    thread::sleep(SHORT);
    let count = port.receive(Wait::Until(LIMIT)).unwrap();
    assert!(count > SEND_CHUNK, "{count} in the first batch");
    let replies = all_of(count, &mut port);
    let mut stamped = 0;
    let mut arrived = 0;
    let mut most_behind = 0;
    port.send(&replies, |index, _| {
        assert_eq!(index, stamped);
        while client.recv(&mut [0; 64]).is_ok() {
            arrived += 1;
        }
        stamped += 1;
        most_behind = most_behind.max(stamped - arrived);
    })
    .unwrap();
    assert_eq!((stamped, most_behind), (count, SEND_CHUNK));
}

fn a_flood_of_two_addresses_does_not_starve_the_third<P: Port>() {
    let sockets = vec![open("127.0.0.1:0"), open("127.0.0.1:0"), open("127.0.0.1:0")];
    let [flooded, other, quiet] = [0, 1, 2].map(|index: usize| sockets[index].address());
    let mut port = P::over(sockets, 16);
    let (flood, client) = (client("127.0.0.1:0"), client("127.0.0.1:0"));
    flood.set_nonblocking(true).unwrap();
    for ping in 0..20_u8 {
        client.send_to(&[ping; 48], quiet).unwrap();
        let answered = (0..20).any(|_| {
            // In every turn more arrives at the others than a batch can hold or the ring has buffers for.
            for _ in 0..64 {
                flood.send_to(&[0xff; 48], flooded).unwrap();
                flood.send_to(&[0xff; 48], other).unwrap();
            }
            let count = port.receive(Wait::Poll).unwrap();
            let mut replies = all_of(count, &mut port);
            replies.retain(|reply| peer(&port.datagram(reply.index.into()).0).destination == quiet);
            port.send(&replies, |_, _| {}).unwrap().sent == 1
        });
        assert!(answered, "ping {ping} waits for more than 20 batches");
    }
}

fn waiting_ends_in_time<P: Port>() {
    for sockets in [vec![open("127.0.0.1:0")], vec![open("127.0.0.1:0"), open("[::1]:0")]] {
        let mut port = P::over(sockets, 8);
        let start = Instant::now();
        assert_eq!(port.receive(Wait::Poll).unwrap(), 0);
        assert_eq!(port.receive(Wait::Until(Duration::ZERO)).unwrap(), 0);
        assert!(start.elapsed() < SHORT, "polling took {:?}", start.elapsed());
        assert_eq!(port.receive(Wait::Until(SHORT)).unwrap(), 0);
        assert!(start.elapsed() >= SHORT && start.elapsed() < LIMIT, "waited {:?}", start.elapsed());
    }
}

fn answering_allocates_nothing<P: Port>() {
    let sockets = vec![open("127.0.0.1:0"), open("0.0.0.0:0")];
    let (bound, wildcard) = (sockets[0].address(), sockets[1].address().port());
    let mut port = P::over(sockets, 8);
    let mut replies = Vec::with_capacity(8);
    let client = client("127.0.0.1:0");
    let mut answered = 0;
    for length in [0, 48, DATAGRAM_LENGTH_MAX + 1].repeat(20) {
        client.send_to(&[1; 2_000][..length], bound).unwrap();
        client.send_to(&[1; 48], ("127.0.0.2", wildcard)).unwrap();
        let ((), allocations) = allocations_in(|| {
            for wait in [Wait::Until(SHORT), Wait::Poll] {
                let count = port.receive(wait).unwrap();
                replies.clear();
                for index in 0..count {
                    let length = port.datagram(index).1.len().try_into().unwrap();
                    replies.push(Outgoing { index: index.try_into().unwrap(), length, departure: None });
                }
                answered += port.send(&replies, |_, octets| octets.fill(2)).unwrap().sent;
            }
        });
        assert_eq!(allocations, 0);
    }
    assert_eq!(answered, 120);
}

macro_rules! through_both {
    ($($case:ident),* $(,)?) => {
        mod mmsg { $(#[test] fn $case() { super::$case::<maser_sys::mmsg::MmsgPort>(); })* }
        mod uring { $(#[test] fn $case() { super::$case::<maser_sys::uring::UringPort>(); })* }
    };
}
through_both!(
    stamps_are_of_the_last_second,
    replies_leave_from_the_asked_address,
    a_burst_longer_than_a_batch_is_answered,
    long_and_empty_datagrams_are_told_apart,
    ten_thousand_are_each_answered_once,
    what_a_client_breaks_does_not_stop_the_others,
    a_reply_that_cannot_leave_is_counted_and_the_rest_leave,
    stamps_are_written_once_a_chunk_just_before_it_leaves,
    a_flood_of_two_addresses_does_not_starve_the_third,
    waiting_ends_in_time,
    answering_allocates_nothing,
);
