//! From what sources observe to the served clock.
//!
//! ```text
//! observation → label (which second?) → select (who is right?) → filter → error budget → snapshot
//! ```

mod clock;
mod estimator;
mod hypothesis;
mod label;
mod leap_keeper;
mod observation;
mod select;
mod shown;
mod state;
mod track;

pub use clock::{
    Budget, Clock, ClockSettings, EVENTS_MAX, Event, Events, Followed, Saved, SourceReport, Tracking, Why,
};
pub use estimator::{Estimate, Estimator, Noise, Prior, Taken};
pub use label::{
    CONTRADICTING_MIN, Claim, Contradiction, Interval, Label, Labelled, Labeller, Need,
    RATE_ERROR_UNKNOWN_PPB, Witness,
};
pub use leap_keeper::{LeapAuthority, LeapKeeper};
pub use observation::{
    Exchange, LeapClaim, Observation, Pulse, SOURCES_MAX, Sawtooth, Sentence, TaiSample, TimeSample,
};
pub use select::{Candidate, Combined, Kind, Nobody, Rules, Selection, Unusable, Verdict, select};
pub use shown::{KeptSpan, Shown};
pub use state::{Facts, State};
pub use track::{SourceKind, SourceSettings};

/// A count as a double; exact up to 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "counts here are small")]
const fn float(count: usize) -> f64 {
    count as f64
}
