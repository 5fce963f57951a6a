//! The value in which the two flows meet: written by the pulse thread, read by every worker for every reply.
//!
//! It is plain 64-bit words ([`Snapshot::to_words`]), so that the cell in `maser-sys` can copy it without a lock and
//! a BPF map can mirror it. Everything a reply says of the clock comes from here, and everything here is good for a
//! while only: past [`valid_until`](Snapshot::valid_until) a reader says "unsynchronised" by itself, whatever
//! happened to the writer.

use crate::time::{
    Instant, Leap, LeapIndicator, LeapWindow, Line, NtpShort, NtpTimestamp, Rate, Smear, Span, Tai, Ticks,
};

/// How long a snapshot holds at the most: past it replies say "unsynchronised", whatever became of the writer.
pub const VALIDITY: Span = Span::from_seconds(8);

/// How many words a snapshot takes.
pub const WORDS: usize = 12;

/// The stratum of a clock that isn't synchronised; it travels as 0 (RFC 5905 §7.3).
pub const STRATUM_UNSYNCHRONISED: u8 = 16;

/// Growth of the root dispersion: seconds a second, in units of 2⁻³².
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Growth(u32);

impl Growth {
    /// The least that an undisciplined oscillator is allowed: 15 ppm (RFC 5905's PHI).
    pub const PHI: Self = Self::from_ppb(15_000);

    /// From parts per 10⁹; anything from 1 s/s up is 1 s/s.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the quotient is below 2^32 because ppb is capped")]
    pub const fn from_ppb(ppb: u64) -> Self {
        let ppb = if ppb > 999_999_999 { 999_999_999 } else { ppb };
        Self(((ppb << 32).div_ceil(1_000_000_000)) as u32)
    }

    /// From units of 2⁻³² s a second.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Units of 2⁻³² s a second.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// What has grown in `age`, rounded up; nothing for a negative one.
    #[must_use]
    pub const fn over(self, age: Span) -> Span {
        let raw = age.raw();
        if raw <= 0 { Span::ZERO } else { Span::from_raw(((raw >> 32) + 1).saturating_mul(self.0 as i128)) }
    }
}

/// The clock at a moment and what may be said of it until `valid_until`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Reference time over the counter; none before anything is known of the time.
    pub line: Option<Line>,
    /// The counter past which this must not be served as synchronised.
    pub valid_until: Ticks,
    /// TAI − UTC now and next.
    pub leap: LeapWindow,
    /// 1 to 15, or [`STRATUM_UNSYNCHRONISED`].
    pub stratum: u8,
    /// log₂ of the clock's reading precision in seconds, measured.
    pub precision: i8,
    /// What we are synchronised to (RFC 5905 §7.3): four characters at stratum 1, an address above.
    pub reference_id: [u8; 4],
    /// Round trip to the primary reference.
    pub root_delay: NtpShort,
    /// Error bound at the line's reference point; at most 2³¹ s.
    pub root_dispersion: Span,
    /// How that bound grows from the line's reference point on.
    pub dispersion_growth: Growth,
    /// When the clock was last set or corrected.
    pub reference_time: NtpTimestamp,
    /// Counts the steps of the served clock: stamps of two generations can't be compared.
    pub generation: u32,
}

/// What a reply says of the clock at one moment: the header fields of RFC 5905 §7.3 that aren't stamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockHeader {
    /// The leap bits.
    pub leap: LeapIndicator,
    /// As it travels: 0 when unsynchronised.
    pub stratum: u8,
    /// log₂ seconds.
    pub precision: i8,
    /// Round trip to the primary reference.
    pub root_delay: NtpShort,
    /// Error bound at this moment.
    pub root_dispersion: NtpShort,
    /// What we are synchronised to.
    pub reference_id: [u8; 4],
    /// When the clock was last set or corrected.
    pub reference_time: NtpTimestamp,
}

/// How far the counters of two cores may be apart, with room to spare: more is a counter that was set back.
const COUNTER_SKEW_MAX: Span = Span::from_nanos(100_000);

/// What stands for "no next change" in the words.
const NO_NEXT_LEAP_S: i64 = i64::MAX;

impl Snapshot {
    /// Nothing is known: no time, no stratum. What readers use before the first publication and when they are
    /// lapped for too long.
    pub const UNKNOWN: Self = Self {
        line: None,
        valid_until: Ticks::from_bits(0),
        leap: LeapWindow { offset_s: 0, next: None },
        stratum: STRATUM_UNSYNCHRONISED,
        precision: 0,
        reference_id: [0; 4],
        root_delay: NtpShort::MAX,
        root_dispersion: Span::from_seconds(1 << 16),
        dispersion_growth: Growth::PHI,
        reference_time: NtpTimestamp::ZERO,
        generation: 0,
    };

