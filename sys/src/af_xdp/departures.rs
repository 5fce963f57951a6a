//! When replies left, for those who want to know.
//!
//! In zero-copy mode the driver writes the NIC's stamp in front of a frame that asked for one, and tells with its
//! completion. Drivers that don't know of stamps write none.
//!
//! In copy mode nobody says when a packet left. The kernel sends a chunk's frames one after the other while the call lasts,
//! and says in `CLOCK_TAI` when it let go of each, which is after the driver has taken it: at once if nothing holds it any
//! longer (veth delivers it to the far end's sockets first), or when the NIC reports that it was sent. So what is told is an
//! estimate: two thirds of what sending a frame took before it was let go of, if frames were let go of one by one within
//! the call; else in the middle of its share of the call. It always lies within the call. Measured on veth against the far end's receive
//! stamps, it is as far from these as the stamps of sockets are (`sys/tests/af_xdp/departures.rs`).

use maser_core::time::{Stamp, StampClock};

use crate::datagram::{Departed, NicStamp, SEND_CHUNK};
use crate::kernel_clock::{KernelClock, read};

/// A departure that is known no better isn't told: something came between.
const WITHIN_NS_MAX: i64 = 20_000;

/// The first frame of a call that was let go of later than this was disturbed. On an idle machine the kernel often takes long
/// before it gets to the first.
const FIRST_NS_MAX: i64 = 200_000;

/// So many times as long as usual is what sending the first frame takes with cold caches, which slow down all of it alike. What
/// takes still longer has waited before it was begun: once it was, it took no longer than ever.
const COLD: i64 = 3;

/// A call whose length differs so much by two clocks was disturbed, or one of them was stepped.
const DISAGREEMENT_NS_MAX: i64 = 1_000;

/// Frames that were let go of at intervals of less than this part of their share of the time weren't one by one.
const SHARE_PART_MIN: i64 = 4;

/// The part of a send that follows the driver's taking the frame, where it is let go of within the call: the far end receives it
/// then. Between what a veth shows whose far end takes packets at once, which is more, and one whose far end polls for them, which is
/// less (`ONLY=interleaved make bench` shows the former, as the mean transmit error).
const AFTER_SENDING: (i64, i64) = (2, 3);

/// A shorter interval is believed by a quarter at once; a longer one by a 64th, since interrupts make single ones long.
const DOWN: i64 = 4;
const UP: i64 = 64;

/// A reply of the chunk that is being sent.
#[derive(Clone, Copy)]
struct Reply {
    frame: u32,
    name: Option<u64>,
    /// When the kernel let go of the frame, by `CLOCK_TAI`.
    released_ns: Option<i64>,
}

/// A moment by two clocks.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    monotonic_ns: i64,
    tai_ns: i64,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { monotonic_ns: read(KernelClock::Monotonic), tai_ns: read(KernelClock::Tai) }
    }
}

/// The call that sent a chunk, by `CLOCK_TAI`.
#[derive(Clone, Copy)]
struct Call {
    begun_ns: i64,
    took_ns: i64,
}

/// What something takes that is rarely disturbed; 0 while nothing is known.
#[derive(Clone, Copy, Default)]
struct Usual {
    ns: i64,
}

impl Usual {
    /// What one took that took so long, disturbances apart.
    fn learn(&mut self, interval_ns: i64) -> i64 {
        let difference_ns = interval_ns - self.ns;
        self.ns += match difference_ns {
            _ if self.ns == 0 => difference_ns,
            ..0 => difference_ns / DOWN,
            0.. => difference_ns / UP,
        };
        self.ns.min(interval_ns)
    }
}

/// What a queue was asked of departures, and can tell.
pub(super) struct Departures {
    interface: u32,
    /// The chunk, in order, if any of it wants to know.
    chunk: Vec<Reply>,
    /// By frame, in zero-copy mode: those on their way.
    names: Box<[Option<u64>]>,
    /// How many of these there are.
    awaited: u32,
    /// What wasn't told yet.
    known: Vec<Departed>,
    /// What sending the first frame of a call takes, in copy mode.
    first: Usual,
    /// What sending another one takes.
    each: Usual,
}

