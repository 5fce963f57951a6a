//! The sources and how the clock follows them, as the status has them.
//!
//! The sign of every offset: positive where the source is ahead of the served clock.

use crate::config::{Config, Source, SourceKind};
use crate::leaps::{Leaps, date};
use crate::pulse::disciplined::{Driven, Figures, Happened};
use crate::status::{EventStatus, LeapKnowledge, NextLeap, SourceStanding, SourceStatus, State, Tracking};
use maser_core::discipline::{LeapAuthority, SourceReport, State as ClockState, Unusable, Verdict};
use maser_core::snapshot::Snapshot;
use maser_core::time::{Span, Ticks};

/// All of it; `served` holds what replies say.
pub(super) fn figures(
    config: &Config,
    figures: &Figures,
    leaps: &Leaps,
    served: Tracking,
    snapshot: &Snapshot,
    now: Ticks,
) -> (Vec<SourceStatus>, Tracking) {
    let synchronised = snapshot.synchronised_at(now);
    let sources = config.sources.iter().zip(&figures.sources);
    let statuses = sources.map(|(source, (report, driven))| status(source, report, driven)).collect();
    (statuses, tracking(config, figures, leaps, served, snapshot, synchronised, now))
}

fn tracking(
    config: &Config,
    figures: &Figures,
    leaps: &Leaps,
    served: Tracking,
    snapshot: &Snapshot,
    synchronised: bool,
    now: Ticks,
) -> Tracking {
    let clock = &figures.tracking;
    let estimate = clock.estimate;
    let known = |value: f64| if value.is_finite() && estimate.is_some() { Some(value) } else { None };
    let budget = &clock.budget;
    let parts = [("filter", budget.filter_s), ("oscillator", budget.shown_s), ("source", budget.source_s)];
    Tracking {
        source: followed(config, figures),
        state: if figures.inherits && synchronised {
            State::Holdover
        } else {
            state(clock.state, synchronised)
        },
        since_s: Some(clock.since_s).filter(|_| clock.state != ClockState::Cold),
        offset_s: known(clock.residual_s),
        rms_offset_s: known(clock.rms_residual_s),
        // The estimate is what reference time gains on the counter.
        frequency_ppm: estimate.and_then(|estimate| known(-1e6 * estimate.frequency)),
        frequency_error_ppm: estimate.and_then(|estimate| known(1e6 * estimate.frequency_sd)),
        wander_per_sqrt_s: known(clock.noise.wander),
        jitter_s: known(clock.noise.jitter),
        time_constant_s: known(clock.noise.time_constant()),
        budget: if synchronised {
            parts.map(|(name, figure)| (name.to_owned(), figure)).into()
        } else {
            Vec::new()
        },
        holdover_left_s: figures.holdover_left.map(Span::as_seconds_f64),
        leap: leap(leaps, clock.leap_authority, snapshot, now),
        unsynchronised_count: figures.unsynchronised_count,
        last_events: figures.events.iter().map(event).collect(),
        ..served
    }
}

/// By name, whose samples move the clock: of servers all that are averaged.
fn followed(config: &Config, figures: &Figures) -> String {
    let sources = config.sources.iter().zip(&figures.sources);
    let followed =
        sources.filter(|(_, (report, _))| matches!(report.verdict, Verdict::Followed | Verdict::Combined));
    followed.map(|(source, _)| source.name.as_str()).collect::<Vec<_>>().join(", ")
}

const fn state(clock: ClockState, synchronised: bool) -> State {
    match clock {
        ClockState::Locked if synchronised => State::Locked,
        ClockState::Holdover if synchronised => State::Holdover,
        // The clock's last word has run out: replies say so, whatever it was.
        ClockState::Locked | ClockState::Holdover => State::Unsynchronised,
        // Served without any reference, as the operator wants it.
        ClockState::Cold | ClockState::Acquiring | ClockState::Unsynchronised if synchronised => State::Local,
        ClockState::Cold => State::Cold,
        ClockState::Acquiring => State::Acquiring,
        ClockState::Unsynchronised => State::Unsynchronised,
    }
}

