//! A whole maser on an interface: busy polling and what it changes of the NIC, put back however the keeper ends; interfaces that
//! are refused; queues without one to send by.
//!
//! On two hosts that are network namespaces of the test's own, joined by a veth pair: maser at `near`, a client at `far`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "daemon/maser.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod maser;
#[allow(dead_code, reason = "shared with other tests")]
mod peers;
mod support;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::panic::resume_unwind;
use std::process::{Command, id};
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use serde_json::Value;

use maser::{END_LIMIT, Finished, READY_LIMIT, Scratch, Server, Setting, finish, is_root_or_skip, within};
use peers::host;
use support::request;

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 55, 2, 1);
/// As somebody has set the interface before maser comes.
const BEFORE: [&str; 2] = ["1", "12345"];
const OURS: [&str; 2] = ["2", "200000"];
const REQUESTS: u64 = 64;
/// 200 ms.
const SPUN_TICKS: u64 = 20;

/// The host that maser runs on, as seen from a thread on it.
struct Rig {
    client: File,
    scratch: Scratch,
}

/// The network namespace of a thread that has ended.
fn namespace() -> File {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    made.join().unwrap()
}

fn ip(arguments: &str) {
    host::ip(arguments).unwrap();
}

/// Checksums and tags are in the frames, as with a wire between the hosts.
fn up(device: &str, address: &str) {
    let off = ["-K", device, "tx", "off", "txvlan", "off", "rxvlan", "off"];
    host::run(Command::new("ethtool").args(off)).unwrap();
    ip(&format!("address add {address}/24 dev {device}"));
    ip("link set lo up");
    ip(&format!("link set {device} up"));
}

/// Runs `test` on a host whose end of the pair has so many queues to receive and to send by, with a /sys of its own or the
/// machine's; or leaves it out loudly.
fn on_host(name: &str, [receive, send]: [u32; 2], own_sys: bool, test: impl FnOnce(&Rig) + Send + 'static) {
    if !is_root_or_skip(name) {
        return;
    }
    let there = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        if own_sys {
            mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).unwrap();
        }
        let rig = Rig { client: namespace(), scratch: Scratch::new() };
        ip(&format!(
            "link add near numrxqueues {receive} numtxqueues {send} type veth peer name far numrxqueues 2 numtxqueues 2"
        ));
        ip(&format!("link set far netns /proc/{}/fd/{}", id(), rig.client.as_raw_fd()));
        rig.at_client(|| up("far", "10.55.2.2"));
        up("near", "10.55.2.1");
        test(&rig);
    });
    there.join().unwrap_or_else(|panic| resume_unwind(panic));
}

