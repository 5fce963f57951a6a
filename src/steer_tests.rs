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
    Steerer::new(SteerSettings { nominal_rate: Rate::NANOSECOND, first_step_unlimited: false, kept: None })
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
    let look = look(&counter, &clock, &reader).unwrap();
    assert!(!look.is_synchronised);
    let steering = Steering::default();
    steering.beat(&mut steerer(), &look, |_| unreachable!("nothing is synchronised"));
    assert_eq!(steering.figures().standing, Standing::Waiting);
}
