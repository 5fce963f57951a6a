//! The whole status on one screen, as `maser status` prints it.

use std::fmt::Write;

use super::access::access_lines;
use super::columns::{Columns, section};
use super::interfaces::{interface_lines, verdict_lines};
use super::limit::limit_lines;
use super::nics::nic_lines;
use super::tracking::steering_text;
use super::units::{count, nanoseconds, printable, seconds, signed_seconds, uptime};
use super::{LeapStatus, LoadStatus, Residence, SourceStatus, State, Status, TransmitStatus};

impl State {
    /// As people read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Acquiring => "acquiring",
            Self::Locked => "locked",
            Self::Holdover => "holdover",
            Self::Unsynchronised => "unsynchronised",
            Self::Local => "local",
            Self::Synchronised => "synchronised",
        }
    }

    /// Whether clients may follow the replies.
    #[must_use]
    pub const fn is_followable(self) -> bool {
        match self {
            Self::Locked | Self::Holdover | Self::Local | Self::Synchronised => true,
            Self::Cold | Self::Acquiring | Self::Unsynchronised => false,
        }
    }
}

impl LeapStatus {
    /// As people read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Insert => "insert a second",
            Self::Delete => "delete a second",
            Self::Unsynchronised => "unsynchronised",
        }
    }
}

/// Everything about the server; counters at zero only if `all` are asked for.
#[must_use]
pub fn table(status: &Status, all: bool) -> String {
    let mut text = format!("maser {}, up {}\n\n", printable(&status.version), uptime(status.uptime_s));
    text.push_str(&clock_lines(status));
    if !status.ports.is_empty() {
        let mut ports = Columns::new(3);
        ports.row(["Listen", "Port", "Why"]);
        for port in &status.ports {
            ports.row([&port.listen, &port.rung, &port.why]);
        }
        text.push('\n');
        text.push_str(&ports.text());
    }
    if !status.interfaces.is_empty() {
        text.push('\n');
        text.push_str(&interface_lines(status));
        text.push('\n');
        text.push_str(&verdict_lines(status, all));
    }
    if !status.nics.is_empty() {
        text.push('\n');
        text.push_str(&nic_lines(status));
    }
    if !status.access.files.is_empty() {
        text.push('\n');
        text.push_str(&access_lines(status));
    }
    if let Some(limit) = &status.limit {
        text.push('\n');
        text.push_str(&limit_lines(limit));
    }
    text.push('\n');
    text.push_str(&counter_lines(status, all));
    text.push('\n');
    text.push_str(&worker_lines(status));
    text
}

/// The clock, a line each, as chronyc's tracking has them.
fn clock_lines(status: &Status) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string doesn't fail.
        let _ = writeln!(lines, "{name:<16}: {}", printable(&value));
    };
    let precision = seconds(f64::from(status.precision_log2_s).exp2());
    line("State", status.state.word().to_owned());
    line("Stratum", status.stratum.to_string());
    line("Reference id", reference_name(status).to_owned());
    line("Reference time", status.reference_time.clone().unwrap_or_else(|| "none yet".to_owned()));
    line("Leap", status.leap.word().to_owned());
    line("Precision", format!("{precision} (2^{} s)", status.precision_log2_s));
    line("Root delay", seconds(status.root_delay_s));
    line("Root dispersion", seconds(status.root_dispersion_s));
    line(
        "Counter",
        format!("{}, {:.6} MHz; {}", status.clock.counter, status.clock.frequency_hz / 1e6, status.clock.why),
    );
    line("Offset", offset_text(status));
    for source in &status.sources {
        let SourceStatus { name, kind, place, verdict, .. } = source;
        line("Source", format!("{name} ({kind}, {place}): {verdict}{}", problem_text(source)));
    }
    line("Steps", count(status.steps()));
    if let Some(steering) = &status.tracking.steering {
        line("Machine's clock", steering_text(steering));
    }
    if let Some(load) = &status.configuration {
        line("Configuration", load_text(load));
    }
    lines
}

/// The served clock's distance from the source that it follows.
pub(super) fn offset_text(status: &Status) -> String {
    status.tracking.offset_s.map_or_else(|| "not known".to_owned(), signed_seconds)
}

