use super::receiver::*;
use super::window::ARRIVALS_MIN;
use super::*;
use std::vec::Vec;

#[test]
fn a_tidy_receiver_is_believed_after_ten_sentences() {
    for seed in 0..200 {
        let outcome = run(&TIDY, 100, seed);
        assert_eq!((outcome.wrong, outcome.took), (0, Some(10)), "seed {seed}");
        assert_eq!(outcome.contradicted, None);
    }
}

#[test]
fn a_receiver_that_is_late_by_0_2_to_0_7_s_and_jitters_takes_half_a_minute() {
    for seed in 0..500 {
        let mean = Random(seed).between(0.2, 0.7);
        let receiver = Receiver { delay: Delay::Around(mean, 0.2), ..TIDY };
        let outcome = run(&receiver, 200, seed + 1000);
        assert_eq!(outcome.wrong, 0, "mean {mean} seed {seed}");
        let took = outcome.took.expect("labelled in the end");
        assert!((10..=33).contains(&took), "mean {mean} seed {seed}: {took} s");
    }
}

#[test]
fn sentences_anywhere_in_a_second_never_label() {
    for seed in 0..1500 {
        let from = if seed % 5 == 0 { 0.0 } else { Random(seed).between(0.0, 0.9) };
        let burst = 1 + usize::try_from(seed % 4).unwrap();
        let receiver = Receiver { delay: Delay::Anywhere(from), burst, ..TIDY };
        let outcome = run(&receiver, 150, seed + 2000);
        assert_eq!(outcome.labelled, 0, "from {from} seed {seed}: {outcome:?}");
        assert!(matches!(need(&outcome), Need::Narrower { .. }), "{:?}", need(&outcome));
    }
}

/// The trap of the test above is real: a rule that believes agreeing claims without asking how they come is wrong
/// on it, and the simulation says so.
#[test]
fn without_the_gap_test_the_simulation_finds_wrong_labels() {
    let mut wrong = 0;
    for seed in 0..300 {
        let receiver = Receiver { delay: Delay::Anywhere(Random(seed).between(0.5, 0.9)), ..TIDY };
        let mut random = Random(seed + 2000);
        let mut claims: Vec<i64> = Vec::new();
        let mut last_pulse = 0;
        for (_, event) in events(&receiver, 150, &mut random) {
            match event {
                Event::Pulse(began) => last_pulse = began.unwrap() - FIRST,
                Event::Sentence(named) => claims.push(named - FIRST - last_pulse),
            }
            let tail = &claims[claims.len().saturating_sub(ARRIVALS_MIN)..];
            let agree = tail.len() == ARRIVALS_MIN && tail.iter().all(|claim| *claim == tail[0]);
            wrong += u32::from(agree && tail[0] != 0);
        }
    }
    assert!(wrong > 100, "{wrong}");
}

#[test]
fn arrivals_on_both_sides_of_the_pulse_wait_and_never_mislead() {
    let mut labelled = 0;
    for seed in 0..3000 {
        let mut random = Random(seed);
        // The middle is within the second, as it has to be without a stated delay; the rest may come after the next pulse.
        let (mean, jitter) = (random.between(0.85, 1.0), random.between(0.02, 0.3));
        let receiver = Receiver { delay: Delay::Around(mean, jitter), ..TIDY };
        let outcome = run(&receiver, 150, seed + 3000);
        assert_eq!(outcome.wrong, 0, "mean {mean} jitter {jitter} seed {seed}");
        labelled += u32::from(outcome.labelled > 0);
        if outcome.labelled == 0 {
            assert!(matches!(need(&outcome), Need::Straddle | Need::Narrower { .. }), "{:?}", need(&outcome));
        }
    }
    assert!(labelled < 1500, "{labelled}");
    let stated = Receiver { delay: Delay::Around(0.95, 0.2), stated: Some(1.1), ..TIDY };
    let outcome = run(&stated, 100, 1);
    assert_eq!(outcome.wrong, 0);
    assert!(outcome.took.is_some_and(|took| took <= 33), "a stated delay settles it: {outcome:?}");
}

