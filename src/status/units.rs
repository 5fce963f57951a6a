//! Figures as people read them: three digits and a unit, counts in groups, moments in UTC.

/// A span of seconds with the unit that leaves one to three digits before the point, as chronyc prints it.
pub(crate) fn seconds(seconds: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e-6, "ns"), (1e-3, "us"), (1.0, "ms")];
    if seconds == 0.0 {
        return "0 ns".to_owned();
    }
    for (below, unit) in UNITS {
        // A figure that rounds up to the next unit belongs to it.
        if seconds.abs() < below * 0.9995 {
            return format!("{} {unit}", digits(seconds / (below * 1e-3)));
        }
    }
    format!("{} s", digits(seconds))
}

/// The same with its sign.
pub(crate) fn signed_seconds(value: f64) -> String {
    if value > 0.0 { format!("+{}", seconds(value)) } else { seconds(value) }
}

/// A fraction such as a frequency's error, with the unit that leaves one to three digits before the point.
pub(super) fn fraction(fraction: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e-9, "ppt"), (1e-6, "ppb"), (1e-3, "ppm")];
    let unit = UNITS.into_iter().find(|(below, _)| fraction.abs() < below * 0.9995);
    let (below, unit) = unit.unwrap_or((1e-3, "ppm"));
    format!("{} {unit}", digits(fraction / (below * 1e-3)))
}

/// How long ago, or how far apart: in whole seconds, above some hours coarser.
pub(crate) fn interval(seconds: f64) -> String {
    const HOUR_S: f64 = 3_600.0;
    match seconds {
        short if short < 9_999.5 => format!("{short:.0} s"),
        middle if middle < 100.0 * HOUR_S => format!("{:.0} h", middle / HOUR_S),
        long => format!("{:.0} d", long / (24.0 * HOUR_S)),
    }
}

/// Nanoseconds with their unit.
pub(crate) fn nanoseconds(nanos: u64) -> String {
    seconds(float(nanos) * 1e-9)
}

fn digits(value: f64) -> String {
    match value.abs() {
        small if small < 9.995 => format!("{value:.2}"),
        middle if middle < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A count in groups of three.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count per second.
pub(super) fn per_second(difference: u64, interval_s: f64) -> String {
    let rate = float(difference) / interval_s;
    if difference > 0 && rate < 9.95 { format!("{rate:.1}/s") } else { format!("{}/s", count(whole(rate))) }
}

/// A rate, with enough digits for a client that asks once in a quarter of an hour.
pub(crate) fn per_second_of(rate: f64) -> String {
    match rate {
        none if none < 0.000_5 => "0/s".to_owned(),
        little if little < 0.999_5 => format!("{little:.3}/s"),
        some if some < 9.95 => format!("{some:.1}/s"),
        much => format!("{}/s", count(whole(much))),
    }
}

/// A part of the whole in per cent.
pub(super) fn share(part: f64) -> String {
    let percent = part * 100.0;
    // What there is a little of isn't nothing.
    if percent > 0.0 && percent < 0.005 { "<0.01 %".to_owned() } else { format!("{percent:.2} %") }
}

/// How long the server has run.
pub(crate) fn uptime(seconds: f64) -> String {
    let seconds = whole(seconds.floor());
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let (days, hours) = (hours / 24, hours % 24);
    if days > 0 {
        format!("{days} d {hours:02}:{minutes:02}:{seconds:02}")
    } else {
        format!("{hours:02}:{minutes:02}:{seconds:02}")
    }
}

/// As a float: 53 bits are more than anyone reads.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

/// The nearest whole number; nothing for what is negative or no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "such casts saturate, and NaN is 0"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// A moment of UTC as RFC 3339 writes it, to the microsecond, for instance `2026-11-21T22:15:03.000125Z`.
///
/// A leap second can't be told apart from the second after it: the caller's seconds since 1970 don't count it.
#[must_use]
pub fn rfc3339(unix_seconds: i64, nanos: u32) -> String {
    const DAY_S: i64 = 86_400;
    let (days, second) = (unix_seconds.div_euclid(DAY_S), unix_seconds.rem_euclid(DAY_S));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", nanos / 1_000)
}

/// Year, month and day of a number of days since 1970.
///
/// Counted in eras of 400 years, which have 146,097 days, from 0000-03-01 on (719,468 days before 1970), so that
/// the leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Text from elsewhere without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_three_digits_and_its_unit() {
        let told = |value| seconds(value);
        assert_eq!(told(0.0), "0 ns");
        assert_eq!(told(1.234e-9), "1.23 ns");
        assert_eq!(told(12.34e-9), "12.3 ns");
        assert_eq!(told(999.4e-9), "999 ns");
        assert_eq!(told(999.6e-9), "1.00 us");
        assert_eq!(told(9.996e-6), "10.0 us");
        assert_eq!(told(0.25), "250 ms");
        assert_eq!(told(3.0), "3.00 s");
        assert_eq!(told(65_536.0), "65536 s");
        assert_eq!(signed_seconds(-1.5e-6), "-1.50 us");
        assert_eq!(signed_seconds(1.5e-6), "+1.50 us");
        assert_eq!(nanoseconds(1_999), "2.00 us");
    }

    #[test]
    fn a_fraction_has_three_digits_and_its_unit() {
        let told = |value| fraction(value);
        assert_eq!(told(0.0), "0.00 ppt");
        assert_eq!(told(1.2e-10), "120 ppt");
        assert_eq!(told(-3.7e-8), "-37.0 ppb");
        assert_eq!(told(9.999e-7), "1.00 ppm");
        assert_eq!(told(5e-4), "500 ppm");
        assert_eq!(told(0.25), "250000 ppm");
    }

    #[test]
    fn an_interval_is_whole() {
        let told = |value| interval(value);
        assert_eq!(told(0.2), "0 s");
        assert_eq!(told(1_024.0), "1024 s");
        assert_eq!(told(10_000.0), "3 h");
        assert_eq!(told(400_000.0), "5 d");
    }

    #[test]
    fn counts_stand_in_groups() {
        assert_eq!(
            [count(0), count(999), count(1_000), count(u64::MAX)],
            ["0", "999", "1,000", "18,446,744,073,709,551,615"]
        );
        assert_eq!(per_second(0, 1.0), "0/s");
        assert_eq!(per_second(1, 10.0), "0.1/s");
        assert_eq!(per_second(151_234, 1.0), "151,234/s");
        assert_eq!([0.0, 0.015_6, 0.999_6, 9.96].map(per_second_of), ["0/s", "0.016/s", "1.0/s", "10/s"]);
    }

    #[test]
    fn uptimes_count_days() {
        assert_eq!(uptime(59.99), "00:00:59");
        assert_eq!(uptime(86_400.0 * 3.0 + 3_661.0), "3 d 01:01:01");
        assert_eq!(uptime(f64::NAN), "00:00:00");
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        // From `date -u -d @SECONDS +%FT%TZ`.
        for (unix, date) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_795_299_303, "2026-11-21T22:15:03.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(unix, 999), date);
        }
        assert_eq!(rfc3339(0, 999_999_999), "1970-01-01T00:00:00.999999Z");
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a?[2Jb?");
    }
}
