//! The served clock: observations in, snapshots out.
//!
//! [`Clock::observe`] is the pulse flow: an observation becomes a sample of reference time (its second labelled, its
//! scale TAI), the samples of all sources are compared, and those of the source that is followed move the clock.
//! [`Clock::publish`] says what may be served of it at a moment, and how far it can be off. Nothing here reads a clock
//! or does anything but remember: what is worth telling is left as [`Event`]s.

mod budget;
mod event;
mod followed;
mod numbers;
mod report;
mod samples;
mod settings;

pub use budget::Budget;
pub use event::{EVENTS_MAX, Event, Events, Why};
use followed::PROBATION_S;
use numbers::{NO_CANDIDATE, faster, nanos_of, seconds_on, span_of};
pub use report::{SourceReport, Tracking};
use samples::{Learnt, Sample, Unlabelled};
pub use settings::{ClockSettings, Saved};

use super::estimator::{Estimator, Prior, Taken};
use super::label::{Labeller, Need, RATE_ERROR_UNKNOWN_PPB};
use super::leap_keeper::LeapKeeper;
use super::observation::{Observation, SOURCES_MAX, Sawtooth};
use super::select::{Candidate, Rules, Selection, select};
use super::shown::Shown;
use super::state::{Facts, State};
use super::track::{Point, SourceKind, Track};
use crate::snapshot::STRATUM_UNSYNCHRONISED;
use crate::time::{Instant, LeapTable, Line, Span, Tai, Ticks, Utc};
use libm::fabs;

/// The base line is moved onto the samples when they are further from it than this, s: a double has then still digits enough.
const BASE_APART_MAX: f64 = 1024.0;

/// A contradiction by less than this share of what is advertised is a matter for the filter, not for clients.
const CONTRADICTING_SHARE: f64 = 0.5;

/// Without a sample for so long, s, the clock was in holdover.
const ALONE_S: f64 = 60.0;

const NO_RULES: Rules = Rules { agree_min: 1, distance_max_s: 0.0, current: None };

/// Whose samples move the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Followed {
    /// Nobody's.
    Nobody,
    /// This reference clock's.
    Reference(usize),
    /// Those of the upstream servers that agree, averaged.
    Network,
}

/// What a sample moved the clock by, last.
#[derive(Clone, Copy, Debug)]
struct LastSample {
    at: Ticks,
    residual: f64,
    /// Whose it was: what replies say while the clock is made from it.
    origin: Origin,
}

/// What replies say of the source that the clock was made from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    stratum: u8,
    reference_id: [u8; 4],
    root_delay: Span,
}

/// The served clock over all its sources.
#[derive(Clone, Debug)]
pub struct Clock {
    settings: ClockSettings,
    tracks: [Track; SOURCES_MAX],
    labellers: [Labeller; SOURCES_MAX],
    needs: [Option<Need>; SOURCES_MAX],
    weeks: [i64; SOURCES_MAX],
    /// By how many seconds a source's pulses were last contradicted.
    jumped: [i64; SOURCES_MAX],
    delays: [Learnt; SOURCES_MAX],
    /// When the majority last said that a source is wrong, until its probation is over.
    wrong: [Option<Ticks>; SOURCES_MAX],
    /// The sawtooth of a source's next pulse, where its receiver has told.
    sawteeth: [Option<Sawtooth>; SOURCES_MAX],
    /// How long its probation is.
    probation_s: [f64; SOURCES_MAX],
    /// Pulses in a row that came where no second begins.
    strays: [u32; SOURCES_MAX],
    labelled: [Option<(Ticks, Instant<Tai>)>; SOURCES_MAX],
    unlabelled: [Unlabelled; SOURCES_MAX],
    candidates: [Candidate; SOURCES_MAX],
    leaps: LeapKeeper,
    /// The latest moment that was seen.
    now: Ticks,
    /// What the oscillator was like while the clock was last locked, and when that was; from the last run at first.
    oscillator: Option<(Prior, Ticks)>,
    /// When the first word came.
    begun: Option<Ticks>,
    /// Phases are counted from this line; none before the first sample.
    base: Option<Line>,
    /// What is served.
    estimator: Estimator,
    /// Whose samples made it.
    fed_by: Followed,
    /// What will be served once it has settled: another source is followed now, or the first was contradicted by little.
    incoming: Option<Estimator>,
    shown: Shown,
    selection: Selection,
    /// Seconds of the base line at which it was made.
    selected_at: f64,
    followed: Followed,
    state: State,
    since: Ticks,
    contradicted: Option<Why>,
    contradictions: u32,
    generation: u32,
    last_sample: Option<LastSample>,
    /// The part of the samples' error that averaging doesn't remove, as far as it still is in the clock, s.
    source_error: f64,
    rms_residual: f64,
    outliers: u64,
    events: Events,
}

