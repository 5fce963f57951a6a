//! The requests that wait for replies, and what a reply is a reply to.
//!
//! A ring of the newest requests by number. A request is given up once it has waited for the timeout, or, if the ring
//! is too short for the rate, when its place is needed. No allocation after construction.

use crate::clock::Moment;
use crate::cookie::Cookies;
use crate::reply::Expectation;
use std::time::Duration;

/// The largest ring: 2²² requests, 160 MB.
const SLOTS_MAX: u64 = 1 << 22;
const SLOTS_MIN: u64 = 1 << 10;

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// When it was due.
    pub due: Moment,
    /// When it left.
    pub left: Moment,
    /// The client that sent it.
    pub client: u32,
    /// What its reply must look like.
    pub expectation: Expectation,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    Replied,
    GivenUp,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    pending: Pending,
    state: State,
}

/// What a transmit timestamp that came back says.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// The first reply to a request.
    First {
        /// The request's number.
        number: u64,
        /// The request.
        pending: Pending,
        /// The reply's origin is the request's receive timestamp: interleaved mode (RFC 9769).
        interleaved: bool,
    },
    /// It had been replied to.
    Duplicate,
    /// It had been given up.
    Late,
    /// No such request was sent.
    Unknown,
}

/// The ring.
#[derive(Debug)]
pub struct Ledger {
    cookies: Cookies,
    entries: Box<[Option<Entry>]>,
    mask: u64,
    /// The number of the next request.
    next: u64,
    /// All requests before this one were replied to or given up.
    settled: u64,
    timeout: Duration,
}

impl Ledger {
    /// Room for what a thread sends at `rate_per_s` within `timeout`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float conversions saturate")]
    pub fn new(cookies: Cookies, rate_per_s: f64, timeout: Duration) -> Self {
        let waiting = (rate_per_s * timeout.as_secs_f64() * 1.5) as u64;
        let slots = waiting.clamp(SLOTS_MIN, SLOTS_MAX).next_power_of_two();
        let length = usize::try_from(slots).expect("bounded by SLOTS_MAX");
        Self {
            cookies,
            entries: vec![None; length].into_boxed_slice(),
            mask: slots - 1,
            next: 0,
            settled: 0,
            timeout,
        }
    }

    fn slot(&mut self, number: u64) -> &mut Option<Entry> {
        let index = usize::try_from(number & self.mask).expect("a mask below the length");
        &mut self.entries[index]
    }

    /// The next request's number.
    #[must_use]
    pub const fn next_number(&self) -> u64 {
        self.next
    }

    /// The transmit timestamp of request `number`.
    #[must_use]
    pub fn transmit(&self, number: u64) -> u64 {
        self.cookies.of(number << 1)
    }

    /// The receive timestamp that request `number` carries in interleaved mode.
    #[must_use]
    pub fn receive(&self, number: u64) -> u64 {
        self.cookies.of(number << 1 | 1)
    }

    /// Which request carries this as its transmit or receive timestamp, and whether it is the latter.
    #[must_use]
    pub fn number_of(&self, cookie: u64) -> Option<(u64, bool)> {
        let value = self.cookies.number(cookie);
        let (number, receive) = (value >> 1, value & 1 == 1);
        (number < self.next).then_some((number, receive))
    }

    /// Enters the next request. True if a request had to be given up for its place.
    pub fn enter(&mut self, pending: Pending) -> bool {
        let number = self.next;
        self.next += 1;
        let overrun = number - self.settled > self.mask;
        let lost = overrun && self.settle_oldest();
        *self.slot(number) = Some(Entry { pending, state: State::Waiting });
        lost
    }

    /// Takes a request back that never left; what was expected of it.
    pub fn cancel(&mut self, number: u64) -> Option<Expectation> {
        let entry = self.slot(number).as_mut()?;
        entry.state = State::Replied;
        Some(entry.pending.expectation)
    }

