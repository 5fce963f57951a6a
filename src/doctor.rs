//! `maser doctor`: looks at the machine, and says what keeps it from serving time well.
//!
//! Each group of checks has a file, in which gathering facts stands apart from judging them: the judgement is a
//! function of facts, tested without a machine. Nothing here changes anything, and what can't be looked at is said to
//! be so.

mod clock;
mod daemons;
mod finding;
mod firewall;
mod interfaces;
mod leaps;
mod machine;
mod port;
mod processes;
mod rights;
mod ruleset;
mod sources;
mod state;
mod tuning;

pub use finding::{Check, Finding, Report, Verdict};
pub use machine::Machine;

use crate::config::{Config, Workers};
use crate::status::Surroundings;
use processes::Processes;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// NTP's own port.
const NTP_PORT: u16 = 123;

/// What is asked of the doctor.
#[derive(Clone, Debug)]
pub struct Question {
    /// The configuration that the machine is to serve by, and its file; none for what any server wants.
    pub config: Option<(PathBuf, Config)>,
    /// The interfaces to look at; empty for those of the configuration, else those of the default routes.
    pub interfaces: Vec<String>,
    /// Where the state is when nobody says.
    pub surroundings: Surroundings,
}

impl Question {
    fn config(&self) -> Option<&Config> {
        self.config.as_ref().map(|(_, config)| config)
    }

    /// Where requests are answered; without a configuration at NTP's port everywhere.
    fn listen(&self) -> Vec<SocketAddr> {
        self.config().map_or_else(
            || vec![(Ipv4Addr::UNSPECIFIED, NTP_PORT).into(), (Ipv6Addr::UNSPECIFIED, NTP_PORT).into()],
            |config| config.listeners().collect(),
        )
    }

    fn ports(&self) -> BTreeSet<u16> {
        self.listen().iter().map(SocketAddr::port).collect()
    }

    /// Whether requests are to be taken from interfaces' drivers.
    fn wants_af_xdp(&self) -> bool {
        self.config().is_some_and(|config| !config.server.interfaces.is_empty())
    }

    fn interfaces(&self, machine: &Machine) -> Vec<String> {
        if !self.interfaces.is_empty() {
            return self.interfaces.clone();
        }
        match self.config() {
            Some(config) if !config.server.interfaces.is_empty() => config.server.interfaces.clone(),
            Some(_) | None => machine.default_interfaces(),
        }
    }

    /// The cores that the configuration names.
    fn named_cores(&self) -> Option<&[usize]> {
        match self.config().map(|config| &config.server.workers) {
            Some(Workers::Cores(cores)) => Some(cores),
            Some(Workers::Auto | Workers::Count(_)) | None => None,
        }
    }

    /// What the scripts of `tuning/` are told of it.
    fn script_arguments(&self) -> String {
        let config =
            self.config.as_ref().map(|(path, _)| format!(" --config {}", quoted(&path.to_string_lossy())));
        let interfaces =
            (!self.interfaces.is_empty()).then(|| format!(" --interface {}", self.interfaces.join(",")));
        [config, interfaces].into_iter().flatten().collect()
    }
}

/// Each once, in the order of their first coming.
fn unique<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Looks at everything.
#[must_use]
pub fn examine(question: &Question, machine: &Machine) -> Report {
    let processes = Processes::of(machine);
    let mut findings = port::findings(question, machine, &processes);
    let filter = firewall::gather(machine);
    findings.extend(firewall::findings(question, &filter));
    findings.extend(rights::findings(question, machine));
    findings.extend(sources::findings(question, machine, &processes));
    findings.extend(clock::findings(question, machine));
    findings.push(daemons::finding(question, &processes));
    findings.push(leaps::finding(question));
    findings.extend(state::findings(question));
    findings.extend(interfaces::findings(question, machine, &processes, filter.guarded()));
    findings.extend(tuning::findings(question, machine, &processes, &filter));
    Report::new(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_a_shell_takes_it() {
        assert_eq!(quoted("/etc/maser.toml"), "/etc/maser.toml");
        assert_eq!(quoted("/etc/my maser.toml"), "'/etc/my maser.toml'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
