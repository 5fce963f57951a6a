//! The files by which a kernel tells of its machine: `/proc` and `/sys`, or directories that stand for them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the machine's files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    proc: PathBuf,
    sys: PathBuf,
}

impl Machine {
    /// This one; or for tests what `MASER_DOCTOR_PROC` and `MASER_DOCTOR_SYS` name.
    #[must_use]
    pub fn of_process() -> Self {
        let directory = |name, usual: &str| env::var_os(name).map_or_else(|| usual.into(), PathBuf::from);
        Self { proc: directory("MASER_DOCTOR_PROC", "/proc"), sys: directory("MASER_DOCTOR_SYS", "/sys") }
    }

    /// One that is in directories.
    #[must_use]
    pub fn at(proc: &Path, sys: &Path) -> Self {
        Self { proc: proc.to_owned(), sys: sys.to_owned() }
    }

    pub(super) fn proc_path(&self, path: &str) -> PathBuf {
        self.proc.join(path)
    }

    pub(super) fn sys_path(&self, path: &str) -> PathBuf {
        self.sys.join(path)
    }

    /// A file's text, without the white space around it; none if it isn't there or can't be read.
    pub(super) fn proc(&self, path: &str) -> Option<String> {
        read(&self.proc_path(path))
    }

    pub(super) fn sys(&self, path: &str) -> Option<String> {
        read(&self.sys_path(path))
    }

    /// The names in a directory, in order; none where it isn't there.
    pub(super) fn sys_names(&self, path: &str) -> Vec<String> {
        names(&self.sys_path(path))
    }

    pub(super) fn proc_names(&self, path: &str) -> Vec<String> {
        names(&self.proc_path(path))
    }

    /// Interfaces of default routes, IPv4's and IPv6's, as the scripts of `tuning/` take them.
    pub(super) fn default_interfaces(&self) -> Vec<String> {
        let ip4 = self.proc("net/route").unwrap_or_default();
        let ip6 = self.proc("net/ipv6_route").unwrap_or_default();
        let mut found: Vec<String> = ip4
            .lines()
            .skip(1)
            .filter_map(|line| {
                let cells: Vec<_> = line.split_whitespace().collect();
                (cells.get(1) == Some(&"00000000")).then(|| cells.first().map(|name| (*name).to_owned()))?
            })
            .collect();
        found.extend(ip6.lines().filter_map(|line| {
            let cells: Vec<_> = line.split_whitespace().collect();
            let is_default = cells.first().is_some_and(|to| to.bytes().all(|octet| octet == b'0'));
            let name =
                cells.get(9).filter(|name| is_default && cells.get(1) == Some(&"00") && **name != "lo");
            name.map(|name| (*name).to_owned())
        }));
        found.sort();
        found.dedup();
        found
    }

    /// Numbers of the cores that are on, in order.
    pub(super) fn cores(&self) -> Vec<usize> {
        core_list(&self.sys("devices/system/cpu/online").unwrap_or_default())
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|octets| String::from_utf8_lossy(&octets).trim().to_owned())
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().map_while(Result::ok);
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The kernel's list format, as `0-3,8`.
pub(super) fn core_list(text: &str) -> Vec<usize> {
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cores.extend(first..=last.min(crate::config::CORE_MAX));
        }
    }
    cores
}

/// The same the other way round.
pub(super) fn as_list(cores: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => runs.push((core, core)),
        }
    }
    let words = runs.iter().map(
        |(first, last)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        },
    );
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_read_and_written_as_the_kernel_does() {
        assert_eq!(core_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(core_list(""), Vec::<usize>::new());
        assert_eq!(core_list("nonsense,3-x"), Vec::<usize>::new());
        assert_eq!(as_list(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(as_list(&[]), "");
    }
}
