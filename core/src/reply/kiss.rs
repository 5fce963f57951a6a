//! Kisses: replies that tell a client to ask less, or not at all (RFC 5905 §7.4).

use super::Reply;
use crate::time::LeapIndicator;
use crate::wire::{Request, RequestMode, Version};

/// What a client is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kiss {
    /// It asks more often than it may.
    Rate,
    /// It may not ask here.
    Deny,
}

impl Kiss {
    /// Its code, where other replies have their reference id.
    #[must_use]
    pub const fn code(self) -> [u8; 4] {
        match self {
            Self::Rate => *b"RATE",
            Self::Deny => *b"DENY",
        }
    }
}

/// Whether who sent this would know a kiss for one: a client, and no peer, of a version that has modes. What is a kiss itself, or
/// any other reply, is no request.
#[must_use]
#[inline]
pub const fn may_be_kissed(request: &Request) -> bool {
    matches!(request.mode, RequestMode::Client) && !matches!(request.version, Version::V1)
}

impl Reply {
    /// The same as a kiss: of no stratum and not synchronised, and with a poll interval, log₂ seconds, that is `poll` at least. Its
    /// length, its version and its origin, by which the client knows it for an answer, stay those of any reply.
    #[must_use]
    #[inline]
    pub const fn kiss(self, kiss: Kiss, poll: i8) -> Self {
        let poll = if self.poll > poll { self.poll } else { poll };
        Self { leap: LeapIndicator::Unsynchronised, stratum: 0, reference_id: kiss.code(), poll, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::ReplyMode;
    use crate::time::{NtpShort, NtpTimestamp};

    #[test]
    fn it_asks_for_an_interval_that_is_long_enough() {
        let of = |poll| Reply {
            leap: LeapIndicator::Insert,
            version: Version::V3,
            mode: ReplyMode::Server,
            stratum: 1,
            poll,
            precision: -25,
            root_delay: NtpShort::from_bits(1),
            root_dispersion: NtpShort::from_bits(2),
            reference_id: *b"PPS\0",
            reference_time: NtpTimestamp::from_bits(3),
            origin: NtpTimestamp::from_bits(4),
            receive: NtpTimestamp::from_bits(5),
        };
        assert_eq!([-6, 3, 4, 10].map(|poll| of(poll).kiss(Kiss::Rate, 4).poll), [4, 4, 4, 10]);
        let denied = of(6).kiss(Kiss::Deny, 0);
        let said = (denied.leap, denied.stratum, &denied.reference_id);
        assert_eq!(said, (LeapIndicator::Unsynchronised, 0, b"DENY"));
        assert_eq!((denied.version, denied.origin), (Version::V3, NtpTimestamp::from_bits(4)));
    }
}
