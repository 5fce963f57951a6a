//! What was measured of interleaving and of transmit timestamps, for people: a table a part, and what was asked of each port.

use std::fmt::Write as _;

use crate::figures::Figure;
use crate::interleaved::{
    CHRONYD_BEHIND, CORRECTED_MAX, CORRECTION_ROUNDS, CorrectionSample, FOLLOWING_ROUNDS, FollowerSample,
    Interleaved, InterleavedSample, MixedSample, NAMES, RATE_PER_S, SHARE_MIN,
};
use crate::measure::{Spread, float};
use crate::servers::{AF_XDP, CHRONYD};
use crate::table::spread;

/// All tables and the verdicts; nothing of a run that measured none of it.
pub(crate) fn table(run: &Interleaved) -> String {
    if run.replies.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "Transmit error in µs, {RATE_PER_S} requests a second: how early transmit timestamps are. **share** of the replies that \
         were asked to be interleaved are; its transmit timestamps are of the reply before.\n\n\
         | server | clients | lost | invalid | share | basic p50 | p99 | interleaved mean | stddev | p99 |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    run.replies.iter().for_each(|sample| replies(&mut text, sample));
    text += "\nHalf of the clients interleave, at half of the most that is answered of such.\n\n\
             | server | requests/s | sent | lost | invalid |\n|---|---:|---:|---:|---:|\n";
    for MixedSample { server, rate_per_s, sent, lost, invalid } in &run.mixed {
        // Writing to a string doesn't fail.
        let _ = writeln!(text, "| {server} | {rate_per_s} | {sent} | {lost} | {invalid} |");
    }
    let _ = write!(
        text,
        "\nThe median transmit error of basic replies in µs, without the correction (`transmit_correction`) and with it, \
         {CORRECTION_ROUNDS} rounds in turns.\n\n| server | without | with | ratio |\n|---|---:|---:|---:|\n"
    );
    for sample in &run.corrections {
        let (without, with) = sample.figures();
        let [without, with] = [without, with].map(|figure| spread(figure, 1e3, 2));
        let _ = writeln!(text, "| {} | {without} | {with} | {} |", sample.server, written(sample.ratio()));
    }
    let _ = write!(
        text,
        "\nThe offset that a chronyd with `xleave` measures, in µs; both share the clock, so all of it is error. **spread** is \
         the median distance from the median; {FOLLOWING_ROUNDS} rounds in turns. *{CHRONYD_BEHIND}* has a program on its \
         interface that passes its requests on.\n\n\
         | server | samples | interleaved | mean | spread | stddev | max |\n|---|---:|---:|---:|---:|---:|---:|\n"
    );
    for server in NAMES {
        follower(&mut text, server, &run.followers);
        if server == CHRONYD {
            follower(&mut text, CHRONYD_BEHIND, &run.followers);
        }
    }
    text + "\n" + &verdicts(run)
}

fn us(nanos: Option<f64>) -> String {
    nanos.map_or("–".to_owned(), |nanos| format!("{:.2}", nanos / 1e3))
}

fn written(ratio: Option<f64>) -> String {
    ratio.map_or("not measured".to_owned(), |ratio| format!("{ratio:.2}"))
}

fn replies(text: &mut String, sample: &InterleavedSample) {
    let InterleavedSample { server, clients, lost, invalid, .. } = sample;
    let basic = |value: fn(&Spread) -> f64| us(sample.basic_ns.as_ref().map(value));
    let leaved = |value: fn(&Spread) -> f64| us(sample.interleaved_ns.as_ref().map(value));
    let _ = writeln!(
        text,
        "| {server} | {clients} | {lost} | {invalid} | {:.1} % | {} | {} | {} | {} | {} |",
        sample.share() * 100.0,
        basic(|errors| float(errors.p50)),
        basic(|errors| float(errors.p99)),
        leaved(|errors| errors.mean),
        leaved(|errors| errors.stddev),
        leaved(|errors| float(errors.p99)),
    );
}

fn follower(text: &mut String, server: &str, all: &[FollowerSample]) {
    let rounds = || all.iter().filter(|sample| sample.server == server);
    let of = |value: fn(&FollowerSample) -> f64| spread(Figure::of(rounds().map(value)), 1e3, 2);
    let sum = |value: fn(&FollowerSample) -> usize| rounds().map(value).sum::<usize>();
    let (samples, interleaved) = (sum(|round| round.samples), sum(|round| round.interleaved));
    let [mean, spread] = [of(|round| round.mean_ns), of(|round| round.spread_ns)];
    let [stddev, max] = [of(|round| round.stddev_ns), of(|round| round.max_ns)];
    let _ = writeln!(text, "| {server} | {samples} | {interleaved} | {mean} | {spread} | {stddev} | {max} |");
}

/// What the issue asks of maser's ports, each beside chronyd.
fn verdicts(run: &Interleaved) -> String {
    let least_mean_ns = |server: &str| {
        let own = run.replies.iter().filter(|sample| sample.server == server);
        // A stamp of after the arrival is as wrong as one of before it.
        own.filter_map(|sample| Some(sample.interleaved_ns?.mean.abs())).reduce(f64::min)
    };
    // A round's says little: some are several times the others, whoever is followed.
    let spread_ns = |server: &str| {
        let rounds = run.followers.iter().filter(|sample| sample.server == server);
        Figure::of(rounds.map(|sample| sample.spread_ns)).map(|figure| figure.median)
    };
    let ratio =
        |own: Option<f64>, chronyds: Option<f64>| own.zip(chronyds).map(|(own, chronyds)| own / chronyds);
    let mut text = String::new();
    for server in NAMES.into_iter().filter(|name| *name != CHRONYD) {
        let Some(most) = run.replies.iter().rfind(|sample| sample.server == server) else { continue };
        let mut tell = |what: String, is_met: bool| {
            let _ = writeln!(text, "- {server}: {what}: {}", if is_met { "met" } else { "MISSED" });
        };
        let share = most.share();
        tell(
            format!(
                "{:.1} % of {} clients interleaved, at least {:.0} %",
                share * 100.0,
                most.clients,
                SHARE_MIN * 100.0
            ),
            share >= SHARE_MIN,
        );
        let mean = ratio(most.interleaved_ns.map(|errors| errors.mean.abs()), least_mean_ns(CHRONYD));
        tell(
            format!("mean transmit error / chronyd's least {}", written(mean)),
            mean.is_some_and(|ratio| ratio <= 1.0),
        );
        // Where a program takes the requests, also beside one that passes them on.
        let behind = (server == AF_XDP).then_some(CHRONYD_BEHIND);
        for other in [CHRONYD].into_iter().chain(behind) {
            let followed = ratio(spread_ns(server), spread_ns(other));
            tell(
                format!("spread of a follower's offset / with {other} {}", written(followed)),
                followed.is_some_and(|ratio| ratio <= 1.0),
            );
        }
        if let Some(mixed) = run.mixed.iter().find(|sample| sample.server == server) {
            tell(
                format!("{} lost of {} with mixed clients", mixed.lost, mixed.sent),
                mixed.lost + mixed.invalid == 0,
            );
        }
        let corrected =
            run.corrections.iter().find(|sample| sample.server == server).and_then(CorrectionSample::ratio);
        tell(
            format!(
                "median transmit error with the correction / without {}, at most {CORRECTED_MAX}",
                written(corrected)
            ),
            corrected.is_some_and(|ratio| ratio <= CORRECTED_MAX),
        );
    }
    text
}
