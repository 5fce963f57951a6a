//! AF_XDP on the drivers of real NICs: the server on the igb with its client on the virtio-net, and the other way round.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::maser::{Client, READY_LIMIT, Server, Setting, within};
use crate::peers::host::ip;
use crate::{is_new, is_vm_or_skip, measured, stop};

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 55, 2, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 55, 2, 2);
/// The client's end is in a namespace of its own, or the kernel would never use the wire.
pub(crate) const CLIENT_HOST: &str = "maser-vm-client";
const REQUESTS: u64 = 300;

/// The interface of a driver.
fn interface_of(driver: &str) -> Option<String> {
    let entries = fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| entry.path()).find(|path| is_of(path, driver)).map(|path| {
        let name = path.file_name().unwrap();
        name.to_str().unwrap().to_owned()
    })
}

fn is_of(interface: &Path, driver: &str) -> bool {
    fs::read_link(interface.join("device/driver")).is_ok_and(|path| path.ends_with(driver))
}

/// The wire, with its two ends on two hosts. Dropping it puts them back on one.
pub(crate) struct Wire {
    pub(crate) server: String,
    pub(crate) client: String,
}

impl Wire {
    pub(crate) fn new(server_driver: &str, client_driver: &str) -> Self {
        let found = |driver| {
            let interface = within(READY_LIMIT, || interface_of(driver));
            interface.unwrap_or_else(|| panic!("no interface of {driver}"))
        };
        Self::between(&found(server_driver), &found(client_driver))
    }

    /// The same of two interfaces by their names.
    pub(crate) fn between(server: &str, client: &str) -> Self {
        let wire = Self { server: server.to_owned(), client: client.to_owned() };
        let set_up = [
            format!("netns add {CLIENT_HOST}"),
            format!("link set {client} netns {CLIENT_HOST}"),
            format!("address add {SERVER}/24 dev {server}"),
            format!("-n {CLIENT_HOST} address add {CLIENT}/24 dev {client}"),
            format!("link set {server} up"),
            format!("-n {CLIENT_HOST} link set {client} up"),
        ];
        for command in set_up {
            ip(&command).unwrap();
        }
        wire
    }

    fn client(&self) -> Client {
        at_the_client(|| {
            // The address is there once the link is.
            within(READY_LIMIT, || std::net::UdpSocket::bind((CLIENT, 0)).ok())
                .expect("the address is there");
            Client::at(CLIENT)
        })
    }
}

/// Does something on the client's host.
pub(crate) fn at_the_client<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let host = File::open(format!("/run/netns/{CLIENT_HOST}")).unwrap();
    let there = thread::spawn(move || {
        setns(host, CloneFlags::CLONE_NEWNET).unwrap();
        what()
    });
    there.join().unwrap()
}

impl Drop for Wire {
    fn drop(&mut self) {
        for command in [format!("netns delete {CLIENT_HOST}"), format!("address flush dev {}", self.server)] {
            // What is left fails the next test.
            let _ = ip(&command);
        }
        // The client's interface comes back by itself.
        let _ = within(READY_LIMIT, || Path::new("/sys/class/net").join(&self.client).exists().then_some(()));
    }
}

fn answered_over_af_xdp(status: &Value) -> u64 {
    let workers = status["workers"].as_array().unwrap().iter().filter(|worker| worker["port"] == "af-xdp");
    let counts = workers.flat_map(|worker| worker["answers"].as_object().unwrap().values());
    counts.map(|count| count.as_u64().unwrap()).sum()
}

/// Of all workers.
fn event(status: &Value, name: &str) -> u64 {
    let workers = status["workers"].as_array().unwrap();
    workers
        .iter()
        .map(|worker| worker["events"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {worker}")))
        .sum()
}

fn serves(server_driver: &str, client_driver: &str) {
    let wire = Wire::new(server_driver, client_driver);
    let arguments = ["--port", "af-xdp", "--interface", &wire.server];
    let mut server = Setting::nowhere().listening_at("0.0.0.0").with(&arguments).start();
    let client = wire.client();
    let address = SocketAddr::from((SERVER, server.setting.port));
    // The link comes up some seconds after its interface, and again after the program was put on it.
    let first = within(READY_LIMIT, || client.ask(address));
    assert!(first.is_some(), "nobody answers; the log says:\n{}", server.log());
    let before = server.status();
    let lost = (0..REQUESTS).filter(|_| client.ask(address).is_none()).count();
    let status = server.status();
    let interface = &status["interfaces"][0];
    measured(&format!(
        "{server_driver}: {} program, {} frames, {} stamps, {} queues; {REQUESTS} requests, {lost} without an answer, {} told \
         when they left of {} asked about",
        interface["mode"],
        interface["frames"],
        interface["stamps"],
        interface["queues"].as_array().unwrap().len(),
        event(&status, "departures-told"),
        event(&status, "departures-asked"),
    ));
    assert_eq!(
        (&interface["driver"], &interface["rung"]),
        (&server_driver.into(), &"af-xdp".into()),
        "{interface}"
    );
    assert_eq!(interface["mode"], "native", "{interface}");
    // The kernel of the other boots has none for these.
    let frames = if is_new() { "zero-copy" } else { "copy" };
    assert_eq!(interface["frames"], frames, "{interface}");
    let shown = server.ask_status(&[]);
    assert!(
        shown.output.lines().any(|line| line.contains("af-xdp") && line.contains(frames)),
        "{}",
        shown.output
    );
    assert_eq!(lost, 0, "{status}");
    let over_af_xdp = answered_over_af_xdp(&status) - answered_over_af_xdp(&before);
    assert!(over_af_xdp >= REQUESTS, "{over_af_xdp} of {REQUESTS}: {status}");
    stops(&mut server, &wire);
}

/// Nothing of it stays on the interface.
fn stops(server: &mut Server, wire: &Wire) {
    stop(server);
    let shown = ip(&format!("-details link show dev {}", wire.server)).unwrap();
    assert!(!shown.contains("prog/xdp"), "{shown}");
    thread::sleep(Duration::from_millis(100));
}

#[test]
fn it_serves_on_the_igb() {
    if is_vm_or_skip("AF_XDP on the igb") {
        serves("igb", "virtio_net");
    }
}

#[test]
fn it_serves_on_the_virtio_net() {
    if is_vm_or_skip("AF_XDP on the virtio-net") {
        serves("virtio_net", "igb");
    }
}
