#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a test's own arithmetic")]

use super::*;
use crate::status::{ClientStatus, TOP_MAX};
use maser_core::hash::mix;
use maser_sys::calibration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const CLIENTS: usize = 1_000_000;
/// Parts in which a place among a million is looked for.
const GUIDE: usize = 1 << 16;
/// Between two readings of the rings.
const EVERY: Span = Span::from_nanos(50_000_000);

fn clients() -> Arc<Clients> {
    Clients::with_key(calibration::choose(&[]).counter, 7)
}

fn question(by: Order, top: u16) -> ClientsQuestion {
    ClientsQuestion { top, by, truncated: false }
}

fn names(list: &[ClientStatus]) -> Vec<&str> {
    list.iter().map(|client| client.client.as_str()).collect()
}

/// Half of the clients are of IPv4, and neighbours in rank aren't neighbours in the network.
fn address(rank: usize) -> IpAddr {
    let bits = mix(rank as u64);
    if rank.is_multiple_of(2) {
        Ipv4Addr::from_bits((bits >> 32) as u32).into()
    } else {
        Ipv6Addr::from_bits(u128::from(bits) << 64 | 0x1234).into()
    }
}

fn name(rank: usize) -> String {
    address_name(Network::of(address(rank)))
}

/// Of a million clients whose shares fall with their rank to the power of `exponent`, in so many packets between two
/// readings of the ring, the ten heaviest are named, and their rates are right.
fn finds_the_ten_heaviest(exponent: f64, at_a_time: usize, times: u32) {
    let mut sum = 0.0;
    let add = |rank: usize| {
        sum += (rank as f64).powf(-exponent);
        sum
    };
    let sums: Vec<f64> = (1..=CLIENTS).map(add).collect();
    // Where to look for a place among the sums, by its first 16 bits.
    let guide: Vec<usize> = (0..=GUIDE)
        .map(|step| {
            sums.partition_point(|sum_of| *sum_of <= step as f64 / GUIDE as f64 * sum).min(CLIENTS - 1)
        })
        .collect();
    let (clients, mut truth) = (clients(), vec![0.0; 100]);
    let tap = clients.tap();
    let mut state = 11_u64;
    let mut now = Span::ZERO;
    for _ in 0..times {
        let fades = (now.as_seconds_f64() / HALF_LIFE.as_seconds_f64()).exp2();
        for _ in 0..at_a_time {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let number = mix(state) >> 11;
            let place = number as f64 / (1_u64 << 53) as f64 * sum;
            let step = (number >> 37) as usize;
            let rank = guide[step] + sums[guide[step]..guide[step + 1]].partition_point(|sum| *sum <= place);
            tap.saw(address(rank), Fate::Served, 1);
            if let Some(count) = truth.get_mut(rank) {
                *count += fades;
            }
        }
        clients.collect(now);
        now = now + EVERY;
    }
    let told = clients.status(&question(Order::Rate, 10), false, now);
    let mut ranks: Vec<usize> = (0..truth.len()).collect();
    ranks.sort_by(|one, other| truth[*other].total_cmp(&truth[*one]));
    let mut expected: Vec<String> = ranks[..10].iter().map(|rank| name(*rank)).collect();
    let half_lives = now.as_seconds_f64() / HALF_LIFE.as_seconds_f64();
    let window_s = HALF_LIFE.as_seconds_f64() / 2_f64.ln() * (half_lives.exp2() - 1.0);
    let mut worst: f64 = 0.0;
    for client in &told.addresses {
        let rank = ranks[..10].iter().find(|rank| name(**rank) == client.client);
        let rate =
            truth[*rank.unwrap_or_else(|| panic!("{} isn't one of the ten", client.client))] / window_s;
        worst = worst.max((client.rate.sum() / rate - 1.0).abs());
        assert!(
            (client.rate.sum() - rate).abs() < 1.3 * client.rate_error + 1e-6,
            "{client:?}, in truth {rate}"
        );
    }
    println!(
        "exponent {exponent}, {at_a_time} packets at a time: one in {:.1} looked at, worst of ten off by {:.2} %",
        told.looked_at_one_in,
        worst * 100.0
    );
    assert!(worst < 0.05, "{worst}");
    expected.sort();
    let mut named = names(&told.addresses);
    named.sort_unstable();
    assert_eq!(named, expected);
    let sent = at_a_time as f64 * f64::from(times);
    assert!((told.requests.sum() / sent - 1.0).abs() < 0.02, "{} of {sent}", told.requests.sum());
}

#[test]
fn of_a_million_clients_the_ten_heaviest_are_named_whose_every_packet_is_looked_at() {
    finds_the_ten_heaviest(1.0, 500, 2_000);
}

