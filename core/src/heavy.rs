//! The heaviest clients, found among any number of them in memory that never grows: how often each asks, and what it
//! got.
//!
//! Filtered Space-Saving (Homem and Carvalho, 2010, after Metwally, Agrawal and El Abbadi, 2005): so many clients are
//! counted one by one, the others together in cells by a hash. Who isn't counted gets the place of the lightest once its
//! cell has grown as heavy. What it was before is then at most its cell's, which is the entry's greatest error. So floods
//! from made-up addresses fill cells and displace nobody who asks more often than a cell's share of them.
//!
//! Recent counts fade to half in a minute, by weighing what comes later more (forward decay; Cormode and others, 2009): the
//! order among clients stays as it is while nobody asks, and nothing has to be aged.
//!
//! The table is cut into sets by a keyed hash, each a Space-Saving of its own: looking a client up touches a few cache
//! lines, and the bounds hold for each set and so for all.

use crate::hash::{halves, mix};
use crate::time::Span;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is so old counts half.
pub const HALF_LIFE: Span = Span::from_seconds(60);
const HALF_LIFE_S: f64 = 60.0;
/// What fades to half in a half-life counts as much as this time in full, seconds: the half-life over ln 2.
const WINDOW_S: f64 = HALF_LIFE_S * core::f64::consts::LOG2_E;
/// A rate is told over this at least, seconds: a lone request of a moment ago is no high rate.
const ELAPSED_MIN_S: f64 = 1.0;
/// Weights are brought down when they have grown to two to the power of this: far from what a float holds.
const HALF_LIVES_MAX: f64 = 64.0;

/// Clients counted one by one in a set.
const WAYS: usize = 8;
/// Cells of a set: 16 for each such client, so that a flood's share of one is small.
const CELLS: usize = 128;

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It was answered with the time, or with "unsynchronised".
    Served,
    /// It was over a limit and got nothing.
    Limited,
    /// It was over a limit or denied, and got a kiss of death that says so.
    Kissed,
    /// The access list denies its source; it got nothing.
    Denied,
}

impl Fate {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 4] = [Self::Served, Self::Limited, Self::Kissed, Self::Denied];
}

/// A figure for each fate, in the order of [`Fate::ALL`].
pub type ByFate = [f64; Fate::ALL.len()];

/// What is counted as one client: an address of IPv4, a /64 of IPv6; or a prefix of theirs, whose other bits are 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Network {
    /// An address's bits.
    V4(u32),
    /// The upper half of an address.
    V6(u64),
}

impl Network {
    /// The client that has this address.
    #[inline]
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(halves(address.to_bits()).0),
        }
    }

    /// The /24 or the /48 that it is in.
    #[must_use]
    pub const fn prefix(self) -> Self {
        match self {
            Self::V4(bits) => Self::V4(bits & 0xFFFF_FF00),
            Self::V6(bits) => Self::V6(bits & 0xFFFF_FFFF_FFFF_0000),
        }
    }

    /// The first address in it.
    #[must_use]
    pub fn address(self) -> IpAddr {
        match self {
            Self::V4(bits) => Ipv4Addr::from_bits(bits).into(),
            Self::V6(bits) => Ipv6Addr::from_bits(u128::from(bits) << 64).into(),
        }
    }

    #[inline]
    const fn hash(self, key: u64) -> u64 {
        match self {
            // 2⁶⁴ divided by the golden ratio keeps the families apart.
            Self::V4(bits) => mix(key ^ 0x9E37_79B9_7F4A_7C15 ^ bits as u64),
            Self::V6(bits) => mix(key ^ bits),
        }
    }
}

/// What may have been asked without being counted for a client; in a cell for all of the cell's.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Missed {
    /// As recent counts are weighed.
    recent: f64,
    total: f64,
}

impl Missed {
    const NOTHING: Self = Self { recent: 0.0, total: 0.0 };
}

/// What is known of a client since it is counted.
#[derive(Clone, Copy, Debug)]
struct Entry {
    recent: ByFate,
    totals: ByFate,
    /// What it may have asked before.
    missed: Missed,
    since: Span,
    last: Span,
}

impl Entry {
    const NEW: Self = Self {
        recent: [0.0; Fate::ALL.len()],
        totals: [0.0; Fate::ALL.len()],
        missed: Missed::NOTHING,
        since: Span::ZERO,
        last: Span::ZERO,
    };
}

/// A part of the table's memory.
#[derive(Clone, Debug)]
pub struct Set {
    clients: [Option<Network>; WAYS],
    /// At least what each asked lately: what was counted and what may have been missed.
    weights: [f64; WAYS],
    entries: [Entry; WAYS],
    cells: [Missed; CELLS],
}

