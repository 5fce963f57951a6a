//! Interleaved mode (RFC 9769 §2): pairs of a reply's receive timestamp and the moment when it really left.
//!
//! A client that interleaves names an earlier reply by its receive timestamp, and is told when that one left instead of
//! when this one, it is hoped, will. Receive timestamps are odd and transmit timestamps even, so a request shows by one
//! bit that its client may interleave, and nothing is kept for others.
//!
//! ```text
//! request                  reply, basic              reply, interleaved
//! origin    a receive      origin    transmit        origin    receive
//! receive   its own        receive   arrival         receive   arrival
//! transmit  its own        transmit  now             transmit  when the reply that origin names left
//! ```
//!
//! The memory is fixed. A pair is found under the whole receive timestamp and 63 bits of a keyed hash of the client's
//! address, the listener's kind and the clock's generation: what was said across a step is never found. Should two
//! clients ever share a hash, they still don't share a receipt: no two replies of a worker have the same.
//!
//! Who floods can't take what others have. Pairs of clients that came back for one before are replaced only by their
//! like, most newcomers wait until others have had their chance, and pairs of one network (an IPv4 address, an IPv6 /64) lie
//! within a part of the table. A client whose
//! pair is gone is answered in basic mode, and interleaves again from its next request on.

use super::{Reply, transmit_after};
use crate::hash::{halves, mix};
use crate::time::NtpTimestamp;
use crate::wire::{Request, RequestMode, Version};
use core::net::IpAddr;

/// Pairs that lie in one set, and are looked through together.
pub const WAYS: usize = 16;

/// Places for two clients that the table is made for. A pair comes into a random set, so with 16 places for 6.4 pairs
/// one in 1,600 finds its set full (Erlang's loss formula); networks that overlap unevenly make it one in 150.
const PLACES_PER_TWO_CLIENTS: usize = 5;

/// The sets over which the pairs of an IPv4 address are spread: 64 pairs, for those behind one NAT.
const SPREAD_V4: u64 = 4;
/// The part of the table over which those of an IPv6 /64 are spread: a rack's or a site's clients may share one, and the
/// parts of a hundred of them overlap evenly enough.
const SPREAD_V6_PART: u64 = 4;

/// A client that hasn't come back in four times the longest usual poll interval (1,024 s) won't.
const STALE_AFTER_S: u64 = 1 << 12;
/// A newcomer has so long to come back before others may try, and until then only one in so many of them may: where they
/// are more than the table holds, or a network's part of it, not all displace each other, and some come to stay.
const TRIED_FOR_S: u64 = 128;
const TRIES_PART: u64 = 64;

/// Whether a request has the form that RFC 9769 §2 asks of those that interleave, and could name a reply of ours: version
/// 4 (no earlier one knows the mode), mode 3 (interleaved peers keep associations, which we don't), receive and transmit
/// timestamps that differ, and an odd origin.
#[must_use]
#[inline]
pub const fn may_interleave(request: &Request) -> bool {
    request.origin.bits() & 1 == 1
        && matches!(request.version, Version::V4)
        && matches!(request.mode, RequestMode::Client)
        && request.receive.bits() != request.transmit.bits()
}

impl Reply {
    /// The same as an interleaved reply to `request`: it is told apart by its origin (RFC 9769 §2).
    #[must_use]
    #[inline]
    pub const fn interleaved(self, request: &Request) -> Self {
        Self { origin: request.receive, ..self }
    }
}

/// One client of one kind of listener under one generation of the clock, hashed under a table's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// Of all that; the lowest bit is 0.
    tag: u64,
    /// Of its network alone.
    network: u64,
    /// The sets that its network's pairs are spread over.
    spread: u64,
}

/// Who would miss a pair: the later, the fewer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Owner {
    /// A client that came back for an earlier one.
    Returner,
    /// A client that may come back yet.
    Newcomer,
    /// Nobody any more.
    Nobody,
}

/// A pair, or a place for one.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The receive timestamp, which is odd; 0 where there is no pair.
    receive: u64,
    /// The client's tag; its lowest bit is 1 for a client that came back.
    client: u64,
    /// When the reply left.
    transmit: u64,
}

impl Place {
    const FREE: Self = Self { receive: 0, client: 0, transmit: 0 };

    const fn is_free(&self) -> bool {
        self.receive == 0
    }

    const fn is_of(&self, client: &Client, receive: NtpTimestamp) -> bool {
        self.receive == receive.bits() && self.client & !1 == client.tag
    }

    /// Who would miss what is here when a pair of `receive` comes, and how old it is: of the greatest the place is taken.
    const fn owner(&self, receive: NtpTimestamp) -> (Owner, u64) {
        // Departures are told out of order; but what lies ahead by more than that is from before a step.
        let ahead = self.receive.wrapping_sub(receive.bits());
        let age = if ahead >> 32 == 0 { 0 } else { receive.bits().wrapping_sub(self.receive) };
        let (owner, expires_after_s) = if self.client & 1 == 0 {
            (Owner::Newcomer, TRIED_FOR_S)
        } else {
            (Owner::Returner, STALE_AFTER_S)
        };
        if self.is_free() {
            (Owner::Nobody, u64::MAX)
        } else if age >> 32 >= expires_after_s {
            (Owner::Nobody, age)
        } else {
            (owner, age)
        }
    }
}

