use super::*;
use crate::snapshot::Growth;
use crate::time::{LeapWindow, NtpShort};
use proptest::prelude::*;
use std::vec::Vec;

/// A counter of nanoseconds that is right, and a kernel's clock over it.
struct Bench {
    steerer: Steerer,
    snapshot: Snapshot,
    ticks: i64,
    /// The kernel's clock less the served one.
    offset_ns: f64,
    natural: f64,
    kernel: KernelClock,
    steps_ns: i64,
    is_synchronised: bool,
    suspended: Span,
    /// Orders that were obeyed.
    orders: Vec<Order>,
}

const START_S: i64 = 1_800_000_000;

fn snapshot() -> Snapshot {
    let origin = Instant::from_unix(START_S + 37, 0);
    Snapshot {
        line: Some(Line { reference: Ticks::from_bits(0), origin, rate: Rate::NANOSECOND }),
        valid_until: Ticks::from_bits(1 << 62),
        leap: LeapWindow { offset_s: 37, next: None },
        stratum: 1,
        root_delay: NtpShort::from_bits(0),
        root_dispersion: Span::from_nanos(2_000),
        dispersion_growth: Growth::from_bits(0),
        generation: 1,
        ..Snapshot::UNKNOWN
    }
}

fn settings(nominal_rate: Rate) -> SteerSettings {
    SteerSettings {
        nominal_rate,
        first_step_unlimited: false,
        kept: None,
        has_begun: false,
        is_contested: false,
    }
}

impl Bench {
    fn new(offset_ns: f64, natural: f64, first_step_unlimited: bool) -> Self {
        let settings = SteerSettings { first_step_unlimited, ..settings(Rate::NANOSECOND) };
        let kernel = KernelClock { frequency: Frequency::ZERO, offset: Span::ZERO, adjtime_left: Span::ZERO };
        Self {
            steerer: Steerer::new(settings),
            snapshot: snapshot(),
            ticks: 0,
            offset_ns,
            natural,
            kernel,
            steps_ns: 0,
            is_synchronised: true,
            suspended: Span::ZERO,
            orders: Vec::new(),
        }
    }

    fn look(&self) -> Look {
        #[expect(clippy::cast_possible_truncation, reason = "a test's figures")]
        let realtime_ns = START_S * 1_000_000_000 + self.ticks + self.offset_ns as i64;
        let clock = ClockReading {
            ticks: Ticks::from_bits(self.ticks.unsigned_abs()),
            error_ticks: 50,
            realtime_ns,
            monotonic_ns: realtime_ns - 1_000_000_000_000 - self.steps_ns,
            apart_ns: 60,
        };
        let Self { snapshot, is_synchronised, kernel, suspended, .. } = *self;
        Look { clock, snapshot, is_synchronised, kernel, suspended }
    }

    /// Looks, and obeys a second before the next look.
    fn second(&mut self) -> Decision {
        let look = self.look();
        self.decide(&look)
    }

    fn decide(&mut self, look: &Look) -> Decision {
        let decision = self.steerer.look(look);
        if let Some(order) = &decision.order {
            if let Some(step) = order.step {
                self.step(step);
            }
            self.kernel =
                KernelClock { frequency: order.total(), offset: Span::ZERO, adjtime_left: Span::ZERO };
            self.steerer.obeyed(order, look);
            self.orders.push(*order);
        }
        self.ticks += 1_000_000_000;
        let rate = (1.0 + self.natural) * (1.0 + self.kernel.frequency.fraction()) - 1.0;
        self.offset_ns += rate * 1e9;
        decision
    }

    fn step(&mut self, by: Span) {
        self.offset_ns += by.as_seconds_f64() * 1e9;
        self.steps_ns += by.as_nanos();
    }

    fn seconds(&mut self, count: u32) -> Decision {
        let mut last = self.second();
        for _ in 1..count {
            last = self.second();
        }
        last
    }
}

