use super::broker::Broker;
use super::interfaces::Interfaces;
use super::loaded::{Loaded, Loads};
use super::outlets::Outlets;

use super::process::{Ended, Running, START_MAX};
use super::restarts::Restarts;
use super::{Keeper, Role, now};
use crate::cli::ServeArguments;
use crate::config::{self, AccessKind, Config};
use crate::hands::Hands;
use crate::hands::ask::{self, Answer, Ask, Turn};
use crate::hands::fault::Fault;
use crate::hands::kept_state::KEPT_OCTETS_MAX;
use crate::sockets::Sockets;
use crate::state::StateDirectory;
use maser_sys::handover::Channel;
use maser_sys::seccomp::Needs;
use maser_sys::serial::{Heard, SerialLine};
use nix::pty::openpty;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// Names the directory of the test for the process that is locked down; "free DIRECTORY" for one that isn't.
const PLACE: &str = "MASER_TEST_LOCKED_DOWN";

const DOCUMENT: &str = r#"{"version":2,"written_unix_s":1795000000,"counter":"tsc","nominal_hz":1e9,"ticks_per_true_s":1e9,
"frequency_sd":1e-8,"jitter_s":1e-7,"wander_per_sqrt_s":1e-10,"noise_samples":100.0,"shown":[[0,0,0],[0,0,0],[0,0,0],[0,0,0],[0,0,0],
[0,0,0],[0,0,0],[0,0,0],[0,0,0],[0,0,0],[0,0,0],[0,0,0]]}"#;

fn configuration(place: &Path) -> Config {
    let place = place.display();
    let text = format!(
        "[clock]\nstate = \"{place}/state\"\nleap_file = \"{place}/leaps\"\n\
         [access]\ndeny_file = \"{place}/leaps\"\n\
         [[source]]\ntype = \"nmea\"\ndevice = \"{place}/line\"\n\
         [[source]]\ntype = \"gpsd\"\nsocket = \"{place}/gps.sock\"\n"
    );
    config::parse(&text).unwrap()
}

/// Runs [`inside`] in a process of its own, and is its keeper until it ends; whether it ended well.
fn kept(place: &Path, mark: &str) -> bool {
    let (ours, theirs) = Channel::pair().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "keeper::tests::inside", "--ignored", "--test-threads=1"]);
    command.env(PLACE, format!("{mark}{}", place.display())).stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // So that the end of the child closes the channel.
    drop(command);
    let config = configuration(place);
    let mut broker = Broker::new(&config);
    while let Ok(asked) = ask::receive_ask(&ours) {
        let (answer, descriptor): (Result<Answer, Fault>, _) = match broker.answer(&config, asked) {
            Ok((answer, descriptor)) => (Ok(answer), descriptor),
            Err(fault) => (Err(fault), None),
        };
        let with = descriptor.as_ref().map(std::os::fd::AsFd::as_fd);
        ask::send(&ours, &answer, with).unwrap();
    }
    // With it what is kept gets to the disk.
    drop(broker);
    child.wait().unwrap().success()
}

#[test]
fn a_process_that_is_locked_down_opens_nothing_and_lacks_nothing() {
    let place = std::env::temp_dir().join(format!("maser-locked-down-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("leaps"), "first").unwrap();
    let pty = openpty(None, None).unwrap();
    std::os::unix::fs::symlink(nix::unistd::ttyname(&pty.slave).unwrap(), place.join("line")).unwrap();
    let mut receiver = File::from(pty.master);
    receiver.write_all(b"$GPRMC").unwrap();
    assert!(kept(&place, ""), "in the process that is locked down");
    let written = StateDirectory::open(&place.join("state")).unwrap().read().unwrap().unwrap();
    assert_eq!(written, serde_json::from_str(DOCUMENT).unwrap());
    assert!(!place.join("gps.sock").exists(), "the keeper's end takes the socket's file along");
    assert!(!kept(&place, "free "), "who isn't locked down opens what it shouldn't, and that is seen");
    fs::remove_dir_all(&place).unwrap();
}

/// Not a test of its own: [`kept`] runs it.
#[test]
#[ignore = "it locks its process down"]
fn inside() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let hands = Hands::of_keeper(Channel::of_standard_input().unwrap());
    let place = match place.strip_prefix("free ") {
        Some(place) => place.to_owned(),
        None => {
            hands.lock_down(&Needs::default());
            place
        }
    };
    let place = PathBuf::from(place);
    nothing_can_be_opened(&place);
    // A thread that starts later is no freer.
    std::thread::spawn(move || {
        nothing_can_be_opened(&place);
        everything_is_opened(&hands, &place);
    })
    .join()
    .unwrap();
}

fn nothing_can_be_opened(place: &Path) {
    let refused = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    refused(File::open("/dev/null").unwrap_err());
    refused(File::create(place.join("new")).unwrap_err());
    refused(fs::remove_file(place.join("leaps")).unwrap_err());
    refused(fs::metadata("/").unwrap_err());
    refused(Command::new("true").spawn().unwrap_err());
    refused(TcpListener::bind("127.0.0.1:0").unwrap_err());
    refused(UnixStream::pair().unwrap_err());
    refused(UnixDatagram::unbound().unwrap_err());
    refused(UnixListener::bind(place.join("listener")).unwrap_err());
    refused(maser_sys::clock_watch::ClockWatch::new().unwrap_err());
    refused(nix::ifaddrs::getifaddrs().map(drop).unwrap_err().into());
    refused(nix::sys::signal::kill(nix::unistd::getppid(), None).unwrap_err().into());
    refused(maser_sys::handover::Channel::pair().unwrap_err());
    // Ping's socket has datagrams, too; a raw one and a packet socket take a capability besides.
    let flags = SockFlag::empty();
    refused(socket(AddressFamily::Inet, SockType::Datagram, flags, SockProtocol::Icmp).unwrap_err().into());
    refused(socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::Udp).unwrap_err().into());
    refused(socket(AddressFamily::Packet, SockType::Datagram, flags, None).unwrap_err().into());
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.send_to(b"served", socket.local_addr().unwrap()).unwrap();
    let mut octets = [0; 6];
    assert_eq!(socket.recv(&mut octets).unwrap(), 6);
}

