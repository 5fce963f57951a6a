//! The kinds of floods: what their requests are, and whose addresses they have.

use super::collisions::{self, Guess};
use super::{AttackError, Range};
use crate::mix::{Ask, LENGTH_MAX, Mix, MixName, Stamps};
use clap::ValueEnum;
use maser_sys::live_frames::VARIANTS_MAX;
use maser_sys::live_frames::attack::{AttackVariant, SourceRow};

/// What a flood is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum FloodKind {
    /// All requests from one address
    OneAddress,
    /// 10,000 addresses in turn
    Many,
    /// Millions of addresses by chance, of IPv6 /64s, as of a sender who makes them up
    Spoofed,
    /// Addresses that share a place in the server's table, if its key is --hash-key
    Collisions,
    /// The amplifiers' probes: monlist of mode 7, readvar of mode 6
    Monlist,
    /// Octets of chance of all lengths up to 200, wrong versions and modes
    Garbage,
    /// Good heads with hundreds of octets behind them, in an extension field that nobody knows
    Oversize,
    /// 100 addresses that go on at their rate whatever they are told
    KodIgnorers,
    /// Any address of --flood-from, which the server denies
    Denied,
    /// A million addresses, the nth of them 1/n as often as the first
    Zipf,
}

impl FloodKind {
    /// As it is written on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneAddress => "one-address",
            Self::Many => "many",
            Self::Spoofed => "spoofed",
            Self::Collisions => "collisions",
            Self::Monlist => "monlist",
            Self::Garbage => "garbage",
            Self::Oversize => "oversize",
            Self::KodIgnorers => "kod-ignorers",
            Self::Denied => "denied",
            Self::Zipf => "zipf",
        }
    }

    /// How many addresses it has unless told.
    #[must_use]
    pub const fn clients(self) -> u32 {
        match self {
            Self::OneAddress => 1,
            Self::KodIgnorers => 100,
            Self::Many | Self::Monlist | Self::Garbage | Self::Oversize | Self::Collisions => 10_000,
            Self::Zipf => 1_000_000,
            Self::Spoofed => 5_000_000,
            Self::Denied => 65_000,
        }
    }

    /// Who sends is drawn by chance, all alike.
    const fn is_by_chance(self) -> bool {
        matches!(self, Self::Spoofed | Self::Denied)
    }
}

/// Who sends a flood, and what.
#[derive(Clone, Debug)]
pub struct Flood {
    /// What it is.
    pub kind: FloodKind,
    /// Whose addresses it has.
    pub range: Range,
    /// Who sends: see [`SourceRow`]; in turn if there are none.
    pub rows: Vec<SourceRow>,
    /// What is sent.
    pub variants: Vec<AttackVariant>,
}

impl Flood {
    /// The flood of `kind`, from a range of addresses; `guess` is for collisions.
    ///
    /// # Errors
    /// Too few addresses that collide.
    pub fn new(kind: FloodKind, range: Range, guess: Guess, seed: u64) -> Result<Self, AttackError> {
        let (mut range, mut rows) = (range, Vec::new());
        if kind == FloodKind::Zipf {
            rows = zipf(range.count);
        } else if kind == FloodKind::Collisions {
            let wanted = range.count;
            let prefix = range.prefix;
            let (_, capacity) = prefix.client_words().ok_or(AttackError::Network(prefix))?;
            range.count = u32::try_from(capacity).unwrap_or(u32::MAX).min(collisions::SEARCHED_MAX);
            let clients = collisions::find(&range, guess, wanted);
            if clients.len() < wanted as usize {
                return Err(AttackError::Collisions { found: clients.len(), wanted, prefix });
            }
            rows = clients.into_iter().map(|first| SourceRow { first, count: 1 }).collect();
        } else if kind.is_by_chance() {
            rows = vec![SourceRow { first: 0, count: range.count }];
        }
        Ok(Self { kind, range, rows, variants: variants(kind, seed) })
    }

    /// How many addresses it has.
    #[must_use]
    pub fn clients(&self) -> u32 {
        if self.kind == FloodKind::Collisions {
            u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
        } else {
            self.range.count
        }
    }
}

