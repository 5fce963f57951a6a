//! Honest clients and a flood side by side: what leaves, of which part, and what comes back to whom.

use std::collections::HashMap;
use std::time::Instant;

use maser_core::wire::{DropReason, parse_frame};
use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::live_frames::attack::{
    AnswerCounter, AnswerSetting, AttackSender, AttackSetting, AttackVariant, ClientAnswers, PartSchedule,
    PartSetting, SourceRow,
};
use maser_sys::live_frames::{Interval, Pass, Sink};

use crate::LIMIT;
use crate::rig::{Family, KEY, PORT, PacketSocket, Rig, rig};

const HONEST: u32 = 0x0A01_0000;
const FLOOD: u32 = 0x0A02_00F0;

/// A template whose client has this word.
fn frame(family: Family, word: u32) -> Vec<u8> {
    let mut frame = family.request();
    // IPv4's source, and the second word of IPv6's.
    frame[26..30].copy_from_slice(&word.to_be_bytes());
    frame
}

fn word_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(*frame[26..].first_chunk().unwrap())
}

const fn plain(first: u8) -> AttackVariant {
    let mut head = [0; 40];
    head[0] = first;
    AttackVariant { head, tail: [0; 8], length: 48 }
}

fn sender(rig: &Rig, frames: &[Vec<u8>; 2], flood: &PartSetting<'_>, counted: u32) -> AttackSender {
    let honest = PartSetting { frame: &frames[0], clients: 10, rows: &[], variants: &[plain(0x1B)] };
    let flood = PartSetting { frame: &frames[1], ..*flood };
    let setting = AttackSetting { interface: rig.near, key: KEY, honest, flood, counted };
    AttackSender::new(&setting).unwrap_or_else(|error| panic!("{error}"))
}

fn schedule(rate: u32, count: u64) -> PartSchedule {
    let start_ns = kernel_clock::read(KernelClock::Monotonic) + 2_000_000;
    PartSchedule { start_ns, interval: Interval::of_rate(rate).unwrap(), count, cohort: 1, rounds: 1 }
}

fn send(sender: &mut AttackSender, parts: [PartSchedule; 2]) {
    sender.schedule(parts).unwrap();
    let end = Instant::now() + LIMIT;
    while !sender.run().unwrap() {
        assert!(Instant::now() < end, "the schedules are done in time: {:?}", sender.counts());
    }
}

/// Both parts in one go, a flood of all lengths by chance from two rows: each frame is whole, and each is counted.
fn frames_of_both_parts_are_whole(family: Family) {
    let Some(rig) = rig() else { return };
    let (_near, _far) = (Pass::attach(rig.near).unwrap(), Pass::attach(rig.far).unwrap());
    let capture = PacketSocket::on(rig.far);
    let lengths = [48, 0, 7, 8, 12, 39, 40, 44, 47, 49, 56, 57, 68, 200, 1399, 1400];
    let variants =
        lengths.map(|length| AttackVariant { tail: *b"\xF3\x23tail\x05\x7C", length, ..plain(0x23) });
    let rows = [SourceRow { first: 3, count: 1 }, SourceRow { first: 100, count: 50 }];
    let frames = [frame(family, HONEST), frame(family, FLOOD)];
    let flood = PartSetting { frame: &[], clients: 150, rows: &rows, variants: &variants };
    let mut sender = sender(&rig, &frames, &flood, 150);
    send(&mut sender, [schedule(50_000, 500), schedule(160_000, 1_600)]);
    let ours = |frame: &Vec<u8>| (HONEST..FLOOD + 150).contains(&word_of(frame));
    let seen: Vec<Vec<u8>> = capture.frames().filter(|frame| frame.len() > 40 && ours(frame)).collect();
    let (mut honest, mut by_client) = (Vec::new(), HashMap::<u32, u64>::new());
    let mut flood_lengths = Vec::new();
    for frame in &seen {
        let verdict = parse_frame(frame, PORT).map(drop);
        let is_broken = matches!(
            verdict,
            Err(DropReason::BadUdpChecksum | DropReason::BadIpChecksum | DropReason::Truncated)
        );
        assert!(!is_broken, "{verdict:?}: {frame:02x?}");
        if word_of(frame) < FLOOD {
            verdict.unwrap();
            honest.push(word_of(frame) - HONEST);
        } else {
            *by_client.entry(word_of(frame) - FLOOD).or_default() += 1;
            flood_lengths.push(frame.len() - family.ntp_at());
        }
    }
    assert_eq!(honest, (0..500).map(|number| number % 10).collect::<Vec<_>>());
    assert_eq!(flood_lengths, (0..1_600).map(|number| usize::from(lengths[number % 16])).collect::<Vec<_>>());
    // Half of the flood is of the one address of the first row; none is outside the rows.
    assert!((700..900).contains(&by_client[&3]), "{by_client:?}");
    assert!(by_client.keys().all(|client| *client == 3 || (100..150).contains(client)), "{by_client:?}");
    let asked = sender.asked().unwrap();
    assert!((0..150).all(|client| asked[client as usize] == by_client.get(&client).copied().unwrap_or(0)));
    let [of_honest, of_flood] = sender.counts().unwrap();
    assert_eq!((of_honest.made, of_honest.sent, of_honest.octets), (500, 500, 500 * 48));
    let octets: u64 = lengths.iter().map(|length| u64::from(*length) * 100).sum();
    assert_eq!((of_flood.made, of_flood.sent, of_flood.octets), (1_600, 1_600, octets));
}

