//! Real NTP clients against a server in network namespaces.
//!
//! [`rig`] makes two hosts out of namespaces and runs the server in one of them; [`client`] runs the clients in the
//! other and knows what each of them prints when it accepts a server; [`host`] starts and ends their processes.
//! `setup.sh` fetches the clients, `client.sh` starts one.

pub(crate) mod client;
pub(crate) mod host;
pub(crate) mod rig;

use std::io::Write as _;

/// Prints a line that a reader of the test log sees even when the test passes: the test harness swallows what `println!`
/// says, but not what is written to the stream itself.
pub(crate) fn log(line: &str) {
    let mut errors = std::io::stderr().lock();
    // A log that can't be written must not fail a test.
    let _ = writeln!(errors, "{line}");
}

/// Leaves out a check that this machine can't make, loudly, and not at all in CI, where a missing tool is a failure.
pub(crate) fn skip(name: &str, reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} can't run, and in CI it must: {reason}");
    log(&format!("SKIPPED: {name}: {reason}"));
}