/// Which configuration it goes by, and why it doesn't by a newer one.
fn load_text(load: &LoadStatus) -> String {
    let file = load.file.as_deref().unwrap_or("no file");
    let mut text = format!("{file}, for {}", uptime(load.applied_ago_s));
    if let Some(refused) = &load.refused {
        let why = refused.why.lines().next().unwrap_or_default();
        let more = refused.why.lines().count().saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more, see the log)") } else { String::new() };
        text += &format!("; refused {} ago: {why}{more}", uptime(refused.ago_s));
    }
    text
}

fn problem_text(source: &SourceStatus) -> String {
    source.problem.as_ref().map(|problem| format!("; {problem}")).unwrap_or_default()
}

/// Every counter of all workers together, with its share of the packets.
fn counter_lines(status: &Status, all: bool) -> String {
    let answers = status.total(|worker| &worker.answers);
    let drops = status.total(|worker| &worker.drops);
    let events = status.total(|worker| &worker.events);
    let packets = super::sum(&answers).saturating_add(super::sum(&drops));
    let mut columns = Columns::new(1);
    section(&mut columns, "Answers", &answers, Some(packets), all);
    section(&mut columns, "Drops", &drops, Some(packets), all);
    if all || events.values().any(|&value| value > 0) {
        section(&mut columns, "Events", &events, None, all);
    }
    columns.text()
}

/// A worker a line, and all of them together.
fn worker_lines(status: &Status) -> String {
    let mut columns = Columns::new(1);
    columns.row(["Port", "Core", "Answers", "Drops", "p50", "p99", "p99.9", "Max", "Transmit"]);
    let mut row = |names: [String; 2], answers: u64, drops: u64, residence: &Residence, transmit: String| {
        let mut cells = Vec::from(names);
        cells.extend([count(answers), count(drops)]);
        cells.extend(residence_cells(residence));
        cells.push(transmit);
        columns.row(cells);
    };
    for worker in &status.workers {
        let names = [worker.port.clone(), core_name(worker.core)];
        let transmit = transmit_text(&worker.transmit);
        row(names, worker.answered(), worker.dropped(), &worker.residence, transmit);
    }
    if status.workers.len() > 1 {
        let (answers, drops) = (status.total(|worker| &worker.answers), status.total(|worker| &worker.drops));
        let residence = status.residence();
        let names = ["all".to_owned(), "all".to_owned()];
        row(names, super::sum(&answers), super::sum(&drops), &residence, String::new());
    }
    columns.text()
}

/// What is added to transmit timestamps, and how far replies' own lateness spreads about it.
fn transmit_text(transmit: &TransmitStatus) -> String {
    match (transmit.lateness_s, transmit.spread_s) {
        _ if !transmit.corrected => "as written".to_owned(),
        (Some(lateness_s), Some(spread_s)) => {
            format!("{} ±{}", signed_seconds(lateness_s), seconds(spread_s))
        }
        (None, _) | (_, None) => "-".to_owned(),
    }
}

/// What replies name as their reference; nothing while unsynchronised.
pub(crate) fn reference_name(status: &Status) -> &str {
    if status.reference_id.is_empty() { "none" } else { &status.reference_id }
}

/// A worker's core, or that it has none of its own.
pub(crate) fn core_name(core: Option<usize>) -> String {
    core.map_or_else(|| "any".to_owned(), |core| core.to_string())
}

/// The percentiles, or a dash where no packet came.
pub(super) fn residence_cells(residence: &Residence) -> [String; 4] {
    [residence.p50_ns, residence.p99_ns, residence.p999_ns, residence.max_ns]
        .map(|nanos| if residence.count == 0 { "-".to_owned() } else { nanoseconds(nanos) })
}

#[cfg(test)]
mod tests {
    use super::super::InterfaceStatus;
    use super::super::tests::plausible;
    use super::*;

