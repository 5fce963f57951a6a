//! The best that any filter could do: a steady-state Kalman filter that is told the noise.

/// Phase and frequency with constant gains.
#[derive(Clone, Copy, Debug)]
pub struct FixedFilter {
    gains: (f64, f64),
    phase: f64,
    frequency: f64,
}

/// Steps until the gains stand still: many time constants of the slowest filter asked for.
const STEPS: u32 = 200_000;

impl FixedFilter {
    /// For a sample a second, white noise of `jitter` and a random walk of frequency of `wander` per √s.
    #[must_use]
    pub fn optimal(wander: f64, jitter: f64) -> Self {
        let growth = (wander / jitter).powi(2);
        // Variances in units of the jitter's.
        let (mut phase, mut both, mut frequency) = (1e6, 0.0, 1e6);
        let mut gains = (0.0, 0.0);
        for _ in 0..STEPS {
            let (p, b, f) = (
                phase + 2.0 * both + frequency + growth / 3.0,
                both + frequency + growth / 2.0,
                frequency + growth,
            );
            gains = (p / (p + 1.0), b / (p + 1.0));
            (phase, both, frequency) = (p * (1.0 - gains.0), b * (1.0 - gains.0), f - gains.1 * b);
        }
        Self { gains, phase: 0.0, frequency: 0.0 }
    }

    /// Takes the sample of the next second; its phase after it.
    pub fn take(&mut self, sample: f64) -> f64 {
        self.phase += self.frequency;
        let error = sample - self.phase;
        self.phase += self.gains.0 * error;
        self.frequency += self.gains.1 * error;
        self.phase
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oscillator::{Oscillator, OscillatorShape};
    use crate::random::Random;

    /// The least possible error by an independent computation (closed tables of such filters), ns.
    #[test]
    fn its_error_is_the_least_that_is_known() {
        for (wander, jitter, known_ns) in [(1e-10, 1e-7, 20.9), (1e-9, 1e-6, 209.0), (1e-9, 2e-8, 10.4)] {
            let shape = OscillatorShape { wander, ..OscillatorShape::perfect() };
            let mut oscillator = Oscillator::new(shape, Random::new(5, 0));
            let mut noise = Random::new(5, 1);
            let mut filter = FixedFilter::optimal(wander, jitter);
            let mut squares = 0.0;
            for second in 0..40_000 {
                let phase = oscillator.counted(0.0);
                let error = filter.take(phase + jitter * noise.normal()) - phase;
                squares += if second >= 10_000 { error * error } else { 0.0 };
                oscillator.advance();
            }
            let rms_ns = (squares / 30_000.0).sqrt() * 1e9;
            assert!((rms_ns / known_ns - 1.0).abs() < 0.06, "{rms_ns} {known_ns}");
        }
    }
}
