//! One contract, every packet port: the same cases get the same replies, octet for octet but for the timestamps.
//!
//! The worker is the daemon's own, over a snapshot that stands still, so that nothing but time can differ.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../core/tests/corpus/mod.rs"]
mod corpus;
#[path = "contract/interleaved.rs"]
mod interleaved;
#[path = "contract/kernel.rs"]
mod kernel;
#[allow(dead_code, reason = "frames are made with a part of it")]
#[path = "../core/tests/oracle/mod.rs"]
mod oracle;
#[allow(dead_code, unused_imports, reason = "of the peers' rig only how a test is left out is used here")]
mod peers;
#[path = "contract/splits.rs"]
mod splits;
#[path = "contract/start.rs"]
mod start;
mod support;
#[path = "contract/wire.rs"]
mod wire;

use maser::config::Idle;
use maser::count::{Counts, Event};
use maser::port::Port;
use maser::worker::{Smearing, Worker};
use maser_core::snapshot::{Growth, Snapshot};
use maser_core::time::{Instant, Leap, LeapWindow, Line, NtpShort, NtpTimestamp, Smear, Span};
use maser_sys::af_xdp::XskPort;
use maser_sys::calibration;
use maser_sys::counter::Counter;
use maser_sys::mmsg::MmsgPort;
use maser_sys::snapshot_cell::{Reader, snapshot_cell};
use maser_sys::udp_socket::{SocketOptions, UdpSocket};
use maser_sys::uring::UringPort;
use maser_sys::xdp_program::{AttachMode, Reason, XdpReasons};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as Client};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use wire::{SERVER_MAC, Steered, Wire, listeners};

/// Octets 32 to 47 of a reply: receive and transmit. The reference time stands still with the snapshot.
const TIMESTAMPS: std::ops::Range<usize> = 32..48;

/// The port that the first golden request is from, the others from those behind it; the kernel chooses none of them.
const FIRST_PORT: u16 = 2_000;

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

/// The golden requests, but for the one whose outcome hangs on its source port, which is another here.
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

/// The way that packets take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Socket,
    Uring,
    /// AF_XDP, with sockets beside it for what the program passes up.
    Xdp(AttachMode),
}

/// What was left when a server had ended.
struct Served<T> {
    got: T,
    /// What the worker over the kernel's own stack counted, and the one over AF_XDP.
    counts: [Counts; 2],
    /// What the program did, where there was one.
    reasons: XdpReasons,
}

impl<T> Served<T> {
    /// By both workers together.
    fn drops(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for (name, count) in self.counts.iter().flat_map(Counts::drops).filter(|(_, count)| *count > 0) {
            *sums.entry(name).or_default() += count;
        }
        sums
    }
}

/// Serves these addresses, of which the second smears, until `clients`, who are told where, are done.
fn serve<T: Send>(
    way: Way,
    listen: [SocketAddr; 2],
    clients: impl FnOnce([SocketAddr; 2]) -> T + Send,
) -> Served<T> {
    let counter = calibration::choose(&[]).counter;
    let (_writer, reader): (_, Reader) = snapshot_cell(&still_snapshot(counter));
    let sockets = listen.map(|address| UdpSocket::open(address, SocketOptions::default()).unwrap());
    let servers = sockets.each_ref().map(UdpSocket::address);
    let (mut program, mut queues) = (None, Vec::new());
    if let Way::Xdp(mode) = way {
        let Steered { sockets, counts, program: attached } = Steered::new(mode, SERVER_MAC, &servers, 1);
        (program, queues) = (Some((attached, counts)), sockets);
    }
    let (counts, stop) = ([Counts::default(), Counts::default()], AtomicBool::new(false));
    let got = thread::scope(|scope| {
        let mut workers = vec![scope.spawn(|| match way {
            Way::Uring => work(
                UringPort::new(sockets.into(), Vec::new(), 16).unwrap(),
                &reader,
                counter,
                &counts[0],
                &stop,
            ),
            Way::Socket | Way::Xdp(_) => {
                work(MmsgPort::new(sockets.into(), 16).unwrap(), &reader, counter, &counts[0], &stop);
            }
        })];
        if program.is_some() {
            workers.push(scope.spawn(|| {
                work(XskPort::new(queues, 16).unwrap(), &reader, counter, &counts[1], &stop);
            }));
        }
        let stopping = Stopping(&stop);
        let got = clients(servers);
        thread::sleep(SILENCE);
        drop(stopping);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        got
    });
    let reasons = program.map(|(_, counts)| counts.read()).unwrap_or_default();
    Served { got, counts, reasons }
}

