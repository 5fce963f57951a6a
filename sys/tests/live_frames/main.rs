//! Live frames over a veth pair: what the kernel's programs send, count and refuse.
//!
//! Each test has a network namespace of its own, in its own thread, which is gone with the thread. `judging` is about
//! replies; `rig` makes the namespaces and frames. It takes root, and says so when it is skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests bound their loops by the real clock")]

mod attack;
mod judging;
mod rig;

use std::collections::{HashMap, HashSet};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use maser_core::wire::parse_frame;
use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::live_frames::{
    AttachMode, Cookie, Interval, LiveError, LiveSender, LiveSetting, Pass, Reflector, ReplyCounter,
    SendCounts, Sink,
};

use rig::{Family, KEY, PORT, PacketSocket, Rig, rig};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

/// Sends `count` requests of `sender` at `rate`, the first a little after now; when that was due.
fn send(sender: &mut LiveSender, rate: u32, count: u64) -> i64 {
    let start = kernel_clock::read(KernelClock::Monotonic) + 2_000_000;
    sender.schedule(start, Interval::of_rate(rate).unwrap(), count).unwrap();
    let end = Instant::now() + LIMIT;
    while !sender.run().unwrap() {
        assert!(Instant::now() < end, "the schedule is done in time: {:?}", sender.counts());
    }
    start
}

fn sender(rig: &Rig, frame: &[u8], clients: u32, variants: &[[u8; 40]]) -> LiveSender {
    let setting = LiveSetting { interface: rig.near, frame, clients, variants, key: KEY };
    LiveSender::new(&setting).unwrap_or_else(|error| panic!("{error}"))
}

/// The variants of a test: versions 4, 3 and 1, and something in each of the other octets.
fn variants() -> [[u8; 40]; 3] {
    [0x23_u8, 0x1B, 0x0B].map(|first| {
        let mut variant = [first.wrapping_mul(7); 40];
        variant[0] = first;
        variant
    })
}

fn requests_are_whole(family: Family) {
    const CLIENTS: u32 = 100;
    const COUNT: u32 = 3_000;
    let Some(rig) = rig() else { return };
    let _near = Pass::attach(rig.near).unwrap();
    let _far = Pass::attach(rig.far).unwrap();
    let capture = PacketSocket::on(rig.far);
    let mut sender = sender(&rig, &family.request(), CLIENTS, &variants());
    let start = send(&mut sender, 100_000, u64::from(COUNT));
    let frames: Vec<Vec<u8>> = capture.frames().filter(|frame| family.is_request(frame)).collect();
    let counts = sender.counts().unwrap();
    assert_eq!((counts.sent, counts.refused, frames.len()), (COUNT.into(), 0, 3_000));
    let (mut clients, mut ports) = (HashMap::new(), HashSet::new());
    for (number, frame) in (0..COUNT).zip(&frames) {
        parse_frame(frame, PORT).unwrap_or_else(|reason| panic!("{number}: {}: {frame:02x?}", reason.name()));
        let (ntp, transmit) = frame[family.ntp_at()..].split_first_chunk::<40>().unwrap();
        assert_eq!(ntp, &variants()[number as usize % 3]);
        let cookie = u64::from_be_bytes(transmit.try_into().unwrap());
        // At 100,000 a second the interval has no fraction: in order, none left out.
        assert_eq!(cookie, Cookie::new(start + 10_000 * i64::from(number), KEY).0, "{number}");
        assert_eq!(family.client_number(frame), number % CLIENTS);
        *clients.entry(family.client_number(frame)).or_insert(0) += 1;
        ports.insert(family.source_port(frame));
    }
    assert!(
        clients.len() == CLIENTS as usize && clients.values().all(|sent| *sent == COUNT / CLIENTS),
        "{clients:?}"
    );
    assert!(ports.len() > 2_700 && ports.iter().all(|port| *port >= 1024), "{} ports", ports.len());
    // The oracle finds an octet changed wherever it counts.
    for at in [12, 14, family.ntp_at() - 1, family.ntp_at(), family.ntp_at() + 47] {
        let mut frame = frames[0].clone();
        frame[at] ^= 0x40;
        assert!(parse_frame(&frame, PORT).is_err(), "octet {at} changed");
    }
}

#[test]
fn requests_over_ipv4_are_whole() {
    requests_are_whole(Family::V4);
}

#[test]
fn requests_over_ipv6_are_whole() {
    requests_are_whole(Family::V6);
}

#[test]
fn what_was_sent_arrives() {
    for family in [Family::V4, Family::V6] {
        let Some(rig) = rig() else { return };
        let _near = Pass::attach(rig.near).unwrap();
        let sink = Sink::attach(rig.far, PORT).unwrap();
        let mut sender = sender(&rig, &family.request(), 10_000, &[]);
        send(&mut sender, 1_000_000, 100_000);
        let (counts, arrived) = (sender.counts().unwrap(), rig.settled(|| sink.counts().unwrap()));
        assert_eq!(counts.sent + counts.refused, 100_000);
        assert!(counts.sent > 50_000, "{counts:?}");
        assert_eq!(
            (arrived.frames, arrived.octets),
            (counts.sent, counts.sent * family.request().len() as u64)
        );
        // A new schedule counts anew, and a sink for another port counts nothing.
        drop(sink);
        let other = Sink::attach(rig.far, PORT + 1).unwrap();
        send(&mut sender, 1_000_000, 7);
        assert_eq!((sender.counts().unwrap().sent, rig.settled(|| other.counts().unwrap()).frames), (7, 0));
    }
}

