//! How many levels a program in front drops while more comes than its worker can answer.
//!
//! The **floor** is a level with 16 bits behind the point. Whoever's level is below its whole part is dropped; of those at that
//! level the part behind the point is dropped, by lot. It rises in milliseconds while the receive ring is more than half full and doesn't drain, the
//! faster the fuller, and falls in tenths of a second while under a quarter, the faster the emptier: between the two it stays, since there
//! the worker just keeps up. A worker that stood still for a moment finds a full ring and isn't overloaded: that costs next to nothing.
//! Levels are counted as the table has them, so who isn't in it has level 0, and regulars go last.

/// One level.
pub const LEVEL: u32 = 1 << 16;

/// The highest level is never dropped: should those be more than can be answered, the ring drops any of them.
pub const FLOOR_MAX: u32 = 7 * LEVEL;

/// With a full ring the floor rises a level in so long: less than half a ring takes to fill when twice as much comes as is
/// answered.
const RISE_NS: u64 = 2_000_000;
/// With an empty one it falls a level in so long.
const FALL_NS: u64 = 250_000_000;
/// A step up counts for so long at most, which is longer than most batches take: a worker that was stopped finds a full ring, which
/// says nothing of how long it was so.
const RISE_STEP_NS_MAX: u64 = 250_000;
/// And a step down, so that nothing overflows.
const FALL_STEP_NS_MAX: u64 = 1_000_000_000;
/// For so long after the floor was last above 0 nobody's worth grows: floods come in waves.
const CALM_AFTER_NS: i64 = 60_000_000_000;

/// A level, as it is counted here: 16 bits more, so that the shortest steps count.
const FINE_LEVEL: u64 = 1 << 32;

/// What waited in a receive ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backlog {
    /// Frames.
    pub waiting: u32,
    /// That the ring has room for; not 0.
    pub room: u32,
}

/// A worker's floor.
#[derive(Clone, Copy, Default, Debug)]
pub struct Overload {
    fine_floor: u64,
    /// At the last step.
    waited: u64,
    /// Of the last step, in nanoseconds of `CLOCK_MONOTONIC`.
    stepped_at: i64,
    /// When the floor was last above 0.
    above_at: Option<i64>,
}

impl Overload {
    /// The floor from now on, after so much waited at a batch's beginning.
    pub fn step(&mut self, Backlog { waiting, room }: Backlog, monotonic_ns: i64) -> u32 {
        let passed = u64::try_from(monotonic_ns.saturating_sub(self.stepped_at)).unwrap_or(0);
        self.stepped_at = monotonic_ns;
        let (waiting, room) = (u64::from(waiting.min(room)), u64::from(room.max(1)));
        let is_draining = waiting < self.waited;
        self.waited = waiting;
        if waiting * 2 > room && !is_draining {
            let rise = FINE_LEVEL * passed.min(RISE_STEP_NS_MAX) / RISE_NS;
            let above_half = waiting * 2 - room;
            self.fine_floor = (self.fine_floor + rise * above_half / room).min(u64::from(FLOOR_MAX) << 16);
        } else if waiting * 4 < room {
            let fall = FINE_LEVEL * passed.min(FALL_STEP_NS_MAX) / FALL_NS;
            self.fine_floor = self.fine_floor.saturating_sub(fall * (room - waiting * 4) / room);
        }
        let floor = self.floor();
        if floor > 0 {
            self.above_at = Some(monotonic_ns);
        }
        floor
    }

    /// The floor: 0 while the box keeps up.
    #[must_use]
    #[inline]
    pub fn floor(&self) -> u32 {
        u32::try_from(self.fine_floor >> 16).unwrap_or(FLOOR_MAX)
    }

