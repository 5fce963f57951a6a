//! Octets that are no request: what an attacker, a scanner or a broken client sends.
//!
//! Four kinds by turns of chance, each of which no server may answer, whatever the other octets are. Those
//! long enough for a header have their cookie in it, so that a wrong answer is known for what it is.

use super::{HEAD_LENGTH, LENGTH_MAX, Written};
use crate::cookie::scramble;
use crate::reply::Expectation;
use maser_core::wire::ntp::LENGTH as HEADER_LENGTH;

/// Versions that nobody speaks.
const VERSIONS_WRONG: [u8; 4] = [0, 5, 6, 7];
/// Modes that ask for nothing, or that nobody answers any more. Mode 0 isn't one: version 1's clients send
/// it.
const MODES_WRONG: [u8; 5] = [2, 4, 5, 6, 7];

/// Writes what `random` stands for.
pub(super) fn write(random: u64, transmit: u64, into: &mut [u8; LENGTH_MAX]) -> Written {
    let header = u64::try_from(HEADER_LENGTH).expect("small");
    let most = u64::try_from(LENGTH_MAX).expect("small");
    let mut state = random;
    for chunk in into.chunks_mut(8) {
        state = state.wrapping_add(GAMMA);
        chunk.copy_from_slice(&scramble(state).to_be_bytes()[..chunk.len()]);
    }
    let mut draw = |below: u64| {
        state = state.wrapping_add(GAMMA);
        usize::try_from(scramble(state) % below).expect("below a small number")
    };
    let length = match draw(4) {
        // Cut off within the header; every other one begins like a good request.
        0 => {
            if draw(2) == 0 {
                into[0] = 0x23;
            }
            draw(header)
        }
        // Of any length, in a mode that isn't answered.
        1 => {
            into[0] = into[0] & !7 | MODES_WRONG[draw(5)];
            HEADER_LENGTH + draw(most - header + 1)
        }
        // A header alone, of no version.
        2 => {
            into[0] = into[0] & 0xC0 | VERSIONS_WRONG[draw(4)] << 3 | 3;
            HEADER_LENGTH
        }
        // A good header with something behind it that isn't made of words.
        _ => {
            into[0] = 0x23;
            HEADER_LENGTH + draw((most - header) / 4) * 4 + 1 + draw(3)
        }
    };
    if length >= HEADER_LENGTH {
        into[HEAD_LENGTH..HEADER_LENGTH].copy_from_slice(&transmit.to_be_bytes());
    }
    Written {
        length,
        expectation: Expectation::of_silence(u16::try_from(length).expect("at most LENGTH_MAX")),
    }
}

/// An odd step through all 64-bit numbers: 2⁶⁴ over the golden ratio, as `SplitMix64` takes.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
