use super::*;
use crate::snapshot::ClockHeader;
use crate::time::LeapIndicator;

/// 2026-12-01 00:00:00 UTC.
const DECEMBER: i64 = 20_788 * 86_400;
/// The last midnight of that month's end: 2027-01-01 00:00:00 UTC.
const NEW_YEAR: i64 = 20_819 * 86_400;

/// A machine in a test's hands: a nanosecond counter, a realtime clock that can be stepped and slewed.
struct Machine {
    ticks: i64,
    realtime_ns: i64,
    monotonic_ns: i64,
    slew_ppb: i64,
    reading: MachineReading,
}

impl Machine {
    fn at(unix_s: i64) -> Self {
        let clock = ClockReading {
            ticks: Ticks::from_bits(0),
            error_ticks: 20,
            realtime_ns: 0,
            monotonic_ns: 0,
            apart_ns: 50,
        };
        Self {
            ticks: 5_000_000_000,
            realtime_ns: unix_s * 1_000_000_000,
            monotonic_ns: 77_000_000_000,
            slew_ppb: 0,
            reading: MachineReading {
                clock,
                synchronised: true,
                error_max: Span::from_nanos(1_500_000),
                leap: PendingLeap::None,
            },
        }
    }
    fn pass_ms(&mut self, ms: i64) -> &mut Self {
        let ns = ms * 1_000_000;
        self.ticks += ns;
        self.realtime_ns += ns + ns * self.slew_ppb / 1_000_000_000;
        self.monotonic_ns += ns + ns * self.slew_ppb / 1_000_000_000;
        self
    }
    fn read(&self) -> MachineReading {
        let mut reading = self.reading;
        reading.clock.ticks = Ticks::from_bits(self.ticks.unsigned_abs());
        reading.clock.realtime_ns = self.realtime_ns;
        reading.clock.monotonic_ns = self.monotonic_ns;
        reading
    }
    fn now(&self) -> Ticks {
        self.read().clock.ticks
    }
}

fn settings() -> MachineSettings {
    MachineSettings {
        stratum: 1,
        reference_id: [192, 0, 2, 1],
        local_stratum: None,
        precision: -25,
        nominal_rate: Rate::NANOSECOND,
        not_before: Instant::from_unix(DECEMBER - 86_400, 0),
    }
}
fn clock(settings: MachineSettings) -> MachineClock {
    MachineClock::new(settings, LeapTable::built_in())
}
/// What `snapshot` serves now, as nanoseconds since 1970.
fn served_ns(snapshot: &Snapshot, now: Ticks) -> i64 {
    snapshot.leap.utc(snapshot.line.unwrap().at(now)).unix_nanos()
}
fn header(snapshot: &Snapshot, now: Ticks) -> ClockHeader {
    snapshot.header_at(now, Span::ZERO)
}

#[test]
fn a_synchronised_machine_is_served_one_stratum_above_with_its_own_error_bound() {
    let mut machine = Machine::at(DECEMBER);
    let mut clock = clock(settings());
    let update = clock.update(&machine.read());
    assert_eq!(update.standing, Some(Standing::Synchronised));
    let snapshot = update.snapshot.unwrap();
    let said = header(&snapshot, machine.now());
    assert_eq!((said.stratum, said.leap, said.reference_id), (2, LeapIndicator::None, [192, 0, 2, 1]));
    assert!(said.root_dispersion.to_span() >= machine.reading.error_max);
    machine.pass_ms(1_000);
    assert!((served_ns(&snapshot, machine.now()) - machine.realtime_ns).abs() <= 1);
    assert_eq!(clock.update(&machine.read()).standing, None, "nothing has changed");
}

