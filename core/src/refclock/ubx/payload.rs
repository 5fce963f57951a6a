//! The payloads of the messages that are used, from a frame whose checksum was right (u-blox's interface
//! descriptions of protocol versions 14 to 34; the fields used here lie in the same place in all of them).
//!
//! ```text
//! NAV-PVT (0x01 0x07), 84 or 92      NAV-TIMELS (0x01 0x26), 24      TIM-TP (0x0D 0x01), 16
//!  0 u32 time of week, ms             0 u32 time of week, ms          0 u32 time of week, ms
//!  4 u16 year                         8 u8  source of current         4 u32 and fraction, 2^-32 ms
//!  6 u8  month, day, hour,            9 i8  current leap seconds      8 i32 quantisation error, ps
//!        minute, second              10 u8  source of the change     12 u16 week
//! 11 u8  validity                    11 i8  change                   14 u8  flags
//! 12 u32 accuracy, ns                12 i32 seconds to the event     15 u8  reference
//! 16 i32 nanosecond, signed          23 u8  validity
//! 20 u8  fix, flags, flags, satellites
//! ```

use super::{KEPT_OCTETS, LeapSource, NavPvt, NavTimeLs, NextLeap, TimTp, TimeBase, UbxFault, UbxMessage};
use crate::refclock::calendar::{CivilTime, Date, TimeOfDay};
use crate::refclock::receiver::Fix;
use crate::time::{Instant, Span, Utc};

/// NAV-PVT's validity: date, time of day, and no doubt left about the second.
const PVT_DATE_TIME_RESOLVED: u8 = 0b111;
/// NAV-PVT's flags: the fix is within its masks.
const PVT_FIX_OK: u8 = 1;
/// NAV-TIMELS' validity.
const LEAP_CURRENT_VALID: u8 = 1;
const LEAP_EVENT_VALID: u8 = 2;
/// TIM-TP's flags.
const PULSE_BASE_UTC: u8 = 1;
const PULSE_UTC_AVAILABLE: u8 = 2;
const PULSE_QUANTISATION_INVALID: u8 = 16;

/// What a payload of `length` octets says, of which those `kept` came through.
pub(super) fn message(class: u8, id: u8, kept: &[u8], length: usize) -> Result<UbxMessage, UbxFault> {
    let too_short = UbxFault::TooShort { class, id };
    match (class, id) {
        (0x01, 0x07) if length >= 84 => nav_pvt(kept.first_chunk().ok_or(too_short)?).map(UbxMessage::NavPvt),
        (0x01, 0x26) if length >= 24 => {
            Ok(UbxMessage::NavTimeLs(nav_time_ls(kept.first_chunk().ok_or(too_short)?)))
        }
        (0x0D, 0x01) if length >= 16 => Ok(UbxMessage::TimTp(tim_tp(kept.first_chunk().ok_or(too_short)?))),
        // A poll has the class and id of what it asks for, and no payload: an echo of one is no message.
        (0x01, 0x07 | 0x26) | (0x0D, 0x01) if length > 0 => Err(too_short),
        (0x05, 0x00 | 0x01) => match kept {
            [class, of, ..] if id == 1 => Ok(UbxMessage::Ack { class: *class, id: *of }),
            [class, of, ..] => Ok(UbxMessage::Nak { class: *class, id: *of }),
            _ => Err(too_short),
        },
        _ => Ok(UbxMessage::Other { class, id }),
    }
}

fn nav_pvt(kept: &[u8; KEPT_OCTETS]) -> Result<NavPvt, UbxFault> {
    let [_, _, _, _, year_low, year_high, month, day, hour, minute, second, valid, rest @ ..] = *kept;
    let [a0, a1, a2, a3, n0, n1, n2, n3, fix, flags, _, satellites] = rest;
    let utc = if valid & PVT_DATE_TIME_RESOLVED == PVT_DATE_TIME_RESOLVED {
        let date = Date { year: u16::from_le_bytes([year_low, year_high]).into(), month, day };
        let utc = whole_second(date, hour, minute, second).ok_or(UbxFault::Date)?;
        // The parts are rounded to the hundredth, so that what is left of the fraction may be negative.
        Some(utc + Span::from_nanos(i32::from_le_bytes([n0, n1, n2, n3]).into()))
    } else {
        None
    };
    Ok(NavPvt {
        utc,
        accuracy: Span::from_nanos(u32::from_le_bytes([a0, a1, a2, a3]).into()),
        fix_ok: flags & PVT_FIX_OK != 0,
        // 1 is dead reckoning alone, 4 is dead reckoning with satellites.
        fix: match fix {
            2 => Fix::TwoD,
            3 | 4 => Fix::ThreeD,
            5 => Fix::TimeOnly,
            _ => Fix::None,
        },
        satellites,
    })
}

fn whole_second(date: Date, hour: u8, minute: u8, second: u8) -> Option<Instant<Utc>> {
    CivilTime { date, time: TimeOfDay::new(hour, minute, second, 0)? }.utc()
}

fn nav_time_ls(kept: &[u8; KEPT_OCTETS]) -> NavTimeLs {
    let [_, _, _, _, _, _, _, _, source, current, change_source, change, rest @ ..] = *kept;
    let [e0, e1, e2, e3, _, _, _, _, _, _, _, valid] = rest;
    let next = NextLeap {
        change_s: i8::from_le_bytes([change]),
        seconds_to_event: i32::from_le_bytes([e0, e1, e2, e3]),
    };
    NavTimeLs {
        current_s: (valid & LEAP_CURRENT_VALID != 0).then_some(i8::from_le_bytes([current])),
        source: match source {
            0 => LeapSource::Firmware,
            1..=5 | 8 => LeapSource::Satellites,
            6 | 7 => LeapSource::Told,
            _ => LeapSource::Unknown,
        },
        // Without a source "no change" means that nothing is known.
        next: (valid & LEAP_EVENT_VALID != 0 && change_source != 0).then_some(next),
    }
}

fn tim_tp(kept: &[u8; 16]) -> TimTp {
    let [m0, m1, m2, m3, s0, s1, s2, s3, q0, q1, q2, q3, week_low, week_high, flags, reference] = *kept;
    let quantisation_ps = i32::from_le_bytes([q0, q1, q2, q3]);
    let base = match (flags & PULSE_BASE_UTC != 0, flags & PULSE_UTC_AVAILABLE != 0, reference & 0x0F) {
        (true, true, _) => TimeBase::Utc,
        (true, false, _) => TimeBase::UtcUnknown,
        (false, _, 0) => TimeBase::Gps,
        (false, _, _) => TimeBase::Other,
    };
    TimTp {
        week: u16::from_le_bytes([week_low, week_high]),
        tow_ms: u32::from_le_bytes([m0, m1, m2, m3]),
        tow_sub_ms: u32::from_le_bytes([s0, s1, s2, s3]),
        quantisation_ps: (flags & PULSE_QUANTISATION_INVALID == 0).then_some(quantisation_ps),
        base,
    }
}
