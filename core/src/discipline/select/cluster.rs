//! Network sources that agree: the outliers are left out, the rest averaged (RFC 5905 §11.2.2 and §11.2.3).

use super::{Candidate, Combined, Verdict};
use libm::{fabs, sqrt};

/// No source is left out while there are no more than this (NMIN).
const KEPT_MIN: usize = 3;

/// A distance of zero would weigh infinitely much, so none counts as less, in seconds.
const DISTANCE_MIN_S: f64 = 1e-9;

/// Leaves out the one that is furthest from the others, again and again, until three are left or the sources' own
/// jitter is what keeps them apart. A preferred one stays.
pub(super) fn thin_out(candidates: &[Candidate], verdicts: &mut [Verdict]) {
    for _ in 0..candidates.len() {
        let agreeing = || candidates.iter().zip(verdicts.iter()).filter(|(_, it)| **it == Verdict::Agrees);
        let count = agreeing().count();
        let least_jitter = agreeing().map(|(candidate, _)| candidate.jitter_s).fold(f64::INFINITY, f64::min);
        let apart = |place: usize, one: &Candidate| {
            let squares = agreeing().map(|(other, _)| square(other.offset_s - one.offset_s)).sum::<f64>();
            (place, sqrt(squares / f64::from(u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX))))
        };
        let worst = candidates
            .iter()
            .zip(verdicts.iter())
            .enumerate()
            .filter(|(_, (candidate, verdict))| **verdict == Verdict::Agrees && !candidate.prefer)
            .map(|(place, (candidate, _))| apart(place, candidate))
            .max_by(|(_, one), (_, other)| one.total_cmp(other));
        let Some((place, select_jitter)) = worst else { return };
        if count <= KEPT_MIN || select_jitter <= least_jitter {
            return;
        }
        if let Some(verdict) = verdicts.get_mut(place) {
            *verdict = Verdict::Outlier;
        }
    }
}

/// The average of the followed one and those combined with it, weighted by the reciprocal of their distances.
pub(super) fn combine(candidates: &[Candidate], verdicts: &[Verdict], followed: &Candidate) -> Combined {
    let averaged = || {
        candidates
            .iter()
            .zip(verdicts)
            .filter(|(_, verdict)| matches!(verdict, Verdict::Combined | Verdict::Followed))
            .map(|(candidate, _)| (candidate, 1.0 / candidate.distance_s.max(DISTANCE_MIN_S)))
    };
    let weights: f64 = averaged().map(|(_, weight)| weight).sum();
    // Offsets from the followed one's, so that a lone source's comes out as it went in.
    let away =
        averaged().map(|(one, weight)| (one.offset_s - followed.offset_s) * weight).sum::<f64>() / weights;
    let spread =
        averaged().map(|(one, weight)| square(one.offset_s - followed.offset_s) * weight).sum::<f64>()
            / weights;
    let offset_s = followed.offset_s + away;
    // Whoever of them is right, the truth is within this of the average.
    let reach = |one: &Candidate| one.distance_s + fabs(one.offset_s - offset_s);
    let distance_s = averaged().map(|(one, _)| reach(one)).fold(0.0, f64::max);
    Combined { offset_s, jitter_s: sqrt(spread + square(followed.jitter_s)), distance_s }
}

fn square(value: f64) -> f64 {
    value * value
}