#[test]
fn without_synchronisation_it_says_so_or_serves_the_local_stratum() {
    let mut machine = Machine::at(DECEMBER);
    machine.reading.synchronised = false;
    let snapshot = clock(settings()).update(&machine.read()).snapshot.unwrap();
    let said = header(&snapshot, machine.now());
    assert_eq!((said.stratum, said.leap, said.reference_id), (0, LeapIndicator::Unsynchronised, [0; 4]));

    for (local, id) in [(10, LOCAL_REFERENCE_ID), (1, *b"LOCL")] {
        let settings = MachineSettings { local_stratum: Some(local), ..settings() };
        let snapshot = clock(settings).update(&machine.read()).snapshot.unwrap();
        let said = header(&snapshot, machine.now());
        assert_eq!((said.stratum, said.leap, said.reference_id), (local, LeapIndicator::None, id));
    }
}

#[test]
fn a_clock_from_before_the_build_is_not_believed_even_locally() {
    let machine = Machine::at(1_000_000_000);
    let update = clock(MachineSettings { local_stratum: Some(10), ..settings() }).update(&machine.read());
    assert_eq!(update.standing, Some(Standing::BeforeBuild));
    assert_eq!(header(&update.snapshot.unwrap(), machine.now()).stratum, 0);
}

#[test]
fn a_step_is_followed_at_once_and_counted_and_a_slew_is_not_a_step() {
    for step_ns in [-86_400_000_000_000, -1_000_000, 30_000, 500_000_000, 86_400_000_000_000] {
        let mut machine = Machine::at(DECEMBER);
        let mut clock = clock(settings());
        clock.update(&machine.read());
        machine.slew_ppb = 83_000_000;
        let slewed = clock.update(&machine.pass_ms(125).read());
        assert_eq!(slewed.step, None);
        machine.pass_ms(125).realtime_ns += step_ns;
        let update = clock.update(&machine.read());
        let error = update.step.unwrap() - Span::from_nanos(step_ns);
        assert!(error.abs() <= Span::from_nanos(2), "{error:?}");
        let snapshot = update.snapshot.unwrap();
        assert_eq!(snapshot.generation, 1);
        assert!((served_ns(&snapshot, machine.now()) - machine.realtime_ns).abs() <= 1);
    }
}

#[test]
fn a_slew_is_tracked_and_its_change_widens_the_bound() {
    let mut machine = Machine::at(DECEMBER);
    let mut clock = clock(settings());
    let steady = clock.update(&machine.read()).snapshot.unwrap();
    machine.slew_ppb = 500_000;
    let changed = clock.update(&machine.pass_ms(125).read()).snapshot.unwrap();
    assert!(changed.root_dispersion >= steady.root_dispersion + Span::from_nanos(60_000));
    assert!(changed.dispersion_growth > steady.dispersion_growth);
    machine.pass_ms(125);
    assert!((served_ns(&changed, machine.now()) - machine.realtime_ns).abs() <= 5, "the new rate holds");
}

/// Reads for a second, stops reading, lets the clock go on otherwise than it went, and asserts that what is served is
/// off by no more than is admitted, for as long as it is called synchronised.
fn bound_holds_after_the_writer_stops(before: impl Fn(&mut Machine), after_slew_ppb: i64) {
    let mut machine = Machine::at(DECEMBER);
    machine.reading.error_max = Span::ZERO;
    let mut clock = clock(settings());
    let mut snapshot = clock.update(&machine.read()).snapshot.unwrap();
    for _ in 0..8 {
        before(&mut machine);
        snapshot = clock.update(&machine.pass_ms(125).read()).snapshot.unwrap_or(snapshot);
    }
    machine.slew_ppb = after_slew_ppb;
    for _ in 0..90 {
        machine.pass_ms(100);
        let now = machine.now();
        let error = Span::from_nanos(served_ns(&snapshot, now) - machine.realtime_ns).abs();
        let admitted = snapshot.root_dispersion_at(now);
        assert!(!snapshot.synchronised_at(now) || error <= admitted, "{error:?} off, {admitted:?} admitted");
    }
}

