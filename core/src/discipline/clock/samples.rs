//! From an observation to a sample: which second, which scale, how good.

use super::numbers::{seconds_on, span_of};
use super::{Clock, Event, Followed, Why};
use crate::discipline::label::{Claim, Interval, Label, Labelled, Need, Witness};
use crate::discipline::observation::{Exchange, Observation, Pulse, Sawtooth, Sentence, TimeSample};
use crate::discipline::state::State;
use crate::discipline::track::SourceKind;
use crate::refclock::{later_by_weeks, weeks_missing, weeks_off};
use crate::time::{Instant, Span, Tai, Ticks, Utc};
use libm::fabs;

/// A delay of sentences is learnt from so many before it is used.
const LEARNT_FROM: f64 = 32.0;

/// Nothing is known of a receiver's delay but that it is less than a second.
const DELAY_UNKNOWN: Span = Span::from_nanos(500_000_000);

/// From the second's beginning to a receiver's sentence, as seen while the clock was kept by something better.
#[derive(Clone, Copy, Debug)]
pub(super) struct Learnt {
    pub(super) mean_s: f64,
    pub(super) deviation_s: f64,
    pub(super) count: f64,
    /// How far the clock that it was learnt by could be off, at most.
    pub(super) clock_s: f64,
}

impl Learnt {
    pub(super) const NOTHING: Self = Self { mean_s: 0.0, deviation_s: 0.0, count: 0.0, clock_s: 0.0 };

    fn note(&mut self, delay_s: f64, clock_s: f64) {
        self.count = (self.count + 1.0).min(256.0);
        let apart = delay_s - self.mean_s;
        self.mean_s += apart / self.count;
        let apart = if self.count > 1.0 { fabs(apart) } else { 0.0 };
        self.deviation_s += (apart - self.deviation_s) / self.count;
        self.clock_s = self.clock_s.max(clock_s);
    }

    const fn is_known(&self) -> bool {
        self.count >= LEARNT_FROM
    }
}

/// A moment of the counter, reference time then, and how far that can be off beyond noise.
pub(super) type Sample = (Ticks, Instant<Tai>, Span);

/// So many pulses that wait for their second are kept.
const UNLABELLED_MAX: usize = 8;

/// A receiver tells a pulse's sawtooth within the second before it.
const TOLD_BEFORE_MAX: Span = Span::from_nanos(1_200_000_000);

/// So many pulses in a row where no second begins contradict the clock.
const STRAYS_MAX: u32 = 3;

/// A pulse that has waited for longer than this isn't counted back to, s.
const BACK_S_MAX: i64 = 16;

/// Pulses that wait for their second: once one after them has it, they have theirs by counting back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unlabelled {
    pulses: [Option<Pulse>; UNLABELLED_MAX],
}

impl Unlabelled {
    pub(super) const NONE: Self = Self { pulses: [None; UNLABELLED_MAX] };

    fn push(&mut self, pulse: Pulse) {
        self.pulses.rotate_left(1);
        if let Some(last) = self.pulses.last_mut() {
            *last = Some(pulse);
        }
    }
}

impl Clock {
    /// What an observation says of reference time; none where it says nothing by itself.
    pub(super) fn sample(&mut self, source: usize, observation: &Observation) -> Option<Sample> {
        let settings = self.tracks.get(source)?.settings;
        let (at, tai, error) = match observation {
            Observation::Pulse(pulse) => self.pulse(source, pulse)?,
            Observation::Sentence(sentence) => self.sentence(source, sentence)?,
            Observation::Sawtooth(sawtooth) => {
                self.sawtooth(source, *sawtooth);
                return None;
            }
            Observation::Time(sample) => self.time(source, sample)?,
            Observation::Tai(sample) => (sample.at, sample.tai, sample.error),
            Observation::Exchange(exchange) => self.exchange(source, exchange),
        };
        Some((at, tai + settings.correction, error + settings.error))
    }

    /// A receiver has told the sawtooth of the next pulse: of every source whose seconds it may name.
    fn sawtooth(&mut self, source: usize, sawtooth: Sawtooth) {
        for (kept, track) in self.sawteeth.iter_mut().zip(&self.tracks) {
            if track.settings.kind == SourceKind::Pulse && track.settings.named_by >> source & 1 != 0 {
                *kept = Some(sawtooth);
            }
        }
    }

    /// What was told of the quantisation of the pulse at `at`.
    fn quantisation(&mut self, source: usize, at: Ticks) -> Span {
        let told = self.sawteeth.get_mut(source).and_then(Option::take);
        let before = |told: &Sawtooth| {
            let ago = self.settings.rate.span_of(at.since(told.at));
            ago >= Span::ZERO && ago < TOLD_BEFORE_MAX
        };
        told.filter(before).map_or(Span::ZERO, |told| told.quantisation)
    }

