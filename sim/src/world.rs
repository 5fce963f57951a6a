//! A whole world for one clock: an oscillator, receivers, servers, and true time.

use crate::judge::{Excuse, Judge};
use crate::network::{Asked, Network, NetworkShape};
use crate::oscillator::{Oscillator, OscillatorShape};
use crate::random::Random;
use crate::receiver::{Output, Receiver, ReceiverShape, Sawtooth};
use maser_core::discipline::{
    Clock, ClockSettings, Event, LeapClaim, Observation, Pulse, SOURCES_MAX, Saved, Sentence, SourceKind,
    SourceSettings, TimeSample,
};
use maser_core::snapshot::Snapshot;
use maser_core::time::{BUILD_DATE, Instant, LeapTable, Rate, Span, Tai, Ticks, Utc};

/// The counter's nominal rate: 2.5 GHz, a tick of 0.4 ns.
fn rate() -> Rate {
    Rate::measured(Span::from_seconds(1), 2_500_000_000).unwrap_or(Rate::NANOSECOND)
}

/// What a world is like.
#[derive(Clone, Debug)]
pub struct WorldShape {
    /// True time at the beginning.
    pub start: Instant<Utc>,
    /// The oscillator.
    pub oscillator: OscillatorShape,
    /// GPS receivers: pulses and sentences.
    pub receivers: Vec<ReceiverShape>,
    /// Complete samples once a second with this white noise, s, as from gpsd.
    pub sampled: Option<f64>,
    /// The sawtooth of these samples, s either way.
    pub sampled_sawtooth: f64,
    /// Upstream servers.
    pub networks: Vec<NetworkShape>,
    /// The leap seconds that happen.
    pub leaps: LeapTable,
    /// The leap seconds that the clock knows beforehand, and until when they are complete.
    pub known_leaps: (LeapTable, Option<Instant<Utc>>),
    /// What receivers say of leap seconds, from a second on.
    pub leap_claims: Vec<(u64, LeapClaim)>,
    /// What was kept from an earlier run.
    pub saved: Option<Saved>,
    /// The configured root distance.
    pub root_distance_max: Span,
    /// The error that the operator states for reference clocks.
    pub stamp_error: Span,
    /// A delay that the operator states for the sentences.
    pub stated_delay: Option<Span>,
    /// What the judge forgives.
    pub excuse: Option<Excuse>,
    /// What becomes of a snapshot before it is served: a fault that a test plants.
    pub spoil: Option<fn(Snapshot) -> Snapshot>,
}

impl WorldShape {
    /// A quiet one without any source.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: BUILD_DATE + Span::from_seconds(1_000_000),
            oscillator: OscillatorShape::perfect(),
            receivers: Vec::new(),
            sampled: None,
            sampled_sawtooth: 0.0,
            networks: Vec::new(),
            leaps: LeapTable::built_in(),
            known_leaps: (LeapTable::built_in(), None),
            leap_claims: Vec::new(),
            saved: None,
            root_distance_max: Span::from_nanos(10_000_000),
            stamp_error: Span::ZERO,
            stated_delay: None,
            excuse: None,
            spoil: None,
        }
    }

    fn jitter(&self) -> f64 {
        let receivers = self.receivers.iter().map(|receiver| receiver.jitter + receiver.sawtooth);
        let sampled = self.sampled.map(|jitter| jitter + self.sampled_sawtooth);
        receivers.chain(sampled).fold(0.0, f64::max)
    }
}

impl Default for WorldShape {
    fn default() -> Self {
        Self::new()
    }
}

/// So many of the clock's events are kept.
const EVENTS_KEPT: usize = 1_000;

/// What happens within a second.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Output(usize, Output),
    Sample(f64),
    Ask(usize),
    Reply(usize, Asked),
    /// The clock publishes though nothing came.
    Beat,
}

/// The world at work.
#[derive(Debug)]
pub struct World {
    shape: WorldShape,
    rate: Rate,
    start: Instant<Tai>,
    oscillator: Oscillator,
    receivers: Vec<Receiver>,
    networks: Vec<Network>,
    random: Random,
    /// That of the complete samples, and its own random numbers.
    sawtooth: (Sawtooth, Random),
    /// The clock under test.
    pub clock: Box<Clock>,
    /// What it serves.
    pub snapshot: Snapshot,
    /// Who watches.
    pub judge: Judge,
    second: u64,
    /// What the clock has told of, and when, s: the first so many.
    pub events: Vec<(f64, Event)>,
    /// What the last complete sample said and what was true, s against the counter's nominal line.
    last_sample: (f64, f64),
    /// Sentences that come after the end of their second.
    late: Vec<(f64, Happening)>,
}

