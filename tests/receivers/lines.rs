//! Serial lines and pulse devices: what comes over a pty, and what is said of a device that isn't there.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Duration;

use maser::source::pps::{self, Edge, PpsSettings};
use maser::source::serial::{self, Protocol, SerialSettings};
use maser::source::{RETRY, Word};
use maser_core::discipline::{Observation, Sentence};
use maser_core::time::Instant;
use maser_sys::counter::Counter;
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};

use super::bench::{RETRY_PATIENCE, Told, drive, scratch};
use super::messages::{burst, nav_pvt, sentence};
use super::peers::log;

/// A second of no particular date.
const SECOND: i64 = 1_795_321_982;

/// The receiver's end of a pty whose other end has the name `path`.
fn receiver_at(path: &Path) -> PtyMaster {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let _ = fs::remove_file(path);
    symlink(ptsname_r(&master).unwrap(), path).unwrap();
    master
}

fn settings(path: &Path, protocol: Protocol) -> SerialSettings {
    SerialSettings { device: path.to_owned(), baud: None, protocol, configure: false }
}

fn sentence_of(told: &Told) -> Sentence {
    match told.observation() {
        Observation::Sentence(sentence) => sentence,
        other @ (Observation::Pulse(_)
        | Observation::Sawtooth(_)
        | Observation::Time(_)
        | Observation::Tai(_)
        | Observation::Exchange(_)) => {
            panic!("not a sentence: {other:?}")
        }
    }
}

#[test]
fn sentences_name_their_second_until_the_line_hangs_up_and_again_when_it_is_back() {
    let path = scratch("line");
    let counter = Counter::monotonic_raw();
    let mut receiver = receiver_at(&path);
    let settings = settings(&path, Protocol::Nmea);
    drive(
        |teller| serial::run(&settings, counter, teller),
        |told| {
            assert!(told.working().ends_with("line: open"));
            let mut delays_ns = Vec::new();
            for second in SECOND..SECOND + 20 {
                let before = counter.now();
                receiver.write_all(burst(second).as_bytes()).unwrap();
                let sentence = sentence_of(told);
                assert_eq!(sentence.utc, Instant::from_unix(second, 0));
                assert!(sentence.valid && !sentence.of_next_pulse);
                let delay_ns = sentence.at.since(before);
                assert!((0..2_000_000_000).contains(&delay_ns), "{delay_ns}");
                delays_ns.push(delay_ns);
            }
            delays_ns.sort_unstable();
            log(&format!("sentences: {} µs after they were written (median)", delays_ns[10] / 1_000));
            receiver
                .write_all(sentence("GPZDA,201530.00,04,07,2026,00,00").replace("04,", "05,").as_bytes())
                .unwrap();
            assert!(told.refused().starts_with("a sentence with the checksum"));
            drop(receiver);
            assert!(told.failed().ends_with("hung up; is the receiver still connected?"));
            // While the receiver is away the next attempt says what is missing, and later ones nothing more.
            let gone = told.next(RETRY_PATIENCE);
            assert!(matches!(&gone, Some(Word::Failed(text)) if text.contains("no such device")), "{gone:?}");
            let mut receiver = receiver_at(&path);
            told.working();
            receiver.write_all(burst(SECOND + 60).as_bytes()).unwrap();
            assert_eq!(sentence_of(told).utc, Instant::from_unix(SECOND + 60, 0));
        },
    );
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_sentence_begins_with_its_first_octet() {
    const BAUD: u32 = 4_800;
    const CHUNK_OCTETS: usize = 8;
    let chunk_lasts = Duration::from_nanos(CHUNK_OCTETS as u64 * 10_000_000_000 / u64::from(BAUD));
    let path = scratch("slow-line");
    let counter = Counter::monotonic_raw();
    let mut receiver = receiver_at(&path);
    let settings = SerialSettings { baud: Some(BAUD), ..settings(&path, Protocol::Nmea) };
    drive(
        |teller| serial::run(&settings, counter, teller),
        |told| {
            told.working();
            let mut offs_ns = Vec::new();
            for second in SECOND..SECOND + 5 {
                thread::sleep(Duration::from_millis(50));
                let began = counter.now();
                // As a UART delivers: each chunk once the octets of it have passed the wire.
                for chunk in burst(second).as_bytes().chunks(CHUNK_OCTETS) {
                    thread::sleep(chunk_lasts);
                    receiver.write_all(chunk).unwrap();
                }
                offs_ns.push(sentence_of(told).at.since(began));
            }
            offs_ns.sort_unstable();
            log(&format!("first octets: {} µs after they began (median)", offs_ns[2] / 1_000));
            // A sentence takes 150 ms: it isn't told by its end.
            assert!((-1_000_000..30_000_000).contains(&offs_ns[2]), "{offs_ns:?}");
        },
    );
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_u_blox_receiver_is_configured_and_heard() {
    let path = scratch("u-blox");
    let counter = Counter::monotonic_raw();
    let mut receiver = receiver_at(&path);
    let settings = SerialSettings { configure: true, ..settings(&path, Protocol::Ubx) };
    drive(
        |teller| serial::run(&settings, counter, teller),
        |told| {
            told.working();
            // CFG-MSG: NAV-PVT once every solution.
            let mut command = [0; 11];
            receiver.read_exact(&mut command).unwrap();
            assert_eq!(command, [0xB5, 0x62, 0x06, 0x01, 0x03, 0x00, 0x01, 0x07, 0x01, 0x13, 0x51]);
            // Sentences come on the same line, and aren't this driver's.
            receiver.write_all(burst(SECOND).as_bytes()).unwrap();
            receiver.write_all(&nav_pvt(SECOND + 1)).unwrap();
            let sentence = sentence_of(told);
            assert_eq!((sentence.utc, sentence.valid), (Instant::from_unix(SECOND + 1, 0), true));
            let mut spoilt = nav_pvt(SECOND + 2);
            spoilt[20] ^= 1;
            receiver.write_all(&spoilt).unwrap();
            assert!(told.refused().starts_with("a UBX frame with the checksum"));
        },
    );
    fs::remove_file(&path).unwrap();
}

#[test]
fn what_is_no_device_is_told_once() {
    let counter = Counter::monotonic_raw();
    let pulses = PpsSettings { device: "/dev/null".into(), edge: Edge::Assert };
    let line = settings(Path::new("/dev/no-such-line"), Protocol::Nmea);
    let once = |told: &Told, expected: &str| {
        let failed = told.failed();
        assert!(failed.starts_with(expected), "{failed}");
        assert_eq!(told.next(RETRY + Duration::from_secs(2)), None, "said again");
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            drive(
                |teller| pps::run(&pulses, counter, teller),
                |told| once(told, "/dev/null: not a PPS device; name one of /dev/pps*"),
            );
        });
        drive(
            |teller| serial::run(&line, counter, teller),
            |told| once(told, "/dev/no-such-line: no such device; connect the receiver"),
        );
    });
}
