//! One contract, every packet port: the same cases get the same replies, octet for octet but for the timestamps.
//!
//! The worker is the daemon's own, over a snapshot that stands still, so that nothing but time can differ.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../core/tests/corpus/mod.rs"]
mod corpus;
mod support;

use maser::config::Idle;
use maser::count::Counts;
use maser::port::Port;
use maser::worker::{Smearing, Worker};
use maser_core::snapshot::{Growth, Snapshot};
use maser_core::time::{Instant, Leap, LeapWindow, Line, NtpShort, NtpTimestamp, Smear, Span};
use maser_sys::calibration;
use maser_sys::counter::Counter;
use maser_sys::mmsg::MmsgPort;
use maser_sys::snapshot_cell::{Reader, snapshot_cell};
use maser_sys::udp_socket::{SocketOptions, UdpSocket};
use maser_sys::uring::UringPort;
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket as Client};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Octets 32 to 47 of a reply: receive and transmit. The reference time stands still with the snapshot.
const TIMESTAMPS: std::ops::Range<usize> = 32..48;

/// Long enough for a reply over loopback, short enough to wait for silence once a batch of silent cases.
const SILENCE: Duration = Duration::from_millis(300);

fn still_snapshot(counter: Counter) -> Snapshot {
    let now = counter.now();
    Snapshot {
        line: Some(Line {
            reference: now,
            origin: Instant::from_unix(1_800_000_037, 0),
            rate: counter.nominal_rate(),
        }),
        valid_until: now.offset(counter.nominal_rate().ticks_in(Span::from_seconds(3_600))),
        // An hour before a leap second, where a listener that smears it differs.
        leap: LeapWindow {
            offset_s: 37,
            next: Some(Leap { at: Instant::from_unix(1_800_003_637, 0), offset_after_s: 38 }),
        },
        stratum: 2,
        precision: -25,
        reference_id: [192, 0, 2, 9],
        root_delay: NtpShort::from_bits(0x123),
        root_dispersion: Span::from_nanos(777_000),
        dispersion_growth: Growth::from_ppb(0),
        reference_time: NtpTimestamp::from_bits(0xE6A1_B2C3_0000_0000),
        generation: 1,
    }
}

/// The golden requests, but for the one whose outcome hangs on its source port: here the kernel chooses that.
fn cases() -> Vec<corpus::Golden> {
    let hangs_on_port =
        |case: &corpus::Golden| case.source_port == 123 && case.message.first() == Some(&0x08);
    corpus::requests().into_iter().filter(|case| !hangs_on_port(case)).collect()
}

/// What became of every golden request, in order: the reply, or the counted reasons of all the silence.
struct Outcome {
    replies: Vec<Option<Vec<u8>>>,
    drops: Vec<(&'static str, u64)>,
}

/// Who is asked: both listen at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listener {
    Plain,
    Smearing,
}

/// Serves the golden requests through a port made by `open` on the worker's own thread.
fn outcome<P: Port>(
    address: SocketAddr,
    asked: Listener,
    open: impl FnOnce(Vec<UdpSocket>) -> P + Send,
) -> Outcome {
    let counter = calibration::choose(&[]).counter;
    let (_writer, reader): (_, Reader) = snapshot_cell(&still_snapshot(counter));
    let sockets = [(); 2].map(|()| UdpSocket::open(address, SocketOptions::default()).unwrap());
    let server = sockets[asked as usize].address();
    let smearing = Smearing { smear: Smear::over(Span::from_seconds(86_400)), first_socket: 1 };
    let (counts, stop) = (Counts::default(), Arc::new(AtomicBool::new(false)));
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let port = open(sockets.into());
            let worker = Worker::new(port, reader, counter, &counts, 16);
            worker.smearing(Some(smearing)).run(Idle::Block, &stop).unwrap();
        });
        let replies = cases().iter().map(|case| ask(server, &case.message, case.drop.is_none())).collect();
        std::thread::sleep(SILENCE);
        stop.store(true, Ordering::Relaxed);
        worker.join().unwrap();
        Outcome { replies, drops: counts.drops().filter(|(_, count)| *count > 0).collect() }
    })
}