#[test]
fn sentences_at_the_next_pulse_are_not_taken_for_early_ones() {
    for seed in 0..20_000 {
        // A second late in the middle: half of the sentences come after the next pulse, and name the one before.
        let receiver =
            Receiver { delay: Delay::Around(1.0, if seed % 2 == 0 { 0.01 } else { 1e-4 }), ..TIDY };
        let outcome = run(&receiver, 45, seed);
        assert_eq!(outcome.wrong, 0, "seed {seed}");
    }
}

#[test]
fn a_few_corrupt_claims_are_outvoted_and_many_wait() {
    for (corrupt, labels) in [(0.04, true), (0.4, false)] {
        let mut labeller = Labeller::new(NOMINAL, RATE_ERROR_UNKNOWN_PPB);
        let mut random = Random(3);
        let mut last = None;
        for k in 0..200 {
            let start = f64::from(k);
            last = Some(labeller.pulse(ticks(start, 0.0)).label);
            let spoilt = if random.chance(corrupt) { 10 + i64::from(k % 7) } else { 0 };
            let second = Instant::from_unix(FIRST + i64::from(k) + spoilt, 0);
            let at = ticks(start + 0.2, 0.0);
            labeller.sentence(&Claim { source: 0, at, second, of_next_pulse: false, delay: None });
        }
        match last.unwrap() {
            Label::Second(second) => assert_eq!((labels, second), (true, Instant::from_unix(FIRST + 199, 0))),
            Label::Waiting(need) => assert!(!labels && matches!(need, Need::Consistent { .. }), "{need:?}"),
        }
    }
}

#[test]
fn a_stated_delay_beyond_a_second_is_followed() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mean = random.between(0.0, 2.5);
        let stated = mean + random.between(-0.15, 0.15);
        let receiver = Receiver { delay: Delay::Around(mean, 0.2), stated: Some(stated), ..TIDY };
        let outcome = run(&receiver, 120, seed + 4000);
        assert_eq!(outcome.wrong, 0, "mean {mean} stated {stated} seed {seed}");
        assert!(outcome.took.is_some_and(|took| took <= 36), "mean {mean} stated {stated}: {outcome:?}");
    }
    let far = Receiver { delay: Delay::Around(0.9, 0.05), stated: Some(0.4), ..TIDY };
    assert_eq!(need(&run(&far, 60, 1)), Need::Straddle, "what is stated isn't true");
}

#[test]
fn no_receiver_of_thousands_is_ever_labelled_wrong() {
    let mut labelled = 0;
    for seed in 0..4000 {
        let mut random = Random(seed);
        let delay = match seed % 4 {
            0 => Delay::Around(random.between(0.05, 0.95), random.between(0.0, 0.4)),
            1 => Delay::Normal(random.between(0.05, 0.95), random.between(0.0, 0.15)),
            2 => Delay::Around(random.between(0.02, 0.3), random.between(0.0, 0.02)),
            _ => Delay::Anywhere(random.between(0.0, 0.9)),
        };
        let receiver = Receiver {
            delay,
            sentences_lost: random.between(0.0, 0.5),
            burst: 1 + usize::try_from(random.bits() % 4).unwrap(),
            pulses_lost: random.between(0.0, 0.3),
            pulses_doubled: random.between(0.0, 0.3),
            pulses_spurious: random.between(0.0, 0.05),
            rate_ppm: random.between(-490.0, 490.0),
            lies: random.chance(0.5).then(|| (100, if random.chance(0.5) { 1 } else { -1 })),
            ..TIDY
        };
        let outcome = run(&receiver, 160, seed + 5000);
        if receiver.lies.is_some() && outcome.took.is_some_and(|took| took >= 100) {
            // It lied before it was believed, and nobody is there to say so.
            continue;
        }
        assert_eq!(outcome.wrong, 0, "seed {seed}: {receiver:?} {outcome:?}");
        labelled += u32::from(outcome.labelled > 0);
    }
    assert!(labelled > 1500, "the test says something: {labelled}");
}

