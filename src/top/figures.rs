//! Figures in cells of a fixed width: what doesn't fit is told with fewer digits, never cut off.

use crate::status::{count, float, per_second_of, whole};

const SCALES: [(f64, &str); 6] = [(1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"), (1e18, "E")];

/// A rate in at most `width` characters (seven are enough for any).
pub(super) fn rate(rate: f64, width: usize) -> String {
    let told = match rate {
        some if (0.05..9.95).contains(&some) => format!("{some:.1}/s"),
        some if some >= 9.95 => format!("{}/s", count(whole(some))),
        little => per_second_of(little),
    };
    if told.chars().count() <= width { told } else { format!("{}/s", scaled(rate)) }
}

/// With three digits and the letter of its thousands.
fn scaled(value: f64) -> String {
    // A figure that rounds up to the next letter belongs to it.
    let scale = SCALES.iter().rev().find(|(scale, _)| value >= 0.9995 * scale);
    let (scale, letter) = scale.copied().unwrap_or((1.0, ""));
    match value / scale {
        small if small < 9.995 => format!("{small:.2}{letter}"),
        middle if middle < 99.95 => format!("{middle:.1}{letter}"),
        large => format!("{}{letter}", float(whole(large))),
    }
}

/// A part of the whole, in whole per cent.
pub(super) fn percent(part: f64) -> String {
    match part * 100.0 {
        little if little > 0.0 && little < 0.5 => "<1 %".to_owned(),
        some => format!("{some:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_keeps_to_its_width() {
        let told = |value| (rate(value, 9), rate(value, 30));
        assert_eq!(told(0.0), ("0/s".to_owned(), "0/s".to_owned()));
        assert_eq!(told(0.5).0, "0.5/s");
        assert_eq!(told(0.016).0, "0.016/s");
        assert_eq!(told(151_234.0).0, "151,234/s");
        assert_eq!(told(999_600.0).0, "999,600/s");
        assert_eq!(told(1_000_000.0), ("1.00M/s".to_owned(), "1,000,000/s".to_owned()));
        assert_eq!(told(12_345_678.0), ("12.3M/s".to_owned(), "12,345,678/s".to_owned()));
        for exponent in -9..19 {
            for digit in [1.0, 9.994, 9.996, 9.99949, 9.9996] {
                let value = digit * 10_f64.powi(exponent);
                assert!(rate(value, 9).chars().count() <= 9, "{value}: {}", rate(value, 9));
            }
        }
    }

    #[test]
    fn a_little_is_not_nothing() {
        assert_eq!([0.0, 0.001, 0.5, 1.0].map(percent), ["0 %", "<1 %", "50 %", "100 %"]);
    }
}
