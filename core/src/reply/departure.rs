//! When a reply will leave that shares its system call with others.
//!
//! Transmit timestamps are written before the call that sends the replies, one after the other. The second leaves when
//! the first has been sent, and so on: its timestamp is that much later than now. What a send takes is learnt from the
//! calls before, on the low side, so that a timestamp is rather a little early, as without this all are, than late.

/// What a send takes, in ticks of the counter.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Departure {
    /// 2⁻⁸ ticks.
    each: i64,
}

const FRACTION_BITS: u32 = 8;
/// A shorter send is believed by a quarter at once; a longer one by a 64th, since preemptions and interrupts make single
/// ones long.
const DOWN_BITS: u32 = 2;
const UP_BITS: u32 = 6;
/// Longer than any call: 2⁴⁰ ticks are minutes.
const TICKS_MAX: i64 = 1 << 40;

impl Departure {
    /// Nothing is known yet, and nothing is added.
    #[must_use]
    pub const fn new() -> Self {
        Self { each: 0 }
    }

    /// A call that sent `replies` took `ticks`, from the stamp of the first on. Nonsense is passed over.
    #[inline]
    pub const fn learn(&mut self, ticks: i64, replies: u32) {
        if replies == 0 || ticks < 0 || ticks > TICKS_MAX {
            return;
        }
        let each = (ticks << FRACTION_BITS) / replies as i64;
        let difference = each - self.each;
        self.each += if difference < 0 { difference >> DOWN_BITS } else { difference >> UP_BITS };
    }

    /// How many ticks from now a reply leaves that `ahead` others of its call leave before.
    #[inline]
    #[must_use]
    pub const fn ticks_after(&self, ahead: u32) -> i64 {
        let ticks = self.each.saturating_mul(ahead as i64);
        ticks >> FRACTION_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_always_so_is_learnt_and_the_first_is_never_moved() {
        let mut departure = Departure::new();
        assert_eq!(departure.ticks_after(15), 0);
        for _ in 0..1_000 {
            departure.learn(16_000, 16);
        }
        assert!((990 * 15..=1_000 * 15).contains(&departure.ticks_after(15)), "{departure:?}");
        assert_eq!(departure.ticks_after(0), 0);
    }

    #[test]
    fn a_preemption_is_soon_forgotten_and_a_faster_network_soon_learnt() {
        let mut departure = Departure::new();
        for _ in 0..1_000 {
            departure.learn(16_000, 16);
        }
        departure.learn(16_000_000, 16);
        for _ in 0..20 {
            departure.learn(16_000, 16);
        }
        assert!(departure.ticks_after(1) < 1_100, "{departure:?}");
        for _ in 0..20 {
            departure.learn(8_000, 16);
        }
        assert!(departure.ticks_after(1) < 520, "{departure:?}");
    }

    proptest! {
        #[test]
        fn whatever_is_learnt_it_lies_within(calls in prop::collection::vec((any::<i64>(), 0_u32..5_000), 0..50)) {
            let mut departure = Departure::new();
            let mut greatest = 0;
            for (ticks, replies) in calls {
                departure.learn(ticks, replies);
                if replies > 0 && (0..=TICKS_MAX).contains(&ticks) {
                    greatest = greatest.max(ticks / i64::from(replies));
                }
            }
            prop_assert!((0..=greatest + 1).contains(&departure.ticks_after(1)), "{:?} {}", departure, greatest);
        }
    }
}
