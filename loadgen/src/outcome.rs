//! What is measured while a run goes on: counts and histograms of one thread, merged at the end.
//!
//! All memory is allocated when an outcome is made; recording doesn't allocate. [`Outcome::summary`] makes plain data
//! of it.

use crate::clock::Moment;
use crate::reply::{FAULTS, Fault, Kiss};
use crate::summary::{ErrorSpread, Percentiles, Summary};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longer times are recorded as this: 100 s.
pub const TIME_NS_MAX: u64 = 100_000_000_000;
/// Three digits: a recorded time is within 0.1 % of the true one.
const DIGITS: u8 = 3;

/// Counts of a thread, of a step, or of a run.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Requests that left.
    pub sent: u64,
    /// Requests that the kernel refused, or that were due and not sent in time.
    pub unsent: u64,
    /// Requests that left and that a server rightly passes over in silence.
    pub silence_expected: u64,
    /// Requests that expect a reply and were given up.
    pub given_up: u64,
    /// Valid replies in basic mode.
    pub basic: u64,
    /// Valid replies in interleaved mode.
    pub interleaved: u64,
    /// Valid replies to requests that asked for interleaved mode.
    pub interleaving: u64,
    /// Valid replies that came while requests were still being sent.
    pub answered_while_sending: u64,
    /// Replies to a request that had been replied to.
    pub duplicate: u64,
    /// Replies to a request that had been given up.
    pub late: u64,
    /// Replies that the generator's own ring had no room for.
    pub unseen: u64,
    /// Invalid replies whose request can't be told.
    pub unmatched: u64,
    /// Invalid replies, by [`Fault`]; those that are unmatched too.
    pub faults: [u64; FAULTS.len()],
    /// Kisses, by [`Kiss`].
    pub kisses: [u64; Kiss::COUNT],
    /// UDP payload octets of requests.
    pub octets_sent: u64,
    /// UDP payload octets of replies.
    pub octets_received: u64,
}

impl Counts {
    /// Requests that expect a reply and got none, not even one that can't be told to be its.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.given_up.saturating_sub(self.unmatched)
    }

    /// Counts an invalid reply to a known request.
    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// Counts an invalid reply of which nobody can say what it replies to. The request of most of them is given up
    /// later; what is lost is therefore less by these.
    pub fn unmatched(&mut self, fault: Fault) {
        self.fault(fault);
        self.unmatched += 1;
    }

    /// Counts a kiss.
    pub fn kiss(&mut self, kiss: Kiss) {
        self.kisses[kiss as usize] += 1;
    }

    /// Replies that broke a rule.
    #[must_use]
    pub fn invalid(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Kisses of any code.
    #[must_use]
    pub fn kod(&self) -> u64 {
        self.kisses.iter().sum()
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = *self;
        difference.each(earlier, u64::saturating_sub);
        difference
    }

    fn merge(&mut self, other: &Self) {
        self.each(other, u64::saturating_add);
    }

    /// Combines each count with the other's.
    fn each(&mut self, other: &Self, combine: impl Fn(u64, u64) -> u64) {
        let pairs = [
            (&mut self.sent, other.sent),
            (&mut self.unsent, other.unsent),
            (&mut self.silence_expected, other.silence_expected),
            (&mut self.given_up, other.given_up),
            (&mut self.basic, other.basic),
            (&mut self.interleaved, other.interleaved),
            (&mut self.interleaving, other.interleaving),
            (&mut self.answered_while_sending, other.answered_while_sending),
            (&mut self.duplicate, other.duplicate),
            (&mut self.late, other.late),
            (&mut self.unseen, other.unseen),
            (&mut self.unmatched, other.unmatched),
            (&mut self.octets_sent, other.octets_sent),
            (&mut self.octets_received, other.octets_received),
        ];
        let faults = self.faults.iter_mut().zip(other.faults);
        let kisses = self.kisses.iter_mut().zip(other.kisses);
        for (ours, theirs) in pairs.into_iter().chain(faults).chain(kisses) {
            *ours = combine(*ours, theirs);
        }
    }
}

/// Counts and histograms of a thread, of a step, or of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What is counted.
    pub counts: Counts,
    /// When the last request left.
    pub last_left: Option<Moment>,
    /// From due to the arrival of a valid reply.
    pub latency_ns: Histogram<u64>,
    /// From due to having left.
    pub lag_ns: Histogram<u64>,
    /// What a client would compute.
    pub offset_error_ns: Errors,
    /// The server's receive timestamp less our transmit stamp.
    pub receive_error_ns: Errors,
    /// Our receive stamp less the server's transmit timestamp, of basic replies.
    pub transmit_error_ns: Errors,
    /// The same of interleaved ones: both are of the exchange that the request named.
    pub interleaved_transmit_error_ns: Errors,
}

