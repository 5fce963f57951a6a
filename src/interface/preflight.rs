//! What is looked at before the program is attached. Pure: from the kernel's tables to a refusal or a warning.

use maser_sys::ethtool::Features;
use maser_sys::netlink::{Link, Tables};

use super::refusal::Refusal;
use super::targets::vlan_devices;

/// What a packet may have so that the NIC can put it into a frame of the sockets' memory itself: 2 KiB less the room that
/// the kernel keeps in front (`XDP_PACKET_HEADROOM`), an Ethernet header and two tags.
const MTU_ZERO_COPY_MAX: u32 = 2048 - 256 - 14 - 2 * 4;

/// The tags' types, and what `ethtool` calls their offload on receipt and on transmission.
const TAG_OFFLOADS: [(u16, [(&str, &str); 2]); 2] = [
    (0x8100, [("rx-vlan-hw-parse", "rxvlan"), ("tx-vlan-hw-insert", "txvlan")]),
    (
        0x88a8,
        [
            ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse"),
            ("tx-vlan-stag-hw-insert", "tx-vlan-stag-hw-insert"),
        ],
    ),
];

/// The interface of this name, if it is of a kind that requests can be taken from and nobody else does.
pub(super) fn find<'a>(name: &str, tables: &'a Tables) -> Result<&'a Link, Refusal> {
    let named = |links: Vec<&Link>| -> Vec<String> { links.iter().map(|link| link.name.clone()).collect() };
    let Some(link) = tables.link_named(name) else {
        let there = named(tables.links.iter().filter(|link| link.ethernet).collect());
        return Err(Refusal::NoInterface { name: name.to_owned(), there });
    };
    let name = name.to_owned();
    if link.loopback {
        return Err(Refusal::Loopback(name));
    }
    match link.kind.as_deref() {
        Some(kind @ ("bond" | "team" | "bridge")) => {
            let members =
                named(tables.links.iter().filter(|other| other.master == Some(link.index)).collect());
            return Err(Refusal::Master { name, kind: kind.to_owned(), members });
        }
        Some("vlan") => {
            let below = link.below.and_then(|below| tables.link(below)).map(|below| below.name.clone());
            return Err(Refusal::VlanDevice { name, below });
        }
        Some(_) | None => {}
    }
    if !link.ethernet {
        return Err(Refusal::NotEthernet(name));
    }
    match link.xdp_program {
        Some(program) => Err(Refusal::AnotherProgram { name, program }),
        None => Ok(link),
    }
}

/// Whether the NIC hands over frames as they came.
pub(super) fn check_features(link: &Link, tables: &Tables, on: &Features) -> Result<(), Refusal> {
    let name = || link.name.clone();
    if on.is_on("rx-lro") {
        return Err(Refusal::LargeReceive { name: name() });
    }
    let devices = vlan_devices(tables, link.index);
    let mut features = Vec::new();
    for (protocol, offloads) in TAG_OFFLOADS {
        if devices.iter().any(|(_, tag)| tag.protocol == protocol) {
            features.extend(offloads.into_iter().filter(|(name, _)| on.is_on(name)).map(|(_, said)| said));
        }
    }
    if features.is_empty() {
        return Ok(());
    }
    let vlans = devices.iter().map(|(device, _)| device.name.clone()).collect();
    Err(Refusal::TagOffload { name: name(), vlans, features })
}

/// What doesn't stand in the way, but should be known.
pub(super) fn warnings(link: &Link, on: &Features) -> Vec<String> {
    // Where a VLAN device is on it, it was refused.
    link_warnings(link).into_iter().chain(tag_warnings(link, on)).collect()
}

/// Of the link itself.
pub(super) fn link_warnings(link: &Link) -> Vec<String> {
    let Link { name, mtu, .. } = link;
    let mut warnings = Vec::new();
    if !link.up {
        warnings.push(format!("{name}: it is switched off; `ip link set {name} up`"));
    } else if !link.carrier {
        warnings.push(format!("{name}: it has no carrier"));
    }
    if link.standby {
        warnings.push(format!(
            "{name}: it stands by: its bond or bridge drops what comes in by it, so that nothing is answered there yet"
        ));
    }
    if *mtu > MTU_ZERO_COPY_MAX {
        warnings.push(format!(
            "{name}: its MTU is {mtu}; above {MTU_ZERO_COPY_MAX} frames are copied once more than need be, and few \
             drivers take an XDP program above some 3,500; `ip link set {name} mtu 1500`"
        ));
    }
    warnings
}

/// Of what the NIC does to tags.
fn tag_warnings(link: &Link, on: &Features) -> Vec<String> {
    let name = &link.name;
    let said = TAG_OFFLOADS
        .iter()
        .filter(|(_, [(feature, _), _])| on.is_on(feature))
        .map(|(_, [(_, said), _])| said);
    said.map(|said| {
        format!(
            "{name}: its tag offload hides tags from XDP, so that a tagged request may be answered without its tag, \
             though no VLAN device is here; `ethtool -K {name} {said} off`"
        )
    })
    .collect()
}

#[cfg(test)]
mod tests;
