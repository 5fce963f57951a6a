//! Figures as people read them at a glance: three digits and a unit. Shares are rounded away from "none" and "all", so
//! that one lost request in a million never reads as none.
//!
//! Only for reading; the JSON document has the exact figures.

use crate::outcome::approximate;

const COUNTS: [(f64, &str); 5] = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")];
const TIMES_NS: [(f64, &str); 4] = [(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")];

/// From here on three digits round up to the next unit: 999.6 µs is 1 ms.
const NEXT_UNIT: f64 = 0.9995;

/// `1.25 M`: a count, or a rate a second.
pub(crate) fn short(value: f64) -> String {
    with_unit(value, &COUNTS)
}

/// `53.2 µs`.
pub(crate) fn time(nanos: f64) -> String {
    with_unit(nanos, &TIMES_NS)
}

/// `+53.2 µs`: nothing has no sign.
pub(crate) fn signed_time(nanos: f64) -> String {
    let text = time(nanos);
    if nanos > 0.0 && text != "0 ns" { format!("+{text}") } else { text }
}

/// `1,234,567`.
pub(crate) fn exact(count: u64) -> String {
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

/// `one reply`, `1,234 replies`.
pub(crate) fn plural(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{} {many}", exact(count)) }
}

/// `12.3 %` of a whole; `0` and `100 %` are exactly that.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0".to_owned();
    }
    if part == whole {
        return "100 %".to_owned();
    }
    let percent = 100.0 * approximate(part) / approximate(whole);
    if percent < 0.01 {
        "<0.01 %".to_owned()
    } else if percent > 99.9 && percent < 100.0 {
        ">99.9 %".to_owned()
    } else if percent > 100.0 && percent < 100.5 {
        // Replies to what expects none make more than all.
        ">100 %".to_owned()
    } else {
        format!("{} %", digits(percent))
    }
}

fn with_unit(value: f64, units: &[(f64, &str)]) -> String {
    let smallest = units[units.len() - 1];
    let (scale, unit) =
        units.iter().copied().find(|(scale, _)| value.abs() >= scale * NEXT_UNIT).unwrap_or(smallest);
    let digits = digits(value / scale);
    // What rounds to nothing has neither sign nor a small unit's false exactness.
    if digits.trim_start_matches('-') == "0" { format!("0{}", smallest.1) } else { format!("{digits}{unit}") }
}

/// Three digits without trailing zeros.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        let shorts = [0.0, 7.0, 12.5, 999.4, 999.6, 1_000.0, 152_340.0, 999_600.0, 1.2e6, 2.7e9];
        let expected = ["0", "7", "12.5", "999", "1 k", "1 k", "152 k", "1 M", "1.2 M", "2.7 G"];
        assert_eq!(shorts.map(short), expected);
        let times = [0.0, 0.4, 42.0, 999.7, 53_210.0, 1_234_567.0, 2.5e9];
        assert_eq!(times.map(time), ["0 ns", "0.4 ns", "42 ns", "1 µs", "53.2 µs", "1.23 ms", "2.5 s"]);
        assert_eq!(
            [-53_210.0, 0.0, 0.001, -0.001, 340.0].map(signed_time),
            ["-53.2 µs", "0 ns", "0 ns", "0 ns", "+340 ns"]
        );
        assert_eq!([7, 999, 1_000, 1_234_567].map(exact), ["7", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_share_that_is_not_none_or_all_never_reads_so() {
        let shares = [(0, 10), (10, 10), (1, 1_000_000), (999_999, 1_000_000), (1, 3), (1, 100), (0, 0)];
        let expected = ["0", "100 %", "<0.01 %", ">99.9 %", "33.3 %", "1 %", "0"];
        assert_eq!(shares.map(|(part, whole)| percent(part, whole)), expected);
    }

    proptest! {
        #[test]
        fn figures_fit_their_column_and_mean_what_they_say(exponent in 0.0_f64..11.9) {
            let value = 10_f64.powf(exponent);
            let text = signed_time(-value);
            prop_assert!(text.chars().count() <= 8 || value > 1e12, "{text}");
            let (digits, unit) = text.split_once(' ').expect("a unit");
            let scale = TIMES_NS.iter().find(|(_, name)| name.trim() == unit).expect("one of the units").0;
            let read: f64 = digits.parse().expect("a number");
            prop_assert!((read * scale + value).abs() <= value * 0.005, "{value} reads {text}");
        }

        #[test]
        fn shares_are_honest(part in 0_u64..2_000_000, whole in 1_u64..2_000_000) {
            let text = percent(part, whole);
            prop_assert_eq!(text == "0", part == 0);
            prop_assert_eq!(text == "100 %", part == whole, "{} of {}", part, whole);
        }
    }
}
