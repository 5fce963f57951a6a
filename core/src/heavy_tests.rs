#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a test's own arithmetic"
)]

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::string::ToString;
use std::vec::Vec;

const KEY: u64 = 0x0123_4567_89AB_CDEF;

fn table(sets: usize) -> Heaviest<Vec<Set>> {
    Heaviest::new(std::vec![Set::EMPTY; sets], KEY)
}

/// Numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }
    /// From 0 to below 1.
    fn fraction(&mut self) -> f64 {
        f64::from((self.next() >> 32) as u32) / 4_294_967_296.0
    }
}

/// Clients whose shares fall with their rank to the power of `exponent`, one of a million drawn at a time.
struct Zipf(Vec<f64>);

impl Zipf {
    const CLIENTS: u32 = 1_000_000;

    fn new(exponent: f64) -> Self {
        let mut sum = 0.0;
        let add = |rank: u32| {
            sum += libm::pow(f64::from(rank), -exponent);
            sum
        };
        Self((1..=Self::CLIENTS).map(add).collect())
    }

    fn draw(&self, numbers: &mut Numbers) -> usize {
        let place = numbers.fraction() * self.0.last().unwrap();
        self.0.partition_point(|sum| *sum <= place)
    }
}

/// Half of the clients are of IPv4, and neighbours in rank aren't neighbours in the network.
fn client(rank: usize) -> Network {
    let bits = mix(rank as u64);
    if rank.is_multiple_of(2) { Network::V4((bits >> 32) as u32) } else { Network::V6(bits) }
}

/// The heaviest, the first the most.
fn heaviest(table: &Heaviest<Vec<Set>>, count: usize) -> Vec<(Network, Row)> {
    let mut rows: Vec<_> = table.rows().collect();
    rows.sort_by(|(_, one), (_, other)| other.rate().total_cmp(&one.rate()));
    rows.truncate(count);
    rows
}

/// What faded counts would be if nobody had to share a place.
fn true_rates(requests: &[(f64, usize)], now_s: f64, clients: usize) -> Vec<f64> {
    let mut rates = std::vec![0.0; clients];
    let window_s = WINDOW_S * (1.0 - libm::exp2(-now_s / HALF_LIFE_S));
    for (at_s, rank) in requests {
        rates[*rank] += libm::exp2((at_s - now_s) / HALF_LIFE_S) / window_s;
    }
    rates
}

/// The ten heaviest of a million clients are those that a table as the daemon's names, and their rates are right: those of
/// the last minutes, though others were the heaviest before.
fn finds_the_ten_heaviest(exponent: f64) {
    const A_SECOND: usize = 20_000;
    const SECONDS: u32 = 180;
    const OTHERS_UNTIL: u32 = 60;
    let (zipf, mut numbers, mut table) = (Zipf::new(exponent), Numbers(7), table(512));
    let mut requests = Vec::new();
    for second in 0..SECONDS {
        table.begin(Span::from_seconds(second.into()));
        for _ in 0..A_SECOND {
            let drawn = zipf.draw(&mut numbers);
            let rank = if second < OTHERS_UNTIL { Zipf::CLIENTS as usize - 1 - drawn } else { drawn };
            table.add(client(rank), Fate::Served, 1.0);
            requests.push((f64::from(second), rank));
        }
    }
    table.begin(Span::from_seconds(SECONDS.into()));
    let rates = true_rates(&requests, f64::from(SECONDS), Zipf::CLIENTS as usize);
    let mut ranks: Vec<usize> = (0..rates.len()).collect();
    ranks.sort_by(|one, other| rates[*other].total_cmp(&rates[*one]));
    let named = heaviest(&table, 10);
    let clients = |ranks: &[usize]| ranks.iter().map(|rank| client(*rank)).collect::<Vec<_>>();
    assert_eq!(named.iter().map(|(client, _)| *client).collect::<Vec<_>>(), clients(&ranks[..10]));
    let mut worst: f64 = 0.0;
    for ((_, row), rank) in named.iter().zip(&ranks) {
        let truth = rates[*rank];
        worst = worst.max((row.rate() / truth - 1.0).abs());
        let (bound, slack) = (row.rate_error, 1e-9 * truth);
        assert!(row.rate() <= truth + slack && truth <= row.rate() + bound + slack, "{row:?} of {truth}");
        assert!(bound < 0.05 * truth, "{bound} of {truth}");
    }
    let distinct = rates.iter().filter(|rate| **rate > 0.0).count();
    std::println!("exponent {exponent}: {distinct} clients, worst of ten off by {worst:.5}");
    assert!(worst < 0.05, "{worst}");
    let all: f64 = rates.iter().sum();
    assert!((table.all().rate() / all - 1.0).abs() < 1e-9);
}

