//! The real gpsd, fed by its own gpsfake over TCP, hands its time over through shared memory.
//!
//! The test runs itself once more in network, IPC and PID namespaces of its own, so that gpsd finds neither the machine's
//! segments nor its ports, and everything ends with the test. `tests/peers/setup.sh` fetches gpsd; nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use maser::source::Word;
use maser::source::gpsd::{self, GpsdSettings};
use maser_core::discipline::{Observation, TimeSample};
use maser_core::time::{Instant, Span};
use maser_sys::counter::Counter;

use super::bench::{Told, drive, now, scratch};
use super::messages::burst;
use super::peers::host::{end, ip, run};
use super::peers::{log, skip};

const NAME: &str = "gpsd::the_real_gpsd_is_heard_through_shared_memory";
/// Set for the run inside the namespaces: where gpsd's tree is.
const INSIDE: &str = "MASER_TEST_GPSD";

/// The first unit: that of the first device of a gpsd that runs as root.
const UNIT: u8 = 0;

/// So many seconds are in gpsfake's log, two sentences each.
const LOG_S: i64 = 60;
const SENTENCE_PAUSE_S: &str = "0.5";
/// Gpsd starts to hand over time a few fixes after it has met its receiver.
const FIRST_SAMPLE: Duration = Duration::from_secs(30);
const SAMPLES: usize = 6;

#[test]
fn the_real_gpsd_is_heard_through_shared_memory() {
    if let Ok(tree) = std::env::var(INSIDE) {
        return inside(Path::new(&tree));
    }
    let tree = tree();
    if !tree.join("usr/bin/gpsfake").exists() {
        return skip(NAME, &format!("no gpsd in {}; tests/peers/setup.sh fetches it", tree.display()));
    }
    let namespaces = ["unshare", "--net", "--ipc", "--pid", "--fork", "--kill-child"];
    if let Err(reason) = run(Command::new(namespaces[0]).args(&namespaces[1..]).arg("true")) {
        return skip(NAME, &reason);
    }
    let mut again = Command::new("setpriv");
    again
        .args(["--pdeathsig", "KILL", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"])
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture"])
        .env(INSIDE, &tree);
    let ended = again.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "inside the namespaces:\n{said}");
    assert!(said.contains("1 passed"), "inside the namespaces nothing was tested:\n{said}");
    said.lines().filter(|line| line.starts_with("gpsd: ")).for_each(log);
}

fn tree() -> PathBuf {
    let cache = std::env::var_os("MASER_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/maser"));
    cache.join("peers/gpsd")
}

fn inside(tree: &Path) {
    ip("link set lo up").unwrap();
    let directory = scratch("gpsd");
    fs::create_dir(&directory).unwrap();
    let counter = Counter::monotonic_raw();
    // gpsd believes no date that is years away from the machine's own.
    let first_s = now(&counter).nanos / 1_000_000_000;
    let sentences: String = (first_s..first_s + LOG_S).map(burst).collect();
    fs::write(directory.join("receiver.nmea"), sentences).unwrap();
    let mut gpsfake = start_gpsfake(tree, &directory);
    let settings = GpsdSettings::Shm(UNIT);
    drive(
        |teller| gpsd::run(&settings, counter, teller),
        |told| {
            told.working();
            expect_samples(told, &counter, first_s, &directory);
        },
    );
    end(&mut gpsfake);
    fs::remove_dir_all(&directory).unwrap();
}

fn start_gpsfake(tree: &Path, directory: &Path) -> Child {
    let output = fs::File::create(directory.join("output")).unwrap();
    let libraries = fs::read_dir(tree.join("usr/lib")).unwrap().map(|entry| entry.unwrap().path());
    let libraries: Vec<_> = libraries.map(|path| path.display().to_string()).collect();
    Command::new("python3")
        .arg(tree.join("usr/bin/gpsfake"))
        .args(["-t", "-1", "-n", "-q", "-c", SENTENCE_PAUSE_S])
        .arg(directory.join("receiver.nmea"))
        .env("LD_LIBRARY_PATH", libraries.join(":"))
        .env("PYTHONPATH", tree.join("usr/lib/python3/dist-packages"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("GPSD_HOME", tree.join("usr/sbin"))
        .env("TMPDIR", directory)
        .stdin(Stdio::null())
        .stderr(output.try_clone().unwrap())
        .stdout(output)
        .spawn()
        .unwrap()
}

fn expect_samples(told: &Told, counter: &Counter, first_s: i64, directory: &Path) {
    let rate = counter.nominal_rate();
    let mut previous: Option<TimeSample> = None;
    for number in 0..SAMPLES {
        let word = told.next(FIRST_SAMPLE);
        let Some(Word::Observed(Observation::Time(sample))) = word else {
            let output = fs::read_to_string(directory.join("output")).unwrap_or_default();
            panic!("sample {number}: {word:?}; gpsfake said:\n{output}");
        };
        let age = rate.span_of(counter.now().since(sample.at));
        assert!(age > Span::ZERO && age < Span::from_seconds(1), "{age:?} old");
        assert!(sample.valid && sample.error < Span::from_nanos(100_000), "{sample:?}");
        let played = Instant::from_unix(first_s, 0)..Instant::from_unix(first_s + LOG_S, 0);
        assert!(played.contains(&sample.utc), "{sample:?} isn't in the log");
        if let Some(previous) = previous {
            // One second of the log, played in a second.
            assert_eq!(sample.utc - previous.utc, Span::from_seconds(1));
            let apart = rate.span_of(sample.at.since(previous.at));
            assert!((apart - Span::from_seconds(1)).abs() < Span::from_nanos(400_000_000), "{apart:?}");
        }
        log(&format!("gpsd: {:?}, {} µs old when told", sample.utc, age.as_nanos() / 1_000));
        previous = Some(sample);
    }
}
