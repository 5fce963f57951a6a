use super::*;
use serde_json::json;

const REQUEST: Packet = Packet { comes: true, ip6: false, port: 123 };

fn ruleset(policy: &str, hook: &str, rules: &[Value]) -> Value {
    let mut items = vec![
        json!({"metainfo": {"version": "1.0.6"}}),
        json!({"table": {"family": "inet", "name": "filter"}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": "in", "type": "filter", "hook": hook, "prio": 0, "policy": policy}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": "other"}}),
        rule("other", &[json!({"drop": null})]),
    ];
    items.extend(rules.iter().cloned());
    json!({ "nftables": items })
}

fn rule(chain: &str, expressions: &[Value]) -> Value {
    json!({"rule": {"family": "inet", "table": "filter", "chain": chain, "expr": expressions}})
}

fn port(op: &str, right: &Value) -> Value {
    json!({"match": {"op": op, "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": right}})
}

fn saddr() -> Value {
    json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "192.0.2.1"}})
}

fn state(right: &Value) -> Value {
    json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": right}})
}

fn is_dropped(policy: &str, rules: &[Value]) -> Option<bool> {
    match fate(&ruleset(policy, "input", rules), REQUEST) {
        Fate::Passes => Some(false),
        Fate::Dropped(_) => Some(true),
        Fate::DroppedMostly(_) => None,
    }
}

#[test]
fn a_port_is_blocked_by_a_rule_or_by_the_policy() {
    let (drop, accept) = (json!({"drop": null}), json!({"accept": null}));
    let counted = json!({"counter": {"packets": 0, "bytes": 0}});
    let of = |test: Value, end: &Value| rule("in", &[test, counted.clone(), end.clone()]);
    let all = |end: &Value| rule("in", std::slice::from_ref(end));
    for (policy, rules, dropped) in [
        ("accept", vec![], Some(false)),
        ("drop", vec![], Some(true)),
        ("accept", vec![of(port("==", &json!(123)), &drop)], Some(true)),
        ("accept", vec![of(port("==", &json!(53)), &drop)], Some(false)),
        ("accept", vec![of(port("!=", &json!(53)), &drop)], Some(true)),
        ("accept", vec![of(port("==", &json!({"set": [53, 123]})), &json!({"reject": {}}))], Some(true)),
        ("accept", vec![of(port("==", &json!({"set": [53, {"range": [100, 200]}]})), &drop)], Some(true)),
        ("accept", vec![of(port("==", &json!({"range": [1, 122]})), &drop)], Some(false)),
        ("drop", vec![of(port("==", &json!(123)), &accept)], Some(false)),
        ("drop", vec![of(port("==", &json!(22)), &accept)], Some(true)),
        // The first that matches decides.
        ("accept", vec![of(port("==", &json!(123)), &accept), all(&drop)], Some(false)),
        // Only some addresses pass; and some are dropped, which is the operator's business.
        ("drop", vec![of(saddr(), &accept)], None),
        ("accept", vec![of(saddr(), &drop)], Some(false)),
        // What is new isn't established.
        ("drop", vec![of(state(&json!(["established", "related"])), &accept)], Some(true)),
        ("drop", vec![of(state(&json!("new")), &accept)], Some(false)),
        ("accept", vec![of(state(&json!("invalid")), &drop)], Some(false)),
        // Chains that are called.
        ("accept", vec![rule("in", &[json!({"jump": {"target": "other"}})])], Some(true)),
        (
            "accept",
            vec![rule("in", &[port("==", &json!(53)), json!({"jump": {"target": "other"}})])],
            Some(false),
        ),
        // What can't be read makes it uncertain.
        (
            "accept",
            vec![rule("in", &[json!({"xt": {"type": "match", "name": "u32"}}), drop.clone()])],
            Some(false),
        ),
        ("drop", vec![of(port("==", &json!("@ports")), &accept)], None),
    ] {
        assert_eq!(is_dropped(policy, &rules), dropped, "{policy} {rules:?}");
    }
}

