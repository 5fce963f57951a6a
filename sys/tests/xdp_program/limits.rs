//! What the program drops by the limiter's table and the floors: the hash, the entries and the lottery, against the same
//! in Rust, written here by the layout's description alone.

use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use maser_core::wire::Peer;
use maser_core::wire::{DropReason, parse_datagram};
use maser_sys::driver_limits::{DriverLimits, DriverRate, DriverSettings};
use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::limit_table::{SET_WORDS, SharedTable};
use maser_sys::xdp_program::{QUEUES_MAX, Reason};

use crate::oracle::SERVICE_PORT;
use crate::oracle::frame::{Wrapping, wrap};
use crate::rig::{IP4, IP6, Outcome, Rig, TABLE_OCTETS, ip4, ip4_wrapping, ip6, ip6_wrapping, message, tag};

/// The key of SipHash's published vectors.
const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908];
/// All of the table, so that a wrong reduction is found.
const SETS: u32 = 1024;
/// 8 a second, 32 at once.
const INTERVAL: u64 = 125_000_000 / 4096;
const BURST: u64 = 32 * INTERVAL;
/// 8 ms.
const MARGIN: u64 = 1953;
const TIME: u64 = (1 << 40) - 1;

pub(crate) const SETTINGS: DriverSettings = DriverSettings {
    key: KEY,
    address_sets: SETS,
    rate: Some(DriverRate { interval: INTERVAL, burst: BURST }),
    lists: true,
};

/// A numbers' source that repeats itself.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// SipHash with so many rounds a block and so many at the end (Aumasson, Bernstein 2012, §2).
fn sip_hash(rounds: [usize; 2], [k0, k1]: [u64; 2], blocks: &[u64]) -> u64 {
    let start = [0x736F_6D65_7073_6575, 0x646F_7261_6E64_6F6D, 0x6C79_6765_6E65_7261, 0x7465_6462_7974_6573];
    let mut v: [u64; 4] = std::array::from_fn(|at| start[at] ^ [k0, k1][at % 2]);
    let round = |v: &mut [u64; 4]| {
        for [a, b, rotation] in [[0, 1, 13], [2, 3, 16]] {
            v[a] = v[a].wrapping_add(v[b]);
            v[b] = v[b].rotate_left(rotation.try_into().unwrap()) ^ v[a];
        }
        v[0] = v[0].rotate_left(32);
        for [a, b, rotation] in [[2, 1, 17], [0, 3, 21]] {
            v[a] = v[a].wrapping_add(v[b]);
            v[b] = v[b].rotate_left(rotation.try_into().unwrap()) ^ v[a];
        }
        v[2] = v[2].rotate_left(32);
    };
    for block in blocks {
        v[3] ^= block;
        (0..rounds[0]).for_each(|_| round(&mut v));
        v[0] ^= block;
    }
    v[2] ^= 0xFF;
    (0..rounds[1]).for_each(|_| round(&mut v));
    v.into_iter().fold(0, |hash, word| hash ^ word)
}

fn hash_of(source: IpAddr) -> u64 {
    let (word, kind) = match source {
        IpAddr::V4(address) => (address.to_bits().into(), 0),
        IpAddr::V6(address) => (u64::try_from(address.to_bits() >> 64).unwrap(), 1),
    };
    sip_hash([1, 3], KEY, &[word, 8 << 56 | kind])
}

/// What an entry says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    level: u64,
    kissed: u64,
    /// Theoretical arrival time.
    due: u64,
}

impl Entry {
    fn word(self, tag: u64) -> u64 {
        tag << 48 | self.level << 45 | self.kissed << 40 | self.due & TIME
    }

    /// Whether it is over its limit at `now`, told the long way.
    fn is_over(self, now: u64) -> bool {
        let ahead = self.due.wrapping_sub(now) & TIME;
        // Half of all times are behind.
        ahead < 1 << 39 && ahead + INTERVAL > BURST + MARGIN && ahead <= BURST + MARGIN
    }
}

