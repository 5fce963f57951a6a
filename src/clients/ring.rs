//! A ring from a worker to the one who counts clients: bounded, made at start, and nobody waits at it.
//!
//! One thread writes and one at a time reads. What doesn't fit is lost, and how much stood behind it is told.

use crossbeam_utils::CachePadded;
use maser_core::heavy::{Fate, Network};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Samples that wait, 64 KiB.
pub(super) const SLOTS: usize = 4_096;
/// A ring with so many has just lost some, if it lost any.
const FULL: usize = SLOTS / 2;

const FATE_BITS: u64 = 0xF;
const IS_V6: u64 = 0x10;
const HALVINGS_SHIFT: u32 = 8;
const WEIGHT_SHIFT: u32 = 32;

/// Where more come, from so many to twice as many are looked at between two readings of the ring.
const ENOUGH: u64 = 2_048;

/// A request that was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sample {
    pub(super) client: Network,
    pub(super) fate: Fate,
    /// How many requests it stood for before packets were passed over.
    pub(super) weight: u32,
    /// One in two to the power of this was looked at.
    pub(super) halvings: u8,
}

impl Sample {
    /// How many requests it stands for.
    const fn worth(self) -> u64 {
        (self.weight as u64) << self.halvings
    }

    fn words(self) -> [u64; 2] {
        let (bits, family) = match self.client {
            Network::V4(bits) => (u64::from(bits), 0),
            Network::V6(bits) => (bits, IS_V6),
        };
        let (weight, halvings) = (u64::from(self.weight), u64::from(self.halvings));
        let facts = weight << WEIGHT_SHIFT | halvings << HALVINGS_SHIFT | family | self.fate as u64;
        [bits, facts]
    }

    fn of_words([bits, facts]: [u64; 2]) -> Self {
        let v4 = || Network::V4(u32::try_from(bits).unwrap_or(u32::MAX));
        let client = if facts & IS_V6 == 0 { v4() } else { Network::V6(bits) };
        let fate = usize::try_from(facts & FATE_BITS).ok().and_then(|at| Fate::ALL.get(at));
        let weight = u32::try_from(facts >> WEIGHT_SHIFT).unwrap_or(u32::MAX);
        let [_, halvings, ..] = facts.to_le_bytes();
        Self { client, fate: fate.copied().unwrap_or(Fate::Served), weight, halvings }
    }
}

/// The ring; with no slots where nobody reads.
#[derive(Debug, Default)]
pub(super) struct Ring {
    slots: Box<[[AtomicU64; 2]]>,
    /// How many samples were ever written, by the worker, and read.
    written: CachePadded<AtomicUsize>,
    read: CachePadded<AtomicUsize>,
    /// What stood behind those that didn't fit since they were last asked for.
    lost: CachePadded<AtomicU64>,
    /// How often to halve at least what is looked at, by what came before the last reading.
    halvings: CachePadded<AtomicU8>,
}

impl Ring {
    /// An empty ring. All memory is allocated and touched here.
    pub(super) fn new() -> Self {
        let slots = (0..SLOTS).map(|_| [AtomicU64::new(1), AtomicU64::new(1)]).collect();
        Self { slots, ..Self::default() }
    }

    /// Writes a sample, or loses it; how many wait now. For the worker alone.
    #[inline]
    pub(super) fn write(&self, sample: Sample) -> usize {
        let written = self.written.load(Ordering::Relaxed);
        // Pairs with the reader's store: it has read what this slot held.
        let waiting = written.wrapping_sub(self.read.load(Ordering::Acquire));
        let slot = self.slots.get(written % SLOTS).filter(|_| waiting < SLOTS);
        let Some(slot) = slot else {
            self.lost.fetch_add(sample.worth(), Ordering::Relaxed);
            return SLOTS;
        };
        for (place, word) in slot.iter().zip(sample.words()) {
            place.store(word, Ordering::Relaxed);
        }
        // Pairs with the reader's load: the slot is whole.
        self.written.store(written.wrapping_add(1), Ordering::Release);
        waiting + 1
    }

    /// How often to halve at least what is looked at.
    #[inline]
    pub(super) fn halvings(&self) -> u8 {
        self.halvings.load(Ordering::Relaxed)
    }

