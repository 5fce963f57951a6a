//! Who may ask, by the longest prefix that an address lies in.
//!
//! Prefixes lie within each other or apart, so they cut the addresses into ranges, each of one [`Standing`]: [`cut`] says
//! where ranges begin, and a lookup finds the last beginning that isn't behind the address. An [`index`] by the addresses'
//! first bits leaves it few to look at. The daemon keeps the memory, which [`AccessList`] borrows; nothing here knows who
//! wrote what.

mod prefix;

pub use prefix::{Prefix, PrefixError};

use core::net::IpAddr;

/// What becomes of an address's requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Standing {
    /// They are answered, within the limits.
    #[default]
    Allowed,
    /// They are answered, whatever the limits.
    Exempt,
    /// The operator refuses them.
    Denied,
    /// Nobody has such an address: whoever sent them made it up.
    Bogon,
}

impl Standing {
    /// Whether requests are answered at all.
    #[inline]
    #[must_use]
    pub const fn may_ask(self) -> bool {
        matches!(self, Self::Allowed | Self::Exempt)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u128 {}
}

/// The bits of an address: `u32` for IPv4, `u128` for IPv6.
pub trait Bits: Copy + Ord + sealed::Sealed {
    /// How many.
    const WIDTH: u32;
    /// The first address.
    const ZERO: Self;
    /// The first `length` bits, and zeros behind.
    #[must_use]
    fn first(self, length: u8) -> Self;
    /// The first `length` bits, and ones behind.
    #[must_use]
    fn last(self, length: u8) -> Self;
    /// The address behind; none for the last.
    #[must_use]
    fn next(self) -> Option<Self>;
    /// What is left when it is moved down by `shift` bits, if an index can have so many places.
    #[must_use]
    fn top(self, shift: u32) -> Option<usize>;
}

macro_rules! bits {
    ($integer:ty) => {
        impl Bits for $integer {
            const WIDTH: u32 = Self::BITS;
            const ZERO: Self = 0;

            #[inline]
            fn first(self, length: u8) -> Self {
                self & !Self::MAX.checked_shr(length.into()).unwrap_or(0)
            }

            #[inline]
            fn last(self, length: u8) -> Self {
                self | Self::MAX.checked_shr(length.into()).unwrap_or(0)
            }

            #[inline]
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            #[inline]
            fn top(self, shift: u32) -> Option<usize> {
                self.checked_shr(shift).unwrap_or(0).try_into().ok()
            }
        }
    };
}

bits!(u32);
bits!(u128);

/// Cuts all addresses into ranges: `emit` is told where each begins and what it is, in order, from the first address on, never
/// the same standing twice in a row. What lies in no prefix is allowed. The prefixes are in the order of their first
/// addresses, of equal ones the shorter first, and none is there twice.
pub fn cut<A: Bits>(prefixes: impl IntoIterator<Item = (A, u8, Standing)>, emit: impl FnMut(A, Standing)) {
    /// Each lies in the one before and is longer: one of each length of IPv6 at most.
    const DEPTH_MAX: usize = 129;
    let mut open = [(A::ZERO, Standing::default()); DEPTH_MAX];
    let mut depth = 0_usize;
    let mut ranges = Edges { at: A::ZERO, standing: Standing::default(), told: None, emit };
    for (first, length, standing) in prefixes {
        close(&open, &mut depth, Some(first), &mut ranges);
        ranges.begin(first, standing);
        if let Some(place) = open.get_mut(depth) {
            *place = (first.last(length), standing);
            depth += 1;
        }
    }
    close(&open, &mut depth, None, &mut ranges);
    ranges.tell();
}

/// Ends those of the first `depth` prefixes that end before `until`, the innermost first.
fn close<A: Bits>(
    open: &[(A, Standing)],
    depth: &mut usize,
    until: Option<A>,
    ranges: &mut Edges<A, impl FnMut(A, Standing)>,
) {
    while let Some(&(last, _)) = depth.checked_sub(1).and_then(|at| open.get(at))
        && until.is_none_or(|until| last < until)
    {
        *depth -= 1;
        let around =
            depth.checked_sub(1).and_then(|at| open.get(at)).map_or(Standing::default(), |one| one.1);
        if let Some(next) = last.next() {
            ranges.begin(next, around);
        }
    }
}

/// Where the last range begins that was heard of, and what was told before.
struct Edges<A, F> {
    at: A,
    standing: Standing,
    told: Option<Standing>,
    emit: F,
}

impl<A: Bits, F: FnMut(A, Standing)> Edges<A, F> {
    /// From here on it is so, unless another begins at the same address.
    fn begin(&mut self, at: A, standing: Standing) {
        if at != self.at {
            self.tell();
        }
        (self.at, self.standing) = (at, standing);
    }