fn now_units() -> u64 {
    kernel_clock::read(KernelClock::Monotonic).unsigned_abs() / 4096
}

/// A regular's whose bucket will be full again so much later.
pub(crate) fn entry_due_in(later: Duration) -> Entry {
    Entry { level: 3, kissed: 0, due: now_units() + u64::try_from(later.as_nanos()).unwrap() / 4096 }
}

/// The program with the table, and what writes to both.
pub(crate) struct Limited {
    pub(crate) rig: Rig,
    pub(crate) table: SharedTable,
    pub(crate) limits: DriverLimits,
}

impl Limited {
    pub(crate) fn new() -> Option<Self> {
        let rig = Rig::new()?;
        let table = SharedTable::from_fd(rig.shared.table_map().unwrap()).unwrap();
        let limits = DriverLimits::from_fd(rig.program.limits_map().unwrap()).unwrap();
        Some(Self { rig, table, limits })
    }

    /// Puts an entry for an address into this way of its set.
    pub(crate) fn put(&self, source: IpAddr, way: usize, entry: Entry) {
        let hash = hash_of(source);
        let set = usize::try_from(((hash & 0xFFFF_FFFF) * u64::from(SETS)) >> 32).unwrap();
        let tag = (hash >> 48).max(1);
        self.table[set * SET_WORDS + way].store(entry.word(tag), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.table.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// How often each of the reasons that are expected, in so many runs; what is steered has one of these weights.
    fn share(&self, frame: &[u8], runs: u32, dropped: Reason, weight: u16) -> u32 {
        let mut steered = 0;
        for _ in 0..runs {
            match self.rig.run(frame) {
                Outcome::Steered(metadata) => {
                    assert_eq!(metadata.weight, weight);
                    steered += 1;
                }
                Outcome::Dropped(reason) => assert_eq!(reason, dropped),
                Outcome::Passed(reason) => panic!("{reason:?}"),
            }
        }
        steered
    }
}

/// A request from an address, under tags or not.
pub(crate) fn request(source: IpAddr, tags: &[[u8; 4]]) -> Vec<u8> {
    let tags = tags.to_vec();
    let wrapping = match source {
        IpAddr::V4(source) => Wrapping { source: source.octets().to_vec(), tags, ..ip4_wrapping() },
        IpAddr::V6(source) => Wrapping { source: source.octets().to_vec(), tags, ..ip6_wrapping() },
    };
    wrap(&message(), &wrapping)
}

/// Half of them over IPv6, any tags that are ours.
fn client(random: &mut Random) -> (IpAddr, Vec<u8>) {
    let tags = [vec![], vec![tag(0x8100, 100)], vec![tag(0x88A8, 200), tag(0x8100, 300)]];
    let bits = u128::from(random.next()) << 64 | u128::from(random.next());
    let source = if bits.is_multiple_of(2) {
        IpAddr::V4(Ipv4Addr::from_bits((bits >> 64 & 0xFFFF_FFFF).try_into().unwrap()))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    };
    let tags = &tags[usize::try_from(random.below(3)).unwrap()];
    (source, request(source, tags))
}

/// `steered` of `runs` is one in `per`, within five standard deviations.
pub(crate) fn assert_one_in(per: u32, steered: u32, runs: u32) {
    let (steered, runs, share) = (f64::from(steered), f64::from(runs), 1.0 / f64::from(per));
    let deviation = (runs * share * (1.0 - share)).sqrt();
    assert!((steered - runs * share).abs() < 5.0 * deviation, "{steered} of {runs} isn't one in {per}");
}

#[test]
fn the_hash_here_is_siphash() {
    let mut random = Random(1);
    for _ in 0..1_000 {
        let word = random.next();
        // The standard library's is SipHash-1-3 with a key of zeros, and its old one SipHash-2-4 with any.
        let mut std_1_3 = DefaultHasher::new();
        std_1_3.write(&word.to_le_bytes());
        assert_eq!(sip_hash([1, 3], [0; 2], &[word, 8 << 56]), std_1_3.finish());
        #[expect(deprecated, reason = "it is the one with a key")]
        let mut std_2_4 = std::hash::SipHasher::new_with_keys(KEY[0], KEY[1]);
        std_2_4.write(&word.to_le_bytes());
        assert_eq!(sip_hash([2, 4], KEY, &[word, 8 << 56]), std_2_4.finish());
    }
}

/// Times about which a wrong comparison would show: both limits, now, half of all times from now.
fn due(random: &mut Random, now: u64) -> u64 {
    let about = [BURST + MARGIN - INTERVAL, BURST + MARGIN, BURST, 0, 1 << 39, random.next()];
    let width = random.below(16);
    let off = random.below(1 << width);
    let about = now.wrapping_add(about[usize::try_from(random.below(6)).unwrap()]);
    if random.below(2) == 0 { about.wrapping_add(off) } else { about.wrapping_sub(off) }
}

#[test]
fn entries_are_judged_as_the_table_describes_them() {
    let Some(limited) = Limited::new() else { return };
    limited.limits.set(Some(&SETTINGS));
    let mut random = Random(2);
    let (mut within, mut dropped, mut drawn) = (0, 0, 0);
    for case in 0..10_000 {
        limited.clear();
        let (source, frame) = client(&mut random);
        // Other addresses' entries are about, in its set and elsewhere; of the strangers' bucket nothing is read.
        limited.table.iter().for_each(|word| word.store(random.next(), Ordering::Relaxed));
        let now = now_units();
        let [entry, stranger] = [0; 2].map(|_| Entry {
            level: random.below(8),
            kissed: random.below(32),
            due: due(&mut random, now),
        });
        limited.put(source, 0, stranger);
        limited.put(source, usize::try_from(1 + random.below(7)).unwrap(), entry);
        let before = entry.is_over(now_units());
        let outcome = limited.rig.run(&frame);
        // A few entries come to the limit just then.
        if before != entry.is_over(now_units()) {
            continue;
        }
        match (outcome, before) {
            (Outcome::Steered(metadata), false) if metadata.weight == 1 => within += 1,
            (Outcome::Steered(metadata), true) if metadata.weight == 16 => drawn += 1,
            (Outcome::Dropped(Reason::DroppedLimited), true) => dropped += 1,
            (outcome, over) => panic!("{case}: {source} {entry:?}, over: {over}: {outcome:?}"),
        }
    }
    assert!(within > 5_000 && dropped > 1_000, "{within} {dropped} {drawn}");
    assert_one_in(16, drawn, drawn + dropped);
}

#[test]
fn an_unlimited_rate_limits_nobody() {
    let Some(limited) = Limited::new() else { return };
    limited.limits.set(Some(&DriverSettings { rate: None, ..SETTINGS }));
    let mut random = Random(3);
    for _ in 0..1_000 {
        let (source, frame) = client(&mut random);
        limited.put(source, 3, Entry { level: 0, kissed: 0, due: due(&mut random, now_units()) });
        assert_eq!(limited.share(&frame, 1, Reason::DroppedLimited, 1), 1);
    }
}

#[test]
fn the_floor_drops_whole_levels_and_a_part_of_one() {
    let Some(limited) = Limited::new() else { return };
    limited.limits.set(Some(&SETTINGS));
    let floor = limited.limits.floor_of(0);
    // That of another queue is another's.
    limited.limits.floor_of(1).set(u32::MAX);
    limited.limits.floor_of(QUEUES_MAX - 1).set(u32::MAX);
    let mut random = Random(4);
    let (stranger, known) = (request(IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)), &[]), client(&mut random));
    let steered = |frame: &[u8], runs| limited.share(frame, runs, Reason::DroppedOverload, 1);
    for level in 0..8 {
        limited.clear();
        limited.put(known.0, 5, Entry { level, kissed: 9, due: now_units() });
        for whole in 0..9_u32 {
            floor.set(whole << 16);
            let expected = if level < whole.into() { 0 } else { 20 };
            assert_eq!(steered(&known.1, 20), expected, "level {level}, floor {whole}");
            assert_eq!(steered(&stranger, 20), if whole > 0 { 0 } else { 20 });
        }
        // A quarter of the level is dropped, and all of it but a quarter.
        let base = u32::try_from(level).unwrap() << 16;
        floor.set(base + 0xC000);
        assert_one_in(4, steered(&known.1, 2_000), 2_000);
        floor.set(base + 0x4000);
        assert_one_in(4, 2_000 - steered(&known.1, 2_000), 2_000);
    }
    limited.limits.clear_floors();
    assert_eq!((steered(&stranger, 20), floor.get()), (20, 0));
    // Who is over the limit is judged by that first, and what is drawn of it comes under the floor, too.
    limited.put(known.0, 5, Entry { level: 1, kissed: 9, due: now_units() + BURST });
    floor.set(2 << 16);
    let outcomes: Vec<_> = (0..400).map(|_| limited.rig.reason(&known.1)).collect();
    let of = |reason| u32::try_from(outcomes.iter().filter(|outcome| **outcome == reason).count()).unwrap();
    assert_eq!(of(Reason::DroppedLimited) + of(Reason::DroppedOverload), 400);
    assert_one_in(16, of(Reason::DroppedOverload), 400);
}

