//! The asking end of the status socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{ClientsQuestion, ClientsStatus, STATUS_OCTETS_MAX, Status, Surroundings};

/// How long the server may take; it is longer than a client that doesn't read can hold it up once.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no status to show.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No socket.
    #[error(
        "{0}: no such socket; is maser running? If its status.socket is elsewhere, name it with --status-socket"
    )]
    NoSocket(PathBuf),
    /// No socket in any of the usual places.
    #[error(
        "no status socket at {}; is maser running? If its status.socket is elsewhere, name it with --status-socket",
        list(.0)
    )]
    Nowhere(Vec<PathBuf>),
    /// A file, but no process behind it.
    #[error(
        "{0}: nobody listens there; maser was killed or is not running: start it, it will take the socket over"
    )]
    NobodyListens(PathBuf),
    /// Not for this user.
    #[error("{0}: this user may not ask; ask as root, or as the user or group that maser runs as")]
    NotPermitted(PathBuf),
    /// Connected, and then nothing.
    #[error(
        "{0}: maser takes the connection but sends nothing within {READ_TIMEOUT:?}; is its process stopped or the machine overloaded?"
    )]
    Silent(PathBuf),
    /// Something else answers.
    #[error(
        "{path}: the answer isn't a maser status ({why}); check the path, and that both are of the same version"
    )]
    NotAStatus {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        why: String,
    },
    /// Anything else that the kernel says.
    #[error("{path}: can't be asked: {error}")]
    Failed {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
}

/// The socket to ask at when none is named: the first of the usual places where there is one.
pub fn find(surroundings: &Surroundings) -> Result<PathBuf, ClientError> {
    let candidates = surroundings.candidates();
    // What this user may not look at counts as there: asking tells more than passing it over.
    let there = candidates.iter().find(|path| {
        path.symlink_metadata().map_or_else(|error| error.kind() == ErrorKind::PermissionDenied, |_| true)
    });
    there.cloned().ok_or(ClientError::Nowhere(candidates))
}

/// Asks the server at `path` for its status.
pub fn fetch(path: &Path) -> Result<Status, ClientError> {
    ask(path, "")
}

/// Asks the server at `path` for its heaviest clients.
pub fn fetch_clients(path: &Path, question: &ClientsQuestion) -> Result<ClientsStatus, ClientError> {
    ask(path, &question.to_string())
}

fn ask<T: DeserializeOwned>(path: &Path, question: &str) -> Result<T, ClientError> {
    let octets = read(path, question).map_err(|error| failure(path, error))?;
    let not_a_status = |why| ClientError::NotAStatus { path: path.to_owned(), why };
    if octets.is_empty() {
        return Err(not_a_status("nothing at all".to_owned()));
    }
    if octets.len() as u64 > STATUS_OCTETS_MAX {
        return Err(not_a_status(format!("longer than {STATUS_OCTETS_MAX} octets")));
    }
    serde_json::from_slice(&octets).map_err(|error| not_a_status(error.to_string()))
}

fn read(path: &Path, question: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    // A server that takes no questions may have closed its end already: what it sent is read all the same.
    let _told = stream.write_all(question.as_bytes()).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut octets = Vec::new();
    stream.take(STATUS_OCTETS_MAX + 1).read_to_end(&mut octets)?;
    Ok(octets)
}

fn failure(path: &Path, error: io::Error) -> ClientError {
    let path = path.to_owned();
    let kind = error.kind();
    if kind == ErrorKind::NotFound {
        ClientError::NoSocket(path)
    } else if kind == ErrorKind::ConnectionRefused {
        ClientError::NobodyListens(path)
    } else if kind == ErrorKind::PermissionDenied {
        ClientError::NotPermitted(path)
    } else if kind == ErrorKind::ConnectionReset {
        // It has closed its end without reading what was asked.
        ClientError::NotAStatus { path, why: "it takes no questions, as older versions do".to_owned() }
    } else if kind == ErrorKind::WouldBlock || kind == ErrorKind::TimedOut {
        ClientError::Silent(path)
    } else {
        ClientError::Failed { path, error }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Order;
    use super::super::tests::scratch;
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// What a client makes of a server that sends these octets and closes.
    fn asked(name: &str, octets: Vec<u8>) -> Result<Status, ClientError> {
        let path = scratch(name);
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            // The client may have enough before we have sent all.
            let _ = listener.accept().unwrap().0.write_all(&octets);
        });
        let status = fetch(&path);
        server.join().unwrap();
        fs::remove_file(&path).unwrap();
        status
    }

    #[test]
    fn an_answer_that_is_no_status_is_told() {
        let why = |name, octets: &[u8]| asked(name, octets.to_vec()).unwrap_err().to_string();
        assert!(why("empty", b"").contains("isn't a maser status (nothing at all)"));
        assert!(why("html", b"<html>").contains("isn't a maser status (expected value at line 1"));
        assert!(why("cut", b"{\"version\":\"1\"").contains("isn't a maser status (EOF"));
        let endless = vec![b' '; usize::try_from(STATUS_OCTETS_MAX).unwrap() + 1];
        assert!(why("endless", &endless).contains("longer than"));
    }

    #[test]
    fn a_status_of_another_version_is_read_as_far_as_it_goes() {
        let status = asked("other", br#"{"version":"9.9","fashion":"new","stratum":2}"#.to_vec()).unwrap();
        assert_eq!((status.version.as_str(), status.stratum, status.uptime_s), ("9.9", 2, 0.0));
    }

    #[test]
    fn an_older_server_that_takes_no_questions_is_told_apart() {
        let path = scratch("older");
        let listener = UnixListener::bind(&path).unwrap();
        // It closes its end before or after the question has come.
        let server = thread::spawn(move || {
            for pause_ms in [0, 50] {
                let (mut stream, _) = listener.accept().unwrap();
                thread::sleep(Duration::from_millis(pause_ms));
                stream.write_all(br#"{"version":"0.1.0"}"#).unwrap();
            }
        });
        let question = ClientsQuestion { top: 10, by: Order::Rate, truncated: false };
        for _ in 0..2 {
            let error = fetch_clients(&path, &question).unwrap_err();
            assert!(matches!(error, ClientError::NotAStatus { .. }), "{error}");
        }
        server.join().unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn nobody_there_says_what_to_do() {
        let path = scratch("nobody");
        let error = fetch(&path).unwrap_err().to_string();
        assert!(error.ends_with("no such socket; is maser running? If its status.socket is elsewhere, name it with --status-socket"), "{error}");
    }

    #[test]
    fn a_silent_server_is_given_up() {
        let path = scratch("silent");
        // In the backlog, never accepted.
        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(fetch(&path), Err(ClientError::Silent(_))));
        drop(listener);
        fs::remove_file(&path).unwrap();
    }
}
