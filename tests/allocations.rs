//! The packet path allocates nothing: 100,000 packets through a worker of each port, garbage among them.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a test that can't go on has failed, and its numbers are small"
)]

use maser::clients::Clients;
use maser::count::{Counts, Event};
use maser::port::Port;
use maser::status::{ClientsQuestion, Order};
use maser::worker::{Limits, Worker};
use maser_core::limit::hash::Key;
use maser_core::limit::{Bucket, Rules};
use maser_core::refclock::{MachineClock, MachineReading, MachineSettings, PendingLeap};
use maser_core::snapshot::Snapshot;
use maser_core::time::{Instant, LeapTable, Span};
use maser_sys::alloc_count::{CountingAllocator, allocations_in};
use maser_sys::calibration;
use maser_sys::datagram::Wait;
use maser_sys::limit_table::{self, SharedTable};
use maser_sys::mmsg::MmsgPort;
use maser_sys::snapshot_cell::snapshot_cell;
use maser_sys::udp_socket::{SocketOptions, UdpSocket};
use maser_sys::uring::UringPort;
use std::net::UdpSocket as Client;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const PACKETS: u64 = 100_000;
const BURST: usize = 50;

/// So that each request goes through the table, and all of them are answered.
fn limits() -> Limits {
    let address = Bucket::new(1, 1 << 27).unwrap();
    Limits {
        table: limit_table::memory(1 << 20).and_then(SharedTable::of_memory).unwrap(),
        key: Key { k0: 1, k1: 2 },
        rules: Rules { address, prefix: Some(address), ..Rules::USUAL },
        driver: true,
    }
}

/// Sends `PACKETS` in bursts and lets a worker over `open`'s port answer them; gives the allocations it made.
fn allocations<P: Port>(open: impl FnOnce(Vec<UdpSocket>) -> P) -> u64 {
    let counter = calibration::choose(&[]).counter;
    let settings = MachineSettings {
        stratum: 1,
        reference_id: [192, 0, 2, 9],
        local_stratum: Some(10),
        precision: -25,
        nominal_rate: counter.nominal_rate(),
        not_before: Instant::from_unix(0, 0),
    };
    let (mut cell, reader) = snapshot_cell(&Snapshot::UNKNOWN);
    let reading = MachineReading {
        clock: maser_sys::clock::reading(&counter),
        synchronised: true,
        error_max: Span::from_nanos(1_000_000),
        leap: PendingLeap::None,
    };
    cell.publish(&MachineClock::new(settings, LeapTable::built_in()).update(&reading).snapshot.unwrap());

    let socket = UdpSocket::open("127.0.0.1:0".parse().unwrap(), SocketOptions::default()).unwrap();
    let server = socket.address();
    let counts = Counts::default();
    let clients = Clients::new(counter);
    let mut worker = Worker::new(open(vec![socket]), reader, counter, &counts, 64)
        .telling(clients.tap())
        .interleaving(10_000, 1)
        .correcting(true)
        .limiting(Some(limits()));
    let client = Client::bind("127.0.0.1:0").unwrap();
    client.connect(server).unwrap();
    client.set_nonblocking(true).unwrap();
    // Clients behind one address that interleave: their origins are the receive timestamps of the last replies that they
    // saw. Their numbers stand in the last octets of the other timestamps, one of which is the reply's origin.
    let mut origins = [[0; 8]; BURST];
    let request = |number: usize, origins: &[[u8; 8]; BURST]| {
        let mut request = [7; 48];
        request[0] = 0x23;
        request[24..32].copy_from_slice(&origins[number]);
        request[40..48].fill(8);
        (request[39], request[47]) = (number as u8, number as u8);
        request
    };
    let garbage = [0x17; 52];
    let mut reply = [0; 64];
    let (mut sent, mut received) = (0, 0);
    let ((), allocations) = allocations_in(|| {
        while received < PACKETS {
            for number in 0..BURST {
                let good = request(number, &origins);
                let message = if sent % 10 == 9 { &garbage[..] } else { &good };
                sent += u64::from(client.send(message).is_ok());
            }
            while received < sent {
                let batch = worker.batch(Wait::Until(Duration::from_secs(1))).unwrap();
                assert!(batch > 0, "{received} of {sent} packets came in");
                received += batch as u64;
            }
            while client.recv(&mut reply).is_ok() {
                origins[usize::from(reply[31])].copy_from_slice(&reply[32..40]);
            }
        }
    });
    let dropped: u64 = counts.drops().map(|(_, count)| count).sum();
    assert_eq!(counts.of(Event::Answered) + dropped, received, "every packet is counted once");
    assert_eq!(dropped, sent / 10);
    let [interleaved, asked, told] =
        [Event::Interleaved, Event::DepartureAsked, Event::DepartureTold].map(|event| counts.of(event));
    println!("{interleaved} interleaved; {asked} departures asked, {told} told");
    assert!(interleaved > PACKETS / 2, "the load interleaves");
    // Nobody has read the ring meanwhile, so that it is full and what didn't fit is lost as well.
    let question = ClientsQuestion { top: 1, by: Order::Rate, truncated: false };
    let seen = clients.status(&question, false, clients.now()).requests.sum();
    let answered = (received - dropped) as f64;
    assert!((seen / answered - 1.0).abs() < 0.1, "{seen} of {answered} are seen");
    allocations
}

#[test]
fn a_worker_allocates_nothing() {
    let socket = allocations(|sockets| MmsgPort::new(sockets, 64).unwrap());
    let uring = allocations(|sockets| UringPort::new(sockets, Vec::new(), 64).unwrap());
    println!("allocations over {PACKETS} packets: socket {socket}, io-uring {uring}");
    assert_eq!((socket, uring), (0, 0));
}

#[test]
fn the_counter_finds_a_planted_allocation() {
    let (_kept, allocations) = allocations_in(|| Box::new(1_u8));
    assert_eq!(allocations, 1);
}
