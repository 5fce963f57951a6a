//! The filter that finds the noise by itself.
//!
//! A bank of Kalman filters runs side by side, each assuming another ratio of the oscillator's wander to the
//! reference's jitter (a factor of 2 apart: time constants from under a second to some hours). Each is judged by how
//! probable the samples were under it (the likelihood with the jitter's variance concentrated out), forgetting slowly;
//! the estimate is their mean, weighted by that probability. So there is nothing to tune: a quiet receiver on a cheap
//! crystal and a noisy one on an oven both end at the filter that suits them.
//!
//! A sample that no hypothesis can explain isn't taken. Three of them in a row, or a mean of the samples' errors that
//! white noise doesn't bring about, contradict the estimate; [`Estimator::anew`] then begins again with what is known of
//! the noise.

use super::hypothesis::Hypothesis;
use libm::{exp, fabs, log, sqrt};

/// How many ratios are assumed.
const HYPOTHESES: usize = 28;

/// The greatest wander-to-jitter ratio assumed (s^−1.5): a time constant of 0.7 s. The least is 1.5e-8.
const RATIO_MAX: f64 = 2.0;
const RATIO_STEP: f64 = 0.5;

/// The samples of about so long ago count for a third in the choice among hypotheses.
const MEMORY_SAMPLES: f64 = 16_384.0;

/// What was known of the noise before counts for at most so many samples, and for a few only after a contradiction, which may
/// have come from it.
const MEMORY_OF_PRIOR: f64 = 64.0;
const MEMORY_AFTER_CONTRADICTION: f64 = 3.0;

/// So many samples are taken as they are, whatever the noise was known to be.
const UNGATED: u64 = 8;

/// The latest so many samples tell whether the noise has grown of late, and so many whether it is one-sided.
const LATELY: f64 = 64.0;
const LATELY_SKEW: f64 = 256.0;

/// Noise of a normal distribution seems this skewed at most by chance.
const SKEW_BY_CHANCE: f64 = 0.6;

/// What the mean of one-sided noise is off, in its standard deviations a unit of skewness. An exponential distribution's is
/// off by 1 at a skewness of 2, of which the gate lets some 1.3 be seen.
const BIAS_OF_SKEW: f64 = 0.9;
const BIAS_MAX: f64 = 1.3;

/// No reference and no counter tells less than this, s.
const RESOLUTION: f64 = 1e-9;

/// A sample so many standard deviations from what was foretold isn't noise: one of 1.7 million is.
const GATE: f64 = 5.0;

/// Samples closer together than this, s, aren't independent; one that comes late is of no use.
const APART_MIN: f64 = 0.1;

/// Samples in a row that no hypothesis explains are a contradiction: from so many on.
const CONTRADICTING: u32 = 3;

/// Means of the normalised errors over so many samples are watched.
const WINDOWS: [f64; 3] = [4.0, 32.0, 256.0];

/// A mean so many of its standard deviations from zero doesn't come from white noise. (The three means are tested at
/// every sample, for years.)
const WINDOW_GATE: f64 = 6.5;

/// An error bound in standard deviations of the estimate, when the noise is known well: one in 26 million is further off.
const COVERAGE: f64 = 5.5;

/// A hypothesis is plausible while the samples are at least this share as probable under it as under the best one.
const PLAUSIBLE: f64 = 1e-3;

/// With few samples the noise itself is uncertain, and its tails are a t distribution's: the bound is wider by a factor of
/// 1 + this / samples.
const COVERAGE_SAMPLES: f64 = 16.0;

/// With fewer samples than this no error bound is stated; where the oscillator is known already, with fewer than two.
const SAMPLES_MIN: u64 = 4;
const SAMPLES_MIN_KNOWN: u64 = 2;

/// What is known before the first sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Prior {
    /// Reference time gained a second of the base line.
    pub frequency: f64,
    /// Its standard deviation now, after whatever has passed since it was measured.
    pub frequency_sd: f64,
    /// What was known of the noise.
    pub noise: Noise,
}

/// What the clock is at a moment, as far as the samples tell.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    /// Reference time less the base line, in seconds.
    pub phase: f64,
    /// The phase's standard deviation, s.
    pub phase_sd: f64,
    /// Reference time gained a second of the base line.
    pub frequency: f64,
    /// The frequency's standard deviation.
    pub frequency_sd: f64,
}

