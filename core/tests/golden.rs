//! What real clients and scanners send, and what becomes of it.

mod corpus;
mod oracle;

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use corpus::{Golden, requests};
use maser_core::time::NtpTimestamp;
use maser_core::wire::{DropReason, Peer, parse_datagram, parse_frame};
use oracle::frame::{Wrapping, seal, unfinish, wrap};
use oracle::{Exchange, Form, exchange, failures, failures_of_kiss, kissed};

const TRANSMIT: NtpTimestamp = NtpTimestamp::from_bits(0xE6A1_B2C3_4444_4444);

fn peer(source: &str, destination: &str) -> Peer {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address and a port");
    Peer { source: address(source), destination: address(destination), unicast: true }
}
fn peer_of(golden: &Golden) -> Form {
    Form::Datagram(peer(&format!("192.0.2.7:{}", golden.source_port), "198.51.100.1:123"))
}
fn wrappings(golden: &Golden) -> [Wrapping; 3] {
    let ipv4 = Wrapping {
        tags: vec![],
        source: vec![192, 0, 2, 7],
        destination: vec![198, 51, 100, 1],
        source_port: golden.source_port,
        padding: 0,
        udp_checksum: true,
    };
    let tagged =
        Wrapping { tags: vec![[0x81, 0, 0x60, 0x64]], padding: 7, udp_checksum: false, ..ipv4.clone() };
    let ipv6 = Wrapping {
        tags: vec![[0x88, 0xA8, 0, 9], [0x81, 0, 0xB0, 0x0A]],
        source: b"\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x07".to_vec(),
        destination: b"\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x01".to_vec(),
        source_port: golden.source_port,
        padding: 0,
        udp_checksum: true,
    };
    [ipv4, tagged, ipv6]
}

fn assert_outcome(golden: &Golden, outcome: &Result<Exchange, DropReason>) {
    match outcome {
        Ok(exchange) => {
            assert_eq!(golden.drop, None, "{} was answered", golden.name);
            assert_eq!(failures(exchange), Vec::<&str>::new(), "{}", golden.name);
        }
        Err(reason) => assert_eq!(golden.drop, Some(reason.name()), "{}", golden.name),
    }
}

#[test]
fn every_golden_client_over_its_limit_is_kissed() {
    for golden in requests() {
        match kissed(peer_of(&golden), &golden.message, TRANSMIT) {
            Ok(kiss) => assert_eq!(failures_of_kiss(&kiss), Vec::<&str>::new(), "{}", golden.name),
            Err(reason) => {
                assert_eq!(reason.name(), golden.drop.unwrap_or("rate-limited"), "{}", golden.name)
            }
        }
    }
}

#[test]
fn every_golden_request_has_its_outcome_through_a_socket() {
    for golden in requests() {
        assert_outcome(&golden, &exchange(peer_of(&golden), &golden.message, TRANSMIT));
    }
}

#[test]
fn every_golden_request_has_the_same_outcome_in_a_frame() {
    for golden in requests() {
        for wrapping in wrappings(&golden) {
            let frame = wrap(&golden.message, &wrapping);
            assert_outcome(&golden, &exchange(Form::Frame, &frame, TRANSMIT));
        }
    }
}

#[test]
fn the_answers_differ_in_their_envelope_only() {
    for golden in requests().into_iter().filter(|golden| golden.drop.is_none()) {
        let bare = exchange(peer_of(&golden), &golden.message, TRANSMIT).expect("an answer").reply;
        for wrapping in wrappings(&golden) {
            let frame = wrap(&golden.message, &wrapping);
            let framed = exchange(Form::Frame, &frame, TRANSMIT).expect("an answer").reply;
            assert!(framed.ends_with(&bare), "{}", golden.name);
        }
    }
}

/// Reads hexadecimal digits between any blanks.
fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d.try_into().expect("4 bits")).collect();
    digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
}

#[test]
fn a_tagged_ipv4_exchange_octet_for_octet() {
    let request = octets(
        "02aa00000001 02bb00000002 8100 6064 0800
         45b8004c abcd0000 3911 e8df c0000207 c6336401
         9c41 007b 0038 4281
         23000620 00000000 00000000 00000000 0000000000000000 0000000000000000 0000000000000000 7d1c0a4f9b22e855",
    );
    let reply = octets(
        "02bb00000002 02aa00000001 8100 6064 0800
         4500004c 00004000 4011 4e65 c6336401 c0000207
         007b 9c41 0038 b1e4
         640106e7 01020304 11121314 50505300 2122232425262728 7d1c0a4f9b22e855 3132333435363738 e6a1b2c344444444",
    );
    let exchange = exchange(Form::Frame, &request, TRANSMIT).expect("an answer");
    assert_eq!(exchange.reply, reply);
}

