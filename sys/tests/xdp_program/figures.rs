//! What the program costs, by `BPF_PROG_TEST_RUN`. It is no test:
//!
//! ```text
//! cargo test --release -p maser-sys --test xdp_program -- --ignored --nocapture figures
//! ```

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use maser_core::limit::access::Standing;
use maser_sys::access_tries::AccessTries;
use maser_sys::driver_limits::{DriverLimits, DriverRate, DriverSettings};

use crate::limits::{Limited, SETTINGS, entry_due_in};
use crate::oracle::frame::{Wrapping, wrap};
use crate::rig::{Rig, ip4, ip4_wrapping, ip6, message, tag, test_run};

const REPEAT: i32 = 1_000_000;
const ROUNDS: usize = 5;

fn heading() {
    println!("ns a frame, {REPEAT} runs, {ROUNDS} rounds: median [least, most]");
}

fn figure(rig: &Rig, name: &str, frame: &[u8]) {
    let mut rounds = [0; ROUNDS];
    rounds.fill_with(|| test_run(&rig.program, frame, &mut [0; 300], REPEAT).2);
    rounds.sort_unstable();
    println!("{name:40} {:4} [{}, {}]", rounds[ROUNDS / 2], rounds[0], rounds[ROUNDS - 1]);
}

#[test]
#[ignore = "prints figures and tests nothing"]
fn figures() {
    let Some(rig) = Rig::new() else { return };
    let changed = |at: usize, octet| {
        let mut frame = ip4();
        frame[at] = octet;
        frame
    };
    let two = vec![tag(0x88A8, 200), tag(0x8100, 300)];
    let frames = [
        ("IPv4 request", ip4()),
        ("IPv6 request", ip6()),
        ("IPv4 request under two tags", wrap(&message(), &Wrapping { tags: two, ..ip4_wrapping() })),
        ("UDP to another port", changed(37, 124)),
        ("TCP", changed(23, 6)),
        ("to another station", changed(5, 9)),
        ("broadcast", changed(0, 0xFF)),
    ];
    heading();
    for (name, frame) in frames {
        figure(&rig, name, &frame);
    }
}

/// One address and the same set each time: all of it is in the cache.
#[test]
#[ignore = "prints figures and tests nothing"]
fn figures_of_limits() {
    let Some(limited) = Limited::new() else { return };
    let rig = &limited.rig;
    heading();
    figure(rig, "off: IPv4 request", &ip4());
    let limits = |lists| limited.limits.set(Some(&DriverSettings { lists, ..SETTINGS }));
    for lists in [false, true] {
        limits(lists);
        let with = if lists { "no list" } else { "lists left alone" };
        figure(rig, &format!("{with}: IPv4 request"), &ip4());
        figure(rig, &format!("{with}: IPv6 request"), &ip6());
    }
    figure(rig, "hopeless", &wrap(&[0x16; 48], &ip4_wrapping()));
    let mut tries = AccessTries::from_fds(rig.shared.sources_maps().unwrap()).unwrap();
    let bogons = [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "192.0.2.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/8",
        "100::/64",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
        "ff00::/8",
    ];
    let mut prefixes: Vec<_> = bogons
        .iter()
        .map(|text| {
            let (address, length) = text.split_once('/').unwrap();
            (address.parse::<IpAddr>().unwrap(), length.parse().unwrap(), Standing::Bogon)
        })
        .collect();
    tries.replace(&prefixes).unwrap();
    figure(rig, "12 bogons: IPv4 request", &ip4());
    figure(rig, "12 bogons: IPv6 request", &ip6());
    for number in 0..10_000_u32 {
        let address = std::net::Ipv4Addr::from_bits(number.wrapping_mul(0x9E37_79B1));
        prefixes.push((address.into(), 24, Standing::Allowed));
    }
    tries.replace(&prefixes).unwrap();
    figure(rig, "10,012 prefixes: IPv4 request", &ip4());
    prefixes.push(("198.51.100.0".parse().unwrap(), 24, Standing::Denied));
    tries.replace(&prefixes).unwrap();
    figure(rig, "10,013 prefixes: denied", &ip4());
    tries.replace(&[]).unwrap();
    let source = "198.51.100.7".parse().unwrap();
    limited.put(source, 4, entry_due_in(Duration::from_millis(500)));
    figure(rig, "known, within its limit", &ip4());
    // An entry that stays far over the limit for as long as this takes.
    let interval = 60_000_000_000 / 4096;
    limited
        .limits
        .set(Some(&DriverSettings { rate: Some(DriverRate { interval, burst: interval }), ..SETTINGS }));
    limited.put(source, 4, entry_due_in(Duration::from_secs(60)));
    figure(rig, "over its limit", &ip4());
    limited.table.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    let again = DriverLimits::from_fd(rig.program.limits_map().unwrap()).unwrap();
    again.floor_of(0).set(1 << 16);
    figure(rig, "a stranger in overload", &ip4());
}
