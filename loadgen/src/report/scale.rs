//! The axes of a picture: where a value lies between its ends, and where the ticks are.

/// A factor between least and greatest from which the lower half would be squeezed on a linear axis.
const LOGARITHMIC_FROM: f64 = 20.0;
/// Up to so many decades, 2 and 5 are ticks too.
const DECADES_WITH_FIVES: f64 = 3.2;

/// An axis from its low to its high end, both "round" figures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    /// From 0 to the first tick beyond the greatest value.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let greatest = values.into_iter().fold(0.0, f64::max);
        let greatest = if greatest > 0.0 { greatest } else { 1.0 };
        let step = linear_step(greatest);
        Self { low: 0.0, high: (greatest / step - 1e-9).ceil() * step, logarithmic: false }
    }

    /// Around all values above 0; the others lie at its low end.
    pub(super) fn logarithmic(values: impl IntoIterator<Item = f64>) -> Self {
        let ends = values.into_iter().filter(|value| *value > 0.0).fold(None, |ends, value| {
            let (low, high) = ends.unwrap_or((value, value));
            Some((value.min(low), value.max(high)))
        });
        let (least, greatest) = ends.unwrap_or((1.0, 1.0));
        let low = round_values(least).rev().find(|tick| *tick <= least * (1.0 + 1e-9));
        let high = round_values(greatest).find(|tick| *tick >= greatest * (1.0 - 1e-9));
        let low = low.unwrap_or(least);
        // A single value must not make an axis without length.
        Self { low, high: high.unwrap_or(greatest).max(low * 10.0), logarithmic: true }
    }

    /// Logarithmic where rates span much, linear from 0 otherwise.
    pub(super) fn of_rates(rates: &[f64]) -> Self {
        let above_0 = rates.iter().copied().filter(|rate| *rate > 0.0);
        let least = above_0.clone().fold(f64::INFINITY, f64::min);
        let greatest = above_0.fold(0.0, f64::max);
        if greatest >= least * LOGARITHMIC_FROM {
            Self::logarithmic(rates.iter().copied())
        } else {
            Self::linear(rates.iter().copied())
        }
    }

    /// Its ends.
    pub(super) fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// 0 at the low end, 1 at the high end; what lies outside is at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Round figures from end to end.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let slack = 1.0 + 1e-9;
        if self.logarithmic {
            let decades_only = (self.high / self.low).log10() > DECADES_WITH_FIVES;
            let start = 10_f64.powf(self.low.log10().floor());
            return std::iter::successors(Some(start), |decade| Some(decade * 10.0))
                .take_while(|decade| *decade <= self.high * slack)
                .flat_map(|decade| [decade, 2.0 * decade, 5.0 * decade])
                .enumerate()
                .filter(|(index, _)| !decades_only || index.is_multiple_of(3))
                .map(|(_, tick)| tick)
                .filter(|tick| *tick * slack >= self.low && *tick <= self.high * slack)
                .collect();
        }
        let step = linear_step(self.high);
        std::iter::successors(Some(0.0), |tick| Some(tick + step))
            .take_while(|tick| *tick <= self.high * slack)
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten, so that about five make the greatest value.
fn linear_step(greatest: f64) -> f64 {
    let wanted = greatest / 6.0;
    round_values(wanted).find(|step| *step >= wanted * (1.0 - 1e-9)).unwrap_or(greatest)
}

/// 1, 2 and 5 times the powers of ten around a value.
fn round_values(value: f64) -> impl DoubleEndedIterator<Item = f64> {
    let decade = 10_f64.powf(value.log10().floor());
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0].into_iter().map(move |factor| factor * decade)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_and_ticks_are_round() {
        let linear = Scale::linear([152.0, 87.0]);
        assert_eq!(linear.ticks(), [0.0, 50.0, 100.0, 150.0, 200.0]);
        let logarithmic = Scale::logarithmic([0.0, 30_500.0, 1_530_000.0]);
        assert_eq!(logarithmic.ends(), (20_000.0, 2_000_000.0));
        assert_eq!(logarithmic.ticks().len(), 7);
        assert_eq!(Scale::logarithmic([300.0, 4e9]).ticks().len(), 7, "decades only");
        assert!((logarithmic.place(200_000.0) - 0.5).abs() < 1e-9);
        assert!(logarithmic.place(0.0).abs() < 1e-9, "what has no logarithm lies at the low end");
    }

    #[test]
    fn rates_that_span_much_are_logarithmic() {
        assert!(Scale::of_rates(&[1e3, 2e5]).logarithmic);
        assert!(!Scale::of_rates(&[1e5, 2e5]).logarithmic && !Scale::of_rates(&[]).logarithmic);
    }

    proptest! {
        #[test]
        fn all_values_lie_within_and_few_ticks_show_it(exponents in prop::collection::vec(-3.0_f64..12.0, 1..20)) {
            let values: Vec<_> = exponents.into_iter().map(|exponent| 10_f64.powf(exponent)).collect();
            for scale in [Scale::linear(values.clone()), Scale::logarithmic(values.clone())] {
                let (low, high) = scale.ends();
                for value in &values {
                    prop_assert!(low <= value * (1.0 + 1e-6) && *value <= high * (1.0 + 1e-6), "{value} {scale:?}");
                }
                let ticks = scale.ticks();
                prop_assert!((2..=17).contains(&ticks.len()), "{ticks:?}");
                prop_assert!(ticks.is_sorted() && ticks.iter().all(|tick| (0.0..=1.0).contains(&scale.place(*tick))));
            }
        }
    }
}
