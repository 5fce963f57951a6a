//! The program and `core` agree: what is steered is a datagram that `core` takes apart, and a request that `core` answers
//! is steered if it is for us.

use std::cell::RefCell;
use std::collections::BTreeMap;

use maser_core::wire::{DropReason, parse_frame};
use maser_sys::xdp_program::{FRAME_LENGTH_MAX, Reason};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::corpus;
use crate::oracle::SERVICE_PORT;
use crate::oracle::frame::{Wrapping, dissect, seal, unfinish, wrap};
use crate::rig::{IP4, IP6, Rig, STATION, VLANS, ip4_wrapping, ip6_wrapping, tag};

const CASES: u32 = 20_000;

/// Reasons that the program leaves to `core`, since it reads neither checksums nor sources nor the request.
fn is_for_core(reason: DropReason) -> bool {
    !matches!(
        reason,
        DropReason::NotEthernetIp
            | DropReason::BadIpHeader
            | DropReason::IpOptions
            | DropReason::Fragment
            | DropReason::Ipv6Extension
            | DropReason::NotUdp
            | DropReason::Truncated
            | DropReason::WrongPort
            | DropReason::NotUnicastDestination
    )
}

fn tags() -> impl Strategy<Value = Vec<[u8; 4]>> {
    let ether_type = || prop::sample::select(vec![0x8100, 0x88A8]);
    let vlan = || prop::sample::select(vec![100, 200, 300, 1, 0]);
    prop_oneof![
        4 => Just(vec![]),
        2 => ether_type().prop_map(|outer| vec![tag(outer, 100)]),
        2 => (ether_type(), ether_type()).prop_map(|(outer, inner)| vec![tag(outer, 200), tag(inner, 300)]),
        1 => vec((ether_type(), vlan()).prop_map(|(ether_type, vlan)| tag(ether_type, vlan)), 0..4),
    ]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let golden: Vec<Vec<u8>> = corpus::requests().into_iter().map(|golden| golden.message).collect();
    prop_oneof![2 => prop::sample::select(golden), 1 => vec![any::<u8>(); 48], 1 => vec(any::<u8>(), 0..1400)]
}

/// A valid frame for us, and up to three octets of its headers changed, cut short, and sealed again or not.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop::sample::select(vec![ip4_wrapping(), ip6_wrapping()]);
    let wrapping =
        (plain, tags(), 0_u16..3, prop_oneof![3 => 0_usize..20, 1 => 0_usize..1400], any::<bool>()).prop_map(
            |(plain, tags, source_port, padding, udp_checksum)| {
                let source_port = [0, 123, 40_000][usize::from(source_port)];
                Wrapping { tags, source_port, padding, udp_checksum, ..plain }
            },
        );
    let octet = prop_oneof![
        any::<u8>(),
        prop::sample::select(vec![0, 1, 4, 6, 8, 17, 0x40, 0x45, 0x60, 0x81, 0x86, 0x88, 0xA8, 0xDD, 0xFF]),
    ];
    let changes = prop_oneof![1 => Just(vec![]), 2 => vec((0_usize..70, octet), 1..4)];
    let cut = prop_oneof![4 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    (message(), wrapping, changes, cut, any::<Option<bool>>()).prop_map(
        |(message, wrapping, changes, cut, sealed)| {
            let mut frame = wrap(&message, &wrapping);
            for (at, octet) in changes {
                if let Some(there) = frame.get_mut(at) {
                    *there = octet;
                }
            }
            if let Some(cut) = cut {
                frame.truncate(14 + cut.index(frame.len() - 14));
            }
            if let Some(udp) = sealed {
                seal(&mut frame, udp);
            }
            frame
        },
    )
}

/// Whether its UDP checksum is what a sender leaves for a NIC to finish.
fn is_unfinished(frame: &[u8]) -> bool {
    let mut unfinished = frame.to_vec();
    unfinish(&mut unfinished);
    unfinished == frame
}

/// Whether a frame is for us, told the slow way.
fn is_for_us(frame: &[u8]) -> bool {
    let Some(parts) = dissect(frame) else { return false };
    let (tags, _type) = parts.types_and_tags.as_chunks::<4>();
    let numbers: Vec<u16> = tags.iter().map(|tag| u16::from_be_bytes([tag[2], tag[3]]) & 0x0FFF).collect();
    let vlan_is_ours = match numbers[..] {
        [] => true,
        [outer, ref inner @ ..] => {
            let inner = inner.first().copied().unwrap_or(0);
            VLANS.iter().any(|vlan| (vlan.outer, vlan.inner) == (outer, inner))
        }
    };
    let to = parts.destination;
    vlan_is_ours
        && parts.destination_mac == STATION
        && (to == IP4.octets() || to == IP6.octets())
        && parts.destination_port == SERVICE_PORT
        && !is_unfinished(frame)
        && frame.len() <= FRAME_LENGTH_MAX
}

/// What is wrong with the program's decision, if something is.
fn disagreement(frame: &[u8], reason: Reason) -> Option<String> {
    let parsed = parse_frame(frame, SERVICE_PORT);
    let steered = reason == Reason::Steered;
    match parsed {
        Err(drop) if steered && !is_for_core(drop) => Some(format!("steered, and core says {}", drop.name())),
        Ok(_) if !steered && is_for_us(frame) => {
            Some(format!("a request for us is kept back: {}", reason.name()))
        }
        _ if steered && !is_for_us(frame) => Some("steered, and isn't for us".to_owned()),
        Ok(_) | Err(_) => None,
    }
}

#[test]
fn the_program_and_core_agree_on_every_frame() {
    let Some(rig) = Rig::new() else { return };
    let seen = RefCell::new(BTreeMap::new());
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let result = runner.run(&frame(), |frame| {
        let reason = rig.reason(&frame);
        *seen.borrow_mut().entry(reason.name()).or_insert(0_u32) += 1;
        disagreement(&frame, reason).map_or(Ok(()), |wrong| Err(TestCaseError::fail(wrong)))
    });
    let seen = seen.into_inner();
    assert!(result.is_ok(), "{}", result.unwrap_err());
    // Nothing was proved by frames that all end alike.
    let common = seen.values().filter(|count| **count > CASES / 1_000).count();
    assert!(seen[Reason::Steered.name()] > CASES / 10 && common >= 12, "{seen:?}");
}

#[test]
fn a_disagreement_is_found() {
    let plain = wrap(&[0x23; 48], &ip4_wrapping());
    assert_eq!(disagreement(&plain, Reason::Steered), None);
    assert!(disagreement(&plain, Reason::NoSocket).is_some());
    let mut fragment = plain.clone();
    fragment[20] = 0x20;
    seal(&mut fragment, true);
    assert!(disagreement(&fragment, Reason::Steered).is_some());
    assert_eq!(disagreement(&fragment, Reason::Fragment), None);
    let mut partial = plain.clone();
    unfinish(&mut partial);
    assert!(disagreement(&partial, Reason::Steered).is_some());
    assert_eq!(disagreement(&partial, Reason::PartialChecksum), None);
    let mut another = plain;
    another[5] ^= 1;
    assert!(disagreement(&another, Reason::Steered).is_some());
}
