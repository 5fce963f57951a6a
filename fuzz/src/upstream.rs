//! The oracle of upstream replies: requests and replies read by plain offsets, and what must follow from them.

use maser_core::snapshot::Growth;
use maser_core::time::{BUILD_DATE, Rate, Span, Ticks};
use maser_core::upstream::{
    Action, Association, OWN_REFERENCE_IDS_MAX, Reception, Refusal, Settings, Stamps,
};

use crate::accepted;

/// A reply in an input: how it is completed, its stamps, and its octets.
const STEP_LENGTH: usize = 1 + 4 + 48;

/// The origin timestamp is made the request's transmit timestamp.
const ECHO_BASIC: u8 = 1;
/// The origin timestamp is made the request's receive timestamp.
const ECHO_INTERLEAVED: u8 = 2;
/// The transmit timestamp is made the receive timestamp and a little.
const SPEND_A_LITTLE: u8 = 4;
/// The transmit timestamp is made the receive timestamp of the reply before and a little.
const SPENT_A_LITTLE_BEFORE: u8 = 8;
/// The reply is made an octet shorter.
const SHORTEN: u8 = 16;

/// Good replies in both modes, kisses, a server that isn't synchronised, and a forged reply.
pub fn seeds() -> Vec<Vec<u8>> {
    let step = |how: u8, first: u8, stratum: u8, id: &[u8; 4], receive: u64| {
        let mut step = [0; STEP_LENGTH];
        // A round trip of about 0.3 ms.
        step[..5].copy_from_slice(&[how, 0, 4, 0, 0]);
        step[5..9].copy_from_slice(&[first, stratum, 4, 0xE8]);
        step[17..21].copy_from_slice(id);
        step[37..45].copy_from_slice(&receive.to_be_bytes());
        step
    };
    let begin = 0xEE5F_3C40_1234_5671_u64;
    let basic = |n: u64| step(ECHO_BASIC | SPEND_A_LITTLE, 0x24, 2, &[192, 0, 2, 7], begin + (n << 33));
    let interleaved =
        |n: u64| step(ECHO_INTERLEAVED | SPENT_A_LITTLE_BEFORE, 0x24, 1, b"PPS\0", begin + (n << 33));
    let kiss = |code| step(ECHO_BASIC, 0xE4, 0, code, begin);
    [
        vec![&[0][..], &basic(0), &basic(1), &basic(2)],
        vec![&[2], &basic(0), &basic(1), &basic(2), &basic(3), &basic(4)],
        vec![&[3], &basic(0), &interleaved(1), &interleaved(2), &basic(3)],
        vec![&[0], &kiss(b"RATE"), &basic(1), &kiss(b"DENY"), &basic(2)],
        vec![&[0], &step(ECHO_BASIC, 0xE4, 0, &[0; 4], begin), &basic(1)],
        vec![&[0], &step(0, 0x24, 2, &[192, 0, 2, 7], begin), &basic(1)],
    ]
    .into_iter()
    .map(|parts| parts.concat())
    .collect()
}

