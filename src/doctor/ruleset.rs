//! What a ruleset of nftables does to a packet, from `nft -j list ruleset`: walked rule by rule, as far as that can be
//! told without a packet. Pure.
//!
//! A match comes out three ways: it matches, it doesn't, or that depends on who asks. What isn't known here depends,
//! too, so that a rule which can't be read makes a verdict uncertain and never wrong.

use serde_json::Value;
use std::collections::BTreeSet;

/// Chains that may call each other in a row (the kernel's `NFT_JUMP_STACK_SIZE`).
const JUMPS_MAX: usize = 16;
/// `IPPROTO_UDP`, where a rule has the number.
const UDP_NUMBER: u64 = 17;

/// The packet that is walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Packet {
    /// At the hook `input` and before it; else it leaves.
    pub(super) comes: bool,
    pub(super) ip6: bool,
    /// The port here: that of the destination of what comes, and of the source of what leaves.
    pub(super) port: u16,
}

/// What becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It passes, as far as can be told.
    Passes,
    /// It is dropped unless a condition holds, which the rules that pass it have.
    DroppedMostly(String),
    /// It is dropped whoever sent it; by what.
    Dropped(String),
}

/// How a match comes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Match {
    Yes,
    No,
    Depends,
}

/// How a chain or a rule ends.
#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    Accept,
    Drop(String),
    /// On with the next rule.
    On,
    /// Back to the caller.
    Return,
}

/// A ruleset, and what was met on the way.
struct Walk<'a> {
    items: &'a [Value],
    packet: Packet,
    /// The table of `tuning/conntrack` leads it past tracking.
    untracked: bool,
    /// A rule on the way passes some.
    some_pass: bool,
}

