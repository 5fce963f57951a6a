//! From a path to a [`Config`]: what can go wrong before there is any text, and how all of it is told.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::report::{Problem, position};
use super::{Config, parse};

/// A configuration longer than this is another file given by mistake.
pub const CONFIG_OCTETS_MAX: usize = 1 << 20;

/// Why a configuration can't be used. Its text names the file in every line and says what to do.
#[derive(Debug)]
pub struct LoadError {
    path: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Missing,
    Directory,
    NotPermitted,
    TooLong,
    NotUtf8 { line: usize, column: usize, octet: u8 },
    Unreadable(io::Error),
    Invalid(Vec<Problem>),
}

impl LoadError {
    /// What is wrong with the file's text; empty when there was none to read.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match &self.why {
            Why::Invalid(problems) => problems,
            Why::Missing
            | Why::Directory
            | Why::NotPermitted
            | Why::TooLong
            | Why::NotUtf8 { .. }
            | Why::Unreadable(_) => &[],
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.why {
            Why::Missing => write!(
                f,
                "{path}: no such file; give the path of a configuration, or none to serve this machine's clock on loopback"
            ),
            Why::Directory => write!(f, "{path}: a directory; give the file in it"),
            Why::NotPermitted => write!(
                f,
                "{path}: this user may not read it; make it and the directories above it readable for the user that runs maser"
            ),
            Why::TooLong => write!(
                f,
                "{path}: longer than {CONFIG_OCTETS_MAX} octets; this can't be a configuration, check the path"
            ),
            Why::NotUtf8 { line, column, octet } => write!(
                f,
                "{path}:{line}:{column}: octet 0x{octet:02X} isn't UTF-8; expected TOML saved as UTF-8 (iconv converts)"
            ),
            Why::Unreadable(error) => write!(f, "{path}: can't be read: {error}"),
            Why::Invalid(problems) => {
                for (index, problem) in problems.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    write!(f, "{separator}{path}:{problem}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    check(path, &text(path)?)
}

/// Reads a configuration file.
pub fn text(path: &Path) -> Result<String, LoadError> {
    let fail = |why| LoadError { path: path.to_owned(), why };
    let octets = read(path).map_err(|error| {
        let kind = error.kind();
        fail(if kind == io::ErrorKind::NotFound {
            Why::Missing
        } else if kind == io::ErrorKind::IsADirectory {
            Why::Directory
        } else if kind == io::ErrorKind::PermissionDenied {
            Why::NotPermitted
        } else {
            Why::Unreadable(error)
        })
    })?;
    of_octets(octets).map_err(fail)
}

/// Checks the text of a configuration file, read before.
pub fn check(path: &Path, text: &str) -> Result<Config, LoadError> {
    parse(text).map_err(|problems| LoadError { path: path.to_owned(), why: Why::Invalid(problems) })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    // One more than allowed, so that a file that is too long shows.
    File::open(path)?.take(CONFIG_OCTETS_MAX as u64 + 1).read_to_end(&mut octets)?;
    Ok(octets)
}

fn of_octets(octets: Vec<u8>) -> Result<String, Why> {
    if octets.len() > CONFIG_OCTETS_MAX {
        return Err(Why::TooLong);
    }
    String::from_utf8(octets).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let octets = error.as_bytes();
        let (before, rest) = octets.split_at(valid);
        let (line, column) = position(&String::from_utf8_lossy(before), valid);
        Why::NotUtf8 { line, column, octet: rest.first().copied().unwrap_or_default() }
    })
}