impl Rig {
    fn at_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let there = || {
            setns(&self.client, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(there).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// `maser serve` at `near`, with the place for its records in the rig's directory.
    fn setting(&self, arguments: &[&str]) -> Setting {
        let setting = Setting::nowhere().environment("RUNTIME_DIRECTORY", self.scratch.path(""));
        setting.listening_at("10.55.2.1").with(&["--workers", "1"]).with(arguments)
    }

    fn start(&self, arguments: &[&str]) -> Server {
        self.setting(arguments).start()
    }

    /// `maser restore`, which must succeed; what it says.
    fn restore(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maser"));
        command.arg("restore").env("RUNTIME_DIRECTORY", self.scratch.path(""));
        let Finished { code, output, errors } = finish(command, &self.scratch, END_LIMIT);
        assert_eq!(code, Some(0), "{errors}");
        output
    }

    /// Asks from so many ports of one address; each must be answered.
    fn ask_all(&self, server: SocketAddr) {
        self.at_client(|| {
            for number in 1..=REQUESTS {
                let client = UdpSocket::bind("0.0.0.0:0").unwrap();
                client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                client.send_to(&request(number), server).unwrap();
                let length = client.recv(&mut [0; 64]);
                assert!(matches!(length, Ok(48)), "request {number}: {length:?}");
            }
        });
    }
}

/// What `near` is set to.
fn now() -> [String; 2] {
    ["napi_defer_hard_irqs", "gro_flush_timeout"]
        .map(|name| fs::read_to_string(format!("/sys/class/net/near/{name}")).unwrap().trim().to_owned())
}

/// Ends a keeper so that it can't put anything back, and its server with it.
fn kill(mut server: Server) {
    let serving = server.server_id();
    server.signal(Signal::SIGKILL);
    assert!(within(END_LIMIT, || server.has_ended()).is_some());
    let gone = || (!fs::exists(format!("/proc/{serving}/task/{serving}/children")).unwrap()).then_some(());
    assert!(within(END_LIMIT, gone).is_some(), "a server without a keeper");
}

const POLLING: [&str; 5] = ["--port", "af-xdp", "--interface", "near", "--busy-poll"];
const WAITING: [&str; 4] = ["--port", "af-xdp", "--interface", "near"];

#[test]
fn the_settings_are_put_back_however_the_keeper_ends() {
    on_host("the_settings_are_put_back_however_the_keeper_ends", [2, 2], true, |rig| {
        for (name, value) in ["napi_defer_hard_irqs", "gro_flush_timeout"].into_iter().zip(BEFORE) {
            fs::write(format!("/sys/class/net/near/{name}"), value).unwrap();
        }
        let file = rig.scratch.path("settings.json");
        let mut waiting = rig.start(&WAITING);
        assert_eq!(now(), BEFORE, "without busy polling nothing is set");
        waiting.stop();

        let mut told = rig.start(&POLLING);
        assert_eq!(now(), OURS);
        // A server that dies changes nothing, and another command doesn't undo what a living keeper needs.
        told.signal_server(Signal::SIGKILL);
        assert!(rig.restore().contains("othing"), "it is the living keeper's");
        assert_eq!(now(), OURS);
        assert!(within(READY_LIMIT, || told.log().contains("answers again").then_some(())).is_some());
        told.stop();
        assert_eq!(now(), BEFORE, "after SIGTERM");
        assert!(!file.exists());

        kill(rig.start(&POLLING));
        assert_eq!(now(), OURS, "nobody was left to put them back");
        let said = rig.restore();
        assert_eq!(
            said,
            "put back: near: napi_defer_hard_irqs 1 and gro_flush_timeout 12345 ns, as before\n"
        );
        assert_eq!(now(), BEFORE, "after SIGKILL and maser restore");
        assert!(!file.exists());

        kill(rig.start(&POLLING));
        let mut next = rig.start(&WAITING);
        assert_eq!(now(), BEFORE, "after SIGKILL and the next start");
        next.stop();

        kill(rig.start(&POLLING));
        let mut next = rig.start(&POLLING);
        assert_eq!(now(), OURS);
        next.stop();
        assert_eq!(now(), BEFORE, "what was there before the first is what counts");
    });
}

/// How long a thread of a process has been running, in ticks of 10 ms (proc_pid_stat(5), fields 14 and 15).
fn ticks(process: u32, thread: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let stats = tasks.map(|task| fs::read_to_string(task.path().join("stat")).unwrap());
    let name = format!("({thread}) ");
    let own = stats.filter_map(|stat| stat.split_once(&name).map(|(_, after)| after.to_owned())).next();
    let own = own.unwrap_or_else(|| panic!("no thread {thread}"));
    own.split(' ').skip(14 - 3).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

fn answered(status: &Value, port: &str) -> u64 {
    let of_port = status["workers"].as_array().unwrap().iter().filter(|worker| worker["port"] == port);
    of_port
        .map(|worker| worker["answers"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>())
        .sum()
}

fn interface(status: &Value, name: &str) -> Value {
    let interfaces = status["interfaces"].as_array().unwrap();
    interfaces.iter().find(|interface| interface["name"] == name).unwrap_or(&Value::Null).clone()
}

#[test]
fn a_worker_that_polls_the_driver_spins_and_answers() {
    on_host("a_worker_that_polls_the_driver_spins_and_answers", [1, 1], true, |rig| {
        for (arguments, spins) in [(&WAITING[..], false), (&POLLING[..], true)] {
            let mut server = rig.start(arguments);
            rig.ask_all(server.at(NEAR));
            // A reply is counted after it was sent.
            let all = || (answered(&server.status(), "af-xdp") == REQUESTS).then_some(());
            assert!(within(END_LIMIT, all).is_some(), "{}", server.status());
            let before = ticks(server.server_id(), "xdp-0");
            let has_spun = || (ticks(server.server_id(), "xdp-0") - before >= SPUN_TICKS).then_some(());
            // One that sleeps never gets there; one that spins may share its core with other tests.
            let limit = if spins { READY_LIMIT } else { Duration::from_millis(500) };
            assert_eq!(within(limit, has_spun).is_some(), spins);
            server.stop();
        }
    });
}

#[test]
fn busy_polling_is_refused_where_the_settings_are_out_of_reach() {
    on_host("busy_polling_is_refused_where_the_settings_are_out_of_reach", [1, 1], false, |rig| {
        let why = "near: its interrupts can't be put off for busy polling: near: /sys doesn't show this";
        let refused = rig.setting(&POLLING).refused(READY_LIMIT);
        assert!(refused.errors.contains(why), "{}", refused.errors);
        let mut server = rig.start(&["--interface", "near", "--busy-poll"]);
        let near = interface(&server.status(), "near");
        assert!(near["why"].as_str().is_some_and(|told| told.contains(why)), "{near}");
        rig.ask_all(server.at(NEAR));
        server.stop();
        let tables = maser_sys::netlink::dump().unwrap();
        assert_eq!(tables.link_named("near").unwrap().xdp_program, None, "nothing was left on it");
    });
}

#[test]
fn an_interface_that_is_refused_is_told_in_the_status() {
    on_host("an_interface_that_is_refused_is_told_in_the_status", [1, 1], true, |rig| {
        let named = ["--interface", "lo", "--interface", "near", "--interface", "late"];
        let mut server = rig.start(&named);
        let status = server.status();
        for (name, rung, why) in [
            ("lo", "socket", "a step down: lo: the loopback interface carries"),
            ("near", "af-xdp", ""),
            (
                "late",
                "socket",
                "a step down: late: no such interface in this network namespace; there are: near",
            ),
        ] {
            let told = interface(&status, name);
            assert_eq!(told["rung"], rung, "{status}");
            assert!(told["why"].as_str().is_some_and(|told| told.starts_with(why)), "{told}");
        }
        let table = server.ask_status(&[]).output;
        assert!(table.contains("the loopback interface carries"), "{table}");
        // What comes later gets a server that knows it.
        ip("link add late type veth peer name other");
        let is_taken = || (interface(&server.status(), "late")["rung"] == "af-xdp").then_some(());
        assert!(within(READY_LIMIT, is_taken).is_some(), "{}", server.log());
        server.stop();
    });
}

/// In copy mode the kernel says nothing of replies that it never sends.
#[test]
fn a_queue_without_one_to_send_by_is_left_to_sockets() {
    on_host("a_queue_without_one_to_send_by_is_left_to_sockets", [2, 1], true, |rig| {
        let mut server = rig.start(&WAITING);
        rig.ask_all(server.at(NEAR));
        let status = server.status();
        let near = interface(&status, "near");
        assert_eq!(near["queues"].as_array().map(Vec::len), Some(1), "{near}");
        let why = near["why"].as_str().unwrap();
        assert!(why.starts_with("requests by its receive queues from 1 on are left to sockets"), "{why}");
        let counted = || {
            let status = server.status();
            let [past, through] = ["af-xdp", "socket"].map(|port| answered(&status, port));
            (past > 0 && through > 0 && past + through == REQUESTS).then_some(())
        };
        assert!(within(END_LIMIT, counted).is_some(), "{}", server.status());
        server.stop();
    });
}
