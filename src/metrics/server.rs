//! The thread that gives figures to whoever asks. It waits for all connections at once, so that one that is slow or silent is in
//! nobody's way, has room for a few, and rests between rounds, so that asking takes no more than a part of a core.

use super::connection::{Connection, Waits};
use super::text::{Format, text};
use crate::status::Status;
use maser_sys::kernel_clock::{self, KernelClock};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// So many connections at a time. Others wait, and after a moment one that has rested the longest makes room.
const CONNECTIONS_MAX: usize = 16;
/// No connection makes room before it had so much time.
const REST_MIN: Duration = Duration::from_millis(500);
/// Between rounds, so that who asks in a loop, for whatever, takes a part of a core's turns.
const PAUSE: Duration = Duration::from_millis(10);
/// The stop flag is looked at this often at least.
const LOOK_EVERY_MS: u8 = 100;

/// Gives figures at listening sockets; dropping it stops the thread.
#[derive(Debug)]
pub struct MetricsServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// At sockets that somebody else made, from what `status` returns then.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn over(
        listeners: Vec<TcpListener>,
        status: impl Fn() -> Status + Send + 'static,
    ) -> io::Result<Self> {
        for listener in &listeners {
            // A connection may be gone again before it is taken.
            listener.set_nonblocking(true)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let started_unix_s = seconds(KernelClock::Realtime) - status().uptime_s;
        let figures = move |format| {
            let families = super::figures(&status(), started_unix_s);
            text(families, format).unwrap_or_default()
        };
        let serve = move || serve(&listeners, &stopped, &figures);
        let thread = thread::Builder::new().name("metrics".to_owned()).spawn(serve)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the metrics thread had panicked");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "to a fraction of a microsecond")]
fn seconds(clock: KernelClock) -> f64 {
    kernel_clock::read(clock) as f64 / 1e9
}

fn now() -> Duration {
    Duration::from_nanos(kernel_clock::read(KernelClock::Monotonic).unsigned_abs())
}

fn serve(listeners: &[TcpListener], stop: &AtomicBool, figures: &impl Fn(Format) -> String) {
    let mut connections: Vec<Connection> = Vec::with_capacity(CONNECTIONS_MAX);
    while !stop.load(Ordering::Relaxed) {
        let is_room = connections.len() < CONNECTIONS_MAX || rested(&connections, now()).is_some();
        let (knocked, ready) = wait(if is_room { listeners } else { &[] }, &connections);
        let now = now();
        let mut each = ready.into_iter();
        // Made once a round in each format, however many ask.
        let mut made: Vec<(Format, String)> = Vec::new();
        let mut figures_now = |format| {
            let earlier = made.iter().find(|(made, _)| *made == format).map(|(_, text)| text.clone());
            earlier.unwrap_or_else(|| {
                let text = figures(format);
                made.push((format, text.clone()));
                text
            })
        };
        connections.retain_mut(|connection| {
            let is_ready = each.next().unwrap_or(false);
            (!is_ready || connection.turn(now, &mut figures_now)) && connection.until() > now
        });
        for listener in
            listeners.iter().zip(knocked).filter(|(_, knocked)| *knocked).map(|(listener, _)| listener)
        {
            take(listener, &mut connections, now);
        }
        thread::sleep(PAUSE);
    }
}

/// Which listeners have somebody waiting, and which connections can go on; of each kind in its order.
fn wait(listeners: &[TcpListener], connections: &[Connection]) -> (Vec<bool>, Vec<bool>) {
    let listening = listeners.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN));
    let flags = |connection: &Connection| match connection.waits() {
        Waits::Octets | Waits::Nothing => PollFlags::POLLIN,
        Waits::Room => PollFlags::POLLOUT,
    };
    let connected =
        connections.iter().map(|connection| PollFd::new(connection.stream().as_fd(), flags(connection)));
    let mut waiting: Vec<_> = listening.chain(connected).collect();
    let waits: Vec<Waits> = connections.iter().map(Connection::waits).collect();
    let nobody = waits.contains(&Waits::Nothing);
    let timeout = if nobody { PollTimeout::ZERO } else { PollTimeout::from(LOOK_EVERY_MS) };
    if let Err(error) = poll(&mut waiting, timeout) {
        tracing::debug!(%error, "the metrics' sockets can't be waited for");
        return (vec![false; listeners.len()], vec![false; connections.len()]);
    }
    let mut up = waiting.iter().map(|waited| waited.any().unwrap_or(false));
    let knocked = up.by_ref().take(listeners.len()).collect();
    let ready = up.zip(waits).map(|(up, waits)| up || waits == Waits::Nothing).collect();
    (knocked, ready)
}

/// Takes one connection, in another's place if there is none for it.
fn take(listener: &TcpListener, connections: &mut Vec<Connection>, now: Duration) {
    if connections.len() >= CONNECTIONS_MAX {
        let Some(place) = rested(connections, now) else { return };
        connections.swap_remove(place);
    }
    let taken = listener.accept().and_then(|(stream, _)| Connection::new(stream, now));
    match taken {
        Ok(connection) => connections.push(connection),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => tracing::debug!(%error, "no connection for metrics"),
    }
}

/// The place of the connection that has had the most time, if it had enough.
fn rested(connections: &[Connection], now: Duration) -> Option<usize> {
    let longest = connections.iter().enumerate().min_by_key(|(_, connection)| connection.since)?;
    (longest.1.since + REST_MIN <= now).then_some(longest.0)
}
