//! The `[access]` section: who may ask.

use std::path::PathBuf;

use maser_core::limit::access::{Prefix, Standing};
use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use super::keys::Key;
use super::keys::access as keys;
use super::paths;
use super::report::Report;
use super::section::{Field, Section, table};
use super::value::Word;

/// The most prefixes that a list in the configuration itself may have.
pub const ACCESS_LISTED_MAX: usize = 4_096;

/// Who may ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// Of those that no list names.
    pub default: AccessDefault,
    /// Who is answered, within the limits.
    pub allow: AccessEntries,
    /// Who isn't.
    pub deny: AccessEntries,
    /// Who is answered whatever the limits.
    pub exempt: AccessEntries,
    /// Whether some of those denied are told so.
    pub deny_kiss: bool,
    /// Whether addresses that nobody can have are dropped.
    pub bogons: bool,
}

/// What becomes of those that no list names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AccessDefault {
    /// They are answered.
    #[default]
    Allow,
    /// They aren't.
    Deny,
}

/// One of the lists: what stands in the configuration and what in a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccessEntries {
    /// None twice, at most [`ACCESS_LISTED_MAX`].
    pub prefixes: Vec<Prefix>,
    /// More of them; read again when it changes.
    pub file: Option<PathBuf>,
}

/// Which of the lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AccessKind {
    /// [`Access::allow`].
    Allow,
    /// [`Access::deny`].
    Deny,
    /// [`Access::exempt`].
    Exempt,
}

impl AccessKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Exempt];

    /// The key of its file.
    #[must_use]
    pub const fn file_key(self) -> &'static str {
        match self {
            Self::Allow => keys::ALLOW_FILE.name,
            Self::Deny => keys::DENY_FILE.name,
            Self::Exempt => keys::EXEMPT_FILE.name,
        }
    }

    /// What those are that it names.
    #[must_use]
    pub const fn standing(self) -> Standing {
        match self {
            Self::Allow => Standing::Allowed,
            Self::Deny => Standing::Denied,
            Self::Exempt => Standing::Exempt,
        }
    }
}

impl Access {
    /// One of the lists.
    #[must_use]
    pub const fn of(&self, kind: AccessKind) -> &AccessEntries {
        match kind {
            AccessKind::Allow => &self.allow,
            AccessKind::Deny => &self.deny,
            AccessKind::Exempt => &self.exempt,
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            default: AccessDefault::Allow,
            allow: AccessEntries::default(),
            deny: AccessEntries::default(),
            exempt: AccessEntries::default(),
            deny_kiss: false,
            bogons: true,
        }
    }
}

impl Word for AccessDefault {
    const WORDS: &'static [(&'static str, Self)] = &[("allow", Self::Allow), ("deny", Self::Deny)];
}

impl AccessDefault {
    /// As it is written in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

pub(super) fn read(document: &DeTable<'_>, report: &mut Report<'_>) -> Access {
    let mut access = Access::default();
    let Some(section) = table("access", document, report) else {
        return access;
    };
    access.default = section.read(&keys::DEFAULT, report, Field::word).unwrap_or_default();
    access.allow = read_entries(&section, [&keys::ALLOW, &keys::ALLOW_FILE], report);
    access.deny = read_entries(&section, [&keys::DENY, &keys::DENY_FILE], report);
    access.exempt = read_entries(&section, [&keys::EXEMPT, &keys::EXEMPT_FILE], report);
    access.deny_kiss = section.read(&keys::DENY_KISS, report, Field::boolean).unwrap_or(access.deny_kiss);
    access.bogons = section.read(&keys::BOGONS, report, Field::boolean).unwrap_or(access.bogons);
    check_default(&section, access.default, report);
    access
}

fn read_entries(
    section: &Section<'_>,
    [list, file]: [&'static Key; 2],
    report: &mut Report<'_>,
) -> AccessEntries {
    AccessEntries {
        prefixes: section.read(list, report, read_prefixes).unwrap_or_default(),
        file: section.read(file, report, paths::file),
    }
}

fn read_prefixes(field: &Field<'_>, report: &mut Report<'_>) -> Option<Vec<Prefix>> {
    let most = (ACCESS_LISTED_MAX, "prefixes", " here: put them in a file");
    field.list(keys::ELEMENT, most, str::parse, report)
}

/// Whether anybody is left, told only of a section that names nobody: what a file has isn't known here.
fn check_default(section: &Section<'_>, default: AccessDefault, report: &mut Report<'_>) {
    let named = |key| match section.field(key) {
        Some(field) => field.elements(keys::ELEMENT).is_none_or(|elements| !elements.is_empty()),
        None => false,
    };
    let names = [&keys::ALLOW, &keys::ALLOW_FILE, &keys::EXEMPT, &keys::EXEMPT_FILE];
    if let (AccessDefault::Deny, Some(field)) = (default, section.field(&keys::DEFAULT))
        && !names.into_iter().any(named)
    {
        let expected = "allow = [\"192.0.2.0/24\"] or a file of such beside it, or \"allow\"";
        let problem = "nobody but this machine would be answered";
        report.add(field.offset(), section.path_of(keys::DEFAULT.name), problem, expected);
    }
}
