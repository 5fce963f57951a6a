//! The interfaces that requests come in by: what attaching would say, what the driver can do with XDP, how it is set.

use super::Question;
use super::finding::{Check, Finding, Verdict};
use super::machine::Machine;
use super::processes::Processes;
use crate::config::{NicStamps, WORKERS_AUTO_MAX, Workers};
use crate::interface::Look;
use crate::interface::stamping::choose;
use maser_sys::ethtool::{Channels, Coalescing, Ethtool, Features, RxRing};
use maser_sys::hwtstamp::{Offered, ReceiveFilter, Stamping, TransmitType};
use maser_sys::netlink::dump;
use maser_sys::xdp_features::XdpFeatures;
use std::io;

const INTERFACE_WHY: &str =
    "requests are taken from the driver past the kernel's stack, several times as many for each core";
const OFFLOADS_WHY: &str = "joined packets share a stamp, tags that the NIC takes out are lost to AF_XDP, and a link \
    that sleeps wakes late";
const STAMPS_WHY: &str =
    "stamps of the kernel are later than the packet by interrupt and scheduling, and those of the NIC aren't";
const XDP_WHY: &str = "in the driver a request is answered before the kernel has made anything of it; behind it \
    AF_XDP is correct, but slow";
const ZERO_COPY_WHY: &str =
    "without it the kernel copies each packet to the worker and back, and doesn't say when a reply left";
const QUEUES_WHY: &str = "as many queues as maser has cores: fewer leave cores idle, more share one";
const RINGS_WHY: &str = "a ring has to outlast a stall of 3 ms, or requests are lost in it";
const COALESCING_WHY: &str =
    "each microsecond that an interrupt is held back is one that the kernel's receive stamp may be late";
const RSS_WHY: &str = "a client should meet one worker, whatever port it comes from";

/// The ring that the scripts of `tuning/` ask for.
const RING: u32 = 2048;

/// What is to be off, by the kernel's name of it and by that of `ethtool -K`.
const OFFLOADS: [(&str, &str); 5] = [
    ("rx-lro", "large-receive-offload"),
    ("rx-gro-hw", "rx-gro-hw"),
    ("rx-udp-gro-forwarding", "rx-udp-gro-forwarding"),
    ("rx-vlan-hw-parse", "rx-vlan-offload"),
    ("tx-vlan-hw-insert", "tx-vlan-offload"),
];

/// What the kernel and the driver say.
#[derive(Debug)]
struct Facts {
    look: Look,
    /// None where the kernel doesn't tell.
    xdp: Option<XdpFeatures>,
    offered: Offered,
    stamping: Option<Stamping>,
    rings: Option<[RxRing; 2]>,
    channels: Option<Channels>,
    coalescing: Option<Coalescing>,
    energy_efficient: Option<bool>,
}

/// What is wanted of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wanted {
    /// Requests are to be taken from its driver.
    af_xdp: bool,
    /// Its stamps are to be used.
    stamps: bool,
    /// maser's cores.
    cores: u32,
    /// A maser runs, whose program is on it.
    served: bool,
}

/// Each interface; `guarded`: whether a packet filter is there that AF_XDP would go past.
pub(super) fn findings(
    question: &Question,
    machine: &Machine,
    processes: &Processes,
    guarded: Option<bool>,
) -> Vec<Finding> {
    let mut findings = vec![bypass(question.wants_af_xdp(), guarded)];
    let names = question.interfaces(machine);
    let tables = match dump() {
        Ok(tables) => tables,
        Err(error) => {
            let what = format!("the kernel's interfaces can't be asked for: {error}");
            findings.push(Finding::to_do(Check::Interface, Verdict::Unknown, what, INTERFACE_WHY, "ip link"));
            return findings;
        }
    };
    if names.is_empty() {
        let what = "no interface was named, and there is no default route";
        let remedy = format!("maser doctor{} --interface DEV", question.script_arguments());
        findings.push(Finding::to_do(Check::Interface, Verdict::Unknown, what, INTERFACE_WHY, remedy));
    }
    for name in names {
        let wanted = wanted(question, machine, processes, &name);
        let looked = Look::at(&name, &tables).map_err(|refusal| refusal.to_string());
        let facts = looked.and_then(|look| gather(&name, look).map_err(|error| format!("{name}: {error}")));
        match facts {
            Ok(facts) => {
                let script = |script: &str| super::tuning::command(script, &format!(" --interface {name}"));
                let found = judge(&facts, wanted, script);
                findings.extend(found.into_iter().map(|finding| finding.of(&name)));
            }
            Err(refusal) => findings.push(refused(&refusal, wanted.af_xdp).of(&name)),
        }
    }
    findings
}

