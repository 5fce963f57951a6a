//! What `make bench` makes of its samples: medians, ratios, verdicts, the table and the README. Nothing is measured here.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(dead_code, reason = "only what follows from samples is used here; the rig uses all of it")]

#[path = "../benches/rig/figures.rs"]
mod figures;
#[path = "peers/host.rs"]
mod host;
#[path = "../benches/rig/hosts.rs"]
mod hosts;
#[path = "../benches/rig/interleaved.rs"]
mod interleaved;
#[path = "../benches/rig/interleaved_table.rs"]
mod interleaved_table;
#[path = "../benches/rig/limits.rs"]
mod limits;
#[path = "../benches/rig/limits_table.rs"]
mod limits_table;
#[path = "../benches/rig/measure.rs"]
mod measure;
#[path = "../benches/rig/meter.rs"]
mod meter;
#[path = "../benches/rig/picture.rs"]
mod picture;
#[path = "../benches/rig/queues.rs"]
mod queues;
#[path = "../benches/rig/report.rs"]
mod report;
#[path = "../benches/rig/servers.rs"]
mod servers;
#[path = "../benches/rig/table.rs"]
mod table;

use figures::{Figure, Limit, Row, Verdict, rows, verdicts};
use hosts::Placement;
use interleaved::{CorrectionSample, FollowerSample, Interleaved, InterleavedSample, MixedSample};
use limits::{CostSample, FloodSample, Limits};
use measure::{Percentiles, Sample, Spread, Step};
use servers::{CHRONYD, ECHO_WITH_STAMPS, SERVERS, XDP_ECHO, XDP_ECHO_GENERIC};

const SOCKET: &str = "maser socket";
const SPINNING: &str = "maser socket, spinning";
const XDP: &str = "maser af-xdp";
const XDP_GENERIC: &str = "maser af-xdp, generic";

/// Half a second at a rate: so many requests lost, the rest answered.
fn step(rate_per_s: f64, lost: u64) -> Step {
    let sent = 50_000;
    Step {
        rate_requested: rate_per_s,
        rate_offered: rate_per_s,
        rate_answered: rate_per_s * (1.0 - measure::float(lost) / measure::float(sent)),
        duration_s: 0.5,
        sent,
        lost,
        ..Step::default()
    }
}

fn sample(server: &'static str, round: u32, ladder: Vec<Step>, p50_ns: u64) -> Sample {
    let latency = Step { latency_ns: Percentiles { p50: p50_ns, p99: 2 * p50_ns }, ..step(10_000.0, 0) };
    let placement = Placement::ServerCore.name();
    Sample {
        placement,
        server,
        round,
        ladder,
        latency: Some(latency),
        direct: Vec::new(),
        accuracy: None,
        cpu_ns: None,
    }
}

/// With the median error of the offset at half of the peak.
fn with_offset(sample: Sample, p50: u64) -> Sample {
    let offset_error_ns = Some(Spread { p50, p99: 9 * p50, ..Spread::default() });
    Sample { accuracy: Some(Step { offset_error_ns, ..step(40_000.0, 0) }), ..sample }
}

/// Three rounds in which the machine is faster each time, so that only ratios within a round mean anything.
fn three_rounds() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (round, speed) in [(1, 1.0), (2, 2.0), (3, 10.0)] {
        let peak = |rate: f64| {
            vec![step(0.5 * rate * speed, 0), step(rate * speed, 500), step(2.0 * rate * speed, 30_000)]
        };
        samples.push(sample(ECHO_WITH_STAMPS, round, peak(100e3), 50_000));
        samples.push(sample(XDP_ECHO, round, peak(300e3), 40_000));
        samples.push(sample(XDP_ECHO_GENERIC, round, peak(130e3), 40_000));
        samples.push(with_offset(sample(XDP, round, peak(180e3), 40_000), 1_000));
        samples.push(with_offset(sample(XDP_GENERIC, round, peak(120e3), 40_000), 3_000));
        samples.push(with_offset(sample(CHRONYD, round, peak(50e3), 60_000), 4_000));
        samples.push(sample(SOCKET, round, peak(80e3), 55_000));
        samples.push(sample(SPINNING, round, Vec::new(), 30_000));
    }
    samples
}

fn row_of(samples: &[Sample], server: &str) -> Row {
    rows(samples, Placement::ServerCore).into_iter().find(|row| row.server == server).unwrap()
}

fn close(figure: Option<Figure>, median: f64) -> bool {
    figure.is_some_and(|figure| (figure.median / median - 1.0).abs() < 1e-9)
}

