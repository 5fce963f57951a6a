//! The worlds that scenarios begin with.

use crate::judge::Excuse;
use crate::network::NetworkShape;
use crate::oscillator::OscillatorShape;
use crate::receiver::ReceiverShape;
use crate::world::WorldShape;
use maser_core::discipline::{LeapClaim, Noise, Saved, Shown};
use maser_core::time::{Instant, LeapTable, Span, Utc};

/// 2026-12-31 23:00:00 UTC.
pub(super) const NEW_YEARS_EVE: Instant<Utc> = Instant::from_unix(1_798_758_000, 0);
/// The midnight after it, in days since 1970.
pub(super) const NEW_YEAR_DAY: i64 = 20_819;
/// 2036-02-07 06:00:00 UTC: 28 minutes before NTP's era 0 ends.
pub(super) const ERA_EVE: Instant<Utc> = Instant::from_unix(2_085_976_800, 0);
pub(super) const WEEK_S: i64 = 604_800;
pub(super) const HOUR: u64 = 3_600;

/// A crystal like a good one's: 37 ppm off, wandering.
pub(super) fn crystal(wander: f64) -> OscillatorShape {
    OscillatorShape { frequency: 37e-6, wander, white: 1e-11, flicker: 2e-11, ..OscillatorShape::perfect() }
}

/// A crystal and a receiver with pulses good to 100 ns.
pub(super) fn receiver() -> WorldShape {
    let mut world = WorldShape::new();
    world.oscillator = crystal(1e-10);
    world.receivers = vec![ReceiverShape::good(1e-7)];
    world.stamp_error = Span::from_nanos(100);
    world
}

pub(super) fn with_networks(mut world: WorldShape, delays: &[f64]) -> WorldShape {
    world.networks = delays.iter().map(|&delay| NetworkShape::honest(delay)).collect();
    world
}

pub(super) fn until_contradicted(from: u64) -> Option<Excuse> {
    Some(Excuse::UntilContradicted { from, grace: 3 })
}

pub(super) fn leap(seconds: i32) -> LeapTable {
    let mut table = LeapTable::built_in();
    let _added = table.add(NEW_YEAR_DAY, seconds);
    table
}

pub(super) fn warm(mut world: WorldShape) -> WorldShape {
    let noise = Noise { jitter: 1e-7, wander: 1e-10, samples: 1000.0 };
    // The counter counts fast by 37 ppm, so reference time loses as much against it.
    world.saved = Some(Saved { frequency: -37e-6, frequency_sd: 1e-8, noise, shown: Shown::new() });
    world
}

/// Whole seconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a scenario")]
pub(super) const fn whole(seconds: f64) -> u64 {
    seconds as u64
}

/// A crystal and servers so far away, one way.
pub(super) fn servers(delays: &[f64]) -> WorldShape {
    let mut world = with_networks(WorldShape::new(), delays);
    world.oscillator = crystal(1e-10);
    world.root_distance_max = Span::from_seconds(1);
    world
}

/// The last hour of the year, which ends with a leap second of this sign, and what the receiver claims until then.
pub(super) fn leaping(seconds: i32, claim: LeapClaim) -> WorldShape {
    let mut world = receiver();
    world.start = NEW_YEARS_EVE;
    if seconds != 0 {
        world.leaps = leap(seconds);
    }
    world.leap_claims = vec![(0, claim), (HOUR + 1, LeapClaim::None)];
    world
}