fn everything_is_opened(hands: &Hands, place: &Path) {
    // What is named here doesn't matter: the keeper goes by its own configuration.
    let elsewhere = Path::new("/etc/passwd");
    let mut line = SerialLine::of_file(hands.open_line(0, elsewhere).unwrap(), Some(9_600)).unwrap();
    assert!(matches!(
        line.read(&mut [0; 9], Duration::from_millis(50)).unwrap(),
        Heard::Silence | Heard::Octets(_)
    ));
    assert!(hands.open_line(1, elsewhere).is_err(), "of another kind");

    let kept = hands.state(Some(elsewhere)).unwrap();
    assert_eq!((kept.file, kept.text), (place.join("state/clock.json"), Ok(None)));
    hands.save_state(DOCUMENT.to_owned()).unwrap();
    assert!(hands.save_state("rubbish".to_owned()).is_err());

    let read = || {
        let (mut file, identity) = hands.leap_file(elsewhere).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        (text, identity)
    };
    let (text, identity) = read();
    assert_eq!((text.as_str(), identity), ("first", read().1));
    let (_, denied) = hands.access_file(AccessKind::Deny, elsewhere).unwrap();
    assert_eq!(denied, identity, "here the same file is both");
    assert!(hands.access_file(AccessKind::Allow, elsewhere).is_err(), "none is named");

    let samples = hands.bind_gpsd(1, elsewhere).unwrap();
    assert!(hands.is_gpsd_current(1, elsewhere) && !hands.is_gpsd_current(0, elsewhere));
    drop(samples);
    assert!(hands.bind_gpsd(1, elsewhere).is_ok(), "the same once more");
    assert!(hands.own_addresses().contains(&Ipv4Addr::LOCALHOST.into()));
    assert!(hands.resolve(0, "localhost", 123).is_err(), "a line has no name");
}

/// Tells a process to panic in a thread: "server" as a server does, anything else as Rust does.
const PANIC: &str = "MASER_TEST_PANIC";

#[test]
fn a_panic_in_any_thread_ends_the_process() {
    let ended_by = |who: &str| {
        let test = std::env::current_exe().unwrap();
        let mut command = Command::new(test);
        command.args(["--ignored", "--exact", "keeper::tests::panicking"]).env(PANIC, who);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        status.signal().map(|number| Signal::try_from(number).unwrap())
    };
    assert_eq!(ended_by("server"), Some(Signal::SIGABRT));
    assert_eq!(ended_by("another"), None, "without the server's hook the thread alone ends");
}

/// Not a test of its own: [`a_panic_in_any_thread_ends_the_process`] runs it.
#[test]
#[ignore = "it ends its process"]
fn panicking() {
    let Ok(who) = std::env::var(PANIC) else { return };
    if who == "server" {
        super::serving::die_of_panics();
    }
    assert!(std::thread::spawn(|| panic!("as planted")).join().is_err());
}

/// A keeper of a server that does nothing for a minute, and the server's end of the channel.
#[expect(clippy::zombie_processes, reason = "it is waited for by its number")]
fn keeper(config: Config) -> (Keeper, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    let child = Command::new("sleep").arg("60").spawn().unwrap();
    let process = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let loaded = Rc::new(Loaded { text: None, config, cores: vec![0] });
    let server = Running {
        process,
        loaded: Rc::clone(&loaded),
        channel: Some(ours),
        started: now(),
        ready: None,
        is_killed: false,
    };
    let keeper = Keeper {
        signals: SignalFd::new(&SigSet::empty()).unwrap(),
        arguments: ServeArguments::default(),
        loads: Loads::new(None),
        sockets: Sockets::default(),
        table: None,
        key: [0; 2],
        reload_wanted: false,
        reload: None,
        retiring: None,
        outlets: Outlets::default(),
        interfaces: Interfaces::default(),
        nics: super::nics::Nics::default(),
        looked: now(),
        renew_wanted: false,
        renewing: None,
        broker: Broker::new(&loaded.config),
        loaded,
        server: Some(server),
        start_at: None,
        has_been_ready: false,
        stopping: None,
        restarts: Restarts::default(),
    };
    (keeper, theirs)
}

