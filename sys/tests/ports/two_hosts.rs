//! Departures between two hosts: every one that was asked for is told, just before the far end's kernel received the reply.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use maser_sys::datagram::{Outgoing, Wait};
use maser_sys::mmsg::MmsgPort;
use maser_sys::outbox::Outbox;
use maser_sys::udp_client::UdpClient;
use maser_sys::udp_socket::UdpSocket;
use maser_sys::uring::UringPort;

use crate::departures::{name, name_in, request};
use crate::{LIMIT, Port, SHORT, address, is_root, options};

/// Both ends' addresses of each family: the server's, the client's.
const PAIRS: [[&str; 2]; 2] = [["192.0.2.1", "192.0.2.2"], ["fd6d:61::1", "fd6d:61::2"]];

/// Runs `ip` in the namespace of the calling thread.
fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Gives the calling thread a namespace of its own.
fn leave_namespace() {
    // SAFETY: only this thread's view of the network changes.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "a network namespace");
}

fn set_up(interface: &str, host: usize) {
    for [first, second] in PAIRS {
        let prefix = if first.contains(':') { "64" } else { "24" };
        let nodad = if first.contains(':') { "nodad" } else { "" };
        ip(&format!("address add {}/{prefix} dev {interface} {nodad}", [first, second][host]));
    }
    ip(&format!("link set {interface} up"));
}

/// Sockets on one host, for each pair and then all addresses of its family; clients of each on the other.
fn two_hosts() -> (Vec<UdpSocket>, Vec<UdpClient>) {
    let (thread_ids, thread_id) = channel();
    let (targets, given) = channel::<Vec<(IpAddr, std::net::SocketAddr)>>();
    leave_namespace();
    let far = thread::spawn(move || {
        leave_namespace();
        // SAFETY: the call takes nothing and only returns a number.
        thread_ids.send(unsafe { libc::gettid() }).unwrap();
        let given = given.recv().unwrap();
        set_up("far", 1);
        given.into_iter().map(|(from, to)| UdpClient::open(from, to, 64).unwrap()).collect::<Vec<_>>()
    });
    let thread_id: libc::pid_t = thread_id.recv().unwrap();
    ip(&format!("link add near type veth peer name far netns {thread_id}"));
    set_up("near", 0);
    let (mut sockets, mut pairs) = (Vec::new(), Vec::new());
    for [server, client] in PAIRS.map(|pair| pair.map(|text| text.parse::<IpAddr>().unwrap())) {
        let all = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        for bound in [(server, 0).into(), address(all)] {
            let socket = UdpSocket::open(bound, options()).unwrap_or_else(|error| panic!("{error}"));
            pairs.push((client, (server, socket.address().port()).into()));
            sockets.push(socket);
        }
    }
    targets.send(pairs).unwrap();
    // Its sockets keep the far namespace when the thread is gone.
    (sockets, far.join().unwrap())
}

/// How long after the told departures the far end received the replies, in nanoseconds: mean, standard deviation, the
/// extremes.
fn figures(behind: &[i64]) -> (i64, i64, i64, i64) {
    let total = i64::try_from(behind.len()).unwrap();
    let mean = behind.iter().sum::<i64>() / total;
    let variance = behind.iter().map(|ns| (ns - mean) * (ns - mean)).sum::<i64>() / total;
    (mean, variance.isqrt(), *behind.iter().min().unwrap(), *behind.iter().max().unwrap())
}

/// Has `count` requests answered in bursts, all of which want to know; how long after each departure the far end received
/// the reply.
fn behind(port: &mut impl Port, client: &mut UdpClient, burst: u64, count: u64, first: u64) -> Vec<i64> {
    let (mut outbox, mut next) = (Outbox::new(64), first);
    let (mut told, mut received) = (BTreeMap::new(), BTreeMap::new());
    while next < first + count {
        for number in next..next + burst {
            outbox.push(None, false, |slot| {
                slot[..48].copy_from_slice(&request(name(number), true));
                48
            });
        }
        next += burst;
        assert_eq!(client.send(&mut outbox).unwrap() as u64, burst);
        let (mut came, mut replies, end) = (0, 0, Instant::now() + LIMIT);
        while came < burst || replies < burst {
            assert!(Instant::now() < end, "{came} came, {replies} were answered of {burst}");
            let batch = port.receive(if came < burst { Wait::Until(SHORT) } else { Wait::Poll }).unwrap();
            let outgoing: Vec<Outgoing> = (0..batch)
                .map(|index| {
                    let departure = Some(name_in(port.datagram(index).1));
                    Outgoing { index: index.try_into().unwrap(), length: 48, departure }
                })
                .collect();
            port.send(&outgoing, |_, _| {}).unwrap();
            port.departures(|departed| {
                assert_eq!(told.insert(departed.name, departed.stamp.unwrap().nanos), None);
            })
            .unwrap();
            came += batch as u64;
            client
                .receive(|reply| {
                    replies += 1;
                    received.extend(reply.stamp.map(|stamp| (name_in(reply.payload), stamp.nanos)));
                })
                .unwrap();
        }
    }
    assert_eq!(told.len() as u64, next - first, "each is told");
    told.iter().filter_map(|(name, left)| Some(received.get(name)? - left)).collect()
}

fn the_far_end_receives_just_after_the_departure<P: Port + 'static>(port: &'static str) {
    if !is_root("two hosts") {
        return;
    }
    thread::spawn(move || {
        let (sockets, mut clients) = two_hosts();
        let bound: Vec<_> = sockets.iter().map(UdpSocket::address).collect();
        let mut port_over = P::over(sockets, 64);
        // The link takes a moment, and so does the kernel's stamping.
        thread::sleep(Duration::from_millis(100));
        let mut first = 0;
        for (client, bound) in clients.iter_mut().zip(bound) {
            behind(&mut port_over, client, 1, 200, first);
            first += 200;
            for burst in [1, 4, 16, 64] {
                let behind = behind(&mut port_over, client, burst, 1_024, first);
                first += 1_024;
                let (mean, deviation, least, most) = figures(&behind);
                println!("{port} {bound}, bursts of {burst}: {mean} ± {deviation}, {least} to {most} ns");
                assert!(least >= 0, "a reply was received {least} ns after it left");
                assert!(behind.len() > 1_000 && (0..2_000).contains(&mean), "{mean} ns of {}", behind.len());
            }
        }
    })
    .join()
    .unwrap();
}

#[test]
fn over_sockets_the_far_end_receives_just_after_the_departure() {
    the_far_end_receives_just_after_the_departure::<MmsgPort>("socket");
}

#[test]
fn over_io_uring_the_far_end_receives_just_after_the_departure() {
    the_far_end_receives_just_after_the_departure::<UringPort>("io-uring");
}
