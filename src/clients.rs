//! Who asks the most: what the workers see, counted in bounded memory, for `maser clients`.
//!
//! ```text
//! Worker::batch → Tap::saw ─ring─→ Clients::collect, 20 times a second → Heaviest ← maser clients
//! ```
//!
//! Workers wait for nobody here. Nothing of it leaves the process but by the status socket's answer to that question.

mod ring;
mod tap;

pub use self::tap::Tap;
pub use maser_core::heavy::Fate;

use self::ring::{Ring, float};
use crate::status::{ByFate, ClientStatus, ClientsQuestion, ClientsStatus, Order};
use maser_core::hash::mix;
use maser_core::heavy::{self, HALF_LIFE, Heaviest, Network, Row, Set};
use maser_core::time::{Span, Ticks};
use maser_sys::counter::Counter;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Parts of a table: 4,096 clients are counted one by one, the others in 65,536 cells. 1.6 MB.
const SETS: usize = 512;

/// How often the workers' rings are read.
const COLLECTED_EVERY: Duration = Duration::from_millis(50);

/// The two tables, and since when they count.
#[derive(Debug)]
pub struct Clients {
    counter: Counter,
    begun: Ticks,
    /// Nobody outside can choose addresses that meet in a table, or foresee what is looked at, without knowing this number.
    key: u64,
    rings: Mutex<Vec<Arc<Ring>>>,
    tables: Mutex<Tables>,
}

#[derive(Debug)]
struct Tables {
    addresses: Heaviest<Box<[Set]>>,
    prefixes: Heaviest<Box<[Set]>>,
    /// Requests that nobody knows whose they were.
    lost: u64,
}

impl Clients {
    /// Nobody counted yet, under a key that nobody knows. All memory but the rings' is allocated here.
    #[must_use]
    pub fn new(counter: Counter) -> Arc<Self> {
        Self::with_key(counter, RandomState::new().hash_one(0_u8))
    }

    /// The same under this key, where it has to be the same from run to run what is looked at.
    #[must_use]
    pub fn with_key(counter: Counter, key: u64) -> Arc<Self> {
        let table = |number: u64| Heaviest::new(vec![Set::EMPTY; SETS].into_boxed_slice(), mix(key ^ number));
        let tables = Mutex::new(Tables { addresses: table(0), prefixes: table(1), lost: 0 });
        Arc::new(Self { counter, begun: counter.now(), key, rings: Mutex::default(), tables })
    }

    /// A worker's end. Its memory is allocated here.
    #[must_use]
    pub fn tap(&self) -> Tap {
        let ring = Arc::new(Ring::new());
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.push(Arc::clone(&ring));
        Tap::new(ring, mix(!self.key ^ rings.len() as u64))
    }

    /// Counts what the workers see, until `stop`.
    pub fn run(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.collect(self.now());
            thread::sleep(COLLECTED_EVERY);
        }
    }

    /// How long it has been counting.
    #[must_use]
    pub fn now(&self) -> Span {
        self.counter.nominal_rate().span_of(self.counter.now().since(self.begun))
    }

    /// Counts what the workers have seen since it was last called, as of `now`.
    pub fn collect(&self, now: Span) {
        let mut tables = self.tables();
        let Tables { addresses, prefixes, lost } = &mut *tables;
        addresses.begin(now);
        prefixes.begin(now);
        for ring in self.rings.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *lost += ring.read(|sample, worth| {
                addresses.add(sample.client, sample.fate, worth);
                prefixes.add(sample.client.prefix(), sample.fate, worth);
            });
        }
    }

    /// What is asked for, as of `now`; `limiting` if there are limits.
    #[must_use]
    pub fn status(&self, question: &ClientsQuestion, limiting: bool, now: Span) -> ClientsStatus {
        self.collect(now);
        let tables = self.tables();
        let all = tables.addresses.all();
        let told = |table: &Heaviest<Box<[Set]>>, is_wanted, name: fn(Network) -> String| {
            let row = |(network, row): &(Network, Row)| client(name(*network), row, &all, now);
            if is_wanted { heaviest(table, question).iter().map(row).collect() } else { Vec::new() }
        };
        let name = if question.truncated { prefix_name } else { address_name };
        ClientsStatus {
            for_s: now.as_seconds_f64(),
            half_life_s: HALF_LIFE.as_seconds_f64(),
            limiting,
            truncated: question.truncated,
            looked_at_one_in: tables.addresses.looked_at_one_in(),
            lost: float(tables.lost),
            rate: ByFate::of(all.rates),
            requests: ByFate::of(all.totals),
            addresses: told(&tables.addresses, question.by != Order::Prefix, name),
            prefixes: told(&tables.prefixes, question.by != Order::Address, prefix_name),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first of those in `table` by the order that is asked for.
fn heaviest(table: &Heaviest<Box<[Set]>>, question: &ClientsQuestion) -> Vec<(Network, Row)> {
    let mut rows: Vec<(Network, Row)> = table.rows().collect();
    let weight = |row: &Row| match question.by {
        Order::Rate => row.rate(),
        Order::Kiss => row.rates[Fate::Kissed as usize],
        Order::Address | Order::Prefix => row.total(),
    };
    rows.retain(|(_, row)| weight(row) > 0.0);
    // Those of one weight in an order all the same.
    rows.sort_by(|(one, of_one), (other, of_other)| {
        weight(of_other).total_cmp(&weight(of_one)).then_with(|| one.cmp(other))
    });
    rows.truncate(question.top.into());
    rows
}

fn client(client: String, row: &Row, all: &Row, now: Span) -> ClientStatus {
    ClientStatus {
        client,
        rate: ByFate::of(row.rates),
        rate_error: row.rate_error,
        share: if all.rate() > 0.0 { row.rate() / all.rate() } else { 0.0 },
        requests: ByFate::of(row.totals),
        requests_error: row.total_error,
        for_s: (now - row.since).as_seconds_f64().max(0.0),
        last_s: (now - row.last).as_seconds_f64().max(0.0),
    }
}

/// An address of IPv4, a /64 of IPv6.
fn address_name(network: Network) -> String {
    let address = network.address();
    if address.is_ipv4() { address.to_string() } else { format!("{address}/64") }
}

/// A /24 of IPv4, a /48 of IPv6.
fn prefix_name(network: Network) -> String {
    let address = network.prefix().address();
    format!("{address}/{}", if address.is_ipv4() { 24 } else { 48 })
}

impl ByFate {
    const fn of([served, limited, kissed, denied]: heavy::ByFate) -> Self {
        Self { served, limited, kissed, denied }
    }
}

#[cfg(test)]
mod tests;
