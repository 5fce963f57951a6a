//! A maser process, from its command line to its end.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::peers::rig::{Output, deadline_after, end};
use crate::peers::skip;
use crate::support::{ReplyView, request};

const PROGRAM: &str = env!("CARGO_BIN_EXE_maser");

/// A busy machine takes its time to start a process, all the more under strace.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(15);
/// A server that has been told to stop, or can't start, is gone by then.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(5);
/// For a reply over loopback on a busy machine.
const REPLY_LIMIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The user "nobody", without a group or a capability; to be put before a command.
pub(crate) const UNPRIVILEGED: [&str; 8] = [
    "setpriv",
    "--pdeathsig=KILL",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
    "--",
];
const UNPRIVILEGED_USER: u32 = 65_534;

static SCRATCHES: AtomicU32 = AtomicU32::new(0);

/// A directory of a test's own, which goes when the test ends.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let number = SCRATCHES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("maser-daemon-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a directory can be made for temporary files");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed does no harm there.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where the server is asked for its status, and who tells it.
pub(crate) enum StatusSocket {
    /// The command line.
    Argument(PathBuf),
    /// Its configuration.
    Configured(PathBuf),
}

/// How a maser is started: what stands before it on the command line, and its arguments.
pub(crate) struct Setting {
    prefix: Vec<String>,
    program: PathBuf,
    status_socket: StatusSocket,
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    input: Option<OwnedFd>,
    pub(crate) port: u16,
    pub(crate) scratch: Scratch,
}

impl Setting {
    /// `maser serve` with a status socket and a port of its own, but told no address yet.
    pub(crate) fn nowhere() -> Self {
        let scratch = Scratch::new();
        Self {
            prefix: harmless(),
            program: PROGRAM.into(),
            status_socket: StatusSocket::Argument(scratch.path("status.sock")),
            arguments: Vec::new(),
            environment: Vec::new(),
            input: None,
            port: free_port(),
            scratch,
        }
    }

    /// The same at 127.0.0.1.
    pub(crate) fn new() -> Self {
        Self::nowhere().listening_at("127.0.0.1")
    }

    pub(crate) fn listening_at(self, address: &str) -> Self {
        let listen = format!("{address}:{}", self.port);
        self.with(&["--listen", &listen])
    }

    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Puts a command before maser that replaces itself with maser.
    pub(crate) fn under(mut self, command: &[&str]) -> Self {
        self.prefix.extend(command.iter().map(|&word| word.to_owned()));
        self
    }

    /// Lets it set the clock, in a VM whose clock is its own.
    #[allow(dead_code, reason = "only tests in the VM may")]
    pub(crate) fn setting_the_clock(mut self) -> Self {
        let told = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        assert!(told.contains("maser.guest="), "this machine's clock isn't the test's");
        self.prefix.retain(|word| !word.ends_with("-sys_time"));
        self
    }

    pub(crate) fn environment(mut self, name: &'static str, value: PathBuf) -> Self {
        self.environment.push((name, value));
        self
    }

    /// With this as its standard input.
    #[allow(dead_code, reason = "tests that hand sockets over do")]
    pub(crate) fn with_input(mut self, input: OwnedFd) -> Self {
        self.input = Some(input);
        self
    }

    /// As [`UNPRIVILEGED`], with a copy of the program and a directory that this user can reach.
    pub(crate) fn unprivileged(mut self) -> Self {
        self.program = self.scratch.path("maser");
        fs::copy(PROGRAM, &self.program).expect("the program can be copied");
        fs::set_permissions(&self.program, fs::Permissions::from_mode(0o755)).expect("the copy is ours");
        let user = Some(UNPRIVILEGED_USER);
        std::os::unix::fs::chown(&self.scratch.0, user, user).expect("root may give a directory away");
        self.under(&UNPRIVILEGED)
    }

    /// With this status socket instead.
    pub(crate) fn status_at(mut self, socket: StatusSocket) -> Self {
        self.status_socket = socket;
        self
    }

