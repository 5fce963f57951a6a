//! Which sources agree, which of them moves the clock, and who is not believed for a while.

use super::numbers::{NO_CANDIDATE, falsity, seconds_on};
use super::{Clock, Event, Followed, Why};
use crate::discipline::estimator::Prior;
use crate::discipline::select::{Candidate, Kind, Rules, Unusable, Verdict, select};
use crate::discipline::state::State;
use crate::discipline::track::{SourceKind, Track};
use crate::time::Ticks;
use libm::fabs;

/// A source that can be further off than this has no say at all, s; sentences whose delay isn't known are within half a
/// second.
const DISTANCE_MAX: f64 = 1.5;

/// A source that was wrong isn't used for so long after it was last, and for twice as long each time that it is wrong again.
pub(super) const PROBATION_S: f64 = 300.0;
const PROBATION_MAX_S: f64 = 3_600.0;

/// So long every source is given to say its first word, s: the time of a burst, and room to spare.
const HEARING_S: f64 = 12.0;

/// Sentences may come this much later or earlier than they did before without naming another second, s.
const DELAY_MAX_S: f64 = 0.5;

/// How far a known frequency can be off, in its standard deviations.
pub(super) const RATE_COVERAGE: f64 = 6.0;

/// No counter's rate is further off than this from what was calibrated.
const RATE_ERROR_MAX: f64 = 5e-4;

impl Clock {
    /// Which sources agree now, and which is followed.
    pub(super) fn reselect(&mut self, now: Ticks) {
        let Some(base) = self.base else { return };
        let at = seconds_on(&base, now);
        self.candidates = core::array::from_fn(|source| self.candidate(source, now, at));
        self.vote_as_pulses();
        let candidates = self.candidates.get(..self.settings.count()).unwrap_or(&[]);
        let rules = Rules {
            agree_min: self.settings.agree_min,
            distance_max_s: DISTANCE_MAX,
            current: self.selection.followed,
        };
        let mut selection = select(candidates, &rules);
        if let Some(source) = selection.followed
            && selection.combined.is_none()
            && !self.is_worth_following(Followed::Reference(source), at)
        {
            // A reference clock that adds nothing to what is served doesn't stand before the servers either.
            if let Some(candidate) = self.candidates.get_mut(source) {
                candidate.only_votes = true;
            }
            let candidates = self.candidates.get(..self.settings.count()).unwrap_or(&[]);
            selection = select(candidates, &rules);
        }
        let followed = match selection.followed {
            None => Followed::Nobody,
            Some(_) if selection.combined.is_some() => Followed::Network,
            Some(source) => Followed::Reference(source),
        };
        self.selection = selection;
        self.selected_at = at;
        if self.is_too_early(now) {
            self.followed = Followed::Nobody;
            return;
        }
        self.note_falsetickers(now);
        self.note_deceiver(at);
        self.hold_against_majority(at);
        let followed = if self.is_worth_following(followed, at) { followed } else { Followed::Nobody };
        let before = core::mem::replace(&mut self.followed, followed);
        if followed != before && followed != Followed::Nobody {
            self.begin_following(at);
        }
    }

    /// Whether most of those who could speak for or against may not have done so yet: the first to answer aren't a majority.
    pub(super) fn is_too_early(&self, now: Ticks) -> bool {
        let votes = |track: &&Track| track.settings.kind != SourceKind::Pulse;
        let voters = self.tracks.iter().take(self.settings.count()).filter(votes).count();
        let begun =
            self.begun.map_or(0.0, |begun| self.settings.rate.span_of(now.since(begun)).as_seconds_f64());
        begun < HEARING_S && 2 * self.selection.agree <= voters
    }