impl Default for Outcome {
    fn default() -> Self {
        Self::new()
    }
}

impl Outcome {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            counts: Counts::default(),
            last_left: None,
            latency_ns: times(),
            lag_ns: times(),
            offset_error_ns: Errors::new(),
            receive_error_ns: Errors::new(),
            transmit_error_ns: Errors::new(),
            interleaved_transmit_error_ns: Errors::new(),
        }
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        (self.counts, self.last_left) = (Counts::default(), None);
        self.latency_ns.reset();
        self.lag_ns.reset();
        self.offset_error_ns.clear();
        self.receive_error_ns.clear();
        self.transmit_error_ns.clear();
        self.interleaved_transmit_error_ns.clear();
    }

    /// Adds what another thread, or a later step, measured.
    pub fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.last_left = self.last_left.max(other.last_left);
        add(&mut self.latency_ns, &other.latency_ns);
        add(&mut self.lag_ns, &other.lag_ns);
        self.offset_error_ns.merge(&other.offset_error_ns);
        self.receive_error_ns.merge(&other.receive_error_ns);
        self.transmit_error_ns.merge(&other.transmit_error_ns);
        self.interleaved_transmit_error_ns.merge(&other.interleaved_transmit_error_ns);
    }

    /// As plain data, after `duration` of sending at a schedule of `rate_requested` by `clients`.
    #[must_use]
    pub fn summary(&self, rate_requested: f64, clients: u64, duration: Duration) -> Summary {
        let counts = &self.counts;
        let valid = counts.basic + counts.interleaved;
        let per_second = |count: u64| {
            if duration.is_zero() { 0.0 } else { approximate(count) / duration.as_secs_f64() }
        };
        Summary {
            rate_requested,
            rate_offered: per_second(counts.sent),
            rate_answered: per_second(counts.answered_while_sending),
            duration_s: duration.as_secs_f64(),
            clients,
            sent: counts.sent,
            unsent: counts.unsent,
            silence_expected: counts.silence_expected,
            received: valid + counts.kod() + counts.invalid(),
            lost: counts.lost(),
            invalid: counts.invalid(),
            duplicate: counts.duplicate,
            late: counts.late,
            kod: counts.kod(),
            basic: counts.basic,
            interleaved: counts.interleaved,
            interleaving: counts.interleaving,
            unseen: counts.unseen,
            octets_sent: counts.octets_sent,
            octets_received: counts.octets_received,
            faults: named(FAULTS.iter().map(|(fault, _)| fault.name()), &counts.faults),
            kisses: named(Kiss::ALL.iter().map(|kiss| kiss.code()), &counts.kisses),
            latency_ns: percentiles(&self.latency_ns),
            lag_ns: percentiles(&self.lag_ns),
            offset_error_ns: self.offset_error_ns.spread(),
            receive_error_ns: self.receive_error_ns.spread(),
            transmit_error_ns: self.transmit_error_ns.spread(),
            interleaved_transmit_error_ns: self.interleaved_transmit_error_ns.spread(),
        }
    }
}

/// Those that happened, by name.
fn named<'a>(names: impl Iterator<Item = &'a str>, counts: &[u64]) -> BTreeMap<String, u64> {
    names
        .zip(counts)
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| (name.to_owned(), *count))
        .collect()
}

/// An empty histogram of times up to [`TIME_NS_MAX`].
#[must_use]
pub fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, TIME_NS_MAX, DIGITS).expect("the bounds are constants that it takes")
}

fn add(sum: &mut Histogram<u64>, more: &Histogram<u64>) {
    sum.add(more).expect("all histograms here have the same bounds");
}

/// A histogram's percentiles.
#[must_use]
pub fn percentiles(times: &Histogram<u64>) -> Percentiles {
    if times.is_empty() {
        return Percentiles::default();
    }
    Percentiles {
        count: times.len(),
        min: times.min(),
        mean: times.mean(),
        p50: times.value_at_quantile(0.5),
        p90: times.value_at_quantile(0.9),
        p99: times.value_at_quantile(0.99),
        p999: times.value_at_quantile(0.999),
        max: times.max(),
    }
}

