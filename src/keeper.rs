//! The keeper: the process that the operator starts. It holds the privileges, parses nothing that strangers send, and
//! keeps a server running that has none.
//!
//! ```text
//! keeper ── Handover: configuration, sockets, interfaces ──> server     once, at its start
//!        <── Ask ── Answer ──>                                          whenever it needs something opened
//! ```
//!
//! One thread, one loop: signals, the server's questions, its end. A server that ends unexpectedly is started again; a
//! keeper that is killed takes its server along.

mod broker;
mod handover;
mod interfaces;
mod nics;
mod outlets;
mod process;
pub mod records;
mod resolver;
mod restarts;
mod serving;
#[cfg(test)]
mod tests;

use crate::cli::ServeArguments;
use crate::config::Config;
use crate::hands::ask::{self, Answer, Ask};
use crate::hands::fault::{Fault, shortened};
use broker::Broker;
use handover::Handover;
use interfaces::Interfaces;
use maser_sys::handover::Channel;
use maser_sys::kernel_clock::{self, KernelClock};
use nics::Nics;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use outlets::Outlets;
use process::{Ended, Part, Running, START_MAX};
use restarts::{BRIEF_MAX, Restarts};
use sd_notify::NotifyState;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tracing::{Level, error, info, warn};

/// A server that was told to stop and hasn't is killed after this.
const STOP_MAX: Duration = Duration::from_secs(10);

/// So much of what the server says is logged.
const LOGGED_OCTETS_MAX: usize = 200;

/// The kernel doesn't tell of everything that concerns the interfaces (offloads, queues).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `maser serve`, whichever of its processes this is.
///
/// # Errors
/// What is in the way, and what to do about it.
pub fn serve(arguments: &ServeArguments) -> Result<ExitCode, Box<dyn Error>> {
    // Before any thread is started, and before there is a child whose end could be missed.
    let signals = signals()?;
    let text = arguments.text()?;
    let config = arguments.configuration(text.as_deref())?;
    start_log(arguments.screen && terminal_width().is_some());
    let outlets = Outlets::open(&config)?;
    restore_left(&config);
    let interfaces = Interfaces::attach(&config).inspect_err(|_| restore_left(&config))?;
    // Some drivers begin anew when a program is put on them.
    let nics = Nics::take(&config);
    let mut keeper = Keeper {
        signals,
        config: text,
        outlets,
        interfaces,
        nics,
        looked: now(),
        renew_wanted: false,
        renewing: None,
        broker: Broker::new(config),
        server: None,
        start_at: Some(now()),
        has_been_ready: false,
        stopping: None,
        restarts: Restarts::default(),
    };
    keeper.run()
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
    /// The configuration's text.
    config: Option<String>,
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
    asked: bool,
    changed: bool,
}

