//! What the limits promise, as tests: abusers get their rate, regulars are served through floods, memory stays as it is, no reply
//! is longer than its request, the heaviest are named.
//!
//! Rates and times are such as a busy machine keeps; `MASER_ABUSE_FULL=1`, as in `make accept`, makes them whole. What takes a
//! quiet machine with pinned threads (1.5 times the highest rate, what a dropped request costs) is measured by
//! `ONLY=limits make bench`.

use serde_json::Value;

use crate::load::{count, number, settles};
use crate::maser::Server;
use crate::peers::log;
use crate::rig::{DENIED, Family, Held, Port, Rig, maser_says, phase, settle, sum};

/// As shipped.
const RATE_PER_S: f64 = 8.0;
const BURST: f64 = 32.0;
/// At most one kiss in so many requests over the limit.
const KISS_ONE_IN: f64 = 4.0;
/// The counter of the gate that no reply longer than its request passes.
const GATE: &str = "oversize-refused";

fn full() -> bool {
    std::env::var("MASER_ABUSE_FULL").is_ok_and(|value| value == "1")
}

fn share(part: &Value) -> f64 {
    number(part, "answered") / number(part, "due")
}

/// What no run may show: a reply too long for its request, at the server or here.
fn assert_nothing_amplified(server: &Server, attack: &Value) {
    let status = server.status();
    for worker in status["workers"].as_array().unwrap() {
        assert_eq!(worker["events"][GATE].as_u64(), Some(0), "{worker}");
    }
    for phase in attack["phases"].as_array().unwrap() {
        for part in [&phase["honest"], &phase["flood"]].into_iter().filter(|part| !part.is_null()) {
            assert_eq!(count(part, "longer"), 0, "{attack}");
            assert!(count(part, "octets_received") <= count(part, "octets_sent"), "{attack}");
        }
    }
}

/// Each of many abusers at 20/s gets the configured rate, however many workers there are and however packets come in.
fn abusers_get_their_rate(port: Port, workers: &str) {
    let name = "abusers_get_their_rate";
    let Some(rig) = Rig::or_skip(name, Family::V4) else { return };
    let (abusers, time_s) = if full() { (10_000, 20.0) } else { (500, 10.0) };
    // The addresses are next to each other, and it isn't the prefix's limit that is measured.
    let server = rig.maser(port, workers, "[limit]\nprefix_rate = \"off\"\n");
    settles(|| {
        let words = format!(
            "--flood many --flood-clients {abusers} --flood-rate {} --regulars 200 --rate 100 --alone 500ms --time {time_s}",
            abusers * 20
        );
        let attack = rig.attack(server.setting.port, &words);
        assert_nothing_amplified(&server, &attack);
        let flood = &phase(&attack, "attacked")["flood"];
        let over = number(flood, "due") - number(flood, "answered");
        assert!(number(flood, "kissed") <= over / KISS_ONE_IN + 1.0, "{attack}");
        // A client is kissed once a second at most.
        assert!(number(flood, "clients.kissed.max") <= time_s + 1.0, "{attack}");
        // Behind the burst, which each has once.
        let rates = ["min", "max"]
            .map(|end| number(flood, &format!("clients.answered_per_s.{end}")) - BURST / time_s);
        log(&format!(
            "{abusers} abusers at 20/s, {port:?}, workers {workers}: {:.2} to {:.2} a second",
            rates[0], rates[1]
        ));
        let is_right = |rate: &f64| (0.9 * RATE_PER_S..=1.1 * RATE_PER_S).contains(rate);
        // 200,000/s is more than one worker takes from sockets beside the generator.
        let is_too_much = full() && matches!(port, Port::Socket);
        let is_honest_served = share(&phase(&attack, "attacked")["honest"]) > 0.99;
        if rates.iter().all(is_right) && (is_honest_served || is_too_much) {
            Ok(())
        } else {
            Err(attack.to_string())
        }
    });
}

#[test]
fn abusers_get_their_rate_from_one_worker_on_sockets() {
    abusers_get_their_rate(Port::Socket, "0-0");
}

#[test]
fn abusers_get_their_rate_from_two_workers_on_sockets() {
    abusers_get_their_rate(Port::Socket, "0-1");
}

#[test]
fn abusers_get_their_rate_from_one_worker_on_af_xdp() {
    abusers_get_their_rate(Port::AfXdp, "0-0");
}

#[test]
fn abusers_get_their_rate_from_two_workers_on_af_xdp() {
    abusers_get_their_rate(Port::AfXdp, "0-1");
}

