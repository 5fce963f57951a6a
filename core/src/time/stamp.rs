//! Stamps in other clocks than the counter, converted by their age.
//!
//! A kernel stamp is in `CLOCK_REALTIME`, which another daemon may step, or slew by 83,000 ppm. So no line is
//! kept from that clock to ours: one reading of the counter and the clock a batch tells how old each stamp of the
//! batch is, and the age is taken from reference time at the reading.

use super::{Span, Ticks};

/// Which clock a [`Stamp`] is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StampClock {
    /// `CLOCK_REALTIME`: kernel software stamps of sockets.
    Realtime,
    /// `CLOCK_MONOTONIC`: stamps taken inside an XDP program.
    Monotonic,
    /// A NIC's own clock, by its PTP index; not convertible before that clock has a line of its own.
    Phc(u8),
}

/// When something happened, in nanoseconds of a clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The clock it was read from.
    pub clock: StampClock,
    /// Nanoseconds since that clock's epoch.
    pub nanos: i64,
}

/// The counter and the kernel's clocks at one moment.
///
/// They are read one after the other between readings of the counter, and brought to the moment of the first. A
/// preemption in between makes the reading [torn](Self::is_torn): it still says the truth within its own bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockReading {
    /// The counter at the moment of the reading.
    pub ticks: Ticks,
    /// Half the width of the bracket around `CLOCK_REALTIME`: how far `ticks` can be from it.
    pub error_ticks: u32,
    /// `CLOCK_REALTIME`, nanoseconds since 1970.
    pub realtime_ns: i64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: i64,
    /// How far from simultaneous the two clocks' values can be: half of both brackets together.
    pub apart_ns: u32,
}

impl ClockReading {
    /// The two clocks of a good reading are at most this far apart: a few times what reading them takes through
    /// the vDSO, and about what it takes through system calls.
    pub const APART_NS_MAX: u32 = 1_000;

    /// Whether something came between the reads; the reader retries and, where that doesn't help, counts it.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        self.apart_ns > Self::APART_NS_MAX
    }
}

/// Why a stamp can't be used; the moment of the batch's reading then stands for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StampFault {
    /// The packet came without one.
    Missing,
    /// It lies in the future of a reading that was taken after it.
    Future,
    /// It is older than a packet can be.
    Stale,
    /// Its clock was stepped a moment ago: which side of the step it is on can't be told.
    ClockStepped,
    /// Nothing relates its clock to ours.
    UnknownClock,
}

/// A packet waits at most this long in a socket's queue before its `CLOCK_REALTIME` stamp is disbelieved.
const AGE_NS_MAX: i64 = 1_000_000_000;

/// Nobody steps `CLOCK_MONOTONIC`, so its stamps are believed whatever kept the worker from its packets: an hour.
const MONOTONIC_AGE_NS_MAX: i64 = 3_600 * 1_000_000_000;

/// `CLOCK_REALTIME − CLOCK_MONOTONIC` moves only when somebody steps the clock: both are slewed alike. A movement
/// that what is known of the two readings doesn't explain, and this much more, is a step.
const STEP_NS_MIN: i64 = 1_000;

/// `CLOCK_REALTIME − CLOCK_MONOTONIC`, and how well it is known.
#[derive(Clone, Copy, Debug)]
struct ClockOffset {
    nanos: i64,
    within_ns: u32,
}

impl ClockOffset {
    const fn of(reading: &ClockReading) -> Self {
        Self { nanos: reading.realtime_ns.saturating_sub(reading.monotonic_ns), within_ns: reading.apart_ns }
    }

    /// Whether only a step explains the movement from `self` to `later`.
    fn stepped_to(self, later: Self) -> bool {
        let explained_ns = i64::from(self.within_ns) + i64::from(later.within_ns);
        later.nanos.saturating_sub(self.nanos).saturating_abs() >= explained_ns + STEP_NS_MIN
    }
}