impl Keeper {
    fn run(&mut self) -> Result<ExitCode, Box<dyn Error>> {
        loop {
            self.start_if_due()?;
            let Woken { signalled, asked, changed } = self.wait()?;
            if signalled {
                while let Some(signal) = self.signals.read_signal()? {
                    if let Some(signal) =
                        i32::try_from(signal.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok())
                        && signal != Signal::SIGCHLD
                    {
                        self.stop(signal);
                    }
                }
                while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG))
                    && let Some((process, ended)) = Ended::of(status)
                {
                    self.broker.reaped(process);
                    if let Some(outcome) = self.after(process, ended)? {
                        return Ok(outcome);
                    }
                }
            }
            if asked {
                self.answer();
            }
            if changed || self.look_due().is_some_and(|due| due <= now()) {
                self.follow_interfaces();
            }
            self.broker.settle(now());
            if self.server.is_none() && self.stopping.is_some() {
                return Ok(ExitCode::SUCCESS);
            }
            self.kill_if_overdue();
        }
    }

    /// Waits for signals, for the server's questions, for the kernel's tables to change, and for what is due.
    fn wait(&self) -> nix::Result<Woken> {
        let stopping = self.stopping.map(|(_, until)| until);
        let start_limit = self.server.as_ref().and_then(Running::start_limit);
        let settle = self.broker.settle_due();
        let due = [self.start_at, stopping, self.renewing, self.look_due(), start_limit, settle];
        let due = due.into_iter().flatten().min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let left_ms = due.saturating_sub(now()).as_micros().div_ceil(1_000);
            PollTimeout::from(u16::try_from(left_ms).unwrap_or(u16::MAX))
        });
        let signals = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
        let channel = self.server.as_ref().and_then(|server| server.channel.as_ref());
        let channel = channel.map(|channel| PollFd::new(channel.as_fd(), PollFlags::POLLIN));
        let is_asked_for = channel.is_some();
        let watched = self.interfaces.watched().map(|monitor| PollFd::new(monitor, PollFlags::POLLIN));
        let mut waiting: Vec<_> = [signals].into_iter().chain(channel).chain(watched).collect();
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let mut up = waiting.iter().map(|waited| waited.any().unwrap_or(false));
        let signalled = up.next().unwrap_or(false);
        let asked = is_asked_for && up.next().unwrap_or(false);
        Ok(Woken { signalled, asked, changed: up.next().unwrap_or(false) })
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
        {
            info!("the interfaces have changed: another server takes over");
            self.renewing = Some(now() + STOP_MAX);
            let _gone = kill(server.process, Signal::SIGTERM);
        }
    }

    fn start_if_due(&mut self) -> Result<(), Box<dyn Error>> {
        if self.start_at.take_if(|due| *due <= now()).is_none() {
            return Ok(());
        }
        // What has changed since the last look is handed over as it is.
        if let Err(error) = self.look_at_interfaces() {
            error!("the interfaces can't be followed: {error}");
        }
        self.renew_wanted = false;
        match self.start() {
            Ok(server) => self.server = Some(server),
            Err(error) if self.has_been_ready => {
                let pause = self.restarts.after_none();
                let pause = pause.ok_or_else(|| format!("the server can't be started: {error}"))?;
                error!("no process for the server: {error}; the next try is in {} ms", pause.as_millis());
                self.start_at = Some(now() + pause);
            }
            Err(error) => {
                return Err(format!("the server can't be started: {error}; is /proc mounted?").into());
            }
        }
        Ok(())
    }

    fn start(&self) -> io::Result<Running> {
        let (ours, theirs) = Channel::pair()?;
        let mut command = process::again(Part::Server);
        command.args(std::env::args_os().skip(1)).stdin(Stdio::from(OwnedFd::from(theirs)));
        let started = now();
        let child = command.spawn()?;
        let process = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        if let Err(error) = self.hand_over(&ours) {
            // It has ended already, which its end will tell, or it never will have what it waits for.
            warn!("nothing can be handed to the server: {error}");
            let _gone = kill(process, Signal::SIGKILL);
        }
        Ok(Running { process, channel: Some(ours), started, ready: None, is_killed: false })
    }

    fn hand_over(&self, to: &Channel) -> io::Result<()> {
        let (interfaces, maps) = self.interfaces.handed()?;
        let outlets = self.outlets.descriptors();
        let descriptors = outlets.chain(maps.iter().map(AsFd::as_fd)).chain(self.nics.clocks());
        let descriptors: Vec<_> = descriptors.collect();
        let (config, legacy, steering) = (self.config.clone(), self.broker.legacy(), self.broker.steering());
        let (refused, nics) = (self.interfaces.refused(), self.nics.facts());
        let (outlets, again) = (self.outlets.which(), self.has_been_ready);
        Handover { config, outlets, interfaces, refused, nics, again, legacy, steering }
            .send(to, &descriptors)
    }

    /// Takes a question, if it is one, and answers.
    fn answer(&mut self) {
        let Some(server) = &mut self.server else { return };
        let Some(channel) = &server.channel else { return };
        let ask = match ask::receive_ask(channel) {
            Ok(ask) => ask,
            Err(error) => {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    let error = shortened(&error, LOGGED_OCTETS_MAX);
                    error!("the server asks for something unknown: {error}; it is killed");
                    server.kill();
                }
                server.channel = None;
                return;
            }
        };
        let is_ready = matches!(ask, Ask::Ready);
        let answered = if matches!(ask, Ask::Nics) {
            Ok((Answer::Nics(self.nics.now()), None))
        } else {
            self.broker.answer(ask)
        };
        let (answer, descriptor) = match answered {
            Ok((answer, descriptor)) => (Ok(answer), descriptor),
            Err(fault) => (Err(fault), None),
        };
        if is_ready && server.ready.replace(now()).is_none() {
            say_ready(!std::mem::replace(&mut self.has_been_ready, true), server.process);
        }
        let answer: Result<Answer, Fault> = answer;
        let sent = match ask::send(channel, &answer, descriptor.as_ref().map(AsFd::as_fd)) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                ask::send(channel, &Err::<Answer, _>(Fault::new("the answer is too long")), None)
            }
            sent => sent,
        };
        if let Err(error) = sent {
            warn!("the server doesn't take an answer: {error}");
        }
        self.renew_if_wanted();
    }

    /// Passes a signal on; the server drains and ends.
    fn stop(&mut self, signal: Signal) {
        info!("signal {}: the server drains", signal.as_str());
        tell_systemd(&NotifyState::Stopping);
        self.start_at = None;
        self.stopping.get_or_insert((signal, now() + STOP_MAX));
        if let Some(server) = &self.server {
            let _gone = kill(server.process, signal);
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
        if let Some(server) = &mut self.server
            && server.start_limit().is_some_and(|limit| limit <= now())
        {
            error!("the server isn't ready after {} s: it is killed", START_MAX.as_secs());
            server.kill();
        }
    }

    /// What follows from the end of a process: an outcome if the keeper ends, too.
    fn after(&mut self, process: Pid, ended: Ended) -> Result<Option<ExitCode>, Box<dyn Error>> {
        let Some(server) = self.server.take_if(|server| server.process == process) else { return Ok(None) };
        self.broker.settle(Duration::MAX);
        if server.ready.is_none() {
            // It may have died of what it was left.
            self.broker.drop_legacy();
        }
        if self.renewing.take().is_some() && self.stopping.is_none() {
            self.start_at = Some(now());
            return Ok(None);
        }
        let as_told = self.stopping.is_some_and(|(signal, _)| ended == Ended::Signal(signal));
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
        if let Some(server) = &self.server {
            let _gone = kill(server.process, Signal::SIGKILL);
            let _reaped = waitpid(server.process, None);
        }
        self.broker.settle(Duration::MAX);
        restore_left(&self.broker.config);
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

/// Text on standard error, so that standard output stays `ready` and the screen; a live screen shows errors only.
fn start_log(live_screen: bool) {
    let level = if live_screen { Level::ERROR } else { Level::INFO };
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(colours)
        .with_target(false)
        // It would panic where nobody reads standard error any more.
        .log_internal_errors(false)
        .init();
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
