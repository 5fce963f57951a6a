//! How far a server's timestamps are from the truth, when both ends share a clock.
//!
//! Of a request that asked for it, the kernel says when it left (T1) and when its reply arrived (T4); the server says
//! when it received (T2) and when it sent (T3). On one machine all four are of one clock, so that T2 − T1 and T4 − T3 are
//! the server's errors and the way, and ((T2 − T1) + (T3 − T4)) / 2 is the offset that a client would wrongly compute
//! (RFC 5905 §8). An interleaved reply's T3 belongs to an exchange before (RFC 9769 §2), whose other stamps
//! [`Conversations`](crate::conversations::Conversations) keeps; the transmit errors of these are told apart, and every
//! interleaved reply's is recorded, sampled or not.
//!
//! No allocation after construction. Samples whose transmit stamp never comes are overwritten.

use crate::clock::later_ns;
use crate::conversations::Exchange;
use crate::outcome::Outcome;
use maser_core::time::NtpTimestamp;

/// Samples that may wait for their second half; transmit stamps come within microseconds, replies within the timeout.
const WAITING_MAX: u64 = 1 << 14;

/// A valid reply to a request.
#[derive(Clone, Copy, Debug)]
pub struct Replied {
    /// The request.
    pub number: u64,
    /// T2.
    pub receive: NtpTimestamp,
    /// T3, in interleaved mode of the exchange that the request named.
    pub transmit: NtpTimestamp,
    /// T4 by the kernel, in nanoseconds since 1970.
    pub arrived_ns: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    number: u64,
    sent_ns: Option<i64>,
    replied: Option<(NtpTimestamp, NtpTimestamp, i64)>,
}

/// The samples of a thread.
#[derive(Debug)]
pub struct Accuracy {
    /// Of so many requests, or interleaving clients, one is sampled; 0 samples none.
    every: u64,
    samples: Box<[Sample]>,
}

impl Default for Accuracy {
    fn default() -> Self {
        Self::new()
    }
}

impl Accuracy {
    /// Samples nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let length = usize::try_from(WAITING_MAX).expect("a constant");
        Self { every: 0, samples: vec![Sample::default(); length].into() }
    }

    /// From now on at most `stamps_per_s` samples a second of what a thread sends at `rate_per_s`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float conversions saturate")]
    pub fn pace(&mut self, stamps_per_s: f64, rate_per_s: f64) {
        self.every = if stamps_per_s <= 0.0 { 0 } else { (rate_per_s / stamps_per_s).ceil().max(1.0) as u64 };
        // Odd, so that it shares no factor with batches, sockets and variants, and all of them are met.
        self.every |= u64::from(self.every > 0);
    }

    /// Whether to ask for the transmit stamp of a request, by its number, or where its client interleaves by the client's
    /// place: a reply tells of an exchange before, so whole conversations are sampled.
    #[must_use]
    pub const fn wants(&self, number_or_place: u64) -> bool {
        self.every != 0 && number_or_place.is_multiple_of(self.every)
    }

    fn sample(&mut self, number: u64) -> &mut Sample {
        let place = (number / self.every.max(1)) % WAITING_MAX;
        let sample = &mut self.samples[usize::try_from(place).expect("below WAITING_MAX")];
        if sample.number != number {
            *sample = Sample { number, ..Sample::default() };
        }
        sample
    }

    /// The kernel says when a request left.
    pub fn sent(&mut self, number: u64, sent_ns: i64, outcome: &mut Outcome) {
        let sample = self.sample(number);
        sample.sent_ns = Some(sent_ns);
        let sample = *sample;
        complete(&sample, outcome);
    }

    /// A valid basic reply to a request that was sampled has come.
    pub fn basic(&mut self, reply: &Replied, outcome: &mut Outcome) {
        if let Some(arrived_ns) = reply.arrived_ns {
            let sample = self.sample(reply.number);
            sample.replied = Some((reply.receive, reply.transmit, arrived_ns));
            let sample = *sample;
            complete(&sample, outcome);
        }
    }

    /// An interleaved reply has come, of which `transmit` completes the exchange that its request named.
    pub fn interleaved(&self, transmit: NtpTimestamp, named: &Exchange, outcome: &mut Outcome) {
        let Some(arrived_ns) = named.arrived_ns.filter(|_| self.every != 0) else { return };
        let back_ns = back_ns(transmit, arrived_ns);
        outcome.interleaved_transmit_error_ns.record(back_ns);
        if let Some(sent_ns) = named.sent_ns {
            record_offset(later_ns(named.receive, sent_ns), back_ns, outcome);
        }
    }
}

/// Records a sample once both its halves are there; each half comes once.
fn complete(sample: &Sample, outcome: &mut Outcome) {
    if let (Some(sent_ns), Some((receive, transmit, arrived_ns))) = (sample.sent_ns, sample.replied) {
        let back_ns = back_ns(transmit, arrived_ns);
        outcome.transmit_error_ns.record(back_ns);
        record_offset(later_ns(receive, sent_ns), back_ns, outcome);
    }
}

/// T4 − T3: how early the transmit timestamp is, the way back included.
fn back_ns(transmit: NtpTimestamp, arrived_ns: i64) -> i64 {
    later_ns(transmit, arrived_ns).saturating_neg()
}

fn record_offset(there_ns: i64, back_ns: i64, outcome: &mut Outcome) {
    outcome.receive_error_ns.record(there_ns);
    outcome.offset_error_ns.record(there_ns.saturating_sub(back_ns) / 2);
}
