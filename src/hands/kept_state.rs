//! The clock's state on disk, for a process that can't wait for one: it is read once and written by a thread. Where the
//! disk hangs, servers are started again all the same.

use super::ask::Kept;
use super::fault::Fault;
use crate::state::{Document, StateDirectory};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;
use tracing::warn;

/// The file may be in another hand's layout.
pub(crate) const KEPT_OCTETS_MAX: usize = 16 << 10;

/// At the end the disk has so long.
const LAST_WRITE_MAX: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is kept, and who writes it.
#[derive(Debug)]
pub(super) struct KeptState {
    file: PathBuf,
    text: Result<Option<String>, String>,
    /// None at the end.
    to_write: Option<SyncSender<Document>>,
    writer: JoinHandle<()>,
}

impl KeptState {
    /// Reads what is there; the directory is this process's until the last write is done.
    pub(super) fn of(directory: StateDirectory) -> io::Result<Self> {
        let text = directory.read_text().map_err(|error| error.to_string()).and_then(|text| match text {
            Some(text) if text.len() > KEPT_OCTETS_MAX => Err("too long to be the clock's state".to_owned()),
            text => Ok(text),
        });
        Self::with(directory.file(), text, move |document| directory.write(document))
    }

    fn with(
        file: PathBuf,
        text: Result<Option<String>, String>,
        write: impl Fn(&Document) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (to_write, documents) = sync_channel(1);
        let name = file.display().to_string();
        let writer = Builder::new().name("state".into()).spawn(move || {
            for document in documents {
                if let Err(error) = write(&document) {
                    warn!("{name}: the clock's state can't be written: {error}; what was kept before stands");
                }
            }
        })?;
        Ok(Self { file, text, to_write: Some(to_write), writer })
    }

    /// What is kept, or soon will be.
    pub(super) fn kept(&self) -> Kept {
        Kept { file: self.file.clone(), text: self.text.clone() }
    }

    /// Has `document`, whose text this is, written in the place of what was kept.
    pub(super) fn keep(&mut self, document: Document, text: &str) -> Result<(), Fault> {
        let Some(to_write) = &self.to_write else { return Err(Fault::new("it is the end")) };
        to_write.try_send(document).map_err(|error| match error {
            TrySendError::Full(_) => Fault::new("the disk hasn't taken what came before yet"),
            TrySendError::Disconnected(_) => Fault::new("nobody writes any more"),
        })?;
        self.text = Ok(Some(text.to_owned()));
        Ok(())
    }
}

impl Drop for KeptState {
    fn drop(&mut self) {
        self.to_write = None;
        let mut waited = Duration::ZERO;
        while !self.writer.is_finished() && waited < LAST_WRITE_MAX {
            thread::sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
        }
        if !self.writer.is_finished() {
            warn!("{}: the disk hasn't taken the clock's state, which may be lost", self.file.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex};

    const TEXT: &str = r#"{"version":2,"written_unix_s":1795000000,"counter":"tsc","nominal_hz":1e9,"ticks_per_true_s":1e9,
"frequency_sd":1e-8,"jitter_s":1e-7,"wander_per_sqrt_s":1e-10,"noise_samples":100.0,"shown":[[0,0,0],[0,0,0],[0,0,0],[0,0,0],[0,0,0],
[0,0,0],[0,0,0],[0,0,0],[0,0,0],[0,0,0],[0,0,0],[0,0,0]]}"#;

    fn document(written_unix_s: i64) -> Document {
        serde_json::from_str(&TEXT.replace("1795000000", &written_unix_s.to_string())).unwrap()
    }

    /// A disk on which each write ends when it is told to.
    fn disk(told: Receiver<()>) -> (KeptState, Arc<Mutex<Vec<Document>>>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&written);
        let write = move |document: &Document| {
            let _ended = told.recv();
            list.lock().unwrap().push(document.clone());
            Ok(())
        };
        (KeptState::with(PathBuf::from("/state"), Ok(None), write).unwrap(), written)
    }

    #[test]
    fn a_disk_that_hangs_stops_nobody_and_loses_what_is_newest_last() {
        let (end_one, told) = channel();
        let (mut state, written) = disk(told);
        let mut kept = Vec::new();
        for second in 1..=4 {
            if state.keep(document(second), &second.to_string()).is_ok() {
                kept.push(second);
            }
            // The first is taken from the channel meanwhile.
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(kept, [1, 2], "one is being written, one waits");
        assert_eq!(state.kept().text, Ok(Some("2".to_owned())));
        drop(end_one);
        drop(state);
        assert_eq!(*written.lock().unwrap(), [document(1), document(2)]);
    }

    #[test]
    fn an_end_waits_for_the_disk_but_not_for_ever() {
        let (_never, told) = channel();
        let (mut state, written) = disk(told);
        state.keep(document(1), TEXT).unwrap();
        drop(state);
        assert!(written.lock().unwrap().is_empty());
    }
}
