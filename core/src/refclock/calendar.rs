//! Dates and times of day as receivers and people write them, to and from the count of UTC.
//!
//! The count repeats the last second of the day when one is inserted, so 23:59:60 becomes the count of
//! 23:59:59: which of the two is meant can't be told from the count, only from when it came. The way back
//! never yields a second of 60.

use crate::time::{Instant, Span, Utc, is_last_of_month};

const DAY_S: i64 = 86_400;

/// From 0000-03-01, when an era of 400 years begins, to 1970-01-01.
const MARCH_0000_TO_1970_DAYS: i64 = 719_468;

/// Days in 400 years.
const ERA_DAYS: i64 = 146_097;

/// A time of day: seconds since midnight (86,400 during an inserted leap second) and the nanoseconds after
/// them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeOfDay {
    /// Seconds since midnight.
    pub seconds: u32,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl TimeOfDay {
    /// The parts together; none where one is out of its range. A second of 60 is accepted at 23:59 only.
    #[must_use]
    pub fn new(hour: u8, minute: u8, second: u8, nanos: u32) -> Option<Self> {
        let leap_second = second == 60 && hour == 23 && minute == 59;
        let fits = hour < 24 && minute < 60 && (second < 60 || leap_second) && nanos < 1_000_000_000;
        let seconds = u32::from(hour) * 3_600 + u32::from(minute) * 60 + u32::from(second);
        fits.then_some(Self { seconds, nanos })
    }
}

/// A date of the proleptic Gregorian calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Date {
    /// The year, 0 being the one before year 1.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

impl Date {
    /// The date of `day` (days since 1970); none where its year is beyond what the type holds.
    #[must_use]
    pub fn of_day(day: i64) -> Option<Self> {
        // Years begin in March here, so that the leap day comes last; the months' lengths then follow 153
        // days in five months.
        let since_march_0000 = day.checked_add(MARCH_0000_TO_1970_DAYS)?;
        let day_of_era = since_march_0000.rem_euclid(ERA_DAYS);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let next_year = i64::from(month >= 10);
        Some(Self {
            year: i32::try_from(since_march_0000.div_euclid(ERA_DAYS) * 400 + year_of_era + next_year)
                .ok()?,
            month: u8::try_from((month + 2) % 12 + 1).ok()?,
            day: u8::try_from(day_of_year - (153 * month + 2) / 5 + 1).ok()?,
        })
    }

    /// Days since 1970; none where the calendar has no such date.
    #[must_use]
    pub fn day(self) -> Option<i64> {
        let month = (i64::from(self.month) + 9) % 12;
        let year = i64::from(self.year) - i64::from(month >= 10);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let day = year.div_euclid(400) * ERA_DAYS + day_of_era - MARCH_0000_TO_1970_DAYS;
        // The 31st of a shorter month and the like come back as another date.
        (Self::of_day(day) == Some(self)).then_some(day)
    }
}

/// A date and a time of day in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CivilTime {
    /// The date.
    pub date: Date,
    /// The time of day.
    pub time: TimeOfDay,
}

impl CivilTime {
    /// The civil time of a moment; none where its year is beyond what the type holds.
    #[must_use]
    pub fn of(utc: Instant<Utc>) -> Option<Self> {
        let seconds = utc.unix_seconds();
        // A fraction is rounded to the nanosecond that it was made from, which must not become the next
        // second.
        let nanos = Span::from_raw(i128::from(utc.fraction())).as_nanos().min(999_999_999);
        Some(Self {
            date: Date::of_day(seconds.div_euclid(DAY_S))?,
            time: TimeOfDay {
                seconds: u32::try_from(seconds.rem_euclid(DAY_S)).ok()?,
                nanos: u32::try_from(nanos).ok()?,
            },
        })
    }

