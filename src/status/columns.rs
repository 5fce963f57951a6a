//! Aligned columns of text, and counters in them.

use std::fmt::Write;

use super::Counters;
use super::units::{self, count, float, printable};

/// Aligned columns: the first to the left, the others to the right unless said otherwise.
pub(super) struct Columns {
    rows: Vec<Vec<String>>,
    left: usize,
    words_last: bool,
}

impl Columns {
    /// The first `left` columns hold words, the others figures.
    pub(super) const fn new(left: usize) -> Self {
        Self { rows: Vec::new(), left, words_last: false }
    }

    /// The same, and the last column holds words again.
    pub(super) const fn with_words_last(left: usize) -> Self {
        Self { rows: Vec::new(), left, words_last: true }
    }

    pub(super) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell.into())).collect());
    }

    /// As text, each line ended.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell: &String| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                // Writing to a string doesn't fail.
                let _ = if column < self.left || (self.words_last && column + 1 == columns) {
                    write!(line, "{gap}{cell:width$}")
                } else {
                    write!(line, "{gap}{cell:>width$}")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Counters under a title, with their sum and their shares of `packets`, where they are packets.
pub(super) fn section(
    columns: &mut Columns,
    title: &str,
    counters: &Counters,
    packets: Option<u64>,
    all: bool,
) {
    let share = |part: u64| match packets {
        Some(packets) if packets > 0 => units::share(float(part) / float(packets)),
        Some(_) | None => String::new(),
    };
    let total = super::sum(counters);
    // Of unlike events there is no sum.
    let sum = if packets.is_some() { count(total) } else { String::new() };
    columns.row([title.to_owned(), sum, share(total)]);
    for (name, &value) in counters.iter().filter(|&(_, &value)| all || value > 0) {
        columns.row([format!("  {name}"), count(value), share(value)]);
    }
}
