//! The table: a header, a row a step as it ends, and what must be said about the run below it.
//!
//! It has the columns that users of ntpperf know, and latencies beside them. What went wrong and has no column follows
//! its row in a line of its own, and the footer says whose fault it was.

use super::units::{exact, percent, plural, short, signed_time, time};
use crate::outcome::approximate;
use crate::summary::{Coverage, Document, Knee, Summary};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Above this share of the server's latency, the generator's own lateness makes the latencies doubtful.
const LAG_SHARE_MAX: f64 = 0.1;
/// Below this share of the rate asked for, the generator didn't offer what it was asked to.
const OFFERED_SHARE_MIN: f64 = 0.98;
const SEPARATOR: &str = " |";

/// The two lines above the rows.
#[must_use]
pub fn header() -> String {
    let groups = format!("{:>47}{SEPARATOR}{:<35}{SEPARATOR} latency", "inter-", " offset error");
    let rate = columns([("rate", 7), ("clients", 8)]);
    let shares = columns([("lost", 8), ("invalid", 8), ("basic", 8), ("leaved", 8)]);
    let errors = columns([("min", 9), ("mean", 9), ("max", 9), ("stddev", 8)]);
    let latencies = columns([("p50", 8), ("p99", 8), ("p99.9", 8)]);
    format!("{groups}\n{rate}{shares}{SEPARATOR}{errors}{SEPARATOR}{latencies}\n")
}

/// A step's row, and below it what went wrong that has no column.
///
/// Shares are of the requests that expect a reply; `-` is what wasn't measured.
#[must_use]
pub fn row(step: &Summary) -> String {
    let expected = step.sent.saturating_sub(step.silence_expected);
    let share = |part| percent(part, expected);
    let errors = step.offset_error_ns.map_or_else(
        || std::array::from_fn(|_| "-".to_owned()),
        |errors| {
            let ends = [errors.lowest, errors.highest].map(|error| signed_time(signed(error)));
            let [lowest, highest] = ends;
            [lowest, signed_time(errors.mean), highest, time(errors.stddev)]
        },
    );
    let latency = step.latency_ns;
    let latencies = [latency.p50, latency.p99, latency.p999]
        .map(|nanos| if latency.count == 0 { "-".to_owned() } else { time(approximate(nanos)) });
    let [lost, invalid, basic, interleaved] =
        [step.lost, step.invalid, step.basic, step.interleaved].map(share);
    let (rate, clients) = (short(step.rate_requested), short(approximate(step.clients)));
    let mut text = columns([(&rate, 7), (&clients, 8)]);
    text += &columns([(&lost, 8), (&invalid, 8), (&basic, 8), (&interleaved, 8)]);
    text += SEPARATOR;
    let [lowest, mean, highest, deviation] = &errors;
    text += &columns([(lowest, 9), (mean, 9), (highest, 9), (deviation, 8)]);
    text += SEPARATOR;
    let [median, p99, p999] = &latencies;
    text += &columns([(median, 8), (p99, 8), (p999, 8)]);
    text.push('\n');
    let notes = notes(step);
    if !notes.is_empty() {
        let _ = writeln!(text, "{:>9} {}", "└", notes.join(", "));
    }
    for line in transmit_errors(step) {
        let _ = writeln!(text, "{:>9} {line}", "└");
    }
    text
}

/// How early the transmit timestamps of either kind of reply were, where some clients interleave.
fn transmit_errors(step: &Summary) -> Vec<String> {
    let kinds = [("interleaved", step.interleaved_transmit_error_ns), ("basic", step.transmit_error_ns)];
    let measured = kinds.into_iter().filter_map(|(kind, errors)| errors.map(|errors| (kind, errors)));
    measured
        .filter(|_| step.interleaving > 0)
        .map(|(kind, errors)| {
            let (mean, deviation) = (signed_time(errors.mean), time(errors.stddev));
            let [p50, p99, max] = [errors.p50, errors.p99, errors.max].map(|nanos| time(approximate(nanos)));
            format!(
                "transmit error, {kind}: mean {mean}, stddev {deviation}, p50 {p50}, p99 {p99}, max {max}"
            )
        })
        .collect()
}