/// What the samples tell of the noise.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Noise {
    /// The reference's white noise, standard deviation in seconds.
    pub jitter: f64,
    /// The oscillator's random walk of frequency, per √s.
    pub wander: f64,
    /// From how many samples this is known.
    pub samples: f64,
}

impl Noise {
    /// How long the filter averages, s.
    #[must_use]
    pub fn time_constant(&self) -> f64 {
        sqrt(self.jitter / self.wander.max(f64::MIN_POSITIVE))
    }
}

/// What became of a sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Taken {
    /// It went into the estimate; its distance from what was foretold, s.
    Used(f64),
    /// It is no later than the last one.
    TooSoon,
    /// It is too far off to be noise, and the estimate stands; how far, s.
    Outlier(f64),
    /// It and those before it contradict the estimate, which stands; how far off it is, s.
    Contradiction(f64),
}

/// The bank.
#[derive(Clone, Debug)]
pub struct Estimator {
    hypotheses: [Hypothesis; HYPOTHESES],
    weights: [f64; HYPOTHESES],
    /// How many samples the sums of the hypotheses hold, forgetting.
    samples: f64,
    /// Seconds on the base line of the last sample taken.
    last: f64,
    /// Seconds on the base line of the first sample.
    began: f64,
    /// How many were taken since phase and frequency were last unknown.
    taken: u64,
    prior: Option<Prior>,
    outliers: u32,
    means: [f64; WINDOWS.len()],
    /// Mean square and mean cube of the normalised errors lately.
    lately: (f64, f64),
}

impl Estimator {
    /// Knows no more than `prior`.
    #[must_use]
    pub fn new(prior: Option<Prior>) -> Self {
        let mut ratio = RATIO_MAX;
        let hypotheses = core::array::from_fn(|_| {
            let growth = ratio * ratio;
            ratio *= RATIO_STEP;
            Hypothesis { growth, ..Hypothesis::NOTHING }
        });
        let mut estimator = Self {
            hypotheses,
            weights: [1.0 / crate::discipline::float(HYPOTHESES); HYPOTHESES],
            samples: 0.0,
            last: 0.0,
            began: 0.0,
            taken: 0,
            prior,
            outliers: 0,
            means: [0.0; WINDOWS.len()],
            lately: (1.0, 0.0),
        };
        if let Some(prior) = prior {
            estimator.recall(&prior.noise);
        }
        estimator
    }

    /// Sets the sums so that they speak for the noise that was known, as strongly as a few samples would.
    fn recall(&mut self, noise: &Noise) {
        let variance = noise.jitter * noise.jitter;
        self.samples = noise.samples.clamp(1.0, MEMORY_OF_PRIOR);
        let known = log((noise.wander / noise.jitter).clamp(1e-12, RATIO_MAX));
        for hypothesis in &mut self.hypotheses {
            // A ratio that is wrong by a factor of 4 costs as much as a standard deviation, if it was known well.
            let apart = (log(hypothesis.growth) / 2.0 - known) / log(4.0);
            hypothesis.squares = self.samples * variance;
            hypothesis.log_variances = apart * apart * self.samples / MEMORY_OF_PRIOR;
        }
        self.weigh();
    }

    /// Takes a sample of the phase at `at` seconds of the base line.
    pub fn take(&mut self, at: f64, sample: f64) -> Taken {
        let seconds = at - self.last;
        match self.taken {
            1.. if seconds < APART_MIN => return Taken::TooSoon,
            0 => return self.begin(at, sample),
            1 if self.prior.is_none() => return self.find_frequency(at, sample, seconds),
            _ => {}
        }
        let foretold = self.estimate(at);
        let error = sample - foretold.phase;
        let jitter = self.jitter_variance();
        let sd = sqrt(foretold.phase_sd * foretold.phase_sd + jitter);
        let known = self.samples >= 2.0 && self.taken >= UNGATED;
        // What has grown between samples is in the estimate's own deviation already.
        if known && fabs(error) > GATE * self.widening() * sd {
            self.outliers = self.outliers.saturating_add(1);
            let contradicted = self.outliers >= CONTRADICTING;
            return if contradicted { Taken::Contradiction(error) } else { Taken::Outlier(error) };
        }
        self.outliers = 0;
        // Before the noise is known, errors aren't white.
        if known && let Some(mean) = self.drift(error / sd) {
            let drifted = mean * sd;
            return Taken::Contradiction(if fabs(drifted) < fabs(error) { drifted } else { error });
        }
        if known {
            self.note_lately(error / sd);
        }
        self.last = at;
        self.taken += 1;
        // What came first is forgotten soon: it may have been taken ungated.
        let keep = 1.0 - 1.0 / count(self.taken).clamp(8.0, MEMORY_SAMPLES);
        self.samples = self.samples * keep + 1.0;
        for hypothesis in &mut self.hypotheses {
            hypothesis.take(seconds, sample, keep);
        }
        self.weigh();
        Taken::Used(error)
    }

