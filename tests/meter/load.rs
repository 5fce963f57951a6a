//! The programs of another package, built once, and runs of them whose results are read.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::maser::{Finished, Scratch, finish};

/// A run may take so long, whatever it does.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A program of this workspace: cargo builds a test's own package only.
fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "-p", "maser-load", "-p", "maser"])
            .args(["--bin", "maser-load", "--example", "faulty"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.expect("cargo runs").success(), "maser-load and the faulty server are built");
    });
    Path::new(env!("CARGO_BIN_EXE_maser")).with_file_name(name)
}

pub(crate) fn maser_load() -> PathBuf {
    program("maser-load")
}

pub(crate) fn faulty() -> PathBuf {
    program("examples/faulty")
}

/// maser-load with these words, which are separated by spaces.
pub(crate) fn command(words: &str) -> Command {
    let mut command = Command::new(maser_load());
    command.args(words.split_whitespace());
    command
}

/// Runs maser-load to its end, whatever that is.
pub(crate) fn run(words: &str) -> Finished {
    finish(command(words), &Scratch::new(), RUN_LIMIT)
}

/// The JSON document of a run that goes well.
pub(crate) fn measure(words: &str) -> Value {
    document(command(&format!("{words} --json --quiet")))
}

/// The JSON document that this command prints.
pub(crate) fn document(command: Command) -> Value {
    let Finished { code, output, errors } = finish(command, &Scratch::new(), RUN_LIMIT);
    assert_eq!(code, Some(0), "maser-load: {errors}");
    serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error} in {output}"))
}

/// A number of a document, by its path.
pub(crate) fn number(document: &Value, path: &str) -> f64 {
    let value = path.split('.').fold(document, |value, key| &value[key]);
    value.as_f64().unwrap_or_else(|| panic!("no number at {path} in {document}"))
}

/// A count of a document, by its path.
pub(crate) fn count(document: &Value, path: &str) -> u64 {
    let value = path.split('.').fold(document, |value, key| &value[key]);
    value.as_u64().unwrap_or_else(|| panic!("no count at {path} in {document}"))
}

/// Tries a measurement again that a busy machine may have spoilt: what is planted is there each time, and what the
/// machine did isn't.
pub(crate) fn settles(mut measurement: impl FnMut() -> Result<(), String>) {
    const TRIES: u32 = 3;
    for attempt in 1..=TRIES {
        match measurement() {
            Ok(()) => return,
            Err(reason) if attempt < TRIES => crate::peers::log(&format!("once more: {reason}")),
            Err(reason) => panic!("{TRIES} times: {reason}"),
        }
    }
}
