//! What holds for every frame and every datagram, and that each oracle can fail.

mod oracle;

use core::net::{IpAddr, SocketAddr};

use maser_core::time::NtpTimestamp;
use maser_core::wire::{DropReason, Peer, parse_datagram, parse_frame};
use oracle::frame::{Wrapping, seal, wrap};
use oracle::{Exchange, Form, ORACLES, exchange, failures, failures_of_kiss, kissed};
use proptest::collection::vec;
use proptest::prelude::*;

fn any_peer() -> impl Strategy<Value = Peer> {
    (any::<IpAddr>(), any::<u16>(), any::<IpAddr>(), any::<bool>()).prop_map(
        |(source, port, destination, unicast)| Peer {
            source: SocketAddr::new(source, port),
            destination: SocketAddr::new(destination, 123),
            unicast,
        },
    )
}

/// A request that must be answered: mode 3 or 1 of any version, or version 1 without a mode.
fn plain_request() -> impl Strategy<Value = Vec<u8>> {
    let first =
        prop::sample::select(vec![0x08_u8, 0x0B, 0x13, 0x1B, 0x23, 0x09, 0x11, 0x19, 0x21, 0xDB, 0xE3, 0xD9]);
    (first, vec(any::<u8>(), 47)).prop_map(|(first, rest)| [vec![first], rest].concat())
}

/// With unknown extension fields where the version allows them.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let field = (28_u16..200).prop_map(|length| {
        let length = length / 4 * 4;
        let mut field = vec![0xF5; usize::from(length)];
        field.splice(2..4, length.to_be_bytes());
        field
    });
    (plain_request(), vec(field, 0..4)).prop_map(|(header, fields)| {
        let version = header[0] / 8 % 8;
        if version == 4 { [header, fields.concat()].concat() } else { header }
    })
}

fn tags() -> impl Strategy<Value = Vec<[u8; 4]>> {
    let tag = (prop::sample::select(vec![[0x81, 0x00], [0x88, 0xA8]]), any::<[u8; 2]>())
        .prop_map(|([type0, type1], [control0, control1])| [type0, type1, control0, control1]);
    vec(tag, 0..=2)
}

fn wrapping() -> impl Strategy<Value = Wrapping> {
    let ipv4 = (any::<[u8; 3]>(), any::<[u8; 3]>()).prop_map(|(source, destination)| {
        ([&[10], &source[..]].concat(), [&[11], &destination[..]].concat())
    });
    let ipv6 = (any::<[u8; 15]>(), any::<[u8; 15]>()).prop_map(|(source, destination)| {
        ([&[0x20], &source[..]].concat(), [&[0x2A], &destination[..]].concat())
    });
    (tags(), prop_oneof![ipv4, ipv6], 1_u16.., 0_usize..40, any::<bool>()).prop_map(
        |(tags, (source, destination), source_port, padding, no_checksum)| Wrapping {
            tags,
            udp_checksum: !(no_checksum && source.len() == 4),
            source,
            destination,
            // NTPv1 without a mode is answered on other ports only.
            source_port: if source_port == 123 { 124 } else { source_port },
            padding,
        },
    )
}

/// Any packet at all, its checksums made right by chance or by us.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let octets = vec(any::<u8>(), 0..200);
    let mutated = (
        request(),
        wrapping(),
        vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        any::<Option<bool>>(),
    )
        .prop_map(|(message, wrapping, changes, sealed)| {
            let mut frame = wrap(&message, &wrapping);
            for (at, value) in changes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if let Some(udp) = sealed {
                seal(&mut frame, udp);
            }
            frame
        });
    prop_oneof![1 => octets, 4 => mutated]
}

