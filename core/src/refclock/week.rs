//! GPS week rollover: dates that are a multiple of 1024 weeks off.
//!
//! The signal counts weeks modulo 1024, and a receiver whose firmware guesses the rest from its own build
//! date is one day 1024 weeks behind for good. Its time of day stays right: it takes off the leap seconds
//! that it is sent.

use crate::time::{Instant, Span, Utc};

/// The weeks of a rollover: 19.6 years.
pub const ROLLOVER_WEEKS: i64 = 1_024;

/// A rollover's length; leap seconds don't enter, since the count of UTC has none.
const ROLLOVER: Span = Span::from_seconds(ROLLOVER_WEEKS * 7 * 86_400);

/// The weeks to add to a date before `not_before` (this program's build date, less a margin): the smallest
/// multiple of 1024 that brings it there or later. None where the date needs no correction.
#[must_use]
pub fn weeks_missing(claimed: Instant<Utc>, not_before: Instant<Utc>) -> Option<i64> {
    let short = not_before - claimed;
    if short <= Span::ZERO {
        return None;
    }
    let rollovers = (short.raw() - 1) / ROLLOVER.raw() + 1;
    i64::try_from(rollovers).ok()?.checked_mul(ROLLOVER_WEEKS)
}

/// The weeks to add where the time is known from elsewhere, within `error`: the multiple of 1024, be it zero
/// or negative, that brings the date to `known`. None where no multiple does: then the date is wrong in
/// another way.
#[must_use]
pub fn weeks_off(claimed: Instant<Utc>, known: Instant<Utc>, error: Span) -> Option<i64> {
    let off = known - claimed;
    let half = ROLLOVER.raw() / 2;
    let rollovers = off.raw().saturating_add(half).div_euclid(ROLLOVER.raw());
    let left = Span::from_raw(off.raw().saturating_sub(rollovers.saturating_mul(ROLLOVER.raw())));
    if left.abs() > error {
        return None;
    }
    i64::try_from(rollovers).ok()?.checked_mul(ROLLOVER_WEEKS)
}

/// A moment `weeks` weeks later.
#[must_use]
pub fn later_by_weeks(claimed: Instant<Utc>, weeks: i64) -> Instant<Utc> {
    claimed + Span::from_seconds(weeks.saturating_mul(7 * 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utc(seconds: i64) -> Instant<Utc> {
        Instant::from_unix(seconds, 0)
    }

    const BUILT: i64 = 1_795_000_000;
    const ROLLOVER_S: i64 = 619_315_200;

    #[test]
    fn a_date_1024_weeks_back_is_brought_forward() {
        // 2006-04-09 12:35:19, as a receiver of 2005 says it on 2025-11-23 12:35:19.
        let claimed = utc(1_144_586_119);
        assert_eq!(weeks_missing(claimed, utc(1_760_000_000)), Some(1_024));
        assert_eq!(later_by_weeks(claimed, 1_024), utc(1_763_901_319));
        assert_eq!(weeks_missing(utc(BUILT), utc(BUILT)), None);
        assert_eq!(weeks_missing(utc(BUILT - 1), utc(BUILT)), Some(1_024));
        assert_eq!(weeks_missing(utc(BUILT - ROLLOVER_S), utc(BUILT)), Some(1_024));
        assert_eq!(weeks_missing(utc(BUILT - ROLLOVER_S - 1), utc(BUILT)), Some(2_048));
    }

    #[test]
    fn a_date_that_is_wrong_otherwise_is_not_explained() {
        let error = Span::from_seconds(2);
        assert_eq!(weeks_off(utc(BUILT - ROLLOVER_S + 1), utc(BUILT), error), Some(1_024));
        assert_eq!(weeks_off(utc(BUILT + 2 * ROLLOVER_S - 1), utc(BUILT), error), Some(-2_048));
        assert_eq!(weeks_off(utc(BUILT + 2), utc(BUILT), error), Some(0));
        assert_eq!(weeks_off(utc(BUILT + 3), utc(BUILT), error), None);
        assert_eq!(weeks_off(utc(BUILT - ROLLOVER_S - 3_600), utc(BUILT), error), None);
    }

    #[test]
    fn the_ends_do_not_panic() {
        for raw in [i128::MIN, i128::MAX] {
            let (end, now) = (Instant::from_raw(raw), utc(BUILT));
            let _weeks = (weeks_missing(end, now), weeks_missing(now, end));
            let _weeks = (weeks_off(end, now, Span::ZERO), weeks_off(now, end, Span::MAX));
            let _later = later_by_weeks(end, i64::MIN);
        }
    }

    proptest! {
        #[test]
        fn the_correction_is_the_smallest_that_suffices(
            claimed_s in -5_000_000_000_i64..5_000_000_000,
            not_before_s in -5_000_000_000_i64..5_000_000_000,
        ) {
            let (claimed, not_before) = (utc(claimed_s), utc(not_before_s));
            let weeks = weeks_missing(claimed, not_before).unwrap_or(0);
            prop_assert_eq!(weeks % 1_024, 0);
            prop_assert_eq!(weeks == 0, claimed >= not_before);
            prop_assert!(later_by_weeks(claimed, weeks) >= not_before);
            prop_assert!(weeks == 0 || later_by_weeks(claimed, weeks - 1_024) < not_before);
        }

        #[test]
        fn any_number_of_rollovers_is_found_within_the_error(
            known_s in 0_i64..5_000_000_000,
            rollovers in -8_i64..8,
            error_s in 0_i64..300_000_000,
            wrong_s in -300_000_000_i64..300_000_000,
        ) {
            let claimed = utc(known_s - rollovers * ROLLOVER_S + wrong_s);
            let expected = (wrong_s.abs() <= error_s).then_some(rollovers * 1_024);
            prop_assert_eq!(weeks_off(claimed, utc(known_s), Span::from_seconds(error_s)), expected);
        }
    }
}
