//! The NICs whose stamps are used: told to stamp, what was there before on disk, and their clocks opened for the server.
//!
//! A NIC that can't stamp is no reason not to serve: the status and the log say why.

use super::records::{self, Record};
use crate::config::{Config, INTERFACES_MAX, NicStamps};
use crate::interface::stamping::{self, Choice, choose, covers_ntp, covers_replies};
use crate::interface::{NicFacts, NicNow};
use maser_sys::ethtool::Ethtool;
use maser_sys::hwtstamp::Stamping;
use maser_sys::netlink::{self, Link, Tables};
use maser_sys::phc;
use std::error::Error;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use tracing::{info, warn};

/// Interfaces of these kinds hand the question on to those below them, whose clocks and stamps they are.
const KINDS_ABOVE: [&str; 7] = ["vlan", "bond", "team", "bridge", "macvlan", "macvtap", "ipvlan"];

/// Those that are there.
#[derive(Debug, Default)]
pub(super) struct Nics {
    wanted: Wanted,
    nics: Vec<Nic>,
}

/// Which ones.
#[derive(Debug, Default)]
enum Wanted {
    #[default]
    None,
    /// By name; a lack is a warning where they were named for their stamps.
    Named {
        names: Vec<String>,
        for_stamps: bool,
    },
    Every,
}

#[derive(Debug)]
struct Nic {
    facts: NicFacts,
    clock: Option<OwnedFd>,
}

/// Whether this configuration has the keeper change what a NIC stamps.
pub(super) fn are_wanted(config: &Config) -> bool {
    !matches!(Wanted::of(config), Wanted::None)
}

impl Wanted {
    fn of(config: &Config) -> Self {
        let (names, for_stamps) = match &config.server.nic_stamps {
            NicStamps::Every => return Self::Every,
            NicStamps::Named(names) => (names, true),
            NicStamps::OfInterfaces => (&config.server.interfaces, false),
        };
        if names.is_empty() { Self::None } else { Self::Named { names: names.clone(), for_stamps } }
    }

    /// The names of those to take, of which some may not be there.
    fn names(&self, tables: &Tables) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Named { names, .. } => names.clone(),
            Self::Every => {
                let links = tables.links.iter().filter(|link| !is_above(link) && has_clock(link));
                links.take(INTERFACES_MAX).map(|link| link.name.clone()).collect()
            }
        }
    }
}

impl Nics {
    /// Has those that are configured stamp.
    pub(super) fn take(config: &Config) -> Self {
        let mut nics = Self { wanted: Wanted::of(config), nics: Vec::new() };
        if let Err(error) = nics.follow() {
            warn!("nic_stamps: the kernel's interfaces can't be asked for: {error}");
        }
        nics
    }

    /// Whether they are to be looked at again and again.
    pub(super) const fn are_wanted(&self) -> bool {
        !matches!(self.wanted, Wanted::None)
    }

    /// Takes those that have come, and lets go of those that are gone; whether there must be a new server for that.
    pub(super) fn follow(&mut self) -> io::Result<bool> {
        if !self.are_wanted() {
            return Ok(false);
        }
        let tables = netlink::dump()?;
        let names = self.wanted.names(&tables);
        let is_as_before = |nic: &Nic, name: &String| {
            nic.facts.name == *name && nic.facts.index == tables.link_named(name).map_or(0, |link| link.index)
        };
        if self.nics.len() == names.len()
            && self.nics.iter().zip(&names).all(|(nic, name)| is_as_before(nic, name))
        {
            return Ok(false);
        }
        let mut before = std::mem::take(&mut self.nics);
        for name in &names {
            let known = before.iter().position(|nic| is_as_before(nic, name));
            let nic = match known {
                Some(known) => before.swap_remove(known),
                None => self.took(name, &tables),
            };
            self.nics.push(nic);
        }
        Ok(true)
    }

    /// The interface of this name, as far as it can be had; says what can't.
    fn took(&self, name: &str, tables: &Tables) -> Nic {
        let nic = take(name, tables).unwrap_or_else(|error| {
            let index = tables.link_named(name).map_or(0, |link| link.index);
            let (why, now) = (error.to_string(), NicNow::of(name));
            let facts = NicFacts { name: name.to_owned(), index, why, now, ..NicFacts::default() };
            Nic { facts, clock: None }
        });
        let NicFacts { clock, receives, sends, why, now, .. } = &nic.facts;
        if let Some(clock) = clock
            && (*receives || *sends)
        {
            let (from, to) = (&now.receive_filter, &now.transmit_type);
            info!("{name}: /dev/ptp{clock} stamps what comes by the filter {from}, and what leaves: {to}");
        }
        match self.wanted {
            Wanted::Named { for_stamps: true, .. } if !why.is_empty() => warn!("nic_stamps: {name}: {why}"),
            Wanted::Named { .. } | Wanted::Every if !why.is_empty() => {
                info!("nic_stamps: {name}: {why}");
            }
            Wanted::None | Wanted::Named { .. } | Wanted::Every => {}
        }
        nic
    }

