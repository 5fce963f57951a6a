//! From octets to a [`Request`]: the rules of who is answered.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::DropReason;
use super::ethernet::{Ethernet, Network};
use super::extension::ExtensionField;
use super::ip4::Ipv4;
use super::ip6::Ipv6;
use super::mac::{self, Mac};
use super::ntp::{self, Mode, NtpHeader, Version};
use super::udp::Udp;
use crate::time::NtpTimestamp;

/// The longest datagram that is looked at, in octets. A request with NTS and all eight cookie placeholders takes 1 KB;
/// IPv6's least MTU carries 1232 octets of UDP payload; what is longer was fragmented and is no NTP request. It bounds
/// the walk through extension fields, too, and the ports' buffers.
pub const DATAGRAM_LENGTH_MAX: usize = 1280;

/// NTP's well-known port: where NTPv1's servers send from.
const NTP_PORT: u16 = 123;

/// Who sent a datagram, and to whom, as a socket tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The client's address and port.
    pub source: SocketAddr,
    /// The address that the datagram was sent to, and the service's port.
    pub destination: SocketAddr,
    /// False where the kernel says that the destination was a broadcast or multicast address.
    pub unicast: bool,
}

/// The modes that are answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestMode {
    /// Mode 3, or NTPv1's mode 0.
    Client,
    /// Mode 1; it is answered and makes no association (RFC 8633 §5.6).
    SymmetricActive,
}

/// A packet that may be answered.
///
/// It proves that the packet is a unicast NTP request of at least 48 octets, in a version and a mode that are
/// answered, from an address that can be answered, and that it asks for no authentication; in a frame, that the
/// checksums are right, too. It alleges who sent it: a source address can be spoofed.
///
/// The timestamps are what the client sent, and they mean only what the client says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The version, which the reply echoes.
    pub version: Version,
    /// The mode.
    pub mode: RequestMode,
    /// log₂ of the client's poll interval in seconds.
    pub poll: i8,
    /// The origin timestamp; an interleaved client puts our receive timestamp here (RFC 9769 §2).
    pub origin: NtpTimestamp,
    /// The receive timestamp.
    pub receive: NtpTimestamp,
    /// The transmit timestamp, which the reply echoes as its origin; it may be zero or random.
    pub transmit: NtpTimestamp,
    /// The client's address; IPv4 is never written as IPv6.
    pub client: IpAddr,
    /// The client's port, never 0.
    pub client_port: u16,
    /// Where in its buffer the packet lies.
    layout: Layout,
}

impl Request {
    /// How long the packet is, as it was given to the parser.
    #[inline]
    #[must_use]
    pub const fn length(&self) -> usize {
        self.layout.length
    }

    #[inline]
    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }
}

/// Where in its buffer a packet lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    /// Octets of the buffer, padding included.
    pub(crate) length: usize,
    pub(crate) envelope: Envelope,
}

/// What surrounds the NTP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Envelope {
    /// Nothing: the kernel took it off and will put it on.
    Datagram,
    /// Ethernet with its tags (`link_length` octets), IPv4, UDP.
    Ipv4 { link_length: usize },
    /// Ethernet with its tags (`link_length` octets), IPv6, UDP.
    Ipv6 { link_length: usize },
}

/// Parses what a socket received.
///
/// # Errors
/// Why it isn't answered.
#[inline]
pub fn parse_datagram(payload: &[u8], peer: &Peer) -> Result<Request, DropReason> {
    if !peer.unicast {
        return Err(DropReason::NotUnicastDestination);
    }
    let route = Route {
        source: peer.source.ip().to_canonical(),
        source_port: peer.source.port(),
        destination: peer.destination.ip().to_canonical(),
        destination_port: peer.destination.port(),
    };
    route.check()?;
    parse_message(payload, &route, Layout { length: payload.len(), envelope: Envelope::Datagram })
}

/// Parses an Ethernet frame, without its frame check sequence, that was sent to UDP port `service_port`.
///
/// # Errors
/// Why it isn't answered.
#[inline]
pub fn parse_frame(frame: &[u8], service_port: u16) -> Result<Request, DropReason> {
    let link = Ethernet::new_checked(frame)?;
    if link.is_to_group() {
        return Err(DropReason::NotUnicastDestination);
    }
    if link.is_from_group() {
        return Err(DropReason::BadSource);
    }
    let link_length = frame.len() - link.payload().len();
    let (udp, source, destination, envelope) = match link.network() {
        Network::Ipv4 => {
            let ip = Ipv4::new_checked(link.payload())?;
            let udp = Udp::new_checked(ip.payload(), Network::Ipv4, ip.address_sum())?;
            (udp, IpAddr::V4(ip.source()), IpAddr::V4(ip.destination()), Envelope::Ipv4 { link_length })
        }
        Network::Ipv6 => {
            let ip = Ipv6::new_checked(link.payload())?;
            let udp = Udp::new_checked(ip.payload(), Network::Ipv6, ip.address_sum())?;
            (udp, IpAddr::V6(ip.source()), IpAddr::V6(ip.destination()), Envelope::Ipv6 { link_length })
        }
    };
    if udp.destination_port() != service_port {
        return Err(DropReason::WrongPort);
    }
    // What this machine sends to itself never comes by a wire, whatever the port.
    if is_martian(source) || source == destination {
        return Err(DropReason::BadSource);
    }
    let (source_port, destination_port) = (udp.source_port(), service_port);
    let route = Route { source, source_port, destination, destination_port };
    route.check()?;
    parse_message(udp.payload(), &route, Layout { length: frame.len(), envelope })
}

