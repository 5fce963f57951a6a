//! Leap seconds as a table: TAI − UTC, and when it changes.
//!
//! The count of UTC that NTP sends repeats the last second of the day when one is inserted and skips it when one
//! is deleted (the kernel's clock does the same). So a leap second takes effect
//!
//! - inserted: at 23:59:60, when the count falls back to that of 23:59:59;
//! - deleted: at 23:59:59, which becomes 00:00:00.

use super::{Instant, Smear, Span, Tai, Utc};

/// A change of TAI − UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leap {
    /// The first moment at which the new offset holds.
    pub at: Instant<Tai>,
    /// TAI − UTC from then on, in seconds.
    pub offset_after_s: i32,
}

/// The two leap bits of an NTP header (RFC 5905 §7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LeapIndicator {
    /// No warning.
    None = 0,
    /// The last minute of the day has 61 seconds.
    Insert = 1,
    /// The last minute of the day has 59 seconds.
    Delete = 2,
    /// The clock isn't synchronised.
    Unsynchronised = 3,
}

impl LeapIndicator {
    /// From the top two bits of a header's first octet.
    #[must_use]
    pub const fn from_first_octet(octet: u8) -> Self {
        match octet >> 6 {
            0 => Self::None,
            1 => Self::Insert,
            2 => Self::Delete,
            _ => Self::Unsynchronised,
        }
    }
}

/// Leap seconds are this far apart at least, and one is announced this long before it: on the last day only
/// (RFC 8633 §3.7).
const ONE_DAY: Span = Span::from_seconds(86_400);

/// A window keeps a leap second for this long after it: to the end of the longest smear.
const KEPT: Span = Span::from_seconds(86_401);
const _: () = assert!(2 * (KEPT.raw() - (1 << 64)) == Smear::LENGTH_MAX.raw());

/// TAI − UTC around now: what the snapshot carries so that a reply needs no table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeapWindow {
    /// TAI − UTC until `next`, in seconds.
    pub offset_s: i32,
    /// The next change, where one is known; or the last, for a day after it, since it may still be smeared.
    pub next: Option<Leap>,
}

impl LeapWindow {
    /// TAI − UTC at `tai`, in seconds.
    #[must_use]
    pub fn offset_at(&self, tai: Instant<Tai>) -> i32 {
        match self.next {
            Some(next) if tai >= next.at => next.offset_after_s,
            _ => self.offset_s,
        }
    }

    /// The change that is still to come at `tai`, where one is known.
    #[must_use]
    pub fn coming(&self, tai: Instant<Tai>) -> Option<Leap> {
        self.next.filter(|next| tai < next.at)
    }

    /// The count of UTC at `tai`.
    #[must_use]
    pub fn utc(&self, tai: Instant<Tai>) -> Instant<Utc> {
        tai.recount(-i64::from(self.offset_at(tai)))
    }

    /// The last moment up to `now` that a count of UTC stands for.
    #[must_use]
    pub fn tai_before(&self, now: Instant<Tai>, utc: Instant<Utc>) -> Instant<Tai> {
        let late: Instant<Tai> = utc.recount(i64::from(self.offset_at(now)));
        let early: Instant<Tai> = utc.recount(i64::from(self.offset_s));
        match self.next {
            // In an inserted second the later of two may still lie ahead.
            Some(next) if late < next.at || (late > now && early < next.at) => early,
            _ => late,
        }
    }

    /// What to announce at `tai`: nothing but on the day before the change and during an inserted second.
    #[must_use]
    pub fn indicator(&self, tai: Instant<Tai>) -> LeapIndicator {
        let Some(next) = self.next else { return LeapIndicator::None };
        let inserted_s = i64::from(next.offset_after_s) - i64::from(self.offset_s);
        let over = next.at + Span::from_seconds(inserted_s.max(0));
        if inserted_s == 0 || tai < next.at - ONE_DAY || tai >= over {
            LeapIndicator::None
        } else if inserted_s > 0 {
            LeapIndicator::Insert
        } else {
            LeapIndicator::Delete
        }
    }
}

/// Whether `day` (days since 1970) is the last of its month, the only one that a leap second may end.
#[must_use]
pub const fn is_last_of_month(day: i64) -> bool {
    day_of_month(day.saturating_add(1)) == 1
}

/// The day of the month, from 1, in the proleptic Gregorian calendar.
const fn day_of_month(day: i64) -> i64 {
    // Years begin in March here, so that the leap day comes last; the months' lengths then follow 153 days in
    // five months. An era of 400 years has 146,097 days and begins on 0000-03-01, 719,468 days before 1970.
    let day_of_era = day.saturating_add(719_468).rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    day_of_year - (153 * month + 2) / 5 + 1
}

