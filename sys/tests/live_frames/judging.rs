//! What each kind of reply is counted as.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::live_frames::{Cookie, Pass, ReplyCounter, ReplyCounts};

use crate::rig::{Family, KEY, PORT, PacketSocket, Rig, counting, rig};

/// The cookie of a request that was due so long ago.
fn cookie(age_ns: i64) -> Cookie {
    Cookie::new(kernel_clock::read(KernelClock::Monotonic) - age_ns, KEY)
}

/// A faultless reply to the request of `cookie`: version 4, stratum 1, left after it came.
fn reply(cookie: Cookie) -> [u8; 48] {
    let mut ntp = [0; 48];
    ntp[..2].copy_from_slice(&[0x24, 1]);
    ntp[12..16].copy_from_slice(b"PPS\0");
    ntp[24..32].copy_from_slice(&cookie.0.to_be_bytes());
    ntp[32..40].copy_from_slice(&0xEE00_0000_0000_0001_u64.to_be_bytes());
    ntp[40..].copy_from_slice(&0xEE00_0000_0000_0002_u64.to_be_bytes());
    ntp
}

/// A reply with some octets in the place of others.
fn with(cookie: Cookie, at: usize, octets: &[u8]) -> Vec<u8> {
    let mut ntp = reply(cookie).to_vec();
    ntp[at..at + octets.len()].copy_from_slice(octets);
    ntp
}

struct Bench {
    rig: Rig,
    family: Family,
    counter: ReplyCounter,
    _far: Pass,
    far: PacketSocket,
    near: PacketSocket,
}

impl Bench {
    fn new(family: Family, echo: bool) -> Option<Self> {
        let rig = rig()?;
        Some(Self {
            family,
            counter: ReplyCounter::attach(&counting(&rig, family, echo)).unwrap(),
            _far: Pass::attach(rig.far).unwrap(),
            far: PacketSocket::on(rig.far),
            near: PacketSocket::on(rig.near),
            rig,
        })
    }

    /// What the counter makes of these payloads from the server.
    fn counts_of(&self, payloads: &[&[u8]]) -> ReplyCounts {
        self.counter.reset().unwrap();
        for payload in payloads {
            self.far.send(&self.family.reply(self.family.server(), PORT, payload));
        }
        self.rig.settled(|| self.counter.counts().unwrap())
    }
}

fn replies_are_told_apart(family: Family) {
    let Some(bench) = Bench::new(family, false) else { return };
    let none = ReplyCounts::default();
    let mut long = reply(cookie(1_000)).to_vec();
    long.extend([0; 4]);
    let second = cookie(70_000);
    let cases: [(Vec<u8>, ReplyCounts); 16] = [
        (reply(cookie(10_000)).to_vec(), ReplyCounts { valid: 1, ..none }),
        (with(second, 0, &[0x1C]), ReplyCounts { valid: 1, ..none }),
        (reply(second).to_vec(), ReplyCounts { duplicate: 1, ..none }),
        (reply(Cookie(cookie(0).0 ^ 1)).to_vec(), ReplyCounts { origin: 1, ..none }),
        (reply(Cookie(cookie(0).0 ^ 1 << 63)).to_vec(), ReplyCounts { origin: 1, ..none }),
        (reply(cookie(18_000_000_000)).to_vec(), ReplyCounts { origin: 1, ..none }),
        (long, ReplyCounts { longer: 1, ..none }),
        (reply(cookie(0))[..44].to_vec(), ReplyCounts { shorter: 1, ..none }),
        (with(cookie(0), 0, &[0x25]), ReplyCounts { mode: 1, ..none }),
        (with(cookie(0), 0, &[0x2C]), ReplyCounts { version: 1, ..none }),
        (with(cookie(0), 1, b"\0"), ReplyCounts { kiss_other: 1, ..none }),
        (with(cookie(0), 0, &[0xE4]), ReplyCounts { unsynchronised: 1, ..none }),
        (
            with(cookie(0), 1, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ReplyCounts { unsynchronised: 1, ..none },
        ),
        (with(cookie(0), 1, &[16]), ReplyCounts { stratum: 1, ..none }),
        (with(cookie(0), 47, &[0]), ReplyCounts { order: 1, ..none }),
        (with(cookie(0), 47, &[1]), ReplyCounts { valid: 1, ..none }),
    ];
    for (number, (payload, expected)) in cases.iter().enumerate() {
        assert_eq!(bench.counts_of(&[payload]), *expected, "case {number}");
    }
    let kiss = |code: &[u8; 4]| {
        let mut ntp = with(cookie(0), 12, code);
        ntp[1] = 0;
        ntp
    };
    let kisses = bench.counts_of(&[&kiss(b"RATE"), &kiss(b"DENY"), &kiss(b"RSTR"), &kiss(b"RATE")]);
    assert_eq!(kisses, ReplyCounts { kiss_rate: 2, kiss_deny: 1, kiss_rstr: 1, ..none });
    assert_eq!(bench.near.frames().filter(|frame| family.is_reply(frame)).count(), 0, "replies are dropped");
}

#[test]
fn replies_over_ipv4_are_told_apart() {
    replies_are_told_apart(Family::V4);
}

#[test]
fn replies_over_ipv6_are_told_apart() {
    replies_are_told_apart(Family::V6);
}

#[test]
fn an_echo_has_its_cookie_where_the_request_had_it() {
    let Some(bench) = Bench::new(Family::V4, true) else { return };
    let echo = with(Cookie(0), 40, &cookie(5_000).0.to_be_bytes());
    let expected = ReplyCounts { valid: 1, duplicate: 1, origin: 1, shorter: 1, ..ReplyCounts::default() };
    let counts = bench.counts_of(&[&echo, &echo, &reply(cookie(9_000)), &echo[..47]]);
    assert_eq!(counts, expected);
    let mut latencies = Vec::new();
    bench.counter.latency(|ns, count| latencies.push((ns, count))).unwrap();
    assert!(matches!(latencies[..], [(5_000..1_000_000_000, 1)]), "{latencies:?}");
}

#[test]
fn what_is_no_reply_passes() {
    for family in [Family::V4, Family::V6] {
        let Some(bench) = Bench::new(family, false) else { return };
        let stranger = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 200, 0, 2)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xFD00, 0, 0, 1, 0, 0, 0, 2)),
        };
        let payload = reply(cookie(0));
        let mut tcp = family.reply(family.server(), PORT, &payload);
        tcp[if family == Family::V4 { 23 } else { 20 }] = 6;
        let others =
            [family.reply(stranger, PORT, &payload), family.reply(family.server(), PORT + 1, &payload), tcp];
        for frame in &others {
            bench.far.send(frame);
        }
        let seen: Vec<Vec<u8>> = bench.near.frames().filter(|frame| others.contains(frame)).collect();
        assert_eq!(seen, others);
        assert_eq!(bench.counter.counts().unwrap(), ReplyCounts::default());
    }
}
