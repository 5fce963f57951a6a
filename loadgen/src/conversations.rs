//! The conversations of clients that interleave (RFC 9769 §2): of each, the last exchange, which its next request names.
//!
//! ```text
//! request:  origin = T2 of the last reply that came,  receive = a cookie that stands for its T4
//! reply:    origin = that cookie,                     transmit = T3 of that last reply, as the kernel or the NIC saw it leave
//! ```
//!
//! With several requests of a client under way, or replies lost, late or out of order, an interleaved reply may tell of
//! another exchange than the last: the first request that named an exchange is kept, and what can't be told is left out.
//! No allocation after construction.

use crate::clients::Clients;
use crate::mix::Ask;
use maser_core::time::NtpTimestamp;

/// A request and the valid reply to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// The request's.
    pub number: u64,
    /// T1 by the kernel, in nanoseconds since 1970, where it was asked for.
    pub sent_ns: Option<i64>,
    /// T2.
    pub receive: NtpTimestamp,
    /// T4 by the kernel, in nanoseconds since 1970.
    pub arrived_ns: Option<i64>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Conversation {
    last: Option<Exchange>,
    /// The first request that named the last exchange; those before it named an older one.
    named_from: Option<u64>,
    /// The newest transmit stamp, and the request that it is of: often one that isn't replied to yet.
    newest_sent: Option<(u64, i64)>,
}

/// The conversations of a thread.
#[derive(Debug)]
pub struct Conversations {
    clients: Clients,
    each: Box<[Conversation]>,
}

impl Conversations {
    /// None has begun.
    #[must_use]
    pub fn new(clients: Clients) -> Self {
        let length = usize::try_from(clients.interleaving()).expect("an address space of 64 bits");
        Self { clients, each: vec![Conversation::default(); length].into() }
    }

    /// The place of a client among those that interleave.
    #[inline]
    #[must_use]
    pub fn place(&self, client: u32) -> Option<u32> {
        self.clients.interleaving_place(client)
    }

    fn of(&mut self, client: u32) -> Option<&mut Conversation> {
        let place = self.place(client)?;
        self.each.get_mut(usize::try_from(place).ok()?)
    }

    /// What a client's next request, `number`, asks for.
    #[inline]
    pub fn ask(&mut self, client: u32, number: u64) -> Ask {
        match self.of(client) {
            None => Ask::Mix,
            Some(Conversation { last: None, .. }) => Ask::Basic,
            Some(Conversation { last: Some(last), named_from, .. }) => {
                named_from.get_or_insert(number);
                Ask::Interleaved { server_receive: last.receive.bits() }
            }
        }
    }

    /// The kernel says when a request left.
    pub fn sent(&mut self, number: u64, client: u32, sent_ns: i64) {
        let Some(conversation) = self.of(client) else { return };
        conversation.newest_sent = Some((number, sent_ns));
        if let Some(last) = conversation.last.as_mut().filter(|last| last.number == number) {
            last.sent_ns = Some(sent_ns);
        }
    }

    /// The exchange that request `number` named; none if it named none, or one that has been forgotten since.
    #[must_use]
    pub fn named(&mut self, number: u64, client: u32) -> Option<Exchange> {
        let conversation = self.of(client)?;
        conversation.last.filter(|_| conversation.named_from.is_some_and(|first| first <= number))
    }

    /// A valid reply has come; `exchange` has no T1 yet.
    pub fn replied(&mut self, exchange: Exchange, client: u32) {
        let Some(conversation) = self.of(client) else { return };
        let sent = conversation.newest_sent.filter(|(number, _)| *number == exchange.number);
        let sent_ns = sent.map(|(_, sent_ns)| sent_ns);
        conversation.last = Some(Exchange { sent_ns, ..exchange });
        conversation.named_from = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T2: [u64; 3] = [100, 200, 300];

    fn conversations() -> Conversations {
        Conversations::new(Clients::new(None, 4).expect("clients").with_interleaving(0.5))
    }

    fn exchange(number: u64, receive: u64) -> Exchange {
        Exchange { number, sent_ns: None, receive: NtpTimestamp::from_bits(receive), arrived_ns: Some(7) }
    }

    #[test]
    fn a_conversation_begins_with_the_first_reply() {
        let mut all = conversations();
        assert_eq!(
            [0, 1, 2, 3].map(|client| all.ask(client, 0)),
            [Ask::Basic, Ask::Mix, Ask::Basic, Ask::Mix]
        );
        all.replied(exchange(0, T2[0]), 0);
        all.replied(exchange(1, T2[1]), 1);
        assert_eq!(all.ask(0, 4), Ask::Interleaved { server_receive: T2[0] });
        assert_eq!([1, 2, 3].map(|client| all.ask(client, 5)), [Ask::Mix, Ask::Basic, Ask::Mix]);
    }

    #[test]
    fn a_reply_completes_the_exchange_that_its_request_named_and_no_other() {
        let mut all = conversations();
        all.replied(exchange(0, T2[0]), 0);
        assert_eq!(all.named(4, 0), None, "no request has named it");
        // Two under way name the same exchange; the reply to the first comes, then that to the second.
        for number in [4, 8] {
            assert_eq!(all.ask(0, number), Ask::Interleaved { server_receive: T2[0] });
        }
        assert_eq!(all.named(4, 0).map(|named| named.receive.bits()), Some(T2[0]));
        all.replied(exchange(4, T2[1]), 0);
        assert_eq!(all.named(8, 0), None, "what it named is forgotten");
        // The reply to 12 is lost: 16 names the same exchange as 12 did.
        for number in [12, 16] {
            assert_eq!(all.ask(0, number), Ask::Interleaved { server_receive: T2[1] });
        }
        assert_eq!(all.named(16, 0).map(|named| named.number), Some(4));
        // 16 is answered, and only then 8, which was overtaken: it is the last exchange now.
        all.replied(exchange(16, T2[2]), 0);
        all.replied(exchange(8, T2[0]), 0);
        assert_eq!(all.ask(0, 20), Ask::Interleaved { server_receive: T2[0] });
        assert_eq!((all.named(16, 0), all.named(20, 0).map(|named| named.number)), (None, Some(8)));
    }

    #[test]
    fn a_transmit_stamp_is_of_its_own_request_before_and_after_the_reply() {
        let mut all = conversations();
        all.sent(0, 0, 11);
        all.replied(exchange(0, T2[0]), 0);
        let sent_ns = |all: &mut Conversations, number| {
            all.ask(0, number);
            all.named(number, 0).and_then(|named| named.sent_ns)
        };
        assert_eq!(sent_ns(&mut all, 4), Some(11));
        all.replied(exchange(4, T2[1]), 0);
        all.sent(8, 0, 22);
        assert_eq!(sent_ns(&mut all, 8), None, "that of 4 hasn't come");
        all.sent(4, 0, 33);
        assert_eq!(sent_ns(&mut all, 8), Some(33));
    }
}
