//! Which points a picture shows, for the SVG and for the terminal alike.

use crate::summary::{Document, Summary, share};

/// From this share on, what went wrong is marked where it happened.
const MARKED_FROM: f64 = 0.01;

/// A step at its place on the horizontal axis: its offered rate, or the second at which it ended.
#[derive(Clone, Copy)]
pub(super) struct Point<'a> {
    pub(super) x: f64,
    pub(super) step: &'a Summary,
}

impl Point<'_> {
    /// Whether the server fell short: requests lost, or replies that are no answers.
    pub(super) fn fell_short(&self) -> bool {
        let step = self.step;
        step.loss() > MARKED_FROM || share(step.invalid + step.kod, step.sent) > MARKED_FROM
    }

    /// Whether the generator fell short, so that the figures say less of the server.
    pub(super) fn generator_short(&self) -> bool {
        self.step.unsent > 0 || self.step.unseen > 0
    }
}

/// Whether the horizontal axis is time: where all are soaks.
pub(super) fn by_time<'a>(documents: impl IntoIterator<Item = &'a Document>) -> bool {
    let mut documents = documents.into_iter().peekable();
    documents.peek().is_some() && documents.all(is_soak)
}

fn is_soak(document: &Document) -> bool {
    document.setting.mode == "soak"
}

/// The steps in the order of the axis; a soak among rates is one point.
pub(super) fn points(document: &Document, by_time: bool) -> Vec<Point<'_>> {
    let steps = &document.steps;
    if by_time {
        let ends = steps.iter().scan(0.0, |end, step| {
            *end += step.duration_s;
            Some(*end)
        });
        return ends.zip(steps).map(|(x, step)| Point { x, step }).collect();
    }
    let whole = std::slice::from_ref(&document.result);
    let shown = if is_soak(document) || steps.is_empty() { whole } else { steps.as_slice() };
    let mut points: Vec<_> = shown.iter().map(|step| Point { x: step.rate_offered, step }).collect();
    // A knee search halves intervals: its steps aren't in the order of their rates.
    points.sort_by(|one, other| one.x.total_cmp(&other.x));
    points
}
