//! How far the server's word goes where the machine's clock is steered: the keeper obeys it within bounds, so that a server
//! that was taken over can do little.

use super::fault::Fault;
use maser_core::steer::{Frequency, KernelWord, LeapSecond, Order, PANIC_THRESHOLD, STEP_OUT};
use maser_core::time::{Span, is_last_of_month};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An order as it travels, all of it alleged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ordered {
    /// Units of 2⁻¹⁶ ppm.
    frequency: i64,
    phase: i64,
    step_ns: Option<i64>,
    synchronised: bool,
    /// The largest error and the probable one.
    error_ns: Option<(i64, i64)>,
    /// 1 for an inserted second, −1 for a deleted one, 0 for none.
    leap: i8,
    tai_offset_s: Option<i32>,
    takes_over: bool,
}

impl Ordered {
    pub(crate) fn of(order: &Order) -> Self {
        let KernelWord { synchronised, error, leap, tai_offset_s } = order.word;
        Self {
            frequency: order.frequency.units(),
            phase: order.phase.units(),
            step_ns: order.step.map(Span::as_nanos),
            synchronised,
            error_ns: error.map(|(most, probable)| (most.as_nanos(), probable.as_nanos())),
            leap: match leap {
                None => 0,
                Some(LeapSecond::Inserted) => 1,
                Some(LeapSecond::Deleted) => -1,
            },
            tai_offset_s,
            takes_over: order.takes_over,
        }
    }

    fn order(&self) -> Order {
        let error = |(most, probable)| (Span::from_nanos(most), Span::from_nanos(probable));
        Order {
            frequency: Frequency::from_units(self.frequency),
            phase: Frequency::from_units(self.phase),
            step: self.step_ns.map(Span::from_nanos),
            word: KernelWord {
                synchronised: self.synchronised,
                error: self.error_ns.map(error),
                leap: match self.leap {
                    0 => None,
                    1.. => Some(LeapSecond::Inserted),
                    _ => Some(LeapSecond::Deleted),
                },
                tai_offset_s: self.tai_offset_s,
            },
            takes_over: self.takes_over,
        }
    }
}

/// What servers before have done with the machine's clock, since the keeper was started.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Past {
    /// It has been within what is slewed, or was stepped.
    pub has_begun: bool,
    /// Somebody else steers it.
    pub is_contested: bool,
}

/// A correction of the phase that isn't renewed is ended after this: three looks of the server's.
const PHASE_MAX: Duration = Duration::from_secs(3);
/// TAI − UTC grows by a second in a few years.
const TAI_OFFSETS_S: std::ops::RangeInclusive<i32> = 10..=200;
const DAY_S: i64 = 86_400;

/// What is let through to the kernel.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    is_allowed: bool,
    first_step_unlimited: bool,
    past: Past,
    stepped: Option<Duration>,
    /// An order whose correction of the phase stands, and when that has to end.
    unsettled: Option<(Order, Duration)>,
}

impl Bounds {
    /// As the operator has configured it.
    pub(crate) fn new(is_allowed: bool, first_step_unlimited: bool) -> Self {
        Self { is_allowed, first_step_unlimited, ..Self::default() }
    }

    /// As the operator has configured it anew; what was done holds.
    pub(crate) fn turn_to(&mut self, is_allowed: bool, first_step_unlimited: bool) {
        (self.is_allowed, self.first_step_unlimited) = (is_allowed, first_step_unlimited);
    }

