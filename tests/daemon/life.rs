//! Ready, serving, stopping: what a service manager sees.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::maser::{Client, READY_LIMIT, Server, Setting, is_root_or_skip, now, text, within, works_or_skip};
use crate::peers::rig::can_set_clock;
use crate::support::request;

/// Many more than a batch, so that the workers are told to stop while most of them still wait: 50 clients with as
/// many requests each as the buffer for their replies holds.
const QUEUED_CLIENTS: u8 = 50;
const QUEUED_PER_CLIENT: usize = 200;

#[test]
fn systemd_is_told_when_it_serves_and_when_it_stops() {
    let setting = Setting::new();
    let path = setting.scratch.path("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket can be made");
    manager.set_read_timeout(Some(READY_LIMIT)).expect("a limit above zero");
    let mut server = setting.environment("NOTIFY_SOCKET", path).start();
    let told = || {
        let mut octets = [0; 1_024];
        let length = manager.recv(&mut octets).expect("the server tells systemd");
        String::from_utf8_lossy(&octets[..length]).into_owned()
    };
    let first = told();
    assert!(first.lines().any(|line| line == "READY=1"), "{first:?}");
    assert!(Client::at(Ipv4Addr::LOCALHOST).ask(server.address()).is_some(), "READY=1 means serving");
    server.signal(Signal::SIGTERM);
    let second = told();
    assert!(second.lines().any(|line| line == "STOPPING=1"), "{second:?}");
    server.ends_well();
}

#[test]
fn every_stop_signal_ends_it_well_and_takes_the_status_socket_along() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Setting::new().start();
        let socket = server.setting.status_socket().to_owned();
        assert!(socket.exists(), "{signal}");
        server.signal(signal);
        server.ends_well();
        let log = server.log();
        assert!(!socket.exists(), "{signal}: the status socket's file is left");
        assert!(log.contains("stopped"), "{signal}: {log}");
    }
}

#[test]
fn a_flood_does_not_keep_it_from_stopping() {
    for port in ["socket", "io-uring"] {
        let mut server = Setting::new().with(&["--port", port]).start();
        let address = server.address();
        let flooding = AtomicBool::new(true);
        thread::scope(|scope| {
            scope.spawn(|| {
                let client = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port is free");
                let end = now() + READY_LIMIT;
                while flooding.load(Ordering::Relaxed) && now() < end {
                    // Once the server is gone the kernel says so, which is no news here.
                    let _ = client.send_to(&request(1), address);
                }
            });
            thread::sleep(Duration::from_millis(200));
            server.signal(Signal::SIGTERM);
            let begin = now();
            server.ends_well();
            println!("{port}: stopped {} ms after SIGTERM, under load", begin.elapsed().as_millis());
            flooding.store(false, Ordering::Relaxed);
        });
    }
}

#[test]
fn what_was_received_before_the_signal_is_answered() {
    let name = "what_was_received_before_the_signal_is_answered";
    // Without root the kernel's limit is below what waits here.
    if !is_root_or_skip(name) {
        return;
    }
    for port in ["socket", "io-uring"] {
        let setting = Setting::nowhere();
        let config = setting.scratch.path("maser.toml");
        let lines = format!(
            "[server]\nlisten = [\"127.0.0.1:{}\"]\nport = \"{port}\"\nworkers = 1\nreceive_buffer = \"32 MiB\"\n\
             [[source]]\ntype = \"machine\"\nstratum = 1\n",
            setting.port
        );
        fs::write(&config, lines).expect("a file can be written");
        let mut server = setting.with(&["--config", text(&config)]).start();
        let clients: Vec<_> = (1..=QUEUED_CLIENTS).map(|last| Client::at([127, 0, 0, last].into())).collect();
        server.signal_server(Signal::SIGSTOP);
        assert!(within(READY_LIMIT, || all_threads_stopped(&server).then_some(())).is_some());
        for client in &clients {
            for number in 0..QUEUED_PER_CLIENT {
                client.send(server.address(), &request(number as u64));
            }
        }
        // Both are pending when it goes on, so the signal to end is there before the first request is read.
        server.signal(Signal::SIGTERM);
        assert!(within(READY_LIMIT, || is_told_to_stop(&server).then_some(())).is_some(), "it is passed on");
        server.signal_server(Signal::SIGCONT);
        let begin = now();
        server.ends_well();
        let log = server.log();
        let took = begin.elapsed();
        for client in &clients {
            for number in 0..QUEUED_PER_CLIENT {
                let (reply, _) = client.reply().unwrap_or_else(|| panic!("{port}: request {number}:\n{log}"));
                assert_eq!(reply.origin, number as u64, "{port}: answered once and in order");
            }
        }
        println!("{port}: drained and stopped in {} ms", took.as_millis());
    }
}

