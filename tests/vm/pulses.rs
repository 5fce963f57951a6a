//! A real PPS device: edges that the test makes are captured by the kernel, read by `maser_sys::pps` and told by the driver.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use maser::source::pps::{self, PpsSettings};
use maser_core::discipline::Observation;
use maser_sys::calibration::choose;
use maser_sys::clock::Bracket;
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{KernelClock, read};
use maser_sys::pps::{Capabilities, Edge, PpsDevice, PpsEvent};

use crate::bench::{Told, drive, now, off_ns};
use crate::{is_vm_or_skip, measured};

/// The emulator takes an interrupt within it, usually 30 µs; a machine that others use stalls.
const CAPTURE_NS_MAX: i64 = 20_000_000;
const FETCH_LIMIT: Duration = Duration::from_secs(2);

/// An emulator that is short of processors takes as long to deliver an interrupt.
const SEEN_NS_MAX: i64 = 200_000_000;

/// Who makes edges: the parallel port, past its driver; and where its driver says how many it has seen.
pub(crate) struct Pulser {
    ports: File,
    seen: PathBuf,
}

/// `CLOCK_REALTIME` before and after a pulse was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) before_ns: i64,
    pub(crate) after_ns: i64,
}

impl Pulser {
    const STATUS: u64 = 0x379;
    const CONTROL: u64 = 0x37A;

    pub(crate) fn open() -> Self {
        let ports = File::options().read(true).write(true).open("/dev/port").unwrap();
        let device = device();
        let seen = Path::new("/sys/class/pps").join(device.file_name().unwrap()).join("assert");
        let pulser = Self { ports, seen };
        pulser.quieten();
        pulser
    }

    pub(crate) fn pulse(&self) -> Made {
        let made = self.edge();
        self.quieten();
        made
    }

    /// The same, waited for: taken back before its driver has seen it, it would never have been, where the emulator has two
    /// processors and is short of them. Looking takes some 40 µs, before the pulse and after it.
    fn pulse_seen(&self) -> Made {
        let seen = self.seen();
        let made = self.edge();
        let given_up_ns = read(KernelClock::MonotonicRaw) + SEEN_NS_MAX;
        while self.seen() == seen && read(KernelClock::MonotonicRaw) < given_up_ns {
            thread::yield_now();
        }
        self.quieten();
        made
    }

    /// The strobe goes with the interrupt enabled: the emulated device then says that it took the octet, which is an interrupt.
    fn edge(&self) -> Made {
        self.ports.write_all_at(&[0x1D], Self::CONTROL).unwrap();
        let before_ns = read(KernelClock::Realtime);
        self.ports.write_all_at(&[0x1C], Self::CONTROL).unwrap();
        let after_ns = read(KernelClock::Realtime);
        Made { before_ns, after_ns }
    }

    /// When the driver last saw an edge, and how many it has seen.
    fn seen(&self) -> String {
        fs::read_to_string(&self.seen).unwrap()
    }

    /// Reading the status takes the interrupt back; nobody else does, since the driver is told not to wait for the other edge.
    fn quieten(&self) {
        self.ports.read_exact_at(&mut [0], Self::STATUS).unwrap();
    }
}

/// The device of the parallel port: numbers go by the order in which drivers were loaded.
pub(crate) fn device() -> PathBuf {
    let of_port = |path: &Path| fs::read_to_string(path.join("name")).unwrap().trim() == "pps_parport";
    let entries = fs::read_dir("/sys/class/pps").unwrap();
    let entry =
        entries.map(|entry| entry.unwrap().path()).find(|path| of_port(path)).expect("pps_parport is loaded");
    PathBuf::from("/dev").join(entry.file_name().unwrap())
}

#[test]
fn each_edge_is_fetched_once_with_its_own_stamp() {
    if !is_vm_or_skip("edges of a PPS device") {
        return;
    }
    let pulser = Pulser::open();
    let mut device = PpsDevice::open(&device(), Edge::Assert).unwrap();
    assert_eq!(device.capabilities(), Capabilities { assert: true, clear: true });
    // One from before the test, if there was one.
    let last = device.fetch(Duration::ZERO).unwrap().map_or(0, |event| event.sequence);
    let mut late_ns = Vec::new();
    for number in 1..=20 {
        let made = pulser.pulse_seen();
        let event = device.fetch(FETCH_LIMIT).unwrap().expect("an edge was made");
        assert_eq!(event.sequence, last + number);
        late_ns.push(stamped_within(event, made));
        assert_eq!(device.fetch(Duration::from_millis(20)).unwrap(), None, "told again");
    }
    late_ns.sort_unstable();
    measured(&format!(
        "the kernel stamps a pulse {} us after it was made (median), {} us (most)",
        late_ns[10] / 1_000,
        late_ns[19] / 1_000
    ));
    // Several before the reader comes: the last one's stamp, and by the number how many there were.
    let made: Vec<_> = (0..3).map(|_| pulser.pulse_seen()).collect();
    let event = device.fetch(FETCH_LIMIT).unwrap().expect("edges were made");
    assert_eq!(event.sequence, last + 23);
    stamped_within(event, made[2]);
}