    /// What a server is told of them.
    pub(super) fn facts(&self) -> Vec<NicFacts> {
        self.nics.iter().map(|nic| nic.facts.clone()).collect()
    }

    /// The clocks that it gets, of those that have one, in their order.
    pub(super) fn clocks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.nics.iter().filter_map(|nic| nic.clock.as_ref().map(AsFd::as_fd))
    }

    /// What the kernel says of each now.
    pub(super) fn now(&self) -> Vec<NicNow> {
        self.nics.iter().map(|nic| NicNow::of(&nic.facts.name)).collect()
    }
}

fn is_above(link: &Link) -> bool {
    link.kind.as_deref().is_some_and(|kind| KINDS_ABOVE.contains(&kind))
}

fn has_clock(link: &Link) -> bool {
    let offered = Ethtool::new(&link.name).map(|ethtool| ethtool.stamping_offered());
    offered.is_ok_and(|offered| offered.is_ok_and(|offered| offered.clock.is_some()))
}

/// Has an interface stamp, and opens its clock.
fn take(name: &str, tables: &Tables) -> Result<Nic, Box<dyn Error>> {
    let link =
        tables.link_named(name).ok_or("there is no such interface; `ip link` lists those that there are")?;
    if is_above(link) {
        let kind = link.kind.as_deref().unwrap_or_default();
        return Err(
            format!("it is a {kind} device, which has no stamps of its own: name the NICs below it").into()
        );
    }
    let ethtool = Ethtool::new(name)?;
    let offered = ethtool.stamping_offered()?;
    let before = ethtool.stamping()?;
    let clock = offered
        .clock
        .ok_or("it has no clock that can be read (`ethtool -T`), so that its stamps mean nothing")?;
    // Before anything is changed: without it the stamps are of no use.
    let path = format!("/dev/ptp{clock}");
    let file = phc::open_file(Path::new(&path)).map_err(|error| format!("{path}: {error}"))?;
    let Choice { set, lacks } = choose(&offered, before);
    let stamping = set.map_or(Ok(before), |ours| set_recorded(link, before, ours))?;
    let facts = NicFacts {
        name: name.to_owned(),
        index: link.index,
        driver: ethtool.driver()?.unwrap_or_default(),
        clock: Some(clock),
        clock_name: phc::clock_name(&file),
        receives: covers_ntp(stamping.receive),
        sends: covers_replies(stamping.transmit),
        why: lacks,
        now: NicNow::of(name),
    };
    Ok(Nic { facts, clock: Some(file.into()) })
}

/// Sets what an interface stamps, once what was there before is on disk; what the driver made of it.
fn set_recorded(link: &Link, before: Stamping, ours: Stamping) -> Result<Stamping, Box<dyn Error>> {
    let file = records::place()?;
    let keep = |record: stamping::Record| {
        records::keep(&file, Record::Stamping(record)).map_err(|error| format!("{}: {error}", file.display()))
    };
    let record = stamping::Record::of(link, before, ours);
    keep(record.clone())?;
    let granted = record.apply()?;
    if granted != ours {
        // It is put back by what it was set to.
        keep(stamping::Record::of(link, before, granted))?;
    }
    Ok(granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_stamp_is_told_with_the_reason_and_served_all_the_same() {
        let mut config = Config::default_run();
        assert!(!are_wanted(&config) && !Nics::take(&config).are_wanted());
        config.server.nic_stamps = NicStamps::Named(vec!["lo".to_owned(), "no-such-dev".to_owned()]);
        let mut nics = Nics::take(&config);
        let [loopback, missing] = &nics.facts()[..] else { panic!("{nics:?}") };
        assert!(loopback.why.contains("EOPNOTSUPP") && loopback.index > 0, "{loopback:?}");
        assert!(missing.why.contains("no such interface") && missing.index == 0, "{missing:?}");
        assert_eq!((loopback.clock, nics.clocks().count(), nics.now().len()), (None, 0, 2));
        assert!(!nics.follow().unwrap(), "nothing has changed");
        nics.nics[1].facts.index = 77;
        assert!(nics.follow().unwrap(), "it has gone");
        config.server.nic_stamps = NicStamps::OfInterfaces;
        config.server.interfaces = vec!["lo".to_owned()];
        assert!(are_wanted(&config));
    }
}