#[test]
fn a_small_offset_is_slewed_and_the_frequency_learnt() {
    let mut bench = Bench::new(20e6, -37e-6, false);
    bench.seconds(200);
    assert!(bench.offset_ns.abs() < 20.0, "{}", bench.offset_ns);
    let found = bench.steerer.frequency().unwrap().fraction();
    assert!(((1.0 + found) * (1.0 - 37e-6) - 1.0).abs() < 1e-10, "{found}");
    assert!(bench.orders.iter().all(|order| order.step.is_none()));
    let word = bench.orders.last().unwrap().word;
    assert!(word.synchronised && word.tai_offset_s == Some(37) && word.leap.is_none());
    let (most, probable) = word.error.unwrap();
    assert!(most >= Span::from_nanos(2_050) && most < Span::from_nanos(2_200), "{most:?}");
    assert!(probable < Span::from_nanos(100), "{probable:?}");
}

#[test]
fn whoever_comes_first_takes_over_and_a_large_offset_is_stepped_at_once() {
    let mut bench = Bench::new(0.5e9, 3e-6, false);
    let order = bench.second().order.unwrap();
    assert!(order.takes_over);
    assert_eq!(order.step, Some(Span::from_nanos(-500_000_000)));
    let next = bench.second();
    assert!(next.tampering.is_none() && next.order.unwrap().step.is_none());
    assert!(!next.order.unwrap().takes_over);
}

#[test]
fn the_kernel_is_armed_on_the_last_half_day_and_after_a_step_only() {
    let leap_in = |seconds: i64| {
        let at = Instant::from_unix(START_S + 37 + seconds, 0);
        LeapWindow { offset_s: 37, next: Some(crate::time::Leap { at, offset_after_s: 38 }) }
    };
    let mut bench = Bench::new(0.5e9, 3e-6, false);
    bench.snapshot.leap = leap_in(43_100);
    let leaps: Vec<_> = (0..3).map(|_| bench.second().order.unwrap().word.leap).collect();
    assert_eq!(leaps, [None, Some(LeapSecond::Inserted), Some(LeapSecond::Inserted)]);
    let mut bench = Bench::new(0.0, 3e-6, false);
    bench.snapshot.leap = leap_in(43_300);
    assert_eq!(bench.second().order.unwrap().word.leap, None);
    bench.ticks += 101_000_000_000;
    assert_eq!(bench.second().order.unwrap().word.leap, Some(LeapSecond::Inserted));
    bench.is_synchronised = false;
    assert_eq!(bench.second().order.unwrap().word.leap, Some(LeapSecond::Inserted), "the list still knows");
    bench.ticks = 43_299_000_000_000;
    assert!(bench.second().order.is_none() && bench.second().order.is_none(), "near it nothing is judged");
    bench.ticks = 43_305_000_000_000;
    let word = bench.second().order.unwrap().word;
    assert_eq!((word.leap, word.tai_offset_s), (None, Some(38)));
}

#[test]
fn later_a_large_offset_has_to_last() {
    let mut bench = Bench::new(0.0, 3e-6, false);
    bench.seconds(60);
    let learnt = bench.steerer.frequency();
    // The served clock has moved: nobody has touched the machine's.
    bench.offset_ns += 0.2e9;
    let held = bench.seconds(900);
    assert_eq!(bench.steerer.standing(), Standing::TooLarge);
    let order = held.order.unwrap();
    assert!(!order.word.synchronised && order.step.is_none() && Some(order.frequency) == learnt);
    assert_eq!(order.phase, Frequency::ZERO);
    // The last look was 899 s after the first, and a nanosecond counter's rate is a rounded figure.
    let step = (0..2).find_map(|_| bench.second().order?.step).expect("after 900 s");
    assert!((step.as_seconds_f64() + 0.2).abs() < 1e-4, "{step:?}");
    assert_eq!(bench.steerer.standing(), Standing::Steered);
    // One that goes away in between is forgotten.
    bench.offset_ns += 0.2e9;
    bench.seconds(899);
    bench.offset_ns -= 0.2e9;
    bench.seconds(2);
    bench.offset_ns += 0.2e9;
    assert!(bench.seconds(899).order.unwrap().step.is_none());
}

