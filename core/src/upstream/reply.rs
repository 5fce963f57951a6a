//! A server's reply: what it must be before anything in it is believed, and what it then says.
//!
//! A [`Reply`] proves the length, the mode and the version, and nothing else: whether it was asked for is checked by
//! the association, whether the server vouches for its time by [`Reply::vouched`].

use crate::discipline::{Exchange, LeapClaim};
use crate::snapshot::Growth;
use crate::time::{Instant, LeapIndicator, NtpShort, NtpTimestamp, Rate, Span, Ticks, Utc};
use crate::wire::{Mode, Version};
use core::fmt;

/// A server farther than this from its primary reference says nothing of the time (RFC 5905's MAXDISP).
pub const ROOT_DISTANCE_MAX: Span = Span::from_seconds(16);

/// A reply that took longer than this says too little of the time.
pub const ROUND_TRIP_MAX: Span = Span::from_seconds(3);

/// A server may seem to have spent this much more on a request than the whole round trip took: stamps are taken in
/// software on either side. More is a clock that was stepped in between.
const DELAY_BELOW_ZERO_MAX: Span = Span::from_nanos(1_000_000);

/// What the nominal length of a tick may be off by: more than a crystal, a virtual machine's counter.
const DRIFT: Growth = Growth::from_ppb(100_000);

/// A stratum of 16 and above isn't synchronised.
const STRATUM_MAX: u8 = 15;

/// Why a datagram is no sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It isn't 48 octets long, as the request was.
    Length,
    /// It isn't a server's reply.
    Mode,
    /// It is in a version that wasn't asked for.
    Version,
    /// It echoes nothing that was asked: forged, or of another time.
    NotAsked,
    /// It was answered already.
    Duplicate,
    /// The server says that it isn't synchronised.
    Unsynchronised,
    /// The server is too far from its primary reference.
    RootDistance,
    /// A timestamp is missing.
    ZeroTimestamp,
    /// The server is synchronised to us.
    Loop,
    /// The round trip took too long.
    Late,
    /// The server's stamps contradict the round trip: a clock was stepped.
    Backwards,
    /// The server wants to be asked less often, and will be.
    AskedLessOften,
    /// The server doesn't want to be asked, and won't be by this association.
    Denied,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a reply that isn't 48 octets long",
            Self::Mode => "a datagram that isn't a server's reply",
            Self::Version => "a reply in another version of NTP",
            Self::NotAsked => "a reply that echoes no request of ours",
            Self::Duplicate => "a second reply to one request",
            Self::Unsynchronised => "the server says that it isn't synchronised",
            Self::RootDistance => "the server is 16 s or more from its primary reference",
            Self::ZeroTimestamp => "a reply without a timestamp",
            Self::Loop => "the server is synchronised to this one",
            Self::Late => "a reply that took more than 3 s",
            Self::Backwards => "the reply's timestamps contradict its round trip: a clock was stepped",
            Self::AskedLessOften => "the server wants to be asked less often (RATE), and is",
            Self::Denied => "the server refuses us (DENY or RSTR)",
        })
    }
}

/// What a datagram was worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reception {
    /// A sample, the best that there is and newer than the last.
    Accepted(Exchange),
    /// A good reply, but a better sample was given already.
    Filtered,
    /// No sample, and why.
    Refused(Refusal),
}

/// What a kiss asks for (RFC 5905 §7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kiss {
    Rate,
    Deny,
}

/// A server's reply of 48 octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reply {
    pub(super) origin: NtpTimestamp,
    pub(super) receive: NtpTimestamp,
    pub(super) transmit: NtpTimestamp,
    leap: LeapIndicator,
    stratum: u8,
    precision: i8,
    root_delay: NtpShort,
    root_dispersion: NtpShort,
    reference_id: [u8; 4],
}

/// What a server says of itself in a reply that it vouches for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Vouched {
    precision: i8,
    root_delay: Span,
    root_dispersion: Span,
    stratum: u8,
    reference_id: [u8; 4],
    leap: LeapClaim,
}

impl Reply {
    pub(super) fn parse(datagram: &[u8]) -> Result<Self, Refusal> {
        let ([head, root, _reference, origin, receive, transmit], []) = datagram.as_chunks::<8>() else {
            return Err(Refusal::Length);
        };
        let [first, stratum, _poll, precision, delay @ ..] = *head;
        let [d0, d1, d2, d3, reference_id @ ..] = *root;
        if Mode::from_first_octet(first) != Mode::Server {
            return Err(Refusal::Mode);
        }
        // Servers of version 3 answer in it.
        if !matches!(Version::from_first_octet(first), Some(Version::V3 | Version::V4)) {
            return Err(Refusal::Version);
        }
        let timestamp = |octets: &[u8; 8]| NtpTimestamp::from_bits(u64::from_be_bytes(*octets));
        Ok(Self {
            origin: timestamp(origin),
            receive: timestamp(receive),
            transmit: timestamp(transmit),
            leap: LeapIndicator::from_first_octet(first),
            stratum,
            precision: i8::from_be_bytes([precision]),
            root_delay: NtpShort::from_bits(u32::from_be_bytes(delay)),
            root_dispersion: NtpShort::from_bits(u32::from_be_bytes([d0, d1, d2, d3])),
            reference_id,
        })
    }

