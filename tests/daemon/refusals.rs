//! What can't work is refused in bounded time, with words that say what to do.

use std::fs;
use std::net::Ipv4Addr;

use crate::maser::{
    Client, END_LIMIT, READY_LIMIT, Setting, StatusSocket, is_root_or_skip, text, works_or_skip,
};

#[test]
fn a_port_that_is_in_use_is_refused_and_its_owner_goes_on() {
    let mut first = Setting::new().start();
    let mut second = Setting::nowhere();
    second.port = first.setting.port;
    let errors = second.listening_at("127.0.0.1").refused(END_LIMIT * 2).errors;
    let port = first.setting.port;
    for word in
        [format!("127.0.0.1:{port}"), format!("ss -ulpn 'sport = :{port}'"), "listen elsewhere".into()]
    {
        assert!(errors.contains(&word), "no `{word}` in:\n{errors}");
    }
    let client = Client::at(Ipv4Addr::LOCALHOST);
    for _ in 0..20 {
        client.ask(first.address()).expect("the first server goes on");
    }
    first.stop();
}

#[test]
fn a_status_socket_of_a_living_server_is_refused_and_stays_its_own() {
    let mut first = Setting::new().start();
    let socket = first.setting.status_socket().to_owned();
    let second = Setting::new().status_at(StatusSocket::Argument(socket.clone()));
    let errors = second.refused(READY_LIMIT).errors;
    assert!(errors.contains(text(&socket)) && errors.contains("--status-socket"), "{errors}");
    assert_eq!(first.status()["ports"][0]["listen"], first.address().to_string());
    first.stop();
    assert!(!socket.exists());
}

#[test]
fn a_privileged_port_is_refused_to_who_may_not_have_it() {
    let name = "a_privileged_port_is_refused_to_who_may_not_have_it";
    if !is_root_or_skip(name) || !works_or_skip(name, &["unshare", "--net", "true"]) {
        return;
    }
    // In a network namespace of its own, where ports below 1024 are reserved whatever this machine says.
    let inside = ["unshare", "--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"];
    let mut setting = Setting::nowhere();
    setting.port = 123;
    let setting = setting.listening_at("127.0.0.1").under(&inside).unprivileged();
    let errors = setting.refused(READY_LIMIT).errors;
    for word in ["127.0.0.1:123", "CAP_NET_BIND_SERVICE", "ip_unprivileged_port_start"] {
        assert!(errors.contains(word), "no `{word}` in:\n{errors}");
    }
}

#[test]
fn every_error_of_a_configuration_is_told_with_its_place() {
    let setting = Setting::nowhere();
    let path = setting.scratch.path("wrong.toml");
    let lines = "[server]\nlisten = [\"localhost:123\"]\nidle = \"sometimes\"\n\n\
                 [[source]]\ntype = \"machine\"\nstratum = 16\n";
    fs::write(&path, lines).expect("a file can be written");
    let file = text(&path).to_owned();
    let errors = setting.with(&["--config", &file]).refused(READY_LIMIT).errors;
    let told: Vec<_> = errors.lines().map(|line| line.trim_start_matches("maser: ")).collect();
    assert_eq!(told.len(), 3, "{errors}");
    for (line, place) in told.iter().zip([":2:11: server.listen", ":3:8: server.idle", ":7:11: source"]) {
        assert!(line.starts_with(&format!("{file}{place}")), "{place}: {line}");
        assert!(line.contains("; expected "), "{line}");
    }
}

#[test]
fn a_configuration_is_served_as_it_is_written() {
    let setting = Setting::nowhere();
    let (path, socket) = (setting.scratch.path("maser.toml"), setting.scratch.path("from-file.sock"));
    let lines = format!(
        "[server]\nlisten = [\"127.0.0.1:{}\", \"127.0.0.2:{}\"]\nport = \"io-uring\"\nworkers = [0]\n\n\
         [status]\nsocket = \"{}\"\n\n\
         [[source]]\ntype = \"machine\"\nstratum = 1\nreference_id = \"192.0.2.9\"\n\n[local]\nstratum = 7\n\n\
         [smear]\nlisten = [\"127.0.0.3:{}\"]\nlength = \"1 h\"\n",
        setting.port,
        setting.port,
        text(&socket),
        setting.port
    );
    fs::write(&path, lines).expect("a file can be written");
    let file = text(&path).to_owned();
    let mut server =
        setting.status_at(StatusSocket::Configured(socket.clone())).with(&["--config", &file]).start();
    let status = server.status();
    // Whether this machine's clock is kept by anybody isn't ours to say.
    let (state, stratum) = (status["state"].as_str(), status["stratum"].as_u64());
    assert!(
        [(Some("synchronised"), Some(2)), (Some("local"), Some(7))].contains(&(state, stratum)),
        "{status}"
    );
    for address in [1, 2, 3].map(|host| Ipv4Addr::new(127, 0, 0, host)) {
        let (reply, from) = Client::at(Ipv4Addr::LOCALHOST).ask(server.at(address)).expect("a reply");
        assert_eq!((Some(u64::from(reply.stratum)), from), (stratum, server.at(address)));
        let named = if state == Some("local") { [127, 127, 1, 1] } else { [192, 0, 2, 9] };
        assert_eq!(reply.reference_id, named);
    }
    assert_eq!(status["workers"].as_array().map(Vec::len), Some(1));
    assert_eq!(status["ports"].as_array().map(Vec::len), Some(2));
    assert!(
        status["ports"].as_array().is_some_and(|ports| ports.iter().all(|port| port["rung"] == "io-uring"))
    );
    server.stop();
    assert!(!socket.exists());
}
