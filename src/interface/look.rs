//! An interface looked at as before attaching, and nothing attached: for the doctor.

use maser_sys::ethtool::{Ethtool, Features};
use maser_sys::netlink::{Link, Tables};
use std::io;

use super::facts::InterfaceFacts;
use super::refusal::Refusal;
use super::sysfs::Directory;
use super::{facts_of, preflight, system};

/// What attaching would look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look {
    /// What the kernel says of it.
    pub link: Link,
    /// What there is to know of it before the program is on.
    pub facts: InterfaceFacts,
    /// Which queues can't be taken, in words.
    pub left_out: Option<String>,
    /// What is on.
    pub features: Features,
    /// Another's program on it, which attaching would leave there.
    pub another: Option<Refusal>,
    /// What the NIC does to packets that attaching refuses.
    pub in_the_way: Option<Refusal>,
    /// What should be known of the link.
    pub warnings: Vec<String>,
}

impl Look {
    /// At the interface `name`; `tables` are the kernel's of this moment.
    ///
    /// # Errors
    /// It is none that requests can be taken from, or can't be asked.
    pub fn at(name: &str, tables: &Tables) -> Result<Self, Refusal> {
        let (link, another) = match preflight::find(name, tables) {
            Ok(link) => (link, None),
            Err(refusal @ Refusal::AnotherProgram { .. }) => match tables.link_named(name) {
                Some(link) => (link, Some(refusal)),
                None => return Err(refusal),
            },
            Err(refusal) => return Err(refusal),
        };
        let asked = || -> io::Result<_> {
            let ethtool = Ethtool::new(name)?;
            Ok((ethtool.features()?, facts_of(link, Directory::of(link).as_ref(), &ethtool)?))
        };
        let (features, (facts, left_out)) = asked().map_err(system(name, "asking the driver"))?;
        Ok(Self {
            link: link.clone(),
            facts,
            left_out,
            another,
            in_the_way: preflight::check_features(link, tables, &features).err(),
            warnings: preflight::link_warnings(link),
            features,
        })
    }
}
