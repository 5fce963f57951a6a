//! maser-load as a client of the server under test.
//!
//! Its figures are against the machine's clock, from which true time moves away, so a run is a single request: its offset
//! error is then what it measured of that one, and the truth of that moment can be taken from it.

use crate::load;
use crate::truth::{Moment, Truth};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const ASKED_EVERY: Duration = Duration::from_millis(100);

/// Where a story has got to.
pub(crate) type Chapter = Mutex<&'static str>;

/// A run of one request.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The chapter that it began in.
    pub(crate) chapter: &'static str,
    /// The offset that maser-load measured less the true one; none if the reply wasn't synchronised, or none came.
    pub(crate) error_ns: Option<i64>,
    /// How far true time moved against the machine's clock while it ran.
    pub(crate) moved_ns: i64,
}

/// Runs it until `end`.
pub(crate) fn ask(server: SocketAddr, truth: Truth, chapter: &Chapter, end: &AtomicBool) -> Vec<Run> {
    let mut runs = Vec::new();
    while !end.load(Ordering::Relaxed) {
        runs.push(ask_once(server, truth, *chapter.lock().unwrap()));
        thread::sleep(ASKED_EVERY);
    }
    runs
}

fn ask_once(server: SocketAddr, truth: Truth, chapter: &'static str) -> Run {
    let words = format!("fixed {server} --rate 50 --time 20ms --timeout 200ms --json --quiet");
    let before_ns = truth.ahead_ns(Moment::now());
    let result = load::document(load::command(&words));
    let after_ns = truth.ahead_ns(Moment::now());
    assert_eq!(result["sent"], 1, "one request a run: {result:#}");
    let errors = &result["offset_error_ns"];
    let measured_ns = errors["highest"].as_i64().filter(|_| errors["count"] == 1);
    Run {
        chapter,
        error_ns: measured_ns.map(|measured_ns| measured_ns - before_ns.midpoint(after_ns)),
        moved_ns: after_ns - before_ns,
    }
}
