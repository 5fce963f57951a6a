//! What isn't a plain request: what the program takes all the same, and what it leaves to the kernel, which then does
//! as it would without a program.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use maser_sys::af_xdp::XskPort;
use maser_sys::datagram::Wait;
use maser_sys::outbox::Outbox;
use maser_sys::packet_socket::{PacketSocket, Ports, RING_FRAMES_MIN};
use maser_sys::xdp_program::{AttachMode, Reason, XdpProgram};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::oracle::frame::{Wrapping, dissect, seal, slow_sum, udp_checksum_is_right, wrap};
use crate::support::request;
use crate::wire::{
    CLIENT_MAC, CLIENT_V4, CLIENT_V6, INTERFACE, SERVER_V4, SERVER_V6, Steered, Wire, listeners, run,
};
use crate::{Way, ask, serve, without_timestamps};

const CLIENT_PORT: u16 = 40_001;
const TAG: [u8; 4] = [0x81, 0, 0, 100];
const SERVICE_TAG: [u8; 4] = [0x88, 0xA8, 0, 200];
const INNER_TAG: [u8; 4] = [0x81, 0, 0x01, 0x2C];
const STRANGE_TAG: [u8; 4] = [0x81, 0, 0, 101];

/// Some frames of a request, what the program makes of each, and whether somebody answers: with a program, without one.
struct Case {
    name: &'static str,
    frames: Vec<Vec<u8>>,
    reason: Reason,
    answered: [bool; 2],
}

fn wrapping(server: IpAddr) -> Wrapping {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    Wrapping {
        tags: Vec::new(),
        source: octets(client(server)),
        destination: octets(server),
        source_port: CLIENT_PORT,
        padding: 0,
        udp_checksum: true,
    }
}

fn client(server: IpAddr) -> IpAddr {
    if server.is_ipv4() { CLIENT_V4.into() } else { CLIENT_V6.into() }
}

fn cases(server: IpAddr) -> Vec<Case> {
    let plain = wrapping(server);
    let frame = |wrapping: &Wrapping| wrap(&request(7), wrapping);
    let tagged = |tags: &[[u8; 4]]| vec![frame(&Wrapping { tags: tags.to_vec(), ..plain.clone() })];
    let case = |name, frames, reason, answered| Case { name, frames, reason, answered };
    let no_checksum = vec![frame(&Wrapping { udp_checksum: false, ..plain.clone() })];
    let padded = vec![frame(&Wrapping { padding: 6, ..plain.clone() })];
    let mut long = request(7).to_vec();
    long.extend([0xAB, 0xCD, 0x04, 0x00]);
    long.extend([0x77; 1_020]);
    let in_two = fragments(&wrap(&long, &plain));
    // This kernel may be without VLANs, so what sockets make of tags isn't asked.
    let v4 = server.is_ipv4();
    let mut cases = vec![
        case("plain", vec![frame(&plain)], Reason::Steered, [true, true]),
        case("padded", padded, Reason::Steered, [true, true]),
        case("802.1Q", tagged(&[TAG]), Reason::Steered, [true, false]),
        case("802.1ad", tagged(&[SERVICE_TAG, INNER_TAG]), Reason::Steered, [true, false]),
        case("another VLAN", tagged(&[STRANGE_TAG]), Reason::Vlan, [false, false]),
        case("no UDP checksum", no_checksum, Reason::Steered, [v4, v4]),
    ];
    let with_extension = vec![extended(&frame(&plain))];
    cases.push(if v4 {
        case("IP options", with_extension, Reason::Ip4Options, [true, true])
    } else {
        case("an extension header", with_extension, Reason::Ip6Extension, [true, true])
    });
    cases.push(case("fragments", in_two, Reason::Fragment, [true, true]));
    cases
}

/// An untagged frame with three no-operations and the end of options, or with padding in a header of its own.
fn extended(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12] == 0x08 {
        frame.splice(34..34, [1, 1, 1, 0]);
        frame[14] = 0x46;
        set_word(&mut frame, 16, 4);
        frame[24..26].fill(0);
        let checksum = !slow_sum(&[&frame[14..38]]);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    } else {
        frame.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
        frame[20] = 60;
        set_word(&mut frame, 18, 8);
    }
    frame
}

