//! The machine's clock steered over simulated worlds: the core's own decisions, a kernel's clock that obeys them.

use maser_core::discipline::LeapClaim;
use maser_core::steer::{
    Decision, Frequency, Look, STRIKES_MAX, Standing, SteerSettings, Steerer, Tampering,
};
use maser_core::time::{Instant, Span};
use maser_sim::kernel_clock::{KernelClock, Reads};
use maser_sim::random::Random;
use maser_sim::receiver::ReceiverShape;
use maser_sim::world::{World, WorldShape};

const READS: Reads = Reads { noise: 50e-9, torn: (0.0, 0.0) };
/// The clock is looked at so far into each second.
const LOOKED_AT: f64 = 0.3;

/// A world whose served clock is good, and a machine's clock that follows it.
struct Rig {
    world: World,
    kernel: KernelClock,
    steerer: Steerer,
    /// The machine's clock less the served one after each second, s, as it truly is.
    offsets: Vec<f64>,
    steps: Vec<(usize, f64)>,
    tamperings: Vec<Tampering>,
    /// Seconds in which the kernel was told that it is synchronised.
    synchronised: usize,
    /// A fault that a test plants.
    spoil: fn(&mut Look),
    is_served: bool,
}

impl Rig {
    fn new(shape: &WorldShape, off: (f64, f64), reads: Reads, seed: u64) -> Self {
        let world = World::new(shape.clone(), seed);
        let random = Random::new(seed, 70);
        let utc = shape.leaps.utc(world.truth(0.0));
        let kernel = KernelClock::new(world.rate(), world.ticks(0.0), utc, off, reads, random);
        let settings = SteerSettings {
            nominal_rate: world.rate(),
            first_step_unlimited: false,
            kept: None,
            has_begun: false,
            is_contested: false,
        };
        Self {
            world,
            kernel,
            steerer: Steerer::new(settings),
            offsets: Vec::new(),
            steps: Vec::new(),
            tamperings: Vec::new(),
            synchronised: 0,
            spoil: |_| {},
            is_served: true,
        }
    }

    fn second(&mut self) -> Option<Decision> {
        self.world.step();
        let ticks = self.world.ticks(LOOKED_AT);
        let snapshot = self.world.snapshot;
        let clock = self.kernel.read(ticks);
        let kernel = self.kernel.says;
        let mut look =
            Look { clock, snapshot, is_synchronised: self.is_served, kernel, suspended: Span::ZERO };
        (self.spoil)(&mut look);
        let decision = self.steerer.look(&look);
        self.tamperings.extend(decision.tampering);
        if let Some(order) = &decision.order {
            if let Some(step) = order.step {
                self.steps.push((self.offsets.len(), step.as_seconds_f64()));
            }
            self.kernel.obey(order);
            self.steerer.obeyed(order, &look);
        }
        self.synchronised += usize::from(self.kernel.synchronised);
        let line = snapshot.line?;
        let now = self.kernel.at(ticks);
        self.offsets.push((now - snapshot.leap.utc(line.at(ticks))).as_seconds_f64());
        Some(decision)
    }

    fn seconds(&mut self, count: usize) {
        for _ in 0..count {
            self.second();
        }
    }

    /// Of the last seconds.
    fn rms(&self, last: usize) -> f64 {
        let tail = &self.offsets[self.offsets.len() - last..];
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let count = tail.len() as f64;
        (tail.iter().map(|offset| offset * offset).sum::<f64>() / count).sqrt()
    }

    fn worst(&self, last: usize) -> f64 {
        self.offsets[self.offsets.len() - last..].iter().fold(0.0, |worst, offset| offset.abs().max(worst))
    }
}

/// A good receiver, an oscillator as in a server.
fn good() -> WorldShape {
    let mut world = WorldShape::new();
    world.oscillator.frequency = 12e-6;
    world.oscillator.wander = 1e-10;
    world.sampled = Some(1e-7);
    world.stamp_error = Span::from_nanos(100);
    world
}

/// Seconds after the first order until the offset stays below a microsecond, s; and the RMS of the five minutes after it.
fn converged(rig: &mut Rig) -> (usize, f64) {
    rig.seconds(900);
    let begun = rig.offsets.iter().position(|offset| (offset - rig.offsets[0]).abs() > 1e-4).unwrap_or(0);
    let last = rig.offsets.iter().rposition(|offset| offset.abs() > 1e-6).unwrap_or(0);
    (last.saturating_sub(begun), rig.rms(300))
}

#[test]
fn from_50_ms_and_300_ppm_it_converges_as_fast_as_500_ppm_let_it() {
    // The slew has 800 ppm where the frequency's error helps it, and 200 where it doesn't.
    for (off, limit_s) in
        [((50e-3, 300e-6), 320), ((-50e-3, 300e-6), 120), ((50e-3, -300e-6), 120), ((5e-3, 30e-6), 60)]
    {
        for seed in 1..=3 {
            let mut rig = Rig::new(&good(), off, READS, seed);
            let (seconds, rms) = converged(&mut rig);
            println!("{off:?} seed {seed}: below 1 us after {seconds} s, then {:.1} ns rms", rms * 1e9);
            assert!(seconds <= limit_s, "{off:?}, seed {seed}: {seconds} s");
            assert!(rms < 200e-9, "{off:?}, seed {seed}: {rms}");
            assert!(rig.steps.is_empty() && rig.tamperings.is_empty(), "{:?}", rig.tamperings);
            assert!(rig.kernel.synchronised && rig.kernel.tai_offset_s == Some(37));
        }
    }
}

