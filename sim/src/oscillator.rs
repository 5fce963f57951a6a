//! The oscillator that the counter counts: where its phase and frequency go from second to second.

use crate::random::Random;
use libm::{exp, sin, sqrt};
use std::f64::consts::TAU;

const DAY_S: f64 = 86_400.0;

/// Flicker noise is a sum of noises with memories a factor of 4 apart, from 1 s to 18 hours.
const FLICKER_PARTS: usize = 9;

/// What an oscillator is like.
#[derive(Clone, Debug)]
pub struct OscillatorShape {
    /// The counter's seconds less the true ones when it begins.
    pub offset: f64,
    /// Frequency when it begins.
    pub frequency: f64,
    /// The frequency's random walk, per √s.
    pub wander: f64,
    /// White noise of the frequency over a second.
    pub white: f64,
    /// Each part of the flicker noise, standard deviation of the frequency.
    pub flicker: f64,
    /// Ageing, per day.
    pub ageing: f64,
    /// Amplitude of the daily wave of temperature, in frequency.
    pub daily: f64,
    /// Steps of the frequency (temperature): when, s, and by how much.
    pub frequency_steps: Vec<(u64, f64)>,
    /// Jumps of the counter, s: when, and by how much it runs ahead of before.
    pub jumps: Vec<(u64, f64)>,
}

impl OscillatorShape {
    /// Without any noise.
    #[must_use]
    pub const fn perfect() -> Self {
        Self {
            offset: 0.0,
            frequency: 0.0,
            wander: 0.0,
            white: 0.0,
            flicker: 0.0,
            ageing: 0.0,
            daily: 0.0,
            frequency_steps: Vec::new(),
            jumps: Vec::new(),
        }
    }
}

/// An oscillator at a moment: true seconds gone, and the counter's seconds against them.
#[derive(Clone, Debug)]
pub struct Oscillator {
    shape: OscillatorShape,
    random: Random,
    second: u64,
    /// The counter's seconds less the true ones, at the beginning and at the end of the present second.
    begin: f64,
    end: f64,
    frequency: f64,
    flicker: [f64; FLICKER_PARTS],
    daily_phase: f64,
}

impl Oscillator {
    /// At its beginning.
    #[must_use]
    pub fn new(shape: OscillatorShape, mut random: Random) -> Self {
        let daily_phase = random.between(0.0, TAU);
        let (begin, frequency) = (shape.offset, shape.frequency);
        let mut oscillator = Self {
            shape,
            random,
            second: 0,
            begin,
            end: begin,
            frequency,
            flicker: [0.0; FLICKER_PARTS],
            daily_phase,
        };
        oscillator.end = oscillator.second_from(begin);
        oscillator
    }

    /// The true second that it is in.
    #[must_use]
    pub const fn second(&self) -> u64 {
        self.second
    }

    /// The counter's seconds, `fraction` into the present second (or shortly beyond either end).
    #[must_use]
    pub fn counted(&self, fraction: f64) -> f64 {
        self.begin + (self.end - self.begin) * fraction
    }

    /// Goes on to the next second.
    pub fn advance(&mut self) {
        self.second += 1;
        let jumps = self.shape.jumps.iter().filter(|&&(at, _)| at == self.second);
        self.begin = self.end + jumps.map(|&(_, by)| by).sum::<f64>();
        let steps = self.shape.frequency_steps.iter().filter(|&&(at, _)| at == self.second);
        self.frequency += steps.map(|&(_, by)| by).sum::<f64>();
        self.end = self.second_from(self.begin);
    }

    /// Where a second leads that begins at `begin`.
    fn second_from(&mut self, begin: f64) -> f64 {
        let seconds = crate::float(self.second);
        let mut extra = self.shape.ageing * seconds / DAY_S;
        extra += self.shape.daily * sin(TAU * seconds / DAY_S + self.daily_phase);
        extra += self.shape.white * self.random.normal();
        let mut memory = 1.0;
        for part in &mut self.flicker {
            let keep = exp(-1.0 / memory);
            *part = keep * *part + sqrt(1.0 - keep * keep) * self.random.normal();
            extra += self.shape.flicker * *part;
            memory *= 4.0;
        }
        // A walk's step over the second, and the integral of the walk within it: correlated as they are.
        let (walk, within) = (self.random.normal(), self.random.normal());
        let integral = self.shape.wander * (walk / 2.0 + within / sqrt(12.0));
        let end = begin + self.frequency + extra + integral;
        self.frequency += self.shape.wander * walk;
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, shape: OscillatorShape, seed: u64) -> f64 {
        let mut oscillator = Oscillator::new(shape, Random::new(seed, 0));
        for _ in 0..seconds {
            oscillator.advance();
        }
        oscillator.counted(0.0)
    }

    #[test]
    fn a_perfect_one_runs_at_its_frequency() {
        let shape = OscillatorShape { frequency: 37e-6, ..OscillatorShape::perfect() };
        assert!((after(1000, shape, 1) - 0.037).abs() < 1e-12);
    }

    #[test]
    fn a_walk_of_frequency_spreads_the_phase_as_it_should() {
        // Var x(t) = wander² t³ / 3.
        let shape = OscillatorShape { wander: 1e-9, ..OscillatorShape::perfect() };
        let squares = (0..400).map(|seed| after(300, shape.clone(), seed).powi(2));
        let deviation = (squares.sum::<f64>() / 400.0).sqrt();
        let expected = 1e-9 * (300.0_f64.powi(3) / 3.0).sqrt();
        assert!((deviation / expected - 1.0).abs() < 0.12, "{deviation} {expected}");
    }

    #[test]
    fn steps_and_jumps_come_when_they_should() {
        let mut shape = OscillatorShape::perfect();
        shape.frequency_steps = vec![(10, 5e-7)];
        shape.jumps = vec![(20, 0.25)];
        assert!(after(10, shape.clone(), 1).abs() < 1e-15);
        assert!((after(15, shape.clone(), 1) - 2.5e-6).abs() < 1e-12);
        assert!((after(20, shape, 1) - 0.25 - 5e-6).abs() < 1e-12);
    }
}