#[test]
fn of_a_million_clients_the_ten_heaviest_are_named() {
    finds_the_ten_heaviest(1.0);
}

#[test]
fn of_a_million_clients_that_are_more_alike_the_ten_heaviest_are_named() {
    finds_the_ten_heaviest(0.8);
}

#[test]
fn made_up_addresses_displace_nobody_who_asks_more_often_than_a_cells_share_of_them() {
    let (mut numbers, mut table) = (Numbers(3), table(512));
    // Of 200,000 requests a second all but 800 come from addresses that are never seen again.
    for second in 0..30 {
        table.begin(Span::from_seconds(second));
        for number in 0..200_000_u32 {
            let client = match number % 250 {
                0 => Network::V4(number / 250 % 80),
                _ => Network::V6(numbers.next()),
            };
            table.add(client, Fate::Served, 1.0);
        }
    }
    let named = heaviest(&table, 80);
    let regulars = named.iter().filter(|(client, _)| *client < Network::V4(80)).count();
    assert_eq!(regulars, 80);
    assert!(named.iter().all(|(_, row)| (row.rate() / 10.0 - 1.0).abs() < 0.05), "{named:?}");
}

#[test]
fn who_is_lighter_than_the_lightest_displaces_nobody() {
    let (mut numbers, mut table) = (Numbers(5), table(1));
    for second in 0..60 {
        table.begin(Span::from_seconds(second));
        for number in 0..320_u32 {
            let regular = number.is_multiple_of(4);
            let client = if regular { Network::V4(number / 4 % 8) } else { Network::V6(numbers.next()) };
            table.add(client, Fate::Served, 1.0);
        }
    }
    assert_eq!(table.rows().count(), 8);
    for (client, row) in table.rows() {
        assert!(client < Network::V4(8) && row.total() + row.total_error >= 600.0, "{client:?}: {row:?}");
        assert!(row.since <= Span::from_seconds(5) && row.total() > 540.0, "{client:?}: {row:?}");
    }
}

#[test]
fn fates_are_counted_apart_and_what_is_old_fades() {
    let mut table = table(1);
    let one = Network::of(IpAddr::from([192, 0, 2, 1]));
    for (fate, weight) in Fate::ALL.into_iter().zip([8.0, 4.0, 2.0, 1.0]) {
        table.add(one, fate, weight);
    }
    table.begin(Span::from_seconds(60));
    let faded = table.rows().next().unwrap().1;
    assert_eq!(faded.totals, [8.0, 4.0, 2.0, 1.0]);
    let expected = 7.5 / (WINDOW_S / 2.0);
    assert!((faded.rate() / expected - 1.0).abs() < 1e-12, "{faded:?}");
    // Through a bringing down of the weights, and however long nobody asked.
    for (hours, then) in [(1_i64, 7.5 * libm::exp2(-60.0 + 1.0)), (100_000, 0.0)] {
        table.begin(Span::from_seconds(hours * 3_600));
        let row = table.rows().next().unwrap().1;
        assert!((row.rate() * WINDOW_S - then).abs() <= 1e-9 * then, "{hours}: {row:?}");
        assert_eq!((row.total(), row.last), (15.0, Span::ZERO));
    }
    table.begin(Span::ZERO);
    table.add(one, Fate::Served, 1.0);
    let row = table.rows().next().unwrap().1;
    assert_eq!(row.last, Span::from_seconds(360_000_000), "time doesn't go back");
    assert!((row.rate() * WINDOW_S - 1.0).abs() < 1e-12, "{row:?}");
}

