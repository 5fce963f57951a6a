//! Any datagram from a few kinds of peers: parse, decide, rewrite, stamp; every answer must pass the oracles.
//!
//! The control octet chooses the peer.
#![no_main]

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use maser_core::wire::Peer;
use maser_fuzz::oracle::{Form, SERVICE_PORT};
use maser_fuzz::{judge, split};

fuzz_target!(|input: &[u8]| {
    let Some((control, transmit, packet)) = split(input) else { return };
    judge(Form::Datagram(peer(control)), packet, transmit);
});

fn peer(control: u8) -> Peer {
    let ours: SocketAddr = (Ipv4Addr::new(198, 51, 100, 1), SERVICE_PORT).into();
    let ours_ipv6: SocketAddr = (Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1), SERVICE_PORT).into();
    let client = Ipv4Addr::new(192, 0, 2, 7);
    let (source, destination) = match control % 8 {
        0 | 1 => ((client, 40_001).into(), ours),
        2 => ((client, SERVICE_PORT).into(), ours),
        3 => ((Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 7), 40_001).into(), ours_ipv6),
        4 => ((client.to_ipv6_mapped(), 40_001).into(), ours),
        5 => (ours, ours),
        6 => ((Ipv4Addr::BROADCAST, 40_001).into(), ours),
        _ => ((client, 0).into(), ours),
    };
    Peer { source, destination, unicast: control < 0xF0 }
}
