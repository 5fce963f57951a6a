//! What changed between two runs, from their JSON documents.
//!
//! Differences below [`NOISE`] aren't called better or worse. Nothing is hidden: runs that aren't alike are compared with
//! a warning that says in what they differ.

use super::units::{percent, short, time};
use crate::outcome::approximate;
use crate::summary::{Document, FORMAT, Summary, share};
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use thiserror::Error;

/// A change of less than this share is noise.
pub const NOISE: f64 = 0.1;
/// Shares of requests differ if they are so far apart, whatever their ratio.
const SHARE_NOISE: f64 = 0.001;
/// Steps of two runs are of one rate if they were asked for within this share.
const SAME_RATE: f64 = 0.01;

/// Why runs can't be compared.
#[derive(Debug, Error)]
pub enum CompareError {
    /// The file can't be read.
    #[error("{path}: {error}; expected a file that --json=FILE wrote")]
    Read {
        /// Which one.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It isn't such a document.
    #[error("{path}: this isn't a result of maser-load: {error}; expected a file that --json=FILE wrote")]
    Document {
        /// Which one.
        path: String,
        /// What it lacks, and where.
        error: serde_json::Error,
    },
    /// Its shape is another version's.
    #[error(
        "{path}: its format is {format}, and this maser-load reads {FORMAT}; measure again with this version"
    )]
    Format {
        /// Which one.
        path: String,
        /// Its version.
        format: u64,
    },
}

/// Reads the document of a run.
///
/// # Errors
/// What is wrong with it.
pub fn load(path: &Path) -> Result<Document, CompareError> {
    let name = || path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| CompareError::Read { path: name(), error })?;
    let as_document = |error| CompareError::Document { path: name(), error };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(as_document)?;
    // Before the fields, which another version may have changed.
    if let Some(format) = value["format"].as_u64().filter(|format| *format != u64::from(FORMAT)) {
        return Err(CompareError::Format { path: name(), format });
    }
    serde_json::from_value(value).map_err(as_document)
}

/// Which way is better.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    More,
    Less,
}