    fn tell(&mut self) {
        if self.told != Some(self.standing) {
            (self.emit)(self.at, self.standing);
            self.told = Some(self.standing);
        }
    }
}

/// More bits than this and an index is larger than the second cache of most cores: 256 KiB.
pub const INDEX_BITS_MAX: u32 = 16;

/// How many of the first bits an index over so many ranges goes by: as many places as there are ranges or fewer.
#[must_use]
pub const fn index_bits(ranges: usize) -> u32 {
    match ranges.checked_ilog2() {
        Some(bits @ 2..INDEX_BITS_MAX) => bits,
        Some(0 | 1) | None => 1,
        Some(_) => INDEX_BITS_MAX,
    }
}

/// An index over `starts`, which ascend: for each value of the first `bits` bits (up to [`INDEX_BITS_MAX`]), and once more at
/// the end, how many ranges begin before it.
pub fn index<A: Bits>(starts: &[A], bits: u32) -> impl Iterator<Item = u32> {
    let bits = bits.min(INDEX_BITS_MAX);
    let mut before = 0_usize;
    (0..=1_usize << bits).map(move |place| {
        let is_before = |start: &A| start.top(A::WIDTH - bits).is_some_and(|top| top < place);
        while starts.get(before).is_some_and(is_before) {
            before += 1;
        }
        u32::try_from(before).unwrap_or(u32::MAX)
    })
}

/// The ranges of one kind of addresses. Where the three don't fit together a standing is wrong, and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ranges<'a, A> {
    /// Where they begin, the first at zero; they ascend.
    starts: &'a [A],
    /// What each is.
    standings: &'a [Standing],
    /// As [`index`] gives it.
    index: &'a [u32],
    /// What brings an address to its place in the index.
    shift: u32,
}

impl<'a, A: Bits> Ranges<'a, A> {
    /// As [`cut`] told them, and their [`index`]; empty ones allow everybody.
    #[must_use]
    pub const fn new(starts: &'a [A], standings: &'a [Standing], index: &'a [u32]) -> Self {
        let bits = match index.len().checked_ilog2() {
            Some(bits) if bits < A::WIDTH => bits,
            Some(_) | None => 0,
        };
        Self { starts, standings, index, shift: A::WIDTH - bits }
    }

    /// What an address is.
    #[inline]
    #[must_use]
    pub fn standing(&self, address: A) -> Standing {
        self.find(address).copied().unwrap_or_default()
    }

    #[inline]
    fn find(&self, address: A) -> Option<&Standing> {
        let place = address.top(self.shift)?;
        let [from, to] = *self.index.get(place..)?.first_chunk()?;
        let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
        // Those that begin in this place; the one before them reaches into it.
        let begun = self.starts.get(from..to)?.partition_point(|start| *start <= address);
        self.standings.get((from + begun).checked_sub(1)?)
    }
}

/// Who may ask. Looking is a few steps over memory that nobody writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessList<'a> {
    /// By IPv4 address.
    pub ip4: Ranges<'a, u32>,
    /// By IPv6 address.
    pub ip6: Ranges<'a, u128>,
}

