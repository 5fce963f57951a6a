use super::tests::{KEY, SECOND, by_address, ip4, ip6, limiter, table};
use super::*;
use std::vec;
use std::vec::Vec;

const MS: i64 = 1_000_000;

/// Numbers that look like chance.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        crate::hash::mix(self.0)
    }

    fn below(&mut self, count: u64) -> u64 {
        self.roll() % count
    }
}

fn half(bits: u64) -> u32 {
    u32::try_from(bits >> 32).unwrap()
}

/// 2,000 clients that ask every 64 s, in a 1 MiB table with room for 100,000, while 5,000,000 random addresses ask at 500,000 a
/// second. Half of them lie in prefixes whose others ask too often, too.
fn regulars_in_a_flood(of: fn(u64) -> IpAddr) {
    let memory = table(1_024);
    let mut limiter = limiter(&memory, Rules::USUAL);
    let mut dice = Dice(1);
    let regulars: Vec<_> = (0..2_000).map(|_| of(dice.roll())).collect();
    let mut now = 100 * SECOND;
    for _ in 0..3 {
        for regular in &regulars {
            now += 32 * MS;
            assert_eq!(limiter.ask(*regular, now), Fate::Served);
        }
    }
    let known = |limiter: &Limiter<_>| {
        regulars
            .iter()
            .filter(|regular| limiter.entry_of(**regular).is_some_and(|entry| entry.level() >= REGULAR))
            .count()
    };
    assert_eq!(known(&limiter), 2_000);
    let mut refused = 0;
    for number in 0..5_000_000_usize {
        now += 2_000;
        limiter.ask(of(dice.roll()), now);
        // Each regular asks once or twice in those ten seconds.
        if number % 2_000 == 0 {
            let regular = regulars[number / 2_000 % 2_000];
            refused += usize::from(limiter.ask(regular, now) != Fate::Served);
        }
    }
    assert_eq!((known(&limiter), refused), (2_000, 0));
}

#[test]
fn regulars_survive_a_flood_of_ipv4_addresses() {
    regulars_in_a_flood(|bits| ip4(half(bits)));
}

#[test]
fn regulars_survive_a_flood_of_ipv6_networks() {
    regulars_in_a_flood(ip6);
}

/// 10,000 addresses, 16 to a prefix, ask 20 times a second for a minute.
#[test]
fn abusers_get_the_rate_and_few_kisses() {
    let memory = table(4_096);
    let mut limiter = limiter(&memory, Rules::USUAL);
    let abusers: Vec<_> =
        (0..10_000).map(|number| ip4(0x0B00_0000 + number / 16 * 256 + number % 16)).collect();
    let mut served = vec![0_u32; abusers.len()];
    let mut kissed = served.clone();
    let mut limited = 0_u32;
    for number in 0..60 * 20 {
        for (which, abuser) in (0..).zip(&abusers) {
            let at = 1_000 * SECOND + number * 50 * MS + which * 5_000;
            match limiter.ask(*abuser, at) {
                Fate::Served => served[usize::try_from(which).unwrap()] += 1,
                Fate::Kissed => kissed[usize::try_from(which).unwrap()] += 1,
                Fate::Limited(Limit::Address) => limited += 1,
                fate @ Fate::Limited(_) => panic!("{fate:?}"),
            }
        }
    }
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    let kisses: u32 = kissed.iter().sum();
    let kissed_most = kissed.iter().max().unwrap();
    std::println!("served {least} to {most}, {kisses} kisses of {}, {kissed_most} of one", limited + kisses);
    assert!(*least >= 60 * 8 * 9 / 10 && *most <= 60 * 8 * 11 / 10, "{least} to {most}");
    assert!(kisses * 4 <= limited + kisses && *kissed_most <= 60);
    assert!((56_000..=60_125).contains(&kisses), "as many as all may have: {kisses}");
}

