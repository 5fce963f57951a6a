//! gpsd's two ways of handing over time, with writers of the test's own: known samples, known moments.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

use maser::source::gpsd::{self, GpsdSettings};
use maser_core::discipline::{LeapClaim, Observation, Pulse, TimeSample};
use maser_core::time::Span;
use maser_sys::calibration::choose;
use maser_sys::clock::Bracket;
use maser_sys::counter::Counter;
use maser_sys::ntp_shm::{Writer, Written};

use super::bench::{Told, drive, now, off_ns, scratch, spread};
use super::peers::log;

/// The receiver is so far ahead of the machine's clock.
const AHEAD_NS: i64 = 2_500_000_000;

/// A sample is put where it belongs within this, in the median; a stall between the test's reading and the driver's
/// can spoil one.
const OFF_NS_MAX: i64 = 2_000;
const OFF_NS_MAX_ONCE: i64 = 50_000;

/// Gpsd's record: of a moment of `CLOCK_REALTIME`, true time less that clock's.
fn record(clock_ns: i64, offset_s: f64, pulse: i32) -> Vec<u8> {
    let mut record = (clock_ns.div_euclid(1_000_000_000)).to_le_bytes().to_vec();
    record.extend((clock_ns.rem_euclid(1_000_000_000) / 1_000).to_le_bytes());
    record.extend(offset_s.to_le_bytes());
    record.extend(pulse.to_le_bytes());
    record.extend([0; 8]);
    record.extend(0x534F_434B_u32.to_le_bytes());
    record
}

fn sample_of(told: &Told) -> TimeSample {
    match told.observation() {
        Observation::Time(sample) => sample,
        other @ (Observation::Pulse(_)
        | Observation::Sawtooth(_)
        | Observation::Sentence(_)
        | Observation::Tai(_)
        | Observation::Exchange(_)) => {
            panic!("not a sample: {other:?}")
        }
    }
}

fn pulse_of(told: &Told) -> Pulse {
    match told.observation() {
        Observation::Pulse(pulse) => pulse,
        other @ (Observation::Time(_)
        | Observation::Sawtooth(_)
        | Observation::Sentence(_)
        | Observation::Tai(_)
        | Observation::Exchange(_)) => {
            panic!("not a pulse: {other:?}")
        }
    }
}

fn expect_right(what: &str, offs_ns: Vec<i64>) {
    let (median, most) = spread(offs_ns);
    log(&format!("{what}: off by {median} ns (median), {most} ns (most)"));
    assert!(median <= OFF_NS_MAX && most <= OFF_NS_MAX_ONCE, "{what}: {median} {most}");
}

/// A sample is off by no more than it says and the test's own reading leaves open.
fn expect_within(off_ns: i64, error: Span, counter: &Counter, close: &Bracket) {
    let readings = error + counter.nominal_rate().span_of(close.error_ticks.into());
    // Each of the values is cut off to a nanosecond.
    assert!(off_ns.abs() <= readings.as_nanos() + 3, "off by {off_ns} ns, more than {readings:?}");
}

#[test]
fn samples_over_the_socket_are_put_where_they_belong() {
    for counter in [Counter::monotonic_raw(), choose(&[0]).counter] {
        put_where_they_belong(counter);
    }
}

