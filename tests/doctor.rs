//! `maser doctor` on this machine, on a host in a namespace with faults planted one at a time, and on a machine that is
//! a directory.
//!
//! For each planted fault the same host is looked at without it. What the doctor says to do is run where that can be,
//! and the fault is gone then. Nothing of this machine is changed.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "doctor/directory.rs"]
mod directory;
#[path = "doctor/host.rs"]
mod host;
#[allow(dead_code, reason = "of the peers' rig only what starts processes is used here")]
mod peers;

use directory::Directory;
use host::{Host, NEAR, chronyd, fresh_list};
use peers::skip;
use serde_json::Value;
use std::fs;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_maser");
const VERDICTS: [&str; 5] = ["broken", "should", "better", "unknown", "ok"];

/// The document of a run, which says what the exit status is.
fn document(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let document: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.code().map(i64::from), document["exit_status"].as_i64(), "{text}");
    check_order(&document);
    document
}

/// The worst first, and of the same verdict in the order of the table in the document.
fn check_order(document: &Value) {
    let table = include_str!("../docs/doctor.md");
    let place = |check: &str| {
        table.find(&format!("| `{check}` |")).unwrap_or_else(|| panic!("{check} isn't documented"))
    };
    let findings = document["findings"].as_array().unwrap();
    let keys: Vec<_> = findings
        .iter()
        .map(|finding| {
            let verdict = VERDICTS.iter().position(|verdict| finding["verdict"] == *verdict).unwrap();
            (verdict, place(finding["check"].as_str().unwrap()))
        })
        .collect();
    assert!(keys.is_sorted(), "{keys:?}");
    for (number, verdict) in VERDICTS.iter().enumerate() {
        let count = keys.iter().filter(|(of, _)| *of == number).count();
        assert_eq!(document["counts"][verdict].as_u64(), Some(count as u64), "{verdict}");
    }
    for finding in findings {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        assert!(!text("what").is_empty() && !text("why").is_empty(), "{finding}");
        assert_eq!(finding["verdict"] == "ok", finding["do"].is_null(), "{finding}");
    }
}

/// The worst finding of a check.
fn finding<'a>(document: &'a Value, check: &str) -> &'a Value {
    let findings = document["findings"].as_array().unwrap();
    findings
        .iter()
        .find(|finding| finding["check"] == check)
        .unwrap_or_else(|| panic!("no {check}: {document}"))
}

fn verdict<'a>(document: &'a Value, check: &str) -> &'a str {
    finding(document, check)["verdict"].as_str().unwrap()
}

fn what<'a>(document: &'a Value, check: &str) -> &'a str {
    finding(document, check)["what"].as_str().unwrap()
}

fn remedy(document: &Value, check: &str) -> String {
    finding(document, check)["do"].as_str().unwrap_or_else(|| panic!("{check}: {document}")).to_owned()
}

fn has_none(directory: &str) -> bool {
    fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn this_machine_is_what_it_is() {
    let output = Command::new(PROGRAM).args(["doctor", "--json"]).output().unwrap();
    let found = document(&output);
    for (check, directory, words) in
        [("pps", "/sys/class/pps", "no PPS device"), ("phc", "/sys/class/ptp", "no PTP hardware clock")]
    {
        assert_eq!(what(&found, check) == words, has_none(directory), "{found}");
        assert_eq!(verdict(&found, check) == "better", has_none(directory), "{found}");
    }
    let counts_by =
        fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap();
    assert!(what(&found, "clocksource").contains(counts_by.trim()), "{found}");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(what(&found, "kernel").contains(release.trim()), "{found}");

    let text = Command::new(PROGRAM).arg("doctor").output().unwrap();
    assert_eq!(text.status.code(), output.status.code());
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.lines().last().unwrap().contains(" findings: "), "{text}");
    assert_eq!(
        text.matches("  do: ").count(),
        found["findings"].as_array().unwrap().iter().filter(|one| !one["do"].is_null()).count()
    );
}