    /// The order, if it is within bounds; `now` since the machine started, `day` the kernel's, since 1970.
    pub(crate) fn check(&self, ordered: &Ordered, now: Duration, unix_s: i64) -> Result<Order, Fault> {
        let refused = |why: &str| Err(Fault::new(format!("the keeper doesn't set the clock: {why}")));
        if !self.is_allowed {
            return refused("clock.steer isn't set");
        }
        if self.past.is_contested {
            return refused("somebody else does, until maser is started again");
        }
        let order = ordered.order();
        if !order.frequency.is_within_max() || order.frequency.with(order.phase).is_none() {
            return refused("more than 500 ppm");
        }
        if let Some(step) = order.step {
            let is_unlimited = self.first_step_unlimited && !self.past.has_begun;
            if step.abs() > PANIC_THRESHOLD && !is_unlimited {
                return refused("a step of more than 1000 s");
            }
            let pause = Duration::from_secs(STEP_OUT.as_nanos().unsigned_abs() / 1_000_000_000);
            if self.stepped.is_some_and(|stepped| now < stepped.saturating_add(pause)) {
                return refused("it was stepped less than 900 s ago");
            }
        }
        if order.word.leap.is_some() && !is_last_of_month(unix_s.div_euclid(DAY_S)) {
            return refused("a leap second within a month");
        }
        if order.word.tai_offset_s.is_some_and(|offset| !TAI_OFFSETS_S.contains(&offset)) {
            return refused("no such difference of TAI and UTC");
        }
        Ok(order)
    }

    /// The order was obeyed.
    pub(crate) fn obeyed(&mut self, order: &Order, now: Duration) {
        if order.step.is_some() {
            self.stepped = Some(now);
        }
        self.past.has_begun |= order.step.is_some() || order.word.synchronised;
        self.unsettled = (order.phase != Frequency::ZERO).then_some((*order, now.saturating_add(PHASE_MAX)));
    }

    /// The clock is somebody else's: nothing is obeyed any more.
    pub(crate) fn leave(&mut self) {
        self.past.is_contested = true;
    }

    /// What the next server has to know.
    pub(crate) fn past(&self) -> Past {
        self.past
    }

