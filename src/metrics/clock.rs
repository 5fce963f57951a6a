//! The server itself and its clock.

use super::family::{Families, Value, flag};
use crate::status::{LeapStatus, State, Status, Tracking};

pub(super) fn gather(status: &Status, started_unix_s: f64, out: &mut Families) {
    let Status { version, clock, tracking, .. } = status;
    out.info("maser_build", "The server's version").add([("version", version)], Value::Known);
    out.gauge(
        "process_start_time_seconds",
        "When the server's process was ready, in seconds since 1970 by the machine's clock then",
    )
    .one(started_unix_s);
    out.gauge("maser_uptime_seconds", "Since the server's process was ready, by a clock that nobody steers")
        .one(status.uptime_s);
    configuration(status, out);
    let states = out.gauge("maser_state", "Where the served clock stands: 1 for its state, 0 for the others");
    for state in State::ALL {
        states.with([("state", state.word())], flag(status.state == state));
    }
    out.gauge("maser_synchronised", "Whether clients may follow the replies")
        .one(flag(status.state.is_followable()));
    out.gauge("maser_state_age_seconds", "For how long the clock has been in its state")
        .one(tracking.since_s);
    out.gauge("maser_stratum", "The stratum of replies; 16 while unsynchronised")
        .one(f64::from(status.stratum));
    let leaps =
        out.gauge("maser_leap", "What replies say of the next leap second: 1 for that, 0 for the others");
    for leap in LeapStatus::ALL {
        leaps.with([("leap", leap.label())], flag(status.leap == leap));
    }
    out.gauge("maser_precision_seconds", "How finely the clock is read")
        .one(f64::from(status.precision_log2_s).exp2());
    out.info("maser_clock", "What counts time between corrections")
        .add([("counter", &clock.counter)], Value::Known);
    out.gauge("maser_clock_frequency_hertz", "How fast that counts").one(clock.frequency_hz);
    error(tracking, out);
    oscillator(tracking, out);
    leap_seconds(tracking, out);
    steering(tracking, out);
}

/// What became of reading the configuration again, where somebody can.
fn configuration(status: &Status, out: &mut Families) {
    let Some(load) = &status.configuration else { return };
    out.gauge("maser_configuration_refused", "Whether the configuration was read again since and refused")
        .one(flag(load.refused.is_some()));
    let loads = out.counter("maser_configuration_reloads", "How often the configuration was read again");
    loads.count([("outcome", "applied")], load.reloads);
    loads.count([("outcome", "refused")], load.refusals);
}

/// How far the served time may be off.
fn error(tracking: &Tracking, out: &mut Families) {
    out.gauge("maser_root_delay_seconds", "Round trip to the primary reference").one(tracking.root_delay_s);
    out.gauge("maser_root_dispersion_seconds", "Error bound, without half of the root delay")
        .one(tracking.root_dispersion_s);
    out.gauge("maser_root_distance_seconds", "Error bound: root dispersion and half of the root delay")
        .one(tracking.root_distance_s);
    out.gauge(
        "maser_root_distance_max_seconds",
        "Past this root distance the server says that it is unsynchronised",
    )
    .one(tracking.root_distance_max_s);
    let budget = out.gauge("maser_error_budget_seconds", "What the root dispersion is made of");
    for (part, figure) in &tracking.budget {
        budget.with([("part", part)], *figure);
    }
    out.gauge(
        "maser_holdover_remaining_seconds",
        "In holdover: until the server says that it is unsynchronised",
    )
    .one(tracking.holdover_left_s);
    out.counter("maser_unsynchronised", "How often the clock became unsynchronised")
        .count([], tracking.unsynchronised_count);
}

/// How the clock follows its sources.
fn oscillator(tracking: &Tracking, out: &mut Families) {
    let ratio = |ppm: Option<f64>| ppm.map(|ppm| ppm / 1e6);
    out.gauge(
        "maser_offset_seconds",
        "The last sample's distance from the served clock, positive where the source is ahead",
    )
    .one(tracking.offset_s);
    out.gauge("maser_offset_rms_seconds", "The root of the mean square of the last samples' distances")
        .one(tracking.rms_offset_s);
    out.gauge("maser_jitter_seconds", "The standard deviation of the followed samples")
        .one(tracking.jitter_s);
    out.gauge(
        "maser_frequency_offset_ratio",
        "How far the counter is from its nominal frequency, positive where it is fast",
    )
    .one(ratio(tracking.frequency_ppm));
    out.gauge("maser_frequency_error_ratio", "The standard deviation of that")
        .one(ratio(tracking.frequency_error_ppm));
    out.gauge(
        "maser_wander_per_sqrt_second",
        "The standard deviation of the oscillator's fractional frequency after a second",
    )
    .one(tracking.wander_per_sqrt_s);
    out.gauge("maser_time_constant_seconds", "Over how long the filter averages")
        .one(tracking.time_constant_s);
}

fn leap_seconds(tracking: &Tracking, out: &mut Families) {
    let leap = &tracking.leap;
    out.gauge("maser_tai_minus_utc_seconds", "TAI - UTC now").one(leap.tai_minus_utc_s.map(f64::from));
    let next = leap.next.as_ref().map_or(0, |next| next.seconds);
    out.gauge(
        "maser_next_leap_second_seconds",
        "What the next leap second that is known adds to UTC: 1, -1, or 0 for none known",
    )
    .one(leap.tai_minus_utc_s.map(|_| f64::from(next)));
    out.gauge(
        "maser_leap_file_remaining_seconds",
        "Until the list of leap seconds expires, below 0 afterwards",
    )
    .one(leap.file_left_s);
}

/// How the machine's clock follows the served one, where it is to.
fn steering(tracking: &Tracking, out: &mut Families) {
    let steering = tracking.steering.as_ref();
    out.gauge(
        "maser_steering_offset_seconds",
        "The machine's clock's distance from the served one, positive where it is ahead",
    )
    .one(steering.and_then(|steering| steering.offset_s));
    out.gauge(
        "maser_steering_frequency_ratio",
        "The correction with which the machine's clock runs as the served one does",
    )
    .one(steering.and_then(|steering| steering.frequency_ppm).map(|ppm| ppm / 1e6));
    let steps = out.counter("maser_steering_steps", "How often the machine's clock was stepped");
    if let Some(steering) = steering {
        steps.count([], steering.steps);
    }
    out.gauge("maser_steering_problem", "Whether the machine's clock is to be steered and can't be")
        .one(steering.map(|steering| flag(steering.problem.is_some())));
}
