//! What this process may do, how much memory it may lock, and what the kernel's version has.

use super::Question;
use super::finding::{Check, Finding, Verdict};
use super::machine::Machine;
use super::processes::capabilities;
use crate::config::SourceKind;

/// Capabilities by their numbers in `linux/capability.h`, and what maser needs each for.
const BIND_SERVICE: (u32, &str, &str) = (10, "CAP_NET_BIND_SERVICE", "a port below 1024");
const NET_ADMIN: (u32, &str, &str) = (12, "CAP_NET_ADMIN", "XDP programs and NICs' settings");
const NET_RAW: (u32, &str, &str) = (13, "CAP_NET_RAW", "AF_XDP sockets");
const SYS_TIME: (u32, &str, &str) = (25, "CAP_SYS_TIME", "steering the machine's clock, and pulse devices");
const BPF: (u32, &str, &str) = (39, "CAP_BPF", "loading the XDP program");
const IPC_LOCK: u32 = 14;

const RIGHTS_WHY: &str = "what isn't permitted is refused at the start, or is done without";

/// Ports below this take a capability, unless `net.ipv4.ip_unprivileged_port_start` says otherwise.
const PRIVILEGED_PORTS: u16 = 1024;

/// Memory that a socket over AF_XDP takes, with room for some queues: 64 MiB.
const MEMLOCK_OCTETS: u64 = 64 << 20;

/// The first kernel with all that maser uses for AF_XDP, and the one whose drivers stamp what AF_XDP sends.
const KERNEL_AF_XDP: (u32, u32) = (5, 10);
const KERNEL_SENT_STAMPS: (u32, u32) = (6, 8);

/// What the kernel says of this process and of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Facts {
    effective: Option<u64>,
    /// Ports from here on take no capability.
    unprivileged_from: u16,
    /// Octets that may be locked; none for any number.
    lockable: Option<u64>,
    kernel: String,
}

pub(super) fn findings(question: &Question, machine: &Machine) -> Vec<Finding> {
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    let limits = machine.proc("self/limits").unwrap_or_default();
    let locked = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let facts = Facts {
        effective: machine.proc("self/status").as_deref().and_then(|status| capabilities(status, "CapEff:")),
        unprivileged_from: number(machine.proc("sys/net/ipv4/ip_unprivileged_port_start"))
            .unwrap_or(PRIVILEGED_PORTS),
        // "unlimited" is no number.
        lockable: locked.and_then(|line| line.split_whitespace().next()).and_then(|soft| soft.parse().ok()),
        kernel: machine.proc("sys/kernel/osrelease").unwrap_or_default(),
    };
    vec![rights(question, &facts), kernel(question, &facts), memlock(question, &facts)]
}

fn has(facts: &Facts, capability: u32) -> bool {
    facts.effective.is_some_and(|set| set >> capability & 1 != 0)
}