impl Set {
    /// Nobody in it.
    pub const EMPTY: Self = Self {
        clients: [None; WAYS],
        weights: [0.0; WAYS],
        entries: [Entry::NEW; WAYS],
        cells: [Missed::NOTHING; CELLS],
    };

    /// The entry of `client`, newly made if it has become heavy enough; none if it was counted in its cell.
    fn entry(
        &mut self,
        client: Network,
        key: u64,
        now: Span,
        weight: f64,
        recent: f64,
    ) -> Option<&mut Entry> {
        if let Some(way) = self.clients.iter().position(|counted| *counted == Some(client)) {
            *self.weights.get_mut(way)? += recent;
            return self.entries.get_mut(way);
        }
        let weights = self.weights.iter().copied().enumerate();
        let (way, lightest) = weights.min_by(|(_, one), (_, other)| one.total_cmp(other))?;
        let cell = self.cells.get_mut(cell_of(client, key))?;
        let missed = *cell;
        if missed.recent + recent < lightest {
            *cell = Missed { recent: missed.recent + recent, total: missed.total + weight };
            return None;
        }
        let (entry, counted) = (self.entries.get_mut(way)?, self.clients.get_mut(way)?);
        if let Some(displaced) = counted.replace(client) {
            // Should it come back, it may have asked as often as is known now.
            let cell = self.cells.get_mut(cell_of(displaced, key))?;
            cell.recent = cell.recent.max(lightest);
            cell.total = cell.total.max(entry.totals.iter().sum::<f64>() + entry.missed.total);
        }
        *self.weights.get_mut(way)? = missed.recent + recent;
        *entry = Entry { missed, since: now, ..Entry::NEW };
        Some(entry)
    }

    fn fade(&mut self, factor: f64) {
        self.weights.iter_mut().for_each(|weight| *weight *= factor);
        self.cells.iter_mut().for_each(|cell| cell.recent *= factor);
        for entry in &mut self.entries {
            entry.recent.iter_mut().for_each(|recent| *recent *= factor);
            entry.missed.recent *= factor;
        }
    }
}

fn cell_of(client: Network, key: u64) -> usize {
    /// As many low bits as cells.
    const CELL_BITS: u64 = CELLS as u64 - 1;
    const { assert!(CELLS.is_power_of_two()) }
    usize::try_from(client.hash(key) & CELL_BITS).unwrap_or(0)
}

/// Counts, and how many requests stand behind each that was looked at.
#[derive(Clone, Copy, Debug)]
struct Sums {
    counts: ByFate,
    /// The sum of each count's weight times its weight without itself.
    spread: ByFate,
}

impl Sums {
    const NOTHING: Self = Self { counts: [0.0; Fate::ALL.len()], spread: [0.0; Fate::ALL.len()] };

    fn add(&mut self, fate: Fate, weight: f64, scale: f64) {
        let at = fate as usize;
        if let (Some(count), Some(spread)) = (self.counts.get_mut(at), self.spread.get_mut(at)) {
            *count += weight * scale;
            *spread += weight * (weight - 1.0) * scale;
        }
    }

    fn fade(&mut self, factor: f64) {
        self.counts.iter_mut().chain(&mut self.spread).for_each(|sum| *sum *= factor);
    }

    /// The variance of a count by what was looked at, if as many stand behind each of its requests as behind others' of
    /// its fate.
    fn variance(&self, counts: &ByFate) -> f64 {
        let ours = counts.iter().zip(self.counts.iter().zip(&self.spread));
        ours.filter(|(_, (all, _))| **all > 0.0).map(|(count, (all, spread))| count * spread / all).sum()
    }
}

/// What is told of a client, or of all.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// Requests a second lately, by fate: those of a minute ago count half.
    pub rates: ByFate,
    /// How much more may have been missed before the client was counted, and three standard deviations of what comes of
    /// looking at a part of the requests; requests a second.
    pub rate_error: f64,
    /// Requests since the client is counted, by fate.
    pub totals: ByFate,
    /// As for the rate, over the whole time.
    pub total_error: f64,
    /// Since when it is counted, from the table's beginning.
    pub since: Span,
    /// When it was last seen, as well.
    pub last: Span,
}

impl Row {
    /// Requests a second, whatever became of them.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rates.iter().sum()
    }

    /// Requests, whatever became of them.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.totals.iter().sum()
    }
}

