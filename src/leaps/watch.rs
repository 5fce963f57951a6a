//! The file while the server runs: looked at once a minute, read again when it has changed, and its age told once a day.
//!
//! Whoever replaces it is heard without a restart. What is broken, has expired or contradicts what is served isn't taken:
//! what was known before stands, and the log says why, once. A disk may take long: nobody else waits for this thread.

use super::{Leaps, date, is_ancient, read};
use crate::hands::{FileIdentity, Hands};
use maser_core::refclock::{Expiry, LeapFile};
use maser_core::time::{Instant, Utc};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;
use thiserror::Error;
use tracing::{info, warn};

/// The stop flag is looked at so often.
const NAP: Duration = Duration::from_millis(200);
/// The file is looked at once a minute.
const NAPS_BETWEEN_LOOKS: u64 = 300;
/// Its age is told once a day.
const NAPS_BETWEEN_AGES: u64 = 1_440 * NAPS_BETWEEN_LOOKS;

/// A clock that takes leap seconds while it runs.
pub trait TakesLeaps {
    /// UTC as it is served, or by the machine's clock before there is any.
    fn utc(&self) -> Instant<Utc>;

    /// Takes a newer file's word.
    ///
    /// # Errors
    /// Why it doesn't: then what it knew before stands.
    fn set_leaps(&self, file: &LeapFile) -> Result<(), NotTaken>;
}

/// Why a clock doesn't take a file's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NotTaken {
    /// It would have to step.
    #[error(
        "says another TAI - UTC for now than is served; if it is right start maser again, else replace it"
    )]
    OtherOffset,
    /// It had no time.
    #[error("can't be taken while the pulse thread stands still; it is tried again in a minute")]
    Busy,
}

/// Looks after the file of `leaps` on behalf of `clock` until `stop`, in a thread of its own.
///
/// # Errors
/// When the thread can't be had.
pub fn watch(
    leaps: Leaps,
    clock: Arc<impl TakesLeaps + Send + Sync + 'static>,
    hands: Hands,
    stop: &Arc<AtomicBool>,
) -> io::Result<JoinHandle<()>> {
    let stop = Arc::clone(stop);
    Builder::new().name("leaps".into()).spawn(move || Watch::new(leaps, hands).run(&*clock, &stop))
}

struct Watch {
    /// The file when it was read last.
    seen: Option<FileIdentity>,
    /// Why it wasn't taken then.
    told: Option<String>,
    leaps: Leaps,
    hands: Hands,
}

impl Watch {
    fn new(leaps: Leaps, hands: Hands) -> Self {
        Self { seen: leaps.at_start, told: None, leaps, hands }
    }