    pub(crate) fn status_socket(&self) -> &Path {
        let (StatusSocket::Argument(path) | StatusSocket::Configured(path)) = &self.status_socket;
        path
    }

    /// The words of the whole command line.
    pub(crate) fn command_line(&self) -> Vec<String> {
        let mut words = self.prefix.clone();
        words.extend([text(&self.program).to_owned(), "serve".to_owned()]);
        // A test's clients ask more often than others.
        if !self.arguments.iter().any(|argument| argument == "--config" || argument == "--limit") {
            words.extend(["--limit", "off"].map(str::to_owned));
        }
        if let StatusSocket::Argument(path) = &self.status_socket {
            words.extend(["--status-socket".to_owned(), text(path).to_owned()]);
        }
        words.extend_from_slice(&self.arguments);
        words
    }

    fn command(&self) -> Command {
        let words = self.command_line();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.environment.iter().map(|(name, value)| (name, value)));
        let input = self.input.as_ref().map(|input| input.try_clone().expect("a descriptor is left"));
        command.env_remove("RUST_LOG").stdin(input.map_or_else(Stdio::null, Stdio::from));
        command
    }

    /// Starts it and waits for the line `ready`.
    pub(crate) fn start(self) -> Server {
        let errors = fs::File::create(self.scratch.path("log")).expect("a log can be made");
        let mut process =
            self.command().stdout(Stdio::piped()).stderr(errors).spawn().expect("the command is there");
        let output = Output::of(&mut process);
        let server = Server { process, output, setting: self };
        let line = server.line(READY_LIMIT);
        assert_eq!(line.as_deref(), Some("ready"), "the first line; the log says:\n{}", server.log());
        server
    }

    /// Starts it where it must fail, and gives its last words.
    pub(crate) fn refused(&self, limit: Duration) -> Finished {
        let finished = finish_as_told(self.command(), &self.scratch, limit);
        assert_eq!(finished.code, Some(1), "exit status of a refusal; it said:\n{}", finished.errors);
        assert_eq!(finished.output, "", "nothing is ready");
        finished
    }
}

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    process: Child,
    output: Output,
    pub(crate) setting: Setting,
}

impl Server {
    /// Its address, if it listens at 127.0.0.1.
    pub(crate) fn address(&self) -> SocketAddr {
        self.at(Ipv4Addr::LOCALHOST)
    }

    pub(crate) fn at(&self, address: Ipv4Addr) -> SocketAddr {
        (address, self.setting.port).into()
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// The process that answers, which the one that was started keeps running.
    pub(crate) fn server_id(&self) -> u32 {
        serving_process(self.process.id())
    }

    /// The next line of its standard output.
    pub(crate) fn line(&self, limit: Duration) -> Option<String> {
        self.output.next_line(deadline_after(limit))
    }

    /// What it has written to its standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.setting.scratch.path("log")).unwrap_or_default()
    }

    /// `maser status` for this server.
    pub(crate) fn ask_status(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(PROGRAM);
        command.arg("status").arg("--status-socket").arg(self.setting.status_socket()).args(arguments);
        finish(command, &self.setting.scratch, READY_LIMIT)
    }

    /// What `maser status --json` prints.
    pub(crate) fn status(&self) -> Value {
        let Finished { code, output, errors } = self.ask_status(&["--json"]);
        assert_eq!(code, Some(0), "maser status: {errors}");
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error} in {output}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        tell(self.process.id(), signal);
    }

    /// The same to the process that answers.
    pub(crate) fn signal_server(&self, signal: Signal) {
        tell(self.server_id(), signal);
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("it is our child")
    }

    /// Waits for its end, which has to come soon and to be a good one.
    pub(crate) fn ends_well(&mut self) {
        let ended = within(END_LIMIT, || self.has_ended());
        let status =
            ended.unwrap_or_else(|| panic!("runs after {END_LIMIT:?}; the log says:\n{}", self.log()));
        assert!(status.success(), "{status}; the log says:\n{}", self.log());
    }

    /// Ends it as a service manager would. Its files stay until it is dropped.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        self.ends_well();
    }
}

