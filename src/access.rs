//! Who may ask, as the configuration and its files say: read and built at the start and whenever a file changes; the core
//! looks addresses up.
//!
//! Files must be good at the start. One that changes is read again by a thread of its own, in `watch`, while the workers
//! go on with the lists that they have; they come to the new ones by [`AccessReader::refresh`].

mod bogons;
mod list_file;
mod lists;
mod published;
mod watch;

pub use list_file::{LIST_FILE_OCTETS_MAX, ListError};
pub use lists::{Lists, PREFIXES_MAX, TooMany};
pub use published::AccessReader;
pub use watch::Watch;

use crate::config::{self, AccessKind};
use crate::hands::{FileIdentity, Hands};
use crate::status::{AccessFileStatus, AccessStatus};
use maser_core::limit::access::Prefix;
use published::Publisher;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use tracing::info;

/// Why there are no lists to start with.
#[derive(Debug, Error)]
pub enum AccessError {
    /// A file can't be used.
    #[error(transparent)]
    List(#[from] ListError),
    /// There are too many prefixes.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

/// Who may ask; a clone knows what the others do.
#[derive(Clone, Debug)]
pub struct Access(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    publisher: Publisher,
    files: Vec<AccessFileStatus>,
}

/// A file that the configuration names, and what was read of it last.
#[derive(Debug)]
struct ListFile {
    kind: AccessKind,
    path: PathBuf,
    prefixes: Vec<Prefix>,
    /// What it was when it was read, good or bad.
    read: Option<FileIdentity>,
    /// What it was when it was looked at.
    looked: Option<FileIdentity>,
}

impl ListFile {
    fn open(kind: AccessKind, path: PathBuf, hands: &Hands) -> Result<Self, ListError> {
        let opened = hands.access_file(kind, &path);
        let identity = opened.as_ref().ok().map(|(_, identity)| *identity);
        let prefixes = list_file::read(kind, &path, opened.map(|(file, _)| file))?;
        info!("access.{}: {}: {} prefixes", kind.file_key(), path.display(), prefixes.len());
        Ok(Self { kind, path, prefixes, read: identity, looked: identity })
    }

    fn status(&self, problem: Option<String>) -> AccessFileStatus {
        AccessFileStatus {
            key: self.kind.file_key().to_owned(),
            path: self.path.display().to_string(),
            prefixes: self.prefixes.len(),
            problem,
        }
    }
}

/// Reads what the configuration names: the lists, and what looks after their files.
///
/// # Errors
/// The first file that can't be used.
pub fn load(config: &config::Access, hands: &Hands) -> Result<(Access, Watch), AccessError> {
    let named = AccessKind::ALL.into_iter().filter_map(|kind| Some((kind, config.of(kind).file.clone()?)));
    let files = named.map(|(kind, path)| ListFile::open(kind, path, hands));
    let files: Vec<ListFile> = files.collect::<Result<_, _>>()?;
    let publisher = Publisher::new(build(config, &files)?);
    let shown = files.iter().map(|file| file.status(None)).collect();
    let access = Access(Arc::new(Mutex::new(Known { publisher, files: shown })));
    Ok((access.clone(), Watch::new(config.clone(), files, access, hands.clone())))
}

fn build(config: &config::Access, files: &[ListFile]) -> Result<Lists, TooMany> {
    Lists::build(config, files.iter().map(|file| (file.kind, file.prefixes.as_slice())))
}

impl Access {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lists as a worker sees them, from now on.
    #[must_use]
    pub fn reader(&self) -> AccessReader {
        self.known().publisher.reader()
    }

    /// What there is to tell of them.
    #[must_use]
    pub fn status(&self) -> AccessStatus {
        let known = self.known();
        AccessStatus { prefixes: known.publisher.reader().prefixes().len(), files: known.files.clone() }
    }
}