fn rights(question: &Question, facts: &Facts) -> Finding {
    let mut needed = Vec::new();
    if question.ports().iter().any(|port| *port < facts.unprivileged_from) {
        needed.push(BIND_SERVICE);
    }
    if question.wants_af_xdp() {
        needed.extend([NET_ADMIN, NET_RAW, BPF]);
    }
    if let Some(config) = question.config() {
        let pulses = |kind: &SourceKind| matches!(kind, SourceKind::Pps { .. });
        if config.clock.steer || config.sources.iter().any(|source| pulses(&source.kind)) {
            needed.push(SYS_TIME);
        }
    }
    let lacks: Vec<_> = needed.into_iter().filter(|(number, ..)| !has(facts, *number)).collect();
    if facts.effective.is_none() {
        let what = "/proc/self/status doesn't tell this process's capabilities";
        return Finding::to_do(Check::Rights, Verdict::Unknown, what, RIGHTS_WHY, "mount -t proc proc /proc");
    }
    if lacks.is_empty() {
        return Finding::ok(Check::Rights, "this process may do what the server needs", RIGHTS_WHY);
    }
    let words: Vec<_> = lacks.iter().map(|(_, name, what)| format!("{name} ({what})")).collect();
    let what = format!("this process lacks {}", words.join(", "));
    let remedy = format!("sudo maser doctor{}", question.script_arguments());
    Finding::to_do(Check::Rights, Verdict::Should, what, RIGHTS_WHY, remedy)
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map_while(|digits| digits.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn kernel(question: &Question, facts: &Facts) -> Finding {
    const WHY: &str = "AF_XDP as maser uses it takes Linux 5.10, and NICs' stamps of what it sends Linux 6.8";
    let name = format!("Linux {}", facts.kernel);
    let upgrade = "apt-get install linux-image-amd64 && reboot";
    match version(&facts.kernel) {
        None => {
            let what = "the kernel's version can't be read";
            Finding::to_do(Check::Kernel, Verdict::Unknown, what, WHY, "uname -r")
        }
        Some(version) if version < KERNEL_AF_XDP => {
            let verdict = if question.wants_af_xdp() { Verdict::Broken } else { Verdict::Better };
            Finding::to_do(Check::Kernel, verdict, format!("{name} is older than 5.10"), WHY, upgrade)
        }
        Some(version) if version < KERNEL_SENT_STAMPS => {
            let what = format!("{name} has no stamps of what AF_XDP sends");
            Finding::to_do(Check::Kernel, Verdict::Better, what, WHY, upgrade)
        }
        Some(_) => Finding::ok(Check::Kernel, name, WHY),
    }
}

fn memlock(question: &Question, facts: &Facts) -> Finding {
    const WHY: &str =
        "the packet memory of AF_XDP is locked, and counts against this limit without CAP_IPC_LOCK";
    let (verdict, lockable) = match facts.lockable {
        _ if has(facts, IPC_LOCK) => {
            return Finding::ok(Check::Memlock, "CAP_IPC_LOCK: memory is locked without limit", WHY);
        }
        None => return Finding::ok(Check::Memlock, "memory is locked without limit", WHY),
        Some(octets) if octets >= MEMLOCK_OCTETS => {
            return Finding::ok(Check::Memlock, format!("{} MiB may be locked", octets >> 20), WHY);
        }
        Some(octets) if question.wants_af_xdp() => (Verdict::Should, octets),
        Some(octets) => (Verdict::Better, octets),
    };
    let what = format!("{} KiB may be locked, less than 64 MiB", lockable >> 10);
    Finding::to_do(Check::Memlock, verdict, what, WHY, "ulimit -l 65536 (LimitMEMLOCK=64M in a unit)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::status::Surroundings;

    fn question(interface: bool) -> Question {
        let mut config = Config::default_run();
        config.server.listen = vec!["0.0.0.0:123".parse().unwrap()];
        config.server.interfaces.extend(interface.then(|| "eth0".to_owned()));
        Question {
            config: Some(("c".into(), config)),
            interfaces: Vec::new(),
            surroundings: Surroundings::of_process(),
        }
    }

    fn facts(effective: u64, lockable: Option<u64>, kernel: &str) -> Facts {
        Facts { effective: Some(effective), unprivileged_from: 1024, lockable, kernel: kernel.to_owned() }
    }

    #[test]
    fn what_is_needed_is_what_is_configured() {
        let none = facts(0, None, "");
        let told = rights(&question(false), &none);
        assert_eq!(told.verdict, Verdict::Should);
        assert!(told.what.contains("BIND_SERVICE") && !told.what.contains("NET_ADMIN"), "{told:?}");
        assert!(rights(&question(true), &none).what.contains("NET_ADMIN"));
        assert_eq!(rights(&question(false), &facts(1 << 10, None, "")).verdict, Verdict::Ok);
        assert_eq!(
            rights(&question(false), &Facts { unprivileged_from: 100, ..none.clone() }).verdict,
            Verdict::Ok
        );
        assert_eq!(rights(&question(false), &Facts { effective: None, ..none }).verdict, Verdict::Unknown);
    }

    #[test]
    fn old_kernels_are_told() {
        let of = |interface, text| kernel(&question(interface), &facts(0, None, text)).verdict;
        assert_eq!(of(true, "5.9.1"), Verdict::Broken);
        assert_eq!(of(false, "5.9.1-amd64"), Verdict::Better);
        assert_eq!(of(true, "6.1.0-13-amd64"), Verdict::Better);
        assert_eq!(of(true, "6.18.44"), Verdict::Ok);
        assert_eq!(of(true, "what"), Verdict::Unknown);
    }

    #[test]
    fn locked_memory_is_limited_without_the_capability() {
        let of = |interface, effective, lockable| {
            memlock(&question(interface), &facts(effective, lockable, "")).verdict
        };
        assert_eq!(of(true, 0, Some(8 << 20)), Verdict::Should);
        assert_eq!(of(false, 0, Some(8 << 20)), Verdict::Better);
        assert_eq!(of(true, 1 << 14, Some(0)), Verdict::Ok);
        assert_eq!(of(true, 0, Some(64 << 20)), Verdict::Ok);
        assert_eq!(of(true, 0, None), Verdict::Ok);
    }
}
