//! The driver hears the real gpsd, which its own gpsfake feeds over TCP, through shared memory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use maser::source::Word;
use maser::source::gpsd::{self, GpsdSettings};
use maser_core::discipline::{Observation, TimeSample};
use maser_core::time::{Instant, Span};
use maser_sys::counter::Counter;

use super::bench::{Told, drive, now, scratch};
use super::gpsd_rig::{Gpsfake, in_namespaces};
use super::messages::burst;
use super::peers::log;

/// The first unit: that of the first device of a gpsd that runs as root.
const UNIT: u8 = 0;

/// So many seconds are in gpsfake's log, two sentences each.
const LOG_S: i64 = 60;
const SENTENCE_PAUSE_S: &str = "0.5";
/// Gpsd starts to hand over time a few fixes after it has met its receiver.
const FIRST_SAMPLE: Duration = Duration::from_secs(30);
const SAMPLES: usize = 6;

#[test]
fn the_real_gpsd_is_heard_through_shared_memory() {
    in_namespaces("gpsd::the_real_gpsd_is_heard_through_shared_memory", inside);
}

fn inside(tree: &Path) {
    let directory = scratch("gpsd");
    fs::create_dir(&directory).unwrap();
    let counter = Counter::monotonic_raw();
    // gpsd believes no date that is years away from the machine's own.
    let first_s = now(&counter).nanos / 1_000_000_000;
    let sentences: String = (first_s..first_s + LOG_S).map(burst).collect();
    let gpsfake = Gpsfake::start(tree, &directory, &sentences, SENTENCE_PAUSE_S);
    let settings = GpsdSettings::Shm(UNIT);
    drive(
        |teller| gpsd::run(&settings, counter, teller),
        |told| {
            told.working();
            expect_samples(told, &counter, first_s, &gpsfake);
        },
    );
    drop(gpsfake);
    fs::remove_dir_all(&directory).unwrap();
}

fn expect_samples(told: &Told, counter: &Counter, first_s: i64, gpsfake: &Gpsfake) {
    let rate = counter.nominal_rate();
    let mut previous: Option<TimeSample> = None;
    for number in 0..SAMPLES {
        let word = told.next(FIRST_SAMPLE);
        let Some(Word::Observed(Observation::Time(sample))) = word else {
            panic!("sample {number}: {word:?}; gpsfake said:\n{}", gpsfake.output());
        };
        let age = rate.span_of(counter.now().since(sample.at));
        assert!(age > Span::ZERO && age < Span::from_seconds(1), "{age:?} old");
        assert!(sample.valid && sample.error < Span::from_nanos(100_000), "{sample:?}");
        let played = Instant::from_unix(first_s, 0)..Instant::from_unix(first_s + LOG_S, 0);
        assert!(played.contains(&sample.utc), "{sample:?} isn't in the log");
        if let Some(previous) = previous {
            // One second of the log, played in a second.
            assert_eq!(sample.utc - previous.utc, Span::from_seconds(1));
            let apart = rate.span_of(sample.at.since(previous.at));
            assert!((apart - Span::from_seconds(1)).abs() < Span::from_nanos(400_000_000), "{apart:?}");
        }
        log(&format!("gpsd: {:?}, {} µs old when told", sample.utc, age.as_nanos() / 1_000));
        previous = Some(sample);
    }
}
