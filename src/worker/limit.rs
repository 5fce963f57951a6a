//! Who of a batch is answered: who may ask at all, each client's place in the table that all workers share, and what is told
//! to the program in front when more comes than can be answered.

use crate::access::AccessReader;
use crate::clients::{Fate as Seen, Tap};
use crate::count::{Counts, Event};
use crate::port::Port;
use maser_core::limit::access::Standing;
use maser_core::limit::hash::Key;
use maser_core::limit::overload::{Backlog, Overload};
use maser_core::limit::refusals::Refusals;
use maser_core::limit::{Fate, Limit, Limiter, Place, Rules};
use maser_core::reply::{Kiss, may_be_kissed};
use maser_core::wire::{DropReason, Request};
use maser_sys::limit_table::SharedTable;
use std::fmt;
use std::net::IpAddr;

/// What limits are made from; a clone is for another worker.
#[derive(Clone)]
pub struct Limits {
    /// That all workers share.
    pub table: SharedTable,
    /// That nobody outside may know.
    pub key: Key,
    /// What is allowed.
    pub rules: Rules,
    /// Whether the program in front is told how much to drop, and when it needn't look for whom.
    pub driver: bool,
}

impl fmt::Debug for Limits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, rules, .. } = self;
        formatter.debug_struct("Limits").field("words", &table.len()).field("rules", rules).finish()
    }
}

/// Who may ask, as a worker knows it.
#[derive(Clone, Debug)]
pub struct Lists {
    /// The newest lists.
    pub reader: AccessReader,
    /// Whether some of those that are denied are told so.
    pub deny_kiss: bool,
}

/// Whose a request is.
#[derive(Clone, Copy)]
enum Client {
    Limited(Place),
    Exempt,
    /// Where it would lie in the table, if it may be told.
    Denied(Option<Place>),
    Bogon,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    Answered,
    Kissed(Kiss),
    Refused(DropReason),
}

impl Admission {
    /// Whether a program in front refuses such, too.
    const fn could_be_in_front(self) -> bool {
        match self {
            Self::Kissed(_) => true,
            Self::Refused(reason) => {
                matches!(reason, DropReason::Denied | DropReason::BogonSource | DropReason::RateLimited)
            }
            Self::Answered => false,
        }
    }

    /// Tells it to who counts clients. A request that the program in front let pass by lot stands for others that it dropped.
    #[inline]
    pub(super) fn tell(self, clients: &Tap, client: IpAddr, weight: u16) {
        match self {
            Self::Answered => {
                clients.saw(client, Seen::Served, 1);
                if weight > 1 {
                    clients.saw(client, Seen::Limited, u32::from(weight - 1));
                }
            }
            Self::Kissed(kiss) => {
                let (now, others) = match kiss {
                    Kiss::Rate => (Seen::Kissed, Seen::Limited),
                    Kiss::Deny => (Seen::Denied, Seen::Denied),
                };
                clients.saw(client, now, 1);
                if weight > 1 {
                    clients.saw(client, others, u32::from(weight - 1));
                }
            }
            Self::Refused(DropReason::Denied | DropReason::BogonSource) => {
                clients.saw(client, Seen::Denied, weight.into());
            }
            Self::Refused(_) => clients.saw(client, Seen::Limited, weight.into()),
        }
    }
}

/// A worker's share of the limits and of the lists, none where nobody is limited, or denied.
pub(super) struct Limiting {
    lists: Option<Lists>,
    limiter: Option<Limiter<SharedTable>>,
    overload: Overload,
    refusals: Refusals,
    driver: bool,
    /// By index in the batch.
    clients: Box<[Client]>,
}

impl Limiting {
    /// Nobody is limited or denied, in batches of at most `batch`.
    pub(super) fn new(batch: usize) -> Self {
        let clients = vec![Client::Exempt; batch].into_boxed_slice();
        let (overload, refusals) = (Overload::default(), Refusals::default());
        Self { lists: None, limiter: None, overload, refusals, driver: false, clients }
    }

    /// Who may ask, as told.
    pub(super) fn ask(&mut self, lists: Lists) {
        self.lists = Some(lists);
    }

    /// Limits as told.
    ///
    /// # Panics
    /// If the table has a size that none may have.
    pub(super) fn limit(&mut self, Limits { table, key, rules, driver }: Limits) {
        let limiter = Limiter::new(table, key, rules).expect("the table has 64 KiB to 16 GiB");
        (self.limiter, self.driver) = (Some(limiter), driver);
    }

