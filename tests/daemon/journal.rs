//! The log as the journal gets it, and as anybody else does.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;

use crate::maser::Setting;

/// A server whose standard error is said to lead to the journal, or somewhere else; what it logged.
fn logged(leads_to_journal: bool) -> String {
    let setting = Setting::new();
    let path = setting.scratch.path("log");
    let file = File::create(&path).and_then(|file| file.metadata()).expect("a file can be made");
    let inode = file.ino() + u64::from(!leads_to_journal);
    let stream = format!("{}:{inode}", file.dev());
    let mut server = setting.environment("JOURNAL_STREAM", stream.into()).start();
    server.stop();
    fs::read_to_string(path).expect("it is text")
}

#[test]
fn the_journal_gets_priorities_and_others_the_time() {
    let journal = logged(true);
    let of = |priority: &str| journal.lines().filter(|line| line.starts_with(priority)).count();
    // A list of leap seconds that has expired is a warning, where there is one.
    assert!(of("<6>") > 3 && of("<6>") + of("<4>") == journal.lines().count(), "{journal}");
    assert!(journal.contains("<6>stopped") && !journal.contains("INFO"), "{journal}");
    let text = logged(false);
    assert!(text.lines().all(|line| line.starts_with("20") && line.contains('Z')), "{text}");
}
