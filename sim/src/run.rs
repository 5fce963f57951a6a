//! One run: a world lives for so many seconds beside the best filters there are for its samples, and what came of it.

use crate::judge::SETTLED_FROM;
use crate::optimum::FixedFilter;
use crate::oscillator::OscillatorShape;
use crate::plot::Track;
use crate::scenario::{Fault, Scenario};
use crate::world::{World, WorldShape};
use serde::Serialize;
use std::sync::OnceLock;

/// An oscillator, a reference that samples it once a second, and how long.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Setting {
    /// For how long, s.
    pub seconds: u64,
    /// Where all random numbers come from.
    pub seed: u64,
    /// The random walk of the oscillator's frequency, per √s.
    pub wander: f64,
    /// White noise of the reference, s.
    pub jitter: f64,
    /// Flicker noise of the oscillator's frequency.
    pub flicker: f64,
    /// The reference's sawtooth, s either way.
    pub sawtooth: f64,
    /// The daily wave of the oscillator's frequency.
    pub daily: f64,
}

/// The counter is ahead by this when the world begins, s; neither the clock nor the filters know.
const OFFSET: f64 = 10e-6;

impl Setting {
    /// How long a run is unless it is said.
    pub const SECONDS: u64 = 40_000;

    /// White noise and a random walk of the frequency: what the optimal filter is made for.
    #[must_use]
    pub const fn ideal(wander: f64, jitter: f64, seconds: u64, seed: u64) -> Self {
        Self { seconds, seed, wander, jitter, flicker: 0.0, sawtooth: 0.0, daily: 0.0 }
    }

    /// Whether there is more in it than the optimal filter is made for.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.flicker > 0.0 || self.sawtooth > 0.0 || self.daily > 0.0
    }

    /// Its world.
    #[must_use]
    pub fn world(&self) -> WorldShape {
        let mut world = WorldShape::new();
        world.oscillator = OscillatorShape {
            offset: OFFSET,
            wander: self.wander,
            flicker: self.flicker,
            daily: self.daily,
            ..OscillatorShape::perfect()
        };
        world.sampled = Some(self.jitter);
        world.sampled_sawtooth = self.sawtooth;
        world
    }
}

/// What came of a run. Figures of errors count from 10,000 s on, just after each sample, and are missing before.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figures {
    /// As it was set.
    pub seconds: u64,
    /// As it was set.
    pub seed: u64,
    /// As it was set.
    pub wander: f64,
    /// As it was set, s.
    pub jitter: f64,
    /// As it was set.
    pub flicker: f64,
    /// As it was set, s.
    pub sawtooth: f64,
    /// As it was set.
    pub daily: f64,
    /// Root of the mean square of the served clock's error, s.
    pub rms_offset_s: Option<f64>,
    /// The greatest error, s.
    pub max_offset_s: Option<f64>,
    /// The same as `rms_offset_s` of a steady-state Kalman filter that is told wander and jitter, on the same samples, s.
    pub optimal_rms_s: Option<f64>,
    /// `rms_offset_s` over `optimal_rms_s`.
    pub ratio: Option<f64>,
    /// Where there is more noise than that filter is made for: the least of many fixed filters, chosen afterwards, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_fixed_rms_s: Option<f64>,
    /// `rms_offset_s` over `best_fixed_rms_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to_best_fixed: Option<f64>,
    /// When the clock was first synchronised, s.
    pub lock_s: Option<f64>,
    /// Looks at which the error was greater than the root distance.
    pub bound_violations: u64,
    /// Median of the root distance over the true RMS.
    pub bound_to_error: Option<f64>,
    /// What the clock found the wander to be.
    pub wander_found: f64,
    /// What the clock found the jitter to be, s.
    pub jitter_found: f64,
}

/// A filter beside the clock, and the squares of its errors.
#[derive(Clone, Copy, Debug)]
struct Rival {
    filter: FixedFilter,
    squares: f64,
}

impl Rival {
    const fn new(filter: FixedFilter) -> Self {
        Self { filter, squares: 0.0 }
    }

    fn take(&mut self, sample: f64, truth: f64, counts: bool) {
        let error = self.filter.take(sample) - truth;
        self.squares += if counts { error * error } else { 0.0 };
    }
}

