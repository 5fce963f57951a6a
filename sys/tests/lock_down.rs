//! What a process may still do once it has given up its privileges and put itself under the filter.
//!
//! One test, since it holds for the whole process and can't be undone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use maser_sys::privileges;
use maser_sys::seccomp::{self, Needs};
use maser_sys::udp_client::UdpClient;

fn is_refused<T>(outcome: io::Result<T>) -> bool {
    outcome.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

/// Attaches no segment: there is none of this number.
fn attach(flags: libc::c_int) -> Option<i32> {
    // SAFETY: the call takes numbers and a null pointer; it maps nothing, since it fails.
    let _failed = unsafe { libc::shmat(-1, std::ptr::null(), flags) };
    io::Error::last_os_error().raw_os_error()
}

/// `/proc/self/task/*/status`: how many threads have the line.
fn threads_with(line: &str) -> (usize, usize) {
    let statuses = fs::read_dir("/proc/self/task").unwrap().flatten();
    let statuses: Vec<_> = statuses.map(|task| fs::read_to_string(task.path().join("status"))).collect();
    let with = statuses.iter().flatten().filter(|status| status.lines().any(|have| have == line)).count();
    (with, statuses.len())
}

#[test]
fn little_is_left() {
    let (stream, peer) = UnixStream::pair().unwrap();
    let (datagrams, _other) = UnixDatagram::pair().unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let has_ip6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    // Another thread, which is idle meanwhile.
    let (end, ended) = channel::<()>();
    let idle = thread::spawn(move || ended.recv());

    privileges::drop_all().unwrap();
    let (with, all) = threads_with("NoNewPrivs:\t1");
    assert!(with == all && all >= 2, "no_new_privs without a filter: {with} of {all} threads");

    seccomp::confine(&Needs { io_uring: false, segments: vec![77], access_tries: true }).unwrap();
    assert!(is_refused(fs::read("/proc/self/status")));
    // What upstream servers, gpsd's socket and the status are served with.
    UdpClient::open(Ipv4Addr::LOCALHOST.into(), socket.local_addr().unwrap(), 1).unwrap();
    if has_ip6 {
        UdpClient::open(Ipv6Addr::LOCALHOST.into(), (Ipv6Addr::LOCALHOST, 123).into(), 1).unwrap();
    }
    let limit = Some(Duration::from_millis(200));
    stream.set_write_timeout(limit).unwrap();
    datagrams.set_read_timeout(limit).unwrap();
    thread::spawn(|| {}).join().unwrap();
    // Other options, of the same levels and others.
    assert!(is_refused(socket.set_broadcast(true)));
    assert!(is_refused(socket.set_ttl(7)));
    assert!(is_refused(socket.join_multicast_v4(&Ipv4Addr::new(224, 0, 1, 1), &Ipv4Addr::LOCALHOST)));
    // What would outlive this process on a socket that was handed to it.
    assert!(is_refused(peer.shutdown(Shutdown::Both)));
    // Attaching is permitted, and fails for want of a segment; as a program it isn't.
    assert_eq!(attach(0), Some(libc::EINVAL));
    assert_eq!(attach(libc::SHM_EXEC), Some(libc::EPERM));

    drop(end);
    assert!(idle.join().unwrap().is_err(), "nothing was said to it");
}
