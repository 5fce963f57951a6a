//! What the tests of this module's parts share.

use std::path::PathBuf;

use super::*;

/// A status as a busy server would send it.
pub(crate) fn plausible() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        uptime_s: 274_329.5,
        state: State::Synchronised,
        stratum: 2,
        reference_id: "192.0.2.1".to_owned(),
        leap: LeapStatus::None,
        precision_log2_s: -25,
        root_delay_s: 412e-6,
        root_dispersion_s: 23.4e-6,
        reference_time: Some(rfc3339(1_795_299_303, 125_000)),
        clock: ClockStatus {
            counter: "tsc".to_owned(),
            why: "invariant and synchronised between the cores".to_owned(),
            frequency_hz: 2_450_000_123.0,
        },
        source: SourceStatus {
            kind: "machine".to_owned(),
            description: "this machine's clock, kept by another daemon at stratum 1".to_owned(),
            synchronised: true,
            offset_s: Some(-1.21e-6),
            steps: 1,
        },
        ports: vec![
            PortStatus { listen: "0.0.0.0:123".to_owned(), rung: "io-uring".to_owned(), why: String::new() },
            PortStatus {
                listen: "[::]:123".to_owned(),
                rung: "socket".to_owned(),
                why: "io_uring: switched off (kernel.io_uring_disabled = 2)".to_owned(),
            },
        ],
        workers: vec![worker(0, 12_345_678, 1_040, 0), worker(1, 6_879_013, 0, 3)],
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
    assert_eq!(text("/state"), "\"synchronised\"");
    assert_eq!(text("/leap"), "\"none\"");
    assert_eq!(text("/source/offset_s"), "-1.21e-6");
    assert_eq!(text("/workers/1/drops/short"), "3");
    assert_eq!(text("/workers/0/residence/p50_ns"), "1023");
    assert_eq!(text("/ports/1/rung"), "\"socket\"");
    assert_eq!(serde_json::from_value::<Status>(document).unwrap(), plausible());
}

/// As many workers as there can be, each with every bucket in use, must fit what a client reads.
#[test]
fn the_largest_document_fits() {
    let buckets: Vec<(u64, u64)> = (0..512).map(|bucket| (bucket << 25, u64::from(u32::MAX))).collect();
    let mut status = plausible();
    let worker = WorkerStatus { residence: Residence::from_buckets(&buckets), ..status.workers[0].clone() };
    status.workers = vec![worker; crate::config::WORKERS_MAX];
    let octets = serde_json::to_vec(&status).unwrap().len() as u64;
    assert!(octets < STATUS_OCTETS_MAX, "{octets}");
}