    /// A batch begins at this reading of `CLOCK_MONOTONIC`.
    #[inline]
    pub(super) fn begin_batch<P: Port>(&mut self, port: &mut P, monotonic_ns: i64, counts: &Counts) {
        self.refresh();
        let Some(limiter) = &mut self.limiter else { return };
        if self.driver
            && let Some((waiting, room)) = port.backlog()
        {
            move_floor(&mut self.overload, port, Backlog { waiting, room }, monotonic_ns);
            counts.events(Event::BatchOverloaded, u64::from(self.overload.floor() > 0));
            port.set_few_refused(!self.refusals.are_many());
        }
        limiter.begin_batch(monotonic_ns, self.overload.is_calm());
    }

    /// Nothing came: the floor falls, if it isn't 0, at the moment that `monotonic_ns` gives then.
    #[inline]
    pub(super) fn rest<P: Port>(&mut self, port: &mut P, monotonic_ns: impl FnOnce() -> i64) {
        self.refresh();
        if self.overload.floor() > 0 {
            move_floor(&mut self.overload, port, Backlog { waiting: 0, room: 1 }, monotonic_ns());
        }
    }

    /// Turns to the newest lists.
    fn refresh(&mut self) {
        if let Some(lists) = &mut self.lists {
            lists.reader.refresh();
        }
    }

    /// Datagram `index` is a request of `client`.
    #[inline]
    pub(super) fn note(&mut self, index: usize, client: IpAddr) {
        let place = || self.limiter.as_ref().map(|limiter| limiter.place_of(client));
        let standing = self.lists.as_ref().map_or(Standing::Allowed, |lists| lists.reader.standing(client));
        self.clients[index] = match standing {
            Standing::Allowed => place().map_or(Client::Exempt, Client::Limited),
            Standing::Exempt => Client::Exempt,
            Standing::Denied if self.lists.as_ref().is_some_and(|lists| lists.deny_kiss) => {
                Client::Denied(place())
            }
            Standing::Denied => Client::Denied(None),
            Standing::Bogon => Client::Bogon,
        };
    }

    /// Has the entries of all that were noted of `received` brought near.
    #[inline]
    pub(super) fn touch(&self, received: usize) {
        let Some(limiter) = &self.limiter else { return };
        limiter.touch(self.clients[..received].iter().filter_map(|client| match client {
            Client::Limited(place) => Some(*place),
            Client::Exempt | Client::Denied(_) | Client::Bogon => None,
        }));
    }

    /// What becomes of datagram `index`, which stands for `weight` of them.
    #[inline]
    pub(super) fn decide(&mut self, index: usize, request: &Request, weight: u16) -> Admission {
        let admission = self.admission(index, request);
        let refused = if admission.could_be_in_front() { weight } else { weight.saturating_sub(1) };
        self.refusals.count(weight, refused);
        admission
    }

    fn admission(&mut self, index: usize, request: &Request) -> Admission {
        match (self.clients[index], &mut self.limiter) {
            (Client::Limited(place), Some(limiter)) => match limiter.decide(place, may_be_kissed(request)) {
                Fate::Served => Admission::Answered,
                Fate::Kissed => Admission::Kissed(Kiss::Rate),
                Fate::Limited(limit) => Admission::Refused(reason(limit)),
            },
            (Client::Denied(place), limiter) => {
                let told = place
                    .zip(limiter.as_mut())
                    .is_some_and(|(place, limiter)| limiter.may_tell_denied(place, may_be_kissed(request)));
                if told { Admission::Kissed(Kiss::Deny) } else { Admission::Refused(DropReason::Denied) }
            }
            (Client::Bogon, _) => Admission::Refused(DropReason::BogonSource),
            (Client::Limited(_) | Client::Exempt, _) => Admission::Answered,
        }
    }

    /// log₂ of the least poll interval in seconds that keeps to the limit.
    pub(super) fn poll(&self) -> i8 {
        self.limiter.as_ref().map_or(i8::MIN, Limiter::poll)
    }

    /// Says what is counted in the limiter.
    pub(super) fn count(&self, counts: &Counts) {
        if let Some(limiter) = &self.limiter {
            counts.set(Event::ServedAsStranger, limiter.strangers());
        }
    }
}

/// Moves the floor, and tells where it is if it is elsewhere.
fn move_floor<P: Port>(overload: &mut Overload, port: &mut P, backlog: Backlog, monotonic_ns: i64) {
    let was = overload.floor();
    let floor = overload.step(backlog, monotonic_ns);
    if floor != was {
        port.set_floor(floor);
    }
}

/// Under which reason a refusal counts.
const fn reason(limit: Limit) -> DropReason {
    match limit {
        Limit::Address => DropReason::RateLimited,
        Limit::Prefix => DropReason::PrefixLimited,
        Limit::Strangers => DropReason::StrangersLimited,
        Limit::Contention => DropReason::LimitContended,
    }
}
