//! A configuration that was read, and what became of reading it again.

use super::now;
use crate::cli::{CliError, ServeArguments};
use crate::config::{Config, WorkersError};
use crate::start::available_cores;
use crate::status::{LoadStatus, RefusalStatus};
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

    pub(super) fn refused(&mut self, began: Duration, why: String) {
        (self.began, self.refused) = (began, Some((now(), why)));
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
