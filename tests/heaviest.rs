//! `maser clients` of a running server: who asks the most is named, with what they got, in the order that is asked for; and
//! counted anew by a server that takes another's place.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "daemon/maser.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod maser;
#[allow(dead_code, reason = "of the peers' rig only what starts and reads processes is used here")]
mod peers;
mod support;

use maser::{Client, END_LIMIT, Finished, READY_LIMIT, Scratch, Server, Setting, finish, now, within};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// How often each of these asks; their neighbours, once each.
const ASKED: [(Ipv4Addr, u64); 3] = [
    (Ipv4Addr::new(127, 3, 0, 1), 300),
    (Ipv4Addr::new(127, 2, 0, 1), 200),
    (Ipv4Addr::new(127, 2, 0, 2), 150),
];
const NEIGHBOURS: u8 = 200;

/// `maser clients` for this server.
fn ask(server: &Server, arguments: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maser"));
    command.arg("clients").arg("--status-socket").arg(server.setting.status_socket()).args(arguments);
    let scratch = Scratch::new();
    finish(command, &scratch, READY_LIMIT)
}

fn told(server: &Server, arguments: &[&str]) -> Value {
    let Finished { code, output, errors } = ask(server, &[&["--json"], arguments].concat());
    assert_eq!(code, Some(0), "{errors}");
    serde_json::from_str(&output).unwrap()
}

/// Asks as all of them, in turns, each reply awaited; not so fast that a part only would be looked at.
fn crowd(server: &Server) -> u64 {
    let mut sent = 0;
    let mut ask = |address: Ipv4Addr, times: u64| {
        let client = Client::at(address);
        for _ in 0..times {
            assert!(client.ask(server.address()).is_some(), "{address} gets a reply");
            sent += 1;
        }
    };
    for turn in 0..50 {
        thread::sleep(Duration::from_millis(5));
        for (address, times) in ASKED {
            ask(address, times / 50);
        }
        for neighbour in (0..NEIGHBOURS).filter(|neighbour| neighbour % 50 == turn) {
            ask(Ipv4Addr::new(127, 4, 0, neighbour), 1);
        }
    }
    sent
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|client| client["client"].as_str().unwrap()).collect()
}

/// A client asks again that has waited too long on a busy machine.
fn is_nearly(count: &Value, asked: u64) -> bool {
    (asked..=asked + 3).any(|asked| *count == serde_json::json!(f64::from(u32::try_from(asked).unwrap())))
}

/// A server after the crowd, what it tells of the three that ask the most, how often all asked and for how many seconds. Another
/// one if who counts came to its turn so late that it looked at a part only, as it may on a busy machine.
fn looked_at_one_by_one(port: &str) -> (Server, Value, u64, f64) {
    for _ in 0..5 {
        let server = Setting::new().with(&["--port", port, "--workers", "2"]).start();
        let nobody = ask(&server, &[]);
        assert!(nobody.output.ends_with("\nnobody has asked yet\n"), "{}", nobody.output);
        let begin = now();
        let sent = crowd(&server);
        let rate = told(&server, &["--top", "3"]);
        if rate["looked_at_one_in"] == 1.0 {
            return (server, rate, sent, begin.elapsed().as_secs_f64());
        }
        println!("once more: {rate}");
    }
    panic!("never is everybody looked at");
}

