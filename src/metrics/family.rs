//! Figures with their names: families of samples, as Prometheus' data model has them.

/// What a family's figures are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Words, in labels; the value is always 1.
    Info,
    /// They start at 0 with the server and only grow.
    Counter,
    /// They go up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// As the formats have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One figure.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Of an info.
    Known,
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Level(f64),
    /// Of a histogram: upper ends and what fell below each and not below the one before, the last without end.
    Buckets(Vec<(f64, u64)>, f64),
}

/// A figure and its labels.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The figure.
    pub value: Value,
}

/// Figures of one name.
#[derive(Clone, PartialEq, Debug)]
pub struct Family {
    /// The name, without what the formats append to it.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// What its figures are.
    pub kind: Kind,
    /// The figures; none where there is nothing to tell.
    pub samples: Vec<Sample>,
}

impl Family {
    /// The name as queries have it; of a histogram the stem of its three.
    #[must_use]
    pub fn full_name(&self) -> String {
        let ending = match self.kind {
            Kind::Info => "_info",
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{ending}", self.name)
    }

    /// The one figure, if it is known.
    pub(super) fn one(&mut self, level: impl Into<Option<f64>>) {
        self.with([], level);
    }

    /// A figure of several, if it is known. What is no number isn't.
    pub(super) fn with<const N: usize>(
        &mut self,
        labels: [(&'static str, &str); N],
        level: impl Into<Option<f64>>,
    ) {
        if let Some(level) = level.into().filter(|level| level.is_finite()) {
            self.add(labels, Value::Level(level));
        }
    }

    /// One of several counts.
    pub(super) fn count<const N: usize>(&mut self, labels: [(&'static str, &str); N], count: u64) {
        self.add(labels, Value::Count(count));
    }

    /// Any figure.
    pub(super) fn add<const N: usize>(&mut self, labels: [(&'static str, &str); N], value: Value) {
        let labels = labels.map(|(name, value)| (name, value.to_owned())).into();
        self.samples.push(Sample { labels, value });
    }
}

/// All of them, in the order of the documentation.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Families(pub Vec<Family>);

impl Families {
    pub(super) fn info(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.begin(name, help, Kind::Info)
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.begin(name, help, Kind::Counter)
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.begin(name, help, Kind::Gauge)
    }

    pub(super) fn histogram(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.begin(name, help, Kind::Histogram)
    }

    fn begin(&mut self, name: &'static str, help: &'static str, kind: Kind) -> &mut Family {
        self.0.push_mut(Family { name, help, kind, samples: Vec::new() })
    }
}

/// Whether something is so, as a gauge has it.
pub(super) const fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

/// A count as a gauge has it.
#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 nobody counts")]
pub(super) const fn level(count: u64) -> f64 {
    count as f64
}