/// Turns stamps into ages. One per worker: it remembers how the clocks stood to notice steps.
#[derive(Clone, Debug, Default)]
pub struct StampConverter {
    reading: Option<ClockReading>,
    /// The best known offset since the last step. A torn reading doesn't replace it, or a step during one that was
    /// torn by more than the step would be lost.
    offset: Option<ClockOffset>,
    distrust_realtime_until_monotonic_ns: i64,
}

impl StampConverter {
    /// A converter that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { reading: None, offset: None, distrust_realtime_until_monotonic_ns: i64::MIN }
    }

    /// Takes the reading made after a batch was received; true when `CLOCK_REALTIME` was stepped since the last.
    pub fn begin_batch(&mut self, reading: ClockReading) -> bool {
        let offset = ClockOffset::of(&reading);
        let stepped = self.offset.is_some_and(|known| known.stepped_to(offset));
        if stepped || self.offset.is_none_or(|known| offset.within_ns < known.within_ns) {
            self.offset = Some(offset);
        }
        if stepped {
            // A packet stamped before the step may wait for as long as any packet may.
            self.distrust_realtime_until_monotonic_ns = reading.monotonic_ns.saturating_add(AGE_NS_MAX);
        }
        self.reading = Some(reading);
        stepped
    }

    /// How long before the batch's reading `stamp` was taken, in its own clock.
    ///
    /// # Errors
    /// The reason why the stamp can't be believed.
    pub fn age(&self, stamp: Option<Stamp>) -> Result<Span, StampFault> {
        let stamp = stamp.ok_or(StampFault::Missing)?;
        let reading = self.reading.ok_or(StampFault::UnknownClock)?;
        // Where CLOCK_MONOTONIC stood at the reading's moment is known within `apart_ns` only.
        let (now_ns, early_ns_max, age_ns_max) = match stamp.clock {
            StampClock::Realtime if reading.monotonic_ns < self.distrust_realtime_until_monotonic_ns => {
                return Err(StampFault::ClockStepped);
            }
            StampClock::Realtime => (reading.realtime_ns, 0, AGE_NS_MAX),
            StampClock::Monotonic => {
                (reading.monotonic_ns, i64::from(reading.apart_ns), MONOTONIC_AGE_NS_MAX)
            }
            StampClock::Phc(_) => return Err(StampFault::UnknownClock),
        };
        match now_ns.saturating_sub(stamp.nanos) {
            age_ns if age_ns < -early_ns_max => Err(StampFault::Future),
            age_ns if age_ns > age_ns_max => Err(StampFault::Stale),
            age_ns => Ok(Span::from_nanos(age_ns.max(0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT_NS: i64 = 1_795_000_000_000_000_000;

    fn reading(elapsed_ns: i64, stepped_ns: i64) -> ClockReading {
        ClockReading {
            ticks: Ticks::from_bits(elapsed_ns.unsigned_abs()),
            error_ticks: 10,
            realtime_ns: BOOT_NS + elapsed_ns + stepped_ns,
            monotonic_ns: elapsed_ns,
            apart_ns: 60,
        }
    }
    fn torn(by_ns: u32, reading: ClockReading) -> ClockReading {
        // The worst case: the monotonic clock's value belongs to a moment that much later.
        ClockReading { monotonic_ns: reading.monotonic_ns + i64::from(by_ns), apart_ns: by_ns, ..reading }
    }
    fn realtime(nanos: i64) -> Option<Stamp> {
        Some(Stamp { clock: StampClock::Realtime, nanos: BOOT_NS + nanos })
    }

    #[test]
    fn a_stamp_is_as_old_as_its_own_clock_says() {
        let mut converter = StampConverter::new();
        assert_eq!(converter.age(realtime(0)), Err(StampFault::UnknownClock));
        assert!(!converter.begin_batch(reading(5_000, 0)));
        assert_eq!(converter.age(realtime(4_000)), Ok(Span::from_nanos(1_000)));
        assert_eq!(converter.age(realtime(5_001)), Err(StampFault::Future));
        assert_eq!(converter.age(realtime(5_000 - AGE_NS_MAX - 1)), Err(StampFault::Stale));
        assert_eq!(converter.age(None), Err(StampFault::Missing));
        let nic = Stamp { clock: StampClock::Phc(0), nanos: 1 };
        assert_eq!(converter.age(Some(nic)), Err(StampFault::UnknownClock));
    }

    #[test]
    fn a_fast_slew_is_not_a_step() {
        let mut converter = StampConverter::new();
        for second in 0..10 {
            // Both kernel clocks are slewed alike, so their difference stays but for the reading's error.
            let slewed_ns = second * (1_000_000_000 + 83_000_000);
            assert!(!converter.begin_batch(reading(slewed_ns, if second % 2 == 0 { 60 } else { -60 })));
        }
    }

    #[test]
    fn a_torn_reading_is_not_a_step() {
        let mut converter = StampConverter::new();
        let preempted = torn(3_000_000, reading(1_000, 0));
        assert!(preempted.is_torn() && !reading(1_000, 0).is_torn());
        for reading in [reading(0, 0), preempted, reading(5_000_000, 0), preempted] {
            assert!(!converter.begin_batch(reading));
        }
    }

    #[test]
    fn a_torn_reading_hides_a_step_from_its_own_batch_only() {
        let mut converter = StampConverter::new();
        converter.begin_batch(reading(0, 0));
        assert!(!converter.begin_batch(torn(3_000_000, reading(1_000, 2_000_000))));
        assert!(converter.begin_batch(reading(5_000_000, 2_000_000)));
    }

    #[test]
    fn steps_too_small_to_notice_add_up_to_one_that_is() {
        let mut converter = StampConverter::new();
        let noticed = (0..5).filter(|n| converter.begin_batch(reading(n * 1_000_000, n * 600))).count();
        assert_eq!(noticed, 2);
    }

    #[test]
    fn a_monotonic_stamp_may_seem_early_by_what_the_reading_is_apart() {
        let mut converter = StampConverter::new();
        converter.begin_batch(reading(5_000, 0));
        let monotonic = |nanos| Some(Stamp { clock: StampClock::Monotonic, nanos });
        assert_eq!(converter.age(monotonic(4_000)), Ok(Span::from_nanos(1_000)));
        assert_eq!(converter.age(monotonic(5_060)), Ok(Span::ZERO));
        assert_eq!(converter.age(monotonic(5_061)), Err(StampFault::Future));
    }

    #[test]
    fn a_monotonic_stamp_is_believed_however_long_its_packet_waited() {
        let mut converter = StampConverter::new();
        converter.begin_batch(reading(2 * MONOTONIC_AGE_NS_MAX, 0));
        let waited = |age_ns| {
            let nanos = 2 * MONOTONIC_AGE_NS_MAX - age_ns;
            converter.age(Some(Stamp { clock: StampClock::Monotonic, nanos }))
        };
        for age_ns in [AGE_NS_MAX, AGE_NS_MAX + 1, MONOTONIC_AGE_NS_MAX] {
            assert_eq!(waited(age_ns), Ok(Span::from_nanos(age_ns)));
        }
        assert_eq!(waited(MONOTONIC_AGE_NS_MAX + 1), Err(StampFault::Stale));
    }

    #[test]
    fn after_a_step_either_way_no_stamp_is_believed_until_the_queue_must_be_empty() {
        for step_ns in [-3_600_000_000_000, -2_000, 2_000, 50_000, 500_000_000, 3_600_000_000_000] {
            let mut converter = StampConverter::new();
            converter.begin_batch(reading(1_000, 0));
            assert!(converter.begin_batch(reading(2_000, step_ns)), "{step_ns}");
            // Stamped before the step, delivered in this batch and in the next.
            assert_eq!(converter.age(realtime(1_500)), Err(StampFault::ClockStepped));
            assert!(!converter.begin_batch(reading(500_000_000, step_ns)));
            assert_eq!(converter.age(realtime(1_600)), Err(StampFault::ClockStepped));
            assert!(!converter.begin_batch(reading(2_000 + AGE_NS_MAX, step_ns)));
            assert_eq!(converter.age(realtime(AGE_NS_MAX + step_ns)), Ok(Span::from_nanos(2_000)));
        }
    }
}
