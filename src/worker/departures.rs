//! When replies really left: what a worker asks its port for, hears afterwards, and does with it.
//!
//! Asked are those to clients that interleave, for their next reply to tell (RFC 9769), and a few of all in every
//! [`SAMPLED_EVERY`], for transmit timestamps to come. Departures are heard once a batch, and by a worker that waits.

use super::Clocks;
use super::nics::Nics;
use crate::count::{Counts, Event};
use crate::port::Port;
use maser_core::reply::interleaved::{Client, Set, sets_for};
use maser_core::reply::outstanding::{Asked, Left, Slot, Written};
use maser_core::reply::{Departure, Outstanding, Pairs, Reply, may_interleave};
use maser_core::time::{ClockReading, NtpTimestamp, Rate, Span, StampConverter, Ticks};
use maser_core::wire::Request;
use maser_sys::datagram::{Departed, Wait};
use std::io;
use std::time::Duration;

/// How often a departure is asked for to learn from. More tell no more: what sends take changes slower than that.
const SAMPLED_EVERY: Span = Span::from_nanos(20_000_000);

/// So many batches in a row are asked then, and only from the last it is learnt: asking takes code and memory that nothing else
/// warms, in this program and in the kernel. The first leaves later than replies that nobody asks about, and it is
/// these that are corrected. Where batches come more rarely than that, nobody's are warm.
const WARM: usize = 4;

/// What isn't told by then never will be.
const TOLD_WITHIN: Span = Span::from_seconds(2);

/// A worker that has nothing else to do looks for departures after so long, and after twice as long each time: the
/// younger a stamp is when it is told, the less it matters what somebody does to its clock meanwhile.
const PATIENCE: Duration = Duration::from_millis(1);

/// Replies outstanding that there is room for, for each of a batch: some ports tell of a batch only after the next ones.
const OUTSTANDING_PER_REPLY: usize = 16;
const OUTSTANDING_MIN: usize = 256;

/// In a full batch one in so many may be to a client that hasn't come back before: a worker with more to do than it can
/// asks the kernel no favours for strangers.
const NEWCOMERS_PART: usize = 8;

/// What is to be done about a reply's departure, beside sending it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// What the reply says as its transmit timestamp: when the one before left. None in basic mode.
    pub(super) left: Option<NtpTimestamp>,
    /// Where it is noted that somebody wants to know when this one leaves.
    pub(super) slot: Option<usize>,
}

/// Departures asked for, heard of and used.
pub(super) struct Departures {
    pairs: Pairs<Box<[Set]>>,
    outstanding: Outstanding<Box<[Slot]>>,
    told: Vec<Departed>,
    /// What sends take.
    pub(super) sends: Departure,
    corrects: bool,
    /// What is added to the moment when a reply of this batch is foreseen to leave.
    pub(super) correction: Span,
    batch: usize,
    newcomers: usize,
    reading: Ticks,
    rate: Rate,
    /// The datagram of this batch whose reply is sampled.
    sample: Option<usize>,
    sampled_at: Ticks,
    samples: usize,
    /// So many batches up to this one were asked, each.
    in_a_row: usize,
    patience: Duration,
}

impl Departures {
    /// Nothing is asked for, in batches of at most `batch`.
    pub(super) fn new(batch: usize) -> Self {
        let slots = (OUTSTANDING_PER_REPLY * batch).max(OUTSTANDING_MIN);
        Self {
            pairs: table(0, 0),
            outstanding: Outstanding::new(vec![Slot::EMPTY; slots].into_boxed_slice()),
            told: Vec::with_capacity(slots),
            sends: Departure::new(),
            corrects: false,
            correction: Span::ZERO,
            batch,
            newcomers: 0,
            reading: Ticks::default(),
            rate: Rate::default(),
            sample: None,
            sampled_at: Ticks::default(),
            samples: 0,
            in_a_row: 0,
            patience: PATIENCE,
        }
    }

    /// Makes room for so many clients that interleave.
    pub(super) fn interleave(&mut self, clients: usize, key: u64) {
        self.pairs = table(clients, key);
    }

    /// Whether transmit timestamps say when replies are likely to leave, rather than when they were written.
    pub(super) const fn correct(&mut self, corrects: bool) {
        self.corrects = corrects;
    }

    /// A batch of `received` datagrams begins with this reading of the counter; `rate` is known if the time is.
    pub(super) fn begin_batch(&mut self, received: usize, reading: Ticks, rate: Option<Rate>) {
        self.reading = reading;
        self.sample = None;
        self.newcomers = if received < self.batch { received } else { (self.batch / NEWCOMERS_PART).max(1) };
        let Some(rate) = rate else { return };
        self.rate = rate;
        let is_due = rate.span_of(reading.since(self.sampled_at)).abs() >= SAMPLED_EVERY;
        if !is_due && !(1..WARM).contains(&self.in_a_row) {
            self.in_a_row = 0;
        } else if self.corrects {
            // Each time another place in the batch: those at the end have waited for others.
            self.sample = self.samples.checked_rem(received);
        }
    }