fn put_where_they_belong(counter: Counter) {
    let path = scratch("gpsd.sock");
    let settings = GpsdSettings::Socket(path.clone());
    drive(
        |teller| gpsd::run(&settings, counter, teller),
        |told| {
            assert!(told.working().ends_with("gpsd.sock: waiting for samples"));
            let writer = UnixDatagram::unbound().unwrap();
            writer.connect(&path).unwrap();
            let mut offs_ns = Vec::new();
            for delay_ms in (0..25).map(|round| round * 13 % 200) {
                let moment = now(&counter);
                thread::sleep(Duration::from_millis(delay_ms));
                let clock_ns = moment.nanos / 1_000 * 1_000;
                writer.send(&record(clock_ns, 2.5, 0)).unwrap();
                let sample = sample_of(told);
                assert_eq!(sample.utc.unix_nanos(), clock_ns + AHEAD_NS);
                assert_eq!((sample.valid, sample.leap), (true, LeapClaim::Unknown));
                assert!(sample.error > Span::ZERO && sample.error < Span::from_nanos(100_000), "{sample:?}");
                let off = off_ns(&counter, sample.at, clock_ns, &moment);
                expect_within(off, sample.error, &counter, &moment);
                offs_ns.push(off);
            }
            expect_right(&format!("samples over the socket, {}", counter.kind()), offs_ns);
            pulses(told, &counter, &writer);
            writer.send(b"no record").unwrap();
            assert!(told.refused().starts_with("a record of 9 octets, not 40"));
            writer.send(&record(now(&counter).nanos - 2_000_000_000, 2.5, 0)).unwrap();
            assert_eq!(told.refused(), "a sample: its stamp is more than a second old");
            fs::remove_file(&path).unwrap();
            assert!(told.failed().ends_with("somebody removed the socket"));
            told.working();
            assert!(path.exists());
        },
    );
    assert!(!path.exists(), "the socket's file is left");
}

/// A pulse is told with the moment at which its second began, on whichever side of the record's moment.
fn pulses(told: &Told, counter: &Counter, writer: &UnixDatagram) {
    for early_ms in [-300, -1, 0, 40, 250] {
        let moment = now(counter);
        let clock_ns = moment.nanos / 1_000_000 * 1_000_000 - 400_000_000;
        let began_ns = clock_ns - early_ms * 1_000_000;
        // By the corrected clock the second began at `began_ns`, so the true fraction at `clock_ns` is `early_ms`.
        let fraction_ns = (began_ns.rem_euclid(1_000_000_000)) as f64;
        writer.send(&record(clock_ns, -fraction_ns / 1e9, 1)).unwrap();
        let off = off_ns(counter, pulse_of(told).at, began_ns, &moment);
        assert!(off.abs() < OFF_NS_MAX_ONCE, "{early_ms} ms: {off}");
    }
}

#[test]
fn a_segment_hands_over_each_value_once() {
    let unit = u8::try_from(150 + std::process::id() % 50).unwrap();
    let counter = Counter::monotonic_raw();
    for mode in [1, 0] {
        let writer = Writer::attach(unit, mode).unwrap();
        // Left by a server that ran before: it is old.
        writer.write(&Written { clock_ns: 1, receive_ns: 1, leap: 0, precision: -20 });
        let settings = GpsdSettings::Shm(unit);
        drive(
            |teller| gpsd::run(&settings, counter, teller),
            |told| {
                assert_eq!(told.working(), format!("segment {unit}: waiting for samples"));
                let mut offs_ns = Vec::new();
                // Until the driver has looked at what was there.
                thread::sleep(Duration::from_millis(300));
                for round in 0..12 {
                    let moment = now(&counter);
                    let (clock_ns, leap) = (moment.nanos + AHEAD_NS, round % 3);
                    writer.write(&Written { clock_ns, receive_ns: moment.nanos, leap, precision: -20 });
                    let sample = sample_of(told);
                    assert_eq!(sample.utc.unix_nanos(), clock_ns);
                    let claims = [LeapClaim::Unknown, LeapClaim::Insert, LeapClaim::Delete];
                    assert_eq!(sample.leap, claims[usize::try_from(leap).unwrap()]);
                    let off = off_ns(&counter, sample.at, moment.nanos, &moment);
                    expect_within(off, sample.error, &counter, &moment);
                    offs_ns.push(off);
                    assert_eq!(told.next(Duration::from_millis(250)), None, "told again");
                }
                assert_eq!(
                    writer.is_valid(),
                    mode == 1,
                    "mode 0 takes the flag back, mode 1 leaves it to others"
                );
                expect_right(&format!("samples through a segment of mode {mode}"), offs_ns);
                writer.write(&Written { clock_ns: 1, receive_ns: 1, leap: 3, precision: -20 });
                assert_eq!(told.refused(), "a sample from a writer that isn't synchronised");
            },
        );
    }
}
