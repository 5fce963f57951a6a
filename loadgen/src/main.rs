//! The command `maser-load`: parses the command line, runs it, and turns Ctrl-C into an early end.

use clap::Parser as _;
use maser_load::app;
use maser_load::cli::Cli;
use nix::sys::signal::{SigSet, Signal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = Arc::new(AtomicBool::new(false));
    if let Err(error) = stop_on_signals(&stop) {
        eprintln!("maser-load: signals can't be waited for: {error}");
        return ExitCode::FAILURE;
    }
    match app::execute(cli, &stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maser-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The first signal ends the run, with what was measured until then; the second ends the program.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> nix::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    // Before any thread is started, so that all of them leave these signals to one.
    signals.thread_block()?;
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        if signals.wait().is_ok() {
            stop.store(true, Ordering::Relaxed);
            // Unblocked in this thread, the next one does what it does by default.
            let _ = signals.thread_unblock();
            loop {
                thread::park();
            }
        }
    });
    Ok(())
}
