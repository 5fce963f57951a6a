//! The two processes of `maser serve`, seen from outside: what the server is left with, and what becomes of either when the
//! other ends.

#[path = "keeper/ends.rs"]
mod ends;
#[path = "daemon/maser.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod maser;
#[allow(dead_code, reason = "shared with other tests")]
mod peers;
mod support;
#[path = "keeper/wire.rs"]
#[allow(dead_code, reason = "shared with the soak")]
mod wire;
#[path = "keeper/xdp.rs"]
mod xdp;

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;

use maser::{Client, END_LIMIT, READY_LIMIT, Server, Setting, is_root_or_skip, now, text, within};
use support::request;

/// What the issue promises, on a machine that has a processor for each that wants one.
const BACK_LIMIT: Duration = Duration::from_secs(1);

/// How often, on a machine that others load.
const TRIES: u32 = 3;

const PORTS: [&str; 2] = ["socket", "io-uring"];

/// A line of `/proc/PID/status`.
fn line<'s>(status: &'s str, name: &str) -> &'s str {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

/// What a process isn't allowed to have left, of its threads and descriptors.
fn faults(process: u32) -> Vec<String> {
    let mut faults = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task")).expect("it runs").flatten() {
        let status = fs::read_to_string(task.path().join("status")).expect("it runs");
        let none = "0000000000000000";
        let wanted =
            [("CapEff", none), ("CapPrm", none), ("CapInh", none), ("CapAmb", none), ("CapBnd", none)];
        let wanted =
            wanted.into_iter().chain([("NoNewPrivs", "1"), ("Seccomp", "2"), ("Seccomp_filters", "2")]);
        for (name, value) in wanted {
            if line(&status, name) != value {
                faults.push(format!("{}: {name} {}", line(&status, "Name"), line(&status, name)));
            }
        }
    }
    for descriptor in fs::read_dir(format!("/proc/{process}/fd")).expect("it runs").flatten() {
        let number = descriptor.file_name().to_string_lossy().into_owned();
        // One that has been closed since is no fault.
        let Ok(what) = fs::read_link(descriptor.path()) else { continue };
        let what = what.to_string_lossy();
        let known = ["socket:[", "anon_inode:[signalfd]", "anon_inode:[timerfd]", "anon_inode:[io_uring]"];
        let is_known = known.iter().any(|known| what.starts_with(known))
            || what.ends_with("/clocksource0/available_clocksource")
            // Standard output and error, as they were inherited.
            || number == "1" || number == "2";
        if !is_known {
            faults.push(format!("descriptor {number}: {what}"));
        }
    }
    faults
}

#[test]
fn the_server_is_left_with_nothing() {
    if !is_root_or_skip("the_server_is_left_with_nothing") {
        return;
    }
    for port in PORTS {
        let mut server = Setting::new().with(&["--port", port]).start();
        assert!(Client::at(Ipv4Addr::LOCALHOST).ask(server.address()).is_some());
        assert_ne!(server.server_id(), server.process_id(), "there are two");
        assert_eq!(faults(server.server_id()), Vec::<String>::new(), "{port}");
        assert!(server.log().contains("locked down: no capabilities, no_new_privs"), "{}", server.log());
        // The keeper has the privileges, and this test's process what it was started with.
        assert!(faults(server.process_id()).iter().any(|fault| fault.contains("CapEff")));
        assert!(faults(server.process_id()).iter().any(|fault| fault.contains("Seccomp 0")));
        assert!(faults(std::process::id()).iter().any(|fault| fault.starts_with("descriptor 0")));
        server.stop();
    }
}

/// Ends the server's process by `signal`, under load; how long it was until somebody else answered.
fn outage(server: &Server, signal: Signal) -> Duration {
    let (first, keeper) = (server.server_id(), server.process_id());
    let address = server.address();
    let flooding = AtomicBool::new(true);
    let took = thread::scope(|scope| {
        scope.spawn(|| {
            let client = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port is free");
            let end = now() + READY_LIMIT;
            while flooding.load(Ordering::Relaxed) && now() < end {
                // While there is no server the kernel says so.
                let _ = client.send_to(&request(1), address);
            }
        });
        thread::sleep(Duration::from_millis(200));
        let begin = now();
        server.signal_server(signal);
        let another = || {
            let serves = server.server_id();
            (serves != first && serves != keeper && status_of(serves).is_some()).then_some(())
        };
        let back = within(READY_LIMIT, || another().and_then(|()| ask(server)));
        let took = begin.elapsed();
        flooding.store(false, Ordering::Relaxed);
        assert!(back.is_some(), "nobody answers; the log says:\n{}", server.log());
        took
    });
    assert!(status_of(keeper).is_some(), "the keeper stays");
    took
}

fn status_of(process: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    // Its first thread is a zombie as soon as it has ended, whatever the others still hold.
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?.count();
    (threads > 1 || !line(&status, "State").starts_with('Z')).then_some(status)
}

/// One request with a short wait, since the first ones go to nobody.
fn ask(server: &Server) -> Option<()> {
    let client = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    client.set_read_timeout(Some(Duration::from_millis(20))).expect("a limit above zero");
    client.connect(server.address()).expect("loopback has a way");
    client.send(&request(7)).ok()?;
    client.recv(&mut [0; 128]).ok().map(drop)
}