/// As shipped, abusers that share a prefix share its rate, which is enough for each while they aren't too many.
#[test]
fn abusers_of_one_prefix_share_its_rate() {
    const PREFIX_RATE_PER_S: f64 = 256.0;
    const PREFIX_BURST: f64 = 1024.0;
    let Some(rig) = Rig::or_skip("abusers_of_one_prefix_share_its_rate", Family::V4) else { return };
    let many = if full() { 9_984.0 } else { 512.0 };
    for abusers in [32.0, many] {
        let server = rig.maser(Port::AfXdp, "0-0", "");
        let prefixes = (abusers / 256.0_f64).ceil();
        settles(|| {
            let words = format!(
                "--flood many --flood-from 198.19.0.0/16 --flood-clients {abusers} --flood-rate {} --regulars 200 \
                 --rate 100 --alone 500ms --time 10",
                abusers * 20.0
            );
            let attack = rig.attack(server.setting.port, &words);
            assert_nothing_amplified(&server, &attack);
            let flood = &phase(&attack, "attacked")["flood"];
            let rate = (number(flood, "answered") / prefixes - PREFIX_BURST) / 10.0;
            let ends = ["min", "max"].map(|end| number(flood, &format!("clients.answered_per_s.{end}")));
            log(&format!(
                "{abusers} abusers in {prefixes} prefixes: {rate:.1} a second and prefix, {ends:?} an address"
            ));
            let is_right = (0.9 * PREFIX_RATE_PER_S..=1.1 * PREFIX_RATE_PER_S).contains(&rate);
            if is_right { Ok(()) } else { Err(attack.to_string()) }
        });
    }
}

/// Millions of addresses that nobody has: regulars don't notice, and the server takes not a page more.
fn regulars_are_served_through_a_spoofed_flood(family: Family) {
    let Some(rig) = Rig::or_skip("regulars_are_served_through_a_spoofed_flood", family) else { return };
    let (regulars, rate, flood_rate, time_s) =
        if full() { (2_000, 2_000, 150_000, 60) } else { (200, 200, 15_000, 5) };
    // A table that the flood fills many times over.
    let server = rig.maser(Port::AfXdp, "0-0", "[limit]\nmemory = \"256 KiB\"\n");
    let words = format!("--regulars {regulars} --rate {rate} --iburst --warm-up 10s --alone 5s");
    // Memory that was had at the start is there once it was written to, and whatever takes some each minute has come to its turn
    // (the leap file's watch): with what comes before the flood this is more than one.
    let begin_s = 50;
    let flood = format!("{words} --flood spoofed --flood-rate {flood_rate}");
    let begin = rig.attack(server.setting.port, &format!("{flood} --time {begin_s}s"));
    assert!(share(&phase(&begin, "attacked")["honest"]) > 0.9, "{begin}");
    // What is asked of it afterwards takes memory, too.
    assert_nothing_amplified(&server, &begin);
    settles(|| {
        let before = Held::by(&server);
        let attack = rig.attack(server.setting.port, &format!("{flood} --time {time_s}"));
        let after = Held::by(&server);
        assert_nothing_amplified(&server, &attack);
        assert_eq!(before.ranges, after.ranges, "ranges of addresses before the flood and after");
        if before.pages != after.pages {
            return Err(format!("pages before the flood and after: {before:?} {after:?}"));
        }
        let (alone, beside) =
            (share(&phase(&attack, "alone")["honest"]), share(&phase(&attack, "attacked")["honest"]));
        log(&format!(
            "regulars beside {flood_rate} spoofed requests/s over {family:?}: {:.2} % answered, {:.2} % alone",
            beside * 100.0,
            alone * 100.0
        ));
        if beside >= 0.99 * alone { Ok(()) } else { Err(attack.to_string()) }
    });
}

#[test]
fn regulars_are_served_through_a_spoofed_flood_over_ipv4() {
    regulars_are_served_through_a_spoofed_flood(Family::V4);
}

#[test]
fn regulars_are_served_through_a_spoofed_flood_over_ipv6() {
    regulars_are_served_through_a_spoofed_flood(Family::V6);
}

