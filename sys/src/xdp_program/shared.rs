//! The maps that the programs of all interfaces have in common.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::libbpf_sys::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_map_create_opts};
use libbpf_rs::{MapHandle, MapType};

use super::XdpError;
use super::object::refused;
use crate::access_tries::{KEY4, KEY6, PREFIXES_MAX};
use crate::limit_table::{SET_OCTETS, sets};

/// The limiter's table and the lists of sources, made once and looked into by every program that is attached with them.
#[derive(Debug)]
pub struct SharedMaps {
    pub(super) table: MapHandle,
    pub(super) sources: [MapHandle; 2],
}

impl SharedMaps {
    /// With a table of so many octets, rounded down to whole sets. Nothing is in them, and all of the table's memory is
    /// taken.
    ///
    /// # Errors
    /// What this process or the kernel lacks, memory among it.
    pub fn new(table_octets: u64) -> Result<Self, XdpError> {
        let what = "making the limiter's table for the XDP programs";
        let sets = sets(table_octets).map_err(|_| XdpError::Refused { what, errno: libc::EINVAL })?;
        let set_octets = u32::try_from(SET_OCTETS).unwrap_or(u32::MAX);
        let table = create(MapType::Array, "table", [4, set_octets], sets, BPF_F_MMAPABLE);
        let source = |name, key: usize| {
            let room = u32::try_from(2 * PREFIXES_MAX).unwrap_or(u32::MAX);
            let octets = [u32::try_from(key).unwrap_or(u32::MAX), 4];
            create(MapType::LpmTrie, name, octets, room, BPF_F_NO_PREALLOC)
                .map_err(refused("making the lists of sources for the XDP programs"))
        };
        Ok(Self {
            table: table.map_err(refused(what))?,
            sources: [source("sources4", KEY4)?, source("sources6", KEY6)?],
        })
    }

    /// The table, for [`SharedTable`](crate::limit_table::SharedTable).
    ///
    /// # Errors
    /// No descriptor left.
    pub fn table_map(&self) -> io::Result<OwnedFd> {
        self.table.as_fd().try_clone_to_owned()
    }

    /// The lists of sources, for [`AccessTries`](crate::access_tries::AccessTries): IPv4's and IPv6's.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn sources_maps(&self) -> io::Result<[OwnedFd; 2]> {
        let [ip4, ip6] = &self.sources;
        Ok([ip4.as_fd().try_clone_to_owned()?, ip6.as_fd().try_clone_to_owned()?])
    }
}

fn create(
    map_type: MapType,
    name: &str,
    [key, value]: [u32; 2],
    entries: u32,
    map_flags: u32,
) -> libbpf_rs::Result<MapHandle> {
    let sz = size_of::<bpf_map_create_opts>() as libbpf_rs::libbpf_sys::size_t;
    let options = bpf_map_create_opts { sz, map_flags, ..Default::default() };
    MapHandle::create(map_type, Some(name), key, value, entries, &options)
}
