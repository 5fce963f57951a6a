//! The keeper: the process that the operator starts. It holds the privileges, parses nothing that strangers send, and
//! keeps a server running that has none.
//!
//! ```text
//! keeper ── Handover: configuration, sockets, interfaces ──> server     once, at its start
//!        <── Ask ── Answer ──>                                          whenever it needs something opened
//! ```
//!
//! One thread, one loop: signals, the server's questions, its end. A server that ends unexpectedly is started again; a
//! keeper that is killed takes its server along. To reload it starts a second one, which takes over.

mod asked;
mod broker;
mod handover;
mod interfaces;
mod loaded;
mod nics;
mod outlets;
mod process;
pub mod records;
mod reload;
mod resolver;
mod restarts;
mod serving;
mod started;
mod table;
#[cfg(test)]
mod tests;

use crate::cli::ServeArguments;
use crate::config::Config;
use crate::sockets::{self, Sockets};
use asked::Role;
use broker::Broker;
use interfaces::Interfaces;
use loaded::{Loaded, Loads};
use maser_sys::kernel_clock::{self, KernelClock};
use nics::Nics;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use outlets::Outlets;
use process::{Ended, Part, Running, START_MAX};
use reload::{Reload, Retiring};
use restarts::{BRIEF_MAX, Restarts};
use sd_notify::NotifyState;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use table::{Table, new_key};
use tracing::{Level, error, info, warn};

/// A server that was told to stop and hasn't is killed after this.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Says that the kernel sent a signal, and no process (sigaction(2)).
const SI_KERNEL: i32 = 0x80;

/// So much of what the server says is logged.
const LOGGED_OCTETS_MAX: usize = 200;

/// The kernel doesn't tell of everything that concerns the interfaces (offloads, queues).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `maser serve`, whichever of its processes this is.
///
/// # Errors
/// What is in the way, and what to do about it.
pub fn serve(arguments: &ServeArguments) -> Result<ExitCode, Box<dyn Error>> {
    // Before anything else is opened.
    let given = sockets::given().map_err(|error| format!("LISTEN_FDS, LISTEN_PID: {error}"))?;
    allow_descriptors();
    // Before any thread is started, and before there is a child whose end could be missed.
    let signals = signals()?;
    let loaded = Loaded::read(arguments)?;
    let config = &loaded.config;
    start_log(arguments.screen && terminal_width().is_some());
    let sockets = Sockets::open(config, loaded.cores.len(), given)?;
    let outlets = Outlets::open(config)?;
    let table = Table::wanted(config).map_err(|error| format!("no memory for the limits' table: {error}"))?;
    let key = new_key().map_err(|error| format!("no random number for the limits' key: {error}"))?;
    restore_left(config);
    let interfaces = Interfaces::attach(config).inspect_err(|_| restore_left(config))?;
    // Some drivers begin anew when a program is put on them.
    let nics = Nics::take(config);
    let mut keeper = Keeper {
        signals,
        arguments: arguments.clone(),
        sockets,
        table,
        key,
        outlets,
        interfaces,
        nics,
        looked: now(),
        renew_wanted: false,
        renewing: None,
        broker: Broker::new(config),
        loads: Loads::new(arguments.config.clone()),
        loaded: Rc::new(loaded),
        reload_wanted: false,
        reload: None,
        retiring: None,
        server: None,
        start_at: Some(now()),
        has_been_ready: false,
        stopping: None,
        restarts: Restarts::default(),
    };
    keeper.run()
}

/// Lets this process and the servers that it starts have as many descriptors as the hard limit says: an address takes up to two
/// for each worker, and the soft limit is 1024 for the sake of select(2), which nobody calls here.
fn allow_descriptors() {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    // Where it fails, what can't be opened is told.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
}

