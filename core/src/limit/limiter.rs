//! The decision: one request, its address's bucket, its prefix's.

use super::bucket::Bucket;
use super::entry::{Entry, REGULAR};
use super::hash::{Key, Kind, hash};
use super::moment::{Clock, Moment};
use super::table::{Seen, Set, Shape, Taken, Visit, WAYS, find, pay, raise, replace, see, take};
use crate::hash::halves;
use core::hint::black_box;
use core::net::IpAddr;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Of an IPv4 address or an IPv6 /64, and of each set's strangers.
    pub address: Bucket,
    /// Of a prefix: of those in it that aren't regulars, together; none where prefixes aren't limited.
    pub prefix: Option<Bucket>,
    /// How long an IPv4 prefix is, in bits; 32 at most.
    pub prefix_ip4: u8,
    /// How long an IPv6 prefix is, in bits; 64 at most.
    pub prefix_ip6: u8,
    /// At most one kiss in so many requests over their address's limit; none for 0.
    pub kiss: u32,
    /// Of all kisses together.
    pub kisses: Bucket,
}

impl Rules {
    /// 8 requests a second an address, 32 at once: a NAT with 4,000 clients that ask every 512 s, and several clients at once
    /// that begin with a burst. A prefix may have 32 such addresses that nobody knows yet.
    pub const USUAL: Self = {
        let (Some(address), Some(prefix), Some(kisses)) =
            (Bucket::per_second(8, 32), Bucket::per_second(256, 1024), Bucket::per_second(1000, 125))
        else {
            panic!("each fills within nine minutes")
        };
        Self { address, prefix: Some(prefix), prefix_ip4: 24, prefix_ip6: 48, kiss: 4, kisses }
    };
}

/// Where a client's buckets lie: the hashes of its address and of its prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    address: u64,
    prefix: u64,
}

/// What refused a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Its address's bucket.
    Address,
    /// Its prefix's.
    Prefix,
    /// That of the strangers of its set: the set is full of entries that are worth more, or in debt.
    Strangers,
    /// None: other workers changed its bucket each time that it was to be charged.
    Contention,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is answered.
    Served,
    /// Its address is over its limit, and told so.
    Kissed,
    /// It gets silence.
    Limited(Limit),
}

/// One worker's end of the table that all share.
#[derive(Debug)]
pub struct Limiter<M> {
    table: M,
    shape: Shape,
    key: Key,
    rules: Rules,
    mask_ip4: u32,
    mask_ip6: u64,
    clock: Clock,
    now: Moment,
    calm: bool,
    /// Requests over their limit since the last kiss, up to [`Rules::kiss`].
    unkissed: u32,
    strangers: u64,
}

impl<M: Deref<Target = [AtomicU64]>> Limiter<M> {
    /// A limiter over `table`, which all workers share under one key and whose words are 0 at first. It should begin at a cache
    /// line. None if it is smaller than 64 KiB or larger than 16 GiB.
    #[must_use]
    pub fn new(table: M, key: Key, rules: Rules) -> Option<Self> {
        let mask_ip4 = u32::MAX.unbounded_shl(32_u32.saturating_sub(rules.prefix_ip4.into()));
        let mask_ip6 = u64::MAX.unbounded_shl(64_u32.saturating_sub(rules.prefix_ip6.into()));
        let (shape, clock, now) = (Shape::of(table.len())?, Clock::default(), Moment::from_bits(0));
        let (calm, unkissed, strangers) = (true, 0, 0);
        Some(Self { table, shape, key, rules, mask_ip4, mask_ip6, clock, now, calm, unkissed, strangers })
    }

    /// A batch begins, at this reading of `CLOCK_MONOTONIC`; while the box isn't `calm`, since more comes than it can
    /// answer, nobody's worth grows.
    #[inline]
    pub fn begin_batch(&mut self, monotonic_ns: i64, calm: bool) {
        self.now = self.clock.moment(monotonic_ns);
        self.calm = calm;
    }

    /// Where a client's buckets lie; IPv4 is never written as IPv6.
    #[must_use]
    #[inline]
    pub const fn place_of(&self, client: IpAddr) -> Place {
        let (address, of_address, prefix, of_prefix) = match client {
            IpAddr::V4(client) => {
                let bits = client.to_bits();
                (bits as u64, Kind::Ip4, (bits & self.mask_ip4) as u64, Kind::Ip4Prefix)
            }
            IpAddr::V6(client) => {
                let (network, _) = halves(client.to_bits());
                (network, Kind::Ip6, network & self.mask_ip6, Kind::Ip6Prefix)
            }
        };
        Place { address: hash(self.key, address, of_address), prefix: hash(self.key, prefix, of_prefix) }
    }

