//! Instants of a scale and the spans between them.

use core::cmp::Ordering;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Add, Neg, Sub};

/// A time scale: what an [`Instant`] counts.
pub trait Scale: Copy {
    /// The scale's name, for messages.
    const NAME: &'static str;
}

/// International Atomic Time, in seconds since 1970-01-01 00:00:00 TAI (the epoch of PTP and of `CLOCK_TAI`).
#[derive(Clone, Copy, Debug)]
pub enum Tai {}

/// UTC as POSIX and NTP count it: seconds since 1970-01-01 00:00:00 without leap seconds, so that an inserted
/// second repeats the count of 23:59:59 and a deleted one skips it.
#[derive(Clone, Copy, Debug)]
pub enum Utc {}

impl Scale for Tai {
    const NAME: &'static str = "TAI";
}
impl Scale for Utc {
    const NAME: &'static str = "UTC";
}

/// The length of one nanosecond in units of 2⁻⁶⁴ s, with 32 more fractional bits.
const NANOSECOND_FRACTION: i128 = (1_i128 << 96) / NANOS_PER_S;
const NANOS_PER_S: i128 = 1_000_000_000;

/// A moment of scale `S`, in units of 2⁻⁶⁴ s since 1970.
///
/// The range is ±292 thousand million years: it never wraps in practice, so unlike an
/// [`NtpTimestamp`](super::NtpTimestamp) it has an order. Arithmetic saturates.
///
/// Instants of different scales don't mix:
///
/// ```compile_fail
/// use maser_core::time::{Instant, Tai, Utc};
/// let wrong = Instant::<Tai>::from_unix(0, 0) - Instant::<Utc>::from_unix(0, 0);
/// ```
#[derive(Clone, Copy)]
pub struct Instant<S: Scale> {
    since_1970: i128,
    scale: PhantomData<S>,
}

impl<S: Scale> Instant<S> {
    /// The moment `seconds` and `nanos` (0 to 999,999,999) after 1970-01-01 00:00:00 of this scale.
    #[must_use]
    pub const fn from_unix(seconds: i64, nanos: u32) -> Self {
        Self::from_raw(((seconds as i128) << 64) + Span::from_nanos(nanos as i64).0)
    }

    /// The moment `nanos` nanoseconds after 1970, as a `timespec` flattened.
    #[must_use]
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        let seconds = nanos.div_euclid(1_000_000_000);
        Self::from_raw(((seconds as i128) << 64) + Span::from_nanos(nanos.rem_euclid(1_000_000_000)).0)
    }

    /// From the count of 2⁻⁶⁴ s since 1970.
    #[must_use]
    pub const fn from_raw(since_1970: i128) -> Self {
        Self { since_1970, scale: PhantomData }
    }

    /// The count of 2⁻⁶⁴ s since 1970.
    #[must_use]
    pub const fn raw(self) -> i128 {
        self.since_1970
    }

    /// Whole seconds since 1970, rounded down.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        (self.since_1970 >> 64) as i64
    }

    /// The part of a second after [`unix_seconds`](Self::unix_seconds), in units of 2⁻⁶⁴ s.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the low 64 bits are what is asked"
    )]
    pub const fn fraction(self) -> u64 {
        self.since_1970 as u64
    }

    /// Nanoseconds since 1970, rounded down, saturating (the years 1677 to 2262 fit).
    #[must_use]
    pub const fn unix_nanos(self) -> i64 {
        Span(self.since_1970).as_nanos()
    }

    /// The same moment counted on another scale whose count is greater by `offset_s` seconds.
    pub(super) const fn recount<T: Scale>(self, offset_s: i64) -> Instant<T> {
        Instant::from_raw(self.since_1970.saturating_add((offset_s as i128) << 64))
    }
}