/// What a process that the keeper started is for, if this is one: it does that, and the command line is another's.
///
/// # Errors
/// What is in its way.
pub fn serve_as_part(arguments: impl FnOnce() -> Option<ServeArguments>) -> Result<bool, Box<dyn Error>> {
    match process::part()? {
        None => return Ok(false),
        Some(Part::Resolver) => resolver::run()?,
        Some(Part::Server) => serving::run(&arguments().ok_or("a server needs a server's arguments")?)?,
    }
    Ok(true)
}

struct Keeper {
    signals: SignalFd,
    arguments: ServeArguments,
    /// What servers are started with.
    loaded: Rc<Loaded>,
    loads: Loads,
    sockets: Sockets,
    /// The limiter's; none where it isn't the keeper's, or nobody's.
    table: Option<Table>,
    /// What its entries are found by.
    key: [u64; 2],
    outlets: Outlets,
    interfaces: Interfaces,
    nics: Nics,
    /// When the interfaces were looked at last.
    looked: Duration,
    /// The interfaces have changed since a server was handed them.
    renew_wanted: bool,
    /// When a server that gives way to another has had its time.
    renewing: Option<Duration>,
    broker: Broker,
    /// Somebody wants the configuration to be read again.
    reload_wanted: bool,
    /// A server that is to take over.
    reload: Option<Reload>,
    /// One that another has taken over from.
    retiring: Option<Retiring>,
    server: Option<Running>,
    /// When the next server is to be started; none while one runs.
    start_at: Option<Duration>,
    has_been_ready: bool,
    /// The signal that ends all this, and when the server has had its time.
    stopping: Option<(Signal, Duration)>,
    restarts: Restarts,
}

/// Why a wait has ended.
struct Woken {
    signalled: bool,
    /// Who asks something.
    asking: Vec<Role>,
    changed: bool,
}

impl Keeper {
    fn run(&mut self) -> Result<ExitCode, Box<dyn Error>> {
        let mut outcome = None;
        loop {
            self.start_if_due()?;
            self.reload_if_wanted();
            let Woken { signalled, asking, changed } = self.wait()?;
            if signalled {
                while let Some(heard) = self.signals.read_signal()? {
                    match i32::try_from(heard.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok()) {
                        None | Some(Signal::SIGCHLD) => {}
                        // The kernel says so itself where the terminal is gone that all this was started at.
                        Some(Signal::SIGHUP) if heard.ssi_code != SI_KERNEL => self.reload_wanted = true,
                        Some(signal) => self.stop(signal),
                    }
                }
                while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG))
                    && let Some((process, ended)) = Ended::of(status)
                {
                    self.broker.reaped(process);
                    outcome = outcome.or(self.after(process, ended)?);
                }
            }
            for role in asking {
                self.answer(role);
            }
            if changed || self.look_due().is_some_and(|due| due <= now()) {
                self.follow_interfaces();
            }
            self.broker.settle(now());
            if self.retiring.is_none() {
                if let Some(outcome) = outcome {
                    return Ok(outcome);
                }
                if self.server.is_none() && self.stopping.is_some() {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            self.kill_if_overdue();
        }
    }