fn wanted(question: &Question, machine: &Machine, processes: &Processes, name: &str) -> Wanted {
    let af_xdp =
        question.config().is_some_and(|config| config.server.interfaces.iter().any(|other| other == name));
    let online = machine.cores().len().max(1);
    let cores = match question.config().map(|config| &config.server.workers) {
        Some(Workers::Cores(cores)) => cores.len(),
        Some(Workers::Count(number)) => online.min(number.get()),
        Some(Workers::Auto) | None => online.min(WORKERS_AUTO_MAX),
    };
    Wanted {
        af_xdp,
        stamps: question.config().is_some_and(|config| match &config.server.nic_stamps {
            NicStamps::OfInterfaces | NicStamps::Every => af_xdp,
            NicStamps::Named(names) => names.iter().any(|other| other == name),
        }),
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        served: processes.named("maser").is_some(),
    }
}

fn gather(name: &str, look: Look) -> io::Result<Facts> {
    let ethtool = Ethtool::new(name)?;
    Ok(Facts {
        xdp: XdpFeatures::of(look.link.index)?,
        offered: ethtool.stamping_offered().unwrap_or_default(),
        stamping: ethtool.stamping().ok(),
        rings: ethtool.rings()?,
        channels: ethtool.channels()?,
        coalescing: ethtool.coalescing()?,
        energy_efficient: ethtool.energy_efficient()?,
        look,
    })
}

/// Verdicts for what AF_XDP needs, which is less urgent where it isn't configured.
const fn if_wanted(af_xdp: bool, verdict: Verdict) -> Verdict {
    if af_xdp { verdict } else { Verdict::Better }
}

/// The command that a refusal names in backquotes, else one that shows more.
fn command_of(refusal: &str) -> String {
    refusal.split('`').nth(1).map_or_else(|| "ip -d link".to_owned(), str::to_owned)
}

fn refused(refusal: &str, af_xdp: bool) -> Finding {
    let verdict = if_wanted(af_xdp, Verdict::Broken);
    Finding::to_do(
        Check::Interface,
        verdict,
        format!("AF_XDP can't be used: {refusal}"),
        INTERFACE_WHY,
        command_of(refusal),
    )
}

fn bypass(af_xdp: bool, guarded: Option<bool>) -> Finding {
    const WHY: &str = "AF_XDP takes requests before nftables and connection tracking see them, so that no rule of \
        theirs applies to those";
    match (af_xdp, guarded) {
        (true, Some(true)) => Finding::to_do(
            Check::Bypass,
            Verdict::Better,
            "nftables filters, and requests over AF_XDP go past it",
            WHY,
            "put into [access] of the configuration what the rules say of NTP (docs/limits.md)",
        ),
        (true, None) => Finding::to_do(
            Check::Bypass,
            Verdict::Unknown,
            "requests over AF_XDP go past nftables, and whether that filters can't be seen",
            WHY,
            "sudo nft list ruleset",
        ),
        (_, Some(false)) => {
            Finding::ok(Check::Bypass, "nftables filters nothing that AF_XDP would go past", WHY)
        }
        (false, _) => Finding::ok(
            Check::Bypass,
            "AF_XDP isn't configured; requests over it would go past nftables",
            WHY,
        ),
    }
}

fn judge(facts: &Facts, wanted: Wanted, script: impl Fn(&str) -> String) -> Vec<Finding> {
    let mut findings = vec![
        interface(facts, wanted),
        offloads(facts, wanted, &script("offloads")),
        nic_stamps(facts, wanted),
        queues(facts, wanted, &script("queues")),
        rings(facts, &script("queues")),
        coalescing(facts, &script("queues")),
        rss(facts, wanted, &script("affinity")),
    ];
    findings.extend(xdp(facts, wanted));
    findings
}

