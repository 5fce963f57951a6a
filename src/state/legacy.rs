//! What a server leaves, second by second, to the one that takes its place when it dies.
//!
//! The counter runs on, so the last snapshot still tells the time, as it does in a holdover. The keeper holds it and
//! understands nothing of it; a server that is stopped, or whose machine is, leaves nothing.

use super::document::{FREQUENCY_MAX, hertz};
use super::{Document, counter_name};
use crate::pulse::settings::BUILD_DATE_MARGIN;
use maser_core::discipline::Saved;
use maser_core::snapshot::{Growth, Snapshot, VALIDITY, WORDS};
use maser_core::time::{BUILD_DATE, Instant, Rate, Span, Ticks, Utc};
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{self, KernelClock};
use serde::{Deserialize, Serialize};
use tracing::warn;

/// A heir serves by what it was left until its own clock is synchronised, but no longer than this: a minute, while a
/// start takes seconds.
const SERVED_MAX: Span = Span::from_seconds(60);

/// A counter is up to 500 ppm off in a minute, and two clocks aren't read at once.
const AGE_TOLERANCE: Span = Span::from_nanos(100_000_000);

/// What is left.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Legacy {
    /// Which counter it is of.
    counter: String,
    /// The last snapshot.
    words: [u64; WORDS],
    /// What is worth keeping for longer, if the clock was locked.
    document: Option<Document>,
    /// When the keeper heard it, ns by `CLOCK_BOOTTIME`.
    #[serde(skip)]
    heard_ns: i64,
}

impl Legacy {
    /// What a synchronised clock leaves.
    #[must_use]
    pub fn new(counter: &Counter, snapshot: &Snapshot, kept: Option<(Saved, Instant<Utc>)>) -> Self {
        Self {
            counter: counter_name(counter.kind()).to_owned(),
            words: snapshot.to_words(),
            document: kept.map(|(saved, utc)| Document::new(counter, &saved, utc)),
            heard_ns: 0,
        }
    }

    /// The same, as it was heard at this time of `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn heard_at(self, heard_ns: i64) -> Self {
        Self { heard_ns, ..self }
    }

    /// Whether it is of this counter, which then has run on since, and can be right. Why it isn't is told.
    #[must_use]
    pub fn is_of(&self, counter: &Counter) -> bool {
        let age = Span::from_nanos(kernel_clock::read(KernelClock::Boottime).saturating_sub(self.heard_ns));
        let refused = if self.counter == counter_name(counter.kind()) {
            self.check(counter.now(), counter.nominal_rate(), age).err()
        } else {
            Some("another counter is used")
        };
        if let Some(why) = refused {
            warn!("the clock of the server before isn't used: {why}");
        }
        refused.is_none()
    }

    /// The keeper says how old it is, and the counter must say the same: it may have stood still while the machine was
    /// suspended, and a server may have left anything.
    fn check(&self, now: Ticks, nominal: Rate, age: Span) -> Result<(), &'static str> {
        let snapshot = Snapshot::from_words(&self.words);
        let line = snapshot.line.ok_or("it tells no time")?;
        if (hertz(line.rate) / hertz(nominal) - 1.0).abs() > FREQUENCY_MAX {
            return Err("its rate isn't this counter's");
        }
        let passed = nominal.span_of(now.since(line.reference));
        if !(age - AGE_TOLERANCE..=age + VALIDITY).contains(&passed) {
            return Err("its age isn't what it says");
        }
        if snapshot.leap.utc(line.at(now)) < BUILD_DATE - BUILD_DATE_MARGIN {
            return Err("it tells a time before this program was made");
        }
        Ok(())
    }

    /// What the next clock can begin with, as a state that was kept.
    #[must_use]
    pub const fn document(&self) -> Option<&Document> {
        self.document.as_ref()
    }

    /// The clock as it was left.
    #[must_use]
    pub fn inherited(&self) -> Inherited {
        Inherited(Snapshot::from_words(&self.words))
    }
}

/// A snapshot of the server before.
#[derive(Clone, Copy, Debug)]
pub struct Inherited(Snapshot);

