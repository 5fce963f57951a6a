//! Reads one section of the file, key by key, and reports what is left over.
//!
//! serde's derive stops at the first error and loses positions, so the spanned tree is walked by hand: a
//! [`Section`] gives out its fields by [`Key`], and a [`Field`] reads its value as one type or another, telling the
//! [`Report`] where it can't.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use maser_core::time::Span;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key};
use super::report::Report;
use super::source::SourceType;
use super::span;
use super::value::{self, Word};

/// A table of the file with the keys that it may hold.
pub(super) struct Section<'t> {
    name: &'static str,
    path: String,
    offset: usize,
    table: &'t DeTable<'t>,
}

impl<'t> Section<'t> {
    /// The table at `path`; reports anything else that stands there.
    pub(super) fn open(
        name: &'static str,
        path: String,
        value: &'t Spanned<DeValue<'t>>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let offset = value.span().start;
        let DeValue::Table(table) = value.get_ref() else {
            report.add(offset, path, found(value.get_ref()), format!("a section, as {}", header_of(name)));
            return None;
        };
        Some(Self { name, path, offset, table })
    }

    /// Where the section begins.
    pub(super) const fn offset(&self) -> usize {
        self.offset
    }

    /// What the section is called in messages.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The value of a key, if it is there.
    pub(super) fn field(&self, key: &'static Key) -> Option<Field<'t>> {
        let value = self.table.get(key.name)?;
        Some(Field { expected: key.expected, path: self.path_of(key.name), value })
    }

    /// The value of a key that must be there.
    pub(super) fn required(&self, key: &'static Key, report: &mut Report<'_>) -> Option<Field<'t>> {
        let field = self.field(key);
        if field.is_none() {
            report.add_missing(self.offset, self.path_of(key.name), key.expected);
        }
        field
    }

    /// What `read` makes of the value of a key; none if it isn't there or is wrong.
    pub(super) fn read<T>(
        &self,
        key: &'static Key,
        report: &mut Report<'_>,
        read: impl FnOnce(&Field<'t>, &mut Report<'_>) -> Option<T>,
    ) -> Option<T> {
        self.field(key).and_then(|field| read(&field, report))
    }

    /// What a key is called in messages.
    pub(super) fn path_of(&self, name: &str) -> String {
        format!("{}.{}", self.path, name)
    }

    /// Says which keys the section doesn't take, being of this type of source if it is one.
    pub(super) fn report_unknown(&self, kind: Option<SourceType>, report: &mut Report<'_>) {
        let known: Vec<&str> =
            keys::of(self.name).filter(|key| key.is_of(kind)).map(|key| key.name).collect();
        for name in self.table.keys().filter(|name| !known.contains(&name.get_ref().as_ref())) {
            let word = name.get_ref().as_ref();
            let elsewhere = keys::of(self.name).any(|key| key.name == word);
            let problem = match kind.filter(|_| elsewhere) {
                Some(kind) => format!("not a key of type {}", kind.word()),
                None => unknown("key", nearest(word, &known)),
            };
            report.add(name.span().start, self.path_of(word), problem, one_of(&known));
        }
    }
}

/// How a section is written.
pub(super) fn header_of(name: &str) -> &str {
    keys::SECTIONS.iter().find(|(section, _)| *section == name).map_or(name, |&(_, header)| header)
}

/// A value with the key that it stands at.
#[derive(Clone)]
pub(super) struct Field<'t> {
    expected: &'static str,
    path: String,
    value: &'t Spanned<DeValue<'t>>,
}

impl<'t> Field<'t> {
    /// Where the value begins.
    pub(super) fn offset(&self) -> usize {
        self.value.span().start
    }

    /// The value, to tell its type.
    pub(super) fn value(&self) -> &'t DeValue<'t> {
        self.value.get_ref()
    }

    /// Says what is wrong with the value; what it takes instead is known to the field.
    pub(super) fn refuse(&self, problem: impl Into<String>, report: &mut Report<'_>) {
        report.add(self.offset(), self.path.clone(), problem, self.expected);
    }

    /// Says that the value has the wrong type.
    pub(super) fn refuse_type(&self, report: &mut Report<'_>) {
        self.refuse(found(self.value()), report);
    }

