//! What becomes of the server when its receiver goes, comes back, or sends what a bad cable would: no reply is ever wrong.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::double::{Double, pps_device};
use crate::maser::{Client, Scratch, Server};
use crate::pulses::device;
use crate::receiver::{Receiver, Truth};
use crate::served::{
    Found, PPM, SETTLED, ask, expect_honest, is_held, lock, offset_micros, offsets, serve_on, wait_until,
};
use crate::{is_counted_or_skip, measured, stop};

/// A receiver is away for so long.
const AWAY_S: u64 = 240;

/// The double whose pulses are those of the receiver's seconds, and that the receiver has none of its own.
fn pulses_of(receiver: &Receiver) -> Double {
    receiver.faults.mute.store(true, Ordering::Relaxed);
    let begins = receiver.truth.next_second_raw_ns();
    Double::load("maser_pps", &format!("ppb={} edge_raw_ns={begins}", PPM * 1_000))
}

/// A server that holds on the double's pulses.
fn settled(scratch: &Scratch) -> (Receiver, Double, Server) {
    let receiver = Receiver::start(PPM);
    let pulses = pulses_of(&receiver);
    let server = serve_on(scratch, "nmea", &pps_device().unwrap());
    lock(&server);
    thread::sleep(SETTLED);
    (receiver, pulses, server)
}

fn bound_s(server: &Server) -> f64 {
    server.status()["tracking"]["root_distance_s"].as_f64().expect("it is a number")
}

/// Asks once a second for so long; a reply that says it doesn't know isn't in it.
fn watch(server: &Server, truth: &Truth, seconds: u64) -> Vec<Found> {
    let client = Client::at([127, 0, 0, 1].into());
    let ask = |_| {
        thread::sleep(Duration::from_secs(1));
        ask(&client, server, truth)
    };
    (0..seconds).filter_map(ask).collect()
}

/// What replies said for some seconds, which has to be true.
fn hold(what: &str, server: &Server, truth: &Truth, seconds: u64) -> usize {
    let (found, unsynchronised) = offsets(server, truth, seconds);
    let state = &server.status()["state"];
    measured(&format!("{what}: {state}, off by {}; {unsynchronised} unsynchronised", offset_micros(&found)));
    expect_honest(what, server, &found);
    assert!(is_held(&found), "{what}: {found:?}; the log says:\n{}", server.log());
    unsynchronised
}

fn is_in(state: &'static str) -> impl Fn(&Value) -> bool {
    move |status| status["state"] == state
}

#[test]
fn a_receiver_that_is_unplugged_leaves_holdover_and_comes_back() {
    if !is_counted_or_skip("a receiver that is unplugged") {
        return;
    }
    let scratch = Scratch::new();
    let receiver = Receiver::start(PPM);
    let mut server = serve_on(&scratch, "nmea", &device());
    lock(&server);
    thread::sleep(SETTLED);
    let set = |is| {
        receiver.faults.mute.store(is, Ordering::Relaxed);
        receiver.faults.speechless.store(is, Ordering::Relaxed);
    };
    set(true);
    let noticed = wait_until(&server, "in holdover", is_in("holdover"));
    let shown = server.ask_status(&[]);
    assert!(shown.output.contains("holdover"), "{}", shown.output);
    let first_s = bound_s(&server);
    let found = watch(&server, &receiver.truth, AWAY_S);
    let last_s = bound_s(&server);
    let worst_ns = found.iter().map(|found| found.offset_ns.abs()).max().unwrap();
    measured(&format!(
        "unplugged: holdover after {:.1} s; after {AWAY_S} s the bound has grown from {:.1} to {:.1} us, {:.1} us off at most, \
         {} of {AWAY_S} synchronised",
        noticed.as_secs_f64(),
        first_s * 1e6,
        last_s * 1e6,
        worst_ns as f64 / 1e3,
        found.len()
    ));
    expect_honest("unplugged", &server, &found);
    assert!(last_s > first_s, "the bound grows");
    let kept = found.len() as u64;
    assert_eq!(kept, AWAY_S, "nothing says that it lost its time; the log says:\n{}", server.log());
    set(false);
    let took = wait_until(&server, "locked again", is_in("locked"));
    expect_honest("plugged in", &server, &watch(&server, &receiver.truth, 10));
    measured(&format!("plugged in again: locked after {:.1} s", took.as_secs_f64()));
    assert_eq!(hold("plugged in again", &server, &receiver.truth, 10), 0);
    stop(&mut server);
}

#[test]
fn pulses_that_are_lost_or_doubled_spoil_nothing() {
    if !is_counted_or_skip("lost and doubled pulses") {
        return;
    }
    let scratch = Scratch::new();
    let (receiver, pulses, mut server) = settled(&scratch);
    let hold = |what: &str, seconds| assert_eq!(hold(what, &server, &receiver.truth, seconds), 0, "{what}");
    hold("exact pulses", 10);
    for (lost, seconds) in [(1, 6), (3, 8), (12, 20)] {
        pulses.parameter("lose").set(lost);
        hold(&format!("{lost} pulses lost"), seconds);
    }
    // A contact that bounces, and a pulse in the middle of the second.
    for after_ns in [200_000, 500_000_000] {
        pulses.parameter("double_ns").set(after_ns);
        hold(&format!("each pulse again after {} us", after_ns / 1_000), 8);
        pulses.parameter("double_ns").set(0);
        hold("and once", 6);
    }
    stop(&mut server);
}

#[test]
fn a_pulse_shortly_before_each_spoils_nothing() {
    if !is_counted_or_skip("a pulse shortly before each") {
        return;
    }
    let scratch = Scratch::new();
    let (receiver, pulses, mut server) = settled(&scratch);
    pulses.parameter("double_ns").set(990_000_000);
    hold("each pulse again after 990 ms", &server, &receiver.truth, 20);
    stop(&mut server);
}

#[test]
fn a_pulse_device_that_goes_is_found_again() {
    if !is_counted_or_skip("a PPS device that goes") {
        return;
    }
    let scratch = Scratch::new();
    let (receiver, pulses, mut server) = settled(&scratch);
    pulses.parameter("plugged").set("N");
    let found = watch(&server, &receiver.truth, 60);
    let state = &server.status()["state"];
    measured(&format!("no PPS device for a minute: {state}, off by {}", offset_micros(&found)));
    expect_honest("no device", &server, &found);
    pulses.parameter("plugged").set("Y");
    let took = wait_until(&server, "locked on the device that came", |status| {
        status["state"] == "locked" && status["tracking"]["source"] == "pulses"
    });
    measured(&format!("the PPS device is back: locked after {:.1} s", took.as_secs_f64()));
    hold("the device is back", &server, &receiver.truth, 10);
    stop(&mut server);
}

#[test]
fn ubx_names_seconds_as_nmea_does() {
    if !is_counted_or_skip("UBX over a UART") {
        return;
    }
    let scratch = Scratch::new();
    let receiver = Receiver::start(PPM);
    receiver.faults.binary.store(true, Ordering::Relaxed);
    let mut server = serve_on(&scratch, "ubx", &device());
    measured(&format!("UBX and pulses: locked after {:.1} s", lock(&server).as_secs_f64()));
    thread::sleep(SETTLED);
    assert_eq!(hold("UBX and pulses", &server, &receiver.truth, 10), 0);
    stop(&mut server);
}
