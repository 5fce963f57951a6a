//! How much faster than its hardware a kernel's clock is told to run.

/// A frequency correction as `timex.freq` has it: units of 2⁻¹⁶ ppm, positive where the clock is made faster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Frequency(i64);

const UNITS_PER_PPM: i64 = 1 << 16;
/// Exact: both are small whole numbers.
const UNITS: f64 = 65_536.0 * 1e6;

impl Frequency {
    /// The clock runs as its hardware does.
    pub const ZERO: Self = Self(0);
    /// The most either way: the kernel's own limit (`MAXFREQ`), 500 ppm.
    pub const MAX: Self = Self(500 * UNITS_PER_PPM);

    /// From units of 2⁻¹⁶ ppm, whatever they are.
    #[must_use]
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// Units of 2⁻¹⁶ ppm.
    #[must_use]
    pub const fn units(self) -> i64 {
        self.0
    }

    /// The nearest to a fraction (1e-6 is 1 ppm) within [`MAX`](Self::MAX) either way; nothing for what is no number.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "clamped far below 2^63; no number is 0")]
    pub fn nearest(fraction: f64) -> Self {
        let most = Self::MAX.fraction();
        Self(libm::round(fraction.clamp(-most, most) * UNITS) as i64)
    }

    /// As a fraction: 1 ppm is 1e-6.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the kernel's figures are below 2^33")]
    pub const fn fraction(self) -> f64 {
        self.0 as f64 / UNITS
    }

    /// Both together, if that is within [`MAX`](Self::MAX) either way.
    #[must_use]
    pub fn with(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self).filter(|sum| sum.is_within_max())
    }

    /// Whether the kernel takes it as it is.
    #[must_use]
    pub const fn is_within_max(self) -> bool {
        self.0.unsigned_abs() <= Self::MAX.0.unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_part_per_million_has_65536_units() {
        assert_eq!(Frequency::nearest(-1e-6).units(), -65_536);
        assert_eq!(Frequency::nearest(f64::NAN), Frequency::ZERO);
        assert_eq!(Frequency::nearest(f64::INFINITY), Frequency::MAX);
        assert_eq!(Frequency::MAX.with(Frequency::from_units(1)), None);
        assert_eq!(Frequency::from_units(i64::MIN).with(Frequency::from_units(-1)), None);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_stays_within_the_kernels_limit(fraction in any::<f64>()) {
            prop_assert!(Frequency::nearest(fraction).is_within_max());
        }

        #[test]
        fn a_figure_of_the_kernels_survives_the_round_trip(units in -32_768_000_i64..=32_768_000) {
            prop_assert_eq!(Frequency::nearest(Frequency::from_units(units).fraction()).units(), units);
        }
    }
}
