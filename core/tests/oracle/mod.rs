//! What must be true of every answer, judged without the code that is judged.
//!
//! The property tests, the golden tests and the fuzz targets share these oracles. They read octets one at a time
//! and sum checksums word by word, and use nothing of `maser_core` but the values that went into the reply.
//! `properties.rs` shows each of them failing on a planted fault.

#![allow(unreachable_pub, reason = "the fuzz targets share this module, and there it is public")]

pub mod frame;

use frame::Parts;
use maser_core::reply::{Kiss, Reply, Verdict, decide, may_be_kissed, rewrite, stamp};
use maser_core::snapshot::ClockHeader;
use maser_core::time::{LeapIndicator, NtpShort, NtpTimestamp};
use maser_core::wire::{DropReason, Peer, Request, parse_datagram, parse_frame};

/// How a packet reaches the server.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// As an Ethernet frame.
    Frame,
    /// Through a socket.
    Datagram(Peer),
}

/// The port of the service under test.
pub const SERVICE_PORT: u16 = 123;

/// No two fields of it are alike, so that one in another's place is seen.
pub const CLOCK: ClockHeader = ClockHeader {
    leap: LeapIndicator::Insert,
    stratum: 1,
    precision: -25,
    root_delay: NtpShort::from_bits(0x0102_0304),
    root_dispersion: NtpShort::from_bits(0x1112_1314),
    reference_id: *b"PPS\0",
    reference_time: NtpTimestamp::from_bits(0x2122_2324_2526_2728),
};
pub const RECEIVE: NtpTimestamp = NtpTimestamp::from_bits(0x3132_3334_3536_3738);

/// A request and the answer to it.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub form: Form,
    pub request: Vec<u8>,
    pub reply: Vec<u8>,
    pub said: Reply,
    pub transmit: NtpTimestamp,
}

/// Takes a packet the whole way from octets to the answer's octets.
pub fn exchange(form: Form, request: &[u8], transmit: NtpTimestamp) -> Result<Exchange, DropReason> {
    answered(form, request, transmit, |_, reply| Some(reply))
}

/// The same for one that is over its limit: it is kissed, or gets silence.
pub fn kissed(form: Form, request: &[u8], transmit: NtpTimestamp) -> Result<Exchange, DropReason> {
    // Whatever its poll interval is, it is long enough.
    answered(form, request, transmit, |request, reply| {
        may_be_kissed(request).then(|| reply.kiss(Kiss::Rate, i8::MIN))
    })
}

fn answered(
    form: Form,
    request: &[u8],
    transmit: NtpTimestamp,
    says: impl FnOnce(&Request, Reply) -> Option<Reply>,
) -> Result<Exchange, DropReason> {
    let parsed = match form {
        Form::Frame => parse_frame(request, SERVICE_PORT)?,
        Form::Datagram(peer) => parse_datagram(request, &peer)?,
    };
    let said = match decide(&parsed, &CLOCK, RECEIVE) {
        Verdict::Answer(reply) | Verdict::AnswerUnsynchronised(reply) => reply,
        Verdict::Drop(reason) => return Err(reason),
    };
    let said = says(&parsed, said).ok_or(DropReason::RateLimited)?;
    let mut reply = request.to_vec();
    let prepared = rewrite(&mut reply, &parsed, &said);
    stamp(&mut reply, &prepared, transmit);
    reply.truncate(prepared.length());
    Ok(Exchange { form, request: request.to_vec(), reply, said, transmit })
}

/// One thing that must be true of every exchange.
type Oracle = fn(&Exchange, &Parts, &Parts) -> bool;

/// All of them, by the sentence that they check.
pub const ORACLES: [(&str, Oracle); 13] = [
    ("a reply is never longer than its request", |exchange, _, _| {
        exchange.reply.len() <= exchange.request.len()
    }),
    ("a reply is 48 octets of NTP and nothing else", |_, _, reply| {
        reply.message.len() == 48 && reply.rest.is_empty()
    }),
    ("only requests are answered", only_requests_are_answered),
    ("the origin is the request's transmit timestamp", |_, request, reply| {
        reply.message[24..32] == request.message[40..48]
    }),
    ("version and mode answer the request's", version_and_mode_answer),
    ("the poll interval is the request's", |_, request, reply| reply.message[2] == request.message[2]),
    ("the header says of the clock what it was told", header_says_what_it_was_told),
    ("the transmit timestamp is the one stamped", |exchange, _, reply| {
        reply.message[40..48] == exchange.transmit.bits().to_be_bytes()
    }),
    ("hardware and IP addresses are swapped", |_, request, reply| {
        (reply.source_mac, reply.destination_mac) == (request.destination_mac, request.source_mac)
            && (reply.source, reply.destination) == (request.destination, request.source)
    }),
    ("ports are swapped", |_, request, reply| {
        (reply.source_port, reply.destination_port) == (request.destination_port, request.source_port)
    }),
    ("Ethernet type and VLAN tags stay", |_, request, reply| reply.types_and_tags == request.types_and_tags),
    ("the IP header is this server's own, its checksum right", |_, _, reply| ip_header_is_sound(reply)),
    ("the UDP checksum is there and right", |_, _, reply| frame::udp_checksum_is_right(reply)),
];

