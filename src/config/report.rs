//! The problems of a configuration file: all of them, in the order of their positions.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The octet of the file at which it begins; the file's length for something missing from its end.
    pub offset: usize,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// The key, as `server.listen[0]`; empty where the file can't be read so far.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        Ok(())
    }
}

/// Where problems are collected while a file is read.
pub(super) struct Report<'t> {
    text: &'t str,
    problems: Vec<Problem>,
    /// Where the TOML itself is broken; what follows from that isn't worth telling.
    broken: Vec<usize>,
}

impl<'t> Report<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, problems: Vec::new(), broken: Vec::new() }
    }

    /// The octet after the last.
    pub(super) const fn end(&self) -> usize {
        self.text.len()
    }

    /// A problem of a value or a key.
    pub(super) fn add(
        &mut self,
        offset: usize,
        key: impl Into<String>,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) {
        if !self.follows_from_broken(offset) {
            let (key, problem, expected) = (key.into(), problem.into(), expected.into());
            self.push(offset, key, problem, expected);
        }
    }

    /// Something that isn't there; it may well be in the part of a broken file that can't be read.
    pub(super) fn add_missing(&mut self, offset: usize, key: impl Into<String>, expected: impl Into<String>) {
        if self.broken.is_empty() {
            self.add(offset, key, "missing", expected);
        }
    }

    /// A place where the file isn't TOML, at most one a line: the parser's second thoughts on a line are guesses.
    pub(super) fn add_broken(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(self.text.len()..self.text.len());
        let (line, _) = position(self.text, span.start);
        if self.problems.iter().any(|problem| problem.line == line) {
            return;
        }
        let (problem, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
        let at = self.text.get(span.clone()).unwrap_or("");
        let (key, problem, expected) = match problem {
            "duplicate key" => (at, "given a second time", "it once".to_owned()),
            "string values must be quoted" if at.is_empty() => {
                ("", "no value", "one after the equals sign".to_owned())
            }
            "string values must be quoted" => ("", problem, format!("{at:?}")),
            _ if expected == "nothing" => ("", problem, String::new()),
            _ => ("", problem, expected.to_owned()),
        };
        self.broken.push(span.start);
        self.push(span.start, key.to_owned(), problem.to_owned(), expected);
    }

    /// Everything that was found, in the order of the file; empty when it is in order.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.offset);
        self.problems
    }

    fn push(&mut self, offset: usize, key: String, problem: String, expected: String) {
        let (line, column) = position(self.text, offset);
        self.problems.push(Problem {
            offset: offset.min(self.text.len()),
            line,
            column,
            key,
            problem,
            expected,
        });
    }

    /// Whether a problem here is likely to be the echo of a broken line: it is on that line, or that line is a
    /// section's header and this is in what would have been its section.
    fn follows_from_broken(&self, offset: usize) -> bool {
        let line_start =
            |offset: usize| self.text.get(..offset).and_then(|head| head.rfind('\n')).map_or(0, |at| at + 1);
        let header_of = |offset: usize| {
            let start = line_start(offset);
            let tail = self.text.get(start..).unwrap_or("");
            if tail.starts_with('[') {
                return Some(start);
            }
            let head = self.text.get(..start)?;
            head.rfind("\n[").map(|at| at + 1).or(head.starts_with('[').then_some(0))
        };
        self.broken.iter().any(|&broken| {
            let start = line_start(broken);
            start == line_start(offset) || header_of(offset) == Some(start)
        })
    }
}

/// Line and column of an octet, both from 1; an offset inside a character or past the end counts as the nearest
/// before it.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let offset = text.floor_char_boundary(offset);
    let head = text.get(..offset).unwrap_or(text);
    let line_start = head.rfind('\n').map_or(0, |at| at + 1);
    let line = head.matches('\n').count() + 1;
    let column = head.get(line_start..).map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::position;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a\nµs = 1\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 2), (2, 1));
        assert_eq!(position(text, 3), (2, 1), "inside a character");
        assert_eq!(position(text, 5), (2, 3));
        assert_eq!(position(text, text.len()), (3, 1));
        assert_eq!(position(text, usize::MAX), (3, 1));
        assert_eq!(position("", 0), (1, 1));
    }
}