#[test]
fn the_median_is_the_middle_and_nothing_has_none() {
    assert_eq!(Figure::of([]), None);
    assert_eq!(Figure::of([3.0, 1.0, 2.0]), Some(Figure { median: 2.0, min: 1.0, max: 3.0 }));
    assert_eq!(Figure::of([4.0, 1.0, 2.0, 3.0]), Some(Figure { median: 2.5, min: 1.0, max: 4.0 }));
}

#[test]
fn ratios_are_taken_within_a_round() {
    let mut samples = three_rounds();
    let row = row_of(&samples, SOCKET);
    assert!(close(row.peak_to_echo, 0.8) && close(row.peak_to_chronyd, 1.6), "{:?}", row.peak_to_echo);
    assert!(close(row.p50_to_chronyd, 55.0 / 60.0));
    // In another order they are the same; of a placement where nothing was measured there are none.
    samples.reverse();
    assert!(close(row_of(&samples, SOCKET).peak_to_echo, 0.8));
    assert!(rows(&samples, Placement::GeneratorCore).iter().all(|row| row.peak.is_none()));
}

#[test]
fn each_server_is_compared_with_the_echo_that_takes_requests_the_same_way() {
    let samples = three_rounds();
    let (native, generic) = (row_of(&samples, XDP), row_of(&samples, XDP_GENERIC));
    assert!(close(native.peak_to_echo, 0.6) && close(native.peak_to_chronyd, 3.6));
    assert!(close(generic.peak_to_echo, 120.0 / 130.0) && close(generic.peak_to_chronyd, 2.4));
    assert!(close(native.offset_p50_to_chronyd, 0.25) && close(generic.offset_p50_to_chronyd, 0.75));
    // What an entry is compared with is itself an entry with a peak.
    for echo in SERVERS.iter().filter_map(servers::Entry::echo) {
        let found = SERVERS.iter().find(|entry| entry.name == echo).unwrap();
        assert!(found.is_echo() && found.is_pictured(), "{echo}");
    }
}

#[test]
fn a_server_of_which_only_the_peak_is_measured_has_a_row() {
    let limit = Sample { latency: None, ..sample("XDP_TX reflector", 1, vec![step(1e6, 0)], 1) };
    assert_eq!(limit.in_short(), "peak 1000 k/s");
    let row = row_of(&[limit], "XDP_TX reflector");
    assert!(close(row.peak, 1e6) && row.p50_ns.is_none() && row.troubles.is_empty());
    assert!(row.peak_to_echo.is_none() && row.at_least);
}

#[test]
fn losses_count_whoever_refused_the_request() {
    let of = |ladder: Vec<Step>| row_of(&[sample(SOCKET, 1, ladder, 1)], SOCKET);
    let row = of(vec![step(50e3, 0), step(100e3, 500), step(200e3, 20_000)]);
    assert!(close(row.kept, 99e3) && close(row.peak, 120e3) && !row.at_least);
    let refused = Step { unsent: 600, ..step(100e3, 0) };
    assert!(close(of(vec![step(50e3, 0), refused]).kept, 50e3));
    // A peak without loss is as high as was tried.
    assert!(of(vec![step(50e3, 0), step(100e3, 0)]).at_least);
    // One that loses a few at the end of its ladder may be, one that has no time for most isn't.
    assert!(of(vec![step(50e3, 0), step(100e3, 1_100)]).at_least);
    assert!(!of(vec![step(50e3, 0), step(100e3, 13_000)]).at_least);
}

#[test]
fn a_generator_that_fell_behind_proves_nothing() {
    let late = Step { lag_ns: Percentiles { p50: 0, p99: 100_000_000 }, ..step(400e3, 0) };
    let row = row_of(&[sample(SOCKET, 1, vec![step(50e3, 0), late], 1)], SOCKET);
    assert!(close(row.peak, 50e3) && close(row.kept, 50e3));
    assert_eq!(row.troubles, ["1 steps left out, in which the generator fell behind"]);
}

#[test]
fn verdicts_can_be_met_and_missed() {
    let found = verdicts(&rows(&three_rounds(), Placement::ServerCore));
    let met: Vec<_> = found.iter().map(|verdict| (verdict.server, verdict.is_met())).collect();
    let expected = [
        (XDP, false),
        (XDP, true),
        (XDP, true),
        (XDP, true),
        (XDP_GENERIC, true),
        (XDP_GENERIC, false),
        (XDP_GENERIC, true),
        ("maser af-xdp, spinning", false),
        (SOCKET, false),
        (SOCKET, true),
        (SOCKET, false),
        ("maser io-uring", false),
        ("maser io-uring", false),
        ("maser io-uring", false),
        (SPINNING, true),
        ("maser io-uring, spinning", false),
    ];
    assert_eq!(met, expected);
    let figure = |median| Some(Figure { median, min: median, max: median });
    let at_most =
        |ratio| Verdict { server: SOCKET, what: "", limit: Limit::AtMost(0.5), ratio: figure(ratio) };
    assert!(at_most(0.5).is_met() && !at_most(0.51).is_met());
    let shown: Vec<_> = found.iter().map(table::verdict).collect();
    assert_eq!(
        shown[8],
        "MISSED  maser socket              peak / bare echo with stamps      0.80 (0.80–0.80), wanted ≥ 0.9"
    );
    assert_eq!(
        shown[3],
        "met     maser af-xdp              offset at half of peak / chronyd  0.25 (0.25–0.25), wanted ≤ 1"
    );
    assert!(shown[11].starts_with("MISSED") && shown[11].contains("not measured"));
}

