//! The interfaces that requests are taken from: the programs are on them for as long as the keeper lives, whatever becomes
//! of the server, and know at every moment which addresses are this machine's.

use super::records::{self, Record};
use crate::config::{Config, MEMORY_OCTETS, PortChoice};
use crate::interface::settings::Settings;
use crate::interface::{Change, Interface, InterfaceFacts, Refusal};
use maser_sys::netlink::{self, Link, Monitor, Tables};
use maser_sys::xdp_program::{SharedMaps, SocketsMap, XdpError};
use std::cell::OnceCell;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use thiserror::Error;
use tracing::{error, info, warn};

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
    wanted: Wanted,
    named: Vec<Named>,
}

/// What the operator wants of each.
#[derive(Debug, Default)]
struct Wanted {
    listen: Vec<SocketAddr>,
    /// The server polls the driver, which is to leave interrupts off meanwhile.
    busy_poll: bool,
    /// Octets of the limiter's table.
    table_octets: u64,
    /// Made with the first interface.
    shared: OnceCell<SharedMaps>,
}

impl Wanted {
    /// What the programs have in common: made once, as the table that servers go on with.
    fn shared(&self) -> Result<&SharedMaps, XdpError> {
        if let Some(shared) = self.shared.get() {
            return Ok(shared);
        }
        let made = SharedMaps::new(self.table_octets)?;
        Ok(self.shared.get_or_init(|| made))
    }
}

/// One, there or not.
#[derive(Debug)]
struct Named {
    name: String,
    attached: Option<Interface>,
    /// Why it isn't. Each reason is told once.
    refused: Option<Refusal>,
    /// It went, or was missing at the start, so that it may come.
    awaited: bool,
}

impl Interfaces {
    /// Puts the programs on. With `auto` an interface that can't have one is left to the kernel's own stack.
    pub(super) fn attach(config: &Config) -> Result<Self, InterfacesError> {
        let server = &config.server;
        if server.interfaces.is_empty() {
            return Ok(Self::default());
        }
        let wanted = Wanted {
            listen: config.listeners().collect(),
            busy_poll: server.busy_poll,
            table_octets: table_octets(config),
            ..Wanted::default()
        };
        // Before the tables are asked for, so that nothing is missed in between.
        let monitor = Monitor::open()?;
        let tables = netlink::dump()?;
        let mut named = Vec::with_capacity(server.interfaces.len());
        for name in &server.interfaces {
            let mut one = Named { name: name.clone(), attached: None, refused: None, awaited: false };
            match one.attach(&wanted, &tables) {
                Err(refusal) if server.port == PortChoice::AfXdp => return Err(refusal.into()),
                Err(refusal) => {
                    warn!("port: a step down: {refusal}");
                    one.awaited = matches!(refusal, Refusal::NoInterface { .. });
                    one.refused = Some(refusal);
                }
                Ok(()) => {}
            }
            named.push(one);
        }
        Ok(Self { monitor: Some(monitor), wanted, named })
    }