#[test]
fn it_serves_without_any_privilege() {
    let name = "it_serves_without_any_privilege";
    if !is_root_or_skip(name) {
        return;
    }
    for port in ["socket", "io-uring"] {
        let mut server = Setting::new().with(&["--port", port]).unprivileged().start();
        assert!(Client::at(Ipv4Addr::LOCALHOST).ask(server.address()).is_some(), "{port}");
        let status = fs::read_to_string(format!("/proc/{}/status", server.server_id())).expect("it runs");
        let has = |line: &str| status.lines().any(|present| present == line);
        assert!(has("CapEff:\t0000000000000000") && has("CapBnd:\t0000000000000000"), "{status}");
        assert!(has("Uid:\t65534\t65534\t65534\t65534"), "{status}");
        assert_eq!(server.status()["workers"][0]["events"]["realtime-steps"], 0);
        server.stop();
    }
}

/// An address takes a descriptor for each worker, over io_uring two, in the keeper and in the server.
#[test]
fn it_opens_more_than_the_soft_limit_of_descriptors() {
    let mut setting = Setting::nowhere().under(&["sh", "-c", "ulimit -S -n 64; exec \"$@\"", "sh"]);
    for host in 1..=60 {
        setting = setting.listening_at(&format!("127.0.0.{host}"));
    }
    let mut server = setting.with(&["--port", "io-uring"]).start();
    assert!(Client::at(Ipv4Addr::LOCALHOST).ask(server.at(Ipv4Addr::new(127, 0, 0, 60))).is_some());
    server.stop();
}

/// The servers of these tests hold no right to set the clock, and this one doesn't even try.
#[test]
fn it_never_asks_to_set_the_clock() {
    let name = "it_never_asks_to_set_the_clock";
    if !works_or_skip(name, &["strace", "-o", "/dev/null", "true"]) {
        return;
    }
    let setting = Setting::new();
    let trace = setting.scratch.path("trace");
    let calls = "trace=clock_settime,settimeofday,clock_adjtime,adjtimex,clock_settime64,stime";
    let command = ["strace", "-D", "-f", "-qq", "-e", "signal=none", "-o", text(&trace), "-e", calls];
    let mut server = setting.under(&command).start();
    let status = fs::read_to_string(format!("/proc/{}/status", server.process_id())).expect("it runs");
    assert!(!can_set_clock(&status), "{status}");
    thread::sleep(Duration::from_secs(1));
    server.signal(Signal::SIGTERM);
    server.ends_well();
    let lines = fs::read_to_string(&trace).expect("strace has written");
    // Nothing is set by `modes` 0, nor by asking what is left of an adjustment.
    let is_reading = |line: &&str| {
        line.contains("adjtime")
            && (line.contains("{modes=0,") || line.contains("{modes=ADJ_OFFSET_SS_READ,"))
    };
    let (reads, others): (Vec<_>, Vec<_>) = lines.lines().partition(is_reading);
    assert!(reads.len() >= 4, "the pulse reads the clock's state all the time:\n{lines}");
    assert!(others.is_empty(), "{}", others.join("\n"));
}

/// SIGTERM waits for the process to go on.
fn is_told_to_stop(server: &Server) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", server.server_id())).expect("it runs");
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).expect("pending signals");
    let pending = u64::from_str_radix(pending.trim(), 16).expect("a set is hexadecimal");
    pending & (1 << (Signal::SIGTERM as u32 - 1)) != 0
}

fn all_threads_stopped(server: &Server) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", server.server_id())).expect("it runs");
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which stands in parentheses.
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
}
