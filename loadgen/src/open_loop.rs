//! One thread's loop: what is due leaves, what has come in is looked at, what came too late is given up.
//!
//! The schedule never waits for replies and never slips: a request that this thread sends late is late by the
//! schedule still, and the lag is recorded. Nothing here allocates, formats or blocks; the thread spins on its core.

use crate::accuracy::{Accuracy, Replied};
use crate::clock::{Moment, Reading};
use crate::key::Key;
use crate::ledger::{Found, Ledger, Pending};
use crate::link::{BATCH, Incoming, Link};
use crate::mix::Mix;
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

/// What a thread sends with and keeps book in.
#[derive(Debug)]
pub struct Sender<L> {
    link: L,
    judge: Judge,
    ledger: Ledger,
    accuracy: Accuracy,
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
    pub fn new(link: L, judge: Judge, ledger: Ledger, accuracy: Accuracy) -> Self {
        Self { link, judge, ledger, accuracy }
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
        self.accuracy.pace(part.stamps_per_s, part.schedule.rate_per_s());
        let base = self.ledger.next_number();
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
            outcome.counts.given_up += self.ledger.give_up(now);
            // The last slice goes on until the last reply.
            if now >= slice_end && slice_end < end {
                outcome = hand_over(Some(outcome));
                slice_end = slice_end.after(part.slice);
            }
            if stopped_at.is_some() && (self.ledger.is_settled() || now.since(end) > timeout) {
                break;
            }
        }
        outcome.counts.unseen += self.link.unseen();
        if !part.closed_loop {
            outcome.counts.unsent +=
                part.schedule.due_by(end).saturating_sub(self.ledger.next_number() - base);
        }
        hand_over(Some(outcome));
        Ok(())
    }

    /// One batch of what is due.
    fn send(&mut self, part: &Part, base: u64, now: Moment, outcome: &mut Outcome) -> io::Result<()> {
        let (schedule, mix) = (&part.schedule, &part.mix);
        let first = self.ledger.next_number();
        let due = match part.closed_loop {
            false => base + schedule.due_by(now),
            true if self.ledger.is_settled() => (base + schedule.due_by(now)).min(first + 1),
            true => first,
        };
        let due_at = |number: u64| if part.closed_loop { now } else { schedule.due(number - base) };
        let (mut sent, mut octets, mut silent) = (0, 0, 0);
        while self.ledger.next_number() < due && !self.link.is_full() && sent < BATCH as u64 {
            let number = self.ledger.next_number();
            let client = mix.client(number);
            let stamped = self.accuracy.wants(number, client);
            let previous = self.accuracy.previous(client, number, self.ledger.receive(number));
            let transmit = self.ledger.transmit(number);
            let mut expectation = None;
            self.link.push(number, client, stamped, |payload| {
                let written = mix.write(number, transmit, previous, payload);
                octets += written.length as u64;
                expectation = Some(written.expectation);
                written.length
            });
            let Some(expectation) = expectation else { break };
            silent += u64::from(expectation.silence);
            let pending = Pending { due: due_at(number), left: now, client, expectation };
            outcome.counts.given_up += u64::from(self.ledger.enter(pending));
            sent += 1;
        }
        if sent == 0 {
            return Ok(());
        }
        let mut refused = 0;
        self.link.flush(|number| {
            refused += 1;
            if let Some(expectation) = self.ledger.cancel(number) {
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
        let Self { link, judge, ledger, accuracy, .. } = self;
        link.receive(|incoming| {
            let arrival = incoming.stamp_ns.map_or(reading.moment, |stamp_ns| reading.moment_of(stamp_ns));
            let valid = outcome.counts.basic + outcome.counts.interleaved;
            take(&incoming, arrival, judge, ledger, accuracy, outcome);
            let while_sending = stopped_at.is_none_or(|stopped_at| arrival <= stopped_at);
            if while_sending {
                outcome.counts.answered_while_sending +=
                    outcome.counts.basic + outcome.counts.interleaved - valid;
            }
        })?;
        link.transmit_stamps(|payload, sent_ns| {
            let cookie = reply::transmit(payload);
            if let Some((number, false)) = cookie.and_then(|cookie| ledger.number_of(cookie))
                && let Some(client) = ledger.client_of(number)
            {
                accuracy.sent(number, client, sent_ns, outcome);
            }
        })
    }
}

/// Takes one datagram to account.
fn take(
    incoming: &Incoming<'_>,
    arrival: Moment,
    judge: &Judge,
    ledger: &mut Ledger,
    accuracy: &mut Accuracy,
    outcome: &mut Outcome,
) {
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
    let (number, pending, interleaved) = match ledger.find(cookie) {
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
            outcome.latency_ns.saturating_record(nanos(arrival.since(pending.due)));
            *if interleaved { &mut outcome.counts.interleaved } else { &mut outcome.counts.basic } += 1;
            let arrived_ns = incoming.stamp_ns;
            let reply =
                Replied { number, client: pending.client, interleaved, receive, transmit, arrived_ns };
            accuracy.replied(&reply, outcome);
        }
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
