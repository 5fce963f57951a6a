//! What the samples come to: a figure a server, with its spread over the rounds, its ratios and the verdicts on them.
//!
//! Servers take turns within a round, so a ratio is taken round by round, of neighbours in time; its median is reported.

use crate::hosts::Placement;
use crate::measure::{Sample, Step, best, ends_at_its_peak, float};
use crate::servers::{AF_XDP, CHRONYD, Entry, SERVERS};

/// The loss that a server in service may have.
const LOSS_MAX: f64 = 0.01;

/// The median of the rounds, the least and the greatest.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Figure {
    /// Of what the rounds have; nothing if no round has it.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (below, above) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Self { median: f64::midpoint(*below, *above), min, max })
    }
}

/// A row of the table; rates are a second, times in nanoseconds.
pub(crate) struct Row {
    pub(crate) server: &'static str,
    pub(crate) peak: Option<Figure>,
    /// In a round nothing higher was offered that was lost: the server can do more.
    pub(crate) at_least: bool,
    /// To the bare echo that takes requests the same way.
    pub(crate) peak_to_echo: Option<Figure>,
    pub(crate) peak_to_chronyd: Option<Figure>,
    /// The highest answered rate of steps that lost no more than [`LOSS_MAX`].
    pub(crate) kept: Option<Figure>,
    pub(crate) p50_ns: Option<Figure>,
    pub(crate) p50_to_chronyd: Option<Figure>,
    /// Of the median latency: from the generator's kernel to the server's receive timestamp, and from its transmit
    /// timestamp to the generator's kernel.
    pub(crate) there_ns: Option<Figure>,
    pub(crate) back_ns: Option<Figure>,
    /// At half of the server's own peak with replies taken within its call, as what follows.
    pub(crate) offset_p50_ns: Option<Figure>,
    pub(crate) offset_p50_to_chronyd: Option<Figure>,
    pub(crate) offset_p99_ns: Option<Figure>,
    pub(crate) receive_mean_ns: Option<Figure>,
    pub(crate) transmit_mean_ns: Option<Figure>,
    pub(crate) cpu_ns: Option<Figure>,
    /// What went wrong in the generator or with replies, and must not stay hidden.
    pub(crate) troubles: Vec<String>,
}

/// The rows of a placement, in the order of the servers.
pub(crate) fn rows(samples: &[Sample], placement: Placement) -> Vec<Row> {
    let here: Vec<&Sample> = samples.iter().filter(|sample| sample.placement == placement.name()).collect();
    SERVERS.iter().map(|entry| row(&here, entry)).collect()
}

fn row(here: &[&Sample], entry: &Entry) -> Row {
    let server = entry.name;
    let own: Vec<&Sample> = here.iter().copied().filter(|sample| sample.server == server).collect();
    let each =
        |value: &dyn Fn(&Sample) -> Option<f64>| Figure::of(own.iter().filter_map(|sample| value(sample)));
    let to = |other: &'static str, value: &dyn Fn(&Sample) -> Option<f64>| {
        each(&|sample| {
            let reference = here.iter().find(|of| of.server == other && of.round == sample.round)?;
            Some(value(sample)? / value(reference)?)
        })
    };
    let peak = |sample: &Sample| best(&sample.ladder).map(|step| step.rate_answered);
    let p50 =
        |sample: &Sample| Some(float(sample.latency.as_ref()?.latency_ns.p50)).filter(|nanos| *nanos > 0.0);
    let way = |value: &dyn Fn(&Step) -> Option<f64>| each(&|sample| value(sample.latency.as_ref()?));
    let offset_p50 = |sample: &Sample| Some(float(sample.accuracy.as_ref()?.offset_error_ns?.p50));
    let accuracy = |value: &dyn Fn(&Step) -> Option<f64>| each(&|sample| value(sample.accuracy.as_ref()?));
    Row {
        server,
        peak: each(&peak),
        at_least: own.iter().any(|sample| ends_at_its_peak(&sample.ladder)),
        peak_to_echo: entry.echo().and_then(|echo| to(echo, &peak)),
        peak_to_chronyd: to(CHRONYD, &peak),
        kept: each(&|sample| kept(&sample.ladder)),
        p50_ns: each(&p50),
        p50_to_chronyd: to(CHRONYD, &p50),
        there_ns: way(&|step| Some(float(step.receive_error_ns?.p50))),
        back_ns: way(&|step| Some(float(step.transmit_error_ns?.p50))),
        offset_p50_ns: each(&offset_p50),
        offset_p50_to_chronyd: to(CHRONYD, &offset_p50),
        offset_p99_ns: accuracy(&|step| Some(float(step.offset_error_ns?.p99))),
        receive_mean_ns: accuracy(&|step| Some(step.receive_error_ns?.mean)),
        transmit_mean_ns: accuracy(&|step| Some(step.transmit_error_ns?.mean)),
        cpu_ns: each(&|sample| sample.cpu_ns),
        troubles: troubles(&own),
    }
}

