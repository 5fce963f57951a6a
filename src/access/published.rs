//! Lists on their way to the workers: a chain, to which one adds and along which all others go.
//!
//! A worker looks once a batch whether another link follows its own: one load of memory that nobody writes. It then holds
//! that one, and lets go of its own without freeing it, since the one who publishes holds every link until nobody else does.
//! The chain needs no crate: each link's end is written once, which is what the standard library's `OnceLock` is for.

use super::lists::Lists;
use maser_core::limit::access::{AccessList, Prefix, Standing};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// Nothing is published while a worker is so far behind: it stands still, and each link takes memory.
const BEHIND_MAX: usize = 4;

#[derive(Debug)]
struct Link {
    lists: Lists,
    next: OnceLock<Arc<Link>>,
}

impl Link {
    fn new(lists: Lists) -> Arc<Self> {
        Arc::new(Self { lists, next: OnceLock::new() })
    }
}

/// The lists as a worker sees them.
#[derive(Clone, Debug)]
pub struct AccessReader(Arc<Link>);

impl AccessReader {
    /// Goes on to the newest lists: once a batch, also one in which nothing came.
    #[inline]
    pub fn refresh(&mut self) {
        while let Some(next) = self.0.next.get() {
            self.0 = Arc::clone(next);
        }
    }

    /// What a client is by the lists of the last refresh.
    #[inline]
    #[must_use]
    pub fn standing(&self, client: IpAddr) -> Standing {
        self.list().standing(client)
    }

    /// The lists of the last refresh.
    #[inline]
    #[must_use]
    pub fn list(&self) -> AccessList<'_> {
        self.0.lists.list()
    }

    /// Every prefix of them, as [`Lists::prefixes`] gives them.
    #[must_use]
    pub fn prefixes(&self) -> &[(Prefix, Standing)] {
        self.0.lists.prefixes()
    }
}

/// The chain's end, and those before it that somebody may still hold.
#[derive(Debug)]
pub(super) struct Publisher {
    newest: Arc<Link>,
    /// From the oldest on.
    before: VecDeque<Arc<Link>>,
}

impl Publisher {
    pub(super) fn new(lists: Lists) -> Self {
        Self { newest: Link::new(lists), before: VecDeque::with_capacity(BEHIND_MAX) }
    }

    pub(super) fn reader(&self) -> AccessReader {
        AccessReader(Arc::clone(&self.newest))
    }

    /// Frees what nobody holds any more.
    pub(super) fn free(&mut self) {
        // Each is held by the one before it, too, so that the oldest goes first.
        while self.before.front().is_some_and(|oldest| Arc::strong_count(oldest) == 1) {
            self.before.pop_front();
        }
    }

    /// # Errors
    /// The lists again while somebody is too far behind.
    pub(super) fn publish(&mut self, lists: Lists) -> Result<(), Lists> {
        self.free();
        if self.before.len() >= BEHIND_MAX {
            return Err(lists);
        }
        let newest = Link::new(lists);
        let before = std::mem::replace(&mut self.newest, newest);
        // It was the newest until now, so that nothing follows it yet.
        let _set = before.next.set(Arc::clone(&self.newest));
        self.before.push_back(before);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Access, AccessKind};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    /// Lists that deny one address and its neighbour.
    fn denying(address: u8) -> Lists {
        let prefixes: Vec<Prefix> =
            [address, address ^ 1].map(|last| format!("10.0.0.{last}").parse().unwrap()).into();
        Lists::build(&Access::default(), [(AccessKind::Deny, prefixes.as_slice())]).unwrap()
    }

    fn is_denied(reader: &AccessReader, address: u8) -> bool {
        reader.standing([10, 0, 0, address].into()) == Standing::Denied
    }

    #[test]
    fn a_reader_sees_the_newest_lists_after_a_refresh_and_frees_none() {
        let mut publisher = Publisher::new(denying(2));
        let (mut one, mut other) = (publisher.reader(), publisher.reader());
        let first = Arc::downgrade(&one.0);
        publisher.publish(denying(4)).unwrap();
        assert!(is_denied(&one, 2) && !is_denied(&one, 4), "not before it looks");
        one.refresh();
        assert!(is_denied(&one, 4) && !is_denied(&one, 2));
        publisher.publish(denying(6)).unwrap();
        other.refresh();
        assert!(is_denied(&other, 6), "two at a time");
        assert_eq!(first.strong_count(), 1, "nobody reads the first any more, and no reader freed it");
        publisher.free();
        assert_eq!((first.strong_count(), publisher.before.len()), (0, 1), "the second is read by one still");
        one.refresh();
        publisher.free();
        assert!(publisher.before.is_empty());
        assert!(is_denied(&publisher.reader(), 6));
    }

    #[test]
    fn a_reader_that_stands_still_stops_the_chain_and_not_the_others() {
        let mut publisher = Publisher::new(denying(2));
        let (mut still, mut looks) = (publisher.reader(), publisher.reader());
        for _ in 0..BEHIND_MAX {
            publisher.publish(denying(4)).unwrap();
            looks.refresh();
        }
        assert!(publisher.publish(denying(6)).is_err() && is_denied(&looks, 4) && is_denied(&still, 2));
        still.refresh();
        publisher.publish(denying(6)).unwrap();
        looks.refresh();
        assert!(is_denied(&looks, 6) && publisher.before.len() <= 2);
    }

    /// Under readers that never rest each sees whole lists only, and the newest at the end.
    #[test]
    fn readers_that_never_rest_see_whole_lists() {
        let mut publisher = Publisher::new(denying(0));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let read = |mut reader: AccessReader| {
                let mut seen = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    reader.refresh();
                    let denied: Vec<u8> = (0..=255).filter(|address| is_denied(&reader, *address)).collect();
                    assert!(denied.len() == 2 && denied[0] ^ 1 == denied[1], "{denied:?}");
                    seen += 1;
                }
                reader.refresh();
                (seen, is_denied(&reader, 42))
            };
            let readers = [publisher.reader(), publisher.reader()];
            let readers = readers.map(|reader| scope.spawn(move || read(reader)));
            for number in 0..2_000_u32 {
                // One that reads may be preempted for long.
                while publisher.publish(denying(u8::try_from(number % 128 * 2).unwrap())).is_err() {
                    thread::yield_now();
                }
            }
            while publisher.publish(denying(42)).is_err() {
                thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            for reader in readers {
                let (seen, newest) = reader.join().unwrap();
                assert!(seen > 0 && newest);
            }
        });
    }
}
