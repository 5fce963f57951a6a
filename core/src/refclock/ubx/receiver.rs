//! What a u-blox receiver's messages say together: the second that has begun, the pulse that comes next, leap
//! seconds.

use super::{LeapSource, NavPvt, NavTimeLs, NextLeap, TimTp, TimeBase, UbxMessage};
use crate::discipline::{LeapClaim, Sentence};
use crate::refclock::calendar::Date;
use crate::refclock::receiver::{Fix, ReceiverStatus};
use crate::time::{Instant, Span, Ticks, Utc, is_last_of_month};

const DAY_S: i64 = 86_400;

/// 1980-01-06 00:00:00, when GPS weeks began to be counted.
const GPS_EPOCH: Instant<Utc> = Instant::from_unix(315_964_800, 0);

/// A solution this near to a whole second names it; others, of receivers that make several a second, name
/// none.
const WHOLE_SECOND_WITHIN: Span = Span::from_nanos(50_000_000);

/// The event is at midnight, but for the time since the solution and for GPS time less UTC where a receiver
/// counts so.
const EVENT_WITHIN_S: i64 = 60;

/// What a message tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UbxTold {
    /// A second named.
    pub sentence: Option<Sentence>,
    /// The next pulse's quantisation, to be added to its moment.
    pub quantisation: Option<Span>,
}

/// What is known of the next leap second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Announced {
    Nothing,
    /// There is none.
    None,
    /// The day (since 1970) that begins after it, and what happens.
    Before(i64, LeapClaim),
}

/// A u-blox receiver.
#[derive(Clone, Debug)]
pub struct UbxReceiver {
    /// The last solution's moment, while the receiver knows it.
    solved: Option<Instant<Utc>>,
    valid: bool,
    /// GPS time less UTC, where it doesn't stem from the firmware.
    gps_less_utc_s: Option<i8>,
    announced: Announced,
    status: ReceiverStatus,
}

impl Default for UbxReceiver {
    fn default() -> Self {
        Self::new()
    }
}

impl UbxReceiver {
    /// A receiver that has said nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            solved: None,
            valid: false,
            gps_less_utc_s: None,
            announced: Announced::Nothing,
            status: ReceiverStatus { fix: None, used: None, in_view: None },
        }
    }

    /// How it stands with the satellites.
    #[must_use]
    pub const fn status(&self) -> ReceiverStatus {
        self.status
    }

    /// Takes a message whose first octet came at `at`.
    pub fn take(&mut self, message: &UbxMessage, at: Ticks) -> UbxTold {
        match message {
            UbxMessage::NavPvt(solution) => {
                UbxTold { sentence: self.solution(solution, at), quantisation: None }
            }
            UbxMessage::NavTimeLs(leap) => {
                self.leap(leap);
                UbxTold::default()
            }
            UbxMessage::TimTp(pulse) => UbxTold {
                sentence: self.pulse(pulse).map(|utc| self.sentence(utc, true, at)),
                quantisation: pulse.quantisation_ps.map(picoseconds),
            },
            UbxMessage::Ack { .. } | UbxMessage::Nak { .. } | UbxMessage::Other { .. } => UbxTold::default(),
        }
    }

    fn solution(&mut self, solution: &NavPvt, at: Ticks) -> Option<Sentence> {
        self.valid = solution.fix_ok && solution.fix != Fix::None;
        self.status.fix = Some(solution.fix);
        self.status.used = Some(solution.satellites);
        self.solved = solution.utc;
        let utc = solution.utc?;
        let nearest = (utc + Span::from_nanos(500_000_000)).unix_seconds();
        let off = utc - Instant::from_unix(nearest, 0);
        (off.abs() <= WHOLE_SECOND_WITHIN).then(|| self.sentence(utc, false, at))
    }

    /// The next pulse's moment, where it can be told in UTC.
    fn pulse(&self, pulse: &TimTp) -> Option<Instant<Utc>> {
        let less_s = match pulse.base {
            TimeBase::Utc => 0,
            TimeBase::Gps => i64::from(self.gps_less_utc_s?),
            TimeBase::UtcUnknown | TimeBase::Other => return None,
        };
        let weeks = Span::from_seconds(i64::from(pulse.week) * 7 * DAY_S - less_s);
        let millis = Span::from_nanos(i64::from(pulse.tow_ms) * 1_000_000);
        let sub_millis = Span::from_raw((i128::from(pulse.tow_sub_ms) << 32) / 1_000);
        Some(GPS_EPOCH + weeks + millis + sub_millis)
    }

    fn sentence(&self, utc: Instant<Utc>, of_next_pulse: bool, at: Ticks) -> Sentence {
        Sentence { at, utc, valid: self.valid, of_next_pulse, leap: self.claim(utc) }
    }

    fn leap(&mut self, leap: &NavTimeLs) {
        self.gps_less_utc_s = match leap.source {
            LeapSource::Satellites | LeapSource::Told => leap.current_s,
            LeapSource::Firmware | LeapSource::Unknown => None,
        };
        self.announced = match leap.next.zip(self.solved) {
            Some((next, now)) => announced(next, now),
            None => Announced::Nothing,
        };
    }

    /// What is claimed of the end of the month that `utc` lies in.
    fn claim(&self, utc: Instant<Utc>) -> LeapClaim {
        match self.announced {
            Announced::Nothing => LeapClaim::Unknown,
            Announced::None => LeapClaim::None,
            Announced::Before(day, claim) => {
                let today = utc.unix_seconds().div_euclid(DAY_S);
                let month = |day| Date::of_day(day).map(|date| (date.year, date.month));
                if today >= day {
                    LeapClaim::Unknown
                } else if month(today) == month(day - 1) {
                    claim
                } else {
                    LeapClaim::None
                }
            }
        }
    }
}

/// What a receiver that says so now announces: an event that isn't at the end of a month is none that exists.
fn announced(next: NextLeap, now: Instant<Utc>) -> Announced {
    let claim = match next.change_s {
        0 => return Announced::None,
        1 => LeapClaim::Insert,
        -1 => LeapClaim::Delete,
        _ => return Announced::Nothing,
    };
    let event_s = now.unix_seconds().saturating_add(i64::from(next.seconds_to_event));
    let day = event_s.saturating_add(DAY_S / 2).div_euclid(DAY_S);
    let off_s = event_s.saturating_sub(day.saturating_mul(DAY_S));
    if next.seconds_to_event >= 0 && off_s.abs() <= EVENT_WITHIN_S && is_last_of_month(day.saturating_sub(1))
    {
        Announced::Before(day, claim)
    } else {
        Announced::Nothing
    }
}

fn picoseconds(picoseconds: i32) -> Span {
    Span::from_raw((i128::from(picoseconds) << 64) / 1_000_000_000_000)
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;