fn kept(ladder: &[Step]) -> Option<f64> {
    let within = ladder.iter().filter(|step| step.is_on_schedule() && step.loss() <= LOSS_MAX);
    within.map(|step| step.rate_answered).reduce(f64::max)
}

fn troubles(own: &[&Sample]) -> Vec<String> {
    let steps =
        || own.iter().flat_map(|sample| sample.ladder.iter().chain(&sample.latency).chain(&sample.accuracy));
    let ladders = own.iter().flat_map(|sample| &sample.ladder);
    let left_out = ladders.map(|step| u64::from(!step.is_on_schedule())).sum();
    let counts = [
        ("invalid replies", steps().map(|step| step.invalid).sum::<u64>()),
        ("replies that the generator was too slow to see", steps().map(|step| step.unseen).sum()),
        (
            "requests lost at 10,000/s",
            own.iter().flat_map(|sample| &sample.latency).map(|step| step.lost).sum(),
        ),
        ("steps left out, in which the generator fell behind", left_out),
    ];
    counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect()
}

/// A ratio that was asked for, and what it came to.
pub(crate) struct Verdict {
    pub(crate) server: &'static str,
    pub(crate) what: &'static str,
    pub(crate) limit: Limit,
    pub(crate) ratio: Option<Figure>,
}

/// Which way a ratio has to go.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
    /// Any: it is told.
    Told,
}

impl Verdict {
    /// What wasn't measured isn't met.
    pub(crate) fn is_met(&self) -> bool {
        self.ratio.is_some_and(|ratio| match self.limit {
            Limit::AtLeast(limit) => ratio.median >= limit,
            Limit::AtMost(limit) => ratio.median <= limit,
            Limit::Told => true,
        })
    }
}

/// What the servers of this project have to reach.
pub(crate) fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    const PEAK_TO_ECHO: &str = "peak / bare echo with stamps";
    const PEAK_TO_XDP_ECHO: &str = "peak / bare AF_XDP echo";
    const PEAK_TO_CHRONYD: &str = "peak / chronyd";
    const P50_TO_CHRONYD: &str = "p50 at 10,000/s / chronyd";
    const OFFSET_TO_CHRONYD: &str = "offset at half of peak / chronyd";
    const OFFSET_US: &str = "offset at half of peak, µs";
    let limits = [
        (AF_XDP, PEAK_TO_XDP_ECHO, Limit::AtLeast(0.9)),
        (AF_XDP, PEAK_TO_CHRONYD, Limit::AtLeast(3.5)),
        (AF_XDP, OFFSET_US, Limit::AtMost(1.0)),
        (AF_XDP, OFFSET_TO_CHRONYD, Limit::AtMost(1.0)),
        ("maser af-xdp, generic", PEAK_TO_XDP_ECHO, Limit::Told),
        ("maser af-xdp, generic", PEAK_TO_CHRONYD, Limit::AtLeast(2.5)),
        ("maser af-xdp, generic", OFFSET_TO_CHRONYD, Limit::AtMost(1.0)),
        ("maser af-xdp, spinning", P50_TO_CHRONYD, Limit::AtMost(0.5)),
        ("maser socket", PEAK_TO_ECHO, Limit::AtLeast(0.9)),
        ("maser socket", PEAK_TO_CHRONYD, Limit::AtLeast(1.25)),
        ("maser socket", OFFSET_TO_CHRONYD, Limit::AtMost(1.0)),
        ("maser io-uring", PEAK_TO_ECHO, Limit::AtLeast(0.8)),
        ("maser io-uring", PEAK_TO_CHRONYD, Limit::AtLeast(1.1)),
        ("maser io-uring", OFFSET_TO_CHRONYD, Limit::AtMost(1.0)),
        ("maser socket, spinning", P50_TO_CHRONYD, Limit::AtMost(0.5)),
        ("maser io-uring, spinning", P50_TO_CHRONYD, Limit::AtMost(0.5)),
    ];
    limits
        .into_iter()
        .map(|(server, what, limit)| {
            let row = rows.iter().find(|row| row.server == server);
            let ratio = row.and_then(|row| match what {
                PEAK_TO_ECHO | PEAK_TO_XDP_ECHO => row.peak_to_echo,
                PEAK_TO_CHRONYD => row.peak_to_chronyd,
                OFFSET_TO_CHRONYD => row.offset_p50_to_chronyd,
                OFFSET_US => row.offset_p50_ns.map(|Figure { median, min, max }| Figure {
                    median: median / 1e3,
                    min: min / 1e3,
                    max: max / 1e3,
                }),
                _ => row.p50_to_chronyd,
            });
            Verdict { server, what, limit, ratio }
        })
        .collect()
}
