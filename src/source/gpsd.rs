//! gpsd, and whatever else speaks its two ways of handing time to an NTP server.
//!
//! Over a Unix datagram socket (chrony's SOCK protocol, where we own the socket and gpsd writes to it), or through one
//! of NTP's shared memory segments, of which every new value is told once. Either pairs a moment of the machine's clock
//! with true time; the moment is put on the counter, the rest is the source's word.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maser_core::discipline::{LeapClaim, Observation, Pulse, TimeSample};
use maser_core::refclock::{GpsdFault, GpsdSample, SHM_LENGTH, SOCK_LENGTH, parse_shm, parse_sock};
use maser_core::time::{Instant, Utc};
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::ntp_shm::Segment;

use crate::hands::gpsd_socket::READ_TIMEOUT;

use super::attempt::keep_working;
use super::realtime::{RealtimeStamps, refusal};
use super::{RETRY, STOP_LOOKED_AT, Teller, Word};

/// Where samples come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GpsdSettings {
    /// The path of our socket; gpsd writes to `/run/chrony.DEVICE.sock` if it finds it when it starts.
    Socket(PathBuf),
    /// The number of a shared memory segment.
    Shm(u8),
}

/// How often a segment is looked at: a sample isn't the worse for its age, but the clock learns of it so much later.
const SHM_PERIOD: Duration = Duration::from_millis(100);
/// A segment that stays as it is for so long may have been replaced by another.
const SHM_SILENCE: Duration = RETRY;

/// So long without a first datagram is said: gpsd may have started before us. A receiver that has no fix yet is silent too.
const UNHEARD_SAID_NS: i64 = 30_000_000_000;

/// A socket that is silent for 1 s may have lost its file.
const SILENCES_BETWEEN_LOOKS: u32 = 5;
const _: () = assert!(READ_TIMEOUT.as_millis() * SILENCES_BETWEEN_LOOKS as u128 == 1_000);
const _: () = assert!(READ_TIMEOUT.as_millis() <= STOP_LOOKED_AT.as_millis());

const _: () = assert!(SHM_LENGTH == maser_sys::ntp_shm::SEGMENT_LENGTH);

/// Tells of every sample until the driver is to end.
pub fn run(settings: &GpsdSettings, counter: Counter, teller: &mut Teller<'_>) {
    match settings {
        GpsdSettings::Socket(path) => {
            let name = path.display();
            let (hands, source) = (teller.hands(), teller.source());
            let open = || match hands.bind_gpsd(source, path) {
                Ok(socket) => Ok((socket, format!("{name}: waiting for samples"))),
                Err(error) => Err(format!("{name}: {error}")),
            };
            keep_working(teller, open, |socket, teller| {
                receive(&socket, path, UNHEARD_SAID_NS, counter, teller)
                    .map_err(|error| format!("{name}: {error}"))
            });
        }
        GpsdSettings::Shm(unit) => {
            let attach = || Segment::attach(*unit).map_err(|error| format!("segment {unit}: {error}"));
            let open = || Ok((attach()?, format!("segment {unit}: waiting for samples")));
            keep_working(teller, open, |segment, teller| poll(segment, attach, counter, teller));
        }
    }
}

/// Whether anything has come over a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// Not yet, and it is said when the monotonic clock has come to this, ns.
    Awaited { until_ns: i64 },
    /// Not yet, which has been said.
    Missed,
    /// It has.
    Heard,
}

fn receive(
    socket: &UnixDatagram,
    path: &Path,
    unheard_said_ns: i64,
    counter: Counter,
    teller: &mut Teller<'_>,
) -> Result<(), String> {
    let name = path.display();
    let mut stamps = RealtimeStamps::new(counter);
    let monotonic_ns = || kernel_clock::read(KernelClock::Monotonic);
    let mut first = First::Awaited { until_ns: monotonic_ns() + unheard_said_ns };
    // An octet more than a record has, so that what is longer is known from what is cut.
    let mut record = [0; SOCK_LENGTH + 1];
    let mut silences: u32 = 0;
    while !teller.is_stopped() {
        let received = socket.recv(&mut record);
        stamps.look();
        match received {
            Ok(length) => {
                silences = 0;
                if first == First::Missed {
                    teller.tell(Word::Working(format!("{name}: samples come")));
                }
                first = First::Heard;
                teller.tell(match parse_sock(record.get(..length).unwrap_or_default()) {
                    Ok(sample) => told_of_socket(&sample, &stamps),
                    Err(fault) => Word::Refused(why_refused(fault)),
                });
            }
            Err(error) if is_silence(&error) => {
                silences += 1;
                let is_looked_at = silences.is_multiple_of(SILENCES_BETWEEN_LOOKS);
                if is_looked_at && !teller.hands().is_gpsd_current(teller.source(), path) {
                    return Err("somebody removed the socket".to_owned());
                }
                if let First::Awaited { until_ns } = first
                    && monotonic_ns() >= until_ns
                {
                    first = First::Missed;
                    teller.tell(Word::Failed(format!(
                        "{name}: nothing has come yet: gpsd looks for the socket only when it starts: restart gpsd if \
                         it was started before maser; and see that it has a fix"
                    )));
                }
            }
            Err(error) => return Err(format!("receiving failed: {error}")),
        }
    }
    Ok(())
}

fn is_silence(error: &io::Error) -> bool {
    [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted].contains(&error.kind())
}