#[test]
fn while_few_are_refused_nobody_is_looked_up_unless_there_is_a_floor() {
    let Some(limited) = Limited::new() else { return };
    limited.limits.set(Some(&SETTINGS));
    let floor = limited.limits.floor_of(0);
    let (source, frame) = client(&mut Random(5));
    limited.put(source, 5, Entry { level: 1, kissed: 9, due: now_units() + BURST });
    // Now and then one is drawn to be seen.
    let are_dropped =
        || (0..20).filter(|_| limited.rig.reason(&frame) == Reason::DroppedLimited).count() > 10;
    assert!(are_dropped(), "so it is at first");
    limited.limits.floor_of(1).set_few_refused(true);
    assert!(are_dropped(), "another queue is another's");
    floor.set_few_refused(true);
    assert_eq!(limited.share(&frame, 100, Reason::Truncated, 1), 100);
    assert_eq!(limited.rig.reason(&wrap(&[0x16; 48], &ip4_wrapping())), Reason::DroppedMode);
    floor.set(1);
    assert!(are_dropped(), "in overload all are looked up");
    floor.set(0);
    assert_eq!(limited.share(&frame, 100, Reason::Truncated, 1), 100);
    floor.set_few_refused(false);
    assert!(are_dropped());
    floor.set_few_refused(true);
    limited.limits.clear_floors();
    assert!(are_dropped(), "the next server begins anew");
}

