//! The panels of figures: traffic, sources, workers, clients.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Sparkline};

use super::figures::{percent, rate};
use super::grid::{Column, Grid, REST, short};
use super::paint::{Meaning, Paint};
use super::view::View;
use crate::status::{
    ByFate, ClientStatus, Residence, SourceStatus, core_name, interval, mark, nanoseconds, seconds,
    signed_seconds, whole,
};

/// A panel about a server of which nothing is known.
const NOTHING: &str = "-";

/// A panel with these lines, as many as there is room for.
fn panel(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'_>>) {
    let block =
        Block::bordered().title(short(&format!(" {title} "), usize::from(area.width.saturating_sub(2))));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// The width and the height inside of a panel.
fn room(area: Rect) -> (usize, usize) {
    (usize::from(area.width.saturating_sub(2)), usize::from(area.height.saturating_sub(2)))
}

fn heading() -> Style {
    Style::new().add_modifier(Modifier::UNDERLINED)
}

fn plain(text: impl Into<String>) -> (String, Style) {
    (text.into(), Style::new())
}

/// What came and what became of it, the reasons as far as there is room, and a bar for each part of the last minutes.
pub(super) fn traffic(view: &View, paint: Paint, frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = room(area);
    let rates = view.rates.as_ref();
    let row_of = |name: &str, value: Option<f64>, figure: usize, style: Style| {
        let told = value.map_or_else(|| NOTHING.to_owned(), |value| rate(value, figure));
        Grid::new(&[("", REST, false), ("", figure, true)], width).row(&[plain(name), (told, style)])
    };
    let row = |name: &str, value: Option<f64>, style: Style| row_of(name, value, FIGURE_WIDTH, style);
    let doubtful =
        |value: Option<f64>| if value > Some(0.0) { paint.of(Meaning::Doubtful) } else { Style::new() };
    let (limited, dropped) = (rates.map(|rates| rates.limited), rates.map(|rates| rates.dropped));
    let mut lines = vec![
        row("Requests", rates.map(|rates| rates.requests), Style::new()),
        row("Replies", rates.map(|rates| rates.replies), Style::new()),
        row("Limited", limited, doubtful(limited)),
        row("Dropped", dropped, doubtful(dropped)),
    ];
    // Below them stay the peak and the bars, which share with the reasons what a larger terminal has.
    let left = height.saturating_sub(lines.len() + 2);
    let bars_height = 1 + left / 2;
    let left = left - left / 2;
    let reasons = rates.map(|rates| rates.reasons.as_slice()).unwrap_or_default();
    // What a counter's name leaves.
    let narrow = width.saturating_sub(COUNTER_WIDTH).clamp(RATE_WIDTH_MIN, FIGURE_WIDTH);
    let reasons =
        reasons.iter().map(|(name, value)| row_of(&format!(" {name}"), Some(*value), narrow, Style::new()));
    lines.extend(reasons.take(left));
    lines.resize(height.saturating_sub(1 + bars_height), Line::default());
    lines.push(row("Peak", view.history.peak(), Style::new()));
    panel(frame, area, "Traffic", lines);
    bars(view, frame, area, u16::try_from(bars_height).unwrap_or(1));
}

fn bars(view: &View, frame: &mut Frame<'_>, area: Rect, height: u16) {
    let inner = Block::bordered().inner(area);
    let bars = view.history.requests(view.now_s, view.window_s(), inner.width);
    let width = u16::try_from(bars.len()).unwrap_or(inner.width).min(inner.width);
    let height = height.min(inner.height);
    let place = Rect { x: inner.right() - width, y: inner.bottom() - height, width, height };
    // In hundredths, so that a client a minute shows.
    let bars = bars.into_iter().map(|bar| bar.map(|rate| whole(100.0 * rate)));
    frame.render_widget(Sparkline::default().data(bars.collect::<Vec<_>>()).absent_value_symbol("·"), place);
}

/// A source a line, marked as chronyc and ntpq do it.
pub(super) fn sources(view: &View, paint: Paint, frame: &mut Frame<'_>, area: Rect) {
    let sources = view.answer.as_ref().map(|answer| answer.status.sources.as_slice()).unwrap_or_default();
    let (width, height) = room(area);
    let longest = sources.iter().map(|source| source.name.chars().count()).max().unwrap_or_default();
    // "M " before the name.
    let name = (longest + 2).clamp(8, 14 + width.saturating_sub(78) / 3);
    let columns: [Column; 8] = [
        ("  Source", name, false),
        ("Type", 7, false),
        ("St", 2, true),
        ("Reach", 5, true),
        ("Last", 6, true),
        ("Offset", 8, true),
        ("Error", 7, true),
        ("Verdict", REST, false),
    ];
    let grid = Grid::new(&columns, width);
    let mut lines = vec![grid.titles(heading())];
    lines.extend(sources.iter().map(|source| source_line(source, paint, &grid)));
    panel(frame, area, &title("Sources", sources.len(), height), lines);
}

fn source_line(source: &SourceStatus, paint: Paint, grid: &Grid) -> Line<'static> {
    let SourceStatus { name, kind, verdict, stratum, reach, last_s, offset_s, error_s, .. } = source;
    let mark = mark(verdict);
    let or_dash = |figure: Option<String>| plain(figure.unwrap_or_else(|| NOTHING.to_owned()));
    grid.row(&[
        (format!("{mark} {name}"), paint.mark(mark)),
        plain(kind),
        or_dash(stratum.map(|stratum| stratum.to_string())),
        or_dash(reach.map(|reach| format!("{reach:o}"))),
        or_dash(last_s.map(interval)),
        or_dash(offset_s.map(signed_seconds)),
        or_dash(error_s.map(seconds)),
        plain(verdict),
    ])
}