/// The sentences that aren't true of an exchange; there should be none.
pub fn failures(exchange: &Exchange) -> Vec<&'static str> {
    let dissect = |octets| match exchange.form {
        Form::Frame => frame::dissect(octets),
        Form::Datagram(_) => Some(Parts::of_message(octets)),
    };
    match (dissect(&exchange.request), dissect(&exchange.reply)) {
        (Some(request), Some(reply)) if request.message.len() >= 48 && reply.message.len() >= 48 => ORACLES
            .iter()
            .filter(|(_, holds)| !holds(exchange, &request, &reply))
            .map(|(sentence, _)| *sentence)
            .collect(),
        _ => vec!["request and reply can be dissected"],
    }
}

/// As [`failures`], of a kiss, which is all that any reply is and says so in its first octet, its stratum and its code.
pub fn failures_of_kiss(exchange: &Exchange) -> Vec<&'static str> {
    let mut failures = failures(exchange);
    let dissect = |octets| match exchange.form {
        Form::Frame => frame::dissect(octets),
        Form::Datagram(_) => Some(Parts::of_message(octets)),
    };
    let (Some(request), Some(reply)) = (dissect(&exchange.request), dissect(&exchange.reply)) else {
        return failures;
    };
    if reply.message[0] / 64 != 3 || reply.message[1] != 0 || reply.message[12..16] != *b"RATE" {
        failures.push("a kiss says that it is one");
    }
    if !matches!(request.message[0] % 64, 0x13 | 0x1B | 0x23) {
        failures.push("only clients are kissed");
    }
    failures
}

fn only_requests_are_answered(exchange: &Exchange, request: &Parts, _: &Parts) -> bool {
    let (version, mode) = (request.message[0] / 8 % 8, request.message[0] % 8);
    let (source, source_port, unicast) = match exchange.form {
        Form::Frame => (request.source.to_vec(), request.source_port, request.is_unicast()),
        Form::Datagram(peer) => {
            let source = match peer.source.ip().to_canonical() {
                core::net::IpAddr::V4(address) => address.octets().to_vec(),
                core::net::IpAddr::V6(address) => address.octets().to_vec(),
            };
            (source, peer.source.port(), peer.unicast && peer.source != peer.destination)
        }
    };
    let mode_asks = mode == 3 || mode == 1 || (mode == 0 && version == 1 && source_port != 123);
    let followed_by_fields_only =
        request.message.len() == 48 || (version == 4 && request.message.len() >= 76);
    (1..=4).contains(&version)
        && mode_asks
        && request.message.len().is_multiple_of(4)
        && followed_by_fields_only
        && unicast
        && source_port != 0
        && frame::is_host(&source)
}

fn version_and_mode_answer(_: &Exchange, request: &Parts, reply: &Parts) -> bool {
    let mode = if request.message[0] % 8 == 1 { 2 } else { 4 };
    reply.message[0] / 8 % 8 == request.message[0] / 8 % 8 && reply.message[0] % 8 == mode
}

fn header_says_what_it_was_told(exchange: &Exchange, _: &Parts, reply: &Parts) -> bool {
    let said = &exchange.said;
    let message = reply.message;
    message[0] >> 6 == said.leap as u8
        && message[1] == said.stratum
        && message[3] == said.precision.to_be_bytes()[0]
        && message[4..8] == said.root_delay.bits().to_be_bytes()
        && message[8..12] == said.root_dispersion.bits().to_be_bytes()
        && message[12..16] == said.reference_id
        && message[16..24] == said.reference_time.bits().to_be_bytes()
        && message[32..40] == said.receive.bits().to_be_bytes()
}

fn ip_header_is_sound(reply: &Parts) -> bool {
    let length = reply.message.len() + 8;
    match reply.ip.len() {
        0 => true,
        20 => {
            let total = u16::try_from(20 + length).expect("a reply is short").to_be_bytes();
            let expected = [0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 17];
            reply.ip[..10] == expected && frame::slow_sum(&[reply.ip]) == 0xFFFF
        }
        _ => {
            let payload = u16::try_from(length).expect("a reply is short").to_be_bytes();
            reply.ip[..8] == [0x60, 0, 0, 0, payload[0], payload[1], 17, 64]
        }
    }
}