#[test]
fn beyond_a_thousand_seconds_nobody_steps_unless_it_is_allowed_at_the_start() {
    let mut bench = Bench::new(1_001e9, 0.0, false);
    assert!(bench.seconds(2_000).order.is_none());
    assert_eq!((bench.steerer.standing(), bench.orders.len()), (Standing::Panic, 0));
    let mut bench = Bench::new(1_001e9, 0.0, true);
    assert!(bench.second().order.unwrap().step.is_some());
    bench.seconds(10);
    bench.offset_ns += 1_001e9;
    let order = bench.seconds(2_000).order.unwrap();
    assert!(order.step.is_none() && !order.word.synchronised);
    assert_eq!(bench.steerer.standing(), Standing::Panic);
}

#[test]
fn one_that_comes_after_another_goes_on_as_that_one_did() {
    let after = |off_ns: f64, has_begun: bool, is_contested: bool| {
        let mut bench = Bench::new(off_ns, 3e-6, true);
        let settings = SteerSettings { has_begun, is_contested, ..bench.steerer.settings };
        bench.steerer = Steerer::new(settings);
        bench
    };
    let mut begun = after(0.2e9, true, false);
    begun.seconds(899);
    assert!(begun.orders.iter().all(|order| order.step.is_none()), "it has to last");
    assert_eq!(begun.steerer.standing(), Standing::TooLarge);
    assert!((0..3).any(|_| begun.second().order.is_some_and(|order| order.step.is_some())));
    let mut far = after(1_001e9, true, false);
    assert!(far.second().order.is_none(), "it isn't the first step");
    assert_eq!(far.steerer.standing(), Standing::Panic);
    for off_ns in [0.0, 0.2e9] {
        let mut contested = after(off_ns, true, true);
        contested.seconds(1_000);
        assert_eq!((contested.steerer.standing(), contested.orders.len()), (Standing::Contested, 0));
    }
}

#[test]
fn a_clock_that_may_not_be_stepped_is_vouched_for_by_nobody() {
    let mut bench = Bench::new(0.3e9, 3e-6, false);
    let look = bench.look();
    let order = bench.steerer.look(&look).order.unwrap();
    assert!(order.step.is_some() && order.word.synchronised);
    let held = bench.steerer.refused(&order).unwrap();
    assert_eq!((held.step, held.phase, held.word.synchronised), (None, Frequency::ZERO, false));
    assert_eq!((held.frequency, held.takes_over), (order.frequency, true));
    assert_eq!(bench.steerer.standing(), Standing::TooLarge);
    bench.steerer.obeyed(&held, &look);
    bench.kernel.frequency = held.total();
    assert!(bench.second().order.unwrap().step.is_some(), "it is tried again");
    let mut bench = Bench::new(1e6, 3e-6, false);
    let order = bench.second().order.unwrap();
    assert_eq!(bench.steerer.refused(&order), None);
}

#[test]
fn before_the_served_clock_is_synchronised_nothing_is_touched_and_after_it_the_frequency_is_held() {
    let mut bench = Bench::new(1e6, 11e-6, false);
    bench.is_synchronised = false;
    assert!(bench.seconds(100).order.is_none());
    assert_eq!(bench.steerer.standing(), Standing::Waiting);
    bench.is_synchronised = true;
    bench.seconds(200);
    bench.is_synchronised = false;
    let before = bench.offset_ns;
    let order = bench.seconds(1_000).order.unwrap();
    assert_eq!((bench.steerer.standing(), order.phase), (Standing::Held, Frequency::ZERO));
    assert!(!order.word.synchronised && order.word.error.is_none());
    assert!((bench.offset_ns - before).abs() < 200.0, "{}", bench.offset_ns);
    bench.is_synchronised = true;
    bench.snapshot.valid_until = Ticks::from_bits(0);
    bench.second();
    assert_eq!(bench.steerer.standing(), Standing::Held, "what is served is too old");
}

