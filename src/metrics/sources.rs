//! The sources of time, by their names in the configuration. Where a source is (an address that a name was looked up as) is
//! no label: it may change while the server runs.

use super::family::{Families, Value, flag};
use crate::status::{SourceStanding, SourceStatus, Status};

pub(super) fn gather(status: &Status, out: &mut Families) {
    let sources = &status.sources;
    let info = out.info("maser_source", "The sources and their types");
    for source in sources {
        info.add([("source", &source.name), ("type", &source.kind)], Value::Known);
    }
    let standings =
        out.gauge("maser_source_standing", "What becomes of a source: 1 for that, 0 for the others");
    for source in sources {
        for standing in SourceStanding::ALL {
            let labels = [("source", source.name.as_str()), ("standing", standing.word())];
            standings.with(labels, flag(source.standing == standing));
        }
    }
    let mut gauge = |name, help, figure: fn(&SourceStatus) -> Option<f64>| {
        let family = out.gauge(name, help);
        for source in sources {
            family.with([("source", &source.name)], figure(source));
        }
    };
    gauge("maser_source_selected", "Whether the clock is made from it: followed or averaged", |source| {
        let selected = matches!(source.standing, SourceStanding::Followed | SourceStanding::Averaged);
        Some(flag(selected))
    });
    gauge(
        "maser_source_offset_seconds",
        "Its last sample's distance from the served clock, positive where the source is ahead",
        |source| source.offset_s,
    );
    gauge("maser_source_jitter_seconds", "The standard deviation of its samples", |source| source.jitter_s);
    gauge("maser_source_error_seconds", "Its root distance: how far it can be off", |source| source.error_s);
    gauge("maser_source_last_sample_age_seconds", "Since its last sample", |source| source.last_s);
    gauge("maser_source_poll_interval_seconds", "Between two samples", |source| source.poll_s);
    gauge("maser_source_stratum", "Its own stratum: 0 for a reference clock", |source| {
        source.stratum.map(f64::from)
    });
    gauge("maser_source_reach_ratio", "The share of its last eight polls that told something", |source| {
        source.reach.map(|reach| f64::from(reach.count_ones()) / 8.0)
    });
    gauge("maser_source_problem", "Whether its driver can't do something", |source| {
        Some(flag(source.problem.is_some()))
    });
    let steps = out.counter("maser_source_steps", "How often the source was stepped");
    for source in sources {
        steps.count([("source", &source.name)], source.steps);
    }
    let events = out.counter("maser_source_events", "What the source's driver counted");
    for source in sources {
        for (event, count) in &source.counters {
            events.count([("source", &source.name), ("event", event)], *count);
        }
    }
}
