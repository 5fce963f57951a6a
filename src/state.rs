//! What is kept across restarts: the oscillator's frequency and noise, against the raw counter, in one small file.
//!
//! The file is whole at every moment: it is written beside the old one, synced, and put in its place by a rename, and the
//! directory is synced after that. A server that can't keep anything runs all the same, and says so. What is read is
//! believed only as far as it can be right: the same counter, no nonsense, not too old.

mod document;
pub mod legacy;

pub use document::{Document, Stale};
pub(crate) use document::{counter_name, hertz};

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

const FILE_NAME: &str = "clock.json";
const NEW_FILE_NAME: &str = "clock.json.new";

/// A file longer than this isn't ours; one has about a kilobyte.
const OCTETS_MAX: u64 = 1 << 16;

/// Why nothing can be kept.
#[derive(Debug, Error)]
pub enum StateError {
    /// There is no place.
    #[error("this user has no home directory; name a directory as clock.state")]
    NoPlace,
    /// The directory can't be used.
    #[error("{path}: the directory can't be used: {error}; make it, or name another as clock.state")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another server keeps its state there.
    #[error("{0}: another server keeps its state there; name another directory as clock.state")]
    Taken(PathBuf),
}

/// Why a file isn't used.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It can't be read.
    #[error("it can't be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It isn't what this program writes.
    #[error("it isn't what maser writes: {0}")]
    Broken(#[from] serde_json::Error),
}

/// The directory, which is this process's as long as the value lives.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Locked, and synced after each rename.
    directory: File,
}

impl StateDirectory {
    /// Makes the directory where it is missing, and takes it for this process.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let unusable = |error| StateError::Unusable { path: path.to_owned(), error };
        match DirBuilder::new().mode(0o755).recursive(true).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unusable(error)),
            Ok(()) | Err(_) => {}
        }
        let directory = File::open(path).map_err(unusable)?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::Taken(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        Ok(Self { path: path.to_owned(), directory })
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.path.join(FILE_NAME)
    }

    /// What was kept last; none where nothing was.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn read(&self) -> Result<Option<Document>, ReadError> {
        self.read_text()?.map(|text| Ok(serde_json::from_str(&text)?)).transpose()
    }

    /// The text of what was kept last; none where nothing was.
    ///
    /// # Errors
    /// Why it can't be read.
    pub fn read_text(&self) -> Result<Option<String>, ReadError> {
        let file = match File::open(self.file()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut text = String::new();
        file.take(OCTETS_MAX).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// Puts `document` in the place of what was kept before: whoever looks sees the one or the other, whole.
    ///
    /// # Errors
    /// What the system said; the old file stands then.
    pub fn write(&self, document: &Document) -> io::Result<()> {
        let new = self.path.join(NEW_FILE_NAME);
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(document)?)?;
        file.sync_all()?;
        fs::rename(&new, self.file())?;
        self.directory.sync_all()
    }
}