#[test]
fn when_the_writer_stops_the_bound_holds_whatever_the_clock_was_doing() {
    bound_holds_after_the_writer_stops(|_| {}, 14_000);
    // A slew that ends, or turns, right after the last reading.
    bound_holds_after_the_writer_stops(|machine| machine.slew_ppb = 83_000_000, 0);
    bound_holds_after_the_writer_stops(|machine| machine.slew_ppb = -83_000_000, 0);
    // Readings that are off by all that their brackets allow, to one side and to the other.
    bound_holds_after_the_writer_stops(
        |machine| {
            let sign = if machine.reading.clock.apart_ns == 51 { -1 } else { 1 };
            machine.reading.clock.apart_ns = if sign == 1 { 51 } else { 52 };
            machine.reading.clock.error_ticks = 4_900;
            machine.ticks += sign * 4_900;
        },
        0,
    );
}

#[test]
fn before_a_rate_is_measured_the_bound_holds_for_a_counter_that_is_off() {
    let mut machine = Machine::at(DECEMBER);
    machine.reading.error_max = Span::ZERO;
    let snapshot = clock(settings()).update(&machine.read()).snapshot.unwrap();
    machine.slew_ppb = 60_000;
    machine.pass_ms(7_900);
    let error = Span::from_nanos(served_ns(&snapshot, machine.now()) - machine.realtime_ns).abs();
    assert!(error <= snapshot.root_dispersion_at(machine.now()), "{error:?}");
}

#[test]
fn a_counter_that_jumps_is_followed_as_a_step_is() {
    for jump_ns in [-5_000_000_000, -40_000_000, 40_000_000, 5_000_000_000_i64] {
        let mut machine = Machine::at(DECEMBER);
        let mut clock = clock(settings());
        clock.update(&machine.read());
        clock.update(&machine.pass_ms(125).read());
        // The kernel's clocks stood still together, so that their distance says nothing.
        machine.pass_ms(125).ticks += jump_ns;
        let update = clock.update(&machine.read());
        assert!((update.step.unwrap() + Span::from_nanos(jump_ns)).abs() < Span::from_nanos(5), "{jump_ns}");
        let snapshot = update.snapshot.unwrap();
        assert_eq!(snapshot.generation, 1);
        assert!((served_ns(&snapshot, machine.now()) - machine.realtime_ns).abs() <= 1);
    }
}

#[test]
fn a_torn_reading_is_no_step() {
    let mut machine = Machine::at(DECEMBER);
    let mut clock = clock(settings());
    clock.update(&machine.read());
    for _ in 0..8 {
        machine.pass_ms(125);
        let mut torn = machine.read();
        torn.clock.monotonic_ns -= 2_000_000;
        torn.clock.apart_ns = 2_000_001;
        assert_eq!(clock.update(&torn).step, None);
        assert_eq!(clock.update(&machine.pass_ms(125).read()).step, None);
    }
}

#[test]
fn a_preempted_reading_is_left_out_for_half_a_second() {
    let mut machine = Machine::at(DECEMBER);
    let mut clock = clock(settings());
    clock.update(&machine.read());
    machine.reading.clock.error_ticks = 3_000_000;
    assert_eq!(clock.update(&machine.pass_ms(125).read()).snapshot, None);
    let patience_over = clock.update(&machine.pass_ms(1_000).read()).snapshot.unwrap();
    assert!(patience_over.root_dispersion >= Span::from_nanos(4_500_000));
}

