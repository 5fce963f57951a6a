//! The interfaces that requests are taken from: the programs are on them for as long as the keeper lives, whatever becomes
//! of the server, and know at every moment which addresses are this machine's.

use crate::config::{Config, PortChoice};
use crate::interface::{Change, Interface, InterfaceFacts, Refusal};
use maser_sys::netlink::{self, Monitor, Tables};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use thiserror::Error;
use tracing::{info, warn};

/// Why no interface can be had.
#[derive(Debug, Error)]
pub(super) enum InterfacesError {
    /// One was asked for by name, and it can't be.
    #[error("port = \"af-xdp\": {0}; or use port = \"auto\", which takes what this machine offers")]
    Refused(#[from] Refusal),
    /// The kernel doesn't tell of its interfaces.
    #[error("the kernel's interfaces can't be asked for: {0}")]
    Netlink(#[from] io::Error),
}

/// Those that are configured.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    /// None where no interface is named.
    monitor: Option<Monitor>,
    listen: Vec<SocketAddr>,
    named: Vec<Named>,
}

/// One, there or not.
#[derive(Debug)]
struct Named {
    name: String,
    attached: Option<Interface>,
    /// Why it isn't, if it may come: it went, or was missing at the start. Each reason is told once.
    awaited: Option<Refusal>,
}

impl Interfaces {
    /// Puts the programs on. With `auto` an interface that can't have one is left to the kernel's own stack.
    pub(super) fn attach(config: &Config) -> Result<Self, InterfacesError> {
        let server = &config.server;
        if server.interfaces.is_empty() {
            return Ok(Self::default());
        }
        let smearing = config.smear.iter().flat_map(|smear| &smear.listen);
        let listen: Vec<SocketAddr> = server.listen.iter().chain(smearing).copied().collect();
        // Before the tables are asked for, so that nothing is missed in between.
        let monitor = Monitor::open()?;
        let tables = netlink::dump()?;
        let mut named = Vec::with_capacity(server.interfaces.len());
        for name in &server.interfaces {
            let mut one = Named { name: name.clone(), attached: None, awaited: None };
            match one.attach(&listen, &tables) {
                Err(refusal) if server.port == PortChoice::AfXdp => return Err(refusal.into()),
                Err(refusal) => {
                    warn!("port: a step down: {refusal}");
                    one.awaited =
                        Some(refusal).filter(|refusal| matches!(refusal, Refusal::NoInterface { .. }));
                }
                Ok(()) => {}
            }
            named.push(one);
        }
        Ok(Self { monitor: Some(monitor), listen, named })
    }

    /// What becomes readable when the kernel's tables change.
    pub(super) fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(AsFd::as_fd)
    }

    /// What a server is told of them, and the maps that it gets, two for each.
    pub(super) fn handed(&self) -> io::Result<(Vec<InterfaceFacts>, Vec<OwnedFd>)> {
        let mut maps = Vec::new();
        let mut facts = Vec::new();
        for interface in self.named.iter().filter_map(|one| one.attached.as_ref()) {
            maps.extend([interface.sockets_map()?, interface.counts_map()?]);
            facts.push(interface.facts().clone());
        }
        Ok((facts, maps))
    }

    /// Brings the programs to what the kernel's tables say now; whether there must be a new server, since the queues are
    /// others.
    pub(super) fn follow(&mut self) -> io::Result<bool> {
        let Some(monitor) = &self.monitor else { return Ok(false) };
        // Whatever it says, the tables are looked at: the news are only taken off it.
        let _news = monitor.changed()?;
        let tables = netlink::dump()?;
        let mut others = false;
        for one in &mut self.named {
            others |= one.follow(&self.listen, &tables)?;
        }
        Ok(others)
    }
}

impl Named {
    fn attach(&mut self, listen: &[SocketAddr], tables: &Tables) -> Result<(), Refusal> {
        self.attached = Some(Interface::attach(&self.name, listen.to_vec(), None, tables)?);
        Ok(())
    }

    fn follow(&mut self, listen: &[SocketAddr], tables: &Tables) -> io::Result<bool> {
        let Some(interface) = &mut self.attached else {
            if self.awaited.is_none() || tables.link_named(&self.name).is_none() {
                return Ok(false);
            }
            let refused = self.attach(listen, tables).err();
            if refused.is_some() && refused != self.awaited {
                refused.iter().for_each(|refusal| warn!("{refusal}"));
            }
            self.awaited = refused;
            return Ok(self.attached.is_some());
        };
        let mut others = false;
        for change in interface.follow(tables)? {
            info!("{}: {change}", self.name);
            others |= matches!(change, Change::QueuesChanged { .. });
            if change == Change::Gone {
                let there = tables.links.iter().map(|link| link.name.clone()).collect();
                self.awaited = Some(Refusal::NoInterface { name: self.name.clone(), there });
                self.attached = None;
                return Ok(true);
            }
        }
        Ok(others)
    }
}
