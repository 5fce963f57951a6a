//! What may happen to a clock.

use super::worlds::{
    ERA_EVE, HOUR, NEW_YEARS_EVE, WEEK_S, crystal, leap, leaping, receiver, servers, until_contradicted,
    warm, whole, with_networks,
};
use super::{Limits, Scenario};
use crate::judge::Excuse;
use crate::random::Random;
use crate::world::WorldShape;
use maser_core::discipline::LeapClaim;
use maser_core::time::{LeapTable, Span};

/// Every scenario.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "cold",
        story: "a cold start with pulses and sentences",
        seconds: 2 * HOUR,
        world: |_| receiver(),
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "warm",
        story: "a start with the frequency of the last run",
        seconds: HOUR,
        world: |_| warm(receiver()),
        limits: Limits::locked_by(15.0),
    },
    Scenario {
        name: "late-sentences",
        story: "sentences 0.2 to 0.7 s late, jittering by 0.2 s either way",
        seconds: HOUR,
        world: |seed| {
            let mut world = receiver();
            world.receivers[0].sentence_delay = Random::new(seed, 50).between(0.2, 0.7);
            world.receivers[0].sentence_jitter = 0.2;
            world
        },
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "anywhere-alone",
        story: "a lone receiver whose sentences come anywhere in a second: it waits",
        seconds: 4 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.receivers[0].sentence_delay = 0.5;
            world.receivers[0].sentence_jitter = 0.5;
            world
        },
        limits: Limits::never(),
    },
    Scenario {
        name: "anywhere-upstream",
        story: "sentences anywhere in a second, and one upstream server: it locks",
        seconds: HOUR,
        world: |_| {
            let mut world = with_networks(receiver(), &[3e-3]);
            world.receivers[0].sentence_delay = 0.5;
            world.receivers[0].sentence_jitter = 0.5;
            world
        },
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "outliers",
        story: "one pulse in a hundred is 100 us late",
        seconds: 4 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.receivers[0].outlier_chance = 0.01;
            world.receivers[0].outlier = 100e-6;
            world
        },
        limits: Limits { worth_reading: true, synchronised: 0.995, ..Limits::locked_by(90.0) },
    },
    Scenario {
        name: "lost-and-doubled",
        story: "a third of the pulses is lost, one in twenty comes twice",
        seconds: 4 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.receivers[0].lost = 0.3;
            world.receivers[0].doubled = 0.05;
            world.receivers[0].doubled_after = 0.3;
            world
        },
        limits: Limits { worth_reading: true, ..Limits::locked_by(90.0) },
    },
    Scenario {
        name: "again-midway",
        story: "after two hours every pulse comes once more, 10 ms before the next one: that isn't followed",
        seconds: 4 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.receivers[0].again = Some((2 * HOUR, 0.99));
            world
        },
        limits: Limits { worth_reading: true, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "again",
        story: "every pulse comes once more, 10 ms before the next one, from the start: nobody can tell which of the two it is",
        seconds: 2 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.receivers[0].again = Some((0, 0.99));
            world
        },
        limits: Limits::never(),
    },
    Scenario {
        name: "real-oscillator",
        story: "flicker noise, a sawtooth of 15 ns, ageing and a daily wave of temperature",
        seconds: 30 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.oscillator.flicker = 1e-10;
            world.oscillator.ageing = 1e-9;
            world.oscillator.daily = 5e-8;
            world.receivers[0].sawtooth = 15e-9;
            world.receivers[0].jitter = 2e-8;
            world
        },
        limits: Limits { worth_reading: true, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "latency",
        story: "interrupts come 0.3 us late on the average, some of them much later; 2 us are stated",
        seconds: 6 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.receivers[0].latency = 3e-7;
            world.stamp_error = Span::from_nanos(2_000);
            world
        },
        limits: Limits { synchronised: 0.995, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "fallback",
        story: "the antenna of a poor crystal is lost for 16 hours; three upstreams take over and give back",
        seconds: 20 * HOUR,
        world: |_| {
            let mut world = with_networks(receiver(), &[1e-3, 2e-3, 4e-3]);
            world.oscillator = crystal(3e-9);
            world.receivers[0].outages = vec![(2 * HOUR, 18 * HOUR)];
            world
        },
        limits: Limits { synchronised: 0.99, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "gpsd",
        story: "complete samples with 1 us of noise, the counter 37 ppm off, three upstreams beside",
        seconds: 4 * HOUR,
        world: |_| {
            let mut world = with_networks(WorldShape::new(), &[1e-3, 2e-3, 4e-3]);
            world.oscillator = crystal(1e-10);
            world.sampled = Some(1e-6);
            world
        },
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "flapping",
        story: "the antenna is lost for ten seconds to ten minutes again and again",
        seconds: 6 * HOUR,
        world: |seed| {
            let mut world = receiver();
            let mut random = Random::new(seed, 51);
            let mut at = 600.0;
            while at < 20_000.0 {
                let length = random.between(10.0, 600.0);
                world.receivers[0].outages.push((whole(at), whole(at + length)));
                at += length + random.between(10.0, 600.0);
            }
            world
        },
        limits: Limits { synchronised: 0.995, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "antenna",
        story: "the antenna is lost for 24 hours and comes back",
        seconds: 32 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.receivers[0].outages = vec![(6 * HOUR, 30 * HOUR)];
            // Far enough that all of the 24 hours are looked at.
            world.root_distance_max = Span::from_nanos(100_000_000);
            world
        },
        limits: Limits { probe: Some(30 * HOUR - 1), ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "antenna-wave",
        story: "the same after two days with a daily wave of temperature",
        seconds: 76 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.oscillator.daily = 5e-8;
            world.receivers[0].outages = vec![(50 * HOUR, 74 * HOUR)];
            world.root_distance_max = Span::from_nanos(100_000_000);
            world
        },
        limits: Limits { probe: Some(74 * HOUR - 1), ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "antenna-wave-early",
        story: "the same after six hours: a day was never seen",
        seconds: 32 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.oscillator.daily = 5e-8;
            world.receivers[0].outages = vec![(6 * HOUR, 30 * HOUR)];
            world.root_distance_max = Span::from_nanos(100_000_000);
            world
        },
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "jitter-grows",
        story: "the pulses' noise becomes thirty times as large",
        seconds: 3 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.receivers[0].noisier = Some((HOUR, 30.0));
            world
        },
        limits: Limits { synchronised: 0.97, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "delay-shifts",
        story: "the sentences of a lone receiver come 60 ms later from some moment on",
        seconds: 2 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.receivers[0].later = Some((HOUR, 0.06));
            world
        },
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "one-liar",
        story: "a receiver beside one upstream server that is 5 ms off",
        seconds: 2 * HOUR,
        world: |_| {
            let mut world = with_networks(receiver(), &[5e-4]);
            world.networks[0].lie = 0.005;
            world
        },
        limits: Limits::never(),
    },
    Scenario {
        name: "leap-upstream",
        story: "a second is inserted that only the upstream servers announce, beside a receiver",
        seconds: 2 * HOUR,
        world: |_| {
            let mut world = with_networks(leaping(1, LeapClaim::Unknown), &[1e-3, 2e-3, 4e-3]);
            world.leap_claims = vec![(0, LeapClaim::Unknown)];
            for server in &mut world.networks {
                server.leap = 1;
            }
            world
        },
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "budget",
        story: "the antenna is lost with a poor crystal: it says unsynchronised when the budget is spent",
        seconds: 20 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.oscillator = crystal(3e-9);
            world.receivers[0].outages = vec![(2 * HOUR, 19 * HOUR)];
            world
        },
        limits: Limits { synchronised: 0.05, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "temperature-step",
        story: "the oscillator's frequency steps by 0.5 ppm",
        seconds: 3 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.oscillator.frequency_steps = vec![(HOUR, 5e-7)];
            world.excuse = until_contradicted(HOUR);
            world
        },
        limits: Limits { synchronised: 0.99, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "counter-jump",
        story: "the counter jumps by a quarter of a second: a machine that was paused",
        seconds: 2 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.oscillator.jumps = vec![(HOUR, 0.25)];
            world.excuse = until_contradicted(HOUR);
            world
        },
        limits: Limits { synchronised: 0.95, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "counter-jump-small",
        story: "the counter jumps by 10 us",
        seconds: 2 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.oscillator.jumps = vec![(HOUR, -1e-5)];
            world.excuse = until_contradicted(HOUR);
            world
        },
        limits: Limits { synchronised: 0.99, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "second-jumps",
        story: "the receiver names seconds one too late from some moment on; three upstreams know better",
        seconds: 2 * HOUR,
        world: |seed| {
            let mut world = with_networks(receiver(), &[1e-3, 2e-3, 4e-3]);
            world.receivers[0].lies = vec![(HOUR, if seed % 2 == 0 { 1 } else { -1 })];
            world
        },
        limits: Limits { synchronised: 0.99, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "second-off",
        story: "the receiver names seconds one off from the beginning; three upstreams vote it out",
        seconds: 2 * HOUR,
        world: |seed| {
            let mut world = with_networks(receiver(), &[1e-3, 2e-3, 4e-3]);
            world.receivers[0].lies = vec![(0, if seed % 2 == 0 { 1 } else { -1 })];
            world
        },
        limits: Limits { synchronised: 0.99, ..Limits::locked_by(90.0) },
    },
    Scenario {
        name: "second-off-midway",
        story: "a lone receiver names another second from some moment on: nobody can tell who is right, so nobody is served",
        seconds: 2 * HOUR,
        world: |seed| {
            let mut world = receiver();
            world.receivers[0].lies = vec![(HOUR, if seed % 2 == 0 { 1 } else { -1 })];
            world
        },
        limits: Limits { synchronised: 0.4, at_end: false, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "weeks",
        story: "the receiver's dates are 1024 weeks back: corrected by the build date",
        seconds: HOUR,
        world: |_| {
            let mut world = receiver();
            world.receivers[0].lies = vec![(0, -1024 * WEEK_S)];
            world
        },
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "weeks-midway",
        story: "the receiver's dates fall back by 1024 weeks while it runs",
        seconds: 2 * HOUR,
        world: |_| {
            let mut world = receiver();
            world.receivers[0].lies = vec![(HOUR, -1024 * WEEK_S)];
            world
        },
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "spoofed",
        story: "a spoofer drags the pulses away by 10 ns a second; three honest upstreams",
        seconds: 36 * HOUR,
        world: |_| {
            let mut world = with_networks(receiver(), &[2e-4, 3e-4, 4e-4]);
            world.receivers[0].ramp = Some((2 * HOUR, 1e-8));
            world.excuse = Some(Excuse::Agreement { from: 2 * HOUR, width: 8e-4 });
            world
        },
        limits: Limits { synchronised: 0.99, ..Limits::locked_by(60.0) },
    },
    Scenario {
        name: "servers",
        story: "four upstream servers and nothing else",
        seconds: 12 * HOUR,
        world: |_| servers(&[1e-3, 2e-3, 5e-3, 1e-2]),
        limits: Limits { synchronised: 0.999, ..Limits::locked_by(90.0) },
    },
    Scenario {
        name: "liars",
        story: "two of five upstream servers lie by 50 ms",
        seconds: 12 * HOUR,
        world: |_| {
            let mut world = servers(&[1e-3, 2e-3, 5e-3, 1e-2, 1e-2]);
            world.networks[0].lie = 0.05;
            world.networks[3].lie = 0.05;
            world
        },
        limits: Limits { synchronised: 0.999, ..Limits::locked_by(90.0) },
    },
    Scenario {
        name: "asymmetry",
        story: "upstream servers whose way back takes longer",
        seconds: 12 * HOUR,
        world: |_| {
            let mut world = servers(&[1e-3, 2e-3, 5e-3, 1e-2]);
            for (server, asymmetry) in world.networks.iter_mut().zip([2e-3, 1e-3, 4e-3, 8e-3]) {
                server.asymmetry = asymmetry;
            }
            world
        },
        limits: Limits { synchronised: 0.999, ..Limits::locked_by(90.0) },
    },
    Scenario {
        name: "leap-inserted",
        story: "a second is inserted, and the receiver says so",
        seconds: 2 * HOUR,
        world: |_| leaping(1, LeapClaim::Insert),
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "leap-deleted",
        story: "a second is deleted, and the receiver says so",
        seconds: 2 * HOUR,
        world: |_| leaping(-1, LeapClaim::Delete),
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "leap-false",
        story: "the receiver announces a leap second that leap-seconds.list doesn't know",
        seconds: 2 * HOUR,
        world: |_| {
            let mut world = leaping(0, LeapClaim::Insert);
            world.known_leaps = (LeapTable::built_in(), Some(NEW_YEARS_EVE + Span::from_seconds(WEEK_S)));
            world
        },
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "leap-listed",
        story: "a second is inserted that leap-seconds.list knows and the receiver doesn't announce",
        seconds: 2 * HOUR,
        world: |_| {
            let mut world = leaping(1, LeapClaim::None);
            world.known_leaps = (leap(1), Some(NEW_YEARS_EVE + Span::from_seconds(WEEK_S)));
            world
        },
        limits: Limits::locked_by(60.0),
    },
    Scenario {
        name: "era",
        story: "NTP's era 0 ends",
        seconds: HOUR,
        world: |_| WorldShape { start: ERA_EVE, ..with_networks(receiver(), &[1e-3]) },
        limits: Limits::locked_by(60.0),
    },
];