#[test]
fn verdict_maps_are_read() {
    let map = |key: Value, set: Value| rule("in", &[json!({"vmap": {"key": key, "data": {"set": set}}})]);
    let by_state = |words: Value| map(json!({"ct": {"key": "state"}}), words);
    let by_port = |set: Value| map(json!({"payload": {"protocol": "udp", "field": "dport"}}), set);
    let (accept, drop) = (json!({"accept": null}), json!({"drop": null}));
    assert_eq!(
        is_dropped("drop", &[by_state(json!([["established", accept], ["invalid", drop]]))]),
        Some(true)
    );
    assert_eq!(is_dropped("drop", &[by_port(json!([[22, accept], [123, accept]]))]), Some(false));
    assert_eq!(is_dropped("accept", &[by_port(json!([[123, drop]]))]), Some(true));
    let by_interface = map(json!({"meta": {"key": "iifname"}}), json!([["lo", accept]]));
    assert_eq!(is_dropped("drop", &[by_interface]), Some(true));
}

#[test]
fn a_chain_is_walked_by_what_passes_it() {
    let out = ruleset("drop", "output", &[]);
    assert_eq!(fate(&out, REQUEST), Fate::Passes);
    let reply = Packet { comes: false, ..REQUEST };
    assert!(matches!(fate(&out, reply), Fate::Dropped(by) if by.contains("inet filter in")));
    let answers = rule("in", &[state(&json!(["established"])), json!({"accept": null})]);
    assert_eq!(fate(&ruleset("drop", "output", &[answers]), reply), Fate::Passes);
    assert_eq!(fate(&ruleset("drop", "forward", &[]), REQUEST), Fate::Passes);
    // IPv6's rules are nothing to IPv4's packets.
    let ip6 = json!({"match": {"op": "==", "left": {"meta": {"key": "nfproto"}}, "right": "ipv6"}});
    let of_ip6 = ruleset("accept", "input", &[rule("in", &[ip6, json!({"drop": null})])]);
    assert_eq!(fate(&of_ip6, REQUEST), Fate::Passes);
    assert!(matches!(fate(&of_ip6, Packet { ip6: true, ..REQUEST }), Fate::Dropped(_)));
}

#[test]
fn chains_that_call_each_other_end() {
    let around = rule("in", &[json!({"jump": {"target": "in"}})]);
    assert_eq!(is_dropped("accept", &[around]), Some(false));
}

#[test]
fn what_filters_is_told_from_what_does_not() {
    assert!(!filters(&json!({"nftables": []})));
    assert!(!filters(&json!("no document")));
    assert!(!filters(&ruleset("accept", "input", &[])));
    assert!(filters(&ruleset("drop", "input", &[])));
    assert!(filters(&ruleset("accept", "input", &[rule("in", &[json!({"drop": null})])])));
    assert!(!filters(&ruleset("drop", "forward", &[])));
}

#[test]
fn ports_past_tracking_are_those_of_our_own_table() {
    let of = |table: &str, right: Value| {
        let test = json!({"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": right}});
        let rule =
            json!({"family": "inet", "table": table, "chain": "to_us", "expr": [test, {"notrack": null}]});
        untracked(&json!({"nftables": [{"rule": rule}]})).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(of("maser_notrack", json!(123)), [123]);
    assert_eq!(of("maser_notrack", json!({"set": [11123, 123]})), [123, 11_123]);
    assert_eq!(of("other", json!(123)), Vec::<u16>::new());
}

#[test]
fn what_is_untracked_is_not_new() {
    let accepts_new = rule("in", &[state(&json!("new")), json!({"accept": null})]);
    let mut document = ruleset("drop", "input", &[accepts_new]);
    assert_eq!(fate(&document, REQUEST), Fate::Passes);
    let past = json!({"rule": {"family": "inet", "table": "maser_notrack", "chain": "to_us", "expr": [port("==", &json!(123)), {"notrack": null}]}});
    document["nftables"].as_array_mut().unwrap().push(past);
    assert!(matches!(fate(&document, REQUEST), Fate::Dropped(_)));
}
