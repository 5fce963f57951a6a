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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Leap, LeapTable, Utc};
    use proptest::prelude::*;

    const DAY_S: i64 = 86_400;
    /// A midnight that follows a leap second, by TAI − UTC from before.
    const MIDNIGHT_S: i64 = 21_000 * DAY_S + 37;

    /// A leap of `second` before that midnight.
    fn leap(second: i32) -> LeapWindow {
        let at = Instant::from_unix(MIDNIGHT_S + i64::from(second.min(0)), 0);
        LeapWindow { offset_s: 37, next: Some(Leap { at, offset_after_s: 37 + second }) }
    }

    fn smear(length_s: i64) -> Smear {
        Smear::over(Span::from_seconds(length_s))
    }

    /// How far the clock is behind what UTC counted before the leap.
    fn spread(smear: &Smear, leap: &LeapWindow, tai: Instant<Tai>) -> Span {
        tai.recount::<Smeared>(-37) - smear.at(leap, tai)
    }

    /// From the first to the last moment of a smear, in whole seconds of TAI.
    fn ends(second: i32, length_s: i64) -> (Instant<Tai>, Instant<Tai>) {
        let begin_s = MIDNIGHT_S - length_s / 2;
        (Instant::from_unix(begin_s, 0), Instant::from_unix(begin_s + length_s + i64::from(second), 0))
    }

    #[test]
    fn from_noon_to_noon_it_is_utc_at_both_ends_and_half_a_second_off_in_the_middle() {
        for second in [1, -1] {
            let (leap, smear) = (leap(second), smear(DAY_S));
            let noons = ends(second, DAY_S);
            for (noon, count_s) in [(noons.0, 20_999), (noons.1, 21_000)] {
                let noon_s = count_s * DAY_S + DAY_S / 2;
                assert_eq!(leap.utc(noon), Instant::<Utc>::from_unix(noon_s, 0));
                assert_eq!(smear.at(&leap, noon), Instant::from_unix(noon_s, 0));
            }
            let middle = Instant::from_raw(noons.0.raw().midpoint(noons.1.raw()));
            let off = spread(&smear, &leap, middle) - Span::from_nanos(500_000_000 * i64::from(second));
            assert!(off.abs() < Span::from_nanos(1), "{off:?}");
        }
    }

    #[test]
    fn beyond_its_ends_and_without_a_leap_it_is_utc() {
        let smear = smear(DAY_S);
        for second in [0, 1, -1] {
            let leap = leap(second);
            let (begin, end) = ends(second, DAY_S);
            for away_s in [0, 1, 1_000, 100 * DAY_S] {
                for tai in [begin - Span::from_seconds(away_s), end + Span::from_seconds(away_s)] {
                    assert_eq!(smear.at(&leap, tai).raw(), leap.utc(tai).raw());
                }
            }
            let none = LeapWindow { next: None, ..leap };
            assert_eq!(smear.at(&none, end).raw(), none.utc(end).raw());
        }
    }

    #[test]
    fn the_table_keeps_a_leap_until_the_longest_smear_of_it_is_over() {
        for second in [1, -1] {
            let mut table = LeapTable::built_in();
            table.add(21_000, second).unwrap();
            let (smear, fixed) = (smear(2 * DAY_S), leap(second));
            let (begin, end) = ends(second, 2 * DAY_S);
            let mut tai = begin - Span::from_seconds(10);
            while tai < end + Span::from_seconds(10) {
                assert_eq!(smear.at(&table.window(tai), tai), smear.at(&fixed, tai), "{tai:?}");
                tai = tai + Span::from_nanos(999_000_000);
            }
        }
    }

    #[test]
    #[should_panic(expected = "from 1 h to 48 h")]
    fn a_length_that_no_client_could_follow_is_refused() {
        let _smear = smear(3_599);
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_never_jumps(
            second in prop::sample::select(&[1, -1][..]),
            length_ns in Smear::LENGTH_MIN.as_nanos()..=Smear::LENGTH_MAX.as_nanos(),
            at in -0.1_f64..1.1,
            later in 1_i64..1_000_000_000_000,
            fine in any::<bool>(),
        ) {
            let smear = Smear::over(Span::from_nanos(length_ns));
            let leap = leap(second);
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a random moment")]
            let into = Span::from_nanos((length_ns as f64 * at) as i64);
            let tai = leap.next.unwrap().at - Span::from_nanos(length_ns / 2) + into;
            // Down to the finest step there is.
            let step = if fine { Span::from_raw(i128::from(later % 1_000)) } else { Span::from_nanos(later) };
            let gone = smear.at(&leap, tai + step) - smear.at(&leap, tai);
            prop_assert!(gone >= Span::ZERO);
            // No faster or slower than a second over the length, to the last place.
            let rate = step.raw() / (i128::from(length_ns) / 1_000_000_000 - 1) + 2;
            prop_assert!((gone - step).abs().raw() <= rate, "{gone:?} in {step:?}");
        }

        #[test]
        fn it_slides_a_second_over_its_length(
            second in prop::sample::select(&[1, -1][..]),
            length_s in 1_800_i64..=86_400,
            into_ppb in 0_i64..=1_000_000_000,
        ) {
            let length_s = 2 * length_s;
            let (smear, leap) = (smear(length_s), leap(second));
            let (begin, end) = ends(second, length_s);
            let takes_s = length_s + i64::from(second);
            prop_assert_eq!(end - begin, Span::from_seconds(takes_s));
            // What part of the smear is over is what part of the second is spread.
            let tai = begin + Span::from_nanos(into_ppb * takes_s);
            let expected = Span::from_nanos(into_ppb * i64::from(second));
            let off = spread(&smear, &leap, tai) - expected;
            prop_assert!(off.abs() < Span::from_nanos(1), "{off:?}");
        }
    }
}
