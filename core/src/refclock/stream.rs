//! A serial line on which NMEA and UBX come mixed, as u-blox receivers send them.
//!
//! Within a UBX frame every octet is the frame's, so that no sentence is found in it. Outside, an octet is
//! offered to both decoders: UBX's first sync octet isn't ASCII, so it breaks off a sentence and no octet
//! ends two messages.

use super::nmea::{Nmea, NmeaFault, NmeaMessage};
use super::ubx::{Ubx, UbxFault, UbxMessage};

/// A message of either protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceiverMessage {
    /// A sentence.
    Nmea(NmeaMessage),
    /// A frame.
    Ubx(UbxMessage),
}

/// Why a message of either protocol isn't used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceiverFault {
    /// A sentence's fault.
    Nmea(NmeaFault),
    /// A frame's fault.
    Ubx(UbxFault),
}

/// Decodes a stream of octets into messages of both protocols.
#[derive(Clone, Debug, Default)]
pub struct ReceiverStream {
    nmea: Nmea,
    ubx: Ubx,
    octets: usize,
}

impl ReceiverStream {
    /// A decoder that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { nmea: Nmea::new(), ubx: Ubx::new(), octets: 0 }
    }

    /// Octets of the message reported last, from its first to the one that ended it.
    #[must_use]
    pub const fn octets(&self) -> usize {
        self.octets
    }

    /// Takes the next octet.
    pub fn push(&mut self, octet: u8) -> Option<Result<ReceiverMessage, ReceiverFault>> {
        if self.ubx.is_in_frame() {
            let told = self.ubx.push(octet)?;
            self.octets = self.ubx.octets();
            return Some(told.map(ReceiverMessage::Ubx).map_err(ReceiverFault::Ubx));
        }
        // Outside a frame a sync octet at most begins one: there is nothing to report.
        let _none = self.ubx.push(octet);
        let told = self.nmea.push(octet)?;
        self.octets = self.nmea.octets();
        Some(told.map(ReceiverMessage::Nmea).map_err(ReceiverFault::Nmea))
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