    /// When a correction of the phase has to end, if one stands.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.unsettled.map(|(_, due)| due)
    }

    /// What ends a correction that is due by `now`, once. A clock that doesn't run at the `frequency` that was ordered is
    /// somebody else's by now, or one that can't be read.
    pub(crate) fn settle(
        &mut self,
        now: Duration,
        frequency: impl FnOnce() -> Option<Frequency>,
    ) -> Option<Order> {
        let (order, _) = self.unsettled.take_if(|(_, due)| *due <= now)?;
        (frequency() == Some(order.total())).then(|| order.settled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST_OF_YEAR_S: i64 = 1_798_675_200 + 43_200;

    fn order() -> Order {
        Order {
            frequency: Frequency::from_units(-7),
            phase: Frequency::from_units(9),
            step: None,
            word: KernelWord {
                synchronised: true,
                error: Some((Span::from_seconds(1), Span::from_nanos(5))),
                leap: None,
                tai_offset_s: Some(37),
            },
            takes_over: true,
        }
    }

    fn stepping(seconds: i64) -> Ordered {
        Ordered::of(&Order { step: Some(Span::from_seconds(seconds)), ..order() })
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_order_travels_whole() {
        for leap in [None, Some(LeapSecond::Inserted), Some(LeapSecond::Deleted)] {
            let order = Order { word: KernelWord { leap, ..order().word }, ..order() };
            let text = serde_json::to_string(&Ordered::of(&order)).unwrap();
            assert_eq!(serde_json::from_str::<Ordered>(&text).unwrap().order(), order);
        }
    }

    #[test]
    fn without_the_operators_word_nothing_is_set() {
        let fault = Bounds::new(false, true).check(&Ordered::of(&order()), at(1), 0).unwrap_err();
        assert!(fault.to_string().contains("clock.steer"), "{fault}");
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        let bounds = Bounds::new(true, false);
        let refused = |ordered: Ordered, unix_s: i64, why: &str| {
            let fault = bounds.check(&ordered, at(1), unix_s).unwrap_err();
            assert!(fault.to_string().contains(why), "{fault}");
        };
        let good = Ordered::of(&order());
        assert_eq!(bounds.check(&good, at(1), 0), Ok(order()));
        let most = Frequency::MAX.units();
        for (frequency, phase) in [
            (most + 1, 0),
            (most + 1, -9),
            (most, 1),
            (-most, -1),
            (i64::MIN, 0),
            (0, i64::MAX),
            (i64::MAX, i64::MAX),
        ] {
            refused(Ordered { frequency, phase, ..good }, 0, "500 ppm");
        }
        for step_s in [1_001, -1_001, 4_000_000_000] {
            refused(stepping(step_s), 0, "1000 s");
        }
        for leap in [1, -1, 100] {
            assert!(bounds.check(&Ordered { leap, ..good }, at(1), LAST_OF_YEAR_S).is_ok());
            refused(Ordered { leap, ..good }, LAST_OF_YEAR_S - DAY_S, "leap second");
        }
        for offset in [9, 201, -1, i32::MIN] {
            refused(Ordered { tai_offset_s: Some(offset), ..good }, 0, "TAI");
        }
    }

    #[test]
    fn it_is_stepped_once_in_a_quarter_of_an_hour() {
        let mut bounds = Bounds::new(true, true);
        let first = bounds.check(&stepping(5_000_000), at(5), 0).unwrap();
        bounds.obeyed(&first, at(5));
        assert!(bounds.check(&stepping(1), at(904), 0).is_err());
        assert!(bounds.check(&stepping(1_001), at(905), 0).is_err(), "not the first");
        assert!(bounds.check(&stepping(1_000), at(905), 0).is_ok());
    }

    #[test]
    fn no_step_is_the_first_once_the_clock_was_synchronised() {
        let mut bounds = Bounds::new(true, true);
        let word = KernelWord { synchronised: false, ..order().word };
        bounds.obeyed(&Order { word, ..order() }, at(1));
        assert!(bounds.check(&stepping(1_001), at(2), 0).is_ok() && !bounds.past().has_begun);
        bounds.obeyed(&order(), at(2));
        let fault = bounds.check(&stepping(1_001), at(3), 0).unwrap_err();
        assert!(fault.to_string().contains("1000 s") && bounds.past().has_begun, "{fault}");
        assert!(bounds.check(&stepping(1_000), at(3), 0).is_ok());
    }

    #[test]
    fn a_clock_that_was_left_to_somebody_else_is_not_set() {
        let mut bounds = Bounds::new(true, true);
        bounds.leave();
        let fault = bounds.check(&Ordered::of(&order()), at(1), 0).unwrap_err();
        assert!(fault.to_string().contains("somebody else") && bounds.past().is_contested, "{fault}");
    }

    #[test]
    fn a_correction_of_the_phase_ends_unless_it_is_renewed() {
        let mut bounds = Bounds::new(true, false);
        let ours = || Some(order().total());
        bounds.obeyed(&order(), at(10));
        assert_eq!((bounds.due(), bounds.settle(at(12), ours)), (Some(at(13)), None));
        bounds.obeyed(&order(), at(12));
        let settled = bounds.settle(at(15), ours).unwrap();
        assert_eq!((settled.total(), settled.step, settled.takes_over), (order().frequency, None, false));
        let KernelWord { synchronised, error, leap, tai_offset_s } = settled.word;
        assert_eq!((synchronised, error, leap, tai_offset_s), (true, None, None, None));
        assert_eq!((bounds.due(), bounds.settle(at(99), ours)), (None, None));
        bounds.obeyed(&Order { phase: Frequency::ZERO, ..order() }, at(20));
        assert_eq!(bounds.due(), None);
    }

    #[test]
    fn a_correction_that_somebody_else_has_replaced_is_left_alone() {
        for found in [None, Some(order().frequency), Some(Frequency::from_units(-90 << 16))] {
            let mut bounds = Bounds::new(true, false);
            bounds.obeyed(&order(), at(10));
            assert_eq!((bounds.settle(at(13), || found), bounds.due()), (None, None), "{found:?}");
        }
    }
}
