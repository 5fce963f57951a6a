//! Between the exact types of time and the doubles of the filter, and other small change.

use crate::discipline::select::{Candidate, Kind, Unusable, Verdict};
use crate::time::{Line, Rate, Span, Ticks};

/// By how much a source is wrong, by the majority's word.
pub(super) const fn falsity(verdict: &Verdict) -> Option<f64> {
    match verdict {
        Verdict::Falseticker { off_s } => Some(*off_s),
        Verdict::Absent
        | Verdict::Unusable(_)
        | Verdict::TooDistant { .. }
        | Verdict::NoMajority
        | Verdict::PulseWithoutSecond
        | Verdict::Outlier
        | Verdict::Agrees
        | Verdict::Votes
        | Verdict::Combined
        | Verdict::Followed => None,
    }
}

/// Whether the majority says that a source is right.
pub(super) const fn is_right(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Outlier | Verdict::Agrees | Verdict::Votes | Verdict::Combined | Verdict::Followed => true,
        Verdict::Absent
        | Verdict::Unusable(_)
        | Verdict::TooDistant { .. }
        | Verdict::NoMajority
        | Verdict::PulseWithoutSecond
        | Verdict::Falseticker { .. } => false,
    }
}

/// Stands in the places that no source has.
pub(super) const NO_CANDIDATE: Candidate = Candidate {
    kind: Kind::Network,
    offset_s: 0.0,
    distance_s: 0.0,
    jitter_s: 0.0,
    prefer: false,
    only_votes: false,
    unusable: Some(Unusable::Silent),
};

/// Seconds from a base line's reference point to `ticks`, by the base line's own rate.
pub(super) fn seconds_on(base: &Line, ticks: Ticks) -> f64 {
    base.rate.span_of(ticks.since(base.reference)).as_seconds_f64()
}

#[expect(clippy::cast_possible_truncation, reason = "saturates, which no phase of a clock reaches")]
pub(super) fn nanos_of(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}

/// A span of so many seconds, to 2⁻⁶⁴ s where the double has the digits.
#[expect(clippy::cast_possible_truncation, reason = "saturates, which no phase of a clock reaches")]
pub(super) fn span_of(seconds: f64) -> Span {
    Span::from_raw((seconds * 18_446_744_073_709_551_616.0) as i128)
}

/// A rate that makes more of a tick by this share.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the correction is a small share of the rate, and 53 bits of that are enough"
)]
pub(super) fn faster(rate: Rate, share: f64) -> Rate {
    let correction = (rate.bits() as f64 * share) as i64;
    Rate::from_bits(rate.bits().saturating_add_signed(correction))
}