#[test]
fn of_a_million_clients_the_ten_heaviest_are_named_at_a_million_a_second() {
    finds_the_ten_heaviest(1.0, 50_000, 240);
}

#[test]
fn of_a_million_clients_that_are_more_alike_the_ten_heaviest_are_named_at_300_000_a_second() {
    finds_the_ten_heaviest(0.8, 15_000, 1_200);
}

#[test]
fn clients_that_ask_in_turn_are_all_seen() {
    let clients = clients();
    let tap = clients.tap();
    // A multiple of whatever one in so many is looked at.
    for round in 0..1_000 {
        for client in 0..64 {
            for _ in 0..10 {
                tap.saw(Ipv4Addr::from_bits(client).into(), Fate::Limited, 1);
            }
        }
        if round % 20 == 19 {
            clients.collect(Span::from_seconds(round / 20));
        }
    }
    let told = clients.status(&question(Order::Address, 100), true, Span::from_seconds(50));
    assert_eq!(told.addresses.len(), 64);
    for client in &told.addresses {
        let off = client.requests.sum() / 10_000.0 - 1.0;
        assert!(off.abs() < 0.2, "{client:?}");
        assert!((client.requests.sum() - 10_000.0).abs() < 1.5 * client.requests_error, "{client:?}");
    }
    assert!((told.requests.limited / 640_000.0 - 1.0).abs() < 0.02, "{:?}", told.requests);
}

#[test]
fn fates_orders_weights_and_prefixes() {
    let clients = clients();
    let (one, other) = (clients.tap(), clients.tap());
    let saw = |tap: &Tap, client: &str, fate, weight, times| {
        for _ in 0..times {
            tap.saw(client.parse().unwrap(), fate, weight);
        }
    };
    // Heaviest ever, but a while ago.
    saw(&one, "192.0.2.1", Fate::Served, 1, 500);
    clients.collect(Span::ZERO);
    saw(&one, "198.51.100.1", Fate::Denied, 64, 5);
    saw(&other, "198.51.100.2", Fate::Served, 1, 50);
    saw(&other, "198.51.100.1", Fate::Limited, 16, 2);
    saw(&other, "2001:db8:0:1::7", Fate::Kissed, 1, 30);
    saw(&other, "2001:db8:0:2::7", Fate::Served, 1, 31);
    saw(&other, "2001:db8:0:2::8", Fate::Served, 1, 9);
    let now = Span::from_seconds(600);
    let ask = |by, top, truncated| clients.status(&ClientsQuestion { top, by, truncated }, true, now);

    let rate = ask(Order::Rate, 2, false);
    assert_eq!(names(&rate.addresses), ["198.51.100.1", "198.51.100.2"]);
    assert_eq!(names(&rate.prefixes), ["198.51.100.0/24", "2001:db8::/48"]);
    let ByFate { served, limited, kissed, denied } = rate.addresses[0].requests;
    assert_eq!((served, limited, kissed, denied), (0.0, 32.0, 0.0, 320.0));
    assert_eq!(rate.prefixes[0].requests.sum(), 402.0);
    assert_eq!(rate.requests.sum(), 972.0);
    assert_eq!((rate.for_s, rate.addresses[0].for_s, rate.addresses[0].last_s), (600.0, 0.0, 0.0));

    let address = ask(Order::Address, TOP_MAX, false);
    assert_eq!(names(&address.addresses)[..2], ["192.0.2.1", "198.51.100.1"]);
    assert_eq!((address.addresses.len(), address.prefixes.len()), (5, 0));
    assert_eq!(address.addresses[0].last_s, 600.0);
    let prefix = ask(Order::Prefix, 3, false);
    assert_eq!(names(&prefix.prefixes), ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/48"]);
    assert!(prefix.addresses.is_empty());
    assert_eq!(names(&ask(Order::Kiss, 10, false).addresses), ["2001:db8:0:1::/64"]);
    let whole = ask(Order::Address, 10, true);
    let shown = ["192.0.2.0/24", "198.51.100.0/24", "198.51.100.0/24", "2001:db8::/48", "2001:db8::/48"];
    assert_eq!(names(&whole.addresses), shown);
    assert!((rate.addresses[0].share - 352.0 / (472.0 + 500.0 / 1_024.0)).abs() < 1e-9);
}

#[test]
fn one_whom_nobody_hears_takes_note_of_nothing() {
    let tap = Tap::unheard();
    for _ in 0..100_000 {
        tap.saw(Ipv4Addr::LOCALHOST.into(), Fate::Served, u32::MAX);
    }
}
