//! What happened, counted: one counter a verdict, drop reason and fault, per worker.
//!
//! Each worker writes its own block and nobody else does, so an increment is a plain load and store; the blocks
//! are padded apart, and readers see each counter whole, though not all of them at one instant.

mod event;

pub use self::event::Event;

use crossbeam_utils::CachePadded;
use maser_core::reply::Lateness;
use maser_core::time::NicFault;
use maser_core::wire::DropReason;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most NICs whose stamps are used: as many as interfaces can be named.
pub const NICS_MAX: usize = 16;

/// Which way a frame went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Way {
    /// It came.
    Received,
    /// It left, and somebody wanted to know when.
    Sent,
}

/// Who said when, and why not the NIC that the frame went by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Told {
    /// The NIC.
    Used,
    /// The kernel: the NIC was to, and didn't.
    Missing,
    /// The kernel: what the NIC said can't be.
    Implausible,
    /// The kernel: nobody knew where the NIC's clock stood.
    Unplaced,
    /// The program in front of an AF_XDP queue, or the port itself: its driver gives no stamps there.
    Hook,
}

impl Told {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 5] = [Self::Used, Self::Missing, Self::Implausible, Self::Unplaced, Self::Hook];

    /// Its name in `maser status`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Used => "nic",
            Self::Missing => "missing",
            Self::Implausible => "implausible",
            Self::Unplaced => "unplaced",
            Self::Hook => "hook",
        }
    }

    const fn event(self, way: Way) -> Option<Event> {
        Some(match (self, way) {
            (Self::Used, Way::Received) => Event::NicStampUsed,
            (Self::Missing, Way::Received) => Event::NicStampMissing,
            (Self::Implausible, Way::Received) => Event::NicStampImplausible,
            (Self::Unplaced, Way::Received) => Event::NicStampUnplaced,
            (Self::Used, Way::Sent) => Event::NicDepartureUsed,
            (Self::Missing, Way::Sent) => Event::NicDepartureMissing,
            (Self::Implausible, Way::Sent) => Event::NicDepartureImplausible,
            (Self::Unplaced, Way::Sent) => Event::NicDepartureUnplaced,
            (Self::Hook, Way::Received | Way::Sent) => return None,
        })
    }
}

impl From<NicFault> for Told {
    fn from(fault: NicFault) -> Self {
        match fault {
            NicFault::Unplaced => Self::Unplaced,
            NicFault::Implausible => Self::Implausible,
        }
    }
}

/// Of one NIC: by the way, by who said when.
type NicCounts = [[AtomicU64; Told::ALL.len()]; 2];

const REASONS: usize = DropReason::ALL.len();

/// Log-linear buckets: 8 to an octave, so a bucket is at most 12.5 % wide.
const BUCKETS_PER_OCTAVE_LOG2: u32 = 3;
/// Residence is kept up to 2³⁶ ns (69 s); what is longer goes to the last bucket.
const OCTAVES: u32 = 36;
const BUCKETS: usize = ((OCTAVES - BUCKETS_PER_OCTAVE_LOG2 + 1) as usize) << BUCKETS_PER_OCTAVE_LOG2;

/// One worker's counters.
#[derive(Debug)]
pub struct Counts {
    events: CachePadded<[AtomicU64; Event::ALL.len()]>,
    drops: CachePadded<[AtomicU64; REASONS]>,
    residence: CachePadded<[AtomicU64; BUCKETS]>,
    stamp_errors: CachePadded<[AtomicU64; BUCKETS]>,
    nics: CachePadded<[NicCounts; NICS_MAX]>,
    frames_missing: AtomicU64,
    /// The median and, below it, the spread; [`NO_LATENESS`] before they are known.
    lateness: AtomicU64,
}

/// A spread of −1 ns.
const NO_LATENESS: u64 = u64::MAX;

impl Default for Counts {
    fn default() -> Self {
        Self {
            events: CachePadded::new([const { AtomicU64::new(0) }; Event::ALL.len()]),
            drops: CachePadded::new([const { AtomicU64::new(0) }; REASONS]),
            residence: CachePadded::new([const { AtomicU64::new(0) }; BUCKETS]),
            stamp_errors: CachePadded::new([const { AtomicU64::new(0) }; BUCKETS]),
            nics: CachePadded::new(std::array::from_fn(|_| NicCounts::default())),
            frames_missing: AtomicU64::new(0),
            lateness: AtomicU64::new(NO_LATENESS),
        }
    }
}

