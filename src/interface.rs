//! The interfaces that requests are taken from, as the keeper sees them: looked at, the program put on, followed.
//!
//! [`Interface::attach`] refuses what can't work before anything is changed, and tells the program what to answer. From then
//! on the keeper asks the kernel for its tables when [`maser_sys::netlink::Monitor`] is readable, and once a second, and
//! hands them to [`Interface::follow`]: what is gone from them isn't answered any more when it returns. Nothing here parses
//! a packet, and nothing here outlives the value but what [`settings`] record.

mod change;
mod facts;
mod look;
mod nic;
mod preflight;
mod refusal;
pub mod settings;
pub mod stamping;
mod sysfs;
pub mod targets;

pub use change::Change;
pub use facts::{InterfaceFacts, Mode};
pub use look::Look;
pub use nic::{NicFacts, NicNow};
pub use refusal::Refusal;

use maser_sys::ethtool::Ethtool;
use maser_sys::netlink::{Link, Tables};
use maser_sys::xdp_program::{AttachMode, NicStamps, SharedMaps, XdpError, XdpProgram};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use tracing::warn;

use facts::Queues;
use sysfs::Directory;
use targets::Targets;

/// An interface with the program on it, until it is dropped.
#[derive(Debug)]
pub struct Interface {
    program: XdpProgram,
    listen: Vec<SocketAddr>,
    facts: InterfaceFacts,
    carrier: bool,
    /// What the tables say is to be answered.
    targets: Targets,
    /// Why the program passes all to the kernel instead.
    passing: Option<Refusal>,
    gone: bool,
}

impl Interface {
    /// Puts the program on the interface `name`, to answer for `listen`: the addresses of `server.listen` and then those of
    /// `smear.listen`, whose places are the listeners' numbers. In the driver where that can be, unless `mode` says where.
    ///
    /// `tables` are the kernel's of this moment.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn attach(
        name: &str,
        listen: Vec<SocketAddr>,
        mode: Option<Mode>,
        tables: &Tables,
    ) -> Result<Self, Refusal> {
        Self::attach_as(name, listen, mode, None, tables)
    }

    /// The same, with maps that its program shares with other interfaces', and in the driver where that can be.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn attach_sharing(
        name: &str,
        listen: Vec<SocketAddr>,
        shared: &SharedMaps,
        tables: &Tables,
    ) -> Result<Self, Refusal> {
        Self::attach_as(name, listen, None, Some(shared), tables)
    }

    fn attach_as(
        name: &str,
        listen: Vec<SocketAddr>,
        mode: Option<Mode>,
        shared: Option<&SharedMaps>,
        tables: &Tables,
    ) -> Result<Self, Refusal> {
        let link = preflight::find(name, tables)?;
        let ethtool = Ethtool::new(name).map_err(system(name, "a socket for ioctls"))?;
        let features = ethtool.features().map_err(system(name, "asking for features (ethtool -k)"))?;
        preflight::check_features(link, tables, &features)?;
        let directory = Directory::of(link);
        let (facts, left_out) = facts_of(link, directory.as_ref(), &ethtool)
            .map_err(system(name, "asking for queues and the driver (ethtool -l, -i, -g, -n)"))?;
        if facts.queues == 0 {
            return Err(Refusal::NoQueues(name.to_owned()));
        }
        for warning in preflight::warnings(link, &features) {
            warn!("{warning}");
        }
        let (program, why) = put_on(link, mode, shared)?;
        let footing = program.footing();
        let mut interface = Self {
            program,
            listen,
            facts: InterfaceFacts {
                mode: match footing.mode {
                    AttachMode::Native => Mode::Native,
                    AttachMode::Generic => Mode::Generic,
                },
                nic_stamps: footing.nic_stamps == NicStamps::Asked,
                why: left_out.into_iter().chain(why).collect::<Vec<_>>().join("; "),
                ..facts
            },
            carrier: link.carrier,
            targets: Targets::default(),
            passing: None,
            gone: false,
        };
        interface.targets = Targets::of(tables, link.index, &interface.listen);
        interface.tell_program()?;
        Ok(interface)
    }

    /// What the server is told.
    #[must_use]
    pub const fn facts(&self) -> &InterfaceFacts {
        &self.facts
    }

    /// What is answered.
    #[must_use]
    pub const fn targets(&self) -> &Targets {
        &self.targets
    }

    /// From the next [`follow`](Self::follow) on it answers for these instead.
    pub fn answer_for(&mut self, listen: Vec<SocketAddr>) {
        self.listen = listen;
    }

    /// The map of the queues' sockets, for the server.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn sockets_map(&self) -> io::Result<OwnedFd> {
        self.program.sockets_map()
    }

    /// The map of the program's counts, for the server.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn counts_map(&self) -> io::Result<OwnedFd> {
        self.program.counts_map()
    }

    /// The map of what the program drops by, for the server.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn limits_map(&self) -> io::Result<OwnedFd> {
        self.program.limits_map()
    }

    /// Brings the program to what `tables` say, which are the kernel's of this moment, and tells what has changed. After
    /// [`Change::Gone`] nothing changes any more: drop it, and attach again once the interface is back.
    ///
    /// # Errors
    /// When the program can't even be told to pass everything to the kernel.
    pub fn follow(&mut self, tables: &Tables) -> io::Result<Vec<Change>> {
        if self.gone {
            return Ok(Vec::new());
        }
        let Some(link) = tables.link(self.facts.index) else {
            self.gone = true;
            // Its program went with it, or is on an interface that isn't this namespace's any more.
            self.program.set_destinations(&[])?;
            return Ok(vec![Change::Gone]);
        };
        let mut changes = Vec::new();
        let targets = Targets::of(tables, link.index, &self.listen);
        changes.extend(change::between(&self.targets, &targets));
        self.targets = targets;
        self.follow_link(link, &mut changes);
        let passing = self.check_offloads(link, tables).and_then(|()| self.tell_program()).err();
        if passing.is_some() {
            self.program.set_destinations(&[])?;
        }
        if passing != self.passing {
            changes.push(passing.clone().map_or(Change::Steering, Change::Passing));
            self.passing = passing;
        }
        Ok(changes)
    }

    /// The link's own changes.
    fn follow_link(&mut self, link: &Link, changes: &mut Vec<Change>) {
        let facts = &mut self.facts;
        if link.name != facts.name {
            let from = std::mem::replace(&mut facts.name, link.name.clone());
            changes.push(Change::Renamed { from, to: link.name.clone() });
        }
        if link.carrier != self.carrier {
            self.carrier = link.carrier;
            changes.push(if link.carrier { Change::LinkUp } else { Change::LinkDown });
        }
        if link.mtu != facts.mtu {
            changes.push(Change::MtuChanged { from: facts.mtu, to: link.mtu });
            facts.mtu = link.mtu;
        }
        // While it is being reset a driver may not say; the next look tells.
        let queues = Ethtool::new(&link.name)
            .and_then(|ethtool| facts::queues(Directory::of(link).as_ref(), &ethtool))
            .map_or(facts.queues, Queues::usable);
        if queues != facts.queues {
            changes.push(Change::QueuesChanged { from: facts.queues, to: queues });
            facts.queues = queues;
        }
    }

    /// VLAN devices may have come, and offloads been switched on, since the program was attached.
    fn check_offloads(&self, link: &Link, tables: &Tables) -> Result<(), Refusal> {
        match Ethtool::new(&link.name).and_then(|ethtool| ethtool.features()) {
            Ok(features) => preflight::check_features(link, tables, &features),
            // It is going or being renamed just now: the next look tells.
            Err(_) => Ok(()),
        }
    }

    fn tell_program(&mut self) -> Result<(), Refusal> {
        let name = &self.facts.name;
        let refused = |what| {
            move |error: io::Error| Refusal::Targets { name: name.clone(), what, error: error.to_string() }
        };
        let Self { program, targets, .. } = self;
        let hardware_addresses: Vec<_> = targets.hardware_addresses.iter().copied().collect();
        program.set_destinations(&targets.destination_list()).map_err(refused("addresses"))?;
        program.set_vlans(&targets.vlan_list()).map_err(refused("VLANs"))?;
        program.set_hardware_addresses(&hardware_addresses).map_err(refused("MAC addresses"))
    }
}

