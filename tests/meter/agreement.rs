//! One number, three who count it: maser-load, the server, the kernel of the server's host.

use std::fs;

use serde_json::Value;

use crate::load::{count, document, maser_load};
use crate::maser::text;
use crate::peers::rig::{Family, Rig};
use crate::peers::skip;

/// A counter of the server's status, over its workers.
fn served(status: &Value, group: &str) -> u64 {
    let workers = status["workers"].as_array().expect("workers");
    let counters = workers.iter().flat_map(|worker| worker[group].as_object().expect("counters").values());
    counters.map(|value| value.as_u64().expect("a count")).sum()
}

/// UDP datagrams that the host of a process has received, by its kernel.
fn received_by_kernel(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/net/snmp")).expect("the process runs");
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let names: Vec<_> = lines.next().expect("names").split_whitespace().collect();
    let values: Vec<_> = lines.next().expect("values").split_whitespace().collect();
    let place = names.iter().position(|name| *name == "InDatagrams").expect("this counter");
    values[place].parse().expect("a number")
}

#[test]
fn the_meter_the_server_and_the_kernel_count_the_same() {
    let rig = match Rig::new(Family::Ipv4) {
        Ok(rig) => rig,
        Err(reason) => return skip("the_meter_the_server_and_the_kernel_count_the_same", &reason),
    };
    let socket = rig.directory().join("status.sock");
    let maser = env!("CARGO_BIN_EXE_maser");
    let listen = rig.listen();
    let server = rig
        .serve(&[maser, "serve", "--listen", &listen, "--limit", "off", "--status-socket", text(&socket)])
        .expect("maser serves");
    let (program, before) = (maser_load(), received_by_kernel(server.id()));
    let (mut sent, mut received, mut silent) = (0, 0, 0);
    for words in [
        "--mix pool --rate 20k --sender udp",
        "--mix pool --rate 20k --sender packet",
        "--mix garbage --rate 5k --sender udp",
        "--mix monlist --rate 5k --sender packet",
        "--mix w32time --rate 5k --sender udp",
    ] {
        let mut command =
            vec![text(&program), "fixed", rig.server_address(), "--time", "1", "--json", "--quiet"];
        command.extend(words.split(' '));
        let run = document(rig.on_client_host(&command));
        assert_eq!(count(&run, "invalid") + count(&run, "duplicate"), 0, "{run}");
        sent += count(&run, "sent");
        received += count(&run, "received");
        silent += count(&run, "silence_expected");
        if words.contains("packet") {
            // The plain request by which it learns the way.
            sent += 1;
            received += 1;
        }
    }
    let status = std::process::Command::new(maser)
        .args(["status", "--json", "--status-socket", text(&socket)])
        .output()
        .expect("maser status runs");
    let status: Value = serde_json::from_slice(&status.stdout).expect("a document");
    let (answered, dropped) = (served(&status, "answers"), served(&status, "drops"));
    let by_kernel = received_by_kernel(server.id()) - before;
    crate::peers::log(&format!(
        "sent {sent}: the kernel received {by_kernel}, the server answered {answered} and dropped {dropped}; replies {received}"
    ));
    assert_eq!(answered + dropped, sent, "{status}");
    assert_eq!(by_kernel, sent);
    assert_eq!((received, silent), (answered, dropped), "{status}");
}
