use super::*;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// Nanoseconds of true time between two readings.
const EVERY_NS: i64 = 125_000_000;

/// A NIC's clock and a counter in a test's hands.
struct World {
    /// Ticks in a microsecond.
    mhz: i64,
    now_ns: i64,
    /// The clock at `turned_ns` of true time, and its rate since.
    phc_ns: i64,
    turned_ns: i64,
    ppb: i64,
    fitter: PhcFitter,
}

impl World {
    fn new(mhz: i64, ppb: i64) -> Self {
        let rate = Rate::measured(Span::from_seconds(1), mhz * 1_000_000).unwrap();
        let phc_ns = 1_795_000_037_000_000_000;
        Self { mhz, now_ns: 0, phc_ns, turned_ns: 0, ppb, fitter: PhcFitter::new(rate) }
    }

    fn phc_at(&self, now_ns: i64) -> i64 {
        let since = now_ns - self.turned_ns;
        self.phc_ns + since + i64::try_from(i128::from(since) * i128::from(self.ppb) / 1_000_000_000).unwrap()
    }

    /// The counter wraps in the middle of a test.
    fn ticks_at(&self, now_ns: i64) -> Ticks {
        Ticks::from_bits(u64::MAX - 40_000_000_000).offset(now_ns * self.mhz / 1_000)
    }

    fn turn(&mut self, ppb: i64) {
        self.jump(0);
        self.ppb = ppb;
    }

    fn jump(&mut self, by_ns: i64) {
        (self.phc_ns, self.turned_ns) = (self.phc_at(self.now_ns) + by_ns, self.now_ns);
    }

    /// A reading whose bracket has this half width and whose middle is off by a part of it, in thousandths.
    fn read(&mut self, half_ns: i64, off: i64) -> Option<PhcEvent> {
        let at = self.ticks_at(self.now_ns + half_ns * off / 1_000);
        let error_ticks = u32::try_from(half_ns * self.mhz / 1_000 + 1).unwrap();
        self.fitter.take(PhcReading { at, error_ticks, phc_ns: self.phc_at(self.now_ns) })
    }

    /// Time passes, and it is read, for so many seconds; what was told.
    fn run(&mut self, seconds: i64, half_ns: i64) -> Vec<PhcEvent> {
        let mut told = Vec::new();
        for _ in 0..seconds * 8 {
            self.now_ns += EVERY_NS;
            told.extend(self.read(half_ns, 0));
        }
        told
    }

    /// How far off the line a stamp of `ago_ns` ago is, and how far it may be; nothing where there is no line.
    fn off(&self, ago_ns: i64) -> Option<(i64, i64)> {
        let line = self.fitter.line();
        let at_ns = self.now_ns - ago_ns;
        let off = line.ticks_at(self.phc_at(at_ns)).since(self.ticks_at(at_ns));
        line.is_good_at(self.ticks_at(self.now_ns)).then_some((off.abs(), line.error_ticks.into()))
    }
}

fn unknown(generation: u32) -> PhcLine {
    let mut line = PhcLine::UNKNOWN;
    line.generation = generation;
    line
}

#[test]
fn a_clock_is_found_in_half_a_second_and_followed() {
    for (mhz, ppb) in [(1_000, 0), (3_000, 5_000), (24, -100_000), (2_500, 1_500_000_000)] {
        let mut world = World::new(mhz, ppb);
        assert_eq!(world.fitter.line(), unknown(1));
        assert_eq!(world.run(1, 500), [PhcEvent::Found], "{ppb} ppb");
        assert_eq!(world.run(60, 500), []);
        let (off, error) = world.off(0).unwrap();
        assert!(off <= 3 && error <= 500 * mhz / 1_000 * 4, "{off} of {error} ticks");
        assert_eq!(world.fitter.line().generation, 1);
        world.now_ns += USED_NS + 1_000_000;
        assert_eq!(world.off(0), None, "nobody reads it any more");
    }
}

#[test]
fn a_delayed_reading_says_little() {
    let mut world = World::new(3_000, 5_000);
    world.run(5, 300);
    for _ in 0..3 {
        world.now_ns += EVERY_NS;
        assert_eq!(world.read(50_000, 990), None);
        let (off, error) = world.off(0).unwrap();
        assert!(off <= 10 && error < 5_000, "{off} of {error} ticks");
    }
}

#[test]
fn a_jump_begins_another_generation_at_once() {
    for by_ns in [2_000, -2_000, 37_000_000_000, -100_000_000, 100_000_000] {
        let mut world = World::new(3_000, 5_000);
        world.run(10, 300);
        world.jump(by_ns);
        world.now_ns += EVERY_NS;
        let Some(PhcEvent::Jumped { by_ns: told }) = world.read(300, 0) else { panic!("{by_ns} ns") };
        assert!((told - by_ns).abs() < by_ns.abs() / 10_000 + 10, "{told} of {by_ns} ns");
        assert_eq!(world.fitter.line(), unknown(2));
        assert_eq!(world.run(2, 300), [PhcEvent::Found], "{by_ns} ns");
        let (off, error) = world.off(0).unwrap();
        assert!(off <= 3 && error < 4_000, "the rate is as it was: {off} of {error} ticks");
        assert_eq!(world.fitter.line().generation, 2);
    }
}

