//! What becomes of each kind of frame, and why.

use std::os::fd::AsFd;

use maser_sys::xdp_program::{FRAME_LENGTH_MAX, Metadata, QUEUES_MAX, Reason};

use crate::corpus;
use crate::oracle::SERVICE_PORT;
use crate::oracle::frame::{Wrapping, seal, unfinish, wrap};
use crate::rig::{
    LISTENER_IP4, LISTENER_IP6, Outcome, Rig, STATION, ip4, ip4_wrapping, ip6, ip6_wrapping, message, tag,
    test_run, test_run_behind,
};

/// Where IP begins in an untagged frame.
const IP: usize = 14;
/// The types of tags.
const CUSTOMER: u16 = 0x8100;
const SERVICE: u16 = 0x88A8;

/// `frame` with an octet changed.
fn with(frame: &[u8], at: usize, octet: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = octet;
    frame
}

/// Requests over both versions of IP with these tags.
fn tagged(tags: &[[u8; 4]]) -> [Vec<u8>; 2] {
    [ip4_wrapping(), ip6_wrapping()].map(|plain| wrap(&message(), &Wrapping { tags: tags.to_vec(), ..plain }))
}

fn assert_reasons(rig: &Rig, frames: &[(&str, Vec<u8>, Reason)]) {
    for (name, frame, reason) in frames {
        assert_eq!(rig.reason(frame), *reason, "{name}: {frame:02x?}");
    }
}

#[test]
fn plain_requests_are_steered_with_when_and_what_for() {
    let Some(rig) = Rig::new() else { return };
    for (frame, listener) in [(ip4(), LISTENER_IP4), (ip6(), LISTENER_IP6)] {
        let Outcome::Steered(metadata) = rig.run(&frame) else { panic!("{:?}", rig.run(&frame)) };
        assert_eq!((metadata.listener, metadata.service_port), (listener, SERVICE_PORT));
        // The same, octet by octet.
        let mut output = vec![0; frame.len() + Metadata::LENGTH];
        let (_, length, _) = test_run(&rig.program, &frame, &mut output, 1);
        assert_eq!(length, output.len());
        let halves = [SERVICE_PORT, 1].map(u16::to_ne_bytes).concat();
        let words = [&u32::from(listener).to_ne_bytes()[..], &halves].concat();
        assert_eq!((&output[8..16], &output[16..24]), (&[0; 8][..], &words[..]));
        assert_eq!(output[..8], metadata_hook(&output).to_ne_bytes());
    }
}

fn metadata_hook(output: &[u8]) -> i64 {
    Metadata::of(output.first_chunk().unwrap()).hook_ns
}

#[test]
fn whatever_a_datagram_says_it_is_steered() {
    let Some(rig) = Rig::new() else { return };
    let messages = corpus::requests().into_iter().map(|golden| golden.message);
    // Also what has no NTP header, and checksums that are wrong or none: user space counts those.
    for message in messages.chain([vec![], vec![0x16]]) {
        for plain in [ip4_wrapping(), ip6_wrapping()] {
            assert_eq!(rig.reason(&wrap(&message, &plain)), Reason::Steered, "{message:02x?}");
        }
    }
    let wrong = with(&ip4(), IP + 10, 0xFF);
    let frames = [("checksum", wrong, Reason::Steered), ("don't fragment", flags(0x40, 0), Reason::Steered)];
    assert_reasons(&rig, &frames);
    let none = wrap(&message(), &Wrapping { udp_checksum: false, ..ip4_wrapping() });
    let source_port_0 = wrap(&message(), &Wrapping { source_port: 0, ..ip4_wrapping() });
    assert_reasons(
        &rig,
        &[("no checksum", none, Reason::Steered), ("port 0", source_port_0, Reason::Steered)],
    );
}

#[test]
fn a_checksum_that_a_nic_was_to_finish_goes_on() {
    let Some(rig) = Rig::new() else { return };
    let messages = corpus::requests().into_iter().map(|golden| golden.message);
    let messages: Vec<_> = messages.filter(|message| message.len() <= 1_200).collect();
    let sources = [[192, 0, 2, 9], [0, 0, 0, 1], [255; 4], [0xFF, 0xFF, 0, 0], [1, 2, 3, 4]];
    for (message, source) in messages.iter().flat_map(|message| sources.map(|source| (message, source))) {
        let v4 = Wrapping { source: source.to_vec(), ..ip4_wrapping() };
        let v6 = Wrapping { source: source.repeat(4), ..ip6_wrapping() };
        let tagged = Wrapping { tags: vec![tag(CUSTOMER, 100)], padding: 6, ..v6.clone() };
        for wrapping in [v4, v6, tagged] {
            let mut frame = wrap(message, &wrapping);
            assert_eq!(rig.reason(&frame), Reason::Steered, "{frame:02x?}");
            unfinish(&mut frame);
            assert_eq!(rig.reason(&frame), Reason::PartialChecksum, "{frame:02x?}");
            // Any other is for user space to judge.
            let low = frame.len() - wrapping.padding - message.len() - 1;
            frame[low] ^= 1;
            assert_eq!(rig.reason(&frame), Reason::Steered, "{frame:02x?}");
        }
    }
}

