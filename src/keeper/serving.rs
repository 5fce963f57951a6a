//! The server's process: takes what the keeper hands over, serves, drains and ends.

use super::handover::{Handover, Left};
use super::outlets::Handed as Outlets;
use super::reload::WHY_OCTETS_MAX;
use super::{start_log, terminal_width};
use crate::cli::ServeArguments;
use crate::config::Config;
use crate::hands::Hands;
use crate::hands::fault::shortened;
use crate::metrics::MetricsServer;
use crate::start::{Handed, HandedInterface, Server};
use crate::state::legacy::Legacy;
use crate::status::{self, Page, StatusServer};
use maser_core::limit::hash::Key;
use maser_sys::access_tries::AccessTries;
use maser_sys::driver_limits::DriverLimits;
use maser_sys::handover::Channel;
use maser_sys::limit_table::SharedTable;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{panic, process, thread};
use tracing::{info, warn};

/// How often the main thread looks whether the other threads are well.
const HEALTH_CHECKED_EVERY_MS: u16 = 500;

/// The life of a server, in the process that the keeper started for it.
pub(super) fn run(arguments: &ServeArguments) -> Result<(), Box<dyn Error>> {
    // Before any thread is started, so that all of them leave these signals to this one.
    let signals = signals()?;
    let channel = Channel::of_standard_input()?;
    let (handover, descriptors) = Handover::receive(&channel)?;
    let terminal_width = terminal_width();
    start_log(arguments.screen && terminal_width.is_some());
    let config = arguments.configuration(handover.config.as_deref())?;
    die_of_panics();
    let (hands, takes_over) = (Hands::of_keeper(channel), handover.takes_over);
    let started = start(config, handover, descriptors, &hands);
    let (mut server, outlets) = match started {
        Ok(started) => started,
        // Nobody has ended by it: the keeper says what became of the reload.
        Err(error) if takes_over => {
            // One more than is told, so that it shows.
            let why = shortened(&error, WHY_OCTETS_MAX + 1);
            return hands.failed(why).map_err(|fault| fault.to_string().into());
        }
        Err(error) => return Err(error),
    };
    let status_server = outlets.status.map(|socket| {
        let (view, clients) = (server.view(), server.view());
        let clients = move |question: &_| clients.clients(question);
        StatusServer::over(socket, move || view.status(), clients)
    });
    let status_server = status_server.transpose()?;
    let metrics_server = (!outlets.metrics.is_empty()).then(|| {
        let view = server.view();
        MetricsServer::over(outlets.metrics, move || view.status())
    });
    let metrics_server = metrics_server.transpose()?;

    let stop_screen = Arc::new(AtomicBool::new(false));
    let screen = arguments.screen.then(|| {
        let (view, stop) = (server.view(), Arc::clone(&stop_screen));
        thread::spawn(move || {
            let next = || Ok::<_, Infallible>(view.status());
            status::watch(Page::Status, next, &mut io::stdout(), terminal_width, &stop)
        })
    });
    wait_for_signal(&signals, &mut server, &hands)?;
    stop_screen.store(true, Ordering::Relaxed);
    drop((status_server, metrics_server));
    server.stop()?;
    if let Some(screen) = screen {
        screen.join().map_err(|_| "the screen has panicked: please report this")??;
    }
    info!("stopped");
    Ok(())
}

/// A server that answers, with what was handed over, and the sockets at which it tells about itself.
fn start(
    config: Config,
    handover: Handover,
    mut descriptors: impl Iterator<Item = OwnedFd>,
    hands: &Hands,
) -> Result<(Server, Outlets), Box<dyn Error>> {
    let mut next = || descriptors.next().ok_or(io::Error::from(io::ErrorKind::InvalidData));
    let outlets = handover.outlets.take(&mut next)?;
    let sockets = (0..handover.sockets * handover.cores.len()).map(|_| next()).collect::<Result<_, _>>()?;
    let own_table = handover.table.then(|| next().and_then(SharedTable::of_memory)).transpose()?;
    let interfaces = handover.interfaces.into_iter().map(|facts| {
        let (sockets_map, counts_map) = (next()?, next()?);
        let limits = DriverLimits::from_fd(next()?)?;
        Ok::<_, io::Error>(HandedInterface { facts, sockets_map, counts_map, limits })
    });
    let interfaces: Vec<_> = interfaces.collect::<Result<_, _>>()?;
    let shared = (!interfaces.is_empty()).then(|| {
        let table = SharedTable::from_fd(next()?)?;
        Ok::<_, io::Error>((table, AccessTries::from_fds([next()?, next()?])?))
    });
    let (table, sources) = shared.transpose()?.unzip();
    let nics = handover.nics.into_iter().map(|facts| {
        let clock = facts.clock.map(|_| next()).transpose()?;
        Ok::<_, io::Error>((facts, clock))
    });
    let [k0, k1] = handover.key;
    let handed = Handed {
        cores: handover.cores,
        sockets,
        table: table.or(own_table),
        key: Key { k0, k1 },
        interfaces,
        sources,
        refused: handover.refused,
        nics: nics.collect::<Result<_, _>>()?,
        hands: hands.clone(),
        legacy: handover.legacy.and_then(|left| inherited(&left)),
        steering: handover.steering,
    };
    Ok((Server::start(config, handed)?, outlets))
}

/// What the server before has left, if it is a legacy. Without one this server begins anew.
fn inherited(left: &Left) -> Option<Legacy> {
    serde_json::from_str(&left.text)
        .inspect_err(|error| warn!("what the server before has left isn't used: {}", shortened(error, 200)))
        .ok()
        .map(|legacy: Legacy| legacy.heard_at(left.at_ns))
}

/// A thread that has panicked is replaced together with its process: the keeper sees to that within a second.
pub(super) fn die_of_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        usual(what);
        process::abort();
    }));
}

/// Those of the keeper, and an operator's. A hangup is the keeper's to understand.
fn signals() -> nix::Result<SignalFd> {
    SigSet::from_iter([Signal::SIGHUP]).thread_block()?;
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1]);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Returns when the server is to stop: a signal came, or a thread has ended by itself. Leaves the interfaces' queues meanwhile,
/// if the keeper says so.
fn wait_for_signal(signals: &SignalFd, server: &mut Server, hands: &Hands) -> Result<(), Box<dyn Error>> {
    while !server.has_failed() {
        let mut waiting = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(HEALTH_CHECKED_EVERY_MS)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => match signals.read_signal()? {
                None => {}
                Some(signal) if signal.ssi_signo == Signal::SIGUSR1 as u32 => {
                    info!("answering what is queued at the interfaces, then leaving their queues");
                    server.leave_queues()?;
                    hands.queues_left().map_err(|fault| fault.to_string())?;
                }
                Some(signal) => {
                    info!("signal {}: answering what is queued, then stopping", signal.ssi_signo);
                    return Ok(());
                }
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_legacy_is_left_alone() {
        let heir_of = |text: &str| inherited(&Left { text: text.to_owned(), at_ns: 7 });
        let words = ["0"; maser_core::snapshot::WORDS].join(",");
        let legacy = format!("{{\"counter\":\"tsc\",\"words\":[{words}],\"document\":null}}");
        assert!(heir_of(&legacy).is_some());
        let cut = legacy.get(..legacy.len() / 2).unwrap();
        for text in ["", "rubbish", "{}", cut, &legacy.replacen('0', "-1", 1), &legacy.replacen("0,", "", 1)]
        {
            assert!(heir_of(text).is_none(), "{text}");
        }
    }
}