/// How many requests were made more than 8 ms after their time.
fn late(counts: &SendCounts) -> u64 {
    counts.lag[23..].iter().sum()
}

#[test]
fn the_schedule_is_kept_and_never_slips() {
    const RATE: u32 = 50_000;
    const COUNT: u64 = RATE as u64;
    let Some(rig) = rig() else { return };
    let _near = Pass::attach(rig.near).unwrap();
    let sink = Sink::attach(rig.far, PORT).unwrap();
    let mut sender = sender(&rig, &Family::V4.request(), 1, &[]);
    // 8 ms are below 1 % of a second. Other load on the machine may spoil a try, but not each.
    let mut tries = (0..5).map(|_| {
        send(&mut sender, RATE, COUNT);
        late(&sender.counts().unwrap())
    });
    assert!(tries.any(|late| late < COUNT / 100), "more than 1 % of requests were late, five times");
    // Whoever comes a tenth of a second late makes up for it, and the lag says so.
    let start = kernel_clock::read(KernelClock::Monotonic) - 100_000_000;
    sender.schedule(start, Interval::of_rate(RATE).unwrap(), COUNT).unwrap();
    while !sender.run().unwrap() {}
    let counts = sender.counts().unwrap();
    assert_eq!(counts.sent + counts.refused, COUNT);
    assert!(counts.lag_ns_max >= 100_000_000 && late(&counts) > COUNT / 100, "{counts:?}");
    assert!(sink.counts().unwrap().frames > 0);
}

#[test]
fn a_round_trip_is_timed_from_when_it_was_due() {
    for family in [Family::V4, Family::V6] {
        let Some(rig) = rig() else { return };
        let counter = ReplyCounter::attach(&rig::counting(&rig, family, true)).unwrap();
        let reflector = Reflector::attach(rig.far, PORT).unwrap();
        let capture = PacketSocket::on(rig.near);
        // Pages come back with their addresses turned round; each frame is written anew all the same.
        let mut sender = sender(&rig, &family.request(), 500, &[]);
        send(&mut sender, 20_000, 2_000);
        let counts = rig.settled(|| counter.counts().unwrap());
        let sent = sender.counts().unwrap().sent;
        assert_eq!((sent, reflector.counts().unwrap().frames), (2_000, 2_000));
        // Each core counts to the next sample by itself.
        let sampled = 2_000 / u64::from(rig::SAMPLE);
        assert_eq!(counts.valid, 2_000, "{counts:?}");
        assert!((sampled - 8..=sampled).contains(&counts.sampled), "{counts:?}");
        let seen = capture.frames().filter(|frame| family.is_reply(frame)).count();
        assert_eq!(seen as u64, counts.sampled, "samples went on to the stack");
        let late = |ns| {
            let mut sum = (0, 0);
            counter
                .latency(|middle, count| sum = (sum.0 + count, sum.1 + if middle >= ns { count } else { 0 }))
                .unwrap();
            sum
        };
        assert_eq!(late(0), (2_000, 2_000));
        assert!(late(1_000_000_000).1 == 0, "a reply took a second");
        // Requests that were due 200 ms ago have waited that long, however fast their replies are.
        counter.reset().unwrap();
        let start = kernel_clock::read(KernelClock::Monotonic) - 200_000_000;
        sender.schedule(start, Interval::of_rate(1_000_000).unwrap(), 100).unwrap();
        while !sender.run().unwrap() {}
        assert_eq!(rig.settled(|| counter.counts().unwrap()).valid, 100);
        assert_eq!(late(190_000_000), (100, 100));
    }
}

#[test]
fn an_interface_that_takes_nothing_is_reported() {
    let Some(rig) = rig() else { return };
    // Nothing on the far end: a veth takes no frames.
    let mut sender = sender(&rig, &Family::V4.request(), 1, &[]);
    let start = kernel_clock::read(KernelClock::Monotonic);
    sender.schedule(start, Interval::of_rate(1_000_000).unwrap(), 100).unwrap();
    let error = sender.run().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("peer needs an XDP program"), "{error}");
    assert_eq!((sender.counts().unwrap().sent, sender.counts().unwrap().refused), (0, 100));
}

#[test]
fn a_program_of_somebody_else_stays() {
    let Some(rig) = rig() else { return };
    let theirs = Sink::attach(rig.near, PORT).unwrap();
    assert_eq!(theirs.mode(), AttachMode::Native);
    assert_eq!(Pass::attach(rig.near).unwrap_err(), LiveError::AnotherProgram);
    assert_eq!(
        ReplyCounter::attach(&rig::counting(&rig, Family::V4, true)).unwrap_err(),
        LiveError::AnotherProgram
    );
    drop(theirs);
    Pass::attach(rig.near).unwrap();
}

#[test]
fn where_the_driver_has_no_place_the_kernel_behind_it_has() {
    let Some(_rig) = rig() else { return };
    let loopback = 1;
    assert_eq!(Pass::attach(loopback).unwrap().mode(), AttachMode::Generic);
    assert_eq!(Pass::attach(9_999).unwrap_err(), LiveError::NoInterface);
}

#[test]
fn without_privileges_the_error_says_which() {
    if rig().is_none() {
        return;
    }
    let refused = thread::spawn(|| {
        rig::drop_capabilities();
        let setting =
            LiveSetting { interface: 1, frame: &Family::V4.request(), clients: 1, variants: &[], key: 0 };
        LiveSender::new(&setting).unwrap_err()
    });
    let error = refused.join().unwrap();
    assert_eq!(error, LiveError::Forbidden);
    assert!(error.to_string().contains("CAP_BPF"), "{error}");
}
