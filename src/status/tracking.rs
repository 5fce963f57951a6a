//! How the served clock follows its sources, as `maser tracking` prints it.

use std::fmt::Write;

use super::columns::Columns;
use super::units::{fraction, printable, seconds, signed_seconds, uptime};
use super::{LeapKnowledge, Status, SteeringStatus, Tracking};

/// A line a figure, as chronyc's tracking has them, and the last events.
#[must_use]
pub fn tracking_table(status: &Status) -> String {
    let tracking = &status.tracking;
    let mut lines = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string doesn't fail.
        let _ = writeln!(lines, "{:<16}: {}", printable(name), printable(&value));
    };
    let known =
        |figure: Option<f64>, told: fn(f64) -> String| figure.map_or_else(|| "not known".to_owned(), told);
    let since = tracking.since_s.map(|since| format!(" for {}", uptime(since)));
    line("State", tracking.state.word().to_owned() + &since.unwrap_or_default());
    line("Source", source_text(tracking));
    line("Stratum", tracking.stratum.to_string());
    let rms = tracking.rms_offset_s.map(|rms| format!(", {} rms", seconds(rms)));
    line("Offset", known(tracking.offset_s, signed_seconds) + &rms.unwrap_or_default());
    let error = tracking.frequency_error_ppm.map(|error| format!(" +/- {}", fraction(error * 1e-6)));
    line(
        "Frequency",
        known(tracking.frequency_ppm, |ppm| format!("{ppm:+.6} ppm")) + &error.unwrap_or_default(),
    );
    line("Wander", known(tracking.wander_per_sqrt_s, |wander| format!("{wander:.2e} per sqrt s")));
    line("Jitter", known(tracking.jitter_s, seconds));
    line("Time constant", known(tracking.time_constant_s, seconds));
    line("Root delay", seconds(tracking.root_delay_s));
    line("Root dispersion", seconds(tracking.root_dispersion_s));
    for (part, figure) in &tracking.budget {
        line(&format!("  {part}"), seconds(*figure));
    }
    let distance = (seconds(tracking.root_distance_s), seconds(tracking.root_distance_max_s));
    line("Root distance", format!("{} of at most {}", distance.0, distance.1));
    if let Some(left) = tracking.holdover_left_s {
        line("Holdover left", uptime(left));
    }
    line("TAI - UTC", offset_text(&tracking.leap));
    line("Next leap second", next_text(&tracking.leap));
    line("Unsynchronised", times(tracking.unsynchronised_count));
    if let Some(steering) = &tracking.steering {
        line("Machine's clock", steering_text(steering));
    }
    lines + &event_lines(tracking)
}

fn source_text(tracking: &Tracking) -> String {
    match (tracking.source.as_str(), tracking.reference_id.as_str()) {
        ("", _) => "none".to_owned(),
        (source, "") => source.to_owned(),
        (source, reference) => format!("{source}, named {reference} in replies"),
    }
}

fn offset_text(leap: &LeapKnowledge) -> String {
    let Some(offset) = leap.tai_minus_utc_s else { return "not known".to_owned() };
    let from = if leap.known_from.is_empty() { String::new() } else { format!(", from {}", leap.known_from) };
    let expires = leap.file_expires.as_ref().map(|expires| format!(", which expires at {expires}"));
    format!("{offset} s{from}{}", expires.unwrap_or_default())
}

fn next_text(leap: &LeapKnowledge) -> String {
    match &leap.next {
        None => "none known".to_owned(),
        Some(next) if next.seconds < 0 => format!("deleted before {}", next.when),
        Some(next) => format!("inserted before {}", next.when),
    }
}

/// In a line, also for `maser status`.
pub(super) fn steering_text(steering: &SteeringStatus) -> String {
    if let Some(problem) = &steering.problem {
        return format!("not steered: {problem}");
    }
    let offset = steering.offset_s.map(|offset| format!(", {}", signed_seconds(offset)));
    let frequency = steering.frequency_ppm.map(|ppm| format!(", corrected by {ppm:+.3} ppm"));
    let steps = (steering.steps > 0).then(|| format!(", stepped {}", times(steering.steps)));
    let figures = [offset, frequency, steps].into_iter().flatten().collect::<String>();
    format!("{}{figures}", steering.state)
}

