//! What the server is told of an interface.

use maser_sys::ethtool::{Ethtool, HashFields, UdpFlow};
use maser_sys::netlink::Link;
use maser_sys::xdp_program::AttachMode;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

use super::sysfs::Directory;

/// Where the XDP program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver.
    Native,
    /// Behind the driver, since it has no place for a program: correct, but slow.
    Generic,
}

impl Mode {
    /// To attach with.
    #[must_use]
    pub const fn attach_mode(self) -> AttachMode {
        match self {
            Self::Native => AttachMode::Native,
            Self::Generic => AttachMode::Generic,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// An interface with the program on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InterfaceFacts {
    /// Its name when the program was attached, or when it was renamed last.
    pub name: String,
    /// The kernel's number of it.
    pub index: u32,
    /// Its receive queues that workers take, from 0 on.
    pub queues: u32,
    /// Where the program runs.
    pub mode: Mode,
    /// Whether the program asks the NIC for its stamps.
    pub nic_stamps: bool,
    /// Why not in the driver, and why not the NIC's stamps; empty where nothing better could be.
    pub why: String,
    /// The NUMA node that it is on; none where there is but one, or the machine doesn't say.
    pub numa_node: Option<u32>,
    /// The longest packet in octets, without the Ethernet header.
    pub mtu: u32,
    /// The driver's name; empty if it doesn't say.
    pub driver: String,
    /// Descriptors of each receive ring; none if the driver doesn't say.
    pub rx_ring: Option<u32>,
    /// By what requests are dealt to queues, for people.
    pub rss: String,
    /// The commands that have it done by source address alone; empty where it is, or can't be told.
    pub spread: Vec<String>,
}

/// The queues that are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Queues {
    pub(super) receive: u32,
    /// 0 where the driver doesn't say.
    pub(super) send: u32,
}

impl Queues {
    /// The receive queues that workers can take, from 0 on. A reply leaves by the send queue of the same number, and where
    /// that isn't in use never: in copy mode the kernel takes no frame from the socket then, and says nothing of it (Linux,
    /// `net/xdp/xsk.c`). What comes in by the others is answered through sockets.
    pub(super) fn usable(self) -> u32 {
        if self.send == 0 { self.receive } else { self.receive.min(self.send) }
    }

    /// What it costs that there are fewer to send by, for people; none where there aren't.
    pub(super) fn left_out(self, name: &str) -> Option<String> {
        let (usable, Self { receive, send }) = (self.usable(), self);
        (usable < receive).then(|| {
            format!(
                "requests by its receive queues from {usable} on are left to sockets, since replies leave by the send queue \
                 of the same number and it has {receive} to receive and {send} to send by; \
                 `ethtool -L {name}` sets up as many of each"
            )
        })
    }
}

/// Queues: what sysfs shows of them, else what the driver says of its channels.
pub(super) fn queues(directory: Option<&Directory>, ethtool: &Ethtool) -> io::Result<Queues> {
    if let Some(directory) = directory {
        return Ok(Queues { receive: directory.queues("rx")?, send: directory.queues("tx")? });
    }
    let channels = ethtool.channels()?;
    Ok(channels.map_or(Queues::default(), |channels| Queues {
        receive: channels.rx.saturating_add(channels.combined),
        send: channels.tx.saturating_add(channels.combined),
    }))
}

/// How requests are dealt to queues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Spread {
    pub(super) words: String,
    pub(super) commands: Vec<String>,
}

/// Asks the driver how it deals requests to `queues`.
pub(super) fn spread(link: &Link, queues: u32, ethtool: &Ethtool) -> io::Result<Spread> {
    let v4 = ethtool.udp_hash(UdpFlow::V4)?;
    let v6 = ethtool.udp_hash(UdpFlow::V6)?;
    Ok(spread_of(&link.name, queues, v4, v6))
}

