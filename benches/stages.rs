//! The stages of the packet path, each on its own and together: nanoseconds a packet on one core.
//!
//! 64 different buffers are worked through in turn, as a batch is, so that no figure comes from one hot cache line.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use maser_core::reply::{Verdict, decide, rewrite, stamp, transmit_after};
use maser_core::snapshot::{ClockHeader, Growth, Snapshot};
use maser_core::time::{Instant, LeapWindow, Line, NtpShort, NtpTimestamp, Span};
use maser_core::wire::{DropReason, Peer, Request, parse_datagram, parse_frame};
use maser_sys::calibration;
use maser_sys::counter::Counter;
use maser_sys::snapshot_cell::snapshot_cell;
use oracle::frame::{Wrapping, wrap};
use std::hint::black_box;
use std::net::SocketAddr;

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

criterion_group!(stages, clock, packets);
criterion_main!(stages);
