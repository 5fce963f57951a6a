//! The socket that gpsd writes to, and its file.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The server's own user and group may write samples, others may not.
const MODE: u32 = 0o660;

/// Who reads looks this often whether it should stop.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_millis(200);

/// A socket whose file is removed with it.
#[derive(Debug)]
pub(crate) struct OwnSocket {
    socket: UnixDatagram,
    path: PathBuf,
    /// Device and inode of the file, so that a successor's file isn't removed.
    identity: (u64, u64),
}

impl OwnSocket {
    /// Binds in the place of a dead process's socket, but never of a living one's or of anything else.
    pub(crate) fn bind(path: &Path) -> Result<Self, String> {
        let refused = |error: io::Error| {
            format!(
                "the socket can't be made: {error}; name another path, in a directory that the server may write to"
            )
        };
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err("exists and isn't a socket; remove it, or name another path".to_owned());
            }
            Ok(_) => match UnixDatagram::unbound().and_then(|probe| probe.connect(path)) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(refused)?;
                }
                Ok(()) | Err(_) => {
                    return Err("another program (chronyd?) has this socket; stop it, or name another path, the same \
                                in gpsd's command"
                        .to_owned());
                }
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(refused(error)),
        }
        let socket = UnixDatagram::bind(path).map_err(refused)?;
        fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(refused)?;
        // Who reads from it could reach any socket of the machine through it, at a filter that sees no paths.
        socket.shutdown(Shutdown::Write).map_err(refused)?;
        let metadata = fs::symlink_metadata(path).map_err(refused)?;
        Ok(Self { socket, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }

    /// The socket once more, for who reads from it.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        // As they are meant to be, whatever the last reader made of them.
        self.socket.set_nonblocking(false)?;
        self.socket.set_read_timeout(Some(READ_TIMEOUT))?;
        self.socket.try_clone().map(OwnedFd::from)
    }

    /// Whether the file still leads to this socket.
    pub(crate) fn is_current(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        if self.is_current()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_can_send_nothing_and_changes_nothing_for_the_next() {
        let path = std::env::temp_dir().join(format!("maser-gpsd-reads-{}", std::process::id()));
        let other = path.with_extension("other");
        let reached = UnixDatagram::bind(&other).unwrap();
        let socket = OwnSocket::bind(&path).unwrap();
        let reader = UnixDatagram::from(socket.descriptor().unwrap());
        assert_eq!(reader.send_to(b"x", &other).unwrap_err().kind(), ErrorKind::BrokenPipe);
        reader.set_nonblocking(true).unwrap();
        reader.set_read_timeout(None).unwrap();
        let next = UnixDatagram::from(socket.descriptor().unwrap());
        assert_eq!(next.read_timeout().unwrap(), Some(READ_TIMEOUT));
        let flags = nix::fcntl::fcntl(&next, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert!(!nix::fcntl::OFlag::from_bits_retain(flags).contains(nix::fcntl::OFlag::O_NONBLOCK));
        // It still hears.
        let gpsd = UnixDatagram::unbound().unwrap();
        gpsd.send_to(b"sample", &path).unwrap();
        assert_eq!(next.recv(&mut [0; 16]).unwrap(), 6);
        drop(reached);
        fs::remove_file(other).unwrap();
    }

    #[test]
    fn only_a_dead_socket_is_replaced() {
        let path = std::env::temp_dir().join(format!("maser-gpsd-{}", std::process::id()));
        let first = OwnSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        assert!(OwnSocket::bind(&path).unwrap_err().contains("another program"));
        // As a process leaves it that was killed.
        let kept = path.with_extension("kept");
        fs::rename(&path, &kept).unwrap();
        drop(first);
        fs::rename(&kept, &path).unwrap();
        let second = OwnSocket::bind(&path).unwrap();
        assert!(second.is_current());
        drop(second);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(OwnSocket::bind(&path).unwrap_err().contains("isn't a socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
        assert!(OwnSocket::bind(Path::new("/no/such/directory")).unwrap_err().contains("can't be made"));
    }
}
