//! The limiter's table, which outlives servers: where interfaces' programs look into it it is theirs, and not here.

use crate::config::Config;
use maser_sys::limit_table;
use maser_sys::random;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Its memory, and how much that is.
#[derive(Debug)]
pub(super) struct Table {
    octets: u64,
    memory: OwnedFd,
}

impl Table {
    /// For this configuration; none where nobody is limited, or the programs of interfaces look into it, too.
    pub(super) fn wanted(config: &Config) -> io::Result<Option<Self>> {
        if config.limit.rate == 0 || !config.server.interfaces.is_empty() {
            return Ok(None);
        }
        let octets = config.limit.memory_octets;
        Ok(Some(Self { octets, memory: limit_table::memory(octets)? }))
    }

    /// Whether it can go on being used for this configuration.
    pub(super) fn suits(&self, config: &Config) -> bool {
        config.limit.rate != 0 && self.octets == config.limit.memory_octets
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

/// What its entries are found by, which nobody outside may know: with the same one the next server finds who asked how much.
pub(super) fn new_key() -> io::Result<[u64; 2]> {
    let mut secret = [[0; 8]; 2];
    random::fill(secret.as_flattened_mut())?;
    Ok(secret.map(u64::from_ne_bytes))
}
