//! A file of prefixes: one a line, what follows a # is a comment.

use crate::config::{AccessKind, Problem};
use maser_core::limit::access::Prefix;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A file that is longer is another one, given by mistake: as many prefixes as there may be, with a remark each.
pub const LIST_FILE_OCTETS_MAX: u64 = 16 << 20;
/// So many problems are told one by one.
const TOLD_MAX: usize = 20;

/// Why a file's prefixes can't be had. Its text names the file in every line and says what to do.
#[derive(Debug)]
pub struct ListError {
    path: PathBuf,
    key: &'static str,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Unreadable(io::Error),
    TooLong,
    Wrong(Vec<Problem>),
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, key) = (self.path.display(), self.key);
        match &self.why {
            Why::Unreadable(error) => write!(
                f,
                "{path}: can't be read: {error}; access.{key} names it: put it there, readable for the user that runs maser"
            ),
            Why::TooLong => write!(
                f,
                "{path}: longer than {LIST_FILE_OCTETS_MAX} octets; this can't be a list of prefixes, check access.{key}"
            ),
            Why::Wrong(problems) => {
                for (index, problem) in problems.iter().take(TOLD_MAX).enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    write!(f, "{separator}{path}:{problem}")?;
                }
                match problems.len().saturating_sub(TOLD_MAX) {
                    0 => Ok(()),
                    more => write!(f, "\n{path}: {more} more such lines"),
                }
            }
        }
    }
}

impl std::error::Error for ListError {}

impl ListError {
    /// In one line, for the log and the status.
    pub(super) fn in_a_line(&self) -> String {
        let all = self.to_string();
        let first = all.lines().next().unwrap_or_default();
        match &self.why {
            Why::Wrong(problems) if problems.len() > 1 => {
                format!("{first} (and {} more)", problems.len() - 1)
            }
            Why::Wrong(_) | Why::Unreadable(_) | Why::TooLong => first.to_owned(),
        }
    }
}

/// The prefixes of a file that was opened, or not.
pub(super) fn read(
    kind: AccessKind,
    path: &Path,
    opened: io::Result<File>,
) -> Result<Vec<Prefix>, ListError> {
    let fail = |why| ListError { path: path.to_owned(), key: kind.file_key(), why };
    let mut octets = Vec::new();
    // One more than allowed, so that a file that is too long shows.
    let read = opened.and_then(|file| file.take(LIST_FILE_OCTETS_MAX + 1).read_to_end(&mut octets));
    let length = read.map_err(|error| fail(Why::Unreadable(error)))?;
    if u64::try_from(length).is_ok_and(|length| length > LIST_FILE_OCTETS_MAX) {
        return Err(fail(Why::TooLong));
    }
    // Comments may hold any octets; elsewhere none stands for another.
    parse(&String::from_utf8_lossy(&octets)).map_err(|problems| fail(Why::Wrong(problems)))
}

fn parse(text: &str) -> Result<Vec<Prefix>, Vec<Problem>> {
    let (mut prefixes, mut problems, mut offset) = (Vec::new(), Vec::new(), 0);
    for (index, line) in text.split('\n').enumerate() {
        let said = line.split('#').next().unwrap_or_default();
        let word = said.trim();
        match word.parse() {
            _ if word.is_empty() => {}
            Ok(prefix) => prefixes.push(prefix),
            Err(problem) => {
                let indent = said.len() - said.trim_start().len();
                problems.push(Problem {
                    offset: offset + indent,
                    line: index + 1,
                    column: said.get(..indent).map_or(0, |blank| blank.chars().count()) + 1,
                    key: String::new(),
                    problem: format!("{}: {problem}", shown(word)),
                    expected: "a prefix or an address, as 192.0.2.0/24 or 2001:db8::1".to_owned(),
                });
            }
        }
        offset += line.len() + 1;
    }
    if problems.is_empty() { Ok(prefixes) } else { Err(problems) }
}

/// A line of another file may be long.
fn shown(word: &str) -> String {
    const SHOWN_MAX: usize = 60;
    match word.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", word.get(..end).unwrap_or_default()),
        None => format!("{word:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hands::opener::Opener;

    fn told(text: &[u8]) -> Result<Vec<String>, String> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("maser-list-{number}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let read = read(AccessKind::Deny, &path, File::open(&path));
        std::fs::remove_file(&path).unwrap();
        let name = path.display().to_string();
        read.map(|prefixes| prefixes.iter().map(Prefix::to_string).collect())
            .map_err(|error| error.to_string().replace(&name, "deny"))
    }

    #[test]
    fn a_prefix_a_line_is_read() {
        assert_eq!(told(b""), Ok(vec![]));
        let text = b"# Z\xfcrich's\n\n  192.0.2.0/24\t# a remark\r\n2001:db8::/32\r\n192.0.2.7#\n::1";
        assert_eq!(told(text).unwrap(), ["192.0.2.0/24", "2001:db8::/32", "192.0.2.7", "::1"]);
        assert_eq!(told(b"10.0.0.0/8\n10.0.0.0/8\n").unwrap().len(), 2, "twice is no harm");
    }

    #[test]
    fn every_mistake_is_told_at_its_place() {
        let text = "10.0.0.0/8\n10.0.0.1/8 # bits\n\n \t example.net\n2001:db8::/129\n::ffff:1.2.3.4\n1.2.3.4 5.6.7.8\n";
        let expected = "\
deny:2:1: \"10.0.0.1/8\": has bits beyond its length; 10.0.0.0/8 is what it lies in; expected a prefix or an address, as 192.0.2.0/24 or 2001:db8::1
deny:4:4: \"example.net\": not an address; expected a prefix or an address, as 192.0.2.0/24 or 2001:db8::1
deny:5:1: \"2001:db8::/129\": the length must be a number of bits from 0 to 128; expected a prefix or an address, as 192.0.2.0/24 or 2001:db8::1
deny:6:1: \"::ffff:1.2.3.4\": IPv4 must be written as IPv4; expected a prefix or an address, as 192.0.2.0/24 or 2001:db8::1
deny:7:1: \"1.2.3.4 5.6.7.8\": not an address; expected a prefix or an address, as 192.0.2.0/24 or 2001:db8::1";
        assert_eq!(told(text.as_bytes()).unwrap_err(), expected);
        let many = told("x\n".repeat(30).as_bytes()).unwrap_err();
        assert!(many.lines().count() == 21 && many.ends_with("deny: 10 more such lines"), "{many}");
        let long = told("µ".repeat(10_000).as_bytes()).unwrap_err();
        assert!(long.contains("µ\"…: not an address") && long.len() < 300, "{long}");
    }

    #[test]
    fn a_file_that_cant_be_one_is_told() {
        let missing = read(AccessKind::Allow, Path::new("/nowhere"), File::open("/nowhere")).unwrap_err();
        let expected = "/nowhere: can't be read: No such file or directory (os error 2); access.allow_file names it: put it \
                        there, readable for the user that runs maser";
        assert_eq!(missing.to_string(), expected);
        let directory = Opener::file(Path::new("/")).map(|(file, _)| file);
        let directory = read(AccessKind::Allow, Path::new("/"), directory).unwrap_err();
        assert!(directory.to_string().contains("Is a directory"), "{directory}");
        let long = told(&vec![b'\n'; (16 << 20) + 1]).unwrap_err();
        assert_eq!(
            long,
            "deny: longer than 16777216 octets; this can't be a list of prefixes, check access.deny_file"
        );
    }
}
