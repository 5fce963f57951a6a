//! What opens by name or takes privileges: the keeper does it for its server, a server without one for itself.

use super::ask::{FileIdentity, Kept, PhcFacts};
use super::fault::Fault;
use super::gpsd_socket::OwnSocket;
use super::kept_state::KeptState;
use crate::state::{Document, StateDirectory, StateError};
use crate::status::Surroundings;
use maser_sys::phc::{self, ExternalStamps};
use maser_sys::pps::{self, Edge};
use maser_sys::serial;
use nix::ifaddrs::getifaddrs;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A document takes 2 kB; the server's text isn't believed to be one.
pub(crate) const DOCUMENT_OCTETS_MAX: usize = 8 << 10;

/// Opens, and keeps what outlives a server: the sockets that gpsd has connected to, the lock on the state.
#[derive(Debug, Default)]
pub(crate) struct Opener {
    sockets: BTreeMap<PathBuf, OwnSocket>,
    /// What was switched on for sources, on which device and channel, and is put back when this ends.
    stamps: BTreeMap<(PathBuf, u32), ExternalStamps>,
    state: Option<KeptState>,
}

impl Opener {
    pub(crate) fn line(path: &Path) -> Result<OwnedFd, Fault> {
        serial::open_file(path).map(OwnedFd::from).map_err(Fault::new)
    }

    pub(crate) fn pps(path: &Path, edge: Edge) -> Result<OwnedFd, Fault> {
        pps::open_file(path, edge).map(OwnedFd::from).map_err(Fault::new)
    }

    /// A NIC's clock for reading, and what it is. Only this process can change its pins.
    pub(crate) fn phc(
        &mut self,
        path: &Path,
        channel: Option<&phc::Channel>,
    ) -> Result<(File, PhcFacts), Fault> {
        let file = phc::open_file(path).map_err(Fault::new)?;
        let mut facts = PhcFacts { name: phc::clock_name(&file), stamps_both_edges: false };
        if let Some(channel) = channel {
            // Those of a device that went away, perhaps.
            self.stamps.remove(&(path.to_owned(), channel.number));
            let hears_alone = phc::hear_only(&file, channel.number).map_err(Fault::new)?;
            if !hears_alone && self.stamps.keys().any(|(other, _)| other == path) {
                return Err(Fault::new(
                    "another source reads edges of this clock, and before Linux 6.7 they take them from each other: keep one \
                     of the two",
                ));
            }
            let stamps = ExternalStamps::switch_on(path, channel).map_err(Fault::new)?;
            facts.stamps_both_edges = stamps.is_both_edges();
            self.stamps.insert((path.to_owned(), channel.number), stamps);
        }
        Ok((file, facts))
    }

    /// The socket as it is, or a new one where there is none or somebody removed its file.
    pub(crate) fn gpsd(&mut self, path: &Path) -> Result<OwnedFd, Fault> {
        if !self.is_gpsd_current(path) {
            self.sockets.remove(path);
            self.sockets.insert(path.to_owned(), OwnSocket::bind(path).map_err(Fault::new)?);
        }
        let socket = self.sockets.get(path).ok_or_else(|| Fault::new("no socket"))?;
        Ok(socket.descriptor()?)
    }

    pub(crate) fn is_gpsd_current(&self, path: &Path) -> bool {
        self.sockets.get(path).is_some_and(OwnSocket::is_current)
    }

    /// Closes the sockets at other places, and puts back the stamps of other clocks' channels.
    pub(crate) fn keep_only(&mut self, sockets: &[&Path], channels: &[(PathBuf, u32)]) {
        self.sockets.retain(|path, _| sockets.contains(&path.as_path()));
        self.stamps.retain(|place, _| channels.contains(place));
    }

    /// Takes the directory, at the first call, and gives what is kept there.
    pub(crate) fn state(&mut self, named: Option<&Path>) -> Result<Kept, Fault> {
        if let Some(state) = &self.state {
            return Ok(state.kept());
        }
        let path = named.map(Path::to_owned).or_else(|| Surroundings::of_process().state());
        let directory = path.ok_or(StateError::NoPlace).and_then(|path| StateDirectory::open(&path));
        let state = KeptState::of(directory.map_err(Fault::new)?)?;
        Ok(self.state.insert(state).kept())
    }

    /// Has `text` written in the place of what was kept, if it is a document that can be right.
    pub(crate) fn save(&mut self, text: &str) -> Result<(), Fault> {
        if text.len() > DOCUMENT_OCTETS_MAX {
            return Err(Fault::new("too long to be the clock's state"));
        }
        let document: Document = serde_json::from_str(text).map_err(Fault::new)?;
        document.check_by_itself().map_err(Fault::new)?;
        self.state.as_mut().ok_or_else(|| Fault::new(StateError::NoPlace))?.keep(document, text)
    }

    /// A file for reading, and what tells it from another.
    pub(crate) fn file(path: &Path) -> io::Result<(File, FileIdentity)> {
        // Non-blocking: on a FIFO, opening could wait for ever.
        let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
        let identity = FileIdentity::of(&file.metadata()?);
        Ok((file, identity))
    }
}

const NONBLOCK: i32 = nix::fcntl::OFlag::O_NONBLOCK.bits();

/// The addresses of all interfaces; none where the kernel won't tell.
pub(crate) fn interface_addresses() -> Vec<IpAddr> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let address = |storage: nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|name| IpAddr::V4(name.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|name| IpAddr::V6(name.ip())))
    };
    all.filter_map(|interface| interface.address.and_then(address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn this_machines_interfaces_are_found() {
        let found = interface_addresses();
        assert!(found.contains(&Ipv4Addr::LOCALHOST.into()), "{found:?}");
    }
}
