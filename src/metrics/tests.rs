use super::*;
use crate::status::tests::plausible;
use crate::status::{
    AccessFileStatus, Counters, LeapKnowledge, NextLeap, NicStatus, StampStatus, SteeringStatus,
};
use std::collections::{BTreeMap, BTreeSet};

/// A status in which every figure is known.
fn rich() -> Status {
    let mut status = plausible();
    let stamps = || StampStatus {
        counts: Counters::from([("nic".to_owned(), 7), ("missing".to_owned(), 1)]),
        ..StampStatus::default()
    };
    status.nics = vec![NicStatus {
        name: "eth0".to_owned(),
        offset_s: Some(-37.0),
        rate_ppm: Some(5.0),
        error_s: Some(1.2e-7),
        received: stamps(),
        sent: StampStatus { problem: Some("silent".to_owned()), ..stamps() },
        ..NicStatus::default()
    }];
    status.access.files = vec![AccessFileStatus {
        key: "deny_file".to_owned(),
        path: "/etc/maser/deny".to_owned(),
        prefixes: 9,
        problem: None,
    }];
    let tracking = &mut status.tracking;
    tracking.holdover_left_s = Some(100.0);
    tracking.leap =
        LeapKnowledge { next: Some(NextLeap { when: String::new(), seconds: 1 }), ..tracking.leap.clone() };
    tracking.steering = Some(SteeringStatus {
        offset_s: Some(1e-9),
        frequency_ppm: Some(-12.0),
        steps: 1,
        ..SteeringStatus::default()
    });
    status
}

/// What `docs/metrics.md` says: by name the type and the labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let mut cells = row.split(" | ");
        let name = cells.next().unwrap().trim_end_matches('`').to_owned();
        let kind = cells.next().unwrap().to_owned();
        let labels = cells.next().unwrap().split(", ").map(|label| label.trim_matches('`').to_owned());
        (name, (kind, labels.filter(|label| label != "–").collect()))
    };
    let listed: Vec<_> = rows.map(row).collect();
    let count = listed.len();
    let documented = BTreeMap::from_iter(listed);
    assert_eq!(documented.len(), count, "each is listed once");
    documented
}

#[test]
fn the_documentation_lists_what_there_is_and_nothing_else() {
    let families = figures(&rich(), 1.0);
    let unknown: Vec<_> =
        families.0.iter().filter(|family| family.samples.is_empty()).map(|family| family.name).collect();
    assert_eq!(unknown, [""; 0], "a status in which everything is known has figures for all");
    let given = families.0.iter().map(|family| {
        let labels = family.samples.iter().flat_map(|sample| sample.labels.iter());
        let labels = labels.map(|(name, _)| (*name).to_owned()).collect();
        (family.full_name(), (family.kind.word().to_owned(), labels))
    });
    let given: BTreeMap<String, (String, BTreeSet<String>)> = given.collect();
    let documented = documented();
    for (name, what) in &given {
        assert_eq!(documented.get(name), Some(what), "{name} in docs/metrics.md");
    }
    let gone: Vec<_> = documented.keys().filter(|name| !given.contains_key(*name)).collect();
    assert!(gone.is_empty(), "docs/metrics.md lists what there isn't: {gone:?}");
}

#[test]
fn every_series_is_given_once_and_every_help_is_a_line() {
    let families = figures(&rich(), 1.0);
    let mut series = BTreeSet::new();
    for family in &families.0 {
        assert!(!family.help.is_empty() && !family.help.contains(['\n', '\\']), "{}", family.name);
        for sample in &family.samples {
            assert!(series.insert(format!("{}{:?}", family.name, sample.labels)), "{} twice", family.name);
        }
    }
    let names: BTreeSet<_> = families.0.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), families.0.len());
}