/// Adds to a length field.
fn set_word(frame: &mut [u8], at: usize, more: u16) {
    let word = u16::from_be_bytes([frame[at], frame[at + 1]]) + more;
    frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

/// An untagged frame's packet in two fragments, the first with 512 octets.
fn fragments(frame: &[u8]) -> Vec<Vec<u8>> {
    const FIRST: usize = 512;
    let v4 = frame[12] == 0x08;
    let (head, carried) = frame.split_at(if v4 { 34 } else { 54 });
    [(0, &carried[..FIRST], true), (FIRST, &carried[FIRST..], false)]
        .map(|(offset, part, more)| {
            let mut frame = head.to_vec();
            let length = u16::try_from(part.len()).unwrap();
            let offset = u16::try_from(offset).unwrap();
            if v4 {
                frame[16..18].copy_from_slice(&(20 + length).to_be_bytes());
                frame[20..22].copy_from_slice(&(offset / 8 + if more { 0x2000 } else { 0 }).to_be_bytes());
            } else {
                frame[18..20].copy_from_slice(&(8 + length).to_be_bytes());
                frame[20] = 44;
                frame.extend([17, 0]);
                frame.extend((offset + u16::from(more)).to_be_bytes());
                frame.extend([0, 0, 0xAB, 0xCD]);
            }
            frame.extend(part);
            seal(&mut frame, true);
            frame
        })
        .into()
}

/// A host that sends frames as they are, and takes whole frames back.
struct FrameClient {
    out: PacketSocket,
    outbox: Outbox,
    back: XskPort,
    _program: XdpProgram,
}

impl FrameClient {
    /// On the calling thread's host.
    fn new(server: SocketAddr) -> Self {
        let own = SocketAddr::new(client(server.ip()), CLIENT_PORT);
        let Steered { program, sockets, .. } = Steered::new(AttachMode::Native, CLIENT_MAC, &[own], 1);
        let interface = if_nametoindex(INTERFACE).unwrap();
        Self {
            out: PacketSocket::open(interface, server, Ports::ALL, RING_FRAMES_MIN).unwrap(),
            outbox: Outbox::new(2),
            back: XskPort::new(sockets, 1).unwrap(),
            _program: program,
        }
    }

    /// Sends a request's frames; the frame of the reply.
    fn ask(&mut self, frames: &[Vec<u8>], answered: bool) -> Option<Vec<u8>> {
        for frame in frames {
            self.outbox.push(None, false, |slot| {
                slot[..frame.len()].copy_from_slice(frame);
                frame.len()
            });
        }
        assert_eq!(self.out.send(&mut self.outbox).unwrap(), frames.len());
        let limit = Duration::from_millis(if answered { 2_000 } else { 50 });
        (self.back.receive(Wait::Until(limit)).unwrap() > 0).then(|| self.back.datagram(0).1.to_vec())
    }
}

/// The kernel's own replies to what isn't ours: whether each came.
fn kernel_services(server: IpAddr) -> [bool; 3] {
    // So that it has to ask for the hardware address.
    run(&format!("ip neigh flush dev {INTERFACE}"));
    let answers_echo = ping(server);
    let neighbours = run(&format!("ip neigh show {server} dev {INTERFACE}"));
    let refused = TcpStream::connect_timeout(&(server, 123).into(), Duration::from_secs(2));
    let is_reset = refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    [answers_echo, neighbours.contains("lladdr"), is_reset]
}

/// One echo request; whether its reply comes within 2 s.
fn ping(server: IpAddr) -> bool {
    const IDENTIFIER: [u8; 2] = [0x6D, 0x73];
    let (family, protocol, kind, reply) = match server {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(2_000)).unwrap();
    let mut echo = [kind, 0, 0, 0, IDENTIFIER[0], IDENTIFIER[1], 0, 1];
    let checksum = !slow_sum(&[&echo]);
    // Over IPv6 the kernel makes the checksum.
    echo[2..4].copy_from_slice(&checksum.to_be_bytes());
    let to = SockaddrStorage::from(SocketAddr::new(server, 0));
    sendto(socket.as_raw_fd(), &echo, &to, MsgFlags::empty()).unwrap();
    // Other ICMP comes by, neighbour discovery not least.
    for _ in 0..20 {
        let mut packet = [0; 256];
        let Ok(length) = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) else { break };
        let message = &packet[if server.is_ipv4() { 20 } else { 0 }..length];
        if message[0] == reply && message[4..6] == IDENTIFIER {
            return true;
        }
    }
    false
}

