//! The packet flow: a worker's batch loop, from datagrams in to datagrams out.
//!
//! Each line of [`Worker::batch`] calls one module of the core, in the order in which a packet meets them. Nothing
//! here allocates, locks, formats, logs, or calls the system for a single packet.

mod clocks;
mod departures;
mod gate;
mod limit;
mod nics;

pub use self::clocks::Clocks;
pub use self::limit::{Limits, Lists};
pub use self::nics::WorkerNic;

use self::departures::{Departures, Wanted};
use self::gate::Gate;
use self::limit::{Admission, Limiting};
use self::nics::Nics;
use crate::clients::Tap;
use crate::config::Idle;
use crate::count::{Counts, Event};
use crate::port::Port;
use crate::splits::SplitWatch;
use maser_core::reply::outstanding::Written;
use maser_core::reply::{Prepared, ReceiveStamps, Verdict, decide, rewrite, stamp, transmit_after};
use maser_core::snapshot::{ClockHeader, Snapshot};
use maser_core::time::{ClockReading, Instant, NtpTimestamp, Smear, Smeared, Span, StampConverter, Tai};
use maser_core::wire::{DropReason, Request, parse_datagram, parse_frame};
use maser_sys::datagram::{Carried, Outgoing, Wait};
use maser_sys::snapshot_cell::{Lapped, Reader};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A blocked worker looks this often whether it should stop.
const STOP_CHECKED_EVERY: Duration = Duration::from_millis(100);

/// A stopping worker answers what is queued, but at most so many datagrams: more keep coming under a flood.
const DRAIN_MAX: usize = 65_536;

/// A batch whose worker was stopped for longer isn't sent: what its headers say was true when it was begun.
const BATCH_AGE_MAX: Span = Span::from_nanos(100_000_000);

/// Which listeners smear leap seconds, and how: those over a port's last sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Smearing {
    /// How.
    pub smear: Smear,
    /// The first of those sockets.
    pub first_socket: u16,
}

/// What all replies of a batch are made from.
struct Moment {
    snapshot: Snapshot,
    reading: ClockReading,
    header: ClockHeader,
    /// What listeners that smear leap seconds say instead.
    smeared: ClockHeader,
}

/// A reply that waits for its transmit stamp; what is none isn't known yet, or nothing is of the time.
#[derive(Clone, Copy)]
struct Waiting {
    prepared: Prepared,
    /// It goes out from a listener that smears leap seconds.
    smeared: bool,
    /// From the receive to the transmit stamp.
    residence_ns: Option<u64>,
    received_at: Option<Instant<Tai>>,
    receive: NtpTimestamp,
    wanted: Wanted,
    kissed: bool,
}

/// One pinned thread's part of the packet flow.
pub struct Worker<'a, P, C> {
    port: P,
    snapshots: Reader,
    clocks: C,
    counts: &'a Counts,
    stamps: StampConverter,
    receive_stamps: ReceiveStamps,
    smearing: Option<Smearing>,
    smeared_stamps: ReceiveStamps<Smeared>,
    splits: Option<SplitWatch>,
    clients: Tap,
    departures: Departures,
    nics: Nics,
    limiting: Limiting,
    /// By index in the batch; none for what is dropped unread.
    requests: Box<[Option<Request>]>,
    /// By index in the batch.
    waiting: Box<[Option<Waiting>]>,
    gate: Gate,
}

impl<'a, P: Port, C: Clocks> Worker<'a, P, C> {
    /// A worker over `port`, whose batches hold at most `batch` datagrams. All memory is allocated here.
    pub fn new(port: P, snapshots: Reader, clocks: C, counts: &'a Counts, batch: usize) -> Self {
        Self {
            port,
            snapshots,
            clocks,
            counts,
            stamps: StampConverter::new(),
            receive_stamps: ReceiveStamps::new(),
            smearing: None,
            smeared_stamps: ReceiveStamps::new(),
            splits: None,
            clients: Tap::unheard(),
            departures: Departures::new(batch),
            nics: Nics::new(Vec::new()),
            limiting: Limiting::new(batch),
            requests: vec![None; batch].into_boxed_slice(),
            waiting: vec![None; batch].into_boxed_slice(),
            gate: Gate::new(batch),
        }
    }

    /// The same worker, some of whose listeners smear leap seconds; none of them for none.
    #[must_use]
    pub fn smearing(mut self, smearing: Option<Smearing>) -> Self {
        self.smearing = smearing;
        self
    }

    /// The same worker, which notices clients that others answer, too; none where nobody else can.
    #[must_use]
    pub fn noticing_splits(mut self, splits: Option<SplitWatch>) -> Self {
        self.splits = splits;
        self
    }

