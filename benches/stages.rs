//! The stages of the packet path, each on its own and together: nanoseconds a packet on one core.
//!
//! 64 different buffers are worked through in turn, as a batch is, so that no figure comes from one hot cache line.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use maser::clients::{self, Clients};
use maser_core::hash::mix;
use maser_core::limit::hash::{Key, Kind, hash};
use maser_core::limit::{Fate, Limiter, Place, Rules};
use maser_core::reply::{Verdict, decide, rewrite, stamp, transmit_after};
use maser_core::snapshot::{ClockHeader, Growth, Snapshot};
use maser_core::time::{Instant, LeapWindow, Line, NtpShort, NtpTimestamp, Span};
use maser_core::wire::{DropReason, Peer, Request, parse_datagram, parse_frame};
use maser_sys::calibration;
use maser_sys::counter::Counter;
use maser_sys::limit_table::{self, SharedTable};
use maser_sys::snapshot_cell::snapshot_cell;
use oracle::frame::{Wrapping, wrap};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

#[path = "../core/tests/oracle/mod.rs"]
#[allow(dead_code, reason = "only its builder of frames is used here")]
mod oracle;

const BATCH: usize = 64;
const RECEIVE: NtpTimestamp = NtpTimestamp::from_bits(0xE6A1_B2C3_4444_4445);

fn snapshot(counter: Counter) -> Snapshot {
    let now = counter.now();
    Snapshot {
        line: Some(Line {
            reference: now,
            origin: Instant::from_unix(1_795_000_037, 0),
            rate: counter.nominal_rate(),
        }),
        valid_until: now.offset(counter.nominal_rate().ticks_in(Span::from_seconds(3_600))),
        leap: LeapWindow { offset_s: 37, next: None },
        stratum: 1,
        precision: -25,
        reference_id: *b"PPS\0",
        root_delay: NtpShort::from_bits(1),
        root_dispersion: Span::from_nanos(20_000),
        dispersion_growth: Growth::PHI,
        reference_time: NtpTimestamp::from_bits(0xE6A1_B2C3_0000_0000),
        generation: 1,
    }
}

fn peer() -> Peer {
    Peer {
        source: SocketAddr::from(([192, 0, 2, 7], 40_000)),
        destination: SocketAddr::from(([192, 0, 2, 1], 123)),
        unicast: true,
    }
}

fn message(number: u8) -> Vec<u8> {
    [&[0x23_u8][..], &[0; 39], &[number; 8]].concat()
}

/// Parses, decides, rewrites and stamps a batch.
fn answer(batch: &mut [Vec<u8>], clock: &ClockHeader, parse: impl Fn(&[u8]) -> Result<Request, DropReason>) {
    for bytes in batch {
        let request = parse(bytes).expect("a good request");
        if let Verdict::Answer(reply) | Verdict::AnswerUnsynchronised(reply) =
            decide(&request, clock, RECEIVE)
        {
            let prepared = rewrite(bytes, &request, &reply);
            stamp(bytes, &prepared, transmit_after(RECEIVE, NtpTimestamp::from_bits(0xE6A1_B2C3_5555_5554)));
        }
    }
}

fn clock(c: &mut Criterion) {
    let counter = calibration::choose(&[]).counter;
    let (_writer, reader) = snapshot_cell(&snapshot(counter));
    let mut group = c.benchmark_group("clock");
    group.bench_function("counter", |b| b.iter(|| counter.now()));
    group.bench_function("snapshot read", |b| b.iter(|| reader.read()));
    group.bench_function("snapshot read + counter + conversion", |b| {
        b.iter(|| {
            let snapshot = reader.read().expect("nobody writes").snapshot;
            snapshot.line.map(|line| snapshot.ntp(line.at(counter.now())))
        });
    });
    let snapshot = reader.read().expect("nobody writes").snapshot;
    group.bench_function("counter + conversion, a reply's share of a batch", |b| {
        b.iter(|| black_box(&snapshot).line.map(|line| snapshot.ntp(line.at(counter.now()))));
    });
    group.bench_function("header of a batch", |b| {
        b.iter(|| black_box(&snapshot).header_at(counter.now(), Span::ZERO))
    });
    group.bench_function("reading of counter, REALTIME, MONOTONIC", |b| {
        b.iter(|| maser_sys::clock::reading(&counter))
    });
    group.finish();
}

