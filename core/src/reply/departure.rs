//! When a reply will leave: some while after its transmit timestamp is written, and later where others leave before it.
//!
//! Transmit timestamps are written before the call that sends the replies, one after the other. The second leaves when
//! the first has been sent, and so on: its timestamp is that much later than now. What a send takes is learnt from the
//! calls before, on the low side, so that a timestamp is rather a little early, as without this all are, than late.
//!
//! What remains from then on until a reply is handed to the driver or the wire is learnt where a port tells departures
//! afterwards: the median of what it has been lately, so that a timestamp is as often late as early. A
//! machine that was busy and is so no more is noticed sooner than the other way round: late is worse than early.

use super::median::Median;
use crate::time::Span;

/// What sends take.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Departure {
    /// One of several of a call, in 2⁻⁸ ticks of the counter.
    each: i64,
    /// How much later than foreseen replies left, in nanoseconds.
    late: Median,
}

/// How much later than foreseen replies have left lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lateness {
    /// Their median, in nanoseconds.
    pub median_ns: i32,
    /// Half of the distance between their quartiles, in nanoseconds.
    pub spread_ns: u32,
}

/// A median beyond this isn't added whole: that a reply waits for so long is no matter of sending it.
const CORRECTION_MAX: Span = Span::from_nanos(1_000_000);

/// How much later than the least of the newest few samples a reply is foreseen to leave at most: those of a server under load
/// spread by so much, and where they spread more something else is in the way of some.
const SPREAD: Span = Span::from_nanos(4_000);

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
        Self { each: 0, late: Median::new() }
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

    /// A reply left so much later than foreseen.
    pub fn learn_late(&mut self, late: Span) {
        let nanos = late.as_nanos().clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        if let Ok(nanos) = i32::try_from(nanos) {
            self.late.push(nanos);
        }
    }

    /// How much later than foreseen replies leave; none before enough of them are known.
    #[must_use]
    pub fn lateness(&self) -> Option<Lateness> {
        let [low_ns, median_ns, high_ns] = self.late.quartiles()?;
        Some(Lateness { median_ns, spread_ns: high_ns.abs_diff(low_ns) / 2 })
    }

    /// What is to be added to the moment when a reply is foreseen to leave: the median, or a little more than the least of
    /// the newest few samples where that is less.
    #[must_use]
    pub fn correction(&self) -> Span {
        let (Some([_, median_ns, _]), Some(least_ns)) = (self.late.quartiles(), self.late.least_of_newest())
        else {
            return Span::ZERO;
        };
        let most = Span::from_nanos(least_ns.into()) + SPREAD;
        Span::from_nanos(median_ns.into()).min(most).clamp(-CORRECTION_MAX, CORRECTION_MAX)
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

    #[test]
    fn the_correction_is_the_median_and_no_more_than_a_millisecond() {
        let mut departure = Departure::new();
        assert_eq!(departure.lateness(), None);
        for number in 0..100 {
            let preempted = if number % 3 == 0 { 50_000_000 } else { 0 };
            departure.learn_late(Span::from_nanos(4_000 + number % 7 * 100 + preempted));
        }
        let lateness = departure.lateness().unwrap();
        assert!((4_000..5_000).contains(&lateness.median_ns), "{lateness:?}");
        assert_eq!(departure.correction(), Span::from_nanos(lateness.median_ns.into()));
        for _ in 0..100 {
            departure.learn_late(Span::MAX);
        }
        assert_eq!(departure.correction(), CORRECTION_MAX);
        assert_eq!(departure.ticks_after(3), 0, "the other figure is its own");
    }

    #[test]
    fn a_busy_machine_is_forgotten_sooner_than_learnt() {
        let mut departure = Departure::new();
        let mut after = |count: usize, late_ns: i64| {
            for _ in 0..count {
                departure.learn_late(Span::from_nanos(late_ns));
            }
            departure.correction().as_nanos()
        };
        assert_eq!(after(8, 4_000), 0);
        assert_eq!(after(70, 4_000), 4_000);
        assert_eq!([after(20, 25_000), after(20, 25_000), after(20, 25_000)], [4_000, 25_000, 25_000]);
        assert_eq!([after(1, 5_000), after(1, 5_000), after(60, 5_000)], [9_000, 9_000, 5_000]);
        // One that is quick says nothing of the next ones for long.
        assert_eq!([after(1, 500), after(14, 5_000), after(1, 5_000)], [4_500, 4_500, 5_000]);
    }

    #[test]
    fn a_machine_that_is_busy_most_of_the_time_is_taken_for_a_quick_one() {
        let mut departure = Departure::new();
        for number in 0..200 {
            departure.learn_late(Span::from_nanos(if number % 10 < 3 { 2_000 } else { 40_000 }));
        }
        assert_eq!(departure.lateness().unwrap().median_ns, 40_000);
        assert_eq!(departure.correction(), Span::from_nanos(6_000));
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