/// Clients by how often they ask, in memory that the caller gives.
#[derive(Debug)]
pub struct Heaviest<M> {
    sets: M,
    /// Nobody outside can choose addresses that meet in a set without knowing this number.
    key: u64,
    /// Now and when requests weighed 1, from the table's beginning.
    now: Span,
    landmark: Span,
    /// What a request weighs now.
    scale: f64,
    recent: Sums,
    totals: Sums,
}

impl<M: AsMut<[Set]> + AsRef<[Set]>> Heaviest<M> {
    /// Nobody counted, in `sets` that are all [`EMPTY`](Set::EMPTY). Nobody outside may know `key`.
    pub const fn new(sets: M, key: u64) -> Self {
        let (recent, totals) = (Sums::NOTHING, Sums::NOTHING);
        Self { sets, key, now: Span::ZERO, landmark: Span::ZERO, scale: 1.0, recent, totals }
    }

    /// What comes next is of `now`, from the table's beginning; an earlier moment than the last counts as that.
    pub fn begin(&mut self, now: Span) {
        self.now = self.now.max(now);
        let half_lives = (self.now - self.landmark).as_seconds_f64() / HALF_LIFE_S;
        self.scale = libm::exp2(half_lives);
        if half_lives > HALF_LIVES_MAX {
            let factor = libm::exp2(-half_lives);
            self.sets.as_mut().iter_mut().for_each(|set| set.fade(factor));
            self.recent.fade(factor);
            (self.landmark, self.scale) = (self.now, 1.0);
        }
    }

    /// Counts a request of `client` that stands for `weight` of them.
    pub fn add(&mut self, client: Network, fate: Fate, weight: f64) {
        let Self { key, now, scale, .. } = *self;
        self.recent.add(fate, weight, scale);
        self.totals.add(fate, weight, 1.0);
        let sets = self.sets.as_mut();
        let place = (u128::from(client.hash(key)) * sets.len() as u128) >> 64;
        let set = usize::try_from(place).ok().and_then(|place| sets.get_mut(place));
        let Some(entry) = set.and_then(|set| set.entry(client, key, now, weight, weight * scale)) else {
            return;
        };
        entry.last = now;
        let counts = entry.recent.get_mut(fate as usize).zip(entry.totals.get_mut(fate as usize));
        if let Some((recent, total)) = counts {
            *recent += weight * scale;
            *total += weight;
        }
    }

    /// Everybody who is counted, in no order.
    pub fn rows(&self) -> impl Iterator<Item = (Network, Row)> {
        let of_set = |set: &'_ Set| -> [Option<(Network, Row)>; WAYS] {
            let mut clients = set.clients.iter().zip(&set.entries);
            core::array::from_fn(|_| {
                clients.next().and_then(|(client, entry)| Some(((*client)?, self.row(entry))))
            })
        };
        self.sets.as_ref().iter().flat_map(of_set).flatten()
    }

    /// All clients together; nothing of them is missed.
    #[must_use]
    pub fn all(&self) -> Row {
        let (recent, totals) = (self.recent.counts, self.totals.counts);
        self.row(&Entry { recent, totals, last: self.now, ..Entry::NEW })
    }

    /// Requests for each that was looked at lately.
    #[must_use]
    pub fn looked_at_one_in(&self) -> f64 {
        let (counts, spread): (f64, f64) = (self.recent.counts.iter().sum(), self.recent.spread.iter().sum());
        if counts > 0.0 { 1.0 + spread / counts } else { 1.0 }
    }

    fn row(&self, entry: &Entry) -> Row {
        /// Of a normal distribution beyond which 1 in 370 lies.
        const DEVIATIONS: f64 = 3.0;
        let elapsed_s = self.now.as_seconds_f64().max(ELAPSED_MIN_S);
        let left = libm::exp2(-elapsed_s / HALF_LIFE_S);
        let window_s = WINDOW_S * (1.0 - left);
        let rates = entry.recent.map(|recent| recent / (self.scale * window_s));
        // Weights that fade are squared in it: the sum of the squares over that of the weights is (1 + left) / 2.
        let variance = self.recent.variance(&rates) * (1.0 + left) / 2.0 / window_s;
        let missed = entry.missed.recent / (self.scale * window_s);
        Row {
            rates,
            rate_error: missed + DEVIATIONS * libm::sqrt(variance),
            totals: entry.totals,
            total_error: entry.missed.total + DEVIATIONS * libm::sqrt(self.totals.variance(&entry.totals)),
            since: entry.since,
            last: entry.last,
        }
    }
}

#[cfg(test)]
#[path = "heavy_tests.rs"]
mod tests;
