//! An association: one server at one address, from the first request on.
//!
//! ```text
//! basic:        we send   origin 0,         receive 0,        transmit nonce
//!               it sends  origin nonce,     receive T2,       transmit T3
//! interleaved:  we send   origin its T2,    receive nonce,    transmit another nonce
//! (RFC 9769)    it sends  origin nonce,     receive its new T2, transmit T3 of its reply before, as it really was
//! ```
//!
//! A server that doesn't interleave, or has forgotten, echoes the transmit timestamp and so answers in basic mode. An
//! interleaved reply completes the exchange before it; its own is completed by the next.

use crate::snapshot::Growth;
use crate::time::{Instant, NtpTimestamp, Rate, Span, Ticks, Utc};
use crate::wire::ntp::{LENGTH, set_before_transmit, set_transmit};

use super::clock_filter::{ClockFilter, span_of_seconds};
use super::poll::Poll;
use super::reply::{FourStamps, Kiss, Reception, Refusal, Reply, Vouched};

/// Reference ids that mean us: an address that a server may know us by.
pub const OWN_REFERENCE_IDS_MAX: usize = 64;

/// Requests of a burst.
const BURST: u8 = 4;
/// How far apart they are at least.
const BURST_INTERVAL: Span = Span::from_seconds(2);
/// At random up to this part of an interval is added to it.
const RANDOM_PARTS: i128 = 8;
/// Leap indicator 0, version 4, mode 3.
const FIRST_OCTET: u64 = 0x23;

/// How a server is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Begin with four requests in quick succession, also when the server is back after it was unreachable.
    pub burst: bool,
    /// Ask for interleaved replies.
    pub interleaved: bool,
    /// The shortest poll interval, log₂ seconds.
    pub min_poll: i8,
    /// The longest.
    pub max_poll: i8,
    /// The length of a tick.
    pub rate: Rate,
    /// How fast an old sample loses worth.
    pub growth: Growth,
    /// What an upstream would call us as its reference: our IPv4 addresses, or the first octets of the MD5 of our IPv6
    /// addresses; unused places are zero.
    pub own_reference_ids: [[u8; 4]; OWN_REFERENCE_IDS_MAX],
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing before that moment.
    Wait(Ticks),
    /// Send this now.
    Send([u8; LENGTH]),
    /// Nothing ever again: the server has refused us. Whether another association may try is the driver's to say.
    Nothing,
}

/// When a request left and its reply arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamps {
    /// The request: the kernel's stamp, else the counter before it was sent.
    pub sent: Ticks,
    /// The reply: the kernel's stamp, else the counter after it was received.
    pub received: Ticks,
    /// How far either can be off.
    pub error: Span,
}

/// A request that hasn't been answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    transmit: NtpTimestamp,
    /// The second nonce, of a request for an interleaved reply.
    receive: Option<NtpTimestamp>,
}

/// The exchange before, for an interleaved reply to complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Before {
    stamps: Stamps,
    receive: NtpTimestamp,
    server: Vouched,
    /// Whether its reply completed an exchange before it.
    interleaved: bool,
}

/// One server at one address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Association {
    settings: Settings,
    next: Ticks,
    burst_left: u8,
    asked: Option<Asked>,
    /// The last request that was answered, to know a second answer by.
    answered: Option<Asked>,
    before: Option<Before>,
    filter: ClockFilter,
    poll: Poll,
    reach: u8,
    denied: bool,
    /// Requests in a row without a good reply.
    silent: u32,
}

impl Association {
    /// To be asked from `now` on.
    #[must_use]
    pub fn new(settings: Settings, now: Ticks) -> Self {
        Self {
            next: now,
            burst_left: if settings.burst { BURST } else { 0 },
            asked: None,
            answered: None,
            before: None,
            filter: ClockFilter::new(settings.rate, settings.growth),
            poll: Poll::new(settings.min_poll, settings.max_poll),
            reach: 0,
            denied: false,
            silent: 0,
            settings,
        }
    }

    /// What means us from now on: a machine's addresses change.
    pub const fn set_own_reference_ids(&mut self, ids: [[u8; 4]; OWN_REFERENCE_IDS_MAX]) {
        self.settings.own_reference_ids = ids;
    }

    /// What to do at `now`. `random` are three numbers that nobody else can know, of which none is used twice.
    pub fn next_action(&mut self, now: Ticks, random: [u64; 3]) -> Action {
        if self.denied {
            return Action::Nothing;
        }
        if now.since(self.next) < 0 {
            return Action::Wait(self.next);
        }
        let [transmit, receive, moment] = random;
        self.give_up_last();
        self.reach <<= 1;
        self.silent = self.silent.saturating_add(1);
        if self.reach == 0 && self.silent > u8::BITS {
            self.poll.unreachable();
        }
        let asked = Asked {
            transmit: nonce(transmit),
            // RFC 9769: the two must differ, or the server couldn't say which mode it answers in.
            receive: self.before.map(|_| nonce(receive)).filter(|receive| *receive != nonce(transmit)),
        };
        self.asked = Some(asked);
        self.schedule(now, moment);
        Action::Send(self.request(asked))
    }

    /// A reply that hasn't come isn't waited for any longer. The server may have forgotten the exchange before, and a
    /// request in basic mode is one that it can answer whatever it remembers.
    const fn give_up_last(&mut self) {
        if self.asked.is_some() {
            self.before = None;
        }
    }