impl Keeper {
    /// The signal that has ended the server; none while it lives.
    fn ended_by(&mut self, flags: Option<WaitPidFlag>) -> Option<Signal> {
        let status = waitpid(self.server.as_ref().unwrap().process, flags).unwrap();
        let (_, ended) = Ended::of(status)?;
        self.server = None;
        let Ended::Signal(signal) = ended else { panic!("{ended}") };
        Some(signal)
    }

    fn is_well(&mut self) -> bool {
        self.ended_by(Some(WaitPidFlag::WNOHANG)).is_none()
    }
}

#[test]
fn a_server_that_asks_for_something_unknown_is_killed() {
    for octets in [&b"{\"Shell\":\"true\"}"[..], b"\xFF", b"\"Read", b"null"] {
        let (mut keeper, server) = keeper(Config::default_run());
        ask::send(&server, &Ask::OwnAddresses, None).unwrap();
        keeper.answer(Role::Serving);
        assert!(keeper.is_well(), "after a question that there is");
        server.send(octets, &[]).unwrap();
        keeper.answer(Role::Serving);
        assert_eq!(keeper.ended_by(None), Some(Signal::SIGKILL), "{octets:?}");
    }
}

#[test]
fn a_server_that_closes_its_channel_is_left_to_end_by_itself() {
    let (mut keeper, server) = keeper(Config::default_run());
    drop(server);
    keeper.answer(Role::Serving);
    assert!(keeper.server.as_ref().unwrap().channel.is_none() && keeper.is_well());
}

#[test]
fn a_server_that_is_never_ready_is_killed_and_one_that_was_is_not() {
    let (mut keeper, server) = keeper(Config::default_run());
    let begun = |keeper: &mut Keeper, ago: Duration| {
        keeper.server.as_mut().unwrap().started = now().saturating_sub(ago);
        keeper.kill_if_overdue();
    };
    begun(&mut keeper, START_MAX.saturating_sub(Duration::from_secs(5)));
    assert!(keeper.is_well(), "it has 5 s left");
    ask::send(&server, &Ask::Turn(Turn::Ready), None).unwrap();
    keeper.answer(Role::Serving);
    begun(&mut keeper, START_MAX);
    assert!(keeper.is_well(), "it was ready");
    keeper.server.as_mut().unwrap().ready = None;
    begun(&mut keeper, START_MAX);
    assert_eq!(keeper.ended_by(None), Some(Signal::SIGKILL));
}

#[test]
fn interfaces_that_change_at_a_start_are_handed_over_once_the_server_is_ready() {
    let (mut keeper, server) = keeper(Config::default_run());
    keeper.renew_wanted = true;
    keeper.renew_if_wanted();
    assert!(
        keeper.is_well() && keeper.renewing.is_none(),
        "it isn't ready, so nobody would answer meanwhile"
    );
    ask::send(&server, &Ask::Turn(Turn::Ready), None).unwrap();
    keeper.answer(Role::Serving);
    assert!(keeper.renewing.is_some());
    assert_eq!(keeper.ended_by(None), Some(Signal::SIGTERM));
}

#[test]
fn an_answer_that_no_message_can_hold_is_refused_in_words() {
    let place = std::env::temp_dir().join(format!("maser-long-state-{}", std::process::id()));
    fs::create_dir_all(place.join("state")).unwrap();
    let file = place.join("state/clock.json");
    let answered = |octets: usize| {
        let (mut keeper, server) = keeper(configuration(&place));
        // JSON takes six octets for each of these.
        fs::write(&file, "\u{1}".repeat(octets)).unwrap();
        ask::send(&server, &Ask::State, None).unwrap();
        keeper.answer(Role::Serving);
        assert!(keeper.is_well());
        let (answer, _): (Result<Answer, Fault>, _) = ask::receive(&server).unwrap();
        answer
    };
    assert!(matches!(answered(KEPT_OCTETS_MAX / 8), Ok(Answer::State(_))));
    assert_eq!(answered(KEPT_OCTETS_MAX).unwrap_err().to_string(), "the answer is too long");
    assert!(matches!(answered(KEPT_OCTETS_MAX + 1), Ok(Answer::State(kept)) if kept.text.is_err()));
    fs::remove_dir_all(&place).unwrap();
}
