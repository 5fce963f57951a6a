//! The pulse train: which pulses belong to it, and how many seconds lie between them.
//!
//! First step of labelling. A pulse near a whole number of seconds after the last one gets an index; any other is a
//! stray, unless strays persist and make a better train. It knows nothing of which second a pulse began.

use crate::time::{Rate, Span, Ticks};

/// A pulse may be this far from its place in a new train, beyond what the counter's rate leaves open: the latency of a
/// stamp taken in an interrupt, with much to spare.
const PLACE_MAX: Span = Span::from_nanos(20_000_000);

/// In a train that keeps its places it may be so many times as far from it as pulses usually are, and this far in any case: one
/// that comes ten milliseconds before each of them is another's.
const SCATTERS: i128 = 8;
const PLACE_MIN: Span = Span::from_nanos(200_000);

/// Another pulse so shortly after one is a bounce of its edge.
const BOUNCE_MAX: Span = Span::from_nanos(1_000_000);

/// Where the place of the next pulse is less certain than this, seconds can't be counted on.
const COUNTED_MAX: Span = Span::from_nanos(250_000_000);

/// So many pulses make a train.
pub(super) const TRAIN_MIN: u32 = 3;

/// Trains are compared over so many seconds.
const SECONDS_COMPARED: u32 = u16::BITS;

/// How fast the counter runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) rate: Rate,
    /// How far the rate can be off, in parts per 10⁹.
    pub(super) error_ppb: u32,
}

impl Pace {
    pub(super) fn between(&self, later: Ticks, earlier: Ticks) -> Span {
        self.rate.span_of(later.since(earlier))
    }

    /// What the rate leaves open of a span.
    pub(super) fn open(&self, span: Span) -> Span {
        let parts = span.abs().raw() / 1_000_000_000 + 1;
        Span::from_raw(parts.saturating_mul(i128::from(self.error_ppb)))
    }
}

/// What a pulse is to the train.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// The next one, or a later one after some that were lost.
    Next,
    /// The first one ever.
    First,
    /// The first one of another train than before: what was said about the last train's indices is void.
    Anew,
    /// None of its own.
    Stray,
}

#[derive(Clone, Copy, Debug)]
struct Train {
    last: Ticks,
    index: i64,
    /// How far its pulses usually are from their places, beyond what the rate leaves open; the last four count most.
    scatter: Span,
    /// A bit for each of the last seconds: whether its pulse came. The lowest is the last pulse's.
    came: u16,
}

enum Distance {
    /// So many seconds after the train's last pulse, one at least, and how far from its place.
    Seconds(i64, Span),
    /// The train's last pulse again.
    Again,
    /// Not a whole number of seconds.
    Off,
    /// Too long to count.
    Broken,
}

impl Train {
    const fn new(first: Ticks) -> Self {
        Self { last: first, index: 0, scatter: Span::from_raw(PLACE_MAX.raw() / SCATTERS), came: 1 }
    }

    fn distance(&self, at: Ticks, pace: &Pace) -> Distance {
        let elapsed = pace.between(at, self.last);
        let open = pace.open(elapsed);
        if PLACE_MAX + open > COUNTED_MAX {
            return Distance::Broken;
        }
        let (seconds, off) = nearest_second(elapsed);
        let off = (off - open).max(Span::ZERO);
        let off_max = if seconds == 0 { BOUNCE_MAX } else { self.place() };
        if off > off_max || seconds < 0 {
            Distance::Off
        } else if seconds == 0 {
            Distance::Again
        } else {
            Distance::Seconds(seconds, off)
        }
    }

    /// How far from its place a pulse may be.
    fn place(&self) -> Span {
        Span::from_raw(self.scatter.raw() * SCATTERS).clamp(PLACE_MIN, PLACE_MAX)
    }

    fn take(&mut self, at: Ticks, seconds: i64, off: Span) {
        self.scatter = Span::from_raw(self.scatter.raw() + (off.raw() - self.scatter.raw()) / 4);
        self.last = at;
        self.index = self.index.saturating_add(seconds);
        self.came = shifted(self.came, seconds) | 1;
    }

    /// How many of its pulses came in the seconds compared, before `now`.
    fn count(&self, now: Ticks, pace: &Pace) -> u32 {
        let (seconds, _) = nearest_second(pace.between(now, self.last));
        shifted(self.came, seconds).count_ones()
    }
}

/// `came` after `seconds` more.
fn shifted(came: u16, seconds: i64) -> u16 {
    let seconds = u32::try_from(seconds.max(0)).unwrap_or(SECONDS_COMPARED);
    came.checked_shl(seconds).unwrap_or(0)
}

/// The nearest whole number of seconds, and how far that is.
fn nearest_second(span: Span) -> (i64, Span) {
    let half = Span::from_nanos(500_000_000);
    let seconds = i64::try_from((span + half).raw() >> 64).unwrap_or(i64::MAX);
    (seconds, (span - Span::from_seconds(seconds)).abs())
}

/// The train that is counted, and the one that strays may make.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trains {
    main: Option<Train>,
    rival: Option<Train>,
}

impl Trains {
    pub(super) const NONE: Self = Self { main: None, rival: None };

    /// Takes a pulse.
    pub(super) fn place(&mut self, at: Ticks, pace: &Pace) -> Place {
        let Some(main) = &mut self.main else {
            *self = Self { main: Some(Train::new(at)), rival: None };
            return Place::First;
        };
        match main.distance(at, pace) {
            Distance::Seconds(seconds, off) => {
                main.take(at, seconds, off);
                Place::Next
            }
            // A bounce of the edge, whose first is the pulse.
            Distance::Again => Place::Stray,
            Distance::Off => self.stray(at, pace),
            Distance::Broken => {
                *self = Self { main: Some(Train::new(at)), rival: None };
                Place::Anew
            }
        }
    }

    /// A stray makes or lengthens a rival train, which takes over once it is clearly the better one.
    fn stray(&mut self, at: Ticks, pace: &Pace) -> Place {
        match &mut self.rival {
            None => self.rival = Some(Train::new(at)),
            Some(rival) => match rival.distance(at, pace) {
                Distance::Seconds(seconds, off) => rival.take(at, seconds, off),
                Distance::Again => {}
                Distance::Off | Distance::Broken => {
                    if rival.count(at, pace) <= 1 {
                        *rival = Train::new(at);
                    }
                }
            },
        }
        let (main, rival) = self.counts(at, pace);
        if rival >= TRAIN_MIN && rival > 2 * main {
            *self = Self { main: self.rival, rival: None };
            return Place::Anew;
        }
        Place::Stray
    }

    /// How many pulses of the train and of its rival came of late.
    pub(super) fn counts(&self, now: Ticks, pace: &Pace) -> (u32, u32) {
        let count = |train: &Option<Train>| train.map_or(0, |train| train.count(now, pace));
        (count(&self.main), count(&self.rival))
    }

    /// The index of the last pulse.
    pub(super) fn index(&self) -> i64 {
        self.main.map_or(0, |main| main.index)
    }

    /// How long after the train's last pulse `at` is (negative if before), and that pulse's index.
    pub(super) fn since_last(&self, at: Ticks, pace: &Pace) -> Option<(Span, i64)> {
        self.main.map(|main| (pace.between(at, main.last), main.index))
    }
}