    /// The same worker, which tells what became of whose requests.
    #[must_use]
    pub fn telling(mut self, clients: Tap) -> Self {
        self.clients = clients;
        self
    }

    /// The same worker, which interleaves with so many clients at a time (RFC 9769); none for 0. Nobody outside may know
    /// `key`. The memory, about 60 octets a client, is allocated here.
    #[must_use]
    pub fn interleaving(mut self, clients: usize, key: u64) -> Self {
        self.departures.interleave(clients, key);
        self
    }

    /// The same worker, whose transmit timestamps say when replies are likely to leave, as far as its port tells when
    /// they did, and not when they were written.
    #[must_use]
    pub fn correcting(mut self, corrects: bool) -> Self {
        self.departures.correct(corrects);
        self
    }

    /// The same worker, which believes the stamps of these NICs where they can be true.
    #[must_use]
    pub fn believing(mut self, nics: Vec<WorkerNic>) -> Self {
        self.nics = Nics::new(nics);
        self
    }

    /// The same worker, which answers nobody more often than `limits` allow, none for everybody as often as they ask; and which
    /// tells the program in front of its port, where there is one, how much to drop.
    ///
    /// # Panics
    /// If the table of the limits is smaller than 64 KiB or larger than 16 GiB.
    #[must_use]
    pub fn limiting(mut self, limits: Option<Limits>) -> Self {
        if let Some(limits) = limits {
            self.limiting.limit(limits);
        }
        self
    }

    /// The same worker, which answers those alone who may ask.
    #[must_use]
    pub fn asked_by(mut self, lists: Lists) -> Self {
        self.limiting.ask(lists);
        self
    }

    /// Answers until `stop`, then what is already queued.
    ///
    /// # Errors
    /// When the port has failed for good.
    pub fn run(&mut self, idle: Idle, stop: &AtomicBool) -> io::Result<()> {
        let wait = match idle {
            Idle::Block => Wait::Until(STOP_CHECKED_EVERY),
            Idle::Spin => Wait::Poll,
        };
        while !stop.load(Ordering::Relaxed) {
            self.batch(wait)?;
        }
        self.drain()?;
        self.port.close();
        self.drain()
    }

    fn drain(&mut self) -> io::Result<()> {
        let mut drained = 0;
        while drained < DRAIN_MAX
            && let received @ 1.. = self.batch(Wait::Poll)?
        {
            drained += received;
        }
        Ok(())
    }

    /// Receives a batch and answers it; gives the number of datagrams received.
    ///
    /// # Errors
    /// When the port has failed for good.
    pub fn batch(&mut self, wait: Wait) -> io::Result<usize> {
        let received = self.port.receive(self.departures.wait(wait))?;
        self.counts.set(Event::ReceiveFailed, self.port.receive_failures());
        if received == 0 {
            self.counts.set_frames_missing(self.port.frames_missing());
            self.limiting.rest(&mut self.port, || self.clocks.reading().monotonic_ns);
            self.hear_departures()?;
            return Ok(0);
        }
        self.counts.event(Event::Batch);
        let snapshot = self.read_snapshot();
        let reading = self.read_clocks();
        let header = snapshot.header_at(reading.ticks, self.clocks.span_of(reading.error_ticks));
        let smeared = self
            .smearing
            .map_or(header, |Smearing { smear, .. }| snapshot.smeared(&header, reading.ticks, &smear));
        let moment = Moment { snapshot, reading, header, smeared };
        self.nics.refresh();
        self.departures.begin_batch(received, reading.ticks, snapshot.line.map(|line| line.rate));
        self.limiting.begin_batch(&mut self.port, reading.monotonic_ns, self.counts);

        self.gate.clear();
        for index in 0..received {
            self.requests[index] = self.read(index).inspect_err(|reason| self.counts.drop(*reason)).ok();
        }
        // Entries that aren't in a cache come together.
        self.limiting.touch(received);
        for index in 0..received {
            if let Some(request) = self.requests[index]
                && let Verdict::Drop(reason) = self.answer(index, &request, &moment)
            {
                self.counts.drop(reason);
            }
        }
        self.limiting.count(self.counts);
        self.counts.set(Event::StampMoved, self.receive_stamps.moved() + self.smeared_stamps.moved());
        if self.is_overtaken(&moment) {
            self.counts.event(Event::BatchOvertaken);
            self.departures.forget();
        } else {
            self.send(&moment)?;
        }
        self.hear_departures()?;
        Ok(received)
    }

    /// Parses datagram `index`, and notes whose it is.
    #[inline]
    fn read(&mut self, index: usize) -> Result<Request, DropReason> {
        let (arrival, bytes) = self.port.datagram(index);
        if !arrival.whole {
            return Err(DropReason::TooLong);
        }
        let request = match arrival.carried {
            Carried::Datagram(peer) => parse_datagram(bytes, &peer)?,
            Carried::Frame { service_port } => parse_frame(bytes, service_port)?,
        };
        self.limiting.note(index, request.client);
        Ok(request)
    }

