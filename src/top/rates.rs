//! What was counted between two answers of one server, a second.
//!
//! The interval is the difference of the server's own uptimes, so an answer that came late falsifies nothing. Where the answers
//! aren't of one run there are no rates: a restarted server counts from zero, and a difference would say nothing.

use std::collections::BTreeMap;

use crate::status::{Counters, Residence, Status, float};

/// Over the limit, and left without an answer; whoever dropped it.
const LIMITED: [&str; 5] =
    ["rate-limited", "prefix-limited", "strangers-limited", "limit-contended", "dropped-limited"];
/// The answer that says that there was too much of asking.
const KISSED: &str = "kissed";
/// What the XDP program's counters of dropped frames begin with; the rest of its frames came to a worker or to the kernel.
const DROPPED_BY_DRIVER: &str = "dropped-";
/// By how much the server's uptime may fall behind the clock that the asking is timed by, s.
const BEHIND_MAX_S: f64 = 0.5;

/// What was counted between two answers, a second.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Rates {
    /// What came: the three below together.
    pub(super) requests: f64,
    /// What was answered, kisses among them.
    pub(super) replies: f64,
    /// What was over a limit and left without an answer.
    pub(super) limited: f64,
    /// What was left without one for another reason.
    pub(super) dropped: f64,
    /// What isn't an answer with the time, by its counter, the most first; none at zero.
    pub(super) reasons: Vec<(String, f64)>,
    /// Each worker's part, in the order of the status.
    pub(super) workers: Vec<WorkerRates>,
    /// How long all of them kept what they answered.
    pub(super) residence: Residence,
}

/// One worker's part.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct WorkerRates {
    /// Answered and dropped, a second.
    pub(super) rate: f64,
    /// The part of what all workers took; 0 where nothing came.
    pub(super) share: f64,
    /// How long it kept what it answered.
    pub(super) residence: Residence,
}

impl Rates {
    /// From `earlier` to `later`, between which at least `elapsed_s` passed; none if they aren't of one run.
    #[must_use]
    pub(super) fn between(earlier: &Status, later: &Status, elapsed_s: f64) -> Option<Self> {
        let interval_s = later.uptime_s - earlier.uptime_s;
        let one_run = interval_s > 0.0
            && interval_s + BEHIND_MAX_S >= elapsed_s
            && later.version == earlier.version
            && later.workers.len() == earlier.workers.len();
        if !one_run {
            return None;
        }
        let mut answers = Counters::new();
        let mut drops = Counters::new();
        let mut taken = Vec::new();
        for (earlier, later) in earlier.workers.iter().zip(&later.workers) {
            let answered = add_since(&mut answers, &later.answers, &earlier.answers)?;
            let dropped = add_since(&mut drops, &later.drops, &earlier.drops)?;
            taken.push((float(answered) + float(dropped), later.residence.since(&earlier.residence)));
        }
        for (earlier, later) in earlier.interfaces.iter().zip(&later.interfaces) {
            let by_driver = |verdicts: &Counters| -> Counters {
                let dropped = verdicts.iter().filter(|(name, _)| name.starts_with(DROPPED_BY_DRIVER));
                dropped.map(|(name, count)| (name.clone(), *count)).collect()
            };
            add_since(&mut drops, &by_driver(&later.verdicts), &by_driver(&earlier.verdicts))?;
        }
        Some(Self::of(&answers, &drops, taken, interval_s))
    }

    /// What came to workers; the rest was dropped before them.
    #[must_use]
    pub(super) fn requests_of_workers(&self) -> f64 {
        self.workers.iter().map(|worker| worker.rate).sum()
    }

    fn of(answers: &Counters, drops: &Counters, taken: Vec<(f64, Residence)>, interval_s: f64) -> Self {
        let rate = |count: u64| float(count) / interval_s;
        let sum = |counters: &Counters, wanted: &dyn Fn(&str) -> bool| {
            counters.iter().filter(|(name, _)| wanted(name)).map(|(_, &count)| rate(count)).sum::<f64>()
        };
        let is_limit = |name: &str| LIMITED.contains(&name);
        let replies = sum(answers, &|_| true);
        let (limited, dropped) = (sum(drops, &is_limit), sum(drops, &|name| !is_limit(name)));
        let kissed = answers.iter().filter(|(name, _)| name.as_str() == KISSED);
        let reasons = drops.iter().chain(kissed).filter(|&(_, &count)| count > 0);
        let mut reasons: Vec<(String, f64)> =
            reasons.map(|(name, &count)| (name.clone(), rate(count))).collect();
        // Equal ones stay in the order of their names, so that lines don't change places for nothing.
        reasons.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let all: f64 = taken.iter().map(|(packets, _)| packets).sum();
        let residence = Residence::together(taken.iter().map(|(_, residence)| residence));
        let worker = |(packets, residence): (f64, Residence)| WorkerRates {
            rate: packets / interval_s,
            share: if all > 0.0 { packets / all } else { 0.0 },
            residence,
        };
        let workers = taken.into_iter().map(worker).collect();
        let requests = replies + limited + dropped;
        Self { requests, replies, limited, dropped, reasons, workers, residence }
    }
}

