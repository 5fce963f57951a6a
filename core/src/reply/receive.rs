//! Receive timestamps, each handed out once.
//!
//! An interleaving client names an earlier reply by its receive timestamp (RFC 9769 §2), so no two replies of a
//! worker may carry the same. Stamps come in bursts, from several CPUs and a little out of order, and an honest one
//! must not be moved for that: only a stamp that collides, or that can't be told from one handed out long ago, is.
//! A client's packets all meet one worker, so uniqueness within a worker is what the lookup needs.

use crate::time::{Instant, Tai};

/// How many stamps are remembered to tell late arrivals from collisions.
const RECENT: usize = 256;

/// The lowest bit of a receive timestamp is 1 (that of a transmit timestamp 0), so stamps are 2 units apart.
const STEP: u64 = 2;

/// A worker's memory of the receive timestamps that it handed out, in units of 2⁻³² s.
///
/// It works in TAI: a leap second repeats the count of UTC, and would look like a second of collisions.
#[derive(Clone, Debug)]
pub struct ReceiveStamps {
    recent: [u64; RECENT],
    oldest: usize,
    newest: u64,
    /// The latest stamp that is no longer remembered: at or before it nothing can be told.
    forgotten: u64,
    generation: Option<u32>,
    moved: u64,
}

impl Default for ReceiveStamps {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveStamps {
    /// Nothing handed out yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { recent: [0; RECENT], oldest: 0, newest: 0, forgotten: 0, generation: None, moved: 0 }
    }

    /// The stamp for a packet that arrived at `arrival`: that moment, rounded to an odd count of 2⁻³² s, or the
    /// next free one. `generation` is the snapshot's: after a step of the served clock nothing is compared.
    #[inline]
    pub fn hand_out(&mut self, arrival: Instant<Tai>, generation: u32) -> Instant<Tai> {
        let wanted = units(arrival) | 1;
        if self.generation != Some(generation) {
            self.generation = Some(generation);
            self.newest = wanted.wrapping_sub(STEP);
            self.forgotten = wanted.wrapping_sub(1 << 62);
            self.recent = [self.forgotten; RECENT];
        }
        let stamp = if after(wanted, self.newest) { wanted } else { self.free_stamp(wanted) };
        self.remember(stamp);
        arrival_of(stamp, arrival)
    }

    /// How many stamps were moved because they collided or came too late to tell.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.moved
    }

    /// The out-of-order path: `wanted` if it provably is free, else the next free one.
    fn free_stamp(&mut self, wanted: u64) -> u64 {
        let mut stamp = wanted;
        if after(wanted, self.forgotten) {
            for _ in 0..RECENT {
                if !self.recent.contains(&stamp) {
                    self.moved += u64::from(stamp != wanted);
                    return stamp;
                }
                stamp = stamp.wrapping_add(STEP);
            }
        }
        self.moved += 1;
        self.newest.wrapping_add(STEP)
    }

    fn remember(&mut self, stamp: u64) {
        if let Some(slot) = self.recent.get_mut(self.oldest) {
            if after(*slot, self.forgotten) {
                self.forgotten = *slot;
            }
            *slot = stamp;
        }
        self.oldest = (self.oldest + 1) % RECENT;
        if after(stamp, self.newest) {
            self.newest = stamp;
        }
    }
}

/// TAI in units of 2⁻³² s, modulo 2⁶⁴.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "differences modulo 2^64 are what count"
)]
const fn units(moment: Instant<Tai>) -> u64 {
    (moment.raw() >> 32) as u64
}

/// The instant near `arrival` whose units are `stamp`.
#[expect(clippy::cast_possible_wrap, reason = "the signed distance modulo 2^64 is the nearest one")]
const fn arrival_of(stamp: u64, arrival: Instant<Tai>) -> Instant<Tai> {
    let moved = stamp.wrapping_sub(units(arrival)) as i64;
    Instant::from_raw(((arrival.raw() >> 32) + moved as i128) << 32)
}

#[expect(clippy::cast_possible_wrap, reason = "the signed distance modulo 2^64 is the nearest one")]
const fn after(a: u64, b: u64) -> bool {
    a.wrapping_sub(b) as i64 > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const NOW: Instant<Tai> = Instant::from_unix(1_795_000_000, 0);

    #[test]
    fn equal_stamps_part_by_the_least_step() {
        let mut stamps = ReceiveStamps::new();
        let handed: std::vec::Vec<_> = (0..5).map(|_| stamps.hand_out(NOW, 0)).collect();
        for pair in handed.windows(2) {
            assert_eq!((pair[1] - pair[0]).raw() >> 32, 2);
        }
        assert_eq!(stamps.moved(), 4);
    }

    #[test]
    fn a_late_packet_keeps_its_stamp() {
        let mut stamps = ReceiveStamps::new();
        stamps.hand_out(NOW, 0);
        stamps.hand_out(NOW + Span::from_nanos(90_000), 0);
        let late = NOW + Span::from_nanos(40_000);
        assert!((stamps.hand_out(late, 0) - late).abs() < Span::from_nanos(1));
        assert_eq!(stamps.moved(), 0);
    }

    #[test]
    fn after_a_step_back_time_is_served_as_it_is() {
        let mut stamps = ReceiveStamps::new();
        for i in 0..1_000 {
            stamps.hand_out(NOW + Span::from_nanos(i), 0);
        }
        let back = NOW - Span::from_seconds(3_600);
        assert!((stamps.hand_out(back, 1) - back).abs() < Span::from_nanos(1));
    }

    proptest! {
        #[test]
        fn no_stamp_is_handed_out_twice(offsets in proptest::collection::vec(-300_i64..300, 1..2_000)) {
            let mut stamps = ReceiveStamps::new();
            let mut seen = HashSet::new();
            for offset in offsets {
                let stamp = stamps.hand_out(NOW + Span::from_nanos(offset), 0);
                prop_assert_eq!(units(stamp) & 1, 1);
                prop_assert!(seen.insert(stamp.raw()), "{:?} twice", stamp);
            }
        }
    }
}
