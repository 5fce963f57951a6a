//! A receiver of the test's own, on real lines: pulses on the parallel port, sentences on the serial line.
//!
//! Its time is `CLOCK_MONOTONIC_RAW` at a rate of its own from a second of its own, so that it says something that the machine's
//! clock doesn't know, and the test knows true time at any moment. To the server it is as if the machine's oscillator were off
//! by that rate. What it can't show is an oscillator that wanders: the raw clock and the counter are one.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use maser_sys::kernel_clock::{KernelClock, read};
use maser_sys::pps::{Edge, PpsDevice};

use crate::messages::{burst, burst_inserted, nav_pvt};
use crate::peers::host::run;
use crate::pulses::Pulser;

/// The line's two ends.
pub(crate) const LINE: &str = "/dev/ttyS1";
const FAR_END: &str = "/dev/ttyS2";
/// Of the line.
pub(crate) const BAUD: i64 = 9_600;

const SECOND_NS: i64 = 1_000_000_000;
/// Sentences begin so long after their second.
const SENTENCE_DELAY_NS: i64 = 100_000_000;
/// As many as a UART's FIFO holds before it interrupts.
const CHUNK_OCTETS: usize = 8;
/// Ten bits at [`BAUD`].
const OCTET_NS: i64 = 10 * SECOND_NS / BAUD;
/// The other pulse of a second in which there are two.
const DOUBLE_DELAY_NS: i64 = 400_000_000;
/// A sleep ends late by less, on a machine that isn't stalled; the rest is spun.
const SPUN_NS: i64 = 3_000_000;

/// True time, as the receiver has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth {
    raw_ns: i64,
    unix_ns: i64,
    ppm: i64,
    leap: Option<Leap>,
}

/// A leap second that it goes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leap {
    /// The first second that isn't named by its count: the one that is inserted or left out.
    pub(crate) at_s: i64,
    /// 1 inserted, −1 deleted.
    pub(crate) seconds: i64,
}

impl Truth {
    /// Begins in the machine's second and some, `ppm` faster than the raw clock.
    fn begin(ppm: i64) -> Self {
        let ahead_ns = 3 * SECOND_NS + 271_828_183;
        Self::begin_at(ppm, read(KernelClock::Realtime) + ahead_ns, None)
    }

    fn begin_at(ppm: i64, unix_ns: i64, leap: Option<Leap>) -> Self {
        Self { raw_ns: read(KernelClock::MonotonicRaw), unix_ns, ppm, leap }
    }

    /// Nanoseconds of UTC since 1970 when the raw clock stands at `raw_ns`.
    pub(crate) fn at(&self, raw_ns: i64) -> i64 {
        let count_ns = self.count_at(raw_ns);
        count_ns - self.leapt_s(count_ns.div_euclid(SECOND_NS)) * SECOND_NS
    }

    /// The same without leap seconds: it never repeats or skips.
    pub(crate) fn count_at(&self, raw_ns: i64) -> i64 {
        let since = raw_ns - self.raw_ns;
        self.unix_ns + since + since * self.ppm / 1_000_000
    }

    /// The raw clock when the next second begins.
    pub(crate) fn next_second_raw_ns(&self) -> i64 {
        let second_ns = (self.count_now().div_euclid(SECOND_NS) + 1) * SECOND_NS;
        self.raw_ns + (second_ns - self.unix_ns) * 1_000_000 / (1_000_000 + self.ppm)
    }

    /// By how many seconds the count is past UTC in such a second of it.
    pub(crate) fn leapt_s(&self, count_s: i64) -> i64 {
        self.leap.filter(|leap| count_s >= leap.at_s).map_or(0, |leap| leap.seconds)
    }

    pub(crate) fn count_now(&self) -> i64 {
        self.count_at(read(KernelClock::MonotonicRaw))
    }

    /// What its sentences say of such a second.
    fn named(&self, count_s: i64) -> String {
        match self.leap {
            Some(Leap { at_s, seconds: 1.. }) if count_s == at_s => burst_inserted(count_s - 1),
            _ => burst(count_s - self.leapt_s(count_s)),
        }
    }

    /// Sleeps until a moment by the count, or a little longer.
    fn sleep_until(&self, count_ns: i64) {
        let left_ns = u64::try_from(count_ns - self.count_now());
        thread::sleep(left_ns.map_or(Duration::ZERO, Duration::from_nanos));
    }

    /// Waits for a moment by the count, and returns how late it is then.
    fn wait_until(&self, count_ns: i64) -> i64 {
        loop {
            let left_ns = count_ns - self.count_now();
            match u64::try_from(left_ns - SPUN_NS) {
                Ok(sleep_ns) => thread::sleep(Duration::from_nanos(sleep_ns)),
                Err(_) if left_ns <= 0 => return -left_ns,
                Err(_) => std::hint::spin_loop(),
            }
        }
    }
}