    /// Whether a reply at `now` may claim to be synchronised: not past the limit, and not before the reference
    /// point either, which only a counter that went backwards can bring about.
    #[must_use]
    pub fn synchronised_at(&self, now: Ticks) -> bool {
        let Some(line) = self.line else { return false };
        let age = line.rate.span_of(now.since(line.reference));
        self.stratum < STRATUM_UNSYNCHRONISED && self.valid_until.since(now) >= 0 && age >= -COUNTER_SKEW_MAX
    }

    /// The NTP timestamp of a moment of reference time.
    #[must_use]
    pub fn ntp(&self, tai: Instant<Tai>) -> NtpTimestamp {
        NtpTimestamp::from_utc(self.leap.utc(tai))
    }

    /// The error bound at `now`.
    #[must_use]
    pub fn root_dispersion_at(&self, now: Ticks) -> Span {
        let age = self.line.map_or(Span::ZERO, |line| line.rate.span_of(now.since(line.reference)));
        self.root_dispersion + self.dispersion_growth.over(age)
    }

    /// What a reply at `now` says of the clock, where `now` itself was read with an error of up to `reading_error`.
    #[must_use]
    pub fn header_at(&self, now: Ticks, reading_error: Span) -> ClockHeader {
        let synchronised = self.synchronised_at(now);
        let leap = match self.line {
            Some(line) if synchronised => self.leap.indicator(line.at(now)),
            _ => LeapIndicator::Unsynchronised,
        };
        ClockHeader {
            leap,
            stratum: if synchronised { self.stratum } else { 0 },
            precision: self.precision,
            root_delay: self.root_delay,
            root_dispersion: NtpShort::from_span_up(self.root_dispersion_at(now) + reading_error),
            // A stratum of 0 with a reference id reads as a kiss code (RFC 5905 §7.4), so there is none.
            reference_id: if synchronised { self.reference_id } else { [0; 4] },
            reference_time: self.reference_time,
        }
    }

    /// What a reply says whose listener smears leap seconds, where another's would say `header` at `now`: it announces no
    /// leap second (RFC 8633 §3.7.1), and counts the reference time as it counts its stamps. The root dispersion stays
    /// that of the clock: what a smear takes away from UTC isn't in it.
    #[must_use]
    pub fn smeared(&self, header: &ClockHeader, now: Ticks, smear: &Smear) -> ClockHeader {
        let leap = match header.leap {
            LeapIndicator::Unsynchronised => LeapIndicator::Unsynchronised,
            LeapIndicator::None | LeapIndicator::Insert | LeapIndicator::Delete => LeapIndicator::None,
        };
        let reference_time = match self.line {
            Some(line) if header.reference_time != NtpTimestamp::ZERO => {
                let now = line.at(now);
                let corrected = header.reference_time.to_utc(self.leap.utc(now));
                smear.at(&self.leap, self.leap.tai_before(now, corrected)).ntp()
            }
            _ => header.reference_time,
        };
        ClockHeader { leap, reference_time, ..*header }
    }

    /// As plain words.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bits are split, not values narrowed"
    )]
    pub fn to_words(&self) -> [u64; WORDS] {
        let line = self.line.unwrap_or(NO_LINE);
        let next =
            self.leap.next.unwrap_or(Leap { at: Instant::from_unix(NO_NEXT_LEAP_S, 0), offset_after_s: 0 });
        let [id0, id1, id2, id3] = self.reference_id;
        // Rounded up: an error bound never shrinks on its way.
        let dispersion =
            (self.root_dispersion.raw().saturating_add(0xFFFF_FFFF) >> 32).clamp(0, i128::from(u64::MAX));
        [
            line.reference.bits(),
            (line.origin.raw() >> 64) as u64,
            line.origin.raw() as u64,
            line.rate.bits(),
            self.valid_until.bits(),
            next.at.unix_seconds() as u64,
            pair(self.leap.offset_s as u32, next.offset_after_s as u32),
            u64::from_be_bytes([self.stratum, self.precision as u8, 0, 0, id0, id1, id2, id3]),
            pair(self.root_delay.bits(), self.dispersion_growth.bits()),
            dispersion as u64,
            self.reference_time.bits(),
            u64::from(self.generation),
        ]
    }

    /// From what [`to_words`](Self::to_words) made.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "bits are joined, not values narrowed"
    )]
    pub const fn from_words(words: &[u64; WORDS]) -> Self {
        let [
            reference,
            origin_high,
            origin_low,
            rate,
            valid_until,
            next_at_s,
            offsets,
            header,
            delay_and_growth,
            dispersion,
            reference_time,
            generation,
        ] = *words;
        let line = Line {
            reference: Ticks::from_bits(reference),
            origin: Instant::from_raw(((origin_high as i64 as i128) << 64) | origin_low as i128),
            rate: Rate::from_bits(rate),
        };
        let (offset_s, offset_after_s) = unpair(offsets);
        let (root_delay, growth) = unpair(delay_and_growth);
        let [stratum, precision, _, _, id0, id1, id2, id3] = header.to_be_bytes();
        Self {
            line: if rate == 0 { None } else { Some(line) },
            valid_until: Ticks::from_bits(valid_until),
            leap: LeapWindow {
                offset_s: offset_s as i32,
                next: if next_at_s as i64 == NO_NEXT_LEAP_S {
                    None
                } else {
                    Some(Leap {
                        at: Instant::from_unix(next_at_s as i64, 0),
                        offset_after_s: offset_after_s as i32,
                    })
                },
            },
            stratum,
            precision: precision as i8,
            reference_id: [id0, id1, id2, id3],
            root_delay: NtpShort::from_bits(root_delay),
            root_dispersion: Span::from_raw((dispersion as i128) << 32),
            dispersion_growth: Growth::from_bits(growth),
            reference_time: NtpTimestamp::from_bits(reference_time),
            generation: generation as u32,
        }
    }
}

