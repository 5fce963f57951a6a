//! How many requests a second a sender sends, beside a bare loop of system calls: the bar for the generator's own rate.
//!
//! `blast {udp|unconnected|packet|client|frames} ADDRESS:PORT SECONDS [CORE]`: the first three send 64 identical requests
//! with each `sendmmsg`, over a connected UDP socket, one that is told the target with every request, or a packet
//! socket; `client` and `frames` send distinct ones through [`UdpClient`] and [`PacketSocket`]. The packet senders learn the way from a first reply, so the target must
//! give one. Nothing is received. Compare medians of interleaved runs, not single ones.

#![expect(clippy::disallowed_methods, reason = "a bench measures by the real clock")]
#![expect(clippy::print_stdout, reason = "a bench prints its result")]
#![expect(clippy::cast_precision_loss, reason = "a rate is for people")]

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use maser_core::wire::checksum::Sum;
use maser_core::wire::{ethernet, ip4, ip6, udp};
use maser_sys::outbox::Outbox;
use maser_sys::packet_socket::{PacketSocket, Ports, Way, way_to};
use maser_sys::udp_client::UdpClient;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use nix::time::{ClockId, clock_gettime};

const BATCH: usize = 64;
const BATCH_LENGTH: u32 = 64;
/// Version 4, client; the rest is as good as anything.
const REQUEST: [u8; 48] = [0x23; 48];
/// Octets of the request after which its transmit timestamp begins (RFC 5905 §7.3).
const TRANSMIT: usize = 40;
const PATIENCE: Duration = Duration::from_secs(2);
/// The discard port, which no reply needs.
const SOURCE_PORT: u16 = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, sender, target, seconds, core @ ..] = arguments.as_slice() else {
        return Err("usage: blast {udp|unconnected|packet|client|frames} ADDRESS:PORT SECONDS [CORE]".into());
    };
    let target: SocketAddr = target.parse()?;
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    if let [core] = core {
        core_affinity::set_for_current(core_affinity::CoreId { id: core.parse()? });
    }
    let sent = match sender.as_str() {
        "udp" => udp(target, seconds)?,
        "unconnected" => unconnected(target, seconds)?,
        "packet" => packet(target, seconds)?,
        "client" => client(target, seconds)?,
        "frames" => frames(target, seconds)?,
        other => return Err(format!("no sender is called {other}").into()),
    };
    // Other load on the machine isn't in this thread's time.
    let busy = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?).as_secs_f64();
    let (sent, seconds) = (sent as f64, seconds.as_secs_f64());
    println!("{sender}: {:.0} sent/s, {:.0} a second of the core", sent / seconds, sent / busy);
    Ok(())
}

/// What can be had: nothing is looked up, built or counted.
fn udp(target: SocketAddr, seconds: Duration) -> io::Result<u64> {
    let socket = UdpSocket::bind(SocketAddr::new(any(target), 0))?;
    socket.connect(target)?;
    blast(socket.as_raw_fd(), None, &REQUEST, seconds)
}

fn unconnected(target: SocketAddr, seconds: Duration) -> io::Result<u64> {
    let socket = UdpSocket::bind(SocketAddr::new(local_for(target)?, 0))?;
    blast(socket.as_raw_fd(), Some(&target.into()), &REQUEST, seconds)
}

fn packet(target: SocketAddr, seconds: Duration) -> Result<u64, Box<dyn Error>> {
    let way = way_to(target, &REQUEST, PATIENCE)?;
    // SAFETY: the call takes numbers; without a protocol the socket receives nothing.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let (on, place_length) = (1_i32, libc::socklen_t::try_from(size_of::<i32>())?);
    let place = (&raw const on).cast();
    // SAFETY: the kernel reads the number, whose length is given, before the call returns.
    let failed =
        unsafe { libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, place, place_length) };
    if failed != 0 {
        return Err(io::Error::last_os_error().into());
    }
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: 0,
        sll_ifindex: way.interface.try_into()?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let place = (&raw const address).cast();
    // SAFETY: the kernel reads the address, whose length is given, before the call returns.
    let failed = unsafe { libc::bind(fd, place, libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?) };
    if failed != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(blast(socket.as_raw_fd(), None, &Template::new(&way, target)?.frame, seconds)?)
}

/// Sends the same octets over and over, to `target` or to where the socket is bound or connected.
fn blast(fd: RawFd, target: Option<&SockaddrStorage>, octets: &[u8], seconds: Duration) -> io::Result<u64> {
    let mut vector = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
    // SAFETY: null pointers and zero lengths are values of a header's fields.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    if let Some(target) = target {
        header.msg_hdr.msg_name = target.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = target.len();
    }
    header.msg_hdr.msg_iov = &raw mut vector;
    header.msg_hdr.msg_iovlen = 1;
    let mut headers = [header; BATCH];
    let (mut sent, end) = (0, Instant::now() + seconds);
    while Instant::now() < end {
        // SAFETY: the headers lead to `target` and `vector`, and that to `octets`; the kernel only reads them.
        let taken = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), BATCH_LENGTH, libc::MSG_DONTWAIT) };
        // What was refused, by a port that nobody has or for want of room, isn't counted.
        sent += u64::try_from(taken).unwrap_or(0);
    }
    Ok(sent)
}