    /// Reads what waits, and gives each sample to `take` with how many requests it stands for, those that were lost beside it
    /// among them; how many were lost that too few are left to stand for. For one reader at a time.
    pub(super) fn read(&self, mut take: impl FnMut(Sample, f64)) -> u64 {
        let (from, lost) = (self.read.load(Ordering::Relaxed), self.lost.swap(0, Ordering::Relaxed));
        // Pairs with the worker's store.
        let waiting = self.written.load(Ordering::Acquire).wrapping_sub(from);
        let samples = || {
            let slots = (0..waiting).filter_map(|at| self.slots.get(from.wrapping_add(at) % SLOTS));
            slots.map(|slot| Sample::of_words([0, 1].map(|word: usize| slot[word].load(Ordering::Relaxed))))
        };
        // Those that are lost were like those that weren't, if these are many.
        let stood_for = if waiting < FULL { 0 } else { lost };
        let share = if stood_for == 0 {
            1.0
        } else {
            let kept: f64 = samples().map(|sample| float(sample.worth())).sum();
            1.0 + float(stood_for) / kept.max(1.0)
        };
        let mut packets = 0_u64;
        for sample in samples() {
            take(sample, float(sample.worth()) * share);
            packets += 1 << sample.halvings;
        }
        let halvings = (packets / ENOUGH).checked_ilog2().unwrap_or(0);
        self.halvings.store(u8::try_from(halvings).unwrap_or(u8::MAX), Ordering::Relaxed);
        // Pairs with the worker's load.
        self.read.store(from.wrapping_add(waiting), Ordering::Release);
        lost - stood_for
    }
}

/// Sums of requests, of which a float holds enough.
#[expect(clippy::cast_precision_loss, reason = "53 bits are more requests than there are")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    fn sample(number: u64) -> Sample {
        let client = if number.is_multiple_of(2) {
            Network::V4(u32::try_from(number).unwrap())
        } else {
            Network::V6(u64::MAX - number)
        };
        let fate = Fate::ALL[usize::try_from(number % 4).unwrap()];
        Sample { client, fate, weight: u32::try_from(number + 1).unwrap(), halvings: 1 }
    }

    #[test]
    fn what_is_written_is_read_once_and_in_order_past_the_rings_end() {
        let ring = Ring::new();
        let mut next = 0;
        for round in 0..5 {
            let count = 3_000;
            for number in round * count..(round + 1) * count {
                ring.write(sample(number));
            }
            let lost = ring.read(|found, worth| {
                assert_eq!((found, worth), (sample(next), 2.0 * (float(next) + 1.0)));
                next += 1;
            });
            assert_eq!((next, lost), ((round + 1) * count, 0));
        }
        ring.read(|_, _| panic!("nothing waits"));
    }

    #[test]
    fn what_does_not_fit_is_lost_and_those_that_do_stand_for_it() {
        let ring = Ring::new();
        let one = |weight| Sample { client: Network::V4(1), fate: Fate::Limited, weight, halvings: 0 };
        for written in 1..=SLOTS {
            assert_eq!(ring.write(one(1)), written);
        }
        for _ in 0..4 {
            assert_eq!(ring.write(one(1_024)), SLOTS);
        }
        let mut worth = 0.0;
        assert_eq!(ring.read(|_, share| worth += share), 0);
        assert_eq!(worth, 8_192.0);
        assert_eq!(ring.write(one(1)), 1);
        ring.lost.store(7, Ordering::Relaxed);
        let lost = ring.read(|_, share| assert_eq!(share, 1.0, "one can't stand for all, nor again"));
        assert_eq!(lost, 7);
        assert_eq!(ring.halvings(), 0);
        // One that nobody reads.
        assert_eq!(Ring::default().write(one(1)), SLOTS);
    }

    #[test]
    fn reader_and_writer_at_once_lose_nothing_untold() {
        const WRITTEN: u64 = 2_000_000;
        let (ring, done) = (Ring::new(), AtomicBool::new(false));
        let (mut total, mut samples) = (0.0, 0_u64);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..WRITTEN {
                    ring.write(Sample { weight: 1, halvings: 0, ..sample(number) });
                }
                done.store(true, Ordering::Release);
            });
            let mut before = None;
            loop {
                let is_last = done.load(Ordering::Acquire);
                let lost = ring.read(|found, worth| {
                    let number = match found.client {
                        Network::V4(number) => u64::from(number),
                        Network::V6(number) => u64::MAX - number,
                    };
                    let written = Sample { weight: 1, halvings: 0, ..sample(number) };
                    assert_eq!(found, written, "both words are of one sample");
                    assert!(before < Some(number));
                    before = Some(number);
                    (total, samples) = (total + worth, samples + 1);
                });
                total += float(lost);
                if is_last {
                    break;
                }
            }
        });
        println!("{samples} of {WRITTEN} samples fitted");
        assert!((total - float(WRITTEN)).abs() < 1.0, "{total}");
    }
}