/// Only the owning worker writes, so nothing is lost between the load and the store.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl Counts {
    /// Counts a packet that gets no answer.
    #[inline]
    pub fn drop(&self, reason: DropReason) {
        add(&self.drops[reason as usize], 1);
    }

    /// Counts an event.
    #[inline]
    pub fn event(&self, event: Event) {
        self.events(event, 1);
    }

    /// Counts `count` events.
    #[inline]
    pub fn events(&self, event: Event, count: u64) {
        add(&self.events[event as usize], count);
    }

    /// Counts who said when a frame went by the NIC in place `nic`, if it is one of those whose stamps are used.
    #[inline]
    pub fn nic(&self, nic: Option<usize>, way: Way, told: Told) {
        if let Some(counts) = nic.and_then(|nic| self.nics.get(nic)) {
            add(&counts[way as usize][told as usize], 1);
        }
        if let Some(event) = told.event(way) {
            self.event(event);
        }
    }

    /// Who said when frames went by the NIC in place `nic`: counts in the order of [`Told::ALL`].
    #[must_use]
    pub fn of_nic(&self, nic: usize, way: Way) -> [u64; Told::ALL.len()] {
        let counts = self.nics.get(nic).map(|counts| &counts[way as usize]);
        counts.map_or([0; Told::ALL.len()], |counts| {
            counts.each_ref().map(|count| count.load(Ordering::Relaxed))
        })
    }

    /// Takes over a count that is kept elsewhere.
    #[inline]
    pub fn set(&self, event: Event, count: u64) {
        self.events[event as usize].store(count, Ordering::Relaxed);
    }

    /// Says how many frames nobody holds.
    #[inline]
    pub fn set_frames_missing(&self, frames: u64) {
        self.frames_missing.store(frames, Ordering::Relaxed);
    }

    /// The frames that nobody held when last no packet was waiting.
    #[must_use]
    pub fn frames_missing(&self) -> u64 {
        self.frames_missing.load(Ordering::Relaxed)
    }

    /// Says how much later than foreseen replies leave.
    pub fn set_lateness(&self, lateness: Option<Lateness>) {
        let word = lateness.map_or(NO_LATENESS, |Lateness { median_ns, spread_ns }| {
            u64::from(u32::from_ne_bytes(median_ns.to_ne_bytes())) << 32 | u64::from(spread_ns)
        });
        self.lateness.store(word, Ordering::Relaxed);
    }

    /// How much later than foreseen replies leave; none before it is known.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
    pub fn lateness(&self) -> Option<Lateness> {
        let word = self.lateness.load(Ordering::Relaxed);
        let median_ns = i32::from_ne_bytes(((word >> 32) as u32).to_ne_bytes());
        (word != NO_LATENESS).then_some(Lateness { median_ns, spread_ns: word as u32 })
    }

    /// Counts a reply's time between its receive and its transmit stamp.
    #[inline]
    pub fn residence_ns(&self, ns: u64) {
        add(&self.residence[bucket_of(ns)], 1);
    }

    /// Counts how far a transmit timestamp is from when its reply left.
    #[inline]
    pub fn stamp_error_ns(&self, ns: u64) {
        add(&self.stamp_errors[bucket_of(ns)], 1);
    }

    /// The count of `event`.
    #[must_use]
    pub fn of(&self, event: Event) -> u64 {
        self.events[event as usize].load(Ordering::Relaxed)
    }

    /// Requests that were answered, by the kind of answer.
    pub fn answers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.named(|event| event.is_answer())
    }

    /// What else happened.
    pub fn events_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.named(|event| !event.is_answer())
    }

    /// Packets that were not answered, by the reason.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let drops = DropReason::ALL.iter().zip(self.drops.iter());
        drops.map(|(reason, count)| (reason.name(), count.load(Ordering::Relaxed)))
    }

    fn named(&self, wanted: fn(Event) -> bool) -> impl Iterator<Item = (&'static str, u64)> {
        let events = Event::ALL.iter().filter(move |event| wanted(**event));
        events.map(|event| (event.name(), self.of(*event)))
    }

    /// The residence histogram: every bucket's lower bound in nanoseconds and its count.
    pub fn residence(&self) -> impl Iterator<Item = (u64, u64)> {
        buckets(&self.residence)
    }

    /// The histogram of the errors of transmit timestamps, as [`residence`](Self::residence).
    pub fn stamp_errors(&self) -> impl Iterator<Item = (u64, u64)> {
        buckets(&self.stamp_errors)
    }
}

