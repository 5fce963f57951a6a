//! The part of the document that is about time: the sources, and how the served clock follows them.
//!
//! Every figure is finite or absent: JSON has no other.

use serde::{Deserialize, Serialize};

use super::{Counters, State};

/// A source of time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its type in the configuration.
    pub kind: String,
    /// Its device, socket, segment or address.
    pub place: String,
    /// Whether it is followed, and why not: "followed", "agrees", "falseticker: 1.000 s off", "waiting: …", "unreachable".
    pub verdict: String,
    /// The same in one of a few words.
    pub standing: SourceStanding,
    /// The last eight times when it should have told something, the latest in the lowest bit, 1 where it did; none
    /// where that isn't kept.
    pub reach: Option<u8>,
    /// Its own stratum: 0 for a reference clock; none before it is known.
    pub stratum: Option<u8>,
    /// Its last sample's distance from the served clock, positive where the source is ahead; none before the first.
    pub offset_s: Option<f64>,
    /// The standard deviation of its samples.
    pub jitter_s: Option<f64>,
    /// Its root distance: how far it can be off.
    pub error_s: Option<f64>,
    /// Since its last sample.
    pub last_s: Option<f64>,
    /// Between two samples.
    pub poll_s: Option<f64>,
    /// How often it was stepped while the server ran.
    pub steps: u64,
    /// What its driver can't do, and what to do about it; none while it works.
    pub problem: Option<String>,
    /// What its driver counted.
    pub counters: Counters,
}

/// What becomes of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceStanding {
    /// The clock follows it.
    Followed,
    /// It is averaged with the one that is followed.
    Averaged,
    /// It is right, and others are followed.
    Agrees,
    /// It is right, but too far from the others to be averaged.
    Outlier,
    /// The majority calls it wrong.
    Falseticker,
    /// It was wrong a short while ago.
    Probation,
    /// It can be further off than is allowed.
    Distant,
    /// No majority tells whether it is right.
    Undecided,
    /// It doesn't vouch for what it says.
    Invalid,
    /// Nothing has come from it for too long.
    Unreachable,
    /// What is needed of it hasn't come yet.
    #[default]
    Waiting,
}

impl SourceStanding {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Followed,
        Self::Averaged,
        Self::Agrees,
        Self::Outlier,
        Self::Falseticker,
        Self::Probation,
        Self::Distant,
        Self::Undecided,
        Self::Invalid,
        Self::Unreachable,
        Self::Waiting,
    ];

    /// As the document has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Followed => "followed",
            Self::Averaged => "averaged",
            Self::Agrees => "agrees",
            Self::Outlier => "outlier",
            Self::Falseticker => "falseticker",
            Self::Probation => "probation",
            Self::Distant => "distant",
            Self::Undecided => "undecided",
            Self::Invalid => "invalid",
            Self::Unreachable => "unreachable",
            Self::Waiting => "waiting",
        }
    }
}

/// How the served clock follows the sources.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tracking {
    /// The name of the source that is followed; empty for none.
    pub source: String,
    /// The reference id as it is read: four characters at stratum 1, an address above.
    pub reference_id: String,
    /// The stratum of replies; 16 when unsynchronised.
    pub stratum: u8,
    /// Where the clock stands.
    pub state: State,
    /// For how long it has stood there.
    pub since_s: Option<f64>,
    /// The last sample's distance from the served clock, positive where the source is ahead.
    pub offset_s: Option<f64>,
    /// The root of the mean square of the last samples' distances.
    pub rms_offset_s: Option<f64>,
    /// How far the counter is from its nominal frequency, positive where it is fast.
    pub frequency_ppm: Option<f64>,
    /// The standard deviation of that.
    pub frequency_error_ppm: Option<f64>,
    /// The standard deviation of the oscillator's fractional frequency after a second, which grows with the root of time.
    pub wander_per_sqrt_s: Option<f64>,
    /// The standard deviation of the followed samples.
    pub jitter_s: Option<f64>,
    /// Over how long the filter averages.
    pub time_constant_s: Option<f64>,
    /// Round trip to the primary reference.
    pub root_delay_s: f64,
    /// Error bound at the moment of asking, without half of the root delay.
    pub root_dispersion_s: f64,
    /// The whole error bound: root dispersion and half of the root delay.
    pub root_distance_s: f64,
    /// Past this the clock says that it is unsynchronised.
    pub root_distance_max_s: f64,
    /// What the root dispersion is made of, by name.
    pub budget: Vec<(String, f64)>,
    /// In holdover: until the clock says that it is unsynchronised.
    pub holdover_left_s: Option<f64>,
    /// What is known of leap seconds.
    pub leap: LeapKnowledge,
    /// How the machine's clock is steered to the served one; none where it isn't to be.
    pub steering: Option<SteeringStatus>,
    /// How often the clock became unsynchronised while the server ran.
    pub unsynchronised_count: u64,
    /// The last transitions with their reasons, the latest last.
    pub last_events: Vec<EventStatus>,
}

/// How the machine's clock is steered to the served one.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SteeringStatus {
    /// Whether it is, and why not: "steered", "not steered until …".
    pub state: String,
    /// Its distance from the served clock, positive where it is ahead; none before the first look.
    pub offset_s: Option<f64>,
    /// The correction with which it runs as the served clock does, positive where it is made faster.
    pub frequency_ppm: Option<f64>,
    /// How often it was stepped while the server ran.
    pub steps: u64,
    /// Why it can't be set, and what to do about it.
    pub problem: Option<String>,
}

/// What is known of leap seconds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LeapKnowledge {
    /// TAI − UTC now.
    pub tai_minus_utc_s: Option<i32>,
    /// The next leap second, if one is known.
    pub next: Option<NextLeap>,
    /// Who says so: the leap file, a receiver, upstream servers, what was built in.
    pub known_from: String,
    /// When the leap file expires, as [`super::rfc3339`] writes it.
    pub file_expires: Option<String>,
    /// How long it is until then by the served clock, less than nothing afterwards; none while the time isn't known.
    pub file_left_s: Option<f64>,
}

/// A leap second to come.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NextLeap {
    /// The second after it, as [`super::rfc3339`] writes it.
    pub when: String,
    /// How many seconds UTC has more: 1 for an inserted one, −1 for a deleted one.
    pub seconds: i32,
}

/// A transition and its reason.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventStatus {
    /// When, as [`super::rfc3339`] writes it; before the first synchronisation by the machine's own clock.
    pub when: String,
    /// What, and why.
    pub text: String,
}
