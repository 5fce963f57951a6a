//! Processes on hosts that are network namespaces: how they are started, waited for and ended.
//!
//! Both the clients' rig (`rig.rs`) and the benchmark's (`benches/rig`) start everything here. Nothing that runs on a host can
//! touch the machine's clock: every process is started without `CAP_SYS_TIME`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

const READY_SECONDS_MAX: u64 = 15;
const STOP_SECONDS_MAX: u64 = 10;
const OUTPUT_LINES_MAX: usize = 10_000;

/// `CAP_SYS_TIME` of `linux/capability.h`.
const CAP_SYS_TIME_BIT: u32 = 25;

/// A running server. Dropping it kills it; [`Server::stop`] ends it as a service manager would.
pub(crate) struct Server {
    process: Child,
    /// Kept so that the pipe stays open: a server must not die of a log line that nobody reads.
    output: Output,
    errors: PathBuf,
}

impl Server {
    /// Starts a server on a host; what it writes to its standard error goes to the file `errors`.
    pub(crate) fn start(host: &str, command: &[&str], errors: PathBuf) -> Result<Self, String> {
        let mut process = on_host(host, command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&errors).map_err(|error| error.to_string())?)
            .spawn()
            .map_err(|error| format!("the server did not start: {error}"))?;
        let output = Output::of(&mut process);
        Ok(Self { process, output, errors })
    }

    /// Waits until it prints `ready`.
    pub(crate) fn wait_until_ready(&self) -> Result<(), String> {
        let deadline = deadline_after(Duration::from_secs(READY_SECONDS_MAX));
        while let Some(line) = self.output.next_line(deadline) {
            if line.trim() == "ready" {
                return Ok(());
            }
        }
        Err(format!("the server never got ready; it said:\n{}", self.errors()))
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What the server has written to its standard error.
    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(mut self) -> Result<ExitStatus, String> {
        run(Command::new("kill").args(["-TERM", &self.id().to_string()]))?;
        let deadline = deadline_after(Duration::from_secs(STOP_SECONDS_MAX));
        while !time_left(deadline).is_zero() {
            if let Some(status) = self.process.try_wait().map_err(|error| error.to_string())? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!(
            "the server did not end within {STOP_SECONDS_MAX} s of SIGTERM; it said:\n{}",
            self.errors()
        ))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// The lines of a child's standard output, with a deadline on the wait for each.
pub(crate) struct Output(Receiver<String>);

impl Output {
    /// Starts to collect the output of a child that was spawned with a pipe.
    pub(crate) fn of(process: &mut Child) -> Self {
        let pipe = process.stdout.take().expect("the caller asked for a pipe");
        let (lines, receiver) = channel();
        // Ends with the child, or once nobody listens any more.
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').take(OUTPUT_LINES_MAX).map_while(Result::ok) {
                if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// The next line, or nothing at the deadline or the end of the output.
    pub(crate) fn next_line(&self, deadline: Instant) -> Option<String> {
        self.0.recv_timeout(time_left(deadline)).ok()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a deadline of the test itself; what it tests gets no time from here"
)]
pub(crate) fn deadline_after(patience: Duration) -> Instant {
    Instant::now() + patience
}

#[expect(clippy::disallowed_methods, reason = "as for `deadline_after`")]
pub(crate) fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Kills a child of ours and takes its status, so that no zombie stays behind.
pub(crate) fn end(process: &mut Child) {
    // Both fail only if it has ended already.
    let _ = process.kill();
    let _ = process.wait();
}

/// Whether a process with this `/proc/PID/status` has, or could get, the right to set the clock.
pub(crate) fn can_set_clock(status: &str) -> bool {
    let mut sets = 0;
    for line in status.lines().filter(|line| line.starts_with("Cap")) {
        let digits = line.split_whitespace().nth(1).expect("a capability line has a value");
        let set = u64::from_str_radix(digits, 16).expect("a capability set is hexadecimal");
        if set & (1 << CAP_SYS_TIME_BIT) != 0 {
            return true;
        }
        sets += 1;
    }
    assert_eq!(sets, 5, "expected five capability sets in:\n{status}");
    false
}

/// A command on a host, without the right to set the clock, which root doesn't get back through `exec` once it is out of
/// the bounding set. If this process is killed the kernel kills the command too.
pub(crate) fn on_host(host: &str, command: &[&str]) -> Command {
    let mut process = Command::new("setpriv");
    process
        .args(["--pdeathsig", "KILL", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"])
        .args(["ip", "netns", "exec", host])
        .args(command);
    process
}

/// Removes namespaces and directories called PREFIX PID-… whose process was killed before it could.
pub(crate) fn remove_leftovers(prefix: &str) -> Result<(), String> {
    let directories = fs::read_dir(std::env::temp_dir()).map_err(|error| error.to_string())?;
    for entry in directories.flatten() {
        if is_leftover(prefix, &entry.file_name().to_string_lossy()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    for name in ip("netns list")?.lines().filter_map(|line| line.split_whitespace().next()) {
        if is_leftover(prefix, name) {
            // Another test may be removing it at the same moment.
            let _ = ip(&format!("netns delete {name}"));
        }
    }
    Ok(())
}

fn is_leftover(prefix: &str, name: &str) -> bool {
    let maker = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next());
    maker.is_some_and(|maker| maker.parse::<u32>().is_ok() && !Path::new("/proc").join(maker).exists())
}

pub(crate) fn ip(arguments: &str) -> Result<String, String> {
    run(Command::new("ip").args(arguments.split(' ')))
}

/// Runs a short command to its end and returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