/// From whom to whom, however it was learnt.
struct Route {
    source: IpAddr,
    source_port: u16,
    destination: IpAddr,
    destination_port: u16,
}

impl Route {
    /// Whether an answer would go to one host that isn't this service itself.
    #[inline]
    fn check(&self) -> Result<(), DropReason> {
        if !is_unicast(self.destination) {
            return Err(DropReason::NotUnicastDestination);
        }
        if !is_unicast(self.source) || self.source_port == 0 {
            return Err(DropReason::BadSource);
        }
        if self.source_port == self.destination_port && self.source == self.destination {
            return Err(DropReason::ReflectionLoop);
        }
        Ok(())
    }
}

/// Whether an address stands for one host. Directed broadcasts can't be told without the netmask: a frame's
/// destination address or the kernel tells those.
#[inline]
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // 0.0.0.0/8 is "this network" (RFC 1122 §3.2.1.3).
            let [network, ..] = address.octets();
            network != 0 && !address.is_multicast() && address != Ipv4Addr::BROADCAST
        }
        IpAddr::V6(address) => {
            // ::ffff:0:0/96 is for programs and never for packets (RFC 4291 §2.5.5.2).
            !address.is_multicast() && address != Ipv6Addr::UNSPECIFIED && address.to_ipv4_mapped().is_none()
        }
    }
}

/// Whether an address can't come from a wire, though it stands for one host: loopback, and what is reserved (RFC 1112
/// §4). The kernel drops such packets before a socket sees them, but not before a frame's reader does.
#[inline]
fn is_martian(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(source) => {
            let [network, ..] = source.octets();
            source.is_loopback() || network >= 240
        }
        IpAddr::V6(source) => source.is_loopback(),
    }
}

/// The rules for the NTP message itself.
#[inline]
fn parse_message(datagram: &[u8], route: &Route, layout: Layout) -> Result<Request, DropReason> {
    // Mode and version come before the length, because the probes of modes 6 and 7 are shorter than a header.
    let first_octet = *datagram.first().ok_or(DropReason::TooShort)?;
    let version = Version::from_first_octet(first_octet);
    let mode = match Mode::from_first_octet(first_octet) {
        Mode::Client => RequestMode::Client,
        Mode::SymmetricActive => RequestMode::SymmetricActive,
        // NTPv1 has no mode bits: its clients are told from its servers by their port, as ntpd and chrony do.
        Mode::Reserved if version == Some(Version::V1) && route.source_port != NTP_PORT => {
            RequestMode::Client
        }
        Mode::Reserved => return Err(DropReason::ModeReserved),
        Mode::SymmetricPassive => return Err(DropReason::ModeSymmetricPassive),
        Mode::Server => return Err(DropReason::ModeServer),
        Mode::Broadcast => return Err(DropReason::ModeBroadcast),
        Mode::Control => return Err(DropReason::ModeControl),
        Mode::Private => return Err(DropReason::ModePrivate),
    };
    let version = version.ok_or(DropReason::Version)?;
    let (header, rest) = NtpHeader::split(datagram).ok_or(DropReason::TooShort)?;
    if !rest.is_empty() {
        check_trailer(rest, version)?;
    }
    Ok(Request {
        version,
        mode,
        poll: header.poll(),
        origin: header.origin(),
        receive: header.receive(),
        transmit: header.transmit(),
        client: route.source,
        client_port: route.source_port,
        layout,
    })
}

/// What follows the header: unknown extension fields are ignored, and everything that wants keys is refused.
#[cold]
fn check_trailer(mut rest: &[u8], version: Version) -> Result<(), DropReason> {
    if rest.len() > DATAGRAM_LENGTH_MAX - ntp::LENGTH {
        return Err(DropReason::TooLong);
    }
    if !rest.len().is_multiple_of(4) {
        return Err(DropReason::Unaligned);
    }
    if version < Version::V4 {
        return Err(Mac::new_checked(rest, version)?.refusal());
    }
    let mut asks_for_nts = false;
    while rest.len() > mac::LENGTH_MAX {
        let (field, after) = ExtensionField::split(rest)?;
        asks_for_nts |= field.is_nts();
        rest = after;
    }
    match rest.len() {
        0 if asks_for_nts => Err(DropReason::NtsUnknownKey),
        0 => Ok(()),
        // A field of 16 octets can't be the last one.
        8..=16 => Err(DropReason::BadExtensionField),
        _ => Err(Mac::new_checked(rest, version)?.refusal()),
    }
}