/// Right-aligned to their widths.
fn columns<const N: usize>(cells: [(&str, usize); N]) -> String {
    cells.map(|(cell, width)| format!("{cell:>width$}")).concat()
}

/// What went wrong in a step and has no column.
fn notes(step: &Summary) -> Vec<String> {
    let counts = [
        (step.kod, "kod"),
        (step.duplicate, "duplicate"),
        (step.late, "late"),
        (step.unsent, "unsent"),
        (step.unseen, "unseen"),
    ];
    let mut notes: Vec<_> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{name} {}", short(approximate(count))))
        .collect();
    if fell_behind(step) {
        notes.push(format!("sent only {}/s", short(step.rate_offered)));
    }
    if let Some(lag) = lateness(step) {
        notes.push(lag);
    }
    notes
}

fn fell_behind(step: &Summary) -> bool {
    step.rate_offered < step.rate_requested * OFFERED_SHARE_MIN
}

/// How late requests left, where that is a good part of the latency.
fn lateness(step: &Summary) -> Option<String> {
    let (lag, latency) = (approximate(step.lag_ns.p99), approximate(step.latency_ns.p99));
    (step.lag_ns.count > 0 && step.latency_ns.count > 0 && lag > latency * LAG_SHARE_MAX)
        .then(|| format!("left {} late (p99)", time(lag)))
}

/// What must be said about a run: who checked the replies, what was lost and through whom, and whether the generator
/// itself kept its schedule.
#[must_use]
pub fn footer(document: &Document) -> String {
    let steps = apart(document);
    let total = total(document);
    let mut lines = vec![checked(document)];
    lines.extend(losses(&total));
    lines.extend(interleaved(&total));
    lines.extend(broken(&total));
    // A closed loop has no schedule to keep: it sends when its server lets it.
    if !document.setting.closed_loop {
        lines.extend(schedule(&steps));
    }
    if document.setting.closed_loop {
        lines.push(
            "closed loop: requests waited for replies, so the latencies hide the server's stalls".to_owned(),
        );
    }
    lines.extend(amplification(&total));
    lines.extend(document.knees.iter().map(knee));
    if document.interrupted {
        let seconds = time(steps.iter().map(|step| step.duration_s).sum::<f64>() * 1e9);
        lines.push(format!("interrupted: the figures are of the {seconds} until then"));
    }
    lines.join("\n") + "\n"
}

/// The steps where they differ in rate, else the run as a whole: a soak's seconds are one run.
fn apart(document: &Document) -> Vec<&Summary> {
    let differ = matches!(document.setting.mode.as_str(), "ladder" | "knee");
    if differ && !document.steps.is_empty() {
        document.steps.iter().collect()
    } else {
        vec![&document.result]
    }
}

/// The counts of the whole run: of a ladder, `result` is only the best step, and what went wrong in the others must
/// not be left out.
fn total(document: &Document) -> Summary {
    let mut total = Summary::default();
    for step in apart(document) {
        total.sent += step.sent;
        total.unsent += step.unsent;
        total.silence_expected += step.silence_expected;
        total.received += step.received;
        total.lost += step.lost;
        total.invalid += step.invalid;
        total.duplicate += step.duplicate;
        total.late += step.late;
        total.kod += step.kod;
        total.basic += step.basic;
        total.interleaved += step.interleaved;
        total.interleaving += step.interleaving;
        total.unseen += step.unseen;
        total.octets_sent += step.octets_sent;
        total.octets_received += step.octets_received;
        add(&mut total.faults, &step.faults);
        add(&mut total.kisses, &step.kisses);
    }
    total
}

fn add(sum: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (name, count) in more {
        *sum.entry(name.clone()).or_default() += count;
    }
}

fn checked(document: &Document) -> String {
    match document.setting.coverage {
        Coverage::All => "checked: each reply, in user space".to_owned(),
        Coverage::SampleOneIn(every) => format!(
            "checked: one reply in {every}, in user space; the kernel counted and timed the others, valid or not"
        ),
    }
}

