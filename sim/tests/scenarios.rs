//! Every scenario and a short grid hold their limits with a few seeds; and the judge sees planted faults.
//!
//! `maser-sim scenarios` and `maser-sim grid` are the same with as many seeds as there is time for.

use maser_core::snapshot::Snapshot;
use maser_core::time::Span;
use maser_sim::grid::{JITTERS, Row as GridRow, WANDERS};
use maser_sim::parallel;
use maser_sim::receiver::ReceiverShape;
use maser_sim::run::{Setting, run};
use maser_sim::scenario::{Fault, SCENARIOS, Scenario};
use maser_sim::sweep::{Row, Seen};
use maser_sim::world::WorldShape;
use std::convert::Infallible;

/// Scenarios that last longer get one seed, s.
const LONG: u64 = 30_000;

#[test]
fn every_scenario_keeps_its_limits() {
    let jobs: Vec<(&Scenario, u64)> = SCENARIOS
        .iter()
        .flat_map(|scenario| {
            (1..=if scenario.seconds > LONG { 1 } else { 2 }).map(move |seed| (scenario, seed))
        })
        .collect();
    let mut faults = Vec::new();
    let job = |index: usize| Seen::of(jobs[index].0, jobs[index].1);
    let done: Result<(), Infallible> = parallel::in_order(jobs.len(), job, |index, seen| {
        let row = Row::of(jobs[index].0, vec![seen]);
        faults.extend(row.first_fault().into_iter().chain(row.together));
        Ok(())
    });
    assert_eq!(done, Ok(()));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_clock_is_near_the_optimum_whatever_the_noise() {
    let cells = || WANDERS.into_iter().flat_map(|wander| JITTERS.map(|jitter| (wander, jitter)));
    let settings: Vec<Setting> = (1..)
        .zip(cells())
        .map(|(seed, (wander, jitter))| Setting::ideal(wander, jitter, 16_000, seed))
        .collect();
    let mut faults = Vec::new();
    let job = |index: usize| run(&settings[index], |_| {});
    let done: Result<(), Infallible> = parallel::in_order(settings.len(), job, |_, figures| {
        let row = GridRow::of(std::slice::from_ref(&figures), false).expect("one run");
        // One seed stands for itself, so it has the room of the worst.
        if row.worst > row.limits.worst || figures.bound_violations > 0 || figures.lock_s.is_none() {
            faults.push(format!("{figures:?}"));
        }
        Ok(())
    });
    assert_eq!(done, Ok(()));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Half an hour of a receiver, with something wrong about what is served.
fn spoilt(world: fn(u64) -> WorldShape) -> Vec<Fault> {
    let scenario = Scenario { seconds: 1_800, world, ..SCENARIOS[0] };
    scenario.faults(&scenario.run(1, |_| {}))
}

fn world() -> WorldShape {
    let mut world = WorldShape::new();
    world.oscillator.frequency = 37e-6;
    world.oscillator.wander = 1e-10;
    world.receivers = vec![ReceiverShape::good(1e-7)];
    world
}

#[test]
fn a_distance_that_is_too_narrow_is_seen() {
    assert_eq!(spoilt(|_| world()), []);
    let faults = spoilt(|_| WorldShape {
        spoil: Some(|snapshot| Snapshot {
            root_dispersion: Span::from_raw(snapshot.root_dispersion.raw() / 20),
            ..snapshot
        }),
        ..world()
    });
    assert!(matches!(faults.as_slice(), [Fault::Bound(violations, _)] if *violations > 10), "{faults:?}");
}

#[test]
fn a_clock_that_is_a_second_off_is_seen() {
    let faults = spoilt(|_| WorldShape {
        spoil: Some(|snapshot| {
            let mut snapshot = snapshot;
            if let Some(line) = &mut snapshot.line {
                line.origin = line.origin + Span::from_seconds(1);
            }
            snapshot
        }),
        ..world()
    });
    assert!(matches!(faults.as_slice(), [Fault::Bound(..)]), "{faults:?}");
}

#[test]
fn a_budget_that_is_passed_is_seen() {
    let faults = spoilt(|_| WorldShape {
        spoil: Some(|snapshot| Snapshot {
            root_dispersion: snapshot.root_dispersion + Span::from_nanos(10_000_000),
            ..snapshot
        }),
        ..world()
    });
    assert!(matches!(faults.as_slice(), [Fault::Budget(_)]), "{faults:?}");
}

#[test]
fn a_receiver_that_nobody_contradicts_and_names_wrong_seconds_is_seen() {
    let faults = spoilt(|_| {
        let mut world = world();
        world.receivers[0].lies = vec![(0, 1)];
        world
    });
    assert!(faults.iter().any(|fault| matches!(fault, Fault::Labels(_))), "{faults:?}");
    assert!(faults.iter().any(|fault| matches!(fault, Fault::Bound(..))), "{faults:?}");
}

#[test]
fn a_clock_that_loses_its_receiver_or_never_had_one_is_seen() {
    let never = spoilt(|_| WorldShape { receivers: Vec::new(), ..world() });
    assert!(never.contains(&Fault::Locked(None)) && never.contains(&Fault::AtEnd(false)), "{never:?}");
    let silent =
        spoilt(|_| WorldShape { spoil: Some(|snapshot| Snapshot { stratum: 16, ..snapshot }), ..world() });
    assert!(silent.contains(&Fault::Locked(None)), "{silent:?}");
}
