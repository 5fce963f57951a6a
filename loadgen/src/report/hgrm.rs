//! A histogram as HdrHistogram's percentile text, which its viewers and plotters read.
//!
//! The format is that of the Java library's `outputPercentileDistribution`: a header, a line a percentile (value,
//! percentile as a share, values up to it, 1/(1 − percentile)), a last line without the fourth figure, and a footer
//! in `#[…]`. The original divides values by a ratio that the caller chooses; the file doesn't say which.

use crate::outcome::approximate as float;
use hdrhistogram::Histogram;
use std::fmt::Write;

/// Divides nanoseconds to microseconds, the unit in which round-trip times are usually plotted.
pub const MICROSECOND_NS: f64 = 1e3;
/// Divides nanoseconds to milliseconds, the default of the viewers on the web.
pub const MILLISECOND_NS: f64 = 1e6;

/// As many percentile steps to each halving of the distance to 100 % as the original's default.
const STEPS_PER_HALVING: u32 = 5;
/// Bounds the digits after the point as the original does: by the histogram's own precision of three digits.
const DECIMALS: usize = 3;

/// The text, with times divided by `unit_ns`.
#[must_use]
pub fn text(times_ns: &Histogram<u64>, unit_ns: f64) -> String {
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut up_to = 0;
    for step in times_ns.iter_quantiles(STEPS_PER_HALVING) {
        up_to += step.count_since_last_iteration();
        let (value, share) = (float(step.value_iterated_to()) / unit_ns, step.quantile_iterated_to());
        let _ = write!(text, "{value:12.DECIMALS$} {share:2.12} {up_to:10}");
        if share < 1.0 {
            let _ = write!(text, " {:14.2}", 1.0 / (1.0 - share));
        }
        text.push('\n');
    }
    let (mean, deviation) = (times_ns.mean() / unit_ns, times_ns.stdev() / unit_ns);
    let greatest = float(times_ns.max()) / unit_ns;
    let _ = writeln!(text, "#[Mean    = {mean:12.DECIMALS$}, StdDeviation   = {deviation:12.DECIMALS$}]");
    let _ = writeln!(text, "#[Max     = {greatest:12.DECIMALS$}, Total count    = {:12}]", times_ns.len());
    let (buckets, sub_buckets) = (times_ns.buckets(), sub_buckets(times_ns.sigfig()));
    let _ = writeln!(text, "#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]");
    text
}

/// The least power of two that tells 2·10^digits values apart: what the histogram itself takes, but doesn't tell.
fn sub_buckets(digits: u8) -> u64 {
    (2 * 10_u64.pow(digits.into())).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::times;
    use proptest::prelude::*;

    #[test]
    fn ten_values_in_the_original_format() {
        let mut times_ns = times();
        for microseconds in 1..=10 {
            times_ns.record(microseconds * 1_000).expect("in its bounds");
        }
        let text = text(&times_ns, MICROSECOND_NS);
        assert_eq!(text, TEN);
    }

    proptest! {
        #[test]
        fn a_reader_finds_what_was_recorded(values in prop::collection::vec(1_u64..50_000_000_000, 1..400)) {
            let mut times_ns = times();
            for value in &values {
                times_ns.record(*value).expect("in its bounds");
            }
            let text = text(&times_ns, MILLISECOND_NS);
            let lines = text.lines().skip(2).filter(|line| !line.starts_with('#'));
            let mut last = (0.0, 0.0, 0);
            for line in lines {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let value: f64 = fields[0].parse().expect("a value");
                let share: f64 = fields[1].parse().expect("a share");
                let up_to: u64 = fields[2].parse().expect("a count");
                prop_assert_eq!(fields.len(), if share < 1.0 { 4 } else { 3 }, "{}", line);
                prop_assert!(value >= last.0 && share >= last.1 && up_to >= last.2, "{}", line);
                // What is printed is the upper end of a cell, rounded to a microsecond: a value so near is on either side.
                let recorded_by = |end: f64| {
                    let up_to_end = values.iter().filter(|value| float(**value) / MILLISECOND_NS <= end);
                    u64::try_from(up_to_end.count()).expect("few")
                };
                prop_assert!((recorded_by(value - 0.0006)..=recorded_by(value + 0.0006)).contains(&up_to), "{}", line);
                prop_assert!(float(up_to) >= share * float(times_ns.len()) - 1e-6, "{}", line);
                last = (value, share, up_to);
            }
            prop_assert!(last.1 >= 1.0 && last.2 == times_ns.len());
        }
    }

    const TEN: &str = concat!(
        "       Value     Percentile TotalCount 1/(1-Percentile)\n",
        "\n",
        "       1.000 0.000000000000          1           1.00\n",
        "       1.000 0.100000000000          1           1.11\n",
        "       2.000 0.200000000000          2           1.25\n",
        "       4.001 0.300000000000          4           1.43\n",
        "       4.001 0.400000000000          4           1.67\n",
        "       5.003 0.500000000000          5           2.00\n",
        "       6.003 0.550000000000          6           2.22\n",
        "       7.003 0.600000000000          7           2.50\n",
        "       7.003 0.650000000000          7           2.86\n",
        "       8.003 0.700000000000          8           3.33\n",
        "       8.003 0.750000000000          8           4.00\n",
        "       8.003 0.775000000000          8           4.44\n",
        "       9.007 0.800000000000          9           5.00\n",
        "       9.007 0.825000000000          9           5.71\n",
        "       9.007 0.850000000000          9           6.67\n",
        "       9.007 0.875000000000          9           8.00\n",
        "       9.007 0.887500000000          9           8.89\n",
        "      10.007 0.900000000000         10          10.00\n",
        "      10.007 1.000000000000         10\n",
        "#[Mean    =        5.502, StdDeviation   =        2.874]\n",
        "#[Max     =       10.007, Total count    =           10]\n",
        "#[Buckets =           27, SubBuckets     =         2048]\n",
    );
}
