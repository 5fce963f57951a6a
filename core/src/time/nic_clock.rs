//! A NIC's stamps of frames, put on the counter, and whether one can be true.
//!
//! A NIC stamps a frame with its own clock as the frame's first bit passes, after the preamble (IEEE 1588-2019, 7.3.4.1).
//! A receive timestamp of NTP is of the moment when all of the packet is there, as every stamp by software is, so that of
//! the NIC is moved to the frame's end; a transmit timestamp is of its beginning.
//!
//! **What is believed.** NICs are known to give 0, the stamp of the packet before, one of the future and one of a clock
//! that somebody has just set. The kernel, or the program in front of a queue, stamps the same frame itself, a little after
//! the NIC on receipt and a little before it on transmission. A NIC's stamp is used if it is on that side of the other and
//! no more than [`APART_MAX`] from it, isn't in the future, and isn't the very stamp of the packet before. A stamp that is
//! older than all that came before is refused by the same rule: a packet that was with the NIC then is the kernel's within
//! that time. (The reading of the batch before would say less: a packet may lie in the NIC's ring while a batch is read.)

use super::{PhcLine, Rate, Span, Ticks};

/// The longest way from the NIC to the kernel, or back: interrupts put off, a driver's queue.
pub const APART_MAX: Span = Span::from_nanos(10_000_000);

/// By so much, and by the line's error, two stamps may seem to be in the wrong order: what reading the kernel's clock
/// beside the counter leaves open.
const DISORDER_MAX: Span = Span::from_nanos(2_000);

/// A clock that is known no better than this tells no more than the kernel's own stamp does, and its error isn't in what
/// replies say of theirs.
const KNOWN_WITHIN: Span = Span::from_nanos(5_000);

/// Octets of the shortest frame, and of the check sequence behind each: IEEE 802.3, 3.2.8 and 4A.4.2.
const FRAME_OCTETS_MIN: u32 = 60;
const CHECK_OCTETS: u32 = 4;

/// Why a NIC's stamp isn't used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NicFault {
    /// Nobody knows well enough where its clock stands now.
    Unplaced,
    /// It can't be this packet's.
    Implausible,
}

/// What a worker knows of a NIC's clock.
#[derive(Clone, Debug)]
pub struct NicClock {
    line: PhcLine,
    /// How long an octet is on the wire; zero while the link's speed isn't known.
    octet: Span,
    link_mbps: u32,
    /// The last stamps, as the NIC counts.
    received_ns: Option<i64>,
    sent_ns: Option<i64>,
}

