//! The last minutes, a point for each answer.

use std::collections::VecDeque;

/// So many answers are kept, and so many intervals are shown: five minutes at one a second.
pub(super) const POINTS: u16 = 300;
/// A part of the time holds no fewer answers than this, so that none is empty since one came a little late.
const POINTS_A_PART: u16 = 3;

/// What one answer told.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Point {
    /// When it came, by the asking side's own clock.
    pub(super) at_s: f64,
    /// Requests a second since the answer before; none after a gap.
    pub(super) requests: Option<f64>,
    /// The followed source's distance from the served clock, positive where the source is ahead.
    pub(super) offset_s: Option<f64>,
    /// How far off the served clock may be; none while nobody may follow it.
    pub(super) bound_s: Option<f64>,
    /// Whether answers are missing before it: none came, nobody asked, or the server was restarted.
    pub(super) after_gap: bool,
}

/// The last points, the oldest first.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct History {
    points: VecDeque<Point>,
}

impl History {
    /// Keeps a point, and lets go of the oldest.
    pub(super) fn push(&mut self, point: Point) {
        if self.points.len() == usize::from(POINTS) {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// From the oldest on, for tests.
    #[cfg(test)]
    pub(super) fn points(&self) -> impl DoubleEndedIterator<Item = &Point> {
        self.points.iter()
    }

    /// Runs of points without a gap between them.
    #[must_use]
    pub(super) fn runs(&self) -> Vec<Vec<Point>> {
        let mut runs: Vec<Vec<Point>> = Vec::new();
        for point in &self.points {
            match runs.last_mut() {
                Some(run) if !point.after_gap => run.push(*point),
                Some(_) | None => runs.push(vec![*point]),
            }
        }
        runs
    }

    /// The mean rate of requests in each of `parts` equal parts of the last `window_s`, the oldest first; none where there
    /// was none. It begins with the first part that has one.
    #[must_use]
    pub(super) fn requests(&self, now_s: f64, window_s: f64, parts: u16) -> Vec<Option<f64>> {
        let parts = parts.clamp(1, POINTS / POINTS_A_PART);
        // The same parts at every redraw, so that no bar changes but the last.
        let part_s = window_s / f64::from(parts);
        let part = |at_s: f64| (at_s / part_s).floor();
        let first = part(now_s) - f64::from(parts) + 1.0;
        let mean = |index: f64| {
            let rates = self.points.iter().filter(|point| part(point.at_s) == index);
            let rates: Vec<f64> = rates.filter_map(|point| point.requests).collect();
            let many = u32::try_from(rates.len()).ok().filter(|many| *many > 0)?;
            Some(rates.iter().sum::<f64>() / f64::from(many))
        };
        let means = (0..parts).map(|index| mean(first + f64::from(index)));
        means.skip_while(Option::is_none).collect()
    }

    /// The highest rate of requests.
    #[must_use]
    pub(super) fn peak(&self) -> Option<f64> {
        self.points.iter().filter_map(|point| point.requests).reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_s: f64, requests: f64) -> Point {
        Point { at_s, requests: Some(requests), offset_s: None, bound_s: None, after_gap: false }
    }

    #[test]
    fn the_oldest_are_let_go() {
        let mut history = History::default();
        for at in 0..1_000 {
            history.push(point(f64::from(at), 1.0));
        }
        assert_eq!(history.points().count(), usize::from(POINTS));
        assert_eq!(history.points().next_back().unwrap().at_s, 999.0);
    }

    #[test]
    fn a_part_is_the_mean_of_its_answers_and_a_gap_stays_one() {
        let mut history = History::default();
        for at in (100..110).chain(120..130) {
            history.push(point(f64::from(at), if at % 2 == 0 { 10.0 } else { 30.0 }));
        }
        assert_eq!(history.requests(129.0, 50.0, 5), [Some(20.0), None, Some(20.0)]);
        assert_eq!(history.peak(), Some(30.0));
        assert_eq!(History::default().requests(129.0, 50.0, 5), []);
    }

    #[test]
    fn a_gap_ends_a_run() {
        let mut history = History::default();
        history.push(point(1.0, 1.0));
        history.push(point(2.0, 1.0));
        history.push(Point { after_gap: true, ..point(9.0, 1.0) });
        assert_eq!(history.runs().iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    }
}
