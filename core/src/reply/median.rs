//! The median of the last samples and how far they spread: half of them may be nonsense.

/// Samples that are looked at: the median's own error is a sixth of their spread.
const WINDOW: usize = 63;

/// Fewer tell nothing.
const SAMPLES_MIN: usize = 9;

/// The newest few of them.
const NEWEST: usize = 15;

/// The last samples, in nanoseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Median {
    /// In the order of their coming, around.
    recent: [i32; WINDOW],
    /// By size: the first `count` of them.
    sorted: [i32; WINDOW],
    count: usize,
    next: usize,
}

impl Default for Median {
    fn default() -> Self {
        Self::new()
    }
}

impl Median {
    /// No samples.
    pub(super) const fn new() -> Self {
        Self { recent: [0; WINDOW], sorted: [0; WINDOW], count: 0, next: 0 }
    }

    /// Takes a sample, and forgets the oldest where there is no room.
    pub(super) fn push(&mut self, sample: i32) {
        let Some(recent) = self.recent.get_mut(self.next) else { return };
        let oldest = core::mem::replace(recent, sample);
        self.next = (self.next + 1) % WINDOW;
        if self.count == WINDOW {
            let at = self.sorted.partition_point(|sorted| *sorted < oldest);
            if let Some(from) = self.sorted.get_mut(at..) {
                from.rotate_left(1);
            }
            self.count -= 1;
        }
        let at = self.known().partition_point(|sorted| *sorted < sample);
        self.count += 1;
        if let Some(from) = self.sorted.get_mut(at..self.count) {
            from.rotate_right(1);
            if let Some(first) = from.first_mut() {
                *first = sample;
            }
        }
    }

    /// The quartiles, of which the second is the median; none before there are enough samples.
    pub(super) fn quartiles(&self) -> Option<[i32; 3]> {
        let known = self.known();
        if known.len() < SAMPLES_MIN {
            return None;
        }
        let of_four = |quarters: usize| known.get(known.len() * quarters / 4).copied();
        Some([of_four(1)?, of_four(2)?, of_four(3)?])
    }

    /// The least of the newest few samples alone; none before there are enough in all.
    pub(super) fn least_of_newest(&self) -> Option<i32> {
        self.quartiles()?;
        let newest = 1..=NEWEST.min(self.count);
        newest.filter_map(|back| self.recent.get((self.next + WINDOW - back) % WINDOW).copied()).min()
    }

    fn known(&self) -> &[i32] {
        self.sorted.get(..self.count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn few_samples_tell_nothing_and_many_bad_ones_little() {
        let mut median = Median::new();
        for sample in 0..8 {
            median.push(sample);
        }
        assert_eq!(median.quartiles(), None);
        assert_eq!(median.least_of_newest(), None);
        let mut high = Median::new();
        (0..9).for_each(|_| high.push(7_000));
        assert_eq!(high.least_of_newest(), Some(7_000), "what never came isn't the least");
        for number in 0..1_000 {
            median.push(if number % 5 < 2 { 1_000_000_000 } else { 3_000 + number % 5 });
        }
        let [_, middle, _] = median.quartiles().unwrap();
        assert!((3_000..3_010).contains(&middle), "{middle}");
    }

    proptest! {
        #[test]
        fn it_is_that_of_the_last_samples(samples in prop::collection::vec(-50_i32..50, 1..200)) {
            let mut median = Median::new();
            for (index, sample) in samples.iter().enumerate() {
                median.push(*sample);
                let mut last: Vec<i32> = samples[..=index].iter().rev().take(WINDOW).copied().collect();
                last.sort_unstable();
                let quartiles = [last.len() / 4, last.len() / 2, last.len() * 3 / 4].map(|place| last[place]);
                let expected = (last.len() >= SAMPLES_MIN).then_some(quartiles);
                prop_assert_eq!(median.quartiles(), expected);
                let least = samples[..=index].iter().rev().take(NEWEST).copied().min();
                prop_assert_eq!(median.least_of_newest(), expected.and(least));
            }
        }
    }
}
