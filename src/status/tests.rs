//! What the tests of this module's parts share.

use std::path::PathBuf;

use super::*;

/// A status as a busy server would send it.
pub(crate) fn plausible() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        uptime_s: 274_329.5,
        state: State::Locked,
        stratum: 1,
        reference_id: "PPS".to_owned(),
        leap: LeapStatus::None,
        precision_log2_s: -25,
        root_delay_s: 0.0,
        root_dispersion_s: 1.21e-6,
        reference_time: Some(rfc3339(1_795_299_303, 125_000)),
        clock: ClockStatus {
            counter: "tsc".to_owned(),
            why: "invariant and synchronised between the cores".to_owned(),
            frequency_hz: 2_450_000_123.0,
        },
        sources: sources(),
        tracking: tracking(),
        ports: vec![
            PortStatus { listen: "0.0.0.0:123".to_owned(), rung: "io-uring".to_owned(), why: String::new() },
            PortStatus {
                listen: "[::]:123".to_owned(),
                rung: "socket".to_owned(),
                why: "io_uring: switched off (kernel.io_uring_disabled = 2)".to_owned(),
            },
        ],
        interfaces: interfaces(),
        configuration: Some(LoadStatus {
            file: Some("/etc/maser/maser.toml".to_owned()),
            began_s: 274_000.0,
            applied_ago_s: 3_700.0,
            reloads: 2,
            refusals: 1,
            refused: Some(RefusalStatus {
                ago_s: 61.0,
                why: "/etc/maser/maser.toml:3:1: server.wrokers: unknown key\n/etc/maser/maser.toml:4:1: too"
                    .to_owned(),
            }),
        }),
        nics: Vec::new(),
        access: AccessStatus { prefixes: 19, files: Vec::new() },
        limit: Some(LimitStatus {
            addresses: PlacesStatus { places: 7_339_997, taken: 0.25, held: 0.125, regular: 0.1 },
            prefixes: PlacesStatus { places: 1_048_565, taken: 0.01, held: 0.002, regular: 0.0 },
        }),
        workers: vec![
            WorkerStatus {
                port: "af-xdp".to_owned(),
                queues: vec!["eth0:0".to_owned(), "eth0:1".to_owned()],
                transmit: TransmitStatus {
                    corrected: true,
                    lateness_s: Some(7.1e-6),
                    spread_s: Some(2.1e-7),
                    errors: Residence::from_buckets(&[(0, 0), (128, 900), (256, 90), (512, 0)]),
                },
                ..worker(0, 12_345_678, 1_040, 0)
            },
            WorkerStatus { port: "socket".to_owned(), ..worker(1, 6_879_013, 0, 3) },
        ],
    }
}

fn interfaces() -> Vec<InterfaceStatus> {
    let queue = |queue, full, floor| QueueStatus {
        queue,
        core: 0,
        floor,
        events: Counters::from([("rx-ring-full".to_owned(), full), ("rx-dropped".to_owned(), 0)]),
    };
    let verdicts = [("steered", 12_345_678), ("not-served", 1_040), ("dropped-limited", 77_000)];
    let verdicts = verdicts.map(|(name, frames)| (name.to_owned(), frames));
    let interface = |name: &str, rung: &str, mode: &str, why: &str| InterfaceStatus {
        name: name.to_owned(),
        driver: "veth".to_owned(),
        rung: rung.to_owned(),
        mode: mode.to_owned(),
        why: why.to_owned(),
        ..InterfaceStatus::default()
    };
    vec![
        InterfaceStatus {
            frames: "copy".to_owned(),
            stamps: "hook".to_owned(),
            queues: vec![queue(0, 0, 0.0), queue(1, 1_204, 1.25)],
            verdicts: Counters::from(verdicts),
            spread: vec!["ethtool -N eth0 rx-flow-hash udp4 s".to_owned()],
            ..interface("eth0", "af-xdp", "native", "the driver has no zero-copy")
        },
        interface("eth1", "socket", "generic", "a step down: no AF_XDP socket"),
    ]
}

fn sources() -> Vec<SourceStatus> {
    let source = |name: &str, kind: &str, place: &str, verdict: &str| SourceStatus {
        name: name.to_owned(),
        kind: kind.to_owned(),
        place: place.to_owned(),
        verdict: verdict.to_owned(),
        ..SourceStatus::default()
    };
    let heard = |source, stratum, figures: [f64; 5]| {
        let [offset_s, jitter_s, error_s, last_s, poll_s] = figures.map(Some);
        SourceStatus {
            reach: Some(0o377),
            stratum: Some(stratum),
            offset_s,
            jitter_s,
            error_s,
            last_s,
            poll_s,
            ..source
        }
    };
    let counted = |name: &str, count| Counters::from([(name.to_owned(), count)]);
    let pps = source("pps0", "pps", "/dev/pps0", "followed");
    let nmea = source("nmea0", "nmea", "/dev/ttyS0", "agrees");
    let liar = source("london", "ntp", "192.0.2.1:123", "falseticker: 1.000 s off");
    let silent = source("ntp1", "ntp", "[2001:db8::1]:123", "unreachable");
    let problem = "no reply in 8 polls; does a packet filter let UDP port 123 through?";
    vec![
        SourceStatus {
            counters: counted("missed-pulses", 1_204),
            ..heard(pps, 0, [-12.3e-9, 20.1e-9, 1.21e-6, 0.4, 1.0])
        },
        SourceStatus { steps: 1, ..heard(nmea, 0, [4.1e-3, 2.2e-3, 11.4e-3, 0.2, 1.0]) },
        heard(liar, 1, [1.0002, 210e-6, 4.31e-3, 35.0, 64.0]),
        SourceStatus {
            reach: Some(0),
            poll_s: Some(64.0),
            problem: Some(problem.to_owned()),
            counters: counted("refused", 3),
            ..silent
        },
    ]
}

