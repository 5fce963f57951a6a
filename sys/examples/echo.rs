//! The bare server that maser's ports are measured against: it sends each datagram back and knows nothing of NTP.
//!
//! `echo {plain|stamps} ADDRESS:PORT [CORE]` prints `ready` and runs until a signal ends it, on that core if one is
//! named. It is the fastest loop over `recvmmsg` and `sendmmsg` that we can write: 64 datagrams a call, all pointers
//! made once, nothing copied, no datagram looked at. With `stamps` the kernel does for it what it does for maser: it
//! writes a receive stamp and the address that was asked beside each datagram; the loop doesn't read them.

#![expect(clippy::print_stdout, reason = "whoever starts it waits for the word")]

use std::error::Error;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, RawFd};

use libc::{c_uint, iovec, mmsghdr};
use nix::sys::socket::{TimestampingFlag, setsockopt, sockopt};

const BATCH: usize = 64;
/// Longer datagrams are cut off; the rig's are of 48 octets.
const PAYLOAD_LENGTH: usize = 256;
/// Room for a `sockaddr_in6`, the longer of the two kinds.
const NAME_LENGTH: u32 = 28;
/// Room for an `SCM_TIMESTAMPING` (64 octets with its header) and an `IPV6_PKTINFO` (40).
const CONTROL_LENGTH: usize = 128;
/// As maser's default.
const RECEIVE_BUFFER: usize = 4 << 20;

const USAGE: &str = "usage: echo {plain|stamps} ADDRESS:PORT [CORE]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ([kind, address] | [kind, address, _]) = arguments.as_slice() else { return Err(USAGE.into()) };
    let stamps = match kind.as_str() {
        "plain" => false,
        "stamps" => true,
        _ => return Err(USAGE.into()),
    };
    if let Some(core) = arguments.get(2) {
        core_affinity::set_for_current(core_affinity::CoreId { id: core.parse()? });
    }
    let socket = open(address.parse()?, stamps)?;
    println!("ready");
    Err(echo(socket.as_raw_fd(), if stamps { CONTROL_LENGTH } else { 0 }).into())
}

fn open(address: SocketAddr, stamps: bool) -> Result<UdpSocket, Box<dyn Error>> {
    let socket = UdpSocket::bind(address)?;
    // The kernel doubles what it is asked for (socket(7)).
    setsockopt(&socket, sockopt::RcvBufForce, &(RECEIVE_BUFFER / 2))?;
    if stamps {
        let receive = TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE;
        setsockopt(&socket, sockopt::Timestamping, &(receive | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE))?;
        if address.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
    }
    Ok(socket)
}

/// Echoes until a system call fails, and returns why it did.
fn echo(fd: RawFd, control_length: usize) -> io::Error {
    let mut memory = Memory::new(control_length);
    loop {
        for header in &mut memory.requests {
            header.msg_hdr.msg_namelen = NAME_LENGTH;
            header.msg_hdr.msg_controllen = control_length;
        }
        let requests = memory.requests.as_mut_ptr();
        // SAFETY: `requests` are BATCH headers whose pointers lead to memory that is never freed, with the lengths that
        // it has; nothing else uses it.
        let received = unsafe {
            libc::recvmmsg(fd, requests, length(BATCH), libc::MSG_WAITFORONE, std::ptr::null_mut())
        };
        let Ok(received) = usize::try_from(received) else { return io::Error::last_os_error() };
        for (request, reply) in memory.requests.iter().zip(&mut memory.replies).take(received) {
            reply.msg_hdr.msg_namelen = request.msg_hdr.msg_namelen;
            let octets = usize::try_from(request.msg_len).unwrap_or(0);
            // SAFETY: the reply's vector is never freed, and no call is under way.
            unsafe { (*reply.msg_hdr.msg_iov).iov_len = octets };
        }
        let replies = memory.replies.as_mut_ptr();
        // SAFETY: the first `received` replies point to what the receive above has filled.
        let sent = unsafe { libc::sendmmsg(fd, replies, length(received), 0) };
        // What there is no room for is lost, as a server would lose it.
        if sent < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::ENOBUFS) {
            return io::Error::last_os_error();
        }
    }
}

fn length(count: usize) -> c_uint {
    c_uint::try_from(count).expect("at most BATCH")
}

/// Headers over the same payloads and names: a reply leaves from its request's buffer to its request's sender.
struct Memory {
    requests: Vec<mmsghdr>,
    replies: Vec<mmsghdr>,
}

impl Memory {
    fn new(control_length: usize) -> Self {
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for _ in 0..BATCH {
            // The process needs these to its end, so nobody has to keep them alive for the headers.
            let payload = Box::leak(Box::new([0_u8; PAYLOAD_LENGTH])).as_mut_ptr();
            let name = Box::leak(Box::new([0_u64; 4])).as_mut_ptr();
            let control = Box::leak(Box::new([0_u64; CONTROL_LENGTH / 8])).as_mut_ptr();
            for headers in [&mut requests, &mut replies] {
                // SAFETY: null pointers and zero lengths are values of a header's fields.
                let mut header: mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_name = name.cast();
                header.msg_hdr.msg_iov =
                    Box::leak(Box::new(iovec { iov_base: payload.cast(), iov_len: PAYLOAD_LENGTH }));
                header.msg_hdr.msg_iovlen = 1;
                headers.push(header);
            }
            if control_length > 0
                && let Some(request) = requests.last_mut()
            {
                request.msg_hdr.msg_control = control.cast();
            }
        }
        Self { requests, replies }
    }
}