    /// Has the lines of these places brought near, all at a time.
    #[inline]
    pub fn touch(&self, places: impl IntoIterator<Item = Place>) {
        let lines = places.into_iter().map(|Place { address, prefix }| {
            let [near, ..] = set(&self.table, self.shape.address_set(address));
            let [far, ..] = set(&self.table, self.shape.prefix_set(prefix));
            near.load(Relaxed) ^ far.load(Relaxed)
        });
        black_box(lines.fold(0, |all, words| all ^ words));
    }

    /// What becomes of a request from `place`, which is charged for it; who `may_be_kissed` would understand a kiss.
    #[inline]
    pub fn decide(&mut self, place: Place, may_be_kissed: bool) -> Fate {
        let Self { table, shape, rules, now, calm, .. } = self;
        let (now, calm, Rules { address, prefix, .. }) = (*now, *calm, &*rules);
        let own = set(table, shape.address_set(place.address));
        let tag = Entry::tag_of(place.address);
        let known = find(own, tag);
        let entry = known.map_or(Entry::EMPTY, |(_, entry)| entry);
        let prefix = prefix.as_ref().filter(|_| entry.level() < REGULAR);
        let raises = calm && prefix.is_none();
        match take(own, known, &Visit { tag, bucket: address, now, calm, raises }) {
            Taken::Paid { by_strangers } => {
                self.strangers = self.strangers.wrapping_add(by_strangers.into());
                let Some(prefix) = prefix else { return Fate::Served };
                // What the address itself can't pay for isn't its prefix's cost; but it pays for what its prefix refuses, or who
                // asks too often would have a full bucket each time and pass for a regular.
                let set = set(table, shape.prefix_set(place.prefix));
                let of_prefix = Entry::tag_of(place.prefix);
                let visit = Visit { tag: of_prefix, bucket: prefix, now, calm, raises: calm };
                match take(set, find(set, of_prefix), &visit) {
                    Taken::Paid { .. } => {
                        // So a prefix gets regulars no faster than it is served.
                        if calm && known.is_some() && entry.has_rested(now) {
                            raise(own, tag);
                        }
                        Fate::Served
                    }
                    Taken::Short(_) | Taken::StrangersShort => Fate::Limited(Limit::Prefix),
                    Taken::Contended => Fate::Limited(Limit::Contention),
                }
            }
            Taken::Short(seen) => {
                let all = set(table, shape.common_set());
                let kissed = may_kiss(&mut self.unkissed, rules, all, now, seen, may_be_kissed);
                if kissed { Fate::Kissed } else { Fate::Limited(Limit::Address) }
            }
            Taken::StrangersShort => Fate::Limited(Limit::Strangers),
            Taken::Contended => Fate::Limited(Limit::Contention),
        }
    }

    /// Whether a client that is denied may be told so, within the same bounds as those over their limit. It has no entry: the
    /// strangers of its set are kissed once a second.
    pub fn may_tell_denied(&mut self, place: Place, may_be_kissed: bool) -> bool {
        let Self { table, shape, rules, now, .. } = self;
        let [strangers, ..] = set(table, shape.address_set(place.address));
        let (all, seen) = (set(table, shape.common_set()), see(strangers));
        may_kiss(&mut self.unkissed, rules, all, *now, seen, may_be_kissed)
    }

    /// Requests that strangers' buckets have paid for: nobody made room for an entry.
    #[must_use]
    pub const fn strangers(&self) -> u64 {
        self.strangers
    }

    /// log₂ of the least poll interval, in whole seconds, that keeps to an address's rate.
    #[must_use]
    pub const fn poll(&self) -> i8 {
        self.rules.address.poll()
    }
}

/// Set `number` of a table whose shape was made from its size.
#[inline]
fn set(table: &[AtomicU64], number: u64) -> &Set {
    let (sets, _) = table.as_chunks::<WAYS>();
    usize::try_from(number).ok().and_then(|number| sets.get(number)).expect("the table has its shape")
}

/// Whether one more refused request is kissed: one in a few, its owner not again at once, and all together at their rate.
fn may_kiss(
    unkissed: &mut u32,
    rules: &Rules,
    [all, ..]: &Set,
    now: Moment,
    (word, entry): Seen<'_>,
    may_be_kissed: bool,
) -> bool {
    *unkissed = rules.kiss.min(*unkissed + 1);
    if rules.kiss == 0 || *unkissed < rules.kiss || !may_be_kissed {
        return false;
    }
    let Some(kissed) = entry.kissed(now) else { return false };
    if pay(all, &rules.kisses, now) != Some(true) || !replace((word, entry), kissed) {
        return false;
    }
    *unkissed = 0;
    true
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "flood_tests.rs"]
mod flood_tests;
