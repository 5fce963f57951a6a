//! The settings of NICs that outlive a keeper: on disk from before they are changed until they are put back.
//!
//! A keeper puts them back however its server ends. After one that was killed the next one does so first, or `maser restore`.
//! Those of another keeper that still runs are left alone.

use crate::interface::settings::{self, Restored};
use crate::interface::stamping;
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

/// What an interface was set to, and what to instead: which of the two kinds tell the settings' names, since files of
/// versions that had one don't.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// For busy polling.
    Polling(settings::Record),
    /// What the NIC stamps.
    Stamping(stamping::Record),
}

impl Record {
    /// What tells a setting of an interface from others.
    fn of_what(&self) -> (bool, u32, Option<[u8; 6]>) {
        match self {
            Self::Polling(record) => (true, record.index, record.hardware_address),
            Self::Stamping(record) => (false, record.index, record.hardware_address),
        }
    }

    /// The same setting of the same interface has become another one of ours; what was before stays.
    fn renew(&mut self, later: Self) {
        match (self, later) {
            (Self::Polling(kept), Self::Polling(later)) => kept.ours = later.ours,
            (Self::Stamping(kept), Self::Stamping(later)) => kept.ours = later.ours,
            (Self::Polling(_), Self::Stamping(_)) | (Self::Stamping(_), Self::Polling(_)) => {}
        }
    }

    /// Puts back what was there before; what that came to, in words.
    fn restore(&self) -> Result<String, String> {
        let (interface, before, restored) = match self {
            Self::Polling(record) => {
                let restored = record.restore().map_err(|error| error.to_string());
                (&record.interface, record.before.to_string(), restored)
            }
            Self::Stamping(record) => {
                let restored = record.restore().map_err(|error| error.to_string());
                (&record.interface, record.before.to_string(), restored)
            }
        };
        Ok(match restored? {
            Restored::Done => format!("{interface}: {before}, as before"),
            Restored::Gone => format!("{interface}: it is gone, and its settings with it"),
        })
    }
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
    // What was there before the first of ours is what counts.
    match records.iter_mut().find(|kept| kept.record.of_what() == record.of_what()) {
        Some(kept) => {
            kept.keeper = keeper;
            kept.record.renew(record);
        }
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
        let restored = record.restore();
        let is_left = restored.is_err();
        match restored {
            Ok(done) => said.push(done),
            Err(error) => failed.push(error),
        }
        is_left
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
    use crate::interface::settings::{Record as Polled, Settings};
    use crate::interface::stamping::{Record as Stamping, Stamped};

    #[test]
    fn a_record_is_kept_once_and_restored_once() {
        let file = std::env::temp_dir().join(format!("maser-records-{}.json", std::process::id()));
        let settings = |defer_hard_irqs| Settings { defer_hard_irqs, flush_timeout_ns: 7 };
        let polled = |before| Polled {
            interface: "gone0".to_owned(),
            // No interface has this number.
            index: u32::MAX >> 1,
            hardware_address: Some([2, 0, 0, 0, 0, 9]),
            before: settings(before),
            ours: settings(2),
        };
        let record = |before| Record::Polling(polled(before));
        assert_eq!(restore(&file).unwrap(), Vec::<String>::new(), "nothing was left");
        keep(&file, record(0)).unwrap();
        keep(&file, record(2)).unwrap();
        let own = Process::own().unwrap();
        let kept = Kept { keeper: own, record: record(0) };
        assert_eq!(read(&file).unwrap(), std::slice::from_ref(&kept), "ours isn't what was before");
        // Another keeper that runs: this test's parent. One that had its number before it is no more.
        let other = Process::of(std::os::unix::process::parent_id()).unwrap();
        let mine = Record::Polling(Polled { hardware_address: None, ..polled(3) });
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

    #[test]
    fn two_kinds_of_settings_of_an_interface_are_kept_apart() {
        let file = std::env::temp_dir().join(format!("maser-kinds-{}.json", std::process::id()));
        // As a version left it that knew one kind.
        let own = Process::own().unwrap();
        let old = format!(
            r#"[{{"keeper":{{"id":{},"started":{}}},"record":{{"interface":"gone0","index":2147483647,"hardware_address":null,
                "before":{{"defer_hard_irqs":0,"flush_timeout_ns":0}},"ours":{{"defer_hard_irqs":2,"flush_timeout_ns":7}}}}}}]"#,
            own.id, own.started
        );
        fs::write(&file, old).unwrap();
        let stamped = |receive_filter| Stamped { transmit_type: 1, receive_filter };
        let stamping = |before, ours| Stamping {
            interface: "gone0".to_owned(),
            index: u32::MAX >> 1,
            hardware_address: None,
            before: stamped(before),
            ours: stamped(ours),
        };
        keep(&file, Record::Stamping(stamping(0, 15))).unwrap();
        // The driver made more of it.
        keep(&file, Record::Stamping(stamping(15, 1))).unwrap();
        let kept: Vec<_> = read(&file).unwrap().into_iter().map(|kept| kept.record).collect();
        assert!(
            matches!(&kept[..], [Record::Polling(_), Record::Stamping(both)] if *both == stamping(0, 1)),
            "{kept:?}"
        );
        assert_eq!(restore(&file).unwrap().len(), 2);
        assert!(!file.exists());
    }
}
