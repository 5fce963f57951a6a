//! Paths of the file: each is absolute, so that it means the same wherever the server was started.

use std::path::PathBuf;

use super::report::Report;
use super::section::Field;
use super::value::SOCKET_PATH_OCTETS_MAX;

/// A file or a device.
pub(super) fn file(field: &Field<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    let text = field.text(report)?;
    accepted(field, text, problem(text).or(text.ends_with('/').then_some("a directory")), report)
}

/// A directory.
pub(super) fn directory(field: &Field<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    let text = field.text(report)?;
    accepted(field, text, problem(text), report)
}

/// A Unix socket.
pub(super) fn socket(field: &Field<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    let text = field.text(report)?;
    if text.starts_with('/') && text.len() > SOCKET_PATH_OCTETS_MAX {
        return accepted(field, text, Some("too long for a Unix socket"), report);
    }
    file(field, report)
}

fn problem(text: &str) -> Option<&'static str> {
    if !text.starts_with('/') {
        Some("not an absolute path")
    } else if text.contains('\0') {
        Some("contains a zero octet")
    } else {
        None
    }
}

fn accepted(
    field: &Field<'_>,
    text: &str,
    problem: Option<&str>,
    report: &mut Report<'_>,
) -> Option<PathBuf> {
    match problem {
        Some(problem) => {
            field.refuse(format!("{text:?}: {problem}"), report);
            None
        }
        None => Some(PathBuf::from(text)),
    }
}