fn client(target: SocketAddr, seconds: Duration) -> Result<u64, Box<dyn Error>> {
    let mut client = UdpClient::open(local_for(target)?, target, BATCH)?;
    send_distinct(
        seconds,
        |number, slot| {
            slot[..REQUEST.len()].copy_from_slice(&REQUEST);
            slot[TRANSMIT..REQUEST.len()].copy_from_slice(&number.to_be_bytes());
            REQUEST.len()
        },
        |outbox| client.send(outbox),
    )
}

fn frames(target: SocketAddr, seconds: Duration) -> Result<u64, Box<dyn Error>> {
    let way = way_to(target, &REQUEST, PATIENCE)?;
    let mut socket = PacketSocket::open(way.interface, target, Ports::ALL, 4096)?;
    let template = Template::new(&way, target)?;
    send_distinct(seconds, |number, slot| template.write(number, slot), |outbox| socket.send(outbox))
}

fn send_distinct(
    seconds: Duration,
    write: impl Fn(u64, &mut [u8]) -> usize,
    mut send: impl FnMut(&mut Outbox) -> io::Result<usize>,
) -> Result<u64, Box<dyn Error>> {
    let mut outbox = Outbox::new(BATCH);
    let (mut sent, mut number, end) = (0, 0, Instant::now() + seconds);
    while Instant::now() < end {
        while !outbox.is_full() {
            number += 1;
            outbox.push(None, false, |slot| write(number, slot));
        }
        sent += send(&mut outbox)? as u64;
    }
    Ok(sent)
}

/// The address that the kernel would choose: a socket with one doesn't choose again for every request, which takes IPv6
/// a fifth of its time.
fn local_for(target: SocketAddr) -> io::Result<IpAddr> {
    let scratch = UdpSocket::bind(SocketAddr::new(any(target), 0))?;
    scratch.connect(target)?;
    Ok(scratch.local_addr()?.ip())
}

fn any(target: SocketAddr) -> IpAddr {
    if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A frame with [`REQUEST`], and the sum of what its checksum covers but the transmit timestamp.
struct Template {
    frame: Vec<u8>,
    sum: Sum,
    udp: usize,
}

impl Template {
    fn new(way: &Way, target: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let mut frame = [way.next_hop_mac, way.source_mac].concat();
        let length = u16::try_from(udp::LENGTH + REQUEST.len())?;
        let addresses = match (way.source, target.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let addresses = [from.octets(), to.octets()].concat();
                let [length0, length1] = (length + u16::try_from(ip4::LENGTH)?).to_be_bytes();
                let mut header = vec![0x45, 0, length0, length1, 0, 0, 0x40, 0, 64, 17, 0, 0];
                header.extend(&addresses);
                let checksum = Sum::ZERO.with_octets(&header).checksum().to_be_bytes();
                header[10..12].copy_from_slice(&checksum);
                frame.extend([0x08, 0x00]);
                frame.extend(header);
                addresses
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let [length0, length1] = length.to_be_bytes();
                frame.extend([0x86, 0xDD, 0x60, 0, 0, 0, length0, length1, 17, 64]);
                let addresses = [from.octets(), to.octets()].concat();
                frame.extend(&addresses);
                addresses
            }
            _ => return Err("the way is of another address family".into()),
        };
        let udp = frame.len();
        debug_assert!([ip4::LENGTH, ip6::LENGTH].contains(&(udp - ethernet::LENGTH)));
        frame.extend([SOURCE_PORT, target.port(), length, 0].map(u16::to_be_bytes).concat());
        frame.extend(REQUEST);
        let sum = Sum::ZERO.with_octets(&addresses).with_u16(17).with_u16(length);
        let sum = sum.with_octets(&frame[udp..udp + udp::LENGTH + TRANSMIT]);
        let mut template = Self { frame, sum, udp };
        let mut slot = template.frame.clone();
        template.write(u64::from_be_bytes([0x23; 8]), &mut slot);
        template.frame = slot;
        Ok(template)
    }

    /// Writes the frame of a request with this transmit timestamp; its length.
    fn write(&self, transmit: u64, slot: &mut [u8]) -> usize {
        let length = self.frame.len();
        slot[..length].copy_from_slice(&self.frame);
        slot[length - 8..length].copy_from_slice(&transmit.to_be_bytes());
        let checksum = self.sum.with_u64(transmit).udp_checksum().to_be_bytes();
        slot[self.udp + 6..self.udp + 8].copy_from_slice(&checksum);
        length
    }
}
