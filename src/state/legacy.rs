//! What a server leaves, second by second, to the one that takes its place when it dies.
//!
//! The counter runs on, so the last snapshot still tells the time, as it does in a holdover. The keeper holds it and
//! understands nothing of it; a server that is stopped, or whose machine is, leaves nothing.

use super::{Document, counter_name};
use maser_core::discipline::Saved;
use maser_core::snapshot::{Growth, Snapshot, VALIDITY, WORDS};
use maser_core::time::{Instant, Span, Ticks, Utc};
use maser_sys::counter::Counter;
use serde::{Deserialize, Serialize};

/// A heir serves by what it was left until its own clock is synchronised, but no longer than this: a minute, while a
/// start takes seconds.
const SERVED_MAX: Span = Span::from_seconds(60);

/// What is left.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Legacy {
    /// Which counter it is of.
    counter: String,
    /// The last snapshot.
    words: [u64; WORDS],
    /// What is worth keeping for longer, if the clock was locked.
    document: Option<Document>,
}

impl Legacy {
    /// What a synchronised clock leaves.
    #[must_use]
    pub fn new(counter: &Counter, snapshot: &Snapshot, kept: Option<(Saved, Instant<Utc>)>) -> Self {
        Self {
            counter: counter_name(counter.kind()).to_owned(),
            words: snapshot.to_words(),
            document: kept.map(|(saved, utc)| Document::new(counter, &saved, utc)),
        }
    }

    /// Whether it is of this counter, which then has run on since.
    #[must_use]
    pub fn is_of(&self, counter: &Counter) -> bool {
        self.counter == counter_name(counter.kind())
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
    /// As it was left, for the next heir.
    #[must_use]
    pub const fn as_left(&self) -> &Snapshot {
        &self.0
    }

    /// As it may be served at `now`: nobody has looked at the oscillator since, so its error grows by 15 ppm at least, and
    /// where that passes `root_distance_max`, or a minute is over, nothing is left of it.
    #[must_use]
    pub fn at(&self, now: Ticks, root_distance_max: Span) -> Option<Snapshot> {
        let line = self.0.line?;
        let last = self.0.valid_until.offset(line.rate.ticks_in(SERVED_MAX));
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
    use maser_core::time::{Line, NtpShort, Rate};

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
        let legacy = left();
        assert!(legacy.is_of(&Counter::monotonic_raw()));
        assert!(!Legacy { counter: "tsc".to_owned(), ..legacy }.is_of(&Counter::monotonic_raw()));
    }
}
