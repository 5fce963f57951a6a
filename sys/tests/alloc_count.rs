//! The counting allocator, and that what the packet path calls of this crate allocates nothing.

use maser_core::snapshot::Snapshot;
use maser_sys::alloc_count::{CountingAllocator, allocations_in, allocations_on_all_threads};
use maser_sys::counter::Counter;
use maser_sys::snapshot_cell::snapshot_cell;
use maser_sys::{calibration, clock};
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn every_way_to_allocate_is_counted() {
    assert_eq!(allocations_in(|| black_box(Box::new(1))).1, 1);
    assert_eq!(allocations_in(|| black_box(vec![0_u8; 100])).1, 1, "zeroed");
    let grow = || {
        let mut grown = Vec::with_capacity(1);
        grown.extend(black_box([1, 2, 3]));
        grown
    };
    assert_eq!(allocations_in(grow).1, 2, "and then given more room");
}

#[test]
fn a_worker_counts_its_own_and_the_sum_has_them_all() {
    let before = allocations_on_all_threads();
    let on_worker =
        std::thread::spawn(|| allocations_in(|| black_box(vec![Box::new(1); 10])).1).join().unwrap();
    assert_eq!(on_worker, 11);
    assert!(allocations_on_all_threads() - before >= on_worker);
}

#[test]
fn the_packet_path_allocates_nothing() {
    let (mut writer, reader) = snapshot_cell(&Snapshot::UNKNOWN);
    for counter in [calibration::choose(&[]).counter, Counter::monotonic_raw()] {
        let work = || {
            writer.publish(&Snapshot::UNKNOWN);
            (counter.now(), clock::reading(&counter), reader.read())
        };
        assert_eq!(allocations_in(work).1, 0);
    }
}