#[test]
fn a_receiver_that_jumps_by_a_second_is_reported_and_not_followed() {
    for (by, seed) in [(1, 1), (-1, 2), (3, 3), (-1024 * 604_800, 4)] {
        let receiver = Receiver { delay: Delay::Around(0.4, 0.1), lies: Some((60, by)), ..TIDY };
        let outcome = run(&receiver, 120, seed);
        assert_eq!(outcome.wrong, 0);
        let (when, contradiction) = outcome.contradicted.expect("contradicted");
        assert_eq!(contradiction, Contradiction { by: Witness::Sentences(1), difference_s: by });
        // A step back names the last second once more, which counts for nothing.
        assert!((70..=72).contains(&when), "{by}: after {when} s");
    }
}

#[test]
fn an_interval_labels_at_once_what_sentences_cannot() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let error = random.between(0.0, 0.44);
        let off = random.between(-error, error);
        let receiver = Receiver { delay: Delay::Anywhere(random.between(0.0, 0.9)), ..TIDY };
        let mut labeller = Labeller::new(NOMINAL, RATE_ERROR_UNKNOWN_PPB);
        let outcome = run_with(&mut labeller, &receiver, 200, &mut random, |labeller, at| {
            if at < 0.5 {
                vouch(labeller, 2, at, off, error);
            }
        });
        assert_eq!((outcome.wrong, outcome.took), (0, Some(2)), "seed {seed} off {off} error {error}");
        assert_eq!(outcome.contradicted, None, "sentences anywhere contradict nobody");
    }
}

#[test]
fn a_wide_interval_doesnt_name_and_a_wrong_one_is_a_conflict() {
    let mut labeller = Labeller::new(NOMINAL, RATE_ERROR_UNKNOWN_PPB);
    let silent = Receiver { sentences_lost: 1.0, ..TIDY };
    let outcome = run_with(&mut labeller, &silent, 10, &mut Random(1), |labeller, at| {
        vouch(labeller, 2, at, 0.3, 0.46)
    });
    assert!(matches!(need(&outcome), Need::NarrowerInterval { .. }));
    labeller.restart();
    let outcome =
        run_with(&mut labeller, &silent, 10, &mut Random(1), |labeller, at| vouch(labeller, 2, at, 0.3, 0.1));
    assert!(matches!(need(&outcome), Need::OnTheSecond { .. }), "{outcome:?}");
    labeller.restart();
    let outcome = run_with(&mut labeller, &silent, 10, &mut Random(1), |labeller, at| {
        vouch(labeller, 2, at, 0.0, 0.1);
        vouch(labeller, 3, at, 1.0, 0.1);
    });
    assert!(matches!(need(&outcome), Need::Agreement { .. }), "{outcome:?}");
    labeller.restart();
    let outcome =
        run_with(&mut labeller, &TIDY, 30, &mut Random(1), |labeller, at| vouch(labeller, 2, at, 1.0, 0.6));
    assert!(matches!(need(&outcome), Need::Agreement { .. }), "it can't name but excludes: {outcome:?}");
    labeller.restart();
    let outcome = run_with(&mut labeller, &TIDY, 30, &mut Random(1), |labeller, at| {
        if at < 20.5 {
            vouch(labeller, 2, at, 1.0, 0.6);
        } else {
            labeller.forget(2);
        }
    });
    assert_eq!((outcome.wrong, outcome.took), (0, Some(21)), "once it is thrown out");
    assert_eq!(need(&run(&silent, 10, 1)), Need::NothingNamesSeconds);
}

#[test]
fn an_interval_that_excludes_the_label_contradicts_it() {
    let mut labeller = Labeller::new(NOMINAL, RATE_ERROR_UNKNOWN_PPB);
    let outcome = run_with(&mut labeller, &TIDY, 60, &mut Random(1), |labeller, at| {
        if at > 40.5 {
            vouch(labeller, 2, at, -2.0, 0.1);
        }
    });
    let expected = Contradiction { by: Witness::Intervals, difference_s: -2 };
    assert_eq!((outcome.wrong, outcome.contradicted), (0, Some((41, expected))));
}

