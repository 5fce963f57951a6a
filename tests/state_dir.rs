//! The state directory under SIGKILL: a process that writes as fast as it can is killed at random moments, many times, and
//! what it leaves is a whole document each time. The daemon then begins with one, refuses one that can't be its own, and
//! runs on where it may not keep any.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "daemon/maser.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod maser;
#[allow(dead_code, reason = "of the peers' rig only what starts and reads processes is used here")]
mod peers;
mod support;

use ::maser::state::{Document, StateDirectory, StateError};
use maser::{Scratch, Server, Setting, is_root_or_skip, text, within};
use maser_core::discipline::{Noise, Saved, Shown};
use maser_core::time::Instant;
use maser_sys::calibration;
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{KernelClock, read};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

const KILLS: u64 = 60;
/// A writer that is never killed ends all the same.
const WRITES_MAX: i64 = 1_000_000;
const BEGIN_LIMIT: Duration = Duration::from_secs(10);

/// Tells the child process where to write.
const DIRECTORY: &str = "MASER_TEST_STATE_DIRECTORY";

fn document(counter: &Counter, written_unix_s: i64) -> Document {
    let noise = Noise { jitter: 1e-6, wander: 1e-10, samples: 500.0 };
    let saved = Saved { frequency: 12.5e-6, frequency_sd: 1e-8, noise, shown: Shown::new() };
    Document::new(counter, &saved, Instant::from_unix(written_unix_s, 0))
}

/// The child: not a test of its own.
#[test]
#[ignore = "started by the test below, in a process of its own"]
fn writes_until_it_is_killed() {
    let Some(path) = env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let directory = StateDirectory::open(&path).unwrap();
    let counter = Counter::monotonic_raw();
    for number in 0..WRITES_MAX {
        directory.write(&document(&counter, number)).unwrap();
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_document() {
    let scratch = Scratch::new();
    let path = scratch.path("state");
    let (mut last, mut random) = (0, 0x2545_F491_4F6C_DD1D_u64);
    for kill_number in 0..KILLS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--ignored"])
            .env(DIRECTORY, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It has begun when the document is another than the last one.
        let begun = within(BEGIN_LIMIT, || {
            let told = fs::read_to_string(path.join("clock.json")).ok()?;
            Some(()).filter(|()| kill_number == 0 || !told.contains(&format!("\"written_unix_s\":{last},")))
        });
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        thread::sleep(Duration::from_micros((random >> 33) % 5_000));
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        assert!(begun.is_some(), "kill {kill_number}: nothing was written");
        // Read by what the server reads with; the directory isn't a dead process's any more.
        let directory = StateDirectory::open(&path).unwrap();
        let kept = directory.read().unwrap_or_else(|error| panic!("kill {kill_number}: {error}")).unwrap();
        last = kept.written_unix_s;
        let written = serde_json::to_string(&document(&Counter::monotonic_raw(), last)).unwrap();
        assert_eq!(kept, serde_json::from_str(&written).unwrap(), "kill {kill_number}");
    }
    println!("{KILLS} kills, the last after {last} writes");
}

#[test]
fn a_directory_is_one_servers() {
    let scratch = Scratch::new();
    let path = scratch.path("a/b");
    let first = StateDirectory::open(&path).unwrap();
    assert!(first.read().unwrap().is_none(), "nothing was kept yet");
    assert!(matches!(StateDirectory::open(&path), Err(StateError::Taken(_))));
    drop(first);
    // A process that a test beside this one starts has every file open until it has become another program.
    let again = within(BEGIN_LIMIT, || StateDirectory::open(&path).ok());
    assert!(again.is_some(), "given back");
}

fn server(scratch: &Scratch, state: &Path) -> Server {
    let setting = Setting::nowhere();
    let config = scratch.path("maser.toml");
    let lines = format!(
        "[server]\nlisten = [\"127.0.0.1:{}\"]\nworkers = 1\n[clock]\nstate = \"{}\"\n\
         [[source]]\ntype = \"gpsd\"\nsocket = \"{}\"\n",
        setting.port,
        text(state),
        text(&scratch.path("gps.sock"))
    );
    fs::write(&config, lines).unwrap();
    setting.with(&["--config", text(&config)]).start()
}

#[test]
fn the_next_start_uses_it_or_says_why_not() {
    let scratch = Scratch::new();
    let state = scratch.path("state");
    let now_s = read(KernelClock::Realtime) / 1_000_000_000;
    // The counter that the server will choose, too.
    let good = document(&calibration::choose(&[0]).counter, now_s);
    let told = |document: &str| {
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("clock.json"), document).unwrap();
        let mut server = server(&scratch, &state);
        server.stop();
        // It was never locked, so it has nothing better.
        assert_eq!(fs::read_to_string(state.join("clock.json")).unwrap(), document);
        server.log()
    };
    let json = |document: &Document| serde_json::to_string(document).unwrap();
    let log = told(&json(&good));
    // To two calibrations of the counter, which are some parts in a thousand million apart.
    assert!(log.contains("begins with the counter's frequency as kept: -12."), "{log}");
    let other = if good.counter == "tsc" { "monotonic_raw" } else { "tsc" };
    let log = told(&json(&Document { counter: other.to_owned(), ..good }));
    assert!(log.contains(&format!("not used: it is about the counter {other}")), "{log}");
    let log = told(&json(&Document { counter: "sundial".to_owned(), ..good }));
    assert!(log.contains("not used: its counter can't be right"), "{log}");
    let old_unix_s = now_s - 91 * 86_400;
    let log = told(&json(&Document { written_unix_s: old_unix_s, ..good.clone() }));
    assert!(log.contains("not used: it is 91 days old"), "{log}");
    let log = told(&json(&good)[1..]);
    assert!(log.contains("it isn't what maser writes"), "{log}");
}

#[test]
fn without_a_place_it_serves_all_the_same() {
    if !is_root_or_skip("without_a_place_it_serves_all_the_same") {
        return;
    }
    let scratch = Scratch::new();
    // Not even root makes a directory where a file is.
    let file = scratch.path("file");
    fs::write(&file, "").unwrap();
    let mut server = server(&scratch, &file.join("state"));
    server.stop();
    let log = server.log();
    assert!(log.contains("nothing is kept across restarts") && log.contains("clock.state"), "{log}");
}
