//! A picture of a run for a terminal: what was answered of what was offered, in braille.
//!
//! A cell of a terminal is 2 × 4 points. What was offered is drawn as a thin line where the server fell short of it.

use super::scale::Scale;
use super::series;
use super::units::short;
use crate::summary::Document;
use std::fmt::Write;

/// Rows of cells of the picture itself.
const ROWS: usize = 16;
/// Columns for the labels of the vertical axis, with their tick.
const LABELS: usize = 9;
const WIDTH_MIN: u16 = 40;
const WIDTH_MAX: u16 = 160;
/// The first character of the braille block: no points.
const BRAILLE: u32 = 0x2800;
/// The bit of each point of a cell, by row and column (Unicode, chapter 21.1).
const BITS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// A field of points.
struct Canvas {
    columns: usize,
    cells: Vec<u32>,
}

impl Canvas {
    fn new(columns: usize) -> Self {
        Self { columns, cells: vec![0; columns * ROWS] }
    }

    /// Sets the point at these places from 0 to 1, the vertical one from below.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "places are from 0 to 1")]
    fn set(&mut self, x: f64, y: f64) {
        let place = |share: f64, points: usize| {
            let last = crate::outcome::approximate(points as u64 - 1);
            ((share.clamp(0.0, 1.0) * last).round() as usize).min(points - 1)
        };
        let (column, row) = (place(x, self.columns * 2), place(1.0 - y, ROWS * 4));
        self.cells[row / 4 * self.columns + column / 2] |= BITS[row % 4][column % 2];
    }

    /// A line; of `dotted` ones every third point is set.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of points")]
    fn line(&mut self, from: (f64, f64), to: (f64, f64), dotted: bool) {
        let points = crate::outcome::approximate((self.columns * 2 + ROWS * 4) as u64);
        let length = (to.0 - from.0).abs().max((to.1 - from.1).abs()) * points;
        let steps = (length.ceil() as u32).max(1);
        for step in (0..=steps).filter(|step| !dotted || step % 6 == 0) {
            let share = f64::from(step) / f64::from(steps);
            self.set(from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
        }
    }

    fn row(&self, row: usize) -> String {
        let cells = &self.cells[row * self.columns..(row + 1) * self.columns];
        cells.iter().filter_map(|bits| char::from_u32(BRAILLE + bits)).collect()
    }
}

/// The picture of a run, at most `width` columns wide.
#[must_use]
pub fn plot(document: &Document, width: u16) -> String {
    let by_time = series::by_time([document]);
    let points = series::points(document, by_time);
    let rates = points.iter().flat_map(|point| [point.step.rate_offered, point.step.rate_answered]);
    let places: Vec<f64> = points.iter().map(|point| point.x).collect();
    // Always linear: a logarithm would make half of the requests lost look like little.
    let (x, y) = (Scale::linear(places), Scale::linear(rates));
    let columns = usize::from(width.clamp(WIDTH_MIN, WIDTH_MAX)) - LABELS - 1;
    let mut canvas = Canvas::new(columns);
    let at = |place: f64, rate: f64| (x.place(place), y.place(rate));
    for pair in points.windows(2) {
        let [from, to] = pair else { continue };
        if from.fell_short() || to.fell_short() {
            canvas.line(at(from.x, from.step.rate_offered), at(to.x, to.step.rate_offered), true);
        }
        canvas.line(at(from.x, from.step.rate_answered), at(to.x, to.step.rate_answered), false);
    }
    if let [only] = points.as_slice() {
        let (across, up) = at(only.x, only.step.rate_answered);
        canvas.line((across, 0.0), (across, up), false);
    }
    let mut text = String::from("valid replies a second (dots: offered, where the server fell short)\n");
    let ticks = y.ticks();
    for row in 0..ROWS {
        let label = ticks.iter().find(|tick| row_of(y.place(**tick)) == row).map(|tick| short(*tick));
        let mark = if label.is_some() { '┤' } else { '│' };
        let _ =
            writeln!(text, "{:>width$}{mark}{}", label.unwrap_or_default(), canvas.row(row), width = LABELS);
    }
    let _ = writeln!(text, "{:>LABELS$}└{}", "", "─".repeat(columns));
    text.push_str(&horizontal_labels(&x, columns));
    let title = if by_time { "seconds from the start" } else { "offered, requests a second" };
    let _ = writeln!(text, "{:>LABELS$} {title:^columns$}", "");
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "places are from 0 to 1")]
fn row_of(place: f64) -> usize {
    let last = crate::outcome::approximate(ROWS as u64 - 1);
    ((1.0 - place).clamp(0.0, 1.0) * last).round() as usize
}

/// The ticks' labels under the axis, those left out that would touch the one before.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "places are from 0 to 1")]
fn horizontal_labels(x: &Scale, columns: usize) -> String {
    let mut line = String::new();
    for tick in x.ticks() {
        let label = short(tick);
        let middle = (x.place(tick) * crate::outcome::approximate(columns as u64)) as usize;
        let start = (LABELS + 1 + middle).saturating_sub(label.chars().count() / 2);
        let length = line.chars().count();
        if (length == 0 || start > length) && start + label.chars().count() <= LABELS + 1 + columns {
            let _ = write!(line, "{:>width$}{label}", "", width = start - length);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_picture_fits_and_shows_where_the_server_fell_short() {
        let document = sample::past_knee(100_000);
        for width in [0, 40, 80, 200] {
            let text = plot(&document, width);
            let widest = text.lines().map(|line| line.chars().count()).max().expect("lines");
            assert!(
                widest <= usize::from(width.clamp(WIDTH_MIN, WIDTH_MAX)).max(70),
                "{widest} of {width}\n{text}"
            );
            assert!(text.lines().count() <= 24, "{text}");
        }
        let mut perfect = document.clone();
        for step in &mut perfect.steps {
            step.rate_answered = step.rate_offered;
            step.lost = 0;
        }
        assert_ne!(plot(&document, 80), plot(&perfect, 80), "losses are seen");
    }

    #[test]
    fn a_single_rate_and_no_rate_are_drawn_too() {
        let mut document = sample::past_knee(100_000);
        document.steps.truncate(1);
        assert!(plot(&document, 80).chars().any(|letter| ('\u{2801}'..='\u{28FF}').contains(&letter)));
        document.steps.clear();
        document.result = crate::summary::Summary::default();
        assert!(plot(&document, 80).lines().count() > ROWS);
    }
}
