//! Time: one type per scale, unit and width, so that none is ever taken for another.
//!
//! | type | what it is | unit |
//! |---|---|---|
//! | [`Ticks`] | a reading of the machine's counter; wraps, has no order | one tick |
//! | [`Instant<Tai>`](Instant) | reference time: continuous, what the clock disciplines | 2⁻⁶⁴ s since 1970 TAI |
//! | [`Instant<Utc>`](Instant) | civil time as POSIX and NTP count it: a leap second repeats or is skipped | 2⁻⁶⁴ s since 1970 |
//! | [`Instant<Smeared>`](Instant) | civil time with leap seconds spread: for the listeners that are told to | 2⁻⁶⁴ s since 1970 |
//! | [`Span`] | a difference of two instants of one scale; saturates | 2⁻⁶⁴ s |
//! | [`NtpTimestamp`] | 64 bits on the wire; wraps every 136 years, has no order | 2⁻³² s |
//! | [`NtpShort`] | root delay and dispersion on the wire | 2⁻¹⁶ s |
//! | [`Line`] | reference time as a function of the counter | [`Rate`]: 2⁻⁸⁸ s a tick |
//! | [`PhcLine`] | a NIC's own clock and the counter | 1 ns, 1 tick |
//! | [`NicClock`] | that, for a worker: which of the NIC's stamps can be true | |
//! | [`Stamp`] | a kernel's or NIC's stamp, and which clock it is in | 1 ns |
//!
//! A leap second is an entry of the [`LeapTable`]; the rest of the program never counts one.

mod instant;
mod leap;
mod line;
mod nic_clock;
mod ntp;
mod phc_line;
mod smear;
mod stamp;

pub use instant::{Instant, Scale, Span, Tai, Utc};
pub use leap::{Leap, LeapFault, LeapIndicator, LeapTable, LeapWindow, TaiOf, is_last_of_month};
pub use line::{Line, Rate, Ticks};
pub use nic_clock::{APART_MAX, NicClock, NicFault};
pub use ntp::{NtpShort, NtpTimestamp, UNIX_TO_NTP_S};
pub use phc_line::{PHC_LINE_WORDS, PhcLine};
pub use smear::{Smear, Smeared};
pub use stamp::{ClockReading, Stamp, StampClock, StampConverter, StampFault};

/// When this program was built: the pivot of NTP's eras and the earliest time that can be believed.
pub const BUILD_DATE: Instant<Utc> = Instant::from_unix(build_unix_s(), 0);

const fn build_unix_s() -> i64 {
    // `str::parse` isn't const; the build script has already proved that the text is decimal.
    let text = env!("MASER_BUILD_UNIX_S").as_bytes();
    let mut rest = text;
    let mut value: i64 = 0;
    while let [digit, tail @ ..] = rest {
        value = value * 10 + (*digit - b'0') as i64;
        rest = tail;
    }
    value
}
