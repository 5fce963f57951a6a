//! How often a server is asked.
//!
//! A line through the samples before foretells the newest one. As long as the way to the server explains what it misses
//! by, asking less often loses nothing: a count rises by the poll exponent, and at a limit the interval doubles. When
//! the way doesn't explain it, our counter or the server's clock has moved since, and more samples would say so sooner:
//! the count falls twice as fast, and at the negative limit the interval halves. So the interval ends about where the
//! wander of the clocks meets the noise of the way. (The count is RFC 5905's, §A.5.5.6. Its measure, the jitter of the
//! samples themselves, grows with a wander of frequency and so never sees it.)

use super::clock_filter::Prediction;

/// The shortest poll interval that may be asked for, log₂ seconds.
pub const POLL_MIN: i8 = 0;
/// The longest, of a server that asks for it as well (RFC 5905's MAXPOLL).
pub const POLL_MAX: i8 = 17;

/// A server that doesn't answer isn't asked more seldom than this, so that it is noticed when it is back, and not more
/// often either.
const POLL_UNREACHABLE: i8 = 6;

/// So many times the RMS of the excess delay: a queue on one way makes an error of half its delay, and the line's own
/// end is up to 1.6 times as uncertain as a sample.
const GATE: f64 = 2.0;
/// RFC 5905's LIMIT.
const COUNT_LIMIT: i16 = 30;

/// The poll exponent, and what is between it and the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Poll {
    min: i8,
    max: i8,
    exponent: i8,
    /// What the server's RATE kisses demand.
    floor: i8,
    count: i16,
}

impl Poll {
    /// Between `min` and `max`, beginning with the shortest; limits that can't be are moved to where they can.
    pub(super) fn new(min: i8, max: i8) -> Self {
        let min = min.clamp(POLL_MIN, POLL_MAX);
        let max = max.clamp(min, POLL_MAX);
        Self { min, max, exponent: min, floor: min, count: 0 }
    }

    /// log₂ seconds.
    pub(super) const fn exponent(self) -> i8 {
        self.exponent
    }

    /// After a sample; `least_s` is what the sample's own stamps leave open.
    pub(super) fn judge(&mut self, prediction: Option<Prediction>, least_s: f64) {
        let Some(Prediction { error_s, excess_delay_s, .. }) = prediction else { return };
        let step = i16::from(self.exponent.max(1));
        if error_s <= GATE * excess_delay_s.max(least_s) {
            self.count += step;
        } else {
            self.count -= 2 * step;
        }
        if self.count > COUNT_LIMIT {
            self.set(self.exponent + 1);
        } else if self.count < -COUNT_LIMIT {
            self.set(self.exponent - 1);
        }
    }

    /// After a RATE kiss: twice as long, and never shorter again.
    pub(super) fn slow_down(&mut self) {
        self.floor = (self.exponent + 1).min(POLL_MAX);
        self.set(self.floor);
    }

    /// After a server has been silent for as long as is remembered.
    pub(super) fn unreachable(&mut self) {
        self.set(POLL_UNREACHABLE);
    }

    /// The floor is the server's word and counts more than our own maximum.
    fn set(&mut self, exponent: i8) {
        self.exponent = exponent.clamp(self.min, self.max).max(self.floor);
        self.count = 0;
    }
}