proptest! {
    #[test]
    fn every_wrapped_request_is_answered_and_every_oracle_holds(
        message in request(), wrapping in wrapping(), transmit in any::<u64>(),
    ) {
        let frame = wrap(&message, &wrapping);
        let exchange = exchange(Form::Frame, &frame, NtpTimestamp::from_bits(transmit));
        prop_assert!(exchange.is_ok(), "{:?}", exchange);
        prop_assert_eq!(exchange.map(|exchange| failures(&exchange)), Ok(vec![]));
    }

    #[test]
    fn who_is_over_the_limit_is_kissed_as_well_as_answered_or_gets_silence(
        message in request(), wrapping in wrapping(), transmit in any::<u64>(), peer in any_peer(),
    ) {
        let transmit = NtpTimestamp::from_bits(transmit);
        for (form, octets) in [(Form::Frame, wrap(&message, &wrapping)), (Form::Datagram(peer), message.clone())] {
            let is_client = message[0] % 8 == 3 && message[0] / 8 % 8 > 1;
            match kissed(form, &octets, transmit) {
                Ok(exchange) => prop_assert_eq!(failures_of_kiss(&exchange), Vec::<&str>::new()),
                Err(reason) => prop_assert!(!is_client || reason != DropReason::RateLimited),
            }
        }
    }

    #[test]
    fn nothing_panics_on_any_frame_and_what_is_answered_is_answered_well(frame in any_frame(), transmit in any::<u64>()) {
        if let Ok(exchange) = exchange(Form::Frame, &frame, NtpTimestamp::from_bits(transmit)) {
            prop_assert_eq!(failures(&exchange), Vec::<&str>::new());
        }
    }

    #[test]
    fn nothing_panics_on_any_datagram_and_what_is_answered_is_answered_well(
        octets in prop_oneof![vec(any::<u8>(), 0..200), request()], peer in any_peer(), transmit in any::<u64>(),
    ) {
        if let Ok(exchange) = exchange(Form::Datagram(peer), &octets, NtpTimestamp::from_bits(transmit)) {
            prop_assert_eq!(failures(&exchange), Vec::<&str>::new());
        }
    }

    #[test]
    fn a_frame_cut_short_is_never_answered(message in request(), wrapping in wrapping(), cut in any::<prop::sample::Index>()) {
        let wrapping = Wrapping { padding: 0, ..wrapping };
        let frame = wrap(&message, &wrapping);
        prop_assert_eq!(parse_frame(&frame[..cut.index(frame.len())], 123), Err(DropReason::Truncated));
    }

    #[test]
    fn a_transmit_time_that_brings_the_checksum_to_zero_is_sent_as_all_ones(
        message in plain_request(), wrapping in wrapping(), high in any::<[u8; 6]>(),
    ) {
        let wrapping = Wrapping { udp_checksum: true, ..wrapping };
        let frame = wrap(&message, &wrapping);
        let mut transmit = [0; 8];
        transmit[..6].copy_from_slice(&high);
        let exchange_at = |transmit| exchange(Form::Frame, &frame, NtpTimestamp::from_bits(u64::from_be_bytes(transmit)));
        let first = exchange_at(transmit).expect("an answer");
        // Adding what is missing to all ones makes the computed checksum 0.
        let checksum_at = first.reply.len() - 50;
        transmit[6..].copy_from_slice(&first.reply[checksum_at..checksum_at + 2]);
        let second = exchange_at(transmit).expect("an answer");
        prop_assert_eq!(&second.reply[checksum_at..checksum_at + 2], &[0xFF, 0xFF]);
        prop_assert_eq!(failures(&second), Vec::<&str>::new());
    }
}

#[test]
#[should_panic(expected = "rewrite takes the buffer that the request was parsed from")]
fn rewriting_another_buffer_is_a_programmer_error() {
    let peer = Peer {
        source: "192.0.2.7:5000".parse().expect("an address"),
        destination: "198.51.100.1:123".parse().expect("an address"),
        unicast: true,
    };
    let message = [&[0x23][..], &[0; 47]].concat();
    let request = parse_datagram(&message, &peer).expect("a request");
    let said = exchange(Form::Datagram(peer), &message, NtpTimestamp::ZERO).expect("an answer").said;
    let _ = maser_core::reply::rewrite(&mut [0; 52], &request, &said);
}

/// A tagged IPv4 exchange with padding and an extension field, without a fault.
fn faultless() -> Exchange {
    let field = [&[0xF5, 0xF5, 0, 28][..], &[0x11; 24]].concat();
    let message = [&[0x23, 0, 6, 0x20][..], &[0; 36], &[0x7D; 8], &field].concat();
    let wrapping = Wrapping {
        tags: vec![[0x81, 0, 0x60, 0x64]],
        source: vec![192, 0, 2, 7],
        destination: vec![198, 51, 100, 1],
        source_port: 40_001,
        padding: 4,
        udp_checksum: true,
    };
    exchange(Form::Frame, &wrap(&message, &wrapping), NtpTimestamp::from_bits(0xE6A1_B2C3_4444_4444))
        .expect("an answer")
}

/// Offsets in the reply of [`faultless`]: link header 18, IPv4 20, UDP 8.
const IP: usize = 18;
const UDP: usize = IP + 20;
const NTP: usize = UDP + 8;

/// Something done to an exchange that must not pass.
type Fault = fn(&mut Exchange);