    /// A string.
    pub(super) fn text(&self, report: &mut Report<'_>) -> Option<&'t str> {
        let text = self.value().as_str();
        if text.is_none() {
            self.refuse_type(report);
        }
        text
    }

    /// Whether it is this string.
    pub(super) fn is_text(&self, text: &str) -> bool {
        self.value().as_str() == Some(text)
    }

    /// One of a few words.
    pub(super) fn word<W: Word>(&self, report: &mut Report<'_>) -> Option<W> {
        let text = self.text(report)?;
        let word = W::of_word(text);
        if word.is_none() {
            let words: Vec<&str> = W::words().collect();
            let problem = unknown(&format!("word {text:?}"), nearest(text, &words));
            self.refuse(problem, report);
        }
        word
    }

    /// True or false.
    pub(super) fn boolean(&self, report: &mut Report<'_>) -> Option<bool> {
        let DeValue::Boolean(value) = self.value() else {
            self.refuse_type(report);
            return None;
        };
        Some(*value)
    }

    /// A span with its unit, within a range.
    pub(super) fn span(&self, range: &RangeInclusive<Span>, report: &mut Report<'_>) -> Option<Span> {
        let text = self.text(report)?;
        span::span(text, range).map_err(|problem| self.refuse(format!("{text:?} {problem}"), report)).ok()
    }

    /// A size in octets within a range: with its unit, or a whole number.
    pub(super) fn size(&self, range: &RangeInclusive<u64>, report: &mut Report<'_>) -> Option<u64> {
        if let DeValue::Integer(_) = self.value() {
            return self.number(range.clone(), report);
        }
        let text = self.text(report)?;
        value::size(text, range).map_err(|problem| self.refuse(format!("{text:?} {problem}"), report)).ok()
    }

    /// A whole number within a range.
    pub(super) fn number<N>(&self, range: RangeInclusive<N>, report: &mut Report<'_>) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd,
    {
        let DeValue::Integer(integer) = self.value() else {
            self.refuse_type(report);
            return None;
        };
        // Only the magnitude can be wrong, except on a broken line, whose problems aren't told a second time.
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number =
            number.and_then(|number| N::try_from(number).ok()).filter(|number| range.contains(number));
        if number.is_none() {
            self.refuse(format!("{integer} is out of range"), report);
        }
        number
    }

    /// The elements of a list, each a field of its own and told what is expected of it.
    pub(super) fn elements(&self, expected: &'static str) -> Option<Vec<Self>> {
        let DeValue::Array(array) = self.value() else {
            return None;
        };
        let element = |(index, value)| Self { expected, path: format!("{}[{index}]", self.path), value };
        Some(array.iter().enumerate().map(element).collect())
    }

    /// A list of texts that each stand for something, at most so many and none twice; as many as are right, and the others are
    /// reported. `most` is that number, what these are, and what to do about more.
    pub(super) fn list<T: PartialEq, E: Display>(
        &self,
        expected: &'static str,
        (most, what, advice): (usize, &str, &str),
        parse: impl Fn(&str) -> Result<T, E>,
        report: &mut Report<'_>,
    ) -> Option<Vec<T>> {
        let Some(elements) = self.elements(expected) else {
            self.refuse_type(report);
            return None;
        };
        if elements.len() > most {
            let problem = format!("{} {what} are too many, {most} is the most{advice}", elements.len());
            self.refuse(problem, report);
            return None;
        }
        let mut list = Vec::new();
        for element in &elements {
            let Some(text) = element.text(report) else { continue };
            match parse(text) {
                Ok(value) if list.contains(&value) => {
                    element.refuse(format!("{text:?} is in the list twice"), report);
                }
                Ok(value) => list.push(value),
                Err(problem) => element.refuse(format!("{text:?}: {problem}"), report),
            }
        }
        Some(list)
    }

    /// Addresses to listen at, at most so many.
    pub(super) fn addresses(&self, most: usize, report: &mut Report<'_>) -> Option<Vec<SocketAddr>> {
        self.list(keys::LISTEN_ELEMENT, (most, "addresses", ""), value::listen, report)
    }
}

/// What stands where something else was expected.
pub(super) fn found(value: &DeValue<'_>) -> String {
    let kind = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("found {kind}")
}

/// What to say of a thing that isn't known but resembles one that is.
pub(super) fn unknown(thing: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("unknown {thing}, perhaps {nearest}"),
        None => format!("unknown {thing}"),
    }
}

/// Words as a choice.
pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [only] => (*only).to_owned(),
        _ => format!("one of {}", words.join(", ")),
    }
}

/// The known word that a mistyped one most resembles: at most a third of its letters are wrong.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    /// Longer words are no typing errors, and the comparison takes their length squared.
    const WORD_OCTETS_MAX: usize = 64;
    if word.len() > WORD_OCTETS_MAX {
        return None;
    }
    let (distance, nearest) = known.iter().map(|&known| (edits(word, known), known)).min()?;
    (distance * 3 <= nearest.len().max(3)).then_some(nearest)
}

/// How many letters must be put in, left out or changed to get from one word to the other (Levenshtein's distance).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        // `diagonal` and `left` are the cells of the table up-left of and left of the one in hand.
        let (mut diagonal, mut left) = (index, index + 1);
        let mut next = vec![left];
        for (&other, &up) in to.iter().zip(row.iter().skip(1)) {
            let changed = diagonal + usize::from(!letter.eq_ignore_ascii_case(&other));
            left = changed.min(left + 1).min(up + 1);
            diagonal = up;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// The one table of that name, if it is there.
pub(super) fn table<'t>(
    name: &'static str,
    document: &'t DeTable<'t>,
    report: &mut Report<'_>,
) -> Option<Section<'t>> {
    let section = Section::open(name, name.to_owned(), document.get(name)?, report)?;
    section.report_unknown(None, report);
    Some(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_word() {
        let known = ["listen", "port", "receive_buffer"];
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("Listen", &known), Some("listen"));
        assert_eq!(nearest("receive-bufer", &known), Some("receive_buffer"));
        assert_eq!(nearest("threads", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest(&"listen".repeat(1000), &known), None);
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("abc", ""), 3);
        assert_eq!(edits("same", "same"), 0);
    }
}
