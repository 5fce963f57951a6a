//! What was measured of servers under attack, for people: a table a part, and what was asked of maser's ports.

use std::fmt::Write as _;

use crate::limits::{
    ABOVE_MIN, BELOW_MIN, BESIDE_MIN, COST_RATIO_MAX, CostSample, FloodSample, Limits, NAMES, SINK,
};
use crate::measure::float;

/// Both tables and the verdicts; nothing of a run that measured none of it.
pub(crate) fn table(run: &Limits) -> String {
    if run.floods.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "Regulars alone and beside a flood, in shares of what they asked; latencies in µs. **of peak** is the flood's rate to what \
         the server answers without limits.\n\n\
         | server | flood | k/s | of peak | alone | beside | p99 alone | beside | flood answered | kissed |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for sample in &run.floods {
        let per_cent = [sample.alone, sample.attacked].map(|share| format!("{:.2} %", share * 100.0));
        let [alone, attacked] = &per_cent;
        let [flood, kissed] =
            [sample.flood_answered, sample.flood_kissed].map(|share| format!("{:.2} %", share * 100.0));
        let [p99, p99_beside] = [sample.p99_alone_ns, sample.p99_attacked_ns].map(|nanos| float(nanos) / 1e3);
        // Writing to a string doesn't fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.1} | {alone} | {attacked} | {p99:.0} | {p99_beside:.0} | {flood} | {kissed} |",
            sample.server,
            sample.flood,
            sample.flood_per_s / 1e3,
            sample.share_of_peak,
        );
        if !sample.generator_kept_up {
            text += "| | *the generator didn't keep up* | | | | | | | | |\n";
        }
    }
    text += "\nWhat the server's core spends on a request, in ns, at half of its peak. The bare sink's program does nothing but drop: what it \
             spends is the wire's.\n\n| server | request | ns | to an answer |\n|---|---|---:|---:|\n";
    for sample in &run.costs {
        let CostSample { server, what, cpu_ns } = sample;
        let ratio = ratio(run, sample).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(text, "| {server} | {what} | {cpu_ns:.0} | {ratio} |");
    }
    format!("{text}\n{}", verdicts(run))
}

/// What an answer of this server costs, of AF_XDP for the wire.
fn answer_ns(run: &Limits, server: &str) -> Option<f64> {
    let server = if server == SINK { NAMES[2] } else { server };
    run.costs.iter().find(|cost| cost.server == server && cost.what == "answered").map(|cost| cost.cpu_ns)
}

/// Its cost to that of an answer.
fn ratio(run: &Limits, sample: &CostSample) -> Option<f64> {
    Some(sample.cpu_ns / answer_ns(run, sample.server)?)
}

/// The same without what the wire costs.
fn ratio_beyond_wire(run: &Limits, sample: &CostSample) -> Option<f64> {
    let wire = run.costs.iter().find(|other| other.server == SINK)?.cpu_ns;
    Some((sample.cpu_ns - wire) / (answer_ns(run, sample.server)? - wire))
}

/// What is asked of AF_XDP in the driver.
fn verdicts(run: &Limits) -> String {
    let mut text = String::new();
    let mut tell = |server: &str, what: String, is_met: bool| {
        let _ = writeln!(text, "- {server}: {what}: {}", if is_met { "met" } else { "MISSED" });
    };
    for sample in run.floods.iter().filter(|sample| sample.server == NAMES[2]) {
        let kept = sample.attacked / sample.alone.max(f64::MIN_POSITIVE);
        let least = least(sample);
        let what = format!(
            "regulars beside {} at {:.1} of the peak: {:.2} % of what they got alone, at least {:.0} %",
            sample.flood,
            sample.share_of_peak,
            kept * 100.0,
            least * 100.0
        );
        tell(sample.server, what, kept >= least && sample.generator_kept_up);
        let [before, after] = sample.pages;
        tell(
            sample.server,
            format!("{before} pages before {}, {after} afterwards", sample.flood),
            before == after,
        );
    }
    // What the driver drops is AF_XDP's alone.
    for sample in run.costs.iter().filter(|sample| sample.server == NAMES[2] && sample.what != "answered") {
        let ratio = ratio(run, sample).unwrap_or(f64::INFINITY);
        let beyond = ratio_beyond_wire(run, sample).unwrap_or(f64::INFINITY);
        let what = format!(
            "{} costs {ratio:.2} of an answer, {beyond:.2} without what the wire costs both, at most {COST_RATIO_MAX:.2}",
            sample.what
        );
        tell(sample.server, what, ratio <= COST_RATIO_MAX);
    }
    text
}

fn least(sample: &FloodSample) -> f64 {
    match (sample.flood, sample.share_of_peak > 1.0) {
        ("spoofed", true) => ABOVE_MIN,
        ("spoofed", false) => BELOW_MIN,
        _ => BESIDE_MIN,
    }
}