#[test]
fn somebody_else_is_noticed_and_left_the_clock() {
    let tampered = |tamper: fn(&mut Bench), expected: fn(&Tampering) -> bool| {
        let mut bench = Bench::new(0.0, 3e-6, false);
        bench.seconds(60);
        for time in 1..=STRIKES_MAX {
            tamper(&mut bench);
            let decision = bench.second();
            assert!(decision.tampering.as_ref().is_some_and(expected), "{decision:?}");
            assert_eq!(decision.order.is_some(), time < STRIKES_MAX);
            assert!(decision.order.is_none_or(|order| order.takes_over));
            assert!(bench.seconds(if time < STRIKES_MAX { 50 } else { 500 }).tampering.is_none());
        }
        assert_eq!(bench.steerer.standing(), Standing::Contested);
    };
    tampered(
        |bench| bench.kernel.frequency = Frequency::from_units(bench.kernel.frequency.units() + 9),
        |found| matches!(found, Tampering::Frequency(_)),
    );
    tampered(
        |bench| bench.kernel.offset = Span::from_nanos(-7_000),
        |found| *found == Tampering::Slew(Span::from_nanos(-7_000)),
    );
    tampered(
        |bench| bench.kernel.adjtime_left = Span::from_nanos(1_000),
        |found| matches!(found, Tampering::Adjtime(_)),
    );
    tampered(|bench| bench.step(Span::from_nanos(100_000)), |found| matches!(found, Tampering::Stepped(_)));
}

#[test]
fn one_who_comes_once_in_a_while_is_no_daemon() {
    let mut bench = Bench::new(0.0, 3e-6, false);
    for _ in 0..5 {
        bench.seconds(2);
        bench.step(Span::from_nanos(100_000));
        assert!(bench.second().tampering.is_some());
        bench.ticks += 7 * 3_600 * 1_000_000_000;
    }
    assert_eq!(bench.steerer.standing(), Standing::Steered);
}

#[test]
fn until_the_clock_is_synchronised_it_runs_as_the_run_before_did() {
    let started = |frequency: f64| {
        let mut bench = Bench::new(1e6, 11e-6, false);
        bench.steerer = Steerer::new(SteerSettings { kept: Some(-5e-6), ..bench.steerer.settings });
        bench.is_synchronised = false;
        bench.kernel.frequency = Frequency::nearest(frequency);
        bench.seconds(30);
        assert_eq!(bench.steerer.standing(), Standing::Waiting);
        bench
    };
    let mut bench = started(0.0);
    let order = bench.orders.last().unwrap();
    assert!((order.total().fraction() + 16e-6).abs() < 5e-9 && order.step.is_none(), "{order:?}");
    assert!(!order.word.synchronised && bench.orders[0].takes_over && !order.takes_over);
    bench.is_synchronised = true;
    bench.offset_ns = 0.3e9;
    assert!(bench.second().order.unwrap().step.is_some(), "the first step is at once all the same");
    assert!(started(-16.5e-6).orders.is_empty(), "what the run before has left is left alone");
}

#[test]
fn what_others_slewed_before_is_no_rate() {
    let mut bench = Bench::new(1e6, 3e-6, false);
    bench.is_synchronised = false;
    bench.kernel.offset = Span::from_nanos(90_000_000);
    for second in 0..12 {
        bench.second();
        // The kernel's loop, whose end nobody sees.
        bench.offset_ns += 300e3;
        if second == 10 {
            bench.kernel.offset = Span::ZERO;
        }
    }
    bench.is_synchronised = true;
    bench.seconds(60);
    assert!(bench.offset_ns.abs() < 20.0, "{}", bench.offset_ns);
}

#[test]
fn a_machine_that_was_suspended_was_not_stepped() {
    let mut bench = Bench::new(0.0, 3e-6, false);
    bench.seconds(60);
    for _ in 0..=STRIKES_MAX {
        // The kernel's clock goes on by the hardware clock, the monotonic one doesn't.
        bench.step(Span::from_nanos(70_000_000));
        bench.suspended = bench.suspended + Span::from_seconds(60);
        let decision = bench.second();
        assert!(decision.tampering.is_none() && decision.order.unwrap().step.is_none(), "{decision:?}");
        bench.seconds(250);
        assert!(bench.offset_ns.abs() < 20.0, "{}", bench.offset_ns);
    }
}

#[test]
fn a_leap_second_that_the_kernel_missed_is_stepped_at_once() {
    for (seconds, expected) in [(1, true), (-1, true), (0, false)] {
        let mut bench = Bench::new(0.0, 3e-6, false);
        let at = Instant::from_unix(START_S + 37 + 100, 0);
        let offset_after_s = 37 + i32::try_from(seconds).unwrap();
        bench.snapshot.leap =
            LeapWindow { offset_s: 37, next: Some(crate::time::Leap { at, offset_after_s }) };
        bench.seconds(97);
        // The served clock leaps, and the kernel's is as far off.
        bench.seconds(8);
        bench.offset_ns += if seconds == 0 { 1e9 } else { 0.0 };
        let steps: Vec<_> = (0..3).filter_map(|_| bench.second().order?.step).collect();
        assert_eq!(!steps.is_empty(), expected, "{seconds}: {steps:?}");
        assert!(steps.iter().all(|step| step.as_nanos() / 999_000_000 == -seconds), "{steps:?}");
    }
}

