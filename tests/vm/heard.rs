//! What is true of a reply, heard past maser: the NICs' own stamps of the same frames, by a packet socket, and their clocks read
//! beside the machine's; and who asks.

use std::fs;
use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use maser_sys::calibration;
use maser_sys::clock;
use maser_sys::counter::Counter;
use maser_sys::ethtool::Ethtool;
use maser_sys::hwtstamp::Stamping;
use maser_sys::phc::Phc;
use nix::sys::socket::sockopt::Timestamping;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, TimestampingFlag,
    Timestamps, recvmsg, setsockopt, socket,
};
use nix::sys::time::TimeValLike;
use serde_json::Value;

use crate::maser::{READY_LIMIT, Server, Setting, within};
use crate::packets::at_the_client;
use crate::support::ReplyView;

/// A headers' length: Ethernet, IPv4, UDP.
const HEADERS: usize = 42;

/// How far a timestamp may be from what is true.
pub(crate) const OFF_NS_MAX: i64 = 200;
pub(crate) const PORTS: [&str; 2] = ["socket", "io-uring"];
pub(crate) const ASKED: u64 = 40;
/// Longer than the kernel's stamp waits for the NIC's.
pub(crate) const BETWEEN: Duration = Duration::from_millis(20);

/// A NIC's clock, read past maser.
pub(crate) struct Oracle {
    pub(crate) phc: Phc,
    pub(crate) counter: Counter,
    /// How much faster than the machine's it is.
    ppb: i64,
}

impl Oracle {
    pub(crate) fn of(device: &Path, ppb: i64) -> Self {
        Self { phc: Phc::open(device).unwrap(), counter: calibration::choose(&[0]).counter, ppb }
    }

    /// The machine's clock when the NIC's said `phc_ns`, a moment ago.
    pub(crate) fn realtime_ns(&self, phc_ns: i64) -> i64 {
        let (read, _) = self.phc.cross_read(&self.counter).unwrap();
        let now = clock::reading(&self.counter);
        let since_ns = self.counter.nominal_rate().span_of(now.ticks.since(read.at)).as_nanos();
        let age_ns = read.phc_ns - phc_ns;
        now.realtime_ns - since_ns - age_ns + age_ns / 1_000 * self.ppb / 1_000_000
    }
}

/// All IPv4 frames that come in on a host, with the NICs' stamps of them.
pub(crate) struct Frames(OwnedFd);

impl Frames {
    pub(crate) fn open() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthIp).unwrap();
        let stamps =
            TimestampingFlag::SOF_TIMESTAMPING_RX_HARDWARE | TimestampingFlag::SOF_TIMESTAMPING_RAW_HARDWARE;
        setsockopt(&fd, Timestamping, &stamps).unwrap();
        Self(fd)
    }

    /// The stamp of the frame whose NTP packet has `field` at `at`; 0 if it has none.
    pub(crate) fn stamp_of(&self, at: usize, field: u64) -> i64 {
        let find = || {
            let mut octets = [0; 2_048];
            let mut control = nix::cmsg_space!(Timestamps);
            loop {
                let mut into = [IoSliceMut::new(&mut octets)];
                let flags = MsgFlags::MSG_DONTWAIT;
                let received =
                    recvmsg::<()>(self.0.as_raw_fd(), &mut into, Some(&mut control), flags).ok()?;
                let stamps = received.cmsgs().unwrap().find_map(|message| {
                    let ControlMessageOwned::ScmTimestampsns(stamps) = message else { return None };
                    Some(stamps.hw_raw.num_nanoseconds())
                });
                let (length, stamp) = (received.bytes, stamps.unwrap_or(0));
                if octets[..length].get(HEADERS + at..HEADERS + at + 8) == Some(&field.to_be_bytes()) {
                    return Some(stamp);
                }
            }
        };
        within(READY_LIMIT, find).expect("the frame came")
    }
}

/// What tells a request's receive timestamp from its transmit timestamp.
pub(crate) const NAMED: u64 = 0xFFFF;

/// A request that names the reply before by its receive timestamp (RFC 9769), or none by 0.
pub(crate) fn request(last: u64, transmit: u64) -> [u8; 48] {
    let mut octets = crate::support::request(transmit);
    octets[24..32].copy_from_slice(&last.to_be_bytes());
    // What the reply names this request by, in interleaved mode.
    octets[32..40].copy_from_slice(&(transmit | NAMED).to_be_bytes());
    octets
}

pub(crate) fn ask(socket: &UdpSocket, server: SocketAddr, last: u64) -> Option<ReplyView> {
    // No two requests of this process have the same.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let transmit = NEXT.fetch_add(1, Ordering::Relaxed) << 16;
    socket.send_to(&request(last, transmit), server).unwrap();
    let mut octets = [0; 256];
    loop {
        let length = socket.recv(&mut octets).ok()?;
        let reply = ReplyView::of(&octets[..length]);
        // One to a request before may come late.
        if reply.origin & !NAMED == transmit {
            return Some(reply);
        }
    }
}

/// Whether a reply says when the one before left: it names the request by its receive timestamp then.
pub(crate) const fn is_interleaved(reply: &ReplyView) -> bool {
    reply.origin & NAMED == NAMED
}

/// The client's socket, once its address is there.
pub(crate) fn client(address: Ipv4Addr) -> UdpSocket {
    at_the_client(move || {
        let socket =
            within(READY_LIMIT, || UdpSocket::bind((address, 0)).ok()).expect("the address is there");
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket
    })
}

/// `maser serve` with the machine's clock and `lines` in its `[server]`.
pub(crate) fn serve(port: &str, number: u16, lines: &str) -> Server {
    let mut setting = Setting::nowhere();
    setting.port = number;
    let file = setting.scratch.path("maser.toml");
    let text = format!(
        "[server]\nlisten = [\"0.0.0.0:{number}\"]\nport = \"{port}\"\nworkers = 1\n{lines}\n\
         [[source]]\ntype = \"machine\"\nstratum = 3\n[local]\nstratum = 10\n"
    );
    fs::write(&file, text).unwrap();
    setting.with(&["--config", file.to_str().unwrap(), "--limit", "off"]).start()
}

pub(crate) fn stamping(interface: &str) -> Stamping {
    Ethtool::new(interface).unwrap().stamping().unwrap()
}

/// The NIC's part of the status.
pub(crate) fn nic_status(server: &Server, name: &str) -> Value {
    let status = server.status();
    let nics = status["nics"].as_array().unwrap();
    nics.iter().find(|nic| nic["name"] == name).unwrap_or_else(|| panic!("no {name}: {status}")).clone()
}

/// Its clock is found within a second; then stamps can be placed.
pub(crate) fn await_clock(server: &Server, name: &str) {
    let found = || nic_status(server, name)["error_s"].as_f64();
    within(READY_LIMIT, found)
        .unwrap_or_else(|| panic!("its clock isn't found; the log says:\n{}", server.log()));
}
pub(crate) fn worst(off_ns: &[i64]) -> i64 {
    off_ns.iter().map(|off_ns| off_ns.abs()).max().unwrap_or(i64::MAX)
}
