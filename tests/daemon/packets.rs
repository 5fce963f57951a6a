//! What is answered, from where, and how it is counted.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::maser::{Client, END_LIMIT, Finished, Server, Setting, finish, is_root_or_skip, works_or_skip};
use crate::peers::skip;
use crate::support::{ReplyView, request};

const ADDRESSES: u8 = 20;
const PORTS_PER_ADDRESS: u64 = 20;

/// Asks the address of a server in another network namespace that is given, from the one that is given, and prints
/// where the reply comes from.
const ASK_FROM: &str = "import socket, sys
client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
client.settimeout(2)
client.bind((sys.argv[1], 0))
client.sendto(b'\\x23' + bytes(47), (sys.argv[2], int(sys.argv[3])))
print(client.recvfrom(100)[1][0])";

/// The counters of a group that aren't zero, all workers together.
fn counted(status: &Value, group: &str) -> Value {
    let mut sums = serde_json::Map::new();
    for worker in workers(status) {
        for (name, count) in worker[group].as_object().expect("counters by name") {
            let count = count.as_u64().expect("a count");
            let sum = sums.get(name).and_then(Value::as_u64).unwrap_or(0) + count;
            if sum > 0 {
                sums.insert(name.clone(), sum.into());
            }
        }
    }
    sums.into()
}

fn workers(status: &Value) -> &[Value] {
    status["workers"].as_array().expect("a list of workers")
}

/// The requests that each worker answered.
fn answered(status: &Value) -> Vec<u64> {
    workers(status).iter().map(|worker| worker["answers"]["answered"].as_u64().expect("a count")).collect()
}

#[test]
fn ready_means_answering_and_the_status_says_what_the_replies_said() {
    for port in ["socket", "io-uring"] {
        let mut server = Setting::new().with(&["--port", port]).start();
        let client = Client::at(Ipv4Addr::LOCALHOST);
        let (reply, from) = client.ask(server.address()).expect("the first request is answered");
        assert_eq!(from, server.address());
        send_garbage(&client, &server);
        for _ in 0..100 {
            client.ask(server.address()).expect("a reply");
        }
        let status = server.status();
        assert_eq!(counted(&status, "answers"), json!({ "answered": 101 }), "{port}");
        let drops = json!({ "too-short": 7, "mode-control": 5, "version": 3, "unaligned": 2 });
        assert_eq!(counted(&status, "drops"), drops, "{port}");
        let residence: u64 = workers(&status)
            .iter()
            .map(|worker| worker["residence"]["count"].as_u64().expect("a count"))
            .sum();
        assert_eq!(residence, 101, "{port}: each answer has a residence");
        assert_says_the_same(&status, &reply);
        assert_eq!(status["ports"][0]["rung"], port);
        assert_eq!(status["ports"][0]["why"], "asked for by name");
        assert_eq!(status["ports"][0]["listen"], server.address().to_string());
        assert_table_says_the_same(&server, &status);
        server.stop();
    }
}

/// Nothing here is answered; what follows it from the same client is, after all of it was counted.
fn send_garbage(client: &Client, server: &Server) {
    let with_first = |first: u8| [&[first][..], &[0; 47]].concat();
    let garbage = [(7, vec![0x23; 47]), (5, with_first(0x26)), (3, with_first(0x2B)), (2, vec![0x23; 49])];
    for (times, message) in garbage {
        for _ in 0..times {
            client.send(server.address(), &message);
        }
    }
}

fn assert_says_the_same(status: &Value, reply: &ReplyView) {
    let short = |bits: u32| f64::from(bits) / 65_536.0;
    assert_eq!(status["stratum"], reply.stratum);
    assert_eq!(status["reference_id"], Ipv4Addr::from(reply.reference_id).to_string());
    assert_eq!((reply.leap, status["leap"].as_str()), (0, Some("none")));
    assert!(["local", "synchronised"].contains(&status["state"].as_str().expect("a word")), "{status}");
    let seconds = |name: &str| status[name].as_f64().expect("seconds");
    assert!((seconds("root_delay_s") - short(reply.root_delay)).abs() < 1e-9);
    // It goes up and down with each reading; the field's unit is 15 us, rounded up.
    assert!((seconds("root_dispersion_s") - short(reply.root_dispersion)).abs() < 1e-3, "{status}");
    assert!(seconds("uptime_s") > 0.0);
    assert!(status["reference_time"].is_string());
    for worker in workers(status) {
        for field in ["count", "p50_ns", "p99_ns", "p999_ns", "max_ns"] {
            assert!(worker["residence"][field].is_u64(), "{field}");
        }
    }
}

