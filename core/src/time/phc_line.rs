//! A NIC's own clock (a PTP hardware clock, PHC) as a line over the counter.
//!
//! Its stamps come with packets and with pulses on its pins, and its reading takes a system call that goes to the device:
//! so it is read a few times a second beside the counter, and stamps are put on the counter by the line through these
//! readings. A bias of the readings (the way to the device isn't as long as the way back) moves packets and pulses alike,
//! and cancels where both are stamped by the same clock.

use super::Ticks;

/// Fractional bits of [`PhcLine::ticks_per_ns`]: 10⁻⁹ of a tick of 0.4 ns over a second.
const FRACTION_BITS: u32 = 40;

/// How many words a line takes.
pub const PHC_LINE_WORDS: usize = 5;

/// Where a NIC's clock stands by the counter, for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhcLine {
    /// The counter at the reference point.
    pub reference: Ticks,
    /// What the NIC's clock said then, in nanoseconds of its own.
    pub origin_ns: i64,
    /// Ticks of the counter in a nanosecond of the NIC's clock, in units of 2⁻⁴⁰; 0 for no line.
    ticks_per_ns: u64,
    /// How far a stamp's place on the counter can be off, in ticks.
    pub error_ticks: u32,
    /// Counts the jumps of the NIC's clock: stamps from both sides of one can't be compared.
    pub generation: u32,
    /// The counter past which the line is too old to be used.
    pub valid_until: Ticks,
}

impl PhcLine {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        reference: Ticks::from_bits(0),
        origin_ns: 0,
        ticks_per_ns: 0,
        error_ticks: u32::MAX,
        generation: 0,
        valid_until: Ticks::from_bits(0),
    };

    /// Through a reading of the clock, for a counter that made `ticks` in `nanos` of it; none unless both are positive and
    /// a tick lasts from 60 femtoseconds to a second.
    #[must_use]
    pub fn through(reference: Ticks, origin_ns: i64, ticks: i64, nanos: i64) -> Option<Self> {
        if ticks <= 0 || nanos <= 0 {
            return None;
        }
        let ticks_per_ns = (i128::from(ticks) << FRACTION_BITS) / i128::from(nanos);
        let ticks_per_ns = u64::try_from(ticks_per_ns).ok().filter(|bits| *bits > 0)?;
        Some(Self { reference, origin_ns, ticks_per_ns, ..Self::UNKNOWN })
    }

    /// Whether stamps can be placed by it while the counter stands at `now`.
    #[must_use]
    #[inline]
    pub const fn is_good_at(&self, now: Ticks) -> bool {
        self.ticks_per_ns != 0 && self.valid_until.since(now) >= 0
    }

    /// The counter when the NIC's clock said `nanos`; saturates, and never overflows. No division.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "clamped to what it is cast to")]
    pub const fn ticks_at(&self, nanos: i64) -> Ticks {
        // 63 bits × 64 fit in 127. A stamp that is centuries off is refused by its age, whatever comes of it here.
        let ticks =
            (nanos.saturating_sub(self.origin_ns) as i128 * self.ticks_per_ns as i128) >> FRACTION_BITS;
        let limit = i64::MAX as i128;
        let ticks = if ticks > limit {
            limit
        } else if ticks < -limit {
            -limit
        } else {
            ticks
        };
        self.reference.offset(ticks as i64)
    }

    /// As plain words.
    #[must_use]
    #[expect(clippy::cast_sign_loss, reason = "bits are split, not values narrowed")]
    pub const fn to_words(&self) -> [u64; PHC_LINE_WORDS] {
        [
            self.reference.bits(),
            self.origin_ns as u64,
            self.ticks_per_ns,
            ((self.error_ticks as u64) << 32) | self.generation as u64,
            self.valid_until.bits(),
        ]
    }

    /// From what [`to_words`](Self::to_words) made.
    #[must_use]
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "bits are joined, not values narrowed"
    )]
    pub const fn from_words(words: &[u64; PHC_LINE_WORDS]) -> Self {
        let [reference, origin_ns, ticks_per_ns, error_and_generation, valid_until] = *words;
        Self {
            reference: Ticks::from_bits(reference),
            origin_ns: origin_ns as i64,
            ticks_per_ns,
            error_ticks: (error_and_generation >> 32) as u32,
            generation: error_and_generation as u32,
            valid_until: Ticks::from_bits(valid_until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Ticks = Ticks::from_bits(u64::MAX - 1_000);

    #[test]
    fn a_line_goes_through_its_reading_and_is_good_for_a_while() {
        assert!(!PhcLine::UNKNOWN.is_good_at(Ticks::from_bits(0)));
        let line = PhcLine::through(NOW, 1_795_000_000_000_000_000, 2_500_000_000, 1_000_000_000).unwrap();
        let line = PhcLine { valid_until: NOW.offset(2_500_000_000), ..line };
        assert_eq!(line.ticks_at(line.origin_ns), NOW);
        assert_eq!(line.ticks_at(line.origin_ns + 1_000_000_000).since(NOW), 2_500_000_000);
        assert_eq!(line.ticks_at(line.origin_ns - 1_000).since(NOW), -2_500);
        assert!(line.is_good_at(NOW) && line.is_good_at(line.valid_until));
        assert!(!line.is_good_at(line.valid_until.offset(1)));
    }

    #[test]
    fn impossible_rates_are_none() {
        for (ticks, nanos) in [(0, 1), (1, 0), (-1, 1), (1, -1), (1, i64::MAX), (i64::MAX, 1)] {
            assert_eq!(PhcLine::through(NOW, 0, ticks, nanos), None, "{ticks} in {nanos} ns");
        }
    }

    proptest! {
        #[test]
        fn words_carry_it_whole(words in any::<[u64; PHC_LINE_WORDS]>(), nanos in any::<i64>()) {
            let line = PhcLine::from_words(&words);
            prop_assert_eq!(line.to_words(), words);
            let _ = line.ticks_at(nanos);
        }

        #[test]
        fn a_rate_holds_to_a_nanosecond_over_a_second(ppm in -1_000_i64..1_000, khz in 20_000_i64..6_000_000) {
            let (nanos, ticks) = (1_000_000_000 + ppm * 1_000, khz * 1_000);
            let line = PhcLine::through(NOW, 5, ticks, nanos).unwrap();
            let off = line.ticks_at(5 + nanos).since(NOW) - ticks;
            prop_assert!(off.abs() <= 1 + khz / 1_000_000, "{off} ticks");
        }
    }
}
