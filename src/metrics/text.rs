//! Families as text: OpenMetrics 1.0, or Prometheus' older format (0.0.4) for those who don't know it.
//!
//! OpenMetrics' text is `prometheus-client`'s. The older format has the same lines of samples, but calls an info a gauge,
//! describes a counter under its whole name, and knows neither units nor an end.

use super::family::{Families, Family, Kind, Value};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;

/// How the text is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Older,
}

impl Format {
    /// What `Content-Type` says of it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Older => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The text of all families that have figures.
///
/// # Errors
/// None that a string as the destination can bring about.
pub fn text(families: Families, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Older => older(&text),
    })
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            encode(family, &mut encoder)?;
        }
        Ok(())
    }
}

fn encode(family: &Family, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let (stem, unit) = unit_of(family);
    let kind = match family.kind {
        Kind::Info => MetricType::Info,
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    let mut metric = encoder.encode_descriptor(stem, family.help, unit.as_ref(), kind)?;
    for sample in &family.samples {
        match &sample.value {
            Value::Known => metric.encode_info(&sample.labels)?,
            value @ (Value::Count(_) | Value::Level(_) | Value::Buckets(..)) if sample.labels.is_empty() => {
                encode_value(&mut metric, value)?;
            }
            value @ (Value::Count(_) | Value::Level(_) | Value::Buckets(..)) => {
                encode_value(&mut metric.encode_family(&sample.labels)?, value)?;
            }
        }
    }
    Ok(())
}

fn encode_value(metric: &mut MetricEncoder<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Known => Ok(()),
        Value::Count(count) => metric.encode_counter::<NoLabelSet, _, u64>(count, None),
        Value::Level(level) => metric.encode_gauge(level),
        Value::Buckets(buckets, sum) => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
        }
    }
}

/// The unit that a name ends in, if it ends in one, and what stands before it.
fn unit_of(family: &Family) -> (&'static str, Option<Unit>) {
    let other = |name: &str| Unit::Other(name.to_owned());
    let units = [("_seconds", Unit::Seconds), ("_ratio", other("ratio")), ("_hertz", other("hertz"))];
    let found = units.into_iter().find_map(|(ending, unit)| Some((family.name.strip_suffix(ending)?, unit)));
    found.map_or((family.name, None), |(stem, unit)| (stem, Some(unit)))
}

fn older(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + openmetrics.len() / 64);
    let mut help = "";
    for line in openmetrics.lines() {
        if line.starts_with("# HELP ") {
            // It is told with the type, under the name that the type asks for.
            help = line;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (ending, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            let help = help.splitn(4, ' ').nth(3).unwrap_or_default();
            text.push_str(&format!("# HELP {name}{ending} {help}\n# TYPE {name}{ending} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Families {
        let mut families = Families::default();
        families.info("maser_build", "The version").add([("version", "1\"\\\n")], Value::Known);
        families.gauge("maser_offset_seconds", "Offset").one(-1.5e-9);
        families.gauge("maser_empty", "Nothing").one(None);
        families.gauge("maser_empty", "No number").one(f64::NAN);
        families.counter("maser_answers", "Answers").count([("worker", "0"), ("kind", "answered")], 7);
        let buckets = vec![(0.5, 1), (1.0, 0), (f64::INFINITY, 2)];
        families.histogram("maser_stay_seconds", "Stay").add([("worker", "0")], Value::Buckets(buckets, 4.5));
        families
    }

    #[test]
    fn openmetrics_looks_like_this() {
        let expected = "\
# HELP maser_build The version
# TYPE maser_build info
maser_build_info{version=\"1\\\"\\\\\\n\"} 1
# HELP maser_offset_seconds Offset
# TYPE maser_offset_seconds gauge
# UNIT maser_offset_seconds seconds
maser_offset_seconds -1.5e-9
# HELP maser_answers Answers
# TYPE maser_answers counter
maser_answers_total{worker=\"0\",kind=\"answered\"} 7
# HELP maser_stay_seconds Stay
# TYPE maser_stay_seconds histogram
# UNIT maser_stay_seconds seconds
maser_stay_seconds_sum{worker=\"0\"} 4.5
maser_stay_seconds_count{worker=\"0\"} 3
maser_stay_seconds_bucket{le=\"0.5\",worker=\"0\"} 1
maser_stay_seconds_bucket{le=\"1.0\",worker=\"0\"} 1
maser_stay_seconds_bucket{le=\"+Inf\",worker=\"0\"} 3
# EOF
";
        let text = text(families(), Format::OpenMetrics).unwrap();
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn the_older_format_looks_like_this() {
        let expected = "\
# HELP maser_build_info The version
# TYPE maser_build_info gauge
maser_build_info{version=\"1\\\"\\\\\\n\"} 1
# HELP maser_offset_seconds Offset
# TYPE maser_offset_seconds gauge
maser_offset_seconds -1.5e-9
# HELP maser_answers_total Answers
# TYPE maser_answers_total counter
maser_answers_total{worker=\"0\",kind=\"answered\"} 7
# HELP maser_stay_seconds Stay
# TYPE maser_stay_seconds histogram
maser_stay_seconds_sum{worker=\"0\"} 4.5
maser_stay_seconds_count{worker=\"0\"} 3
maser_stay_seconds_bucket{le=\"0.5\",worker=\"0\"} 1
maser_stay_seconds_bucket{le=\"1.0\",worker=\"0\"} 1
maser_stay_seconds_bucket{le=\"+Inf\",worker=\"0\"} 3
";
        let text = text(families(), Format::Older).unwrap();
        assert_eq!(text, expected, "\n{text}");
    }
}
