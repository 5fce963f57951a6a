//! A GPS receiver: pulses and sentences, with all that can be wrong about them.

use crate::random::Random;

/// What a receiver is like.
#[derive(Clone, Debug)]
pub struct ReceiverShape {
    /// White noise of the pulses, s.
    pub jitter: f64,
    /// Pulses are seen late by this on the average, exponentially distributed, s: the machine's interrupts.
    pub latency: f64,
    /// The sawtooth of the receiver's own clock: pulses are off by up to this, s, either way.
    pub sawtooth: f64,
    /// A share of pulses is late by `outlier`, s.
    pub outlier_chance: f64,
    /// See `outlier_chance`.
    pub outlier: f64,
    /// A share of pulses is lost.
    pub lost: f64,
    /// A share of pulses is followed by a second one, `doubled_after` seconds later.
    pub doubled: f64,
    /// See `doubled`.
    pub doubled_after: f64,
    /// From a second on, s, every pulse comes once more so much later, s.
    pub again: Option<(u64, f64)>,
    /// From the second's beginning to the sentence, s.
    pub sentence_delay: f64,
    /// Evenly distributed around that, s either way.
    pub sentence_jitter: f64,
    /// From a second on, s, the pulses' noise is so many times as large.
    pub noisier: Option<(u64, f64)>,
    /// From a second on, s, sentences come so much later, s.
    pub later: Option<(u64, f64)>,
    /// Whether there are sentences at all.
    pub has_sentences: bool,
    /// While one of these lasts (s from, s to), nothing comes.
    pub outages: Vec<(u64, u64)>,
    /// From a moment on, s, all seconds are named wrong by so much.
    pub lies: Vec<(u64, i64)>,
    /// From a moment on, s, pulses run away by so much a second: a spoofer.
    pub ramp: Option<(u64, f64)>,
}

impl ReceiverShape {
    /// A good one: pulses to `jitter`, sentences 0.1 s after them.
    #[must_use]
    pub const fn good(jitter: f64) -> Self {
        Self {
            jitter,
            latency: 0.0,
            sawtooth: 0.0,
            outlier_chance: 0.0,
            outlier: 0.0,
            lost: 0.0,
            doubled: 0.0,
            doubled_after: 0.0,
            again: None,
            sentence_delay: 0.1,
            sentence_jitter: 0.005,
            noisier: None,
            later: None,
            has_sentences: true,
            outages: Vec::new(),
            lies: Vec::new(),
            ramp: None,
        }
    }
}

/// What comes out of a receiver in a second; moments are in seconds from the true second's beginning.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Output {
    /// A pulse.
    Pulse {
        /// When.
        at: f64,
    },
    /// A sentence.
    Sentence {
        /// When its first octet came.
        at: f64,
        /// The second that it names, less the true one.
        named: i64,
    },
}

/// The error of pulses that a receiver can make only at the ticks of its own clock.
#[derive(Clone, Debug)]
pub struct Sawtooth {
    phase: f64,
}

impl Sawtooth {
    /// Somewhere on its way.
    #[must_use]
    pub fn new(random: &mut Random) -> Self {
        Self { phase: random.unit() }
    }

    /// The error of the next pulse, between -1 and 1.
    pub fn next(&mut self, random: &mut Random) -> f64 {
        self.phase = (self.phase + 0.371 + 0.01 * random.normal()).rem_euclid(1.0);
        2.0 * self.phase - 1.0
    }
}

/// A receiver at work.
#[derive(Clone, Debug)]
pub struct Receiver {
    shape: ReceiverShape,
    random: Random,
    sawtooth: Sawtooth,
}

impl Receiver {
    /// Switched on.
    #[must_use]
    pub fn new(shape: ReceiverShape, mut random: Random) -> Self {
        let sawtooth = Sawtooth::new(&mut random);
        Self { shape, random, sawtooth }
    }

    /// What it is like.
    #[must_use]
    pub const fn shape(&self) -> &ReceiverShape {
        &self.shape
    }

    /// What comes out of it in true second `second`.
    pub fn second(&mut self, second: u64) -> Vec<Output> {
        let Self { shape, random, sawtooth } = self;
        // Everything is drawn in every second, so that an outage doesn't change what comes after it.
        let from = |change: Option<(u64, f64)>| change.filter(|&(from, _)| second >= from).map(|(_, by)| by);
        let louder = from(shape.noisier).unwrap_or(1.0);
        let noise = louder * shape.jitter * random.normal() + random.exponential(shape.latency);
        let sawtooth = shape.sawtooth * sawtooth.next(random);
        let outlier = if random.chance(shape.outlier_chance) { shape.outlier } else { 0.0 };
        let (lost, doubled) = (random.chance(shape.lost), random.chance(shape.doubled));
        let delay = shape.sentence_delay
            + from(shape.later).unwrap_or(0.0)
            + random.between(-1.0, 1.0) * shape.sentence_jitter;
        let away = shape.ramp.map_or(0.0, |(from, slope)| crate::float(second.saturating_sub(from)) * slope);
        let mut outputs = Vec::new();
        if shape.outages.iter().any(|&(from, to)| (from..to).contains(&second)) {
            return outputs;
        }
        if !lost {
            let at = noise + sawtooth + outlier + away;
            outputs.push(Output::Pulse { at });
            if doubled {
                outputs.push(Output::Pulse { at: at + shape.doubled_after });
            }
            outputs.extend(from(shape.again).map(|after| Output::Pulse { at: at + after }));
        }
        if shape.has_sentences {
            let named = shape.lies.iter().rev().find(|&&(from, _)| second >= from).map_or(0, |&(_, by)| by);
            outputs.push(Output::Sentence { at: delay.max(0.001), named });
        }
        outputs
    }
}
