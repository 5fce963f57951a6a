//! Who is answered how often: token buckets by address and by prefix, in memory that never grows.
//!
//! ```text
//! client → hash under a key → its set, a cache line → its entry ─ over its rate? ──── kiss or silence
//!                                                   └ none: admitted, or the strangers' bucket
//!          the same for its prefix, unless it is a regular
//! ```
//!
//! An IPv4 address has a bucket, and an IPv6 /64; above them a prefix has one, which isn't charged for regulars, nor for
//! what an address's own bucket refuses. An address pays for what its prefix refuses: who asks too often stays in debt, and is
//! never taken for a regular. The table is words of 64 bits, eight to a set, and all that is known of an address
//! is one word ([`Entry`]): so a decision is one compare-and-swap, workers on any number of cores share one table without
//! a lock, and an XDP program can read what they write. Whoever doesn't know the [`Key`](hash::Key) can't choose addresses
//! that share a set.
//!
//! **Rate**: a bucket is GCRA's one number, the moment at which it will be full again. Whatever a clock does, no more is
//! allowed than a burst and the rate for as long as the clock went forward: going back gives nothing, and more than nine
//! minutes back count as no time at all ([`Clock`]).
//!
//! **Memory**: who comes for the first time takes an empty place or one whose owner is worth no more than a newcomer: that is
//! one of those that came once, or didn't come back in longer than their level is good for. An entry is worth
//! more each time it comes back after its bucket was full for half a second and its prefix has paid, and less for each 18 minutes without it. So a flood from made-up
//! addresses replaces its own entries and no regular's. An entry in debt is never replaced, or its owner would be forgiven. Who finds
//! no place is charged to the set's strangers' bucket, at one address's rate: so what the whole table lets through is bounded,
//! too.
//!
//! **Batches**: a table of many megabytes isn't in a cache, so a worker hashes a whole batch ([`Limiter::place_of`]), reads a
//! word of each line ([`Limiter::touch`]), whose misses overlap, and then decides ([`Limiter::decide`]).
//!
//! **Overload**: where an XDP program is in front, each worker tells it below which level packets are dropped
//! ([`overload`]); while it does, newcomers are worth less than those who were here before, and nobody's worth grows. While few are
//! refused it looks nobody up ([`refusals`]).
//!
//! **Kisses** go to one in a few of the requests that their own address's bucket refuses, to an address hardly more often than
//! once a second, and to all together at a rate of their own. Who is refused for their prefix, or among strangers,
//! may have done nothing wrong and gets silence.
//!
//! Who is denied or exempt is looked up in a list ([`access`]). What a reply says is decided elsewhere.

pub mod access;
pub mod hash;
pub mod overload;
pub mod refusals;

mod bucket;
mod census;
mod entry;
mod limiter;
mod moment;
mod table;

pub use bucket::Bucket;
pub use census::{Census, Places};
pub use entry::Entry;
pub use limiter::{Fate, Limit, Limiter, Place, Rules};
pub use moment::{Clock, Moment};
pub use table::{SET_OCTETS, Shape, WAYS};