#[test]
fn frames_of_both_parts_over_ipv4_are_whole() {
    frames_of_both_parts_are_whole(Family::V4);
}

#[test]
fn frames_of_both_parts_over_ipv6_are_whole() {
    frames_of_both_parts_are_whole(Family::V6);
}

/// Each cohort its rounds, then all in turn; the next schedule goes on where this ended.
#[test]
fn clients_begin_with_bursts() {
    let Some(rig) = rig() else { return };
    let (_near, _far) = (Pass::attach(rig.near).unwrap(), Pass::attach(rig.far).unwrap());
    let capture = PacketSocket::on(rig.far);
    let frames = [frame(Family::V4, HONEST), frame(Family::V4, FLOOD)];
    let flood = PartSetting { frame: &[], clients: 1, rows: &[], variants: &[plain(0x23)] };
    let mut sender = sender(&rig, &frames, &flood, 0);
    send(&mut sender, [PartSchedule { cohort: 4, rounds: 2, ..schedule(10_000, 24) }, schedule(1, 0)]);
    send(&mut sender, [PartSchedule { cohort: 10, ..schedule(10_000, 12) }, schedule(1, 0)]);
    let clients: Vec<u32> = capture
        .frames()
        .filter(|frame| Family::V4.is_request(frame))
        .map(|frame| word_of(&frame) - HONEST)
        .collect();
    let burst = [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 8, 9, 8, 9];
    let after = (0..16).map(|number| number % 10);
    assert_eq!(clients, burst.into_iter().chain(after).collect::<Vec<_>>());
}

/// What a full receiver refuses is told by part: what both took arrives, to the frame.
#[test]
fn what_was_taken_of_both_parts_arrives() {
    let Some(rig) = rig() else { return };
    let _near = Pass::attach(rig.near).unwrap();
    let sink = Sink::attach(rig.far, PORT).unwrap();
    let frames = [frame(Family::V4, HONEST), frame(Family::V4, FLOOD)];
    let flood = PartSetting {
        frame: &[],
        clients: 5,
        rows: &[],
        variants: &[AttackVariant { length: 56, ..plain(0x23) }],
    };
    let mut sender = sender(&rig, &frames, &flood, 0);
    send(&mut sender, [schedule(1_000_000, 100_000), schedule(3_000_000, 300_000)]);
    let [honest, flood] = sender.counts().unwrap();
    let arrived = rig.settled(|| sink.counts().unwrap());
    assert_eq!((honest.made, flood.made), (100_000, 300_000));
    assert_eq!(arrived.frames, honest.sent + flood.sent, "{honest:?} {flood:?}");
    // The lengths tell the parts apart.
    assert_eq!(arrived.octets, honest.sent * 90 + flood.sent * 98, "{honest:?} {flood:?}");
}

