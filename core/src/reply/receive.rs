//! Receive timestamps, each handed out once.
//!
//! An interleaving client names an earlier reply by its receive timestamp (RFC 9769 §2), so no two replies to a
//! client may carry the same. Stamps come in bursts, from several queues and out of order, and none may be moved
//! further than it has to be: an honest stamp is worth more than the last guarantee of uniqueness.
//!
//! - A stamp later than all before it is free, and so is one that isn't among those of the last [`RECENT`] packets
//!   and later than all that were forgotten since.
//! - A stamp that collides gets the next free one, half a nanosecond later.
//! - Of a packet that comes so late that nothing can be told (others overtook it by [`RECENT`] packets), the lowest
//!   octet of the stamp becomes a running number: it moves by at most 60 ns, and equals another only if that one
//!   arrived in the same 60 ns and had, by chance, the same number.
//!
//! A client's packets all meet one worker, so uniqueness within a worker is what the lookup needs.

use crate::time::{Instant, Scale, Tai};
use core::marker::PhantomData;

/// How many stamps are remembered to tell late arrivals from collisions.
const RECENT: usize = 256;

/// The lowest bit of a receive timestamp is 1 (that of a transmit timestamp 0), so stamps are 2 units apart.
const STEP: u64 = 2;

/// The bits of a late packet's stamp that its running number replaces: 2⁻²⁴ s are 60 ns.
const NUMBER_BITS: u64 = 0xFF;

/// A worker's memory of the receive timestamps that it handed out, in units of 2⁻³² s.
///
/// It works in TAI: a leap second repeats the count of UTC, and would look like a second of collisions. Stamps of a
/// listener that smears leap seconds are unique in the count that is sent, which repeats nothing, since two that are
/// unique in TAI may fall together when it runs slower.
#[derive(Clone, Debug)]
pub struct ReceiveStamps<S: Scale = Tai> {
    recent: [u64; RECENT],
    oldest: usize,
    newest: u64,
    /// The latest stamp that is no longer remembered: at or before it nothing can be told.
    forgotten: u64,
    /// What was asked for last, and what was handed out: equal stamps in a row go on from there.
    last: (u64, u64),
    late: u64,
    generation: Option<u32>,
    moved: u64,
    scale: PhantomData<S>,
}