/// Addresses that collide under a key that was guessed do no more than others, since the key isn't that.
#[test]
fn guessed_collisions_gain_nothing() {
    let Some(rig) = Rig::or_skip("guessed_collisions_gain_nothing", Family::V4) else { return };
    let server = rig.maser(Port::AfXdp, "0-0", "[limit]\nmemory = \"1 MiB\"\n");
    settles(|| {
        // 1 MiB are 16,384 sets, of which seven eighths are the addresses'.
        let words = "--regulars 200 --rate 200 --iburst --warm-up 5s --alone 2s --flood collisions --hash-sets 14336 \
                     --flood-rate 10k --time 5";
        let attack = rig.attack(server.setting.port, words);
        assert_nothing_amplified(&server, &attack);
        let (alone, beside) =
            (share(&phase(&attack, "alone")["honest"]), share(&phase(&attack, "attacked")["honest"]));
        if beside >= 0.99 * alone { Ok(()) } else { Err(attack.to_string()) }
    });
}

/// Denied prefixes and what is no request get silence, all of it counted; regulars beside them lose no more than 1 %.
#[test]
fn what_is_denied_or_hopeless_gets_silence() {
    let Some(rig) = Rig::or_skip("what_is_denied_or_hopeless_gets_silence", Family::V4) else { return };
    let floods = [format!("denied --flood-from {DENIED}"), "monlist".to_owned(), "garbage".to_owned()];
    for port in [Port::Socket, Port::AfXdp] {
        let server = rig.maser(port, "0-0", &format!("[access]\ndeny = [\"{DENIED}\"]\n"));
        for flood in &floods {
            settles(|| {
                let words = format!(
                    "--regulars 1000 --rate 1k --warm-up 2s --alone 2s --time 2s --flood-rate 20k --flood {flood}"
                );
                let attack = rig.attack(server.setting.port, &words);
                assert_nothing_amplified(&server, &attack);
                let (alone, attacked) = (phase(&attack, "alone"), phase(&attack, "attacked"));
                let flood = &attacked["flood"];
                assert_eq!((count(flood, "answered"), count(flood, "kissed")), (0, 0), "{attack}");
                let (alone, beside) = (share(&alone["honest"]), share(&attacked["honest"]));
                if beside >= alone - 0.01 { Ok(()) } else { Err(attack.to_string()) }
            });
        }
    }
}

/// Who is kissed and goes on is kissed no more than others, and gets its rate and nothing else.
#[test]
fn who_ignores_kisses_gains_nothing() {
    let Some(rig) = Rig::or_skip("who_ignores_kisses_gains_nothing", Family::V4) else { return };
    let server = rig.maser(Port::Socket, "0-0", "");
    let words = "--regulars 200 --rate 100 --alone 500ms --time 5 --flood kod-ignorers --flood-rate 10k";
    let attack = rig.attack(server.setting.port, words);
    assert_nothing_amplified(&server, &attack);
    let flood = &phase(&attack, "attacked")["flood"];
    let most = 100.0 * (BURST + 5.0 * RATE_PER_S) * 1.1;
    assert!(number(flood, "answered") <= most, "{attack}");
    assert!((1.0..=6.0).contains(&number(flood, "clients.kissed.max")), "{attack}");
    assert_eq!(count(flood, "kisses.RATE"), count(flood, "kissed"), "{attack}");
    settle();
    // Every kiss is an answer of the server's, too.
    assert!(sum(&server.status(), "answers") >= count(flood, "answered") + count(flood, "kissed"));
}

/// The ten heaviest of a million clients, in their order, each rate within 5 %.
#[test]
fn the_ten_heaviest_of_a_million_are_named() {
    let Some(rig) = Rig::or_skip("the_ten_heaviest_of_a_million_are_named", Family::V4) else { return };
    let rate = if full() { 100_000 } else { 20_000 };
    settles(|| {
        let server = rig.maser(Port::AfXdp, "0-0", "[limit]\nrate = \"off\"\n");
        let words = format!(
            "--regulars 10 --rate 10 --alone 500ms --time 20 --flood zipf --flood-rate {rate} --timeout 200ms"
        );
        let attack = rig.attack(server.setting.port, &words);
        let said = maser_says(&server, &["clients", "--top", "10"]);
        let attacked = phase(&attack, "attacked");
        let top = attacked["flood"]["clients"]["top"].as_array().unwrap();
        let all = number(&attacked["flood"], "sent");
        for (named, truth) in said["addresses"].as_array().unwrap().iter().zip(top) {
            // Shares, since rates fade from the moment when the flood ends.
            let wanted = number(truth, "sent") / all;
            let told = number(named, "share");
            if named["client"] != truth["address"] || (told / wanted - 1.0).abs() > 0.05 {
                return Err(format!("{truth} is {wanted:.4} of all; told: {named}"));
            }
        }
        Ok(())
    });
}
