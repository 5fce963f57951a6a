//! What becomes of a request: the one place where a reply's header is put together.

use super::{Reply, ReplyMode};
use crate::snapshot::ClockHeader;
use crate::time::NtpTimestamp;
use crate::wire::{DropReason, Request, RequestMode};

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is answered with the time.
    Answer(Reply),
    /// It is answered, and told that the clock isn't synchronised.
    AnswerUnsynchronised(Reply),
    /// It gets silence.
    Drop(DropReason),
}

/// Answers a request from the clock's header and the moment it arrived.
///
/// A client gets mode 4; a symmetric peer gets mode 2 and never an association (RFC 8633 §5.6). Everything that
/// isn't the client's own comes from the snapshot or from a stamp.
#[must_use]
#[inline]
pub const fn decide(request: &Request, clock: &ClockHeader, receive: NtpTimestamp) -> Verdict {
    let reply = Reply {
        leap: clock.leap,
        version: request.version,
        mode: match request.mode {
            RequestMode::Client => ReplyMode::Server,
            RequestMode::SymmetricActive => ReplyMode::SymmetricPassive,
        },
        stratum: clock.stratum,
        poll: request.poll,
        precision: clock.precision,
        root_delay: clock.root_delay,
        root_dispersion: clock.root_dispersion,
        reference_id: clock.reference_id,
        reference_time: clock.reference_time,
        origin: request.transmit,
        receive,
    };
    if clock.stratum == 0 { Verdict::AnswerUnsynchronised(reply) } else { Verdict::Answer(reply) }
}

/// The transmit timestamp at `now` of a reply whose receive timestamp is `receive`.
///
/// Its lowest bit is 0 where the receive timestamp's is 1 ([`ReceiveStamps`](super::ReceiveStamps)), so the two
/// are never equal (RFC 9769 asks for that); it never precedes the receive timestamp, nor is it 0 ("unknown").
#[must_use]
#[inline]
pub const fn transmit_after(receive: NtpTimestamp, now: NtpTimestamp) -> NtpTimestamp {
    let bits = now.bits() & !1;
    let late_enough = now.since(receive).raw() > 0 && bits != receive.bits();
    if late_enough && bits != 0 {
        NtpTimestamp::from_bits(bits)
    } else {
        let next = receive.bits().wrapping_add(1);
        NtpTimestamp::from_bits(if next == 0 { 2 } else { next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_transmit_time_is_never_zero_even_when_the_era_turns() {
        let last = NtpTimestamp::from_bits(u64::MAX);
        assert_eq!(transmit_after(last, NtpTimestamp::from_bits(0)).bits(), 2);
        assert_eq!(transmit_after(last, NtpTimestamp::from_bits(1)).bits(), 2);
        assert_eq!(transmit_after(last, last).bits(), 2);
        assert_eq!(transmit_after(last, NtpTimestamp::from_bits(9)).bits(), 8);
    }

    proptest! {
        #[test]
        fn transmit_follows_receive(receive in any::<u64>(), later in -100_i64..1_000_000_000) {
            let receive = NtpTimestamp::from_bits(receive | 1);
            let now = NtpTimestamp::from_bits(receive.bits().wrapping_add_signed(later));
            let transmit = transmit_after(receive, now);
            prop_assert_eq!(transmit.bits() & 1, 0);
            prop_assert!(transmit.since(receive).raw() > 0);
            prop_assert!(transmit.bits() != 0);
            // Not moved by more than is needed.
            if later > 2 {
                prop_assert!((transmit.since(now)).abs().raw() <= 2 << 32);
            }
        }
    }
}