#[test]
fn figures_are_those_of_the_status() {
    let status = rich();
    let text = text(figures(&status, 1.5e9), Format::OpenMetrics).unwrap();
    for line in [
        "maser_build_info{version=\"0.1.0\"} 1",
        "process_start_time_seconds 1500000000.0",
        "maser_configuration_refused 1.0",
        "maser_configuration_reloads_total{outcome=\"applied\"} 2",
        "maser_configuration_reloads_total{outcome=\"refused\"} 1",
        "maser_state{state=\"locked\"} 1.0",
        "maser_state{state=\"holdover\"} 0.0",
        "maser_synchronised 1.0",
        "maser_leap{leap=\"none\"} 1.0",
        "maser_offset_seconds -1.23e-8",
        "maser_nic_clock_rate_offset_ratio{nic=\"eth0\"} 0.000005",
        "maser_root_distance_seconds 0.00000121",
        "maser_error_budget_seconds{part=\"stamp error\"} 0.000001",
        "maser_leap_file_remaining_seconds 18841496.875",
        "maser_next_leap_second_seconds 1.0",
        "maser_source_info{source=\"pps0\",type=\"pps\"} 1",
        "maser_source_offset_seconds{source=\"london\"} 1.0002",
        "maser_source_reach_ratio{source=\"pps0\"} 1.0",
        "maser_source_problem{source=\"ntp1\"} 1.0",
        "maser_source_steps_total{source=\"nmea0\"} 1",
        "maser_source_events_total{source=\"ntp1\",event=\"refused\"} 3",
        "maser_drops_total{worker=\"0\",reason=\"not_a_request\"} 1040",
        "maser_worker_info{worker=\"1\",core=\"1\",port=\"socket\"} 1",
        "maser_limiter_held_ratio{part=\"addresses\"} 0.125",
        "maser_xdp_frames_total{interface=\"eth0\",verdict=\"dropped-limited\"} 77000",
        "maser_queue_events_total{interface=\"eth0\",queue=\"1\",event=\"rx-ring-full\"} 1204",
        "maser_queue_drop_level{interface=\"eth0\",queue=\"1\"} 1.25",
        "maser_nic_stamps_total{nic=\"eth0\",direction=\"sent\",teller=\"missing\"} 1",
        "maser_nic_problem{nic=\"eth0\",direction=\"sent\"} 1.0",
        "maser_access_file_prefixes{list=\"deny_file\"} 9.0",
        "# EOF",
    ] {
        assert!(text.lines().any(|told| told == line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains("maser_source_offset_seconds{source=\"ntp1\"}"), "what isn't known has no figure");
}

#[test]
fn a_histogram_counts_each_packet_below_the_ends_that_it_is_below() {
    let text = text(figures(&rich(), 1.0), Format::OpenMetrics).unwrap();
    let bucket = |stem: &str, end: &str| {
        let start = format!("maser_{stem}_seconds_bucket{{le=\"{end}\",worker=\"0\"}} ");
        let found = text.lines().find_map(|line| line.strip_prefix(&start));
        found.unwrap_or_else(|| panic!("no {start} in\n{text}")).parse::<u64>().unwrap()
    };
    // 60,000 within 512 ns to 1,023, 39,000 to 4,095, 950 to 16,383, 49 to 1,048,575, 1 above.
    let stay = |end| bucket("residence", end);
    assert_eq!((stay("5.12e-7"), stay("0.000001024"), stay("0.000002048")), (0, 60_000, 60_000));
    assert_eq!((stay("0.000004096"), stay("0.000016384"), stay("0.001048576")), (99_000, 99_950, 99_999));
    assert_eq!((stay("0.134217728"), stay("+Inf")), (100_000, 100_000));
    let error = |end| bucket("transmit_stamp_error", end);
    assert_eq!((error("1.28e-7"), error("2.56e-7"), error("5.12e-7"), error("+Inf")), (0, 900, 990, 990));
    assert!(text.contains("\nmaser_residence_seconds_count{worker=\"0\"} 100000\n"));
}

#[test]
fn packets_are_told_by_their_fate() {
    let mut status = Status::default();
    let counters =
        |pairs: &[(&str, u64)]| pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
    let worker = crate::status::WorkerStatus {
        answers: counters(&[("answered", 1), ("answered-unsynchronised", 2), ("kissed", 4)]),
        drops: counters(&[
            ("rate-limited", 8),
            ("strangers-limited", 16),
            ("denied", 32),
            ("bogon-source", 64),
            ("version", 128),
        ]),
        ..Default::default()
    };
    status.workers = vec![worker.clone(), worker];
    let text = text(figures(&status, 1.0), Format::Older).unwrap();
    for (fate, count) in [
        ("served", 2),
        ("unsynchronised", 4),
        ("kissed", 8),
        ("limited", 48),
        ("denied", 192),
        ("refused", 256),
    ] {
        assert!(
            text.contains(&format!("\nmaser_requests_total{{fate=\"{fate}\"}} {count}\n")),
            "{fate}\n{text}"
        );
    }
}

/// The names that fates are told by are counters' own.
#[test]
fn fates_know_the_counters() {
    let counts = crate::count::Counts::default();
    let names: BTreeSet<_> = counts.answers().chain(counts.drops()).map(|(name, _)| name).collect();
    for name in packets::FATES.iter().flat_map(|(_, counters)| counters.iter()) {
        assert!(names.contains(name), "{name} is no counter");
    }
}