/// So many fixed filters are tried, each slower than the one before.
const FIXED_FILTERS: i32 = 45;
/// Wander over jitter of the fastest, and of each to the one before: time constants from half a second to three hours.
const FIXED_FASTEST: f64 = 4.0;
const FIXED_STEP: f64 = 0.63;

/// Fixed filters of every speed; their gains take a while to find, so they are found once.
fn fixed_filters() -> &'static [FixedFilter] {
    static FILTERS: OnceLock<Vec<FixedFilter>> = OnceLock::new();
    FILTERS.get_or_init(|| {
        let speeds = (0..FIXED_FILTERS).map(|step| FIXED_FASTEST * FIXED_STEP.powi(step));
        speeds.map(|speed| FixedFilter::optimal(speed, 1.0)).collect()
    })
}

/// Lives through a setting; `watch` is shown the world at the beginning of every second.
pub fn run(setting: &Setting, mut watch: impl FnMut(&World)) -> Figures {
    let mut world = World::new(setting.world(), setting.seed);
    let mut optimal = Rival::new(FixedFilter::optimal(setting.wander, setting.jitter));
    let fixed: &[FixedFilter] = if setting.is_real() { fixed_filters() } else { &[] };
    let mut fixed: Vec<Rival> = fixed.iter().copied().map(Rival::new).collect();
    for second in 0..setting.seconds {
        world.step();
        let (sample, truth) = world.last_sample();
        for rival in fixed.iter_mut().chain([&mut optimal]) {
            rival.take(sample, truth, second >= SETTLED_FROM);
        }
        watch(&world);
    }
    let counted = setting.seconds.saturating_sub(SETTLED_FROM);
    let rms = |rival: &Rival| (counted > 0).then(|| (rival.squares / crate::float(counted)).sqrt());
    let judge = &world.judge;
    let served = (counted > 0 && judge.rms() > 0.0).then(|| judge.rms());
    let (optimal, best) = (rms(&optimal), fixed.iter().filter_map(rms).min_by(f64::total_cmp));
    let over = |part: Option<f64>, whole: Option<f64>| Some(part? / whole?);
    let noise = world.clock.tracking(world.ticks(0.0)).noise;
    let Setting { seconds, seed, wander, jitter, flicker, sawtooth, daily } = *setting;
    Figures {
        seconds,
        seed,
        wander,
        jitter,
        flicker,
        sawtooth,
        daily,
        rms_offset_s: served,
        max_offset_s: served.map(|_| judge.worst()),
        optimal_rms_s: optimal,
        ratio: over(served, optimal),
        best_fixed_rms_s: best,
        ratio_to_best_fixed: over(served, best),
        lock_s: judge.locked_at,
        bound_violations: judge.violations,
        bound_to_error: over(served.map(|_| judge.median_distance()), served),
        wander_found: noise.wander,
        jitter_found: noise.jitter,
    }
}

/// What came of a scenario with one seed; errors count as in [`Figures`].
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ScenarioFigures {
    /// Its name.
    pub scenario: &'static str,
    /// For how long it ran.
    pub seconds: u64,
    /// Where all random numbers came from.
    pub seed: u64,
    /// When the clock was first synchronised, s.
    pub lock_s: Option<f64>,
    /// The share of the time after that in which it was.
    pub synchronised: f64,
    /// Whether it was at the end.
    pub synchronised_at_end: bool,
    /// Root of the mean square of the served clock's error, s.
    pub rms_offset_s: Option<f64>,
    /// The greatest error, s.
    pub max_offset_s: Option<f64>,
    /// Median of the root distance over the true RMS.
    pub bound_to_error: Option<f64>,
    /// The greatest error in parts of the root distance, but for what could not be known.
    pub worst_error_to_bound: f64,
    /// Looks at which the error was greater than the root distance.
    pub bound_violations: u64,
    /// Looks at which stratum 1 was served past the configured root distance.
    pub budget_violations: u64,
    /// Pulses that were given a second.
    pub labels: u64,
    /// Pulses that were given a wrong one.
    pub wrong_labels: u64,
    /// What the clock told of, a line each, from the first on.
    pub events: Vec<String>,
    /// The limits that were broken.
    pub faults: Vec<String>,
}