    fn begin(&mut self, at: f64, sample: f64) -> Taken {
        self.last = at;
        self.began = at;
        self.taken = 1;
        for hypothesis in &mut self.hypotheses {
            hypothesis.begin(sample);
            if let Some(prior) = self.prior {
                hypothesis.frequency = prior.frequency;
                let normalised = prior.frequency_sd / prior.noise.jitter;
                hypothesis.frequency_variance = normalised * normalised;
            }
        }
        Taken::Used(0.0)
    }

    fn find_frequency(&mut self, at: f64, sample: f64, seconds: f64) -> Taken {
        self.last = at;
        self.taken = 2;
        for hypothesis in &mut self.hypotheses {
            hypothesis.find_frequency(sample, seconds);
        }
        Taken::Used(0.0)
    }

    /// One that knows neither phase nor frequency, and of the noise what this one does, trusted less.
    #[must_use]
    pub fn anew(&self) -> Self {
        let mut anew = Self { taken: 0, prior: None, outliers: 0, means: [0.0; WINDOWS.len()], ..*self };
        anew.lately = (1.0, 0.0);
        let scale = MEMORY_AFTER_CONTRADICTION / self.samples.max(MEMORY_AFTER_CONTRADICTION);
        anew.samples *= scale;
        for hypothesis in &mut anew.hypotheses {
            hypothesis.squares *= scale;
            hypothesis.log_variances *= scale;
        }
        anew.weigh();
        anew
    }

    /// What the errors' mean is, in standard deviations of one, where they have had one sign for too long for white noise.
    fn drift(&mut self, normalised: f64) -> Option<f64> {
        let mut drift = None;
        for (mean, window) in self.means.iter_mut().zip(WINDOWS) {
            let share = 1.0 / window;
            *mean += share * (normalised - *mean);
            if fabs(*mean) > WINDOW_GATE * sqrt(share / (2.0 - share)) {
                drift = drift.or(Some(*mean));
            }
        }
        drift
    }

    fn note_lately(&mut self, normalised: f64) {
        let square = normalised * normalised;
        self.lately.0 += (square - self.lately.0) / LATELY;
        self.lately.1 += (square * normalised - self.lately.1) / LATELY_SKEW;
    }

    /// By how much noise is larger than was long known, at least 1, and how far one-sided noise moves its mean, in standard
    /// deviations.
    fn lately(&self) -> (f64, f64) {
        let (square, cube) = self.lately;
        let larger = sqrt(square.max(1.0));
        let skewness = fabs(cube) / (larger * larger * larger);
        let bias = if skewness > SKEW_BY_CHANCE { (BIAS_OF_SKEW * skewness).min(BIAS_MAX) } else { 0.0 };
        (larger, bias)
    }

    fn weigh(&mut self) {
        let samples = self.samples.max(1.0);
        let mut best = f64::NEG_INFINITY;
        for (weight, hypothesis) in self.weights.iter_mut().zip(&self.hypotheses) {
            let variance = (hypothesis.squares / samples).max(RESOLUTION * RESOLUTION);
            *weight = -0.5 * (hypothesis.log_variances + samples * log(variance));
            best = best.max(*weight);
        }
        let mut sum = 0.0;
        for weight in &mut self.weights {
            *weight = exp(*weight - best);
            sum += *weight;
        }
        for weight in &mut self.weights {
            *weight /= sum;
        }
    }

    fn jitter_variance(&self) -> f64 {
        let weighted = self.weights.iter().zip(&self.hypotheses).map(|(weight, each)| weight * each.squares);
        (weighted.sum::<f64>() / self.samples.max(1.0)).max(RESOLUTION * RESOLUTION)
    }

