//! Spans of time as an operator writes them: a number and a unit, to the nanosecond.
//!
//! What is read here is exact, so that a configuration that is printed reads back as the same.

use std::ops::RangeInclusive;

use maser_core::time::Span;
use thiserror::Error;

/// The units and the nanoseconds in each, the smallest first.
const UNITS: [(&str, i64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// What a source's time may be corrected by.
pub(super) const OFFSET: RangeInclusive<Span> = Span::from_seconds(-1)..=Span::from_seconds(1);
/// What a source may be off by.
pub(super) const ERROR: RangeInclusive<Span> = Span::ZERO..=Span::from_seconds(1);
/// A sentence that is later than this belongs to another second.
pub(super) const DELAY: RangeInclusive<Span> = Span::ZERO..=Span::from_seconds(2);
/// RFC 5905's greatest poll exponent.
pub(super) const POLL_LOG2_S_MAX: u8 = 17;
/// Between two questions to a server.
pub(super) const POLL: RangeInclusive<Span> =
    Span::from_seconds(2)..=Span::from_seconds(1 << POLL_LOG2_S_MAX);
/// Up to RFC 5905's MAXDISP, at which a server counts as unsynchronised.
pub(super) const ROOT_DISTANCE: RangeInclusive<Span> = Span::from_nanos(1_000)..=Span::from_seconds(16);
/// Up to a year.
pub(super) const HOLDOVER: RangeInclusive<Span> = Span::from_seconds(1)..=Span::from_seconds(8_760 * 3_600);
/// A second in an hour is 278 ppm; clients follow no more than 500.
pub(super) const SMEAR: RangeInclusive<Span> = Span::from_seconds(3_600)..=Span::from_seconds(48 * 3_600);

/// More digits than this are no figure that anyone measured, and would overflow.
const DIGITS_MAX: usize = 18;

/// Why a text is no span.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum SpanError {
    #[error("is not a number with a unit")]
    NotASpan,
    #[error("has no unit that is known (ns, us, ms, s, min, h)")]
    Unit,
    #[error("is finer than a nanosecond")]
    Finer,
    #[error("is out of range")]
    Range,
}

/// A span within a range, as `12.5 us`.
pub(super) fn span(text: &str, range: &RangeInclusive<Span>) -> Result<Span, SpanError> {
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(magnitude) => (-1, magnitude),
        None => (1, text),
    };
    let end = magnitude.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(magnitude.len());
    let (number, unit) = magnitude.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(SpanError::NotASpan);
    }
    let unit = unit.trim_start();
    let (_, unit_nanos) = UNITS.into_iter().find(|&(name, _)| name == unit).ok_or(SpanError::Unit)?;
    if whole.len() > DIGITS_MAX || fraction.len() > DIGITS_MAX {
        return Err(SpanError::Range);
    }
    let figure = |digits: &str| digits.parse::<i128>().map_err(|_| SpanError::NotASpan);
    let fraction_nanos = figure(fraction)? * i128::from(unit_nanos);
    let divisor = fraction.bytes().fold(1_i128, |power, _| power * 10);
    if fraction_nanos % divisor != 0 {
        return Err(SpanError::Finer);
    }
    let nanos = figure(whole)? * i128::from(unit_nanos) + fraction_nanos / divisor;
    let nanos = i64::try_from(sign * nanos).map_err(|_| SpanError::Range)?;
    Some(Span::from_nanos(nanos)).filter(|span| range.contains(span)).ok_or(SpanError::Range)
}

/// As it is written in the file: in the largest unit of which it is a whole number.
pub(super) fn written(span: Span) -> String {
    let nanos = span.as_nanos();
    if nanos == 0 {
        return "0 s".to_owned();
    }
    let whole = UNITS.into_iter().rev().find(|(_, unit_nanos)| nanos % unit_nanos == 0);
    // Every count is a whole number of nanoseconds.
    let (unit, unit_nanos) = whole.unwrap_or(("ns", 1));
    format!("{} {unit}", nanos / unit_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nanos(text: &str) -> Result<i64, SpanError> {
        let all = Span::from_nanos(i64::MIN)..=Span::from_nanos(i64::MAX);
        span(text, &all).map(Span::as_nanos)
    }

    #[test]
    fn a_number_and_its_unit_are_a_span() {
        assert_eq!(nanos("12.5 us"), Ok(12_500));
        assert_eq!(nanos("-3 ns"), Ok(-3));
        assert_eq!(nanos("0.1 s"), Ok(100_000_000));
        assert_eq!(nanos("0.000000001s"), Ok(1));
        assert_eq!(nanos("1.5 min"), Ok(90_000_000_000));
        assert_eq!(nanos("24 h"), Ok(86_400_000_000_000));
        assert_eq!(nanos("-0 ms"), Ok(0));
    }

    #[test]
    fn what_is_no_span_is_told_apart() {
        for text in ["", "us", "-", "- 3 ns", "1.2.3 s", "1. s", ".5 s", "+1 s", "١ s"] {
            assert_eq!(nanos(text), Err(SpanError::NotASpan), "{text:?}");
        }
        for text in ["5", "5 S", "5 µs", "1e3 s", "1 d", "1 s "] {
            assert_eq!(nanos(text), Err(SpanError::Unit), "{text:?}");
        }
        assert_eq!(nanos("0.5 ns"), Err(SpanError::Finer));
        assert_eq!(nanos("0.0000000001 s"), Err(SpanError::Finer));
        assert_eq!(nanos("9999999999999 h"), Err(SpanError::Range));
        assert_eq!(nanos("1234567890123456789 ns"), Err(SpanError::Range));
        assert_eq!(span("2 s", &(Span::ZERO..=Span::from_seconds(1))), Err(SpanError::Range));
    }

    #[test]
    fn the_largest_whole_unit_is_written() {
        let told = |nanos| written(Span::from_nanos(nanos));
        assert_eq!(told(0), "0 s");
        assert_eq!(told(12_500), "12500 ns");
        assert_eq!(told(-100_000_000), "-100 ms");
        assert_eq!(told(1_024_000_000_000), "1024 s");
        assert_eq!(told(86_400_000_000_000), "24 h");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(count in any::<i64>()) {
            // Every nineteenth digit is one more than anybody needs.
            let count = count / 10;
            prop_assert_eq!(nanos(&written(Span::from_nanos(count))), Ok(count));
        }
    }
}