#[test]
fn messages_of_the_next_pulse_name_it() {
    for seed in 0..200 {
        let delay = Delay::Around(Random(seed).between(0.2, 0.8), 0.05);
        let receiver = Receiver { delay, of_next_pulse: true, stated: Some(0.3), ..TIDY };
        let outcome = run(&receiver, 60, seed);
        assert_eq!((outcome.wrong, outcome.took.is_some_and(|took| took <= 15)), (0, true), "{outcome:?}");
    }
}

#[test]
fn fractions_of_a_second_are_taken_off() {
    let mut labeller = Labeller::new(NOMINAL, RATE_ERROR_UNKNOWN_PPB);
    let mut random = Random(7);
    for k in 0..30 {
        let start = f64::from(k);
        let said = labeller.pulse(ticks(start, 0.0));
        assert!(
            k < 20 || said.label == Label::Second(Instant::from_unix(FIRST + i64::from(k), 0)),
            "{said:?}"
        );
        // Five times a second, the first ones lost; each 0.45 s late, so that these come after the next pulse.
        for fifth in 3..5 {
            let fraction = 0.2 * f64::from(fifth);
            let second = Instant::from_unix(FIRST + i64::from(k), 0) + from_f64(fraction);
            let at = start + fraction + 0.45 + random.between(-0.02, 0.02);
            let delay = None;
            labeller.sentence(&Claim { source: 0, at: ticks(at, 0.0), second, of_next_pulse: false, delay });
        }
    }
}

#[test]
fn pulses_are_counted_over_a_gap_while_the_rate_allows() {
    let label_after = |gap_s: f64, error_ppb: u32, rate_ppm: f64| {
        let mut labeller = Labeller::new(NOMINAL, error_ppb);
        for k in 0..5 {
            vouch(&mut labeller, 0, f64::from(k), 0.0, 0.1);
            labeller.pulse(ticks(f64::from(k), rate_ppm));
        }
        labeller.forget(0);
        labeller.pulse(ticks(4.0 + gap_s, rate_ppm)).label
    };
    let counted = Label::Second(Instant::from_unix(FIRST + 404, 0));
    assert_eq!(label_after(400.0, RATE_ERROR_UNKNOWN_PPB, 490.0), counted);
    assert!(matches!(label_after(600.0, RATE_ERROR_UNKNOWN_PPB, 0.0), Label::Waiting(Need::Pulses { .. })));
    let day = Label::Second(Instant::from_unix(FIRST + 86_404, 0));
    assert_eq!(label_after(86_400.0, 1_000, 0.9), day);
}

#[test]
fn a_train_that_moves_is_found_again_and_labelled_anew() {
    let mut labeller = Labeller::new(NOMINAL, RATE_ERROR_UNKNOWN_PPB);
    let first = run(&TIDY, 40, 1);
    assert!(first.labelled > 0);
    // The receiver's pulses and sentences, then both 100.3 s later than the counter says: it stood still for so long.
    let (mut wrong, mut back) = (0, None);
    for (paused, from) in [(0.0, 0), (100.3, 140)] {
        for k in from..from + 40 {
            let at = f64::from(k) - paused;
            if k < 40 {
                vouch(&mut labeller, 3, at, 0.0, 0.1);
            }
            let said = labeller.pulse(ticks(at, 0.0));
            if let Label::Second(second) = said.label {
                wrong += u32::from(second != Instant::from_unix(FIRST + i64::from(k), 0));
                back = back.or((from > 0).then_some(k - from));
            }
            labeller.sentence(&Claim {
                source: 1,
                at: ticks(at + 0.2, 0.0),
                second: Instant::from_unix(FIRST + i64::from(k), 0),
                of_next_pulse: false,
                delay: None,
            });
        }
    }
    assert_eq!(wrong, 0);
    assert!(back.is_some_and(|back| back <= 25), "{back:?}");
}

#[test]
fn two_trains_as_good_as_each_other_wait() {
    let receiver = Receiver { pulses_doubled: 1.0, ..TIDY };
    let outcome = run(&receiver, 60, 1);
    assert_eq!((outcome.labelled, need(&outcome)), (0, Need::OneTrain));
}