impl Inherited {
    /// As it may be served at `now`: nobody has looked at the oscillator since, so its error grows by 15 ppm at least, and
    /// where that passes `root_distance_max`, or a minute is over, nothing is left of it.
    #[must_use]
    pub fn at(&self, now: Ticks, root_distance_max: Span) -> Option<Snapshot> {
        let line = self.0.line?;
        let (until, limit) = (self.0.valid_until, line.reference.offset(line.rate.ticks_in(VALIDITY)));
        let until = if until.since(limit) < 0 { until } else { limit };
        let last = until.offset(line.rate.ticks_in(SERVED_MAX));
        let soon = now.offset(line.rate.ticks_in(VALIDITY));
        let snapshot = Snapshot {
            valid_until: if last.since(soon) < 0 { last } else { soon },
            dispersion_growth: self.0.dispersion_growth.max(Growth::PHI),
            ..self.0
        };
        let distance =
            snapshot.root_dispersion_at(soon) + Span::from_raw(snapshot.root_delay.to_span().raw() / 2);
        (snapshot.synchronised_at(now) && distance <= root_distance_max).then_some(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maser_core::time::{Line, NtpShort};

    fn ticks(seconds: i64) -> Ticks {
        Ticks::from_bits(0).offset(seconds * 1_000_000_000)
    }

    /// A counter of 1 GHz, published at its second 100.
    fn left() -> Legacy {
        let line = Line {
            reference: ticks(100),
            origin: Instant::from_unix(1_800_000_000, 0),
            rate: Rate::measured(Span::from_seconds(1), 1_000_000_000).unwrap(),
        };
        let snapshot = Snapshot {
            line: Some(line),
            valid_until: ticks(108),
            stratum: 1,
            root_delay: NtpShort::from_bits(0),
            root_dispersion: Span::from_nanos(1_000_000),
            dispersion_growth: Growth::from_ppb(10),
            ..Snapshot::UNKNOWN
        };
        Legacy::new(&Counter::monotonic_raw(), &snapshot, None)
    }

    fn changed(change: impl FnOnce(&mut Snapshot, &mut Line)) -> Legacy {
        let mut snapshot = Snapshot::from_words(&left().words);
        let mut line = snapshot.line.unwrap();
        change(&mut snapshot, &mut line);
        Legacy::new(&Counter::monotonic_raw(), &Snapshot { line: Some(line), ..snapshot }, None)
    }

    #[test]
    fn what_is_made_up_serves_for_no_longer() {
        let made_up = changed(|snapshot, _| snapshot.valid_until = ticks(1_000_000)).inherited();
        let most = Span::from_nanos(10_000_000);
        assert_eq!(made_up.at(ticks(167), most).unwrap().valid_until, ticks(168));
        assert!(made_up.at(ticks(169), most).is_none());
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        let nominal = Rate::measured(Span::from_seconds(1), 1_000_000_000).unwrap();
        let checked = |legacy: &Legacy, age_s: i64| {
            legacy.check(ticks(110), nominal, Span::from_seconds(age_s)).err().unwrap_or("right")
        };
        assert_eq!((checked(&left(), 10), checked(&left(), 3)), ("right", "right"));
        assert!(checked(&left(), 1).contains("age"), "the keeper heard it 9 s after it was made");
        assert!(checked(&left(), 11).contains("age"), "the counter stood still");
        let later = changed(|_, line| line.reference = ticks(1_000));
        assert!(checked(&later, 10).contains("age"));
        let past = changed(|_, line| line.origin = Instant::from_unix(1_000_000_000, 0));
        assert!(checked(&past, 10).contains("before this program"));
        let fast = changed(|_, line| line.rate = Rate::measured(Span::from_seconds(1), 999_000_000).unwrap());
        assert!(checked(&fast, 10).contains("rate"));
        let stopped = changed(|_, line| line.rate = Rate::from_bits(0));
        assert!(checked(&stopped, 10) != "right");
        let unknown = Legacy::new(&Counter::monotonic_raw(), &Snapshot::UNKNOWN, None);
        assert!(checked(&unknown, 10).contains("no time"));
    }

    #[test]
    fn a_heir_serves_for_a_minute_with_a_growing_error() {
        let text = serde_json::to_string(&left()).unwrap();
        let inherited = serde_json::from_str::<Legacy>(&text).unwrap().inherited();
        let most = Span::from_nanos(10_000_000);
        let early = inherited.at(ticks(101), most).unwrap();
        assert_eq!((early.valid_until, early.stratum), (ticks(109), 1));
        let late = inherited.at(ticks(167), most).unwrap();
        assert_eq!(late.valid_until, ticks(168), "a minute after it had run out by itself");
        assert!(inherited.at(ticks(169), most).is_none());
        let grown = late.root_dispersion_at(ticks(167)) - Span::from_nanos(1_000_000);
        assert!((Span::from_nanos(1_004_000)..Span::from_nanos(1_006_000)).contains(&grown), "{grown:?}");
        assert!(inherited.at(ticks(167), Span::from_nanos(2_000_000)).is_none(), "the budget is spent");
        assert!(inherited.at(ticks(99), most).is_none(), "a counter that went back is another machine's");
    }

    #[test]
    fn another_counter_has_another_origin() {
        let counter = Counter::monotonic_raw();
        let now_ns = kernel_clock::read(KernelClock::Boottime);
        let legacy = changed(|_, line| {
            line.reference = counter.now();
            line.rate = counter.nominal_rate();
        })
        .heard_at(now_ns);
        assert!(legacy.is_of(&counter));
        assert!(!legacy.clone().heard_at(now_ns - 30_000_000_000).is_of(&counter), "suspended since");
        assert!(!Legacy { counter: "tsc".to_owned(), ..legacy }.is_of(&Counter::monotonic_raw()));
    }
}