#[test]
fn the_table_is_aligned_and_hides_nothing_that_was_measured() {
    let text = table::table(&Placement::ALL.map(|placement| (placement, rows(&three_rounds(), placement))));
    let widths: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
    let line = text.lines().find(|line| line.starts_with("| maser socket ")).unwrap();
    let cells: Vec<_> = line.split('|').map(str::trim).collect();
    assert_eq!(&cells[1..8], ["maser socket", "158 (79–792)", "0.80", "1.60", "158", "55 (55–55)", "0.92"]);
}

#[test]
fn the_picture_has_a_line_for_each_server_that_has_a_peak() {
    let svg = picture::svg(&three_rounds(), "title");
    assert_eq!(svg.matches("<polyline points=\"").count(), 18);
    assert_eq!(svg.matches("<circle").count(), 21);
    let colours: std::collections::BTreeSet<_> = svg
        .lines()
        .filter(|line| line.starts_with("<polyline"))
        .map(|line| line.split("stroke=").nth(1))
        .collect();
    assert_eq!(colours.len(), 9);
    assert!(svg.contains(">maser io-uring</text>") && svg.trim_end().ends_with("</svg>"));
}

#[test]
fn a_client_with_one_port_that_met_two_workers_is_told() {
    let text = "NIC statistics:\n     peer_ifindex: 2\n     rx_queue_0_xdp_packets: 7\n     rx_queue_0_drops: 1\n     \
                rx_queue_1_xdp_packets: 0\n";
    assert_eq!(queues::queues_of(text), [7, 0]);
    let sample = |splits| queues::QueueSample {
        clients: "many",
        sent: 100,
        lost: 0,
        invalid: 0,
        queues: vec![50, 50],
        workers: vec![60, 40],
        splits,
    };
    let shown = queues::table(&[sample(0)]);
    assert!(shown.contains("| many | 100 | 0 | 0 | 50 / 50 | 60 / 40 | 0 |"), "{shown}");
    assert!(shown.contains("one worker: met"), "{shown}");
    assert!(queues::table(&[sample(1)]).contains("one worker: MISSED"));
    assert!(queues::table(&[]).is_empty());
}

/// Two lines of chronyd's own.
const FOLLOWED: &str = "\
2026-11-22 11:19:22 192.0.2.1       N  1 111 111 1111  -4 -4 0.81 -1.991e-05  4.371e-05  4.004e-05  0.000e+00  0.000e+00 7F7F0101 4B K K
2026-11-22 11:19:22 192.0.2.1       N  1 111 111 1111  -4 -4 0.00  1.000e-08  2.408e-06  1.882e-07  0.000e+00  0.000e+00 7F7F0101 4I K K
";

#[test]
fn a_followers_log_is_read_by_its_columns() {
    let sample = FollowerSample::of(CHRONYD, FOLLOWED).unwrap();
    assert_eq!((sample.samples, sample.interleaved), (2, 1));
    let near = |found: f64, wanted: f64| (found - wanted).abs() < 1e-3;
    assert!(near(sample.mean_ns, -9_950.0) && near(sample.stddev_ns, 9_960.0), "{sample:?}");
    assert!(near(sample.spread_ns, 9_960.0) && near(sample.max_ns, 19_910.0), "{sample:?}");
    assert!(FollowerSample::of(CHRONYD, "").is_err() && FollowerSample::of(CHRONYD, "a line").is_err());
}

