//! The workers, who may ask, and the limiter.

use super::family::{Families, Family, Value, level};
use crate::status::{Counters, Residence, Status, WorkerStatus};

/// log₂ of the upper ends of the buckets for residence in nanoseconds: from half a microsecond to 134 ms.
const RESIDENCE_LOG2_NS: std::ops::RangeInclusive<u32> = 9..=27;
/// The same for errors of transmit timestamps: from 32 ns to a millisecond.
const ERROR_LOG2_NS: std::ops::RangeInclusive<u32> = 5..=20;

/// What becomes of packets, by the counters that say so; the last is for all others.
pub(super) const FATES: [(&str, &[&str]); 6] = [
    ("served", &["answered"]),
    ("unsynchronised", &["answered-unsynchronised"]),
    ("kissed", &["kissed"]),
    ("limited", &["rate-limited", "prefix-limited", "strangers-limited", "limit-contended"]),
    ("denied", &["denied", "bogon-source"]),
    ("refused", &[]),
];

pub(super) fn gather(status: &Status, out: &mut Families) {
    let workers: Vec<(String, &WorkerStatus)> =
        status.workers.iter().enumerate().map(|(index, worker)| (index.to_string(), worker)).collect();
    let info = out.info("maser_worker", "The workers: the core of each, empty for any, and its packet port");
    for (index, worker) in &workers {
        let core = worker.core.map(|core| core.to_string()).unwrap_or_default();
        info.add([("worker", index), ("core", &core), ("port", &worker.port)], Value::Known);
    }
    requests(status, out);
    let mut counted = |name, help, label, counters: fn(&WorkerStatus) -> &Counters| {
        let family = out.counter(name, help);
        for (index, worker) in &workers {
            for (what, count) in counters(worker) {
                family.count([("worker", index), (label, what)], *count);
            }
        }
    };
    counted("maser_answers", "Requests answered, by the kind of answer", "kind", |worker| &worker.answers);
    counted("maser_drops", "Packets not answered, by the reason", "reason", |worker| &worker.drops);
    counted("maser_worker_events", "What else the workers counted", "event", |worker| &worker.events);
    let missing =
        out.gauge("maser_frames_missing", "AF_XDP frames that nobody held when last no packet was waiting");
    for (index, worker) in &workers {
        missing.with([("worker", index)], level(worker.frames_missing));
    }
    let residence = out.histogram(
        "maser_residence_seconds",
        "From a packet's receive stamp to its transmit stamp; the sum is of buckets' upper ends",
    );
    for (index, worker) in &workers {
        buckets(residence, index, &worker.residence, RESIDENCE_LOG2_NS);
    }
    let errors = out.histogram(
        "maser_transmit_stamp_error_seconds",
        "From a transmit timestamp to when its reply left, either way, of replies whose departure was told",
    );
    for (index, worker) in &workers {
        buckets(errors, index, &worker.transmit.errors, ERROR_LOG2_NS);
    }
    lateness(&workers, out);
    limiter(status, out);
    access(status, out);
}

/// What became of requests that came to the workers.
fn requests(status: &Status, out: &mut Families) {
    let fate = |name: &str| {
        let place = FATES.iter().position(|(_, counters)| counters.contains(&name));
        place.unwrap_or(FATES.len() - 1)
    };
    let (answers, drops) = (status.total(|worker| &worker.answers), status.total(|worker| &worker.drops));
    let requests = out.counter("maser_requests", "Packets that came to the workers, by what became of them");
    for (place, (word, _)) in FATES.iter().enumerate() {
        let of_it = answers.iter().chain(&drops).filter(|(name, _)| fate(name) == place);
        requests.count([("fate", word)], of_it.fold(0, |sum: u64, (_, count)| sum.saturating_add(*count)));
    }
}

fn lateness(workers: &[(String, &WorkerStatus)], out: &mut Families) {
    let family = out.gauge(
        "maser_transmit_lateness_seconds",
        "How much later than foreseen replies leave: the median of the last, which is added to transmit timestamps",
    );
    for (index, worker) in workers {
        family.with([("worker", index)], worker.transmit.lateness_s);
    }
    let family = out.gauge(
        "maser_transmit_lateness_spread_seconds",
        "Half of the distance between the quartiles of that",
    );
    for (index, worker) in workers {
        family.with([("worker", index)], worker.transmit.spread_s);
    }
}

fn limiter(status: &Status, out: &mut Families) {
    let parts =
        status.limit.as_ref().map(|limit| [("addresses", limit.addresses), ("prefixes", limit.prefixes)]);
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let places = out.gauge("maser_limiter_places", "Places in the limiter's table");
    for (part, figures) in &parts {
        places.with([("part", part)], level(figures.places));
    }
    let taken =
        out.gauge("maser_limiter_taken_ratio", "The share of places that are somebody's; it only grows");
    for (part, figures) in &parts {
        taken.with([("part", part)], figures.taken);
    }
    let held = out.gauge("maser_limiter_held_ratio", "The share of places that no newcomer may have now");
    for (part, figures) in &parts {
        held.with([("part", part)], figures.held);
    }
    let regular = out.gauge("maser_limiter_regular_ratio", "The share of places that are regulars'");
    for (part, figures) in &parts {
        regular.with([("part", part)], figures.regular);
    }
}

fn access(status: &Status, out: &mut Families) {
    let access = &status.access;
    let count = |prefixes: usize| level(u64::try_from(prefixes).unwrap_or(u64::MAX));
    out.gauge("maser_access_prefixes", "Prefixes of the lists of who may ask").one(count(access.prefixes));
    let prefixes = out.gauge("maser_access_file_prefixes", "Prefixes in use of a list's file");
    for file in &access.files {
        prefixes.with([("list", &file.key)], count(file.prefixes));
    }
    let problems =
        out.gauge("maser_access_file_problem", "Whether what is in use isn't what the file holds now");
    for file in &access.files {
        problems.with([("list", &file.key)], super::family::flag(file.problem.is_some()));
    }
}

/// A histogram of octaves from the finer one of the status, whose buckets don't reach over an octave's end.
fn buckets(family: &mut Family, worker: &str, told: &Residence, ends: std::ops::RangeInclusive<u32>) {
    let seconds = |ns: u64| level(ns) / 1e9;
    let mut buckets: Vec<(f64, u64)> = ends.clone().map(|log2| (seconds(1 << log2), 0)).collect();
    buckets.push((f64::INFINITY, 0));
    let mut sum_s = 0.0;
    for &(end_ns, count) in &told.buckets {
        let place = ends.clone().take_while(|log2| end_ns >= 1 << log2).count();
        if let Some((_, counted)) = buckets.get_mut(place) {
            *counted += count;
        }
        sum_s += seconds(end_ns) * level(count);
    }
    family.add([("worker", worker)], Value::Buckets(buckets, sum_s));
}
