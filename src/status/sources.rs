//! The sources at a glance, as `maser sources` prints them.

use std::fmt::Write;

use super::columns::Columns;
use super::units::{count, interval, printable, seconds, signed_seconds};
use super::{SourceStatus, Status};

/// What the clock makes of a source, as chronyc and ntpq mark it: `*` followed, `+` averaged, `-` right but not used, `x` wrong,
/// `?` not usable.
pub(crate) fn mark(verdict: &str) -> char {
    const MARKS: [(&str, char); 8] = [
        ("followed", '*'),
        ("synchronised", '*'),
        ("averaged", '+'),
        ("right, averaged", '+'),
        ("right", '-'),
        ("agrees", '-'),
        ("wrong", 'x'),
        ("falseticker", 'x'),
    ];
    MARKS.iter().find(|(word, _)| verdict.starts_with(word)).map_or('?', |(_, mark)| *mark)
}

/// A source a line, below that what the drivers have to say; with `all`, what they counted.
#[must_use]
pub fn sources_table(status: &Status, all: bool) -> String {
    if status.sources.is_empty() {
        return "no sources: this server tells of none\n".to_owned();
    }
    let mut columns = Columns::with_words_last(3);
    columns.row([
        "  Source", "Type", "Place", "Stratum", "Reach", "Poll", "Last", "Offset", "Jitter", "Error",
        "Verdict",
    ]);
    for source in &status.sources {
        columns.row(cells(source));
    }
    let mut text = columns.text();
    text.push_str(&problem_lines(status));
    if all {
        text.push_str(&counter_lines(status));
    }
    text
}

fn cells(source: &SourceStatus) -> [String; 11] {
    let or_dash = |figure: Option<f64>, told: fn(f64) -> String| figure.map_or_else(|| "-".to_owned(), told);
    [
        format!("{} {}", mark(&source.verdict), source.name),
        source.kind.clone(),
        source.place.clone(),
        source.stratum.map_or_else(|| "-".to_owned(), |stratum| stratum.to_string()),
        // In octal, as every other server prints it.
        source.reach.map_or_else(|| "-".to_owned(), |reach| format!("{reach:o}")),
        or_dash(source.poll_s, interval),
        or_dash(source.last_s, interval),
        or_dash(source.offset_s, signed_seconds),
        or_dash(source.jitter_s, seconds),
        or_dash(source.error_s, seconds),
        source.verdict.clone(),
    ]
}

fn problem_lines(status: &Status) -> String {
    let mut lines = String::new();
    for source in &status.sources {
        if let Some(problem) = &source.problem {
            // Writing to a string doesn't fail.
            let _ = writeln!(lines, "{}: {}", printable(&source.name), printable(problem));
        }
    }
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

fn counter_lines(status: &Status) -> String {
    let mut columns = Columns::new(1);
    for source in &status.sources {
        for (name, &value) in &source.counters {
            columns.row([format!("{} {name}", source.name), count(value)]);
        }
        columns.row([format!("{} steps", source.name), count(source.steps)]);
    }
    format!("\n{}", columns.text())
}

#[cfg(test)]
mod tests {
    use maser_core::discipline::{Unusable, Verdict};

    use super::super::tests::plausible;
    use super::*;

    #[test]
    fn plausible_sources_look_like_this() {
        let expected = "
  Source  Type  Place              Stratum  Reach  Poll  Last    Offset   Jitter    Error  Verdict
* pps0    pps   /dev/pps0                0    377   1 s   0 s  -12.3 ns  20.1 ns  1.21 us  followed
- nmea0   nmea  /dev/ttyS0               0    377   1 s   0 s  +4.10 ms  2.20 ms  11.4 ms  agrees
x london  ntp   192.0.2.1:123            1    377  64 s  35 s   +1.00 s   210 us  4.31 ms  falseticker: 1.000 s off
? ntp1    ntp   [2001:db8::1]:123        -      0  64 s     -         -        -        -  unreachable

ntp1: no reply in 8 polls; does a packet filter let UDP port 123 through?
";
        let text = sources_table(&plausible(), false);
        assert_eq!(format!("\n{text}"), expected, "\n{text}");
    }

    #[test]
    fn every_verdict_has_its_mark() {
        let marked = |verdict: Verdict| mark(&verdict.to_string());
        assert_eq!(marked(Verdict::Followed), '*');
        assert_eq!(marked(Verdict::Combined), '+');
        assert_eq!([Verdict::Agrees, Verdict::Votes, Verdict::Outlier].map(marked), ['-'; 3]);
        assert_eq!(marked(Verdict::Falseticker { off_s: 0.25 }), 'x');
        let distant = Verdict::TooDistant { distance_s: 2.0, most_s: 1.5 };
        let unusable = Verdict::Unusable(Unusable::Unreachable);
        let unknown = [Verdict::Absent, unusable, distant, Verdict::NoMajority, Verdict::PulseWithoutSecond];
        assert_eq!(unknown.map(marked), ['?'; 5]);
        // As the daemon words some of them itself.
        assert_eq!(["averaged", "agrees", "not synchronised", ""].map(mark), ['+', '-', '?', '?']);
    }

    #[test]
    fn counters_are_shown_when_asked_for() {
        let text = sources_table(&plausible(), true);
        assert!(
            text.ends_with(
                "\nlondon steps            0\nntp1 refused            3\nntp1 steps              0\n"
            ),
            "{text}"
        );
        assert!(text.contains("\npps0 missed-pulses  1,204\n"), "{text}");
    }

    #[test]
    fn a_server_that_tells_of_no_source_says_so() {
        assert_eq!(sources_table(&Status::default(), true), "no sources: this server tells of none\n");
    }
}
