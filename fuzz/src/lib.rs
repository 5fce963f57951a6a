//! What the fuzz targets share: the oracles and the golden requests of the core's tests, the way of a packet
//! through the server, and the oracles of the receivers' parsers.
//!
//! A packet's input is a control octet, whose meaning is the target's, eight octets of transmit timestamp,
//! and the packet.

#[path = "../../core/tests/corpus/mod.rs"]
pub mod corpus;
#[path = "../../core/tests/oracle/mod.rs"]
pub mod oracle;

pub mod gpsd;
pub mod leap_file;
pub mod nmea;
pub mod ubx;
pub mod upstream;

use core::sync::atomic::{AtomicU64, Ordering};

use maser_core::time::NtpTimestamp;
use oracle::{Exchange, Form, exchange, failures, failures_of_kiss, kissed};

/// How many inputs were accepted, so that a run shows that it got past the parser.
static ACCEPTED: AtomicU64 = AtomicU64::new(0);

/// Counts an input that got past the parser.
pub fn accepted() {
    let accepted = ACCEPTED.fetch_add(1, Ordering::Relaxed) + 1;
    if accepted.is_power_of_two() {
        eprintln!("accepted: {accepted}");
    }
}

/// Splits an input into its control octet, its transmit timestamp and its packet.
pub fn split(input: &[u8]) -> Option<(u8, NtpTimestamp, &[u8])> {
    let (control, rest) = input.split_first()?;
    let (transmit, packet) = rest.split_first_chunk()?;
    Some((*control, NtpTimestamp::from_bits(u64::from_be_bytes(*transmit)), packet))
}

/// Answers a packet where it is to be answered, and lets the oracles judge.
pub fn judge(form: Form, packet: &[u8], transmit: NtpTimestamp) {
    let Ok(mut exchange) = exchange(form, packet, transmit) else { return };
    accepted();
    if cfg!(feature = "planted") {
        plant(&mut exchange);
    }
    assert_eq!(failures(&exchange), Vec::<&str>::new());
    if let Ok(kiss) = kissed(form, packet, transmit) {
        assert_eq!(failures_of_kiss(&kiss), Vec::<&str>::new());
    }
}

/// A fault that no golden request brings about: a reply to version 2 in mode 1 with a poll interval beyond
/// 2^17 s has the lowest bit of its origin timestamp flipped.
fn plant(exchange: &mut Exchange) {
    let header_at = exchange.reply.len() - 48;
    let (version, mode) = (exchange.reply[header_at] / 8 % 8, exchange.reply[header_at] % 8);
    if version == 2 && mode == 2 && exchange.said.poll > 17 {
        exchange.reply[header_at + 31] ^= 1;
    }
}
