//! The counter, and reference time as a line over it.

use super::{Instant, Span, Tai};

/// A reading of the machine's counter (TSC or `CLOCK_MONOTONIC_RAW`): modulo 2⁶⁴, without an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticks(u64);

impl Ticks {
    /// From the counter's bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The counter's bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// How many ticks this is after `earlier`; negative where it is before.
    #[must_use]
    #[expect(clippy::cast_possible_wrap, reason = "the signed distance modulo 2^64 is the nearest one")]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0) as i64
    }

    /// This reading `count` ticks later.
    #[must_use]
    pub const fn offset(self, count: i64) -> Self {
        Self(self.0.wrapping_add_signed(count))
    }
}

/// The length of a tick in units of 2⁻⁸⁸ s: up to 59 ns (counters from 17 MHz), to 10⁻¹⁷ of a 0.4 ns tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rate(u64);

/// A [`Rate`] has this many fractional bits more than a [`Span`].
const RATE_SHIFT: u32 = 24;

const _: () = assert!(Rate::NANOSECOND.0 as u128 == (1 << 88) / 1_000_000_000);

impl Rate {
    /// Exactly one nanosecond a tick: `CLOCK_MONOTONIC_RAW` by its own word.
    pub const NANOSECOND: Self = Self(309_485_009_821_345_068);

    /// From units of 2⁻⁸⁸ s a tick.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Units of 2⁻⁸⁸ s a tick.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The rate of a counter that made `ticks` in `span`; none unless both are positive and a tick is under 59 ns.
    #[must_use]
    pub fn measured(span: Span, ticks: i64) -> Option<Self> {
        let units = span.raw().checked_shl(RATE_SHIFT).filter(|units| units >> RATE_SHIFT == span.raw())?;
        if units <= 0 || ticks <= 0 {
            return None;
        }
        u64::try_from(units / i128::from(ticks)).ok().filter(|bits| *bits > 0).map(Self)
    }

    /// How long `ticks` last. No division, no overflow: 63 × 64 bits fit in 127.
    #[must_use]
    pub const fn span_of(self, ticks: i64) -> Span {
        Span::from_raw((ticks as i128 * self.0 as i128) >> RATE_SHIFT)
    }

    /// How many ticks pass in `span`, rounded down; saturates. Divides: not for the packet path.
    #[must_use]
    pub fn ticks_in(self, span: Span) -> i64 {
        let ticks = span.raw().saturating_mul(1 << RATE_SHIFT) / i128::from(self.0.max(1));
        i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
    }

    /// This rate's distance from `other` in parts per 10⁹ of `other`, saturating.
    #[must_use]
    pub fn ppb_from(self, other: Self) -> i64 {
        let difference = i128::from(self.0) - i128::from(other.0);
        i64::try_from(difference * 1_000_000_000 / i128::from(other.0.max(1))).unwrap_or(i64::MAX)
    }
}

/// Reference time as a line over the counter: `origin` at `reference`, `rate` from there on, in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// The counter at the reference point.
    pub reference: Ticks,
    /// Reference time at the reference point.
    pub origin: Instant<Tai>,
    /// Reference time a tick.
    pub rate: Rate,
}

impl Line {
    /// Reference time when the counter stood at `ticks`.
    #[must_use]
    pub fn at(&self, ticks: Ticks) -> Instant<Tai> {
        self.origin + self.rate.span_of(ticks.since(self.reference))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_nanosecond_counter_keeps_time_for_a_century() {
        let line = Line {
            reference: Ticks::from_bits(u64::MAX - 10),
            origin: Instant::from_unix(0, 0),
            rate: Rate::NANOSECOND,
        };
        let century_ns = 100 * 365 * 86_400 * 1_000_000_000_i64;
        let late = line.at(line.reference.offset(century_ns)).unix_nanos();
        assert!((late - century_ns).abs() <= 20, "{late}");
        assert_eq!(line.at(line.reference.offset(-5)) - line.origin, line.rate.span_of(-5));
    }

    #[test]
    fn impossible_rates_are_none() {
        assert_eq!(Rate::measured(Span::ZERO, 5), None);
        assert_eq!(Rate::measured(Span::from_seconds(1), 0), None);
        assert_eq!(Rate::measured(Span::from_seconds(1), -5), None);
        assert_eq!(Rate::measured(Span::from_seconds(1), 10_000_000), None, "100 ns ticks don't fit");
        assert_eq!(Rate::measured(Span::MAX, 1), None);
    }

    proptest! {
        #[test]
        fn a_measured_rate_reproduces_its_span(nanos in 1_000_000_i64..10_000_000_000_000, khz in 20_000_i64..6_000_000) {
            let ticks = i64::try_from(i128::from(nanos) * i128::from(khz) / 1_000_000).unwrap();
            let span = Span::from_nanos(nanos);
            let rate = Rate::measured(span, ticks).unwrap();
            let error = rate.span_of(ticks) - span;
            prop_assert!(error.abs() < Span::from_nanos(1), "{:?}", error);
            prop_assert!((rate.ticks_in(span) - ticks).abs() <= 1);
        }

        #[test]
        fn a_line_never_overflows(reference in any::<u64>(), ticks in any::<u64>(), rate in any::<u64>()) {
            let line = Line { reference: Ticks::from_bits(reference), origin: Instant::from_unix(4_000_000_000, 0), rate: Rate::from_bits(rate) };
            let _ = line.at(Ticks::from_bits(ticks));
        }
    }
}
