//! AF_XDP over a veth pair in a namespace of the test's own: `echo` is about frames that come and go, `faults` about what
//! goes wrong, `opening` about what is refused and in which words, `figures` about speed (`--ignored`). All take root and
//! say so when they are skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests bound their loops by the real clock")]

mod departures;
mod echo;
mod faults;
mod figures;
mod opening;
mod overload;
mod rig;

use maser_sys::alloc_count::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;
