//! A table in a panel: columns of fixed widths but one, which takes what is left; nothing ever leaves its column.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::status::printable;

/// Between two columns.
const GAP: &str = "  ";
/// The width of the column that takes what is left.
pub(super) const REST: usize = usize::MAX;

/// A column: its title, its width, and whether it holds figures, which stand to the right.
pub(super) type Column = (&'static str, usize, bool);

/// A table of so many characters' width.
pub(super) struct Grid {
    columns: Vec<Column>,
}

impl Grid {
    pub(super) fn new(columns: &[Column], width: usize) -> Self {
        let fixed: usize = columns.iter().map(|(_, width, _)| *width).filter(|width| *width != REST).sum();
        let gaps = GAP.len() * columns.len().saturating_sub(1);
        let rest = width.saturating_sub(fixed + gaps);
        let resolve =
            |&(title, width, right): &Column| (title, if width == REST { rest } else { width }, right);
        Self { columns: columns.iter().map(resolve).collect() }
    }

    /// The titles.
    pub(super) fn titles(&self, style: Style) -> Line<'static> {
        let titles: Vec<(String, Style)> =
            self.columns.iter().map(|(title, _, _)| ((*title).to_owned(), style)).collect();
        self.row(&titles)
    }

    /// A line of cells.
    pub(super) fn row(&self, cells: &[(String, Style)]) -> Line<'static> {
        let mut spans = Vec::new();
        for ((text, style), (_, width, right)) in cells.iter().zip(&self.columns) {
            if !spans.is_empty() {
                spans.push(Span::raw(GAP));
            }
            spans.push(Span::styled(cell(text, *width, *right), *style));
        }
        Line::from(spans)
    }
}

/// The text in exactly `width` columns of the terminal, with an ellipsis where something is left out.
fn cell(text: &str, width: usize, right: bool) -> String {
    let text = short(text, width);
    let blank = " ".repeat(width.saturating_sub(columns_of(&text)));
    if right { blank + &text } else { text + &blank }
}

/// The text in at most `width` columns of the terminal, without what a terminal would obey.
pub(super) fn short(text: &str, width: usize) -> String {
    let text = printable(text);
    if columns_of(&text) <= width {
        return text;
    }
    let mut kept = String::new();
    for character in text.chars() {
        let room = width.saturating_sub(columns_of(&kept) + 1);
        if columns_of(character.encode_utf8(&mut [0; 4])) > room {
            break;
        }
        kept.push(character);
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// How many columns of the terminal it takes: some characters take two, and some none.
fn columns_of(text: &str) -> usize {
    Span::raw(text).width()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [("Source", 8, false), ("Rate", 7, true), ("Verdict", REST, false)];

    fn text(cells: [&str; 3]) -> String {
        let cells = cells.map(|cell| (cell.to_owned(), Style::new()));
        Grid::new(&COLUMNS, 30).row(&cells).spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn every_row_is_as_wide_as_the_panel_whatever_is_in_it() {
        assert_eq!(text(["pps0", "1/s", "followed"]), "pps0          1/s  followed   ");
        assert_eq!(text(["2001:db8::1", "1/s", "falseticker: wrong"]), "2001:db…      1/s  falseticke…");
        assert_eq!(text(["東京の時計", "1/s", ""]), "東京の…       1/s             ");
        assert_eq!(text(["a\u{1b}[2J", "\n", "\u{7}"]), "a?[2J           ?  ?          ");
        for cells in [["", "", ""], ["東京の時計東京の", "2,345,678/s", "東京の時計東京の"]] {
            assert_eq!(columns_of(&text(cells)), 30, "{}", text(cells));
        }
    }

    #[test]
    fn a_panel_without_room_has_nothing_in_it() {
        assert_eq!((short("abc", 0).as_str(), short("abc", 1).as_str()), ("", "…"));
        assert_eq!(cell("abc", 0, true), "");
    }
}
