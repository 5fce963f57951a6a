//! The generator's own check: each kind of flood against servers whose answers are known, and its counts against the server's
//! and the kernel's.

use serde_json::Value;

use crate::load::{count, number, settles};
use crate::peers::log;
use crate::rig::{Family, Port, Rig, phase, settle, sum};

/// Everything is answered, or counted where it isn't.
const UNLIMITED: &str = "[limit]\nrate = \"off\"\ndriver = false\n";

/// Low enough for a busy machine.
const WORDS: &str = "--regulars 200 --rate 1k --time 1 --timeout 500ms";

/// One flood of a kind, and what a server without limits makes of it: everything is answered but what is no request.
fn counts_agree(rig: &Rig, port: Port, flood: &str, answered_share: f64) -> Result<(), String> {
    let server = rig.maser(port, "0-0", UNLIMITED);
    let (received, overflowed, begun) = (rig.received(), rig.overflowed(), server.status());
    let attack = rig.attack(server.setting.port, &format!("{WORDS} --flood-rate 5k --flood {flood}"));
    settle();
    let (received, overflowed) = (rig.received() - received, rig.overflowed() - overflowed);
    let status = server.status();
    let (alone, attacked) = (phase(&attack, "alone"), phase(&attack, "attacked"));
    let parts = [&alone["honest"], &attacked["honest"], &attacked["flood"]];
    let all = |name| parts.iter().map(|part| count(part, name)).sum::<u64>();
    let told = format!("{:?} {port:?} {flood}: {attack}", rig.family);
    // It asks once, the plain way, before it begins.
    let answers = sum(&status, "answers") - sum(&begun, "answers");
    let drops = sum(&status, "drops") - sum(&begun, "drops");
    if answers != all("answered") + 1 || answers + drops + overflowed != all("sent") + 1 {
        return Err(format!(
            "the server counts {answers} answers and {drops} drops, the kernel {overflowed} more; {told}"
        ));
    }
    // Beside these, neighbours ask for each other.
    if !(all("sent") + 1..all("sent") + 30).contains(&received) {
        return Err(format!("the interface counts {received}; {told}"));
    }
    let (due, answered) = (count(parts[2], "due"), number(parts[2], "answered"));
    // What found the sockets full may be anybody's.
    let off = (answered - answered_share * number(parts[2], "due")).abs();
    assert!(
        off <= 0.01 * number(parts[2], "due") + f64::from(u32::try_from(overflowed).unwrap()),
        "{answered} of {due} answered; {told}"
    );
    for part in parts {
        assert_eq!(
            (count(part, "longer"), count(part, "duplicate"), count(part, "kissed")),
            (0, 0, 0),
            "{told}"
        );
        assert!(part["faults"].as_object().unwrap().is_empty(), "{told}");
    }
    Ok(())
}

/// Every kind over both versions of IP. Of oversize datagrams one in five is longer than any that maser reads.
#[test]
fn what_the_server_and_the_kernel_count_is_what_was_sent() {
    let floods = [
        ("one-address", 1.0),
        ("many", 1.0),
        ("spoofed", 1.0),
        ("collisions", 1.0),
        ("monlist", 0.0),
        ("garbage", 0.0),
        ("oversize", 0.8),
        ("kod-ignorers", 1.0),
        ("denied", 1.0),
        ("zipf", 1.0),
    ];
    for family in [Family::V4, Family::V6] {
        let Some(rig) = Rig::or_skip("what_the_server_and_the_kernel_count_is_what_was_sent", family) else {
            return;
        };
        for (number, (flood, share)) in floods.into_iter().enumerate() {
            let port = if number % 2 == 0 { Port::AfXdp } else { Port::Socket };
            settles(|| counts_agree(&rig, port, flood, share));
        }
    }
}

/// Where nothing is limited, each of 10,000 addresses gets an answer to everything that it asked.
#[test]
fn each_of_ten_thousand_addresses_is_counted() {
    let Some(rig) = Rig::or_skip("each_of_ten_thousand_addresses_is_counted", Family::V4) else { return };
    let server = rig.maser(Port::AfXdp, "0-0", UNLIMITED);
    settles(|| {
        let words = "--regulars 200 --rate 500 --flood many --flood-rate 10k --time 4 --timeout 500ms";
        let attack = rig.attack(server.setting.port, words);
        let clients = &phase(&attack, "attacked")["flood"]["clients"];
        assert_eq!(count(clients, "asked"), 10_000, "{attack}");
        let of = |spread: &str| ["min", "max"].map(|end| number(clients, &format!("{spread}.{end}")));
        let (asked, answered) = (of("asked_per_s"), of("answered_per_s"));
        // Four requests each in 4 s.
        assert!(asked.iter().all(|rate| (0.95..1.05).contains(rate)), "{attack}");
        if answered == asked { Ok(()) } else { Err(format!("asked {asked:?}, answered {answered:?}")) }
    });
}