#[test]
fn those_who_ask_the_most_are_named() {
    for port in ["socket", "io-uring"] {
        let (server, rate, sent, took_s) = looked_at_one_by_one(port);
        assert_eq!(names(&rate["addresses"]), ["127.3.0.1", "127.2.0.1", "127.2.0.2"], "{rate}");
        assert_eq!(names(&rate["prefixes"]), ["127.2.0.0/24", "127.3.0.0/24", "127.4.0.0/24"], "{rate}");
        assert!(is_nearly(&rate["requests"]["served"], sent), "{rate}");
        assert_eq!(rate["limiting"], false);
        for (client, (_, times)) in rate["addresses"].as_array().unwrap().iter().zip(ASKED) {
            assert!(is_nearly(&client["requests"]["served"], times), "{client}");
            assert_eq!(client["requests"]["denied"], 0.0);
            let times = f64::from(u32::try_from(times).unwrap());
            assert_eq!((&client["requests_error"], &client["rate_error"]), (&0.0.into(), &0.0.into()));
            let share = client["share"].as_f64().unwrap() * f64::from(u32::try_from(sent).unwrap()) / times;
            assert!((0.9..1.1).contains(&share), "{client}");
            // A second at least, for a lone request is no rate.
            let rate = client["rate"]["served"].as_f64().unwrap();
            assert!(rate <= 1.02 * times && rate > 0.5 * times / (took_s + 1.0), "{client} in {took_s} s");
        }
        let prefix = told(&server, &["--by", "prefix", "--top", "1"]);
        assert_eq!((names(&prefix["prefixes"]), names(&prefix["addresses"])), (vec!["127.2.0.0/24"], vec![]));
        let truncated = told(&server, &["--by", "address", "--truncate", "--top", "3"]);
        assert_eq!(names(&truncated["addresses"]), ["127.3.0.0/24", "127.2.0.0/24", "127.2.0.0/24"]);
        assert_eq!(names(&told(&server, &["--by", "kiss"])["addresses"]), Vec::<&str>::new());
        assert_eq!(names(&told(&server, &["--top", "1000"])["addresses"]).len(), 203);
        let table = ask(&server, &["--top", "2"]).output;
        assert!(table.contains("\nLimits          : off: nobody is limited; a `rate` in [limit]"), "{table}");
        assert!(table.contains("\n127.2.0.1  ") && !table.contains("127.2.0.2"), "{table}");
        println!("{port}:\n{table}");
        // What monitoring reads names nobody.
        assert!(!server.status().to_string().contains("127.2.0.1"));
    }
}

#[test]
fn a_server_that_takes_anothers_place_counts_anew() {
    let server = Setting::new().start();
    crowd(&server);
    let before = server.server_id();
    server.signal_server(Signal::SIGKILL);
    let back = within(READY_LIMIT, || {
        let is_another = server.server_id() != before && server.server_id() != server.process_id();
        let answers = is_another && Client::at(Ipv4Addr::new(127, 5, 0, 1)).ask(server.address()).is_some();
        answers.then_some(())
    });
    assert!(back.is_some(), "{}", server.log());
    let rate = told(&server, &[]);
    assert_eq!(names(&rate["addresses"]), ["127.5.0.1"], "{rate}");
    assert!(rate["for_s"].as_f64().unwrap() < READY_LIMIT.as_secs_f64(), "{rate}");
}

/// The answer to these octets, if any comes.
fn answer(server: &Server, question: &[u8]) -> String {
    let mut stream = UnixStream::connect(server.setting.status_socket()).unwrap();
    stream.set_read_timeout(Some(END_LIMIT)).unwrap();
    stream.write_all(question).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_status_socket_answers_who_asks_nothing_and_nobody_who_asks_nonsense() {
    let server = Setting::new().start();
    assert!(answer(&server, b"").starts_with("{\"version\""), "without a word, the end left open");
    assert!(answer(&server, b"clients rate 5\n").starts_with("{\"for_s\""));
    for nonsense in [&b"clients rate 100000\n"[..], b"\xff\0", b"GET / HTTP/1.1\r\n\r\n"] {
        assert_eq!(answer(&server, nonsense), "");
    }
    // More than is read: the connection may be reset, and the server serves on.
    let mut stream = UnixStream::connect(server.setting.status_socket()).unwrap();
    stream.write_all(&[b'c'; 1_000]).unwrap();
    thread::sleep(Duration::from_millis(100));
    assert!(answer(&server, b"").starts_with("{\"version\""));
}