    /// What becomes readable when the kernel's tables change.
    pub(super) fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(AsFd::as_fd)
    }

    /// What a server is told of them, and the maps that it gets: three for each, and if there is any the three that they
    /// share.
    pub(super) fn handed(&self) -> io::Result<(Vec<InterfaceFacts>, Vec<OwnedFd>)> {
        let mut maps = Vec::new();
        let mut facts = Vec::new();
        for interface in self.named.iter().filter_map(|one| one.attached.as_ref()) {
            maps.extend([interface.sockets_map()?, interface.counts_map()?, interface.limits_map()?]);
            facts.push(interface.facts().clone());
        }
        if let Some(shared) = self.wanted.shared.get().filter(|_| !facts.is_empty()) {
            maps.push(shared.table_map()?);
            maps.extend(shared.sources_maps()?);
        }
        Ok((facts, maps))
    }

    /// The names of those that aren't to be had, and why.
    pub(super) fn refused(&self) -> Vec<(String, String)> {
        let refused = self.named.iter().filter_map(|one| one.refused.as_ref().map(|why| (one, why)));
        refused.map(|(one, why)| (one.name.clone(), why.to_string())).collect()
    }

    /// From now on what another configuration listens to is answered, once the tables are [followed](Self::follow).
    pub(super) fn turn_to(&mut self, config: &Config) {
        self.wanted.listen = config.listeners().collect();
        for interface in self.named.iter_mut().filter_map(|one| one.attached.as_mut()) {
            interface.answer_for(self.wanted.listen.clone());
        }
    }

    /// From now on all that comes goes to the kernel's own stack, until a server puts sockets into the maps again; whether there
    /// is an interface at all.
    pub(super) fn leave_queues(&self) -> bool {
        let mut are_any = false;
        for interface in self.named.iter().filter_map(|one| one.attached.as_ref()) {
            are_any = true;
            let left = interface.sockets_map().map(SocketsMap::from_fd).map(|map| {
                // Those without a socket are left already.
                (0..interface.facts().queues).for_each(|queue| drop(map.remove(queue)));
            });
            if let Err(error) = left {
                error!("{}: the queues can't be left: {error}", interface.facts().name);
            }
        }
        are_any
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
            match one.follow(&self.wanted, &tables) {
                Ok(other) => others |= other,
                // The others are followed all the same.
                Err(error) => error!("{}: the interface can't be followed: {error}", one.name),
            }
        }
        Ok(others)
    }
}

impl Named {
    fn attach(&mut self, wanted: &Wanted, tables: &Tables) -> Result<(), Refusal> {
        let shared = wanted.shared().map_err(|error| Refusal::Program { name: self.name.clone(), error })?;
        let interface = Interface::attach_sharing(&self.name, wanted.listen.clone(), shared, tables)?;
        if wanted.busy_poll
            && let Some(link) = tables.link(interface.facts().index)
        {
            put_off_interrupts(link)
                .map_err(|error| Refusal::BusyPoll { name: self.name.clone(), error: error.to_string() })?;
        }
        self.attached = Some(interface);
        Ok(())
    }

    fn follow(&mut self, wanted: &Wanted, tables: &Tables) -> io::Result<bool> {
        let Some(interface) = &mut self.attached else {
            if !self.awaited || tables.link_named(&self.name).is_none() {
                return Ok(false);
            }
            let refused = self.attach(wanted, tables).err();
            if refused.is_some() && refused != self.refused {
                refused.iter().for_each(|refusal| warn!("{refusal}"));
            }
            self.refused = refused;
            return Ok(self.attached.is_some());
        };
        let mut others = false;
        for change in interface.follow(tables)? {
            info!("{}: {change}", self.name);
            others |= matches!(change, Change::QueuesChanged { .. });
            if change == Change::Gone {
                let there = tables.links.iter().map(|link| link.name.clone()).collect();
                self.refused = Some(Refusal::NoInterface { name: self.name.clone(), there });
                self.awaited = true;
                self.attached = None;
                return Ok(true);
            }
        }
        Ok(others)
    }
}

/// Sets the interface as busy polling wants it, once what was there before is on disk.
fn put_off_interrupts(link: &Link) -> Result<(), Box<dyn Error>> {
    let record = Settings::POLLED.record(link)?;
    let file = records::place()?;
    records::keep(&file, Record::Polling(record.clone()))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    record.apply().inspect_err(|_| {
        // Some of it may be set. What can't be put back now is tried again at the end.
        let _tried = record.restore();
    })?;
    info!("{}: {}", link.name, record.ours);
    Ok(())
}

/// What the limiter's table takes. The programs want one even where nobody is limited.
fn table_octets(config: &Config) -> u64 {
    if config.limit.rate == 0 { *MEMORY_OCTETS.start() } else { config.limit.memory_octets }
}