/// What got no answer, and through whom.
fn losses(total: &Summary) -> Vec<String> {
    let expected = total.sent.saturating_sub(total.silence_expected);
    let requests = plural(expected, "request", "requests");
    let mut lines = Vec::new();
    lines.push(if total.lost == 0 {
        format!("lost: none of {requests}")
    } else {
        format!("lost: {} of {requests} ({})", exact(total.lost), percent(total.lost, expected))
    });
    if total.unseen > 0 {
        lines.push(format!(
            "unseen: {} that the generator was too slow to look at count as lost: its limit, not the server's",
            plural(total.unseen, "reply", "replies"),
        ));
    }
    if total.unsent > 0 {
        lines.push(format!(
            "unsent: {} due and never sent, for want of time here or of room in the device: not the server's fault",
            plural(total.unsent, "request was", "requests were"),
        ));
    }
    if total.silence_expected > 0 {
        lines.push(format!(
            "silence: {} expect no reply",
            plural(total.silence_expected, "further request", "further requests")
        ));
    }
    lines
}

/// How many of the replies that were asked to be are interleaved.
fn interleaved(total: &Summary) -> Option<String> {
    let asked = plural(total.interleaving, "reply", "replies");
    (total.interleaving > 0).then(|| {
        let share = percent(total.interleaved, total.interleaving);
        format!("interleaved: {} of {asked} that were asked to be ({share})", exact(total.interleaved))
    })
}

/// What came back and was no proper answer.
fn broken(total: &Summary) -> Vec<String> {
    let names = |counts: &BTreeMap<String, u64>| {
        let each: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {}", exact(*count))).collect();
        if each.is_empty() { String::new() } else { format!(": {}", each.join(", ")) }
    };
    let mut lines = Vec::new();
    if total.invalid > 0 {
        let replies = plural(total.invalid, "reply", "replies");
        lines.push(format!("invalid: {replies}{}", names(&total.faults)));
    }
    if total.kod > 0 {
        lines.push(format!("kisses: {}{}", plural(total.kod, "reply", "replies"), names(&total.kisses)));
    }
    if total.duplicate > 0 {
        let replies = plural(total.duplicate, "reply", "replies");
        lines.push(format!("duplicate: {replies} to a request that had its reply"));
    }
    if total.late > 0 {
        let replies = plural(total.late, "reply", "replies");
        lines.push(format!("late: {replies} after the request was given up as lost"));
    }
    lines
}

/// Whether the generator kept its schedule, and where it didn't.
fn schedule(steps: &[&Summary]) -> Vec<String> {
    let worst_lag = |steps: &[&Summary]| {
        time(approximate(steps.iter().map(|step| step.lag_ns.p99).max().unwrap_or_default()))
    };
    let those = |which: fn(&Summary) -> bool| -> Vec<_> {
        steps.iter().copied().filter(|step| which(step)).collect()
    };
    let (few, late) = (those(fell_behind), those(|step| lateness(step).is_some()));
    let mut lines = Vec::new();
    if !few.is_empty() {
        lines.push(format!("schedule: not kept at {}: fewer requests left than were asked for", rates(&few)));
    }
    if !late.is_empty() {
        lines.push(format!(
            "schedule: not kept at {}: requests left up to {} late (p99): the latencies are in part the generator's",
            rates(&late),
            worst_lag(&late)
        ));
    }
    if lines.is_empty() {
        lines.push(if steps.iter().all(|step| step.lag_ns.count == 0) {
            "schedule: how late requests left was not measured".to_owned()
        } else {
            format!("schedule: kept; 99 % of requests left at most {} late", worst_lag(steps))
        });
    }
    lines
}

/// The steps' rates; of many, the first.
fn rates(steps: &[&Summary]) -> String {
    let rates: Vec<_> = steps.iter().map(|step| short(step.rate_requested) + "/s").collect();
    if rates.len() > 4 {
        format!("{} and {} more rates", rates[..3].join(", "), rates.len() - 3)
    } else {
        rates.join(", ")
    }
}