impl Default for NicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl NicClock {
    /// Nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            line: PhcLine::UNKNOWN,
            octet: Span::from_nanos(0),
            link_mbps: 0,
            received_ns: None,
            sent_ns: None,
        }
    }

    /// Takes the clock's line, and the link's speed in megabits a second, 0 if nobody knows: then stamps aren't moved to
    /// the ends of frames.
    pub fn set(&mut self, line: PhcLine, link_mbps: u32) {
        self.line = line;
        if link_mbps != self.link_mbps {
            self.link_mbps = link_mbps;
            let second = Span::from_seconds(1).raw();
            self.octet =
                Span::from_raw((second * 8).checked_div(i128::from(link_mbps) * 1_000_000).unwrap_or(0));
        }
    }

    /// How long before `now` all of a frame was there whose `nanos` the NIC stamped and `octets` long; the kernel's stamp
    /// of it says `beside`.
    ///
    /// # Errors
    /// Why the stamp isn't used.
    #[inline]
    pub fn received(
        &mut self,
        (nanos, octets): (i64, u32),
        (now, rate): (Ticks, Rate),
        beside: Span,
    ) -> Result<Span, NicFault> {
        let repeats = self.received_ns.replace(nanos) == Some(nanos);
        let (age, within) = self.age(nanos, now, rate)?;
        let octets = i128::from(octets.max(FRAME_OCTETS_MIN).saturating_add(CHECK_OCTETS));
        let age = age - Span::from_raw(self.octet.raw().saturating_mul(octets));
        let is_between = age >= beside - within && age <= beside + APART_MAX;
        if repeats || !is_between || age < -within { Err(NicFault::Implausible) } else { Ok(age) }
    }

    /// How long before `now` a frame left that the NIC stamped `nanos`; the kernel's stamp of it says `beside`, where it
    /// has one.
    ///
    /// # Errors
    /// Why the stamp isn't used.
    pub fn sent(
        &mut self,
        nanos: i64,
        (now, rate): (Ticks, Rate),
        beside: Option<Span>,
    ) -> Result<Span, NicFault> {
        let repeats = self.sent_ns.replace(nanos) == Some(nanos);
        let (age, within) = self.age(nanos, now, rate)?;
        let is_between = beside.is_none_or(|beside| age <= beside + within && age >= beside - APART_MAX);
        if repeats || !is_between || age < -within { Err(NicFault::Implausible) } else { Ok(age) }
    }

    /// How old a stamp is, and by how much that may be in disorder with another's age.
    fn age(&self, nanos: i64, now: Ticks, rate: Rate) -> Result<(Span, Span), NicFault> {
        if !self.line.is_good_at(now) {
            return Err(NicFault::Unplaced);
        }
        let error = rate.span_of(i64::from(self.line.error_ticks));
        if error > KNOWN_WITHIN {
            return Err(NicFault::Unplaced);
        }
        Ok((rate.span_of(now.since(self.line.ticks_at(nanos))), error + DISORDER_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counter and the NIC's clock at the reading: it is 37 s ahead, and its seconds are 5 ppm short.
    const NOW: Ticks = Ticks::from_bits(u64::MAX - 5);
    const NIC_NOW_NS: i64 = 1_795_000_037_000_000_000;
    const RATE: Rate = Rate::NANOSECOND;

    fn clock(link_mbps: u32) -> NicClock {
        let mut line = PhcLine::through(
            NOW.offset(-500_000_000),
            NIC_NOW_NS - 500_002_500,
            1_000_000_000,
            1_000_005_000,
        )
        .unwrap();
        (line.error_ticks, line.valid_until) = (100, NOW.offset(1_000_000));
        let mut clock = NicClock::new();
        clock.set(line, link_mbps);
        clock
    }

    const fn ns(nanos: i64) -> Span {
        Span::from_nanos(nanos)
    }

    /// A stamp so old, as the NIC counts.
    const fn stamp(age_ns: i64) -> i64 {
        NIC_NOW_NS - age_ns
    }

    fn assert_near(age: Result<Span, NicFault>, expected_ns: i64) {
        let age_ns = age.unwrap().as_nanos();
        // 5 ppm of its age are 2 ns.
        assert!((age_ns - expected_ns).abs() <= 3, "{age_ns} instead of {expected_ns} ns");
    }

    #[test]
    fn a_frame_is_there_when_its_end_is() {
        // With its check sequence 94 octets: 752 ns at 1 Gb/s.
        for (mbps, moved_ns) in [(0, 0), (10, 75_200), (100, 7_520), (1_000, 752), (100_000, 7)] {
            assert_near(
                clock(mbps).received((stamp(400_000), 90), (NOW, RATE), ns(50_000)),
                400_000 - moved_ns,
            );
        }
        assert_near(clock(100).received((stamp(400_000), 0), (NOW, RATE), ns(50_000)), 400_000 - 5_120);
        assert_near(clock(100).sent(stamp(400_000), (NOW, RATE), Some(ns(450_000))), 400_000);
    }

    #[test]
    fn a_stamp_lies_before_the_kernels_and_not_long_before() {
        // Its age, the kernel's stamp's, whether it is used.
        for (age_ns, kernels_ns, used) in [
            (60_000, 50_000, true),
            (48_000, 50_000, true),
            (47_000, 50_000, false),
            (10_050_000, 50_000, true),
            (10_051_000, 50_000, false),
            (-1_000, 0, true),
            (-3_000, 0, false),
            (-3_000, -3_000, false),
            (-37_000_000_000, 0, false),
        ] {
            let age = clock(0).received((stamp(age_ns), 90), (NOW, RATE), ns(kernels_ns));
            assert_eq!(age.is_ok(), used, "{age_ns} {kernels_ns} {age:?}");
        }
        for nanos in [0, 1, -1, i64::MIN, i64::MAX] {
            assert_eq!(
                clock(0).received((nanos, 90), (NOW, RATE), ns(0)),
                Err(NicFault::Implausible),
                "{nanos}"
            );
            assert_eq!(clock(0).sent(nanos, (NOW, RATE), Some(ns(0))), Err(NicFault::Implausible), "{nanos}");
        }
    }

    #[test]
    fn a_reply_leaves_after_the_driver_got_it() {
        for (age_ns, kernels_ns, used) in [
            (40_000, Some(50_000), true),
            (52_000, Some(50_000), true),
            (53_000, Some(50_000), false),
            (0, Some(10_000_000), true),
            (0, Some(10_100_000), false),
            (-3_000, Some(50_000), false),
            (50_000_000, None, true),
            (-3_000, None, false),
        ] {
            let age = clock(0).sent(stamp(age_ns), (NOW, RATE), kernels_ns.map(ns));
            assert_eq!(age.is_ok(), used, "{age_ns} {kernels_ns:?} {age:?}");
        }
    }

    #[test]
    fn a_stamp_that_comes_again_is_the_packet_befores() {
        let mut clock = clock(1_000);
        let mut received = |age_ns| clock.received((stamp(age_ns), 90), (NOW, RATE), ns(1_000)).is_ok();
        assert_eq!([9_000, 9_000, 9_000, 8_000, 9_000].map(&mut received), [true, false, false, true, true]);
        let mut sent = |age_ns| clock.sent(stamp(age_ns), (NOW, RATE), None).is_ok();
        assert_eq!([9_000, 9_000, 8_000].map(&mut sent), [true, false, true], "each way by itself");
    }

    #[test]
    fn without_a_line_nothing_has_a_place() {
        let mut clock = clock(0);
        let late = NOW.offset(1_000_001);
        assert_eq!(clock.received((stamp(0), 90), (late, RATE), ns(1_000_000)), Err(NicFault::Unplaced));
        assert_eq!(NicClock::new().sent(stamp(0), (NOW, RATE), None), Err(NicFault::Unplaced));
    }

    #[test]
    fn a_line_that_is_hardly_known_tells_nothing() {
        for (error_ticks, used) in [(5_000, true), (5_100, false), (u32::MAX, false)] {
            let mut clock = clock(0);
            clock.line.error_ticks = error_ticks;
            let age = clock.received((stamp(60_000), 90), (NOW, RATE), ns(50_000));
            assert_eq!(age.err(), (!used).then_some(NicFault::Unplaced), "{error_ticks}");
        }
    }
}
