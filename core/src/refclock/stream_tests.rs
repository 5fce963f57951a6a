//! Lines on which both protocols come, whole and broken.

use super::*;
use crate::refclock::ubx::ubx_checksum;
use proptest::prelude::*;
use std::vec::Vec;

const GSA: &[u8] = b"$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39\r\n";
const ACK: &[u8] = b"\xB5\x62\x05\x01\x02\x00\x06\x01\x0F\x38";

fn decode(octets: &[u8]) -> Vec<(Result<ReceiverMessage, ReceiverFault>, usize)> {
    let mut stream = ReceiverStream::new();
    let mut reported = Vec::new();
    for octet in octets {
        if let Some(told) = stream.push(*octet) {
            reported.push((told, stream.octets()));
        }
    }
    reported
}
fn gsa() -> (Result<ReceiverMessage, ReceiverFault>, usize) {
    (Ok(ReceiverMessage::Nmea(NmeaMessage::Gsa { fix: crate::refclock::Fix::ThreeD })), GSA.len() - 1)
}
fn ack() -> (Result<ReceiverMessage, ReceiverFault>, usize) {
    (Ok(ReceiverMessage::Ubx(UbxMessage::Ack { class: 6, id: 1 })), ACK.len())
}

#[test]
fn both_are_read_from_one_line() {
    assert_eq!(
        decode(&[GSA, ACK, ACK, GSA, b"\0noise\xB5", GSA].concat()),
        [gsa(), ack(), ack(), gsa(), gsa()]
    );
}

#[test]
fn a_sentence_within_a_frame_is_none() {
    let summed = [b"\x04\x04".as_slice(), &u16::try_from(GSA.len()).unwrap().to_le_bytes(), GSA].concat();
    let notice = [b"\xB5\x62".as_slice(), &summed, &ubx_checksum(&summed)].concat();
    let other = Ok(ReceiverMessage::Ubx(UbxMessage::Other { class: 4, id: 4 }));
    assert_eq!(decode(&[&notice, ACK].concat()), [(other, notice.len()), ack()]);
}

#[test]
fn a_frame_breaks_off_a_sentence() {
    let broken = Err(ReceiverFault::Nmea(NmeaFault::NotAscii(0xB5)));
    assert_eq!(decode(&[&GSA[..20], ACK, GSA].concat()), [(broken, 21), ack(), gsa()]);
}

proptest! {
    #[test]
    fn a_message_leaves_nothing_behind(pieces in proptest::collection::vec(
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..6),
            Just(GSA.to_vec()),
            Just(ACK.to_vec()),
            Just(b"$".to_vec()),
            Just(b"\xB5\x62\x01\x07\x03\x00".to_vec()),
        ],
        0..12,
    )) {
        // Whatever came before a good message, what comes after it is read as by a new decoder.
        let octets = pieces.concat();
        let whole = decode(&octets);
        let mut stream = ReceiverStream::new();
        for (at, octet) in octets.iter().enumerate() {
            if let Some(Ok(_)) = stream.push(*octet) {
                let rest = decode(&octets[at + 1..]);
                prop_assert_eq!(&whole[whole.len() - rest.len()..], rest);
            }
        }
    }
}