fn packets(c: &mut Criterion) {
    let counter = calibration::choose(&[]).counter;
    let clock = snapshot(counter).header_at(counter.now(), Span::ZERO);
    let mut group = c.benchmark_group("packet");
    group.throughput(Throughput::Elements(BATCH as u64));
    let batch = |make: &dyn Fn(u8) -> Vec<u8>| (0..64).map(make).collect::<Vec<_>>();
    let datagrams = batch(&message);
    group.bench_function("parse, 64 datagrams", |b| {
        b.iter(|| {
            datagrams
                .iter()
                .map(|bytes| parse_datagram(black_box(bytes), &peer()).is_ok())
                .filter(|ok| *ok)
                .count()
        });
    });
    let parse = |bytes: &[u8]| parse_datagram(bytes, &peer());
    group.bench_function("parse + decide + rewrite + stamp, 64 datagrams", |b| {
        b.iter_batched_ref(|| datagrams.clone(), |batch| answer(batch, &clock, parse), BatchSize::SmallInput);
    });
    for (name, tags, network) in
        [("IPv4", vec![], 4), ("IPv4 in a VLAN", vec![[0x81, 0, 0, 9]], 4), ("IPv6", vec![], 16)]
    {
        let address = |last: u8| [&[0xC0, 0, 2][..], &vec![0; network - 4], &[last]].concat();
        let wrapping = Wrapping {
            tags,
            source: address(7),
            destination: address(1),
            source_port: 40_000,
            padding: 0,
            udp_checksum: true,
        };
        let frames = batch(&|number| wrap(&message(number), &wrapping));
        let parse = |bytes: &[u8]| parse_frame(bytes, 123);
        group.bench_function(
            format!("parse + decide + rewrite + checksums + stamp, 64 frames, {name}"),
            |b| {
                b.iter_batched_ref(
                    || frames.clone(),
                    |batch| answer(batch, &clock, parse),
                    BatchSize::SmallInput,
                );
            },
        );
    }
    group.finish();
}

/// What counting clients costs a worker a packet: while all are looked at, and at a million a second, with the ring read 20
/// times a second as in the server.
fn heaviest(c: &mut Criterion) {
    let clients = Clients::new(calibration::choose(&[]).counter);
    let addresses: Vec<IpAddr> =
        (0..BATCH as u64).map(|number| Ipv4Addr::from_bits((mix(number) >> 32) as u32).into()).collect();
    let mut group = c.benchmark_group("clients");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, packets) in
        [("few", 512_usize), ("a million a second", 50_000), ("2.5 million a second", 125_000)]
    {
        let tap = clients.tap();
        let mut seen = 0;
        group.bench_function(format!("64 packets seen, {name}"), |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    if seen >= packets {
                        seen = 0;
                        clients.collect(clients.now());
                    }
                    seen += BATCH;
                    let begin = now();
                    addresses
                        .iter()
                        .for_each(|address| tap.saw(black_box(*address), clients::Fate::Served, 1));
                    took += begin.elapsed();
                }
                took
            });
        });
    }
    group.bench_function("64 samples counted, of 65,536 clients", |b| {
        let (tap, mut number) = (clients.tap(), 0_u64);
        b.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                for _ in 0..BATCH {
                    number += 1;
                    tap.saw(Ipv4Addr::from_bits((mix(number) >> 48) as u32).into(), clients::Fate::Served, 1);
                }
                let begin = now();
                clients.collect(clients.now());
                took += begin.elapsed();
            }
            took
        });
    });
    group.finish();
}

#[expect(clippy::disallowed_methods, reason = "what a part of an iteration takes")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Clients whose entries aren't in any cache: 64 MiB of them.
const MANY: u32 = 1_000_000;
/// Clients whose entries are.
const FEW: u32 = 64;