#[test]
fn what_core_would_never_answer_is_dropped_and_nothing_else() {
    let Some(limited) = Limited::new() else { return };
    limited.limits.set(Some(&SETTINGS));
    let peer = |port| Peer {
        source: (Ipv4Addr::new(198, 51, 100, 7), port).into(),
        destination: (IP4, SERVICE_PORT).into(),
        unicast: true,
    };
    // By chance, one in 65,536.
    let (mut dropped, mut partial) = (0, 0);
    for (octet, length) in (0..=255).flat_map(|octet| [0, 1, 47, 48, 68, 500].map(|length| (octet, length))) {
        let mut message = vec![7; length];
        message.iter_mut().take(1).for_each(|first| *first = octet);
        let expected = match (length, octet >> 3 & 7, octet & 7) {
            (0..48, _, _) => Reason::DroppedShort,
            (_, 0 | 5.., _) => Reason::DroppedVersion,
            (_, 1, 0) | (_, 1..=4, 1 | 3) => Reason::Steered,
            (_, _, _) => Reason::DroppedMode,
        };
        for port in [123, 40_000] {
            let parsed = parse_datagram(&message, &peer(port));
            let in_ip4 = Wrapping { source_port: port, ..ip4_wrapping() };
            let in_tags = Wrapping { tags: vec![tag(0x8100, 100)], ..in_ip4.clone() };
            let in_ip6 = Wrapping { source_port: port, padding: 3, ..ip6_wrapping() };
            for wrapping in [in_ip4, in_tags, in_ip6] {
                let reason = limited.rig.reason(&wrap(&message, &wrapping));
                if reason == Reason::PartialChecksum {
                    partial += 1;
                } else {
                    assert_eq!(reason, expected, "{octet:#x} {length}");
                }
            }
            if expected != Reason::Steered {
                dropped += 1;
                assert!(parsed.is_err(), "core answers {octet:#x} of {length} octets");
            } else if let Err(reason) = parsed {
                // The program leaves this to core.
                assert!(
                    matches!(
                        reason,
                        DropReason::ModeReserved
                            | DropReason::BadMac
                            | DropReason::UnknownKey
                            | DropReason::BadExtensionField
                            | DropReason::Unaligned
                    ),
                    "{reason:?}"
                );
            }
        }
    }
    assert!(dropped > 2_000 && partial < 4, "{dropped} {partial}");
}

