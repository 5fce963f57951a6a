//! Do the NTP clients that the world runs accept this server?
//!
//! Every client runs as its users run it and has to say with its own words that it follows us. Each combination of
//! packet port and address family is one test, in which all clients ask at the same time from one address, as hosts
//! behind one NAT do; with AF_XDP the server's own counts say that no reply came from a socket. No client can touch the
//! clock of this machine; `peers/README.md` says how.

#[path = "clients/interleaved.rs"]
mod interleaved;
mod peers;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use maser::interface::Mode;
use maser::status::{Status, WorkerStatus, fetch};
use peers::client::{CLIENTS, Client};
use peers::host::{Server, time_left};
use peers::rig::{Family, INTERFACE, Rig, can_set_clock, deadline_after};
use peers::{log, skip};

/// The slowest client, OpenNTPD, asks four times, up to nine seconds apart, before it trusts a server.
const PATIENCE: Duration = Duration::from_secs(40);

/// How far two readings of the two clocks may be apart on a stalled machine, far below a step that any client makes.
const STEP_SECONDS_MAX: f64 = 0.1;

const TAGS_PATIENCE: Duration = Duration::from_secs(5);

/// How packets come to the server.
#[derive(Clone, Copy, Debug)]
enum Way {
    Socket,
    IoUring,
    AfXdp(Mode),
    /// The clients are in a VLAN.
    AfXdpTagged(Mode),
}

#[test]
fn clients_accept_the_socket_port_over_ipv4() {
    accepted_by_all(Way::Socket, Family::Ipv4);
}

#[test]
fn clients_accept_the_socket_port_over_ipv6() {
    accepted_by_all(Way::Socket, Family::Ipv6);
}

#[test]
fn clients_accept_the_io_uring_port_over_ipv4() {
    accepted_by_all(Way::IoUring, Family::Ipv4);
}

#[test]
fn clients_accept_the_io_uring_port_over_ipv6() {
    accepted_by_all(Way::IoUring, Family::Ipv6);
}

#[test]
fn clients_accept_the_af_xdp_port_over_ipv4() {
    accepted_by_all(Way::AfXdp(Mode::Native), Family::Ipv4);
}

#[test]
fn clients_accept_the_af_xdp_port_over_ipv6() {
    accepted_by_all(Way::AfXdp(Mode::Native), Family::Ipv6);
}

#[test]
fn clients_accept_the_generic_af_xdp_port_over_ipv4() {
    accepted_by_all(Way::AfXdp(Mode::Generic), Family::Ipv4);
}

#[test]
fn clients_accept_the_generic_af_xdp_port_over_ipv6() {
    accepted_by_all(Way::AfXdp(Mode::Generic), Family::Ipv6);
}

#[test]
fn clients_in_a_vlan_accept_the_af_xdp_port_over_ipv4() {
    accepted_by_all(Way::AfXdpTagged(Mode::Native), Family::Ipv4);
}