/// The requests, which come in turn.
fn variants(kind: FloodKind, seed: u64) -> Vec<AttackVariant> {
    let (name, count) = match kind {
        FloodKind::Monlist => (MixName::Monlist, VARIANTS_MAX / 5 * 5),
        FloodKind::Garbage => (MixName::Garbage, VARIANTS_MAX),
        FloodKind::OneAddress
        | FloodKind::Many
        | FloodKind::Spoofed
        | FloodKind::Collisions
        | FloodKind::Oversize
        | FloodKind::KodIgnorers
        | FloodKind::Denied
        | FloodKind::Zipf => (MixName::Spoofed, 1),
    };
    let mix = Mix::new(name, 1, 1.0, None, seed).expect("a client, a rate, and no key");
    let of_mix = (0..count as u64).map(|number| {
        let mut octets = [0; LENGTH_MAX];
        let written = mix.write(number, Stamps { transmit: 0, receive: 0 }, Ask::Mix, &mut octets);
        AttackVariant {
            head: *octets.first_chunk().expect("a head"),
            tail: *octets[48..].first_chunk().expect("more than a header"),
            length: u16::try_from(written.length).expect("at most LENGTH_MAX"),
        }
    });
    if kind == FloodKind::Oversize { of_mix.flat_map(oversize).collect() } else { of_mix.collect() }
}

/// A good request with one extension field behind it, of a type that isn't registered (RFC 7822 §7.5).
fn oversize(plain: AttackVariant) -> Vec<AttackVariant> {
    const LENGTHS: [u16; 5] = [300, 508, 1_024, 1_280, 1_400];
    let of_length = |length: u16| {
        let [type_high, type_low] = 0xF323_u16.to_be_bytes();
        let [high, low] = (length - 48).to_be_bytes();
        AttackVariant { tail: [type_high, type_low, high, low, 0, 0, 0, 0], length, head: plain.head }
    };
    LENGTHS.map(of_length).to_vec()
}

/// Of so many clients the heaviest have addresses far from each other; the rest lie between them.
const HEAVY: u32 = 1_000;
const ROWS: u32 = 1 << 16;

/// Rows by which the nth client is drawn 1/n as often as the first: each of 65,536 rows stands for as much of the distribution.
fn zipf(clients: u32) -> Vec<SourceRow> {
    let all: f64 = (1..=clients).map(|rank| 1.0 / f64::from(rank)).sum();
    let mut rows = Vec::with_capacity(ROWS as usize);
    // The share of all clients up to and with this rank.
    let (mut rank, mut share) = (0, 1.0 / all);
    for row in 1..=ROWS {
        let first = rank;
        let end = f64::from(row) / f64::from(ROWS);
        while share < end && rank + 1 < clients {
            rank += 1;
            share += 1.0 / (all * f64::from(rank + 1));
        }
        let count = (rank - first).max(1);
        let first =
            if count == 1 && first < HEAVY { first * (clients / HEAVY).max(1) % clients } else { first };
        rows.push(SourceRow { first, count: count.min(clients - first) });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_client_is_drawn_one_nth_as_often() {
        let clients = 1_000_000;
        let rows = zipf(clients);
        assert_eq!(rows.len(), 1 << 16);
        let of = |rank: u32| {
            rows.iter().filter(|row| **row == SourceRow { first: rank * 1_000, count: 1 }).count()
        };
        // 65,536 rows over the harmonic number of a million, 14.39; a light client may have the same address.
        for (rank, wanted) in [(0, 4_553), (1, 2_277), (2, 1_518), (9, 455)] {
            assert!(of(rank).abs_diff(wanted) <= 6, "{rank}: {}", of(rank));
        }
        assert!(rows.iter().all(|row| row.count > 0 && row.first + row.count <= clients));
        assert!(rows.last().is_some_and(|row| row.first + row.count > clients - 20), "{:?}", rows.last());
    }

    #[test]
    fn what_is_sent_is_of_the_lengths_that_make_the_kind() {
        let lengths = |kind| variants(kind, 7).iter().map(|variant| variant.length).collect::<Vec<_>>();
        assert_eq!(lengths(FloodKind::Many), [48]);
        assert_eq!(lengths(FloodKind::Oversize), [300, 508, 1_024, 1_280, 1_400]);
        let probes = lengths(FloodKind::Monlist);
        assert!(probes.len() == 60 && [8, 12, 48].iter().all(|length| probes.contains(length)), "{probes:?}");
        let garbage = lengths(FloodKind::Garbage);
        assert!(garbage.len() == 64 && garbage.iter().any(|length| *length < 48), "{garbage:?}");
        assert!(garbage.iter().any(|length| *length > 100), "{garbage:?}");
    }
}
