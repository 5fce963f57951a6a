//! What maser doesn't serve yet is proven against chronyd: authenticated requests and interleaved mode.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::load::{count, document, maser_load, number};
use crate::maser::text;
use crate::peers::rig::{Family, Rig};
use crate::peers::skip;

const KEYS: &str = "7 MD5 HEX:00112233445566778899AABBCCDDEEFF\n\
                    8 SHA1 HEX:00112233445566778899AABBCCDDEEFF\n\
                    9 AES128 HEX:00112233445566778899AABBCCDDEEFF\n";

fn chronyd() -> PathBuf {
    let home = std::env::var("HOME").expect("a home directory");
    let cache = std::env::var("MASER_CACHE").unwrap_or_else(|_| format!("{home}/.cache/maser"));
    PathBuf::from(cache).join("peers/chrony/usr/sbin/chronyd")
}

/// Runs maser-load with `words` against a chronyd of its own.
fn against_chronyd(name: &str, words: &str) -> Option<Value> {
    let chronyd = chronyd();
    if !chronyd.exists() {
        skip(name, "there is no chronyd in the cache; tests/peers/setup.sh puts it there");
        return None;
    }
    let rig = match Rig::new(Family::Ipv4) {
        Ok(rig) => rig,
        Err(reason) => {
            skip(name, &reason);
            return None;
        }
    };
    let (configuration, keys) = (rig.directory().join("chrony.conf"), rig.directory().join("keys"));
    fs::write(&keys, KEYS).expect("the directory is ours");
    let lines = format!(
        "local stratum 1\nallow\nport 123\ncmdport 0\nbindcmdaddress /\npidfile {0}/pid\nkeyfile {0}/keys\n",
        rig.directory().display()
    );
    fs::write(&configuration, lines).expect("the directory is ours");
    // It says nothing when it serves; requests that come before are lost.
    let script = "sleep 1; echo ready & exec \"$@\"";
    let command =
        ["sh", "-c", script, "sh", text(&chronyd), "-x", "-d", "-u", "root", "-f", text(&configuration)];
    let _server = rig.serve(&command).expect("chronyd serves");
    let program = maser_load();
    let mut command = vec![text(&program), "fixed", rig.server_address(), "--json", "--quiet"];
    command.extend(words.split(' '));
    Some(document(rig.on_client_host(&command)))
}

#[test]
fn signed_requests_are_answered_and_the_signatures_are_right() {
    for key in ["7:MD5", "8:SHA1", "9:AES128"] {
        let words = format!("--mix mac --key {key}:00112233445566778899AABBCCDDEEFF --rate 1k --time 1");
        let Some(run) = against_chronyd("signed_requests", &words) else { return };
        assert_eq!(count(&run, "invalid"), 0, "{key}: {run}");
        assert!(count(&run, "basic") > count(&run, "sent") / 2, "{key}: {run}");
    }
}

#[test]
fn a_wrong_key_is_never_taken_for_a_right_one() {
    let words = "--mix mac --key 7:MD5:00112233445566778899AABBCCDDEE00 --rate 200 --time 1 --timeout 300ms";
    let Some(run) = against_chronyd("a_wrong_key", words) else { return };
    assert_eq!(count(&run, "basic"), 0, "{run}");
}

#[test]
fn interleaved_replies_are_counted_and_their_transmit_stamps_are_better() {
    for sender in ["udp", "packet"] {
        let words = format!("--interleaved --sender {sender} --rate 2k --time 2 --stamps 2k");
        let Some(run) = against_chronyd("interleaved_replies", &words) else { return };
        let (basic, interleaved) = (count(&run, "basic"), count(&run, "interleaved"));
        assert_eq!(count(&run, "invalid"), 0, "{run}");
        // A client whose requests overtake its replies, since the machine is busy, gets basic ones.
        assert!(interleaved > basic && interleaved > 500, "{interleaved} interleaved, {basic} basic: {run}");
        // Of each, or nearly: the exchange that a client had before may be unknown.
        assert!(count(&run, "interleaved_transmit_error_ns.count") > interleaved / 2, "{run}");
        let error_ns = number(&run, "interleaved_transmit_error_ns.p50");
        crate::peers::log(&format!(
            "chronyd, {sender}: {interleaved} interleaved, {basic} basic, transmit error {error_ns} ns (p50)"
        ));
        // A kernel's transmit stamp, against one made in user space, which is microseconds early.
        assert!(error_ns < 100_000.0, "{run}");
    }
}