/// Runs the machine through the end of a year whose last second is inserted or deleted, as the kernel does it
/// `late_ms` after the fact, and checks what is served against TAI at every reading and between them. `phase_ms` puts
/// the readings everywhere around the leap, into the milliseconds that the kernel is late, too.
fn through_a_leap_second(leap: PendingLeap, phase_ms: i64, late_ms: i64) {
    let (count_moves_s, announced) = match leap {
        PendingLeap::Delete => (1, LeapIndicator::Delete),
        PendingLeap::None | PendingLeap::Insert | PendingLeap::Inserting => (-1, LeapIndicator::Insert),
    };
    let mut machine = Machine::at(NEW_YEAR - 5);
    machine.reading.leap = leap;
    let mut clock = clock(settings());
    let mut snapshot = clock.update(&machine.read()).snapshot.unwrap();
    let tai_at_start = snapshot.line.unwrap().origin;
    let leap_after_ms = if count_moves_s < 0 { 5_000 } else { 4_000 };
    for elapsed_ms in 1..12_000 {
        machine.pass_ms(1);
        if elapsed_ms == leap_after_ms + late_ms {
            machine.realtime_ns += count_moves_s * 1_000_000_000;
        }
        let kernel_is_late = (leap_after_ms..leap_after_ms + late_ms).contains(&elapsed_ms);
        if elapsed_ms > leap_after_ms + late_ms {
            let inserting = leap == PendingLeap::Insert && elapsed_ms <= leap_after_ms + 1_000;
            machine.reading.leap = if inserting { PendingLeap::Inserting } else { PendingLeap::None };
        }
        if elapsed_ms % 125 == phase_ms {
            let update = clock.update(&machine.read());
            assert_eq!(update.step, None, "after {elapsed_ms} ms");
            snapshot = update.snapshot.unwrap_or(snapshot);
        }
        let tai = snapshot.line.unwrap().at(machine.now());
        let elapsed = Span::from_nanos(elapsed_ms * 1_000_000);
        assert!(((tai - tai_at_start) - elapsed).abs() < Span::from_nanos(100), "after {elapsed_ms} ms");
        // At the very millisecond the served clock may be a fraction of a nanosecond to either side.
        if !kernel_is_late && elapsed_ms != leap_after_ms {
            let error_ns = served_ns(&snapshot, machine.now()) - machine.realtime_ns;
            assert!(error_ns.abs() < 100, "after {elapsed_ms} ms: {error_ns} ns");
        }
        let over_ms = if count_moves_s < 0 { leap_after_ms + 1_000 } else { leap_after_ms };
        if elapsed_ms != over_ms {
            let expected = if elapsed_ms < over_ms { announced } else { LeapIndicator::None };
            assert_eq!(header(&snapshot, machine.now()).leap, expected, "after {elapsed_ms} ms");
        }
    }
}

#[test]
fn a_leap_second_is_no_step_however_late_the_kernel_is() {
    for leap in [PendingLeap::Insert, PendingLeap::Delete] {
        for late_ms in [0, 4, 60, 400] {
            for phase_ms in [0, 1, 2, 3, 4, 5, 60, 105, 106, 120, 124] {
                through_a_leap_second(leap, phase_ms, late_ms);
            }
        }
    }
}

#[test]
fn a_leap_second_called_off_at_the_last_moment_is_within_the_bound() {
    let mut machine = Machine::at(NEW_YEAR - 1);
    machine.reading.leap = PendingLeap::Insert;
    let mut clock = clock(settings());
    let mut snapshot = clock.update(&machine.pass_ms(900).read()).snapshot.unwrap();
    machine.reading.leap = PendingLeap::None;
    for elapsed_ms in (1_000..6_000).step_by(60) {
        let update = clock.update(&machine.pass_ms(60).read());
        snapshot = update.snapshot.unwrap_or(snapshot);
        let error = Span::from_nanos(served_ns(&snapshot, machine.now()) - machine.realtime_ns).abs();
        // Within the milliseconds around the leap the last snapshot stands, and nothing can be known.
        if update.snapshot.is_some() {
            assert!(error <= snapshot.root_dispersion_at(machine.now()), "after {elapsed_ms} ms {error:?}");
        }
    }
    assert!(
        (served_ns(&snapshot, machine.now()) - machine.realtime_ns).abs() < 5,
        "in the end it is followed"
    );
}

