//! The counter and the kernel's clocks on the machine that runs the tests.
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use maser_core::snapshot::Snapshot;
use maser_core::time::{Instant, LeapWindow, Line, NtpTimestamp, Span, StampConverter};
use maser_sys::calibration::{self, Refusal};
use maser_sys::clock::{self, BRACKET_TRIES};
use maser_sys::counter::{Counter, CounterKind};
use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::snapshot_cell::snapshot_cell;
use std::hint::black_box;
use std::time::Duration;

const CLOCKS: [KernelClock; 4] =
    [KernelClock::Realtime, KernelClock::Monotonic, KernelClock::MonotonicRaw, KernelClock::Tai];

fn counters() -> [Counter; 2] {
    [calibration::choose(&[]).counter, Counter::monotonic_raw()]
}

#[test]
fn the_choice_says_what_was_measured() {
    let before_ns = kernel_clock::read(KernelClock::Monotonic);
    let choice = calibration::choose(&[]);
    let took_ns = kernel_clock::read(KernelClock::Monotonic) - before_ns;
    println!("{choice}; precision 2^{} s; took {} ms", choice.counter.precision(), took_ns / 1_000_000);
    assert_eq!(choice.tsc.is_ok(), choice.counter.kind() == CounterKind::Tsc);
    assert!((-30..=-10).contains(&choice.counter.precision()));
    assert!(choice.counter.is_still_trusted());
}

#[test]
fn a_core_that_is_not_there_leaves_the_raw_clock() {
    let choice = calibration::choose(&[0, 1_000]);
    assert_eq!(choice.counter.kind(), CounterKind::MonotonicRaw);
    assert!(
        matches!(
            choice.tsc,
            Err(Refusal::Core { core: 1_000, .. }
                | Refusal::Absent
                | Refusal::NotInvariant
                | Refusal::KernelDistrusts)
        ),
        "{choice}"
    );
}

#[test]
fn the_nominal_rate_keeps_pace_with_the_raw_clock() {
    for counter in counters() {
        let start = clock::bracket(&counter, KernelClock::MonotonicRaw);
        std::thread::sleep(Duration::from_millis(100));
        let end = clock::bracket(&counter, KernelClock::MonotonicRaw);
        let counted = counter.nominal_rate().span_of(end.ticks.since(start.ticks));
        let error = (counted - Span::from_nanos(end.nanos - start.nanos)).abs();
        assert!(error < Span::from_nanos(2_000), "{:?}: off by {error:?} in 100 ms", counter.kind());
    }
}

#[test]
fn a_bracket_holds_the_moment_it_claims() {
    for counter in counters() {
        for kernel_clock in CLOCKS {
            let (before_ns, before) = (kernel_clock::read(kernel_clock), counter.now_ordered());
            let bracket = clock::bracket(&counter, kernel_clock);
            let (after, after_ns) = (counter.now_ordered(), kernel_clock::read(kernel_clock));
            assert!((before_ns..=after_ns).contains(&bracket.nanos), "{kernel_clock:?}");
            assert!(bracket.ticks.since(before) >= 0 && after.since(bracket.ticks) >= 0, "{kernel_clock:?}");
        }
    }
}

#[test]
fn both_clocks_of_a_reading_are_brought_to_its_moment() {
    for counter in counters() {
        let (mut errors_ns, mut narrowest_ns) = (Vec::new(), u32::MAX);
        for _ in 0..1_000 {
            let reading = clock::reading(&counter);
            let monotonic = clock::bracket(&counter, KernelClock::Monotonic);
            let since = counter.nominal_rate().span_of(monotonic.ticks.since(reading.ticks)).as_nanos();
            let error_ticks = i64::from(monotonic.error_ticks) + i64::from(reading.error_ticks);
            // CLOCK_MONOTONIC may be slewed by 83,000 ppm meanwhile, hence the eighth.
            let allowed = counter.nominal_rate().span_of(error_ticks).as_nanos()
                + i64::from(reading.apart_ns)
                + since / 8
                + 2;
            let error = monotonic.nanos - since - reading.monotonic_ns;
            assert!(error.abs() <= allowed, "{:?}: {error} ns, allowed {allowed} ns", counter.kind());
            errors_ns.push(error);
            narrowest_ns = narrowest_ns.min(reading.apart_ns);
        }
        // Without being brought to the reading's moment, the clock would be late by all of it.
        errors_ns.sort_unstable();
        let median_ns = errors_ns[errors_ns.len() / 2];
        assert!(median_ns.abs() < i64::from(narrowest_ns) / 2, "{median_ns} ns of {narrowest_ns}");
    }
}

