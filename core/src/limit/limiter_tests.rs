use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use std::sync::{Barrier, LazyLock};
use std::thread;
use std::vec::Vec;

pub(super) const KEY: Key = Key { k0: 0x0706_0504_0302_0100, k1: 0x0F0E_0D0C_0B0A_0908 };
pub(super) const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 86_400 * SECOND;

/// Empty memory of so many KiB.
pub(super) fn table(kib: usize) -> Vec<AtomicU64> {
    (0..kib * 128).map(|_| AtomicU64::new(0)).collect()
}

pub(super) fn limiter(table: &[AtomicU64], rules: Rules) -> Limiter<&[AtomicU64]> {
    Limiter::new(table, KEY, rules).unwrap()
}

/// The usual rules, but that prefixes are as good as unlimited.
pub(super) fn by_address() -> Rules {
    Rules { prefix: Bucket::new(1, 1 << 27), ..Rules::USUAL }
}

pub(super) fn ip4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

/// A host of the /64 of these bits.
pub(super) fn ip6(network: u64) -> IpAddr {
    Ipv6Addr::from_bits(u128::from(network) << 64 | 7).into()
}

impl Limiter<&[AtomicU64]> {
    /// One request in a batch of its own.
    pub(super) fn ask(&mut self, client: IpAddr, monotonic_ns: i64) -> Fate {
        self.begin_batch(monotonic_ns, true);
        self.decide(self.place_of(client), true)
    }

    pub(super) fn entry_of(&self, client: IpAddr) -> Option<Entry> {
        let hash = self.place_of(client).address;
        find(set(self.table, self.shape.address_set(hash)), Entry::tag_of(hash)).map(|(_, entry)| entry)
    }

    fn set_of(&self, client: IpAddr) -> u64 {
        self.shape.address_set(self.place_of(client).address)
    }
}

/// How a clock's readings follow each other: mostly as they should, and in any other way.
fn step() -> impl Strategy<Value = (bool, i64)> {
    prop_oneof![
        8 => (0..SECOND).prop_map(|on| (false, on)),
        2 => (0..SECOND).prop_map(|back| (false, -back)),
        1 => (-20 * MINUTE..20 * MINUTE).prop_map(|by| (false, by)),
        1 => (-60 * DAY..60 * DAY).prop_map(|by| (false, by)),
        1 => any::<i64>().prop_map(|to| (true, to)),
    ]
}