fn times(count: u64) -> String {
    match count {
        0 => "never since the start".to_owned(),
        1 => "once since the start".to_owned(),
        _ => format!("{} times since the start", super::units::count(count)),
    }
}

fn event_lines(tracking: &Tracking) -> String {
    if tracking.last_events.is_empty() {
        return String::new();
    }
    let mut columns = Columns::new(2);
    for event in &tracking.last_events {
        columns.row([&event.when, &event.text]);
    }
    format!("\n{}", columns.text())
}

#[cfg(test)]
mod tests {
    use super::super::tests::plausible;
    use super::super::{NextLeap, State};
    use super::*;

    #[test]
    fn a_plausible_clock_looks_like_this() {
        let expected = "\
State           : locked for 01:02:03
Source          : pps0, named PPS in replies
Stratum         : 1
Offset          : -12.3 ns, 20.0 ns rms
Frequency       : -12.345678 ppm +/- 120 ppt
Wander          : 1.02e-10 per sqrt s
Jitter          : 20.1 ns
Time constant   : 45.0 s
Root delay      : 0 ns
Root dispersion : 1.21 us
  jitter        : 9.80 ns
  stamp error   : 1.00 us
  cross-read    : 150 ns
  oscillator    : 50.0 ns
Root distance   : 1.21 us of at most 10.0 ms
TAI - UTC       : 37 s, from the leap file, which expires at 2027-06-28T00:00:00.000000Z
Next leap second: none known
Unsynchronised  : once since the start

2026-11-21T22:15:03.000125Z  acquiring: pps0 is labelled by nmea0
2026-11-21T22:15:09.000000Z  locked: root distance 1.30 us
";
        let text = tracking_table(&plausible());
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn holdover_tells_how_long_it_lasts() {
        let mut status = plausible();
        status.tracking.state = State::Holdover;
        status.tracking.holdover_left_s = Some(100_000.0);
        status.tracking.leap.next =
            Some(NextLeap { when: "2027-01-01T00:00:00.000000Z".to_owned(), seconds: 1 });
        let text = tracking_table(&status);
        for line in [
            "State           : holdover for 01:02:03",
            "Holdover left   : 1 d 03:46:40",
            "Next leap second: inserted before 2027-01-01T00:00:00.000000Z",
        ] {
            assert!(text.lines().any(|told| told == line), "no `{line}` in\n{text}");
        }
    }

    #[test]
    fn a_steered_clock_has_a_line_and_one_that_can_t_be_says_why() {
        let steering = SteeringStatus {
            state: "steered".to_owned(),
            offset_s: Some(12e-9),
            frequency_ppm: Some(-12.345),
            steps: 1,
            problem: None,
        };
        let mut status = plausible();
        let told = |status: &Status, line: &str| {
            let text = tracking_table(status);
            assert!(text.lines().any(|told| told == line), "no `{line}` in\n{text}");
        };
        status.tracking.steering = Some(steering.clone());
        let line =
            "Machine's clock : steered, +12.0 ns, corrected by -12.345 ppm, stepped once since the start";
        told(&status, line);
        assert!(super::super::table(&status, false).lines().any(|told| told == line));
        let document = serde_json::to_value(&status).unwrap();
        assert_eq!(document.pointer("/tracking/steering/steps"), Some(&1.into()));
        status.tracking.steering = Some(SteeringStatus { problem: Some("no right".to_owned()), ..steering });
        told(&status, "Machine's clock : not steered: no right");
    }

    #[test]
    fn what_is_not_known_says_so() {
        let text = tracking_table(&Status::default());
        for line in [
            "State           : unsynchronised",
            "Source          : none",
            "Offset          : not known",
            "TAI - UTC       : not known",
            "Unsynchronised  : never since the start",
        ] {
            assert!(text.lines().any(|told| told == line), "no `{line}` in\n{text}");
        }
    }
}
