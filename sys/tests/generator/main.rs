//! What a load generator sends and receives through, against an echo.
//!
//! `udp` is about the client's UDP socket, over loopback; `packet` and `way` are about the packet socket, between two
//! network namespaces of the test's own (`namespace`), and take root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests bound their loops by the real clock")]

mod frame;
mod namespace;
mod packet;
mod udp;
mod way;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(20);

/// A thread that answers every datagram with its payload, until it is dropped.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Binds in the namespace of the calling thread.
    pub(crate) fn at(address: &str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        let address = socket.local_addr().unwrap();
        let (answered, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&answered), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    socket.send_to(&buffer[..length], from).unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { address, answered, stop, thread: Some(thread) }
    }

    /// Waits until so many were answered; their replies have reached the other end then, as far as they can.
    pub(crate) fn wait_for(&self, answers: usize) {
        until(|| self.answered.load(Ordering::Relaxed) >= answers);
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Repeats `step` until it is true, failing after [`LIMIT`].
pub(crate) fn until(mut step: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !step() {
        assert!(Instant::now() < end, "it never came");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A payload of the length of an NTP header, that `number` makes unlike others.
pub(crate) fn payload(number: u8) -> [u8; 48] {
    let mut payload = [0x23; 48];
    payload[47] = number;
    payload
}

/// That a transmit stamp and the receive stamp of the reply are in order, and near each other.
pub(crate) fn assert_near(transmit_ns: i64, receive_ns: i64) {
    let apart = receive_ns - transmit_ns;
    assert!((0..500_000_000).contains(&apart), "the reply came {apart} ns after the request");
}
