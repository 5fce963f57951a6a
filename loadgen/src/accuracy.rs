//! How far a server's timestamps are from the truth, when both ends share a clock.
//!
//! Of a request that asked for it, the kernel says when it left (T1) and when its reply arrived (T4); the server says
//! when it received (T2) and when it sent (T3). On one machine all four are of one clock, so that T2 − T1 and T4 − T3 are
//! the server's errors and the way, and ((T2 − T1) + (T3 − T4)) / 2 is the offset that a client would wrongly compute
//! (RFC 5905 §8). An interleaved reply's T3 belongs to the exchange before (RFC 9769 §2).
//!
//! No allocation after construction. Samples whose transmit stamp never comes are overwritten.

use crate::clock::later_ns;
use crate::mix::Previous;
use crate::outcome::Outcome;
use maser_core::time::NtpTimestamp;

/// Samples that may wait for their second half; transmit stamps come within microseconds, replies within the timeout.
const WAITING_MAX: u64 = 1 << 14;

/// A valid reply to a request.
#[derive(Clone, Copy, Debug)]
pub struct Replied {
    /// The request.
    pub number: u64,
    /// Who sent it.
    pub client: u32,
    /// The reply is in interleaved mode.
    pub interleaved: bool,
    /// T2.
    pub receive: NtpTimestamp,
    /// T3, in interleaved mode of the reply before.
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

/// A client's last exchange, of which an interleaved reply tells the transmit stamp afterwards.
#[derive(Clone, Copy, Debug, Default)]
struct Exchange {
    /// The newest transmit stamp, and the request that it is of: often one that isn't replied to yet.
    newest_sent: Option<(u64, i64)>,
    /// The request that was last replied to.
    replied: Option<u64>,
    /// The first request that named this exchange; those before it named an older one.
    named_from: Option<u64>,
    /// T1, T2 and T4 of the exchange.
    sent_ns: Option<i64>,
    receive: NtpTimestamp,
    arrived_ns: Option<i64>,
}

/// The samples of a thread.
#[derive(Debug)]
pub struct Accuracy {
    /// Of so many requests, or clients, one is sampled; 0 samples none.
    every: u64,
    samples: Box<[Sample]>,
    /// By client, where replies may be interleaved; else empty.
    exchanges: Box<[Exchange]>,
}

impl Accuracy {
    /// Samples nothing yet. `clients` is not 0 if they keep their last exchange.
    #[must_use]
    pub fn new(clients: u32) -> Self {
        let exchanges = usize::try_from(clients).expect("an address space of 64 bits");
        Self {
            every: 0,
            samples: vec![Sample::default(); usize::try_from(WAITING_MAX).expect("a constant")].into(),
            exchanges: vec![Exchange::default(); exchanges].into(),
        }
    }

    /// From now on at most `stamps_per_s` samples a second of what a thread sends at `rate_per_s`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float conversions saturate")]
    pub fn pace(&mut self, stamps_per_s: f64, rate_per_s: f64) {
        self.every = if stamps_per_s <= 0.0 { 0 } else { (rate_per_s / stamps_per_s).ceil().max(1.0) as u64 };
        // Odd, so that it shares no factor with batches, sockets and variants, and all of them are met.
        self.every |= u64::from(self.every > 0);
    }

    /// Whether to ask for the transmit stamp of request `number` of `client`.
    #[must_use]
    pub fn wants(&self, number: u64, client: u32) -> bool {
        let sampled = if self.exchanges.is_empty() { number } else { client.into() };
        self.every != 0 && sampled.is_multiple_of(self.every)
    }

    /// The last exchange of a client, for its next request `number`, which carries `receive_cookie` as its receive
    /// timestamp.
    #[must_use]
    pub fn previous(&mut self, client: u32, number: u64, receive_cookie: u64) -> Option<Previous> {
        let exchange = self.exchanges.get_mut(index(client)).filter(|exchange| exchange.replied.is_some())?;
        exchange.named_from.get_or_insert(number);
        Some(Previous { server_receive: exchange.receive.bits(), receive_cookie })
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
    pub fn sent(&mut self, number: u64, client: u32, sent_ns: i64, outcome: &mut Outcome) {
        if let Some(exchange) = self.exchanges.get_mut(index(client)) {
            exchange.newest_sent = Some((number, sent_ns));
            if exchange.replied == Some(number) {
                exchange.sent_ns = Some(sent_ns);
            }
        }
        let sample = self.sample(number);
        sample.sent_ns = Some(sent_ns);
        let sample = *sample;
        complete(&sample, outcome);
    }

    /// A valid reply has come.
    pub fn replied(&mut self, reply: &Replied, outcome: &mut Outcome) {
        if reply.interleaved {
            self.interleaved(reply, outcome);
        } else if let Some(arrived_ns) = reply.arrived_ns
            && self.wants(reply.number, reply.client)
        {
            let sample = self.sample(reply.number);
            sample.replied = Some((reply.receive, reply.transmit, arrived_ns));
            let sample = *sample;
            complete(&sample, outcome);
        }
        if let Some(exchange) = self.exchanges.get_mut(index(reply.client)) {
            let newest = exchange.newest_sent;
            *exchange = Exchange {
                newest_sent: newest,
                replied: Some(reply.number),
                named_from: None,
                sent_ns: newest.filter(|(number, _)| *number == reply.number).map(|(_, sent_ns)| sent_ns),
                receive: reply.receive,
                arrived_ns: reply.arrived_ns,
            };
        }
    }

    /// An interleaved reply completes the exchange that its request named.
    fn interleaved(&self, reply: &Replied, outcome: &mut Outcome) {
        let Some(before) = self.exchanges.get(index(reply.client)) else { return };
        // With several requests under way, this one may have named an exchange before the last.
        if before.named_from.is_none_or(|first| reply.number < first) {
            return;
        }
        if let (Some(sent_ns), Some(arrived_ns)) = (before.sent_ns, before.arrived_ns) {
            record(sent_ns, before.receive, reply.transmit, arrived_ns, outcome);
        }
    }
}

fn index(client: u32) -> usize {
    usize::try_from(client).unwrap_or(usize::MAX)
}

/// Records a sample once both its halves are there; each half comes once.
fn complete(sample: &Sample, outcome: &mut Outcome) {
    if let (Some(sent_ns), Some((receive, transmit, arrived_ns))) = (sample.sent_ns, sample.replied) {
        record(sent_ns, receive, transmit, arrived_ns, outcome);
    }
}

fn record(
    sent_ns: i64,
    receive: NtpTimestamp,
    transmit: NtpTimestamp,
    arrived_ns: i64,
    outcome: &mut Outcome,
) {
    let there_ns = later_ns(receive, sent_ns);
    let back_ns = later_ns(transmit, arrived_ns).saturating_neg();
    outcome.receive_error_ns.record(there_ns);
    outcome.transmit_error_ns.record(back_ns);
    outcome.offset_error_ns.record(there_ns.saturating_sub(back_ns) / 2);
}