    /// A stratum of 0 makes the reference id a code.
    pub(super) fn kiss(&self) -> Option<Kiss> {
        match (self.stratum, &self.reference_id) {
            (0, b"RATE") => Some(Kiss::Rate),
            (0, b"DENY" | b"RSTR") => Some(Kiss::Deny),
            _ => None,
        }
    }

    /// What the server says of itself, where it vouches for its time; `own` are the reference ids that mean us.
    pub(super) fn vouched(&self, own: &[[u8; 4]]) -> Result<Vouched, Refusal> {
        let leap = match self.leap {
            LeapIndicator::None => LeapClaim::None,
            LeapIndicator::Insert => LeapClaim::Insert,
            LeapIndicator::Delete => LeapClaim::Delete,
            LeapIndicator::Unsynchronised => return Err(Refusal::Unsynchronised),
        };
        if !(1..=STRATUM_MAX).contains(&self.stratum) {
            return Err(Refusal::Unsynchronised);
        }
        let (root_delay, root_dispersion) = (self.root_delay.to_span(), self.root_dispersion.to_span());
        if half(root_delay) + root_dispersion >= ROOT_DISTANCE_MAX {
            return Err(Refusal::RootDistance);
        }
        if self.receive == NtpTimestamp::ZERO || self.transmit == NtpTimestamp::ZERO {
            return Err(Refusal::ZeroTimestamp);
        }
        // At stratum 1 a reference id is a name, which may have the octets of any address.
        if self.stratum > 1 && own.contains(&self.reference_id) {
            return Err(Refusal::Loop);
        }
        Ok(Vouched {
            precision: self.precision,
            root_delay,
            root_dispersion,
            stratum: self.stratum,
            reference_id: self.reference_id,
            leap,
        })
    }
}

/// The four stamps of an exchange: ours on the counter, the server's in its own UTC, whose era isn't known yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FourStamps {
    pub(super) sent: Ticks,
    pub(super) receive: NtpTimestamp,
    pub(super) transmit: NtpTimestamp,
    pub(super) received: Ticks,
    /// How far `sent` and `received` can be off.
    pub(super) error: Span,
}

impl FourStamps {
    /// The sample that they make (RFC 5905 §8). With both ways equally long the server's time at the middle of our
    /// stamps is the middle of its own, so the counter's length of a tick matters for the delay only.
    pub(super) fn measure(
        &self,
        server: &Vouched,
        rate: Rate,
        pivot: Instant<Utc>,
    ) -> Result<Exchange, Refusal> {
        let ticks = self.received.since(self.sent);
        let round_trip = rate.span_of(ticks);
        if round_trip > ROUND_TRIP_MAX {
            return Err(Refusal::Late);
        }
        let spent = self.transmit.since(self.receive);
        let delay = round_trip - spent;
        if ticks < 0 || spent < -DELAY_BELOW_ZERO_MAX || delay < -DELAY_BELOW_ZERO_MAX {
            return Err(Refusal::Backwards);
        }
        // A tick, because the middle may lie within one.
        let granularity = precision(server.precision) + self.error + rate.span_of(1);
        // What is missing for a delay of zero is an error of the stamps.
        let below_zero = Span::ZERO.max(-delay).max(-spent);
        let utc = self.receive.to_utc(pivot) + half(spent);
        Ok(Exchange {
            at: self.sent.offset(ticks / 2),
            utc,
            delay: delay.max(granularity),
            dispersion: granularity + DRIFT.over(round_trip) + below_zero,
            root_delay: server.root_delay,
            root_dispersion: server.root_dispersion,
            stratum: server.stratum,
            reference_id: server.reference_id,
            leap: server.leap,
        })
    }
}

/// Half of a span, rounded towards minus infinity by at most 2⁻⁶⁴ s.
pub(super) const fn half(span: Span) -> Span {
    Span::from_raw(span.raw() >> 1)
}

/// A server's precision; one that claims less than 2⁻³² s is taken at that, one of more than a second at a second.
fn precision(log2_s: i8) -> Span {
    const FINEST: i8 = -32;
    Span::from_raw(1 << (64 + i32::from(log2_s.clamp(FINEST, 0))))
}