    /// Who sent request `number`, while it is among the newest.
    pub fn client_of(&mut self, number: u64) -> Option<u32> {
        let is_kept = self.next - number <= self.mask + 1;
        self.slot(number).filter(|_| is_kept).map(|entry| entry.pending.client)
    }

    /// Looks up what a reply's origin timestamp is a reply to, and marks it as replied to.
    pub fn find(&mut self, origin: u64) -> Found {
        let Some((number, interleaved)) = self.number_of(origin) else { return Found::Unknown };
        if self.next - number > self.mask + 1 {
            return Found::Late;
        }
        let Some(entry) = self.slot(number) else { return Found::Unknown };
        match entry.state {
            State::Replied => Found::Duplicate,
            State::GivenUp => Found::Late,
            State::Waiting => {
                entry.state = State::Replied;
                Found::First { number, pending: entry.pending, interleaved }
            }
        }
    }

    /// Gives up what has waited for the timeout by `now`; how many of those expected a reply.
    pub fn give_up(&mut self, now: Moment) -> u64 {
        let mut lost = 0;
        while self.settled < self.next {
            let timeout = self.timeout;
            let settled = self.settled;
            let waits = self.slot(settled).is_some_and(|entry| {
                entry.state == State::Waiting && now.since(entry.pending.left) < timeout
            });
            if waits {
                break;
            }
            lost += u64::from(self.settle_oldest());
        }
        lost
    }

    /// Settles the oldest request; whether a reply to it was expected and didn't come.
    fn settle_oldest(&mut self) -> bool {
        let number = self.settled;
        self.settled += 1;
        match self.slot(number) {
            Some(entry) if entry.state == State::Waiting => {
                entry.state = State::GivenUp;
                !entry.pending.expectation.silence
            }
            _ => false,
        }
    }

    /// Whether nothing waits for a reply any more.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.settled == self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn ledger() -> Ledger {
        Ledger::new(Cookies::new(7), 1.0, Duration::from_millis(100))
    }
    fn pending(left_ns: i64) -> Pending {
        let moment = Moment::from_nanos(left_ns);
        Pending { due: moment, left: moment, client: 0, expectation: Expectation::of_answered(0x23, 48) }
    }

    #[test]
    fn a_reply_is_first_then_duplicate_and_late_after_the_timeout() {
        let mut ledger = ledger();
        for k in 0..3 {
            assert!(!ledger.enter(pending(k * MS)));
        }
        let origin = ledger.transmit(1);
        assert!(matches!(ledger.find(origin), Found::First { number: 1, interleaved: false, .. }));
        assert!(matches!(ledger.find(origin), Found::Duplicate));
        let origin = ledger.receive(2);
        assert!(matches!(ledger.find(origin), Found::First { number: 2, interleaved: true, .. }));
        assert!(matches!(ledger.find(ledger.transmit(3)), Found::Unknown));
        assert!(matches!(ledger.find(ledger.transmit(1) ^ 1), Found::Unknown));
        assert_eq!(ledger.give_up(Moment::from_nanos(99 * MS)), 0);
        assert_eq!(ledger.give_up(Moment::from_nanos(100 * MS)), 1);
        assert!(ledger.is_settled());
        assert!(matches!(ledger.find(ledger.transmit(0)), Found::Late));
    }

    #[test]
    fn a_full_ring_gives_up_its_oldest_and_says_so() {
        let mut ledger = ledger();
        for _ in 0..SLOTS_MIN {
            assert!(!ledger.enter(pending(0)));
        }
        assert!(ledger.enter(pending(0)));
        assert!(matches!(ledger.find(ledger.transmit(0)), Found::Late));
        assert!(matches!(ledger.find(ledger.transmit(1)), Found::First { .. }));
    }

    #[test]
    fn what_expects_silence_is_never_lost() {
        let mut ledger = ledger();
        let mut silent = pending(0);
        silent.expectation.silence = true;
        ledger.enter(silent);
        assert_eq!(ledger.give_up(Moment::from_nanos(500 * MS)), 0);
        assert!(ledger.is_settled());
    }
}