#[test]
fn clients_in_a_vlan_accept_the_generic_af_xdp_port_over_ipv6() {
    accepted_by_all(Way::AfXdpTagged(Mode::Generic), Family::Ipv6);
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

/// Serves one way and family and reports every client that doesn't follow, with what it said.
fn accepted_by_all(way: Way, family: Family) {
    let name = format!("{way:?}/{family:?}");
    let (rig, _tagger) = match rig_for(way, family) {
        Ok(rig) => rig,
        Err(reason) => return skip(&name, &reason),
    };
    let status_socket = rig.directory().join("status.sock");
    let server = serve(&rig, way, &status_socket).unwrap_or_else(|error| panic!("{name}: {error}"));
    if matches!(way, Way::AfXdpTagged(_)) {
        enter_vlan(&rig, &name, &status_socket);
    }
    let before = wall_minus_monotonic();
    let mut failures = Vec::new();
    let mut accepted = 0;
    for (client, answer) in ask_all(&rig, &name) {
        match answer {
            Ok(evidence) => {
                accepted += 1;
                log(&format!("{name}: {}: {evidence}", client.name));
            }
            Err(said) => {
                failures.push(format!("{} did not accept the server; it said:\n{said}\n", client.name))
            }
        }
    }
    let stepped = (wall_minus_monotonic() - before).abs();
    assert!(stepped < STEP_SECONDS_MAX, "{name}: somebody stepped this machine's clock by {stepped} s");
    assert!(failures.is_empty(), "{name}:\n{}\nthe server said:\n{}", failures.join("\n"), server.errors());
    match way {
        Way::Socket | Way::IoUring => {}
        Way::AfXdp(mode) | Way::AfXdpTagged(mode) => {
            check_af_xdp_answered(&name, &status_of(&status_socket), mode, accepted);
        }
    }
    let status = server.stop().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(status.success(), "{name}: the server ended with {status}");
}

/// Starts maser so that packets come to it this way.
fn serve(rig: &Rig, way: Way, status_socket: &Path) -> Result<Server, String> {
    let (listen, path) = (rig.listen(), status_socket.to_string_lossy());
    let serve = [
        env!("CARGO_BIN_EXE_maser"),
        "serve",
        "--listen",
        &listen,
        "--status-socket",
        &path,
        "--limit",
        "off",
    ];
    let port: &[_] = match way {
        Way::Socket => &["--port", "socket"],
        Way::IoUring => &["--port", "io-uring"],
        Way::AfXdp(_) | Way::AfXdpTagged(_) => &["--port", "af-xdp", "--interface", INTERFACE],
    };
    rig.serve(&[&serve, port].concat())
}

/// The hosts, and what the way needs between them.
fn rig_for(way: Way, family: Family) -> Result<(Rig, Option<Server>), String> {
    let rig = Rig::new(family)?;
    let (mode, tagger) = match way {
        Way::Socket | Way::IoUring => return Ok((rig, None)),
        Way::AfXdp(mode) => (mode, None),
        Way::AfXdpTagged(mode) => (mode, Some(rig.tag()?)),
    };
    rig.send_whole_frames()?;
    match mode {
        Mode::Native => {}
        Mode::Generic => rig.refuse_native()?,
    }
    Ok((rig, tagger))
}

/// Makes the clients' VLAN the server's, once it is seen that their frames are tagged.
fn enter_vlan(rig: &Rig, name: &str, status_socket: &Path) {
    let strangers = || status_of(status_socket).interfaces[0].verdicts["vlan"];
    let before = strangers();
    rig.send_datagram().unwrap_or_else(|error| panic!("{name}: {error}"));
    let deadline = deadline_after(TAGS_PATIENCE);
    while strangers() == before {
        assert!(!time_left(deadline).is_zero(), "{name}: what the clients send isn't tagged");
        thread::sleep(Duration::from_millis(5));
    }
    rig.admit_vlan().unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// The server's own counts: at least a reply for each client by AF_XDP, and none by a socket.
fn check_af_xdp_answered(name: &str, status: &Status, mode: Mode, clients: u64) {
    let [interface] = status.interfaces.as_slice() else { panic!("{name}: {:?}", status.interfaces) };
    let footing = [&interface.rung, &interface.mode, &interface.frames];
    assert_eq!(footing.map(String::as_str), ["af-xdp", &mode.to_string(), "copy"], "{name}: {interface:?}");
    let answered = |port: &str| -> u64 {
        status.workers.iter().filter(|worker| worker.port == port).map(WorkerStatus::answered).sum()
    };
    let (af_xdp, socket, steered) = (answered("af-xdp"), answered("socket"), interface.verdicts["steered"]);
    log(&format!("{name}: {steered} requests steered, {af_xdp} answered by AF_XDP, {socket} by sockets"));
    assert!(
        af_xdp >= clients && steered >= af_xdp,
        "{name}: {af_xdp} replies by AF_XDP to {clients} clients"
    );
    assert_eq!(socket, 0, "{name}: sockets answered");
}

fn status_of(socket: &Path) -> Status {
    fetch(socket).unwrap_or_else(|error| panic!("{error}"))
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
