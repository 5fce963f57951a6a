//! What sysfs shows and lets one set of an interface.
//!
//! `/sys` shows the network namespace that it was mounted in, which isn't always the one we are in: an `eth0` there may be
//! another machine's. A directory is used only if it has the interface's number and MAC address.

use maser_sys::netlink::Link;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

const INTERFACES: &str = "/sys/class/net";

/// The directory of an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// The interface's; none where sysfs shows another namespace, or isn't there.
    pub(super) fn of(link: &Link) -> Option<Self> {
        let directory = Self(Path::new(INTERFACES).join(&link.name));
        directory.is_of(link.index, link.hardware_address).then_some(directory)
    }

    /// That of the interface which has this number and MAC address, whatever its name; none if it is gone.
    pub(super) fn find(index: u32, hardware_address: Option<[u8; 6]>) -> io::Result<Option<Self>> {
        let entries = match fs::read_dir(INTERFACES) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let paths = entries.map_while(Result::ok).map(|entry| Self(entry.path()));
        Ok(paths.into_iter().find(|directory| directory.is_of(index, hardware_address)))
    }

    fn is_of(&self, index: u32, hardware_address: Option<[u8; 6]>) -> bool {
        let same_index = self.read("ifindex").is_ok_and(|text| text.parse() == Ok(index));
        let address = hardware_address.map(|octets| octets.map(|octet| format!("{octet:02x}")).join(":"));
        same_index && address.is_none_or(|address| self.read("address").is_ok_and(|text| text == address))
    }

    /// An attribute's text, without the line's end.
    pub(super) fn read(&self, attribute: &str) -> io::Result<String> {
        Ok(fs::read_to_string(self.path(attribute))?.trim_end().to_owned())
    }

    pub(super) fn write(&self, attribute: &str, value: u64) -> io::Result<()> {
        fs::write(self.path(attribute), value.to_string())
    }

    pub(super) fn path(&self, attribute: &str) -> PathBuf {
        self.0.join(attribute)
    }

    /// How many queues of a kind, `rx` or `tx`, are in use.
    pub(super) fn queues(&self, kind: &str) -> io::Result<u32> {
        let entries = fs::read_dir(self.path("queues"))?.map_while(Result::ok);
        let is_of_kind = |name: &str| name.split_once('-').is_some_and(|(before, _)| before == kind);
        let queues = entries.filter(|entry| is_of_kind(&entry.file_name().to_string_lossy())).count();
        Ok(u32::try_from(queues).unwrap_or(u32::MAX))
    }

    /// The NUMA node that the device is on; none if it has no device, or the machine doesn't say.
    pub(super) fn numa_node(&self) -> Option<u32> {
        // −1 where nobody knows.
        self.read("device/numa_node").ok()?.parse().ok()
    }
}
