//! The snapshot's cell under real threads: what is read is whole and never older than what was read before.

use maser_core::snapshot::{Growth, STRATUM_UNSYNCHRONISED, Snapshot};
use maser_core::time::{Instant, Leap, LeapWindow, Line, NtpShort, NtpTimestamp, Rate, Span, Ticks};
use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::snapshot_cell::{Lapped, Reader, snapshot_cell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Each test runs so long.
const RUN_NS: i64 = 1_000_000_000;
/// As many as there are cores on the smallest machine, and one more, so that some are preempted.
const READERS: usize = 2;

/// A snapshot of which every word follows from its generation.
fn snapshot_of(generation: u32) -> Snapshot {
    let wide = u64::from(generation);
    let mixed = wide.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Snapshot {
        line: Some(Line {
            reference: Ticks::from_bits(mixed),
            origin: Instant::from_raw(i128::from(mixed) << 40),
            rate: Rate::from_bits(mixed | 1),
        }),
        valid_until: Ticks::from_bits(!mixed),
        leap: LeapWindow {
            offset_s: 37,
            next: Some(Leap { at: Instant::from_unix(i64::from(generation), 0), offset_after_s: 38 }),
        },
        stratum: 1 + generation.to_le_bytes()[0] % (STRATUM_UNSYNCHRONISED - 1),
        precision: -25,
        reference_id: generation.to_be_bytes(),
        root_delay: NtpShort::from_bits(generation),
        root_dispersion: Span::from_raw(i128::from(wide) << 32),
        dispersion_growth: Growth::from_bits(!generation),
        reference_time: NtpTimestamp::from_bits(mixed.rotate_left(7)),
        generation,
    }
}

#[derive(Default, Debug)]
struct Counts {
    whole: u64,
    retries: u64,
    lapped: u64,
    generations_seen: u64,
}

fn read_until(stopped: &AtomicBool, reader: &Reader) -> Counts {
    let mut counts = Counts::default();
    let mut newest = 0;
    while !stopped.load(Ordering::Relaxed) {
        match reader.read() {
            Ok(read) => {
                let generation = read.snapshot.generation;
                assert_eq!(read.snapshot, snapshot_of(generation), "torn");
                assert!(generation >= newest, "generation {generation} after {newest}");
                counts.generations_seen += u64::from(generation != newest);
                newest = generation;
                counts.whole += 1;
                counts.retries += u64::from(read.retries);
            }
            Err(Lapped) => counts.lapped += 1,
        }
    }
    counts
}

/// Publishes every `pause` for [`RUN_NS`]; what each reader counted, and how much was published.
fn stress(pause: Option<Duration>) -> (Vec<Counts>, u32) {
    let (mut writer, reader) = snapshot_cell(&snapshot_of(0));
    let stopped = AtomicBool::new(false);
    let (stopped, reader) = (&stopped, &reader);
    thread::scope(|scope| {
        let readers: Vec<_> =
            (0..READERS).map(|_| scope.spawn(move || read_until(stopped, &reader.clone()))).collect();
        let start_ns = kernel_clock::read(KernelClock::Monotonic);
        let mut published = 0;
        while kernel_clock::read(KernelClock::Monotonic) - start_ns < RUN_NS
            && !readers.iter().any(|r| r.is_finished())
        {
            published += 1;
            writer.publish(&snapshot_of(published));
            if let Some(pause) = pause {
                thread::sleep(pause);
            }
        }
        stopped.store(true, Ordering::Relaxed);
        (readers.into_iter().map(|reader| reader.join().expect("a reader failed")).collect(), published)
    })
}

#[test]
fn a_writer_that_never_rests_tears_nothing() {
    let (readers, published) = stress(None);
    println!("{published} published: {readers:?}");
    assert!(readers.iter().all(|counts| counts.whole > 0 && counts.generations_seen > 1));
}

#[test]
fn a_writer_a_thousand_times_busier_than_ours_laps_nobody() {
    let (readers, published) = stress(Some(Duration::from_millis(1)));
    println!("{published} published: {readers:?}");
    assert!(readers.iter().all(|counts| counts.whole > 0 && counts.generations_seen > 1));
    assert!(readers.iter().all(|counts| counts.lapped == 0));
}
