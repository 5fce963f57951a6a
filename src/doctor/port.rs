//! Whether the ports that are to be answered at are free: the kernel's table of UDP sockets, and who has each open.

use super::Question;
use super::finding::{Check, Finding, Verdict};
use super::machine::Machine;
use super::processes::{Process, Processes};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const WHY: &str =
    "an address and port have one owner: maser can't listen there as long as another program does";

/// A bound UDP socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bound {
    at: SocketAddr,
    inode: u64,
}

/// Sockets that are in the way of `listen`.
pub(super) fn findings(question: &Question, machine: &Machine, processes: &Processes) -> Vec<Finding> {
    let listen = question.listen();
    let mut bound = Vec::new();
    let mut seen = false;
    for table in ["net/udp", "net/udp6"] {
        let text = machine.proc(table);
        seen |= text.is_some();
        bound.extend(text.unwrap_or_default().lines().filter_map(entry));
    }
    if !seen {
        let look = "mount -t proc proc /proc";
        return vec![Finding::to_do(Check::Port, Verdict::Unknown, "/proc/net/udp can't be read", WHY, look)];
    }
    judge(&listen, &bound, processes)
}

fn judge(listen: &[SocketAddr], bound: &[Bound], processes: &Processes) -> Vec<Finding> {
    let mut findings = Vec::new();
    for &Bound { at, inode } in
        bound.iter().filter(|bound| listen.iter().any(|at| is_in_the_way(*at, bound.at)))
    {
        let socket = format!("socket:[{inode}]");
        let owners: Vec<&Process> = processes.holders(&socket).collect();
        if owners.iter().any(|owner| owner.name.starts_with("maser")) {
            findings.push(
                Finding::ok(Check::Port, format!("UDP port {} is maser's own", at.port()), WHY)
                    .of(at.to_string()),
            );
            continue;
        }
        let (who, remedy) = match owners.first() {
            Some(owner) => (owner.named(), owner.stopped_by()),
            None => (
                "a program of another user or container".to_owned(),
                format!("sudo ss -lunp 'sport = :{}'", at.port()),
            ),
        };
        let what = format!("UDP port {} is taken by {who}", at.port());
        findings.push(Finding::to_do(Check::Port, Verdict::Broken, what, WHY, remedy).of(at.to_string()));
    }
    findings.extend(perhaps_both(listen, bound, processes));
    // maser's workers share each address, and a daemon may have several sockets at one.
    findings.sort_by(|a, b| a.subject.cmp(&b.subject));
    findings.dedup();
    if findings.is_empty() {
        let ports: Vec<_> = super::unique(listen.iter().map(|at| at.port().to_string()));
        findings.push(Finding::ok(Check::Port, format!("UDP port {} is free", ports.join(", ")), WHY));
    }
    findings
}

/// IPv6's wildcard is bound to IPv6 alone by maser, but mostly not by others, who have IPv4's port with it then. The
/// kernel's table doesn't tell.
fn perhaps_both(listen: &[SocketAddr], bound: &[Bound], processes: &Processes) -> Option<Finding> {
    let of_ip4 = |bound: &&Bound| {
        let wanted = |family: fn(&SocketAddr) -> bool| {
            listen.iter().any(|at| family(at) && at.port() == bound.at.port())
        };
        let everywhere = bound.at.is_ipv6() && bound.at.ip().is_unspecified();
        everywhere && wanted(SocketAddr::is_ipv4) && !wanted(SocketAddr::is_ipv6)
    };
    let bound = bound.iter().find(of_ip4)?;
    let socket = format!("socket:[{}]", bound.inode);
    let owner = processes.holders(&socket).next();
    if owner.is_some_and(|owner| owner.name.starts_with("maser")) {
        return None;
    }
    let who = owner.map_or_else(|| "a program of another user or container".to_owned(), Process::named);
    let what = format!("{who} has {}, and whether IPv4 with it can't be seen", bound.at);
    let look = format!("sudo ss -lunp 'sport = :{}'", bound.at.port());
    Some(Finding::to_do(Check::Port, Verdict::Unknown, what, WHY, look).of(bound.at.to_string()))
}

/// Whether one who is bound at `bound` has what is to be bound at `wanted`.
fn is_in_the_way(wanted: SocketAddr, bound: SocketAddr) -> bool {
    let same_family = wanted.is_ipv4() == bound.is_ipv4();
    let overlap = wanted.ip() == bound.ip() || wanted.ip().is_unspecified() || bound.ip().is_unspecified();
    wanted.port() == bound.port() && same_family && overlap
}

/// A line of `/proc/net/udp` or `udp6`: its second word is the local address, its tenth the inode.
fn entry(line: &str) -> Option<Bound> {
    let mut words = line.split_whitespace();
    let (address, port) = words.nth(1)?.split_once(':')?;
    let inode = words.nth(7)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Bound { at: (ip_address(address)?, port).into(), inode })
}

/// The kernel writes an address as 32-bit words of the machine's order.
fn ip_address(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let text = digits.get(8 * at..8 * at + 8)?;
        u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes)
    };
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (at, to) in octets.chunks_exact_mut(4).enumerate() {
                to.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &str = "  9: 00000000:007B 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 \
        2 0 0";
    const UDP6: &str = "  9: 000080FE00000000FF005450B6AD1DFE:2B73 00000000000000000000000000000000:0000 07 0:0 00:0 \
        0 0 0 12 2 0 0";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_table_is_read() {
        assert_eq!(entry(UDP), Some(Bound { at: "0.0.0.0:123".parse().unwrap(), inode: 4711 }));
        assert_eq!(
            entry(UDP6),
            Some(Bound { at: "[fe80::5054:ff:fe1d:adb6]:11123".parse().unwrap(), inode: 12 })
        );
        assert_eq!(
            entry(
                "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
            ),
            None
        );
    }

    #[test]
    fn who_has_the_port_is_in_the_way_and_maser_itself_is_not() {
        let bound = entry(UDP).unwrap();
        let listen = ["192.0.2.1:123".parse().unwrap()];
        let held = |name: &str| Processes {
            all: vec![Process {
                id: 5,
                name: name.to_owned(),
                open: vec!["socket:[4711]".to_owned()],
                ..Process::default()
            }],
            hidden: false,
        };
        let found = |processes: &Processes| judge(&listen, &[bound], processes).remove(0);
        let taken = found(&held("chronyd"));
        assert_eq!(taken.verdict, Verdict::Broken);
        assert!(
            taken.what.contains("chronyd (process 5)") && taken.remedy.as_deref() == Some("kill 5"),
            "{taken:?}"
        );
        assert_eq!(found(&held("maser")).verdict, Verdict::Ok);
        assert_eq!(found(&Processes::default()).verdict, Verdict::Broken);
        // Another port, another address, the other family.
        for other in ["192.0.2.1:124", "192.0.2.2:123", "[::]:123"] {
            let bound = Bound { at: "192.0.2.1:123".parse().unwrap(), inode: 1 };
            let free = judge(&[other.parse().unwrap()], &[bound], &Processes::default());
            assert_eq!(free[0].verdict, Verdict::Ok, "{other}");
        }
        // IPv6's wildcard may have IPv4's port with it.
        let everywhere = Bound { at: "[::]:123".parse().unwrap(), inode: 4711 };
        let of = |processes: &Processes| judge(&listen, &[everywhere], processes)[0].verdict;
        assert_eq!(of(&held("chronyd")), Verdict::Unknown);
        assert_eq!(of(&held("maser")), Verdict::Ok);
    }
}
