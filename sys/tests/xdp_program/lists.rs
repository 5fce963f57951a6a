//! What the program drops by the lists of sources: the longest prefix counts, and sets are replaced as wholes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maser_core::limit::access::Standing;
use maser_sys::access_tries::{AccessTries, PREFIXES_MAX};
use maser_sys::driver_limits::{DriverLimits, DriverSettings};
use maser_sys::xdp_program::Reason;

use crate::limits::{SETTINGS, assert_one_in, request};
use crate::rig::{Outcome, Rig};

type Prefix = (IpAddr, u8, Standing);

/// The program with its lists switched on.
struct Listed {
    rig: Rig,
    limits: DriverLimits,
    tries: AccessTries,
}

impl Listed {
    fn new() -> Option<Self> {
        let rig = Rig::new()?;
        let limits = DriverLimits::from_fd(rig.program.limits_map().unwrap()).unwrap();
        limits.set(Some(&SETTINGS));
        let tries = AccessTries::from_fds(rig.shared.sources_maps().unwrap()).unwrap();
        Some(Self { rig, limits, tries })
    }

    /// What the program takes the source for: denied ones are steered now and then.
    fn standing(&self, source: IpAddr) -> Standing {
        for _ in 0..8 {
            match self.rig.run(&request(source, &[])) {
                Outcome::Dropped(Reason::DroppedDenied) => return Standing::Denied,
                Outcome::Dropped(Reason::DroppedBogon) => return Standing::Bogon,
                Outcome::Steered(metadata) if metadata.weight == 1 => return Standing::Allowed,
                Outcome::Steered(metadata) => assert_eq!(metadata.weight, 64),
                outcome @ (Outcome::Dropped(_) | Outcome::Passed(_)) => panic!("{outcome:?}"),
            }
        }
        panic!("{source} is steered eight times, and then it has the weight of one that is denied");
    }
}

fn prefix(text: &str, standing: Standing) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    (address.parse().unwrap(), length.parse().unwrap(), standing)
}

/// The longest prefix's standing, told the long way; exempt sources are steered like allowed ones.
fn expected(prefixes: &[Prefix], source: IpAddr) -> Standing {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    let fits = |(address, length, _): &&Prefix| {
        address.is_ipv4() == source.is_ipv4()
            && (*length == 0 || (bits(*address) ^ bits(source)) >> (128 - u32::from(*length)) == 0)
    };
    // Of equal ones the last.
    match prefixes.iter().filter(fits).max_by_key(|(_, length, _)| *length) {
        None | Some((_, _, Standing::Exempt)) => Standing::Allowed,
        Some((_, _, standing)) => *standing,
    }
}

#[test]
fn the_longest_prefix_counts() {
    let Some(mut listed) = Listed::new() else { return };
    let mut prefixes = vec![
        prefix("198.51.100.7/24", Standing::Bogon),
        prefix("2001:db8::/32", Standing::Denied),
        prefix("2001:db8:7::/48", Standing::Exempt),
        prefix("2001:db8:7::9/128", Standing::Bogon),
    ];
    let mut state = 5_u64;
    let mut random = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let standings = [Standing::Allowed, Standing::Exempt, Standing::Denied, Standing::Bogon];
    // Few octets, so that prefixes lie in one another.
    let address = |random: &mut dyn FnMut(u64) -> u64| -> IpAddr {
        let octets: [u8; 16] =
            std::array::from_fn(|_| [1, 2, 0x80, 0xFF][usize::try_from(random(4)).unwrap()]);
        if random(2) == 0 {
            Ipv4Addr::from(*octets.first_chunk().unwrap()).into()
        } else {
            Ipv6Addr::from(octets).into()
        }
    };
    for round in 0..20 {
        for _ in 0..random(100) {
            let address = address(&mut random);
            let width = if address.is_ipv4() { 33 } else { 129 };
            let (length, standing) = (random(width), standings[usize::try_from(random(4)).unwrap()]);
            prefixes.push((address, u8::try_from(length).unwrap(), standing));
        }
        listed.tries.replace(&prefixes).unwrap();
        for _ in 0..200 {
            let source = address(&mut random);
            assert_eq!(
                listed.standing(source),
                expected(&prefixes, source),
                "{round}: {source} {prefixes:?}"
            );
        }
        for &(source, _, _) in &prefixes {
            assert_eq!(
                listed.standing(source),
                expected(&prefixes, source),
                "{round}: {source} {prefixes:?}"
            );
        }
        let keep = usize::try_from(random(30)).unwrap();
        prefixes.drain(..prefixes.len().saturating_sub(keep));
    }
    listed.tries.replace(&[]).unwrap();
    assert_eq!(listed.standing("2001:db8::1".parse().unwrap()), Standing::Allowed);
}

