//! The list of leap seconds: there, whole, and not stale.

use super::Question;
use super::finding::{Check, Finding, Verdict};
use crate::config::LEAP_FILE_USUAL;
use crate::leaps::date;
use maser_core::refclock::{EXPIRY_WARNED_DAYS, Expiry, LEAP_FILE_LENGTH_MAX, LeapFile, LeapFileError};
use maser_core::time::{BUILD_DATE, Instant, LeapTable, Span, Utc};
use maser_sys::kernel_clock::{KernelClock, read};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const WHY: &str = "without a list that is complete a leap second comes unannounced, and the served time is a second \
    off until a source tells";

/// What was found of the file.
#[derive(Debug)]
struct Facts {
    path: PathBuf,
    /// Whether the configuration names it.
    named: bool,
    file: Result<Result<LeapFile, LeapFileError>, io::Error>,
}

/// What there is to say of the file.
pub(super) fn finding(question: &Question) -> Finding {
    let named = question.config().and_then(|config| config.clock.leap_file.clone());
    let path = named.clone().unwrap_or_else(|| LEAP_FILE_USUAL.into());
    let facts = Facts { file: load(&path), named: named.is_some(), path };
    // A clock before the build is wrong, and would call any file fresh.
    let now = Instant::<Utc>::from_unix(0, 0) + Span::from_nanos(read(KernelClock::Realtime));
    judge(&facts, now.max(BUILD_DATE))
}

/// Reads it as far as a list can be long; what isn't a file might have no end.
pub(super) fn load(path: &Path) -> io::Result<Result<LeapFile, LeapFileError>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    let most = u64::try_from(LEAP_FILE_LENGTH_MAX).map_or(u64::MAX, |most| most + 1);
    File::open(path)?.take(most).read_to_end(&mut text)?;
    Ok(LeapFile::parse(&text))
}

fn judge(facts: &Facts, now: Instant<Utc>) -> Finding {
    let Facts { path, named, file } = facts;
    let shown = path.display();
    let fetch = format!(
        "curl -fo {} https://data.iana.org/time-zones/tzdb/leap-seconds.list",
        super::quoted(&path.to_string_lossy())
    );
    // One that is named must be good, or the server doesn't start; the usual one is done without.
    let bad = if *named { Verdict::Broken } else { Verdict::Should };
    let (verdict, what) = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !named => (
            Verdict::Better,
            format!("{shown} isn't there, so that only the leap seconds built in are known"),
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !named => {
            (Verdict::Unknown, format!("{shown} can't be read: {error}"))
        }
        Err(error) => (bad, format!("{shown} can't be read: {error}")),
        Ok(Err(error)) => (bad, format!("{shown}: {error}")),
        Ok(Ok(file)) => {
            let until = date(file.expires);
            let less = file.table.known().len() < LeapTable::built_in().known().len();
            match file.expiry_state(now) {
                Expiry::Expired => (Verdict::Should, format!("{shown} is stale: it expired on {until}")),
                Expiry::ExpiresIn { days } => (
                    Verdict::Should,
                    format!(
                        "{shown} is stale: it expires in {days} days, and a new one is published half a year before \
                         that"
                    ),
                ),
                Expiry::Fresh if less => {
                    (Verdict::Should, format!("{shown} knows fewer leap seconds than maser itself"))
                }
                Expiry::Fresh if !file.hashed => (
                    Verdict::Better,
                    format!(
                        "{shown} has no hash, so that nobody can tell whether it is whole; good until {until}"
                    ),
                ),
                Expiry::Fresh => {
                    return Finding::ok(
                        Check::LeapFile,
                        format!("{shown} is whole, and good until {until}"),
                        WHY,
                    );
                }
            }
        }
    };
    Finding::to_do(Check::LeapFile, verdict, what, WHY, fetch)
}

const _: () = assert!(EXPIRY_WARNED_DAYS >= 28, "what the server warns of is stale here");

#[cfg(test)]
mod tests {
    use super::*;

    /// The two leap seconds of 1972, and an expiry on 1974-01-01.
    const OLD: &[u8] = b"#$ 2272060800\n#@ 2335219200\n2272060800 10\n2287785600 11\n2303683200 12\n";

    #[test]
    fn a_stale_file_and_one_that_is_not_there_are_told() {
        let facts = |named, file| Facts { path: "/l".into(), named, file };
        let old = || LeapFile::parse(OLD).unwrap();
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let broken = || LeapFile::parse(b"nonsense");
        let expires = old().expires;
        let before = |days: i64| expires - Span::from_seconds(86_400 * days);
        let of = |facts: &Facts, now| judge(facts, now).verdict;
        assert_eq!(of(&facts(false, Err(missing())), expires), Verdict::Better);
        assert_eq!(of(&facts(true, Err(missing())), expires), Verdict::Broken);
        assert_eq!(of(&facts(false, Ok(broken())), expires), Verdict::Should);
        assert_eq!(of(&facts(true, Ok(broken())), expires), Verdict::Broken);
        let stale = judge(&facts(true, Ok(Ok(old()))), before(-1));
        assert_eq!(stale.verdict, Verdict::Should);
        assert!(stale.what.contains("it expired on 1974-01-01"), "{stale:?}");
        assert!(judge(&facts(true, Ok(Ok(old()))), before(12)).what.contains("in 12 days"));
        assert!(judge(&facts(true, Ok(Ok(old()))), before(90)).what.contains("fewer leap seconds"));
        assert!(load(Path::new("/dev/zero")).is_err(), "it has no end");
        let fresh = LeapFile { table: LeapTable::built_in(), hashed: true, ..old() };
        assert_eq!(of(&facts(true, Ok(Ok(fresh.clone()))), before(90)), Verdict::Ok);
        let bare = LeapFile { hashed: false, ..fresh };
        assert_eq!(of(&facts(true, Ok(Ok(bare))), before(90)), Verdict::Better);
    }
}