impl Clock {
    /// A clock that has observed nothing.
    #[must_use]
    pub fn new(settings: ClockSettings) -> Self {
        let prior = settings.saved.map(Saved::prior);
        let sources = settings.sources;
        Self {
            tracks: core::array::from_fn(|source| {
                Track::new(sources.get(source).copied().flatten().unwrap_or(settings::ABSENT))
            }),
            labellers: core::array::from_fn(|_| Labeller::new(settings.rate, RATE_ERROR_UNKNOWN_PPB)),
            needs: [None; SOURCES_MAX],
            weeks: [0; SOURCES_MAX],
            jumped: [0; SOURCES_MAX],
            delays: [Learnt::NOTHING; SOURCES_MAX],
            wrong: [None; SOURCES_MAX],
            probation_s: [PROBATION_S / 2.0; SOURCES_MAX],
            strays: [0; SOURCES_MAX],
            sawteeth: [None; SOURCES_MAX],
            labelled: [None; SOURCES_MAX],
            unlabelled: [Unlabelled::NONE; SOURCES_MAX],
            candidates: [NO_CANDIDATE; SOURCES_MAX],
            leaps: LeapKeeper::new(settings.leaps.clone(), settings.leaps_complete_until),
            now: Ticks::from_bits(0),
            oscillator: None,
            begun: None,
            base: None,
            estimator: Estimator::new(prior),
            fed_by: Followed::Nobody,
            incoming: None,
            shown: settings.saved.map_or_else(Shown::new, |saved| saved.shown),
            selection: select(&[], &NO_RULES),
            selected_at: 0.0,
            followed: Followed::Nobody,
            state: State::Cold,
            since: Ticks::from_bits(0),
            contradicted: None,
            contradictions: 0,
            generation: 0,
            last_sample: None,
            source_error: 0.0,
            rms_residual: 0.0,
            outliers: 0,
            events: Events::new(),
            settings,
        }
    }

    /// A source's reference id, once its address is known.
    pub fn set_reference_id(&mut self, source: usize, reference_id: [u8; 4]) {
        if let Some(track) = self.tracks.get_mut(source) {
            track.settings.reference_id = reference_id;
        }
    }

    /// Takes a newer list of leap seconds, complete until a moment by its own word. Refused where TAI - UTC would change
    /// for the present, which would step the UTC that is served.
    #[must_use]
    pub fn set_leaps(&mut self, table: LeapTable, complete_until: Option<Instant<Utc>>) -> bool {
        let now = self.line(self.now).map(|line| line.origin);
        self.leaps.renew(table, complete_until, now)
    }

    /// Takes what a source has observed.
    pub fn observe(&mut self, source: usize, observation: &Observation) {
        self.see(observation.at());
        let Some(track) = self.tracks.get_mut(source) else { return };
        if !matches!(observation, Observation::Sawtooth(_)) {
            track.hear(observation, self.settings.rate);
        }
        let Some(sample) = self.sample(source, observation) else { return };
        for earlier in self.pulses_before(source) {
            self.take(source, &earlier);
        }
        self.take(source, &sample);
    }

    /// A sample of a source: it is judged beside the others', and moves the clock if the source is followed.
    fn take(&mut self, source: usize, &(at, tai, error): &Sample) {
        let base = *self.base.get_or_insert(Line { reference: at, origin: tai, rate: self.settings.rate });
        let point = Point {
            at: seconds_on(&base, at),
            phase: (tai - base.at(at)).as_seconds_f64(),
            error: error.as_seconds_f64(),
        };
        if let Some(track) = self.tracks.get_mut(source) {
            track.push(point);
        }
        self.reselect(self.now);
        self.follow(source, at);
    }

    /// Time goes on: what comes late doesn't turn it back.
    fn see(&mut self, now: Ticks) {
        if self.begun.is_none() {
            self.begun = Some(now);
            self.now = now;
            self.oscillator = self.settings.saved.map(|saved| (saved.prior(), now));
        }
        if now.since(self.now) > 0 {
            self.now = now;
        }
    }