    /// What becomes of the departure of `reply`, which answers datagram `index` with the time; in interleaved mode the
    /// reply is another.
    #[inline]
    pub(super) fn want(
        &mut self,
        (index, request): (usize, &Request),
        reply: Reply,
        (smeared, generation): (bool, u32),
        counts: &Counts,
    ) -> (Reply, Wanted) {
        let client = (may_interleave(request) && self.pairs.is_on())
            .then(|| self.pairs.client(request.client, smeared, generation));
        let sampled = self.sample == Some(index);
        if client.is_none() && !sampled {
            return (reply, Wanted::default());
        }
        let left = client.and_then(|client| self.pairs.take(&client, request.origin));
        let client = client.filter(|_| left.is_some() || self.is_welcome());
        let client = client.map(|client| (client, left.is_some()));
        let slot = self.ask(reply.receive, client, sampled);
        counts.events(Event::DepartureAsked, u64::from(slot.is_some()));
        let reply = if left.is_some() { reply.interleaved(request) } else { reply };
        (reply, Wanted { left, slot })
    }

    /// Whether there is time for one more client that hasn't come back before.
    const fn is_welcome(&mut self) -> bool {
        let welcome = self.newcomers > 0;
        self.newcomers = self.newcomers.saturating_sub(1);
        welcome
    }

    fn ask(&mut self, receive: NtpTimestamp, client: Option<(Client, bool)>, sampled: bool) -> Option<usize> {
        if client.is_none() && !sampled {
            return None;
        }
        let is_warm = self.in_a_row + 1 >= WARM;
        let slot =
            self.outstanding.ask(Asked { receive, client, sampled: sampled && is_warm }, self.reading)?;
        if sampled {
            self.in_a_row += 1;
            self.samples = self.samples.wrapping_add(usize::from(is_warm));
            self.sampled_at = self.reading;
        }
        self.patience = PATIENCE;
        Some(slot)
    }

    /// Looks up what is to be added in this batch.
    pub(super) fn begin_sending(&mut self) {
        self.correction = if self.corrects { self.sends.correction() } else { Span::ZERO };
    }

    /// The reply at `slot` was written just now.
    #[inline]
    pub(super) fn written(&mut self, slot: usize, written: Written) {
        self.outstanding.written(slot, written);
    }

    /// The batch isn't sent.
    pub(super) fn forget(&mut self) {
        self.outstanding.forget();
    }

    /// How long a worker may wait that would wait so.
    pub(super) fn wait(&self, wait: Wait) -> Wait {
        match wait {
            Wait::Until(limit) if !self.outstanding.is_empty() => Wait::Until(limit.min(self.patience)),
            Wait::Until(_) | Wait::Poll => wait,
        }
    }

    /// Hears what the port knows by now, after a batch or while nothing came.
    ///
    /// # Errors
    /// When the port has failed for good.
    pub(super) fn hear<P: Port, C: Clocks>(
        &mut self,
        port: &mut P,
        clocks: &C,
        (stamps, nics): (&mut StampConverter, &mut Nics),
        counts: &Counts,
    ) -> io::Result<()> {
        if self.outstanding.is_empty() {
            return Ok(());
        }
        let told = &mut self.told;
        told.clear();
        // No more is told than is outstanding, but by a port that says things twice.
        port.departures(|departed| {
            if told.len() < told.capacity() {
                told.push(departed);
            }
        })?;
        if self.told.is_empty() {
            self.patience = self.patience.saturating_mul(2);
            if self.rate.span_of(clocks.now().since(self.outstanding.newest())) > TOLD_WITHIN {
                self.outstanding.forget();
            }
            return Ok(());
        }
        // Later than all that was told, so that nothing lies in its future.
        let reading = clocks.reading();
        counts.events(Event::ReadingTorn, u64::from(reading.is_torn()));
        counts.events(Event::RealtimeStep, u64::from(stamps.begin_batch(reading)));
        nics.refresh();
        counts.events(Event::DepartureTold, self.told.len() as u64);
        for index in 0..self.told.len() {
            let departed = self.told[index];
            if self.learn(&departed, &reading, (stamps, nics), counts).is_none() {
                counts.event(Event::DepartureImplausible);
            }
        }
        counts.set(Event::PairEvicted, self.pairs.evicted());
        counts.set_lateness(self.sends.lateness());
        Ok(())
    }

    /// Uses what was told; none if it can't be so.
    fn learn(
        &mut self,
        departed: &Departed,
        reading: &ClockReading,
        (stamps, nics): (&StampConverter, &mut Nics),
        counts: &Counts,
    ) -> Option<()> {
        let (Asked { receive, client, sampled }, written) = self.outstanding.told(departed.name)?;
        // A torn reading may be off by more than what is looked for.
        if reading.is_torn() {
            return None;
        }
        let age = stamps.age(departed.stamp).ok();
        let age = nics.sent(departed, (reading.ticks, self.rate), age, counts).or(age)?;
        let since = self.rate.span_of(reading.ticks.since(written.at));
        let Left { at, late } = written.left(since, age)?;
        if let Some((client, returned)) = client {
            self.pairs.keep(&client, receive, at, returned);
        }
        // By what is added now: it moves slowly, and the departure is told within milliseconds.
        counts.stamp_error_ns((late - self.correction).abs().as_nanos().unsigned_abs());
        if sampled {
            self.sends.learn_late(late);
        }
        Some(())
    }
}

/// All memory is allocated, and written, here.
fn table(clients: usize, key: u64) -> Pairs<Box<[Set]>> {
    Pairs::new(vec![Set::EMPTY; sets_for(clients)].into_boxed_slice(), key)
}