    fn pulse(&mut self, source: usize, pulse: &Pulse) -> Option<Sample> {
        let quantisation = self.quantisation(source, pulse.at);
        self.tell_labeller(source, pulse.at);
        let labeller = self.labellers.get_mut(source)?;
        let Labelled { label, contradicted } = labeller.pulse(pulse.at);
        if let Some(contradiction) = contradicted {
            match contradiction.by {
                // By counting on, its second is another: what it says from now on is looked at afresh.
                Witness::Sentences(witness) => labeller.forget(witness),
                Witness::Intervals => labeller.restart(),
            }
            let by_s = contradiction.difference_s;
            if core::mem::replace(self.jumped.get_mut(source)?, by_s) != by_s {
                self.events.push(Event::SecondJumped { source, by_s });
            }
            return None;
        }
        let (need, second) = match label {
            Label::Second(second) => (None, Some(second)),
            Label::Waiting(need) => (Some(need), None),
        };
        // A stray pulse says nothing of the train that is labelled.
        let stray = need == Some(Need::Stray);
        if stray {
            self.note_stray(source, pulse.at);
        } else {
            *self.strays.get_mut(source)? = 0;
            *self.needs.get_mut(source)? = need;
        }
        let Some(second) = second else {
            if !stray {
                self.unlabelled.get_mut(source)?.push(*pulse);
            }
            return None;
        };
        *self.labelled.get_mut(source)? = Some((pulse.at, second));
        Some((pulse.at, second - quantisation, pulse.error))
    }

    /// Pulses of the source that is followed come elsewhere: one may be noise, three in a row say that the counter or the
    /// receiver has jumped.
    fn note_stray(&mut self, source: usize, at: Ticks) {
        let Some(strays) = self.strays.get_mut(source) else { return };
        *strays = strays.saturating_add(1);
        if *strays < STRAYS_MAX || self.fed_by != Followed::Reference(source) || !self.state.is_synchronised()
        {
            return;
        }
        let (Some(base), Some(line)) = (self.base, self.line(at)) else { return };
        let fraction_s = Span::from_raw(i128::from(line.origin.fraction())).as_seconds_f64();
        let by_s = if fraction_s > 0.5 { 1.0 - fraction_s } else { -fraction_s };
        self.contradict(seconds_on(&base, at), by_s, Why::Strays);
        self.begin_with(self.estimator.anew(), self.fed_by);
    }

    /// The samples of the pulses that have waited for the one that was just given a second, oldest first.
    pub(super) fn pulses_before(&mut self, source: usize) -> impl Iterator<Item = Sample> + use<> {
        let waiting = self
            .unlabelled
            .get_mut(source)
            .map_or(Unlabelled::NONE, |kept| core::mem::replace(kept, Unlabelled::NONE));
        let rate = self.settings.rate;
        let settings = self.tracks.get(source).map(|track| track.settings);
        let given = self.labelled(source).zip(settings);
        waiting.pulses.into_iter().flatten().filter_map(move |pulse| {
            let ((at, second), settings) = given?;
            // Over these few seconds no counter is off by a thousandth.
            let ago = rate.span_of(at.since(pulse.at));
            let seconds = (ago + Span::from_nanos(500_000_000)).raw() >> 64;
            let seconds = i64::try_from(seconds).ok().filter(|seconds| (1..=BACK_S_MAX).contains(seconds))?;
            let off = ago - Span::from_seconds(seconds);
            let near = off.abs() < Span::from_nanos(seconds.saturating_mul(1_000_000));
            let tai = second - Span::from_seconds(seconds) + settings.correction;
            near.then(|| (pulse.at, tai, pulse.error + settings.error))
        })
    }

    /// The last pulse of a source that was given a second, and which.
    #[must_use]
    pub fn labelled(&self, source: usize) -> Option<(Ticks, Instant<Tai>)> {
        self.labelled.get(source).copied().flatten()
    }

    /// Tells a pulse source's labeller what is known of reference time without it.
    fn tell_labeller(&mut self, source: usize, at: Ticks) {
        let Some(base) = self.base else { return };
        let now = seconds_on(&base, at);
        for other in (0..self.settings.count()).filter(|&other| other != source) {
            let voted_out = self.is_falseticker(other);
            let vouches = self.vouches(other, at).then(|| self.candidate(other, at, now));
            let Some(labeller) = self.labellers.get_mut(source) else { return };
            match vouches {
                Some(candidate) => {
                    let tai = base.at(at) + span_of(candidate.offset_s);
                    labeller.interval(other, Interval { at, tai, error: span_of(candidate.distance_s) });
                }
                None if voted_out => labeller.forget(other),
                None => {}
            }
        }
        if self.state.is_synchronised()
            && let Some(line) = self.line(at)
        {
            let error = span_of(self.budget(now).distance_s());
            if let Some(labeller) = self.labellers.get_mut(source) {
                labeller.interval(source, Interval { at, tai: line.origin, error });
            }
        }
    }

    /// Whether a source that knows the second by itself speaks at the moment, and isn't voted out.
    fn vouches(&self, other: usize, at: Ticks) -> bool {
        self.tracks.get(other).is_some_and(|track| {
            let complete = match track.settings.kind {
                SourceKind::Sampled | SourceKind::Network | SourceKind::Machine => true,
                SourceKind::Pulse | SourceKind::Receiver => false,
            };
            complete
                && track.valid
                && track.is_known()
                && track.is_heard(at, self.settings.rate)
                && !self.is_falseticker(other)
        })
    }

