//! How full the limiter's table is: the document's part and how it is shown.

use serde::{Deserialize, Serialize};

use super::columns::Columns;
use super::units::count;

/// How full the limiter's table is.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitStatus {
    /// The part for addresses.
    pub addresses: PlacesStatus,
    /// The part for prefixes.
    pub prefixes: PlacesStatus,
}

/// The places of one kind. Shares are of a sample where there are many, and within 1 % of the whole then.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PlacesStatus {
    /// How many there are.
    pub places: u64,
    /// Which share is somebody's; places are never given up, but taken over, so this grows to 1 and stays there.
    pub taken: f64,
    /// Which share no newcomer may have now: its owner is in debt, or has come back often.
    pub held: f64,
    /// Which share is of regulars, who came back with their bucket full, and were served in their prefix's, twice at least.
    pub regular: f64,
}

/// A part of the table a line.
pub(super) fn limit_lines(limit: &LimitStatus) -> String {
    let mut columns = Columns::new(1);
    columns.row(["Limits", "Places", "Taken", "Held", "Regular"]);
    for (name, part) in [("addresses", &limit.addresses), ("prefixes", &limit.prefixes)] {
        let PlacesStatus { places, taken, held, regular } = *part;
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let shares = [taken, held, regular].map(percent);
        columns.row([&[name.to_owned(), count(places)][..], &shares].concat());
    }
    columns.text()
}
