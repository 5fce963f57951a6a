//! The server's end of the status socket: one JSON document for each connection, the status or what else is asked for.
//!
//! One thread serves one connection at a time, so that no number of them costs more than that thread; every write
//! has a limit, and there is a pause between connections.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use thiserror::Error;

use super::{ClientsQuestion, ClientsStatus, Status};
use crate::config::SOCKET_PATH_OCTETS_MAX;

/// The user and the group of the server may ask, others may not.
const MODE: u32 = 0o660;
/// How long one write may wait for a client that doesn't read.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);
/// How many writes a document may take; with the timeout this bounds what a slow client can hold up.
const WRITES_MAX: usize = 64;
/// How long a client may take to ask, ms, also on a machine that is busy. One that shuts its end for writing without a word
/// wants the status and doesn't wait.
const QUESTION_WITHIN_MS: u16 = 500;
/// A question is shorter.
const QUESTION_OCTETS_MAX: usize = 64;
/// Between connections, so that a client that asks in a loop takes at most 1 % of a core's turns.
const PAUSE: Duration = Duration::from_millis(10);

/// The stop flag is looked at this often at least, ms.
const STOP_LOOKED_AT_MS: u8 = 100;

/// Why the status socket can't be had.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another server is there.
    #[error(
        "{0}: another maser answers there; stop it, or give this one another socket with --status-socket"
    )]
    Taken(PathBuf),
    /// Something else is there.
    #[error("{0}: exists and isn't a socket; remove it, or give another path with --status-socket")]
    NotASocket(PathBuf),
    /// The kernel's address has no room for it.
    #[error("{0}: longer than the {SOCKET_PATH_OCTETS_MAX} octets that a Unix socket's path may have")]
    TooLong(PathBuf),
    /// The directory doesn't exist.
    #[error(
        "{0}: no such directory for the status socket; make it, or give another path with --status-socket"
    )]
    NoDirectory(PathBuf),
    /// Anything else that the kernel says.
    #[error("{path}: the status socket can't be made: {error}; give another path with --status-socket")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The listening socket and its file; dropping it removes the file.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, so that a successor's file isn't removed.
    identity: (u64, u64),
}

impl StatusSocket {
    /// Listens at `path`; connections wait until somebody answers them.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let refused = |error| SocketError::Refused { path: path.to_owned(), error };
        let listener = bind(path)?;
        let metadata = fs::symlink_metadata(path).map_err(refused)?;
        Ok(Self { listener, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }
}

impl AsFd for StatusSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the status socket's file stays");
        }
    }
}

/// Who answers at a listening socket; dropping it stops the thread.
#[derive(Debug)]
pub struct StatusServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// The socket, if it is this server's own.
    socket: Option<StatusSocket>,
}

impl StatusServer {
    /// Listens at `path` and answers every connection with what `status` returns then; of clients it knows none.
    pub fn start(path: &Path, status: impl Fn() -> Status + Send + 'static) -> Result<Self, SocketError> {
        let refused = |error| SocketError::Refused { path: path.to_owned(), error };
        let socket = StatusSocket::bind(path)?;
        let listener = socket.listener.try_clone().map_err(refused)?;
        let nobody = |_: &ClientsQuestion| ClientsStatus::default();
        let mut server = Self::over(listener, status, nobody).map_err(refused)?;
        server.socket = Some(socket);
        Ok(server)
    }

    /// Answers at a socket that somebody else made and removes, with what these return then.
    pub fn over(
        listener: UnixListener,
        status: impl Fn() -> Status + Send + 'static,
        clients: impl Fn(&ClientsQuestion) -> ClientsStatus + Send + 'static,
    ) -> io::Result<Self> {
        let document = move |question: &str| match question.trim() {
            "" => serde_json::to_vec(&status()).map_err(io::Error::from),
            question => match ClientsQuestion::of(question) {
                Some(question) => Ok(serde_json::to_vec(&clients(&question))?),
                None => Err(io::Error::new(ErrorKind::InvalidData, "nothing that can be asked")),
            },
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = move || serve(&listener, &stopped, &document);
        let thread = thread::Builder::new().name("status".to_owned()).spawn(serve)?;
        Ok(Self { stop, thread: Some(thread), socket: None })
    }
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        // Pairs with the thread's load while it waits.
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the status thread had panicked");
        }
    }
}