/// Faults, and the oracle that must see each.
const FAULTS: [(&str, Fault); 22] = [
    ("a reply is never longer than its request", |exchange| {
        exchange.reply.resize(exchange.request.len() + 1, 0)
    }),
    ("a reply is 48 octets of NTP and nothing else", |exchange| exchange.reply.push(0)),
    ("a reply is 48 octets of NTP and nothing else", |exchange| {
        exchange.reply.extend([0; 4]);
        exchange.reply[IP + 3] += 4;
        exchange.reply[UDP + 5] += 4;
        seal(&mut exchange.reply, true);
    }),
    ("only requests are answered", |exchange| exchange.request[NTP] = 0x24),
    ("only requests are answered", |exchange| exchange.request[NTP] = 0x2B),
    ("only requests are answered", |exchange| exchange.request[IP + 12] = 224),
    ("only requests are answered", |exchange| exchange.request[0] = 1),
    ("the origin is the request's transmit timestamp", |exchange| exchange.reply[NTP + 31] ^= 1),
    ("version and mode answer the request's", |exchange| exchange.reply[NTP] ^= 8),
    ("version and mode answer the request's", |exchange| exchange.reply[NTP] ^= 6),
    ("the poll interval is the request's", |exchange| exchange.reply[NTP + 2] += 1),
    ("the header says of the clock what it was told", |exchange| exchange.reply[NTP + 3] ^= 0x80),
    ("the header says of the clock what it was told", |exchange| exchange.reply.swap(NTP + 4, NTP + 8)),
    ("the transmit timestamp is the one stamped", |exchange| exchange.reply[NTP + 47] ^= 1),
    ("hardware and IP addresses are swapped", |exchange| exchange.reply[..12].rotate_left(6)),
    ("hardware and IP addresses are swapped", |exchange| exchange.reply[IP + 12..IP + 20].rotate_left(4)),
    ("ports are swapped", |exchange| exchange.reply[UDP..UDP + 4].rotate_left(2)),
    ("Ethernet type and VLAN tags stay", |exchange| exchange.reply[14] = 0),
    ("the IP header is this server's own, its checksum right", |exchange| exchange.reply[IP + 10] ^= 1),
    ("the IP header is this server's own, its checksum right", |exchange| {
        exchange.reply[IP + 1] = exchange.request[IP + 1];
        seal(&mut exchange.reply, true);
    }),
    ("the UDP checksum is there and right", |exchange| exchange.reply[UDP + 6..UDP + 8].fill(0)),
    ("the UDP checksum is there and right", |exchange| exchange.reply[UDP + 7] ^= 1),
];

#[test]
fn every_oracle_fails_on_a_planted_fault() {
    assert_eq!(failures(&faultless()), Vec::<&str>::new());
    for (at, (sentence, plant)) in FAULTS.iter().enumerate() {
        let mut exchange = faultless();
        plant(&mut exchange);
        assert!(failures(&exchange).contains(sentence), "fault {at} went unseen: {sentence}");
    }
    for (sentence, _) in ORACLES {
        assert!(FAULTS.iter().any(|(planted, _)| *planted == sentence), "no fault shows: {sentence}");
    }
}

#[test]
fn the_oracles_of_kisses_fail_on_planted_faults() {
    let Exchange { form, request, .. } = faultless();
    let kiss = kissed(form, &request, NtpTimestamp::from_bits(0xE6A1_B2C3_4444_4444)).expect("a kiss");
    assert_eq!(failures_of_kiss(&kiss), Vec::<&str>::new());
    assert!(failures_of_kiss(&faultless()).contains(&"a kiss says that it is one"));
    for at in [0, 1, 13] {
        let mut planted = kiss.clone();
        planted.reply[NTP + at] ^= 0x80;
        assert!(failures_of_kiss(&planted).contains(&"a kiss says that it is one"), "octet {at}");
    }
    for first in [0x21, 0x08, 0x0B, 0x24] {
        let mut planted = kiss.clone();
        planted.request[NTP] = first;
        assert!(failures_of_kiss(&planted).contains(&"only clients are kissed"), "{first:#x}");
    }
    let mut planted = kiss;
    planted.reply.resize(planted.request.len() + 4, 0);
    assert!(failures_of_kiss(&planted).contains(&"a reply is never longer than its request"));
}

#[test]
fn a_reply_that_cannot_be_taken_apart_is_a_failure() {
    let mut exchange = faultless();
    exchange.reply[UDP + 5] += 1;
    assert_eq!(failures(&exchange), ["request and reply can be dissected"]);
}
