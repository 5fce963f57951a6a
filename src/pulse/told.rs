//! What happened to the clock, in words that an operator can act on: names instead of numbers, why, figures with units.

use crate::status::{seconds, signed_seconds};
use maser_core::discipline::{Event, Followed, State, Tracking, Why};
use tracing::{info, warn};

/// An event in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Told {
    /// The words.
    pub(super) text: String,
    /// Something isn't as it should be.
    pub(super) is_warning: bool,
}

impl Told {
    /// Into the log, which may take long.
    pub(super) fn log(&self) {
        let text = &self.text;
        if self.is_warning {
            warn!("{text}");
        } else {
            info!("{text}");
        }
    }
}

/// `event` in words, the clock standing as in `tracking` after it.
pub(super) fn told(event: &Event, names: &[String], tracking: &Tracking) -> Told {
    let name = |source: usize| names.get(source).map_or("a source", String::as_str);
    let (is_warning, text) = match *event {
        Event::State { from, to, why } => state(from, to, why, names, tracking),
        Event::Follows { followed } => match followed_name(names, followed) {
            Some(followed) => (false, format!("following {followed}")),
            None => (true, "no source is followed".to_owned()),
        },
        Event::Contradicted { by_s, advertised_s, why } => {
            let (by, advertised) = (signed_seconds(by_s), seconds(advertised_s));
            (true, format!("contradicted by {by}, with a root distance of {advertised}: {}", because(why)))
        }
        Event::Falseticker { source, by_s } => {
            (true, format!("{} is wrong by {} at least, say the others", name(source), seconds(by_s)))
        }
        Event::Truechimer { source } => (false, format!("{} agrees with the others again", name(source))),
        Event::WeekRollover { source, weeks: 0 } => {
            (false, format!("{}: its dates are right again", name(source)))
        }
        Event::WeekRollover { source, weeks } => {
            let name = name(source);
            (
                true,
                format!(
                    "{name}: its dates are {weeks} GPS weeks early and are corrected; update its firmware"
                ),
            )
        }
        Event::SecondJumped { source, by_s } => {
            let name = name(source);
            (
                true,
                format!(
                    "{name}: its pulses are named {by_s:+} s from what counting says; it is labelled anew"
                ),
            )
        }
    };
    Told { text, is_warning }
}

fn state(from: State, to: State, why: Why, names: &[String], tracking: &Tracking) -> (bool, String) {
    let distance = || {
        let (now, most) = (tracking.budget.distance_s(), tracking.distance_max_s);
        format!("root distance {} of at most {}", seconds(now), seconds(most))
    };
    match to {
        State::Cold => (true, "cold: no source has said what time it is".to_owned()),
        State::Acquiring => {
            let followed = followed_name(names, tracking.followed).unwrap_or("a source");
            (false, format!("acquiring: following {followed}"))
        }
        State::Locked if from == State::Holdover => (false, format!("locked again: {}", distance())),
        State::Locked => (false, format!("locked: {}", distance())),
        State::Holdover => {
            let nobody =
                tracking.nobody.map_or_else(|| "no source is followed".to_owned(), |why| why.to_string());
            (true, format!("holdover: {nobody}; {}", distance()))
        }
        // Nothing else ends a holdover that nobody contradicts.
        State::Unsynchronised if from == State::Holdover && why == Why::NobodyFollowed => {
            let is_spent = tracking.budget.distance_s() > tracking.distance_max_s;
            let over = if is_spent { because(Why::Budget) } else { "the longest holdover is over" };
            (true, format!("unsynchronised: {over}, and no source came back; {}", distance()))
        }
        State::Unsynchronised => (true, format!("unsynchronised: {}; {}", because(why), distance())),
    }
}

const fn because(why: Why) -> &'static str {
    match why {
        Why::Samples => "the samples of the source that is followed say so",
        Why::OtherSource => "the source that is followed now is further away than both errors explain",
        Why::VotedOut => "the source that it was made from is wrong, say the others",
        Why::Strays => "pulses come where no second begins",
        Why::NobodyFollowed => "no source is followed",
        Why::NotSettled => "too few samples came to say how far off the clock can be",
        Why::Budget => "the error budget is spent",
    }
}

/// Whose samples move the clock, by name.
#[must_use]
fn followed_name(names: &[String], followed: Followed) -> Option<&str> {
    match followed {
        Followed::Nobody => None,
        Followed::Reference(source) => names.get(source).map(String::as_str),
        Followed::Network => Some("the upstream servers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maser_core::discipline::{Clock, ClockSettings, Followed};
    use maser_core::time::{Instant, LeapTable, Rate, Span, Ticks};

    #[test]
    fn sources_have_names_and_figures_have_units() {
        let settings = ClockSettings {
            sources: [None; maser_core::discipline::SOURCES_MAX],
            rate: Rate::NANOSECOND,
            precision: -25,
            root_distance_max: Span::from_nanos(10_000_000),
            holdover_max: Span::from_seconds(1),
            agree_min: 1,
            not_before: Instant::from_unix(0, 0),
            leaps: LeapTable::built_in(),
            leaps_complete_until: None,
            saved: None,
        };
        let tracking = Clock::new(settings).tracking(Ticks::from_bits(0));
        let names = ["pps0".to_owned(), "london".to_owned()];
        let said = |event| {
            let Told { text, is_warning } = told(&event, &names, &tracking);
            (is_warning, text)
        };
        let wrong = said(Event::Falseticker { source: 1, by_s: 1.000_2 });
        assert_eq!(wrong, (true, "london is wrong by 1.00 s at least, say the others".to_owned()));
        let follows = said(Event::Follows { followed: Followed::Reference(0) });
        assert_eq!(follows, (false, "following pps0".to_owned()));
        let lost = said(Event::State { from: State::Locked, to: State::Holdover, why: Why::NobodyFollowed });
        assert!(
            lost.0 && lost.1.starts_with("holdover: no source tells the time; root distance"),
            "{}",
            lost.1
        );
        assert!(lost.1.ends_with("of at most 10.0 ms"), "{}", lost.1);
    }
}
