//! How long packets stay in the server: percentiles from the buckets that workers count into.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest stay that is told apart: a minute. What is longer counts as this.
const RESIDENCE_NS_MAX: u64 = 60_000_000_000;
/// Finer than the workers' buckets, so that nothing is lost on the way through the histogram.
const SIGNIFICANT_DIGITS: u8 = 3;

/// How long packets stayed between their receive stamp and their transmit stamp, in nanoseconds.
///
/// Each figure is the upper end of the bucket that the packet fell into, so none flatters.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Residence {
    /// How many packets.
    pub count: u64,
    /// Half of them stayed no longer than this.
    pub p50_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// 999 of 1000.
    pub p999_ns: u64,
    /// All of them.
    pub max_ns: u64,
    /// The buckets that aren't empty: the longest stay that each holds, and how many packets fell into it.
    pub buckets: Vec<(u64, u64)>,
}

impl Residence {
    /// From a worker's buckets: **every** one in rising order, empty ones too, each with its lower end and its count.
    ///
    /// A bucket reaches to the next one's lower end; the last, which has no end, is taken at its lower one.
    #[must_use]
    pub fn from_buckets(buckets: &[(u64, u64)]) -> Self {
        let ends = buckets.iter().skip(1).map(|&(next_lower, _)| next_lower.saturating_sub(1));
        let last = buckets.last().map(|&(lower, _)| lower);
        let counts = buckets.iter().map(|&(_, count)| count);
        Self::from_ends(ends.chain(last).zip(counts))
    }

    /// Of several workers together.
    #[must_use]
    pub fn together<'r>(several: impl IntoIterator<Item = &'r Self>) -> Self {
        Self::from_ends(several.into_iter().flat_map(|one| one.buckets.iter().copied()))
    }

    /// Of the packets that came after `earlier` was taken from the same worker.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before: BTreeMap<u64, u64> = earlier.buckets.iter().copied().collect();
        let left = |&(end, count): &(u64, u64)| {
            (end, count.saturating_sub(before.get(&end).copied().unwrap_or_default()))
        };
        Self::from_ends(self.buckets.iter().map(left))
    }

    /// From the upper ends of buckets and their counts, in any order and with repeats.
    fn from_ends(ends: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut buckets = BTreeMap::<u64, u64>::new();
        for (end, count) in ends.into_iter().filter(|&(_, count)| count > 0) {
            let sum = buckets.entry(end).or_default();
            *sum = sum.saturating_add(count);
        }
        let Some((&max_ns, _)) = buckets.last_key_value() else {
            return Self::default();
        };
        let mut histogram = Histogram::<u64>::new_with_bounds(1, RESIDENCE_NS_MAX, SIGNIFICANT_DIGITS)
            .expect("constant bounds are right or wrong for good, and the tests build one");
        for (&end, &count) in &buckets {
            histogram.saturating_record_n(end, count);
        }
        // The histogram's own rounding must not lead past the longest stay.
        let quantile = |quantile| histogram.value_at_quantile(quantile).min(max_ns);
        Self {
            count: histogram.len(),
            p50_ns: quantile(0.5),
            p99_ns: quantile(0.99),
            p999_ns: quantile(0.999),
            max_ns,
            buckets: buckets.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_packets_have_no_residence() {
        assert_eq!(Residence::from_buckets(&[]), Residence::default());
        assert_eq!(Residence::from_buckets(&[(0, 0), (100, 0)]), Residence::default());
    }

    #[test]
    fn a_percentile_is_the_upper_end_of_its_bucket() {
        let buckets = [(0, 0), (100, 500), (200, 490), (400, 0), (500, 9), (1_000, 1), (2_000, 0)];
        let residence = Residence::from_buckets(&buckets);
        assert_eq!(
            (residence.count, residence.p50_ns, residence.p99_ns, residence.p999_ns, residence.max_ns),
            (1_000, 199, 399, 999, 1_999)
        );
        assert_eq!(residence.buckets, [(199, 500), (399, 490), (999, 9), (1_999, 1)]);
    }

    #[test]
    fn the_last_bucket_has_no_end() {
        assert_eq!(Residence::from_buckets(&[(0, 0), (1_000, 1)]).max_ns, 1_000);
    }

    #[test]
    fn what_came_since_is_what_was_not_there_before() {
        let earlier = Residence::from_buckets(&[(0, 7), (10, 5), (20, 1), (30, 0)]);
        let later = Residence::from_buckets(&[(0, 7), (10, 8), (20, 1), (30, 0)]);
        let since = later.since(&earlier);
        assert_eq!((since.count, since.p50_ns, since.max_ns), (3, 19, 19));
        assert_eq!(later.since(&later), Residence::default());
    }

    #[test]
    fn hostile_counts_saturate() {
        let all = [(0, u64::MAX), (u64::MAX - 1, u64::MAX), (u64::MAX, u64::MAX)];
        let residence = Residence::from_buckets(&all);
        assert_eq!(Residence::together([&residence, &residence]).max_ns, u64::MAX);
    }

    proptest! {
        /// Against the definition: the smallest end with at least that share of packets at or below it.
        #[test]
        fn percentiles_are_those_of_the_sorted_packets(counts in proptest::collection::vec(0_u64..50, 1..30)) {
            let buckets: Vec<(u64, u64)> = counts.iter().zip(0..).map(|(&count, i)| (32 * i, count)).collect();
            let residence = Residence::from_buckets(&buckets);
            let mut packets: Vec<u64> = residence.buckets.iter().flat_map(|&(end, count)| (0..count).map(move |_| end)).collect();
            packets.sort_unstable();
            prop_assert_eq!(residence.count, counts.iter().sum::<u64>());
            for (share, told) in [(50, residence.p50_ns), (99, residence.p99_ns)] {
                let rank = (packets.len() * share).div_ceil(100).max(1);
                prop_assert_eq!(packets.get(rank - 1).copied().unwrap_or(0), told);
            }
        }

        #[test]
        fn workers_together_are_as_one(one in proptest::collection::vec(0_u64..9, 8), other in proptest::collection::vec(0_u64..9, 8)) {
            let buckets = |counts: &[u64]| counts.iter().zip(0..).map(|(&count, i)| (1 << i, count)).collect::<Vec<_>>();
            let sums: Vec<u64> = one.iter().zip(&other).map(|(a, b)| a + b).collect();
            let parts = [Residence::from_buckets(&buckets(&one)), Residence::from_buckets(&buckets(&other))];
            prop_assert_eq!(Residence::together(&parts), Residence::from_buckets(&buckets(&sums)));
        }
    }
}