/// Which moment a count of UTC means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaiOf {
    /// The usual case.
    Once(Instant<Tai>),
    /// The count stands for 23:59:59 and for the inserted second after it.
    Twice(Instant<Tai>, Instant<Tai>),
    /// The count was skipped by a deleted second; the moment of the skip.
    Never(Instant<Tai>),
}

impl TaiOf {
    /// The only meaning, or the earlier one.
    #[must_use]
    pub const fn first(self) -> Instant<Tai> {
        match self {
            Self::Once(moment) | Self::Never(moment) | Self::Twice(moment, _) => moment,
        }
    }

    /// The only meaning, or the later one.
    #[must_use]
    pub const fn last(self) -> Instant<Tai> {
        match self {
            Self::Once(moment) | Self::Never(moment) | Self::Twice(_, moment) => moment,
        }
    }

    /// The meaning that lies nearest to `expected`.
    #[must_use]
    pub fn nearest(self, expected: Instant<Tai>) -> Instant<Tai> {
        let (first, last) = (self.first(), self.last());
        if (first - expected).abs() <= (last - expected).abs() { first } else { last }
    }
}

/// The most leap seconds a table holds: those of 1972 to 2017 and as many again.
const LEAPS_MAX: usize = 64;

/// The leap seconds known, in order.
#[derive(Clone, Debug)]
pub struct LeapTable {
    leaps: [Leap; LEAPS_MAX],
    count: usize,
}

/// TAI − UTC when UTC took its present form in 1972.
const FIRST_OFFSET_S: i32 = 10;

/// Midnights (days since 1970) at whose eve IERS inserted a second (Bulletin C; the IETF's leap-seconds.list).
const INSERTED_BEFORE_DAY: [i64; 27] = [
    912, 1096, 1461, 1826, 2191, 2557, 2922, 3287, 3652, 4199, 4564, 4929, 5660, 6574, 7305, 7670, 8217,
    8582, 8947, 9496, 10_043, 10_592, 13_149, 14_245, 15_522, 16_617, 17_167,
];

/// Why a leap second was not added to a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeapFault {
    /// The table is full.
    Full,
    /// It isn't at least a day after the last one in the table.
    OutOfOrder,
}

impl LeapTable {
    /// The leap seconds up to 2017-01-01 (TAI − UTC = 37 s), all inserted.
    #[must_use]
    pub fn built_in() -> Self {
        let mut table = Self::empty();
        for day in INSERTED_BEFORE_DAY {
            if table.add(day, 1).is_err() {
                unreachable_table();
            }
        }
        table
    }

    /// No leap second at all: TAI − UTC is 10 s, as in 1972.
    #[must_use]
    pub const fn empty() -> Self {
        Self { leaps: [Leap { at: Instant::from_unix(0, 0), offset_after_s: 0 }; LEAPS_MAX], count: 0 }
    }

    /// Adds `seconds` (1 inserted, −1 deleted) just before the midnight that begins `day` (days since 1970).
    ///
    /// # Errors
    /// When the table is full or the moment isn't a day after its last one.
    pub fn add(&mut self, day: i64, seconds: i32) -> Result<(), LeapFault> {
        let before_s = self.known().last().map_or(FIRST_OFFSET_S, |leap| leap.offset_after_s);
        let midnight_tai_s = day.saturating_mul(86_400).saturating_add(i64::from(before_s));
        let at = Instant::from_unix(midnight_tai_s.saturating_add(i64::from(seconds.min(0))), 0);
        if self.known().last().is_some_and(|last| at - last.at < ONE_DAY) {
            return Err(LeapFault::OutOfOrder);
        }
        let free = self.leaps.get_mut(self.count).ok_or(LeapFault::Full)?;
        *free = Leap { at, offset_after_s: before_s.saturating_add(seconds) };
        self.count += 1;
        Ok(())
    }

    /// The leap seconds in the table, oldest first.
    #[must_use]
    pub fn known(&self) -> &[Leap] {
        self.leaps.get(..self.count).unwrap_or(&[])
    }

    /// TAI − UTC at `tai`, in seconds (10 before 1972-07-01).
    #[must_use]
    pub fn offset_at(&self, tai: Instant<Tai>) -> i32 {
        self.known()
            .iter()
            .rev()
            .find(|leap| leap.at <= tai)
            .map_or(FIRST_OFFSET_S, |leap| leap.offset_after_s)
    }

    /// The count of UTC at `tai`.
    #[must_use]
    pub fn utc(&self, tai: Instant<Tai>) -> Instant<Utc> {
        tai.recount(-i64::from(self.offset_at(tai)))
    }