    /// Waits for signals, for the server's questions, for the kernel's tables to change, and for what is due.
    fn wait(&self) -> nix::Result<Woken> {
        let stopping = self.stopping.map(|(_, until)| until);
        let start_limits =
            [Role::Serving, Role::Next].map(|role| self.running(role).and_then(Running::start_limit));
        let retiring = self.retiring.as_ref().map(|retiring| retiring.until);
        let due =
            [self.start_at, stopping, self.renewing, retiring, self.look_due(), self.broker.settle_due()];
        let due = due.into_iter().chain(start_limits).flatten().min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let left_ms = due.saturating_sub(now()).as_micros().div_ceil(1_000);
            PollTimeout::from(u16::try_from(left_ms).unwrap_or(u16::MAX))
        });
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let roles = [Role::Serving, Role::Next, Role::Retiring];
        let channel = |role: Role| Some((role, self.running(role)?.channel.as_ref()?));
        let channels: Vec<_> = roles.into_iter().filter_map(channel).collect();
        let asking = channels.iter().map(|(_, channel)| readable(channel.as_fd()));
        let mut waiting: Vec<_> = [readable(self.signals.as_fd())]
            .into_iter()
            .chain(asking)
            .chain(self.interfaces.watched().map(readable))
            .collect();
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let mut up = waiting.iter().map(|waited| waited.any().unwrap_or(false));
        let signalled = up.next().unwrap_or(false);
        let asking = channels.iter().filter(|_| up.next().unwrap_or(false)).map(|(role, _)| *role).collect();
        Ok(Woken { signalled, asking, changed: up.next().unwrap_or(false) })
    }

    /// When the interfaces are looked at whatever the kernel has told; none if there are none.
    fn look_due(&self) -> Option<Duration> {
        let are_any = self.interfaces.watched().is_some() || self.nics.are_wanted();
        are_any.then_some(self.looked + LOOK_EVERY)
    }

    fn follow_interfaces(&mut self) {
        self.looked = now();
        match self.look_at_interfaces() {
            Ok(others) => {
                self.renew_wanted |= others;
                self.renew_if_wanted();
            }
            Err(error) => error!("the interfaces can't be followed: {error}"),
        }
    }

    /// Whether a server that knew them as they were must give way to another.
    fn look_at_interfaces(&mut self) -> io::Result<bool> {
        let others = self.interfaces.follow()?;
        Ok(self.nics.follow()? || others)
    }

    /// Has the server give way to another that knows the interfaces as they are now; one that isn't ready yet later.
    fn renew_if_wanted(&mut self) {
        if let Some(server) = &self.server
            && self.renew_wanted
            && server.ready.is_some()
            && self.renewing.is_none()
            && self.stopping.is_none()
            && self.reload.is_none()
            && self.retiring.is_none()
        {
            info!("the interfaces have changed: another server takes over");
            self.renewing = Some(now() + STOP_MAX);
            let _gone = kill(server.process, Signal::SIGTERM);
        }
    }

    /// Has the server drain and end.
    fn stop(&mut self, signal: Signal) {
        info!("signal {}: the server drains", signal.as_str());
        tell_systemd(&NotifyState::Stopping);
        self.start_at = None;
        self.stopping.get_or_insert((signal, now() + STOP_MAX));
        if let Some(server) = &self.server {
            let _gone = kill(server.process, Signal::SIGTERM);
        }
        if let Some(reload) = &mut self.reload {
            reload.server.kill();
        }
    }

    fn kill_if_overdue(&mut self) {
        let until = self.stopping.as_mut().map(|(_, until)| until).or(self.renewing.as_mut());
        if let Some(until) = until
            && *until <= now()
            && let Some(server) = &mut self.server
        {
            error!("the server hasn't stopped in {} s: it is killed", STOP_MAX.as_secs());
            *until = now() + STOP_MAX;
            server.kill();
        }
        if let Some(Retiring { server, until, .. }) = &mut self.retiring
            && *until <= now()
        {
            error!("the server before hasn't stopped in {} s: it is killed", STOP_MAX.as_secs());
            *until = now() + STOP_MAX;
            server.kill();
        }
        for role in [Role::Serving, Role::Next] {
            if let Some(server) = self.running_mut(role)
                && server.start_limit().is_some_and(|limit| limit <= now())
            {
                error!("the server isn't ready after {} s: it is killed", START_MAX.as_secs());
                server.kill();
            }
        }
    }

    /// What follows from the end of a process: an outcome if the keeper ends, too.
    fn after(&mut self, process: Pid, ended: Ended) -> Result<Option<ExitCode>, Box<dyn Error>> {
        if self.next_has_ended(process, ended) || self.retiring_has_ended(process) {
            return Ok(None);
        }
        let Some(server) = self.server.take_if(|server| server.process == process) else { return Ok(None) };
        self.broker.settle(Duration::MAX);
        self.give_up_reload("the server that it was to take over from has ended");
        if server.ready.is_none() {
            // It may have died of what it was left.
            self.broker.drop_legacy();
        }
        if self.renewing.take().is_some() && self.stopping.is_none() {
            self.start_at = Some(now());
            return Ok(None);
        }
        // One that is starting doesn't wait for signals yet, and a terminal tells all its processes.
        let as_told = self
            .stopping
            .is_some_and(|(signal, _)| [signal, Signal::SIGTERM].map(Ended::Signal).contains(&ended));
        match ended {
            Ended::Exit(0) if self.stopping.is_some() => return Ok(Some(ExitCode::SUCCESS)),
            Ended::Signal(_) if as_told => return Ok(Some(ExitCode::SUCCESS)),
            Ended::Signal(_) if server.is_killed && (self.stopping.is_some() || !self.has_been_ready) => {
                return Ok(Some(ExitCode::FAILURE));
            }
            // It has said why.
            Ended::Exit(code) if self.stopping.is_some() || !self.has_been_ready => {
                return Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(1).max(1))));
            }
            Ended::Signal(_) if self.stopping.is_some() || !self.has_been_ready => {
                return Err(format!(
                    "the server has ended by {ended}; please report this, with the lines above"
                )
                .into());
            }
            Ended::Exit(_) | Ended::Signal(_) => {}
        }
        let answered = server.ready.map(|ready| now().saturating_sub(ready));
        self.start_at = Some(now() + self.pause(answered, &ended.to_string())?);
        Ok(None)
    }

    /// How long to wait before the next start.
    fn pause(&mut self, answered: Option<Duration>, ended: &str) -> Result<Duration, Box<dyn Error>> {
        let pause = self.restarts.after(answered).ok_or_else(|| {
            format!("the server has ended {BRIEF_MAX} times at its start, the last time by {ended}: see the lines above")
        })?;
        error!("the server has ended by {ended}; the next one starts in {} ms", pause.as_millis());
        Ok(pause)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // However the keeper ends, it doesn't leave a server behind.
        for role in [Role::Serving, Role::Next, Role::Retiring] {
            if let Some(server) = self.running(role) {
                let _gone = kill(server.process, Signal::SIGKILL);
                let _reaped = waitpid(server.process, None);
            }
        }
        self.broker.settle(Duration::MAX);
        restore_left(&self.loaded.config);
    }
}

