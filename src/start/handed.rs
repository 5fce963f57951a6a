//! What the keeper hands to the server it starts.

use crate::hands::{Hands, Past};
use crate::interface::{InterfaceFacts, NicFacts};
use crate::state::legacy::Legacy;
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

/// What the programs of all interfaces look into, and servers before this one may have written.
#[derive(Debug)]
pub struct HandedShared {
    /// The limiter's table.
    pub table: SharedTable,
    /// The lists of sources.
    pub sources: AccessTries,
}

/// All that a server gets beside its configuration.
#[derive(Debug)]
pub struct Handed {
    /// The interfaces named, in the order of the configuration.
    pub interfaces: Vec<HandedInterface>,
    /// What these have in common; none without any.
    pub shared: Option<HandedShared>,
    /// Those named that the program isn't on, and why.
    pub refused: Vec<(String, String)>,
    /// The NICs that were named for their stamps, and the clocks of those that have one.
    pub nics: Vec<(NicFacts, Option<OwnedFd>)>,
    /// Who opens what the server may not open itself.
    pub hands: Hands,
    /// Another server has answered before.
    pub again: bool,
    /// What the server before has left.
    pub legacy: Option<Legacy>,
    /// What the servers before have done with the machine's clock.
    pub steering: Past,
}
