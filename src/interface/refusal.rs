//! Why requests can't be taken from an interface, and what to do about it.

use maser_sys::xdp_program::XdpError;
use thiserror::Error;

/// Why not. Nothing was changed then.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// There is no such interface.
    #[error("{name}: no such interface in this network namespace; there are: {}", list(there))]
    NoInterface {
        /// What was named.
        name: String,
        /// What could have been.
        there: Vec<String>,
    },
    /// It is the loopback interface.
    #[error(
        "{0}: the loopback interface carries this machine's own packets only, which the sockets answer; name the \
         interface that clients' packets come in by"
    )]
    Loopback(String),
    /// It carries no Ethernet frames.
    #[error("{0}: not an Ethernet interface; leave it out, and the sockets answer what comes in by it")]
    NotEthernet(String),
    /// Others do its work.
    #[error(
        "{name}: a bond, team or bridge hands on what its members take in ({kind}); {}",
        members_named(members)
    )]
    Master {
        /// What was named.
        name: String,
        /// `bond`, `team` or `bridge`.
        kind: String,
        /// Its members.
        members: Vec<String>,
    },
    /// It is a VLAN device.
    #[error(
        "{name}: a VLAN device gets its packets from the interface below; name that one, {}: the VLANs on it are \
         answered, too",
        below.as_deref().unwrap_or("which is in another network namespace")
    )]
    VlanDevice {
        /// What was named.
        name: String,
        /// The interface below.
        below: Option<String>,
    },
    /// The NIC makes long packets out of short ones.
    #[error("{name}: large receive offload is on, and XDP doesn't go with it; `ethtool -K {name} lro off`")]
    LargeReceive {
        /// The interface.
        name: String,
    },
    /// The NIC takes the tags out of frames, and adds them, where the program can't see it.
    #[error(
        "{name}: VLAN devices are on it ({}), and its tag offload hides their tags from XDP, so that replies would \
         leave without; `ethtool -K {name} {}`",
        list(vlans),
        off(features)
    )]
    TagOffload {
        /// The interface.
        name: String,
        /// The VLAN devices.
        vlans: Vec<String>,
        /// What is to be switched off, as `ethtool` calls it.
        features: Vec<&'static str>,
    },
    /// Another program has it.
    #[error(
        "{name}: another XDP program is on it ({}), and it stays; it may be another maser's: `bpftool net` and \
         `ip link show {name}` tell; take it off, or leave the interface out",
        number(*program)
    )]
    AnotherProgram {
        /// The interface.
        name: String,
        /// The program's number; 0 if the kernel doesn't say.
        program: u32,
    },
    /// It has no receive queue.
    #[error("{0}: no receive queue; `ethtool -l {0}` tells, and `ethtool -L {0} combined 1` may set one up")]
    NoQueues(String),
    /// The program can't be attached.
    #[error("{name}: {error}")]
    Program {
        /// The interface.
        name: String,
        /// Why.
        error: XdpError,
    },
    /// Its settings can't be made what busy polling wants.
    #[error(
        "{name}: its interrupts can't be put off for busy polling: {error}; or leave server.busy_poll out"
    )]
    BusyPoll {
        /// The interface.
        name: String,
        /// Why.
        error: String,
    },
    /// There is more to be answered than the program can know, or the kernel refused to hear it.
    #[error(
        "{name}: the XDP program can't be told the {what}: {error}; name addresses in server.listen, or fewer"
    )]
    Targets {
        /// The interface.
        name: String,
        /// Of what.
        what: &'static str,
        /// What the system said.
        error: String,
    },
    /// The kernel couldn't be asked.
    #[error("{name}: {what}: {error}")]
    System {
        /// The interface.
        name: String,
        /// What was asked.
        what: &'static str,
        /// What the system said.
        error: String,
    },
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn members_named(members: &[String]) -> String {
    match members {
        [] => "it has none: give it some, and name these".to_owned(),
        [member] => format!("name its member {member}"),
        _ => format!("name the members {}", members.join(", ")),
    }
}

fn off(features: &[&str]) -> String {
    features.iter().map(|feature| format!("{feature} off")).collect::<Vec<_>>().join(" ")
}

fn number(program: u32) -> String {
    if program == 0 { "number unknown".to_owned() } else { format!("number {program}") }
}