#[test]
fn what_was_looked_at_in_part_is_told_with_how_far_it_can_be_off() {
    let (mut numbers, mut table) = (Numbers(1), table(8));
    let (one, other) = (Network::V4(1), Network::V4(2));
    let (mut beyond, mut rounds) = (0, 0);
    for second in 0..3_000 {
        table.begin(Span::from_seconds(second));
        for _ in 0..100 {
            if numbers.next().is_multiple_of(10) {
                table.add(one, Fate::Limited, 10.0);
            }
        }
        table.add(other, Fate::Served, 1.0);
        if second % 100 == 99 {
            table.begin(Span::from_seconds(second + 1));
            let rows: HashMap<_, _> = table.rows().collect();
            rounds += 1;
            beyond += u32::from((rows[&one].rate() - 100.0).abs() > rows[&one].rate_error);
            assert!(rows[&one].rate_error < 10.0, "{:?}", rows[&one]);
            assert!(rows[&other].rate_error.abs() < 1e-12, "{:?}", rows[&other]);
            let total = 100.0 * f64::from(second as u32 + 1);
            assert!((rows[&one].total() - total).abs() < rows[&one].total_error, "{:?}", rows[&one]);
        }
    }
    assert!(beyond <= 1, "{beyond} of {rounds} beyond three standard deviations");
    assert!((9.0..11.0).contains(&table.looked_at_one_in()), "{}", table.looked_at_one_in());
}

#[test]
fn addresses_meet_in_their_networks() {
    let of = |address: &str| Network::of(address.parse().unwrap());
    assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2::9"));
    assert_ne!(of("2001:db8:1:2::"), of("2001:db8:1:3::"));
    assert_eq!(of("2001:db8:1:2:3::4").prefix().address().to_string(), "2001:db8:1::");
    assert_eq!(of("192.0.2.7").prefix().address().to_string(), "192.0.2.0");
}

proptest! {
    /// With many more clients than places, nobody asked more than is told with its error, lately or ever, nor less than is
    /// told; and nobody who may be heavier than the lightest is left out.
    #[test]
    fn the_bounds_hold_for_any_requests(
        requests in prop::collection::vec((0_u32..400, 0_i64..20, 1_u32..9), 1..4_000),
        key: u64,
    ) {
        let mut table = Heaviest::new(std::vec![Set::EMPTY; 2], key);
        let (mut now_s, mut truth) = (0, HashMap::<Network, Vec<(i64, f64)>>::new());
        for (number, pause, weight) in requests {
            // Numbers that are squared: the small ones come more often.
            let client = Network::V4(number * number / 400);
            now_s += i64::from(pause == 0) * 30;
            table.begin(Span::from_seconds(now_s));
            table.add(client, Fate::Served, f64::from(weight));
            truth.entry(client).or_default().push((now_s, f64::from(weight)));
        }
        let window_s = WINDOW_S * (1.0 - libm::exp2(-(now_s as f64).max(1.0) / HALF_LIFE_S));
        // What comes of weights is no part of these bounds.
        let sums = Sums { spread: [0.0; 4], ..table.recent };
        table.recent = sums;
        table.totals.spread = [0.0; 4];
        for (client, row) in table.rows() {
            let total: f64 = truth[&client].iter().map(|(_, weight)| weight).sum();
            let fades = |(at_s, weight): &(i64, f64)| weight * libm::exp2((at_s - now_s) as f64 / HALF_LIFE_S);
            let rate = truth[&client].iter().map(fades).sum::<f64>() / window_s;
            let slack = 1e-9 * (1.0 + rate);
            prop_assert!(row.total() <= total && total <= row.total() + row.total_error + 1e-9);
            prop_assert!(row.rate() <= rate + slack && rate <= row.rate() + row.rate_error + slack);
        }
    }
}
