//! How full the table is: counted in a part of its sets, whoever wants to know, without a word to the workers.

use super::entry::{Entry, REGULAR};
use super::moment::{Moment, UNIT_LOG2};
use super::table::{Shape, WAYS};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// So many sets of each kind are looked at, at most: of 7 places each, so that the standard error of a share is 0.3 % at the
/// most. Addresses meet sets by a keyed hash, so that any of them stand for all.
const LOOKED_AT_MAX: u64 = 4_096;

/// The places of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Places {
    /// How many there are.
    pub all: u64,
    /// Of these were looked at.
    pub seen: u64,
    /// Of these somebody's; entries stay until their place is needed.
    pub taken: u64,
    /// Of these such that no newcomer may have them: their owner is in debt, or worth more.
    pub held: u64,
    /// Of these regulars'.
    pub regular: u64,
}

/// How full a table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Of addresses.
    pub addresses: Places,
    /// Of prefixes.
    pub prefixes: Places,
}

impl Census {
    /// Of the table in these words, at this reading of `CLOCK_MONOTONIC`; none if it is no table.
    #[must_use]
    pub fn of(table: &[AtomicU64], monotonic_ns: i64) -> Option<Self> {
        let shape = Shape::of(table.len())?;
        let now = Moment::from_bits(u64::try_from(monotonic_ns).unwrap_or(0) >> UNIT_LOG2);
        let addresses = u64::from(shape.address_sets);
        let prefixes = addresses..shape.common_set();
        Some(Self { addresses: count(table, 0..addresses, now), prefixes: count(table, prefixes, now) })
    }
}

/// Counts in sets that lie evenly among those of `numbers`.
fn count(table: &[AtomicU64], numbers: Range<u64>, now: Moment) -> Places {
    /// What somebody is worth who comes for the first time, at best.
    const NEWCOMER: u64 = 1;
    let (sets, _) = table.as_chunks::<WAYS>();
    let all = numbers.end - numbers.start;
    let each = usize::try_from(all.div_ceil(LOOKED_AT_MAX)).unwrap_or(usize::MAX).max(1);
    let mut places = Places { all: all * (WAYS as u64 - 1), ..Places::default() };
    let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
    for [_, ways @ ..] in
        sets.get(number(numbers.start)..number(numbers.end)).into_iter().flatten().step_by(each)
    {
        for way in ways {
            let entry = Entry::from_bits(way.load(Relaxed));
            places.seen += 1;
            places.taken += u64::from(entry != Entry::EMPTY);
            places.held += u64::from(entry.loss(NEWCOMER, now).is_none());
            places.regular += u64::from(entry.level() >= REGULAR);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::super::hash::Key;
    use super::super::{Limiter, Rules};
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};
    use std::vec::Vec;

    fn table(octets: usize) -> Vec<AtomicU64> {
        (0..octets / 8).map(|_| AtomicU64::new(0)).collect()
    }

    /// Lets so many addresses ask once each.
    fn ask(table: &[AtomicU64], addresses: u32, monotonic_ns: i64) {
        let mut limiter = Limiter::new(table, Key { k0: 1, k1: 2 }, Rules::USUAL).unwrap();
        limiter.begin_batch(monotonic_ns, true);
        for address in 0..addresses {
            let place = limiter.place_of(IpAddr::V4(Ipv4Addr::from_bits(0x0B00_0000 + address)));
            limiter.decide(place, true);
        }
    }

    #[test]
    fn an_empty_table_is_empty_and_what_is_none_has_no_census() {
        let census = Census::of(&table(64 << 10), 1).unwrap();
        let addresses = Places { all: 7 * 896, seen: 7 * 896, ..Places::default() };
        let prefixes = Places { all: 7 * 127, seen: 7 * 127, ..Places::default() };
        assert_eq!(census, Census { addresses, prefixes });
        assert_eq!(Census::of(&table(64), 1), None);
    }

    #[test]
    fn who_has_asked_has_a_place_and_holds_it_while_in_debt() {
        let table = table(64 << 10);
        let second = 1_000_000_000;
        ask(&table, 500, 50 * second);
        let Census { addresses, prefixes } = Census::of(&table, 50 * second).unwrap();
        assert_eq!((addresses.taken, addresses.held, addresses.regular), (500, 500, 0));
        assert_eq!((prefixes.taken, prefixes.held), (2, 2));
        // An eighth of a second pays for one request, and then a newcomer may have the place.
        let Census { addresses, .. } = Census::of(&table, 51 * second).unwrap();
        assert_eq!((addresses.taken, addresses.held), (500, 0));
        for visit in 1..4 {
            ask(&table, 500, (50 + 10 * visit) * second);
        }
        let Census { addresses, .. } = Census::of(&table, 100 * second).unwrap();
        assert_eq!((addresses.taken, addresses.held, addresses.regular), (500, 500, 500));
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "a table's places are far below 2^53")]
    fn a_part_of_a_large_table_stands_for_all_of_it() {
        let table = table(16 << 20);
        ask(&table, 200_000, 1);
        let Census { addresses, .. } = Census::of(&table, 1).unwrap();
        let exact = table.iter().enumerate().filter(|(at, word)| at % WAYS != 0 && word.load(Relaxed) != 0);
        let exact = exact.count() as f64;
        assert!(addresses.seen < addresses.all && addresses.seen >= 7 * LOOKED_AT_MAX / 2, "{addresses:?}");
        let share = addresses.taken as f64 / addresses.seen as f64;
        let exact = exact / addresses.all as f64;
        assert!((share - exact).abs() < 0.015, "{share} {exact}");
    }
}