fn interface(facts: &Facts, wanted: Wanted) -> Finding {
    let look = &facts.look;
    if let Some(another) = look.another.as_ref().filter(|_| !wanted.served) {
        return refused(&another.to_string(), wanted.af_xdp);
    }
    if let Some(warning) = look.warnings.first() {
        let verdict = if look.link.carrier && !look.link.standby {
            Verdict::Better
        } else {
            if_wanted(wanted.af_xdp, Verdict::Should)
        };
        let what = look.warnings.join("; ");
        return Finding::to_do(Check::Interface, verdict, what, INTERFACE_WHY, command_of(warning));
    }
    let name = &look.link.name;
    let driver = if look.facts.driver.is_empty() { "a driver without a name" } else { &look.facts.driver };
    Finding::ok(Check::Interface, format!("{name} is up, of {driver}"), INTERFACE_WHY)
}

fn unfit(features: &Features, energy_efficient: Option<bool>) -> Vec<&'static str> {
    let on = OFFLOADS.into_iter().filter(|(name, _)| features.is_on(name) && !features.is_fixed(name));
    let sleeps = (energy_efficient == Some(true)).then_some("Energy-Efficient Ethernet");
    on.map(|(_, said)| said).chain(sleeps).collect()
}

fn offloads(facts: &Facts, wanted: Wanted, script: &str) -> Finding {
    let unfit = unfit(&facts.look.features, facts.energy_efficient);
    if let Some(refusal) = &facts.look.in_the_way {
        let verdict = if_wanted(wanted.af_xdp, Verdict::Broken);
        let what = refusal.to_string();
        let remedy = command_of(&what);
        return Finding::to_do(Check::Offloads, verdict, what, OFFLOADS_WHY, remedy);
    }
    if unfit.is_empty() {
        return Finding::ok(Check::Offloads, "no offload is in the way", OFFLOADS_WHY);
    }
    let what = format!("on: {}", unfit.join(", "));
    Finding::to_do(Check::Offloads, if_wanted(wanted.af_xdp, Verdict::Should), what, OFFLOADS_WHY, script)
}

fn nic_stamps(facts: &Facts, wanted: Wanted) -> Finding {
    let name = &facts.look.link.name;
    let show = format!("ethtool -T {name}");
    let verdict = if wanted.stamps { Verdict::Should } else { Verdict::Better };
    let Some(clock) = facts.offered.clock else {
        let what = "it has no clock, so that the kernel's stamps are all there is";
        return Finding::to_do(
            Check::NicStamps,
            Verdict::Better,
            what,
            STAMPS_WHY,
            format!("another NIC; {show} shows what one can"),
        );
    };
    let off = Stamping { transmit: TransmitType::OFF, receive: ReceiveFilter::NONE };
    let choice = choose(&facts.offered, facts.stamping.unwrap_or(off));
    if !choice.lacks.is_empty() {
        return Finding::to_do(
            Check::NicStamps,
            verdict,
            format!("/dev/ptp{clock}: {}", choice.lacks),
            STAMPS_WHY,
            show,
        );
    }
    if wanted.stamps {
        return Finding::ok(Check::NicStamps, format!("/dev/ptp{clock} stamps all NTP packets"), STAMPS_WHY);
    }
    let what = format!("/dev/ptp{clock} can stamp all NTP packets, and isn't used");
    Finding::to_do(
        Check::NicStamps,
        Verdict::Better,
        what,
        STAMPS_WHY,
        format!("nic_stamps = [\"{name}\"] in [server]"),
    )
}

fn xdp(facts: &Facts, wanted: Wanted) -> Vec<Finding> {
    let name = &facts.look.link.name;
    let driver = &facts.look.facts.driver;
    let Some(xdp) = facts.xdp else {
        let what = "the kernel doesn't tell what drivers can do with XDP: it is older than Linux 6.3";
        return vec![Finding::to_do(
            Check::Xdp,
            Verdict::Unknown,
            what,
            XDP_WHY,
            format!("ip link show {name}; uname -r"),
        )];
    };
    let other = "a NIC whose driver has it (i40e, ice, igb, igc, ixgbe, mlx5 and others)";
    let native = if xdp.native {
        Finding::ok(Check::Xdp, format!("{driver} runs XDP programs"), XDP_WHY)
    } else {
        let verdict = if_wanted(wanted.af_xdp, Verdict::Should);
        Finding::to_do(
            Check::Xdp,
            verdict,
            format!("{driver} has no place for an XDP program"),
            XDP_WHY,
            format!("{other}, or port = \"socket\""),
        )
    };
    let zero_copy = if xdp.zero_copy {
        Finding::ok(Check::ZeroCopy, format!("{driver} has zero-copy"), ZERO_COPY_WHY)
    } else {
        Finding::to_do(
            Check::ZeroCopy,
            Verdict::Better,
            format!("{driver} has no zero-copy: AF_XDP copies"),
            ZERO_COPY_WHY,
            other,
        )
    };
    vec![native, zero_copy]
}

