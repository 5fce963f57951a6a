//! The pulse flow over several sources: what drivers report goes into the clock of the core in the order of arrival, and
//! what the clock says goes out as a snapshot at once.
//!
//! ```text
//! report → observe → publish → snapshot
//!                       └→ events → log and status
//! ```
//!
//! The thread is off the packet path. It waits for reports and for short locks only: whatever may take long (files,
//! names, devices) belongs to other threads. If it stalls all the same, the last snapshot's limit makes every reply say
//! "unsynchronised".

use super::told::{Told, told};
use super::{CounterWithdrawn, read_machine};
use crate::config::{Config, SourceKind, Stratum};
use crate::leaps::{NotTaken, TakesLeaps, date};
use crate::source::ntp::reference_id;
use crate::source::{Report, Word};
use crate::state::legacy::Inherited;
use maser_core::discipline::LeapClaim;
use maser_core::discipline::{
    Clock, ClockSettings, Event, Observation, Saved, SourceReport, State, TimeSample, Tracking,
};
use maser_core::refclock::{LOCAL_REFERENCE_ID, LeapFile, MachineReading, PendingLeap};
use maser_core::snapshot::{Growth, Snapshot, VALIDITY};
use maser_core::time::{Instant, NtpShort, Span, Ticks, Utc};
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::snapshot_cell::Writer;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A snapshot is published after each report, and after so long without any: twice in a quarter of a second.
const WAIT: Duration = Duration::from_millis(125);

/// How often the machine's clock is read where it is a source.
const MACHINE_READ_EVERY: Span = Span::from_seconds(1);

/// How often the kernel is asked whether it still trusts the counter.
const COUNTER_CHECKED_EVERY: Span = Span::from_seconds(5);

/// The status tells so many events, the latest.
const EVENTS_TOLD_MAX: usize = 16;

/// Of what a driver refuses, one line in so long is logged: whoever sends rubbish must not fill the log.
const REFUSAL_LOGGED_EVERY: Span = Span::from_seconds(60);

/// RFC 5905 figure 12: an uncalibrated local clock, at stratum 1.
const LOCAL_REFERENCE_ID_STRATUM_1: [u8; 4] = *b"LOCL";

/// Taken for the most that a clock is off which follows a source and can't say yet by how much; a wrong guess costs the inheritance.
const ACQUIRING_S: f64 = 0.5;

/// Something that happened, as the status tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Happened {
    /// When, as the status writes it.
    pub when: String,
    /// What, and why.
    pub text: String,
}

/// What is known of a source beside what the clock knows.
#[derive(Clone, Default, Debug)]
pub struct Driven {
    /// What its driver can't do, or what it refused last and nothing good came since.
    pub problem: Option<String>,
    /// Observations that it made.
    pub observed: u64,
    /// What it refused.
    pub refused: u64,
    /// How often it failed after it had worked.
    pub failed: u64,
    /// Reports that found the channel full.
    pub lost: u64,
    /// What its device is and how it is read.
    pub detail: Option<String>,
    server: Option<IpAddr>,
    failing: bool,
    refusal_logged: Option<Ticks>,
    note_logged: Option<Ticks>,
}

/// All that the status needs of the clock, as of one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The clock.
    pub tracking: Tracking,
    /// The sources, in the order of the configuration.
    pub sources: Vec<(SourceReport, Driven)>,
    /// The latest events, the last one last.
    pub events: Vec<Happened>,
    /// How often replies went from synchronised to not.
    pub unsynchronised_count: u64,
    /// What is served is the clock of the server before.
    pub inherits: bool,
    /// In holdover: until the clock says that it is unsynchronised.
    pub holdover_left: Option<Span>,
}

/// What a server leaves to the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToLeave {
    /// Its clock, which is synchronised.
    Clock(Snapshot),
    /// What it was left itself, which it still serves by, and which grows no younger.
    AsItIs,
    /// Nothing: whatever was left before is wrong by now, or too old.
    Nothing,
}

/// The clock over its sources: written by the pulse thread, asked by the status.
#[derive(Debug)]
pub struct Disciplined {
    counter: Counter,
    names: Vec<String>,
    machine: Option<usize>,
    local: Option<Stratum>,
    not_before: Instant<Utc>,
    holdover_max: Span,
    root_distance_max: Span,
    kept_frequency: Option<f64>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    clock: Box<Clock>,
    driven: Vec<Driven>,
    events: VecDeque<Happened>,
    unsynchronised_count: u64,
    /// As it was published last.
    snapshot: Snapshot,
    /// What the server before has left, until this clock is synchronised itself.
    inherited: Option<Inherited>,
    is_inheritance_told: bool,
}