impl World {
    /// At its beginning.
    #[must_use]
    pub fn new(shape: WorldShape, seed: u64) -> Self {
        let rate = rate();
        let start = shape.leaps.tai(shape.start).first();
        let oscillator = Oscillator::new(shape.oscillator.clone(), Random::new(seed, 0));
        let receivers: Vec<Receiver> = (10..)
            .zip(&shape.receivers)
            .map(|(stream, each)| Receiver::new(each.clone(), Random::new(seed, stream)))
            .collect();
        let now = Ticks::from_bits(BEGIN);
        let networks = (100..).zip(&shape.networks);
        let networks = networks
            .map(|(stream, each)| Network::new(each.clone(), rate, now, Random::new(seed, stream)))
            .collect();
        let settings = ClockSettings {
            sources: sources(&shape),
            rate,
            precision: -31,
            root_distance_max: shape.root_distance_max,
            holdover_max: Span::from_seconds(10 * 86_400),
            agree_min: 1,
            not_before: BUILD_DATE - Span::from_seconds(86_400),
            leaps: shape.known_leaps.0.clone(),
            leaps_complete_until: shape.known_leaps.1,
            saved: shape.saved,
        };
        let mut tooth = Random::new(seed, 2);
        let judge = Judge::new(shape.excuse, shape.jitter());
        Self {
            rate,
            start,
            oscillator,
            receivers,
            networks,
            random: Random::new(seed, 1),
            sawtooth: (Sawtooth::new(&mut tooth), tooth),
            clock: Box::new(Clock::new(settings)),
            snapshot: Snapshot::UNKNOWN,
            judge,
            second: 0,
            events: Vec::new(),
            last_sample: (0.0, 0.0),
            late: Vec::new(),
            shape,
        }
    }

    /// The counter's nominal rate.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// The present true second.
    #[must_use]
    pub const fn second(&self) -> u64 {
        self.second
    }

    /// The servers, for a scenario to change.
    pub fn networks_mut(&mut self) -> &mut [Network] {
        &mut self.networks
    }

    /// What the last complete sample said of the counter's error, and what that was, s.
    #[must_use]
    pub const fn last_sample(&self) -> (f64, f64) {
        self.last_sample
    }

    /// The counter's seconds less the true ones at the beginning of the present second.
    #[must_use]
    pub fn counted(&self) -> f64 {
        self.oscillator.counted(0.0)
    }

    /// The counter, `fraction` into the present second.
    #[must_use]
    pub fn ticks(&self, fraction: f64) -> Ticks {
        let whole = self.rate.ticks_in(Span::from_seconds(self.second.cast_signed()));
        let counted = fraction + self.oscillator.counted(fraction);
        Ticks::from_bits(BEGIN).offset(whole + self.rate.ticks_in(crate::span(counted)))
    }

    /// True time, `fraction` into the present second.
    #[must_use]
    pub fn truth(&self, fraction: f64) -> Instant<Tai> {
        self.start + Span::from_seconds(self.second.cast_signed()) + crate::span(fraction)
    }

    /// Error and advertised distance at the beginning of the present second.
    #[must_use]
    pub fn error_now(&self) -> Option<(f64, f64)> {
        Judge::error(&self.snapshot, self.ticks(0.0), self.truth(0.0))
    }

    /// Whether what is served claims to be synchronised.
    #[must_use]
    pub fn is_synchronised(&self) -> bool {
        self.snapshot.synchronised_at(self.ticks(0.0))
    }

    /// Lives through a second.
    pub fn step(&mut self) {
        let mut happenings = self.happenings();
        happenings.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut index = 0;
        while let Some(&(at, happening)) = happenings.get(index) {
            index += 1;
            if let Happening::Ask(server) = happening {
                let now = self.ticks(at);
                if let Some(asked) = self.networks[server].ask(now) {
                    happenings.push((asked.received, Happening::Reply(server, asked)));
                    happenings[index..].sort_by(|a, b| a.0.total_cmp(&b.0));
                }
                continue;
            }
            self.look(at);
            self.happen(at, happening);
            self.snapshot = self.publish(self.ticks(at));
            self.look(at);
            let when = crate::float(self.second) + at;
            let events = self.clock.take_events();
            let room = EVENTS_KEPT.saturating_sub(self.events.len());
            self.events.extend(events.iter().take(room).map(|event| (when, event)));
        }
        self.look(0.999_999);
        self.second += 1;
        self.oscillator.advance();
    }

    fn publish(&mut self, ticks: Ticks) -> Snapshot {
        let snapshot = self.clock.publish(ticks);
        self.shape.spoil.map_or(snapshot, |spoil| spoil(snapshot))
    }

    fn look(&mut self, at: f64) {
        let (ticks, truth) = (self.ticks(at), self.truth(at));
        let when = crate::float(self.second) + at;
        self.judge.look(&self.snapshot, ticks, truth, when, self.shape.root_distance_max);
    }