    /// Another source is followed than before. Its first samples are taken beside the clock that is served, unless that
    /// clock isn't served at all or is contradicted.
    fn begin_following(&mut self, at: f64) {
        self.events.push(Event::Follows { followed: self.followed });
        let Some((phase, distance)) = self.followed_phase() else { return };
        if !self.state.is_synchronised() || self.contradicted.is_some() {
            if fabs(phase) > BASE_APART_MAX {
                self.move_base(phase);
            }
            if self.fed_by != self.followed {
                self.begin_with(self.beginning(), self.followed);
            }
            self.incoming = None;
            return;
        }
        let served = self.estimator.estimate(at).phase;
        let advertised = self.budget(at).distance_s();
        if fabs(phase - served) > advertised + distance {
            self.contradict(at, phase - served, Why::OtherSource);
            if fabs(phase) > BASE_APART_MAX {
                self.move_base(phase);
            }
            self.begin_with(self.beginning(), self.followed);
        } else if self.fed_by == self.followed {
            self.incoming = None;
        } else {
            self.incoming = Some(self.beginning());
        }
    }

    /// The clock is made from other samples from now on.
    fn begin_with(&mut self, estimator: Estimator, fed_by: Followed) {
        self.estimator = estimator;
        self.fed_by = fed_by;
        self.incoming = None;
        self.source_error = 0.0;
        self.generation = self.generation.wrapping_add(1);
    }

    /// An estimator that knows the oscillator and nothing of the phase.
    fn beginning(&self) -> Estimator {
        let Some(mut prior) = self.oscillator_now() else { return Estimator::new(None) };
        let (kind, jitter) = match self.followed {
            Followed::Reference(source) => (
                self.tracks.get(source).map_or(SourceKind::Network, |track| track.settings.kind),
                self.candidates.get(source).map_or(0.0, |one| one.jitter_s),
            ),
            Followed::Network => {
                (SourceKind::Network, self.selection.combined.map_or(0.0, |combined| combined.jitter_s))
            }
            Followed::Nobody => (SourceKind::Network, 0.0),
        };
        // The noise was that of what was followed then; the scatter of a few samples may be small by chance.
        if self.state != State::Cold {
            prior.noise.jitter = jitter.max(0.1 * kind.jitter());
            prior.noise.samples = 2.0;
        }
        Estimator::new(Some(prior))
    }

    /// Moves the clock by a sample of a source that is followed.
    fn follow(&mut self, source: usize, ticks: Ticks) {
        let Some(last) = self.tracks.get(source).and_then(Track::last) else { return };
        let point = match self.followed {
            Followed::Reference(followed) if followed == source => last,
            Followed::Network if self.is_averaged(source) => {
                // Its own fresh word, and not the average: that is made with the clock's own frequency, which would then follow
                // itself.
                let Some((_, error)) = self.followed_phase() else { return };
                Point { error, ..last }
            }
            Followed::Reference(_) | Followed::Network | Followed::Nobody => return,
        };
        if let Some(incoming) = &mut self.incoming {
            match incoming.take(point.at, point.phase) {
                Taken::Used(_) | Taken::Outlier(_) | Taken::TooSoon => {}
                Taken::Contradiction(_) => *incoming = incoming.anew(),
            }
            let (settled, bound) = (incoming.is_settled(), incoming.bound(point.at) + point.error);
            let spent = self.settings.root_distance_max.as_seconds_f64();
            if settled && bound <= self.budget(point.at).distance_s().min(spent) {
                if let Some(incoming) = self.incoming.take() {
                    self.begin_with(incoming, self.followed);
                }
                self.shown.interrupt();
                self.source_error = point.error;
                self.last_sample = Some(LastSample { at: ticks, residual: 0.0, origin: self.origin(source) });
            }
            return;
        }
        match self.estimator.take(point.at, point.phase) {
            Taken::Used(residual) => {
                self.last_sample = Some(LastSample { at: ticks, residual, origin: self.origin(source) });
                // Earlier samples are in the estimate for a while after better ones have come.
                self.source_error =
                    point.error.max(self.source_error + (point.error - self.source_error) / 16.0);
                self.rms_residual += (residual * residual - self.rms_residual) / 64.0;
                if self.state == State::Locked {
                    self.shown.note(point.at, &self.estimator);
                }
            }
            Taken::TooSoon => {}
            Taken::Outlier(_) => self.outliers += 1,
            Taken::Contradiction(error) => self.begin_anew(point, error),
        }
    }