#[test]
fn a_clock_that_nobody_steps_is_never_seen_stepping() {
    for counter in counters() {
        let mut converter = StampConverter::new();
        let mut torn = 0;
        for _ in 0..200_000 {
            let reading = clock::reading(&counter);
            torn += u32::from(reading.is_torn());
            assert!(!converter.begin_batch(reading), "{reading:?}");
        }
        println!("{}: {torn} of 200000 readings stayed torn", counter.kind());
    }
}

/// Figures for a person: `cargo test -p maser-sys --release --test clock -- --ignored --nocapture figures`.
#[test]
#[ignore = "prints figures, proves nothing"]
fn figures() {
    for counter in counters() {
        println!("{}", counter.kind());
        let per_read = |name: &str, ns: f64| println!("  {name:<44} {ns:8.1} ns");
        per_read("now", timed(|| counter.now()));
        per_read("now_ordered", timed(|| counter.now_ordered()));
        per_read("read(REALTIME)", timed(|| kernel_clock::read(KernelClock::Realtime)));
        per_read("reading", timed(|| clock::reading(&counter)));
        per_read("bracket(REALTIME)", timed(|| clock::bracket(&counter, KernelClock::Realtime)));
        for kernel_clock in CLOCKS {
            let mut halves: Vec<u32> =
                (0..10_000).map(|_| clock::bracket(&counter, kernel_clock).error_ticks).collect();
            halves.sort_unstable();
            let ns = |at: usize| counter.nominal_rate().span_of(i64::from(halves[at])).as_nanos();
            println!(
                "  bracket of {kernel_clock:?}: half width median {} ns, 99th percentile {} ns ({BRACKET_TRIES} tries)",
                ns(5_000),
                ns(9_900)
            );
        }
        for (name, wait) in [("after a wait of 60 ms", Duration::from_millis(60)), ("again", Duration::ZERO)]
        {
            let mut widths_ns: Vec<_> = (0..100).map(|_| width_ns(&counter, wait)).collect();
            widths_ns.sort_unstable();
            println!(
                "  reading both clocks once, {name}: median {} ns, most {} ns",
                widths_ns[50], widths_ns[99]
            );
        }
        let (_writer, reader) = snapshot_cell(&served(&counter));
        per_read("cell read", timed(|| reader.read()));
        per_read("cell read + now + conversion to NTP", timed(|| stamp(&counter, &reader)));
    }
}

/// How long both clocks' reading takes that comes first after the wait, or second without one.
fn width_ns(counter: &Counter, wait: Duration) -> i64 {
    let once = || {
        let before = counter.now_ordered();
        black_box([KernelClock::Realtime, KernelClock::Monotonic].map(kernel_clock::read));
        counter.nominal_rate().span_of(counter.now_ordered().since(before)).as_nanos()
    };
    if wait.is_zero() {
        once();
    } else {
        std::thread::sleep(wait);
    }
    once()
}

fn served(counter: &Counter) -> Snapshot {
    let line = Line {
        reference: counter.now(),
        origin: Instant::from_unix(1_795_000_037, 0),
        rate: counter.nominal_rate(),
    };
    Snapshot {
        line: Some(line),
        leap: LeapWindow { offset_s: 37, next: None },
        stratum: 1,
        ..Snapshot::UNKNOWN
    }
}

fn stamp(counter: &Counter, reader: &maser_sys::snapshot_cell::Reader) -> NtpTimestamp {
    let Ok(read) = reader.read() else { return NtpTimestamp::ZERO };
    read.snapshot.line.map_or(NtpTimestamp::ZERO, |line| read.snapshot.ntp(line.at(counter.now())))
}

/// The least of some runs, in nanoseconds a call.
fn timed<T>(mut call: impl FnMut() -> T) -> f64 {
    const CALLS: i64 = 200_000;
    let runs = (0..9).map(|_| {
        let start_ns = kernel_clock::read(KernelClock::MonotonicRaw);
        for _ in 0..CALLS {
            black_box(call());
        }
        kernel_clock::read(KernelClock::MonotonicRaw) - start_ns
    });
    runs.min().unwrap_or(0) as f64 / CALLS as f64
}
