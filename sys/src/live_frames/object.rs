//! The compiled programs: loading those that are wanted with their settings, and attaching them.

use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::{Link, MapCore, MapHandle, Object, ObjectBuilder};

use crate::bpf::{Aligned, AttachMode, Attached, errno_of, is_interface};

use super::LiveError;

/// The key of an array's first element.
pub(super) const FIRST: &[u8] = &[0; 4];

/// A compiled file.
#[derive(Clone, Copy)]
pub(super) struct File(&'static Aligned<[u8]>);

/// `xdp/load.bpf.c`.
pub(super) const LOAD: File = File(&Aligned(*include_bytes!("../../../xdp/load.o")));
/// `xdp/attack.bpf.c`.
pub(super) const ATTACK: File = File(&Aligned(*include_bytes!("../../../xdp/attack.o")));

/// Some of the object's programs and maps, loaded.
pub(super) struct Programs(Object);

impl Programs {
    /// Loads the programs named, and of the maps only those named, with the words that they begin with.
    pub(super) fn load(programs: &[&str], maps: &[(&str, Option<&[u64]>)]) -> Result<Self, LiveError> {
        Self::load_sized(LOAD, programs, maps, &[])
    }

    /// The same of either file; the maps of `sizes` have so many elements.
    pub(super) fn load_sized(
        file: File,
        programs: &[&str],
        maps: &[(&str, Option<&[u64]>)],
        sizes: &[(&str, u32)],
    ) -> Result<Self, LiveError> {
        let errno = |what| move |error| LiveError::of_errno(what, errno_of(&error));
        let mut object = ObjectBuilder::default();
        // What libbpf would print is in the errors; the verifier's words are had from `bpftool prog load`.
        libbpf_rs::set_print(None);
        let mut object = object.open_memory(&file.0.0).map_err(errno("opening the programs"))?;
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
            if let Some((_, size)) = sizes.iter().find(|(name, _)| map.name() == *name) {
                map.set_max_entries(*size).map_err(errno("sizing a map"))?;
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
        if !is_interface(interface) {
            return Err(LiveError::NoInterface);
        }
        let program = self.program(name)?;
        let attach = |mode| Attached::new(program.as_fd(), interface, mode);
        let refusal = match attach(AttachMode::Native) {
            Ok(attached) => return Ok(attached),
            Err(errno) => LiveError::of_errno("attaching", errno),
        };
        if !matches!(refusal, LiveError::Refused { .. }) {
            return Err(refusal);
        }
        attach(AttachMode::Generic).map_err(|_| refusal)
    }
}

/// What the object should have had: it isn't the one that this was written for.
const fn missing(what: &'static str) -> LiveError {
    LiveError::Refused { what, errno: libc::ENOENT }
}

/// A map's value from its words.
pub(super) fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A map's value as words.
pub(super) fn words_of(octets: &[u8]) -> impl Iterator<Item = u64> {
    octets.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word))
}
