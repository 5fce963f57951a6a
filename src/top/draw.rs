//! A frame, from what is known and nothing else: the same view is drawn in the same way.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Padding, Paragraph, Wrap};

use super::grid::short;
use super::paint::{Meaning, Paint};
use super::view::View;
use super::{panels, plot};
use crate::status::{Status, interval, reference_name, uptime};

/// The least that everything has room in.
pub const COLUMNS_MIN: u16 = 80;
/// The same in rows.
pub const ROWS_MIN: u16 = 24;

const HELP: &str = "\
Requests are what came; replies what was answered, kisses of death among \
them; limited what was over a limit and dropped what else got no answer, \
in a worker or in the driver. Below: why, the most first. A bar is a part \
of the time that the plot shows; · where nobody answered or asked.

The plot: the followed source's distance from the served clock, above 0 \
where the source is ahead, and between which bounds the served clock is. \
A gap: no answers, a pause, or a server that was started again.

Sources: * followed, + averaged, - right and not used, x wrong, ? not to \
be used. Reach: the last eight polls in octal. Error: its root distance.

Workers: p50 and p99 are how long requests stayed in the last interval.
Clients: requests a second lately; first addresses, then prefixes.

  q, Ctrl-C leave     p pause, nothing is asked    Ctrl-Z suspend
  s scale the plot to the offset, or to the bound  ? this, and away";

/// Draws everything.
pub(super) fn draw(view: &View, paint: Paint, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        return too_small(frame, area);
    }
    let rows = [Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(rows).areas(area);
    frame.render_widget(head_line(view, paint, usize::from(head.width)), head);
    let sources = view.answer.as_ref().map_or(0, |answer| answer.status.sources.len());
    let [traffic, offset, sources, workers, clients] = panels::places(body, sources);
    panels::traffic(view, paint, frame, traffic);
    plot::draw(view, paint, frame, offset);
    panels::sources(view, paint, frame, sources);
    panels::workers(view, frame, workers);
    panels::clients(view, paint, frame, clients);
    foot_line(view, frame, foot);
    if view.is_explained {
        help(frame, body);
    }
}

fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let text = format!(
        "maser top needs a terminal of {COLUMNS_MIN} x {ROWS_MIN}; this one is {} x {}. Make it larger, or press q to leave.",
        area.width, area.height
    );
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
}

/// How the clock is; that nobody answers comes before that.
fn head_line(view: &View, paint: Paint, width: usize) -> Line<'static> {
    if let Some(lost) = &view.lost {
        let silent = interval(view.now_s - lost.since_s);
        let text = format!("NO ANSWER for {silent}, asking again: {}", lost.reason);
        return Line::styled(short(&text, width), paint.of(Meaning::Bad).add_modifier(Modifier::REVERSED));
    }
    let Some(answer) = &view.answer else { return Line::raw("asking the server") };
    let (state, rest) = clock_words(&answer.status);
    let style = paint.state(answer.status.state).add_modifier(Modifier::BOLD);
    let rest = short(&rest, width.saturating_sub(state.len()));
    Line::from(vec![Span::styled(state, style), Span::raw(rest)])
}

/// The state, and what else replies say.
fn clock_words(status: &Status) -> (String, String) {
    let since = status.tracking.since_s.map(|since| format!(" for {}", uptime(since)));
    let rest = format!(
        "{}  stratum {}  reference {}  leap {}",
        since.unwrap_or_default(),
        status.stratum,
        reference_name(status),
        status.leap.word()
    );
    (status.state.word().to_owned(), rest)
}

/// The keys, and whose screen this is.
fn foot_line(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let keys = if view.is_paused {
        vec![
            Span::styled("PAUSED", Style::new().add_modifier(Modifier::REVERSED)),
            Span::raw("  q quit  p go on  s scale  ? help"),
        ]
    } else {
        vec![Span::raw("q quit  p pause  s scale  ? help")]
    };
    frame.render_widget(Line::from(keys), area);
    if let Some(answer) = &view.answer {
        let Status { version, uptime_s, .. } = &answer.status;
        let text = short(&format!("maser {version}, up {}", uptime(*uptime_s)), usize::from(area.width) / 2);
        frame.render_widget(Line::raw(text).alignment(Alignment::Right), area);
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let [column] =
        Layout::horizontal([Constraint::Length(COLUMNS_MIN)]).flex(ratatui::layout::Flex::Center).areas(area);
    let [place] = Layout::vertical([Constraint::Length(ROWS_MIN - 2)])
        .flex(ratatui::layout::Flex::Center)
        .areas(column);
    frame.render_widget(Clear, place);
    let block = Block::bordered().title(" What this shows ").padding(Padding::horizontal(1));
    let text = Paragraph::new(HELP).wrap(Wrap { trim: false }).block(block);
    frame.render_widget(text, place);
}

#[cfg(test)]
#[path = "golden_tests.rs"]
mod golden_tests;
