//! One thread's loop: what is due leaves, what has come in is looked at, what came too late is given up.
//!
//! The schedule never waits for replies and never slips: a request that this thread sends late is late by the
//! schedule still, and the lag is recorded. Nothing here allocates, formats or blocks; the thread spins on its core.

use crate::accuracy::{Accuracy, Replied};
use crate::clock::{Moment, Reading};
use crate::conversations::{Conversations, Exchange};
use crate::key::Key;
use crate::ledger::{Found, Ledger, Pending};
use crate::link::{BATCH, Incoming, Link};
use crate::mix::{Mix, Stamps};
use crate::outcome::Outcome;
use crate::reply::{self, Content, Expectation, Fault};
use crate::schedule::Schedule;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Who has stopped a run doesn't want to wait for its last replies for long.
pub const PATIENCE_AFTER_STOP: Duration = Duration::from_secs(1);

/// How replies are judged.
#[derive(Clone, Debug)]
pub enum Judge {
    /// As NTP; with the key of requests that carry a MAC.
    Ntp(Option<Key>),
    /// As an echo of the request: for measuring bare servers.
    Echo,
}

/// What a thread sends with.
#[derive(Debug)]
pub struct Sender<L> {
    link: L,
    judge: Judge,
    books: Books,
}

/// What a thread keeps book in.
#[derive(Debug)]
pub struct Books {
    /// Requests that wait for replies.
    pub ledger: Ledger,
    /// Those of clients that interleave.
    pub conversations: Conversations,
    /// Samples that wait for their other half.
    pub accuracy: Accuracy,
}

/// A step's part of one thread.
#[derive(Clone, Debug)]
pub struct Part {
    /// What the requests are.
    pub mix: Mix,
    /// Samples a second of the accuracy of stamps.
    pub stamps_per_s: f64,
    /// When this thread's requests are due.
    pub schedule: Schedule,
    /// How long replies are waited for after the last.
    pub timeout: Duration,
    /// Outcomes are handed over this often.
    pub slice: Duration,
    /// A request waits for the reply to the last, and counts as due when it leaves.
    pub closed_loop: bool,
}

impl<L: Link> Sender<L> {
    /// Everything that a step needs is allocated here.
    pub fn new(link: L, judge: Judge, books: Books) -> Self {
        Self { link, judge, books }
    }

    /// Sends a step, or less of it if `stop` comes first, and waits for the last replies. `hand_over` takes the outcome
    /// of each slice, of which there is none at first, and gives an empty one.
    ///
    /// # Errors
    /// What ends the link: the interface has gone, a filter forbids the call.
    pub fn run(
        &mut self,
        part: &Part,
        stop: &AtomicBool,
        mut hand_over: impl FnMut(Option<Box<Outcome>>) -> Box<Outcome>,
    ) -> io::Result<()> {
        self.books.accuracy.pace(part.stamps_per_s, part.schedule.rate_per_s());
        let base = self.books.ledger.next_number();
        let mut outcome = hand_over(None);
        let mut slice_end = part.schedule.start().after(part.slice);
        let mut end = part.schedule.end();
        let mut stopped_at = None;
        loop {
            let reading = Reading::now();
            let now = reading.moment;
            let mut timeout = part.timeout;
            if stop.load(Ordering::Relaxed) {
                end = end.min(now);
                timeout = timeout.min(PATIENCE_AFTER_STOP);
            }
            // Once more at the end: what has become due since the last round.
            if stopped_at.is_none() {
                self.send(part, base, now, &mut outcome)?;
            }
            if now >= end {
                stopped_at.get_or_insert_with(Moment::now);
            }
            self.receive(&reading, stopped_at, &mut outcome)?;
            outcome.counts.given_up += self.books.ledger.give_up(now);
            // The last slice goes on until the last reply.
            if now >= slice_end && slice_end < end {
                outcome = hand_over(Some(outcome));
                slice_end = slice_end.after(part.slice);
            }
            if stopped_at.is_some() && (self.books.ledger.is_settled() || now.since(end) > timeout) {
                break;
            }
        }
        outcome.counts.unseen += self.link.unseen();
        if !part.closed_loop {
            outcome.counts.unsent +=
                part.schedule.due_by(end).saturating_sub(self.books.ledger.next_number() - base);
        }
        hand_over(Some(outcome));
        Ok(())
    }

    /// One batch of what is due.
    fn send(&mut self, part: &Part, base: u64, now: Moment, outcome: &mut Outcome) -> io::Result<()> {
        let (schedule, mix) = (&part.schedule, &part.mix);
        let Self { link, books: Books { ledger, conversations, accuracy }, .. } = self;
        let first = ledger.next_number();
        let due = match part.closed_loop {
            false => base + schedule.due_by(now),
            true if ledger.is_settled() => (base + schedule.due_by(now)).min(first + 1),
            true => first,
        };
        let due_at = |number: u64| if part.closed_loop { now } else { schedule.due(number - base) };
        let (mut sent, mut octets, mut silent) = (0, 0, 0);
        while ledger.next_number() < due && !link.is_full() && sent < BATCH as u64 {
            let number = ledger.next_number();
            let client = mix.client(number);
            let stamped = accuracy.wants(conversations.place(client).map_or(number, u64::from));
            let ask = conversations.ask(client, number);
            let stamps = Stamps { transmit: ledger.transmit(number), receive: ledger.receive(number) };
            let mut expectation = None;
            link.push(number, client, stamped, |payload| {
                let written = mix.write(number, stamps, ask, payload);
                octets += written.length as u64;
                expectation = Some(written.expectation);
                written.length
            });
            let Some(expectation) = expectation else { break };
            silent += u64::from(expectation.silence);
            let pending = Pending { due: due_at(number), left: now, client, expectation };
            outcome.counts.given_up += u64::from(ledger.enter(pending));
            sent += 1;
        }
        if sent == 0 {
            return Ok(());
        }
        let mut refused = 0;
        link.flush(|number| {
            refused += 1;
            if let Some(expectation) = ledger.cancel(number) {
                octets -= u64::from(expectation.length);
                silent -= u64::from(expectation.silence);
            }
        })?;
        let left = Moment::now();
        outcome.last_left = Some(left);
        for number in first..first + sent {
            outcome.lag_ns.saturating_record(nanos(left.since(due_at(number))));
        }
        outcome.counts.sent += sent - refused;
        outcome.counts.unsent += refused;
        outcome.counts.silence_expected += silent;
        outcome.counts.octets_sent += octets;
        Ok(())
    }