#[test]
fn one_in_64_of_a_denied_source_is_seen() {
    let Some(mut listed) = Listed::new() else { return };
    let denied = [prefix("0.0.0.0/0", Standing::Denied), prefix("::/0", Standing::Bogon)];
    listed.tries.replace(&denied).unwrap();
    for source in ["203.0.113.9", "2001:db8::9"] {
        let frame = request(source.parse().unwrap(), &[]);
        let steered = (0..6_400).filter(|_| listed.rig.reason(&frame) == Reason::Steered).count();
        assert_one_in(64, steered.try_into().unwrap(), 6_400);
    }
    // Under overload nobody is: they have no level.
    listed.limits.floor_of(0).set(1 << 16);
    let frame = request("203.0.113.9".parse().unwrap(), &[]);
    assert!((0..640).all(|_| listed.rig.reason(&frame) == Reason::DroppedDenied));
    // Who is exempt comes past the floor, and a longer prefix past a shorter one.
    let exempt = [denied[0], denied[1], prefix("203.0.113.0/24", Standing::Exempt)];
    listed.tries.replace(&exempt).unwrap();
    assert!((0..100).all(|_| listed.rig.reason(&frame) == Reason::Steered));
    // The lists can be left to user space alone.
    listed.limits.floor_of(0).set(0);
    listed.tries.replace(&denied).unwrap();
    listed.limits.set(Some(&DriverSettings { lists: false, ..SETTINGS }));
    assert!((0..100).all(|_| listed.rig.reason(&frame) == Reason::Steered));
}

#[test]
fn the_next_server_finds_what_was_left_and_replaces_it() {
    let Some(mut listed) = Listed::new() else { return };
    let old = [prefix("10.0.0.0/8", Standing::Denied), prefix("fd00::/8", Standing::Bogon)];
    listed.tries.replace(&old).unwrap();
    listed.tries = AccessTries::from_fds(listed.rig.shared.sources_maps().unwrap()).unwrap();
    let [there, kept] = ["10.1.2.3", "fd01::1"].map(|source| source.parse().unwrap());
    assert_eq!(listed.standing(there), Standing::Denied, "until it is replaced");
    listed.tries.replace(&old[1..]).unwrap();
    assert_eq!(listed.standing(there), Standing::Allowed);
    assert_eq!(listed.standing(kept), Standing::Bogon);
}

#[test]
fn as_many_prefixes_as_there_is_room_for() {
    let Some(mut listed) = Listed::new() else { return };
    let many = |count: usize, first: u8| -> Vec<Prefix> {
        let each = |number: usize| {
            let address = Ipv4Addr::from_bits(u32::from(first) << 24 | u32::try_from(number).unwrap());
            (IpAddr::V4(address), 32, Standing::Denied)
        };
        (0..count).map(each).collect()
    };
    let error = listed.tries.replace(&many(PREFIXES_MAX + 1, 10)).unwrap_err();
    assert!(error.to_string().contains("at most 65536"), "{error}");
    let error = listed.tries.replace(&[prefix("10.0.0.0/33", Standing::Denied)]).unwrap_err();
    assert!(error.to_string().contains("longer than 32"), "{error}");
    assert_eq!(listed.standing(Ipv4Addr::new(10, 0, 0, 0).into()), Standing::Allowed);
    // Full, and then full of others.
    for first in [10, 11] {
        listed.tries.replace(&many(PREFIXES_MAX, first)).unwrap();
        let other = 21 - first;
        assert_eq!(listed.standing(Ipv4Addr::new(first, 0, 0xFF, 0xFF).into()), Standing::Denied);
        assert_eq!(listed.standing(Ipv4Addr::new(other, 0, 0, 0).into()), Standing::Allowed);
    }
}
