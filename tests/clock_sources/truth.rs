//! The time that the test holds to be true, and a receiver that tells it.
//!
//! True time is 2.5 s ahead of the machine's clock at the start and runs 37 ppm fast against `CLOCK_MONOTONIC_RAW`, so
//! that whoever serves the machine's clock, or doesn't learn the counter's frequency, is found out.

use maser_sys::kernel_clock::{KernelClock, read};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const AHEAD_NS: i64 = 2_500_000_000;
const FAST_PPM: i64 = 37;
/// Standard deviation of what the receiver says.
const JITTER_NS: f64 = 1_000.0;
/// A moment is read so often, and the narrowest reading taken.
const READINGS: usize = 8;

/// True time as a line over `CLOCK_MONOTONIC_RAW`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth {
    raw_ns: i64,
    true_ns: i64,
}

/// Both clocks of one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) raw_ns: i64,
    pub(crate) realtime_ns: i64,
    width_ns: i64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let readings = (0..READINGS).map(|_| {
            let before = read(KernelClock::MonotonicRaw);
            let realtime_ns = read(KernelClock::Realtime);
            let width_ns = read(KernelClock::MonotonicRaw) - before;
            Self { raw_ns: before + width_ns / 2, realtime_ns, width_ns }
        });
        readings.min_by_key(|moment| moment.width_ns).expect("some readings")
    }
}

impl Truth {
    pub(crate) fn beginning_now() -> Self {
        let now = Moment::now();
        Self { raw_ns: now.raw_ns, true_ns: now.realtime_ns + AHEAD_NS }
    }

    /// True time at a moment of `CLOCK_REALTIME` shortly before `now`.
    pub(crate) fn at_realtime(&self, realtime_ns: i64, now: Moment) -> i64 {
        let passed = now.raw_ns - self.raw_ns;
        let now_ns = self.true_ns + passed + passed / 1_000_000 * FAST_PPM;
        now_ns - (now.realtime_ns - realtime_ns)
    }

    /// How far true time is ahead of the machine's clock.
    pub(crate) fn ahead_ns(&self, now: Moment) -> i64 {
        self.at_realtime(now.realtime_ns, now) - now.realtime_ns
    }
}

/// Writes gpsd's SOCK records for as long as it lives, except while it has no antenna.
pub(crate) struct Receiver<'a> {
    pub(crate) truth: Truth,
    pub(crate) socket: PathBuf,
    pub(crate) antenna: &'a AtomicBool,
    pub(crate) end: &'a AtomicBool,
}

impl Receiver<'_> {
    /// A record a second.
    pub(crate) fn run(&self) {
        let writer = UnixDatagram::unbound().expect("a socket can be made");
        let mut noise = Noise(0x1234_5678_9ABC_DEF1);
        let mut next_ns = read(KernelClock::MonotonicRaw);
        while !self.end.load(Ordering::Relaxed) {
            let left_ns = next_ns - read(KernelClock::MonotonicRaw);
            if left_ns > 0 {
                thread::sleep(Duration::from_nanos(left_ns.unsigned_abs().min(50_000_000)));
                continue;
            }
            next_ns += 1_000_000_000;
            if self.antenna.load(Ordering::Relaxed) {
                self.tell(&writer, &self.socket, &mut noise);
            }
        }
    }

    fn tell(&self, writer: &UnixDatagram, socket: &Path, noise: &mut Noise) {
        let now = Moment::now();
        let clock_ns = now.realtime_ns - now.realtime_ns % 1_000;
        let offset_ns = self.truth.at_realtime(clock_ns, now) - clock_ns;
        #[expect(clippy::cast_precision_loss, reason = "a few seconds, to the nanosecond")]
        let offset_s = (offset_ns as f64 + JITTER_NS * noise.next()) / 1e9;
        let mut record = Vec::with_capacity(40);
        record.extend((clock_ns / 1_000_000_000).to_ne_bytes());
        record.extend((clock_ns % 1_000_000_000 / 1_000).to_ne_bytes());
        record.extend(offset_s.to_ne_bytes());
        // No pulse, no leap second, padding.
        record.extend([0; 12]);
        record.extend(0x534F_434B_i32.to_ne_bytes());
        // A server that isn't there, or not yet, is as it is with gpsd: nobody listens.
        let _heard = writer.send_to(&record, socket);
    }
}

/// Numbers that are normal to the eye: sums of twelve uniform ones.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        let mut sum = -6.0;
        for _ in 0..12 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sum += f64::from(u32::try_from(self.0 >> 32).expect("32 bits")) / f64::from(u32::MAX);
        }
        sum
    }
}