    #[test]
    fn a_plausible_status_looks_like_this() {
        let expected = "\
maser 0.1.0, up 3 d 04:12:09

State           : locked
Stratum         : 1
Reference id    : PPS
Reference time  : 2026-11-21T22:15:03.000125Z
Leap            : none
Precision       : 29.8 ns (2^-25 s)
Root delay      : 0 ns
Root dispersion : 1.21 us
Counter         : tsc, 2450.000123 MHz; invariant and synchronised between the cores
Offset          : -12.3 ns
Source          : pps0 (pps, /dev/pps0): followed
Source          : nmea0 (nmea, /dev/ttyS0): agrees
Source          : london (ntp, 192.0.2.1:123): falseticker: 1.000 s off
Source          : ntp1 (ntp, [2001:db8::1]:123): unreachable; no reply in 8 polls; does a packet filter let UDP port 123 through?
Steps           : 1
Configuration   : /etc/maser/maser.toml, for 01:01:40; refused 00:01:01 ago: /etc/maser/maser.toml:3:1: server.wrokers: unknown key (and 1 more, see the log)

Listen       Port      Why
0.0.0.0:123  io-uring
[::]:123     socket    io_uring: switched off (kernel.io_uring_disabled = 2)

Interface  Port    Mode     Frames  Stamps  Why
eth0       af-xdp  native   copy    hook    the driver has no zero-copy
eth1       socket  generic  -       -       a step down: no AF_XDP socket

Queue   Core  Events
eth0:0     0  -
eth0:1     0  drops below level 1.25, rx-ring-full 1,204

eth0: its queues aren't chosen by source address alone, so that a client may meet several workers; set it with:
  ethtool -N eth0 rx-flow-hash udp4 s

XDP eth0           12,423,718  100.00 %
  dropped-limited      77,000    0.62 %
  not-served            1,040    0.01 %
  steered          12,345,678   99.37 %
XDP eth1                    0

Limits        Places    Taken     Held  Regular
addresses  7,339,997  25.00 %  12.50 %  10.00 %
prefixes   1,048,565   1.00 %   0.20 %   0.00 %

Answers           19,224,691  99.99 %
  server          19,224,691  99.99 %
Drops                  1,043   0.01 %
  not_a_request        1,040   0.01 %
  short                    3  <0.01 %
Events
  snapshot_retry          12

Port    Core     Answers  Drops      p50      p99    p99.9      Max          Transmit
af-xdp     0  12,345,678  1,040  1.02 us  4.10 us  16.4 us  1.05 ms  +7.10 us ±210 ns
socket     1   6,879,013      3  1.02 us  4.10 us  16.4 us  1.05 ms        as written
all      all  19,224,691  1,043  1.02 us  4.10 us  16.4 us  1.05 ms
";
        assert_eq!(table(&plausible(), false), expected, "\n{}", table(&plausible(), false));
    }

    #[test]
    fn zeros_are_shown_when_asked_for() {
        assert!(!table(&plausible(), false).contains("loop"));
        assert!(table(&plausible(), true).contains("\n  loop "));
    }

    #[test]
    fn a_server_that_has_just_begun_has_no_percentiles() {
        let status = Status { workers: vec![super::super::WorkerStatus::default()], ..Status::default() };
        let text = table(&status, false);
        assert!(text.contains("Offset          : not known\n"), "{text}");
        assert!(text.contains("\n       any        0      0    -    -      -    -  as written\n"), "{text}");
    }

    #[test]
    fn text_from_the_socket_cannot_drive_the_terminal() {
        let evil = "\u{1b}]0;title\u{7}".to_owned();
        let mut status = plausible();
        status.version.clone_from(&evil);
        status.reference_id.clone_from(&evil);
        let source = &mut status.sources[0];
        for text in [&mut source.name, &mut source.kind, &mut source.place, &mut source.verdict] {
            text.clone_from(&evil);
        }
        status.sources[1].problem = Some(evil.clone());
        status.sources[1].counters.insert(evil.clone(), 1);
        status.tracking.source.clone_from(&evil);
        status.tracking.budget[0].0.clone_from(&evil);
        status.tracking.leap.known_from.clone_from(&evil);
        status.tracking.last_events[0].text.clone_from(&evil);
        status.clock.why.clone_from(&evil);
        status.ports[0].why.clone_from(&evil);
        let interface = &mut status.interfaces[0];
        let InterfaceStatus { name, rung, mode, frames, stamps, why, .. } = interface;
        for text in [name, rung, mode, frames, stamps, why, &mut interface.spread[0]] {
            text.clone_from(&evil);
        }
        interface.verdicts.insert(evil.clone(), 9);
        interface.queues[0].events.insert(evil.clone(), 9);
        status.workers[0].port.clone_from(&evil);
        status.workers[0].drops.insert(evil, 9);
        for text in [
            table(&status, true),
            super::super::render(&status, Some(&plausible()), 80),
            super::super::sources_table(&status, true),
            super::super::tracking_table(&status),
        ] {
            assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
        }
    }
}
