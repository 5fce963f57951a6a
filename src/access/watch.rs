//! The files while the server runs: looked at every 2 s, read again when they have changed.
//!
//! What is wrong in a file leaves what was known of it before, and is told once. A file that was written over in place is
//! left alone until nobody has written to it from one look to the next, so that half of one isn't taken for the whole.

use super::{Access, ListFile, Lists, build, list_file};
use crate::config;
use crate::hands::Hands;
use maser_core::limit::access::{Prefix, Standing};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;
use tracing::{info, warn};

/// The stop flag is looked at so often.
const NAP: Duration = Duration::from_millis(200);
/// The files are looked at every 2 s.
const NAPS_BETWEEN_LOOKS: u32 = 10;

/// What the thread is called.
const NAME: &str = "access";

/// Looks after the files.
#[derive(Debug)]
pub struct Watch {
    config: config::Access,
    files: Vec<ListFile>,
    /// Lists that are to be published.
    due: Option<Lists>,
    access: Access,
    hands: Hands,
}

impl Watch {
    pub(super) const fn new(
        config: config::Access,
        files: Vec<ListFile>,
        access: Access,
        hands: Hands,
    ) -> Self {
        Self { config, files, due: None, access, hands }
    }

    /// Looks until `stop`, in a thread of its own (with its name), if there are any files; `changed` is given the prefixes whenever there are
    /// new lists, as [`Lists::prefixes`] gives them.
    ///
    /// # Errors
    /// When the thread can't be had.
    pub fn start(
        mut self,
        mut changed: impl FnMut(&[(Prefix, Standing)]) + Send + 'static,
        stop: &Arc<AtomicBool>,
    ) -> io::Result<Option<(&'static str, JoinHandle<()>)>> {
        if self.files.is_empty() {
            return Ok(None);
        }
        let stop = Arc::clone(stop);
        let run = move || {
            for nap in (0..NAPS_BETWEEN_LOOKS).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                if nap == 0 {
                    self.look(&mut changed);
                }
                thread::sleep(NAP);
            }
        };
        Builder::new().name(NAME.into()).spawn(run).map(|thread| Some((NAME, thread)))
    }

    /// Looks at every file, and publishes what has changed.
    fn look(&mut self, changed: &mut impl FnMut(&[(Prefix, Standing)])) {
        for at in 0..self.files.len() {
            self.look_at(at);
        }
        let mut known = self.access.known();
        known.publisher.free();
        let Some(lists) = self.due.take() else { return };
        self.due = known.publisher.publish(lists).err();
        let newest = known.publisher.reader();
        drop(known);
        if self.due.is_none() {
            changed(newest.prefixes());
        }
    }

    /// Reads one if it has changed and then rested for a look, and builds the lists with it.
    fn look_at(&mut self, at: usize) {
        let Some(file) = self.files.get_mut(at) else { return };
        let opened = self.hands.access_file(file.kind, &file.path);
        let identity = opened.as_ref().ok().map(|(_, identity)| *identity);
        let rests = identity == file.looked;
        file.looked = identity;
        if !rests || identity == file.read {
            return;
        }
        file.read = identity;
        let read = list_file::read(file.kind, &file.path, opened.map(|(file, _)| file));
        let problem =
            read.map_err(|error| error.in_a_line()).and_then(|prefixes| self.take(at, prefixes)).err();
        if let Some(problem) = &problem {
            warn!("{problem}; what was known of the file before stands");
        }
        if let Some((file, shown)) = self.files.get(at).zip(self.access.known().files.get_mut(at)) {
            *shown = file.status(problem);
        }
    }

    /// Builds the lists with other prefixes of a file, or leaves those that it had.
    fn take(&mut self, at: usize, prefixes: Vec<Prefix>) -> Result<(), String> {
        let Some(file) = self.files.get_mut(at) else { return Ok(()) };
        let (key, path, count) = (file.kind.file_key(), file.path.display().to_string(), prefixes.len());
        let before = std::mem::replace(&mut file.prefixes, prefixes);
        match build(&self.config, &self.files) {
            Ok(lists) => {
                info!("access.{key}: {path} has changed: {count} prefixes");
                self.due = Some(lists);
                Ok(())
            }
            Err(too_many) => {
                if let Some(file) = self.files.get_mut(at) {
                    file.prefixes = before;
                }
                Err(format!("{path}: {too_many}"))
            }
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
