//! The latch under loom's model checker, which tries every interleaving (with a bounded number of preemptions) and
//! every value that a load may legally return.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p maser-sys --release --lib snapshot_cell
//! ```

use super::atomic::Ordering;
use super::latch::{Latch, Orders, Sound, Whole};
use loom::sync::Arc;
use loom::thread;

const WORDS: usize = 2;

/// Words that are bound to each other, and to their generation.
fn words_of(generation: u64) -> [u64; WORDS] {
    [generation, !generation]
}

fn whole_generation(whole: Whole<WORDS>) -> u64 {
    let [generation, _] = whole.words;
    assert_eq!(whole.words, words_of(generation), "torn");
    generation
}

/// Every planted fault is found with so many preemptions, and with one less; one more takes minutes.
const PREEMPTIONS_MAX: usize = 3;
/// With a third thread.
const PREEMPTIONS_OF_THREE_MAX: usize = 2;

fn model(preemptions_max: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions_max);
    builder.check(scenario);
}

/// `readers` readers read `reads` times each while `published` generations are published.
///
/// Never is a read torn, older than the one before it, or older than what a finished publication left; and as the
/// sequence turns twice a publication, no more than that many tries are spoilt wherever the writer is preempted.
fn race<O: Orders + Send + Sync + 'static>(published: u32, readers: u32, reads: u32) {
    let preemptions_max = if readers > 1 { PREEMPTIONS_OF_THREE_MAX } else { PREEMPTIONS_MAX };
    model(preemptions_max, move || {
        let latch = Arc::new(Latch::<WORDS, O>::new(&words_of(0)));
        let turns = 2 * published;
        let threads: Vec<_> = (0..readers)
            .map(|_| {
                let latch = Arc::clone(&latch);
                thread::spawn(move || {
                    let mut newest = 0;
                    for _ in 0..reads {
                        let whole = latch.read(turns + 1).expect("a preempted writer stalled a reader");
                        let generation = whole_generation(whole);
                        assert!(generation >= newest, "went back");
                        newest = generation;
                    }
                })
            })
            .collect();
        for generation in 1..=u64::from(published) {
            latch.publish(&words_of(generation));
        }
        for thread in threads {
            thread.join().expect("a reader failed");
        }
        assert_eq!(latch.read(1).map(whole_generation), Some(u64::from(published)));
    });
}

#[test]
fn two_readers_never_see_a_torn_or_older_value() {
    race::<Sound>(1, 2, 1);
}

#[test]
fn a_reader_that_reads_twice_never_goes_back() {
    race::<Sound>(1, 1, 2);
}

#[test]
fn a_lapped_reader_never_sees_a_torn_value() {
    race::<Sound>(2, 1, 1);
}

#[test]
fn a_reader_that_runs_out_of_tries_says_so() {
    model(PREEMPTIONS_MAX, || {
        let latch = Arc::new(Latch::<WORDS>::new(&words_of(0)));
        let reader = {
            let latch = Arc::clone(&latch);
            thread::spawn(move || {
                if let Some(whole) = latch.read(1) {
                    whole_generation(whole);
                    assert_eq!(whole.retries, 0);
                }
            })
        };
        latch.publish(&words_of(1));
        latch.publish(&words_of(2));
        reader.join().unwrap();
    });
}

/// Each of these breaks one thing that the latch relies on: the checker must find it.
macro_rules! planted_faults {
    ($($name:ident $fault:ident { $($override:tt)* } $message:literal)*) => {$(
        enum $fault {}
        impl Orders for $fault { $($override)* }

        #[test]
        #[should_panic = $message]
        fn $name() {
            race::<$fault>(2, 1, 1);
        }
    )*};
}

planted_faults! {
    a_relaxed_turn_is_found RelaxedTurn { const TURN: Ordering = Ordering::Relaxed; } "torn"
    a_relaxed_entry_is_found RelaxedEntry { const ENTER: Ordering = Ordering::Relaxed; } "torn"
    a_missing_writer_fence_is_found NoFillFence { const FILL_FENCE: bool = false; } "torn"
    a_missing_reader_fence_is_found NoLeaveFence { const LEAVE_FENCE: bool = false; } "torn"
    a_missing_check_is_found NoCheck { const CHECK: bool = false; } "torn"
    a_single_copy_is_found OneCopy { const TWO_COPIES: bool = false; } "torn"
}