impl<S: Scale> PartialEq for Instant<S> {
    fn eq(&self, other: &Self) -> bool {
        self.since_1970 == other.since_1970
    }
}
impl<S: Scale> Eq for Instant<S> {}
impl<S: Scale> PartialOrd for Instant<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<S: Scale> Ord for Instant<S> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.since_1970.cmp(&other.since_1970)
    }
}
impl<S: Scale> Add<Span> for Instant<S> {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self::from_raw(self.since_1970.saturating_add(span.0))
    }
}
impl<S: Scale> Sub<Span> for Instant<S> {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self::from_raw(self.since_1970.saturating_sub(span.0))
    }
}
impl<S: Scale> Sub for Instant<S> {
    type Output = Span;
    fn sub(self, earlier: Self) -> Span {
        Span(self.since_1970.saturating_sub(earlier.since_1970))
    }
}
impl<S: Scale> fmt::Debug for Instant<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = (self.unix_nanos()).rem_euclid(1_000_000_000);
        write!(f, "{}.{:09} {}", self.unix_seconds(), nanos, S::NAME)
    }
}

/// A length of time in units of 2⁻⁶⁴ s, signed; arithmetic saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(i128);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest span there is.
    pub const MAX: Self = Self(i128::MAX);

    /// From whole seconds.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self((seconds as i128) << 64)
    }

    /// From nanoseconds, to the nearest 2⁻⁶⁴ s for spans up to a second (exact to 1 ns in a century).
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        // i64 × a 67-bit constant fits: 63 + 67 bits would not, so seconds are split off first.
        let seconds = nanos.div_euclid(1_000_000_000);
        let rest = nanos.rem_euclid(1_000_000_000);
        Self(((seconds as i128) << 64) + ((rest as i128 * NANOSECOND_FRACTION + (1 << 31)) >> 32))
    }

    /// From the count of 2⁻⁶⁴ s.
    #[must_use]
    pub const fn from_raw(raw: i128) -> Self {
        Self(raw)
    }

    /// The count of 2⁻⁶⁴ s.
    #[must_use]
    pub const fn raw(self) -> i128 {
        self.0
    }

    /// Nanoseconds, rounded down, saturating.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "checked against both ends")]
    pub const fn as_nanos(self) -> i64 {
        let seconds = self.0 >> 64;
        // A 2⁻⁶⁴ s more than was stored when it was made from nanoseconds, so that they come back as they were.
        let fraction = self.0 - (seconds << 64);
        let nanos = seconds.saturating_mul(NANOS_PER_S) + (((fraction + 1) * NANOS_PER_S) >> 64);
        if nanos > i64::MAX as i128 {
            i64::MAX
        } else if nanos < i64::MIN as i128 {
            i64::MIN
        } else {
            nanos as i64
        }
    }

    /// The length without its sign.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// Seconds as a floating-point number, for people and for the discipline, not for the packet path.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "53 bits of a span are what is asked")]
    pub const fn as_seconds_f64(self) -> f64 {
        self.0 as f64 / 18_446_744_073_709_551_616.0
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}
impl Sub for Span {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}
impl Neg for Span {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}
impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ns", self.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nanoseconds_before_1970_keep_their_order() {
        assert_eq!(Instant::<Utc>::from_unix_nanos(-1).unix_seconds(), -1);
        assert!(Instant::<Utc>::from_unix_nanos(-1) < Instant::<Utc>::from_unix(0, 0));
        assert_eq!(Span::from_nanos(-1).as_nanos(), -1);
    }

    #[test]
    fn the_ends_saturate() {
        let end = Instant::<Tai>::from_raw(i128::MAX);
        assert_eq!(end + Span::from_seconds(1), end);
        assert_eq!(Span::MAX.as_nanos(), i64::MAX);
        assert_eq!((-Span::MAX).as_nanos(), i64::MIN);
    }

    proptest! {
        #[test]
        fn nanoseconds_survive_the_round_trip(nanos in any::<i64>()) {
            prop_assert_eq!(Span::from_nanos(nanos).as_nanos(), nanos);
            prop_assert_eq!(Instant::<Tai>::from_unix_nanos(nanos).unix_nanos(), nanos);
        }

        #[test]
        fn adding_a_difference_comes_back(a in any::<i64>(), b in any::<i64>()) {
            let (a, b) = (Instant::<Utc>::from_unix_nanos(a), Instant::<Utc>::from_unix_nanos(b));
            prop_assert_eq!(b + (a - b), a);
        }
    }
}