fn spread_of(name: &str, queues: u32, v4: Option<HashFields>, v6: Option<HashFields>) -> Spread {
    if queues == 1 {
        return Spread { words: "one queue".to_owned(), commands: Vec::new() };
    }
    let flows = [("udp4", v4), ("udp6", v6)];
    let words = flows.map(|(flow, fields)| format!("{flow} {}", fields.map_or("unknown".to_owned(), by)));
    let astray = flows.iter().filter(|(_, fields)| fields.is_some_and(|fields| !by_source_alone(fields)));
    let commands = astray.map(|(flow, _)| format!("ethtool -N {name} rx-flow-hash {flow} s"));
    Spread { words: words.join(", "), commands: commands.collect() }
}

const fn by_source_alone(fields: HashFields) -> bool {
    let HashFields { source_address, destination_address, source_port, destination_port } = fields;
    source_address && !destination_address && !source_port && !destination_port
}

fn by(fields: HashFields) -> String {
    let HashFields { source_address, destination_address, source_port, destination_port } = fields;
    let words = [
        (source_address, "source address"),
        (destination_address, "destination address"),
        (source_port, "source port"),
        (destination_port, "destination port"),
    ];
    let words: Vec<_> = words.into_iter().filter_map(|(used, word)| used.then_some(word)).collect();
    if words.is_empty() { "by nothing".to_owned() } else { format!("by {}", words.join(" and ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn fields(bits: [bool; 4]) -> Option<HashFields> {
        let [source_address, destination_address, source_port, destination_port] = bits;
        Some(HashFields { source_address, destination_address, source_port, destination_port })
    }

    #[test]
    fn a_nic_that_does_not_spread_by_source_alone_is_told_how() {
        let source = fields([true, false, false, false]);
        let addresses = fields([true, true, false, false]);
        let all = fields([true, true, true, true]);
        let none = fields([false; 4]);
        let v4 = "ethtool -N eth0 rx-flow-hash udp4 s";
        let v6 = "ethtool -N eth0 rx-flow-hash udp6 s";
        for (queues, udp4, udp6, words, commands) in [
            (1, all, all, "one queue", vec![]),
            (4, source, source, "udp4 by source address, udp6 by source address", vec![]),
            (
                4,
                addresses,
                source,
                "udp4 by source address and destination address, udp6 by source address",
                vec![v4],
            ),
            (
                4,
                all,
                none,
                "udp4 by source address and destination address and source port and destination port, \
                 udp6 by nothing",
                vec![v4, v6],
            ),
            // A virtual interface doesn't say, and can't be told.
            (4, None, None, "udp4 unknown, udp6 unknown", vec![]),
        ] {
            let spread = spread_of("eth0", queues, udp4, udp6);
            assert_eq!(spread.words, words);
            assert_eq!(spread.commands, commands);
        }
    }

    #[test]
    fn queues_without_one_to_send_by_are_left_to_sockets() {
        for (receive, send, usable) in [(4, 4, 4), (2, 8, 2), (4, 1, 1), (4, 0, 4), (0, 1, 0)] {
            let queues = Queues { receive, send };
            assert_eq!(queues.usable(), usable, "{queues:?}");
            let told = queues.left_out("eth0");
            assert_eq!(told.is_some(), usable < receive, "{queues:?}");
            assert!(
                told.is_none_or(|told| told.contains("from 1 on") && told.contains("4 to receive and 1 to"))
            );
        }
    }

    #[test]
    fn facts_survive_the_way_to_the_server() {
        let facts = InterfaceFacts {
            name: "eth0".to_owned(),
            index: 3,
            queues: 4,
            mode: Mode::Native,
            nic_stamps: true,
            why: String::new(),
            numa_node: Some(1),
            mtu: 1500,
            driver: "igb".to_owned(),
            rx_ring: Some(512),
            rss: "one queue".to_owned(),
            spread: vec!["a command".to_owned()],
        };
        let text = serde_json::to_string(&facts).unwrap();
        assert!(text.contains(r#""mode":"native""#), "{text}");
        assert_eq!(serde_json::from_str::<InterfaceFacts>(&text).unwrap(), facts);
    }
}
