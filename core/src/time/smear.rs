//! Leap seconds spread over time, for listeners whose clients can't stand one: a clock that neither repeats nor skips.
//!
//! Noon to noon UTC of a day that ends with an inserted second are 86,401 s, in which this clock counts 86,400; with a
//! deleted one it counts as many in 86,399. Any other length lies about the leap in the same way: it begins where UTC
//! counts half a length less than midnight and ends where UTC counts half a length more, and at both ends this clock is
//! UTC. With TAI − UTC = `b` before the leap and `b + s` after it, and so many seconds in between, the count is
//!
//! ```text
//! tai − b                                          before
//! tai − b − s × (tai − begin) / (length + s)       from begin to end
//! tai − b − s                                      after
//! ```
//!
//! A property of a listener, applied to its replies only: nothing else in the program may count this way. A leap second
//! that becomes known only after its beginning makes this clock jump to where those of all others are that knew it.

use super::{Instant, LeapWindow, NtpTimestamp, Scale, Span, Tai};

/// UTC with its leap seconds spread: neither repeated nor skipped, and up to half a second from UTC around one.
#[derive(Clone, Copy, Debug)]
pub enum Smeared {}

impl Scale for Smeared {
    const NAME: &'static str = "smeared UTC";
}

impl Instant<Smeared> {
    /// As it travels to those who take it for UTC.
    #[must_use]
    pub const fn ntp(self) -> NtpTimestamp {
        NtpTimestamp::from_utc(Instant::from_raw(self.raw()))
    }
}

/// How leap seconds are spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Smear {
    half: Span,
    /// An inserted second and a deleted one.
    inserted: Slide,
    deleted: Slide,
}

/// How a second is spread over a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Slide {
    /// How long it takes by TAI, in 2⁻⁶⁴ s.
    takes: i128,
    /// What is spread in 2⁻⁶⁴ s, in 2⁻¹²⁶ s: rounded up, so that the whole second is spread at the end.
    rate: i128,
}

/// The binary places of a rate beyond those of a span: as many as a whole second's product leaves room for.
const RATE_BITS: u32 = 62;

const SECOND: i128 = 1 << 64;

impl Slide {
    const fn over(takes: i128) -> Self {
        Self { takes, rate: ((SECOND << RATE_BITS) + takes - 1) / takes }
    }

    /// How much of the second is spread when `elapsed` has gone by: none before the beginning, all after the end.
    #[inline]
    fn spread(&self, elapsed: Span) -> Span {
        let elapsed = elapsed.raw().clamp(0, self.takes);
        Span::from_raw(((elapsed * self.rate) >> RATE_BITS).min(SECOND))
    }
}

impl Smear {
    /// The shortest: a client that follows needs 278 ppm.
    pub const LENGTH_MIN: Span = Span::from_seconds(3_600);

    /// The longest: it begins with the day that the leap second ends, the earliest that some sources announce one.
    pub const LENGTH_MAX: Span = Span::from_seconds(172_800);

    /// Over `length` of this clock's count, its middle at the leap.
    ///
    /// # Panics
    /// If that is shorter than [`LENGTH_MIN`](Self::LENGTH_MIN) or longer than [`LENGTH_MAX`](Self::LENGTH_MAX).
    #[must_use]
    pub const fn over(length: Span) -> Self {
        let (least, most) = (Self::LENGTH_MIN.raw(), Self::LENGTH_MAX.raw());
        assert!(least <= length.raw() && length.raw() <= most, "a smear takes from 1 h to 48 h");
        let half = length.raw() / 2;
        Self {
            half: Span::from_raw(half),
            inserted: Slide::over(2 * half + SECOND),
            deleted: Slide::over(2 * half - SECOND),
        }
    }

    /// The count at `tai`.
    #[must_use]
    #[inline]
    pub fn at(&self, leap: &LeapWindow, tai: Instant<Tai>) -> Instant<Smeared> {
        let before: Instant<Smeared> = tai.recount(-i64::from(leap.offset_s));
        let Some(next) = leap.next else { return before };
        // A deleted second ends the day a second before UTC would have counted midnight.
        let second = Span::from_seconds(1);
        match i64::from(next.offset_after_s) - i64::from(leap.offset_s) {
            1 => before - self.inserted.spread(tai - (next.at - self.half)),
            -1 => before + self.deleted.spread(tai - (next.at + second - self.half)),
            // UTC has no other leap.
            _ => Instant::from_raw(leap.utc(tai).raw()),
        }
    }
}