fn status(source: &Source, report: &SourceReport, driven: &Driven) -> SourceStatus {
    let sampled = |value: f64| (report.samples > 0 && value.is_finite()).then_some(value);
    let rollover = || {
        let weeks = report.weeks;
        (weeks != 0)
            .then(|| format!("its dates are {weeks} GPS weeks early and are corrected; update its firmware"))
    };
    let counted = [
        ("observed", driven.observed),
        ("refused", driven.refused),
        ("failed", driven.failed),
        ("lost", driven.lost),
        ("samples", report.samples),
    ];
    SourceStatus {
        name: source.name.clone(),
        kind: source.kind.of_type().word().to_owned(),
        place: match &driven.detail {
            Some(detail) => format!("{} ({detail})", source.kind),
            None => source.kind.to_string(),
        },
        verdict: verdict(report),
        standing: standing(report.verdict),
        reach: Some(report.reach),
        stratum: match source.kind {
            SourceKind::Machine { stratum } => Some(stratum.get()),
            SourceKind::Ntp { .. } => report.exchange.map(|exchange| exchange.stratum),
            SourceKind::Gpsd(_)
            | SourceKind::Nmea(_)
            | SourceKind::Ubx { .. }
            | SourceKind::Pps { .. }
            | SourceKind::Phc { .. }
            | SourceKind::PhcPulses { .. } => Some(0),
        },
        offset_s: report.offset_s.and_then(sampled),
        jitter_s: sampled(report.jitter_s),
        error_s: sampled(report.distance_s),
        last_s: report.silence_s,
        poll_s: Some(report.period_s).filter(|_| report.silence_s.is_some()),
        steps: 0,
        problem: driven.problem.clone().or_else(rollover),
        counters: counted.map(|(name, count)| (name.to_owned(), count)).into(),
    }
}

fn verdict(report: &SourceReport) -> String {
    match (report.verdict, report.need) {
        (Verdict::Unusable(Unusable::NoLabel), Some(need)) => need.to_string(),
        (Verdict::Unusable(Unusable::Unreachable), _) => "unreachable".to_owned(),
        (Verdict::Agrees, _) => "agrees".to_owned(),
        (Verdict::Combined, _) => "averaged".to_owned(),
        (verdict, _) => verdict.to_string(),
    }
}

const fn standing(verdict: Verdict) -> SourceStanding {
    match verdict {
        Verdict::Followed => SourceStanding::Followed,
        Verdict::Combined => SourceStanding::Averaged,
        Verdict::Agrees | Verdict::Votes => SourceStanding::Agrees,
        Verdict::Outlier => SourceStanding::Outlier,
        Verdict::Falseticker { .. } => SourceStanding::Falseticker,
        Verdict::Unusable(Unusable::Probation) => SourceStanding::Probation,
        Verdict::TooDistant { .. } => SourceStanding::Distant,
        Verdict::NoMajority | Verdict::PulseWithoutSecond => SourceStanding::Undecided,
        Verdict::Unusable(Unusable::Invalid | Unusable::NoNumber) => SourceStanding::Invalid,
        Verdict::Unusable(Unusable::Unreachable) => SourceStanding::Unreachable,
        Verdict::Absent | Verdict::Unusable(Unusable::Silent | Unusable::NoLabel) => SourceStanding::Waiting,
    }
}

/// What a file says of leap seconds, and no more: of the machine's own clock the kernel tells.
pub(super) fn leap_file(leaps: &Leaps, snapshot: &Snapshot, now: Ticks) -> LeapKnowledge {
    let expires = leaps.complete_until();
    let left = snapshot.line.zip(expires).map(|(line, expires)| expires - snapshot.leap.utc(line.at(now)));
    LeapKnowledge {
        file_expires: expires.map(date),
        file_left_s: left.map(Span::as_seconds_f64),
        ..LeapKnowledge::default()
    }
}

fn leap(leaps: &Leaps, authority: LeapAuthority, snapshot: &Snapshot, now: Ticks) -> LeapKnowledge {
    let Some(line) = snapshot.line else { return leap_file(leaps, snapshot, now) };
    let tai = line.at(now);
    let utc = snapshot.leap.utc(tai);
    let offset = snapshot.leap.offset_at(tai);
    let next = snapshot.leap.coming(tai).map(|next| {
        // The midnight that ends its day: an inserted second comes before the new offset's first, a deleted one after the
        // old one's last.
        let after = next.at.unix_seconds() - i64::from(offset.min(next.offset_after_s));
        NextLeap {
            when: date(maser_core::time::Instant::from_unix(after, 0)),
            seconds: next.offset_after_s - offset,
        }
    });
    let known_from = match authority {
        LeapAuthority::BuiltIn => "what was built in",
        LeapAuthority::File => "the leap file",
        LeapAuthority::Receiver => "the receiver",
        LeapAuthority::Upstream => "the upstream servers",
    };
    let warning = leaps.warning(utc).map(|warning| format!(" (the leap file {warning})"));
    LeapKnowledge {
        tai_minus_utc_s: Some(offset),
        next,
        known_from: known_from.to_owned() + &warning.unwrap_or_default(),
        ..leap_file(leaps, snapshot, now)
    }
}

fn event(Happened { when, text }: &Happened) -> EventStatus {
    EventStatus { when: when.clone(), text: text.clone() }
}
