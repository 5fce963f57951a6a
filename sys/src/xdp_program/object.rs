//! The compiled program: loading one of its two variants with its maps.

use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::libbpf_sys::BPF_F_XDP_DEV_BOUND_ONLY;
use libbpf_rs::{MapCore, MapHandle, Object, ObjectBuilder};

use crate::bpf::{Aligned, errno_of};

use super::reasons::REASONS;
use super::{SharedMaps, XdpError};
use crate::access_tries::{KEY4, KEY6};
use crate::driver_limits;
use crate::limit_table::SET_WORDS;

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../xdp/redirect.o"));

/// The programs of the object, which decide the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Variant {
    /// For any device.
    Plain,
    /// For the one with this index: it asks its driver for the NIC's stamps.
    Nic(u32),
}

impl Variant {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "redirect",
            Self::Nic(_) => "redirect_nic",
        }
    }
}

/// A variant and its maps, loaded.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) program: OwnedFd,
    pub(super) destinations: MapHandle,
    pub(super) vlans: MapHandle,
    pub(super) stations: MapHandle,
    pub(super) sockets: MapHandle,
    pub(super) counts: MapHandle,
    pub(super) limits: MapHandle,
}

impl Loaded {
    /// Without `shared` the maps that programs have in common are its own, and the table is one set.
    pub(super) fn new(variant: Variant, shared: Option<&SharedMaps>) -> Result<Self, XdpError> {
        // What libbpf would print is in the errors; the verifier's words are had from `bpftool prog load`.
        libbpf_rs::set_print(None);
        let mut builder = ObjectBuilder::default();
        let mut object = builder.open_memory(&OBJECT.0).map_err(refused("opening the XDP program"))?;
        for mut program in object.progs_mut() {
            let wanted = program.name() == variant.name();
            program.set_autoload(wanted);
            if let (true, Variant::Nic(interface)) = (wanted, variant) {
                program.set_ifindex(interface);
                program.set_flags(BPF_F_XDP_DEV_BOUND_ONLY);
            }
        }
        let cores = libbpf_rs::num_possible_cpus().map_err(refused("counting the cores"))?;
        for mut map in object.maps_mut().filter(|map| map.name() == "counts") {
            let cores = u32::try_from(cores).unwrap_or(u32::MAX);
            map.set_max_entries(cores).map_err(refused("making room for counts"))?;
        }
        if let Some(SharedMaps { table, sources: [ip4, ip6] }) = shared {
            for (name, map) in [("table", table), ("sources4", ip4), ("sources6", ip6)] {
                let mut own = object.maps_mut().find(|own| own.name() == name).ok_or(missing(name))?;
                own.reuse_fd(map.as_fd()).map_err(refused("taking the maps that XDP programs share"))?;
            }
        }
        Self::of(&object.load().map_err(refused("loading the XDP program"))?, variant.name())
    }

    fn of(object: &Object, name: &'static str) -> Result<Self, XdpError> {
        let program = object.progs().find(|program| program.name() == name).ok_or(missing(name))?;
        let program = program.as_fd().try_clone_to_owned();
        // What this process doesn't write is looked at all the same: others make it by what is said here.
        map_of(object, "table", [4, SET_WORDS * 8])?;
        map_of(object, "sources4", [KEY4, 4])?;
        map_of(object, "sources6", [KEY6, 4])?;
        Ok(Self {
            program: program.map_err(|error| of_errno(name, error.raw_os_error().unwrap_or(0)))?,
            destinations: map_of(object, "destinations", [super::DESTINATION_OCTETS, 4])?,
            vlans: map_of(object, "vlans", [super::VLAN_OCTETS, 4])?,
            stations: map_of(object, ".data.stations", [4, super::STATIONS * 8])?,
            sockets: map_of(object, "sockets", [4, 4])?,
            counts: map_of(object, "counts", [4, REASONS * 8])?,
            limits: map_of(object, "limits", [4, driver_limits::WORDS * 8])?,
        })
    }
}

/// A map whose keys and values have so many octets.
fn map_of(object: &Object, name: &'static str, octets: [usize; 2]) -> Result<MapHandle, XdpError> {
    let map = object.maps().find(|map| map.name() == name).ok_or(missing(name))?;
    let program_s = [map.key_size(), map.value_size()].map(|octets| octets as usize);
    assert_eq!(program_s, octets, "{name} is laid out as the program's");
    MapHandle::try_from(&map).map_err(refused(name))
}

/// What the object should have had: it isn't the one that this was written for.
const fn missing(what: &'static str) -> XdpError {
    XdpError::Refused { what, errno: libc::ENOENT }
}

pub(super) fn refused(what: &'static str) -> impl Fn(libbpf_rs::Error) -> XdpError {
    move |error| of_errno(what, errno_of(&error))
}

const fn of_errno(what: &'static str, errno: i32) -> XdpError {
    if errno == libc::EPERM { XdpError::Forbidden } else { XdpError::Refused { what, errno } }
}
