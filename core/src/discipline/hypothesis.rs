//! One assumption about the noise, and the best filter if it is right.
//!
//! The served clock is a phase and a frequency against the counter. The oscillator's frequency walks at random
//! (`wander`, per √s) and each sample of the reference carries white noise (`jitter`, s). How much a sample should move
//! the clock depends on nothing but the ratio of the two: it is what a hypothesis assumes. Variances are in units of
//! the jitter's own, which the samples tell.

use libm::log;

/// No counter's rate is further off than this from what was calibrated.
const FREQUENCY_MAX: f64 = 5e-4;

/// Phase and frequency with their covariance in units of the jitter's variance, and how well the samples were foretold.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Hypothesis {
    /// Wander over jitter, squared: the growth of the frequency's variance in a second (s⁻³).
    pub(super) growth: f64,
    /// Seconds.
    pub(super) phase: f64,
    /// Seconds a second.
    pub(super) frequency: f64,
    /// The phase's variance.
    pub(super) phase_variance: f64,
    /// Their covariance (s⁻¹).
    pub(super) covariance: f64,
    /// The frequency's variance (s⁻²).
    pub(super) frequency_variance: f64,
    /// Σ ln s of the samples, forgetting: s is an error's foretold variance, the sample's own included.
    pub(super) log_variances: f64,
    /// Σ e²/s, forgetting: over the samples' number it is the jitter's variance (s²).
    pub(super) squares: f64,
}

impl Hypothesis {
    /// Assumes nothing and knows nothing.
    pub(super) const NOTHING: Self = Self {
        growth: 0.0,
        phase: 0.0,
        frequency: 0.0,
        phase_variance: 0.0,
        covariance: 0.0,
        frequency_variance: 0.0,
        log_variances: 0.0,
        squares: 0.0,
    };

    /// Begins with the phase of a sample, and whatever frequency is set after it.
    pub(super) const fn begin(&mut self, sample: f64) {
        self.phase = sample;
        self.phase_variance = 1.0;
        self.covariance = 0.0;
        self.frequency = 0.0;
        self.frequency_variance = 0.0;
    }

    /// The second sample, where nothing was known of the frequency.
    pub(super) fn find_frequency(&mut self, sample: f64, seconds: f64) {
        // Two samples of unlike servers may lie steeper than any counter is off.
        self.frequency = ((sample - self.phase) / seconds).clamp(-FREQUENCY_MAX, FREQUENCY_MAX);
        self.phase = sample;
        self.phase_variance = 1.0;
        self.covariance = 1.0 / seconds;
        self.frequency_variance = 2.0 / (seconds * seconds) + self.growth * seconds / 3.0;
    }

    /// Runs on for `seconds`.
    pub(super) fn advance(&mut self, seconds: f64) {
        let grown = self.growth * seconds;
        self.phase += self.frequency * seconds;
        self.phase_variance +=
            seconds * (2.0 * self.covariance + seconds * (self.frequency_variance + grown / 3.0));
        self.covariance += seconds * (self.frequency_variance + grown / 2.0);
        self.frequency_variance += grown;
    }

    /// Takes a sample `seconds` after the last, and judges itself by it; of the earlier judgements it keeps a share.
    pub(super) fn take(&mut self, seconds: f64, sample: f64, keep: f64) {
        self.advance(seconds);
        let error = sample - self.phase;
        let variance = self.phase_variance + 1.0;
        self.log_variances = self.log_variances * keep + log(variance);
        self.squares = self.squares * keep + error * error / variance;
        let phase_gain = self.phase_variance / variance;
        let frequency_gain = self.covariance / variance;
        self.phase += phase_gain * error;
        self.frequency += frequency_gain * error;
        self.frequency_variance -= frequency_gain * self.covariance;
        self.covariance *= 1.0 - phase_gain;
        self.phase_variance *= 1.0 - phase_gain;
    }
}