/// The table for people has the same figures, whatever its spacing.
fn assert_table_says_the_same(server: &Server, status: &Value) {
    let Finished { code, output, errors } = server.ask_status(&[]);
    assert_eq!(code, Some(0), "{errors}");
    let lines: Vec<_> =
        output.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let listen = server.address();
    let (rung, why) = (&status["ports"][0]["rung"], &status["ports"][0]["why"]);
    let bare = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for expected in [
        format!("State : {}", bare(&status["state"])),
        format!("Stratum : {}", status["stratum"]),
        format!("Reference id : {}", bare(&status["reference_id"])),
        "Leap : none".to_owned(),
        format!("{listen} {} {}", bare(rung), bare(why)),
    ] {
        assert!(lines.contains(&expected), "no line `{expected}` in:\n{output}");
    }
    for (name, count) in [("Answers", 101), ("Drops", 17), ("too-short", 7), ("mode-control", 5)] {
        let found = lines.iter().any(|line| line.starts_with(&format!("{name} {count}")));
        assert!(found, "no `{name} {count}` in:\n{output}");
    }
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked() {
    for port in ["socket", "io-uring"] {
        let mut server =
            Setting::nowhere().listening_at("0.0.0.0").listening_at("[::]").with(&["--port", port]).start();
        let client = Client::at(Ipv4Addr::LOCALHOST);
        for asked in [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 8, 7)] {
            let (_, from) = client.ask(server.at(asked)).expect("a reply");
            assert_eq!(from, server.at(asked), "{port}");
        }
        server.stop();
    }
}

/// Of several IPv6 addresses, which loopback has only in a network namespace of its own.
#[test]
fn a_reply_leaves_from_the_address_that_was_asked_over_ipv6() {
    let name = "a_reply_leaves_from_the_address_that_was_asked_over_ipv6";
    if !is_root_or_skip(name) || !works_or_skip(name, &["unshare", "--net", "python3", "--version"]) {
        return;
    }
    let addresses = "ip link set lo up && ip address add fd6d:61::1/128 dev lo nodad && \
                     ip address add fd6d:61::2/128 dev lo nodad && exec \"$@\"";
    for port in ["socket", "io-uring"] {
        let mut server = Setting::nowhere()
            .listening_at("[::]")
            .with(&["--port", port])
            .under(&["unshare", "--net", "sh", "-c", addresses, "sh"])
            .start();
        for asked in ["fd6d:61::2", "fd6d:61::1", "::1"] {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/proc/{}/ns/net", server.process_id()));
            let to = server.setting.port.to_string();
            command.args(["python3", "-c", ASK_FROM, "fd6d:61::1", asked, &to]);
            let Finished { output, errors, .. } = finish(command, &server.setting.scratch, END_LIMIT * 5);
            assert_eq!(output.trim(), asked, "{port}: {errors}");
        }
        server.stop();
    }
}

#[test]
fn all_packets_of_an_address_meet_one_worker() {
    let name = "all_packets_of_an_address_meet_one_worker";
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skip(name, "two workers need two cores");
    }
    for port in ["socket", "io-uring"] {
        let mut server = Setting::new().with(&["--port", port, "--workers", "2"]).start();
        let mut before = answered(&server.status());
        assert_eq!(before, [0, 0]);
        for last in 1..=ADDRESSES {
            ask_from_many_ports([127, 0, 0, last].into(), server.address());
            let after = answered(&server.status());
            let mut came: Vec<u64> =
                after.iter().zip(&before).map(|(after, before)| after - before).collect();
            came.sort_unstable();
            assert_eq!(came, [0, PORTS_PER_ADDRESS], "{port}: requests from 127.0.0.{last} at each worker");
            before = after;
        }
        println!("{port}: answered by each worker: {before:?}");
        assert!(before.iter().all(|count| *count > 0), "{port}: one worker got everything: {before:?}");
        server.stop();
    }
}

fn ask_from_many_ports(address: Ipv4Addr, server: SocketAddr) {
    let clients: Vec<_> = (0..PORTS_PER_ADDRESS).map(|_| Client::at(address)).collect();
    for client in &clients {
        client.send(server, &request(7));
    }
    for client in &clients {
        client.reply().expect("a reply");
    }
}
