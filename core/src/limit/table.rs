//! The table: sets of eight words, and how a request is charged in one of them.

use super::bucket::{Bucket, Charge};
use super::entry::Entry;
use super::moment::Moment;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words of a set. The first is the strangers' bucket, the others are entries.
pub const WAYS: usize = 8;

/// A set is a cache line, if the table begins at one.
pub const SET_OCTETS: usize = 64;
const _: () = assert!(WAYS * size_of::<AtomicU64>() == SET_OCTETS);

/// Addresses have so many sets of eight.
const ADDRESS_EIGHTHS: usize = 7;
/// So many sets at least: 64 KiB.
const SETS_MIN: usize = 1 << 10;
/// So many at most, 16 GiB, so that a set's number has 32 bits.
const SETS_MAX: usize = 1 << 28;

/// A change that another worker was ahead of is tried again, so often in all.
const TRIES: usize = 4;

pub(super) type Set = [AtomicU64; WAYS];

/// What lies where: the addresses' sets, the prefixes', and one of which the first word is the bucket of all kisses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// From the first set on.
    pub address_sets: u32,
    /// Behind them.
    pub prefix_sets: u32,
}

impl Shape {
    /// Of a table in memory of so many words, whole sets of it; none if it is smaller than 64 KiB or larger than 16 GiB.
    #[must_use]
    pub fn of(words: usize) -> Option<Self> {
        let sets = words / WAYS;
        if !(SETS_MIN..=SETS_MAX).contains(&sets) {
            return None;
        }
        let addresses = sets * ADDRESS_EIGHTHS / 8;
        let narrow = |sets| u32::try_from(sets).ok();
        Some(Self { address_sets: narrow(addresses)?, prefix_sets: narrow(sets - addresses - 1)? })
    }

    /// The number of an address's set.
    #[must_use]
    #[inline]
    pub const fn address_set(&self, hash: u64) -> u64 {
        share_of(hash, self.address_sets)
    }

    /// The number of a prefix's set.
    #[must_use]
    #[inline]
    pub const fn prefix_set(&self, hash: u64) -> u64 {
        self.address_sets as u64 + share_of(hash, self.prefix_sets)
    }

    /// The number of the last set.
    pub(super) const fn common_set(&self) -> u64 {
        self.address_sets as u64 + self.prefix_sets as u64
    }
}

/// The lower half of a hash brought to 0 up to `count`, excluded.
#[inline]
const fn share_of(hash: u64, count: u32) -> u64 {
    ((hash & 0xFFFF_FFFF) * count as u64) >> 32
}

/// A word and what it was when it was read.
pub(super) type Seen<'t> = (&'t AtomicU64, Entry);

/// What became of a request in a set.
pub(super) enum Taken<'t> {
    /// It is paid for, by the entry or, where there was no place for one, by the strangers' bucket.
    Paid { by_strangers: bool },
    /// The entry can't pay.
    Short(Seen<'t>),
    /// There is no place for an entry, and the strangers' bucket can't pay.
    StrangersShort,
    /// Others were ahead each time.
    Contended,
}

/// Who came, when, and what is asked of them.
#[derive(Clone, Copy)]
pub(super) struct Visit<'r> {
    pub(super) tag: u64,
    pub(super) bucket: &'r Bucket,
    pub(super) now: Moment,
    /// Newcomers are worth something.
    pub(super) calm: bool,
    /// Worth grows.
    pub(super) raises: bool,
}

/// The entry with `tag`, if there is one.
#[inline]
pub(super) fn find(set: &Set, tag: u64) -> Option<Seen<'_>> {
    let [_, ways @ ..] = set;
    ways.iter().map(see).find(|(_, entry)| entry.tag() == tag)
}

/// A word as it is now.
#[inline]
pub(super) fn see(word: &AtomicU64) -> Seen<'_> {
    (word, Entry::from_bits(word.load(Relaxed)))
}

/// The place that a newcomer of `level` may have, if there is one.
fn room(set: &Set, level: u64, now: Moment) -> Option<Seen<'_>> {
    let [_, ways @ ..] = set;
    let losses = ways.iter().map(see).filter_map(|seen| Some((seen.1.loss(level, now)?, seen)));
    losses.min_by_key(|(loss, _)| *loss).map(|(_, seen)| seen)
}

/// Replaces what was seen, unless it has changed.
#[inline]
pub(super) fn replace((word, was): Seen<'_>, by: Entry) -> bool {
    // Relaxed: the word is all there is, and nothing is read because of it.
    word.compare_exchange(was.bits(), by.bits(), Relaxed, Relaxed).is_ok()
}

/// Charges a request in its set, where `known` is what [`find`] found.
#[inline]
pub(super) fn take<'t>(set: &'t Set, mut known: Option<Seen<'t>>, visit: &Visit<'_>) -> Taken<'t> {
    let Visit { tag, bucket, now, raises, .. } = *visit;
    for _ in 0..TRIES {
        let Some(seen) = known else {
            if let Some(taken) = take_as_newcomer(set, visit) {
                return taken;
            }
            known = find(set, tag);
            continue;
        };
        let entry = seen.1;
        let debt = entry.debt(now);
        let after = match bucket.charge(debt) {
            Charge::Paid(owed) if raises && entry.has_rested(now) => entry.raised().full_at(now.after(owed)),
            Charge::Paid(owed) => entry.full_at(now.after(owed)),
            Charge::Short => return Taken::Short(seen),
            Charge::Astray(owed) => {
                // If another was ahead, they have put it right.
                replace(seen, entry.full_at(now.after(owed)));
                return Taken::Short(seen);
            }
        };
        if replace(seen, after) {
            return Taken::Paid { by_strangers: false };
        }
        known = find(set, tag);
    }
    Taken::Contended
}

/// Charges who has no entry: to a new one, or to the strangers' bucket; none if another was ahead.
fn take_as_newcomer<'t>(set: &'t Set, Visit { tag, bucket, now, calm, .. }: &Visit<'_>) -> Option<Taken<'t>> {
    let level = u64::from(*calm);
    if let Some(place) = room(set, level, *now) {
        let entry = Entry::newcomer(*tag, level, now.after(bucket.interval_units()));
        return replace(place, entry).then_some(Taken::Paid { by_strangers: false });
    }
    let [strangers, ..] = set;
    Some(match pay(strangers, bucket, *now)? {
        true => Taken::Paid { by_strangers: true },
        false => Taken::StrangersShort,
    })
}

/// Raises who has this tag; if others are ahead, another time.
#[inline]
pub(super) fn raise(set: &Set, tag: u64) {
    if let Some(seen) = find(set, tag) {
        let _done = replace(seen, seen.1.raised());
    }
}

/// Charges a word that is nothing but a bucket; none if another was ahead.
pub(super) fn pay(word: &AtomicU64, bucket: &Bucket, now: Moment) -> Option<bool> {
    let seen = see(word);
    let (owed, paid) = match bucket.charge(seen.1.debt(now)) {
        Charge::Paid(owed) => (owed, true),
        Charge::Short => return Some(false),
        Charge::Astray(owed) => (owed, false),
    };
    replace(seen, seen.1.full_at(now.after(owed))).then_some(paid)
}
