//! What has changed about an interface, for the log and for the keeper.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::refusal::Refusal;
use super::targets::Targets;

/// A change, which the program knows of already where it concerns it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Other addresses are answered.
    AddressesChanged {
        /// Those that are now; also those that another listen address takes now.
        added: Vec<SocketAddr>,
        /// Those that aren't any more.
        removed: Vec<SocketAddr>,
    },
    /// Other VLANs are answered: outer and inner number, the inner one 0 where there is one tag.
    VlansChanged {
        /// Those that are now.
        added: Vec<(u16, u16)>,
        /// Those that aren't any more.
        removed: Vec<(u16, u16)>,
    },
    /// Its bond or bridge has begun or ceased to drop what comes in by it.
    Standby(bool),
    /// Frames to other MAC addresses are ours.
    HardwareAddressesChanged,
    /// It has no carrier any more, or was switched off.
    LinkDown,
    /// It has a carrier.
    LinkUp,
    /// Its longest packet has another length.
    MtuChanged {
        /// Before, octets.
        from: u32,
        /// Now, octets.
        to: u32,
    },
    /// It has more or fewer receive queues: the server must be started again, to have sockets on these.
    QueuesChanged {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
    },
    /// It has another name; nothing else follows from that.
    Renamed {
        /// Before.
        from: String,
        /// Now.
        to: String,
    },
    /// The program passes everything to the kernel now, which the sockets answer, since it couldn't answer rightly.
    Passing(Refusal),
    /// The program answers again.
    Steering,
    /// The interface is gone, or in another network namespace; and the program with it.
    Gone,
}

/// What is answered now and wasn't, and the other way round.
pub(super) fn between(before: &Targets, now: &Targets) -> Vec<Change> {
    let mut changes = Vec::new();
    if before.standby != now.standby {
        changes.push(Change::Standby(now.standby));
    }
    let address = |(&(address, port), _): (&(IpAddr, u16), _)| SocketAddr::new(address, port);
    let is_new = |(key, listener): &(&(IpAddr, u16), &u16)| before.destinations.get(key) != Some(listener);
    let is_gone = |(key, _): &(&(IpAddr, u16), &u16)| !now.destinations.contains_key(key);
    let added: Vec<_> = now.destinations.iter().filter(is_new).map(address).collect();
    let removed: Vec<_> = before.destinations.iter().filter(is_gone).map(address).collect();
    if !added.is_empty() || !removed.is_empty() {
        changes.push(Change::AddressesChanged { added, removed });
    }
    if before.vlans != now.vlans {
        let added = now.vlans.difference(&before.vlans).copied().collect();
        let removed = before.vlans.difference(&now.vlans).copied().collect();
        changes.push(Change::VlansChanged { added, removed });
    }
    if before.hardware_addresses != now.hardware_addresses {
        changes.push(Change::HardwareAddressesChanged);
    }
    changes
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressesChanged { added, removed } => {
                let shown = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect();
                f.write_str(&differences("answers", &shown(added), &shown(removed)))
            }
            Self::VlansChanged { added, removed } => {
                let shown = |vlans: &[(u16, u16)]| vlans.iter().map(vlan).collect();
                f.write_str(&differences("answers in VLAN", &shown(added), &shown(removed)))
            }
            Self::Standby(true) => f.write_str("it stands by: its bond or bridge drops what comes in by it"),
            Self::Standby(false) => f.write_str("its bond or bridge takes in what comes by it again"),
            Self::HardwareAddressesChanged => f.write_str("its MAC addresses have changed"),
            Self::LinkDown => f.write_str("no carrier any more"),
            Self::LinkUp => f.write_str("it has a carrier"),
            Self::MtuChanged { from, to } => write!(f, "its MTU is {to}, and was {from}"),
            Self::QueuesChanged { from, to } => write!(f, "its receive queues are {to}, and were {from}"),
            Self::Renamed { from, to } => write!(f, "it is called {to} now, and was {from}"),
            Self::Passing(why) => write!(f, "everything is left to the kernel's sockets for now: {why}"),
            Self::Steering => f.write_str("requests are taken from the driver again"),
            Self::Gone => f.write_str("the interface is gone"),
        }
    }
}

fn vlan(&(outer, inner): &(u16, u16)) -> String {
    if inner == 0 { outer.to_string() } else { format!("{outer}.{inner}") }
}

fn differences(what: &str, added: &Vec<String>, removed: &Vec<String>) -> String {
    let part = |how: &str, which: &Vec<String>| {
        (!which.is_empty()).then(|| format!("{what} {} {how}", which.join(", ")))
    };
    let parts = [part("now", added), part("no longer", removed)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