/// The process that serves: a process's only child and so on; the process itself where it has none.
pub(crate) fn serving_process(process: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    match children[..] {
        [child] => serving_process(child),
        _ => process,
    }
}

fn tell(process: u32, signal: Signal) {
    let process = i32::try_from(process).expect("process ids are small");
    kill(Pid::from_raw(process), signal).expect("the server is there to be told");
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// What a command that has ended left.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// Runs a command to its end, which must come within `limit`.
pub(crate) fn finish(mut command: Command, scratch: &Scratch, limit: Duration) -> Finished {
    command.stdin(Stdio::null());
    finish_as_told(command, scratch, limit)
}

fn finish_as_told(mut command: Command, scratch: &Scratch, limit: Duration) -> Finished {
    let (output, errors) = (scratch.path("output"), scratch.path("errors"));
    let file = |path: &Path| fs::File::create(path).expect("a file can be made");
    command.stdout(file(&output)).stderr(file(&errors));
    let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let ended = within(limit, || process.try_wait().expect("it is our child"));
    end(&mut process);
    let read = |path: &Path| fs::read_to_string(path).expect("it prints text");
    let (output, errors) = (read(&output), read(&errors));
    let status = ended.unwrap_or_else(|| panic!("{command:?} runs after {limit:?}; it said:\n{errors}"));
    Finished { code: status.code(), output, errors }
}

/// Looks until there is something, or until the limit.
pub(crate) fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = now();
    loop {
        let found = look();
        if found.is_some() || begin.elapsed() > limit {
            return found;
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long the test itself waits; the server gets no time from here"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A client at an address and port of its own.
pub(crate) struct Client(UdpSocket);

impl Client {
    pub(crate) fn at(address: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((address, 0)).expect("all of 127.0.0.0/8 is this machine's");
        socket.set_read_timeout(Some(REPLY_LIMIT)).expect("a limit above zero");
        Self(socket)
    }

    pub(crate) fn send(&self, server: SocketAddr, message: &[u8]) {
        self.0.send_to(message, server).expect("loopback takes datagrams");
    }

    /// The next reply and where it comes from.
    pub(crate) fn reply(&self) -> Option<(ReplyView, SocketAddr)> {
        let mut octets = [0; 2_048];
        let (length, from) = self.0.recv_from(&mut octets).ok()?;
        Some((ReplyView::of(&octets[..length]), from))
    }

    /// Sends one request, once, and gives the reply.
    pub(crate) fn ask(&self, server: SocketAddr) -> Option<(ReplyView, SocketAddr)> {
        self.send(server, &request(0x0123_4567_89AB_CDEF));
        self.reply()
    }
}

/// Whether this process may do everything; says so in the log if a test must be left out for that.
pub(crate) fn is_root_or_skip(name: &str) -> bool {
    let is_root = is_root();
    if !is_root {
        skip(name, "it needs root");
    }
    is_root
}

/// Whether a command does what it should here; says so in the log if a test must be left out for that.
pub(crate) fn works_or_skip(name: &str, command: &[&str]) -> bool {
    let quiet = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output();
    let works = quiet.is_ok_and(|output| output.status.success());
    if !works {
        skip(name, &format!("`{}` doesn't work here", command.join(" ")));
    }
    works
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Whatever maser does, it can't set the clock, and it doesn't outlive the test.
fn harmless() -> Vec<String> {
    let mut words = vec!["setpriv", "--pdeathsig=KILL"];
    if is_root() {
        words.extend(["--inh-caps=-sys_time", "--bounding-set=-sys_time"]);
    }
    words.push("--");
    words.into_iter().map(str::to_owned).collect()
}

/// A port that nobody has at any address of either family, a moment ago.
pub(crate) fn free_port() -> u16 {
    let socket = UdpSocket::bind("[::]:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"));
    let address = socket.and_then(|socket| socket.local_addr());
    address.expect("the kernel has a free port").port()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("paths here are UTF-8")
}
