//! The figures as text: one table for the terminal and the README, and the verdicts below it.

use crate::figures::{Figure, Limit, Row, Verdict};
use crate::hosts::Placement;

const HEADER: [&str; 10] = [
    "server",
    "peak k/s",
    "/ echo",
    "/ chronyd",
    "≤ 1 %",
    "p50 µs",
    "/ chronyd",
    "offset µs",
    "rx / tx µs",
    "CPU µs",
];

/// What the columns are.
pub(crate) const LEGEND: &str = "\
One server core answers 10,000 client addresses over a veth pair. **peak**: the highest rate of answers, thousands a
second, beside that of the bare echo that takes requests the same way (with stamps; AF_XDP's own) and of chronyd; **≤ 1 %**: the highest with no more than 1 % lost;
**p50**: the median latency at 10,000 requests a second; **offset**: p50 / p99 of the error of the offset that a client computes, at
half of what the server answers at most while replies are taken within its own call, so that nothing of the rig's lies between a reply's
leaving and its stamp, and the means of what its receive stamps are late and its transmit stamps are early, the way included; **CPU**: of the
server's core for an answer at half of its peak. The requests' softirq runs on the server's core, which it takes at once, as a NIC's interrupt
does, but for the peaks, where it shares it evenly; or on the generator's.
";
/// What is not measured.
const NONE: &str = "–";

/// Both placements below each other, in Markdown with aligned columns.
pub(crate) fn table(placements: &[(Placement, Vec<Row>)]) -> String {
    let mut lines = vec![HEADER.map(str::to_owned).to_vec()];
    for (placement, rows) in placements {
        lines.push(vec![format!("**{}**", placement.label())]);
        lines.extend(rows.iter().map(|row| cells(row).to_vec()));
    }
    let width =
        |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| length(cell)).max();
    let widths: Vec<usize> = (0..HEADER.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, width) in widths.iter().enumerate() {
            let cell = line.get(column).map_or("", String::as_str);
            let room = " ".repeat(width - length(cell));
            text += &if column == 0 { format!("| {cell}{room} ") } else { format!("| {room}{cell} ") };
        }
        text += "|\n";
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                text += &if column == 0 {
                    format!("|{}", "-".repeat(width + 2))
                } else {
                    format!("|{}:", "-".repeat(width + 1))
                };
            }
            text += "|\n";
        }
    }
    text
}

fn length(cell: &str) -> usize {
    cell.chars().count()
}

fn cells(row: &Row) -> [String; HEADER.len()] {
    let thousands = |figure: Option<Figure>| spread(figure, 1e3, 0);
    let pair = |first: Option<Figure>, second: Option<Figure>| match (first, second) {
        (Some(first), Some(second)) => format!("{:.1} / {:.1}", first.median / 1e3, second.median / 1e3),
        _ => NONE.to_owned(),
    };
    let at_least = if row.at_least { "≥ " } else { "" };
    [
        row.server.to_owned(),
        format!("{at_least}{}", thousands(row.peak)),
        single(row.peak_to_echo, 1.0, 2),
        single(row.peak_to_chronyd, 1.0, 2),
        single(row.kept, 1e3, 0),
        spread(row.p50_ns, 1e3, 0),
        single(row.p50_to_chronyd, 1.0, 2),
        pair(row.offset_p50_ns, row.offset_p99_ns),
        pair(row.receive_mean_ns, row.transmit_mean_ns),
        single(row.cpu_ns, 1e3, 1),
    ]
}

fn single(figure: Option<Figure>, unit: f64, digits: usize) -> String {
    figure.map_or(NONE.to_owned(), |figure| format!("{:.digits$}", figure.median / unit))
}

pub(crate) fn spread(figure: Option<Figure>, unit: f64, digits: usize) -> String {
    let Some(Figure { median, min, max }) = figure else { return NONE.to_owned() };
    let (median, min, max) = (median / unit, min / unit, max / unit);
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
}

/// A line for each ratio that was asked for.
pub(crate) fn verdict(verdict: &Verdict) -> String {
    let measured = verdict.ratio.map_or("not measured".to_owned(), |Figure { median, min, max }| {
        format!("{median:.2} ({min:.2}–{max:.2})")
    });
    let limit = match verdict.limit {
        Limit::AtLeast(limit) => format!(", wanted ≥ {limit}"),
        Limit::AtMost(limit) => format!(", wanted ≤ {limit}"),
        Limit::Told => String::new(),
    };
    let result = match verdict.limit {
        Limit::Told => "told",
        Limit::AtLeast(_) | Limit::AtMost(_) if verdict.is_met() => "met",
        Limit::AtLeast(_) | Limit::AtMost(_) => "MISSED",
    };
    format!("{result:<6}  {:<24}  {:<32}  {measured}{limit}", verdict.server, verdict.what)
}
