//! The NICs whose stamps are used: the document's part and how it is shown, ethtool's view and ours side by side.

use serde::{Deserialize, Serialize};

use super::columns::Columns;
use super::units::{float, seconds, signed_seconds};
use super::{Counters, Status};

/// A NIC that was named for its stamps, or has a clock where all such were asked for.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NicStatus {
    /// Its interface's name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Its clock, as `ptp0`; empty if it has none, or none that can be used.
    pub clock: String,
    /// What the driver calls the clock.
    pub clock_name: String,
    /// Which frames that come the kernel says it stamps, as `ethtool -T` calls them; empty if it doesn't say.
    pub receive_filter: String,
    /// Which frames that leave; empty as well.
    pub transmit_type: String,
    /// The link's speed in megabits a second, by which receive stamps are moved to the ends of frames; none if it isn't
    /// known: then they aren't.
    pub link_mbps: Option<u32>,
    /// How far its clock is ahead of TAI; none while either isn't known.
    pub offset_s: Option<f64>,
    /// How much faster it is than the served clock, parts per million; none as well.
    pub rate_ppm: Option<f64>,
    /// How far its stamps' places on the counter can be off; none while its clock isn't found.
    pub error_s: Option<f64>,
    /// Requests by who said when they came.
    pub received: StampStatus,
    /// Replies by who said when they left, of those that somebody wanted to know of.
    pub sent: StampStatus,
    /// What isn't had, and why.
    pub why: String,
}

/// Whose stamps of one way are used.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StampStatus {
    /// Whose lately: `nic`, `kernel`, `hook` (the program in front of an AF_XDP queue; of replies the port's own estimate),
    /// or several, the first the most; empty before anything went that way.
    pub lately: String,
    /// Since the start, by who said it and, of the kernel, why the NIC didn't: `nic`; `missing`, `implausible`, `unplaced`;
    /// `hook`.
    pub counts: Counters,
    /// What is wrong with the NIC's; none if nothing is.
    pub problem: Option<String>,
}

/// A NIC a line, and what is wrong with it.
pub(super) fn nic_lines(status: &Status) -> String {
    let mut nics = Columns::with_words_last(3);
    nics.row([
        "NIC", "Clock", "Name", "To TAI", "Rate", "Error", "Link", "Filter", "Transmit", "Received", "Sent",
        "Why",
    ]);
    for nic in &status.nics {
        let problems = [&nic.received.problem, &nic.sent.problem].into_iter().flatten().cloned();
        let why: Vec<String> = problems.chain(Some(nic.why.clone()).filter(|why| !why.is_empty())).collect();
        let known = |figure: Option<f64>, told: fn(f64) -> String| figure.map_or_else(dash, told);
        nics.row([
            nic.name.clone(),
            or_dash(&nic.clock),
            or_dash(&nic.clock_name),
            known(nic.offset_s, signed_seconds),
            known(nic.rate_ppm, |ppm| format!("{ppm:+.3} ppm")),
            known(nic.error_s, seconds),
            nic.link_mbps.map_or_else(dash, |mbps| format!("{} Gb/s", float(mbps.into()) / 1e3)),
            or_dash(&nic.receive_filter),
            or_dash(&nic.transmit_type),
            or_dash(&nic.received.lately),
            or_dash(&nic.sent.lately),
            why.join("; "),
        ]);
    }
    nics.text()
}

fn dash() -> String {
    "-".to_owned()
}

fn or_dash(word: &str) -> String {
    if word.is_empty() { dash() } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nic_is_a_line() {
        let stamps = |lately: &str, problem: Option<&str>| StampStatus {
            lately: lately.to_owned(),
            problem: problem.map(str::to_owned),
            ..StampStatus::default()
        };
        let eth0 = NicStatus {
            name: "eth0".to_owned(),
            clock: "ptp0".to_owned(),
            clock_name: "igb".to_owned(),
            receive_filter: "all".to_owned(),
            transmit_type: "on".to_owned(),
            link_mbps: Some(2_500),
            offset_s: Some(-37.0),
            rate_ppm: Some(5.0),
            error_s: Some(1.2e-7),
            received: stamps("nic", None),
            sent: stamps("kernel and nic", Some("it has ceased")),
            ..NicStatus::default()
        };
        let veth =
            NicStatus { name: "veth".to_owned(), why: "EOPNOTSUPP".to_owned(), ..NicStatus::default() };
        let text = nic_lines(&Status { nics: vec![eth0, veth], ..Status::default() });
        let expected = "\
NIC   Clock  Name   To TAI        Rate   Error      Link  Filter  Transmit  Received            Sent  Why
eth0  ptp0   igb   -37.0 s  +5.000 ppm  120 ns  2.5 Gb/s     all        on       nic  kernel and nic  it has ceased
veth  -      -           -           -       -         -       -         -         -               -  EOPNOTSUPP
";
        assert_eq!(text, expected, "\n{text}");
    }
}