#[test]
fn a_poor_reading_makes_no_step() {
    let mut machine = Machine::at(DECEMBER);
    let mut clock = clock(settings());
    clock.update(&machine.read());
    machine.pass_ms(600);
    let mut poor = machine.read();
    poor.clock.error_ticks = 100_000;
    poor.clock.ticks = poor.clock.ticks.offset(90_000);
    assert_eq!(clock.update(&poor).step, None, "believed after so long, within its bracket");
    assert_eq!(clock.update(&machine.pass_ms(1).read()).step, None);
}

#[test]
fn a_start_within_the_inserted_second_is_in_the_second_of_the_two() {
    let mut machine = Machine::at(NEW_YEAR - 1);
    machine.pass_ms(500);
    machine.reading.leap = PendingLeap::Inserting;
    let mut clock = clock(settings());
    let snapshot = clock.update(&machine.read()).snapshot.unwrap();
    let tai = snapshot.line.unwrap().origin;
    machine.pass_ms(625);
    machine.reading.leap = PendingLeap::None;
    let update = clock.update(&machine.read());
    assert_eq!(update.step, None);
    let passed = update.snapshot.unwrap().line.unwrap().origin - tai;
    assert!((passed - Span::from_nanos(625_000_000)).abs() < Span::from_nanos(5));
}

#[test]
fn a_leap_second_is_announced_on_the_last_day_of_a_month_only_and_can_be_called_off() {
    let mut machine = Machine::at(NEW_YEAR - 3 * 86_400);
    machine.reading.leap = PendingLeap::Insert;
    let snapshot = clock(settings()).update(&machine.read()).snapshot.unwrap();
    assert_eq!(header(&snapshot, machine.now()).leap, LeapIndicator::None);

    let mut machine = Machine::at(NEW_YEAR - 3_600);
    let mut clock = clock(settings());
    machine.reading.leap = PendingLeap::Insert;
    let snapshot = clock.update(&machine.read()).snapshot.unwrap();
    assert_eq!(header(&snapshot, machine.now()).leap, LeapIndicator::Insert);
    machine.reading.leap = PendingLeap::None;
    let snapshot = clock.update(&machine.pass_ms(125).read()).snapshot.unwrap();
    assert_eq!(header(&snapshot, machine.now()).leap, LeapIndicator::None);
}

#[test]
fn the_era_turns_without_notice() {
    const ERA_1: i64 = (1 << 32) - crate::time::UNIX_TO_NTP_S;
    let mut machine = Machine::at(ERA_1 - 1);
    let mut clock = clock(settings());
    let mut last = None;
    for _ in 0..16 {
        let update = clock.update(&machine.pass_ms(125).read());
        assert_eq!(update.step, None);
        let snapshot = update.snapshot.unwrap();
        let stamp = snapshot.ntp(snapshot.line.unwrap().at(machine.now()));
        if let Some(last) = last {
            assert!((stamp.since(last) - Span::from_nanos(125_000_000)).abs() < Span::from_nanos(5));
        }
        last = Some(stamp);
    }
    assert_eq!(last.unwrap().bits() >> 32, 1);
}

#[test]
fn a_newer_list_of_leap_seconds_changes_the_future_only() {
    let mut machine = Machine::at(NEW_YEAR - 60);
    let mut clock = clock(settings());
    clock.update(&machine.read());
    let mut newer = LeapTable::built_in();
    newer.add(NEW_YEAR / 86_400, 1).unwrap();
    assert!(clock.set_leaps(newer.clone()));
    let known = |snapshot: &Snapshot| snapshot.leap.next.map(|leap| leap.offset_after_s);
    assert_eq!(known(&clock.update(&machine.pass_ms(1_000).read()).snapshot.unwrap()), Some(38));
    assert!(clock.set_leaps(LeapTable::built_in()), "not yet there: it can be taken back");
    assert_ne!(known(&clock.update(&machine.pass_ms(1_000).read()).snapshot.unwrap()), Some(38));
    // A minute after it: TAI - UTC is 37 s by what is served.
    machine.pass_ms(118_000);
    clock.update(&machine.read());
    assert!(!clock.set_leaps(newer), "TAI would step");
}