fn tracking() -> Tracking {
    let part = |name: &str, figure| (name.to_owned(), figure);
    let event = |when, text: &str| EventStatus { when, text: text.to_owned() };
    Tracking {
        source: "pps0".to_owned(),
        reference_id: "PPS".to_owned(),
        stratum: 1,
        state: State::Locked,
        since_s: Some(3_723.4),
        offset_s: Some(-12.3e-9),
        rms_offset_s: Some(20.0e-9),
        frequency_ppm: Some(-12.345_678),
        frequency_error_ppm: Some(1.2e-4),
        wander_per_sqrt_s: Some(1.02e-10),
        jitter_s: Some(20.1e-9),
        time_constant_s: Some(45.0),
        root_delay_s: 0.0,
        root_dispersion_s: 1.21e-6,
        root_distance_s: 1.21e-6,
        root_distance_max_s: 0.01,
        budget: vec![
            part("jitter", 9.8e-9),
            part("stamp error", 1e-6),
            part("cross-read", 150e-9),
            part("oscillator", 50e-9),
        ],
        holdover_left_s: None,
        leap: LeapKnowledge {
            tai_minus_utc_s: Some(37),
            next: None,
            known_from: "the leap file".to_owned(),
            file_expires: Some(rfc3339(1_814_140_800, 0)),
            file_left_s: Some(18_841_496.875),
        },
        steering: None,
        unsynchronised_count: 1,
        last_events: vec![
            event(rfc3339(1_795_299_303, 125_000), "acquiring: pps0 is labelled by nmea0"),
            event(rfc3339(1_795_299_309, 0), "locked: root distance 1.30 us"),
        ],
    }
}

fn worker(core: usize, answers: u64, not_a_request: u64, short: u64) -> WorkerStatus {
    let counters =
        |pairs: &[(&str, u64)]| pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
    let buckets = [(0, 0), (512, 60_000), (1_024, 39_000), (4_096, 950), (16_384, 49), (1_048_576, 1)];
    WorkerStatus {
        core: Some(core),
        answers: counters(&[("server", answers)]),
        drops: counters(&[("loop", 0), ("not_a_request", not_a_request), ("short", short)]),
        events: counters(&[("snapshot_retry", 6)]),
        residence: Residence::from_buckets(&buckets),
        ..WorkerStatus::default()
    }
}

/// A path for a test's socket, with nothing there.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("maser-{}-{name}", std::process::id()));
    if path.exists() {
        std::fs::remove_file(&path).unwrap();
    }
    path
}

#[test]
fn the_document_keeps_its_names() {
    let document = serde_json::to_value(plausible()).unwrap();
    let text = |pointer: &str| document.pointer(pointer).map(ToString::to_string).unwrap_or_default();
    assert_eq!(text("/state"), "\"locked\"");
    assert_eq!(text("/leap"), "\"none\"");
    assert_eq!(text("/sources/0/offset_s"), "-1.23e-8");
    assert_eq!(text("/sources/2/verdict"), "\"falseticker: 1.000 s off\"");
    assert_eq!(text("/tracking/state"), "\"locked\"");
    assert_eq!(text("/tracking/budget/1"), "[\"stamp error\",1e-6]");
    assert_eq!(text("/tracking/leap/tai_minus_utc_s"), "37");
    assert_eq!(text("/tracking/last_events/1/text"), "\"locked: root distance 1.30 us\"");
    assert_eq!(text("/workers/1/drops/short"), "3");
    assert_eq!(text("/workers/0/residence/p50_ns"), "1023");
    assert_eq!(text("/workers/0/transmit/lateness_s"), "7.1e-6");
    assert_eq!(text("/workers/1/transmit/spread_s"), "null");
    assert_eq!(text("/ports/1/rung"), "\"socket\"");
    assert_eq!(text("/interfaces/0/frames"), "\"copy\"");
    assert_eq!(text("/interfaces/0/queues/1/events/rx-ring-full"), "1204");
    assert_eq!(text("/interfaces/0/queues/1/floor"), "1.25");
    assert_eq!(text("/interfaces/0/verdicts/steered"), "12345678");
    assert_eq!(text("/interfaces/0/verdicts/dropped-limited"), "77000");
    assert_eq!(text("/interfaces/0/spread/0"), "\"ethtool -N eth0 rx-flow-hash udp4 s\"");
    assert_eq!(text("/workers/0/queues/1"), "\"eth0:1\"");
    assert_eq!(serde_json::from_value::<Status>(document).unwrap(), plausible());
}

/// As many workers as there can be, each with every bucket in use, must fit what a client reads.
#[test]
fn the_largest_document_fits() {
    let buckets: Vec<(u64, u64)> = (0..512).map(|bucket| (bucket << 25, u64::from(u32::MAX))).collect();
    let mut status = plausible();
    let worker = WorkerStatus { residence: Residence::from_buckets(&buckets), ..status.workers[0].clone() };
    // Each core has a worker of each kind.
    status.workers = vec![worker; 2 * crate::config::WORKERS_MAX];
    let queue = status.interfaces[0].queues[1].clone();
    let queues = vec![queue; 64];
    let interface = InterfaceStatus { queues, ..status.interfaces[0].clone() };
    status.interfaces = vec![interface; crate::config::INTERFACES_MAX];
    let source = SourceStatus { problem: Some("?".repeat(1_000)), ..status.sources[0].clone() };
    status.sources = vec![source; maser_core::discipline::SOURCES_MAX];
    let octets = serde_json::to_vec(&status).unwrap().len() as u64;
    assert!(octets < STATUS_OCTETS_MAX, "{octets}");
}