/// Answers of a server in the test's hands: to both parts, kisses, a reply to an address that is neither's.
#[test]
fn answers_are_counted_by_part_and_client() {
    for family in [Family::V4, Family::V6] {
        let Some(rig) = rig() else { return };
        let counter = AnswerCounter::attach(&AnswerSetting {
            interface: rig.near,
            target: (family.server(), PORT).into(),
            key: KEY,
            versions: 1 << 3 | 1 << 4,
            modes: 1 << 4,
            first: [HONEST, FLOOD],
            clients: [10, 5],
            interval: [Interval::of_rate(10_000).unwrap(); 2],
            counted: 4,
        })
        .unwrap();
        let _far = Pass::attach(rig.far).unwrap();
        let far = PacketSocket::on(rig.far);
        let frames = [frame(family, HONEST), frame(family, FLOOD)];
        let flood = PartSetting { frame: &[], clients: 5, rows: &[], variants: &[plain(0x23)] };
        let mut sender = sender(&rig, &frames, &flood, 4);
        send(&mut sender, [schedule(10_000, 20), schedule(10_000, 20)]);
        let requests: Vec<Vec<u8>> = far.frames().filter(|frame| family.is_request(frame)).collect();
        assert_eq!(requests.len(), 40);
        for (number, request) in (0..).zip(&requests) {
            let is_flood = word_of(request) >= FLOOD;
            let client = word_of(request) - if is_flood { FLOOD } else { HONEST };
            // Client 1 of the flood is kissed; client 2 gets no reply; what is left is answered, number 0 twice.
            let kiss = is_flood && client == 1;
            if is_flood && client == 2 {
                continue;
            }
            let reply = answer(family, request, kiss);
            far.send(&reply);
            if number == 0 {
                far.send(&reply);
            }
        }
        // A probe's answer has no cookie; the stranger's isn't ours.
        let mut probe = answer(family, requests.iter().find(|frame| word_of(frame) == FLOOD).unwrap(), false);
        probe[family.ntp_at() + 24..][..8].fill(0);
        far.send(&probe);
        let to = if family == Family::V4 { 30 } else { 42 };
        probe[to..to + 4].copy_from_slice(&(FLOOD + 5).to_be_bytes());
        far.send(&probe);
        let [honest, flood] = rig.settled(|| counter.answers().unwrap());
        let duplicates = honest.replies.duplicate + flood.replies.duplicate;
        assert_eq!((honest.replies.valid, flood.replies.valid, duplicates), (20, 12, 1));
        assert_eq!((honest.replies.kiss_rate, flood.replies.kiss_rate), (0, 4));
        assert_eq!((honest.replies.origin, flood.replies.origin), (0, 1));
        assert_eq!(honest.octets + flood.octets, 38 * 48);
        let mut latencies = [0; 2];
        for (part, sum) in latencies.iter_mut().enumerate() {
            counter.latency(part, |_, count| *sum += count).unwrap();
        }
        assert_eq!(latencies, [20, 12]);
        let of = |answered, kissed| ClientAnswers { answered, kissed };
        assert_eq!(counter.by_client().unwrap(), [of(4, 0), of(0, 4), of(0, 0), of(4, 0)]);
        counter.reset().unwrap();
        assert_eq!(counter.by_client().unwrap(), [of(0, 0); 4]);
    }
}

/// The reply that a server at stratum 1 would make of a request, or its kiss.
fn answer(family: Family, request: &[u8], kiss: bool) -> Vec<u8> {
    let ntp = &request[family.ntp_at()..];
    let mut payload = [0; 48];
    payload[..2].copy_from_slice(if kiss { &[0xE4, 0] } else { &[0x24, 1] });
    payload[12..16].copy_from_slice(if kiss { b"RATE" } else { b"PPS\0" });
    payload[24..32].copy_from_slice(&ntp[40..48]);
    payload[40] = 0x7F;
    let mut reply = family.reply(family.server(), PORT, &payload);
    // To the client's word.
    let to = if family == Family::V4 { 30 } else { 42 };
    reply[to..to + 4].copy_from_slice(&request[26..30]);
    reply
}
