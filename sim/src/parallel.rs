//! Many runs on all cores: jobs by number, their results in order.
//!
//! A run depends on nothing but its number, so the order in which cores come to them changes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Does `job` for every number below `count` on all cores, and hands `take` the results in order of the numbers, each as
/// soon as all before it are there.
///
/// # Errors
/// The first of `take`, after which no other job is begun.
pub fn in_order<T: Send, E>(
    count: usize,
    job: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let (results, done) = mpsc::channel();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores.min(count) {
            let (next, job, results) = (&next, &job, results.clone());
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || results.send((number, job(number))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let mut early = BTreeMap::new();
        let mut expected = 0;
        for (number, result) in done {
            early.insert(number, result);
            while let Some(result) = early.remove(&expected) {
                take(expected, result)?;
                expected += 1;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_all_of_them() {
        let mut taken = Vec::new();
        // The first take longest, so that they would come last.
        let job =
            |number: usize| (0..(100 - number) * 1_000).fold(number, |kept, _| std::hint::black_box(kept));
        let take = |number, result| {
            taken.push((number, result));
            Ok::<(), ()>(())
        };
        assert_eq!(in_order(100, job, take), Ok(()));
        assert_eq!(taken, (0..100).map(|number| (number, number)).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_ends_it() {
        let begun = AtomicUsize::new(0);
        let job = |_| begun.fetch_add(1, Ordering::Relaxed);
        assert_eq!(
            in_order(1_000_000, job, |number, _| if number < 3 { Ok(()) } else { Err(number) }),
            Err(3)
        );
        assert!(begun.load(Ordering::Relaxed) < 1_000_000);
    }
}