/// Adds what each counter of `later` has more than `earlier`, and gives the sum of that; none if one went backwards.
fn add_since(total: &mut Counters, later: &Counters, earlier: &Counters) -> Option<u64> {
    let gone = |(name, count): (&String, &u64)| *count > 0 && !later.contains_key(name);
    if earlier.iter().any(gone) {
        return None;
    }
    let mut sum = 0_u64;
    for (name, count) in later {
        let more = count.checked_sub(earlier.get(name).copied().unwrap_or_default())?;
        let entry = BTreeMap::entry(total, name.clone()).or_default();
        *entry = entry.saturating_add(more);
        sum = sum.saturating_add(more);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::plausible;

    /// Two seconds after [`plausible`], with so many more of everything that is dropped or answered.
    fn later() -> Status {
        let mut status = plausible();
        status.uptime_s += 2.0;
        let worker = &mut status.workers[0];
        *worker.answers.get_mut("server").unwrap() += 3_000;
        worker.answers.insert(KISSED.to_owned(), 10);
        worker.drops.insert("rate-limited".to_owned(), 90);
        worker.residence = Residence::together([
            &worker.residence,
            &Residence::from_buckets(&[(0, 0), (2_048, 99), (4_096, 1), (8_192, 0)]),
        ]);
        *status.workers[1].drops.get_mut("short").unwrap() += 1_000;
        *status.interfaces[0].verdicts.get_mut("dropped-limited").unwrap() += 2_000;
        *status.interfaces[0].verdicts.get_mut("steered").unwrap() += 3_100;
        status
    }

    #[test]
    fn counts_are_divided_by_the_interval() {
        let rates = Rates::between(&plausible(), &later(), 2.0).unwrap();
        assert_eq!((rates.requests, rates.replies), (3_050.0, 1_505.0));
        assert_eq!((rates.limited, rates.dropped), (1_045.0, 500.0));
        let reasons: Vec<_> = rates.reasons.iter().map(|(name, rate)| (name.as_str(), *rate)).collect();
        assert_eq!(
            reasons,
            [("dropped-limited", 1_000.0), ("short", 500.0), ("rate-limited", 45.0), (KISSED, 5.0)]
        );
        let workers: Vec<_> = rates.workers.iter().map(|worker| (worker.rate, worker.share)).collect();
        assert_eq!(workers, [(1_550.0, 3_100.0 / 4_100.0), (500.0, 1_000.0 / 4_100.0)]);
        // Of the interval, not of the run.
        assert_eq!((rates.residence.count, rates.residence.p50_ns), (100, 4_095));
        assert_eq!(rates.workers[1].residence.count, 0);
    }

    #[test]
    fn nothing_that_came_is_nothing_a_second() {
        let same = Status { uptime_s: plausible().uptime_s + 1.0, ..plausible() };
        let rates = Rates::between(&plausible(), &same, 1.0).unwrap();
        assert_eq!((rates.requests, rates.reasons.len(), rates.workers[0].share), (0.0, 0, 0.0));
    }

    #[test]
    fn a_restarted_server_has_no_rate() {
        let fresh = Status { uptime_s: 0.5, ..later() };
        assert_eq!(Rates::between(&plausible(), &fresh, 1.0), None, "its uptime went back");
        assert_eq!(Rates::between(&plausible(), &plausible(), 1.0), None, "no time passed");
        let late = Status { uptime_s: plausible().uptime_s + 40.0, ..later() };
        assert_eq!(Rates::between(&plausible(), &late, 60.0), None, "more time passed than for the server");
        assert!(Rates::between(&plausible(), &late, 40.0).is_some());
        for back in [
            |status: &mut Status| *status.workers[0].answers.get_mut("server").unwrap() = 3,
            |status: &mut Status| *status.workers[1].drops.get_mut("short").unwrap() = 0,
            |status: &mut Status| _ = status.workers[1].drops.remove("short"),
            |status: &mut Status| *status.interfaces[0].verdicts.get_mut("dropped-limited").unwrap() = 1,
            |status: &mut Status| _ = status.workers.pop(),
            |status: &mut Status| status.version.push('1'),
        ] {
            let mut status = later();
            back(&mut status);
            assert_eq!(Rates::between(&plausible(), &status, 2.0), None);
        }
    }
}
