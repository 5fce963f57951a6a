//! As much of a terminal as the program's output needs: a grid of characters, a cursor, the alternate screen.

/// What a person would see, and what the terminal was set to.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    columns: usize,
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// Whether the alternate screen is shown.
    pub(crate) is_alternate: bool,
    /// Whether the cursor is.
    pub(crate) has_cursor: bool,
    /// Whether a colour was ever set.
    pub(crate) was_coloured: bool,
    /// What hasn't come whole yet.
    rest: Vec<u8>,
}

const ESCAPE: char = '\u{1b}';

impl Screen {
    pub(crate) fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            cells: vec![vec![' '; columns]; rows],
            row: 0,
            column: 0,
            is_alternate: false,
            has_cursor: true,
            was_coloured: false,
            rest: Vec::new(),
        }
    }

    /// It becomes larger or smaller; what stood there is gone.
    pub(crate) fn resize(&mut self, columns: usize, rows: usize) {
        self.columns = columns;
        self.cells = vec![vec![' '; columns]; rows];
    }

    /// The lines, without the blanks at their ends.
    pub(crate) fn text(&self) -> String {
        let line = |cells: &Vec<char>| cells.iter().collect::<String>().trim_end().to_owned() + "\n";
        self.cells.iter().map(line).collect()
    }

    /// Takes what the program wrote.
    pub(crate) fn feed(&mut self, octets: &[u8]) {
        self.rest.extend_from_slice(octets);
        let whole = match std::str::from_utf8(&self.rest) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8(self.rest[..whole].to_vec()).unwrap();
        let taken = self.take(&text);
        self.rest.drain(..taken);
    }

    /// Gives how many octets of it were whole.
    fn take(&mut self, text: &str) -> usize {
        let mut at = 0;
        while let Some(first) = text[at..].chars().next() {
            if first == ESCAPE {
                let Some(length) = self.escape(&text[at..]) else { return at };
                at += length;
            } else {
                self.put(first);
                at += first.len_utf8();
            }
        }
        at
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' => self.next_row(),
            _ => {
                if self.column >= self.columns {
                    self.column = 0;
                    self.next_row();
                }
                if let Some(cell) = self.cells.get_mut(self.row).and_then(|row| row.get_mut(self.column)) {
                    *cell = character;
                }
                self.column += 1;
            }
        }
    }

    fn next_row(&mut self) {
        if self.row + 1 < self.cells.len() {
            self.row += 1;
        } else if !self.cells.is_empty() {
            self.cells.remove(0);
            self.cells.push(vec![' '; self.columns]);
        }
    }

    /// A control sequence (ECMA-48 §5.4); gives its length, none if it isn't whole.
    fn escape(&mut self, text: &str) -> Option<usize> {
        let body = text.strip_prefix("\u{1b}[")?;
        let end = body.find(|c: char| ('@'..='~').contains(&c))?;
        let (arguments, last) = (&body[..end], body[end..].chars().next()?);
        let number = |index: usize| -> usize {
            arguments.split(';').nth(index).and_then(|number| number.parse().ok()).unwrap_or(1)
        };
        match (last, arguments) {
            ('H', _) => (self.row, self.column) = (number(0) - 1, number(1) - 1),
            ('J', _) => self.cells.iter_mut().for_each(|row| row.fill(' ')),
            ('h' | 'l', "?1049") => self.is_alternate = last == 'h',
            ('h' | 'l', "?25") => self.has_cursor = last == 'h',
            ('m', _) => {
                // 38;5;n and its like are colours; 39 and 49 take them away.
                self.was_coloured |= arguments.split(';').any(|number| number == "38" || number == "48");
            }
            _ => panic!("the program wrote {text:?}, which this terminal doesn't know"),
        }
        Some("\u{1b}[".len() + end + 1)
    }
}