    /// What replies say while the clock is made from a source.
    fn origin(&self, source: usize) -> Origin {
        let Some(track) = self.tracks.get(source) else {
            return Origin { stratum: STRATUM_UNSYNCHRONISED, reference_id: [0; 4], root_delay: Span::ZERO };
        };
        // Of the servers that are averaged the one that was selected first speaks for all.
        let speaker = match self.followed {
            Followed::Network => {
                self.selection.followed.and_then(|peer| self.tracks.get(peer)).unwrap_or(track)
            }
            Followed::Reference(_) | Followed::Nobody => track,
        };
        let stratum = match speaker.settings.kind {
            SourceKind::Pulse | SourceKind::Receiver | SourceKind::Sampled => 1,
            SourceKind::Network => {
                speaker.exchange.map_or(STRATUM_UNSYNCHRONISED, |exchange| exchange.stratum + 1)
            }
            SourceKind::Machine => speaker.settings.stratum + 1,
        };
        Origin {
            stratum: stratum.min(STRATUM_UNSYNCHRONISED),
            reference_id: speaker.settings.reference_id,
            root_delay: speaker.exchange.map_or(Span::ZERO, |exchange| exchange.delay + exchange.root_delay),
        }
    }

    /// The samples contradict the clock: by little, and it is found anew beside the one that is served; or by so much
    /// that the served one can't be believed any more.
    fn begin_anew(&mut self, point: Point, error: f64) {
        let mut anew = self.estimator.anew();
        anew.take(point.at, point.phase);
        let advertised = self.budget(point.at).distance_s();
        // After a long time without a sample an error that was admitted is none.
        let alone = point.at - self.estimator.last() > ALONE_S;
        let share = if alone { 1.0 } else { CONTRADICTING_SHARE };
        if self.state.is_synchronised() && fabs(error) < share * advertised {
            self.incoming = Some(anew);
            return;
        }
        if self.state.is_synchronised() {
            self.contradict(point.at, error, Why::Samples);
        }
        self.begin_with(anew, self.fed_by);
        self.source_error = point.error;
    }

    fn contradict(&mut self, at: f64, by_s: f64, why: Why) {
        let advertised_s = self.budget(at).distance_s();
        self.events.push(Event::Contradicted { by_s, advertised_s, why });
        self.contradicted = Some(why);
        self.contradictions = self.contradictions.saturating_add(1);
        self.shown.interrupt();
        for (source, labeller) in self.labellers.iter_mut().enumerate() {
            // What the served clock has vouched for itself.
            labeller.forget(source);
        }
    }

    fn move_base(&mut self, phase: f64) {
        let Some(base) = &mut self.base else { return };
        // To the nanosecond is near enough: what matters is that both sides move by the same.
        let shift = Span::from_nanos(nanos_of(phase));
        base.origin = base.origin + shift;
        let shift = shift.as_seconds_f64();
        for track in &mut self.tracks {
            track.shift(shift);
        }
        self.estimator.shift(shift);
        self.shown.shift(shift);
        for candidate in &mut self.candidates {
            candidate.offset_s -= shift;
        }
    }

    /// Where reference time is at `now`, as it is served.
    fn line(&self, now: Ticks) -> Option<Line> {
        let base = self.base?;
        if !self.estimator.has_begun() {
            return None;
        }
        let estimate = self.estimator.estimate(seconds_on(&base, now));
        let origin = base.at(now) + span_of(estimate.phase);
        Some(Line { reference: now, origin, rate: faster(base.rate, estimate.frequency) })
    }

    /// What the events were since the last call, oldest first.
    pub fn take_events(&mut self) -> Events {
        core::mem::replace(&mut self.events, Events::new())
    }

    fn step_state(&mut self, now: Ticks, facts: Facts) {
        let next = self.state.next(facts);
        if next == self.state {
            return;
        }
        let why = match self.contradicted {
            Some(why) => why,
            None if facts.settled && !facts.within && next == State::Unsynchronised => Why::Budget,
            None if !facts.followed => Why::NobodyFollowed,
            None if !facts.settled => Why::NotSettled,
            None if !facts.within => Why::Budget,
            None => Why::Samples,
        };
        if next != State::Locked {
            self.shown.interrupt();
        }
        self.events.push(Event::State { from: self.state, to: next, why });
        self.state = next;
        self.since = now;
    }
}