/// A figure: its name, its value where it was measured, how it is written, which way is better.
type Figure = (&'static str, fn(&Summary) -> Option<f64>, fn(f64) -> String, Better);

const FIGURES: [Figure; 8] = [
    ("answered/s", |step| Some(step.rate_answered), short, Better::More),
    ("lost", |step| Some(step.loss()), as_percent, Better::Less),
    ("invalid", |step| Some(share(step.invalid, step.sent)), as_percent, Better::Less),
    ("p50", |step| latency(step, step.latency_ns.p50), time, Better::Less),
    ("p99", |step| latency(step, step.latency_ns.p99), time, Better::Less),
    ("p99.9", |step| latency(step, step.latency_ns.p999), time, Better::Less),
    ("offset p50", |step| step.offset_error_ns.map(|errors| approximate(errors.p50)), time, Better::Less),
    ("offset p99", |step| step.offset_error_ns.map(|errors| approximate(errors.p99)), time, Better::Less),
];

fn latency(step: &Summary, nanos: u64) -> Option<f64> {
    (step.latency_ns.count > 0).then(|| approximate(nanos))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share from 0 to 1")]
fn as_percent(share: f64) -> String {
    percent((share * 1e9).ceil() as u64, 1_000_000_000)
}

/// What changed from `a` to `b`: a block of lines for each rate that both have, else for the whole.
///
/// # Errors
/// None today: documents that were [loaded](load) can be compared.
pub fn compare(a: (&str, &Document), b: (&str, &Document)) -> Result<String, CompareError> {
    let mut text = format!("A: {}\nB: {}\n", a.0, b.0);
    for difference in differences(a.1, b.1) {
        let _ = writeln!(text, "not alike: {difference}");
    }
    let pairs = pairs(a.1, b.1);
    let (mut better, mut worse) = (0_u32, 0_u32);
    for (first, second) in &pairs {
        let _ = writeln!(text, "\n{} requests/s", short(second.rate_requested));
        let _ = writeln!(text, "  {:<11}{:>10}{:>10}{:>8}", "", "A", "B", "B/A");
        for (name, value, write, direction) in FIGURES {
            let (Some(before), Some(after)) = (value(first), value(second)) else { continue };
            let verdict = judge(before, after, direction, name);
            better += u32::from(verdict == "better");
            worse += u32::from(verdict == "worse");
            let ratio = if before > 0.0 { format!("{:.2}", after / before) } else { "-".to_owned() };
            let line = format!("  {name:<11}{:>10}{:>10}{ratio:>8}  {verdict}", write(before), write(after));
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    let verdict = match (better, worse) {
        (0, 0) => "no change beyond noise".to_owned(),
        (better, 0) => format!("B is better in {better} of the figures and worse in none"),
        (0, worse) => format!("B is worse in {worse} of the figures and better in none"),
        (better, worse) => format!("mixed: B is better in {better} of the figures and worse in {worse}"),
    };
    let _ = writeln!(text, "\n{verdict} ({} % counts as noise)", NOISE * 100.0);
    Ok(text)
}

fn judge(before: f64, after: f64, direction: Better, name: &str) -> &'static str {
    let changed = if name == "lost" {
        (after - before).abs() > SHARE_NOISE
    } else if name == "invalid" {
        // No server has an excuse for one.
        (before > 0.0) != (after > 0.0) || (after - before).abs() > SHARE_NOISE
    } else {
        (after - before).abs() > NOISE * before.abs().max(f64::MIN_POSITIVE)
    };
    match (changed, (after > before) == (direction == Better::More)) {
        (false, _) => "",
        (true, true) => "better",
        (true, false) => "worse",
    }
}

/// The steps of one rate in both; the whole runs where there is none.
fn pairs<'a>(a: &'a Document, b: &'a Document) -> Vec<(&'a Summary, &'a Summary)> {
    let alike = |one: &Summary, other: &Summary| {
        (one.rate_requested - other.rate_requested).abs() <= SAME_RATE * one.rate_requested
    };
    let is_ladder = |document: &Document| document.setting.mode == "ladder";
    let by_rate = is_ladder(a) && is_ladder(b);
    let steps: Vec<_> = a
        .steps
        .iter()
        .filter(|_| by_rate)
        .filter_map(|first| b.steps.iter().find(|second| alike(first, second)).map(|second| (first, second)))
        .collect();
    if steps.is_empty() { vec![(&a.result, &b.result)] } else { steps }
}

/// In what two runs differ that they should have in common.
fn differences(a: &Document, b: &Document) -> Vec<String> {
    let clients = [a, b].map(|document| document.result.clients.to_string());
    let (one, other) = (&a.setting, &b.setting);
    let interleaving = [one, other].map(|setting| setting.interleaving_clients.to_string());
    [
        ("mode", &one.mode, &other.mode),
        ("target", &one.target, &other.target),
        ("sender", &one.sender, &other.sender),
        ("mix", &one.mix, &other.mix),
        ("kernel", &a.kernel, &b.kernel),
        ("clients", &clients[0], &clients[1]),
        ("interleaving clients", &interleaving[0], &interleaving[1]),
    ]
    .iter()
    .filter(|(_, first, second)| first != second)
    .map(|(what, first, second)| format!("{what} {first} and {second}"))
    .chain((one.closed_loop != other.closed_loop).then(|| "one waits for replies and one doesn't".to_owned()))
    .chain((a.interrupted || b.interrupted).then(|| "a run was interrupted".to_owned()))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_change_is_called_by_its_direction_and_noise_isnt() {
        let before = sample::past_knee(100_000);
        let same = compare(("a", &before), ("b", &before)).expect("documents");
        assert!(same.contains("no change beyond noise") && !same.contains("not alike"), "{same}");
        let mut after = before.clone();
        for step in &mut after.steps {
            step.latency_ns.p99 *= 3;
            step.rate_answered *= 1.05;
        }
        let worse = compare(("a", &before), ("b", &after)).expect("documents");
        assert!(worse.contains("3.00  worse") && worse.contains("better in none"), "{worse}");
        after.setting.mix = "phone".to_owned();
        after.result.clients += 1;
        let unlike = compare(("a", &before), ("b", &after)).expect("documents");
        assert!(unlike.contains("not alike: mix") && unlike.contains("not alike: clients"), "{unlike}");
    }

    #[test]
    fn a_little_more_loss_is_seen_where_there_was_none() {
        assert_eq!(judge(0.0, 0.002, Better::Less, "lost"), "worse");
        assert_eq!(judge(0.0, 0.0005, Better::Less, "lost"), "");
        assert_eq!(judge(0.0, 1e-7, Better::Less, "invalid"), "worse");
        assert_eq!(judge(100.0, 89.0, Better::Less, "p50"), "better");
        assert_eq!(judge(100.0, 91.0, Better::Less, "p50"), "");
    }

    #[test]
    fn what_is_no_result_is_refused_with_its_reason() {
        let directory = std::env::temp_dir();
        let path = directory.join(format!("maser-load-compare-{}.json", std::process::id()));
        let refusal = |text: &str| {
            fs::write(&path, text).expect("a temporary file");
            load(&path).expect_err("no result").to_string()
        };
        assert!(refusal("nonsense").contains("isn't a result"));
        assert!(refusal("{\"format\":1}").contains("missing field"));
        assert!(refusal("{\"format\":2}").contains("format is 2"));
        let document = sample::past_knee(100_000);
        fs::write(&path, serde_json::to_string(&document).expect("plain data")).expect("a temporary file");
        assert_eq!(load(&path).expect("a result"), document);
        fs::remove_file(&path).expect("it is ours");
        assert!(load(&path).expect_err("it is gone").to_string().contains("expected a file"));
    }
}
