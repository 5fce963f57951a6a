//! Runs a driver on a thread of its own and hears what it tells.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use maser::source::{REPORTS_MAX, RETRY, Report, Teller, Word};
use maser_core::discipline::Observation;
use maser_core::time::{Span, Ticks};
use maser_sys::clock::{Bracket, bracket};
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{KernelClock, read};

/// What a driver has to say within a moment takes no longer, even on a machine that stalls.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A driver tries again within its own period and a stall.
pub(crate) const RETRY_PATIENCE: Duration = RETRY.saturating_add(PATIENCE);

const SOURCE: usize = 3;

/// What a driver has told and will tell.
pub(crate) struct Told(Receiver<Report>);

impl Told {
    pub(crate) fn next(&self, patience: Duration) -> Option<Word> {
        let report = self.0.recv_timeout(patience).ok()?;
        assert_eq!(report.source, SOURCE);
        Some(report.word)
    }

    pub(crate) fn observation(&self) -> Observation {
        match self.next(PATIENCE).expect("an observation") {
            Word::Observed(observation) => observation,
            other @ (Word::Working(_)
            | Word::Failed(_)
            | Word::Refused(_)
            | Word::Noted(_)
            | Word::Detail(_)) => {
                panic!("not an observation: {other:?}")
            }
        }
    }

    pub(crate) fn working(&self) -> String {
        match self.next(RETRY_PATIENCE) {
            Some(Word::Working(text)) => text,
            other => panic!("not working: {other:?}"),
        }
    }

    pub(crate) fn failed(&self) -> String {
        match self.next(PATIENCE) {
            Some(Word::Failed(text)) => text,
            other => panic!("not failed: {other:?}"),
        }
    }

    pub(crate) fn refused(&self) -> String {
        match self.next(PATIENCE) {
            Some(Word::Refused(text)) => text,
            other => panic!("not refused: {other:?}"),
        }
    }
}

/// Tells the driver to end however the test ends, or a failing test would wait for it for ever.
struct StopAtEnd<'s>(&'s AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `driver` while `test` hears it, and sees that it ends in good time once it is told to.
pub(crate) fn drive(driver: impl FnOnce(&mut Teller<'_>) + Send, test: impl FnOnce(&Told)) {
    let stop = AtomicBool::new(false);
    let (sender, reports) = sync_channel(REPORTS_MAX);
    let told_at_ns = thread::scope(|scope| {
        let running = scope.spawn(|| driver(&mut Teller::new(SOURCE, sender, &stop)));
        {
            let _stop = StopAtEnd(&stop);
            test(&Told(reports));
        }
        let told_at_ns = read(KernelClock::Monotonic);
        running.join().unwrap();
        told_at_ns
    });
    let took = Duration::from_nanos(u64::try_from(read(KernelClock::Monotonic) - told_at_ns).unwrap());
    assert!(took < Duration::from_secs(1), "the driver took {took:?} to end");
}

/// Both clocks now.
pub(crate) fn now(counter: &Counter) -> Bracket {
    bracket(counter, KernelClock::Realtime)
}

/// How much later `at` is than the moment at which `CLOCK_REALTIME` stood at `realtime_ns`, by a reading that was taken
/// close to that moment.
pub(crate) fn off_ns(counter: &Counter, at: Ticks, realtime_ns: i64, close: &Bracket) -> i64 {
    let rate = counter.nominal_rate();
    let expected = close.ticks.offset(rate.ticks_in(Span::from_nanos(realtime_ns - close.nanos)));
    rate.span_of(at.since(expected)).as_nanos()
}

/// A path for a test's own file, that isn't there.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static PATHS: AtomicU32 = AtomicU32::new(0);
    let number = PATHS.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("maser-sources-{}-{number}-{name}", std::process::id()))
}

/// How far stamps were off: the median and the largest, in nanoseconds.
pub(crate) fn spread(mut offs_ns: Vec<i64>) -> (i64, i64) {
    offs_ns.iter_mut().for_each(|off| *off = off.abs());
    offs_ns.sort_unstable();
    (offs_ns[offs_ns.len() / 2], offs_ns[offs_ns.len() - 1])
}
