//! Frames with a UDP datagram, made octet by octet from the RFCs' diagrams.

use std::net::{IpAddr, SocketAddr};

use maser_core::wire::checksum::Sum;
use maser_sys::packet_socket::Way;

/// A frame along `way` from a port of ours to `target`.
pub(crate) fn frame(way: &Way, port: u16, target: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut frame = [way.next_hop_mac, way.source_mac].concat();
    let length = u16::try_from(payload.len() + 8).unwrap();
    let addresses = match (way.source, target.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend(0x0800_u16.to_be_bytes());
            let addresses = [from.octets(), to.octets()].concat();
            // RFC 791 §3.1: version and header length, length, don't fragment, time to live, UDP.
            let [length0, length1] = (length + 20).to_be_bytes();
            let mut header = vec![0x45, 0, length0, length1, 0, 0, 0x40, 0, 64, 17, 0, 0];
            header.extend(&addresses);
            let checksum = Sum::ZERO.with_octets(&header).checksum().to_be_bytes();
            header[10..12].copy_from_slice(&checksum);
            frame.extend(header);
            addresses
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend(0x86DD_u16.to_be_bytes());
            let addresses = [from.octets(), to.octets()].concat();
            // RFC 8200 §3: version, payload length, UDP, hop limit.
            let [length0, length1] = length.to_be_bytes();
            frame.extend([0x60, 0, 0, 0, length0, length1, 17, 64]);
            frame.extend(&addresses);
            addresses
        }
        mixed => panic!("no way: {mixed:?}"),
    };
    let mut udp = [port, target.port(), length, 0].map(u16::to_be_bytes).concat();
    udp.extend(payload);
    let checksum = Sum::ZERO.with_octets(&addresses).with_u16(17).with_u16(length).with_octets(&udp);
    udp[6..8].copy_from_slice(&checksum.udp_checksum().to_be_bytes());
    frame.extend(udp);
    frame
}