/// Stops the workers, also where the clients have failed.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A worker's life over a port that was made on its own thread.
fn work(port: impl Port, reader: &Reader, counter: Counter, counts: &Counts, stop: &AtomicBool) {
    let smearing = Smearing { smear: Smear::over(Span::from_seconds(86_400)), first_socket: 1 };
    let worker = Worker::new(port, reader.clone(), counter, counts, 16);
    worker.smearing(Some(smearing)).interleaving(1_000, 1).correcting(true).run(Idle::Block, stop).unwrap();
    assert_eq!(counts.frames_missing(), 0, "a frame was lost");
}

/// Asks all golden requests of a server, on a host of its own if there is a wire. There from the same ports each time: of one
/// request in 65,536 the checksum is by chance that of a sender who left it to a NIC, and the program passes it up.
fn outcome(way: Way, listen: [SocketAddr; 2], asked: Listener, wire: Option<&Wire>) -> Outcome {
    let ask_all = |servers: [SocketAddr; 2]| -> Vec<_> {
        let server = servers[asked as usize];
        let ports = (FIRST_PORT..).map(|port| if wire.is_some() { port } else { 0 });
        ports.zip(cases()).map(|(from, case)| ask(from, server, &case.message, case.drop.is_none())).collect()
    };
    let served = match wire {
        None => serve(way, listen, ask_all),
        Some(wire) => wire.server.run(|| serve(way, listen, |servers| wire.client.run(|| ask_all(servers)))),
    };
    if let Way::Xdp(_) = way {
        assert_eq!(served.reasons.of(Reason::Steered), cases().len() as u64, "{:?}", served.reasons);
        assert_eq!(served.counts[0].of(Event::Batch), 0, "nothing came to the kernel's own stack");
    }
    Outcome { drops: served.drops().into_iter().collect(), replies: served.got }
}

/// Sends one request from a port, 0 for one of the kernel's choice, and gives the reply; where silence is expected it isn't waited for.
fn ask(from: u16, server: SocketAddr, message: &[u8], answered: bool) -> Option<Vec<u8>> {
    let anywhere: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let client = Client::bind((anywhere, from)).unwrap();
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
        let socket = outcome(Way::Socket, [address; 2], asked, None);
        let uring = outcome(Way::Uring, [address; 2], asked, None);
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
fn af_xdp_gives_the_same_replies_as_sockets() {
    let Some(wire) = Wire::new("af_xdp_gives_the_same_replies_as_sockets", 1) else { return };
    let addresses: [IpAddr; 2] = [wire::SERVER_V4.into(), wire::SERVER_V6.into()];
    for (address, asked) in
        addresses.into_iter().flat_map(|address| [(address, Listener::Plain), (address, Listener::Smearing)])
    {
        let name = format!("{asked:?} at {address}");
        let socket = outcome(Way::Socket, listeners(address), asked, Some(&wire));
        assert_as_the_corpus_says(&name, asked, &socket);
        for mode in [AttachMode::Native, AttachMode::Generic] {
            let xdp = outcome(Way::Xdp(mode), listeners(address), asked, Some(&wire));
            assert_eq!(
                differences(&socket, &xdp),
                Vec::<String>::new(),
                "sockets and AF_XDP, {mode:?}, {name}"
            );
        }
        println!("{name}: {} cases are equal", socket.replies.len());
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
