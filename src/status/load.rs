//! What became of the configuration.

use serde::{Deserialize, Serialize};

/// When it was read, and what became of reading it again.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadStatus {
    /// The file; none without one.
    pub file: Option<String>,
    /// When the last reading began that has come to an end, s of the machine's `CLOCK_MONOTONIC`.
    pub began_s: f64,
    /// How long the server has gone by it, s.
    pub applied_ago_s: f64,
    /// How often it was read again and applied.
    pub reloads: u64,
    /// How often it was read again and refused.
    pub refusals: u64,
    /// The last refusal, if nothing was applied since.
    pub refused: Option<RefusalStatus>,
}

/// Why a configuration isn't applied.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RefusalStatus {
    /// How long ago that was, s.
    pub ago_s: f64,
    /// A line for each thing that is wrong.
    pub why: String,
}
