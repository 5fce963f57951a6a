//! What holds after a reload.

use crate::maser::{Client, READY_LIMIT, Server, Setting, within};
use crate::{MACHINE, Reloaded, descriptors, serving};
use nix::sys::signal::Signal;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

fn answers(server: SocketAddr) -> bool {
    Client::at(Ipv4Addr::LOCALHOST).ask(server).is_some()
}

/// Whether the kernel says that nobody is there.
fn is_closed(server: SocketAddr) -> bool {
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    client.connect(server).unwrap();
    client.send(&crate::support::request(1)).unwrap();
    client.recv(&mut [0; 64]).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[test]
fn what_the_configuration_says_anew_holds_and_nothing_is_left_open() {
    let reloaded = Reloaded::start(Setting::nowhere(), &serving("workers = 1\nport = \"socket\""));
    let server = &reloaded.server;
    let [first, second] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(|address| server.at(address.into()));
    assert!(answers(first) && is_closed(second));
    let process = server.server_id();
    let open = descriptors(server);
    assert_eq!((reloaded.load()["reloads"].as_u64(), &reloaded.load()["refused"]), (Some(0), &().into()));

    // One more address, one more worker, another port, metrics.
    let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    reloaded.reloader.apply(&format!(
        "[server]\nlisten = [\"127.0.0.1:PORT\", \"127.0.0.2:PORT\"]\nworkers = 2\nport = \"io-uring\"\n\
         [limit]\nrate = 0\n[metrics]\nlisten = [\"{metrics}\"]\n{MACHINE}"
    ));
    assert!(answers(second));
    assert_ne!(server.server_id(), process, "another process answers");
    let status = server.status();
    let ports: Vec<_> =
        status["ports"].as_array().unwrap().iter().map(|port| port["listen"].clone()).collect();
    assert_eq!(ports, [first.to_string(), second.to_string()]);
    assert_eq!(status["ports"][0]["rung"], "io-uring");
    assert_eq!(status["workers"].as_array().unwrap().len(), 2);
    assert!(std::net::TcpStream::connect(metrics).is_ok());
    // Both workers' sockets are served: of sixteen addresses some meet each.
    for last in 1..=16 {
        let client = Client::at([127, 0, 1, last].into());
        assert!(client.ask(first).is_some(), "from 127.0.1.{last}");
    }
    let counted = server.status();
    let answered = |worker: usize| counted["workers"][worker]["answers"]["answered"].as_u64().unwrap();
    assert!(answered(0) > 0 && answered(1) > 0, "{} {}", answered(0), answered(1));

    // And back.
    reloaded.reloader.apply(&serving("workers = 1\nport = \"socket\""));
    assert!(answers(first) && is_closed(second));
    assert!(std::net::TcpStream::connect(metrics).is_err());
    for last in 1..=16 {
        assert!(Client::at([127, 0, 1, last].into()).ask(first).is_some(), "from 127.0.1.{last}");
    }
    // But for the second worker's socket, which waits for another one, as a request could be lost if it was closed, and the two that
    // stamped replies left by over io_uring.
    assert_eq!(descriptors(server), open + 3, "what isn't needed any more is closed");
    reloaded.reloader.apply(&serving("workers = 2"));
    assert_eq!(descriptors(server), open + 3, "it is used again");
    let load = reloaded.load();
    assert_eq!((load["reloads"].as_u64(), load["refusals"].as_u64()), (Some(3), Some(0)));
    stops(reloaded.server);
}

pub(crate) fn stops(mut server: Server) {
    server.stop();
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains("is killed"), "{log}");
}

#[test]
fn a_wildcard_takes_the_place_of_an_address_and_gives_it_back() {
    let reloaded = Reloaded::start(Setting::nowhere(), &serving(""));
    let (first, second) = (reloaded.server.address(), reloaded.server.at([127, 0, 0, 2].into()));
    reloaded.reloader.apply(&serving("").replace("127.0.0.1:", "0.0.0.0:"));
    assert!(answers(first) && answers(second));
    // Beside each other they are refused, as at a start.
    let both = serving("").replace("\"127.0.0.1:PORT\"", "\"0.0.0.0:PORT\", \"127.0.0.1:PORT\"");
    let refused = reloaded.reloader.reload(&both);
    assert!(refused.code == Some(1) && refused.errors.contains("the port is in use"), "{}", refused.errors);
    reloaded.reloader.apply(&serving(""));
    assert!(answers(first) && is_closed(second));
    stops(reloaded.server);
}

