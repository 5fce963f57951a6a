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