/// For people: so many of these.
fn counted(number: u32, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn queues(facts: &Facts, wanted: Wanted, script: &str) -> Finding {
    if let Some(left_out) = &facts.look.left_out {
        let verdict = if_wanted(wanted.af_xdp, Verdict::Should);
        return Finding::to_do(Check::Queues, verdict, left_out.clone(), QUEUES_WHY, script);
    }
    let here = facts.look.facts.queues;
    let Some(Channels { rx, tx, combined, most: [rx_most, tx_most, combined_most] }) = facts.channels else {
        return Finding::ok(
            Check::Queues,
            format!("{}, and no other number can be set", counted(here, "queue")),
            QUEUES_WHY,
        );
    };
    // Most NICs have queues that do both; some have them apart.
    let kinds = [("combined", combined, combined_most), ("rx", rx, rx_most), ("tx", tx, tx_most)];
    let kinds = if combined_most > 0 { &kinds[..1] } else { &kinds[1..] };
    let differs = kinds.iter().filter(|(_, now, most)| *most > 0 && *now != wanted.cores.min(*most));
    let differs: Vec<_> = differs.map(|(kind, now, most)| format!("{now} of {most} {kind} queues")).collect();
    if differs.is_empty() {
        return Finding::ok(Check::Queues, counted(here, "queue"), QUEUES_WHY);
    }
    let what = format!("{}, and maser has {}", differs.join(" and "), counted(wanted.cores, "core"));
    Finding::to_do(Check::Queues, Verdict::Better, what, QUEUES_WHY, script)
}

fn rings(facts: &Facts, script: &str) -> Finding {
    let Some(rings) = facts.rings else {
        return Finding::ok(Check::Rings, "it has no rings that can be set", RINGS_WHY);
    };
    let short: Vec<_> = ["rx", "tx"]
        .iter()
        .zip(rings)
        .filter(|(_, ring)| ring.descriptors < RING.min(ring.descriptors_max))
        .map(|(side, ring)| format!("{side} {} of {}", ring.descriptors, ring.descriptors_max))
        .collect();
    if short.is_empty() {
        return Finding::ok(Check::Rings, format!("rings of {}", rings[0].descriptors), RINGS_WHY);
    }
    Finding::to_do(
        Check::Rings,
        Verdict::Better,
        format!("short rings: {}", short.join(", ")),
        RINGS_WHY,
        script,
    )
}

fn coalescing(facts: &Facts, script: &str) -> Finding {
    match facts.coalescing {
        None => Finding::ok(Check::Coalescing, "its interrupts can't be held back", COALESCING_WHY),
        Some(Coalescing { rx_usecs: 0, adaptive_rx: false }) => {
            Finding::ok(Check::Coalescing, "no interrupt is held back", COALESCING_WHY)
        }
        Some(Coalescing { rx_usecs, adaptive_rx }) => {
            let how = if adaptive_rx { " and as the driver sees fit" } else { "" };
            let what = format!("interrupts are held back for {rx_usecs} us{how}");
            Finding::to_do(Check::Coalescing, Verdict::Better, what, COALESCING_WHY, script)
        }
    }
}

fn rss(facts: &Facts, wanted: Wanted, script: &str) -> Finding {
    let spread = &facts.look.facts;
    if spread.spread.is_empty() {
        return Finding::ok(Check::Rss, format!("queues are chosen: {}", spread.rss), RSS_WHY);
    }
    let what = format!("queues are chosen: {}, and not by the source address alone", spread.rss);
    Finding::to_do(Check::Rss, if_wanted(wanted.af_xdp, Verdict::Should), what, RSS_WHY, script)
}

#[cfg(test)]
#[path = "interfaces_tests.rs"]
mod tests;
