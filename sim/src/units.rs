//! Figures as people read them: three digits and a unit; and what is taken of many.

/// A time in seconds, with the unit that leaves one to three digits before the point.
#[must_use]
pub fn time(seconds: f64) -> String {
    let size = seconds.abs();
    let units = [(1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1.0, "s")];
    // A little early, so that 999.9 ns don't become 1000 ns.
    let (unit, name) =
        units.into_iter().rev().find(|(unit, _)| size >= unit * 0.9995).unwrap_or((1e-9, "ns"));
    format!("{} {name}", digits(seconds / unit))
}

/// A time that may be unknown.
#[must_use]
pub fn maybe_time(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), time)
}

/// A ratio that may be unknown.
#[must_use]
pub fn maybe_ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// Three digits, and no zeros after them for their own sake.
fn digits(number: f64) -> String {
    let size = number.abs();
    let text = if size >= 99.95 {
        format!("{number:.0}")
    } else if size >= 9.995 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The value that a share of all don't pass, of sorted ones; not a number without any.
#[must_use]
pub fn quantile(sorted: &[f64], parts: usize, of: usize) -> f64 {
    let index = (sorted.len() * parts / of).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// In order.
#[must_use]
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_reads_best() {
        for (seconds, text) in [
            (0.0, "0 ns"),
            (3.527e-9, "3.53 ns"),
            (2e-8, "20 ns"),
            (9.999e-7, "1 us"),
            (1.185e-6, "1.19 us"),
            (-2.5e-3, "-2.5 ms"),
            (9.999_999, "10 s"),
            (60.0, "60 s"),
            (1e-12, "0 ns"),
        ] {
            assert_eq!(time(seconds), text);
        }
        assert_eq!((maybe_time(None), maybe_ratio(Some(1.054))), ("-".to_owned(), "1.05".to_owned()));
    }
}
