//! Who may ask: the document's part, and how its files are shown.

use serde::{Deserialize, Serialize};

use super::Status;
use super::columns::Columns;
use super::units::count;

/// Who may ask.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AccessStatus {
    /// The prefixes that are told apart, from the configuration, its files and what is built in.
    pub prefixes: usize,
    /// The files that the configuration names.
    pub files: Vec<AccessFileStatus>,
}

/// A file of prefixes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AccessFileStatus {
    /// Its key, as `deny_file`.
    pub key: String,
    /// Its path.
    pub path: String,
    /// How many prefixes of it are in use.
    pub prefixes: usize,
    /// Why they aren't those that it holds now; none if they are.
    pub problem: Option<String>,
}

/// A file a line, and what is wrong with it.
pub(super) fn access_lines(status: &Status) -> String {
    let mut files = Columns::with_words_last(2);
    files.row(["Access", "File", "Prefixes", "Problem"]);
    for file in &status.access.files {
        let prefixes = u64::try_from(file.prefixes).unwrap_or(u64::MAX);
        let problem = file.problem.clone().unwrap_or_default();
        files.row([file.key.clone(), file.path.clone(), count(prefixes), problem]);
    }
    files.text()
}

#[cfg(test)]
mod tests {
    use super::super::tests::plausible;
    use super::*;

    #[test]
    fn files_are_shown_with_what_is_wrong() {
        let mut status = plausible();
        assert!(!super::super::table(&status, true).contains("Access"));
        let file = |key: &str, prefixes, problem: Option<&str>| AccessFileStatus {
            key: key.to_owned(),
            path: format!("/etc/maser/{key}"),
            prefixes,
            problem: problem.map(str::to_owned),
        };
        let broken = "/etc/maser/deny_file:3:1: \"x\": not an address";
        status.access.files = vec![file("allow_file", 7, None), file("deny_file", 104_321, Some(broken))];
        let expected = "
Access      File                   Prefixes  Problem
allow_file  /etc/maser/allow_file         7
deny_file   /etc/maser/deny_file    104,321  /etc/maser/deny_file:3:1: \"x\": not an address
";
        let table = super::super::table(&status, false);
        assert!(table.contains(expected), "{table}");
    }
}
