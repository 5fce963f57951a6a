//! What the programs of several interfaces have in common, and what each has of its own.

use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use maser_core::limit::access::Standing;
use maser_sys::access_tries::AccessTries;
use maser_sys::driver_limits::DriverLimits;
use maser_sys::xdp_program::{AttachMode, NicStamps, Reason, SharedMaps, SocketsMap, XdpCounts, XdpProgram};

use crate::limits::{Limited, SETTINGS, entry_due_in, request};
use crate::rig::{
    DESTINATIONS, Rig, STATION, TABLE_OCTETS, index_of, ip4, namespace, send_from, test_run, xdp_socket,
};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "a deadline of the test itself")]
fn in_time(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn interfaces_share_the_table_and_the_lists_and_have_limits_of_their_own() {
    let Some(limited) = Limited::new() else { return };
    let mut other =
        XdpProgram::attach_sharing(index_of("near"), AttachMode::Generic, &limited.rig.shared).unwrap();
    other.set_hardware_addresses(&[STATION]).unwrap();
    other.set_destinations(&DESTINATIONS).unwrap();
    let counts = XdpCounts::from_fd(other.counts_map().unwrap()).unwrap();
    let others = |frame: &[u8]| {
        let before = counts.read();
        // More than a lottery lets up.
        for _ in 0..200 {
            test_run(&other, frame, &mut [0; 300], 1);
        }
        let of = |reason| counts.read().of(reason) - before.of(reason);
        (of(Reason::DroppedLimited), of(Reason::DroppedDenied), of(Reason::NoSocket))
    };
    let known = "198.51.100.77".parse().unwrap();
    let denied = "203.0.113.5".parse().unwrap();
    let mut tries = AccessTries::from_fds(limited.rig.shared.sources_maps().unwrap()).unwrap();
    tries.replace(&[(denied, 32, Standing::Denied)]).unwrap();
    limited.put(known, 2, entry_due_in(Duration::from_secs(4)));
    limited.limits.set(Some(&SETTINGS));
    // That was the first one's.
    assert_eq!(others(&request(known, &[])), (0, 0, 200));
    DriverLimits::from_fd(other.limits_map().unwrap()).unwrap().set(Some(&SETTINGS));
    let (dropped, _, passed) = others(&request(known, &[]));
    assert!(dropped > 150 && dropped + passed == 200, "{dropped} {passed}");
    let (_, dropped, passed) = others(&request(denied, &[]));
    assert!(dropped > 150 && dropped + passed == 200, "{dropped} {passed}");
    assert_eq!(others(&ip4()), (0, 0, 200));
}

#[test]
fn the_variant_that_asks_the_nic_drops_the_same() {
    if !namespace() {
        return;
    }
    let shared = SharedMaps::new(TABLE_OCTETS).unwrap();
    let mut program = XdpProgram::attach_sharing(index_of("near"), AttachMode::Native, &shared).unwrap();
    assert_eq!(program.footing().nic_stamps, NicStamps::Asked);
    program.set_hardware_addresses(&[STATION]).unwrap();
    program.set_destinations(&DESTINATIONS).unwrap();
    let counts = XdpCounts::from_fd(program.counts_map().unwrap()).unwrap();
    let limits = DriverLimits::from_fd(program.limits_map().unwrap()).unwrap();
    let sockets = SocketsMap::from_fd(program.sockets_map().unwrap());
    let socket = xdp_socket();
    (0..4).for_each(|queue| sockets.insert(queue, socket.as_fd()).unwrap());
    let send = || send_from(index_of("far"), &ip4(), 10);
    send();
    in_time("ten are steered", || counts.read().of(Reason::Steered) == 10);
    limits.set(Some(&SETTINGS));
    (0..4).for_each(|queue| limits.floor_of(queue).set(1 << 16));
    send();
    in_time("ten are dropped", || counts.read().of(Reason::DroppedOverload) == 10);
    limits.set(None);
    send();
    in_time("ten more are steered", || counts.read().of(Reason::Steered) == 20);
}

#[test]
fn a_table_is_as_large_as_asked_for_or_refused() {
    let Some(_rig) = Rig::new() else { return };
    for octets in [64, 64 << 20, (64 << 20) + 63] {
        let shared = SharedMaps::new(octets).unwrap();
        let table = maser_sys::limit_table::SharedTable::from_fd(shared.table_map().unwrap()).unwrap();
        assert_eq!(u64::try_from(table.len()).unwrap(), octets / 64 * 8);
        assert!(table.as_ptr().addr().is_multiple_of(64));
        let last = table.last().unwrap();
        last.store(7, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(last.load(std::sync::atomic::Ordering::Relaxed), 7);
    }
    for octets in [0, 63, u64::MAX] {
        let error = SharedMaps::new(octets).unwrap_err();
        assert!(error.to_string().contains("limiter's table"), "{error}");
    }
}