impl<S: Scale> Default for ReceiveStamps<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Scale> ReceiveStamps<S> {
    /// Nothing handed out yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            recent: [0; RECENT],
            oldest: 0,
            newest: 0,
            forgotten: 0,
            last: (0, 0),
            late: 0,
            generation: None,
            moved: 0,
            scale: PhantomData,
        }
    }

    /// The stamp for a packet that arrived at `arrival`: that moment, rounded to an odd count of 2⁻³² s, or the
    /// next free one. `generation` is the snapshot's: across a step of the served clock there is no order.
    #[inline]
    pub fn hand_out(&mut self, arrival: Instant<S>, generation: u32) -> Instant<S> {
        let wanted = units(arrival) | 1;
        if self.generation != Some(generation) {
            self.generation = Some(generation);
            self.newest = wanted.wrapping_sub(STEP);
            self.forgotten = wanted.wrapping_sub(1 << 62);
        }
        let next = if wanted == self.last.0 { self.last.1.wrapping_add(STEP) } else { wanted };
        let stamp = if after(next, self.newest) { next } else { self.free_stamp(next) };
        self.moved += u64::from(stamp != wanted);
        self.last = (wanted, stamp);
        self.remember(stamp);
        arrival_of(stamp, arrival)
    }

    /// How many stamps were moved because they collided or came too late to tell.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.moved
    }

    /// The out-of-order path: `wanted` if it is free as far as can be told, else one close to it.
    fn free_stamp(&mut self, wanted: u64) -> u64 {
        let mut stamp = wanted;
        if !after(wanted, self.forgotten) {
            self.late = self.late.wrapping_add(STEP);
            stamp = (wanted & !NUMBER_BITS) | (self.late & NUMBER_BITS) | 1;
        }
        // At most as many collisions as there are stamps to collide with.
        for _ in 0..RECENT {
            if !self.recent.contains(&stamp) {
                break;
            }
            stamp = stamp.wrapping_add(STEP);
        }
        stamp
    }

    fn remember(&mut self, stamp: u64) {
        if let Some(slot) = self.recent.get_mut(self.oldest) {
            // What an earlier generation handed out may lie ahead, and says nothing of this one's order.
            if after(*slot, self.forgotten) && !after(*slot, self.newest) {
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

/// In units of 2⁻³² s, modulo 2⁶⁴.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "differences modulo 2^64 are what count"
)]
const fn units<S: Scale>(moment: Instant<S>) -> u64 {
    (moment.raw() >> 32) as u64
}

/// The instant near `arrival` whose units are `stamp`.
#[expect(clippy::cast_possible_wrap, reason = "the signed distance modulo 2^64 is the nearest one")]
const fn arrival_of<S: Scale>(stamp: u64, arrival: Instant<S>) -> Instant<S> {
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
    fn a_backlog_overtaken_by_fresh_packets_keeps_its_stamps_to_60_ns() {
        let mut stamps = ReceiveStamps::new();
        let mut seen = HashSet::new();
        for i in 0..5_000_i64 {
            // Two sockets: the backlog of one is 50 ms old, and now and then the other has a fresh packet.
            if i % 300 == 0 {
                assert!(seen.insert(stamps.hand_out(NOW + Span::from_nanos(50_000_000 + i), 0).raw()));
            }
            let queued = NOW + Span::from_nanos(i * 1_000);
            let stamp = stamps.hand_out(queued, 0);
            assert!((stamp - queued).abs() <= Span::from_nanos(60), "{i}: {:?}", stamp - queued);
            assert!(seen.insert(stamp.raw()));
        }
    }

    #[test]
    fn a_generation_that_brought_no_step_brings_no_repeat() {
        let mut stamps = ReceiveStamps::new();
        let first = stamps.hand_out(NOW, 0);
        assert_ne!(stamps.hand_out(NOW, 1), first);
    }

    #[test]
    fn after_a_step_back_time_is_served_as_it_is() {
        let mut stamps = ReceiveStamps::new();
        for i in 0..1_000 {
            stamps.hand_out(NOW + Span::from_nanos(i), 0);
        }
        for i in 0..1_000 {
            let back = NOW - Span::from_seconds(3_600) + Span::from_nanos(i * 100);
            assert!((stamps.hand_out(back, 1) - back).abs() < Span::from_nanos(1));
        }
    }

    proptest! {
        #[test]
        fn a_stamp_differs_from_those_of_the_last_packets_and_is_hardly_moved(
            offsets in proptest::collection::vec(-300_i64..300, 1..2_000),
        ) {
            let mut stamps = ReceiveStamps::new();
            let mut handed: std::vec::Vec<i128> = std::vec::Vec::new();
            for offset in offsets {
                let arrival = NOW + Span::from_nanos(offset);
                let stamp = stamps.hand_out(arrival, 0);
                prop_assert_eq!(units(stamp) & 1, 1);
                prop_assert!(!handed.iter().rev().take(RECENT).any(|raw| *raw == stamp.raw()), "{:?} twice", stamp);
                // Its running number, and at most as many collisions as are remembered.
                prop_assert!((stamp - arrival).abs() <= Span::from_nanos(60 + 120), "moved by {:?}", stamp - arrival);
                handed.push(stamp.raw());
            }
        }

        #[test]
        fn nothing_is_handed_out_twice_where_no_packet_is_overtaken_by_many(
            gaps in proptest::collection::vec(0_i64..4, 1..3_000),
            lateness in proptest::collection::vec(0_i64..100, 3_000),
        ) {
            let mut stamps = ReceiveStamps::new();
            let mut seen = HashSet::new();
            let mut now_ns = 0;
            for (gap, late) in gaps.iter().zip(&lateness) {
                now_ns += gap;
                // At most 100 ns late, in which at most some 200 packets can have come.
                prop_assert!(seen.insert(stamps.hand_out(NOW + Span::from_nanos(now_ns - late), 0).raw()));
            }
        }
    }
}
