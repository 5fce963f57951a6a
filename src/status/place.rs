//! Where the status socket and the kept state are when nobody says.
//!
//! The server and `maser status` must find the same place without asking each other, and only one of them runs
//! under systemd. The server takes the first place that is its own; the client tries all of them in that order.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Where systemd and the examples put it for a server of the system.
const SYSTEM_DIRECTORY: &str = "/run/maser";
const FILE_NAME: &str = "status.sock";

/// Where a server of the system keeps what outlives it.
const SYSTEM_STATE: &str = "/var/lib/maser";

/// What a process finds around it that decides where its files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Surroundings {
    /// `$RUNTIME_DIRECTORY`, which systemd sets for a unit with `RuntimeDirectory=`.
    pub runtime_directory: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`, the user's own directory while logged in.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `$STATE_DIRECTORY`, which systemd sets for a unit with `StateDirectory=`.
    pub state_directory: Option<PathBuf>,
    /// `$XDG_STATE_HOME`, where the user's programs keep what outlives them.
    pub xdg_state_home: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// The directory for temporary files, everybody's.
    pub temporary: PathBuf,
    /// The effective user.
    pub user: u32,
}

/// Why the server has no place of its own.
#[derive(Debug, Error)]
pub enum NoPlace {
    /// A directory can't be made.
    #[error(
        "{path}: the directory for the status socket can't be made: {error}; give another socket with --status-socket"
    )]
    NotMade {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another user could put a socket of theirs in this place.
    #[error(
        "{0}: another user can write to this directory or owns it; remove it, or give another socket with --status-socket"
    )]
    NotOurs(PathBuf),
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // systemd separates several directories with colons; the first is ours.
        let first = |path: PathBuf| path.to_str().and_then(|list| list.split(':').next()).map(PathBuf::from);
        Self {
            runtime_directory: path("RUNTIME_DIRECTORY").and_then(first),
            xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
            state_directory: path("STATE_DIRECTORY").and_then(first),
            xdg_state_home: path("XDG_STATE_HOME"),
            home: path("HOME"),
            temporary: env::temp_dir(),
            user: effective_user().unwrap_or(u32::MAX),
        }
    }

    /// The server's place, its directory made if it may have to be.
    pub fn own(&self) -> Result<PathBuf, NoPlace> {
        if let Some(directory) = &self.runtime_directory {
            return Ok(directory.join(FILE_NAME));
        }
        if self.user == 0 {
            let directory = Path::new(SYSTEM_DIRECTORY);
            make(directory, 0o755)?;
            return Ok(directory.join(FILE_NAME));
        }
        if let Some(directory) = &self.xdg_runtime_dir {
            return Ok(directory.join("maser.sock"));
        }
        let directory = self.private();
        make(&directory, 0o700)?;
        if !self.is_ours(&directory) {
            return Err(NoPlace::NotOurs(directory));
        }
        Ok(directory.join(FILE_NAME))
    }

    /// The directory for what is kept across restarts; it may have to be made. None for a user without a home.
    #[must_use]
    pub fn state(&self) -> Option<PathBuf> {
        if self.state_directory.is_some() {
            return self.state_directory.clone();
        }
        if self.user == 0 {
            return Some(SYSTEM_STATE.into());
        }
        // The XDG base directories are to be ignored where they are relative, and a home that is none helps nobody.
        let absolute = |path: &&PathBuf| path.is_absolute();
        let state_home = self.xdg_state_home.as_ref().filter(absolute).cloned();
        let home = || self.home.as_ref().filter(absolute).map(|home| home.join(".local/state"));
        state_home.or_else(home).map(|directory| directory.join("maser"))
    }

    /// The places at which a server may answer, the likeliest first.
    #[must_use]
    pub fn candidates(&self) -> Vec<PathBuf> {
        let mut places = Vec::new();
        places.extend(self.runtime_directory.as_ref().map(|directory| directory.join(FILE_NAME)));
        places.push(Path::new(SYSTEM_DIRECTORY).join(FILE_NAME));
        places.extend(self.xdg_runtime_dir.as_ref().map(|directory| directory.join("maser.sock")));
        // Anyone may write to the directory above, so what somebody else put there is passed over.
        places
            .extend(Some(self.private()).filter(|path| self.is_ours(path)).map(|path| path.join(FILE_NAME)));
        places
    }

    /// A directory of this user's own among everybody's temporary files.
    fn private(&self) -> PathBuf {
        self.temporary.join(format!("maser-{}", self.user))
    }

    /// Whether it is a directory (not a link to one) that only this user can write to.
    fn is_ours(&self, directory: &Path) -> bool {
        fs::symlink_metadata(directory).is_ok_and(|metadata| {
            metadata.is_dir() && metadata.uid() == self.user && metadata.mode() & 0o022 == 0
        })
    }
}

fn make(directory: &Path, mode: u32) -> Result<(), NoPlace> {
    match DirBuilder::new().mode(mode).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(NoPlace::NotMade { path: directory.to_owned(), error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// From the kernel's own account of this process; the owner of `/proc/self` would be root's for a program with file
/// capabilities.
fn effective_user() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    // Real, effective, saved, file system.
    users.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn surroundings(temporary: &Path) -> Surroundings {
        Surroundings {
            runtime_directory: None,
            xdg_runtime_dir: None,
            state_directory: None,
            xdg_state_home: None,
            home: None,
            temporary: temporary.to_owned(),
            user: effective_user().unwrap(),
        }
    }

    #[test]
    fn systemd_comes_first_then_the_session() {
        let mut here = surroundings(Path::new("/tmp"));
        here.user = 1000;
        here.xdg_runtime_dir = Some("/run/user/1000".into());
        assert_eq!(here.own().unwrap(), Path::new("/run/user/1000/maser.sock"));
        here.runtime_directory = Some("/run/ntp".into());
        assert_eq!(here.own().unwrap(), Path::new("/run/ntp/status.sock"));
        let candidates = here.candidates();
        let expected = ["/run/ntp/status.sock", "/run/maser/status.sock", "/run/user/1000/maser.sock"];
        assert_eq!(candidates.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn state_is_kept_where_it_outlives_the_process() {
        let mut here = surroundings(Path::new("/tmp"));
        here.user = 1000;
        let state = |here: &Surroundings| here.state().map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(state(&here), None);
        here.home = Some("/nonexistent".into());
        assert_eq!(state(&here).as_deref(), Some("/nonexistent/.local/state/maser"));
        here.xdg_state_home = Some("relative".into());
        assert_eq!(state(&here).as_deref(), Some("/nonexistent/.local/state/maser"));
        here.xdg_state_home = Some("/states".into());
        assert_eq!(state(&here).as_deref(), Some("/states/maser"));
        here.user = 0;
        assert_eq!(state(&here).as_deref(), Some("/var/lib/maser"));
        here.state_directory = Some("/var/lib/ntp".into());
        assert_eq!(state(&here).as_deref(), Some("/var/lib/ntp"));
    }

    #[test]
    fn a_place_that_others_can_write_to_is_refused_by_both_sides() {
        let temporary = env::temp_dir().join(format!("maser-place-{}", std::process::id()));
        fs::create_dir_all(&temporary).unwrap();
        let here = surroundings(&temporary);
        let private = here.private();
        make(&private, 0o700).unwrap();
        assert!(here.candidates().contains(&private.join("status.sock")));
        fs::set_permissions(&private, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!here.candidates().contains(&private.join("status.sock")));
        assert!(!here.is_ours(&private));
        let other = Surroundings { user: here.user + 1, ..here };
        fs::create_dir(other.private()).unwrap();
        assert!(matches!(other.own(), Err(NoPlace::NotOurs(_))), "made by another user");
        fs::remove_dir_all(&temporary).unwrap();
    }

    #[test]
    fn this_process_has_a_user() {
        assert_ne!(Surroundings::of_process().user, u32::MAX);
    }
}
