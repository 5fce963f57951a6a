//! The command `maser`: parses the command line, does one thing, and says what went wrong in words.

use clap::Parser;
use maser::cli::{Cli, CliError, Command, ServeArguments};
use maser::start::Server;
use maser::status::{self, Page, StatusServer, Surroundings};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sd_notify::NotifyState;
use std::convert::Infallible;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tracing::{Level, info, warn};

/// How often the main thread looks whether the other threads are well.
const HEALTH_CHECKED_EVERY_MS: u16 = 500;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(arguments) => serve(&arguments),
        Command::CheckConfig(arguments) => arguments.run(&mut io::stdout()).map_err(Into::into),
        Command::Status(arguments) => asked(|place, out, width| arguments.run(place, out, width)),
        Command::Sources(arguments) => asked(|place, out, width| arguments.run(place, out, width)),
        Command::Tracking(arguments) => asked(|place, out, width| arguments.run(place, out, width)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maser: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A command that asks a running server.
fn asked(
    run: impl FnOnce(&Surroundings, &mut dyn Write, Option<usize>) -> Result<(), CliError>,
) -> Result<(), Box<dyn Error>> {
    run(&Surroundings::of_process(), &mut io::stdout(), terminal_width()).map_err(Into::into)
}

/// The life of a server: starts it, says `ready`, waits for a signal, drains it.
fn serve(arguments: &ServeArguments) -> Result<(), Box<dyn Error>> {
    // Before any thread is started, so that all of them leave these signals to this one.
    let signals = stop_signals()?;
    let config = arguments.configuration()?;
    let terminal_width = terminal_width();
    start_log(arguments.screen && terminal_width.is_some());

    let status_socket = config.status.socket.clone();
    let server = Server::start(config)?;
    let status_server = start_status(&server, status_socket)?;
    println!("ready");
    io::stdout().flush()?;
    tell_systemd(&NotifyState::Ready);

    let stop_screen = Arc::new(AtomicBool::new(false));
    let screen = arguments.screen.then(|| {
        let (view, stop) = (server.view(), Arc::clone(&stop_screen));
        thread::spawn(move || {
            let next = || Ok::<_, Infallible>(view.status());
            status::watch(Page::Status, next, &mut io::stdout(), terminal_width, &stop)
        })
    });
    wait_for_signal(&signals, &server)?;
    tell_systemd(&NotifyState::Stopping);
    stop_screen.store(true, Ordering::Relaxed);
    drop(status_server);
    server.stop()?;
    if let Some(screen) = screen {
        screen.join().map_err(|_| "the screen has panicked: please report this")??;
    }
    info!("stopped");
    Ok(())
}

/// Answers `maser status`. A socket that was asked for is a must; without the usual one the server serves all the same.
fn start_status(server: &Server, asked_for: Option<PathBuf>) -> Result<Option<StatusServer>, Box<dyn Error>> {
    let start = |path: PathBuf| {
        let view = server.view();
        StatusServer::start(&path, move || view.status()).inspect(|_| info!("status at {}", path.display()))
    };
    if let Some(path) = asked_for {
        return Ok(Some(start(path)?));
    }
    let usual = Surroundings::of_process().own().map_err(Box::<dyn Error>::from);
    match usual.and_then(|path| Ok(start(path)?)) {
        Ok(status_server) => Ok(Some(status_server)),
        Err(error) => {
            warn!("no status: {error}");
            Ok(None)
        }
    }
}

fn stop_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Returns when the server is to stop: a signal came, or a thread has ended by itself.
fn wait_for_signal(signals: &SignalFd, server: &Server) -> nix::Result<()> {
    while !server.has_failed() {
        let mut waiting = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(HEALTH_CHECKED_EVERY_MS)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => {
                if let Some(signal) = signals.read_signal()? {
                    info!("signal {}: answering what is queued, then stopping", signal.ssi_signo);
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
        .init();
}

/// A serial console often doesn't know its size.
const TERMINAL_WIDTH_UNKNOWN: usize = 80;

/// None if standard output isn't a terminal.
fn terminal_width() -> Option<usize> {
    let terminal = io::stdout().is_terminal();
    let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    terminal.then(|| width.filter(|width| *width > 0).unwrap_or(TERMINAL_WIDTH_UNKNOWN))
}