impl Departures {
    pub(super) fn new(interface: u32, frames: u32) -> Self {
        Self {
            interface,
            chunk: Vec::with_capacity(SEND_CHUNK),
            names: vec![None; frames as usize].into(),
            awaited: 0,
            known: Vec::with_capacity(frames as usize),
            first: Usual::default(),
            each: Usual::default(),
        }
    }

    /// The interface that the queue is of.
    pub(super) const fn interface(&self) -> u32 {
        self.interface
    }

    /// Appends a reply to the chunk.
    pub(super) fn queue(&mut self, frame: u32, name: Option<u64>) {
        self.chunk.push(Reply { frame, name, released_ns: None });
    }

    /// Whether any of the chunk wants to know.
    pub(super) fn are_asked(&self) -> bool {
        !self.chunk.is_empty()
    }

    /// Whether a frame that comes back may have a stamp.
    pub(super) fn are_awaited(&self) -> bool {
        self.are_asked() || self.awaited > 0
    }

    /// Forgets the chunk: it never left, or nobody knows when.
    pub(super) fn drop_chunk(&mut self) {
        self.chunk.clear();
    }

    /// The driver has the chunk, in zero-copy mode.
    pub(super) fn await_chunk(&mut self) {
        for Reply { frame, name, .. } in self.chunk.drain(..) {
            self.awaited += u32::from(name.is_some());
            self.names[frame as usize] = name;
        }
    }

    /// A frame came back, with a stamp or without.
    pub(super) fn complete(&mut self, frame: u32, stamp_ns: Option<i64>) {
        if let Some(name) = self.names[frame as usize].take() {
            self.awaited -= 1;
            if let Some(nanos) = stamp_ns {
                let interface = self.interface;
                let nic_stamp = Some(NicStamp { nanos, interface, frame_octets: 0 });
                self.tell(Departed { name, stamp: None, interface, nic_stamp });
            }
        } else if let Some(reply) = self.chunk.iter_mut().find(|reply| reply.frame == frame) {
            reply.released_ns = stamp_ns;
        }
    }

    /// The chunk was sent between two moments, in copy mode, and what came back of it by now has been booked.
    pub(super) fn conclude(&mut self, begun: Moment, ended: Moment) {
        let monotonic_ns = ended.monotonic_ns.saturating_sub(begun.monotonic_ns);
        let call = Call { begun_ns: begun.tai_ns, took_ns: ended.tai_ns.saturating_sub(begun.tai_ns) };
        if call.took_ns.saturating_sub(monotonic_ns).saturating_abs() <= DISAGREEMENT_NS_MAX {
            let one_by_one = self.is_one_by_one(call);
            let usual = one_by_one || self.is_usual(call);
            for place in (0..self.chunk.len()).filter(|_| usual) {
                let left_ns = if one_by_one {
                    self.left_before_release(place, call)
                } else {
                    Some(self.left_by_share(place, call))
                };
                if let (Some(name), Some(left_ns)) = (self.chunk[place].name, left_ns) {
                    let nanos = ended.monotonic_ns - (ended.tai_ns - left_ns);
                    let stamp = Some(Stamp { clock: StampClock::Monotonic, nanos });
                    self.tell(Departed { name, stamp, interface: self.interface, nic_stamp: None });
                }
            }
        }
        self.chunk.clear();
    }

    /// Whether the kernel let go of each frame within the call, before it took up the next.
    fn is_one_by_one(&self, call: Call) -> bool {
        // What follows the last, such as waking its reader, may take ten times as long as sending.
        let Some(last_ns) = self.chunk.last().and_then(|reply| reply.released_ns) else { return false };
        let interval_ns_min = (last_ns - call.begun_ns) / self.places() / SHARE_PART_MIN;
        let mut last_ns = call.begun_ns;
        self.chunk.iter().all(|reply| {
            let Some(released_ns) = reply.released_ns else { return false };
            let interval_ns = released_ns.saturating_sub(last_ns);
            last_ns = released_ns;
            interval_ns >= interval_ns_min && released_ns - call.begun_ns <= call.took_ns
        })
    }