    /// Decides what becomes of datagram `index` and, where that is a reply, writes it over the request.
    #[inline]
    fn answer(&mut self, index: usize, request: &Request, moment: &Moment) -> Verdict {
        let (arrival, bytes) = self.port.datagram(index);
        let admission = self.limiting.decide(index, request, arrival.weight);
        admission.tell(&self.clients, request.client, arrival.weight);
        let kiss = match admission {
            Admission::Answered => None,
            Admission::Kissed(kiss) => Some(kiss),
            Admission::Refused(reason) => return Verdict::Drop(reason),
        };
        let age = self.stamps.age(arrival.stamp).unwrap_or_else(|fault| {
            self.counts.event(fault.into());
            Span::ZERO
        });
        let Moment { snapshot, reading, .. } = moment;
        let nics_age = snapshot
            .line
            .and_then(|line| self.nics.received(&arrival, (reading.ticks, line.rate), age, self.counts));
        let age = nics_age.unwrap_or(age);
        let smearing = self.smearing.as_ref().filter(|smearing| arrival.socket >= smearing.first_socket);
        let arrived_at = snapshot.line.map(|line| line.at(reading.ticks) - age);
        let (received_at, receive) = match (arrived_at, smearing) {
            (None, _) => (None, NtpTimestamp::ZERO),
            (Some(tai), None) => {
                let tai = self.receive_stamps.hand_out(tai, snapshot.generation);
                (Some(tai), snapshot.ntp(tai))
            }
            (Some(tai), Some(Smearing { smear, .. })) => {
                let smeared = smear.at(&snapshot.leap, tai);
                (Some(tai), self.smeared_stamps.hand_out(smeared, snapshot.generation).ntp())
            }
        };
        let smeared = smearing.is_some();
        let header = if smeared { &moment.smeared } else { &moment.header };
        let verdict = decide(request, header, receive);
        let (reply, wanted) = match (verdict, kiss) {
            (Verdict::Answer(reply) | Verdict::AnswerUnsynchronised(reply), Some(kiss)) => {
                (reply.kiss(kiss, self.limiting.poll()), Wanted::default())
            }
            (Verdict::Answer(reply), None) => {
                let said = (smeared, snapshot.generation);
                self.departures.want((index, request), reply, said, self.counts)
            }
            (Verdict::AnswerUnsynchronised(reply), None) => (reply, Wanted::default()),
            (Verdict::Drop(_), _) => return verdict,
        };
        if let Some(splits) = &self.splits
            && splits.is_split(request.client)
        {
            self.counts.event(Event::SplitClient);
        }
        let received_octets = bytes.len();
        let prepared = rewrite(bytes, request, &reply);
        let name = wanted.slot.map(|_| receive.bits());
        if !self.gate.pass(index, prepared.length(), received_octets, name) {
            self.counts.event(Event::OversizeRefused);
        }
        self.waiting[index] = Some(Waiting {
            prepared,
            smeared,
            residence_ns: None,
            received_at,
            receive,
            wanted,
            kissed: kiss.is_some(),
        });
        verdict
    }

    /// Whether the clock was stepped, or too much time went by, since the batch was begun: a worker may be preempted
    /// for any length of time.
    fn is_overtaken(&self, Moment { snapshot, reading, .. }: &Moment) -> bool {
        let age = snapshot
            .line
            .map_or(Span::ZERO, |line| line.rate.span_of(self.clocks.now().since(reading.ticks)));
        // A batch that never had a snapshot is answered with "unsynchronised", which no step makes untrue.
        let stepped = snapshot.line.is_some()
            && self.snapshots.read().is_ok_and(|newest| newest.snapshot.generation != snapshot.generation);
        stepped || age > BATCH_AGE_MAX || age < Span::ZERO
    }