#[test]
fn up_to_two_tags_of_our_vlans_are_steered() {
    let Some(rig) = Rig::new() else { return };
    let both = [CUSTOMER, SERVICE];
    let pairs = both.iter().flat_map(|outer| both.iter().map(move |inner| (*outer, *inner)));
    let mut cases: Vec<(Vec<[u8; 4]>, Reason)> = vec![];
    for (outer, inner) in pairs {
        cases.push((vec![tag(outer, 100)], Reason::Steered));
        cases.push((vec![tag(outer, 200), tag(inner, 300)], Reason::Steered));
        for unknown in [0, 101, 200, 300, 4095] {
            cases.push((vec![tag(outer, unknown)], Reason::Vlan));
        }
        for (first, second) in [(300, 200), (100, 300), (200, 100), (100, 100), (200, 301), (0, 100)] {
            cases.push((vec![tag(outer, first), tag(inner, second)], Reason::Vlan));
        }
        for third in both {
            let three = vec![tag(outer, 200), tag(inner, 300), tag(third, 100)];
            cases.push((three, Reason::Tags));
        }
    }
    // A priority tag inside is a second tag all the same: no VLAN is called 0.
    cases.push((vec![tag(CUSTOMER, 100), tag(CUSTOMER, 0)], Reason::Steered));
    for (tags, reason) in cases {
        for frame in tagged(&tags) {
            assert_eq!(rig.reason(&frame), reason, "{tags:02x?}");
        }
    }
}

/// An IPv4 request with these flags and this fragment offset.
fn flags(high: u8, low: u8) -> Vec<u8> {
    let mut frame = with(&with(&ip4(), IP + 6, high), IP + 7, low);
    seal(&mut frame, true);
    frame
}

#[test]
fn unusual_ipv4_goes_on() {
    let Some(rig) = Rig::new() else { return };
    assert_reasons(
        &rig,
        &[
            ("first fragment", flags(0x20, 0), Reason::Fragment),
            ("middle fragment", flags(0x20, 0xB9), Reason::Fragment),
            ("last fragment", flags(0, 0xB9), Reason::Fragment),
            ("far fragment", flags(0x1F, 0), Reason::Fragment),
            ("version 6", with(&ip4(), IP, 0x65), Reason::BadIpHeader),
            ("length below itself", with(&ip4(), IP + 3, 19), Reason::Truncated),
            ("no room for UDP", with(&ip4(), IP + 3, 27), Reason::Truncated),
            ("more than there is", with(&ip4(), IP + 3, 77), Reason::Truncated),
            ("much more than there is", with(&ip4(), IP + 2, 0xFF), Reason::Truncated),
        ],
    );
    for words in 0..16 {
        let reason = match words {
            0..5 => Reason::BadIpHeader,
            5 => Reason::Steered,
            _ => Reason::Ip4Options,
        };
        assert_eq!(rig.reason(&with(&ip4(), IP, 0x40 | words)), reason, "{words} words");
    }
    // Really with options.
    let mut options = with(&with(&ip4(), IP, 0x46), IP + 3, 80);
    options.splice(IP + 20..IP + 20, [0x94, 0x04, 0, 0]);
    assert_eq!(rig.reason(&options), Reason::Ip4Options);
}

