use super::*;
use Standing::{Allowed, Bogon, Denied, Exempt};
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

fn lists(text: &str) -> Lists {
    let source = "[[source]]\ntype = 'machine'\nstratum = 1\n";
    let config = crate::config::parse(&format!("{source}[access]\n{text}")).unwrap();
    Lists::build(&config.access, []).unwrap()
}

fn check(lists: &Lists, expected: &[(&str, Standing)]) {
    for (client, standing) in expected {
        assert_eq!(lists.list().standing(client.parse().unwrap()), *standing, "{client}");
    }
}

#[test]
fn by_default_everybody_may_ask_whom_there_can_be() {
    let may = [
        "10.0.0.1",
        "100.64.0.1",
        "169.254.1.1",
        "172.16.0.1",
        "192.168.1.1",
        "198.18.0.1",
        "1.1.1.1",
        "223.255.255.255",
        "192.0.3.0",
        "fe80::1",
        "fd00::1",
        "64:ff9b::c000:201",
        "64:ff9b:1:ffff::1",
        "2001:db7::1",
        "2001:db9::1",
        "2a00::1",
        "3ffe::1",
        "fe00::1",
        "100:0:0:1::1",
    ];
    let bogons = [
        "0.0.0.0",
        "0.255.255.255",
        "192.0.2.1",
        "198.51.100.255",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::2",
        "::ffff:1.2.3.4",
        "40::1",
        "63:ffff::",
        "65::",
        "6f::1",
        "7f::1",
        "80::1",
        "ff:ffff::1",
        "100::1",
        "2001:db8:ffff::1",
        "3fff:fff::1",
        "5f00::1",
        "fec0::1",
        "feff::1",
        "ff02::1",
    ];
    let all = lists("");
    check(&all, &may.map(|client| (client, Allowed)));
    check(&all, &["127.0.0.1", "127.255.255.255", "::1"].map(|client| (client, Exempt)));
    check(&all, &bogons.map(|client| (client, Bogon)));
    check(
        &lists("bogons = false"),
        &[may.as_slice(), &bogons].concat().into_iter().map(|one| (one, Allowed)).collect::<Vec<_>>(),
    );
}

#[test]
fn of_equal_prefixes_deny_counts_before_exempt_before_allow_before_bogons() {
    let all = lists(
        "allow = ['10.0.0.0/8', '192.0.2.0/24', '10.1.0.0/16', '2001:db8::/32']
         exempt = ['10.0.0.0/8', '10.2.0.0/16', '203.0.113.9']
         deny = ['10.2.0.0/16', '10.1.2.3', '2001:db8:1::/48', '11.0.0.0/8']",
    );
    check(
        &all,
        &[
            ("10.0.0.1", Exempt),
            ("10.1.0.1", Allowed),
            ("10.1.2.3", Denied),
            ("10.2.0.1", Denied),
            ("11.255.255.255", Denied),
            ("12.0.0.0", Allowed),
            ("192.0.2.1", Allowed),
            ("203.0.113.9", Exempt),
            ("203.0.113.8", Bogon),
            ("2001:db8::1", Allowed),
            ("2001:db8:1::1", Denied),
        ],
    );
}

#[test]
fn who_denies_all_still_answers_this_machine_and_those_allowed() {
    let all = lists("default = 'deny'\nallow = ['10.0.0.0/8', '2001:678::/32']");
    check(
        &all,
        &[
            ("127.0.0.1", Exempt),
            ("::1", Exempt),
            ("10.0.0.1", Allowed),
            ("2001:678::1", Allowed),
            ("9.255.255.255", Denied),
            ("2001:679::1", Denied),
            ("192.0.2.1", Bogon),
            // Nor are those of IPv4 by way of a translator.
            ("64:ff9b::a00:1", Denied),
        ],
    );
    check(
        &lists("deny = ['0.0.0.0/0', '::/0']"),
        &[("127.0.0.1", Exempt), ("::1", Exempt), ("8.8.8.8", Denied), ("64:ff9b::1", Denied)],
    );
    check(&lists("deny = ['127.0.0.0/8', '::1']"), &[("127.0.0.1", Denied), ("::1", Denied)]);
}

#[test]
fn prefixes_are_given_once_each_in_their_order() {
    let all = lists("deny = ['10.0.0.0/8', '::/0']\nallow = ['10.0.0.0/8', '10.0.0.0/16']\nbogons = false");
    let shown: Vec<_> =
        all.prefixes().iter().map(|(prefix, standing)| (prefix.to_string(), *standing)).collect();
    let expected = [
        ("10.0.0.0/8", Denied),
        ("10.0.0.0/16", Allowed),
        ("127.0.0.0/8", Exempt),
        ("::/0", Denied),
        ("::1", Exempt),
    ];
    assert_eq!(shown, expected.map(|(prefix, standing)| (prefix.to_owned(), standing)));
}

/// As a trie does it: every length from the longest on.
struct Naive(HashMap<Prefix, Standing>);

impl Naive {
    fn standing(&self, client: IpAddr) -> Standing {
        let most = if client.is_ipv4() { 32 } else { 128 };
        let around = (0..=most).rev().find_map(|length| {
            let (Ok(prefix) | Err(maser_core::limit::access::PrefixError::BitsBehind(prefix))) =
                Prefix::new(client, length)
            else {
                return None;
            };
            self.0.get(&prefix).copied()
        });
        around.unwrap_or(Allowed)
    }
}