/// Who has asked as much as is allowed isn't forgotten.
#[test]
fn a_client_keeps_what_it_has_left_of_its_limit() {
    let config = |batch: u32| {
        format!(
            "[server]\nlisten = [\"127.0.0.1:PORT\"]\nbatch = {batch}\n[limit]\nrate = 1\nburst = 30\nkiss = 0\n\
             prefix_rate = 0\n[access]\nallow = [\"127.0.0.1\"]\n{MACHINE}"
        )
    };
    for port in ["socket", "io-uring"] {
        let reloaded = Reloaded::start(Setting::nowhere().with(&["--port", port]), &config(64));
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let ask = || {
            client.send_to(&crate::support::request(1), reloaded.server.address()).unwrap();
            client.recv(&mut [0; 64]).is_ok()
        };
        let all_answered = (0..100).position(|_| !ask());
        assert!(all_answered.is_some_and(|asked| asked >= 30), "{port}: {all_answered:?}");
        reloaded.reloader.apply(&config(32));
        // A new table would allow thirty at once; a reload takes a second or two, on a busy machine ten.
        let answered = (0..30).take_while(|_| ask()).count();
        assert!(answered < 15, "{port}: {answered} answered of one that had nothing left");
        stops(reloaded.server);
    }
}

#[test]
fn a_hangup_does_the_same_and_systemd_is_told() {
    let setting = Setting::nowhere();
    let path = setting.scratch.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(READY_LIMIT)).unwrap();
    let told = || {
        let mut octets = [0; 1_024];
        let length = manager.recv(&mut octets).expect("systemd is told");
        String::from_utf8_lossy(&octets[..length]).into_owned()
    };
    let reloaded = Reloaded::start(setting.environment("NOTIFY_SOCKET", path), &serving(""));
    assert_eq!(told().trim(), "READY=1");
    for _ in 0..2 {
        let process = reloaded.server.server_id();
        reloaded.server.signal(Signal::SIGHUP);
        assert_eq!(told().trim(), "RELOADING=1");
        assert!(told().starts_with("MONOTONIC_USEC="));
        assert_eq!(told().trim(), "READY=1");
        let replaced = || {
            let serves = reloaded.server.server_id();
            (serves != process && serves != reloaded.server.process_id()).then_some(())
        };
        assert!(within(READY_LIMIT, replaced).is_some(), "{}", reloaded.server.log());
    }
    stops(reloaded.server);
}

#[test]
fn a_storm_of_hangups_leaves_one_server_that_answers() {
    let reloaded = Reloaded::start(Setting::nowhere(), &serving("workers = 1"));
    let open = descriptors(&reloaded.server);
    let client = Client::at(Ipv4Addr::LOCALHOST);
    for number in 0..20_u64 {
        reloaded.server.signal(Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(number * 37 % 150));
        assert!(client.ask(reloaded.server.address()).is_some(), "after hangup {number}");
    }
    // One more, of which it is known when it has been applied.
    reloaded.reloader.apply(&serving("workers = 1"));
    let settled = || {
        let children = children(&reloaded.server);
        (children.len() == 1 && descriptors(&reloaded.server) == open).then_some(())
    };
    assert!(within(READY_LIMIT, settled).is_some(), "{:?}", children(&reloaded.server));
    let load = reloaded.load();
    assert!((2..=21).contains(&load["reloads"].as_u64().unwrap()), "{load}");
    assert_eq!(load["refusals"], 0);
    stops(reloaded.server);
}

fn children(server: &Server) -> Vec<u32> {
    let process = server.process_id();
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// A server that follows another one has locked to it when it is reloaded: it never says "unsynchronised" again.
#[test]
fn the_clock_goes_on() {
    let upstream = Setting::new().start();
    let config = |batch: u32| {
        format!(
            "[server]\nlisten = [\"127.0.0.1:PORT\"]\nbatch = {batch}\n[limit]\nrate = 0\n[[source]]\ntype = \"ntp\"\n\
             address = \"{}\"\npoll_min = \"2 s\"\npoll_max = \"4 s\"\n[clock]\nstate = \"STATE\"\n",
            upstream.address()
        )
    };
    let setting = Setting::nowhere();
    let state = setting.scratch.path("state");
    let config = |batch| config(batch).replace("STATE", state.to_str().unwrap());
    let reloaded = Reloaded::start(setting, &config(64));
    let client = Client::at(Ipv4Addr::LOCALHOST);
    let is_followed = || {
        let (reply, _) = client.ask(reloaded.server.address()).expect("it answers");
        (1..16).contains(&reply.stratum)
    };
    assert!(
        within(Duration::from_secs(60), || is_followed().then_some(())).is_some(),
        "{}",
        reloaded.server.log()
    );
    // What it leaves to the next one it leaves once a second.
    std::thread::sleep(Duration::from_millis(1_500));
    for batch in [32, 16] {
        reloaded.reloader.apply(&config(batch));
        for number in 0..100 {
            assert!(is_followed(), "{number}: {}", reloaded.server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    stops(reloaded.server);
}
