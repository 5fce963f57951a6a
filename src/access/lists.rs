//! From what everybody says of prefixes to one list: what counts of equal prefixes, and the memory that a lookup goes over.

use super::bogons;
use crate::config::{self, AccessDefault, AccessKind};
use maser_core::limit::access::{AccessList, Bits, Prefix, Ranges, Standing, cut, index, index_bits};
use std::cmp::Reverse;
use std::net::IpAddr;

/// The most prefixes of all lists together: the longest lists of bogons that are published have 150,000.
pub const PREFIXES_MAX: usize = 1 << 18;

/// Lists that were built, for looking addresses up, and as prefixes for the driver's tries.
#[derive(Debug)]
pub struct Lists {
    prefixes: Box<[(Prefix, Standing)]>,
    ip4: Table<u32>,
    ip6: Table<u128>,
}

/// More prefixes than there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "access: {0} prefixes are too many, {PREFIXES_MAX} is the most: leave some out, or write several as a shorter one"
)]
pub struct TooMany(usize);

impl Lists {
    /// Of what the configuration says and what its files hold.
    ///
    /// # Errors
    /// When they are too many.
    pub(super) fn build<'f>(
        config: &'f config::Access,
        files: impl IntoIterator<Item = (AccessKind, &'f [Prefix])>,
    ) -> Result<Self, TooMany> {
        let listed = AccessKind::ALL.map(|kind| (kind, config.of(kind).prefixes.as_slice()));
        let said = listed.into_iter().chain(files).flat_map(|(kind, prefixes)| {
            let standing = kind.standing();
            prefixes.iter().map(move |prefix| (*prefix, Reverse(weight(standing)), standing))
        });
        let bogons = bogons::bogons().filter(|_| config.bogons);
        let rest = bogons::all_denied().filter(|_| config.default == AccessDefault::Deny);
        let built_in = bogons::own().chain(bogons).chain(rest);
        let built_in = built_in.map(|(prefix, standing)| (prefix, Reverse(0), standing));

        let mut rules: Vec<(Prefix, Reverse<u8>, Standing)> = said.chain(built_in).collect();
        rules.sort_unstable_by_key(|&(prefix, weight, _)| (prefix, weight));
        rules.dedup_by_key(|(prefix, ..)| *prefix);
        if rules.len() > PREFIXES_MAX {
            return Err(TooMany(rules.len()));
        }
        let prefixes: Box<[_]> = rules.into_iter().map(|(prefix, _, standing)| (prefix, standing)).collect();
        let ip4 = prefixes.iter().filter_map(|(prefix, standing)| match prefix.address() {
            IpAddr::V4(first) => Some((first.to_bits(), prefix.length(), *standing)),
            IpAddr::V6(_) => None,
        });
        let ip6 = prefixes.iter().filter_map(|(prefix, standing)| match prefix.address() {
            IpAddr::V4(_) => None,
            IpAddr::V6(first) => Some((first.to_bits(), prefix.length(), *standing)),
        });
        let (ip4, ip6) = (Table::new(ip4), Table::new(ip6));
        Ok(Self { prefixes, ip4, ip6 })
    }

    /// For looking addresses up.
    #[inline]
    #[must_use]
    pub fn list(&self) -> AccessList<'_> {
        AccessList { ip4: self.ip4.ranges(), ip6: self.ip6.ranges() }
    }

    /// Every prefix once, those of IPv4 before those of IPv6, in the order of their addresses, the shorter before the longer
    /// ones in it; the longest that an address lies in says what it is, and without one it is allowed.
    #[must_use]
    pub const fn prefixes(&self) -> &[(Prefix, Standing)] {
        &self.prefixes
    }
}

/// Which of equal prefixes counts: the heaviest. What is built in weighs nothing.
const fn weight(standing: Standing) -> u8 {
    match standing {
        Standing::Bogon => 0,
        Standing::Allowed => 1,
        Standing::Exempt => 2,
        Standing::Denied => 3,
    }
}

/// The memory of [`Ranges`].
#[derive(Debug)]
struct Table<A> {
    starts: Box<[A]>,
    standings: Box<[Standing]>,
    index: Box<[u32]>,
}

impl<A: Bits> Table<A> {
    fn new(prefixes: impl Iterator<Item = (A, u8, Standing)>) -> Self {
        let (mut starts, mut standings) = (Vec::new(), Vec::new());
        cut(prefixes, |start, standing| {
            starts.push(start);
            standings.push(standing);
        });
        let index = index(&starts, index_bits(starts.len())).collect();
        Self { starts: starts.into(), standings: standings.into(), index }
    }

    #[inline]
    fn ranges(&self) -> Ranges<'_, A> {
        Ranges::new(&self.starts, &self.standings, &self.index)
    }
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