    /// A receiver whose pulses have their seconds votes with them, and isn't followed beside them: its sentences alone would
    /// agree with anybody. Where they name another second than the pulses have, they vote for themselves.
    fn vote_as_pulses(&mut self) {
        for pulse in 0..self.settings.count() {
            let Some((track, better)) = self.tracks.get(pulse).zip(self.candidates.get(pulse).copied())
            else {
                return;
            };
            if better.kind != Kind::Pulse || better.unusable.is_some() {
                continue;
            }
            let named_by = track.settings.named_by;
            for (source, candidate) in self.candidates.iter_mut().enumerate() {
                let apart = fabs(candidate.offset_s - better.offset_s);
                let named = named_by >> source & 1 != 0 && candidate.kind == Kind::Reference;
                if named && apart <= candidate.distance_s.max(DELAY_MAX_S) {
                    (candidate.offset_s, candidate.distance_s) = (better.offset_s, better.distance_s);
                    candidate.only_votes = true;
                }
            }
        }
    }

    pub(super) fn candidate(&self, source: usize, now: Ticks, at: f64) -> Candidate {
        let Some(track) = self.tracks.get(source) else { return NO_CANDIDATE };
        let kind = match track.settings.kind {
            SourceKind::Pulse => Kind::Pulse,
            SourceKind::Receiver | SourceKind::Sampled => Kind::Reference,
            SourceKind::Network | SourceKind::Machine => Kind::Network,
        };
        let (frequency, frequency_error) = self.rate_known();
        let (offset_s, jitter_s) = track.phase(at, frequency);
        let distance = track.distance(at, jitter_s, frequency_error);
        let distance_s = distance.own + distance.rate;
        // What isn't known of the counter is no fault of the source's: by following it, it becomes known.
        // A receiver whose sentences come nobody knows how late names the second and no more.
        let late = track.settings.kind == SourceKind::Receiver && !self.knows_delay(source);
        let only_votes = late || distance.own > self.settings.root_distance_max.as_seconds_f64();
        let waits = self.needs.get(source).is_some_and(Option::is_some);
        let unusable = if track.heard.is_none() {
            Some(Unusable::Silent)
        } else if self.is_on_probation(source, now) {
            Some(Unusable::Probation)
        } else if !track.is_heard(now, self.settings.rate) {
            Some(Unusable::Unreachable)
        } else if !track.valid {
            Some(Unusable::Invalid)
        } else if kind == Kind::Pulse && (waits || track.taken == 0) {
            Some(Unusable::NoLabel)
        } else if track.is_known() {
            None
        } else {
            Some(Unusable::Silent)
        };
        Candidate {
            offset_s,
            distance_s,
            jitter_s,
            kind,
            prefer: track.settings.prefer,
            only_votes,
            unusable,
        }
    }

    /// The base line's rate: how fast reference time gains on it, and how well that is known.
    pub(super) fn rate_known(&self) -> (f64, f64) {
        let found = self.estimator.rate().unwrap_or((0.0, RATE_ERROR_MAX));
        // What the oscillator was like while the clock was last locked doesn't depend on any phase.
        let known = self.oscillator_now().map(|prior| (prior.frequency, RATE_COVERAGE * prior.frequency_sd));
        let (frequency, error) = known.filter(|known| known.1 < found.1).unwrap_or(found);
        (frequency, error.min(RATE_ERROR_MAX))
    }

    /// What was last known of the oscillator, grown older since.
    pub(super) fn oscillator_now(&self) -> Option<Prior> {
        let (mut prior, since) = self.oscillator?;
        let age = self.settings.rate.span_of(self.now.since(since)).as_seconds_f64().max(0.0);
        prior.frequency_sd += prior.noise.wander * libm::sqrt(age);
        Some(prior)
    }

    pub(super) fn note_falsetickers(&mut self, now: Ticks) {
        for source in 0..self.settings.count() {
            let by_s = self.selection.verdicts.get(source).and_then(falsity);
            let over = !self.is_on_probation(source, now);
            let Some(wrong) = self.wrong.get_mut(source) else { return };
            match (by_s, *wrong) {
                (Some(by_s), None) => {
                    self.events.push(Event::Falseticker { source, by_s });
                    if let Some(probation_s) = self.probation_s.get_mut(source) {
                        *probation_s = (2.0 * *probation_s).min(PROBATION_MAX_S);
                    }
                }
                (None, Some(_)) if over => self.events.push(Event::Truechimer { source }),
                (None, Some(_)) => continue,
                (None, None) | (Some(_), Some(_)) => {}
            }
            *wrong = by_s.map(|_| now);
        }
    }