    /// When a reply left whose frame, as those before it, was let go of at once.
    ///
    /// A part of a send's time before: the interval itself may be long, since waking a reader of the reply before is in it.
    fn left_before_release(&mut self, place: usize, call: Call) -> Option<i64> {
        let released_ns = self.chunk[place].released_ns?;
        let before_ns =
            place.checked_sub(1).map_or(Some(call.begun_ns), |last| self.chunk[last].released_ns)?;
        let interval_ns = released_ns - before_ns;
        let (usual, interval_ns_max) = match place {
            0 => (&mut self.first, FIRST_NS_MAX),
            _ => (&mut self.each, WITHIN_NS_MAX),
        };
        let mut own_ns = usual.learn(interval_ns);
        if place == 0 && interval_ns <= COLD * usual.ns {
            own_ns = interval_ns;
        }
        (interval_ns <= interval_ns_max).then_some(released_ns - own_ns * AFTER_SENDING.0 / AFTER_SENDING.1)
    }

    /// Whether a call took not much longer than so many replies do.
    fn is_usual(&mut self, Call { took_ns, .. }: Call) -> bool {
        let (share_ns, usual_ns) = (took_ns / self.places(), self.each.ns * self.places());
        if share_ns <= WITHIN_NS_MAX {
            self.each.learn(share_ns);
        }
        took_ns - usual_ns <= WITHIN_NS_MAX
    }

    /// When a reply left if all took equally long.
    fn left_by_share(&self, place: usize, Call { begun_ns, took_ns }: Call) -> i64 {
        let share_ns = took_ns / self.places();
        let before = i64::try_from(place).expect("a place in a chunk");
        begun_ns + share_ns * before + share_ns / 2
    }

    /// How many replies the chunk has.
    fn places(&self) -> i64 {
        i64::try_from(self.chunk.len()).expect("a chunk")
    }

    fn tell(&mut self, departed: Departed) {
        // Who never listens misses some.
        if self.known.len() < self.known.capacity() {
            self.known.push(departed);
        }
    }

    /// What is known and wasn't told yet.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Departed> {
        self.known.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAI_NS: i64 = 37_000_000_000;
    const INTERFACE: u32 = 7;

    fn moment(ns: i64) -> Moment {
        Moment { monotonic_ns: ns, tai_ns: ns + TAI_NS }
    }

    /// A chunk of as many replies as there are `released`, all of which want to know; when each left.
    fn told(departures: &mut Departures, call: [Moment; 2], released: &[Option<i64>]) -> Vec<(u64, i64)> {
        (0..).zip(released).for_each(|(frame, _)| departures.queue(frame, Some(u64::from(frame))));
        for (frame, released_ns) in (0..).zip(released) {
            departures.complete(frame, released_ns.map(|ns| ns + TAI_NS));
        }
        departures.conclude(call[0], call[1]);
        assert!(!departures.are_awaited());
        departures.drain().map(|departed| (departed.name, departed.stamp.unwrap().nanos)).collect()
    }

    #[test]
    fn frames_let_go_of_one_by_one_left_a_part_of_a_send_before() {
        let mut departures = Departures::new(INTERFACE, 64);
        let released = [Some(4_000), Some(6_000), Some(8_000), Some(18_000)];
        let call = [moment(0), moment(20_000)];
        let first = told(&mut departures, call, &released);
        // What made the last so long came before it.
        assert_eq!(first[..3], [(0, 1_334), (1, 4_667), (2, 6_667)]);
        assert!((16_500..=16_667).contains(&first[3].1), "{first:?}");
        assert_eq!(told(&mut departures, call, &released)[..3], first[..3]);
    }