#[test]
fn what_is_not_plain_is_answered_as_without_the_program() {
    let Some(wire) = Wire::new("what_is_not_plain_is_answered_as_without_the_program", 1) else { return };
    for server in [IpAddr::from(SERVER_V4), SERVER_V6.into()] {
        let asked = |way| {
            wire.server.run(|| serve(way, listeners(server), |at| wire.client.run(|| clients(way, at[0]))))
        };
        let sockets = asked(Way::Socket);
        let expected = without_timestamps(&message_of(sockets.got.0[0].as_ref().unwrap()));
        for way in [Way::Socket, Way::Xdp(AttachMode::Native), Way::Xdp(AttachMode::Generic)] {
            let served = asked(way);
            let (replies, services) = &served.got;
            assert_eq!(*services, [true; 3], "{way:?}, {server}: echo, neighbours, TCP reset");
            for (case, reply) in cases(server).iter().zip(replies) {
                let name = format!("{way:?}, {server}, {}", case.name);
                assert_eq!(reply.is_some(), case.answered[usize::from(way == Way::Socket)], "{name}");
                if let Some(reply) = reply {
                    assert_eq!(without_timestamps(&message_of(reply)), expected, "{name}");
                    assert_turned(&case.frames[0], reply, &name);
                }
            }
            if way != Way::Socket {
                let count = |reason| {
                    let own = cases(server).into_iter().filter(|case| case.reason == reason);
                    own.map(|case| case.frames.len() as u64).sum::<u64>()
                };
                for reason in [
                    Reason::Steered,
                    Reason::Vlan,
                    Reason::Ip4Options,
                    Reason::Fragment,
                    Reason::Ip6Extension,
                ] {
                    assert_eq!(served.reasons.of(reason), count(reason), "{way:?}, {server}, {reason:?}");
                }
            }
        }
    }
}

#[test]
fn a_neighbour_on_the_same_host_is_answered_through_the_socket() {
    const NAME: &str = "a_neighbour_on_the_same_host_is_answered_through_the_socket";
    let Some(wire) = Wire::new(NAME, 1) else { return };
    // The client's kernel leaves the checksum to the pair, which hands it on as it is.
    wire.client.run(|| run(&format!("ethtool -K {INTERFACE} tx on")));
    for (server, mode) in [IpAddr::from(SERVER_V4), SERVER_V6.into()]
        .into_iter()
        .flat_map(|server| [(server, AttachMode::Native), (server, AttachMode::Generic)])
    {
        let asks = |at: [SocketAddr; 2]| {
            let asked = || (0..5).filter(|&n| ask(0, at[0], &request(n + 1), true).is_some()).count();
            wire.client.run(asked)
        };
        let served = wire.server.run(|| serve(Way::Xdp(mode), listeners(server), asks));
        assert_eq!(served.got, 5, "{mode:?}, {server}");
        let counted = [Reason::PartialChecksum, Reason::Steered].map(|reason| served.reasons.of(reason));
        assert_eq!(counted, [5, 0], "{mode:?}, {server}");
    }
}

fn clients(way: Way, server: SocketAddr) -> (Vec<Option<Vec<u8>>>, [bool; 3]) {
    let services = kernel_services(server.ip());
    let mut client = FrameClient::new(server);
    // A veth whose program has just been attached may lose the first frames.
    thread::sleep(Duration::from_millis(100));
    let cases = cases(server.ip());
    let replies = cases
        .iter()
        .map(|case| client.ask(&case.frames, case.answered[usize::from(way == Way::Socket)]))
        .collect();
    (replies, services)
}

fn message_of(frame: &[u8]) -> Vec<u8> {
    let parts = dissect(frame).unwrap();
    assert!(udp_checksum_is_right(&parts));
    parts.message.to_vec()
}

/// The reply goes back where the request came from, under the same tags.
fn assert_turned(request: &[u8], reply: &[u8], name: &str) {
    let parts = dissect(reply).unwrap();
    assert_eq!((parts.destination_mac, parts.source_mac), (&request[6..12], &request[..6]), "{name}");
    let tags = parts.types_and_tags.len() - 2;
    assert_eq!(parts.types_and_tags[..tags], request[12..12 + tags], "{name}");
    assert_eq!((parts.source_port, parts.destination_port), (123, CLIENT_PORT), "{name}");
    assert!(parts.rest.is_empty(), "{name}: nothing behind the packet");
}