impl AccessList<'_> {
    /// What a client is, by the longest prefix that it lies in.
    #[inline]
    #[must_use]
    pub fn standing(&self, client: IpAddr) -> Standing {
        match client {
            IpAddr::V4(client) => self.ip4.standing(client.to_bits()),
            IpAddr::V6(client) => self.ip6.standing(client.to_bits()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{Allowed, Bogon, Denied, Exempt};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::vec::Vec;

    fn ranges<A: Bits>(prefixes: &BTreeMap<(A, u8), Standing>) -> (Vec<A>, Vec<Standing>) {
        let mut cuts = (Vec::new(), Vec::new());
        cut(
            prefixes.iter().map(|(&(first, length), &standing)| (first, length, standing)),
            |at, standing| {
                cuts.0.push(at);
                cuts.1.push(standing);
            },
        );
        cuts
    }

    #[test]
    fn nested_and_touching_prefixes_cut_where_the_standing_changes() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap().to_bits();
        let cuts = |prefixes: &[(&str, u8, Standing)]| {
            let prefixes = prefixes.iter().map(|&(first, length, standing)| ((ip(first), length), standing));
            let (starts, standings) = ranges(&prefixes.collect());
            starts.into_iter().map(Ipv4Addr::from_bits).zip(standings).collect::<Vec<_>>()
        };
        let at = |text: &str, standing| (Ipv4Addr::from_bits(ip(text)), standing);
        assert_eq!(cuts(&[]), [at("0.0.0.0", Allowed)]);
        let whole = [("0.0.0.0", 0, Denied), ("192.0.2.0", 24, Denied), ("255.255.255.255", 32, Exempt)];
        assert_eq!(cuts(&whole), [at("0.0.0.0", Denied), at("255.255.255.255", Exempt)]);
        let nested = [
            ("0.0.0.0", 8, Bogon),
            ("10.0.0.0", 8, Denied),
            ("10.0.0.0", 16, Denied),
            ("10.0.0.0", 24, Exempt),
            ("10.0.0.0", 32, Denied),
            ("10.1.255.255", 32, Allowed),
            ("11.0.0.0", 8, Denied),
        ];
        let expected = [
            at("0.0.0.0", Bogon),
            at("1.0.0.0", Allowed),
            at("10.0.0.0", Denied),
            at("10.0.0.1", Exempt),
            at("10.0.1.0", Denied),
            at("10.1.255.255", Allowed),
            at("10.2.0.0", Denied),
            at("12.0.0.0", Allowed),
        ];
        assert_eq!(cuts(&nested), expected);
        // Every length of IPv6 is open at once.
        let all = (0..=128).map(|length| ((0_u128, length), if length % 2 == 0 { Denied } else { Exempt }));
        let (starts, standings) = ranges(&all.collect());
        assert_eq!((starts.len(), standings[..3].to_vec()), (129, [Denied, Exempt, Denied].to_vec()));
        assert_eq!((starts[0], starts[1], starts[2], starts[128]), (0, 1, 2, 1 << 127));
    }

    #[test]
    fn an_empty_list_allows_everybody() {
        let list = AccessList::default();
        assert_eq!(list.standing(Ipv4Addr::BROADCAST.into()), Allowed);
        assert_eq!(list.standing(Ipv6Addr::LOCALHOST.into()), Allowed);
        assert_eq!(Ranges::<u32>::new(&[], &[], &[]).standing(7), Allowed);
        // Nor does what doesn't fit together panic.
        for index in [&[9, 9, 9][..], &[3, 0, 1], &[0], &[0, 0]] {
            let _any = Ranges::new(&[0_u32, 5], &[Denied], index).standing(u32::MAX);
        }
    }

    #[test]
    fn an_index_has_no_more_places_than_ranges() {
        assert_eq!([0, 1, 2, 3, 4, 7, 8, 12].map(index_bits), [1, 1, 1, 1, 2, 2, 3, 3]);
        assert_eq!([65_535, 65_536, usize::MAX].map(index_bits), [15, 16, 16]);
        assert_eq!(index(&[0_u32, 1, 1 << 31, u32::MAX], 1).collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!(index::<u32>(&[0], 2).collect::<Vec<_>>(), [0, 1, 1, 1, 1]);
    }

    fn standing() -> impl Strategy<Value = Standing> {
        prop_oneof![Just(Allowed), Just(Exempt), Just(Denied), Just(Bogon)]
    }

    /// The longest prefix that an address lies in, looked for among all.
    fn naive<A: Bits>(prefixes: &BTreeMap<(A, u8), Standing>, address: A) -> Standing {
        let of = prefixes.iter().filter(|((first, length), _)| address.first(*length) == *first);
        of.max_by_key(|((_, length), _)| *length).map_or(Allowed, |(_, &standing)| standing)
    }

    fn check<A: Bits + std::fmt::Debug>(
        prefixes: Vec<(A, u8, Standing)>,
        asked: &[A],
        bits: u32,
    ) -> Result<(), TestCaseError> {
        let prefixes: BTreeMap<_, _> = prefixes
            .into_iter()
            .map(|(address, length, standing)| ((address.first(length), length), standing))
            .collect();
        let (starts, standings) = ranges(&prefixes);
        prop_assert!(starts.is_sorted_by(|a, b| a < b) && starts[0] == A::ZERO);
        prop_assert!(standings.windows(2).all(|pair| pair[0] != pair[1]));
        let index: Vec<u32> = index(&starts, bits).collect();
        let list = Ranges::new(&starts, &standings, &index);
        // The ends of every prefix, and what lies beside them.
        let ends = prefixes.keys().flat_map(|(first, length)| {
            let last = first.last(*length);
            [Some(*first), Some(last), last.next()].into_iter().flatten()
        });
        for address in asked.iter().copied().chain(ends).chain([A::ZERO, A::ZERO.last(0)]) {
            prop_assert_eq!(list.standing(address), naive(&prefixes, address), "{:?}", address);
        }
        Ok(())
    }

    proptest! {
        /// Addresses of few bits set and few lengths, so that prefixes nest and meet.
        #[test]
        fn the_longest_prefix_wins_in_ipv4(
            prefixes in proptest::collection::vec((any::<u32>(), 0_u8..=32, standing()), 0..60),
            near in proptest::collection::vec((0_u32..64, 0_u8..=8, standing()), 0..60),
            asked in proptest::collection::vec(any::<u32>(), 20),
            bits in 1_u32..=16,
        ) {
            let near = near.into_iter().map(|(top, length, standing)| (top << 26, length, standing));
            check(prefixes.into_iter().chain(near).collect(), &asked, bits)?;
        }

        #[test]
        fn the_longest_prefix_wins_in_ipv6(
            prefixes in proptest::collection::vec((any::<u128>(), 0_u8..=128, standing()), 0..60),
            near in proptest::collection::vec((0_u128..64, 120_u8..=128, standing()), 0..60),
            asked in proptest::collection::vec(any::<u128>(), 20),
            bits in 1_u32..=16,
        ) {
            check(prefixes.into_iter().chain(near).collect(), &asked, bits)?;
        }
    }
}