fn system(name: &str, what: &'static str) -> impl FnOnce(io::Error) -> Refusal {
    move |error| Refusal::System { name: name.to_owned(), what, error: error.to_string() }
}

/// What there is to know before the program is on, and which queues can't be taken, in words.
fn facts_of(
    link: &Link,
    directory: Option<&Directory>,
    ethtool: &Ethtool,
) -> io::Result<(InterfaceFacts, Option<String>)> {
    let queues = facts::queues(directory, ethtool)?;
    let spread = facts::spread(link, queues.receive, ethtool)?;
    let facts = InterfaceFacts {
        name: link.name.clone(),
        index: link.index,
        queues: queues.usable(),
        mode: Mode::Generic,
        nic_stamps: false,
        why: String::new(),
        numa_node: directory.and_then(Directory::numa_node),
        mtu: link.mtu,
        driver: ethtool.driver()?.unwrap_or_default(),
        rx_ring: ethtool.rx_ring()?.map(|ring| ring.descriptors).filter(|&descriptors| descriptors > 0),
        rss: spread.words,
        spread: spread.commands,
    };
    Ok((facts, queues.left_out(&link.name)))
}

/// The program on the interface, and why not as well as it could be.
fn put_on(
    link: &Link,
    mode: Option<Mode>,
    shared: Option<&SharedMaps>,
) -> Result<(XdpProgram, Vec<String>), Refusal> {
    let refused = |error| Refusal::Program { name: link.name.clone(), error };
    let attach = |mode| match shared {
        Some(shared) => XdpProgram::attach_sharing(link.index, mode, shared),
        None => XdpProgram::attach(link.index, mode),
    };
    let first = mode.unwrap_or(Mode::Native);
    let (program, fallen) = match attach(first.attach_mode()) {
        Err(reason @ XdpError::NotNative { .. }) if mode.is_none() => {
            let program = attach(AttachMode::Generic).map_err(refused)?;
            (program, Some(reason.to_string()))
        }
        outcome => (outcome.map_err(refused)?, None),
    };
    let nic_stamps = program.footing().nic_stamps;
    let no_stamps = (nic_stamps != NicStamps::Asked).then(|| nic_stamps.to_string());
    Ok((program, fallen.into_iter().chain(no_stamps).collect()))
}