    /// The source that the clock was made from is voted out: so is the clock. One voter is enough: whether a lone receiver
    /// names another second or the counter has jumped by whole seconds, nobody can tell.
    fn note_deceiver(&mut self, at: f64) {
        let Followed::Reference(source) = self.fed_by else { return };
        let by_s = self.selection.verdicts.get(source).and_then(falsity);
        let Some(by_s) = by_s.filter(|_| self.state.is_synchronised()) else { return };
        self.contradict(at, by_s, Why::VotedOut);
        match self.incoming.take() {
            Some(incoming) => self.begin_with(incoming, self.followed),
            None => self.begin_with(self.beginning(), Followed::Nobody),
        }
    }

    /// In holdover nobody's samples contradict the clock; the majority's interval may.
    fn hold_against_majority(&mut self, at: f64) {
        let Some((low, high)) = self.selection.interval.filter(|_| self.state == State::Holdover) else {
            return;
        };
        let (phase, own) = (self.estimator.estimate(at).phase, self.budget(at).distance_s());
        let by_s = (low - phase).max(phase - high);
        if self.contradicted.is_none() && by_s > own {
            self.contradict(at, by_s, Why::OtherSource);
            self.begin_with(self.beginning(), Followed::Nobody);
            // Whoever is followed now is begun with, as if it hadn't been followed before.
            self.followed = Followed::Nobody;
        }
    }

    /// Whether the majority has said lately that a source is wrong.
    pub(super) fn is_falseticker(&self, source: usize) -> bool {
        self.wrong.get(source).is_some_and(Option::is_some)
    }

    pub(super) fn is_on_probation(&self, source: usize, now: Ticks) -> bool {
        let wrong = self.wrong.get(source).copied().flatten().zip(self.probation_s.get(source));
        wrong.is_some_and(|(at, &probation_s)| {
            self.settings.rate.span_of(now.since(at)).as_seconds_f64() < probation_s
        })
    }

    /// While the clock is good by itself, only what is better is followed: in holdover a source that may be further off than
    /// the clock adds nothing, unless it shows that the clock is wrong.
    pub(super) fn is_worth_following(&self, followed: Followed, at: f64) -> bool {
        if !self.state.is_synchronised()
            || self.contradicted.is_some()
            || followed == self.fed_by
            || self.incoming.is_some()
        {
            return true;
        }
        let Some((phase, distance)) = self.phase_of(followed) else { return true };
        let own = self.budget(at).distance_s();
        distance <= own || fabs(phase - self.estimator.estimate(at).phase) > own + distance
    }

    /// Whether a server's word goes into the average that is followed.
    pub(super) fn is_averaged(&self, source: usize) -> bool {
        match self.selection.verdicts.get(source) {
            Some(Verdict::Followed | Verdict::Combined) => true,
            Some(
                Verdict::Absent
                | Verdict::Unusable(_)
                | Verdict::TooDistant { .. }
                | Verdict::NoMajority
                | Verdict::PulseWithoutSecond
                | Verdict::Falseticker { .. }
                | Verdict::Outlier
                | Verdict::Agrees
                | Verdict::Votes,
            )
            | None => false,
        }
    }

    /// Where the followed source or sources see reference time now, and how far that can be off.
    pub(super) fn followed_phase(&self) -> Option<(f64, f64)> {
        self.phase_of(self.followed)
    }

    pub(super) fn phase_of(&self, followed: Followed) -> Option<(f64, f64)> {
        match followed {
            Followed::Nobody => None,
            Followed::Reference(source) => {
                self.candidates.get(source).map(|one| (one.offset_s, one.distance_s))
            }
            Followed::Network => {
                self.selection.combined.map(|combined| (combined.offset_s, combined.distance_s))
            }
        }
    }
}