impl Disciplined {
    /// A clock that has observed nothing.
    #[must_use]
    pub fn new(config: &Config, counter: Counter, settings: ClockSettings) -> Self {
        let is_machine = |kind: &SourceKind| matches!(kind, SourceKind::Machine { .. });
        Self {
            counter,
            names: config.sources.iter().map(|source| source.name.clone()).collect(),
            machine: config.sources.iter().position(|source| is_machine(&source.kind)),
            local: config.local,
            not_before: settings.not_before,
            holdover_max: settings.holdover_max,
            root_distance_max: settings.root_distance_max,
            kept_frequency: settings.saved.map(|saved| saved.frequency),
            kept: Mutex::new(Kept {
                clock: Box::new(Clock::new(settings)),
                driven: vec![Driven::default(); config.sources.len()],
                events: VecDeque::with_capacity(EVENTS_TOLD_MAX),
                unsynchronised_count: 0,
                snapshot: Snapshot::UNKNOWN,
                inherited: None,
                is_inheritance_told: false,
            }),
        }
    }

    /// The same clock, which serves by what the server before has left until it is synchronised itself.
    #[must_use]
    pub fn inheriting(self, inherited: Option<Inherited>) -> Self {
        let mut kept = self.kept();
        kept.inherited = inherited;
        kept.is_inheritance_told = false;
        drop(kept);
        self
    }

