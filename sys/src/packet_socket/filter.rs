//! Which frames reach a packet socket: the UDP datagrams of one peer.
//!
//! A classic BPF program that the kernel runs on every IP packet of the interface, before it queues or copies one. It
//! reaches for the network header, wherever that is, so a VLAN tag that the NIC took off makes no difference. What it
//! would read past the end of a packet drops the packet.

use std::net::{IpAddr, SocketAddr};

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SKF_NET_OFF,
    sock_filter,
};

/// Octets of a packet to pass on: all.
const ALL: u32 = u32::MAX;
const NONE: u32 = 0;

const PROTOCOL_UDP: u32 = 17;

/// Which ports of ours a peer's datagrams may be for: those whose bits under `mask` are `value`. Sockets that share an
/// interface share the ports out, so that each sees the replies to its own requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ports {
    /// Which bits of the port count.
    pub mask: u16,
    /// What they must be.
    pub value: u16,
}

impl Ports {
    /// Every port.
    pub const ALL: Self = Self { mask: 0, value: 0 };
}

/// An unfragmented datagram of `peer` to one of `ports`: IPv4 without options, or IPv6 without extension headers.
pub(super) fn program(peer: SocketAddr, ports: Ports) -> Vec<sock_filter> {
    // What is loaded, which bits of it count, and what they must be.
    let mut checks: Vec<(u32, u8, u32, u32)> = Vec::new();
    match peer.ip() {
        // RFC 791 §3.1: version and header length, flags and fragment offset, protocol, source address.
        IpAddr::V4(ip) => {
            checks.push((BPF_B, 0, 0xFF, 0x45));
            checks.push((BPF_H, 6, 0x3FFF, 0));
            checks.push((BPF_B, 9, 0xFF, PROTOCOL_UDP));
            checks.push((BPF_W, 12, u32::MAX, u32::from(ip)));
            checks.push((BPF_H, 20, 0xFFFF, peer.port().into()));
            checks.push((BPF_H, 22, ports.mask.into(), ports.value.into()));
        }
        // RFC 8200 §3: version, next header, source address.
        IpAddr::V6(ip) => {
            checks.push((BPF_B, 0, 0xF0, 0x60));
            checks.push((BPF_B, 6, 0xFF, PROTOCOL_UDP));
            for (offset, word) in (8..).step_by(4).zip(ip.octets().as_chunks().0) {
                checks.push((BPF_W, offset, u32::MAX, u32::from_be_bytes(*word)));
            }
            checks.push((BPF_H, 40, 0xFFFF, peer.port().into()));
            checks.push((BPF_H, 42, ports.mask.into(), ports.value.into()));
        }
    }
    let mut program = Vec::with_capacity(checks.len() * 4 + 1);
    for (size, octet, mask, value) in checks {
        let offset = SKF_NET_OFF.wrapping_add(octet.into()).cast_unsigned();
        program.push(statement(BPF_LD | BPF_ABS | size, offset));
        program.push(statement(BPF_ALU | BPF_AND | BPF_K, mask));
        // Equal: over the return that follows.
        program.push(sock_filter { jt: 1, ..statement(BPF_JMP | BPF_JEQ | BPF_K, value) });
        program.push(statement(BPF_RET | BPF_K, NONE));
    }
    program.push(statement(BPF_RET | BPF_K, ALL));
    program
}

const fn statement(code: u32, operand: u32) -> sock_filter {
    // Every code of classic BPF fits its 16-bit field.
    let [low, high, ..] = code.to_le_bytes();
    sock_filter { code: u16::from_le_bytes([low, high]), jt: 0, jf: 0, k: operand }
}
