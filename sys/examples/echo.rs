//! How many datagrams a second a port echoes over loopback, beside a bare loop of system calls.
//!
//! `echo {mmsg|uring|bare} ADDRESS:PORT SECONDS`: the server runs on the first core, a flood of 48-octet datagrams
//! from the same process on the second. Compare medians of interleaved runs, not single ones.

#![expect(clippy::disallowed_methods, reason = "a bench measures by the real clock")]
#![expect(clippy::print_stdout, reason = "a bench prints its result")]
#![expect(clippy::cast_precision_loss, reason = "a rate is for people")]

use std::error::Error;
use std::net::{SocketAddr, UdpSocket as Client};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use maser_sys::datagram::{Outgoing, Wait};
use maser_sys::mmsg::MmsgPort;
use maser_sys::udp_socket::{SocketOptions, UdpSocket};
use maser_sys::uring::UringPort;

const BATCH: usize = 64;
const BATCH_LENGTH: u32 = 64;
const REQUEST: [u8; 48] = [0x23; 48];
const WAIT: Wait = Wait::Until(Duration::from_millis(100));

static STOP: AtomicBool = AtomicBool::new(false);

#[derive(Default)]
struct Count {
    batches: u64,
    answered: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, address, seconds] = arguments.as_slice() else {
        return Err("usage: echo {mmsg|uring|bare} ADDRESS:PORT SECONDS".into());
    };
    let address: SocketAddr = address.parse()?;
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    pin(0);
    let flood = thread::spawn(move || flood(address));
    let end = Instant::now() + seconds;
    let count = match port.as_str() {
        "mmsg" => mmsg(address, end)?,
        "uring" => uring(address, end)?,
        "bare" => bare(address, end)?,
        other => return Err(format!("no port is called {other}").into()),
    };
    // The replies' way through the loopback interface is in this thread's time too; other load on the machine isn't.
    let busy = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?).as_secs_f64();
    STOP.store(true, Ordering::Relaxed);
    let sent = flood.join().map_err(|_| "the flood panicked")??;
    println!(
        "{port}: {:.0} answers/s, {:.0} a second of the core, {:.1} a batch, offered {:.0}/s",
        count.answered as f64 / seconds.as_secs_f64(),
        count.answered as f64 / busy,
        count.answered as f64 / count.batches.max(1) as f64,
        sent as f64 / seconds.as_secs_f64(),
    );
    Ok(())
}

fn pin(core: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
}

macro_rules! echo_through {
    ($name:ident, $port:ident) => {
        fn $name(address: SocketAddr, end: Instant) -> Result<Count, Box<dyn Error>> {
            let socket = UdpSocket::open(address, SocketOptions::default())?;
            let mut port = $port::new(vec![socket], BATCH)?;
            let mut replies = Vec::with_capacity(BATCH);
            let mut count = Count::default();
            while Instant::now() < end {
                let received = port.receive(WAIT)?;
                replies.clear();
                for index in 0..received {
                    let (arrival, payload) = port.datagram(index);
                    if arrival.whole && arrival.unicast && arrival.source.port() != 0 {
                        replies
                            .push(Outgoing { index: index.try_into()?, length: payload.len().try_into()? });
                    }
                }
                let sent = port.send(&replies, |_, payload| {
                    payload.iter_mut().take(1).for_each(|octet| *octet = 0x24)
                })?;
                count.batches += 1;
                count.answered += sent.sent as u64;
            }
            Ok(count)
        }
    };
}
echo_through!(mmsg, MmsgPort);
echo_through!(uring, UringPort);

/// Headers for a batch over `buffers`, with room for a source address and for nothing else.
struct Bare {
    headers: Vec<libc::mmsghdr>,
    _vectors: Vec<libc::iovec>,
    _names: Vec<[u8; 32]>,
    _buffers: Vec<[u8; 2048]>,
}

fn bare_memory() -> Bare {
    let mut buffers = vec![[0; 2048]; BATCH];
    let mut names = vec![[0; 32]; BATCH];
    let mut vectors: Vec<_> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
        .collect();
    let headers = vectors
        .iter_mut()
        .zip(&mut names)
        .map(|(vector, name)| {
            // SAFETY: null pointers and zero lengths are values of a header's fields.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    Bare { headers, _vectors: vectors, _names: names, _buffers: buffers }
}

/// What can be had without stamps, packet info or a look at the datagrams.
fn bare(address: SocketAddr, end: Instant) -> Result<Count, Box<dyn Error>> {
    let socket = Client::bind(address)?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(2 << 20))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut memory = bare_memory();
    let mut count = Count::default();
    while Instant::now() < end {
        for header in &mut memory.headers {
            header.msg_hdr.msg_namelen = 32;
        }
        let received = receive(socket.as_raw_fd(), &mut memory);
        for header in &mut memory.headers[..received] {
            // SAFETY: the vector belongs to `memory`, and no call is under way.
            unsafe { (*header.msg_hdr.msg_iov).iov_len = REQUEST.len() };
        }
        count.answered += send(socket.as_raw_fd(), &mut memory, received) as u64;
        for header in &mut memory.headers[..received] {
            // SAFETY: as above.
            unsafe { (*header.msg_hdr.msg_iov).iov_len = 2048 };
        }
        count.batches += 1;
    }
    Ok(count)
}

fn receive(fd: RawFd, memory: &mut Bare) -> usize {
    let headers = memory.headers.as_mut_ptr();
    // SAFETY: `headers` are BATCH headers whose pointers lead into `memory`.
    let received =
        unsafe { libc::recvmmsg(fd, headers, BATCH_LENGTH, libc::MSG_WAITFORONE, std::ptr::null_mut()) };
    usize::try_from(received).unwrap_or(0)
}

fn send(fd: RawFd, memory: &mut Bare, count: usize) -> usize {
    let headers = memory.headers.as_mut_ptr();
    // SAFETY: the first `count` of the headers were filled by a receive.
    let sent = unsafe { libc::sendmmsg(fd, headers, u32::try_from(count).unwrap_or(0), 0) };
    usize::try_from(sent).unwrap_or(0)
}

/// Sends without pause and reads nothing; what doesn't fit the client's buffer is dropped on arrival.
fn flood(to: SocketAddr) -> std::io::Result<u64> {
    pin(1);
    let client = Client::bind(SocketAddr::new(to.ip(), 0))?;
    nix::sys::socket::setsockopt(&client, nix::sys::socket::sockopt::RcvBuf, &1)?;
    client.connect(to)?;
    let mut memory = bare_memory();
    for header in &mut memory.headers {
        header.msg_hdr.msg_name = std::ptr::null_mut();
        // SAFETY: the vector belongs to `memory`, and no call is under way.
        unsafe { (*header.msg_hdr.msg_iov).iov_len = REQUEST.len() };
    }
    let mut sent = 0;
    while !STOP.load(Ordering::Relaxed) {
        sent += send(client.as_raw_fd(), &mut memory, BATCH) as u64;
    }
    Ok(sent)
}
