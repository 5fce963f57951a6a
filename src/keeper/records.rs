//! The settings of NICs that outlive a keeper: on disk from before they are changed until they are put back.
//!
//! A keeper puts them back however its server ends. After one that was killed the next one does so first, or `maser restore`.
//! Those of another keeper that still runs are left alone.

use crate::interface::settings::{Record, Restored};
use crate::status::Surroundings;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process;
use thiserror::Error;

const FILE_NAME: &str = "settings.json";

/// Why something isn't put back.
#[derive(Debug, Error)]
#[error("{path}: {why}")]
pub struct NotRestored {
    path: PathBuf,
    why: String,
}

/// Where they are: beside the usual status socket, so that each user has a place, and root's goes with the next boot.
///
/// # Errors
/// When there is no such place.
pub fn place() -> Result<PathBuf, NotRestored> {
    let own = Surroundings::of_process().own();
    let fail = |why: String| NotRestored { path: FILE_NAME.into(), why };
    own.map(|socket| socket.with_file_name(FILE_NAME)).map_err(|error| fail(error.to_string()))
}

/// A record, and whose it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Kept {
    keeper: Process,
    record: Record,
}

/// A process, told from later ones of the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Process {
    id: u32,
    /// When it was started, as `/proc/PID/stat` says it (proc_pid_stat(5), field 22).
    started: u64,
}

impl Process {
    fn of(id: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // Its name, which may hold blanks and brackets, is the second field, and the state the third.
        let after_name = text.rsplit_once(") ").map_or("", |(_, after)| after);
        let started = after_name.split(' ').nth(22 - 3).and_then(|field| field.parse().ok());
        let started = started.ok_or_else(|| io::Error::other("/proc doesn't say when processes began"))?;
        Ok(Self { id, started })
    }

    fn own() -> io::Result<Self> {
        Self::of(process::id())
    }

    fn is_alive(self) -> bool {
        Self::of(self.id).is_ok_and(|there| there == self)
    }
}

/// Takes down what an interface was set to, before this process sets it to something else.
///
/// # Errors
/// What the system said: then nothing must be set.
pub fn keep(file: &Path, record: Record) -> io::Result<()> {
    let (mut records, keeper) = (read(file)?, Process::own()?);
    let is_same =
        |kept: &Record| (kept.index, kept.hardware_address) == (record.index, record.hardware_address);
    // What was there before the first of ours is what counts.
    match records.iter_mut().find(|kept| is_same(&kept.record)) {
        Some(kept) => kept.keeper = keeper,
        None => records.push(Kept { keeper, record }),
    }
    write(file, &records)
}

/// Puts back what is recorded in `file` of this process and of those that are no more; what was done, a line each. What is
/// back is recorded no longer, and once all is there is no file.
///
/// # Errors
/// What is in the way; all that can be put back is, and the record of the rest stays.
pub fn restore(file: &Path) -> Result<Vec<String>, NotRestored> {
    let fail = |why: String| NotRestored { path: file.to_owned(), why };
    let records = read(file).map_err(|error| fail(error.to_string()))?;
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let (mut left, mut said, mut failed) = (records, Vec::new(), Vec::new());
    let is_others = |keeper: Process| keeper.id != process::id() && keeper.is_alive();
    left.retain(|Kept { keeper, record }| {
        if is_others(*keeper) {
            return true;
        }
        let Record { interface, before, .. } = record;
        let restored = record.restore();
        match &restored {
            Ok(Restored::Done) => said.push(format!("{interface}: {before}, as before")),
            Ok(Restored::Gone) => said.push(format!("{interface}: it is gone, and its settings with it")),
            Err(error) => failed.push(error.to_string()),
        }
        restored.is_err()
    });
    write(file, &left).map_err(|error| fail(error.to_string()))?;
    if failed.is_empty() { Ok(said) } else { Err(fail(failed.join("; "))) }
}

fn read(file: &Path) -> io::Result<Vec<Kept>> {
    match fs::read(file) {
        Ok(octets) => Ok(serde_json::from_slice(&octets)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// In one step, so that there is always a whole file.
fn write(file: &Path, records: &[Kept]) -> io::Result<()> {
    if records.is_empty() {
        return fs::remove_file(file);
    }
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec(records)?)?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::settings::Settings;

    #[test]
    fn a_record_is_kept_once_and_restored_once() {
        let file = std::env::temp_dir().join(format!("maser-records-{}.json", std::process::id()));
        let settings = |defer_hard_irqs| Settings { defer_hard_irqs, flush_timeout_ns: 7 };
        let record = |before| Record {
            interface: "gone0".to_owned(),
            // No interface has this number.
            index: u32::MAX >> 1,
            hardware_address: Some([2, 0, 0, 0, 0, 9]),
            before: settings(before),
            ours: settings(2),
        };
        assert_eq!(restore(&file).unwrap(), Vec::<String>::new(), "nothing was left");
        keep(&file, record(0)).unwrap();
        keep(&file, record(2)).unwrap();
        let own = Process::own().unwrap();
        let kept = Kept { keeper: own, record: record(0) };
        assert_eq!(read(&file).unwrap(), std::slice::from_ref(&kept), "ours isn't what was before");
        // Another keeper that runs: this test's parent. One that had its number before it is no more.
        let other = Process::of(std::os::unix::process::parent_id()).unwrap();
        let mine = Record { hardware_address: None, ..record(3) };
        let dead = Process { started: other.started + 1, ..other };
        let of_other = Kept { keeper: other, record: mine.clone() };
        write(&file, &[kept, of_other.clone(), Kept { keeper: dead, record: mine }]).unwrap();
        assert_eq!(restore(&file).unwrap().len(), 2);
        assert_eq!(read(&file).unwrap(), std::slice::from_ref(&of_other), "a living keeper's stays");
        write(&file, &[Kept { keeper: own, ..of_other }]).unwrap();
        assert_eq!(restore(&file).unwrap(), ["gone0: it is gone, and its settings with it"]);
        assert!(!file.exists());
        fs::write(&file, "rubbish").unwrap();
        assert!(restore(&file).is_err(), "a record that can't be read is kept");
        fs::remove_file(&file).unwrap();
    }
}
