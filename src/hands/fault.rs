//! Why something wasn't done, as it travels between the two processes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

/// A longer reason isn't told to its end.
const FAULT_OCTETS_MAX: usize = 1_000;

/// Why something wasn't done, in words and, where the system said so, by its number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    errno: Option<i32>,
    why: String,
}

impl Fault {
    pub(crate) fn new(why: impl fmt::Display) -> Self {
        Self { errno: None, why: shortened(&why, FAULT_OCTETS_MAX) }
    }
}

/// What a text says may be the other process's words: no more of them.
pub(crate) fn shortened(text: &impl fmt::Display, octets_max: usize) -> String {
    let mut text = text.to_string();
    text.truncate(text.floor_char_boundary(octets_max));
    text
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error(), why: shortened(&error, FAULT_OCTETS_MAX) }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        fault.errno.map_or_else(|| Self::other(fault.why), Self::from_raw_os_error)
    }
}