#[test]
fn interleaved_servers_are_held_against_chronyds_least_error() {
    let sample = |server, interleaved, mean: f64| InterleavedSample {
        server,
        clients: 100_000,
        sent: 1_000,
        lost: 0,
        invalid: 0,
        asked: 1_000,
        interleaved,
        basic_ns: Some(Spread { p50: 4_000, p99: 9_000, ..Spread::default() }),
        interleaved_ns: Some(Spread { mean, stddev: 120.0, p50: 400, p99: 700 }),
    };
    let chronyd = [sample(CHRONYD, 1_000, 400.0), sample(CHRONYD, 0, 9_000.0)];
    let follower = |server, spread_ns| FollowerSample {
        server,
        spread_ns,
        ..FollowerSample::of(server, FOLLOWED).unwrap()
    };
    let correction = |with_ns| CorrectionSample {
        server: SOCKET,
        without_ns: vec![4_000.0, 4_100.0, 9_000.0],
        with_ns: vec![with_ns; 3],
    };
    let shown = |own: InterleavedSample, spread_ns, with_ns, lost| {
        let replies = [chronyd.to_vec(), vec![own]].concat();
        interleaved_table::table(&Interleaved {
            replies,
            mixed: vec![MixedSample { server: SOCKET, rate_per_s: 70_000, sent: 140_000, lost, invalid: 0 }],
            corrections: vec![correction(with_ns)],
            followers: vec![follower(CHRONYD, 100.0), follower(SOCKET, spread_ns)],
        })
    };
    let good = shown(sample(SOCKET, 990, 400.0), 100.0, 2_050.0, 0);
    assert!(
        good.contains("| maser socket | 100000 | 0 | 0 | 99.0 % | 4.00 | 9.00 | 0.40 | 0.12 | 0.70 |"),
        "{good}"
    );
    let chronyd = "| chronyd | 2 | 1 | -9.95 (-9.95–-9.95) | 0.10 (0.10–0.10) | 9.96 (9.96–9.96) | 19.91 (19.91–19.91) |";
    assert!(good.contains(chronyd), "{good}");
    assert_eq!((good.matches(": met").count(), good.matches("MISSED").count()), (5, 0), "{good}");
    assert!(good.contains("| maser socket | 4.10 (4.00–9.00) | 2.05 (2.05–2.05) | 0.50 |"), "{good}");
    let bad = shown(sample(SOCKET, 989, 401.0), 101.0, 2_051.0, 1);
    assert_eq!(bad.matches("MISSED").count(), 5, "{bad}");
    let late = shown(sample(SOCKET, 990, -401.0), 100.0, 0.0, 0);
    assert_eq!(late.matches("MISSED").count(), 1, "{late}");
    let none = shown(InterleavedSample { interleaved_ns: None, ..sample(SOCKET, 0, 0.0) }, 100.0, 0.0, 0);
    assert_eq!(none.matches("MISSED").count(), 2, "{none}");
    assert!(interleaved_table::table(&Interleaved::default()).is_empty());
}

#[test]
fn only_what_is_between_the_markers_is_replaced() {
    let text = "before\n<!-- figures begin -->\nold\n<!-- figures end -->\nafter\n";
    let new = "before\n<!-- figures begin -->\nnew\n<!-- figures end -->\nafter\n";
    assert_eq!(report::between_markers(text, "new\n").as_deref(), Some(new));
    assert_eq!(report::between_markers("no markers", "new\n"), None);
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert!(report::between_markers(&readme, "").is_some());
}

/// Regulars of whom `attacked` were answered beside a flood; all were alone.
fn flooded(server: &'static str, share_of_peak: f64, attacked: f64) -> FloodSample {
    FloodSample {
        server,
        flood: "spoofed",
        flood_per_s: 600_000.0,
        share_of_peak,
        alone: 1.0,
        attacked,
        flood_answered: 0.01,
        flood_kissed: 0.001,
        p99_alone_ns: 100_000,
        p99_attacked_ns: 250_000,
        generator_kept_up: true,
        pages: [1_000, 1_000],
    }
}

#[test]
fn what_floods_may_do_is_judged() {
    let cost = |what, cpu_ns| CostSample { server: XDP, what, cpu_ns };
    let right = Limits {
        floods: vec![flooded(CHRONYD, 1.5, 0.1), flooded(XDP, 0.5, 0.995), flooded(XDP, 1.5, 0.96)],
        costs: vec![cost("answered", 1_500.0), cost("denied", 400.0), cost("garbage", 450.0)],
    };
    let table = limits_table::table(&right);
    assert!(!table.contains("MISSED") && table.matches(": met").count() == 6, "{table}");
    let missed = |limits: &Limits| limits_table::table(limits).matches("MISSED").count();
    type Plant = fn(&mut Limits);
    let planted: [Plant; 5] = [
        |limits| limits.floods[1].attacked = 0.989,
        |limits| limits.floods[2].attacked = 0.949,
        |limits| limits.floods[2].pages[1] = 1_001,
        |limits| limits.floods[2].generator_kept_up = false,
        |limits| limits.costs[1].cpu_ns = 510.0,
    ];
    for (number, plant) in planted.iter().enumerate() {
        let mut limits = right.clone();
        plant(&mut limits);
        assert_eq!(missed(&limits), 1, "fault {number}");
    }
    assert_eq!(limits_table::table(&Limits::default()), "");
}
