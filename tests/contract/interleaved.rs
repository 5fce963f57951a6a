//! Conversations in interleaved mode through real ports: the kernel says when replies leave, and the next reply tells it.

use std::net::{SocketAddr, UdpSocket as Client};
use std::thread;
use std::time::Duration;

use maser::count::Event;
use maser_sys::xdp_program::AttachMode;

use crate::support::ReplyView;
use crate::wire::{SERVER_V4, Wire, listeners};
use crate::{Served, Way, serve};

const EXCHANGES: u64 = 300;

const TRIES: u32 = 5;

/// A client that comes back at once comes before its server knows when the last reply left.
const PAUSE: Duration = Duration::from_millis(5);

/// A conversation as chronyd's client has it, and its replies with the requests' receive timestamps.
fn converse(server: SocketAddr) -> Vec<(u64, ReplyView)> {
    let anywhere = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let client = Client::bind(anywhere).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut replies: Vec<(u64, ReplyView)> = Vec::new();
    for number in 1..=EXCHANGES {
        let origin = replies.last().map_or(0, |(_, reply)| reply.receive);
        let receive = 0xAAAA_0000_0000_0000 | number;
        let mut request = [0; 48];
        request[0] = 0x23;
        for (at, timestamp) in [(24, origin), (32, receive), (40, 0xBBBB_0000_0000_0000 | number)] {
            request[at..at + 8].copy_from_slice(&timestamp.to_be_bytes());
        }
        let mut reply = [0; 64];
        // A worker that is preempted for 100 ms doesn't answer what it had begun.
        let mut ask = || {
            client.send_to(&request, server).unwrap();
            client.recv_from(&mut reply).ok()
        };
        let (length, _) = (0..TRIES).find_map(|_| ask()).expect("a server that answers");
        replies.push((receive, ReplyView::of(&reply[..length])));
        thread::sleep(PAUSE);
    }
    replies
}

/// In nanoseconds.
fn since(later: u64, earlier: u64) -> i64 {
    let units = i128::from(later.wrapping_sub(earlier).cast_signed());
    i64::try_from((units * 1_000_000_000) >> 32).unwrap()
}

/// Asserts that nearly all replies but the first two are interleaved, each telling a moment between the exchange before
/// and this one, and that the departure of a reply is close to what that reply said itself.
fn assert_interleaved(name: &str, served: &Served<Vec<(u64, ReplyView)>>) {
    let mut told = 0_u64;
    let mut took_ns = Vec::new();
    for pair in served.got.windows(2) {
        let ((_, before), (receive, reply)) = (&pair[0], &pair[1]);
        if reply.origin != *receive {
            continue;
        }
        told += 1;
        took_ns.push(since(reply.transmit, before.receive));
        let until_next_ns = since(reply.receive, reply.transmit);
        assert!(until_next_ns > 0 && *took_ns.last().unwrap() > 0, "{name}: {before:?} {reply:?}");
        if before.origin & 0xFFFF_0000_0000_0000 == 0xBBBB_0000_0000_0000 {
            let late_ns = since(reply.transmit, before.transmit);
            println!("{name}: a reply in basic mode left {late_ns} ns after its transmit timestamp");
            assert!((-1_000_000..10_000_000).contains(&late_ns), "{name}: {late_ns} ns");
        }
    }
    took_ns.sort_unstable();
    println!(
        "{name}: {told} of {EXCHANGES} interleaved; from arrival to departure {:?} ns",
        took_ns.get(took_ns.len() / 2)
    );
    let counts = |event| served.counts.iter().map(|counts| counts.of(event)).sum::<u64>();
    assert_eq!(counts(Event::Interleaved), told, "{name}");
    let [asked, heard, implausible] =
        [Event::DepartureAsked, Event::DepartureTold, Event::DepartureImplausible].map(counts);
    println!("{name}: {asked} departures asked, {heard} told, {implausible} implausible");
    // On a machine that is loaded by other tests some departures are told too late.
    assert!(told >= EXCHANGES * 95 / 100, "{name}: {told} of {EXCHANGES} are interleaved");
}

#[test]
fn sockets_and_io_uring_interleave() {
    for way in [Way::Socket, Way::Uring] {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            for listener in [0, 1] {
                let listen = [address.parse().unwrap(); 2];
                let served = serve(way, listen, |servers| converse(servers[listener]));
                assert_interleaved(&format!("{way:?}, {address}, listener {listener}"), &served);
            }
        }
    }
}

#[test]
fn af_xdp_interleaves() {
    let Some(wire) = Wire::new("af_xdp_interleaves", 1) else { return };
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let listen = listeners(SERVER_V4.into());
        let served = wire
            .server
            .run(|| serve(Way::Xdp(mode), listen, |servers| wire.client.run(|| converse(servers[0]))));
        assert_interleaved(&format!("AF_XDP, {mode:?}"), &served);
    }
}