/// With how many there are, if not all are shown below a line of titles.
fn title(name: &str, many: usize, height: usize) -> String {
    let shown = height.saturating_sub(1);
    if many > shown { format!("{name}, {shown} of {many}") } else { name.to_owned() }
}

/// All workers together, then one a line; how long packets stayed is of the interval.
pub(super) fn workers(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let workers = view.answer.as_ref().map(|answer| answer.status.workers.as_slice()).unwrap_or_default();
    let (width, height) = room(area);
    // Where there is room, by which port; else it is in `maser status`.
    let port = (width >= 50).then_some(("Port", 8, false));
    let mut columns: Vec<Column> = vec![("Core", REST, false)];
    columns.extend(port);
    columns.extend([("Rate", 9, true), ("Share", 5, true), ("p50", 7, true), ("p99", 7, true)]);
    let grid = Grid::new(&columns, width);
    let row = |core: String, by: &str, figures: Option<(f64, f64, &Residence)>| {
        let mut cells = vec![plain(core)];
        cells.extend(port.map(|_| plain(by)));
        cells.extend(match figures {
            Some((packets, share, residence)) => {
                let [p50, p99] = stay(residence).map(plain);
                [plain(rate(packets, 9)), plain(percent(share)), p50, p99]
            }
            None => [NOTHING; 4].map(plain),
        });
        grid.row(&cells)
    };
    let rates = view.rates.as_ref();
    let mut lines = vec![grid.titles(heading())];
    if workers.len() > 1 {
        let all = rates.map(|rates| (rates.requests_of_workers(), 1.0, &rates.residence));
        lines.push(row("all".to_owned(), "", all));
    }
    lines.extend(workers.iter().enumerate().map(|(index, worker)| {
        let figures = rates.and_then(|rates| rates.workers.get(index));
        let figures = figures.map(|figures| (figures.rate, figures.share, &figures.residence));
        row(core_name(worker.core), &worker.port, figures)
    }));
    let room = if workers.len() > 1 { height.saturating_sub(1) } else { height };
    panel(frame, area, &title("Workers", workers.len(), room), lines);
}

fn stay(residence: &Residence) -> [String; 2] {
    [residence.p50_ns, residence.p99_ns]
        .map(|nanos| if residence.count == 0 { NOTHING.to_owned() } else { nanoseconds(nanos) })
}

/// The heaviest addresses, and below them the heaviest prefixes.
pub(super) fn clients(view: &View, paint: Paint, frame: &mut Frame<'_>, area: Rect) {
    let clients = match view.answer.as_ref().map(|answer| &answer.clients) {
        Some(Ok(clients)) => clients,
        Some(Err(why)) => return panel(frame, area, "Clients", vec![Line::raw(short(why, room(area).0))]),
        None => return panel(frame, area, "Clients", Vec::new()),
    };
    let (width, height) = room(area);
    // Where an IPv6 prefix leaves room for it: the part of all requests, and what wasn't served.
    let share = (width >= PREFIX_WIDTH + 18).then_some(("Share", 5, true));
    let refused = (width >= PREFIX_WIDTH + 29).then_some(("Refused", 9, true));
    let mut columns: Vec<Column> = vec![("Address, prefix", REST, false), ("Rate", 9, true)];
    columns.extend(refused);
    columns.extend(share);
    let grid = Grid::new(&columns, width);
    let row = |client: &ClientStatus| {
        let ByFate { limited, kissed, denied, .. } = client.rate;
        let mut cells = vec![plain(&client.client), plain(rate(client.rate.sum(), 9))];
        cells.extend(refused.map(|_| {
            let refused = limited + kissed + denied;
            let style = if refused > 0.0 { paint.of(Meaning::Doubtful) } else { Style::new() };
            (rate(refused, 9), style)
        }));
        cells.extend(share.map(|_| plain(percent(client.share))));
        grid.row(&cells)
    };
    let (addresses, prefixes) =
        shared(clients.addresses.len(), clients.prefixes.len(), height.saturating_sub(1));
    let mut lines = vec![grid.titles(heading())];
    lines.extend(clients.addresses.iter().take(addresses).map(row));
    lines.extend(clients.prefixes.iter().take(prefixes).map(row));
    if lines.len() == 1 {
        lines.push(Line::raw("nobody has asked yet"));
    }
    panel(frame, area, "Clients", lines);
}