/// A generator that is the same on every machine (Steele, Lea and Flood's SplitMix64).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    maser_core::hash::mix(*state)
}

/// An address as they are given out: IPv6 in a few blocks of 2000::/3.
fn address(state: &mut u64) -> IpAddr {
    let bits = random(state);
    if bits & 1 == 0 {
        Ipv4Addr::from_bits(u32::try_from(bits >> 32).unwrap()).into()
    } else {
        let block =
            [0x2001_u128, 0x2400, 0x2600, 0x2804, 0x2a00, 0x2a02][usize::try_from((bits >> 1) % 6).unwrap()];
        let low = u128::from(random(state));
        Ipv6Addr::from_bits((block << 112) | (u128::from(bits) << 48 & !(0xffff << 112)) | low >> 16).into()
    }
}

fn prefixes(count: usize, state: &mut u64) -> Vec<Prefix> {
    let mut prefix = || {
        let address = address(state);
        let (least, span) = if address.is_ipv4() { (8, 25) } else { (20, 109) };
        let length = least + u8::try_from(random(state) % span).unwrap();
        match Prefix::new(address, length) {
            Ok(prefix) | Err(maser_core::limit::access::PrefixError::BitsBehind(prefix)) => prefix,
            Err(error) => panic!("{address}/{length}: {error}"),
        }
    };
    (0..count).map(|_| prefix()).collect()
}

#[test]
fn a_hundred_thousand_prefixes_are_built_and_looked_up_as_a_trie_would() {
    let mut state = 7;
    let [allow, deny, exempt] = [30_000, 60_000, 10_000].map(|count| prefixes(count, &mut state));
    let config = crate::config::Access::default();
    let files = [
        (AccessKind::Allow, allow.as_slice()),
        (AccessKind::Deny, deny.as_slice()),
        (AccessKind::Exempt, exempt.as_slice()),
    ];
    let lists = Lists::build(&config, files).unwrap();
    let naive = Naive(lists.prefixes().iter().copied().collect());
    assert_eq!(naive.0.len(), lists.prefixes().len(), "each once");
    let mut seen = HashMap::new();
    for _ in 0..20_000 {
        let client = address(&mut state);
        let standing = lists.list().standing(client);
        assert_eq!(standing, naive.standing(client), "{client}");
        *seen.entry(standing).or_insert(0) += 1;
    }
    for prefix in allow.iter().chain(&deny).chain(&exempt) {
        assert_eq!(lists.list().standing(prefix.address()), naive.standing(prefix.address()), "{prefix}");
    }
    assert!(seen.len() >= 3, "{seen:?}");
}

#[test]
fn more_than_there_may_be_are_refused() {
    let many: Vec<Prefix> = (0..=PREFIXES_MAX)
        .map(|number| Prefix::new(Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into(), 32).unwrap())
        .collect();
    let config = crate::config::Access::default();
    let told = Lists::build(&config, [(AccessKind::Deny, many.as_slice())]).unwrap_err().to_string();
    assert!(told.contains("prefixes are too many, 262144 is the most"), "{told}");
    // The same ones again are no more.
    let most = PREFIXES_MAX - 100;
    let twice = [(AccessKind::Deny, &many[..most]), (AccessKind::Allow, &many[..most])];
    Lists::build(&config, twice).unwrap();
}

proptest! {
    /// Whatever lists say in whatever order, the heaviest word on the longest prefix counts.
    #[test]
    fn the_longest_prefix_and_then_the_heaviest_word_counts(
        said in proptest::collection::vec((0_u32..16, 0_u8..=6, 0_usize..3), 0..40),
        denied in any::<bool>(),
        clients in proptest::collection::vec(0_u32..64, 30),
    ) {
        let of = |wanted| -> Vec<Prefix> {
            let mine = said.iter().filter(|(_, _, kind)| *kind == wanted);
            mine.filter_map(|&(top, length, _)| match Prefix::new(Ipv4Addr::from_bits(top << 26).into(), length) {
                Ok(prefix) | Err(maser_core::limit::access::PrefixError::BitsBehind(prefix)) => Some(prefix),
                Err(_) => None,
            }).collect()
        };
        let default = if denied { AccessDefault::Deny } else { AccessDefault::Allow };
        let config = config::Access { default, bogons: false, ..config::Access::default() };
        let [allow, deny, exempt] = [0, 1, 2].map(of);
        let files = [
            (AccessKind::Allow, allow.as_slice()),
            (AccessKind::Exempt, exempt.as_slice()),
            (AccessKind::Deny, deny.as_slice()),
        ];
        let lists = Lists::build(&config, files).unwrap();
        for client in clients {
            // None of them is in loopback.
            let client = IpAddr::V4(Ipv4Addr::from_bits(client << 26 | 1));
            let longest = |list: &[Prefix]| {
                list.iter().filter(|prefix| prefix.contains(client)).map(Prefix::length).max()
            };
            let words = [(longest(&deny), 3, Denied), (longest(&exempt), 2, Exempt), (longest(&allow), 1, Allowed)];
            let best = words.into_iter().filter(|(length, ..)| length.is_some()).max_by_key(|&(length, weight, _)| (length, weight));
            let expected = best.map_or(if denied { Denied } else { Allowed }, |(_, _, standing)| standing);
            prop_assert_eq!(lists.list().standing(client), expected, "{}", client);
        }
    }
}