/// The listening socket, in the place of a dead process's file but never of a living one's.
fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let refused = |error| SocketError::Refused { path: path.to_owned(), error };
    if path.as_os_str().len() > SOCKET_PATH_OCTETS_MAX {
        return Err(SocketError::TooLong(path.to_owned()));
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => match UnixStream::connect(path) {
            // Nobody listens: what a killed server leaves behind.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(refused)?
            }
            Ok(_) => return Err(SocketError::Taken(path.to_owned())),
            Err(error) => return Err(refused(error)),
        },
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(refused(error)),
        Err(_) => {
            // A bare file name has the empty path for a parent: the directory we are in.
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            if directory.is_some_and(|directory| !directory.is_dir()) {
                return Err(SocketError::NoDirectory(path.to_owned()));
            }
        }
    }
    let listener = UnixListener::bind(path).map_err(refused)?;
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(refused)?;
    Ok(listener)
}

/// From a question to the document that answers it.
type Document = dyn Fn(&str) -> io::Result<Vec<u8>>;

fn serve(listener: &UnixListener, stop: &AtomicBool, document: &Document) {
    // Pairs with the store in `drop`.
    while !stop.load(Ordering::Acquire) {
        let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut waiting, STOP_LOOKED_AT_MS).is_ok_and(|up| up > 0) {
            continue;
        }
        let connection = listener.accept();
        let answered = connection.and_then(|(stream, _)| answer(stream, document));
        if let Err(error) = answered {
            tracing::debug!(%error, "a status connection failed");
        }
        thread::sleep(PAUSE);
    }
}

/// What the client asks; nothing if it says nothing in time.
fn question(stream: &mut UnixStream) -> io::Result<String> {
    let mut waiting = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    if poll(&mut waiting, QUESTION_WITHIN_MS)? == 0 {
        return Ok(String::new());
    }
    // A short message comes whole over a Unix socket.
    let mut octets = [0; QUESTION_OCTETS_MAX];
    let length = stream.read(&mut octets)?;
    Ok(String::from_utf8_lossy(octets.get(..length).unwrap_or_default()).into_owned())
}

fn answer(mut stream: UnixStream, document: &Document) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let question = question(&mut stream)?;
    let mut document = document(&question)?;
    document.push(b'\n');
    let mut rest = document.as_slice();
    for _ in 0..WRITES_MAX {
        let written = stream.write(rest)?;
        rest = rest.get(written..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, "the client reads too slowly"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{plausible, scratch};
    use super::super::{ClientError, fetch};
    use super::*;

    #[test]
    fn what_the_server_tells_arrives() {
        let path = scratch("arrives");
        let server = StatusServer::start(&path, plausible).unwrap();
        assert_eq!(fetch(&path).unwrap(), plausible());
        assert_eq!(fetch(&path).unwrap(), plausible());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        drop(server);
        assert!(!path.exists(), "the file is removed");
    }

    #[test]
    fn a_living_server_keeps_its_socket_and_a_dead_one_loses_it() {
        let path = scratch("living");
        let server = StatusServer::start(&path, plausible).unwrap();
        assert!(matches!(StatusServer::start(&path, plausible), Err(SocketError::Taken(_))));
        drop(server);
        // A listener that is gone leaves its file behind, as a killed server does.
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(fetch(&path), Err(ClientError::NobodyListens(_))));
        let server = StatusServer::start(&path, plausible).unwrap();
        assert_eq!(fetch(&path).unwrap(), plausible());
        drop(server);
    }

    #[test]
    fn what_is_not_a_socket_is_not_removed() {
        let path = scratch("file");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(StatusServer::start(&path, plausible), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
        let nowhere = path.join("status.sock");
        assert!(matches!(StatusServer::start(&nowhere, plausible), Err(SocketError::NoDirectory(_))));
        let long = PathBuf::from("/".repeat(SOCKET_PATH_OCTETS_MAX + 1));
        assert!(matches!(StatusServer::start(&long, plausible), Err(SocketError::TooLong(_))));
    }

    #[test]
    fn the_file_of_a_successor_stays() {
        let path = scratch("successor");
        let server = StatusServer::start(&path, plausible).unwrap();
        fs::remove_file(&path).unwrap();
        let successor = UnixListener::bind(&path).unwrap();
        drop(server);
        assert!(path.exists());
        drop(successor);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_client_that_does_not_read_holds_up_nobody_for_long() {
        let path = scratch("slow");
        // Longer than a socket's buffer, so that writing has to wait for the reader.
        let long = || Status { version: "x".repeat(1 << 20), ..plausible() };
        let server = StatusServer::start(&path, long).unwrap();
        let mut slow = UnixStream::connect(&path).unwrap();
        assert_eq!(fetch(&path).unwrap(), long());
        let mut part = Vec::new();
        slow.read_to_end(&mut part).unwrap();
        assert!(part.len() < 1 << 20, "the slow client was cut off");
        drop(server);
    }
}