#[test]
fn an_ipv6_exchange_octet_for_octet() {
    let request = octets(
        "02aa00000001 02bb00000002 86dd
         6b812345 00381139 20010db8000000000000000000000007 20010db8000000000000000000000001
         9c41 007b 0038 d343
         23000620 00000000 00000000 00000000 0000000000000000 0000000000000000 0000000000000000 7d1c0a4f9b22e855",
    );
    let reply = octets(
        "02bb00000002 02aa00000001 86dd
         60000000 00381140 20010db8000000000000000000000001 20010db8000000000000000000000007
         007b 9c41 0038 42a7
         640106e7 01020304 11121314 50505300 2122232425262728 7d1c0a4f9b22e855 3132333435363738 e6a1b2c344444444",
    );
    let exchange = exchange(Form::Frame, &request, TRANSMIT).expect("an answer");
    assert_eq!(exchange.reply, reply);
}

#[test]
fn addresses_that_cannot_be_answered_get_silence() {
    let request = [&[0x23][..], &[0; 47]].concat();
    let outcome = |source, destination| parse_datagram(&request, &peer(source, destination)).err();
    let ours = "198.51.100.1:123";
    for bad in ["0.0.0.0:5000", "0.1.2.3:5000", "255.255.255.255:5000", "224.0.1.1:5000", "192.0.2.7:0"] {
        assert_eq!(outcome(bad, ours), Some(DropReason::BadSource), "{bad}");
    }
    for bad in ["[::]:5000", "[ff02::1]:5000", "[::ffff:224.0.1.1]:5000"] {
        assert_eq!(outcome(bad, "[2001:db8::1]:123"), Some(DropReason::BadSource), "{bad}");
    }
    for bad in ["255.255.255.255:123", "224.0.1.1:123", "[ff05::101]:123", "0.0.0.0:123"] {
        assert_eq!(outcome("192.0.2.7:5000", bad), Some(DropReason::NotUnicastDestination), "{bad}");
    }
    assert_eq!(outcome(ours, ours), Some(DropReason::ReflectionLoop));
    assert_eq!(outcome("[::ffff:198.51.100.1]:123", ours), Some(DropReason::ReflectionLoop));
    assert_eq!(outcome("198.51.100.1:5000", ours), None);
    assert_eq!(outcome("192.0.2.7:123", ours), None);
    let to_a_group = Peer { unicast: false, ..peer("192.0.2.7:5000", ours) };
    assert_eq!(parse_datagram(&request, &to_a_group), Err(DropReason::NotUnicastDestination));
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client() {
    let request = [&[0x23][..], &[0; 47]].concat();
    let parsed = parse_datagram(&request, &peer("[::ffff:192.0.2.7]:5000", "[::ffff:198.51.100.1]:123"));
    assert_eq!(parsed.map(|request| request.client), Ok([192, 0, 2, 7].into()));
}

/// A frame with one octet changed and its checksums made right again.
fn changed(wrapping: &Wrapping, at: usize, value: u8) -> Option<DropReason> {
    let mut frame = wrap(&[&[0x23][..], &[0; 47]].concat(), wrapping);
    frame[at] = value;
    seal(&mut frame, wrapping.udp_checksum);
    parse_frame(&frame, 123).err()
}

#[test]
fn frames_that_are_not_ours_to_answer_get_silence() {
    let chronyd = requests().into_iter().find(|golden| golden.name == "chronyd").expect("in the corpus");
    let [ipv4, _, ipv6] = wrappings(&chronyd);
    assert_eq!(changed(&ipv4, 5, 9), None);
    assert_eq!(changed(&ipv4, 0, 1), Some(DropReason::NotUnicastDestination), "a group of stations");
    assert_eq!(changed(&ipv4, 6, 1), Some(DropReason::BadSource), "from a group of stations");
    assert_eq!(changed(&ipv4, 13, 6), Some(DropReason::NotEthernetIp), "ARP");
    assert_eq!(changed(&ipv4, 30, 239), Some(DropReason::NotUnicastDestination), "a multicast address");
    assert_eq!(changed(&ipv4, 26, 224), Some(DropReason::BadSource), "from a multicast address");
    assert_eq!(changed(&ipv4, 37, 124), Some(DropReason::WrongPort));
    assert_eq!(changed(&ipv4, 23, 6), Some(DropReason::NotUdp));
    assert_eq!(changed(&ipv4, 20, 0x20), Some(DropReason::Fragment));
    assert_eq!(changed(&ipv6, 22 + 6, 44), Some(DropReason::Fragment));
    assert_eq!(changed(&ipv6, 22 + 8, 0xFF), Some(DropReason::BadSource));
    assert_eq!(changed(&ipv6, 22 + 24, 0xFF), Some(DropReason::NotUnicastDestination));
    let without = Wrapping { udp_checksum: false, ..ipv6.clone() };
    assert_eq!(changed(&without, 5, 9), Some(DropReason::MissingUdpChecksum));
    for (plain, source_port) in [(&ipv4, 123), (&ipv4, 40_000), (&ipv6, 40_000)] {
        let ours = Wrapping { source: plain.destination.clone(), source_port, ..plain.clone() };
        assert_eq!(changed(&ours, 5, 9), Some(DropReason::BadSource), "from ourselves");
    }
    for plain in [&ipv4, &ipv6] {
        let mut left_to_the_nic = wrap(&[&[0x23][..], &[0; 47]].concat(), plain);
        unfinish(&mut left_to_the_nic);
        assert_eq!(parse_frame(&left_to_the_nic, 123), Err(DropReason::BadUdpChecksum));
    }
}

#[test]
fn loopback_and_reserved_addresses_are_answered_by_a_socket_and_not_on_the_wire() {
    let request = [&[0x23][..], &[0; 47]].concat();
    let golden = requests().into_iter().find(|golden| golden.name == "chronyd").expect("in the corpus");
    let [ipv4, _, ipv6] = wrappings(&golden);
    for bad in ["127.0.0.1", "127.255.255.254", "240.0.0.1", "255.255.255.254"] {
        let source: Ipv4Addr = bad.parse().expect("an address");
        let from = Wrapping { source: source.octets().to_vec(), ..ipv4.clone() };
        assert_eq!(changed(&from, 5, 9), Some(DropReason::BadSource), "{bad}");
    }
    let from = Wrapping { source: Ipv6Addr::LOCALHOST.octets().to_vec(), ..ipv6 };
    assert_eq!(changed(&from, 5, 9), Some(DropReason::BadSource));
    for good in ["126.255.255.255", "128.0.0.0", "223.255.255.255"] {
        let source: Ipv4Addr = good.parse().expect("an address");
        let from = Wrapping { source: source.octets().to_vec(), ..ipv4.clone() };
        assert_eq!(changed(&from, 5, 9), None, "{good}");
    }
    for ours in [("127.0.0.2:5000", "127.0.0.1:123"), ("[::1]:5000", "[::1]:123")] {
        assert!(parse_datagram(&request, &peer(ours.0, ours.1)).is_ok(), "{ours:?}");
    }
}

#[test]
fn a_mapped_address_on_the_wire_gets_silence() {
    let chronyd = requests().into_iter().find(|golden| golden.name == "chronyd").expect("in the corpus");
    let [_, _, ipv6] = wrappings(&chronyd);
    let mapped = [&[0; 10][..], &[255, 255, 192, 0, 2, 7]].concat();
    assert_eq!(
        changed(&Wrapping { source: mapped.clone(), ..ipv6.clone() }, 5, 9),
        Some(DropReason::BadSource)
    );
    assert_eq!(
        changed(&Wrapping { destination: mapped, ..ipv6 }, 5, 9),
        Some(DropReason::NotUnicastDestination)
    );
}

#[test]
fn every_flipped_bit_of_the_covered_octets_is_noticed() {
    let chronyd = requests().into_iter().find(|golden| golden.name == "chronyd").expect("in the corpus");
    let [ipv4, _, ipv6] = wrappings(&chronyd);
    for wrapping in [ipv4, ipv6] {
        let frame = wrap(&chronyd.message, &wrapping);
        let covered_from = 14 + 4 * wrapping.tags.len() + if wrapping.source.len() == 4 { 0 } else { 8 };
        for bit in covered_from * 8..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_frame(&flipped, 123).is_err(), "bit {bit}");
        }
    }
}
