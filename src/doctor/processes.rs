//! Who runs here: names, what each has open, what each may do, and which unit it belongs to.

use super::machine::Machine;
use std::fs;

/// `CAP_SYS_TIME` of `linux/capability.h`.
const CAP_SYS_TIME: u64 = 1 << 25;

/// A process.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Process {
    pub(super) id: u32,
    /// The kernel's name of it, at most 15 octets.
    pub(super) name: String,
    /// Where its descriptors lead: sockets and devices.
    pub(super) open: Vec<String>,
    /// Whether it may set the clock.
    pub(super) may_set_clock: bool,
    /// The systemd unit that it belongs to.
    pub(super) unit: Option<String>,
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Processes {
    pub(super) all: Vec<Process>,
    /// Whether some wouldn't show what they have open.
    pub(super) hidden: bool,
}

impl Process {
    /// The command that ends it for good, or for now where nobody starts it again.
    pub(super) fn stopped_by(&self) -> String {
        self.unit.as_ref().map_or_else(
            || format!("kill {}", self.id),
            |unit| format!("systemctl disable --now {}", super::quoted(unit)),
        )
    }

    /// For people.
    pub(super) fn named(&self) -> String {
        format!("{} (process {})", self.name, self.id)
    }
}

impl Processes {
    pub(super) fn of(machine: &Machine) -> Self {
        let mut processes = Self::default();
        for number in machine.proc_names("") {
            let Ok(id) = number.parse() else { continue };
            // The doctor is no server, though it has its name.
            if id == std::process::id() {
                continue;
            }
            // It may have ended meanwhile.
            let Some(name) = machine.proc(&format!("{number}/comm")) else { continue };
            let status = machine.proc(&format!("{number}/status")).unwrap_or_default();
            let (open, hidden) = descriptors(machine, &number);
            processes.hidden |= hidden;
            processes.all.push(Process {
                id,
                name,
                open,
                may_set_clock: capabilities(&status, "CapEff:").is_some_and(|set| set & CAP_SYS_TIME != 0),
                unit: machine.proc(&format!("{number}/cgroup")).as_deref().and_then(unit),
            });
        }
        processes
    }

    /// Who has this open.
    pub(super) fn holders<'a>(&'a self, what: &'a str) -> impl Iterator<Item = &'a Process> {
        self.all.iter().filter(move |process| process.open.iter().any(|open| open == what))
    }

    pub(super) fn named(&self, name: &str) -> Option<&Process> {
        self.all.iter().find(|process| process.name == name)
    }
}

/// Where a process's descriptors lead, and whether it wouldn't say.
fn descriptors(machine: &Machine, number: &str) -> (Vec<String>, bool) {
    let directory = machine.proc_path(&format!("{number}/fd"));
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) => return (Vec::new(), error.kind() == std::io::ErrorKind::PermissionDenied),
    };
    let links = entries.map_while(Result::ok).filter_map(|entry| fs::read_link(entry.path()).ok());
    let texts = links.map(|link| link.to_string_lossy().into_owned());
    (texts.filter(|text| text.starts_with("socket:[") || text.starts_with("/dev/")).collect(), false)
}

/// A set of capabilities, of a process's `status`.
pub(super) fn capabilities(status: &str, set: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix(set))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

/// The innermost service of a process's `cgroup`.
fn unit(cgroup: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| line.rsplit(':').next());
    let parts = paths.flat_map(|path| path.rsplit('/'));
    parts.into_iter().find(|part| part.ends_with(".service")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_stopped_by_its_name_and_another_process_by_its_number() {
        let in_unit =
            Process { id: 7, unit: unit("0::/system.slice/chrony.service\n"), ..Process::default() };
        assert_eq!(in_unit.stopped_by(), "systemctl disable --now chrony.service");
        let alone = Process { id: 7, unit: unit("1:cpu:/\n0::/user.slice/session-1.scope"), ..in_unit };
        assert_eq!(alone.stopped_by(), "kill 7");
    }

    #[test]
    fn capabilities_are_hexadecimal() {
        let status = "Name:\tx\nCapEff:\t0000000002000000\n";
        assert_eq!(capabilities(status, "CapEff:"), Some(CAP_SYS_TIME));
        assert_eq!(capabilities(status, "CapBnd:"), None);
    }
}
