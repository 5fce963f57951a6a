//! What a server asks its keeper for, and the answers: JSON over a channel, descriptors beside it.

use super::steering::Ordered;
use crate::config::AccessKind;
use crate::interface::NicNow;
use crate::status::LoadStatus;
use maser_sys::handover::Channel;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What the server asks the keeper for. Sources are named by their places in the configuration and paths never: those of
/// the keeper's own configuration are meant.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Its turn.
    Turn(Turn),
    /// What became of the configuration.
    Load,
    /// The serial line of a source.
    Line(usize),
    /// The PPS device of a source, its edge captured.
    Pps(usize),
    /// A source's NIC clock, for reading; its stamps of pulses switched on, if that is what it is a source of.
    Phc(usize),
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
    /// The file of one of the lists of who may ask.
    AccessFile(AccessKind),
    /// The addresses of a source's server.
    Resolve(usize),
    /// What the kernel says now of the NICs that were handed over.
    Nics,
    /// The addresses of this machine.
    OwnAddresses,
    /// The machine's clock is to be steered so.
    Steer(Ordered),
    /// Somebody else steers the machine's clock: no server is to do so any more.
    Contested,
}

/// How servers follow one another.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Turn {
    /// It answers requests from now on. The answer comes once a server that did before has ended.
    Ready,
    /// It wants the interfaces' queues. The answer comes once a server that has them has left them.
    Queues,
    /// It has left the interfaces' queues, as it was told to.
    QueuesLeft,
    /// This is in the way of its taking over.
    Failed(String),
}

/// What the keeper answers when it could.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// The descriptor comes along.
    Opened,
    /// The descriptor of a file comes along.
    File(FileIdentity),
    /// The descriptor of a NIC's clock comes along; what its driver calls it.
    Phc(PhcFacts),
    /// Yes or no.
    Is(bool),
    /// What was kept.
    State(Kept),
    /// These.
    Addresses(Vec<IpAddr>),
    /// In the order in which they were handed over.
    Nics(Vec<NicNow>),
    /// This.
    Load(LoadStatus),
}

/// What is known of a NIC's clock that was opened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PhcFacts {
    /// Its driver's name for it.
    pub name: String,
    /// Whether it stamps both ends of a pulse, of which one was asked for.
    pub stamps_both_edges: bool,
}

/// What was kept across restarts, and where.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The file.
    pub file: PathBuf,
    /// Its text, if there is one, or why it can't be read.
    pub text: Result<Option<String>, String>,
}

/// What tells one state of a file from another: device, inode, length, and the moment of its last change (of what is in it,
/// or of who may read it).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileIdentity(u64, u64, u64, i64, i64);

impl FileIdentity {
    /// Of an open file.
    pub(crate) fn of(file: &Metadata) -> Self {
        Self(file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec())
    }
}

/// Sends a message and what comes with it.
pub(crate) fn send(to: &Channel, message: &impl Serialize, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
    to.send(&serde_json::to_vec(message)?, with.as_slice())
}

/// Waits for a question. Nothing comes with one.
pub(crate) fn receive_ask(from: &Channel) -> io::Result<Ask> {
    read(&from.receive_octets()?)
}

/// Waits for a message and what comes with it.
pub(crate) fn receive<M: DeserializeOwned>(from: &Channel) -> io::Result<(M, Option<OwnedFd>)> {
    let (octets, descriptors) = from.receive()?;
    Ok((read(&octets)?, descriptors.into_iter().next()))
}

/// A message that ends too early is a wrong one, and not the channel's end.
fn read<M: DeserializeOwned>(octets: &[u8]) -> io::Result<M> {
    serde_json::from_slice(octets).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