/// What is planted is found in both parts: the oracle can fail. Every fiftieth request is lost, so the parts mustn't take turns.
#[test]
fn planted_losses_are_found_in_both_parts() {
    let Some(rig) = Rig::or_skip("planted_losses_are_found_in_both_parts", Family::V4) else { return };
    settles(|| {
        let server = rig.faulty("0.02 0.01 0 0");
        let words = "--regulars 200 --rate 2k --flood many --flood-rate 1461 --time 4 --timeout 500ms";
        let attack = rig.attack(server.port, words);
        for part in ["honest", "flood"].map(|part| &phase(&attack, "attacked")[part]) {
            let [silent, duplicate] =
                ["silent", "duplicate"].map(|name| number(part, name) / number(part, "sent"));
            log(&format!(
                "planted 2 % loss, 1 % duplicates: {:.2} %, {:.2} %",
                silent * 100.0,
                duplicate * 100.0
            ));
            if !(0.018..0.024).contains(&silent) || !(0.008..0.012).contains(&duplicate) {
                return Err(part.to_string());
            }
        }
        Ok(())
    });
}

/// chronyd's limit: one address that asks 500 times a second gets few answers, honest clients get theirs.
#[test]
fn a_limit_of_chronyd_is_seen() {
    let name = "a_limit_of_chronyd_is_seen";
    let Some(rig) = Rig::or_skip(name, Family::V4) else { return };
    let Some(server) = rig.chronyd(name, "ratelimit interval 3 burst 8 leak 2\nclientloglimit 100000000")
    else {
        return;
    };
    let words = "--regulars 500 --rate 50 --flood one-address --flood-rate 500 --time 4 --timeout 500ms --iburst --warm-up 500ms";
    settles(|| {
        let attack = rig.attack(server.port, words);
        let (honest, flood) = (&phase(&attack, "attacked")["honest"], &phase(&attack, "attacked")["flood"]);
        let share = |part: &Value| number(part, "answered") / number(part, "due");
        log(&format!(
            "chronyd answers {:.1} % of honest requests, {:.1} % of the flood's",
            share(honest) * 100.0,
            share(flood) * 100.0
        ));
        if share(honest) > 0.98 && (0.02..0.6).contains(&share(flood)) {
            Ok(())
        } else {
            Err(attack.to_string())
        }
    });
}

/// Without privileges, through sockets: the same counts at low rates.
#[test]
fn sockets_attack_as_well() {
    let Some(rig) = Rig::or_skip("sockets_attack_as_well", Family::V4) else { return };
    let server = rig.maser(Port::Socket, "0-0", UNLIMITED);
    rig.own_networks();
    settles(|| {
        for (flood, answered) in
            [("many", true), ("one-address", true), ("monlist", false), ("garbage", false)]
        {
            let words = format!("{WORDS} --flood {flood} --sender udp --flood-rate 2k --flood-clients 500");
            let begun = sum(&server.status(), "answers");
            let attack = rig.attack(server.setting.port, &words);
            let answers = sum(&server.status(), "answers") - begun;
            let (alone, attacked) = (phase(&attack, "alone"), phase(&attack, "attacked"));
            let parts = [&alone["honest"], &attacked["honest"], &attacked["flood"]];
            let got: u64 = parts.iter().map(|part| count(part, "answered")).sum();
            let share = number(parts[2], "answered") / number(parts[2], "due");
            let is_right = if answered { share > 0.99 } else { share == 0.0 };
            if answers != got || !is_right {
                return Err(format!("{flood}: the server counts {answers}: {attack}"));
            }
        }
        Ok(())
    });
}

/// A generator that can't offer what it was told says so.
#[test]
fn a_flood_beyond_the_generator_is_told() {
    let Some(rig) = Rig::or_skip("a_flood_beyond_the_generator_is_told", Family::V4) else { return };
    let server = rig.maser(Port::AfXdp, "0-0", UNLIMITED);
    let attack = rig.attack(server.setting.port, "--rate 100 --flood-rate 20M --time 500ms --timeout 500ms");
    assert_eq!(phase(&attack, "attacked")["generator_kept_up"], false, "{attack}");
}