/// Fewer abusers are bounded by the fraction and by their own second.
#[test]
fn kisses_are_one_in_four_and_one_a_second() {
    for (abusers, every_ms, kisses_most) in
        [(1, 1, 60), (8, 100, (60 * 10 - 60 * 8 - 32) * 8 / 4), (8, 1, 60 * 8)]
    {
        let memory = table(64);
        let mut limiter = limiter(&memory, by_address());
        let (mut kisses, mut over) = (0, 0);
        for number in 0..60_000 / every_ms {
            for abuser in 0..abusers {
                let fate = limiter.ask(ip4(abuser * 256), 50 * SECOND + number * every_ms * MS);
                kisses += i64::from(fate == Fate::Kissed);
                over += i64::from(fate != Fate::Served);
                assert!(kisses * 4 <= over, "{abusers} abusers: {kisses} of {over}");
            }
        }
        assert!(kisses <= kisses_most && kisses * 2 > kisses_most, "{abusers} every {every_ms} ms: {kisses}");
    }
}

/// Under one key an adversary found addresses that share a set; under another they lie as by chance.
#[test]
fn collisions_under_one_key_are_none_under_another() {
    let memory = table(64);
    let known = limiter(&memory, by_address());
    let unknown = Limiter::new(&memory[..], Key { k0: KEY.k0 ^ 1, ..KEY }, by_address()).unwrap();
    let set_of = |limiter: &Limiter<_>, client| limiter.shape.address_set(limiter.place_of(client).address);
    let chosen: Vec<_> =
        (0_u32..).map(ip4).filter(|client| set_of(&known, *client) == 5).take(8_960).collect();
    // Ten expected in each of the 896 sets: chi square has a mean of 895 and a standard deviation of 42.
    let chi_square_and_most = |limiter: &Limiter<_>| {
        let mut loads = vec![0_i64; 896];
        for client in &chosen {
            loads[usize::try_from(set_of(limiter, *client)).unwrap()] += 1;
        }
        let squares: i64 = loads.iter().map(|load| (load - 10) * (load - 10)).sum();
        (squares / 10, *loads.iter().max().unwrap())
    };
    let (chi_square, most) = chi_square_and_most(&unknown);
    assert!((700..1_100).contains(&chi_square) && most < 30, "{chi_square}, {most}");
    assert_eq!(chi_square_and_most(&known).1, 8_960, "and they were found");
}

/// The bits that choose a set and those of the tag are others, and prefixes fall elsewhere than addresses.
#[test]
fn places_are_spread_over_their_tiers() {
    let memory = table(64);
    let limiter = limiter(&memory, Rules::USUAL);
    let Shape { address_sets, prefix_sets } = limiter.shape;
    assert_eq!((address_sets, prefix_sets, limiter.shape.common_set()), (896, 127, 1_023));
    let (mut addresses, mut prefixes) = (vec![0_u32; 1_024], vec![0_u32; 1_024]);
    for number in 0..100_000 {
        let Place { address, prefix } = limiter.place_of(ip4(number * 256));
        addresses[usize::try_from(limiter.shape.address_set(address)).unwrap()] += 1;
        prefixes[usize::try_from(limiter.shape.prefix_set(prefix)).unwrap()] += 1;
    }
    assert!(addresses[..896].iter().all(|load| (50..200).contains(load)) && addresses[896..] == [0; 128]);
    assert!(prefixes[896..1_023].iter().all(|load| (600..1_000).contains(load)));
    assert_eq!((prefixes[..896].iter().sum::<u32>(), prefixes[1_023]), (0, 0));
    assert_eq!((Shape::of(8_191), Shape::of(8_199)), (None, Shape::of(8_192)));
}

/// 4,000 clients behind one address, each every 512 s at a moment of its own.
#[test]
fn a_carriers_nat_is_served() {
    let memory = table(64);
    let mut limiter = limiter(&memory, Rules::USUAL);
    let mut dice = Dice(2);
    let mut moments: Vec<_> = (0..4_000).map(|_| i64::try_from(dice.below(512_000)).unwrap() * MS).collect();
    moments.sort_unstable();
    let (mut asked, mut refused) = (0, 0);
    for round in 0..20 {
        for moment in &moments {
            // A poll interval is never quite the same.
            let jitter = i64::try_from(dice.below(1_000)).unwrap() * MS;
            asked += 1;
            refused += i32::from(limiter.ask(ip4(9), round * 512 * SECOND + moment + jitter) != Fate::Served);
        }
    }
    std::println!("{refused} of {asked} refused");
    assert!(refused * 50 < asked, "{refused} of {asked}");
}
