//! Clients whose packets meet more than one worker: what a NIC that doesn't spread by source address alone brings about.
//!
//! One table for all workers that take packets from NIC queues: by a hash of the address, who answered it last. An entry
//! holds all of the hash that its place doesn't say, so that two clients in one place displace and never accuse each
//! other. While every client meets one worker, and there are no more clients than places, nobody writes.

use maser_core::hash::{halves, mix};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places of the table, 128 KiB. Among more clients than that a split one is noticed while its packets come close together.
const PLACES: usize = 1 << 14;
/// The bits of a hash that choose its place; in an entry the worker stands there.
const PLACE_BITS: u64 = PLACES as u64 - 1;

const _: () = assert!(crate::config::WORKERS_MAX < PLACES, "a worker's number fits its bits");

/// Who answered whom last.
#[derive(Debug)]
pub struct Splits {
    /// Nobody outside can choose addresses that displace each other without knowing this number.
    key: u64,
    /// The hash but for the place's bits, and the worker's number from 1; 0 for nobody.
    places: Box<[AtomicU64]>,
}

impl Splits {
    /// An empty table under a key that nobody knows. All memory is allocated here.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_key(RandomState::new().hash_one(0_u8))
    }

    /// An empty table under this key, where it has to be the same from run to run which clients share a place.
    #[must_use]
    pub fn with_key(key: u64) -> Arc<Self> {
        Arc::new(Self { key, places: (0..PLACES).map(|_| AtomicU64::new(0)).collect() })
    }

    /// The table as one worker writes it.
    ///
    /// # Panics
    /// If there can't be so many workers.
    #[must_use]
    pub fn of_worker(self: &Arc<Self>, worker: usize) -> SplitWatch {
        let mark = worker as u64 + 1;
        assert!(mark <= PLACE_BITS, "there are at most WORKERS_MAX workers");
        SplitWatch { splits: Arc::clone(self), mark }
    }

    /// One to one for the addresses of IPv4, and for those of IPv6 that share their first half.
    #[inline]
    fn hash(&self, client: IpAddr) -> u64 {
        match client {
            IpAddr::V4(client) => mix(self.key ^ u64::from(client.to_bits())),
            IpAddr::V6(client) => {
                let (network, host) = halves(client.to_bits());
                mix(mix(self.key ^ network) ^ host)
            }
        }
    }
}

/// One worker's part in noticing.
#[derive(Clone, Debug)]
pub struct SplitWatch {
    splits: Arc<Splits>,
    mark: u64,
}

impl SplitWatch {
    /// Notes that this worker answers `client`; whether another did so before.
    ///
    /// The entries stand for themselves and order nothing else: two workers at one entry at a time lose a note at worst.
    #[inline]
    #[must_use]
    pub fn is_split(&self, client: IpAddr) -> bool {
        let hash = self.splits.hash(client);
        let entry = hash & !PLACE_BITS | self.mark;
        let Some(place) = usize::try_from(hash & PLACE_BITS).ok().and_then(|at| self.splits.places.get(at))
        else {
            return false;
        };
        let before = place.load(Ordering::Relaxed);
        if before == entry {
            return false;
        }
        place.store(entry, Ordering::Relaxed);
        // An empty place has no worker, whatever its other bits.
        before & PLACE_BITS != 0 && before & !PLACE_BITS == entry & !PLACE_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_steady_mapping_is_never_called_split_however_many_clients_share_the_places() {
        let splits = Splits::new();
        let workers = [0, 1, 2, 255].map(|worker| splits.of_worker(worker));
        let clients = 4 * u32::try_from(PLACES).unwrap();
        let mut called = 0;
        for _ in 0..3 {
            for (number, worker) in (0..clients).zip(workers.iter().cycle()) {
                called += u32::from(worker.is_split(v4(number)));
                let wide = Ipv6Addr::from_bits(u128::from(number) << 64 | 7);
                called += u32::from(worker.is_split(wide.into()));
            }
        }
        assert_eq!(called, 0);
    }

    #[test]
    fn a_client_that_changes_its_worker_is_called_split_each_time() {
        let splits = Splits::new();
        let (one, other) = (splits.of_worker(0), splits.of_worker(1));
        for client in [v4(0), v4(0xC633_6401), IpAddr::from(Ipv6Addr::LOCALHOST)] {
            let called = [&one, &one, &other, &other, &one].map(|worker| worker.is_split(client));
            assert_eq!(called, [false, false, true, false, true], "{client}");
        }
    }
}
