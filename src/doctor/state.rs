//! Where the server keeps what outlives it: whether it can write there, and whether there is room.

use super::Question;
use super::finding::{Check, Finding, Verdict};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use std::io;
use std::path::{Path, PathBuf};

const WHY: &str =
    "the oscillator's frequency is kept there, so that a server that is started again is right at once";

/// The state has some KiB and is written to a second file first: 1 MiB is plenty, less than that is a full disk.
const FREE_OCTETS_MIN: u64 = 1 << 20;

/// What was found of the directory.
#[derive(Debug)]
struct Facts {
    path: PathBuf,
    /// It, or where it isn't there the directory above that is.
    existing: PathBuf,
    /// Whether files can be made there.
    writable: Result<(), io::Error>,
    /// Octets that are left; none if the file system doesn't say.
    free: Option<u64>,
}

/// Whether the state can be kept.
pub(super) fn findings(question: &Question) -> Vec<Finding> {
    let named = question.config().and_then(|config| config.clock.state.clone());
    let Some(path) = named.or_else(|| question.surroundings.state()) else {
        let what = "this user has no place for the state";
        return vec![Finding::to_do(Check::State, Verdict::Should, what, WHY, "name one as clock.state")];
    };
    vec![judge(&gather(path))]
}

fn gather(path: PathBuf) -> Facts {
    let existing = path.ancestors().find(|above| above.exists()).unwrap_or_else(|| Path::new("/")).to_owned();
    let writable: io::Result<()> = if existing.is_dir() {
        access(&existing, AccessFlags::W_OK | AccessFlags::X_OK).map_err(Into::into)
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    };
    let free = statvfs(&existing).ok();
    let free = free.map(|found| found.blocks_available().saturating_mul(found.fragment_size()));
    Facts { path, existing, writable, free }
}

fn judge(facts: &Facts) -> Finding {
    let Facts { path, existing, writable, free } = facts;
    let shown = path.display();
    let quoted = super::quoted(&path.to_string_lossy());
    match (writable, free) {
        (Err(error), _) if error.kind() == io::ErrorKind::NotADirectory => {
            let what = format!("{shown}: {} is no directory", existing.display());
            Finding::to_do(Check::State, Verdict::Should, what, WHY, "name another as clock.state")
        }
        (Err(error), _) => {
            let what = format!("{shown}: nothing can be written to {}: {error}", existing.display());
            Finding::to_do(Check::State, Verdict::Should, what, WHY, format!("sudo install -d {quoted}"))
        }
        (Ok(()), Some(free)) if *free < FREE_OCTETS_MIN => {
            let what = format!("{shown}: {} KiB are left on its disk", free >> 10);
            let remedy = format!("df -h {}", super::quoted(&existing.to_string_lossy()));
            Finding::to_do(Check::State, Verdict::Should, what, WHY, remedy)
        }
        (Ok(()), _) if path == existing => {
            Finding::ok(Check::State, format!("{shown} can be written to"), WHY)
        }
        (Ok(()), _) => Finding::ok(Check::State, format!("{shown} isn't there yet, and can be made"), WHY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_written_to_is_told() {
        let facts = |writable, free| Facts { path: "/a/b".into(), existing: "/a".into(), writable, free };
        assert_eq!(judge(&facts(Ok(()), Some(1 << 30))).verdict, Verdict::Ok);
        assert_eq!(judge(&facts(Ok(()), Some(1 << 10))).verdict, Verdict::Should);
        let denied = judge(&facts(Err(io::ErrorKind::PermissionDenied.into()), None));
        assert_eq!(denied.verdict, Verdict::Should);
        assert_eq!(denied.remedy.as_deref(), Some("sudo install -d /a/b"));
    }

    #[test]
    fn what_is_there_is_found() {
        let own = std::env::current_exe().unwrap();
        assert!(gather(own.join("below a file")).writable.is_err());
        let place = std::env::temp_dir().join("maser-doctor-not-there/deeper");
        let facts = gather(place);
        assert_eq!(facts.existing, std::env::temp_dir());
        assert!(facts.writable.is_ok() && facts.free.is_some(), "{facts:?}");
    }
}
