//! Time as it travels: NTP's 64-bit timestamp and 32-bit short format (RFC 5905 §6).

use super::{Instant, Span, Utc};

/// Seconds from NTP's prime epoch (1900) to 1970.
pub const UNIX_TO_NTP_S: i64 = 2_208_988_800;

/// NTP's timestamp: 32 bits of seconds since 1900, 32 bits of fraction, modulo 2⁶⁴.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                       seconds since 1900                      |
/// |                     fraction, units of 2^-32                  |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
///
/// It wraps every 136 years (next on 2036-02-07 06:28:16 UTC), so it has no order:
///
/// ```compile_fail
/// use maser_core::time::NtpTimestamp;
/// let wrong = NtpTimestamp::from_bits(1) < NtpTimestamp::from_bits(2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NtpTimestamp(u64);

impl NtpTimestamp {
    /// "Unknown" (RFC 5905 §6): never sent as a valid time.
    pub const ZERO: Self = Self(0);

    /// From the 64 bits on the wire.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The 64 bits on the wire.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The moment, rounded down to 2⁻³² s, without its era.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^64 is the format")]
    pub const fn from_utc(utc: Instant<Utc>) -> Self {
        Self(((utc.raw() >> 32) as u64).wrapping_add((UNIX_TO_NTP_S as u64) << 32))
    }

    /// The moment that these bits mean in the era that brings it nearest to `pivot`.
    #[must_use]
    #[expect(clippy::cast_possible_wrap, reason = "the signed distance modulo 2^64 is the nearest one")]
    pub const fn to_utc(self, pivot: Instant<Utc>) -> Instant<Utc> {
        let distance = self.0.wrapping_sub(Self::from_utc(pivot).0) as i64;
        Instant::from_raw(((pivot.raw() >> 32) + distance as i128) << 32)
    }

    /// How much later this is than `earlier`, taken as the nearer way round (within ±68 years).
    #[must_use]
    #[expect(clippy::cast_possible_wrap, reason = "the signed distance modulo 2^64 is the nearest one")]
    pub const fn since(self, earlier: Self) -> Span {
        Span::from_raw((self.0.wrapping_sub(earlier.0) as i64 as i128) << 32)
    }
}

/// NTP's short format: 16 bits of seconds, 16 bits of fraction, for root delay and root dispersion.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct NtpShort(u32);

impl NtpShort {
    /// The largest value there is: 65,536 s less 15 µs.
    pub const MAX: Self = Self(u32::MAX);

    /// From the 32 bits on the wire.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The 32 bits on the wire.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Rounded up, so that an error bound never shrinks on its way; negative is 0, too long is [`MAX`](Self::MAX).
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked against both ends")]
    pub const fn from_span_up(span: Span) -> Self {
        let units = span.raw().saturating_add((1 << 48) - 1) >> 48;
        if units <= 0 {
            Self(0)
        } else if units > u32::MAX as i128 {
            Self::MAX
        } else {
            Self(units as u32)
        }
    }

    /// The span it stands for.
    #[must_use]
    pub const fn to_span(self) -> Span {
        Span::from_raw((self.0 as i128) << 48)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::BUILD_DATE;
    use proptest::prelude::*;

    /// 2036-02-07 06:28:16 UTC, the first moment of era 1.
    const ERA_1_UNIX_S: i64 = (1 << 32) - UNIX_TO_NTP_S;

    #[test]
    fn era_1_begins_at_zero() {
        let before = Instant::<Utc>::from_unix(ERA_1_UNIX_S - 1, 999_999_999);
        let after = Instant::<Utc>::from_unix(ERA_1_UNIX_S, 1);
        assert_eq!(NtpTimestamp::from_utc(before).bits() >> 32, 0xFFFF_FFFF);
        assert_eq!(NtpTimestamp::from_utc(after).bits() >> 32, 0);
        assert_eq!(NtpTimestamp::from_utc(after).since(NtpTimestamp::from_utc(before)).as_nanos(), 2);
    }

    #[test]
    fn the_era_is_the_one_nearest_the_pivot() {
        let zero = NtpTimestamp::from_bits(0);
        assert_eq!(zero.to_utc(BUILD_DATE).unix_seconds(), ERA_1_UNIX_S);
        assert_eq!(zero.to_utc(Instant::from_unix(0, 0)).unix_seconds(), -UNIX_TO_NTP_S + (1 << 32));
        assert_eq!(zero.to_utc(Instant::from_unix(-UNIX_TO_NTP_S, 0)).unix_seconds(), -UNIX_TO_NTP_S);
    }

    #[test]
    fn short_format_rounds_up_and_saturates() {
        assert_eq!(NtpShort::from_span_up(Span::from_raw(1)).bits(), 1);
        assert_eq!(NtpShort::from_span_up(Span::from_seconds(1)).bits(), 0x1_0000);
        assert_eq!(NtpShort::from_span_up(Span::from_seconds(-1)).bits(), 0);
        assert_eq!(NtpShort::from_span_up(Span::MAX), NtpShort::MAX);
    }

    proptest! {
        #[test]
        fn any_moment_within_68_years_of_the_pivot_comes_back(
            pivot_s in -10_000_000_000_i64..100_000_000_000,
            offset_s in -2_147_483_647_i64..2_147_483_647,
            nanos in 0_u32..1_000_000_000,
        ) {
            let pivot = Instant::<Utc>::from_unix(pivot_s, 0);
            let moment = Instant::<Utc>::from_unix(pivot_s + offset_s, nanos);
            let error = NtpTimestamp::from_utc(moment).to_utc(pivot) - moment;
            prop_assert!(error.abs() <= Span::from_nanos(1), "{:?}", error);
        }
    }
}