/// Sends one request from a port of its own and gives the reply; where silence is expected it isn't waited for.
fn ask(server: SocketAddr, message: &[u8], answered: bool) -> Option<Vec<u8>> {
    let client = Client::bind((server.ip(), 0)).unwrap();
    client
        .set_read_timeout(Some(if answered { Duration::from_secs(2) } else { Duration::from_millis(5) }))
        .unwrap();
    client.send_to(message, server).unwrap();
    let mut reply = [0; 2_048];
    let (length, from) = client.recv_from(&mut reply).ok()?;
    assert_eq!(from, server, "the reply comes from the address that was asked");
    assert!(length <= message.len(), "never longer than the request");
    Some(reply[..length].to_vec())
}

fn without_timestamps(reply: &[u8]) -> Vec<u8> {
    let mut still = reply.to_vec();
    still[TIMESTAMPS].fill(0);
    still
}

/// What differs beyond the timestamps, in words.
fn differences(left: &Outcome, right: &Outcome) -> Vec<String> {
    let still = |reply: &Option<Vec<u8>>| reply.as_deref().map(without_timestamps);
    let pairs = left.replies.iter().zip(&right.replies);
    let mut found: Vec<String> = cases()
        .iter()
        .zip(pairs)
        .filter(|(_, (left, right))| still(left) != still(right))
        .map(|(case, (left, right))| format!("{}: {left:?} and {right:?}", case.name))
        .collect();
    if left.drops != right.drops {
        found.push(format!("reasons for silence: {:?} and {:?}", left.drops, right.drops));
    }
    found
}

fn assert_as_the_corpus_says(name: &str, asked: Listener, outcome: &Outcome) {
    let cases = cases();
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for reason in cases.iter().filter_map(|case| case.drop) {
        *expected.entry(reason).or_default() += 1;
    }
    assert_eq!(
        outcome.drops.iter().copied().collect::<BTreeMap<_, _>>(),
        expected,
        "{name}: reasons for silence"
    );
    for (case, reply) in cases.iter().zip(&outcome.replies) {
        assert_eq!(reply.is_some(), case.drop.is_none(), "{name}: {}", case.name);
        if let Some(reply) = reply {
            let view = support::ReplyView::of(reply);
            assert_eq!(
                view.origin,
                u64::from_be_bytes(case.message[40..48].try_into().unwrap()),
                "{}",
                case.name
            );
            assert_eq!((view.stratum, view.reference_id), (2, [192, 0, 2, 9]));
            assert_eq!(view.leap, if asked == Listener::Plain { 1 } else { 0 }, "{}", case.name);
        }
    }
}

#[test]
fn every_port_gives_the_same_replies() {
    let ways = ["127.0.0.1:0", "[::1]:0"].map(|address| address.parse::<SocketAddr>().unwrap());
    for (address, asked) in
        ways.into_iter().flat_map(|way| [(way, Listener::Plain), (way, Listener::Smearing)])
    {
        let socket = outcome(address, asked, |sockets| MmsgPort::new(sockets, 16).unwrap());
        let uring = outcome(address, asked, |sockets| UringPort::new(sockets, 16).unwrap());
        let name = format!("{asked:?} at {address}");
        assert_as_the_corpus_says(&name, asked, &socket);
        assert_eq!(differences(&socket, &uring), Vec::<String>::new(), "socket and io-uring, {name}");
        let answered = socket.replies.iter().flatten().count();
        println!(
            "{name}: {answered} answered and {} silent cases are equal",
            socket.replies.len() - answered
        );
    }
}

#[test]
fn the_comparison_finds_a_planted_difference() {
    let outcome = || Outcome { replies: vec![Some(vec![0x24; 48]); cases().len()], drops: Vec::new() };
    let mut other = outcome();
    other.replies[0].as_mut().unwrap()[TIMESTAMPS.start] ^= 1;
    assert_eq!(differences(&outcome(), &other), Vec::<String>::new(), "timestamps may differ");
    for octet in [0, 1, 2, 3, 4, 15, 16, 24, 31] {
        let mut other = outcome();
        other.replies[3].as_mut().unwrap()[octet] ^= 1;
        assert_eq!(differences(&outcome(), &other).len(), 1, "octet {octet}");
    }
    let silent = Outcome { drops: vec![("version", 1)], ..outcome() };
    assert_eq!(differences(&outcome(), &silent).len(), 1);
}
