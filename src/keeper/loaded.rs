//! A configuration that was read, and what became of reading it again.

use super::now;
use crate::cli::{CliError, ServeArguments};
use crate::config::{Config, WorkersError};
use crate::start::available_cores;
use crate::status::{LoadStatus, RefusalStatus};
use maser_sys::limit_table;
use maser_sys::random;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// What servers are started with.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The configuration's text, so that a server means the same by it.
    pub(super) text: Option<String>,
    pub(super) config: Config,
    /// The cores of its workers.
    pub(super) cores: Vec<usize>,
}

/// Why a configuration can't be used.
#[derive(Debug, Error)]
pub(super) enum LoadedError {
    #[error(transparent)]
    Config(#[from] CliError),
    #[error("server.workers: {0}")]
    Workers(#[from] WorkersError),
}

impl Loaded {
    pub(super) fn read(arguments: &ServeArguments) -> Result<Self, LoadedError> {
        let text = arguments.text()?;
        let config = arguments.configuration(text.as_deref())?;
        let cores = config.server.workers.place(&available_cores())?;
        Ok(Self { text, config, cores })
    }
}

/// The limiter's table, where no interface's programs share it, and what its entries are found by.
#[derive(Debug)]
pub(super) struct Table {
    octets: u64,
    memory: OwnedFd,
}

impl Table {
    /// For this configuration; none where nobody is limited, or the programs of interfaces look into it, too.
    pub(super) fn wanted(config: &Config) -> io::Result<Option<Self>> {
        if config.limit.rate == 0 || !config.server.interfaces.is_empty() {
            return Ok(None);
        }
        let octets = config.limit.memory_octets;
        Ok(Some(Self { octets, memory: limit_table::memory(octets)? }))
    }

    /// Whether it can go on being used for this configuration.
    pub(super) fn suits(&self, config: &Config) -> bool {
        config.limit.rate != 0 && self.octets == config.limit.memory_octets
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

/// What nobody outside may know: with the same one the next server finds who asked how much.
pub(super) fn new_key() -> io::Result<[u64; 2]> {
    let mut secret = [[0; 8]; 2];
    random::fill(secret.as_flattened_mut())?;
    Ok(secret.map(u64::from_ne_bytes))
}

/// What became of the configuration.
#[derive(Debug)]
pub(super) struct Loads {
    file: Option<PathBuf>,
    /// When the last reading began that has come to an end.
    began: Duration,
    applied: Duration,
    reloads: u64,
    /// When the last was refused, and why; none once one was applied since.
    refused: Option<(Duration, String)>,
    refusals: u64,
}

impl Loads {
    /// The first one, for what is starting.
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file, began: now(), applied: now(), reloads: 0, refused: None, refusals: 0 }
    }

    pub(super) fn applied(&mut self, began: Duration) {
        (self.began, self.applied, self.refused) = (began, now(), None);
        self.reloads += 1;
    }

    pub(super) fn refused(&mut self, began: Duration, why: &str) {
        (self.began, self.refused) = (began, Some((now(), why.to_owned())));
        self.refusals += 1;
    }

    pub(super) fn status(&self) -> LoadStatus {
        let ago_s = |then: Duration| now().saturating_sub(then).as_secs_f64();
        let refused =
            |(then, why): &(Duration, String)| RefusalStatus { ago_s: ago_s(*then), why: why.clone() };
        LoadStatus {
            file: self.file.as_ref().map(|file| file.display().to_string()),
            began_s: self.began.as_secs_f64(),
            applied_ago_s: ago_s(self.applied),
            reloads: self.reloads,
            refusals: self.refusals,
            refused: self.refused.as_ref().map(refused),
        }
    }
}
