//! What the program looks up: a map whose contents follow a set that is given as a whole.

use std::collections::BTreeMap;
use std::io;

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::bpf::io_error;

/// A map of the program's, and what is in it.
#[derive(Debug)]
pub(super) struct Entries {
    map: MapHandle,
    /// Only this process writes the map, so this is what it holds, also after an error.
    there: BTreeMap<Vec<u8>, u32>,
}

impl Entries {
    /// Of a map that is empty.
    pub(super) const fn new(map: MapHandle) -> Self {
        Self { map, there: BTreeMap::new() }
    }

    /// Brings the map to `wanted`: removes first, so that nobody is answered for what is gone.
    pub(super) fn set(&mut self, wanted: &BTreeMap<Vec<u8>, u32>) -> io::Result<()> {
        let limit = self.map.max_entries() as usize;
        if wanted.len() > limit {
            let message = format!("{} entries, and the XDP program knows at most {limit}", wanted.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let gone: Vec<Vec<u8>> =
            self.there.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            self.map.delete(&key).map_err(io_error)?;
            self.there.remove(&key);
        }
        for (key, value) in wanted {
            if self.there.get(key) != Some(value) {
                self.map.update(key, &value.to_ne_bytes(), MapFlags::ANY).map_err(io_error)?;
                self.there.insert(key.clone(), *value);
            }
        }
        Ok(())
    }
}
