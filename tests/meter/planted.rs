//! Losses, duplicates, spoilt replies and delays of exact shares, and what maser-load says of them.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::load::{count, faulty, measure, number, settles};
use crate::maser::{free_port, text};
use crate::peers::rig::{Output, deadline_after, end};

/// A server that spins on the first core, so that what it plants isn't blurred by wake-ups.
struct Faulty {
    process: Child,
    _output: Output,
    port: u16,
}

impl Faulty {
    fn start(faults: &str) -> Self {
        let port = free_port();
        let mut process = Command::new("taskset")
            .args(["-c", "0", "setpriv", "--pdeathsig=KILL", "--", text(&faulty())])
            .arg(format!("127.0.0.1:{port}"))
            .args(faults.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the faulty server starts");
        let output = Output::of(&mut process);
        let word = output.next_line(deadline_after(crate::maser::READY_LIMIT));
        assert_eq!(word.as_deref(), Some("ready"));
        Self { process, _output: output, port }
    }

    fn measured(&self, words: &str) -> Value {
        measure(&format!("fixed 127.0.0.1:{} --timeout 500ms {words}", self.port))
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// `part` of all requests, in per cent.
fn percent(run: &Value, part: &str) -> f64 {
    100.0 * number(run, part) / number(run, "sent")
}

#[test]
fn planted_losses_duplicates_and_spoilt_replies_are_reported() {
    settles(|| {
        let run = Faulty::start("0.01 0.005 0.005 0").measured("--rate 20k --time 5 --stamps 0");
        let [lost, duplicate, invalid] = ["lost", "duplicate", "invalid"].map(|part| percent(&run, part));
        crate::peers::log(&format!(
            "planted 1 % loss, 0.5 % duplicates, 0.5 % spoilt; reported {lost:.3} %, {duplicate:.3} %, {invalid:.3} %"
        ));
        assert_eq!(count(&run, "sent"), count(&run, "received") + count(&run, "lost"), "{run}");
        for fault in ["mode", "version", "origin"] {
            let third = count(&run, &format!("faults.{fault}"));
            assert!((150..=180).contains(&third), "a third of 500 spoilt replies by {fault}: {third}");
        }
        let right =
            (0.9..=1.1).contains(&lost) && (0.4..=0.6).contains(&duplicate) && (0.4..=0.6).contains(&invalid);
        if right { Ok(()) } else { Err(run.to_string()) }
    });
}

#[test]
fn without_faults_none_is_reported() {
    settles(|| {
        let run = Faulty::start("0 0 0 0").measured("--rate 20k --time 2");
        for part in ["duplicate", "invalid", "kod"] {
            assert_eq!(count(&run, part), 0, "{part}: {run}");
        }
        if percent(&run, "lost") < 0.1 { Ok(()) } else { Err(run.to_string()) }
    });
}

/// The delay is the difference of two servers' medians, asked in turns so that both meet the same machine.
#[test]
fn a_planted_delay_is_reported() {
    let server = |delay: &str| {
        let words = "--rate 1k --time 0.7 --stamps 0";
        number(&Faulty::start(&format!("0 0 0 {delay}")).measured(words), "latency_ns.p50")
    };
    settles(|| {
        let mut differences_us: Vec<f64> = (0..7).map(|_| (server("200") - server("0")) / 1e3).collect();
        differences_us.sort_by(f64::total_cmp);
        let median_us = differences_us[differences_us.len() / 2];
        crate::peers::log(&format!("planted +200 µs; reported {median_us:+.1} µs"));
        if (180.0..=220.0).contains(&median_us) { Ok(()) } else { Err(format!("{differences_us:?}")) }
    });
}

/// Each second is a row of its own length, and what is spoilt isn't lost as well, in whatever second it is given up.
#[test]
fn the_seconds_of_a_soak_add_up() {
    let server = Faulty::start("0 0 0.1 0");
    let run = measure(&format!("soak 127.0.0.1:{} --timeout 300ms --rate 2k --time 2500ms", server.port));
    let steps = run["steps"].as_array().expect("seconds");
    assert_eq!(steps.len(), 3, "{run}");
    for part in ["sent", "lost", "basic", "invalid"] {
        let sum: u64 = steps.iter().map(|second| count(second, part)).sum();
        assert_eq!(sum, count(&run, part), "{part}: {run}");
    }
    assert!((number(&steps[2], "duration_s") - 0.5).abs() < 0.01, "{run}");
    assert_eq!(count(&run, "sent"), count(&run, "received") + count(&run, "lost"), "{run}");
}