    fn run(&mut self, clock: &impl TakesLeaps, stop: &AtomicBool) {
        for nap in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if nap.is_multiple_of(NAPS_BETWEEN_LOOKS) {
                self.look(clock);
            }
            if nap.is_multiple_of(NAPS_BETWEEN_AGES)
                && let Some(warning) = self.leaps.warning(clock.utc())
            {
                warn!("the leap file {}: {warning}", self.leaps.path.display());
            }
            thread::sleep(NAP);
        }
    }

    /// Reads the file if it has changed, or if it couldn't be taken the last time.
    fn look(&mut self, clock: &impl TakesLeaps) {
        let opened = self.hands.leap_file(&self.leaps.path);
        let identity = opened.as_ref().ok().map(|(_, identity)| *identity);
        if identity == self.seen && self.told.is_none() {
            return;
        }
        self.seen = identity;
        match self.renew(opened.map(|(file, _)| file), clock) {
            Ok(expires) => {
                info!("leap seconds: {} has changed; until {}", self.leaps.path.display(), date(expires));
                self.told = None;
            }
            Err(why) => {
                let is_news = self.told.as_ref() != Some(&why);
                if is_news {
                    warn!("{why}; the leap seconds known before stand");
                }
                self.told = Some(why);
            }
        }
    }

    /// Until when the file is good that is used now.
    fn renew(&self, opened: io::Result<File>, clock: &impl TakesLeaps) -> Result<Instant<Utc>, String> {
        let file = read(&self.leaps.path, opened).map_err(|error| error.to_string())?;
        let refused = |why: &str| Err(format!("{}: {why}", self.leaps.path.display()));
        if file.expiry_state(clock.utc()) == Expiry::Expired {
            return refused("has changed, but has expired; put a new one in its place");
        }
        if is_ancient(&file) {
            return refused("has changed, but is older than this program; put a new one in its place");
        }
        if let Err(why) = clock.set_leaps(&file) {
            return refused(&why.to_string());
        }
        let expires = file.expires;
        *self.leaps.file() = Some(file);
        Ok(expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use maser_core::time::LeapTable;
    use std::cell::{Cell, RefCell};
    use std::fs;
    use std::path::PathBuf;

    const NOW: i64 = 1_795_000_000;
    const YEAR_S: i64 = 365 * 86_400;

    struct Clock {
        answer: Cell<Result<(), NotTaken>>,
        taken: RefCell<Vec<usize>>,
    }

    impl TakesLeaps for Clock {
        fn utc(&self) -> Instant<Utc> {
            Instant::from_unix(NOW, 0)
        }
        fn set_leaps(&self, file: &LeapFile) -> Result<(), NotTaken> {
            self.answer.get()?;
            self.taken.borrow_mut().push(file.table.known().len());
            Ok(())
        }
    }

    /// What was built in and `more` leap seconds, in the years from 2030 on; good until `expires`.
    fn text(more: i64, expires: i64) -> String {
        let mut table = LeapTable::built_in();
        for day in [22_096, 22_461].into_iter().take(usize::try_from(more).unwrap()) {
            table.add(day, 1).unwrap();
        }
        let ntp = |unix: i64| unix + 2_208_988_800;
        let line = |leap: &maser_core::time::Leap| {
            // It begins with the inserted second, which the count of before calls midnight.
            let offset = i64::from(leap.offset_after_s);
            format!("{} {offset}\n", ntp(leap.at.unix_seconds() - offset + 1))
        };
        let lines: String = table.known().iter().map(line).collect();
        format!("#$ {}\n#@ {}\n2272060800 10\n{lines}", ntp(NOW - YEAR_S), ntp(expires))
    }

    struct Bench {
        path: PathBuf,
        watch: Watch,
        /// As the status has them.
        leaps: Leaps,
        clock: Clock,
    }

    impl Bench {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("maser-leaps-{name}-{}", std::process::id()));
            fs::write(&path, text(0, NOW + YEAR_S)).unwrap();
            let config =
                crate::config::Clock { leap_file: Some(path.clone()), ..Config::default_run().clock };
            let leaps = Leaps::load(&config).unwrap();
            let clock = Clock { answer: Cell::new(Ok(())), taken: RefCell::default() };
            Self { path, watch: Watch::new(leaps.clone(), Hands::own()), leaps, clock }
        }

        /// Puts a file in the place of the other, as package managers do, and has it looked at.
        fn put(&mut self, text: &str) -> Option<&str> {
            let new = self.path.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &self.path).unwrap();
            self.look()
        }

        fn look(&mut self) -> Option<&str> {
            self.watch.look(&self.clock);
            self.watch.told.as_deref()
        }

        fn known(&self) -> (usize, i64) {
            (self.leaps.table().known().len(), self.leaps.complete_until().unwrap().unix_seconds())
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            let _removed = fs::remove_file(&self.path);
        }
    }

    #[test]
    fn a_newer_file_is_taken_and_the_status_knows_it() {
        let mut bench = Bench::new("newer");
        assert_eq!(bench.look(), None);
        assert_eq!(bench.clock.taken.borrow().len(), 0, "it hasn't changed");
        assert_eq!(bench.put(&text(1, NOW + 2 * YEAR_S)), None);
        assert_eq!(bench.known(), (28, NOW + 2 * YEAR_S));
        // Written over in place, too.
        fs::write(&bench.path, text(2, NOW + 3 * YEAR_S)).unwrap();
        assert_eq!(bench.look(), None);
        assert_eq!(bench.known(), (29, NOW + 3 * YEAR_S));
        bench.look();
        assert_eq!(*bench.clock.taken.borrow(), [28, 29], "each once");
    }

    #[test]
    fn what_cant_be_used_leaves_what_was_known() {
        let mut bench = Bench::new("broken");
        let before = bench.known();
        let path = bench.path.display().to_string();
        let expect = |bench: &mut Bench, text: &str, why: &str| {
            let told = bench.put(text).unwrap().to_owned();
            assert!(told.starts_with(&path) && told.contains(why), "{told}");
            assert_eq!(bench.known(), before);
        };
        let good = text(1, NOW + YEAR_S);
        expect(&mut bench, &good.replace(" 36\n", " 35\n"), "TAI - UTC must change by one second");
        expect(&mut bench, &text(1, NOW - 1), "has expired; put a new one in its place");
        let ancient = good.lines().take(6).collect::<Vec<_>>().join("\n");
        expect(&mut bench, &ancient, "older than this program");
        bench.clock.answer.set(Err(NotTaken::OtherOffset));
        expect(&mut bench, &good, "start maser again");
        // It is tried again as it is, for what was in the way may be over.
        bench.clock.answer.set(Ok(()));
        assert_eq!(bench.look(), None);
        assert_eq!(bench.known().0, 28);
        fs::remove_file(&bench.path).unwrap();
        assert!(bench.look().unwrap().contains("can't be read"));
        assert_eq!(bench.known().0, 28);
        assert_eq!(bench.put(&text(2, NOW + YEAR_S)), None);
        assert_eq!(bench.known().0, 29);
    }
}