#[test]
fn a_correction_that_the_keeper_ended_is_nobody_elses() {
    let mut bench = Bench::new(5e6, 3e-6, false);
    bench.seconds(4);
    bench.kernel.frequency = bench.steerer.frequency().unwrap();
    assert!(bench.second().tampering.is_none());
    bench.seconds(100);
    assert!(bench.offset_ns.abs() < 20.0, "{}", bench.offset_ns);
}

#[test]
fn a_reading_that_was_torn_is_not_taken_at_its_word() {
    let mut bench = Bench::new(0.0, 3e-6, false);
    bench.seconds(100);
    let mut torn = bench.look();
    torn.clock.realtime_ns += 300_000_000;
    torn.clock.monotonic_ns += 300_000_000;
    torn.clock.error_ticks = 400_000_000;
    let order = bench.decide(&torn).order.unwrap();
    assert!(order.phase.fraction().abs() < 1e-9 && order.step.is_none(), "{order:?}");
    assert_eq!(bench.steerer.standing(), Standing::Steered);
    bench.seconds(10);
    assert!(bench.offset_ns.abs() < 20.0, "{}", bench.offset_ns);
    // Where all are bad they are taken, after a while.
    for _ in 0..200 {
        let mut torn = bench.look();
        torn.clock.error_ticks = 400_000_000;
        bench.decide(&torn);
    }
    bench.offset_ns += 50e6;
    let mut torn = bench.look();
    torn.clock.error_ticks = 400_000_000;
    let order = bench.decide(&torn).order.unwrap();
    assert!(order.phase.fraction() < -1e-4, "{order:?}");
    assert!(order.word.error.unwrap().0 > Span::from_nanos(400_000_000), "what it hides is told");
}

proptest! {
    /// Whatever is read and whatever anybody does, what is ordered is within bounds.
    #[test]
    fn no_look_leads_out_of_bounds(
        looks in prop::collection::vec((any::<i64>(), any::<i64>(), any::<u32>(), any::<u64>(), any::<i64>(), 0..4_u8), 1..60),
        rate in any::<u64>(),
        unlimited in any::<bool>(),
    ) {
        let settings = SteerSettings { first_step_unlimited: unlimited, ..settings(Rate::from_bits(rate)) };
        let mut steerer = Steerer::new(settings);
        let mut steps = 0;
        for (realtime_ns, monotonic_ns, error, ticks, frequency, flags) in looks {
            let clock = ClockReading {
                ticks: Ticks::from_bits(ticks),
                error_ticks: error,
                realtime_ns,
                monotonic_ns,
                apart_ns: error,
            };
            let mut snapshot = snapshot();
            snapshot.valid_until = Ticks::from_bits(ticks);
            snapshot.line = snapshot.line.map(|line| Line { rate: Rate::from_bits(rate ^ 5), ..line });
            let kernel = KernelClock {
                frequency: Frequency::from_units(frequency),
                offset: Span::ZERO,
                adjtime_left: Span::ZERO,
            };
            let suspended = Span::from_nanos(monotonic_ns);
            let look = Look { clock, snapshot, is_synchronised: flags & 1 == 0, kernel, suspended };
            let decision = steerer.look(&look);
            let Some(order) = decision.order else { continue };
            prop_assert!(order.frequency.is_within_max());
            prop_assert!(order.frequency.with(order.phase).is_some());
            if let Some(step) = order.step {
                prop_assert!(step.abs() > STEP_THRESHOLD);
                prop_assert!(step.abs() <= PANIC_THRESHOLD || (unlimited && steps == 0));
            }
            if flags & 2 == 0 {
                steerer.obeyed(&order, &look);
                steps += u32::from(order.step.is_some());
            }
        }
    }
}