/// A line that says nothing: a rate of 0 stands for "none" in the words.
const NO_LINE: Line =
    Line { reference: Ticks::from_bits(0), origin: Instant::from_raw(0), rate: Rate::from_bits(0) };

const fn pair(high: u32, low: u32) -> u64 {
    ((high as u64) << 32) | low as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are what is asked")]
const fn unpair(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            line: Some(Line {
                reference: Ticks::from_bits(1_000),
                origin: Instant::from_unix(1_795_000_037, 5),
                rate: Rate::NANOSECOND,
            }),
            valid_until: Ticks::from_bits(8_000_001_000),
            leap: LeapWindow { offset_s: 37, next: None },
            stratum: 1,
            precision: -25,
            reference_id: *b"PPS\0",
            root_delay: NtpShort::from_bits(3),
            root_dispersion: Span::from_nanos(20_000),
            dispersion_growth: Growth::PHI,
            reference_time: NtpTimestamp::from_bits(77),
            generation: 4,
        }
    }

    #[test]
    fn past_its_limit_it_is_unsynchronised_by_itself() {
        let snapshot = snapshot();
        let last = snapshot.header_at(snapshot.valid_until, Span::ZERO);
        assert_eq!((last.leap, last.stratum, last.reference_id), (LeapIndicator::None, 1, *b"PPS\0"));
        let past = snapshot.header_at(snapshot.valid_until.offset(1), Span::ZERO);
        assert_eq!((past.leap, past.stratum, past.reference_id), (LeapIndicator::Unsynchronised, 0, [0; 4]));
    }

    #[test]
    fn a_counter_that_went_backwards_is_not_synchronised() {
        let snapshot = snapshot();
        let skewed = Ticks::from_bits(1_000).offset(-50);
        assert!(snapshot.synchronised_at(skewed), "two cores differ by nanoseconds");
        let set_back = Ticks::from_bits(1_000).offset(-3_600_000_000_000);
        assert_eq!(snapshot.header_at(set_back, Span::ZERO).stratum, 0);
    }

    #[test]
    fn the_error_of_the_reading_is_in_the_bound() {
        let snapshot = snapshot();
        let exact = snapshot.header_at(Ticks::from_bits(1_000), Span::ZERO).root_dispersion;
        let preempted =
            snapshot.header_at(Ticks::from_bits(1_000), Span::from_nanos(1_000_000)).root_dispersion;
        assert!(preempted.bits() >= exact.bits() + 65);
    }

    #[test]
    fn dispersion_grows_with_age_and_not_before_the_reference_point() {
        let snapshot = snapshot();
        let later = snapshot.root_dispersion_at(Ticks::from_bits(4_000_001_000));
        assert!((later - Span::from_nanos(80_000)).abs() < Span::from_nanos(5), "{later:?}");
        assert_eq!(snapshot.root_dispersion_at(Ticks::from_bits(0)), snapshot.root_dispersion);
    }

    #[test]
    fn nothing_known_is_never_synchronised() {
        for now in [0, 1, u64::MAX / 2, u64::MAX] {
            let header = Snapshot::UNKNOWN.header_at(Ticks::from_bits(now), Span::ZERO);
            assert_eq!((header.leap, header.stratum), (LeapIndicator::Unsynchronised, 0));
        }
    }

    proptest! {
        #[test]
        fn words_carry_everything(words in any::<[u64; WORDS]>()) {
            // Whatever the words are, what they mean survives another trip.
            let once = Snapshot::from_words(&words);
            prop_assert_eq!(Snapshot::from_words(&once.to_words()), once);
        }
    }
}