    /// Stamps and sends the batch's replies, each just before the system call that takes it, with the moment when it will
    /// leave.
    fn send(&mut self, Moment { snapshot, header, .. }: &Moment) -> io::Result<()> {
        if self.gate.passed().is_empty() {
            return Ok(());
        }
        let (waiting, clocks, departures) = (&mut self.waiting, &self.clocks, &mut self.departures);
        let smearing = self.smearing.as_ref();
        let (mut ahead, mut call, mut interleaved, mut kissed) = (0, None, 0, 0);
        departures.begin_sending();
        let sent = self.port.send(self.gate.passed(), |index, bytes| {
            let now = clocks.now();
            if ahead == P::SEND_CHUNK {
                ahead = 0;
            }
            if ahead == 0
                && let Some(begun) = call.replace(now)
            {
                departures.sends.learn(now.since(begun), P::SEND_CHUNK);
            }
            let waits = departures.sends.ticks_after(ahead);
            ahead += 1;
            let Some(reply) = &mut waiting[index] else { return };
            kissed += u64::from(reply.kissed);
            let (Some(line), Some(received_at)) = (snapshot.line, reply.received_at) else {
                // Nothing is known of the time: the reply says so, and zero is how a timestamp says it.
                return stamp(bytes, &reply.prepared, NtpTimestamp::ZERO);
            };
            let count = |tai| match smearing.filter(|_| reply.smeared) {
                None => snapshot.ntp(tai),
                Some(Smearing { smear, .. }) => smear.at(&snapshot.leap, tai).ntp(),
            };
            let leaves = line.at(now.offset(waits)) + departures.correction;
            reply.residence_ns = Some((leaves - received_at).as_nanos().max(0).unsigned_abs());
            if let Some(slot) = reply.wanted.slot {
                let ahead = line.rate.span_of(waits);
                departures.written(slot, Written { at: now, timestamp: count(line.at(now)), ahead });
            }
            interleaved += u64::from(reply.wanted.left.is_some());
            let basic = || transmit_after(reply.receive, count(leaves));
            stamp(bytes, &reply.prepared, reply.wanted.left.unwrap_or_else(basic));
        })?;
        if let Some(begun) = call.filter(|_| sent.failed() == 0) {
            departures.sends.learn(clocks.now().since(begun), ahead);
        }
        let waited = |reply: &Outgoing| self.waiting[usize::from(reply.index)]?.residence_ns;
        for residence_ns in self.gate.passed().iter().filter_map(waited) {
            self.counts.residence_ns(residence_ns);
        }
        let answered = if header.stratum == 0 { Event::AnsweredUnsynchronised } else { Event::Answered };
        self.counts.events(answered, (sent.sent as u64).saturating_sub(kissed));
        self.counts.events(Event::Kissed, kissed);
        self.counts.events(Event::Interleaved, interleaved);
        self.counts.events(Event::SendCongested, sent.congested as u64);
        self.counts.events(Event::SendRefused, sent.refused as u64);
        Ok(())
    }

    /// Hears what the port has to tell of replies that left.
    fn hear_departures(&mut self) -> io::Result<()> {
        let Self { port, clocks, stamps, nics, counts, departures, .. } = self;
        departures.hear(port, clocks, (stamps, nics), counts)
    }

    /// The snapshot for a batch: every reply of it is made from one generation.
    fn read_snapshot(&mut self) -> Snapshot {
        match self.snapshots.read() {
            Ok(read) => {
                self.counts.events(Event::SnapshotRetry, u64::from(read.retries));
                read.snapshot
            }
            Err(Lapped) => {
                self.counts.event(Event::SnapshotLapped);
                Snapshot::UNKNOWN
            }
        }
    }

    /// The clocks for a batch: every stamp of it is as old as this reading says.
    fn read_clocks(&mut self) -> ClockReading {
        let reading = self.clocks.reading();
        self.counts.events(Event::ReadingTorn, u64::from(reading.is_torn()));
        if self.stamps.begin_batch(reading) {
            self.counts.event(Event::RealtimeStep);
        }
        reading
    }
}

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

#[cfg(test)]
mod tests {
    use super::support::{Machine, MemoryPort, request};
    use super::*;

    /// The port would panic at one.
    #[test]
    fn a_planted_oversize_reply_is_refused_and_counted() {
        let (machine, port, counts) = (Machine::at(1_795_000_000), MemoryPort::default(), Counts::default());
        let (_cell, reader) = maser_sys::snapshot_cell::snapshot_cell(&Snapshot::UNKNOWN);
        let mut worker = Worker::new(port.worker_end(), reader, machine, &counts, 64);
        let field = [&[0xF5, 0xF5, 0, 28][..], &[0x11; 24]].concat();
        let [short, long] = [request(1).to_vec(), [&request(1)[..], &field].concat()];
        for (planted, message, passes) in
            [(0, &short, true), (1, &short, false), (28, &long, true), (29, &long, false), (0, &long, true)]
        {
            worker.gate.planted = planted;
            port.arrive(message, 1_795_000_000);
            let refused = counts.of(Event::OversizeRefused);
            worker.batch(Wait::Poll).unwrap();
            let refused = counts.of(Event::OversizeRefused) - refused;
            let sent: Vec<usize> = port.take_sent().iter().map(Vec::len).collect();
            let wanted = if passes { vec![48 + planted] } else { vec![] };
            assert_eq!((sent, refused), (wanted, u64::from(!passes)), "{planted} planted");
        }
    }
}
