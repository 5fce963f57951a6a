//! A driver in a thread of its own, and a server in the test's hands.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use maser::source::ntp::{DENIED_REST, NtpSettings, run};
use maser::source::{REPORTS_MAX, Report, Teller, Word};
use maser_core::time::{NtpTimestamp, Span};
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{KernelClock, read};

/// For a request or a word on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// A driver that has been told to stop is gone by then.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// A running driver.
pub(crate) struct Driver {
    words: Receiver<Report>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    pub(crate) fn start(settings: NtpSettings, counter: Counter) -> Self {
        let (reports, words) = sync_channel(REPORTS_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || run(&settings, counter, &mut Teller::new(7, reports, &stopped)));
        Self { words, stop, thread: Some(thread) }
    }

    /// Its next word.
    pub(crate) fn word(&self, limit: Duration) -> Option<Word> {
        let report = self.words.recv_timeout(limit).ok()?;
        assert_eq!(report.source, 7, "whose word it is");
        Some(report.word)
    }

    /// Tells it to stop and waits until it has.
    pub(crate) fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let begin = now();
        let thread = self.thread.take().expect("it is stopped once");
        while !thread.is_finished() {
            assert!(begin.elapsed() < STOP_LIMIT, "a driver honours the stop");
            thread::sleep(Duration::from_millis(10));
        }
        thread.join().expect("a driver doesn't panic");
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Asks `address` once a second or so, without a burst.
pub(crate) fn settings(address: SocketAddr) -> NtpSettings {
    NtpSettings {
        host: address.ip().to_string(),
        port: address.port(),
        iburst: false,
        interleaved: false,
        min_poll: 0,
        max_poll: 0,
        listen: Vec::new(),
        denied_rest: DENIED_REST,
    }
}

/// A server that answers when and what the test says.
pub(crate) struct Fake(UdpSocket);

/// A request, and who sent it when.
pub(crate) struct Asked {
    pub(crate) request: [u8; 48],
    pub(crate) client: SocketAddr,
    pub(crate) at: Instant,
    receive: u64,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::at("127.0.0.1:0").expect("a free port")
    }

    pub(crate) fn at(address: &str) -> io::Result<Self> {
        UdpSocket::bind(address).map(Self)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }

    /// The next request, if one comes in time.
    pub(crate) fn asked(&self, limit: Duration) -> Option<Asked> {
        self.0.set_read_timeout(Some(limit)).expect("a limit above zero");
        let mut request = [0; 48];
        let (length, client) = self.0.recv_from(&mut request).ok()?;
        assert_eq!(length, 48);
        Some(Asked { request, client, at: now(), receive: utc() })
    }

    pub(crate) fn send(&self, asked: &Asked, reply: &[u8]) {
        self.0.send_to(reply, asked.client).expect("loopback takes datagrams");
    }
}

impl Asked {
    /// A reply at stratum 2 by the machine's clock.
    pub(crate) fn reply(&self) -> [u8; 48] {
        let mut reply = [0; 48];
        reply[..4].copy_from_slice(&[0x24, 2, 0, 0xEC]);
        reply[12..16].copy_from_slice(&[198, 51, 100, 1]);
        reply[24..32].copy_from_slice(&self.request[40..]);
        reply[32..40].copy_from_slice(&self.receive.to_be_bytes());
        reply[40..].copy_from_slice(&utc().to_be_bytes());
        reply
    }

    pub(crate) fn kiss(&self, code: &[u8; 4]) -> [u8; 48] {
        let mut kiss = self.reply();
        kiss[..2].copy_from_slice(&[0xE4, 0]);
        kiss[12..16].copy_from_slice(code);
        kiss
    }
}

fn utc() -> u64 {
    NtpTimestamp::from_utc(maser_core::time::Instant::from_unix_nanos(read(KernelClock::Realtime))).bits()
}

/// How far what an exchange says is from the machine's own clock.
pub(crate) fn error(counter: &Counter, exchange: &maser_core::discipline::Exchange) -> Span {
    let bracket = maser_sys::clock::bracket(counter, KernelClock::Realtime);
    let machine = maser_core::time::Instant::from_unix_nanos(bracket.nanos);
    let since = counter.nominal_rate().span_of(exchange.at.since(bracket.ticks));
    exchange.utc - (machine + since)
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long the test itself waits; the driver gets no time from here"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