    fn receive(
        &mut self,
        reading: &Reading,
        stopped_at: Option<Moment>,
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        let Self { link, judge, books } = self;
        link.receive(|incoming| {
            let arrival = incoming.stamp_ns.map_or(reading.moment, |stamp_ns| reading.moment_of(stamp_ns));
            let valid = outcome.counts.basic + outcome.counts.interleaved;
            take(&incoming, arrival, judge, books, outcome);
            let while_sending = stopped_at.is_none_or(|stopped_at| arrival <= stopped_at);
            if while_sending {
                outcome.counts.answered_while_sending +=
                    outcome.counts.basic + outcome.counts.interleaved - valid;
            }
        })?;
        link.transmit_stamps(|payload, sent_ns| {
            let cookie = reply::transmit(payload);
            if let Some((number, false)) = cookie.and_then(|cookie| books.ledger.number_of(cookie))
                && let Some(client) = books.ledger.client_of(number)
            {
                books.conversations.sent(number, client, sent_ns);
                books.accuracy.sent(number, sent_ns, outcome);
            }
        })
    }
}

/// Takes one datagram to account.
fn take(incoming: &Incoming<'_>, arrival: Moment, judge: &Judge, books: &mut Books, outcome: &mut Outcome) {
    let payload = match incoming.payload {
        Ok(payload) => payload,
        Err(fault) => return outcome.counts.unmatched(fault),
    };
    outcome.counts.octets_received += payload.len() as u64;
    let cookie = match judge {
        Judge::Ntp(_) => reply::origin(payload),
        Judge::Echo => reply::transmit(payload),
    };
    let Some(cookie) = cookie else { return outcome.counts.unmatched(Fault::Length) };
    let (number, pending, interleaved) = match books.ledger.find(cookie) {
        Found::First { number, pending, interleaved } => (number, pending, interleaved),
        Found::Duplicate => return outcome.counts.duplicate += 1,
        Found::Late => return outcome.counts.late += 1,
        Found::Unknown => return outcome.counts.unmatched(Fault::Origin),
    };
    if !incoming.from_target {
        return outcome.counts.fault(Fault::Sender);
    }
    let content = match judge_reply(judge, payload, &pending.expectation, interleaved) {
        Ok(content) => content,
        Err(fault) => return outcome.counts.fault(fault),
    };
    let Some(content) = content else {
        outcome.counts.basic += 1;
        return outcome.latency_ns.saturating_record(nanos(arrival.since(pending.due)));
    };
    match content {
        Content::Kiss(kiss) => outcome.counts.kiss(kiss),
        Content::Time { receive, transmit } => {
            let reply = Replied { number, receive, transmit, arrived_ns: incoming.stamp_ns };
            if let Err(fault) = books.replied(&reply, &pending, interleaved, outcome) {
                return outcome.counts.fault(fault);
            }
            outcome.latency_ns.saturating_record(nanos(arrival.since(pending.due)));
        }
    }
}

impl Books {
    /// Takes the time that a reply tells to account, unless it can't be that of the exchange which its request named.
    fn replied(
        &mut self,
        reply: &Replied,
        request: &Pending,
        interleaved: bool,
        outcome: &mut Outcome,
    ) -> Result<(), Fault> {
        let &Replied { number, receive, transmit, arrived_ns } = reply;
        let client = request.client;
        if interleaved {
            if let Some(named) = self.conversations.named(number, client) {
                if transmit.since(named.receive).raw() < 0 {
                    return Err(Fault::TransmitBeforeReceive);
                }
                self.accuracy.interleaved(transmit, &named, outcome);
            }
            outcome.counts.interleaved += 1;
        } else {
            if self.accuracy.wants(self.conversations.place(client).map_or(number, u64::from)) {
                self.accuracy.basic(reply, outcome);
            }
            outcome.counts.basic += 1;
        }
        outcome.counts.interleaving += u64::from(request.expectation.interleaved);
        self.conversations.replied(Exchange { number, sent_ns: None, receive, arrived_ns }, client);
        Ok(())
    }
}

/// What the reply says; nothing if it is an echo.
fn judge_reply(
    judge: &Judge,
    payload: &[u8],
    expectation: &Expectation,
    interleaved: bool,
) -> Result<Option<Content>, Fault> {
    match judge {
        Judge::Ntp(key) => reply::check(payload, expectation, interleaved, key.as_ref()).map(Some),
        Judge::Echo => reply::check_echo(payload, expectation).map(|()| None),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
