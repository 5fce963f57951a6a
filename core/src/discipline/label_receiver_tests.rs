//! A receiver in a test's hands, with its faults, and what a labeller makes of it.

use super::*;
use std::vec::Vec;

/// A counter that ticks every nanosecond by its own word, and may be off.
pub(super) const NOMINAL: Rate = Rate::NANOSECOND;
/// The second that the first pulse of every test begins.
pub(super) const FIRST: i64 = 2_000_000_000;
const NS: f64 = 1e9;

/// splitmix64: a test's random numbers are the same on every machine.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub(super) fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.bits() >> 32).unwrap()) / 4_294_967_296.0
    }
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
    pub(super) fn chance(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }
}

/// How a receiver's sentences come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Delay {
    /// Around a mean, at most this far from it.
    Around(f64, f64),
    /// Around a mean, as normal noise.
    Normal(f64, f64),
    /// Anywhere in a second from here on.
    Anywhere(f64),
}

impl Delay {
    pub(super) fn draw(self, random: &mut Random) -> f64 {
        match self {
            Self::Around(mean, jitter) => random.between(mean - jitter, mean + jitter),
            Self::Normal(mean, sigma) => mean + sigma * ((0..12).map(|_| random.unit()).sum::<f64>() - 6.0),
            Self::Anywhere(from) => random.between(from, from + 1.0),
        }
    }
}

/// A receiver with its faults.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiver {
    pub(super) delay: Delay,
    /// What the operator states of it.
    pub(super) stated: Option<f64>,
    pub(super) sentences_lost: f64,
    /// Further messages of the same burst.
    pub(super) burst: usize,
    pub(super) pulses_lost: f64,
    pub(super) pulses_doubled: f64,
    pub(super) pulses_spurious: f64,
    /// The counter's true rate against its nominal one, in parts per million.
    pub(super) rate_ppm: f64,
    /// From this second on sentences are off by so many.
    pub(super) lies: Option<(i64, i64)>,
    pub(super) of_next_pulse: bool,
}

pub(super) const TIDY: Receiver = Receiver {
    delay: Delay::Around(0.1, 0.01),
    stated: None,
    sentences_lost: 0.0,
    burst: 1,
    pulses_lost: 0.0,
    pulses_doubled: 0.0,
    pulses_spurious: 0.0,
    rate_ppm: 0.0,
    lies: None,
    of_next_pulse: false,
};

pub(super) enum Event {
    /// Which second it began; none where it began none.
    Pulse(Option<i64>),
    Sentence(i64),
}

/// What a run brought.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) labelled: u32,
    pub(super) wrong: u32,
    /// How many seconds it took to label the first pulse.
    pub(super) took: Option<i64>,
    pub(super) last: Option<Labelled>,
    pub(super) contradicted: Option<(i64, Contradiction)>,
}

pub(super) fn ticks(seconds: f64, rate_ppm: f64) -> Ticks {
    #[expect(clippy::cast_possible_truncation, reason = "a test's nanoseconds fit")]
    let count = (seconds * (1.0 + rate_ppm * 1e-6) * NS) as i64;
    Ticks::from_bits(u64::MAX - 5_000_000_000).offset(count)
}

pub(super) fn from_f64(seconds: f64) -> Span {
    #[expect(clippy::cast_possible_truncation, reason = "a test's nanoseconds fit")]
    let nanos = (seconds * NS) as i64;
    Span::from_nanos(nanos)
}

/// What the receiver sends in `seconds`, in the order in which it comes.
pub(super) fn events(receiver: &Receiver, seconds: i64, random: &mut Random) -> Vec<(f64, Event)> {
    let mut events = Vec::new();
    for k in 0..seconds {
        let start = f64::from(i32::try_from(k).unwrap());
        let pulse = start + random.between(-5e-6, 5e-6);
        if !random.chance(receiver.pulses_lost) {
            events.push((pulse, Event::Pulse(Some(FIRST + k))));
            if random.chance(receiver.pulses_doubled) {
                events.push((pulse + 0.1, Event::Pulse(None)));
            }
        }
        if random.chance(receiver.pulses_spurious) {
            events.push((start + random.between(0.1, 0.9), Event::Pulse(None)));
        }
        let lie = receiver.lies.map_or(0, |(from, by)| if k >= from { by } else { 0 });
        let named = FIRST + k + lie + i64::from(receiver.of_next_pulse);
        let first = start + receiver.delay.draw(random);
        let mut at = first;
        for _ in 0..receiver.burst {
            if !random.chance(receiver.sentences_lost) {
                events.push((at, Event::Sentence(named)));
            }
            at += random.between(0.005, 0.02);
        }
    }
    events.sort_by(|a, b| a.0.total_cmp(&b.0));
    events
}

pub(super) fn run_with(
    labeller: &mut Labeller,
    receiver: &Receiver,
    seconds: i64,
    random: &mut Random,
    mut also: impl FnMut(&mut Labeller, f64),
) -> Outcome {
    let mut outcome = Outcome::default();
    for (at, event) in events(receiver, seconds, random) {
        let counter = ticks(at, receiver.rate_ppm);
        match event {
            Event::Sentence(named) => labeller.sentence(&Claim {
                source: 1,
                at: counter,
                second: Instant::from_unix(named, 0),
                of_next_pulse: receiver.of_next_pulse,
                delay: receiver.stated.map(from_f64),
            }),
            Event::Pulse(began) => {
                also(labeller, at);
                let said = labeller.pulse(counter);
                if let Label::Second(second) = said.label {
                    outcome.labelled += 1;
                    let right = began.is_some_and(|began| second == Instant::from_unix(began, 0));
                    outcome.wrong += u32::from(!right);
                    outcome.took = outcome.took.or(began.map(|began| began - FIRST));
                    if let Some(contradiction) = said.contradicted {
                        let now = began.unwrap_or(FIRST) - FIRST;
                        outcome.contradicted = outcome.contradicted.or(Some((now, contradiction)));
                    }
                }
                if began.is_some() {
                    outcome.last = Some(said);
                }
            }
        }
    }
    outcome
}

pub(super) fn run(receiver: &Receiver, seconds: i64, seed: u64) -> Outcome {
    let mut labeller = Labeller::new(NOMINAL, RATE_ERROR_UNKNOWN_PPB);
    run_with(&mut labeller, receiver, seconds, &mut Random(seed), |_, _| {})
}

pub(super) fn need(outcome: &Outcome) -> Need {
    match outcome.last.unwrap().label {
        Label::Waiting(need) => need,
        Label::Second(second) => panic!("labelled {second:?}"),
    }
}

/// An interval of half-width `error` whose middle is `off` from the truth.
pub(super) fn vouch(labeller: &mut Labeller, source: usize, at: f64, off: f64, error: f64) {
    let tai = Instant::from_unix(FIRST, 0) + from_f64(at + off);
    labeller.interval(source, Interval { at: ticks(at, 0.0), tai, error: from_f64(error) });
}
