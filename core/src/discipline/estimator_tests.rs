//! Tests of the bank: what it finds, what it refuses, what it promises.

use super::*;
use std::vec::Vec;

/// Normally distributed numbers, the same every time.
struct Normal(u64);

impl Normal {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (f64::from(u32::try_from(self.0 >> 32).unwrap()) + 0.5) / 4_294_967_296.0
    }
    fn draw(&mut self) -> f64 {
        let radius = sqrt(-2.0 * log(self.unit()));
        radius * libm::cos(core::f64::consts::TAU * self.unit())
    }
}

/// A clock and its reference: the true phase, second by second, and a sample of it.
fn samples(seed: u64, wander: f64, jitter: f64, seconds: u32) -> Vec<(f64, f64)> {
    let (mut walk, mut noise) = (Normal(seed), Normal(seed ^ 0x5DEE_CE66));
    let (mut phase, mut frequency) = (1e-5, 2e-6);
    let mut all = Vec::new();
    for _ in 0..seconds {
        let (step, within) = (walk.draw(), walk.draw());
        phase += frequency + wander * (step / 2.0 + within / sqrt(12.0));
        frequency += wander * step;
        all.push((phase, phase + jitter * noise.draw()));
    }
    all
}

fn fed(all: &[(f64, f64)]) -> Estimator {
    let mut estimator = Estimator::new(None);
    for (second, &(_, sample)) in (0_u32..).zip(all) {
        estimator.take(f64::from(second), sample);
    }
    estimator
}

#[test]
fn the_noise_is_found() {
    for (wander, jitter) in [(1e-9, 1e-7), (1e-10, 1e-7), (1e-10, 1e-6)] {
        let noise = fed(&samples(3, wander, jitter, 20_000)).noise();
        assert!((noise.jitter / jitter - 1.0).abs() < 0.05, "{noise:?}");
        assert!((noise.wander / wander).max(wander / noise.wander) < 1.6, "{noise:?}");
    }
}

#[test]
fn the_bound_holds_at_every_second_and_is_worth_reading() {
    let all = samples(7, 1e-9, 1e-7, 20_000);
    let mut estimator = Estimator::new(None);
    let (mut squares, mut bounds) = (0.0, 0.0);
    for (second, &(phase, sample)) in (0_u32..).zip(&all) {
        let at = f64::from(second);
        if estimator.is_settled() {
            let error = estimator.estimate(at).phase - phase;
            assert!(error.abs() <= estimator.bound(at), "before the sample of second {second}");
        }
        estimator.take(at, sample);
        if estimator.is_settled() {
            let error = estimator.estimate(at).phase - phase;
            assert!(error.abs() <= estimator.bound(at), "after the sample of second {second}");
            squares += error * error;
            bounds += estimator.bound(at);
        }
    }
    let rms = sqrt(squares / 20_000.0);
    assert!(bounds / 20_000.0 < 10.0 * rms, "{} {rms}", bounds / 20_000.0);
}

#[test]
fn one_outlier_is_refused_and_three_contradict() {
    let all = samples(11, 1e-10, 1e-7, 1_000);
    let mut estimator = fed(&all);
    let before = estimator.estimate(1_000.0);
    let apart = before.phase + 1e-4;
    assert!(matches!(estimator.take(1_000.0, apart), Taken::Outlier(_)));
    assert_eq!(estimator.estimate(1_000.0), before, "an outlier moves nothing");
    assert!(matches!(estimator.take(1_001.0, apart + before.frequency), Taken::Outlier(_)));
    assert!(matches!(estimator.take(1_002.0, apart + 2.0 * before.frequency), Taken::Contradiction(_)));
    let anew = estimator.anew();
    assert!(!anew.is_settled() && (anew.noise().jitter / 1e-7 - 1.0).abs() < 0.2);
}

#[test]
fn a_drift_within_the_noise_is_a_contradiction_before_long() {
    let mut estimator = fed(&samples(13, 1e-11, 1e-6, 5_000));
    let held = estimator.estimate(5_000.0);
    let mut noise = Normal(5);
    let mut told = None;
    for second in 0_u32..600 {
        let t = f64::from(second);
        // 20 ns a second: half a minute to be as large as the noise.
        let sample = held.phase + (held.frequency + 2e-8) * t + 1e-6 * noise.draw();
        if let Taken::Contradiction(_) = estimator.take(5_000.0 + t, sample) {
            told = Some(second);
            break;
        }
    }
    // The filter may follow before it is contradicted: then it is where the samples are.
    let end = estimator.estimate(5_600.0).phase - held.phase - held.frequency * 600.0;
    assert!(told.is_some() || (end / 1.2e-5 - 1.0).abs() < 0.1, "{told:?} {end}");
}

#[test]
fn what_was_known_of_the_oscillator_is_used_at_once() {
    let all = samples(17, 1e-10, 1e-7, 20);
    let noise = Noise { jitter: 1e-7, wander: 1e-10, samples: 1_000.0 };
    let mut warm = Estimator::new(Some(Prior { frequency: 2e-6, frequency_sd: 1e-9, noise }));
    assert!(!warm.is_settled() && warm.rate().is_some());
    warm.take(0.0, all[0].1);
    warm.take(1.0, all[1].1);
    assert!(warm.is_settled());
    assert!(warm.bound(1.0) < fed(&all[..8]).bound(7.0));
}

#[test]
fn late_and_repeated_samples_change_nothing() {
    let mut estimator = fed(&samples(19, 1e-10, 1e-7, 100));
    let before = estimator.estimate(200.0);
    for at in [99.0, 98.0, 99.05, -1.0] {
        assert_eq!(estimator.take(at, 5.0), Taken::TooSoon);
    }
    assert_eq!(estimator.estimate(200.0), before);
    let bound = estimator.bound(1e9);
    assert!(bound.is_finite() && bound > 1.0, "years ahead it is still a number");
}
