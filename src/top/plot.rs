//! The clock's offset over the last minutes, and between which bounds the served clock is.

use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use super::grid::short;
use super::paint::{Meaning, Paint};
use super::view::{View, has_source};
use crate::status::{Status, interval, seconds, signed_seconds, uptime};

/// Between the largest figure and the edge.
const MARGIN: f64 = 1.2;
/// An offset of exactly nothing has a scale, too.
const SCALE_MIN_S: f64 = 1e-9;

/// A moment and a figure.
type Dot = (f64, f64);

/// Draws the panel.
pub(super) fn draw(view: &View, paint: Paint, frame: &mut Frame<'_>, area: Rect) {
    let Some(answer) = &view.answer else {
        frame.render_widget(Block::bordered().title(" Offset "), area);
        return;
    };
    let title = if view.is_scaled_to_offset {
        " Offset of the source, scaled to it "
    } else {
        " Offset of the source and • error bound "
    };
    let figures = short(&figures(&answer.status), usize::from(area.width.saturating_sub(4)));
    let block = Block::bordered().title(title).title_bottom(format!(" {figures} "));
    let inner = block.inner(area);
    let dots = |figure: &dyn Fn(&super::history::Point) -> Option<f64>| -> Vec<Vec<Dot>> {
        let run = |run: &Vec<_>| {
            run.iter()
                .filter_map(|point: &super::history::Point| Some((point.at_s, figure(point)?)))
                .collect()
        };
        view.history.runs().iter().map(run).collect()
    };
    let offsets = dots(&|point| point.offset_s);
    let above: Vec<Dot> = dots(&|point| point.bound_s).concat();
    let below: Vec<Dot> = above.iter().map(|(at, bound)| (*at, -bound)).collect();
    let Some(scale_s) = scale(view, &offsets, &above) else {
        frame.render_widget(block, area);
        frame.render_widget(Paragraph::new("no offset is known yet").alignment(Alignment::Center), inner);
        return;
    };
    let mut datasets: Vec<Dataset<'_>> = [&above, &below]
        .map(|bound| Dataset::default().marker(Marker::Dot).style(paint.of(Meaning::Aside)).data(bound))
        .into();
    datasets.extend(offsets.iter().map(|run| {
        let line = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line);
        line.style(paint.state(answer.status.state)).data(run)
    }));
    let window_s = view.window_s();
    let chart = Chart::new(datasets)
        .block(block)
        .legend_position(None)
        .x_axis(
            Axis::default()
                .bounds([view.now_s - window_s, view.now_s])
                .labels([format!("{} ago", ago(window_s)), "now".to_owned()])
                .labels_alignment(Alignment::Right),
        )
        .y_axis(
            Axis::default()
                .bounds([-scale_s, scale_s])
                .labels([signed_seconds(-scale_s), "0".to_owned(), signed_seconds(scale_s)])
                .labels_alignment(Alignment::Right),
        );
    frame.render_widget(chart, area);
}

/// What lies at the edge; none if there is nothing to draw. A bound that has become smaller may lie beyond it.
fn scale(view: &View, offsets: &[Vec<Dot>], bounds: &[Dot]) -> Option<f64> {
    let largest = offsets.iter().flatten().map(|(_, offset)| offset.abs()).reduce(f64::max);
    let bound = bounds.last().map(|(_, bound)| *bound);
    let scale_s = match (largest, bound) {
        (Some(largest), Some(_)) if view.is_scaled_to_offset => largest,
        (Some(largest), Some(bound)) => largest.max(bound),
        (one, other) => one.or(other)?,
    };
    Some(MARGIN * scale_s.max(SCALE_MIN_S))
}

/// The same in figures.
fn figures(status: &Status) -> String {
    let tracking = &status.tracking;
    let offset = tracking.offset_s.filter(|_| has_source(status.state));
    let offset = offset.map_or_else(|| "no source".to_owned(), signed_seconds);
    if !status.state.is_followable() {
        return format!("{offset}, no bound");
    }
    let bound = format!("at most {} off", seconds(tracking.root_distance_s));
    match tracking.holdover_left_s {
        // That there is no source is said by the state.
        Some(left) => format!("{bound}, {} left", uptime(left)),
        None => format!("{offset}, {bound}"),
    }
}

fn ago(window_s: f64) -> String {
    let minutes = window_s / 60.0;
    let is_whole = (minutes - minutes.round()).abs() < 1e-6;
    if is_whole && (2.0..120.0).contains(&minutes) { format!("{minutes:.0} min") } else { interval(window_s) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago_is_told_without_rounding_minutes() {
        let told = [60.0, 150.0, 300.0, 3_000.0, 18_000.0].map(ago);
        assert_eq!(told, ["60 s", "150 s", "5 min", "50 min", "5 h"]);
    }
}