fn told_of_socket(sample: &GpsdSample, stamps: &RealtimeStamps) -> Word {
    let utc = Instant::from_unix_nanos(sample.clock_ns) + sample.offset;
    if !sample.is_pulse {
        return told_time(sample.clock_ns, utc, sample.leap, stamps);
    }
    // The second began where the corrected clock stood at a whole one.
    match stamps.place(sample.clock_ns - past_second_ns(utc)) {
        Ok(placed) => Word::Observed(Observation::Pulse(Pulse { at: placed.at, error: placed.error })),
        Err(fault) => Word::Refused(format!("a pulse: {}", refusal(fault))),
    }
}

/// How long after the nearest whole second; negative before it.
fn past_second_ns(utc: Instant<Utc>) -> i64 {
    const SECOND_NS: i64 = 1_000_000_000;
    (utc.unix_nanos() + SECOND_NS / 2).rem_euclid(SECOND_NS) - SECOND_NS / 2
}

fn told_time(clock_ns: i64, utc: Instant<Utc>, leap: LeapClaim, stamps: &RealtimeStamps) -> Word {
    match stamps.place(clock_ns) {
        Ok(placed) => Word::Observed(Observation::Time(TimeSample {
            at: placed.at,
            utc,
            error: placed.error,
            valid: true,
            leap,
        })),
        Err(fault) => Word::Refused(format!("a sample: {}", refusal(fault))),
    }
}

fn poll(
    mut segment: Segment,
    attach: impl Fn() -> Result<Segment, String>,
    counter: Counter,
    teller: &mut Teller<'_>,
) -> Result<(), String> {
    let mut stamps = RealtimeStamps::new(counter);
    // What was there before we came is old.
    let mut last = segment.read();
    let mut unchanged = Duration::ZERO;
    while !teller.is_stopped() {
        teller.pause(SHM_PERIOD);
        let copy = segment.read();
        stamps.look();
        if let Some(record) = copy.filter(|copy| last.is_none_or(|last| values(&last) != values(copy))) {
            (last, unchanged) = (copy, Duration::ZERO);
            teller.tell(match parse_shm(&record) {
                Ok(sample) => told_time(sample.receive_ns, sample.utc, sample.leap, &stamps),
                Err(fault) => Word::Refused(why_refused(fault)),
            });
        } else {
            unchanged += SHM_PERIOD;
        }
        if unchanged >= SHM_SILENCE {
            unchanged = Duration::ZERO;
            if !segment.is_current() {
                segment = attach()?;
            }
        }
    }
    Ok(())
}

/// What makes a value new: all but the mode, and the count, which other readers raise too.
fn values(record: &[u8; SHM_LENGTH]) -> &[u8] {
    record.split_at(8).1
}

/// Why a record isn't used, for people.
fn why_refused(fault: GpsdFault) -> String {
    match fault {
        GpsdFault::Empty => "an empty segment".to_owned(),
        GpsdFault::Length(length) => {
            format!("a record of {length} octets, not {SOCK_LENGTH}: a 32-bit program's?")
        }
        GpsdFault::Magic(magic) => {
            format!("a record marked {magic:#010x}, which isn't the SOCK protocol's mark")
        }
        GpsdFault::Mode(mode) => format!("a segment of mode {mode}, which nobody has defined"),
        GpsdFault::Clock => "a sample with a time that isn't one".to_owned(),
        GpsdFault::Offset => "a sample with an offset that isn't one".to_owned(),
        GpsdFault::Unsynchronised => "a sample from a writer that isn't synchronised".to_owned(),
        GpsdFault::Leap(leap) => format!("a sample with the leap indicator {leap}, which nobody has defined"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{REPORTS_MAX, Report};
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::sync_channel;
    use std::thread;

    #[test]
    fn the_nearest_second_is_found_on_either_side() {
        let past = |nanos: i64| past_second_ns(Instant::from_unix_nanos(1_795_000_000_000_000_000 + nanos));
        assert_eq!([0, 400_000_000, 600_000_000, 999_999_999].map(past), [0, 400_000_000, -400_000_000, -1]);
    }

    #[test]
    fn a_socket_that_nobody_writes_to_is_told_once() {
        const SAID_NS: i64 = 300_000_000;
        let path = std::env::temp_dir().join(format!("maser-gpsd-unheard-{}", std::process::id()));
        let stop = AtomicBool::new(false);
        let (reports, told) = sync_channel(REPORTS_MAX);
        let next = |limit_ms| {
            let report: Option<Report> = told.recv_timeout(Duration::from_millis(limit_ms)).ok();
            report.map(|report| report.word)
        };
        thread::scope(|scope| {
            let mut teller = Teller::new(0, reports, &stop);
            let socket = teller.hands().bind_gpsd(0, &path).unwrap();
            let named = &path;
            let counter = Counter::monotonic_raw();
            let _running = scope.spawn(move || receive(&socket, named, SAID_NS, counter, &mut teller));
            let (first, again) = (next(5_000), next(1_000));
            let gpsd = UnixDatagram::unbound().unwrap();
            gpsd.send_to(b"rubbish", &path).unwrap();
            let (came, refused, after) = (next(5_000), next(5_000), next(1_000));
            // Before anything is judged, or a failure would wait for the driver for ever.
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            let Some(Word::Failed(why)) = first else { panic!("{first:?}") };
            assert!(why.starts_with(path.to_str().unwrap()) && why.contains("restart gpsd"), "{why}");
            assert_eq!(again, None, "once");
            assert!(matches!(came, Some(Word::Working(_))), "{came:?}");
            assert!(matches!(refused, Some(Word::Refused(_))), "{refused:?}");
            assert_eq!(after, None, "silence later is another matter");
        });
    }
}
