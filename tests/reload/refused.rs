//! Configurations that are wrong: each is told, and nothing has changed.

use crate::applied::stops;
use crate::maser::{Client, Finished, Setting};
use crate::{MACHINE, Reloaded, descriptors, serving};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

#[test]
fn a_wrong_configuration_changes_nothing_and_says_why() {
    let good = serving("workers = 1");
    let reloaded = Reloaded::start(Setting::nowhere(), &good);
    let server = &reloaded.server;
    // A socket of a second worker is kept; a refusal adds nothing to it.
    reloaded.reloader.apply(&serving("workers = 2"));
    reloaded.reloader.apply(&good);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let of_lists = format!("{good}\n[access]\ndeny_file = \"/nonexistent/list\"\n");
    let broken_list = server.setting.scratch.path("list");
    std::fs::write(&broken_list, "10.0.0.0/8\n10.0.0.0/99\n").unwrap();
    let listening =
        |more: &str| format!("[server]\nlisten = [\"127.0.0.1:PORT\", {more}]\n[limit]\nrate = 0\n{MACHINE}");
    let open = descriptors(server);
    let process = server.server_id();
    let port = server.setting.port;
    for (config, said) in [
        ("[server\n".to_owned(), "maser.toml:1:"),
        // More problems than a message holds.
        (
            serving(&(0..5_000).map(|number| format!("wrong{number} = 1\n")).collect::<String>()),
            "server.wrong0",
        ),
        (serving("wrokers = 1"), "wrokers"),
        (serving("workers = 0"), "workers"),
        (serving("workers = \"0,700\""), "server.workers"),
        (
            serving("interface = [\"lo\"]"),
            "server.interface: a reload doesn't take another value; restart the server",
        ),
        (serving("nic_stamps = [\"lo\"]"), "server.nic_stamps: "),
        (format!("{good}[clock]\nstate = \"/tmp\"\n[status]\nsocket = \"/tmp/s\"\n"), "clock.state"),
        (listening(&format!("\"{}\"", taken.local_addr().unwrap())), "the port is in use"),
        (listening("\"192.0.2.77:PORT\""), "no interface has this address"),
        (of_lists, "/nonexistent/list"),
        (format!("{good}\n[access]\ndeny_file = \"{}\"\n", broken_list.display()), "list:2:"),
        (format!("{good}\n[clock]\nleap_file = \"/nonexistent/leaps\"\n"), "/nonexistent/leaps"),
        (
            format!("{good}[metrics]\nlisten = [\"{}\"]\n", listener.local_addr().unwrap()),
            "another program listens there",
        ),
        // Wrong after much else was right and had been opened.
        (
            format!(
                "[server]\nlisten = [\"127.0.0.1:{port}\", \"127.0.0.3:{port}\"]\nworkers = 2\n[limit]\nrate = 5\n\
                 [metrics]\nlisten = [\"{free}\"]\n[access]\nallow_file = \"/nonexistent/list\"\n{MACHINE}"
            ),
            "/nonexistent/list",
        ),
    ] {
        let Finished { code, output, errors } = reloaded.reloader.reload(&config);
        assert_eq!((code, output.as_str()), (Some(1), ""), "{config}: {errors}");
        assert!(
            errors.contains(said) && errors.contains("refused: the server goes on as before"),
            "{said}: {errors}"
        );
        assert_eq!(server.server_id(), process, "{said}: the same process answers");
        let load = reloaded.load();
        assert!(load["refused"]["why"].as_str().unwrap().contains(said), "{said}: {load}");
        assert!(server.log().contains("reload refused: "), "{}", server.log());
        assert!(Client::at(Ipv4Addr::LOCALHOST).ask(server.address()).is_some(), "{said}");
        assert_eq!(descriptors(server), open, "{said}: nothing is left open");
    }
    let table = server.ask_status(&[]).output;
    assert!(table.contains("Configuration") && table.contains("; refused "), "{table}");
    std::fs::remove_file(&reloaded.reloader.file).unwrap();
    let Finished { code, errors, .. } = reloaded.reloader.ask();
    assert!(code == Some(1) && errors.contains("no such file"), "{errors}");
    // And then a good one.
    reloaded.reloader.apply(&good);
    assert_ne!(server.server_id(), process);
    assert_eq!(reloaded.load()["refused"], serde_json::Value::Null);
    stops(reloaded.server);
}

#[test]
fn a_server_that_is_not_there_is_told_from_a_refusal() {
    let mut reloaded = Reloaded::start(Setting::nowhere(), &serving(""));
    reloaded.server.stop();
    let Finished { code, errors, .. } = reloaded.reloader.ask();
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("maser: "), "{errors}");
}
