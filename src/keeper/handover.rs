//! What a server starts with: the first message, from the keeper.

use super::outlets::Which;
use crate::config::CONFIG_OCTETS_MAX;
use crate::hands::Past;
use crate::interface::{InterfaceFacts, NicFacts};
use maser_sys::handover::{Channel, DESCRIPTORS_MAX};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The first message, from the keeper: what a server starts with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handover {
    /// The configuration's text as the keeper read it, so that a server started again means the same.
    pub config: Option<String>,
    /// The cores of the workers.
    pub cores: Vec<usize>,
    /// How many sockets come along for each of them.
    pub sockets: usize,
    /// What the limiter's entries are found by.
    pub key: [u64; 2],
    /// Whether the memory of its table comes along, which no interface's programs look into.
    pub table: bool,
    /// Which sockets to tell about itself come along.
    pub outlets: Which,
    /// Three descriptors each come along, and if there is any three for all of them.
    pub interfaces: Vec<InterfaceFacts>,
    /// Interfaces' names, and why the program isn't on them.
    pub refused: Vec<(String, String)>,
    /// NICs whose stamps are used, or can't be: a descriptor comes along of each that has a clock.
    pub nics: Vec<NicFacts>,
    /// What the server before has left.
    pub legacy: Option<Left>,
    /// What the servers before have done with the machine's clock.
    pub steering: Past,
    /// Another server answers until this one is ready, which tells the keeper alone what is in its way.
    pub takes_over: bool,
}

/// What a server has left, and when the keeper heard it, ns by `CLOCK_BOOTTIME`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Left {
    pub text: String,
    pub at_ns: i64,
}

/// Longer than a configuration, every octet of it escaped, and all facts can be.
const HANDOVER_OCTETS_MAX: u64 = 8 * CONFIG_OCTETS_MAX as u64;

impl Handover {
    /// Sends it, in a file without a name: it may be longer than a message, and more may come along than with one.
    pub(super) fn send(&self, to: &Channel, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut file = File::from(memfd_create(c"maser", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        file.rewind()?;
        to.send(descriptors.len().to_string().as_bytes(), &[file.as_fd()])?;
        descriptors.chunks(DESCRIPTORS_MAX).try_for_each(|some| to.send(b"descriptors", some))
    }

    /// Waits for it and what comes with it.
    pub(super) fn receive(from: &Channel) -> io::Result<(Self, impl Iterator<Item = OwnedFd> + use<>)> {
        let (count, file) = from.receive()?;
        let count = str::from_utf8(&count).ok().and_then(|count| count.parse::<usize>().ok());
        let count = count.ok_or(io::ErrorKind::InvalidData)?;
        let file = File::from(file.into_iter().next().ok_or(io::ErrorKind::InvalidData)?);
        let mut octets = Vec::new();
        file.take(HANDOVER_OCTETS_MAX).read_to_end(&mut octets)?;
        let mut descriptors = Vec::with_capacity(count);
        while descriptors.len() < count {
            let (_, some) = from.receive()?;
            if some.is_empty() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            descriptors.extend(some);
        }
        Ok((serde_json::from_slice(&octets)?, descriptors.into_iter()))
    }
}
