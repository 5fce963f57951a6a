//! The clock over several sources by itself: no driver, the snapshot cell in the test's hands.

use super::super::settings::clock_settings;
use super::*;
use crate::config::parse;
use crate::leaps::Leaps;
use crate::state::legacy::Legacy;
use maser_core::time::Line;
use maser_sys::snapshot_cell::{Reader, snapshot_cell};
use std::io;
use std::sync::Arc;

fn disciplined(lines: &str) -> (Disciplined, Writer, Reader) {
    let config = parse(&format!("[server]\nlisten = [\"127.0.0.1:11123\"]\n{lines}")).unwrap();
    let counter = Counter::monotonic_raw();
    let settings = clock_settings(&config, &counter, &Leaps::built_in(), None);
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

/// A log whose reader looks at the clock with every line: whether it is locked, and what is served.
#[derive(Clone)]
struct SlowLog {
    clock: Arc<Disciplined>,
    served: Reader,
    seen: Arc<Mutex<Vec<(bool, bool)>>>,
}

impl io::Write for SlowLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_free = self.clock.kept.try_lock().is_ok();
        let has_line = self.served.read().unwrap().snapshot.line.is_some();
        self.seen.lock().unwrap().push((is_free, has_line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_log_holds_up_neither_the_status_nor_the_snapshot() {
    let (clock, mut cell, served) = disciplined(GPSD);
    let log = SlowLog { clock: Arc::new(clock), served, seen: Arc::default() };
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let words = [Word::Working("open".to_owned()), Word::Refused("rubbish".to_owned())];
        for word in words.into_iter().chain([Word::Failed("lost".to_owned())]) {
            log.clock.beat(Some(told(word)), &mut cell);
        }
        for _ in 0..3 {
            log.clock.beat(Some(now_observed(&log.clock)), &mut cell);
            thread::sleep(Duration::from_millis(260));
        }
    });
    let seen = log.seen.lock().unwrap().clone();
    assert!(seen.len() > 3, "three words, and what the clock follows: {seen:?}");
    assert!(seen.iter().all(|(is_free, _)| *is_free), "{seen:?}");
    // The clock's first event is told once what it brings is served.
    assert!(seen[3..].iter().all(|(_, has_line)| *has_line), "{seen:?}");
}

/// The time of the clock before, so far off the machine's, published now and good to 100 us.
fn inherited(counter: &Counter, off: Span) -> Inherited {
    let utc = Instant::from_unix_nanos(kernel_clock::read(KernelClock::Realtime));
    let line = Line {
        reference: counter.now(),
        origin: Leaps::built_in().table().tai(utc).first() + off,
        rate: counter.nominal_rate(),
    };
    let snapshot = Snapshot {
        line: Some(line),
        valid_until: line.reference.offset(line.rate.ticks_in(VALIDITY)),
        stratum: 1,
        root_delay: NtpShort::from_bits(0),
        root_dispersion: Span::from_nanos(100_000),
        ..Snapshot::UNKNOWN
    };
    Legacy::new(counter, &snapshot, None).inherited()
}

/// Whether a heir's sources contradict what it was left, before its clock can be served; what it leaves then.
fn is_contradicted(off: Span) -> (bool, ToLeave) {
    let (clock, mut cell, reader) = disciplined(GPSD);
    let left = inherited(&clock.counter, off);
    let clock = clock.inheriting(Some(left));
    let mut told = clock.decide(None, &mut cell);
    assert_eq!(reader.read().unwrap().snapshot.stratum, 1);
    assert_eq!(clock.to_leave(clock.counter.now()), ToLeave::AsItIs);
    // Too few samples for a clock that could be served.
    let error = Span::from_nanos(5_000_000);
    for _ in 0..4 {
        let utc = Instant::from_unix_nanos(kernel_clock::read(KernelClock::Realtime));
        let sample =
            TimeSample { at: clock.counter.now(), utc, error, valid: true, leap: LeapClaim::Unknown };
        told.extend(
            clock.decide(Some(super::tests::told(Word::Observed(Observation::Time(sample)))), &mut cell),
        );
        thread::sleep(Duration::from_millis(260));
    }
    assert_eq!(told.iter().filter(|told| told.text.contains("serving on by the clock")).count(), 1);
    let is_told = told.iter().any(|told| told.text.contains("contradict the clock of the server before"));
    let is_served = reader.read().unwrap().snapshot.stratum == 1;
    assert_ne!(is_told, is_served, "{:?}", clock.figures(clock.counter.now()).tracking);
    (is_told, clock.to_leave(clock.counter.now()))
}

#[test]
fn a_heir_whose_sources_contradict_what_it_inherited_serves_and_leaves_nothing_of_it() {
    let (agreeing, contradicted) = thread::scope(|scope| {
        let agreeing = scope.spawn(|| is_contradicted(Span::ZERO));
        let contradicted = is_contradicted(Span::from_seconds(1));
        (agreeing.join().unwrap(), contradicted)
    });
    assert_eq!(agreeing, (false, ToLeave::AsItIs));
    assert_eq!(contradicted, (true, ToLeave::Nothing));
}

#[test]
fn what_is_withdrawn_is_not_left() {
    let (clock, mut cell, _) = disciplined(GPSD);
    let left = || clock.to_leave(clock.counter.now());
    clock.beat(None, &mut cell);
    assert_eq!(left(), ToLeave::Nothing);
    let begin = clock.counter.now();
    let in_time = || clock.passed(begin, clock.counter.now()) < Span::from_seconds(20);
    while !matches!(left(), ToLeave::Clock(_)) {
        clock.beat(Some(now_observed(&clock)), &mut cell);
        thread::sleep(Duration::from_millis(260));
        assert!(in_time(), "{:?}", clock.figures(clock.counter.now()).tracking);
    }
    while left() != ToLeave::Nothing {
        let utc = Instant::from_unix_nanos(kernel_clock::read(KernelClock::Realtime)) + Span::from_seconds(2);
        let (at, error) = (clock.counter.now(), Span::from_nanos(1_000));
        let sample = TimeSample { at, utc, error, valid: true, leap: LeapClaim::Unknown };
        clock.beat(Some(told(Word::Observed(Observation::Time(sample)))), &mut cell);
        thread::sleep(Duration::from_millis(260));
        assert!(in_time(), "{:?}", clock.figures(clock.counter.now()).tracking);
    }
}

#[test]
fn leap_seconds_of_a_newer_file_are_served() {
    let (clock, mut cell, reader) = disciplined(GPSD);
    let mut file = Leaps::built_in().table();
    let day = clock.utc().unix_seconds() / 86_400 + 40;
    assert!((day..day + 31).any(|day| file.add(day, 1).is_ok()), "some day begins a month");
    let expires = clock.utc() + Span::from_seconds(86_400 * 180);
    let file = LeapFile { table: file, updated: clock.utc(), expires, hashed: true };
    for _ in 0..3 {
        clock.beat(Some(now_observed(&clock)), &mut cell);
        thread::sleep(Duration::from_millis(260));
    }
    clock.set_leaps(&file).unwrap();
    clock.beat(None, &mut cell);
    let leap = reader.read().unwrap().snapshot.leap;
    assert_eq!(leap.next.map(|next| next.offset_after_s), Some(leap.offset_s + 1));
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