#[test]
fn a_clock_that_stops_is_told_and_found_when_it_goes_on() {
    // At nothing, and at a ten-thousandth of its speed.
    for (ppb, events) in [(-1_000_000_000, 1), (-999_900_000, 2)] {
        let mut world = World::new(1_000, 5_000);
        world.run(5, 500);
        world.turn(ppb);
        let told = world.run(3, 500);
        assert_eq!((told.len(), told.last()), (events, Some(&PhcEvent::Stopped)), "{told:?}");
        assert!(world.fitter.is_stopped());
        assert_eq!(world.off(0), None);
        world.turn(5_000);
        assert_eq!(world.run(3, 500), [PhcEvent::Found]);
        assert!(!world.fitter.is_stopped());
        assert!(world.fitter.line().generation > 1);
    }
}

#[test]
fn a_clock_that_never_moved_is_told_and_so_is_a_new_device() {
    let mut world = World::new(1_000, -1_000_000_000);
    assert_eq!(world.run(2, 500), [PhcEvent::Stopped]);
    assert_eq!(world.fitter.line().generation, 2);
    world.turn(0);
    world.run(2, 500);
    world.fitter.lose();
    assert_eq!(world.fitter.line(), unknown(3));
}

#[test]
fn what_happens_while_nobody_reads_is_not_known() {
    let mut world = World::new(1_000, 0);
    world.run(5, 500);
    world.now_ns += 60_000_000_000;
    assert_eq!(world.read(500, 0), None);
    assert_eq!(world.fitter.line(), unknown(2));
    assert_eq!(world.run(1, 500), [PhcEvent::Found]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_clock_that_runs_by_itself_is_where_the_line_says(
        mhz in prop::sample::select(vec![24_i64, 1_000, 2_445, 3_700]),
        ppb in -500_000_i64..500_000,
        half_ns in 20_i64..20_000,
        readings in prop::collection::vec((0_i64..60_000_000, -1_000_i64..=1_000, 0_u8..10, 0_i64..500), 100..200),
    ) {
        let mut world = World::new(mhz, ppb);
        for (late_ns, off, delay, ago) in readings {
            world.now_ns += EVERY_NS + late_ns;
            // Until the next reading, and for what was stamped before.
            for ago_ns in [0, ago * 1_000_000] {
                if let Some((off, error)) = world.off(ago_ns) {
                    prop_assert!(off <= error, "off by {off} of {error} ticks");
                }
            }
            let half_ns = if delay == 0 { half_ns * 50 } else { half_ns };
            let told = world.read(half_ns, off);
            prop_assert!(matches!(told, None | Some(PhcEvent::Found)), "{told:?}");
        }
        prop_assert!(world.off(0).is_some());
    }

    /// As ptp4l does, once a second; the first few changes are new to it, and the largest.
    #[test]
    fn a_clock_that_another_daemon_steers_is_where_the_line_says(
        mhz in prop::sample::select(vec![1_000_i64, 2_445]),
        half_ns in 20_i64..5_000,
        range_ppb in 1_000_i64..300_000,
        turns in prop::collection::vec((500_i64..=1_000, any::<bool>()), 60..100),
        offs in prop::collection::vec(-1_000_i64..=1_000, 61),
    ) {
        let mut world = World::new(mhz, 0);
        let mut held = 0;
        for (second, (part, is_faster)) in turns.into_iter().enumerate() {
            let (part, is_faster) = if second < 6 { (1_000, second % 2 == 0) } else { (part, is_faster) };
            world.turn(range_ppb * part / if is_faster { 1_000 } else { -1_000 });
            for eighth in 0..8 {
                world.now_ns += EVERY_NS;
                for ago_ns in [0, 30_000_000, 400_000_000] {
                    if let Some((off, error)) = world.off(ago_ns).filter(|_| second >= 10) {
                        prop_assert!(off <= error, "{second}.{eighth}: off by {off} of {error} ticks");
                        held += 1;
                    }
                }
                world.read(half_ns, offs[(second * 8 + eighth) % offs.len()]);
            }
        }
        prop_assert!(held > 900, "{held}");
    }

    #[test]
    fn any_readings_do_no_harm(
        readings in prop::collection::vec((any::<i64>(), any::<u32>(), any::<i64>(), any::<bool>()), 0..80),
        bits in any::<u64>(),
    ) {
        let mut fitter = PhcFitter::new(Rate::from_bits(bits));
        let (mut at, mut phc_ns) = (Ticks::default(), 0_i64);
        for (ticks, error_ticks, nanos, is_near) in readings {
            (at, phc_ns) = if is_near {
                (at.offset((ticks >> 36).abs()), phc_ns.wrapping_add(nanos >> 34))
            } else {
                (at.offset(ticks), nanos)
            };
            fitter.take(PhcReading { at, error_ticks, phc_ns });
            let _ = fitter.line().ticks_at(nanos);
        }
    }
}

#[test]
fn after_a_long_silence_it_is_found_as_before() {
    for gap_s in [10, 63, 65, 100, 10_000] {
        let mut world = World::new(2_500, 0);
        for turn in 0..20 {
            world.turn(if turn % 2 == 0 { 100_000 } else { -100_000 });
            world.run(1, 150);
        }
        world.run(4, 150);
        world.now_ns += gap_s * 1_000_000_000;
        assert_eq!(world.run(20, 150), [PhcEvent::Found], "after {gap_s} s");
    }
}
