//! The overlapping Allan deviation: how much a clock's frequency changes from one span to the next, by the span's length.

/// Spans a decade.
const SPANS_A_DECADE: i32 = 10;

/// The deviation of phases a second apart over spans of `span` seconds; none where there are too few phases.
#[must_use]
pub fn deviation(phases: &[f64], span: usize) -> Option<f64> {
    let after = phases.get(span..)?;
    let later = phases.get(2 * span..).filter(|later| !later.is_empty() && span > 0)?;
    let differences = phases.iter().zip(after).zip(later).map(|((first, second), third)| {
        let difference = third - 2.0 * second + first;
        difference * difference
    });
    let mean = differences.sum::<f64>() / crate::float(later.len() as u64);
    Some((mean / 2.0).sqrt() / crate::float(span as u64))
}

/// Spans and deviations, from a second to a quarter of all.
#[must_use]
pub fn deviations(phases: &[f64]) -> Vec<(f64, f64)> {
    let spans = (0..).map(|step| 10_f64.powf(f64::from(step) / f64::from(SPANS_A_DECADE)).round());
    let mut spans: Vec<usize> = spans.map(whole).take_while(|&span| span <= phases.len() / 4).collect();
    spans.dedup();
    spans.into_iter().filter_map(|span| Some((crate::float(span as u64), deviation(phases, span)?))).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive whole number, saturating"
)]
const fn whole(number: f64) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The exponent of the deviations' dependence on the span, between two spans.
    fn slope(phases: &[f64], from: usize, to: usize) -> f64 {
        let at = |span| deviation(phases, span).expect("phases enough");
        (at(to) / at(from)).ln() / (crate::float(to as u64) / crate::float(from as u64)).ln()
    }

    #[test]
    fn white_phase_falls_as_one_over_the_span() {
        let mut random = Random::new(1, 0);
        let phases: Vec<f64> = (0..40_000).map(|_| 1e-7 * random.normal()).collect();
        assert!((slope(&phases, 1, 1_000) + 1.0).abs() < 0.03);
        // sqrt(3) times the jitter at a second.
        let at_1_s = deviation(&phases, 1).expect("phases enough");
        assert!((at_1_s / (1e-7 * 3_f64.sqrt()) - 1.0).abs() < 0.03, "{at_1_s}");
    }

    #[test]
    fn a_walk_of_frequency_rises_as_the_root_of_the_span() {
        let mut random = Random::new(2, 0);
        let (mut phase, mut frequency) = (0.0, 0.0);
        let walk = (0..400_000).map(|_| {
            phase += frequency;
            frequency += 1e-10 * random.normal();
            phase
        });
        let phases: Vec<f64> = walk.collect();
        assert!((slope(&phases, 10, 1_000) - 0.5).abs() < 0.07, "{}", slope(&phases, 10, 1_000));
        // The walk's own step times the root of a third of the span.
        let at_100_s = deviation(&phases, 100).expect("phases enough");
        assert!((at_100_s / (1e-10 * (100.0_f64 / 3.0).sqrt()) - 1.0).abs() < 0.1, "{at_100_s}");
    }

    #[test]
    fn a_constant_frequency_has_none_and_too_few_phases_say_nothing() {
        let phases: Vec<f64> = (0..100).map(|second| 3.0 * f64::from(second)).collect();
        assert!(deviations(&phases).iter().all(|&(_, deviation)| deviation < 1e-12));
        assert_eq!(deviations(&phases).last().map(|&(span, _)| span), Some(25.0));
        assert_eq!(deviation(&phases, 50), None);
        assert_eq!(deviation(&phases, 0), None);
        assert!(deviations(&[1.0, 2.0]).is_empty());
    }
}