/// How many have wanted each processor in the last minute, at least one.
fn how_busy() -> f64 {
    let told = fs::read_to_string("/proc/loadavg").expect("the kernel tells");
    let waiting: f64 = told.split(' ').next().and_then(|first| first.parse().ok()).expect("a number");
    let processors = std::thread::available_parallelism().expect("there are some").get();
    let processors = u32::try_from(processors).expect("fewer than four thousand millions");
    (waiting / f64::from(processors)).max(1.0)
}

#[test]
fn a_server_that_is_killed_is_back_within_a_second() {
    for port in PORTS {
        let mut server = Setting::new().with(&["--port", port]).start();
        let mut times = 0;
        for (signal, reason) in [
            (Signal::SIGKILL, "signal SIGKILL"),
            (Signal::SIGABRT, "signal SIGABRT"),
            (Signal::SIGTERM, "exit status 0"),
        ] {
            // Other tests load this machine, too.
            let is_soon = (0..TRIES).any(|_| {
                // One that died at its start would have to wait.
                thread::sleep(Duration::from_millis(1_100));
                let outage = outage(&server, signal);
                println!("{port}: {signal} under load, answered again after {} ms", outage.as_millis());
                times += 1;
                let told =
                    || (server.log().matches("the server answers again").count() == times).then_some(());
                assert!(within(END_LIMIT, told).is_some(), "{}", server.log());
                // Who is told to stop drains first.
                outage < BACK_LIMIT.mul_f64(how_busy()) || signal == Signal::SIGTERM
            });
            let log = server.log();
            assert!(is_soon, "{port}: {signal}; the log says:\n{log}");
            assert!(log.contains(&format!("the server has ended by {reason}")), "{log}");
        }
        assert_eq!(server.status()["workers"].as_array().map(|workers| workers.is_empty()), Some(false));
        server.stop();
        assert_eq!(server.line(END_LIMIT), None, "`ready` was said once");
    }
}

#[test]
fn a_server_that_always_dies_is_given_up() {
    let mut server = Setting::new().start();
    let ended = within(READY_LIMIT, || {
        if server.server_id() != server.process_id() {
            server.signal_server(Signal::SIGKILL);
        }
        server.has_ended()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "{}", server.log());
    let log = server.log();
    assert!(log.contains("has ended 5 times at its start, the last time by signal SIGKILL"), "{log}");
    assert!(!server.setting.status_socket().exists());
}

#[test]
fn a_keeper_that_is_killed_takes_the_server_along() {
    let server = Setting::new().start();
    let process = server.server_id();
    assert_ne!(process, server.process_id());
    // Until it has heard that `ready` was printed it would notice by that.
    thread::sleep(Duration::from_millis(500));
    server.signal(Signal::SIGKILL);
    let gone = within(END_LIMIT, || status_of(process).is_none().then_some(()));
    assert!(gone.is_some(), "process {process} serves on without a keeper");
    // What it left is no obstacle.
    Setting::new()
        .status_at(maser::StatusSocket::Argument(server.setting.status_socket().to_owned()))
        .start()
        .stop();
}

#[test]
fn a_restart_goes_by_the_configuration_of_the_start() {
    let setting = Setting::nowhere();
    let config = setting.scratch.path("maser.toml");
    let lines = format!(
        "[server]\nlisten = [\"127.0.0.1:{}\"]\n[[source]]\ntype = \"machine\"\nstratum = 1\n",
        setting.port
    );
    fs::write(&config, lines).expect("a file can be written");
    let mut server = setting.with(&["--config", text(&config)]).start();
    fs::write(&config, "rubbish").expect("a file can be written");
    outage(&server, Signal::SIGKILL);
    server.stop();
}

/// A receiver's line and a server's name are reached through the keeper, after everything is locked down.
#[test]
fn sources_are_opened_for_the_server() {
    let setting = Setting::nowhere();
    let (config, device) = (setting.scratch.path("maser.toml"), setting.scratch.path("line"));
    let lines = format!(
        "[server]\nlisten = [\"127.0.0.1:{}\"]\n[clock]\nstate = \"{}\"\n\
         [[source]]\ntype = \"nmea\"\nname = \"gps\"\ndevice = \"{}\"\n\
         [[source]]\ntype = \"ntp\"\nname = \"named\"\naddress = \"localhost:{}\"\n",
        setting.port,
        text(&setting.scratch.path("state")),
        text(&device),
        setting.port,
    );
    fs::write(&config, lines).expect("a file can be written");
    let first = line_at(&device);
    let mut server = setting.with(&["--config", text(&config)]).start();
    let says = |word: &str| within(READY_LIMIT, || server.log().contains(word).then_some(())).is_some();
    assert!(says("gps: ") && says("line: open"), "{}", server.log());
    drop(first);
    assert!(says("hung up"), "{}", server.log());
    let second = line_at(&device);
    let is_open = || (server.log().matches("line: open").count() == 2).then_some(());
    assert!(within(READY_LIMIT, is_open).is_some(), "{}", server.log());
    // It asks itself, under a name that its own process can't look up.
    assert!(says("named: refused: localhost (127.0.0.1:"), "{}", server.log());
    drop(second);
    server.stop();
}

/// A receiver that says nothing, on a line of this path.
fn line_at(path: &Path) -> PtyMaster {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("there are ptys");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
    let _absent = fs::remove_file(path);
    symlink(ptsname_r(&master).expect("it has a name"), path).expect("a link can be made");
    master
}