/// How long after it was made a pulse was stamped; fails where the stamp isn't that pulse's.
fn stamped_within(event: PpsEvent, made: Made) -> i64 {
    let late_ns = event.realtime_ns - made.before_ns;
    assert!((0..made.after_ns - made.before_ns + CAPTURE_NS_MAX).contains(&late_ns), "{event:?}, {made:?}");
    late_ns
}

#[test]
fn a_fetch_wakes_for_an_edge_and_not_without_one() {
    if !is_vm_or_skip("waiting for a PPS device") {
        return;
    }
    let pulser = Pulser::open();
    let mut device = PpsDevice::open(&device(), Edge::Assert).unwrap();
    while device.fetch(Duration::ZERO).unwrap().is_some() {}
    let begun_ns = read(KernelClock::Monotonic);
    assert_eq!(device.fetch(Duration::from_millis(300)).unwrap(), None);
    let waited_ns = read(KernelClock::Monotonic) - begun_ns;
    assert!((290_000_000..2_000_000_000).contains(&waited_ns), "{waited_ns}");
    let (waits, waiting) = channel();
    thread::scope(|scope| {
        let fetched = scope.spawn(move || {
            waits.send(()).unwrap();
            device.fetch(Duration::from_secs(10)).unwrap()
        });
        waiting.recv().unwrap();
        thread::sleep(Duration::from_millis(300));
        let made = pulser.pulse_seen();
        stamped_within(fetched.join().unwrap().expect("an edge was made"), made);
    });
}

fn pulse_of(told: &Told) -> maser_core::discipline::Pulse {
    match told.observation() {
        Observation::Pulse(pulse) => pulse,
        other @ (Observation::Time(_)
        | Observation::Tai(_)
        | Observation::Sawtooth(_)
        | Observation::Sentence(_)
        | Observation::Exchange(_)) => {
            panic!("not a pulse: {other:?}")
        }
    }
}

/// A pulse is where it was made, by readings of the counter around it.
fn expect_at(counter: &Counter, at: maser_core::time::Ticks, made: Made, close: &Bracket) -> i64 {
    let off = off_ns(counter, at, made.before_ns, close);
    assert!((-100_000..CAPTURE_NS_MAX).contains(&off), "{off} ns, {made:?}");
    off
}

#[test]
fn the_driver_tells_lost_and_doubled_pulses_as_they_are() {
    if !is_vm_or_skip("the driver of a PPS device") {
        return;
    }
    let pulser = Pulser::open();
    let counter = choose(&[0]).counter;
    let settings = PpsSettings { device: device(), edge: Edge::Assert };
    drive(
        |teller| pps::run(&settings, counter, teller),
        |told| {
            assert!(told.working().contains("/dev/pps"));
            // The edge captured last may be older than the driver.
            thread::sleep(Duration::from_millis(300));
            while told.next(Duration::ZERO).is_some() {}
            let tell = |pause_ms: u64| {
                thread::sleep(Duration::from_millis(pause_ms));
                let close = now(&counter);
                let made = pulser.pulse_seen();
                let pulse = pulse_of(told);
                (expect_at(&counter, pulse.at, made, &close), pulse)
            };
            let (_, first) = tell(500);
            let mut last = first;
            // In their second, one that was lost, and one that came twice: the driver judges none of them.
            for pause_ms in [500, 1_000, 100, 400] {
                let (_, pulse) = tell(pause_ms);
                let rate = counter.nominal_rate();
                let apart_ms = rate.span_of(pulse.at.since(last.at)).as_nanos() / 1_000_000;
                let pause_ms = i64::try_from(pause_ms).unwrap();
                assert!((pause_ms - 30..pause_ms + 300).contains(&apart_ms), "{apart_ms} of {pause_ms}");
                last = pulse;
            }
            assert_eq!(told.next(Duration::from_millis(300)), None, "no edge, no pulse");
        },
    );
}
