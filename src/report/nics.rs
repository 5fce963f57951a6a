//! The NICs whose stamps are used, as the status tells them.

use super::WorkerView;
use crate::count::{Told, Way};
use crate::nics::{NicView, Seen};
use crate::status::{NicStatus, StampStatus};
use maser_core::snapshot::Snapshot;
use maser_core::time::{Instant, PhcLine, Span, Tai};

/// Over so much of a NIC's clock its rate is told: a tick of the counter is less than a part in 10¹¹ of it.
const RATE_OVER: Span = Span::from_seconds(100);

/// As of now.
pub(super) fn status(nic: &NicView, workers: &[WorkerView], snapshot: &Snapshot) -> NicStatus {
    let NicView { facts, line, place, .. } = nic;
    let Seen { now, lately, problems } = nic.seen();
    let line = place.map(|_| line.read()).filter(|line| line.error_ticks != u32::MAX);
    let figures = line.and_then(|line| figures(&line, snapshot));
    let stamps = |way: Way| StampStatus {
        lately: whose(lately[way as usize]),
        counts: counts(*place, workers, way),
        problem: problems[way as usize].map(str::to_owned),
    };
    NicStatus {
        name: facts.name.clone(),
        driver: facts.driver.clone(),
        clock: facts.clock.map(|clock| format!("ptp{clock}")).unwrap_or_default(),
        clock_name: facts.clock_name.clone(),
        receive_filter: now.receive_filter,
        transmit_type: now.transmit_type,
        link_mbps: now.link_mbps,
        offset_s: figures.map(|figures| figures.offset_s),
        rate_ppm: figures.map(|figures| figures.rate_ppm),
        error_s: figures.map(|figures| figures.error_s),
        received: stamps(Way::Received),
        sent: stamps(Way::Sent),
        why: facts.why.clone(),
    }
}

/// Where a clock stands by the served one.
#[derive(Clone, Copy)]
struct Figures {
    offset_s: f64,
    rate_ppm: f64,
    error_s: f64,
}

fn figures(line: &PhcLine, snapshot: &Snapshot) -> Option<Figures> {
    let served = snapshot.line?;
    let offset = Instant::<Tai>::from_unix_nanos(line.origin_ns) - served.at(line.reference);
    let later = line.ticks_at(line.origin_ns.saturating_add(RATE_OVER.as_nanos()));
    let lasts = served.rate.span_of(later.since(line.reference));
    Some(Figures {
        offset_s: offset.as_seconds_f64(),
        rate_ppm: (RATE_OVER - lasts).as_seconds_f64() / lasts.as_seconds_f64() * 1e6,
        error_s: served.rate.span_of(line.error_ticks.into()).as_seconds_f64(),
    })
}

/// Who said when, by the document's words, the one who did most often first.
fn whose(lately: [u64; Told::ALL.len()]) -> String {
    let of = |told: Told| lately[told as usize];
    let kernels = of(Told::Missing) + of(Told::Implausible) + of(Told::Unplaced);
    let mut tellers = [(of(Told::Used), "nic"), (kernels, "kernel"), (of(Told::Hook), "hook")];
    tellers.sort_by_key(|(frames, _)| std::cmp::Reverse(*frames));
    let words: Vec<_> = tellers.iter().filter(|(frames, _)| *frames > 0).map(|(_, word)| *word).collect();
    words.join(" and ")
}

fn counts(place: Option<usize>, workers: &[WorkerView], way: Way) -> crate::status::Counters {
    let Some(place) = place else { return crate::status::Counters::new() };
    let sum = |told: Told| workers.iter().map(|worker| worker.counts.of_nic(place, way)[told as usize]).sum();
    Told::ALL.into_iter().map(|told| (told.word().to_owned(), sum(told))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use maser_core::time::{Line, Rate, Ticks};

    #[test]
    fn a_clock_is_told_by_the_served_one() {
        let reference = Ticks::from_bits(5_000);
        let line = Line { reference, origin: Instant::from_unix(1_795_000_000, 0), rate: Rate::NANOSECOND };
        let snapshot = Snapshot { line: Some(line), ..Snapshot::UNKNOWN };
        // 37 s behind, and 5 ppm fast: its seconds last 999,995 µs.
        let clock =
            PhcLine::through(reference.offset(1_000), 1_794_999_963_000_001_000, 999_995_000, 1_000_000_000);
        let mut clock = clock.unwrap();
        clock.error_ticks = 250;
        let told = figures(&clock, &snapshot).unwrap();
        assert!((told.offset_s + 37.0).abs() < 1e-9, "{}", told.offset_s);
        assert!((told.rate_ppm - 5.000_025).abs() < 1e-4, "{}", told.rate_ppm);
        assert!((told.error_s - 2.5e-7).abs() < 1e-12);
        assert!(figures(&clock, &Snapshot::UNKNOWN).is_none());
    }

    #[test]
    fn whose_stamps_are_used_is_told_in_the_order_of_their_number() {
        for (lately, words) in [
            ([0; 5], ""),
            ([7, 0, 0, 0, 0], "nic"),
            ([7, 3, 3, 2, 0], "kernel and nic"),
            ([7, 3, 0, 0, 4], "nic and hook and kernel"),
            ([0, 0, 0, 1, 0], "kernel"),
        ] {
            assert_eq!(whose(lately), words);
        }
    }
}
