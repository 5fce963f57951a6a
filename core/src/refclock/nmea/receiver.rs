//! What a receiver's sentences say together: one moment a second, and how it stands with the satellites.
//!
//! A receiver sends a burst of sentences a second, in an order of its own. The first of its RMC and ZDA is
//! the one that names the second, and stays it, so that the delay that is learnt for it is one sentence's
//! delay; only when the other has come first in several seconds on end is it the other's turn.

use super::NmeaMessage;
use crate::discipline::{LeapClaim, Sentence};
use crate::refclock::receiver::{Fix, ReceiverStatus};
use crate::time::{Instant, Ticks, Utc};

/// The other kind of sentence takes over when it has named so many seconds first.
const OVERTAKEN_MAX: u8 = 3;

/// ZDA says nothing of the fix: what another sentence said of it holds for so many.
const FIX_HOLDS_ZDA_MAX: u8 = 10;

/// Systems whose satellites are counted; there are six.
const TALKERS_MAX: usize = 8;

/// Which sentence names the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Namer {
    Rmc,
    Zda,
}

/// A receiver that sends NMEA.
#[derive(Clone, Debug, Default)]
pub struct NmeaReceiver {
    namer: Option<Namer>,
    /// The second that the last sentence named: there is one a second.
    told_s: Option<i64>,
    /// Seconds on end that the other kind named first.
    overtaken: u8,
    fixed: bool,
    zda_since_fix: u8,
    status: ReceiverStatus,
    /// Satellites in view in this second's burst, by system.
    in_view: [Option<([u8; 2], u8)>; TALKERS_MAX],
}

impl NmeaReceiver {
    /// A receiver that has said nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How it stands with the satellites.
    #[must_use]
    pub const fn status(&self) -> ReceiverStatus {
        self.status
    }

    /// Takes a message whose first octet came at `at`; a sentence comes of the one that names the second. A
    /// ZDA is valid by what RMC, GGA or GSA said shortly before; where none of them is sent, nothing vouches
    /// for it.
    pub fn take(&mut self, message: &NmeaMessage, at: Ticks) -> Option<Sentence> {
        match *message {
            NmeaMessage::Rmc { utc, valid } => {
                self.fix_is(valid);
                self.name(Namer::Rmc, utc, valid, at)
            }
            NmeaMessage::Zda { utc } => {
                self.zda_since_fix = self.zda_since_fix.saturating_add(1);
                let valid = self.fixed && self.zda_since_fix <= FIX_HOLDS_ZDA_MAX;
                self.name(Namer::Zda, utc, valid, at)
            }
            NmeaMessage::Gga { quality, satellites, .. } => {
                self.fix_is((1..=5).contains(&quality));
                self.status.used = Some(satellites);
                None
            }
            NmeaMessage::Gsa { fix } => {
                self.fix_is(fix != Fix::None);
                self.status.fix = Some(fix);
                None
            }
            NmeaMessage::Gsv { talker, in_view } => {
                self.see(talker, in_view);
                None
            }
            NmeaMessage::Other => None,
        }
    }

    const fn fix_is(&mut self, fixed: bool) {
        self.fixed = fixed;
        self.zda_since_fix = 0;
    }

    fn name(&mut self, namer: Namer, utc: Option<Instant<Utc>>, valid: bool, at: Ticks) -> Option<Sentence> {
        let second = utc.map(Instant::unix_seconds);
        let chosen = *self.namer.get_or_insert(namer);
        if second.is_some() && second == self.told_s {
            if namer != chosen {
                self.overtaken = 0;
            }
            return None;
        }
        if namer != chosen {
            self.overtaken += 1;
            if self.overtaken < OVERTAKEN_MAX {
                return None;
            }
            self.namer = Some(namer);
            self.overtaken = 0;
        }
        self.end_burst();
        let utc = utc?;
        self.told_s = second;
        Some(Sentence { at, utc, valid, of_next_pulse: false, leap: LeapClaim::Unknown })
    }

    /// Counts a system's satellites; of several groups of one system (a group a signal) the largest counts.
    fn see(&mut self, talker: [u8; 2], in_view: u8) {
        let place = self.in_view.iter_mut().find(|place| place.is_none_or(|(known, _)| known == talker));
        if let Some(place) = place {
            *place = Some((talker, place.map_or(in_view, |(_, most)| most.max(in_view))));
        }
    }

    /// The burst before is complete: what it said is the status.
    fn end_burst(&mut self) {
        let in_view = self.in_view.iter().flatten().map(|(_, in_view)| u16::from(*in_view)).sum();
        if self.in_view.iter().any(Option::is_some) {
            self.status.in_view = Some(in_view);
        }
        self.in_view = [None; TALKERS_MAX];
    }
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;
