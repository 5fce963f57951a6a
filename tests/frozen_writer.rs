//! The snapshot's writer frozen in the running server, with the real clocks: what is served stays right, its bound
//! grows, and past the limit replies say "unsynchronised" until the writer is back.
//!
//! strace holds the pulse thread in `ppoll`, which on a server with one address no other thread calls.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can't go on has failed; it reads the real clock"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::{ReplyView, error_ns, request};

/// How long the pulse is held each time, well past the limit of 8 s.
const HELD_S: u64 = 12;
/// Readings before it is held for the first time: two seconds.
const BEATS: u32 = 16;
/// A unit of the wire's root dispersion.
const DISPERSION_UNIT_NS: i64 = 15_259;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // strace passes nothing on when it is killed, but its tracee goes with it (--kill-on-exit is newer).
        let _gone = Command::new("pkill").args(["-KILL", "-P", &self.0.id().to_string()]).status();
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "must not be skipped in CI: {reason}");
    eprintln!("SKIPPED: frozen_writer: {reason}");
}

fn start(address: SocketAddr) -> Option<Server> {
    let own = |name: &str| std::env::temp_dir().join(format!("maser-frozen-{}.{name}", std::process::id()));
    let (status, config) = (own("sock"), own("toml"));
    // What transmit timestamps are moved by isn't the clock's, and is admitted by nothing.
    let lines = "[server]\ntransmit_correction = false\n[[source]]\ntype = \"machine\"\nstratum = 1\n[local]\nstratum = 10\n";
    std::fs::write(&config, lines).unwrap();
    let inject = format!("inject=ppoll:delay_enter={HELD_S}s:when={BEATS}+");
    let mut child = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=ppoll",
            "-e",
            &inject,
            env!("CARGO_BIN_EXE_maser"),
        ])
        .args([
            "serve",
            "--port",
            "socket",
            "--workers",
            "1",
            "--listen",
            &address.to_string(),
            "--status-socket",
        ])
        .arg(status)
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    let server = Server(child);
    (line == "ready\n").then_some(server)
}

fn ask(client: &UdpSocket, transmit: u64) -> ReplyView {
    client.send(&request(transmit)).unwrap();
    let mut reply = [0; 48];
    assert_eq!(client.recv(&mut reply).unwrap(), 48);
    let reply = ReplyView::of(&reply);
    assert_eq!(reply.origin, transmit);
    reply
}

/// The served times lie between asking and being answered by this machine's own clock, but for what is admitted.
fn assert_within_its_bound(reply: &ReplyView, asked_ns: i64, answered_ns: i64) {
    let admitted_ns = i64::from(reply.root_dispersion) * DISPERSION_UNIT_NS;
    let (early, late) = (error_ns(reply.receive, asked_ns), error_ns(reply.transmit, answered_ns));
    assert!(early >= -admitted_ns && late <= admitted_ns, "{early} and {late} ns, {admitted_ns} ns admitted");
}

#[test]
fn the_bounds_oracle_finds_a_planted_error() {
    let mut bytes = request(1);
    bytes[8..12].copy_from_slice(&10_u32.to_be_bytes());
    let reply = ReplyView { receive: 1 << 63, transmit: 1 << 63, ..ReplyView::of(&bytes) };
    let said_ns = (((1_i64 << 31) - 2_208_988_800) * 1_000_000_000, 150_000);
    assert_within_its_bound(&reply, said_ns.0 + said_ns.1, said_ns.0 + said_ns.1);
    let off = || assert_within_its_bound(&reply, said_ns.0 + 2 * said_ns.1, said_ns.0 + 3 * said_ns.1);
    assert!(std::panic::catch_unwind(off).is_err());
}

fn now_ns() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

#[test]
fn no_wrong_time_is_served_while_the_writer_is_frozen() {
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("strace isn't installed");
    }
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Some(_server) = start(address) else {
        return skip("the server didn't start under strace (ptrace refused?)");
    };
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();

    let begin = Instant::now();
    // Each change between synchronised and not, with when it was seen.
    let mut changes: Vec<(bool, Duration)> = Vec::new();
    let mut dispersion = (0, 0);
    let mut transmit = 0;
    while begin.elapsed() < Duration::from_secs(2 * HELD_S) && changes.len() < 3 {
        transmit += 1;
        let asked_ns = now_ns();
        let reply = ask(&client, transmit);
        let answered_ns = now_ns();
        if reply.synchronised() {
            assert_within_its_bound(&reply, asked_ns, answered_ns);
            dispersion = (dispersion.0.max(reply.root_dispersion), reply.root_dispersion);
        } else {
            assert_eq!((reply.leap, reply.stratum, reply.reference_id), (3, 0, [0; 4]));
        }
        if changes.last().is_none_or(|(synchronised, _)| *synchronised != reply.synchronised()) {
            changes.push((reply.synchronised(), begin.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!(
        "synchronised or not, and since when: {changes:?}; dispersion up to {} units of 15 µs",
        dispersion.0
    );
    let kinds: Vec<bool> = changes.iter().map(|(synchronised, _)| *synchronised).collect();
    assert_eq!(kinds, [true, false, true], "served, then unsynchronised past the limit, then served again");
    // 8 s at the kernel's allowance of 500 ppm are 4 ms: 262 units of the wire.
    assert!(dispersion.0 >= 250, "root dispersion grew to {} units of 15 µs only", dispersion.0);
    let frozen_for = changes[2].1 - changes[1].1;
    assert!(frozen_for < Duration::from_secs(HELD_S), "the limit came {frozen_for:?} before the writer");
}