    /// The moment or moments that a count of UTC stands for.
    #[must_use]
    pub fn tai(&self, utc: Instant<Utc>) -> TaiOf {
        let mut found: Option<Instant<Tai>> = None;
        let mut skipped_at = None;
        let mut offset_s = FIRST_OFFSET_S;
        for next in self.known().iter().map(Some).chain([None]) {
            // Every offset in turn: it is the right one where the moment falls within the time that it held.
            let moment = utc.recount::<Tai>(i64::from(offset_s));
            if next.is_none_or(|next| moment < next.at) && self.offset_at(moment) == offset_s {
                match found {
                    None => found = Some(moment),
                    Some(first) => return TaiOf::Twice(first, moment),
                }
            }
            if let Some(next) = next {
                if next.offset_after_s < offset_s && moment >= next.at {
                    skipped_at = Some(next.at);
                }
                offset_s = next.offset_after_s;
            }
        }
        match (found, skipped_at) {
            (Some(only), _) => TaiOf::Once(only),
            (None, skipped_at) => {
                TaiOf::Never(skipped_at.unwrap_or_else(|| utc.recount(i64::from(offset_s))))
            }
        }
    }

    /// What the snapshot needs to know at `tai`: the offset and the next change. A leap second still in progress counts
    /// as next, and so does one that is over for as long as it may be smeared, unless another has to be announced.
    #[must_use]
    pub fn window(&self, tai: Instant<Tai>) -> LeapWindow {
        let just_before = tai - Span::from_seconds(1);
        let coming = self.known().iter().copied().find(|leap| leap.at > just_before);
        let over = self.known().iter().copied().rev().find(|leap| leap.at <= just_before);
        let next = over
            .filter(|over| tai - over.at < KEPT && coming.is_none_or(|leap| tai < leap.at - ONE_DAY))
            .or(coming);
        let offset_s = match next {
            Some(next) => self.offset_at(next.at - Span::from_raw(1)),
            None => self.offset_at(tai),
        };
        LeapWindow { offset_s, next }
    }
}

/// The built-in table fits by construction; a broken edit of it must not go unnoticed.
fn unreachable_table() -> ! {
    panic!("the built-in leap table is out of order or longer than LEAPS_MAX")
}

