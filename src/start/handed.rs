//! What the keeper hands to the server it starts.

use crate::hands::{Hands, Past};
use crate::interface::{InterfaceFacts, NicFacts};
use crate::state::legacy::Legacy;
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
}

/// All that a server gets beside its configuration.
#[derive(Debug)]
pub struct Handed {
    /// The interfaces named, in the order of the configuration.
    pub interfaces: Vec<HandedInterface>,
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