#[test]
fn half_a_second_is_stepped_at_the_start_and_slewed_to_a_microsecond_within_a_minute() {
    let mut rig = Rig::new(&good(), (0.5, 80e-6), READS, 4);
    rig.seconds(200);
    assert_eq!(rig.steps.len(), 1, "{:?}", rig.steps);
    let (at, by) = rig.steps[0];
    assert!((by + 0.5).abs() < 1e-2, "{by}");
    assert!(rig.worst(rig.offsets.len() - at - 60) < 1e-6, "{}", rig.worst(100));
    assert_eq!(rig.steerer.standing(), Standing::Steered);
}

#[test]
fn later_a_step_takes_a_quarter_of_an_hour() {
    let mut rig = Rig::new(&good(), (0.0, 20e-6), READS, 5);
    rig.seconds(200);
    rig.kernel.step(Span::from_nanos(300_000_000));
    let stepped = rig.offsets.len();
    rig.seconds(1_000);
    assert_eq!(rig.tamperings.len(), 1);
    assert_eq!(rig.steps.len(), 1, "{:?}", rig.steps);
    assert!((900..=902).contains(&(rig.steps[0].0 - stepped)), "{:?}", rig.steps);
    // Meanwhile it ran on at the frequency that was learnt.
    let drift = rig.offsets[stepped + 890] - rig.offsets[stepped + 5];
    assert!(drift.abs() < 20e-6, "{drift}");
    assert!(rig.worst(50) < 1e-6, "{}", rig.worst(50));
}

#[test]
fn more_than_a_thousand_seconds_are_for_a_person() {
    let mut rig = Rig::new(&good(), (-1_500.0, 20e-6), READS, 6);
    rig.seconds(2_000);
    assert!(rig.steps.is_empty() && !rig.kernel.synchronised);
    assert_eq!(rig.steerer.standing(), Standing::Panic);
}

fn leaping(day: i64, seconds: i32) -> WorldShape {
    let mut world = good();
    world.sampled = None;
    world.receivers = vec![ReceiverShape::good(1e-7)];
    world.start = Instant::from_unix(day * 86_400 - 900, 0);
    // The table has room, and the day is after all that are built in.
    let _added = world.leaps.add(day, seconds);
    let claim = if seconds > 0 { LeapClaim::Insert } else { LeapClaim::Delete };
    let at = if seconds > 0 { 901 } else { 899 };
    world.leap_claims = vec![(0, claim), (at, LeapClaim::None)];
    world
}

fn through_a_leap_second(seconds: i32, spoil: fn(&mut Look)) -> Rig {
    // 2100-01-01 is the first of a month after any build.
    let mut rig = Rig::new(&leaping(47_482, seconds), (1e-3, 15e-6), READS, 7);
    rig.spoil = spoil;
    rig.seconds(1_500);
    rig
}

/// Seconds at which the two weren't within 10 µs of each other, counted from 600 s on.
fn apart(rig: &Rig) -> Vec<usize> {
    (600..rig.offsets.len()).filter(|&second| rig.offsets[second].abs() > 1e-5).collect()
}

#[test]
fn the_kernel_inserts_and_deletes_leap_seconds_with_the_served_clock() {
    for seconds in [1, -1] {
        let rig = through_a_leap_second(seconds, |_| {});
        assert_eq!(apart(&rig), Vec::<usize>::new(), "{seconds}");
        assert!(rig.steps.is_empty() && rig.tamperings.is_empty(), "{:?} {:?}", rig.steps, rig.tamperings);
        assert_eq!(rig.kernel.tai_offset_s, Some(37 + seconds));
        assert_eq!(rig.steerer.standing(), Standing::Steered);
    }
}

#[test]
fn a_leap_second_that_the_kernel_is_not_told_of_is_seen() {
    let untold = through_a_leap_second(1, |look| look.snapshot.leap.next = None);
    assert!(!apart(&untold).is_empty());
}

#[test]
fn two_daemons_are_one_too_many() {
    let mut rig = Rig::new(&good(), (0.0, 20e-6), READS, 8);
    rig.seconds(100);
    for polls in 1..=20 {
        // As chronyd does at each of its updates.
        rig.kernel.says.frequency = Frequency::nearest(f64::from(polls) * 1e-6);
        rig.seconds(64);
    }
    assert_eq!(rig.tamperings.len(), usize::try_from(STRIKES_MAX).unwrap_or(0));
    assert_eq!(rig.steerer.standing(), Standing::Contested);
}

#[test]
fn while_nothing_is_served_it_runs_on_at_the_frequency_that_was_learnt() {
    let mut rig = Rig::new(&good(), (1e-3, -45e-6), READS, 9);
    rig.seconds(400);
    let before = rig.synchronised;
    rig.is_served = false;
    rig.seconds(1_000);
    assert_eq!((rig.synchronised, rig.steerer.standing()), (before, Standing::Held));
    // A wander of 1e-10 per √s makes 2 µs of a thousand seconds, and the learnt rate is good to a few ppb.
    assert!(rig.offsets[rig.offsets.len() - 1].abs() < 20e-6, "{}", rig.offsets[rig.offsets.len() - 1]);
    rig.is_served = true;
    rig.seconds(100);
    assert!(rig.worst(20) < 1e-6, "{}", rig.worst(20));
}

fn torn(spoil: fn(&mut Look)) -> f64 {
    let mut rig = Rig::new(&good(), (1e-3, 20e-6), Reads { torn: (0.2, 2e-3), ..READS }, 10);
    rig.spoil = spoil;
    rig.seconds(600);
    rig.rms(300)
}

#[test]
fn readings_that_a_preemption_tore_do_no_harm() {
    let rms = torn(|_| {});
    println!("one in five torn by up to 2 ms: {:.1} ns rms", rms * 1e9);
    assert!(rms < 200e-9, "{rms}");
    let believed = torn(|look| look.clock.error_ticks = 100);
    assert!(believed > 1e-5, "taken at their word they would do: {believed}");
}