const _: () = assert!(INSERTED_BEFORE_DAY.len() <= LEAPS_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT_2017: i64 = 17_167 * 86_400;

    fn tai(seconds: i64) -> Instant<Tai> {
        Instant::from_unix(seconds, 0)
    }
    fn utc(seconds: i64) -> Instant<Utc> {
        Instant::from_unix(seconds, 0)
    }

    #[test]
    fn history_is_right_where_it_is_well_known() {
        let table = LeapTable::built_in();
        assert_eq!(MIDNIGHT_2017, 1_483_228_800);
        assert_eq!(table.offset_at(tai(0)), 10);
        assert_eq!(table.offset_at(tai(315_964_800 + 19)), 19, "GPS time began at TAI - 19 s");
        assert_eq!(table.offset_at(tai(MIDNIGHT_2017 + 35)), 36);
        assert_eq!(table.offset_at(tai(MIDNIGHT_2017 + 36)), 37);
        assert_eq!(table.offset_at(tai(1_795_000_000)), 37);
    }

    #[test]
    fn an_inserted_second_repeats_the_count() {
        let table = LeapTable::built_in();
        for (moment, count) in [(34, -2), (35, -1), (36, -1), (37, 0)] {
            assert_eq!(table.utc(tai(MIDNIGHT_2017 + moment)), utc(MIDNIGHT_2017 + count), "{moment}");
        }
        assert_eq!(table.tai(utc(MIDNIGHT_2017 - 2)), TaiOf::Once(tai(MIDNIGHT_2017 + 34)));
        let both = TaiOf::Twice(tai(MIDNIGHT_2017 + 35), tai(MIDNIGHT_2017 + 36));
        assert_eq!(table.tai(utc(MIDNIGHT_2017 - 1)), both);
        assert_eq!(both.nearest(tai(MIDNIGHT_2017 + 35)), tai(MIDNIGHT_2017 + 35));
        assert_eq!(both.nearest(tai(MIDNIGHT_2017 + 37)), tai(MIDNIGHT_2017 + 36));
        assert_eq!(table.tai(utc(MIDNIGHT_2017)), TaiOf::Once(tai(MIDNIGHT_2017 + 37)));
    }

    #[test]
    fn a_deleted_second_skips_the_count() {
        let mut table = LeapTable::built_in();
        let day = 21_000;
        let midnight = day * 86_400;
        table.add(day, -1).unwrap();
        for (moment, count) in [(35, -2), (36, 0), (37, 1)] {
            assert_eq!(table.utc(tai(midnight + moment)), utc(midnight + count), "{moment}");
        }
        assert_eq!(table.tai(utc(midnight - 1)), TaiOf::Never(tai(midnight + 36)));
        assert_eq!(table.tai(utc(midnight)), TaiOf::Once(tai(midnight + 36)));
        assert_eq!(table.tai(utc(midnight - 2)), TaiOf::Once(tai(midnight + 35)));
    }

    #[test]
    fn the_window_agrees_with_the_table_and_announces_on_the_last_day_only() {
        for (seconds, announced, over_s) in [(1, LeapIndicator::Insert, 38), (-1, LeapIndicator::Delete, 36)]
        {
            let mut table = LeapTable::built_in();
            let midnight = 21_000 * 86_400;
            table.add(21_000, seconds).unwrap();
            for moment in (midnight - 86_500)..(midnight + 100) {
                let now = tai(moment);
                let earlier = table.window(tai(midnight - 90_000));
                for window in [table.window(now), earlier] {
                    assert_eq!(window.utc(now), table.utc(now), "{moment}");
                    let on_the_day = now >= table.known().last().unwrap().at - Span::from_seconds(86_400);
                    let expected = if on_the_day && moment < midnight + over_s {
                        announced
                    } else {
                        LeapIndicator::None
                    };
                    assert_eq!(window.indicator(now), expected, "{moment}");
                }
            }
        }
    }

    #[test]
    fn a_leap_that_is_over_is_kept_for_a_day_but_never_hides_the_next() {
        for (seconds, days_apart) in [(1, 2), (1, 3), (-1, 2), (-1, 3)] {
            let mut table = LeapTable::built_in();
            let midnight = 21_000 * 86_400;
            table.add(21_000, seconds).unwrap();
            table.add(21_000 + days_apart, 1).unwrap();
            let [.., first, second] = table.known() else { panic!("two were added") };
            for moment in (midnight - 100)..(midnight + 4 * 86_400) {
                let (now, window) = (tai(moment), table.window(tai(moment)));
                assert_eq!(window.utc(now), table.utc(now), "{moment}");
                assert_eq!(window.offset_at(now), table.offset_at(now), "{moment}");
                let to_come = [first, second].into_iter().find(|leap| leap.at > now);
                let hidden = now >= first.at && window.next == Some(*first);
                assert!(hidden || window.coming(now) == to_come.copied(), "{moment}");
                if now >= second.at - Span::from_seconds(86_400) && now < second.at {
                    assert_eq!(window.indicator(now), LeapIndicator::Insert, "{moment}");
                }
            }
            let kept_until = (first.at + KEPT).min(second.at - ONE_DAY);
            assert_eq!(table.window(kept_until - Span::from_raw(1)).next, Some(*first));
            assert_eq!(table.window(kept_until).next, Some(*second));
        }
    }

    #[test]
    fn a_count_from_before_now_means_a_moment_that_is_not_ahead() {
        for seconds in [1, -1] {
            let mut table = LeapTable::built_in();
            let midnight = 21_000 * 86_400;
            table.add(21_000, seconds).unwrap();
            for now in (midnight - 50)..(midnight + 150) {
                let (now, window) = (tai(now), table.window(tai(now)));
                for age in 0..200 {
                    // Half seconds too, so that the later of two moments may lie ahead.
                    let moment = now - Span::from_nanos(age * 500_000_000);
                    let found = window.tai_before(now, window.utc(moment));
                    let again = found == moment + Span::from_seconds(1);
                    assert!(found <= now && (found == moment || again), "{found:?}, {moment:?} at {now:?}");
                    assert_eq!(window.utc(found), window.utc(moment));
                }
            }
        }
    }

    #[test]
    fn the_calendar_agrees_with_a_plain_count_of_days() {
        let mut day = 0;
        for year in 1970..2420 {
            let leap_year = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            for length in [31, if leap_year { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
                for of_month in 1..=length {
                    assert_eq!(day_of_month(day), of_month, "day {day} of {year}");
                    assert_eq!(is_last_of_month(day), of_month == length);
                    day += 1;
                }
            }
        }
        assert!(is_last_of_month(-1), "1969-12-31");
    }

    #[test]
    fn a_table_stays_in_order_and_within_its_size() {
        let mut table = LeapTable::built_in();
        assert_eq!(table.add(17_167, 1), Err(LeapFault::OutOfOrder));
        let mut day = 30_000;
        while table.known().len() < LEAPS_MAX {
            table.add(day, 1).unwrap();
            day += 200;
        }
        assert_eq!(table.add(day, 1), Err(LeapFault::Full));
        assert_eq!(table.add(20, 1), Err(LeapFault::OutOfOrder), "the order is checked first");
    }
}