/// What the ruleset does to it.
pub(super) fn fate(document: &Value, packet: Packet) -> Fate {
    let items = document["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let untracked = untracked(document).contains(&packet.port);
    let mut worst = Fate::Passes;
    for chain in
        items.iter().filter_map(|item| item.get("chain")).filter(|chain| is_on_the_way(chain, packet))
    {
        // A chain of one device lets those of others pass.
        let some_pass = chain.get("dev").is_some();
        let mut walk = Walk { items, packet, untracked, some_pass };
        let end = match walk.chain(chain, 0) {
            End::On | End::Return if chain["policy"] == "drop" => {
                End::Drop(format!("the policy of chain {}", chain_name(chain)))
            }
            end @ (End::Accept | End::Drop(_) | End::On | End::Return) => end,
        };
        match end {
            End::Drop(by) if !walk.some_pass => return Fate::Dropped(by),
            End::Drop(by) => worst = Fate::DroppedMostly(by),
            End::Accept | End::On | End::Return => {}
        }
    }
    worst
}

/// Whether anything filters at all: a chain on the way of what comes that has rules or doesn't accept.
pub(super) fn filters(document: &Value) -> bool {
    let items = document["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let chains = items.iter().filter_map(|item| item.get("chain"));
    let on_the_way = chains.filter(|chain| {
        [false, true].into_iter().any(|ip6| is_on_the_way(chain, Packet { comes: true, ip6, port: 0 }))
    });
    // maser's own, of tuning/conntrack, filters nothing.
    on_the_way
        .filter(|chain| chain["table"] != "maser_notrack")
        .any(|chain| chain["policy"] == "drop" || rules(items, chain).next().is_some())
}

/// The ports to which the table of `tuning/conntrack` leads past tracking.
pub(super) fn untracked(document: &Value) -> BTreeSet<u16> {
    let items = document["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let own = items
        .iter()
        .filter_map(|item| item.get("rule"))
        .filter(|rule| rule["table"] == "maser_notrack" && rule["chain"] == "to_us");
    let tests = own
        .flat_map(|rule| rule["expr"].as_array().into_iter().flatten())
        .filter_map(|part| part.get("match"));
    let values = tests.flat_map(|test| {
        let right = &test["right"];
        right["set"].as_array().map_or_else(|| vec![right], |set| set.iter().collect())
    });
    values.filter_map(|value| u16::try_from(value.as_u64()?).ok()).collect()
}

/// A chain's name, as `inet filter input`.
fn chain_name(chain: &Value) -> String {
    ["family", "table", "name"].map(|key| chain[key].as_str().unwrap_or("?")).join(" ")
}

fn is_on_the_way(chain: &Value, packet: Packet) -> bool {
    let family = chain["family"].as_str().unwrap_or_default();
    let is_of_family = matches!(family, "inet" | "netdev") || family == if packet.ip6 { "ip6" } else { "ip" };
    let hook = chain["hook"].as_str().unwrap_or_default();
    let hooks: &[&str] =
        if packet.comes { &["ingress", "prerouting", "input"] } else { &["output", "postrouting", "egress"] };
    is_of_family && hooks.contains(&hook)
}

fn rules<'a>(items: &'a [Value], chain: &'a Value) -> impl Iterator<Item = &'a Value> {
    let named = |rule: &Value, key: &str, of: &str| rule[key] == chain[of];
    items.iter().filter_map(|item| item.get("rule")).filter(move |rule| {
        named(rule, "family", "family") && named(rule, "table", "table") && named(rule, "chain", "name")
    })
}

impl Walk<'_> {
    fn chain(&mut self, chain: &Value, depth: usize) -> End {
        if depth >= JUMPS_MAX {
            return End::On;
        }
        let items = self.items;
        for rule in rules(items, chain) {
            match self.rule(rule, chain, depth) {
                End::On => {}
                end @ (End::Accept | End::Drop(_) | End::Return) => return end,
            }
        }
        End::On
    }

    fn rule(&mut self, rule: &Value, chain: &Value, depth: usize) -> End {
        let mut depends = false;
        for expression in rule["expr"].as_array().map_or(&[][..], Vec::as_slice) {
            if let Some(test) = expression.get("match") {
                match self.matches(test) {
                    Match::Yes => {}
                    Match::No => return End::On,
                    Match::Depends => depends = true,
                }
            } else if let Some(map) = expression.get("vmap") {
                return self.verdict_map(map, chain, depends, depth);
            } else if expression.get("limit").is_some() || expression.get("xt").is_some() {
                depends = true;
            } else if let Some(end) = self.verdict(expression, chain, depth) {
                return self.taken(end, depends);
            }
        }
        End::On
    }

    /// A rule's end, which isn't everybody's if it depends.
    fn taken(&mut self, end: End, depends: bool) -> End {
        if !depends {
            return end;
        }
        self.some_pass |= end == End::Accept;
        End::On
    }

    fn verdict_map(&mut self, map: &Value, chain: &Value, depends: bool, depth: usize) -> End {
        let elements = map["data"]["set"].as_array().map_or(&[][..], Vec::as_slice);
        let mut depends = depends || elements.is_empty();
        for pair in elements {
            let (Some(value), Some(verdict)) = (pair.get(0), pair.get(1)) else { continue };
            let matched = self.value_matches(&map["key"], value);
            if matched == Match::No {
                continue;
            }
            depends |= matched == Match::Depends;
            if let Some(end) = self.verdict(verdict, chain, depth)
                && let end @ (End::Accept | End::Drop(_) | End::Return) = self.taken(end, depends)
            {
                return end;
            }
        }
        End::On
    }

    /// What an expression ends with; none if it is no verdict.
    fn verdict(&mut self, expression: &Value, chain: &Value, depth: usize) -> Option<End> {
        let object = expression.as_object()?;
        let (word, target) = object.iter().next()?;
        Some(match word.as_str() {
            "accept" => End::Accept,
            "drop" | "reject" => End::Drop(format!("a rule of chain {} ({word})", chain_name(chain))),
            "return" => End::Return,
            "jump" | "goto" => {
                let items = self.items;
                let called = items.iter().filter_map(|item| item.get("chain")).find(|other| {
                    other["family"] == chain["family"]
                        && other["table"] == chain["table"]
                        && other["name"] == target["target"]
                })?;
                match (self.chain(called, depth + 1), word.as_str()) {
                    (End::On | End::Return, "goto") => End::Return,
                    (End::On | End::Return, _) => End::On,
                    (end, _) => end,
                }
            }
            _ => return None,
        })
    }

    fn matches(&self, test: &Value) -> Match {
        let matched = self.value_matches(&test["left"], &test["right"]);
        match (test["op"].as_str(), matched) {
            (Some("!="), Match::Yes) => Match::No,
            (Some("!="), Match::No) => Match::Yes,
            (Some("==" | "in" | "!="), matched) => matched,
            _ => Match::Depends,
        }
    }

    fn value_matches(&self, left: &Value, right: &Value) -> Match {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        if let Some(payload) = left.get("payload") {
            return match (text(payload, "protocol").as_str(), text(payload, "field").as_str()) {
                ("udp" | "th", field @ ("dport" | "sport")) => {
                    if (field == "dport") == self.packet.comes {
                        any_of(right, |value| port_is(value, self.packet.port))
                    } else {
                        Match::Depends
                    }
                }
                ("tcp" | "icmp" | "icmpv6" | "sctp" | "dccp" | "esp" | "ah" | "igmp", _) => Match::No,
                ("ip", "protocol") | ("ip6", "nexthdr") => any_of(right, is_udp),
                ("ip", _) if self.packet.ip6 => Match::No,
                ("ip6", _) if !self.packet.ip6 => Match::No,
                _ => Match::Depends,
            };
        }
        if let Some(meta) = left.get("meta") {
            return match text(meta, "key").as_str() {
                "l4proto" => any_of(right, is_udp),
                "nfproto" => {
                    any_of(right, |value| known(value == if self.packet.ip6 { "ipv6" } else { "ipv4" }))
                }
                // Clients are elsewhere.
                "iif" | "iifname" | "oif" | "oifname" => {
                    any_of(right, |value| if value == "lo" { Match::No } else { Match::Depends })
                }
                _ => Match::Depends,
            };
        }
        if let Some(tracked) = left.get("ct")
            && text(tracked, "key") == "state"
        {
            // What comes is new to the kernel, and what leaves answers it; with tuning/conntrack both are neither.
            let state = match (self.untracked, self.packet.comes) {
                (true, _) => "untracked",
                (false, true) => "new",
                (false, false) => "established",
            };
            return any_of(right, |value| match value.as_str() {
                // Another's table may have it untracked, too.
                Some("untracked") if !self.untracked => Match::Depends,
                Some(word) => known(word == state),
                None => Match::Depends,
            });
        }
        Match::Depends
    }
}

const fn known(matches: bool) -> Match {
    if matches { Match::Yes } else { Match::No }
}

/// A value, or a set or list of such.
fn any_of(right: &Value, one: impl Fn(&Value) -> Match) -> Match {
    let elements = right.get("set").unwrap_or(right).as_array();
    let Some(elements) = elements else { return one(right) };
    let outcomes: Vec<_> = elements.iter().map(one).collect();
    if outcomes.contains(&Match::Yes) {
        Match::Yes
    } else if outcomes.contains(&Match::Depends) {
        Match::Depends
    } else {
        Match::No
    }
}

fn is_udp(value: &Value) -> Match {
    known(value == "udp" || value.as_u64() == Some(UDP_NUMBER))
}

fn port_is(value: &Value, port: u16) -> Match {
    let port = u64::from(port);
    if let Some(number) = value.as_u64() {
        return known(number == port);
    }
    let bound = |at: usize| value["range"].get(at).and_then(Value::as_u64);
    match (bound(0), bound(1)) {
        (Some(first), Some(last)) => known((first..=last).contains(&port)),
        // A named set, or a name that nft left as it is.
        _ => Match::Depends,
    }
}

#[cfg(test)]
#[path = "ruleset_tests.rs"]
mod tests;