/// What an attacker would gain: only worth a line where replies are larger or requests deserve none.
fn amplification(total: &Summary) -> Option<String> {
    let (sent, received) = (approximate(total.octets_sent), approximate(total.octets_received));
    ((received > sent || total.silence_expected > 0) && sent > 0.0).then(|| {
        let (sent_text, received_text) = (short(sent), short(received));
        format!("amplification: {:.2} ({received_text} octets came back for {sent_text})", received / sent)
    })
}

fn knee(knee: &Knee) -> String {
    let limit = knee.loss_max * 100.0;
    let (Some(offered), Some(answered)) = (knee.rate_offered, knee.rate_answered) else {
        let why = if knee.at_least { "the generator was too slow" } else { "even the lowest rate lost more" };
        return format!("knee at {limit} % loss: none: {why}");
    };
    let least = if knee.at_least { "at least " } else { "" };
    let note = if knee.at_least { "; the search ended there, not the server" } else { "" };
    format!("knee at {limit} % loss: {least}{}/s, {}/s answered{note}", short(offered), short(answered))
}

#[expect(clippy::cast_precision_loss, reason = "errors stay far below 2^53 ns")]
fn signed(nanos: i64) -> f64 {
    nanos as f64
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::summary::ErrorSpread;
    use proptest::prelude::*;

    fn below_header(rows: &[String]) -> String {
        header() + &rows.concat()
    }

    /// A step in which everything went wrong that can.
    fn bad() -> Summary {
        let mut step = sample::lossy(1_250_000, 123);
        step.rate_offered = 1_100_000.0;
        step.invalid = 14;
        step.faults = [("origin".to_owned(), 2), ("mode".to_owned(), 12)].into();
        step.kod = 30;
        step.kisses = [("RATE".to_owned(), 30)].into();
        (step.duplicate, step.late, step.unsent, step.unseen) = (3, 1, 5_000, 1_234);
        step.lag_ns.p99 = 3_000_000;
        step
    }

    #[test]
    fn rows_stand_under_their_header() {
        let mut unmeasured = sample::step(1_000);
        unmeasured.offset_error_ns = None;
        unmeasured.latency_ns.count = 0;
        let rows = [row(&sample::step(100_000)), row(&bad()), row(&unmeasured)];
        let text = below_header(&rows);
        assert_eq!(text, TABLE);
    }

    #[test]
    fn the_footer_of_a_good_run_is_three_lines() {
        let text = footer(&sample::past_knee(200_000));
        assert_eq!(text, GOOD);
    }

    #[test]
    fn the_footer_tells_all_that_went_wrong_in_any_step() {
        // The step that stands for the ladder is the good one: its counts alone would hide the other's.
        let mut document = sample::ladder(vec![bad(), sample::step(2_000_000)]);
        assert_eq!(document.result.lost, 0);
        document.setting.coverage = Coverage::SampleOneIn(64);
        document.setting.closed_loop = true;
        document.interrupted = true;
        document.steps[0].silence_expected = 1_000;
        document.steps[0].octets_received *= 3;
        let none = Knee { loss_max: 0.0, rate_offered: None, rate_answered: None, at_least: false };
        let some = |at_least| Knee {
            loss_max: 0.01,
            rate_offered: Some(152_340.0),
            rate_answered: Some(151_000.0),
            at_least,
        };
        document.knees = vec![none, some(false), some(true)];
        let text = footer(&document);
        assert_eq!(text, BAD);
    }

    #[test]
    fn a_soak_is_one_run() {
        let text = footer(&sample::soak(300));
        assert!(text.contains("lost: 20,000 of 500,000 requests (4 %)"), "{text}");
        assert!(text.contains("schedule: kept"), "{text}");
    }

    #[test]
    fn too_few_requests_are_told_apart_from_late_ones() {
        let slow = |rate| Summary { rate_offered: 0.9 * approximate(rate), ..sample::step(rate) };
        let text = footer(&sample::ladder([1_000, 2_000, 3_000, 4_000, 5_000].map(slow).to_vec()));
        let expected =
            "not kept at 1 k/s, 2 k/s, 3 k/s and 2 more rates: fewer requests left than were asked for";
        assert!(text.contains(expected) && !text.contains("late"), "{text}");
    }

    proptest! {
        #[test]
        fn no_row_is_wider_than_its_columns(rate in 1_u64..90_000_000, per_mille in 0_u64..=1_000, nanos in 0_u64..99_000_000_000) {
            let mut step = sample::lossy(rate, per_mille);
            step.latency_ns.p999 = nanos;
            let errors = step.offset_error_ns.as_mut().expect("measured");
            errors.lowest = -i64::try_from(nanos).expect("below 2^63");
            errors.stddev = approximate(nanos);
            let text = row(&step);
            let line = text.lines().next().expect("a row");
            prop_assert_eq!(line.chars().count(), 110, "{}", text);
            prop_assert!(per_mille == 0 || step.lost == 0 || !line[15..23].ends_with(" 0"), "{}", text);
        }
    }

    #[test]
    fn where_clients_interleave_both_kinds_of_transmit_errors_are_told() {
        let mut step = sample::step(100_000);
        step.interleaving = step.interleaved + 1_000;
        step.transmit_error_ns = step.offset_error_ns;
        let text = row(&step);
        assert_eq!(text.lines().count(), 2, "{text}");
        step.interleaved_transmit_error_ns =
            step.transmit_error_ns.map(|errors| ErrorSpread { mean: 412.0, ..errors });
        let text = row(&step);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "        └ transmit error, interleaved: mean +412 ns, stddev 1.63 µs, p50 410 ns, p99 7.2 µs, max 44.1 µs",
                "        └ transmit error, basic: mean -380 ns, stddev 1.63 µs, p50 410 ns, p99 7.2 µs, max 44.1 µs",
            ]
        );
        let text = footer(&sample::ladder(vec![step]));
        let share = "interleaved: 250,000 of 251,000 replies that were asked to be (99.6 %)\n";
        assert!(text.contains(share), "{text}");
    }

    const TABLE: &str = concat!(
        "                                         inter- | offset error                       | latency\n",
        "   rate clients    lost invalid   basic  leaved |      min     mean      max  stddev |     p50     p99   p99.9\n",
        "  100 k    10 k       0       0    75 %    25 % | -44.1 µs  -380 ns +12.9 µs 1.63 µs | 53.2 µs  120 µs 1.53 ms\n",
        " 1.25 M    10 k  12.3 % <0.01 %  87.7 %       0 | -44.1 µs  -380 ns +12.9 µs 1.63 µs |  426 µs  1.2 ms 6.12 ms\n",
        "        └ kod 30, duplicate 3, late 1, unsent 5 k, unseen 1.23 k, sent only 1.1 M/s, left 3 ms late (p99)\n",
        "    1 k    10 k       0       0    75 %    25 % |        -        -        -       - |       -       -       -\n",
    );
    const GOOD: &str = concat!(
        "checked: each reply, in user space\n",
        "lost: none of 8,730,000 requests\n",
        "schedule: kept; 99 % of requests left at most 1.2 µs late\n",
    );
    const BAD: &str = concat!(
        "checked: one reply in 64, in user space; the kernel counted and timed the others, valid or not\n",
        "lost: 1,537,500 of 32,499,000 requests (4.73 %)\n",
        "unseen: 1,234 replies that the generator was too slow to look at count as lost: its limit, not the server's\n",
        "unsent: 5,000 requests were due and never sent, for want of time here or of room in the device: not the server's fault\n",
        "silence: 1,000 further requests expect no reply\n",
        "invalid: 14 replies: mode 12, origin 2\n",
        "kisses: 30 replies: RATE 30\n",
        "duplicate: 3 replies to a request that had its reply\n",
        "late: 1 reply after the request was given up as lost\n",
        "closed loop: requests waited for replies, so the latencies hide the server's stalls\n",
        "amplification: 1.63 (2.54 G octets came back for 1.56 G)\n",
        "knee at 0 % loss: none: even the lowest rate lost more\n",
        "knee at 1 % loss: 152 k/s, 151 k/s answered\n",
        "knee at 1 % loss: at least 152 k/s, 151 k/s answered; the search ended there, not the server\n",
        "interrupted: the figures are of the 20 s until then\n",
    );
}
