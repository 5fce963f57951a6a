//! Clients that meet several workers are counted, and those that meet one never are.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::thread;

use core_affinity::CoreId;
use maser::config::Idle;
use maser::count::{Counts, Event};
use maser::splits::Splits;
use maser::worker::Worker;
use maser_sys::af_xdp::XskPort;
use maser_sys::calibration;
use maser_sys::outbox::Outbox;
use maser_sys::packet_socket::{PacketSocket, Ports, RING_FRAMES_MIN};
use maser_sys::snapshot_cell::snapshot_cell;
use maser_sys::xdp_program::AttachMode;
use nix::net::if_::if_nametoindex;

use crate::oracle::frame::{Wrapping, wrap};
use crate::peers::skip;
use crate::support::request;
use crate::wire::{INTERFACE, SERVER_MAC, SERVER_V4, Steered, Wire, listeners};
use crate::{SILENCE, Stopping, still_snapshot};

const CLIENTS: u8 = 40;
const ROUNDS: usize = 5;
/// Under this key no two of these clients share a place, as they do under 1 key of 20.
const APART: u64 = 1;

/// A frame of client 10.55.2.(100 + n).
fn frame(client: u8) -> Vec<u8> {
    let wrapping = Wrapping {
        tags: Vec::new(),
        source: vec![10, 55, 2, 100 + client],
        destination: SERVER_V4.octets().to_vec(),
        source_port: 40_001,
        padding: 0,
        udp_checksum: true,
    };
    wrap(&request(7), &wrapping)
}

/// Sends each client's requests from core 0 or 1, by which a veth of two queues chooses the queue.
fn send(server: SocketAddr, core_of: impl Fn(u8, usize) -> usize + Sync) {
    for round in 0..ROUNDS {
        for core in [0, 1] {
            let from_core = || {
                assert!(core_affinity::set_for_current(CoreId { id: core }));
                let interface = if_nametoindex(INTERFACE).unwrap();
                let mut out = PacketSocket::open(interface, server, Ports::ALL, RING_FRAMES_MIN).unwrap();
                let mut outbox = Outbox::new(usize::from(CLIENTS));
                for client in (0..CLIENTS).filter(|client| core_of(*client, round) == core) {
                    let frame = frame(client);
                    outbox.push(None, false, |slot| {
                        slot[..frame.len()].copy_from_slice(&frame);
                        frame.len()
                    });
                }
                out.send(&mut outbox).unwrap();
            };
            // In the namespace of the thread that starts it.
            thread::scope(|scope| scope.spawn(from_core).join().unwrap());
            // One queue after the other, so that who comes first is certain.
            thread::sleep(SILENCE / 10);
        }
    }
}

/// What two workers, each with a queue of its own, counted: answers, and clients split.
fn counted(wire: &Wire, core_of: impl Fn(u8, usize) -> usize + Sync + Send) -> [u64; 3] {
    wire.server.run(|| {
        let server = listeners(SERVER_V4.into())[0];
        let Steered { program: _program, sockets, .. } =
            Steered::new(AttachMode::Native, SERVER_MAC, &[server], 2);
        let counter = calibration::choose(&[]).counter;
        let (_writer, reader) = snapshot_cell(&still_snapshot(counter));
        let (splits, stop) = (Splits::with_key(APART), AtomicBool::new(false));
        let counts = [Counts::default(), Counts::default()];
        thread::scope(|scope| {
            for (number, (socket, counts)) in sockets.into_iter().zip(&counts).enumerate() {
                let (reader, stop, watch) = (reader.clone(), &stop, splits.of_worker(number));
                scope.spawn(move || {
                    let port = XskPort::new(vec![socket], 16).unwrap();
                    let worker = Worker::new(port, reader, counter, counts, 16);
                    worker.noticing_splits(Some(watch)).run(Idle::Block, stop).unwrap();
                });
            }
            let _stopping = Stopping(&stop);
            wire.client.run(|| send(server, core_of));
            thread::sleep(SILENCE);
        });
        let [one, other] = &counts;
        let answered = [one, other].map(|counts| counts.of(Event::Answered));
        [answered[0], answered[1], one.of(Event::SplitClient) + other.of(Event::SplitClient)]
    })
}

#[test]
fn clients_that_change_their_queue_are_counted_and_others_never() {
    const NAME: &str = "clients_that_change_their_queue_are_counted_and_others_never";
    if core_affinity::get_core_ids().is_none_or(|cores| cores.len() < 2) {
        return skip(NAME, "it needs two cores");
    }
    let Some(wire) = Wire::new(NAME, 2) else { return };
    let half = u64::from(CLIENTS) / 2 * ROUNDS as u64;
    // As a NIC does that spreads by source address.
    let steady = counted(&wire, |client, _| usize::from(client % 2));
    assert_eq!(steady, [half, half, 0]);
    // As one does that spreads by ports, too: every client changes from round to round.
    let split = counted(&wire, |client, round| (usize::from(client) + round) % 2);
    let changes = u64::from(CLIENTS) * (ROUNDS as u64 - 1);
    assert_eq!(split[0] + split[1], 2 * half);
    assert_eq!(split[2], changes);
}
