//! The clock over several sources by itself: no driver, the snapshot cell in the test's hands.

use super::super::settings::clock_settings;
use super::*;
use crate::config::parse;
use crate::leaps::Leaps;
use maser_sys::snapshot_cell::{Reader, snapshot_cell};

fn disciplined(lines: &str) -> (Disciplined, Writer, Reader) {
    let config = parse(&format!("[server]\nlisten = [\"127.0.0.1:11123\"]\n{lines}")).unwrap();
    let counter = Counter::monotonic_raw();
    let settings = clock_settings(&config, &counter, &Leaps { file: None }, None);
    let (writer, reader) = snapshot_cell(&Snapshot::UNKNOWN);
    (Disciplined::new(&config, counter, settings), writer, reader)
}

fn told(word: Word) -> Report {
    Report { source: 0, word, server: None, lost: 0 }
}

fn now_observed(clock: &Disciplined) -> Report {
    let utc = Instant::from_unix_nanos(kernel_clock::read(KernelClock::Realtime));
    let (at, error) = (clock.counter.now(), Span::from_nanos(1_000));
    let sample = TimeSample { at, utc, error, valid: true, leap: LeapClaim::Unknown };
    told(Word::Observed(Observation::Time(sample)))
}

const GPSD: &str = "[[source]]\ntype = \"gpsd\"\nsocket = \"/run/gps.sock\"\n";

#[test]
fn what_drivers_say_is_a_sources_problem_until_it_works_again() {
    let (clock, mut cell, _) = disciplined(GPSD);
    let mut problem = |word| {
        clock.beat(Some(told(word)), &mut cell);
        let (_, driven) = clock.figures(clock.counter.now()).sources.swap_remove(0);
        driven.problem
    };
    let failed = || Word::Failed("no such device".to_owned());
    assert_eq!(problem(failed()).as_deref(), Some("no such device"));
    assert_eq!(problem(Word::Refused("rubbish".to_owned())).as_deref(), Some("no such device"));
    assert_eq!(problem(Word::Working("open".to_owned())), None);
    assert_eq!(problem(Word::Refused("rubbish".to_owned())).as_deref(), Some("refused: rubbish"));
    let Report { word, .. } = now_observed(&clock);
    assert_eq!(problem(word), None);
    let (_, driven) = clock.figures(clock.counter.now()).sources.swap_remove(0);
    assert_eq!((driven.observed, driven.refused, driven.failed), (1, 2, 1));
}

#[test]
fn a_local_stratum_is_served_once_there_is_a_line() {
    let (clock, mut cell, reader) = disciplined(&format!("{GPSD}[local]\nstratum = 7\n"));
    clock.beat(None, &mut cell);
    assert!(!reader.read().unwrap().snapshot.synchronised_at(clock.counter.now()), "there is no line");
    for _ in 0..3 {
        clock.beat(Some(now_observed(&clock)), &mut cell);
        thread::sleep(Duration::from_millis(260));
    }
    clock.beat(None, &mut cell);
    let now = clock.counter.now();
    let snapshot = reader.read().unwrap().snapshot;
    assert!(!clock.figures(now).tracking.state.is_synchronised(), "three samples are too few");
    assert!(snapshot.synchronised_at(now));
    assert_eq!((snapshot.stratum, snapshot.reference_id), (7, LOCAL_REFERENCE_ID));
    assert!(snapshot.root_dispersion_at(now) < Span::from_nanos(1_000_000));
}

#[test]
fn a_server_is_named_by_its_address() {
    assert_eq!(reference_id("192.0.2.1".parse().unwrap()), [192, 0, 2, 1]);
    // The first octets of the MD5 of 2001:db8::1, from another program.
    assert_eq!(reference_id("2001:db8::1".parse().unwrap()), [57, 171, 155, 55]);
}

#[test]
fn the_machines_clock_counts_as_far_as_the_kernel_vouches_for_it() {
    let machine = "[[source]]\ntype = \"machine\"\nstratum = 2\n";
    let (clock, ..) = disciplined(&format!("{GPSD}{machine}"));
    let reading = MachineReading {
        clock: maser_sys::clock::reading(&clock.counter),
        synchronised: true,
        error_max: Span::from_nanos(5_000_000),
        leap: PendingLeap::None,
    };
    let sample = clock.machine_sample(&reading);
    assert!(sample.valid && sample.error >= reading.error_max);
    assert!(!clock.machine_sample(&MachineReading { synchronised: false, ..reading }).valid);
    assert!(!clock.machine_sample(&MachineReading { leap: PendingLeap::Inserting, ..reading }).valid);
    let mut early = reading;
    early.clock.realtime_ns = 0;
    assert!(!clock.machine_sample(&early).valid, "before the build");
    assert_eq!(clock.machine_report().map(|report| report.source), Some(1));
}
