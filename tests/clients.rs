//! Do the NTP clients that the world runs accept this server?
//!
//! Every client runs as its users run it and has to say with its own words that it follows us. Each combination of
//! packet port and address family is one test, in which all clients ask at the same time from one address, as hosts
//! behind one NAT do. No client can touch the clock of this machine; `peers/README.md` says how.

mod peers;

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use peers::client::{CLIENTS, Client};
use peers::rig::{Family, Rig, can_set_clock};
use peers::{log, skip};

/// The slowest client, OpenNTPD, asks four times, up to nine seconds apart, before it trusts a server.
const PATIENCE: Duration = Duration::from_secs(40);

/// How far two readings of the two clocks may be apart on a stalled machine, far below a step that any client makes.
const STEP_SECONDS_MAX: f64 = 0.1;

#[test]
fn clients_accept_the_socket_port_over_ipv4() {
    accepted_by_all("socket", Family::Ipv4);
}

#[test]
fn clients_accept_the_socket_port_over_ipv6() {
    accepted_by_all("socket", Family::Ipv6);
}

#[test]
fn clients_accept_the_io_uring_port_over_ipv4() {
    accepted_by_all("io-uring", Family::Ipv4);
}

#[test]
fn clients_accept_the_io_uring_port_over_ipv6() {
    accepted_by_all("io-uring", Family::Ipv6);
}

/// Shows that the tests above can fail: to a server that gets one field wrong every client says no.
#[test]
fn no_client_accepts_a_wrong_origin() {
    let name = "liar/IPv4";
    let rig = match Rig::new(Family::Ipv4) {
        Ok(rig) => rig,
        Err(reason) => return skip(name, &reason),
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/liar.py");
    let _server =
        rig.serve(&["python3", script, rig.server_address()]).unwrap_or_else(|error| panic!("{error}"));
    let fooled: Vec<String> = ask_all(&rig, name)
        .into_iter()
        .filter_map(|(client, answer)| Some(format!("{}: {}", client.name, answer.ok()?)))
        .collect();
    assert!(fooled.is_empty(), "accepted a reply to a request that nobody sent:\n{}", fooled.join("\n"));
}

#[test]
fn a_client_cannot_set_the_clock() {
    let name = "capabilities";
    let rig = match Rig::new(Family::Ipv4) {
        Ok(rig) => rig,
        Err(reason) => return skip(name, &reason),
    };
    let output = rig.on_client_host(&["cat", "/proc/self/status"]).output().expect("cat runs in a namespace");
    let status = String::from_utf8_lossy(&output.stdout);
    assert!(!can_set_clock(&status), "CAP_SYS_TIME is within reach:\n{status}");
}

#[test]
fn the_capability_check_sees_each_set() {
    let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    for held in sets {
        let status: String = sets
            .iter()
            .map(|set| {
                format!("{set}:\t{}\n", if *set == held { "0000000002000000" } else { "000001fffdffffff" })
            })
            .collect();
        assert!(can_set_clock(&status), "{status}");
        assert!(!can_set_clock(&status.replace("0000000002000000", "0000000000000000")));
    }
}

/// Serves on one port and family and reports every client that doesn't follow, with what it said.
fn accepted_by_all(port: &str, family: Family) {
    let name = format!("{port}/{family:?}");
    let rig = match Rig::new(family) {
        Ok(rig) => rig,
        Err(reason) => return skip(&name, &reason),
    };
    let listen = rig.listen();
    let status_socket = rig.directory().join("status.sock");
    let maser = env!("CARGO_BIN_EXE_maser");
    let status_socket = status_socket.to_string_lossy();
    let command = [maser, "serve", "--listen", &listen, "--port", port, "--status-socket", &status_socket];
    let server = rig.serve(&command).unwrap_or_else(|error| panic!("{name}: {error}"));
    let before = wall_minus_monotonic();
    let mut failures = Vec::new();
    for (client, answer) in ask_all(&rig, &name) {
        match answer {
            Ok(evidence) => log(&format!("{name}: {}: {evidence}", client.name)),
            Err(said) => {
                failures.push(format!("{} did not accept the server; it said:\n{said}\n", client.name))
            }
        }
    }
    let stepped = (wall_minus_monotonic() - before).abs();
    assert!(stepped < STEP_SECONDS_MAX, "{name}: somebody stepped this machine's clock by {stepped} s");
    assert!(failures.is_empty(), "{name}:\n{}\nthe server said:\n{}", failures.join("\n"), server.errors());
    let status = server.stop().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(status.success(), "{name}: the server ended with {status}");
}

/// Runs all clients that this machine has at the same time.
fn ask_all(rig: &Rig, name: &str) -> Vec<(&'static Client, Result<String, String>)> {
    let there = CLIENTS.iter().filter(|client| match client.missing() {
        Some(reason) => {
            skip(&format!("{name}: {}", client.name), &reason);
            false
        }
        None => true,
    });
    thread::scope(|scope| {
        let asking: Vec<_> =
            there.map(|client| (client, scope.spawn(move || client.ask(rig, PATIENCE)))).collect();
        asking
            .into_iter()
            .map(|(client, thread)| {
                (client, thread.join().unwrap_or_else(|_| Err("the test's thread died".to_owned())))
            })
            .collect()
    })
}

/// Changes only when somebody steps the system clock: both clocks are slewed alike.
#[expect(
    clippy::disallowed_methods,
    reason = "watches this machine's clocks; what it tests gets no time from here"
)]
fn wall_minus_monotonic() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = START.get_or_init(Instant::now);
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is set after 1970");
    wall.as_secs_f64() - start.elapsed().as_secs_f64()
}
