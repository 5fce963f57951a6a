//! Who writes the state: a thread of its own, since a disk may take long.

use crate::config::Config;
use crate::hands::{Fault, Hands, Kept};
use crate::pulse::disciplined::{Disciplined, ToLeave};
use crate::state::legacy::Legacy;
use crate::state::{Document, ReadError};
use maser_core::discipline::Saved;
use maser_core::time::{Instant, Span, Ticks, Utc};
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{self, KernelClock};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// How often is looked whether something is due or the server is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// So often a server leaves what the next one goes on with.
const LEFT_EVERY: Span = Span::from_seconds(1);

/// A clock that was locked for so long is worth keeping.
const FIRST_AFTER: Span = Span::from_seconds(300);

/// From then on it is written so often, and when the server stops.
const WRITTEN_EVERY: Span = Span::from_seconds(3_600);

/// Keeps what is worth it, if there is a place.
#[derive(Debug)]
pub struct StateWriter {
    counter: Counter,
    /// The file, if there is a place for it.
    file: Option<PathBuf>,
    hands: Hands,
    locked_since: Option<Ticks>,
    written: Option<Ticks>,
    left: Option<Ticks>,
    has_left_nothing: bool,
}

impl StateWriter {
    /// Takes the directory, and gives what the server before has left, else what was kept there, as far as it holds for
    /// `counter`. A server that has no place runs all the same.
    #[must_use]
    pub fn open(
        config: &Config,
        counter: Counter,
        hands: &Hands,
        left: Option<&Document>,
    ) -> (Self, Option<Saved>) {
        let kept = hands.state(config.clock.state.as_deref());
        let kept = kept.inspect_err(|error| warn!("nothing is kept across restarts: {error}")).ok();
        let left = left.and_then(|left| left.saved(&counter, machine_time()).ok());
        let saved = left.or_else(|| kept.as_ref().and_then(|kept| read(kept, &counter)));
        let file = kept.map(|kept| kept.file);
        let writer = Self {
            counter,
            file,
            hands: hands.clone(),
            locked_since: None,
            written: None,
            left: None,
            has_left_nothing: false,
        };
        (writer, saved)
    }

    /// Keeps until `stop`, and once more then.
    pub fn run(&mut self, clock: &Disciplined, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let now = self.counter.now();
            self.leave_if_due(clock, now);
            self.keep_if_due(clock, now);
            thread::sleep(LOOK_EVERY);
        }
        self.keep(clock, self.counter.now());
    }

    /// Leaves what a server would go on with that takes this one's place.
    fn leave_if_due(&mut self, clock: &Disciplined, now: Ticks) {
        let snapshot = match clock.to_leave(now) {
            ToLeave::AsItIs => return,
            ToLeave::Nothing => {
                if self.has_left_nothing {
                    return;
                }
                None
            }
            ToLeave::Clock(snapshot) => {
                if !self.has_left_nothing && self.left.is_some_and(|left| self.passed(left, now) < LEFT_EVERY)
                {
                    return;
                }
                Some(snapshot)
            }
        };
        self.left = Some(now);
        self.has_left_nothing = snapshot.is_none();
        let legacy = snapshot.map(|snapshot| Legacy::new(&self.counter, &snapshot, clock.to_keep(now)));
        let legacy = legacy.map(|legacy| serde_json::to_string(&legacy)).transpose();
        let left = legacy.map_err(Fault::new).and_then(|legacy| self.hands.leave(legacy));
        if let Err(error) = left {
            warn!("the clock's state can't be left to a next server: {error}");
        }
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
        let Some((file, (saved, utc))) = self.file.as_ref().zip(clock.to_keep(now)) else { return };
        self.written = Some(now);
        let document = serde_json::to_string(&Document::new(&self.counter, &saved, utc));
        let written = document.map_err(Fault::new).and_then(|document| self.hands.save_state(document));
        if let Err(error) = written {
            warn!("{}: the clock's state can't be kept: {error}", file.display());
        }
    }

    fn passed(&self, since: Ticks, now: Ticks) -> Span {
        self.counter.nominal_rate().span_of(now.since(since))
    }
}

fn machine_time() -> Instant<Utc> {
    Instant::from_unix_nanos(kernel_clock::read(KernelClock::Realtime))
}

/// What was kept; none where nothing was; or why it can't be used.
fn document(kept: &Kept) -> Result<Option<Document>, String> {
    let Some(text) = kept.text.as_ref().map_err(String::clone)? else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|error| ReadError::Broken(error).to_string())
}

/// What was kept, as far as it holds; why not is told.
fn read(kept: &Kept, counter: &Counter) -> Option<Saved> {
    let file = &kept.file;
    let document = match document(kept) {
        Ok(document) => document?,
        Err(error) => {
            warn!("{}: {error}; the clock begins without", file.display());
            return None;
        }
    };
    match document.saved(counter, machine_time()) {
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
