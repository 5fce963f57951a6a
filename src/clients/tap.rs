//! What a worker calls for each packet whose fate is known: it looks at one in so many, at each while there are few.

use super::ring::{Ring, SLOTS, Sample};
use maser_core::hash::mix;
use maser_core::heavy::{Fate, Network};
use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

/// Every time the ring is fuller by so much, one in twice as many is looked at at most: so it takes 255 times as many packets
/// as this to fill it, 2.6 million a second where it is read 20 times a second.
const STEP: usize = SLOTS / 8;
/// One in 256 is always looked at.
const HALVINGS_MAX: u8 = 8;

/// 2⁶⁴ divided by the golden ratio, by which SplitMix64 counts.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A worker's end. Nothing here allocates, locks, waits or calls the system.
#[derive(Debug)]
pub struct Tap {
    ring: Arc<Ring>,
    /// Packets until one is looked at, and that one.
    left: Cell<u32>,
    /// log₂ of how many packets that one stands for.
    halvings: Cell<u8>,
    numbers: Cell<u64>,
}

impl Tap {
    pub(super) fn new(ring: Arc<Ring>, seed: u64) -> Self {
        Self { ring, left: Cell::new(1), halvings: Cell::new(0), numbers: Cell::new(seed) }
    }

    /// One whose packets nobody counts.
    #[must_use]
    pub fn unheard() -> Self {
        Self::new(Arc::default(), 0)
    }

    /// Notes that a packet of `client` met this fate, and stands for `weight` of them.
    #[inline]
    pub fn saw(&self, client: IpAddr, fate: Fate, weight: u32) {
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        if left == 0 {
            self.look_at(client, fate, weight);
        }
    }

    /// By chance, and not each so-manieth: clients that ask in turn would hide behind one another.
    fn look_at(&self, client: IpAddr, fate: Fate, weight: u32) {
        let (client, halvings) = (Network::of(client), self.halvings.get());
        let waiting = self.ring.write(Sample { client, fate, weight, halvings });
        let by_fullness = u8::try_from(waiting / STEP).unwrap_or(u8::MAX);
        let halvings = by_fullness.max(self.ring.halvings()).min(HALVINGS_MAX);
        // From 1 to this, each as likely: 2^halvings in the mean.
        let most = (2_u64 << halvings) - 1;
        let number = self.numbers.get().wrapping_add(GOLDEN);
        self.numbers.set(number);
        let skipped = (u128::from(mix(number)) * u128::from(most)) >> 64;
        self.left.set(1 + u32::try_from(skipped).unwrap_or(0));
        self.halvings.set(halvings);
    }
}