    /// Hears, decides and publishes until `stop`.
    ///
    /// # Errors
    /// When the kernel has withdrawn the counter: nothing that was measured with it holds any more.
    pub fn run(
        &self,
        reports: &Receiver<Report>,
        cell: &mut Writer,
        stop: &AtomicBool,
    ) -> Result<(), CounterWithdrawn> {
        let mut machine_read: Option<Ticks> = None;
        let mut checked = self.counter.now();
        while !stop.load(Ordering::Relaxed) {
            let report = match reports.recv_timeout(WAIT) {
                Ok(report) => Some(report),
                Err(RecvTimeoutError::Timeout) => None,
                // All drivers have ended, as they do before this thread does.
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(WAIT);
                    None
                }
            };
            self.beat(report, cell);
            let now = self.counter.now();
            if machine_read.is_none_or(|read| self.passed(read, now) >= MACHINE_READ_EVERY) {
                machine_read = Some(now);
                self.beat(self.machine_report(), cell);
            }
            if self.passed(checked, now) >= COUNTER_CHECKED_EVERY {
                checked = now;
                if !self.counter.is_still_trusted() {
                    cell.publish(&Snapshot::UNKNOWN);
                    return Err(CounterWithdrawn);
                }
            }
        }
        Ok(())
    }

    /// One beat: what was reported is observed, the core decides, the snapshot is published, what happened is told.
    pub fn beat(&self, report: Option<Report>, cell: &mut Writer) {
        // Whoever reads the log may be slow: nobody waits for it but this thread, and that with its work done.
        for told in self.decide(report, cell) {
            told.log();
        }
    }

    /// All of a beat but the log, and what that is to say.
    fn decide(&self, report: Option<Report>, cell: &mut Writer) -> Vec<Told> {
        let mut kept = self.kept();
        let heard = report.and_then(|report| self.hear(&mut kept, report));
        let now = self.counter.now();
        let snapshot = kept.clock.publish(now);
        let state = kept.clock.tracking(now).state;
        if state.is_synchronised() {
            kept.inherited = None;
        }
        let mut told: Vec<Told> = heard.into_iter().collect();
        let mut inherited = kept.inherited.and_then(|inherited| inherited.at(now, self.root_distance_max));
        if let Some(inheritance) = &inherited
            && state == State::Acquiring
            && let Some(apart) =
                apart(&snapshot, kept.clock.tracking(now).budget.distance_s(), inheritance, now)
        {
            inherited = None;
            let text =
                format!("the sources contradict the clock of the server before by {apart:.6} s: not served");
            told.push(Told { text, is_warning: true });
        }
        // What is over doesn't come back.
        kept.inherited = kept.inherited.filter(|_| inherited.is_some());
        if inherited.is_some() && !std::mem::replace(&mut kept.is_inheritance_told, true) {
            let text =
                "serving on by the clock of the server before until this one's is synchronised".to_owned();
            told.push(Told { text, is_warning: false });
        }
        let snapshot = inherited.unwrap_or_else(|| self.local(snapshot, state));
        cell.publish(&snapshot);
        kept.snapshot = snapshot;
        self.tell(&mut kept, now, &mut told);
        told
    }

    /// What can be told of it now.
    #[must_use]
    pub fn figures(&self, now: Ticks) -> Figures {
        let kept = self.kept();
        let tracking = kept.clock.tracking(now);
        let reports = (0..self.names.len()).filter_map(|source| kept.clock.source(source, now));
        Figures {
            tracking,
            sources: reports.zip(kept.driven.iter().cloned()).collect(),
            events: kept.events.iter().cloned().collect(),
            unsynchronised_count: kept.unsynchronised_count,
            inherits: kept.inherited.is_some_and(|left| left.at(now, self.root_distance_max).is_some()),
            holdover_left: (tracking.state == State::Holdover).then(|| self.holdover_left(&kept.clock, now)),
        }
    }

    /// What is worth keeping for the next run, and the served UTC now; none unless the clock is locked.
    #[must_use]
    pub fn to_keep(&self, now: Ticks) -> Option<(Saved, Instant<Utc>)> {
        let kept = self.kept();
        let tracking = kept.clock.tracking(now);
        let (estimate, utc) = tracking.estimate.zip(served(&kept.snapshot, now))?;
        let saved = Saved {
            frequency: estimate.frequency,
            frequency_sd: estimate.frequency_sd,
            noise: tracking.noise,
            shown: *kept.clock.shown(),
        };
        (tracking.state == State::Locked).then_some((saved, utc))
    }

    /// What reference time gained a second of the counter, as it was kept from the run before.
    #[must_use]
    pub const fn kept_frequency(&self) -> Option<f64> {
        self.kept_frequency
    }

    /// What the server that takes this one's place can go on with.
    #[must_use]
    pub fn to_leave(&self, now: Ticks) -> ToLeave {
        let kept = self.kept();
        if kept.clock.tracking(now).state.is_synchronised() {
            ToLeave::Clock(kept.snapshot)
        } else if kept.inherited.is_some() {
            ToLeave::AsItIs
        } else {
            ToLeave::Nothing
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passed(&self, since: Ticks, now: Ticks) -> Span {
        self.counter.nominal_rate().span_of(now.since(since))
    }

    /// Takes a report, and gives what the log is to say of it.
    fn hear(&self, kept: &mut Kept, Report { source, word, server, lost }: Report) -> Option<Told> {
        let (driven, name) = kept.driven.get_mut(source).zip(self.names.get(source))?;
        driven.lost = lost;
        if let Some(server) = server.filter(|server| driven.server != Some(*server)) {
            driven.server = Some(server);
            kept.clock.set_reference_id(source, reference_id(server));
        }
        match word {
            Word::Observed(observation) => {
                driven.observed += 1;
                // Whoever observes works, whatever was lost on the way here.
                driven.failing = false;
                driven.problem = None;
                kept.clock.observe(source, &observation);
                None
            }
            Word::Working(text) => {
                driven.failing = false;
                driven.problem = None;
                Some(Told { text: format!("{name}: {text}"), is_warning: false })
            }
            Word::Failed(text) => {
                driven.failed += u64::from(!driven.failing);
                driven.failing = true;
                let is_news = driven.problem.as_ref() != Some(&text);
                let told = is_news.then(|| Told { text: format!("{name}: {text}"), is_warning: true });
                driven.problem = Some(text);
                told
            }
            Word::Noted(text) => {
                let now = self.counter.now();
                let is_long = |then| self.passed(then, now) >= REFUSAL_LOGGED_EVERY;
                driven.note_logged.is_none_or(is_long).then(|| {
                    driven.note_logged = Some(now);
                    Told { text: format!("{name}: {text}"), is_warning: true }
                })
            }
            Word::Detail(text) => {
                driven.detail = Some(text);
                None
            }
            Word::Refused(text) => {
                driven.refused += 1;
                let now = self.counter.now();
                let logged = driven.refusal_logged;
                let told =
                    logged.is_none_or(|then| self.passed(then, now) >= REFUSAL_LOGGED_EVERY).then(|| {
                        driven.refusal_logged = Some(now);
                        let text = format!("{name}: refused: {text} ({} since the start)", driven.refused);
                        Told { text, is_warning: true }
                    });
                if !driven.failing {
                    driven.problem = Some(format!("refused: {text}"));
                }
                told
            }
        }
    }

    /// While the clock isn't synchronised and there is a line, it is served at the operator's local stratum.
    fn local(&self, snapshot: Snapshot, state: State) -> Snapshot {
        let (Some(stratum), Some(line), false) = (self.local, snapshot.line, state.is_synchronised()) else {
            return snapshot;
        };
        let reference_id = if stratum.get() == 1 { LOCAL_REFERENCE_ID_STRATUM_1 } else { LOCAL_REFERENCE_ID };
        Snapshot {
            stratum: stratum.get(),
            reference_id,
            root_delay: NtpShort::from_bits(0),
            // Nobody says what a clock is off that is its own reference.
            root_dispersion: Span::ZERO,
            dispersion_growth: Growth::PHI,
            valid_until: line.reference.offset(line.rate.ticks_in(VALIDITY)),
            ..snapshot
        }
    }

    /// Events into what the status tells, and into what the log is to say.
    fn tell(&self, kept: &mut Kept, now: Ticks, log: &mut Vec<Told>) {
        let tracking = kept.clock.tracking(now);
        for event in kept.clock.take_events().iter() {
            if let Event::State { from, to: State::Unsynchronised, .. } = event {
                kept.unsynchronised_count += u64::from(from.is_synchronised());
            }
            let told = told(&event, &self.names, &tracking);
            if kept.events.len() == EVENTS_TOLD_MAX {
                kept.events.pop_front();
            }
            let when = date(utc(&kept.snapshot, now));
            kept.events.push_back(Happened { when, text: told.text.clone() });
            log.push(told);
        }
    }

    /// Found by halving: the distance only grows while no source is followed.
    fn holdover_left(&self, clock: &Clock, now: Ticks) -> Span {
        let since = Span::from_nanos(nanos(clock.tracking(now).since_s));
        let (mut within, mut beyond) = (Span::ZERO, self.holdover_max - since);
        let rate = self.counter.nominal_rate();
        let is_within = |ahead: Span| {
            let then = now.offset(rate.ticks_in(ahead));
            clock.tracking(then).budget.distance_s() <= self.root_distance_max.as_seconds_f64()
        };
        if beyond <= Span::ZERO || is_within(beyond) {
            return beyond.max(Span::ZERO);
        }
        while beyond - within > Span::from_nanos(100_000_000) {
            let middle = Span::from_raw((within.raw() + beyond.raw()) / 2);
            if is_within(middle) {
                within = middle;
            } else {
                beyond = middle;
            }
        }
        within
    }

    fn machine_report(&self) -> Option<Report> {
        let source = self.machine?;
        let word = Word::Observed(Observation::Time(self.machine_sample(&read_machine(&self.counter))));
        Some(Report { source, word, server: None, lost: 0 })
    }

    /// The machine's clock as a source: its word counts as far as the kernel vouches for it.
    fn machine_sample(&self, reading: &MachineReading) -> TimeSample {
        let utc = Instant::from_unix_nanos(reading.clock.realtime_ns);
        let error_ticks = i64::from(reading.clock.error_ticks);
        let leap = match reading.leap {
            PendingLeap::None => LeapClaim::None,
            PendingLeap::Insert | PendingLeap::Inserting => LeapClaim::Insert,
            PendingLeap::Delete => LeapClaim::Delete,
        };
        // In an inserted second the kernel's clock says the second before once more.
        let is_repeated = reading.leap == PendingLeap::Inserting;
        TimeSample {
            at: reading.clock.ticks,
            utc,
            error: reading.error_max + self.counter.nominal_rate().span_of(error_ticks),
            valid: reading.synchronised && utc >= self.not_before && !is_repeated,
            leap,
        }
    }
}

impl TakesLeaps for Disciplined {
    fn utc(&self) -> Instant<Utc> {
        utc(&self.kept().snapshot, self.counter.now())
    }

    fn set_leaps(&self, file: &LeapFile) -> Result<(), NotTaken> {
        let is_taken = self.kept().clock.set_leaps(file.table.clone(), Some(file.expires));
        if is_taken { Ok(()) } else { Err(NotTaken::OtherOffset) }
    }
}

/// How far apart two clocks are, s, if that is more than both can be off. Our own may not know yet how far that is.
fn apart(own: &Snapshot, own_distance_s: f64, other: &Snapshot, now: Ticks) -> Option<f64> {
    let apart = (own.line?.at(now) - other.line?.at(now)).as_seconds_f64().abs();
    let other_distance = other.root_dispersion_at(now) + Span::from_raw(other.root_delay.to_span().raw() / 2);
    (apart > own_distance_s.min(ACQUIRING_S) + other_distance.as_seconds_f64()).then_some(apart)
}

fn served(snapshot: &Snapshot, now: Ticks) -> Option<Instant<Utc>> {
    snapshot.line.map(|line| snapshot.leap.utc(line.at(now)))
}

fn utc(snapshot: &Snapshot, now: Ticks) -> Instant<Utc> {
    let synchronised = served(snapshot, now).filter(|_| snapshot.generation > 0);
    synchronised.unwrap_or_else(|| Instant::from_unix_nanos(kernel_clock::read(KernelClock::Realtime)))
}

#[expect(clippy::cast_possible_truncation, reason = "saturates, after 292 years")]
fn nanos(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}

#[cfg(test)]
#[path = "disciplined_tests.rs"]
mod tests;