    fn schedule(&mut self, now: Ticks, random: u64) {
        self.burst_left = self.burst_left.saturating_sub(1);
        let interval = if self.burst_left > 0 { BURST_INTERVAL } else { self.interval() };
        // Up to an eighth more, so that servers and clients that started together don't stay together.
        let part = (i128::from(random >> 32) * (interval.raw() / RANDOM_PARTS)) >> 32;
        self.next = now.offset(self.settings.rate.ticks_in(interval + Span::from_raw(part)));
    }

    fn interval(&self) -> Span {
        Span::from_seconds(1 << self.poll.exponent())
    }

    fn request(&self, asked: Asked) -> [u8; LENGTH] {
        let mut request = [0; LENGTH];
        let poll = u64::from(self.poll.exponent().unsigned_abs());
        let (origin, receive) = match (asked.receive, self.before) {
            (Some(receive), Some(before)) => (before.receive.bits(), receive.bits()),
            _ => (0, 0),
        };
        set_before_transmit(&mut request, [(FIRST_OCTET << 56) | (poll << 40), 0, 0, origin, receive]);
        set_transmit(&mut request, asked.transmit);
        request
    }

    /// What came in, and when it and its request were on the wire. `pivot` is any moment within 68 years of now.
    ///
    /// A datagram that echoes nothing that we asked changes nothing.
    pub fn on_reply(&mut self, datagram: &[u8], stamps: Stamps, pivot: Instant<Utc>) -> Reception {
        match self.judge(datagram, stamps, pivot) {
            Ok(reception) => reception,
            Err(refusal) => Reception::Refused(refusal),
        }
    }

    fn judge(&mut self, datagram: &[u8], stamps: Stamps, pivot: Instant<Utc>) -> Result<Reception, Refusal> {
        let reply = Reply::parse(datagram)?;
        let answers = |asked: &Asked| asked.transmit == reply.origin || asked.receive == Some(reply.origin);
        let Some(asked) = self.asked.filter(answers) else {
            let again = self.answered.as_ref().is_some_and(answers);
            return Err(if again { Refusal::Duplicate } else { Refusal::NotAsked });
        };
        // From here on the reply is the server's, or of somebody who saw the request.
        self.asked = None;
        self.answered = Some(asked);
        let before = self.before.take();
        match reply.kiss() {
            Some(Kiss::Rate) => {
                self.burst_left = 0;
                self.poll.slow_down();
                self.next = self.next.offset(self.settings.rate.ticks_in(self.interval()));
                return Err(Refusal::AskedLessOften);
            }
            Some(Kiss::Deny) => {
                self.denied = true;
                return Err(Refusal::Denied);
            }
            None => {}
        }
        let server = reply.vouched(self.own_reference_ids())?;
        let interleaved = asked.receive == Some(reply.origin);
        let now = Before { stamps, receive: reply.receive, server, interleaved };
        let sample = match before {
            Some(before) if interleaved => before,
            // Without an exchange before there is no second nonce that could be echoed.
            _ => now,
        };
        let exchange = FourStamps {
            sent: sample.stamps.sent,
            receive: sample.receive,
            transmit: reply.transmit,
            received: sample.stamps.received,
            error: sample.stamps.error,
        }
        .measure(&sample.server, self.settings.rate, pivot)?;
        self.reached(stamps.received);
        self.before = Some(now).filter(|_| self.settings.interleaved);
        let best = self.filter.take(exchange);
        self.poll.judge(self.filter.prediction(), exchange.dispersion.as_seconds_f64());
        Ok(best.map_or(Reception::Filtered, Reception::Accepted))
    }

    /// A server that is back is asked quickly for as many samples as at the start: the old ones are of another time.
    fn reached(&mut self, now: Ticks) {
        if self.silent > u8::BITS {
            self.filter.clear();
            if self.settings.burst {
                self.burst_left = BURST;
                self.next = now.offset(self.settings.rate.ticks_in(BURST_INTERVAL));
            }
        }
        self.reach |= 1;
        self.silent = 0;
    }

    fn own_reference_ids(&self) -> &[[u8; 4]] {
        let ids = &self.settings.own_reference_ids;
        let used = ids.iter().position(|id| *id == [0; 4]).unwrap_or(ids.len());
        ids.get(..used).unwrap_or_default()
    }

    /// Whether the last request waits for its reply.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// Which of the last eight requests were answered well, the last one lowest (RFC 5905's reach).
    #[must_use]
    pub const fn reach(&self) -> u8 {
        self.reach
    }

    /// Requests in a row without a good reply, the last one included.
    #[must_use]
    pub const fn silent(&self) -> u32 {
        self.silent
    }

    /// log₂ seconds between requests.
    #[must_use]
    pub const fn poll(&self) -> i8 {
        self.poll.exponent()
    }

    /// Whether the last good reply was in answer to a request that offered interleaving, and took the offer.
    #[must_use]
    pub fn is_interleaved(&self) -> bool {
        self.before.is_some_and(|before| before.interleaved)
    }

    /// The RMS distance of the last samples from a line through them, where there are enough.
    #[must_use]
    pub fn jitter(&self) -> Option<Span> {
        self.filter.prediction().map(|prediction| span_of_seconds(prediction.jitter_s))
    }
}

/// Zero would say "no timestamp".
const fn nonce(random: u64) -> NtpTimestamp {
    NtpTimestamp::from_bits(if random == 0 { 1 } else { random })
}