#[test]
fn unusual_ipv6_goes_on() {
    let Some(rig) = Rig::new() else { return };
    for extension in [0, 43, 50, 51, 60, 135, 139, 140, 253, 254] {
        let mut frame = with(&with(&ip6(), IP + 6, extension), IP + 5, 64);
        frame.splice(IP + 40..IP + 40, [17, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(rig.reason(&frame), Reason::Ip6Extension, "{extension}");
    }
    assert_reasons(
        &rig,
        &[
            ("fragment", with(&ip6(), IP + 6, 44), Reason::Fragment),
            ("nothing next", with(&ip6(), IP + 6, 59), Reason::NotUdp),
            ("version 4", with(&ip6(), IP, 0x45), Reason::BadIpHeader),
            ("more than there is", with(&ip6(), IP + 5, 57), Reason::Truncated),
            ("no room for UDP", with(&ip6(), IP + 5, 7), Reason::Truncated),
            ("a jumbogram", with(&ip6(), IP + 5, 0), Reason::Truncated),
        ],
    );
}

#[test]
fn what_is_for_others_goes_on() {
    let Some(rig) = Rig::new() else { return };
    let mut cases: Vec<(&str, Vec<u8>, Reason)> = vec![];
    for frame in [ip4(), ip6()] {
        let udp = if frame[12] == 8 { IP + 20 } else { IP + 40 };
        cases.extend([
            ("port", with(&frame, udp + 3, 124), Reason::NotServed),
            ("port, high octet", with(&frame, udp + 2, 1), Reason::NotServed),
            ("address, last octet", with(&frame, udp - 1, 2), Reason::NotServed),
            (
                "address, first octet",
                with(&frame, udp - if frame[12] == 8 { 4 } else { 16 }, 3),
                Reason::NotServed,
            ),
            ("UDP shorter than its header", with(&frame, udp + 5, 7), Reason::Truncated),
            ("UDP longer than IP", with(&frame, udp + 5, 57), Reason::Truncated),
            ("broadcast", [&[0xFF; 6], &frame[6..]].concat(), Reason::Group),
            ("multicast", with(&frame, 0, 3), Reason::Group),
            ("PTP's type", with(&with(&frame, 12, 0x88), 13, 0xF7), Reason::NotIp),
            ("LLC", with(&with(&frame, 12, 0), 13, 76), Reason::NotIp),
            ("IPv6 as IPv4 and so on", with(&frame, IP, frame[IP] ^ 0x20), Reason::BadIpHeader),
        ]);
        cases.extend((0..6).map(|at| ("station", with(&frame, at, frame[at] ^ 4), Reason::AnotherStation)));
        for (name, protocol) in
            [("TCP", 6), ("ICMP", 1), ("ICMPv6", 58), ("GRE", 47), ("UDP-Lite", 136), ("IP", 4)]
        {
            let at = if frame[12] == 8 { IP + 9 } else { IP + 6 };
            cases.push((name, with(&frame, at, protocol), Reason::NotUdp));
        }
    }
    let arp = [&STATION[..], &[2, 0, 0, 0, 0, 2], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[0; 38]].concat();
    cases.push(("ARP", arp.clone(), Reason::NotIp));
    cases.push(("ARP to all", [&[0xFF; 6], &arp[6..]].concat(), Reason::Group));
    // An IPv4 address in the place of an IPv6 one is another address.
    let mapped = Wrapping { destination: [&[192, 0, 2, 1][..], &[0; 12]].concat(), ..ip6_wrapping() };
    cases.push(("IPv4's octets in IPv6", wrap(&message(), &mapped), Reason::NotServed));
    assert_reasons(&rig, &cases);
}

#[test]
fn a_frame_cut_anywhere_goes_on() {
    let Some(rig) = Rig::new() else { return };
    let two = [tag(SERVICE, 200), tag(CUSTOMER, 300)];
    for frame in [[ip4(), ip6()], tagged(&[tag(CUSTOMER, 100)]), tagged(&two)].concat() {
        // What is shorter than an Ethernet header can't be run; no driver hands it over.
        for length in IP..frame.len() {
            let reason = rig.reason(&frame[..length]);
            assert_eq!(reason, Reason::Truncated, "{length} of {}: {frame:02x?}", frame.len());
        }
    }
}

#[test]
fn padding_is_steered_and_jumbo_frames_go_on() {
    let Some(rig) = Rig::new() else { return };
    for plain in [ip4_wrapping(), ip6_wrapping()] {
        let bare = wrap(&message(), &plain).len();
        for (length, reason) in [
            (bare + 6, Reason::Steered),
            (FRAME_LENGTH_MAX, Reason::Steered),
            (FRAME_LENGTH_MAX + 1, Reason::TooLong),
            (3_000, Reason::TooLong),
        ] {
            let padded = wrap(&message(), &Wrapping { padding: length - bare, ..plain.clone() });
            assert_eq!((padded.len(), rig.reason(&padded)), (length, reason));
            let header = bare - message().len();
            let long = wrap(&vec![0x23; length - header], &plain);
            assert_eq!((long.len(), rig.reason(&long)), (length, reason));
        }
    }
}

#[test]
fn without_a_socket_or_room_a_request_goes_on() {
    let Some(rig) = Rig::new() else { return };
    rig.sockets.remove(0).unwrap();
    assert_eq!(rig.run(&ip4()), Outcome::Passed(Reason::NoSocket));
    rig.sockets.remove(0).unwrap();
    for refused in [rig.sockets.remove(QUEUES_MAX), rig.sockets.insert(QUEUES_MAX, rig.socket.as_fd())] {
        assert!(matches!(refused.unwrap_err().raw_os_error(), Some(libc::EINVAL | libc::E2BIG)));
    }
    rig.sockets.insert(1, rig.socket.as_fd()).unwrap();
    assert_eq!(rig.run(&ip4()), Outcome::Passed(Reason::NoSocket), "that is another queue's");
    rig.sockets.insert(0, rig.socket.as_fd()).unwrap();
    assert_eq!(rig.reason(&ip4()), Reason::Steered);
    // Somebody else's metadata is there already.
    assert_eq!(test_run_behind(&rig, &[7; 4], &ip4()), Reason::NoRoom);
    assert_eq!(test_run_behind(&rig, &[], &ip4()), Reason::Steered);
    // A socket that is closed is taken out.
    let Rig { socket, sockets, program, counts, .. } = rig;
    drop(socket);
    let before = counts.read().of(Reason::NoSocket);
    test_run(&program, &ip6(), &mut [0; 200], 1);
    assert_eq!(counts.read().of(Reason::NoSocket), before + 1);
    let error = sockets.insert(0, std::io::stderr().as_fd()).unwrap_err();
    assert!(error.raw_os_error().is_some(), "{error}");
}
