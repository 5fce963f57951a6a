//! What only the io_uring port has: buffers that the kernel holds, and a kernel that may refuse it.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use maser_sys::datagram::{Outgoing, Wait};
use maser_sys::udp_socket::UdpSocket;
use maser_sys::uring::{UringError, UringPort};

use crate::refusals::refuse;
use crate::{LIMIT, Port, client, echo_all, open, options};

#[test]
fn a_dropped_ring_leaves_its_address_free_at_once() {
    for _ in 0..20 {
        let socket = open("127.0.0.1:0");
        let taken = socket.address();
        let mut port = UringPort::over(vec![socket], 8);
        client("127.0.0.1:0").send_to(&[1; 48], taken).unwrap();
        assert_eq!(echo_all(&mut port, 1).sent, 1);
        drop(port);
        UdpSocket::open(taken, options()).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// What comes while it closes is either delivered or left in the socket, for whoever has that, too.
#[test]
fn a_closed_ring_has_lost_nothing_that_came() {
    const SENT: usize = 20;
    let lost = |closes: bool| {
        let mut lost = 0;
        for _ in 0..20 {
            let socket = open("127.0.0.1:0");
            let shared = socket.as_fd().try_clone_to_owned().unwrap();
            let (server, client) = (socket.address(), client("127.0.0.1:0"));
            let mut port = UringPort::over(vec![socket], 32);
            client.send_to(&[1; 48], server).unwrap();
            assert_eq!(port.receive(Wait::Until(LIMIT)).unwrap(), 1);
            for _ in 0..SENT {
                client.send_to(&[1; 48], server).unwrap();
            }
            // It also runs the receives that are due.
            port.send(&[Outgoing { index: 0, length: 1, departure: None }], |_, _| {}).unwrap();
            let mut found = 0;
            if closes {
                port.close();
                while let received @ 1.. = port.receive(Wait::Poll).unwrap() {
                    found += received;
                }
                client.send_to(&[2; 48], server).unwrap();
                assert_eq!(port.receive(Wait::Until(Duration::from_millis(20))).unwrap(), 0, "it is closed");
            }
            drop(port);
            let left = std::net::UdpSocket::from(shared);
            left.set_nonblocking(true).unwrap();
            found += std::iter::from_fn(|| left.recv(&mut [0; 64]).ok()).count();
            lost += SENT + usize::from(closes) - found;
        }
        lost
    };
    assert_eq!(lost(true), 0);
    assert!(lost(false) > 0, "one that is only dropped takes what it has received along");
}

#[test]
fn the_kernel_holds_every_buffer_of_an_idle_ring() {
    let socket = open("127.0.0.1:0");
    let server = socket.address();
    let mut port = UringPort::over(vec![socket], 32);
    let total = port.buffers().total();
    let client = client("127.0.0.1:0");
    // Some rounds of use first. Then more than there are buffers: the kernel fills each and runs out.
    for _ in 0..500 {
        client.send_to(&[1; 48], server).unwrap();
    }
    assert_eq!(echo_all(&mut port, 500).sent, 500);
    port.assert_whole();
    for _ in 0..total + 10 {
        client.send_to(&[2; 48], server).unwrap();
    }
    let rearmed = port.rearmed();
    let first = port.receive(Wait::Until(LIMIT)).unwrap();
    for _ in 0..total {
        // Each send also runs the receives that are due, while the batch is held.
        port.send(&[Outgoing { index: 0, length: 1, departure: None }], |_, _| {}).unwrap();
    }
    assert_eq!(port.buffers().receiving, 0, "{:?}", port.buffers());
    // A lack of buffers ended the receive, and it goes on by itself.
    assert_eq!(echo_all(&mut port, total + 10 - first).sent, total + 10 - first);
    assert!(port.rearmed() > rearmed);
    port.assert_whole();
}

#[test]
fn a_refusal_says_what_to_do() {
    let cases = [
        (libc::EPERM, UringError::Forbidden, "sysctl kernel.io_uring_disabled"),
        (libc::ENOSYS, UringError::NotInKernel, "seccomp"),
        (
            libc::EINVAL,
            UringError::KernelTooOld { feature: "deferred task running", since: "6.1" },
            "Linux 6.1",
        ),
        (libc::ENOMEM, UringError::NoMemory, "ulimit -l"),
    ];
    for (errno, expected, advice) in cases {
        let refused = thread::spawn(move || {
            refuse(libc::SYS_io_uring_setup, errno);
            UringPort::new(vec![open("127.0.0.1:0")], Vec::new(), 8).err().unwrap()
        });
        let error = refused.join().unwrap();
        assert_eq!(error, expected);
        assert!(error.to_string().contains(advice), "{error}");
    }
    assert_eq!(UringPort::new(Vec::new(), Vec::new(), 8).err(), Some(UringError::Size));
}
