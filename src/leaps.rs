//! The list of leap seconds on disk: found, read and judged at the start and whenever it changes; the core parses it.
//!
//! A file that the operator named must be good at the start. The usual one, which the system's packages install, is used
//! where it is. A file that changes is read again by a thread of its own, in [`watch`].

mod watch;

use crate::config::{Clock, LEAP_FILE_USUAL};
use crate::hands::FileIdentity;
use maser_core::refclock::{EXPIRY_WARNED_DAYS, Expiry, LEAP_FILE_LENGTH_MAX, LeapFile, LeapFileError};
use maser_core::time::{Instant, LeapTable, Utc};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use tracing::{info, warn};
pub use watch::{NotTaken, TakesLeaps, watch};

/// Why a file can't be used.
#[derive(Debug, Error)]
pub enum LeapsError {
    /// It can't be read.
    #[error("{path}: the list of leap seconds can't be read: {error}; name another as clock.leap_file")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It isn't what it should be.
    #[error("{path}: {error}; fetch a new leap-seconds.list, or leave clock.leap_file out")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What, and in which line.
        error: LeapFileError,
    },
}

/// The leap seconds known from a file; a clone knows what the others do.
#[derive(Clone, Debug)]
pub struct Leaps {
    path: PathBuf,
    /// What the file was when it was read at the start.
    at_start: Option<FileIdentity>,
    file: Arc<Mutex<Option<LeapFile>>>,
}

impl Leaps {
    /// As the configuration says.
    ///
    /// # Errors
    /// When the file that it names can't be used.
    pub fn load(config: &Clock) -> Result<Self, LeapsError> {
        let path = config.leap_file.clone().unwrap_or_else(|| LEAP_FILE_USUAL.into());
        let opened = File::open(&path);
        // Before it is read, so that a change while it is read counts as one after it.
        let metadata = opened.as_ref().ok().and_then(|file| file.metadata().ok());
        let at_start = metadata.as_ref().map(FileIdentity::of);
        let file = if config.leap_file.is_some() {
            let file = read(&path, opened)?;
            info!("leap seconds: {} until {}", path.display(), date(file.expires));
            Some(file)
        } else {
            usual(&path, opened)
        };
        Ok(Self { path, at_start, file: Arc::new(Mutex::new(file)) })
    }

    /// Those built in, and no file.
    #[must_use]
    pub fn built_in() -> Self {
        Self { path: LEAP_FILE_USUAL.into(), at_start: None, file: Arc::default() }
    }

    fn file(&self) -> MutexGuard<'_, Option<LeapFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file's table, or the one that was built in.
    #[must_use]
    pub fn table(&self) -> LeapTable {
        self.file().as_ref().map_or_else(LeapTable::built_in, |file| file.table.clone())
    }

    /// Until when the table is complete by the file's word.
    #[must_use]
    pub fn complete_until(&self) -> Option<Instant<Utc>> {
        self.file().as_ref().map(|file| file.expires)
    }

    /// What there is to say of the file's age at `now`; nothing while it is fresh.
    #[must_use]
    pub fn warning(&self, now: Instant<Utc>) -> Option<String> {
        match self.file().as_ref()?.expiry_state(now) {
            Expiry::Fresh => None,
            Expiry::ExpiresIn { days } => Some(format!("expires in {days} days; put a new one in its place")),
            Expiry::Expired => Some(
                "has expired, and what the sources say is believed instead; put a new one in its place"
                    .to_owned(),
            ),
        }
    }
}

const _: () = assert!(EXPIRY_WARNED_DAYS >= 7, "an operator needs time");

/// The usual file; one that can't be used is warned of, and what was built in stands.
fn usual(path: &Path, opened: io::Result<File>) -> Option<LeapFile> {
    match read(path, opened) {
        Ok(file) if is_ancient(&file) => {
            warn!("{}: older than this program, and not used; put a new one in its place", path.display());
            None
        }
        Ok(file) => {
            info!("leap seconds: {} until {}", path.display(), date(file.expires));
            Some(file)
        }
        Err(LeapsError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            info!("leap seconds: those built in; {} isn't there", path.display());
            None
        }
        Err(error) => {
            warn!("{error}");
            None
        }
    }
}

/// It knows less than the program.
fn is_ancient(file: &LeapFile) -> bool {
    file.table.known().len() < LeapTable::built_in().known().len()
}

fn read(path: &Path, opened: io::Result<File>) -> Result<LeapFile, LeapsError> {
    let unreadable = |error| LeapsError::Unreadable { path: path.to_owned(), error };
    let mut text = Vec::new();
    // An octet more than a file may have, so that a longer one is known as such.
    let most = u64::try_from(LEAP_FILE_LENGTH_MAX).map_or(u64::MAX, |most| most + 1);
    opened.and_then(|file| file.take(most).read_to_end(&mut text)).map_err(unreadable)?;
    LeapFile::parse(&text).map_err(|error| LeapsError::Broken { path: path.to_owned(), error })
}

/// As it is written in the log and in the status.
#[must_use]
pub fn date(moment: Instant<Utc>) -> String {
    let nanos = moment.unix_nanos().rem_euclid(1_000_000_000);
    crate::status::rfc3339(moment.unix_seconds(), u32::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(leap_file: &Path) -> Clock {
        Clock { leap_file: Some(leap_file.to_owned()), ..crate::config::Config::default_run().clock }
    }

    #[test]
    fn a_file_that_is_named_must_be_good() {
        let path = std::env::temp_dir().join(format!("maser-leaps-{}", std::process::id()));
        // The two leap seconds of 1972, and an expiry in 1974.
        let good = "#$ 2272060800\n#@ 2335219200\n2272060800 10\n2287785600 11\n2303683200 12\n";
        std::fs::write(&path, good).unwrap();
        let leaps = Leaps::load(&clock(&path)).unwrap();
        assert_eq!(leaps.table().known().len(), 2);
        let expires = leaps.complete_until().unwrap();
        assert_eq!(expires.unix_seconds(), 2_335_219_200 - 2_208_988_800);
        let days_before =
            |days: i64| leaps.warning(expires - maser_core::time::Span::from_seconds(86_400 * days));
        assert_eq!(days_before(31), None);
        assert_eq!(days_before(12).unwrap(), "expires in 12 days; put a new one in its place");
        assert!(days_before(-1).unwrap().contains("has expired"));

        std::fs::write(&path, good.replace("11", "13")).unwrap();
        let told = Leaps::load(&clock(&path)).unwrap_err().to_string();
        assert!(told.contains("line 4: TAI - UTC must change by one second"), "{told}");
        // Where nobody named it, the same file is only warned of; and one that knows less isn't used.
        assert!(usual(&path, File::open(&path)).is_none());
        std::fs::write(&path, good).unwrap();
        assert!(usual(&path, File::open(&path)).is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(usual(&path, File::open(&path)).is_none());
        assert!(Leaps::load(&clock(&path)).unwrap_err().to_string().contains("can't be read"));
    }
}