fn buckets(counts: &[AtomicU64; BUCKETS]) -> impl Iterator<Item = (u64, u64)> {
    let counts = counts.iter().enumerate();
    counts.map(|(index, count)| (bucket_floor_ns(index), count.load(Ordering::Relaxed)))
}

/// The bucket of `ns`: below 8 each value has its own, above that 8 share each octave.
#[expect(clippy::cast_possible_truncation, reason = "bounded by BUCKETS")]
fn bucket_of(ns: u64) -> usize {
    let octave = ns.checked_ilog2().unwrap_or(0).saturating_sub(BUCKETS_PER_OCTAVE_LOG2);
    let index = (u64::from(octave) << BUCKETS_PER_OCTAVE_LOG2) + (ns >> octave);
    if index >= BUCKETS as u64 { BUCKETS - 1 } else { index as usize }
}

/// The least value in bucket `index`.
const fn bucket_floor_ns(index: usize) -> u64 {
    let per_octave = 1 << BUCKETS_PER_OCTAVE_LOG2;
    if index < 2 * per_octave {
        return index as u64;
    }
    let octave = index / per_octave - 1;
    ((index % per_octave + per_octave) as u64) << octave
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn counters_stand_where_their_names_say() {
        for (index, event) in Event::ALL.iter().enumerate() {
            assert_eq!(*event as usize, index, "{}", event.name());
        }
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{}", reason.name());
        }
        let counts = Counts::default();
        let names: HashSet<_> = counts
            .answers()
            .chain(counts.events_by_name())
            .chain(counts.drops())
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names.len(), Event::ALL.len() + REASONS, "every counter has a name of its own");
    }

    #[test]
    fn every_bucket_holds_what_it_says() {
        for index in 0..BUCKETS {
            assert_eq!(bucket_of(bucket_floor_ns(index)), index);
            if index > 0 {
                assert_eq!(bucket_of(bucket_floor_ns(index) - 1), index - 1);
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        let width = bucket_floor_ns(101) - bucket_floor_ns(100);
        assert!(width * 8 <= bucket_floor_ns(100));
    }

    #[test]
    fn lateness_survives_its_word() {
        let counts = Counts::default();
        assert_eq!(counts.lateness(), None);
        for (median_ns, spread_ns) in
            [(0, 0), (-1, 7), (i32::MIN, 9), (i32::MAX, u32::MAX), (-1, u32::MAX - 1)]
        {
            counts.set_lateness(Some(Lateness { median_ns, spread_ns }));
            assert_eq!(counts.lateness(), Some(Lateness { median_ns, spread_ns }));
        }
        counts.set_lateness(None);
        assert_eq!(counts.lateness(), None);
    }

    #[test]
    fn a_nics_frames_are_counted_by_nic_way_and_teller() {
        let counts = Counts::default();
        for (place, told) in Told::ALL.into_iter().enumerate() {
            assert_eq!(told as usize, place);
            counts.nic(Some(3), Way::Received, told);
        }
        counts.nic(Some(3), Way::Sent, Told::Used);
        counts.nic(None, Way::Sent, Told::Unplaced);
        counts.nic(Some(NICS_MAX), Way::Sent, Told::Used);
        assert_eq!((counts.of_nic(3, Way::Received), counts.of_nic(3, Way::Sent)), ([1; 5], [1, 0, 0, 0, 0]));
        assert_eq!((counts.of_nic(2, Way::Received), counts.of_nic(NICS_MAX, Way::Sent)), ([0; 5], [0; 5]));
        assert_eq!((counts.of(Event::NicStampUsed), counts.of(Event::NicDepartureUsed)), (1, 2));
        assert_eq!((counts.of(Event::NicStampUnplaced), counts.of(Event::NicDepartureUnplaced)), (1, 1));
    }

    #[test]
    fn a_drop_is_counted_once() {
        let counts = Counts::default();
        counts.drop(DropReason::ALL[3]);
        let drops: u64 = counts.drops().map(|(_, count)| count).sum();
        let others: u64 = counts.answers().chain(counts.events_by_name()).map(|(_, count)| count).sum();
        assert_eq!((drops, others), (1, 0));
    }
}