    fn happenings(&mut self) -> Vec<(f64, Happening)> {
        let mut happenings: Vec<_> = self.late.drain(..).collect();
        for (index, receiver) in self.receivers.iter_mut().enumerate() {
            for output in receiver.second(self.second) {
                let at = match output {
                    Output::Pulse { at } | Output::Sentence { at, .. } => at,
                };
                if at >= 1.0 {
                    let Output::Sentence { named, .. } = output else { continue };
                    let late = Output::Sentence { at: at - 1.0, named: named - 1 };
                    self.late.push((at - 1.0, Happening::Output(index, late)));
                } else {
                    happenings.push((at, Happening::Output(index, output)));
                }
            }
        }
        if let Some(jitter) = self.shape.sampled {
            let (sawtooth, random) = &mut self.sawtooth;
            let sawtooth = self.shape.sampled_sawtooth * sawtooth.next(random);
            happenings.push((0.0, Happening::Sample(jitter * self.random.normal() + sawtooth)));
        }
        let asked =
            self.networks.iter().enumerate().map(|(index, server)| (server.moment(), Happening::Ask(index)));
        happenings.extend(asked);
        happenings.extend([0.5, 0.75].map(|at| (at, Happening::Beat)));
        happenings
    }

    fn happen(&mut self, at: f64, happening: Happening) {
        let ticks = self.ticks(at);
        match happening {
            Happening::Output(receiver, Output::Pulse { .. }) => self.pulse(receiver, ticks, at),
            Happening::Output(receiver, Output::Sentence { named, .. }) => {
                let utc = self.shape.leaps.utc(self.truth(0.0)) + Span::from_seconds(named);
                let claims = self.shape.leap_claims.iter().rev();
                let leap = claims
                    .clone()
                    .find(|&&(from, _)| self.second >= from)
                    .map_or(LeapClaim::Unknown, |&(_, claim)| claim);
                let sentence = Sentence { at: ticks, utc, valid: true, of_next_pulse: false, leap };
                self.clock.observe(2 * receiver + 1, &Observation::Sentence(sentence));
            }
            Happening::Sample(noise) => self.sampled(ticks, noise),
            Happening::Reply(server, asked) => {
                let (sent, received) = (self.ticks(asked.sent), self.ticks(asked.received));
                let utc = self.shape.leaps.utc(self.truth(0.0));
                let source = self.first_network() + server;
                if let Some(exchange) = self.networks[server].reply(&asked, sent, received, utc) {
                    self.clock.observe(source, &Observation::Exchange(exchange));
                }
            }
            Happening::Ask(_) | Happening::Beat => {}
        }
    }

    fn pulse(&mut self, receiver: usize, ticks: Ticks, at: f64) {
        let began = self.truth(0.0);
        if at.abs() < 0.1 {
            self.judge.sample(&self.snapshot, ticks, began, self.second);
        }
        let pulse = Pulse { at: ticks, error: Span::ZERO };
        let labelled = self.clock.labelled(2 * receiver).map(|(at, _)| at);
        self.clock.observe(2 * receiver, &Observation::Pulse(pulse));
        if let Some((when, second)) =
            self.clock.labelled(2 * receiver).filter(|(at, _)| Some(*at) != labelled)
        {
            // By the counter, so that a doubled or a late pulse is judged by the second that it is in.
            debug_assert!(when == ticks);
            self.judge.label(second, self.truth(at));
        }
        let snapshot = self.publish(ticks);
        self.judge.corrected(&snapshot, ticks, self.truth(at), self.second);
    }

    fn sampled(&mut self, ticks: Ticks, noise: f64) {
        let said = self.truth(0.0) + crate::span(noise);
        let counted = self.oscillator.counted(0.0);
        self.last_sample = (counted - noise, counted);
        self.judge.sample(&self.snapshot, ticks, said, self.second);
        let sample = TimeSample {
            at: ticks,
            utc: self.shape.leaps.utc(said),
            error: Span::ZERO,
            valid: true,
            leap: LeapClaim::Unknown,
        };
        let source = 2 * self.receivers.len();
        self.clock.observe(source, &Observation::Time(sample));
        let snapshot = self.publish(ticks);
        self.judge.corrected(&snapshot, ticks, self.truth(0.0), self.second);
    }

    fn first_network(&self) -> usize {
        2 * self.receivers.len() + usize::from(self.shape.sampled.is_some())
    }
}

/// The counter at the beginning of the world: a few days after the machine was started.
const BEGIN: u64 = 1 << 50;

fn sources(shape: &WorldShape) -> [Option<SourceSettings>; SOURCES_MAX] {
    let common = SourceSettings {
        kind: SourceKind::Pulse,
        prefer: false,
        correction: Span::ZERO,
        error: shape.stamp_error,
        delay: None,
        named_by: 0,
        reference_id: *b"PPS\0",
        stratum: 0,
    };
    let mut all = Vec::new();
    for _ in &shape.receivers {
        let named_by = 1 << (all.len() + 1);
        all.push(SourceSettings { named_by, ..common });
        let sentences = SourceSettings {
            kind: SourceKind::Receiver,
            delay: shape.stated_delay,
            reference_id: *b"GPS\0",
            ..common
        };
        all.push(sentences);
    }
    if shape.sampled.is_some() {
        all.push(SourceSettings { kind: SourceKind::Sampled, reference_id: *b"GPS\0", ..common });
    }
    for _ in &shape.networks {
        let reference_id = [192, 0, 2, 1];
        all.push(SourceSettings { kind: SourceKind::Network, error: Span::ZERO, reference_id, ..common });
    }
    std::array::from_fn(|index| all.get(index).copied())
}