/// Lives through a scenario, for its own length or another; cut short, its end isn't judged.
pub fn run_scenario(
    scenario: &Scenario,
    seconds: Option<u64>,
    seed: u64,
    watch: impl FnMut(&World),
) -> ScenarioFigures {
    let whole = seconds.is_none_or(|seconds| seconds >= scenario.seconds);
    let scenario = Scenario { seconds: seconds.unwrap_or(scenario.seconds), ..*scenario };
    let outcome = scenario.run(seed, watch);
    let judged = |fault: &Fault| match fault {
        Fault::Bound(..) | Fault::Budget(_) | Fault::Labels(_) => true,
        Fault::Locked(at) => whole || at.is_some(),
        Fault::Synchronised(_) | Fault::AtEnd(_) => whole,
    };
    let faults = scenario.faults(&outcome).into_iter().filter(judged);
    let events = outcome.events.iter().map(|(at, event)| format!("{at:.3} s: {event:?}")).collect();
    let judge = &outcome.judge;
    let served = (judge.rms() > 0.0).then(|| judge.rms());
    ScenarioFigures {
        scenario: scenario.name,
        seconds: scenario.seconds,
        seed,
        lock_s: judge.locked_at,
        synchronised: judge.share_synchronised(),
        synchronised_at_end: outcome.at_end,
        rms_offset_s: served,
        max_offset_s: served.map(|_| judge.worst()),
        bound_to_error: served.map(|rms| judge.median_distance() / rms),
        events,
        worst_error_to_bound: judge.worst_share,
        bound_violations: judge.violations,
        budget_violations: judge.out_of_budget,
        labels: judge.labels,
        wrong_labels: judge.wrong_labels,
        faults: faults.map(|fault| fault.to_string()).collect(),
    }
}

/// Notes what a picture needs, every second.
pub fn note(track: &mut Track, world: &World) {
    let served =
        world.error_now().map(|(error, distance)| (error, world.is_synchronised().then_some(distance)));
    track.push(world.counted(), served);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(seed: u64) -> String {
        let figures = run(&Setting::ideal(1e-10, 1e-7, 11_000, seed), |_| {});
        serde_json::to_string(&figures).expect("plain data")
    }

    #[test]
    fn a_seed_says_everything() {
        assert_eq!(json(3), json(3));
        assert_ne!(json(3), json(4));
    }

    #[test]
    fn the_figures_are_those_of_the_run() {
        let mut seen = Vec::new();
        let figures = run(&Setting::ideal(1e-10, 1e-6, 10_500, 1), |world| seen.push(world.counted()));
        assert_eq!(seen.len(), 10_500);
        assert!((seen.first().expect("a second") - OFFSET).abs() < 1e-8);
        let (rms, greatest) =
            (figures.rms_offset_s.expect("settled"), figures.max_offset_s.expect("settled"));
        assert!(rms > 1e-8 && rms < 1e-6 && greatest > rms, "{figures:?}");
        assert_eq!(figures.best_fixed_rms_s, None);
        assert!(figures.lock_s.is_some_and(|at| at < 60.0), "{figures:?}");
    }

    #[test]
    fn a_short_run_has_no_errors_to_tell() {
        let figures = run(&Setting::ideal(1e-10, 1e-7, 100, 1), |_| {});
        assert_eq!((figures.rms_offset_s, figures.optimal_rms_s, figures.ratio), (None, None, None));
    }

    #[test]
    fn the_best_fixed_filter_is_no_worse_than_the_optimal_one() {
        let setting = Setting { daily: 5e-8, flicker: 1e-10, ..Setting::ideal(1e-10, 1e-6, 14_000, 1) };
        let figures = run(&setting, |_| {});
        let (best, optimal) =
            (figures.best_fixed_rms_s.expect("searched"), figures.optimal_rms_s.expect("run"));
        // The search is as fine as 26 % of a gain, which costs next to nothing.
        assert!(best < 1.02 * optimal, "{figures:?}");
        assert!(figures.ratio_to_best_fixed.is_some());
    }
}
