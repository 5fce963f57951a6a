//! Who writes the state: a thread of its own, since a disk may take long. It looks after the leap file's age, too.

use super::{Document, StateDirectory, StateError};
use crate::config::Config;
use crate::leaps::Leaps;
use crate::pulse::disciplined::Disciplined;
use crate::status::Surroundings;
use maser_core::discipline::Saved;
use maser_core::time::{Instant, Span, Ticks};
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{self, KernelClock};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// How often is looked whether something is due or the server is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A clock that was locked for so long is worth keeping.
const FIRST_AFTER: Span = Span::from_seconds(300);

/// From then on it is written so often, and when the server stops.
const WRITTEN_EVERY: Span = Span::from_seconds(3_600);

const LEAPS_LOOKED_AT_EVERY: Span = Span::from_seconds(86_400);

/// Keeps what is worth it, if there is a place.
#[derive(Debug)]
pub struct Keeper {
    counter: Counter,
    directory: Option<StateDirectory>,
    leaps: Leaps,
    locked_since: Option<Ticks>,
    written: Option<Ticks>,
    leaps_looked_at: Option<Ticks>,
}

impl Keeper {
    /// Takes the directory, and gives what was kept there as far as it holds for `counter`. A server that has no place
    /// runs all the same.
    #[must_use]
    pub fn open(config: &Config, counter: Counter, leaps: Leaps) -> (Self, Option<Saved>) {
        let path = config.clock.state.clone().or_else(|| Surroundings::of_process().state());
        let directory = path.ok_or(StateError::NoPlace).and_then(|path| StateDirectory::open(&path));
        let directory = directory.inspect_err(|error| warn!("nothing is kept across restarts: {error}")).ok();
        let saved = directory.as_ref().and_then(|directory| read(directory, &counter));
        let keeper =
            Self { counter, directory, leaps, locked_since: None, written: None, leaps_looked_at: None };
        (keeper, saved)
    }

    /// Keeps until `stop`, and once more then.
    pub fn run(&mut self, clock: &Disciplined, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let now = self.counter.now();
            self.look_at_leaps(clock, now);
            self.keep_if_due(clock, now);
            thread::sleep(LOOK_EVERY);
        }
        self.keep(clock, self.counter.now());
    }

    fn keep_if_due(&mut self, clock: &Disciplined, now: Ticks) {
        let Some(since) = self.locked_since else {
            self.locked_since = clock.to_keep(now).map(|_| now);
            return;
        };
        let is_due = match self.written {
            None => self.passed(since, now) >= FIRST_AFTER,
            Some(written) => self.passed(written, now) >= WRITTEN_EVERY,
        };
        if is_due {
            // Where it isn't locked any more, the next lock counts again.
            self.locked_since = None;
            self.keep(clock, now);
        }
    }

    /// Writes, if there is a place and the clock is locked.
    fn keep(&mut self, clock: &Disciplined, now: Ticks) {
        let Some((directory, (saved, utc))) = self.directory.as_ref().zip(clock.to_keep(now)) else { return };
        self.written = Some(now);
        if let Err(error) = directory.write(&Document::new(&self.counter, &saved, utc)) {
            warn!("{}: the clock's state can't be kept: {error}", directory.file().display());
        }
    }

    fn look_at_leaps(&mut self, clock: &Disciplined, now: Ticks) {
        if self.leaps_looked_at.is_some_and(|then| self.passed(then, now) < LEAPS_LOOKED_AT_EVERY) {
            return;
        }
        self.leaps_looked_at = Some(now);
        if let Some(warning) = self.leaps.warning(clock.utc(now)) {
            warn!("the leap file {warning}");
        }
    }

    fn passed(&self, since: Ticks, now: Ticks) -> Span {
        self.counter.nominal_rate().span_of(now.since(since))
    }
}

/// What was kept, as far as it holds; why not is told.
fn read(directory: &StateDirectory, counter: &Counter) -> Option<Saved> {
    let file = directory.file();
    let document = match directory.read() {
        Ok(document) => document?,
        Err(error) => {
            warn!("{}: {error}; the clock begins without", file.display());
            return None;
        }
    };
    let now = Instant::from_unix_nanos(kernel_clock::read(KernelClock::Realtime));
    match document.saved(counter, now) {
        Ok(saved) => {
            let ppm = -1e6 * saved.frequency;
            info!("{}: the clock begins with the counter's frequency as kept: {ppm:+.4} ppm", file.display());
            Some(saved)
        }
        Err(why) => {
            warn!("{}: not used: {why}; the clock begins without", file.display());
            None
        }
    }
}