/// How many lines each of the two gets: half, and what the other leaves.
fn shared(one: usize, other: usize, lines: usize) -> (usize, usize) {
    let second = other.min((lines / 2).max(lines.saturating_sub(one)));
    (one.min(lines - second), second)
}

/// The panels' places in the rows between the head and the foot.
pub(super) fn places(area: Rect, sources: usize) -> [Rect; 5] {
    // What the smallest terminal has, and what is more: to the sources as many as there are, half of the rest to each row.
    let extra = area.height.saturating_sub(SOURCES_MIN + TOP_MIN + BOTTOM_MIN);
    let wanted = u16::try_from(sources).unwrap_or(u16::MAX).saturating_add(3).saturating_sub(SOURCES_MIN);
    let sources = wanted.min(extra.div_ceil(2));
    let top = TOP_MIN + (extra - sources) / 2;
    let rows = [Constraint::Length(top), Constraint::Length(SOURCES_MIN + sources), Constraint::Fill(1)];
    let [top, sources, bottom] = Layout::vertical(rows).areas(area);
    let traffic = (area.width * 2 / 5).clamp(TRAFFIC_WIDTH_MIN, TRAFFIC_WIDTH_MAX);
    let [traffic, plot] = Layout::horizontal([Constraint::Length(traffic), Constraint::Fill(1)]).areas(top);
    let workers = area.width.div_ceil(2).max(WORKERS_WIDTH_MIN);
    let [workers, clients] =
        Layout::horizontal([Constraint::Length(workers), Constraint::Fill(1)]).areas(bottom);
    [traffic, plot, sources, workers, clients]
}

const TOP_MIN: u16 = 9;
const SOURCES_MIN: u16 = 6;
const BOTTOM_MIN: u16 = 6;
/// The longest counter's name, a blank before and two behind it, and any rate.
const TRAFFIC_WIDTH_MIN: u16 = 35;
const TRAFFIC_WIDTH_MAX: u16 = 44;
/// ` not-unicast-destination`, and the gap behind it.
const COUNTER_WIDTH: usize = 26;
/// As many characters as any rate can be told in.
const RATE_WIDTH_MIN: usize = 7;
/// As long as `99,999,999,999/s`.
const FIGURE_WIDTH: usize = 16;
/// As many as its columns take.
const WORKERS_WIDTH_MIN: u16 = 42;
/// As long as `ffff:ffff:ffff:ffff::/64`.
const PREFIX_WIDTH: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_fill_their_rows_and_none_overlaps_another() {
        for (width, height) in [(80, 22), (81, 23), (100, 30), (120, 38), (200, 58), (500, 200)] {
            for sources in [0, 1, 4, 40, 70_000] {
                let area = Rect { x: 0, y: 1, width, height };
                let places = places(area, sources);
                for (index, place) in places.iter().enumerate() {
                    assert_eq!(place.intersection(area), *place, "{place:?} in {area:?}");
                    let others = places.iter().skip(index + 1);
                    assert!(others.clone().all(|other| !place.intersects(*other)), "{places:?}");
                }
                let cells: u32 = places.iter().map(|place| place.area()).sum();
                assert_eq!(cells, area.area(), "{places:?}");
            }
        }
    }

    #[test]
    fn lines_are_shared_by_addresses_and_prefixes() {
        assert_eq!(shared(10, 10, 4), (2, 2));
        assert_eq!(shared(10, 10, 5), (3, 2));
        assert_eq!(shared(1, 10, 4), (1, 3));
        assert_eq!(shared(10, 0, 4), (4, 0));
        assert_eq!(shared(0, 0, 0), (0, 0));
    }
}