#[test]
fn nothing_is_dropped_before_it_is_switched_on_nor_after_it_is_off() {
    let Some(limited) = Limited::new() else { return };
    let floor = limited.limits.floor_of(0);
    let [v4, v6] = [IpAddr::V4(Ipv4Addr::new(9, 8, 7, 6)), IpAddr::V6(Ipv6Addr::from_bits(77))];
    let frames = [request(v4, &[]), request(v6, &[]), ip4(), ip6()];
    let hopeless = [vec![], vec![0; 48], vec![0x16; 8]].map(|message| wrap(&message, &ip4_wrapping()));
    let all_steered =
        || frames.iter().chain(&hopeless).all(|frame| limited.rig.reason(frame) == Reason::Steered);
    floor.set(u32::MAX);
    for source in [v4, v6] {
        limited.put(source, 1, Entry { level: 7, kissed: 0, due: now_units() + BURST });
    }
    for _ in 0..100 {
        assert!(all_steered());
    }
    limited.limits.set(Some(&SETTINGS));
    let none_steered =
        || frames.iter().chain(&hopeless).all(|frame| limited.rig.reason(frame) != Reason::Steered);
    assert!(none_steered());
    limited.limits.set(None);
    for _ in 0..100 {
        assert!(all_steered());
    }
    // The next server finds what this one has left.
    let again = DriverLimits::from_fd(limited.rig.program.limits_map().unwrap()).unwrap();
    assert_eq!(again.floor_of(0).get(), u32::MAX);
    // A frame that isn't for us, or that the kernel has to finish, is none of this.
    limited.limits.set(Some(&SETTINGS));
    let another = wrap(&message(), &Wrapping { destination: IP6.octets().to_vec(), ..ip6_wrapping() });
    let mut another_port = another.clone();
    another_port[14 + 40 + 3] = 124;
    assert_eq!(limited.rig.run(&another_port), Outcome::Passed(Reason::NotServed));
    // Without a socket it goes to the kernel only if it isn't dropped.
    limited.rig.sockets.remove(0).unwrap();
    assert_eq!(limited.rig.run(&another), Outcome::Dropped(Reason::DroppedOverload));
    floor.set(0);
    assert_eq!(limited.rig.run(&another), Outcome::Passed(Reason::NoSocket));
}

#[test]
fn maps_of_another_layout_are_refused() {
    let Some(limited) = Limited::new() else { return };
    let rig = &limited.rig;
    let errors = [
        SharedTable::from_fd(rig.program.counts_map().unwrap()).unwrap_err(),
        SharedTable::from_fd(rig.program.sockets_map().unwrap()).unwrap_err(),
        DriverLimits::from_fd(rig.shared.table_map().unwrap()).unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == std::io::ErrorKind::InvalidData), "{errors:?}");
    assert_eq!(limited.table.len() * 8, usize::try_from(TABLE_OCTETS).unwrap());
}
