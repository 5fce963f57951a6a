//! What a service manager opens, and what a terminal does.

use crate::applied::stops;
use crate::maser::{Client, END_LIMIT, Setting, free_port, text, within};
use crate::support::request;
use crate::{MACHINE, Reloaded, serving};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;

/// What a service manager does that hands over standard input as the first socket.
const HANDING_OVER: [&str; 4] = [
    "sh",
    "-c",
    "LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec \"$@\" 3<&0 </dev/null",
    "sh",
];

#[test]
fn a_socket_that_was_opened_before_is_used_and_outlives_reloads() {
    let setting = Setting::nowhere();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, setting.port)).unwrap();
    let setting = setting.under(&HANDING_OVER).with_input(OwnedFd::from(socket.try_clone().unwrap()));
    let reloaded = Reloaded::start(setting, &serving("workers = 2"));
    let answers =
        || (1..=16).all(|last| Client::at([127, 0, 1, last].into()).ask(reloaded.server.address()).is_some());
    assert!(answers());
    reloaded.reloader.apply(&serving("workers = 1"));
    assert!(answers());
    stops(reloaded.server);
    // It is the manager's still: what comes now waits in it.
    let client = Client::at(Ipv4Addr::LOCALHOST);
    client.send(socket.local_addr().unwrap(), &request(7));
    socket.set_read_timeout(Some(END_LIMIT)).unwrap();
    assert_eq!(socket.recv(&mut [0; 64]).unwrap(), 48);
}

#[test]
fn a_socket_of_another_address_is_refused() {
    let setting = Setting::nowhere();
    let file = setting.scratch.path("maser.toml");
    std::fs::write(&file, format!("[server]\nlisten = [\"127.0.0.1:{}\"]\n{MACHINE}", setting.port)).unwrap();
    for (socket, said) in [
        (
            OwnedFd::from(UdpSocket::bind(("127.0.0.1", free_port())).unwrap()),
            "neither server.listen nor smear.listen",
        ),
        (OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap()), "not a bound UDP socket"),
    ] {
        let refusing =
            Setting::nowhere().under(&HANDING_OVER).with(&["--config", text(&file)]).with_input(socket);
        let finished = refusing.refused(END_LIMIT);
        assert!(finished.errors.contains(said), "{}", finished.errors);
    }
}

/// Nobody is left who could look at it or end it.
#[test]
fn a_terminal_that_goes_takes_the_server_along() {
    let pty = nix::pty::openpty(None, None).unwrap();
    // Nobody else has the other end.
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    let setting = Setting::nowhere().listening_at("127.0.0.1");
    let setting = setting.under(&["setsid", "--ctty", "--"]).with_input(pty.slave);
    let mut server = setting.start();
    assert!(Client::at(Ipv4Addr::LOCALHOST).ask(server.address()).is_some());
    drop(pty.master);
    let ended = within(END_LIMIT, || server.has_ended());
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}: {}", server.log());
}
