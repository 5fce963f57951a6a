//! Two hosts, made of network namespaces and a veth pair, with a server running on one of them.
//!
//! Nothing here touches the machine's own network: the pair is born inside the namespaces, which have no route out.
//! Nothing here can touch the machine's clock: every process is started without `CAP_SYS_TIME`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A documentation network (RFC 5737) and a unique local one (RFC 4193), short enough for the clients' tables.
const SERVER_V4: &str = "192.0.2.1";
const SERVER_V6: &str = "fd6d:61::1";

const NAME_PREFIX: &str = "maser-peers-";
const READY_SECONDS_MAX: u64 = 15;
const STOP_SECONDS_MAX: u64 = 10;
const OUTPUT_LINES_MAX: usize = 10_000;

/// `CAP_SYS_TIME` of `linux/capability.h`.
const CAP_SYS_TIME_BIT: u32 = 25;

static RIGS: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

/// The two namespaces and a directory for the server's files. Dropping it removes them all.
pub(crate) struct Rig {
    server_host: String,
    client_host: String,
    directory: PathBuf,
    family: Family,
}

impl Rig {
    /// Makes the hosts, or says why this machine or this user can't.
    pub(crate) fn new(family: Family) -> Result<Self, String> {
        let owner = fs::metadata("/proc/self").map_err(|error| error.to_string())?;
        if owner.uid() != 0 {
            return Err("network namespaces need root".to_owned());
        }
        remove_leftovers()?;
        let number = RIGS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME_PREFIX}{}-{number}", std::process::id());
        let rig = Self {
            server_host: format!("{name}-server"),
            client_host: format!("{name}-client"),
            directory: std::env::temp_dir().join(&name),
            family,
        };
        fs::create_dir_all(&rig.directory).map_err(|error| error.to_string())?;
        let (server, client) = (&rig.server_host, &rig.client_host);
        ip(&format!("netns add {server}"))?;
        ip(&format!("netns add {client}"))?;
        ip(&format!("-n {server} link add eth0 type veth peer name eth0 netns {client}"))?;
        for (host, end) in [(server, 1), (client, 2)] {
            ip(&format!("-n {host} address add 192.0.2.{end}/24 dev eth0"))?;
            // Without nodad the address could not be used for the first two seconds.
            ip(&format!("-n {host} address add fd6d:61::{end}/64 dev eth0 nodad"))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!("-n {host} link set eth0 up"))?;
        }
        Ok(rig)
    }

    /// The address that the clients are told.
    pub(crate) fn server_address(&self) -> &'static str {
        match self.family {
            Family::Ipv4 => SERVER_V4,
            Family::Ipv6 => SERVER_V6,
        }
    }

    /// The address and port to listen on, as `--listen` wants it.
    pub(crate) fn listen(&self) -> String {
        match self.family {
            Family::Ipv4 => format!("{SERVER_V4}:123"),
            Family::Ipv6 => format!("[{SERVER_V6}]:123"),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts a server on the server's host and waits until it prints `ready`.
    pub(crate) fn serve(&self, command: &[&str]) -> Result<Server, String> {
        let errors = self.directory.join("server.log");
        let mut process = on_host(&self.server_host, command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&errors).map_err(|error| error.to_string())?)
            .spawn()
            .map_err(|error| format!("the server did not start: {error}"))?;
        let output = Output::of(&mut process);
        let server = Server { process, output, errors };
        let deadline = deadline_after(Duration::from_secs(READY_SECONDS_MAX));
        while let Some(line) = server.output.next_line(deadline) {
            if line.trim() == "ready" {
                return Ok(server);
            }
        }
        Err(format!("the server never got ready; it said:\n{}", server.errors()))
    }

    /// A command that will run on the client's host in a mount and a PID namespace of its own: what it mounts nobody
    /// else sees, and nothing that it starts outlives it.
    pub(crate) fn on_client_host(&self, command: &[&str]) -> Command {
        let own_namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"];
        on_host(&self.client_host, &[&own_namespaces, command].concat())
    }

    /// Fails if a process on either host could set the machine's clock, or if no process is there to look at.
    pub(crate) fn check_clock_is_out_of_reach(&self) -> Result<(), String> {
        let mut looked_at = 0;
        for host in [&self.server_host, &self.client_host] {
            for process in ip(&format!("netns pids {host}"))?.split_whitespace() {
                // One that has ended in the meantime is no danger.
                let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else { continue };
                if can_set_clock(&status) {
                    return Err(format!("process {process} on {host} holds CAP_SYS_TIME:\n{status}"));
                }
                looked_at += 1;
            }
        }
        if looked_at == 0 { Err("no server and no client is running".to_owned()) } else { Ok(()) }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for host in [&self.server_host, &self.client_host] {
            // A rig that was only half made has nothing to remove.
            let _ = ip(&format!("netns delete {host}"));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A running server. Dropping it kills it; [`Server::stop`] ends it as a service manager would.
pub(crate) struct Server {
    process: Child,
    /// Kept so that the pipe stays open: a server must not die of a log line that nobody reads.
    output: Output,
    errors: PathBuf,
}

impl Server {
    /// What the server has written to its standard error.
    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(mut self) -> Result<ExitStatus, String> {
        run(Command::new("kill").args(["-TERM", &self.process.id().to_string()]))?;
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
fn time_left(deadline: Instant) -> Duration {
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
fn on_host(host: &str, command: &[&str]) -> Command {
    let mut process = Command::new("setpriv");
    process
        .args(["--pdeathsig", "KILL", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"])
        .args(["ip", "netns", "exec", host])
        .args(command);
    process
}

/// Removes namespaces and directories of test processes that were killed before they could.
fn remove_leftovers() -> Result<(), String> {
    let directories = fs::read_dir(std::env::temp_dir()).map_err(|error| error.to_string())?;
    for entry in directories.flatten() {
        if is_leftover(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    for name in ip("netns list")?.lines().filter_map(|line| line.split_whitespace().next()) {
        if is_leftover(name) {
            // Another test may be removing it at the same moment.
            let _ = ip(&format!("netns delete {name}"));
        }
    }
    Ok(())
}

fn is_leftover(name: &str) -> bool {
    let maker = name.strip_prefix(NAME_PREFIX).and_then(|rest| rest.split('-').next());
    maker.is_some_and(|maker| maker.parse::<u32>().is_ok() && !Path::new("/proc").join(maker).exists())
}

fn ip(arguments: &str) -> Result<String, String> {
    run(Command::new("ip").args(arguments.split(' ')))
}

/// Runs a short command to its end and returns what it printed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
