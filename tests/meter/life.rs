//! What maser-load refuses, and how it ends early.

use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::load::{command, count, number, run};
use crate::maser::{END_LIMIT, Scratch, Setting, text, within};

fn ends(process: &mut Child) -> Option<i32> {
    within(END_LIMIT, || process.try_wait().expect("it is our child")).expect("it ends").code()
}

#[test]
fn a_public_address_is_refused_without_the_flag() {
    // Nothing is ever sent to these: with the flag, a time that is refused ends the command before it opens a socket.
    for (target, reason) in [
        ("8.8.8.8", "--i-operate-this-target"),
        ("1.1.1.1:123", "--i-operate-this-target"),
        ("[2606:4700:4700::1111]:123", "--i-operate-this-target"),
        ("[::ffff:8.8.8.8]", "8.8.8.8"),
    ] {
        let refused = run(&format!("fixed {target} --rate 1 --time 1"));
        assert_eq!(refused.code, Some(1), "{target}: {}", refused.errors);
        assert!(refused.errors.contains(reason), "{}", refused.errors);
    }
    let allowed =
        run("fixed 8.8.8.8 --i-operate-this-target --rate 1 --time 1 --from 198.18.0.0/31 --clients 3");
    assert!(allowed.errors.contains("room for 2 clients"), "{}", allowed.errors);
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    for (words, reason) in [
        ("fixed 127.0.0.1 --rate 0", "rate"),
        ("fixed 127.0.0.1 --rate 21M", "20000000"),
        ("fixed 127.0.0.1 --time 25h", "a day"),
        ("fixed 127.0.0.1 --cores 4000", "isn't there"),
        ("fixed 127.0.0.1 --from 8.0.0.0/8", "198.18.0.0/15"),
        ("fixed 127.0.0.1 --from 2001:db8::/64", "family"),
        ("fixed 127.0.0.1 --mix mac", "--key"),
        ("fixed 127.0.0.1 --sender live --closed-loop", "--closed-loop"),
        ("fixed 127.0.0.1 --mix nonsense", "possible values"),
        ("fixed 127.0.0.1 --interleaved=101%", "between 0 and 100%"),
        ("fixed 127.0.0.1 --interleaved --sender live", "can't interleave"),
        ("fixed 127.0.0.1 --interleaved --cores 0-1", "name one core"),
        ("fixed 127.0.0.1 --interleaved --from 10.0.0.0/8 --clients 2000000", "1048576"),
        ("compare /nowhere/a.json /nowhere/b.json", "/nowhere/a.json"),
    ] {
        let refused = run(words);
        assert_ne!(refused.code, Some(0), "{words}");
        assert!(refused.errors.contains(reason), "{words}: {}", refused.errors);
    }
}

#[test]
fn ctrl_c_ends_a_run_with_its_partial_results() {
    let server = Setting::new().start();
    let scratch = Scratch::new();
    let json = scratch.path("partial.json");
    let words = format!("fixed {} --rate 1k --time 1h --json={}", server.address(), text(&json));
    let mut process = command(&words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    thread::sleep(Duration::from_millis(1_500));
    kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGINT).expect("it runs");
    assert_eq!(ends(&mut process), Some(0));
    let output = std::io::read_to_string(process.stdout.take().expect("a pipe")).expect("text");
    assert!(output.contains("interrupted"), "{output}");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(document["interrupted"], true);
    let (sent, seconds) = (count(&document, "sent"), number(&document, "duration_s"));
    assert!((800..=2_500).contains(&sent) && (0.8..=2.5).contains(&seconds), "{sent} in {seconds} s");
    assert!((number(&document, "rate_offered") - 1_000.0).abs() < 50.0, "{document}");
}