    fn sentence(&mut self, source: usize, sentence: &Sentence) -> Option<Sample> {
        let track = self.tracks.get_mut(source)?;
        track.valid = sentence.valid;
        let stated = track.settings.delay;
        if !sentence.valid {
            return None;
        }
        self.leaps.claim(source, sentence.leap);
        let usual = self.usual_delay(source, stated);
        let tai = self.tai(source, sentence.at, sentence.utc, usual);
        let second = tai;
        let claim =
            Claim { source, at: sentence.at, second, of_next_pulse: sentence.of_next_pulse, delay: stated };
        let voted_out = self.is_falseticker(source);
        for (labelled, track) in self.labellers.iter_mut().zip(&self.tracks) {
            if track.settings.kind == SourceKind::Pulse
                && track.settings.named_by >> source & 1 != 0
                && !voted_out
            {
                labelled.sentence(&claim);
            }
        }
        if sentence.of_next_pulse {
            return None;
        }
        let (delay, error) = self.delay(source, sentence.at, tai, stated);
        Some((sentence.at, tai + delay, error))
    }

    /// How long after its second's beginning a sentence comes, and how far that can be off.
    fn delay(&mut self, source: usize, at: Ticks, named: Instant<Tai>, stated: Option<Span>) -> (Span, Span) {
        if let Some(stated) = stated {
            return (stated, Span::ZERO);
        }
        let by_itself = self.fed_by == Followed::Reference(source);
        let served = self.line(at).filter(|_| self.state == State::Locked && !by_itself);
        let clock_s = self.base.map_or(0.0, |base| self.budget(seconds_on(&base, at)).distance_s());
        let Some(learnt) = self.delays.get_mut(source) else { return (DELAY_UNKNOWN, DELAY_UNKNOWN) };
        if let Some(served) = served {
            let delay_s = (served.origin - named).as_seconds_f64();
            if fabs(delay_s) < 1.0 {
                learnt.note(delay_s, clock_s);
            }
        }
        if learnt.is_known() {
            (span_of(learnt.mean_s), span_of(4.0 * learnt.deviation_s + learnt.clock_s))
        } else {
            (DELAY_UNKNOWN, DELAY_UNKNOWN)
        }
    }

    /// Whether a receiver's delay is stated or learnt.
    pub(super) fn knows_delay(&self, source: usize) -> bool {
        let stated = self.tracks.get(source).is_some_and(|track| track.settings.delay.is_some());
        stated || self.delays.get(source).is_some_and(Learnt::is_known)
    }

    /// How long after its second a receiver's sentence comes as a rule.
    fn usual_delay(&self, source: usize, stated: Option<Span>) -> Span {
        let learnt = self.delays.get(source).filter(|learnt| learnt.is_known());
        stated
            .or_else(|| learnt.map(|learnt| span_of(learnt.mean_s)))
            .unwrap_or(Span::from_nanos(250_000_000))
    }

    fn time(&mut self, source: usize, sample: &TimeSample) -> Option<Sample> {
        self.tracks.get_mut(source)?.valid = sample.valid;
        if !sample.valid {
            return None;
        }
        self.leaps.claim(source, sample.leap);
        Some((sample.at, self.tai(source, sample.at, sample.utc, Span::ZERO), sample.error))
    }

    fn exchange(&mut self, source: usize, exchange: &Exchange) -> Sample {
        if let Some(track) = self.tracks.get_mut(source) {
            track.exchange = Some(*exchange);
        }
        self.leaps.claim(source, exchange.leap);
        (exchange.at, self.tai(source, exchange.at, exchange.utc, Span::ZERO), Span::ZERO)
    }

    /// The moment of TAI that a source means with a count of UTC: GPS weeks corrected, leap seconds taken off. Usually it says
    /// so `delay` after that moment.
    fn tai(&mut self, source: usize, at: Ticks, utc: Instant<Utc>, delay: Span) -> Instant<Tai> {
        let table = self.leaps.table();
        let expected = self.line(at).map(|line| line.origin - delay);
        let known = expected.filter(|_| self.state.is_synchronised()).map(|tai| table.utc(tai));
        let is_receiver = self.tracks.get(source).is_some_and(|track| track.settings.kind.is_reference());
        let before = self.weeks.get(source).copied().unwrap_or(0);
        let weeks = match known {
            _ if !is_receiver => 0,
            // What is off by no whole number of cycles is off by something else besides.
            Some(known) => weeks_off(utc, known, Span::from_seconds(2)).unwrap_or(before),
            None => weeks_missing(utc, self.settings.not_before).unwrap_or(0),
        };
        if let Some(before) = self.weeks.get_mut(source)
            && *before != weeks
        {
            *before = weeks;
            self.events.push(Event::WeekRollover { source, weeks });
        }
        let meaning = table.tai(later_by_weeks(utc, weeks));
        expected.map_or_else(|| meaning.first(), |expected| meaning.nearest(expected))
    }
}
