//! Whether a packet filter drops requests or replies: nftables' ruleset, as `nft` tells it, and what it can't tell.

use super::Question;
use super::finding::{Check, Finding, Verdict};
use super::machine::Machine;
use super::ruleset::{self, Fate, Packet};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

const WHY: &str = "a request that the filter drops never reaches maser, and the client sees a dead server";

/// What could be learnt of the filter.
#[derive(Debug)]
pub(super) enum Filter {
    /// nftables' rules, and whether the older tables, which it doesn't show, are there.
    Ruleset { document: Value, legacy: bool },
    /// Why not, and the command that helps.
    Hidden(String, &'static str),
}

impl Filter {
    /// Whether there is anything that AF_XDP would go past; none where that can't be seen.
    pub(super) fn guarded(&self) -> Option<bool> {
        match self {
            Self::Ruleset { document, legacy } => Some(*legacy || ruleset::filters(document)),
            Self::Hidden(..) => None,
        }
    }

    /// The ports that the table of `tuning/conntrack` has pass untracked; none where that can't be seen.
    pub(super) fn untracked(&self) -> Option<BTreeSet<u16>> {
        match self {
            Self::Ruleset { document, .. } => Some(ruleset::untracked(document)),
            Self::Hidden(..) => None,
        }
    }
}

/// Whether the kernel's rules pass requests and replies.
pub(super) fn findings(question: &Question, filter: &Filter) -> Vec<Finding> {
    let families: Vec<(bool, u16)> =
        super::unique(question.listen().iter().map(|at| (at.is_ipv6(), at.port())));
    judge(filter, &families)
}

/// Asks nftables.
pub(super) fn gather(machine: &Machine) -> Filter {
    let legacy = ["net/ip_tables_names", "net/ip6_tables_names"]
        .iter()
        .any(|names| machine.proc(names).is_some_and(|names| !names.is_empty()));
    let output = Command::new("nft").args(["-j", "list", "ruleset"]).stdin(Stdio::null()).output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Filter::Hidden("nft isn't installed".to_owned(), "apt-get install nftables");
        }
        Err(error) => return Filter::Hidden(format!("nft can't be run: {error}"), "nft -j list ruleset"),
        Ok(output) => output,
    };
    match serde_json::from_slice(&output.stdout) {
        Ok(document) if output.status.success() => Filter::Ruleset { document, legacy },
        Ok(_) | Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().next().unwrap_or("no word").to_owned();
            Filter::Hidden(format!("nft didn't tell its rules ({first})"), "sudo maser doctor")
        }
    }
}

fn judge(facts: &Filter, families: &[(bool, u16)]) -> Vec<Finding> {
    let (document, legacy) = match facts {
        Filter::Hidden(why, remedy) => {
            let what = format!("the packet filter's rules can't be seen: {why}");
            return vec![Finding::to_do(Check::Firewall, Verdict::Unknown, what, WHY, *remedy)];
        }
        Filter::Ruleset { document, legacy } => (document, *legacy),
    };
    let mut findings = Vec::new();
    for &(ip6, port) in families {
        let family = if ip6 { "IPv6" } else { "IPv4" };
        let subject = format!("{family} port {port}");
        // A verdict on what leaves doesn't matter where nothing comes.
        let fates = [(true, "requests"), (false, "replies")]
            .map(|(comes, words)| (ruleset::fate(document, Packet { comes, ip6, port }), words));
        let (verdict, what) = match fates {
            [(Fate::Dropped(by), words), _] | [_, (Fate::Dropped(by), words)] => {
                (Verdict::Broken, format!("{words} are dropped by {by}"))
            }
            [(Fate::DroppedMostly(by), words), _] | [_, (Fate::DroppedMostly(by), words)] => {
                (Verdict::Better, format!("{words} are dropped by {by}, but not all of them"))
            }
            [(Fate::Passes, _), (Fate::Passes, _)] => continue,
        };
        let side = if what.starts_with("requests") { "dport" } else { "sport" };
        let remedy = pass_command(&what, side, port);
        findings.push(Finding::to_do(Check::Firewall, verdict, what, WHY, remedy).of(subject));
    }
    if legacy {
        let what = "tables of the older iptables are there, which nft doesn't show";
        findings.push(Finding::to_do(
            Check::Firewall,
            Verdict::Unknown,
            what,
            WHY,
            "iptables-legacy-save; ip6tables-legacy-save",
        ));
    } else if findings.is_empty() {
        findings.push(Finding::ok(
            Check::Firewall,
            "nothing in nftables drops requests or replies whoever sends them",
            WHY,
        ));
    }
    findings
}

/// The command that lets it pass, in the chain that drops it: `by` names that as `chain FAMILY TABLE NAME`.
fn pass_command(by: &str, side: &str, port: u16) -> String {
    let words: Vec<_> = by.split(' ').skip_while(|word| *word != "chain").skip(1).take(3).collect();
    let chain = words.join(" ").replace(',', "");
    format!("nft insert rule {chain} udp {side} {port} accept")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dropping(policy: &str, family: &str, hook: &str) -> Filter {
        let chain = json!({"family": family, "table": "t", "name": "c", "hook": hook, "policy": policy});
        Filter::Ruleset { document: json!({"nftables": [{"chain": chain}]}), legacy: false }
    }

    #[test]
    fn what_is_dropped_is_told_with_the_rule_that_passes_it() {
        let both = [(false, 123), (true, 123)];
        let findings = judge(&dropping("drop", "ip", "input"), &both);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!((findings[0].verdict, findings[0].subject.as_str()), (Verdict::Broken, "IPv4 port 123"));
        assert_eq!(findings[0].remedy.as_deref(), Some("nft insert rule ip t c udp dport 123 accept"));
        let findings = judge(&dropping("drop", "inet", "output"), &both);
        assert_eq!(findings.len(), 2);
        assert_eq!(findings[1].remedy.as_deref(), Some("nft insert rule inet t c udp sport 123 accept"));
        assert_eq!(judge(&dropping("accept", "inet", "input"), &both)[0].verdict, Verdict::Ok);
    }

    #[test]
    fn what_cannot_be_seen_is_said_to_be_so() {
        let hidden =
            judge(&Filter::Hidden("nft isn't installed".to_owned(), "apt-get install nftables"), &[]);
        assert_eq!(hidden[0].verdict, Verdict::Unknown);
        let legacy = Filter::Ruleset { document: json!({"nftables": []}), legacy: true };
        assert_eq!(judge(&legacy, &[(false, 123)])[0].verdict, Verdict::Unknown);
    }
}
