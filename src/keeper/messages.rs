//! What the two processes say to each other: JSON over a channel, descriptors beside it.

use crate::config::CONFIG_OCTETS_MAX;
use crate::interface::InterfaceFacts;
use crate::leaps::FileIdentity;
use crate::state::{Document, ReadError};
use maser_sys::handover::Channel;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// What the server asks the keeper for. Sources are named by their places in the configuration and paths never: those of
/// the keeper's own configuration are meant.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Nothing; it answers requests from now on.
    Ready,
    /// The serial line of a source.
    Line(usize),
    /// The PPS device of a source, its edge captured.
    Pps(usize),
    /// The socket that gpsd writes to for a source.
    Gpsd(usize),
    /// Whether that socket's file still leads to it.
    IsGpsdCurrent(usize),
    /// What was kept across restarts.
    State,
    /// This is to be kept.
    Save(String),
    /// This is for the server that takes this one's place; the keeper only passes it on. None takes back what was left.
    Leave(Option<String>),
    /// The list of leap seconds.
    LeapFile,
    /// The addresses of a source's server.
    Resolve(usize),
    /// The addresses of this machine.
    OwnAddresses,
}

/// What the keeper answers when it could.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It is done.
    Done,
    /// The descriptor comes along.
    Opened,
    /// The descriptor of the list of leap seconds comes along.
    LeapFile(FileIdentity),
    /// Yes or no.
    Is(bool),
    /// What was kept.
    State(Kept),
    /// These.
    Addresses(Vec<IpAddr>),
}

/// What was kept across restarts, and where.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The file.
    pub file: PathBuf,
    /// Its text, if there is one, or why it can't be read.
    pub text: Result<Option<String>, String>,
}

impl Kept {
    /// What was kept; none where nothing was.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn document(&self) -> Result<Option<Document>, String> {
        let Some(text) = self.text.as_ref().map_err(String::clone)? else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|error| ReadError::Broken(error).to_string())
    }
}

/// A longer reason isn't told to its end.
const FAULT_OCTETS_MAX: usize = 1_000;

/// Why something wasn't done, in words and, where the system said so, by its number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    errno: Option<i32>,
    why: String,
}

impl Fault {
    pub(crate) fn new(why: impl fmt::Display) -> Self {
        Self { errno: None, why: shortened(&why, FAULT_OCTETS_MAX) }
    }
}

/// What a text says may be the other process's words: no more of them.
pub(super) fn shortened(text: &impl fmt::Display, octets_max: usize) -> String {
    let mut text = text.to_string();
    text.truncate(text.floor_char_boundary(octets_max));
    text
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error(), why: shortened(&error, FAULT_OCTETS_MAX) }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        fault.errno.map_or_else(|| Self::other(fault.why), Self::from_raw_os_error)
    }
}

/// The first message, from the keeper: what a server starts with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handover {
    /// The configuration's text as the keeper read it, so that a server started again means the same.
    pub config: Option<String>,
    /// Whether the status socket's descriptor comes along.
    pub status: bool,
    /// Two descriptors each come along.
    pub interfaces: Vec<InterfaceFacts>,
    /// Interfaces' names, and why the program isn't on them.
    pub refused: Vec<(String, String)>,
    /// Another server has answered before.
    pub again: bool,
    /// What the server before has left.
    pub legacy: Option<Left>,
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
    /// Sends it, in a file without a name: it may be longer than a message.
    pub(super) fn send(&self, to: &Channel, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut file = File::from(memfd_create(c"maser", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        file.rewind()?;
        to.send(b"handover", &[&[file.as_fd()], descriptors].concat())
    }

    /// Waits for it and what comes with it.
    pub(super) fn receive(from: &Channel) -> io::Result<(Self, impl Iterator<Item = OwnedFd> + use<>)> {
        let (_, descriptors) = from.receive()?;
        let mut descriptors = descriptors.into_iter();
        let file = File::from(descriptors.next().ok_or(io::ErrorKind::InvalidData)?);
        let mut octets = Vec::new();
        file.take(HANDOVER_OCTETS_MAX).read_to_end(&mut octets)?;
        Ok((serde_json::from_slice(&octets)?, descriptors))
    }
}

/// Sends a message and what comes with it.
pub(super) fn send(to: &Channel, message: &impl Serialize, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
    to.send(&serde_json::to_vec(message)?, with.as_slice())
}

/// Waits for a question. Nothing comes with one.
pub(super) fn receive_ask(from: &Channel) -> io::Result<Ask> {
    read(&from.receive_octets()?)
}

/// Waits for a message and what comes with it.
pub(super) fn receive<M: DeserializeOwned>(from: &Channel) -> io::Result<(M, Option<OwnedFd>)> {
    let (octets, descriptors) = from.receive()?;
    Ok((read(&octets)?, descriptors.into_iter().next()))
}

/// A message that ends too early is a wrong one, and not the channel's end.
fn read<M: DeserializeOwned>(octets: &[u8]) -> io::Result<M> {
    serde_json::from_slice(octets).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