/// Places that are looked through together.
#[derive(Clone, Copy, Debug)]
pub struct Set([Place; WAYS]);

impl Set {
    /// No pair in it.
    pub const EMPTY: Self = Self([Place::FREE; WAYS]);
}

/// How many sets hold the pairs of `clients`, so that 99 % of them and more find theirs; none for none.
#[must_use]
pub const fn sets_for(clients: usize) -> usize {
    clients.saturating_mul(PLACES_PER_TWO_CLIENTS).div_ceil(2 * WAYS)
}

/// A worker's table of pairs, in memory that the caller gives.
#[derive(Debug)]
pub struct Pairs<M> {
    sets: M,
    key: u64,
    evicted: u64,
}

impl<M: AsRef<[Set]> + AsMut<[Set]>> Pairs<M> {
    /// A table in `sets`, all of them [`EMPTY`](Set::EMPTY); without any, nobody interleaves. Nobody outside may know
    /// `key`, or they could choose addresses that displace each other.
    #[must_use]
    pub const fn new(sets: M, key: u64) -> Self {
        Self { sets, key, evicted: 0 }
    }

    /// Whether there is room for any pair.
    #[must_use]
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.sets.as_ref().is_empty()
    }

    /// Pairs that made room for others, or found none, before anybody asked for them.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The client at `address` of a listener that smears leap seconds or doesn't, under this generation of the clock.
    #[must_use]
    pub fn client(&self, address: IpAddr, smeared: bool, generation: u32) -> Client {
        let sets = u64::try_from(self.sets.as_ref().len()).unwrap_or(u64::MAX);
        let (network, host, spread) = match address {
            // No network of IPv6 has these upper bits (RFC 4291 §2.4).
            IpAddr::V4(address) => (1 << 63 | u64::from(address.to_bits()), 0, SPREAD_V4),
            IpAddr::V6(address) => {
                let (network, host) = halves(address.to_bits());
                (network, host, sets.div_ceil(SPREAD_V6_PART))
            }
        };
        let network = mix(self.key ^ network);
        let said_by = u64::from(generation) << 1 | u64::from(smeared);
        let tag = mix(mix(network.rotate_left(32) ^ host) ^ said_by) & !1;
        Client { tag, network, spread }
    }

    /// When the reply to `client` left whose receive timestamp was `origin`; told once.
    pub fn take(&mut self, client: &Client, origin: NtpTimestamp) -> Option<NtpTimestamp> {
        let place = self.set(client, origin)?.0.iter_mut().find(|place| place.is_of(client, origin))?;
        let transmit = place.transmit;
        *place = Place::FREE;
        Some(NtpTimestamp::from_bits(transmit))
    }

    /// Keeps that the reply to `client` with this receive timestamp left at `left`, which is made even and later than
    /// `receive`; of a client that has `returned` for a pair before, rather than of one that never did.
    pub fn keep(&mut self, client: &Client, receive: NtpTimestamp, left: NtpTimestamp, returned: bool) {
        let may_try = mix(receive.bits() ^ self.key).is_multiple_of(TRIES_PART);
        let Some(set) = self.set(client, receive) else { return };
        let places = set.0.iter_mut();
        let rank = |place: &Place| (place.is_of(client, receive), place.owner(receive));
        let Some(place) = places.max_by_key(|place| rank(place)) else { return };
        let is_lost = !place.is_free();
        let is_kept = match place.owner(receive).0 {
            Owner::Returner => returned,
            Owner::Newcomer => returned || may_try,
            Owner::Nobody => true,
        };
        if is_kept {
            *place = Place {
                receive: receive.bits(),
                client: client.tag | u64::from(returned),
                transmit: transmit_after(receive, left).bits(),
            };
        }
        self.evicted = self.evicted.wrapping_add(u64::from(is_lost));
    }

    /// Where a pair of `client` lies.
    fn set(&mut self, client: &Client, receive: NtpTimestamp) -> Option<&mut Set> {
        let key = self.key;
        let sets = self.sets.as_mut();
        let count = u64::try_from(sets.len()).ok().filter(|count| *count > 0)?;
        let spread = share_of(mix(receive.bits() ^ key), client.spread.min(count));
        let set = (share_of(client.network, count) + spread) % count;
        sets.get_mut(usize::try_from(set).ok()?)
    }
}

/// A hash brought to 0 up to `count`, excluded.
const fn share_of(hash: u64, count: u64) -> u64 {
    ((hash as u128 * count as u128) >> 64) as u64
}

#[cfg(test)]
#[path = "interleaved_tests.rs"]
mod tests;
