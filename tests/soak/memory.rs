//! Whether memory stays flat, from samples over a process's life.

use std::collections::BTreeMap;
use std::fs;

/// What isn't in use at a quarter of a life may not come to be in use later, up to this share and so much, KiB.
const GROWTH_PERCENT_MAX: u64 = 3;
const GROWTH_KIB_MAX: u64 = 512;
/// A life with fewer samples proves nothing.
const SAMPLES_MIN: usize = 8;

/// The resident memory of each server's process, KiB, in the order of its samples.
#[derive(Debug, Default)]
pub(crate) struct Lives(pub(crate) BTreeMap<u32, Vec<u64>>);

impl Lives {
    pub(crate) fn sample(&mut self, process: u32) {
        // It may be starting or ending.
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        if let Some(kib) = resident.and_then(|words| words.split_whitespace().next()?.parse().ok()) {
            self.0.entry(process).or_default().push(kib);
        }
    }
}

/// Memory at a quarter of the samples and at the end, KiB; an error if it grew.
pub(crate) fn is_flat(kib: &[u64]) -> Result<(u64, u64), String> {
    if kib.len() < SAMPLES_MIN {
        return Err(format!("{} samples", kib.len()));
    }
    let (early, late) = (kib[kib.len() / 4], kib[kib.len() - 1]);
    let limit = early + (early * GROWTH_PERCENT_MAX / 100).max(GROWTH_KIB_MAX);
    if late > limit {
        return Err(format!("{early} KiB at a quarter, {late} KiB at the end"));
    }
    Ok((early, late))
}

#[test]
fn growth_is_seen() {
    let steady: Vec<u64> = (0..100).map(|at: u64| (at * 3_000).min(30_000) + at % 7).collect();
    assert!(is_flat(&steady).is_ok(), "what grows at the start alone");
    let leaking: Vec<u64> = (0..100).map(|at| 30_000 + at * 20).collect();
    assert!(is_flat(&leaking).is_err(), "a leak of 2 MB");
    assert!(is_flat(&steady[..3]).is_err(), "too short");
}