/// The address of client `number`.
fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number.wrapping_mul(0x9E37_79B1)).into()
}

/// A limiter over 64 MiB that knows `clients` as regulars.
fn known(clients: u32) -> (SharedTable, Limiter<SharedTable>) {
    let memory = limit_table::memory(64 << 20).and_then(SharedTable::of_memory).expect("64 MiB can be had");
    let key = Key { k0: 0x1234_5678_9ABC_DEF0, k1: 0x0FED_CBA9_8765_4321 };
    let mut limiter = Limiter::new(memory.clone(), key, Rules::USUAL).expect("64 MiB");
    for visit in 1..=2 {
        limiter.begin_batch(visit * 60_000_000_000, true);
        for number in 0..clients {
            limiter.decide(limiter.place_of(address(number)), true);
        }
    }
    (memory, limiter)
}

/// Decides a batch of places, each a regular's whose bucket is full.
fn decide_all(limiter: &mut Limiter<SharedTable>, places: &[Place], now: &mut i64) -> usize {
    *now += 200_000_000;
    limiter.begin_batch(*now, true);
    places.iter().filter(|place| limiter.decide(**place, true) == Fate::Served).count()
}

fn limits(c: &mut Criterion) {
    let mut group = c.benchmark_group("limit");
    let key = Key { k0: 1, k1: 2 };
    group.bench_function("hash", |b| b.iter(|| hash(black_box(key), black_box(7), Kind::Ip4)));
    for (name, clients) in [("in cache", FEW), ("1 M entries in 64 MiB", MANY)] {
        let (memory, mut limiter) = known(clients);
        let mut now = 200_000_000_000;
        let mut number = 0_u32;
        // In an order without a pattern; a place is hashed, as a packet's is.
        let mut client = || {
            number = (number + 618_033) % clients;
            address(number)
        };
        group.bench_function(format!("place of a client, {name}"), |b| b.iter(|| limiter.place_of(client())));
        if clients == MANY {
            // The next line is known only from the last: what one miss takes.
            group.bench_function("one load that misses", |b| {
                let (mut at, mut step) = (0_usize, 0_u64);
                b.iter(|| {
                    step += 1;
                    let word = memory[at].load(Ordering::Relaxed);
                    let mixed = maser_core::hash::mix(word ^ step);
                    at = usize::try_from(mixed >> 41).expect("23 bits") % memory.len();
                });
            });
        }
        group.bench_function(format!("place and decide, one at a time, {name}"), |b| {
            b.iter(|| {
                let place = limiter.place_of(client());
                decide_all(&mut limiter, &[place], &mut now)
            });
        });
        group.throughput(Throughput::Elements(32));
        group.bench_function(format!("place, touch and decide, 32 together, {name}"), |b| {
            b.iter(|| {
                let places: [_; 32] = std::array::from_fn(|_| limiter.place_of(client()));
                limiter.touch(places);
                decide_all(&mut limiter, &places, &mut now)
            });
        });
        group.bench_function(format!("place and decide untouched, 32 together, {name}"), |b| {
            b.iter(|| {
                let places: [_; 32] = std::array::from_fn(|_| limiter.place_of(client()));
                decide_all(&mut limiter, &places, &mut now)
            });
        });
        group.bench_function(format!("strangers: place, touch and decide, 32 together, {name}"), |b| {
            let mut number = 0_u32;
            b.iter(|| {
                let places: [_; 32] = std::array::from_fn(|_| {
                    number = number.wrapping_add(0x9E37_79B1);
                    limiter.place_of(Ipv4Addr::from_bits(number ^ 0x8000_0001).into())
                });
                limiter.touch(places);
                decide_all(&mut limiter, &places, &mut now)
            });
        });
        group.throughput(Throughput::Elements(1));
    }
    group.finish();
}

criterion_group!(stages, clock, packets, limits, heaviest);
criterion_main!(stages);
