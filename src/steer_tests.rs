use super::*;
use maser_core::snapshot::Snapshot;
use maser_core::time::{ClockReading, Instant, LeapWindow, Line, Rate, Ticks};

fn look_off_by(offset_ns: i64, second: i64) -> Look {
    let ticks = second * 1_000_000_000;
    let origin = Instant::from_unix(1_800_000_037, 0);
    let realtime_ns = 1_800_000_000_000_000_000 + ticks + offset_ns;
    Look {
        clock: ClockReading {
            ticks: Ticks::from_bits(ticks.unsigned_abs()),
            error_ticks: 50,
            realtime_ns,
            monotonic_ns: realtime_ns - 1_000,
            apart_ns: 50,
        },
        snapshot: Snapshot {
            line: Some(Line { reference: Ticks::from_bits(0), origin, rate: Rate::NANOSECOND }),
            valid_until: Ticks::from_bits(1 << 60),
            leap: LeapWindow { offset_s: 37, next: None },
            stratum: 1,
            ..Snapshot::UNKNOWN
        },
        is_synchronised: true,
        kernel: KernelClock { frequency: Frequency::ZERO, offset: Span::ZERO, adjtime_left: Span::ZERO },
        suspended: Span::ZERO,
    }
}

fn steerer() -> Steerer {
    Steerer::new(SteerSettings {
        nominal_rate: Rate::NANOSECOND,
        first_step_unlimited: false,
        kept: None,
        has_begun: false,
        is_contested: false,
    })
}

#[test]
fn what_was_obeyed_is_counted_and_what_was_not_is_told() {
    let (steering, mut steerer) = (Steering::default(), steerer());
    let refused =
        steering.beat(&mut steerer, &look_off_by(300_000_000, 1), |_| Err(Fault::new("no CAP_SYS_TIME")));
    assert_eq!(refused, None);
    let figures = steering.figures();
    assert_eq!((figures.steps, figures.problem.as_deref()), (0, Some("no CAP_SYS_TIME")));
    let obeyed = steering.beat(&mut steerer, &look_off_by(300_000_000, 2), |_| Ok(())).unwrap();
    let step_ns = obeyed.step.map(Span::as_nanos);
    // A nanosecond counter's rate is a rounded figure.
    assert!(
        matches!(step_ns, Some(-300_000_001..=-300_000_000)),
        "what wasn't obeyed is ordered again: {step_ns:?}"
    );
    let figures = steering.figures();
    assert_eq!((figures.steps, figures.problem), (1, None));
    assert_eq!(figures.offset, obeyed.step.map(|step| -step));
}

#[test]
fn a_step_that_is_refused_leaves_a_clock_that_nobody_vouches_for() {
    let (steering, mut steerer) = (Steering::default(), steerer());
    let steps_are_refused = |order: &Order| match order.step {
        Some(_) => Err(Fault::new("it was stepped less than 900 s ago")),
        None => Ok(()),
    };
    for second in 1..4 {
        let held = steering.beat(&mut steerer, &look_off_by(300_000_000, second), steps_are_refused).unwrap();
        assert_eq!((held.step, held.phase, held.word.synchronised), (None, Frequency::ZERO, false));
        let Figures { standing, steps, problem, .. } = steering.figures();
        assert_eq!((standing, steps), (Standing::TooLarge, 0));
        assert_eq!(problem.as_deref(), Some("it was stepped less than 900 s ago"));
    }
    let refused = steering.beat(&mut steerer, &look_off_by(1_000, 4), |_| Err(Fault::new("no")));
    assert_eq!(refused, None, "nothing is held instead of a slew");
}

#[test]
fn at_the_end_a_clock_that_somebody_else_has_set_is_left_alone() {
    let order = Steering::default().beat(&mut steerer(), &look_off_by(1_000_000, 1), |_| Ok(())).unwrap();
    assert_eq!(last_order(&order, Some(order.total())), Some(order.settled()));
    for found in [None, Some(order.frequency), Some(Frequency::from_units(-90 << 16))] {
        assert_eq!(last_order(&order, found), None, "{found:?}");
    }
    let settled = order.settled();
    assert_eq!(last_order(&settled, Some(settled.total())), None, "there is nothing to end");
}

#[test]
fn every_standing_says_what_to_do() {
    let (steering, mut steerer) = (Steering::default(), steerer());
    let told = |steering: &Steering| standing_text(&steering.figures());
    assert!(told(&steering).starts_with("not steered yet"));
    steering.beat(&mut steerer, &look_off_by(2_000_000_000_000, 1), |_| unreachable!("nothing is ordered"));
    let text = told(&steering);
    assert!(text.contains("+2000 s off") && text.contains("clock.first_step_unlimited"), "{text}");
    let figures = |standing| Figures { standing, ..steering.figures() };
    assert!(standing_text(&figures(Standing::TooLarge)).contains("more than 128 ms"));
    assert!(standing_text(&figures(Standing::Contested)).contains("stop chronyd"));
    let text = tampering_text(&Tampering::Frequency(Frequency::from_units(-65_536)));
    assert!(text.contains("-1.000 ppm") && text.contains("systemd-timesyncd"), "{text}");
}

#[test]
fn this_machine_is_looked_at_and_left_alone() {
    let counter = Counter::monotonic_raw();
    let config = crate::config::parse("[[source]]\ntype = \"ntp\"\naddress = \"127.0.0.1\"\n").unwrap();
    let leaps = crate::leaps::Leaps::built_in();
    let settings = crate::pulse::settings::clock_settings(&config, &counter, &leaps, None);
    let clock = Disciplined::new(&config, counter, settings);
    let (_writer, reader) = maser_sys::snapshot_cell::snapshot_cell(&Snapshot::UNKNOWN);
    let steering = Steering::default();
    // As under systemd's ProtectClock=.
    let refused = look(&counter, &clock, &reader, || Err(io::Error::from_raw_os_error(1))).unwrap_err();
    steering.unreadable(&refused);
    let problem = steering.figures().problem.unwrap();
    assert!(problem.contains("ProtectClock=") && problem.contains("clock.steer"), "{problem}");
    let steering = Steering::default();
    let look = look(&counter, &clock, &reader, KernelState::read).unwrap().unwrap();
    assert!(!look.is_synchronised);
    steering.beat(&mut steerer(), &look, |_| unreachable!("nothing is synchronised"));
    assert_eq!(steering.figures().standing, Standing::Waiting);
}
