//! The two-copy latch, over any number of words.
//!
//! The sequence says which copy is still: the second while it is odd, the first while it is even. The writer turns
//! it before it touches either copy:
//!
//! ```text
//!   sequence    2n       2n+1                2n+2
//!   writer          turn, fill the first, turn, fill the second
//!   readers use first    second              first
//! ```
//!
//! So wherever a writer stops, the copy that readers use is whole. A reader that finds the sequence turned after
//! it copied can have seen words of an update, and tries again. (The kernel keeps time the same way:
//! `seqcount_latch_t`, Documentation/locking/seqlock.rst.)

use super::atomic::{AtomicU64, Ordering, fence};
use crossbeam_utils::CachePadded;
use std::marker::PhantomData;

/// Every memory ordering that the latch relies on, in the pairs that it relies on.
///
/// [`Sound`] changes nothing. The model checker's tests weaken one at a time, to show that each is needed and that
/// the checker would find it missing.
pub(crate) trait Orders {
    /// The writer's store of the sequence; pairs with [`ENTER`](Self::ENTER). A reader that finds a sequence finds
    /// the copy that it points to complete.
    const TURN: Ordering = Ordering::Release;
    /// The reader's first load of the sequence; pairs with [`TURN`](Self::TURN).
    const ENTER: Ordering = Ordering::Acquire;
    /// The writer's release fence between turning and filling; pairs with [`LEAVE_FENCE`](Self::LEAVE_FENCE). A
    /// reader that saw one word of an update then finds the sequence turned.
    const FILL_FENCE: bool = true;
    /// The reader's acquire fence between copying and checking; pairs with [`FILL_FENCE`](Self::FILL_FENCE).
    const LEAVE_FENCE: bool = true;
    /// Whether the reader checks the sequence again.
    const CHECK: bool = true;
    /// Whether there are two copies; with one this is a seqlock that doesn't wait.
    const TWO_COPIES: bool = true;
}

/// The orderings as they must be.
#[derive(Debug)]
pub(crate) enum Sound {}

impl Orders for Sound {}

/// `N` words that are read whole.
#[derive(Debug)]
pub(crate) struct Latch<const N: usize, O: Orders = Sound> {
    sequence: CachePadded<AtomicU64>,
    first: CachePadded<[AtomicU64; N]>,
    second: CachePadded<[AtomicU64; N]>,
    orders: PhantomData<fn() -> O>,
}

/// Words of one publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Whole<const N: usize> {
    /// As they were published.
    pub(crate) words: [u64; N],
    /// Tries that were spoilt before this one.
    pub(crate) retries: u32,
}

impl<const N: usize, O: Orders> Latch<N, O> {
    pub(crate) fn new(words: &[u64; N]) -> Self {
        Self {
            sequence: CachePadded::new(AtomicU64::new(0)),
            first: CachePadded::new(words.map(AtomicU64::new)),
            second: CachePadded::new(words.map(AtomicU64::new)),
            orders: PhantomData,
        }
    }

    /// Replaces the words. There must be one writer only, which [`Writer`](super::Writer) sees to; a second one
    /// would mix words but do nothing undefined.
    pub(crate) fn publish(&self, words: &[u64; N]) {
        for _copy in 0..2 {
            self.fill(self.turn(), words);
        }
    }

    /// Sends readers to the copy that was filled last, and returns the other one.
    fn turn(&self) -> &[AtomicU64; N] {
        // Only the writer stores the sequence, so it reads its own store and needs no order for it.
        let turned = self.sequence.load(Ordering::Relaxed).wrapping_add(1);
        self.sequence.store(turned, O::TURN);
        if O::FILL_FENCE {
            fence(Ordering::Release);
        }
        self.still(turned.wrapping_add(1))
    }

    fn fill(&self, copy: &[AtomicU64; N], words: &[u64; N]) {
        for (to, from) in copy.iter().zip(words) {
            // Ordered by the fence before and the next turn after.
            to.store(*from, Ordering::Relaxed);
        }
    }

    /// The copy that isn't written while the sequence stands at `sequence`.
    fn still(&self, sequence: u64) -> &[AtomicU64; N] {
        if O::TWO_COPIES && sequence % 2 == 1 { &self.second } else { &self.first }
    }

    /// The newest words, or none if the writer moved during each of `tries`.
    ///
    /// A try fails only when the sequence was turned during it, so a writer that turns it `n` times, and stops
    /// wherever it may, spoils at most `n` tries.
    #[inline(always)]
    pub(crate) fn read(&self, tries: u32) -> Option<Whole<N>> {
        for retries in 0..tries {
            let entered = self.sequence.load(O::ENTER);
            let copy = self.still(entered);
            // Ordered by the load before and the fence after.
            let words = std::array::from_fn(|i| copy[i].load(Ordering::Relaxed));
            if O::LEAVE_FENCE {
                fence(Ordering::Acquire);
            }
            // The fence orders this load after the copy.
            if !O::CHECK || self.sequence.load(Ordering::Relaxed) == entered {
                return Some(Whole { words, retries });
            }
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const WORDS: usize = 12;

    /// Words of which each tells the generation they belong to.
    fn words_of(generation: u64) -> [u64; WORDS] {
        let mut word = generation.wrapping_mul(MULTIPLIER);
        std::array::from_fn(|_| {
            word = word.rotate_left(1);
            word
        })
    }

    const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
    /// Its inverse modulo 2⁶⁴.
    const INVERSE: u64 = 0xF1DE_83E1_9937_733D;
    const _: () = assert!(MULTIPLIER.wrapping_mul(INVERSE) == 1);

    #[test]
    fn a_writer_that_stops_at_any_store_leaves_the_old_words_or_the_new() {
        for stop in 0..=2 * WORDS {
            let latch = Latch::<WORDS>::new(&words_of(1));
            latch.publish(&words_of(2));
            let (first_fill, second_fill) = (stop.min(WORDS), stop.saturating_sub(WORDS));
            stop_after(latch.turn(), first_fill);
            let mut expected = words_of(2);
            if first_fill == WORDS {
                assert_eq!(
                    latch.read(1),
                    Some(Whole { words: expected, retries: 0 }),
                    "before the second turn"
                );
                stop_after(latch.turn(), second_fill);
                expected = words_of(3);
            }
            assert_eq!(
                latch.read(1),
                Some(Whole { words: expected, retries: 0 }),
                "stopped after {stop} words"
            );
        }
    }

    fn stop_after(copy: &[AtomicU64; WORDS], count: usize) {
        for (to, from) in copy.iter().zip(words_of(3)).take(count) {
            to.store(from, Ordering::Relaxed);
        }
    }

    #[test]
    fn threads_read_whole_words_in_order() {
        const PUBLISHED: u64 = if cfg!(miri) { 40 } else { 20_000 };
        let latch = Latch::<WORDS>::new(&words_of(0));
        std::thread::scope(|scope| {
            for _reader in 0..2 {
                scope.spawn(|| {
                    let mut newest = 0;
                    while newest < PUBLISHED {
                        let Some(whole) = latch.read(8) else { continue };
                        let generation = whole.words[0].rotate_right(1).wrapping_mul(INVERSE);
                        assert_eq!(whole.words, words_of(generation), "torn");
                        assert!(generation >= newest, "{generation} after {newest}");
                        newest = generation;
                    }
                });
            }
            scope.spawn(|| (1..=PUBLISHED).for_each(|generation| latch.publish(&words_of(generation))));
        });
    }
}
