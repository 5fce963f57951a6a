//! The compiled programs: loading those that are wanted with their settings, and attaching them.
//!
//! Nothing is pinned: a program lives as long as a descriptor of ours, and is off its interface when the last one is
//! closed, however the process ends. A program of somebody else's is never replaced: a link can't.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys::{BPF_XDP, bpf_link_create, bpf_link_create_opts};
use libbpf_rs::{Link, MapCore, MapHandle, Object, ObjectBuilder};

use nix::net::if_::if_indextoname;

use super::LiveError;

/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE`.
const GENERIC: u32 = 1 << 1;
const NATIVE: u32 = 1 << 2;
/// The key of an array's first element.
pub(super) const FIRST: &[u8] = &[0; 4];

/// ELF's tables are read in place, as 64-bit words.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../xdp/load.o"));

/// Where an XDP program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// After the kernel has made a socket buffer, since the driver has no place for it: correct, but slow.
    Generic,
}

/// A program on an interface for as long as this lives.
#[derive(Debug)]
pub(super) struct Attached {
    _link: OwnedFd,
    pub(super) mode: AttachMode,
}

/// Some of the object's programs and maps, loaded.
pub(super) struct Programs(Object);

impl Programs {
    /// Loads the programs named, and of the maps only those named, with the words that they begin with.
    pub(super) fn load(programs: &[&str], maps: &[(&str, Option<&[u64]>)]) -> Result<Self, LiveError> {
        let errno = |what| move |error| LiveError::of_errno(what, errno_of(&error));
        let mut object = ObjectBuilder::default();
        // What libbpf would print is in the errors; the verifier's words are had from `bpftool prog load`.
        libbpf_rs::set_print(None);
        let mut object = object.open_memory(&OBJECT.0).map_err(errno("opening the programs"))?;
        for mut program in object.progs_mut() {
            let wanted = programs.iter().any(|name| program.name() == *name);
            program.set_autoload(wanted);
        }
        for mut map in object.maps_mut() {
            let wanted = maps.iter().find(|(name, _)| map.name() == *name);
            map.set_autocreate(wanted.is_some()).map_err(errno("leaving out a map"))?;
            if let Some((_, Some(words))) = wanted {
                map.set_initial_value(&bytes_of(words)).map_err(errno("setting a map"))?;
            }
        }
        object.load().map(Self).map_err(errno("loading the programs"))
    }

    pub(super) fn program(&self, name: &'static str) -> Result<OwnedFd, LiveError> {
        let program = self.0.progs().find(|program| program.name() == name);
        let owned = program.ok_or(missing(name))?.as_fd().try_clone_to_owned();
        owned.map_err(|error| LiveError::of_errno(name, error.raw_os_error().unwrap_or(0)))
    }

    pub(super) fn map(&self, name: &'static str) -> Result<MapHandle, LiveError> {
        let map = self.0.maps().find(|map| map.name() == name);
        MapHandle::try_from(&map.ok_or(missing(name))?)
            .map_err(|error| LiveError::of_errno(name, errno_of(&error)))
    }

    /// Has a program follow a raw tracepoint.
    pub(super) fn trace(&mut self, name: &'static str, tracepoint: &str) -> Result<Link, LiveError> {
        let program = self.0.progs_mut().find(|program| program.name() == name);
        let link = program.ok_or(missing(name))?.attach_raw_tracepoint(tracepoint);
        link.map_err(|error| LiveError::of_errno(name, errno_of(&error)))
    }

    /// Puts a program on an interface: in its driver, else behind it.
    pub(super) fn attach(&self, name: &'static str, interface: u32) -> Result<Attached, LiveError> {
        // The kernel calls an interface that isn't there an invalid argument, and nix 0.31 an empty name.
        if if_indextoname(interface).is_ok_and(|name| name.is_empty()) {
            return Err(LiveError::NoInterface);
        }
        let program = self.program(name)?;
        let refusal = match link(&program, interface, NATIVE) {
            Ok(link) => return Ok(Attached { _link: link, mode: AttachMode::Native }),
            Err(errno) => LiveError::of_errno("attaching", errno),
        };
        if !matches!(refusal, LiveError::Refused { .. }) {
            return Err(refusal);
        }
        let link = link(&program, interface, GENERIC).map_err(|_| refusal)?;
        Ok(Attached { _link: link, mode: AttachMode::Generic })
    }
}

/// What the object should have had: it isn't the one that this was written for.
const fn missing(what: &'static str) -> LiveError {
    LiveError::Refused { what, errno: libc::ENOENT }
}

fn link(program: &OwnedFd, interface: u32, flags: u32) -> Result<OwnedFd, i32> {
    let sz = size_of::<bpf_link_create_opts>() as libbpf_rs::libbpf_sys::size_t;
    let options = bpf_link_create_opts { sz, flags, ..Default::default() };
    let interface = interface.try_into().map_err(|_| libc::ENODEV)?;
    // SAFETY: the program's descriptor is open, and the options' size is their own.
    let link = unsafe { bpf_link_create(program.as_raw_fd(), interface, BPF_XDP, &raw const options) };
    if link < 0 {
        return Err(-link);
    }
    // SAFETY: the call returned a new descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// The kernel's number in an error of the loader's.
fn errno_of(error: &libbpf_rs::Error) -> i32 {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return errno;
        }
        cause = error.source();
    }
    // An error of input or output that nothing was said about keeps its number to itself.
    if error.kind() == libbpf_rs::ErrorKind::PermissionDenied { libc::EPERM } else { 0 }
}

/// An error on a map.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn io_error(error: libbpf_rs::Error) -> io::Error {
    match errno_of(&error) {
        0 => io::Error::other(error.to_string()),
        errno => io::Error::from_raw_os_error(errno),
    }
}

/// A map's value from its words.
pub(super) fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A map's value as words.
pub(super) fn words_of(octets: &[u8]) -> impl Iterator<Item = u64> {
    octets.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word))
}