    /// The count of UTC; none where the calendar has no such date, or for a leap second on any but the last
    /// day of a month.
    #[must_use]
    pub fn utc(self) -> Option<Instant<Utc>> {
        let day = self.date.day()?;
        let seconds = i64::from(self.time.seconds);
        if seconds > DAY_S || self.time.nanos >= 1_000_000_000 || (seconds == DAY_S && !is_last_of_month(day))
        {
            return None;
        }
        Some(Instant::from_unix(day * DAY_S + seconds.min(DAY_S - 1), self.time.nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn civil(year: i32, month: u8, day: u8, (hour, minute, second): (u8, u8, u8)) -> Option<CivilTime> {
        Some(CivilTime { date: Date { year, month, day }, time: TimeOfDay::new(hour, minute, second, 0)? })
    }
    fn unix(year: i32, month: u8, day: u8, time: (u8, u8, u8)) -> Option<i64> {
        civil(year, month, day, time)?.utc().map(Instant::unix_seconds)
    }

    #[test]
    fn well_known_moments() {
        assert_eq!(unix(1970, 1, 1, (0, 0, 0)), Some(0));
        assert_eq!(unix(1980, 1, 6, (0, 0, 0)), Some(315_964_800), "GPS time began");
        assert_eq!(unix(2000, 2, 29, (12, 0, 0)), Some(951_825_600));
        assert_eq!(unix(2036, 2, 7, (6, 28, 16)), Some(2_085_978_496), "NTP's era 1 begins");
        assert_eq!(unix(1900, 1, 1, (0, 0, 0)), Some(-2_208_988_800), "NTP's era 0 began");
    }

    #[test]
    fn what_the_calendar_has_not_is_refused() {
        for (year, month, day) in
            [(2100, 2, 29), (2026, 4, 31), (2026, 0, 1), (2026, 13, 1), (2026, 1, 0), (2026, 1, 255)]
        {
            assert_eq!(unix(year, month, day, (0, 0, 0)), None, "{year}-{month}-{day}");
        }
        for time in [(24, 0, 0), (0, 60, 0), (12, 0, 60), (23, 59, 61), (23, 58, 60)] {
            assert_eq!(unix(2016, 12, 31, time), None, "{time:?}");
        }
    }

    #[test]
    fn a_leap_second_has_the_count_of_the_second_before() {
        assert_eq!(unix(2016, 12, 31, (23, 59, 60)), Some(1_483_228_799));
        assert_eq!(unix(2016, 12, 31, (23, 59, 59)), Some(1_483_228_799));
        assert_eq!(unix(2016, 12, 30, (23, 59, 60)), None, "only a month's last day ends with one");
    }

    #[test]
    fn the_ends_are_refused_not_wrapped() {
        assert_eq!(CivilTime::of(Instant::from_raw(i128::MAX)), None);
        assert_eq!(CivilTime::of(Instant::from_raw(i128::MIN)), None);
        assert_eq!(Date::of_day(i64::MAX), None);
        for year in [i32::MIN, i32::MAX] {
            let date = Date { year, month: 2, day: 28 };
            assert_eq!(date.day().and_then(Date::of_day), Some(date));
        }
    }

    #[test]
    fn days_agree_with_a_plain_count() {
        let mut day = 0;
        for year in 1970..2420 {
            let leap_year = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let lengths = [31, if leap_year { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in (1..).zip(lengths) {
                for of_month in 1..=length {
                    let date = Date { year, month, day: of_month };
                    assert_eq!((date.day(), Date::of_day(day)), (Some(day), Some(date)));
                    day += 1;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_nanosecond_survives_the_round_trip(nanos in any::<i64>()) {
            let utc = Instant::from_unix_nanos(nanos);
            prop_assert_eq!(CivilTime::of(utc).and_then(CivilTime::utc), Some(utc));
        }

        #[test]
        fn any_fraction_stays_within_its_second(raw in any::<i128>()) {
            let utc = Instant::from_raw(raw >> 8);
            if let Some(back) = CivilTime::of(utc).and_then(CivilTime::utc) {
                prop_assert_eq!(back.unix_seconds(), utc.unix_seconds());
            }
        }
    }
}