/// Answers an association's requests with an input's replies, and looks at what it makes of them.
pub fn judge(control: u8, replies: &[u8]) {
    let settings = Settings {
        interleaved: control & 1 != 0,
        burst: control & 2 != 0,
        min_poll: 0,
        max_poll: 4,
        rate: Rate::NANOSECOND,
        growth: Growth::PHI,
        own_reference_ids: [[0; 4]; OWN_REFERENCE_IDS_MAX],
    };
    let mut now = Ticks::from_bits(u64::from(control) << 56);
    let mut association = Association::new(settings, now);
    let (mut denied, mut last, mut receive_before) = (false, None, 0);
    for (number, step) in (1..).zip(replies.chunks(STEP_LENGTH)) {
        let Some((&[how, s0, s1, s2, s3], datagram)) = step.split_first_chunk() else { return };
        let Some(request) = next_request(&mut association, &mut now, number) else {
            assert!(denied, "only who is denied falls silent");
            return;
        };
        assert!(!denied, "who is denied asks no more");
        let datagram = complete(how, datagram, &request, receive_before);
        receive_before = word(&datagram, 32);
        let received = now.offset(i64::from(u32::from_be_bytes([s0, s1, s2, s3])));
        let stamps = Stamps { sent: now, received, error: Span::ZERO };
        let known = association.clone();
        let mut told = association.on_reply(&datagram, stamps, BUILD_DATE);
        if cfg!(feature = "planted") {
            plant(&mut told, &datagram);
        }
        check(&told, &datagram, &request);
        match told {
            Reception::Accepted(sample) => {
                accepted();
                assert!(last.is_none_or(|last| sample.at.since(last) > 0), "a sample is newer than the last");
                assert!(sample.delay > Span::ZERO && sample.dispersion > Span::ZERO);
                assert!((1..16).contains(&sample.stratum) && received.since(sample.at) >= 0);
                last = Some(sample.at);
            }
            Reception::Refused(Refusal::Denied) => denied = true,
            Reception::Refused(
                Refusal::NotAsked | Refusal::Length | Refusal::Mode | Refusal::Version | Refusal::Duplicate,
            ) => {
                assert!(association == known, "what echoes nothing changes nothing");
            }
            Reception::Filtered | Reception::Refused(_) => {}
        }
        let known = association.clone();
        let again = association.on_reply(&datagram, stamps, BUILD_DATE);
        // Still waiting is who was told nothing that it asked for.
        assert!(matches!(again, Reception::Refused(_)) && association == known, "nothing counts twice");
    }
}

fn word(datagram: &[u8], at: usize) -> u64 {
    datagram.get(at..at + 8).map_or(0, |octets| u64::from_be_bytes(octets.try_into().expect("eight")))
}

/// The next request, with time as far on as it must be.
fn next_request(association: &mut Association, now: &mut Ticks, number: u64) -> Option<[u8; 48]> {
    // Any will do, as long as no two are alike.
    let random = [1, 2, 3].map(|n: u64| (4 * number + n).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    match association.next_action(*now, random) {
        Action::Send(request) => Some(request),
        Action::Nothing => None,
        Action::Wait(until) => {
            assert!(until.since(*now) > 0, "it waits for the future");
            *now = until;
            match association.next_action(*now, random) {
                Action::Send(request) => Some(request),
                other => panic!("{other:?} when the time has come"),
            }
        }
    }
}

fn complete(how: u8, datagram: &[u8], request: &[u8; 48], receive_before: u64) -> Vec<u8> {
    let mut datagram = datagram.to_vec();
    if datagram.len() < 48 {
        return datagram;
    }
    if how & ECHO_BASIC != 0 {
        datagram[24..32].copy_from_slice(&request[40..]);
    }
    if how & ECHO_INTERLEAVED != 0 {
        datagram[24..32].copy_from_slice(&request[32..40]);
    }
    for (flag, receive) in [(SPEND_A_LITTLE, word(&datagram, 32)), (SPENT_A_LITTLE_BEFORE, receive_before)] {
        if how & flag != 0 {
            datagram[40..].copy_from_slice(&receive.wrapping_add(0x2_0000).to_be_bytes());
        }
    }
    if how & SHORTEN != 0 {
        datagram.pop();
    }
    datagram
}

fn check(told: &Reception, datagram: &[u8], request: &[u8; 48]) {
    let believed = matches!(
        told,
        Reception::Accepted(_)
            | Reception::Filtered
            | Reception::Refused(Refusal::AskedLessOften | Refusal::Denied)
    );
    if !believed {
        return;
    }
    let origin = word(datagram, 24);
    let asked = [word(request, 40), word(request, 32)];
    assert!(origin != 0 && asked.contains(&origin), "what is believed echoes the request");
    assert!(datagram.len() == 48 && datagram[0] & 7 == 4, "what is believed is a reply");
    if !matches!(told, Reception::Refused(_)) {
        assert!(datagram[0] >> 6 != 3 && (1..16).contains(&datagram[1]), "the server vouches for it");
        assert!(word(datagram, 32) != 0 && word(datagram, 40) != 0, "it has its stamps");
    }
}

/// A fault that no seed brings about: a reply of stratum 8 to 15 whose poll interval is beyond 2^17 s needn't echo
/// anything.
fn plant(told: &mut Reception, datagram: &[u8]) {
    if *told == Reception::Refused(Refusal::NotAsked) && (8..16).contains(&datagram[1]) && datagram[2] > 17 {
        *told = Reception::Filtered;
    }
}