    /// The clock at `at` seconds of the base line.
    #[must_use]
    pub fn estimate(&self, at: f64) -> Estimate {
        let ahead = at - self.last;
        let (mut phase, mut frequency) = (0.0, 0.0);
        for (weight, hypothesis) in self.weights.iter().zip(&self.hypotheses) {
            phase += weight * (hypothesis.phase + hypothesis.frequency * ahead);
            frequency += weight * hypothesis.frequency;
        }
        let (mut phase_variance, mut frequency_variance) = (0.0, 0.0);
        for (weight, hypothesis) in self.weights.iter().zip(&self.hypotheses) {
            let mut then = *hypothesis;
            then.advance(ahead.max(0.0));
            let jitter = hypothesis.squares / self.samples.max(1.0);
            let apart = hypothesis.phase + hypothesis.frequency * ahead - phase;
            phase_variance += weight * (then.phase_variance * jitter + apart * apart);
            let apart = then.frequency - frequency;
            frequency_variance += weight * (then.frequency_variance * jitter + apart * apart);
        }
        Estimate { phase, phase_sd: sqrt(phase_variance), frequency, frequency_sd: sqrt(frequency_variance) }
    }

    /// When the last sample was taken, s of the base line.
    #[must_use]
    pub const fn last(&self) -> f64 {
        self.last
    }

    /// Whether a sample was taken at all.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.taken > 0
    }

    /// How many samples were taken since phase and frequency were last unknown.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether there are samples enough to say how far off the estimate can be.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.taken >= if self.prior.is_some() { SAMPLES_MIN_KNOWN } else { SAMPLES_MIN }
    }

    /// How far the phase can be off at `at` seconds of the base line: what the worst of the hypotheses that the samples
    /// haven't ruled out yet has to say.
    #[must_use]
    pub fn bound(&self, at: f64) -> f64 {
        let ahead = at - self.last;
        let phase = self.estimate(at).phase;
        let plausible = PLAUSIBLE * self.weights.iter().copied().fold(0.0, f64::max);
        let samples = self.samples.max(1.0);
        let bounds = self.weights.iter().zip(&self.hypotheses).filter(|&(&weight, _)| weight >= plausible);
        let (larger, bias) = self.lately();
        let bias = bias * sqrt(self.jitter_variance());
        let bounds = bounds.map(|(_, hypothesis)| {
            let mut then = *hypothesis;
            then.advance(ahead.max(0.0));
            let apart = hypothesis.phase + hypothesis.frequency * ahead - phase;
            let jitter = (hypothesis.squares / samples).max(RESOLUTION * RESOLUTION);
            fabs(apart) + self.coverage() * larger * sqrt(then.phase_variance * jitter)
        });
        bias + bounds.fold(0.0, f64::max)
    }

    /// The frequency and how far it can be off; none while nothing is known of it.
    #[must_use]
    pub fn rate(&self) -> Option<(f64, f64)> {
        let known = self.prior.map(|prior| {
            let walked = prior.noise.wander * sqrt((self.last - self.began).max(0.0));
            (prior.frequency, COVERAGE * (prior.frequency_sd + walked))
        });
        if !self.is_settled() {
            return known;
        }
        let estimate = self.estimate(self.last);
        let found = (estimate.frequency, self.coverage() * estimate.frequency_sd);
        // A few samples may say less of the frequency than was known before them.
        Some(known.filter(|known| known.1 < found.1).unwrap_or(found))
    }

    /// So many standard deviations bound the error.
    #[must_use]
    pub fn coverage(&self) -> f64 {
        COVERAGE * self.widening()
    }

    fn widening(&self) -> f64 {
        1.0 + COVERAGE_SAMPLES / self.samples.max(1.0)
    }

    /// What the samples tell of the noise.
    #[must_use]
    pub fn noise(&self) -> Noise {
        let mut log_ratio = 0.0;
        for (weight, hypothesis) in self.weights.iter().zip(&self.hypotheses) {
            log_ratio += weight * log(hypothesis.growth) / 2.0;
        }
        let jitter = sqrt(self.jitter_variance());
        Noise { jitter, wander: exp(log_ratio) * jitter, samples: self.samples }
    }

    /// Moves the base line's origin: what was `shift` is now zero.
    pub fn shift(&mut self, shift: f64) {
        for hypothesis in &mut self.hypotheses {
            hypothesis.phase -= shift;
        }
    }
}

/// A count as a double; exact up to 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "samples are far fewer")]
const fn count(samples: u64) -> f64 {
    samples as f64
}

#[cfg(test)]
#[path = "estimator_tests.rs"]
mod tests;