/// Clients of four sets, which they soon fill.
static CROWD: LazyLock<Vec<IpAddr>> = LazyLock::new(|| {
    let memory = table(64);
    let limiter = limiter(&memory, by_address());
    (0_u32..).map(ip4).filter(|client| limiter.set_of(*client) < 4).take(200).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_a_clock_does_no_more_than_the_burst_and_the_rate(
        start in prop_oneof![0..DAY, 0..i64::MAX], steps in proptest::collection::vec((step(), 0..40_u32), 1..60),
    ) {
        let memory = table(64);
        let mut limiter = limiter(&memory, by_address());
        let Rules { address, .. } = by_address();
        let (burst, interval) = (address.full_units() / address.interval_units(), u128::from(address.interval_units()));
        let (mut now, mut forward, mut served) = (start, 0_u128, 0_u128);
        for ((is_absolute, by), requests) in steps {
            let next = if is_absolute { by } else { now.saturating_add(by) };
            let units = |ns: i64| ns.max(0).unsigned_abs() >> 12;
            forward += u128::from(units(next).saturating_sub(units(now)));
            now = next;
            served += (0..requests).map(|_| u128::from(limiter.ask(ip4(1), now) == Fate::Served)).sum::<u128>();
            prop_assert!(served <= u128::from(burst) + forward / interval, "{served} served in {forward} units");
        }
    }

    /// A debt is only forgotten by time, whoever comes.
    #[test]
    fn no_entry_in_debt_is_replaced(
        visits in proptest::collection::vec((0..200_usize, 0..SECOND / 10, any::<bool>()), 1..400),
    ) {
        let memory = table(64);
        let mut limiter = limiter(&memory, by_address());
        let mut now = DAY;
        let mut seen = std::collections::HashMap::new();
        for (who, passes, calm) in visits {
            now += passes;
            let client = CROWD[who];
            limiter.begin_batch(now, calm);
            limiter.decide(limiter.place_of(client), true);
            let moment = limiter.now;
            seen.retain(|_, entry: &mut Entry| entry.debt(moment) > 0);
            for (client, entry) in &seen {
                let kept = limiter.entry_of(*client);
                prop_assert!(kept.is_some_and(|kept| kept.debt(moment) >= entry.debt(moment)), "{client}");
            }
            if let Some(entry) = limiter.entry_of(client) {
                seen.insert(client, entry);
            }
        }
    }
}

#[test]
fn an_address_gets_its_rate_and_its_burst() {
    for start in [0, 5, (1 << 52) - 30 * SECOND, i64::MAX / 2] {
        let memory = table(64);
        let mut limiter = limiter(&memory, by_address());
        let served = |limiter: &mut Limiter<_>, from: i64, ms: i64| {
            (0..ms).filter(|ms| limiter.ask(ip6(9), from + ms * 1_000_000) == Fate::Served).count()
        };
        assert_eq!(served(&mut limiter, start, 60_000), 32 + 479, "{start}");
        // It has 7 tenths of a token then, and two seconds on 16.
        assert_eq!((0..40).filter(|_| limiter.ask(ip6(9), start + 62 * SECOND) == Fate::Served).count(), 16);
        assert_eq!((0..40).filter(|_| limiter.ask(ip6(9), start + 90 * SECOND) == Fate::Served).count(), 32);
    }
}

#[test]
fn a_network_is_one_client_and_its_neighbour_another() {
    let memory = table(64);
    let mut limiter = limiter(&memory, by_address());
    let host = |network: u128, host: u128| Ipv6Addr::from_bits(network << 64 | host).into();
    assert_eq!((0..64).filter(|number| limiter.ask(host(5, *number), 0) == Fate::Served).count(), 32);
    assert_eq!(limiter.ask(host(6, 0), 0), Fate::Served);
    assert_eq!(limiter.ask(ip4(5), 0), Fate::Served, "the same number is another address");
}

#[test]
fn prefixes_are_as_long_as_they_are_said() {
    let memory = table(64);
    let of = |prefix_ip4, prefix_ip6| limiter(&memory, Rules { prefix_ip4, prefix_ip6, ..Rules::USUAL });
    let prefix = |limiter: &Limiter<_>, client| limiter.place_of(client).prefix;
    for length in 0..=32_u8 {
        let limiter = of(length, 48);
        let first = ip4(0xC000_0207);
        let of_bit = |bit: u8| ip4(0xC000_0207 ^ 1 << (31 - bit));
        for bit in 0..32 {
            let together = prefix(&limiter, of_bit(bit)) == prefix(&limiter, first);
            assert_eq!(together, bit >= length, "bit {bit} of a /{length}");
        }
    }
    for length in 0..=64_u8 {
        let limiter = of(24, length);
        for bit in 0..64 {
            let together = prefix(&limiter, ip6(7 ^ 1 << (63 - bit))) == prefix(&limiter, ip6(7));
            assert_eq!(together, bit >= length, "bit {bit} of a /{length}");
        }
    }
}

/// A /24 asks as much as it may; who was known before it did so is served on.
#[test]
fn regulars_are_not_charged_to_their_prefix() {
    let memory = table(1_024);
    let mut limiter = limiter(&memory, Rules::USUAL);
    let regular = ip4(0xC000_0201);
    for minute in 1..=2 {
        assert_eq!(limiter.ask(regular, minute * MINUTE), Fate::Served);
    }
    assert_eq!(limiter.entry_of(regular).unwrap().level(), REGULAR);
    let others = |limiter: &mut Limiter<_>, from: u32, at| {
        let hosts = (0..10_240_u32).map(|number| ip4(0xC000_0200 + from + number % 80));
        hosts.map(|host| limiter.ask(host, at)).filter(|fate| *fate == Fate::Served).count()
    };
    assert_eq!(others(&mut limiter, 0x10, 3 * MINUTE), 1_024);
    let stranger = ip4(0xC000_02FF);
    assert_eq!(limiter.ask(stranger, 3 * MINUTE), Fate::Limited(Limit::Prefix));
    assert_eq!(limiter.ask(regular, 3 * MINUTE), Fate::Served);
    assert_eq!(limiter.ask(ip4(0xC000_0301), 3 * MINUTE), Fate::Served, "another prefix");
    // A second's 256, less what rounding takes and who was let in meanwhile.
    assert_eq!(others(&mut limiter, 0x80, 3 * MINUTE + SECOND), 255);
}

/// Who asks too often pays for what its prefix refuses, and so never comes with a full bucket: it makes no regular.
#[test]
fn many_abusers_of_a_prefix_share_its_rate() {
    let memory = table(1_024);
    let mut limiter = limiter(&memory, Rules::USUAL);
    let mut served = 0;
    for twentieth in 0..600 {
        let hosts = (0..256_u32).map(|host| ip4(0xC000_0200 + host));
        served += hosts
            .map(|host| limiter.ask(host, MINUTE + twentieth * SECOND / 20))
            .filter(|fate| *fate == Fate::Served)
            .count();
    }
    let allowed = 1_024 + 30 * 256;
    assert!((allowed * 99 / 100..=allowed).contains(&served), "{served} of {allowed}");
    assert!((0..256_u32).all(|host| limiter.entry_of(ip4(0xC000_0200 + host)).unwrap().level() < REGULAR));
}

/// Who comes back is made a regular by a visit that the prefix has paid for, and by none that it refuses.
#[test]
fn a_prefix_gets_regulars_no_faster_than_it_is_served() {
    let memory = table(4_096);
    let mut limiter = limiter(&memory, Rules::USUAL);
    let network = |number: u32| ip6(0x2001_0DB8_0001_0000 | u64::from(number));
    let seconds = 20;
    for visit in 0..seconds {
        for number in 0..10_000 {
            limiter.ask(network(number), MINUTE + i64::from(visit) * SECOND);
        }
    }
    let regulars = (0..10_000)
        .filter(|number| limiter.entry_of(network(*number)).is_some_and(|entry| entry.level() >= REGULAR));
    let (regulars, paid) = (regulars.count(), 1_024 + 256 * usize::try_from(seconds).unwrap());
    assert!(regulars > 0 && regulars <= paid, "{regulars} by {paid}");
}

/// Who asks more often than every half second is there, and doesn't come back.
#[test]
fn who_never_rests_is_no_regular() {
    let memory = table(64);
    let mut limiter = limiter(&memory, Rules::USUAL);
    let (busy, slow) = (ip4(0xC000_0201), ip4(0xC000_0202));
    for seventh in 0..700 {
        assert_eq!(limiter.ask(busy, MINUTE + seventh * SECOND / 7), Fate::Served);
    }
    for visit in 0..3 {
        limiter.ask(slow, MINUTE + visit * SECOND);
    }
    assert_eq!(limiter.entry_of(busy).unwrap().level(), 1);
    assert!(limiter.entry_of(slow).unwrap().level() >= REGULAR);
}

/// What an address's own limit refuses costs its neighbours nothing.
#[test]
fn one_address_does_not_use_up_its_prefix() {
    let memory = table(64);
    let mut limiter = limiter(&memory, Rules::USUAL);
    for _ in 0..100_000 {
        limiter.ask(ip4(0xC000_0201), MINUTE);
    }
    assert_eq!(limiter.ask(ip4(0xC000_0202), MINUTE), Fate::Served);
}

#[test]
fn strangers_share_a_bucket() {
    let memory = table(64);
    let mut limiter = limiter(&memory, by_address());
    let crowd: Vec<_> =
        (0_u32..).map(ip4).filter(|client| limiter.set_of(*client) == 3).take(2_007).collect();
    let (owners, strangers) = crowd.split_at(7);
    for owner in owners {
        limiter.ask(*owner, MINUTE);
    }
    // One in 9,000 has an owner's tag, too.
    let strangers: Vec<_> =
        strangers.iter().filter(|stranger| limiter.entry_of(**stranger).is_none()).collect();
    let fates: Vec<_> = strangers.iter().map(|stranger| limiter.ask(**stranger, MINUTE)).collect();
    assert_eq!(fates.iter().filter(|fate| **fate == Fate::Served).count(), 32);
    assert_eq!(
        fates.iter().filter(|fate| **fate == Fate::Limited(Limit::Strangers)).count(),
        strangers.len() - 32
    );
    assert_eq!(limiter.strangers(), 32);
    // The debts of the seven are paid by then, and so they make room for as many.
    let fates = strangers.iter().map(|stranger| limiter.ask(**stranger, MINUTE + SECOND));
    assert_eq!(
        fates.filter(|fate| *fate == Fate::Served).count(),
        7 + 7,
        "rounding takes a part of the eighth"
    );
}

#[test]
fn nobodys_worth_grows_while_the_box_is_overloaded() {
    let memory = table(64);
    let mut limiter = limiter(&memory, by_address());
    let mut ask = |client, at, calm| {
        limiter.begin_batch(at, calm);
        limiter.decide(limiter.place_of(client), true);
        limiter.entry_of(client).map(|entry| entry.level())
    };
    assert_eq!([ask(ip4(1), 0, true), ask(ip4(2), 0, false)], [Some(1), Some(0)]);
    for minute in 1..10 {
        assert_eq!(
            [ask(ip4(1), minute * MINUTE, false), ask(ip4(2), minute * MINUTE, false)],
            [Some(1), Some(0)]
        );
    }
    let levels: Vec<_> = (10..18).map(|minute| ask(ip4(2), minute * MINUTE, true).unwrap()).collect();
    assert_eq!(levels, [1, 2, 3, 4, 5, 6, 7, 7]);
    assert_eq!(ask(ip4(2), 17 * MINUTE + 1, true), Some(7));
    assert_eq!(
        [ask(ip4(1), 20 * MINUTE, true), ask(ip4(1), 20 * MINUTE + 1, true)],
        [Some(2), Some(2)],
        "in debt"
    );
}

#[test]
fn who_is_denied_is_told_within_the_same_bounds() {
    let memory = table(64);
    let mut limiter = limiter(&memory, Rules::USUAL);
    let place = limiter.place_of(ip4(7));
    let mut told = |at, may_be_kissed| {
        limiter.begin_batch(at, true);
        (0..1_000).filter(|_| limiter.may_tell_denied(place, may_be_kissed)).count()
    };
    assert_eq!([told(MINUTE, false), told(MINUTE, true), told(MINUTE + SECOND / 2, true)], [0, 1, 0]);
    assert_eq!(told(MINUTE + 2 * SECOND, true), 1);
    let mut none = self::limiter(&memory, Rules { kiss: 0, ..Rules::USUAL });
    assert!((0..1_000).all(|_| !none.may_tell_denied(place, true)));
}

/// Workers that share an address count it once, however their changes of its entry fall together.
#[test]
fn four_threads_together_get_no_more_than_one() {
    const BURST: u32 = 100_000;
    let memory = table(64);
    let rules = Rules { address: Bucket::new(4_096, BURST).unwrap(), ..by_address() };
    let barrier = Barrier::new(4);
    let ask = || {
        let mut limiter = limiter(&memory, rules);
        limiter.begin_batch(MINUTE, true);
        let place = limiter.place_of(ip4(5));
        barrier.wait();
        let fates = (0..BURST).map(|_| limiter.decide(place, true));
        fates.filter(|fate| *fate == Fate::Served).count()
    };
    let served: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(u32::try_from(served), Ok(BURST));
}