    #[test]
    fn frames_that_a_nic_keeps_left_in_equal_shares_of_the_call() {
        let mut departures = Departures::new(INTERFACE, 64);
        let shares = [(0, 1_000), (1, 3_000), (2, 5_000), (3, 7_000)];
        let call = [moment(0), moment(8_000)];
        let together = [Some(7_900), Some(7_910), Some(7_920), Some(7_930)];
        let after = [Some(9_000), Some(11_000), Some(12_000), Some(14_000)];
        for released in [[None; 4], together, after, [Some(2_000), Some(4_000), Some(6_000), None]] {
            assert_eq!(told(&mut departures, call, &released), shares, "{released:?}");
        }
    }

    #[test]
    fn a_call_that_was_disturbed_tells_nothing() {
        let mut departures = Departures::new(INTERFACE, 64);
        let released = [Some(4_000), Some(6_000)];
        for stepped_ns in [-3_600_000_000_000, -2_000, 2_000, 1_000_000_000] {
            let ended = Moment { tai_ns: TAI_NS + 8_000 + stepped_ns, monotonic_ns: 8_000 };
            assert_eq!(told(&mut departures, [moment(0), ended], &released), [], "{stepped_ns}");
        }
        // One was preempted in between, the other is known.
        let call = [moment(0), moment(1_000_000)];
        assert_eq!(told(&mut departures, call, &[Some(999_000)]), []);
        assert_eq!(
            told(&mut departures, [moment(0), moment(60_000)], &[Some(50_000), Some(99_000)]).len(),
            0
        );
        assert_eq!(told(&mut departures, call, &[None]), []);
        // Of one that is known to take 8 microseconds nobody knows where the other 30 were spent.
        assert_eq!(told(&mut departures, [moment(0), moment(8_000)], &[None; 4]).len(), 4);
        assert_eq!(told(&mut departures, [moment(0), moment(38_000)], &[None; 4]), []);
        assert_eq!(told(&mut departures, [moment(0), moment(18_000)], &[None; 4]).len(), 4);
    }

    #[test]
    fn cold_caches_slow_down_the_whole_of_a_first_send_and_a_wait_comes_before_it() {
        let mut departures = Departures::new(INTERFACE, 64);
        let warm = [moment(0), moment(5_000)];
        assert_eq!(told(&mut departures, warm, &[Some(4_000)]), [(0, 1_334)]);
        assert_eq!(told(&mut departures, [moment(0), moment(13_000)], &[Some(12_000)]), [(0, 4_000)]);
        let waited = [moment(0), moment(60_000)];
        let (_, left_ns) = told(&mut departures, waited, &[Some(59_000)])[0];
        assert!((55_000..=56_500).contains(&left_ns), "{left_ns}");
        // However long the call goes on after it.
        assert_eq!(told(&mut departures, waited, &[Some(4_000)]).len(), 1);
        assert_eq!(told(&mut departures, waited, &[Some(4_000), Some(6_000)]).len(), 2);
    }

    #[test]
    fn a_nics_stamp_comes_with_its_frame() {
        let mut departures = Departures::new(INTERFACE, 64);
        (0..4).for_each(|frame| departures.queue(frame, (frame > 0).then_some(u64::from(frame) + 10)));
        departures.await_chunk();
        for (frame, stamp_ns) in
            [(2, Some(7)), (3, None), (9, Some(8)), (0, Some(9)), (1, Some(6)), (1, Some(5))]
        {
            departures.complete(frame, stamp_ns);
        }
        assert!(!departures.are_awaited());
        let told: Vec<_> = departures.drain().map(|told| (told.name, told.stamp, told.nic_stamp)).collect();
        let stamp = |nanos| Some(NicStamp { nanos, interface: INTERFACE, frame_octets: 0 });
        assert_eq!(told, [(12, None, stamp(7)), (11, None, stamp(6))]);
        assert!(departures.drain().next().is_none());
    }
}