/// Puts back what a keeper that was killed, or this one, has changed of NICs; without any nothing was.
fn restore_left(config: &Config) {
    if config.server.interfaces.is_empty() && !nics::are_wanted(config) {
        return;
    }
    match records::place().and_then(|file| records::restore(&file)) {
        Ok(restored) => restored.iter().for_each(|line| info!("put back: {line}")),
        Err(error) => error!("NIC settings aren't put back: {error}; `maser restore` tries again"),
    }
}

/// The keeper's and its server's starts are told by `ready` once, later ones by the log.
fn say_ready(is_first: bool, server: Pid) {
    if is_first {
        // A reader that is gone is no reason not to serve.
        let mut out = io::stdout();
        let _told = writeln!(out, "ready").and_then(|()| out.flush());
        tell_systemd(&NotifyState::Ready);
    } else {
        warn!("the server answers again, as process {server}");
    }
}

/// Since the machine started; time that nobody sets.
fn now() -> Duration {
    Duration::from_nanos(kernel_clock::read(KernelClock::Monotonic).unsigned_abs())
}

fn signals() -> nix::Result<SignalFd> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD]);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn tell_systemd(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        warn!(%error, "systemd could not be told");
    }
}

/// Standard output stays `ready` and the screen; a live screen shows errors only.
fn start_log(live_screen: bool) {
    crate::log::start(if live_screen { Level::ERROR } else { Level::INFO });
}

/// A serial console often doesn't know its size.
const TERMINAL_WIDTH_UNKNOWN: usize = 80;

/// None if standard output isn't a terminal.
#[must_use]
pub fn terminal_width() -> Option<usize> {
    let terminal = io::stdout().is_terminal();
    let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    terminal.then(|| width.filter(|width| *width > 0).unwrap_or(TERMINAL_WIDTH_UNKNOWN))
}