/// What a test does to it.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// No pulses.
    pub(crate) mute: AtomicBool,
    /// No sentences.
    pub(crate) speechless: AtomicBool,
    /// Two pulses a second.
    pub(crate) double: AtomicBool,
    /// UBX instead of NMEA.
    pub(crate) binary: AtomicBool,
    /// Sentences name a second that is so far off.
    pub(crate) wrong_s: AtomicI64,
}

/// The running receiver. Dropping it ends it.
pub(crate) struct Receiver {
    pub(crate) truth: Truth,
    pub(crate) faults: Arc<Faults>,
    /// How late its pulses were made, in nanoseconds.
    late_ns: Arc<Mutex<Vec<i64>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(crate) fn start(ppm: i64) -> Self {
        Self::of(Truth::begin(ppm))
    }

    /// In such a moment, `ppm` faster than the raw clock, through a leap second or none.
    pub(crate) fn start_at(ppm: i64, unix_ns: i64, leap: Option<Leap>) -> Self {
        Self::of(Truth::begin_at(ppm, unix_ns, leap))
    }

    fn of(truth: Truth) -> Self {
        // Raw: what is written goes out as it is, and nothing is echoed.
        run(Command::new("stty").args(["-F", FAR_END, "raw", "-echo", &BAUD.to_string()])).unwrap();
        let line = File::options().write(true).open(FAR_END).unwrap();
        let mut receiver = Self {
            truth,
            faults: Arc::default(),
            late_ns: Arc::default(),
            stop: Arc::default(),
            thread: None,
        };
        let (truth, faults) = (receiver.truth, receiver.faults.clone());
        let (late_ns, stop) = (receiver.late_ns.clone(), receiver.stop.clone());
        let thread = thread::spawn(move || tick(&truth, &faults, &late_ns, &stop, line));
        receiver.thread = Some(thread);
        receiver
    }

    /// How late pulses were made since the last call, sorted.
    pub(crate) fn take_late_ns(&self) -> Vec<i64> {
        let mut late_ns = std::mem::take(&mut *self.late_ns.lock().unwrap());
        late_ns.sort_unstable();
        late_ns
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A receiver that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// A plain reader of the pulses beside the server's: what the kernel's stamps of them are worth, whoever reads them.
pub(crate) struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<i64>>,
}

impl Reader {
    pub(crate) fn start(device: &Path, truth: Truth) -> Self {
        let mut device = PpsDevice::open(device, Edge::Assert).unwrap();
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut late_ns = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let Some(event) = device.fetch(Duration::from_millis(200)).unwrap() else { continue };
                let before = read(KernelClock::MonotonicRaw);
                let age_ns = read(KernelClock::Realtime) - event.realtime_ns;
                let raw_ns = before.midpoint(read(KernelClock::MonotonicRaw)) - age_ns;
                // After the nearest second.
                late_ns.push((truth.at(raw_ns) + SECOND_NS / 2).rem_euclid(SECOND_NS) - SECOND_NS / 2);
            }
            late_ns
        });
        Self { stop, thread }
    }

    /// How late pulses were by their stamps, sorted.
    pub(crate) fn late_ns(self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut late_ns = self.thread.join().unwrap();
        late_ns.sort_unstable();
        late_ns
    }
}

/// Nothing else runs where this thread wants to.
fn go_first() {
    let own = fs::read_link("/proc/thread-self").unwrap();
    let thread = own.file_name().unwrap();
    run(Command::new("chrt").args(["--fifo", "--pid", "50"]).arg(thread)).unwrap();
}

fn tick(truth: &Truth, faults: &Faults, late_ns: &Mutex<Vec<i64>>, stop: &AtomicBool, mut line: File) {
    let pulser = Pulser::open();
    go_first();
    let is = |fault: &AtomicBool| fault.load(Ordering::Relaxed);
    while !stop.load(Ordering::Relaxed) {
        let second = truth.count_now().div_euclid(SECOND_NS) + 1;
        let begins_ns = second * SECOND_NS;
        let late = truth.wait_until(begins_ns);
        if !is(&faults.mute) {
            pulser.pulse();
            late_ns.lock().unwrap().push(late);
        }
        truth.sleep_until(begins_ns + SENTENCE_DELAY_NS);
        if !is(&faults.speechless) {
            let named = second + faults.wrong_s.load(Ordering::Relaxed);
            // The emulated UART has a baud rate and takes no time: octets come when they would have passed a wire.
            let mut passed_ns = begins_ns + SENTENCE_DELAY_NS;
            let said = if is(&faults.binary) { nav_pvt(named) } else { truth.named(named).into_bytes() };
            for chunk in said.chunks(CHUNK_OCTETS) {
                passed_ns += OCTET_NS * i64::try_from(chunk.len()).unwrap();
                truth.sleep_until(passed_ns);
                line.write_all(chunk).unwrap();
            }
        }
        if is(&faults.double) {
            truth.wait_until(begins_ns + DOUBLE_DELAY_NS);
            pulser.pulse();
        }
    }
}