#[test]
fn a_wrong_question_is_told_and_is_2() {
    let run = |arguments: &[&str]| {
        let output = Command::new(PROGRAM).arg("doctor").args(arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (status, out, told) = run(&["--config", "/no-such-file.toml", "--json"]);
    assert_eq!((status, out.as_str()), (Some(2), ""));
    assert!(told.contains("/no-such-file.toml: no such file"), "{told}");
    let (status, _, told) = run(&["--interface", "no-such-dev"]);
    assert_eq!(status, Some(2));
    assert!(told.contains("no-such-dev: no such interface here; there are: lo"), "{told}");
    let path = std::env::temp_dir().join(format!("maser-doctor-wrong-{}.toml", std::process::id()));
    fs::write(&path, "[server]\nlissten = []\n").unwrap();
    let (status, _, told) = run(&["--config", path.to_str().unwrap()]);
    fs::remove_file(&path).unwrap();
    assert_eq!(status, Some(2));
    assert!(told.contains(":2:1: server.lissten"), "{told}");
}

/// A host, or none with a word on why.
fn host(name: &str) -> Option<Host> {
    Host::new().map_err(|reason| skip(name, &reason)).ok()
}

#[test]
fn a_veth_has_its_limits() {
    let Some(host) = host("a veth's limits") else { return };
    let found = document(&host.doctor(&["--interface", NEAR]));
    assert_eq!((verdict(&found, "xdp"), what(&found, "xdp")), ("ok", "veth runs XDP programs"));
    assert_eq!(
        (verdict(&found, "zero-copy"), what(&found, "zero-copy")),
        ("better", "veth has no zero-copy: AF_XDP copies")
    );
    assert!(what(&found, "nic-stamps").contains("no clock"), "{found}");
    assert_eq!(what(&found, "rings"), "it has no rings that can be set");
    // One that isn't of a kind that requests are taken from.
    let lo = document(&host.doctor(&["--interface", "lo"]));
    assert!(what(&lo, "interface").contains("the loopback interface carries"), "{lo}");
}

#[test]
fn an_unfit_offload_is_found_and_its_command_sets_it_right() {
    let Some(host) = host("an unfit offload") else { return };
    let look = || document(&host.doctor(&["--config", host.config()]));
    let fit = look();
    assert_eq!(verdict(&fit, "offloads"), "ok", "{fit}");
    host.run("ethtool -K near rxvlan on");
    let unfit = look();
    assert_eq!((verdict(&unfit, "offloads"), what(&unfit, "offloads")), ("should", "on: rx-vlan-offload"));
    // With a VLAN device on it tagged requests would be answered without their tags.
    if host.can_add_vlan() {
        let broken = look();
        assert_eq!(verdict(&broken, "offloads"), "broken", "{broken}");
        assert!(what(&broken, "offloads").contains("near.5"), "{broken}");
        host.run("ip link delete near.5");
    } else {
        eprintln!(
            "SKIPPED: a VLAN device: this kernel has none (CONFIG_VLAN_8021Q); the unit tests have one"
        );
    }
    host.run_remedy(&remedy(&unfit, "offloads"));
    let healed = look();
    assert_eq!(verdict(&healed, "offloads"), "ok", "{healed}");
}

#[test]
fn a_chronyd_on_the_port_is_found_by_name() {
    let Some(host) = host("a chronyd on the port") else { return };
    let Some(chronyd) = chronyd() else {
        skip("a chronyd on the port", "there is no chronyd in the cache; tests/peers/setup.sh puts it there");
        return;
    };
    let look = || document(&host.doctor(&["--config", host.config()]));
    let free = look();
    assert_eq!((verdict(&free, "port"), what(&free, "port")), ("ok", "UDP port 123 is free"));
    let running = host.start_chronyd(&chronyd);
    let taken = look();
    assert_eq!(verdict(&taken, "port"), "broken", "{taken}");
    assert_eq!(what(&taken, "port"), format!("UDP port 123 is taken by chronyd (process {})", running.id()));
    assert_eq!(remedy(&taken, "port"), format!("kill {}", running.id()));
    drop(running);
    assert_eq!(verdict(&look(), "port"), "ok");
}

#[test]
fn a_blocked_port_is_found_and_its_command_opens_it() {
    let Some(host) = host("a blocked port") else { return };
    let look = || document(&host.doctor(&["--config", host.config()]));
    let open = look();
    assert_eq!((verdict(&open, "firewall"), verdict(&open, "bypass")), ("ok", "ok"), "{open}");
    assert!(host.is_reached(), "the port is open");
    for (rules, chain) in [
        ("add rule inet guard in udp dport 123 drop", "a rule of chain inet guard in (drop)"),
        ("chain inet guard in { policy drop; }", "the policy of chain inet guard in"),
    ] {
        host.nft("table inet guard { chain in { type filter hook input priority 0; policy accept; }; }");
        host.nft(rules);
        let blocked = look();
        assert_eq!(verdict(&blocked, "firewall"), "broken", "{blocked}");
        assert!(what(&blocked, "firewall").contains(chain), "{blocked}");
        // The doctor is right: nothing comes through.
        assert!(!host.is_reached(), "{rules}");
        assert_eq!(verdict(&blocked, "bypass"), "better", "AF_XDP goes past it: {blocked}");
        host.run_remedy(&remedy(&blocked, "firewall"));
        assert_eq!(verdict(&look(), "firewall"), "ok");
        assert!(host.is_reached(), "the command opened it");
        host.nft("delete table inet guard");
    }
    // A rule for another port is none of ours.
    host.nft("table inet guard { chain in { type filter hook input priority 0; policy accept; udp dport 53 drop; }; }");
    assert_eq!(verdict(&look(), "firewall"), "ok");
}

#[test]
fn a_stale_list_is_found() {
    let Some(host) = host("a stale list") else { return };
    let look = || document(&host.doctor(&["--config", host.config()]));
    let fresh = look();
    // It has no hash, and that is all.
    assert!(
        verdict(&fresh, "leap-file") == "better" && what(&fresh, "leap-file").contains("no hash"),
        "{fresh}"
    );
    host.write_list(&fresh_list(10));
    assert!(what(&look(), "leap-file").contains("is stale: it expires in"));
    host.write_list(&fresh_list(-3));
    let stale = look();
    assert_eq!(verdict(&stale, "leap-file"), "should", "{stale}");
    assert!(what(&stale, "leap-file").contains("is stale: it expired on"), "{stale}");
    host.write_list("nonsense\n");
    assert_eq!(verdict(&look(), "leap-file"), "broken");
}

#[test]
fn a_source_that_is_not_there_is_found() {
    let Some(host) = host("a source that isn't there") else { return };
    let path = host.write_config(
        "[[source]]\ntype = \"pps\"\nname = \"pulses\"\ndevice = \"/dev/pps77\"\nlabel = [\"line\"]\n\
        [[source]]\ntype = \"nmea\"\nname = \"line\"\ndevice = \"/dev/full\"\n\
        [[source]]\ntype = \"ntp\"\nname = \"server\"\naddress = \"10.77.0.2\"\n",
    );
    let found = document(&host.doctor(&["--config", &path]));
    let of = |name: &str| {
        let sources = found["findings"].as_array().unwrap().iter();
        sources
            .clone()
            .find(|one| one["check"] == "source" && one["subject"] == name)
            .unwrap_or_else(|| panic!("{found}"))
    };
    assert_eq!(of("pulses")["verdict"], "broken");
    assert_eq!(of("pulses")["what"], "/dev/pps77 isn't there");
    assert_eq!(of("line")["verdict"], "ok", "{found}");
    assert_eq!(of("server")["verdict"], "should");
    assert_eq!(of("server")["what"], "10.77.0.2 refuses: nothing listens there");
    assert_eq!(
        (verdict(&found, "pps"), what(&found, "pps")),
        ("broken", "no PPS device, and the configuration has one")
    );
}

#[test]
fn the_exit_status_tells_what_there_is_to_do() {
    let Some(host) = host("the exit status") else { return };
    let directory = Directory::fit();
    let path = host.write_config("[[source]]\ntype = \"gpsd\"\nname = \"gpsd\"\nshm = 0\n");
    let look = || {
        let output = host.doctor_of(&directory, &["--config", &path]);
        let found = document(&output);
        (output.status.code(), found)
    };
    let (status, found) = look();
    assert_eq!(status, Some(0), "{found:#}");
    directory.remove("proc/cpuinfo");
    let (status, found) = look();
    assert_eq!((status, verdict(&found, "tsc")), (Some(2), "unknown"), "{found:#}");
    host.write_list(&fresh_list(-3));
    let (status, found) = look();
    assert_eq!(status, Some(1), "{found:#}");
}

#[test]
fn pulses_that_come_are_told_from_those_that_do_not() {
    let directory = Directory::fit();
    directory.put("sys/class/pps/pps0/assert", "1763941234.000000001#7");
    directory.put("sys/class/pps/pps0/clear", "0.000000000#0");
    directory.put("sys/class/ptp/ptp0/clock_name", "igb");
    let silent = document(&directory.doctor(&["doctor", "--json"]));
    assert_eq!((verdict(&silent, "pps"), what(&silent, "pps")), ("should", "no pulse came in 2.5 s"));
    assert_eq!((verdict(&silent, "phc"), what(&silent, "phc")), ("ok", "a clock called \"igb\""));
    let pulsing = thread::scope(|scope| {
        let looking = scope.spawn(|| directory.doctor(&["doctor", "--json"]));
        // It counts on until it was seen, for 10 s at most.
        for count in 8..108 {
            directory.put("sys/class/pps/pps0/assert", &format!("1763941234.000000001#{count}"));
            thread::sleep(Duration::from_millis(100));
            if looking.is_finished() {
                break;
            }
        }
        looking.join().unwrap()
    });
    assert_eq!(verdict(&document(&pulsing), "pps"), "ok");
}

/// Each setting of the scripts that files show: one that is fit, and one that isn't.
const SETTINGS: &[(&str, &str, &str, &str)] = &[
    ("sockets", "proc/sys/net/core/rmem_max", "2097152", "212992"),
    ("sockets", "proc/sys/net/core/wmem_max", "524288", "212992"),
    ("sockets", "proc/sys/net/core/netdev_max_backlog", "4096", "4095"),
    ("sockets", "proc/sys/net/core/netdev_tstamp_prequeue", "1", "0"),
    ("polling", "proc/sys/net/core/busy_read", "50", "0"),
    ("polling", "proc/sys/net/core/busy_poll", "50", "100"),
    ("polling", "sys/class/net/fake7/threaded", "0", "1"),
    ("affinity", "proc/irq/41/smp_affinity_list", "0", "0-3"),
    ("affinity", "proc/irq/42/smp_affinity_list", "1", "0"),
    ("affinity", "sys/class/net/fake7/queues/tx-1/xps_cpus", "00000000,00000002", "1"),
    ("affinity", "proc/78/comm", "bash", "irqbalance"),
    ("cpu", "proc/sys/kernel/numa_balancing", "0", "1"),
    ("cpu", "sys/devices/system/cpu/cpu3/power/pm_qos_resume_latency_us", "2", "0"),
    ("cpu", "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance", "powersave"),
    (
        "cpu",
        "sys/devices/system/cpu/cpu1/cpufreq/energy_performance_preference",
        "performance",
        "balance_power",
    ),
    (
        "hugepages",
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never",
        "[always] madvise never",
    ),
    ("hugepages", "sys/kernel/mm/transparent_hugepage/defrag", "[never]", "[defer]"),
    ("hugepages", "sys/kernel/mm/transparent_hugepage/khugepaged/defrag", "0", "1"),
    ("hugepages", "proc/sys/vm/compaction_proactiveness", "0", "20"),
    ("clocksource", "sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc", "hpet"),
];

#[test]
fn the_scripts_and_the_doctor_agree() {
    let directory = Directory::fit();
    for (_, path, fit, _) in SETTINGS {
        directory.put(path, fit);
    }
    let agree = |scripts: &[&str], fit: bool| {
        let found = document(&directory.doctor(&["doctor", "--json"]));
        for script in scripts {
            let said = directory.script(script);
            let told = finding(&found, script);
            assert_eq!(said.status.code(), Some(i32::from(!fit)), "{script}: {said:?}");
            assert_eq!(told["verdict"] == "ok", fit, "{told}");
            assert!(fit || remedy(&found, script).contains(&format!("tuning/{script} apply")), "{told}");
        }
    };
    let all = ["sockets", "polling", "affinity", "cpu", "hugepages", "clocksource"];
    agree(&all, true);
    for (script, path, fit, unfit) in SETTINGS {
        directory.put(path, unfit);
        agree(&[script], false);
        directory.put(path, fit);
    }
    // A TSC that the kernel doesn't offer can't be set.
    directory.put("sys/devices/system/clocksource/clocksource0/available_clocksource", "hpet");
    directory.put("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet");
    agree(&["clocksource"], true);
    // What isn't there is no fault of either.
    for (_, path, _, _) in
        SETTINGS.iter().filter(|(script, ..)| *script != "clocksource" && *script != "affinity")
    {
        directory.remove(path);
    }
    agree(&all, true);
}
