//! What the keeper hands to the server it starts.

use crate::hands::{Hands, Past};
use crate::interface::{InterfaceFacts, NicFacts};
use crate::state::legacy::Legacy;
use maser_core::limit::hash::Key;
use maser_sys::access_tries::AccessTries;
use maser_sys::driver_limits::DriverLimits;
use maser_sys::limit_table::SharedTable;
use std::os::fd::OwnedFd;

/// An interface with the program attached: what the server needs to take its packets.
#[derive(Debug)]
pub struct HandedInterface {
    /// What the keeper found out about it.
    pub facts: InterfaceFacts,
    /// The XSKMAP, into which the server puts its own sockets.
    pub sockets_map: OwnedFd,
    /// The program's counts, to be mapped and read.
    pub counts_map: OwnedFd,
    /// What the program drops by.
    pub limits: DriverLimits,
}

/// All that a server gets beside its configuration.
#[derive(Debug)]
pub struct Handed {
    /// The cores of the workers: at least one.
    pub cores: Vec<usize>,
    /// As [`Sockets::descriptors`](crate::sockets::Sockets::descriptors) gave them for these workers.
    pub sockets: Vec<OwnedFd>,
    /// The limiter's table, which servers before this one may have written and the programs of interfaces look into; none
    /// where nobody is limited.
    pub table: Option<SharedTable>,
    /// What its entries are found by.
    pub key: Key,
    /// The interfaces named, in the order of the configuration.
    pub interfaces: Vec<HandedInterface>,
    /// The lists of sources, which their programs look into; none without any.
    pub sources: Option<AccessTries>,
    /// Those named that the program isn't on, and why.
    pub refused: Vec<(String, String)>,
    /// The NICs that were named for their stamps, and the clocks of those that have one.
    pub nics: Vec<(NicFacts, Option<OwnedFd>)>,
    /// Who opens what the server may not open itself.
    pub hands: Hands,
    /// What the server before has left.
    pub legacy: Option<Legacy>,
    /// What the servers before have done with the machine's clock.
    pub steering: Past,
}
