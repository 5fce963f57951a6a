//! The igb, which stamps what leaves by port 123: transmit timestamps of interleaved replies against the driver's own stamps, and
//! what a real client says of them.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::heard::{
    ASKED, BETWEEN, OFF_NS_MAX, Oracle, PORTS, ask, await_clock, client, is_interleaved, nic_status, serve,
    stamping, worst,
};
use crate::maser::{READY_LIMIT, within};
use crate::packets::{CLIENT, CLIENT_HOST, SERVER, Wire};
use crate::peers::client::program;
use crate::support::error_ns;
use crate::{is_counted_or_skip, is_vm_or_skip, measured, stop};

/// The igb's own stamps of what leaves, as its driver hands them to the kernel, by a probe.
struct Probe;

const TRACING: &str = "/sys/kernel/tracing";

impl Probe {
    fn set() -> Self {
        // On x86-64 the second argument, a pointer to the stamp, is in rsi.
        let write = |file: &str, text: &str| fs::write(Path::new(TRACING).join(file), text).unwrap();
        write("kprobe_events", "p:maser_igb skb_tstamp_tx stamp=+0(%si):s64");
        write("events/kprobes/maser_igb/enable", "1");
        write("trace", "");
        Self
    }

    fn stamps(&self) -> Vec<i64> {
        let trace = fs::read_to_string(Path::new(TRACING).join("trace")).unwrap();
        let stamp = |line: &str| line.split_once("stamp=").and_then(|(_, number)| number.trim().parse().ok());
        // The kernel's own have none.
        trace.lines().filter_map(stamp).filter(|stamp| *stamp != 0).collect()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let write = |file: &str, text: &str| fs::write(Path::new(TRACING).join(file), text);
        let _ = write("events/kprobes/maser_igb/enable", "0");
        let _ = write("kprobe_events", "");
    }
}

#[test]
fn a_reply_left_when_the_igb_says() {
    if !is_counted_or_skip("the igb's transmit stamps") {
        return;
    }
    let wire = Wire::new("igb", "virtio_net");
    let name = wire.server.clone();
    let device = fs::read_dir(format!("/sys/class/net/{name}/device/ptp")).unwrap().next().unwrap().unwrap();
    let oracle = Oracle::of(&Path::new("/dev").join(device.file_name()), 0);
    let before = stamping(&name);
    let socket = client(CLIENT);
    for port in PORTS {
        let mut server = serve(port, 123, &format!("nic_stamps = [\"{name}\"]"));
        await_clock(&server, &name);
        let address = server.at(SERVER);
        assert!(within(READY_LIMIT, || ask(&socket, address, 0)).is_some(), "{}", server.log());
        let probe = Probe::set();
        let (mut named, mut left_ns, mut off) = (0, None, Vec::new());
        for _ in 0..ASKED {
            let reply = ask(&socket, address, named).expect("a reply");
            thread::sleep(BETWEEN);
            if let Some(left_ns) = left_ns.filter(|_| is_interleaved(&reply)) {
                off.push(error_ns(reply.transmit, left_ns));
            }
            named = reply.receive;
            left_ns = probe.stamps().last().map(|stamp| oracle.realtime_ns(*stamp));
        }
        measured(&format!(
            "igb, {port}: {} interleaved transmit timestamps at most {} ns off",
            off.len(),
            worst(&off)
        ));
        // It is told once a second.
        let status = || Some(nic_status(&server, &name)).filter(|status| status["sent"]["lately"] == "nic");
        let status = within(READY_LIMIT, status).unwrap_or_else(|| panic!("{}", server.status()));
        assert!(off.len() as u64 >= ASKED - 2, "{} of {ASKED}: {status}", off.len());
        assert!(worst(&off) <= OFF_NS_MAX, "{off:?}");
        // It stamps nothing of UDP that comes, and is told to stamp nothing of it.
        assert_eq!(status["receive_filter"], "none", "{status}");
        assert_eq!(status["received"]["lately"], "", "{status}");
        assert!(status["why"].as_str().unwrap().contains("stamps no NTP packets"), "{status}");
        stop(&mut server);
        assert_eq!(stamping(&name), before, "put back");
    }
    over_af_xdp(&name, &socket);
    drop(wire);
}

/// In copy mode nobody has the NIC's stamp, and nobody says so.
fn over_af_xdp(name: &str, socket: &UdpSocket) {
    let mut server = serve("af-xdp", 123, &format!("interface = [\"{name}\"]"));
    let address = server.at(SERVER);
    assert!(within(READY_LIMIT, || ask(socket, address, 0)).is_some(), "{}", server.log());
    let (mut named, mut interleaved) = (0, 0);
    for _ in 0..ASKED {
        let reply = ask(socket, address, named).expect("a reply");
        interleaved += u64::from(is_interleaved(&reply));
        named = reply.receive;
        thread::sleep(BETWEEN);
    }
    assert!(interleaved >= ASKED / 2, "{interleaved} of {ASKED}");
    let told = || Some(nic_status(&server, name)).filter(|status| status["sent"]["lately"] == "hook");
    let status = within(READY_LIMIT, told);
    assert!(status.is_some(), "{}", server.status());
    assert_eq!(status.unwrap()["sent"]["problem"], Value::Null);
    stop(&mut server);
}

#[test]
fn chronyd_says_that_it_interleaves_with_the_igbs_stamps() {
    if !is_vm_or_skip("chronyd with the igb's transmit stamps") {
        return;
    }
    let wire = Wire::new("igb", "virtio_net");
    let mut server = serve("socket", 123, &format!("nic_stamps = [\"{}\"]", wire.server));
    await_clock(&server, &wire.server);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/client.sh");
    let cache = program("chrony");
    let cache = cache.parent().unwrap().to_str().unwrap();
    let socket = client(CLIENT);
    assert!(within(READY_LIMIT, || ask(&socket, server.at(SERVER), 0)).is_some(), "{}", server.log());
    let asked = format!(
        "timeout 40 ip netns exec {CLIENT_HOST} unshare --pid --fork --kill-child sh {script} chronyd-xleave {SERVER} {cache}"
    );
    let said = Command::new("sh")
        .args(["-c", &format!("{asked} | grep -m 1 'Interleaved : Yes '")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("Interleaved : Yes "), "{said}; the log says:\n{}", server.log());
    let status = nic_status(&server, &wire.server);
    let counts: BTreeMap<String, u64> = serde_json::from_value(status["sent"]["counts"].clone()).unwrap();
    assert!(counts["nic"] > 5 && counts["nic"] > 9 * counts["missing"], "{counts:?}");
    measured(&format!("chronyd with the igb's stamps: {}", said.trim()));
    stop(&mut server);
}