    /// Whether the box keeps up, and has done so for a minute.
    #[must_use]
    #[inline]
    pub fn is_calm(&self) -> bool {
        self.above_at.is_none_or(|above_at| self.stepped_at.saturating_sub(above_at) > CALM_AFTER_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: u32 = 4_096;
    const BATCH: u32 = 64;

    /// Frames that came, were dropped in front and didn't fit the ring, by level.
    #[derive(Clone, Copy, Default, Debug)]
    struct Tally {
        came: u32,
        dropped: u32,
        lost: u32,
    }

    /// A worker that answers 400,000 a second meets so many thousands a second of each level for `ms`; gives what became of the
    /// levels in the last half of it, and how many it answered then.
    fn run(overload: &mut Overload, start_ns: i64, offered: [u32; 8], ms: i64) -> ([Tally; 8], u32) {
        let answer_ns = 2_500;
        let (mut now, mut waiting, mut answered) = (start_ns, 0_u32, 0);
        let mut parts = [0_u64; 8];
        let mut lots = 1_u64;
        let mut tallies = [Tally::default(); 8];
        let end = start_ns + ms * 1_000_000;
        while now < end {
            let floor = overload.step(Backlog { waiting, room: ROOM }, now);
            let batch = waiting.min(BATCH);
            waiting -= batch;
            // A worker that finds nothing looks again after a while.
            let took = i64::from(batch.max(1)) * answer_ns;
            now += took;
            if now <= start_ns + ms * 500_000 {
                (tallies, answered) = ([Tally::default(); 8], 0);
            }
            answered += batch;
            for (level, tally) in tallies.iter_mut().enumerate() {
                parts[level] += u64::from(offered[level]) * u64::try_from(took).unwrap();
                let came = u32::try_from(parts[level] / 1_000_000).unwrap();
                parts[level] %= 1_000_000;
                for _ in 0..came {
                    lots = lots.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                    let lot = u32::try_from(lots >> 48).unwrap();
                    let whole = u32::try_from(level).unwrap();
                    tally.came += 1;
                    if whole < floor / LEVEL || whole == floor / LEVEL && lot < floor % LEVEL {
                        tally.dropped += 1;
                    } else if waiting == ROOM {
                        tally.lost += 1;
                    } else {
                        waiting += 1;
                    }
                }
            }
        }
        (tallies, answered)
    }

    #[test]
    fn the_worker_is_kept_busy_and_the_highest_levels_are_served() {
        for strangers in [500, 1_000, 4_000] {
            let mut overload = Overload::default();
            let (tallies, answered) = run(&mut overload, 0, [strangers, 0, 20, 0, 0, 0, 0, 50], 4_000);
            std::println!("{strangers}: {answered} answered in 2 s, {tallies:?}");
            for level in [2, 7] {
                let Tally { came, dropped, lost } = tallies[level];
                assert!(came > 1_000 && (dropped + lost) * 200 < came, "level {level}: {:?}", tallies[level]);
            }
            assert!(answered > 2 * 400_000 * 95 / 100, "{strangers}: {answered}");
        }
    }

    #[test]
    fn below_what_it_answers_nobody_is_dropped() {
        let mut overload = Overload::default();
        let (tallies, _) = run(&mut overload, 0, [350, 0, 0, 0, 0, 0, 0, 20], 1_000);
        assert!(tallies.iter().all(|tally| tally.dropped + tally.lost == 0), "{tallies:?}");
        assert!(overload.is_calm());
    }

    #[test]
    fn the_floor_falls_once_it_is_over_and_calm_comes_after_a_minute() {
        let mut overload = Overload::default();
        run(&mut overload, 0, [4_000, 0, 0, 0, 0, 0, 0, 0], 100);
        assert!(overload.floor() > 0 && !overload.is_calm());
        let second = 1_000_000_000;
        let empty = Backlog { waiting: 0, room: ROOM };
        for tenths in 1..=30 {
            overload.step(empty, tenths * second / 10);
        }
        assert!(overload.floor() == 0 && !overload.is_calm(), "{overload:?}");
        overload.step(empty, 65 * second);
        assert!(overload.is_calm());
    }

    #[test]
    fn it_falls_as_fast_by_the_shortest_steps() {
        let mut overload = Overload::default();
        run(&mut overload, 0, [4_000, 0, 0, 0, 0, 0, 0, 0], 100);
        overload.step(Backlog { waiting: ROOM / 4, room: ROOM }, 1_000_000_000);
        let (begin, ns) = (overload.floor(), 200);
        for step in 1..=500_000 {
            overload.step(Backlog { waiting: 0, room: ROOM }, 1_000_000_000 + step * ns);
        }
        let fallen = begin - overload.floor();
        assert!(fallen > LEVEL * 2 / 5 * 98 / 100, "{fallen} in a tenth of a second");
    }

    #[test]
    fn a_stall_costs_newcomers_little_of_a_second() {
        let mut overload = Overload::default();
        overload.step(Backlog { waiting: ROOM, room: ROOM }, 1_000_000_000);
        let (tallies, _) = run(&mut overload, 1_000_000_000, [200, 0, 0, 0, 0, 0, 0, 0], 40);
        let Tally { came, dropped, lost } = tallies[0];
        assert!(came > 3_500 && dropped * 50 < came && lost == 0, "{:?}", tallies[0]);
        let (tallies, _) = run(&mut overload, 1_040_000_000, [200, 0, 0, 0, 0, 0, 0, 0], 100);
        assert_eq!((overload.floor(), tallies[0].dropped), (0, 0));
    }

    #[test]
    fn one_look_after_a_pause_changes_little() {
        let mut overload = Overload::default();
        overload.step(Backlog { waiting: 0, room: ROOM }, 0);
        let floor = overload.step(Backlog { waiting: ROOM, room: ROOM }, i64::MAX);
        assert!(floor <= LEVEL / 8, "{floor}");
        assert_eq!(overload.step(Backlog { waiting: ROOM, room: 0 }, i64::MIN), floor, "no time has passed");
    }
}