#[test]
fn any_input_at_all_is_survived() {
    let mut random = Random(9);
    for _ in 0..200 {
        let mut labeller = Labeller::new(Rate::from_bits(random.bits()), u32::MAX);
        for _ in 0..200 {
            let at = Ticks::from_bits(random.bits());
            let raw = i128::from(random.bits().cast_signed()) << (random.bits() % 64);
            let (source, delay) = (usize::try_from(random.bits() % 20).unwrap(), Some(Span::from_raw(raw)));
            let of_next_pulse = random.chance(0.5);
            let (second, error) = (Instant::from_raw(raw), Span::from_raw(raw));
            labeller.sentence(&Claim { source, at, second, of_next_pulse, delay });
            labeller.interval(source, Interval { at, tai: second, error });
            labeller.pulse(at);
        }
    }
}

#[test]
fn needs_are_said_to_people() {
    let needs = [Need::Stray, Need::Narrower { spread: Span::from_nanos(970_000_000) }];
    let said = needs.map(|need| std::format!("{need}"));
    assert_eq!(said[0], "the pulse is not a whole second after the others");
    assert!(said[1].contains("anywhere in 0.97 s"), "{}", said[1]);
}

/// A tidy receiver's pulses and sentences, and from second `from` on a pulse more, so much before each; what became of the true
/// ones, and how many of the others got a second.
fn with_a_pulse_before(before: f64, from: u32, seconds: u32) -> (Vec<Label>, usize) {
    let mut labeller = Labeller::new(NOMINAL, RATE_ERROR_UNKNOWN_PPB);
    let (mut labels, mut misled) = (Vec::new(), 0);
    for k in 0..seconds {
        let start = f64::from(k) + 1.0;
        if k >= from {
            let false_one = labeller.pulse(ticks(start - before, 0.0)).label;
            misled += usize::from(matches!(false_one, Label::Second(_)));
        }
        labels.push(labeller.pulse(ticks(start, 0.0)).label);
        let second = Instant::from_unix(FIRST + i64::from(k), 0);
        let at = ticks(start + 0.2, 0.0);
        labeller.sentence(&Claim { source: 0, at, second, of_next_pulse: false, delay: None });
    }
    (labels, misled)
}

#[test]
fn a_pulse_shortly_before_each_is_not_followed() {
    for before in [0.3, 0.1, 0.01, 0.002] {
        let (labels, misled) = with_a_pulse_before(before, 40, 120);
        assert_eq!(misled, 0, "{before} s before");
        let named = labels.iter().filter(|label| matches!(label, Label::Second(_))).count();
        assert!(named >= 105, "{before} s before: {named} of 120 have their seconds");
        assert_eq!(labels.last(), Some(&Label::Second(Instant::from_unix(FIRST + 119, 0))));
        // Where it was always so, nobody can tell which of the two is the pulse.
        let (labels, misled) = with_a_pulse_before(before, 0, 120);
        let named = labels.iter().filter(|label| matches!(label, Label::Second(_))).count();
        assert_eq!((named, misled), (0, 0), "{before} s before, from the start");
    }
}

#[test]
fn pulses_that_get_less_punctual_are_still_a_train() {
    let mut labeller = Labeller::new(NOMINAL, RATE_ERROR_UNKNOWN_PPB);
    let (mut random, mut waiting) = (Random(7), 0);
    for k in 0..400_u32 {
        let late = match k {
            0..100 => 0.0,
            100..200 => random.between(0.0, 1e-3),
            _ => random.between(0.0, 5e-3),
        };
        let start = f64::from(k) + 1.0;
        let label = labeller.pulse(ticks(start + late, 0.0)).label;
        waiting += u32::from(k >= 20 && !matches!(label, Label::Second(_)));
        let second = Instant::from_unix(FIRST + i64::from(k), 0);
        let at = ticks(start + 0.2, 0.0);
        labeller.sentence(&Claim { source: 0, at, second, of_next_pulse: false, delay: None });
    }
    assert!(waiting < 60, "{waiting} of 380 without their seconds");
}