/// Signed errors: their magnitudes, and their mean and spread (Welford's recurrence, so that nothing cancels).
#[derive(Clone, Debug)]
pub struct Errors {
    magnitudes_ns: Histogram<u64>,
    count: u64,
    mean_ns: f64,
    squares: f64,
    lowest_ns: i64,
    highest_ns: i64,
}

impl Errors {
    fn new() -> Self {
        Self {
            magnitudes_ns: times(),
            count: 0,
            mean_ns: 0.0,
            squares: 0.0,
            lowest_ns: i64::MAX,
            highest_ns: i64::MIN,
        }
    }

    fn clear(&mut self) {
        self.magnitudes_ns.reset();
        (self.count, self.mean_ns, self.squares) = (0, 0.0, 0.0);
        (self.lowest_ns, self.highest_ns) = (i64::MAX, i64::MIN);
    }

    /// One more.
    pub fn record(&mut self, error_ns: i64) {
        self.magnitudes_ns.saturating_record(error_ns.unsigned_abs());
        self.count += 1;
        let distance = approximate_signed(error_ns) - self.mean_ns;
        self.mean_ns += distance / approximate(self.count);
        self.squares += distance * (approximate_signed(error_ns) - self.mean_ns);
        self.lowest_ns = self.lowest_ns.min(error_ns);
        self.highest_ns = self.highest_ns.max(error_ns);
    }

    fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        add(&mut self.magnitudes_ns, &other.magnitudes_ns);
        let (ours, theirs) = (approximate(self.count), approximate(other.count));
        let distance = other.mean_ns - self.mean_ns;
        self.squares += other.squares + distance * distance * ours * theirs / (ours + theirs);
        self.mean_ns += distance * theirs / (ours + theirs);
        self.count += other.count;
        self.lowest_ns = self.lowest_ns.min(other.lowest_ns);
        self.highest_ns = self.highest_ns.max(other.highest_ns);
    }

    /// As plain data; none where nothing was recorded.
    fn spread(&self) -> Option<ErrorSpread> {
        let magnitudes = percentiles(&self.magnitudes_ns);
        (self.count > 0).then(|| ErrorSpread {
            count: self.count,
            lowest: self.lowest_ns,
            mean: self.mean_ns,
            highest: self.highest_ns,
            stddev: (self.squares / approximate(self.count)).sqrt(),
            p50: magnitudes.p50,
            p90: magnitudes.p90,
            p99: magnitudes.p99,
            max: magnitudes.max,
        })
    }
}

/// A count for a ratio that people read.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn approximate(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "errors stay far below 2^53 ns")]
fn approximate_signed(nanos: i64) -> f64 {
    nanos as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_merged_are_errors_recorded_together() {
        let all = [-5_000_i64, 3, 12_000, -7, 0, 900, 42, -42];
        let (mut together, mut first, mut second) = (Errors::new(), Errors::new(), Errors::new());
        for (index, error) in all.into_iter().enumerate() {
            together.record(error);
            if index < 3 { first.record(error) } else { second.record(error) }
        }
        first.merge(&second);
        let (merged, together) = (first.spread().expect("eight"), together.spread().expect("eight"));
        assert!((merged.mean - together.mean).abs() < 1e-9 && (merged.stddev - together.stddev).abs() < 1e-9);
        assert_eq!((merged.lowest, merged.highest, merged.count), (-5_000, 12_000, 8));
        assert_eq!((merged.p50, merged.max), (together.p50, together.max));
        assert!((together.mean - 987.0).abs() < 0.001, "{}", together.mean);
    }

    #[test]
    fn what_was_received_and_lost_adds_up_to_what_was_sent() {
        let mut outcome = Outcome::new();
        outcome.counts = Counts {
            sent: 100,
            given_up: 13,
            basic: 80,
            interleaved: 5,
            answered_while_sending: 84,
            ..Counts::default()
        };
        outcome.counts.fault(Fault::Mode);
        outcome.counts.kiss(Kiss::Rate);
        for _ in 0..3 {
            outcome.counts.unmatched(Fault::Origin);
        }
        let summary = outcome.summary(50.0, 7, Duration::from_secs(2));
        assert_eq!((summary.received, summary.lost, summary.invalid, summary.kod), (90, 10, 4, 1));
        assert!((summary.rate_answered - 42.0).abs() < 1e-9 && (summary.rate_offered - 50.0).abs() < 1e-9);
        assert_eq!(summary.kisses.keys().collect::<Vec<_>>(), ["RATE"]);
        assert!((summary.loss() - 0.1).abs() < 1e-9);
    }
}
