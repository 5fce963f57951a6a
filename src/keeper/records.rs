//! The settings of NICs that outlive a keeper: on disk from before they are changed until they are put back.
//!
//! A keeper puts them back however its server ends. After one that was killed the next one does so first, or `maser restore`.

use crate::interface::settings::{Record, Restored};
use crate::status::Surroundings;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
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

/// Takes down what an interface was set to, before it is set to something else.
///
/// # Errors
/// What the system said: then nothing must be set.
pub fn keep(file: &Path, record: Record) -> io::Result<()> {
    let mut records = read(file)?;
    // What was there before the first of ours is what counts.
    if records.iter().all(|kept| kept.index != record.index) {
        records.push(record);
    }
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec(&records)?)?;
    fs::rename(new, file)
}

/// Puts everything back that is recorded in `file`; what was done, a line each. Once all is back there is no file any more.
///
/// # Errors
/// What is in the way; all that can be put back is, and the record stays.
pub fn restore(file: &Path) -> Result<Vec<String>, NotRestored> {
    let fail = |why: String| NotRestored { path: file.to_owned(), why };
    let mut said = Vec::new();
    let mut failed = Vec::new();
    let records = read(file).map_err(|error| fail(error.to_string()))?;
    for record in &records {
        let Record { interface, before, .. } = record;
        match record.restore() {
            Ok(Restored::Done) => said.push(format!(
                "{interface}: napi_defer_hard_irqs {} and gro_flush_timeout {} ns, as before",
                before.defer_hard_irqs, before.flush_timeout_ns
            )),
            Ok(Restored::Gone) => said.push(format!("{interface}: it is gone, and its settings with it")),
            Err(error) => failed.push(error.to_string()),
        }
    }
    if !failed.is_empty() {
        return Err(fail(failed.join("; ")));
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(fail(error.to_string())),
        Ok(()) | Err(_) => Ok(said),
    }
}

fn read(file: &Path) -> io::Result<Vec<Record>> {
    match fs::read(file) {
        Ok(octets) => Ok(serde_json::from_slice(&octets)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
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
        assert_eq!(read(&file).unwrap(), [record(0)], "ours isn't what was before");
        assert_eq!(restore(&file).unwrap(), ["gone0: it is gone, and its settings with it"]);
        assert!(!file.exists());
        fs::write(&file, "rubbish").unwrap();
        assert!(restore(&file).is_err(), "a record that can't be read is kept");
        fs::remove_file(&file).unwrap();
    }
}
