//! What the ports make of a kernel that refuses a call: once for all by a filter, or for want of memory.
//!
//! A filter of system calls holds for the thread that sets it, so each case has a thread of its own.

use std::net::UdpSocket as Client;
use std::thread;
use std::time::{Duration, Instant};

use maser_sys::datagram::{Outgoing, SEND_CHUNK, Sent, Wait};
use maser_sys::mmsg::MmsgPort;
use maser_sys::udp_socket::UdpSocket;
use maser_sys::uring::UringPort;

use crate::{LIMIT, Port, SHORT, all_of, client, open};

/// Has the kernel answer `call` with an error in this thread.
pub(crate) fn refuse(call: libc::c_long, errno: i32) {
    refuse_where(call, None, errno);
}

/// Has the kernel answer `call` with an error in this thread, if an argument has a value.
pub(crate) fn refuse_where(call: libc::c_long, argument: Option<(u32, u32)>, errno: i32) {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter, sock_fprog};
    let instruction =
        |code: u32, jt: u8, jf: u8, k: u32| sock_filter { code: code.try_into().unwrap(), jt, jf, k };
    let load = |octet: u32| instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, octet);
    let equals = |value: u32, skipped: u8| instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, skipped, value);
    // `struct seccomp_data`: the number of the call is its first word; the arguments, of 8 octets, begin at 16. Without
    // an argument to look at, the number is looked at twice.
    let number = call.try_into().unwrap();
    let (octet, value) = argument.map_or((0, number), |(index, value)| (16 + 8 * index, value));
    let mut program = [
        load(0),
        equals(number, 3),
        load(octet),
        equals(value, 1),
        instruction(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        instruction(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = sock_fprog { len: 6, filter: program.as_mut_ptr() };
    // SAFETY: the option takes plain numbers and concerns this thread only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program is six instructions that live to the end of the call, which copies them.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(set, 0);
}

/// Runs `case` in a thread that a filter may be set in.
fn alone(case: impl FnOnce() + Send + 'static) {
    thread::spawn(case).join().unwrap();
}

/// Replies, more than share a call.
const REPLIES: u8 = 20;

/// A port with `count` requests in its batch, and who sent them.
fn asked<P: Port>(count: u8) -> (P, Client) {
    let socket = open("127.0.0.1:0");
    let server = socket.address();
    let mut port = P::over(vec![socket], count.into());
    let client = client("127.0.0.1:0");
    for number in 0..count {
        client.send_to(&[number; 48], server).unwrap();
    }
    assert_eq!(port.receive(Wait::Until(LIMIT)).unwrap(), usize::from(count));
    (port, client)
}

#[test]
fn a_receive_that_a_filter_refuses_ends_the_port() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        for wait in [Wait::Poll, Wait::Until(SHORT)] {
            alone(move || {
                // What the ladder tries.
                refuse(libc::SYS_recvmmsg, errno);
                let mut port = MmsgPort::new(vec![open("127.0.0.1:0")], 1).unwrap();
                assert_eq!(port.receive(wait).unwrap_err().raw_os_error(), Some(errno));
            });
        }
        alone(move || {
            refuse(libc::SYS_ppoll, errno);
            let mut port = MmsgPort::over(vec![open("127.0.0.1:0"), open("127.0.0.1:0")], 1);
            assert_eq!(port.receive(Wait::Until(SHORT)).unwrap_err().raw_os_error(), Some(errno));
        });
        alone(move || {
            let mut port = UringPort::over(vec![open("127.0.0.1:0")], 8);
            refuse(libc::SYS_io_uring_enter, errno);
            assert_eq!(port.receive(Wait::Until(SHORT)).unwrap_err().raw_os_error(), Some(errno));
        });
    }
}

#[test]
fn a_send_that_a_filter_of_calls_refuses_ends_the_port_and_one_of_packets_does_not() {
    let sent = |errno| {
        let sent = thread::spawn(move || {
            let (mut port, _client) = asked::<MmsgPort>(REPLIES);
            refuse(libc::SYS_sendmmsg, errno);
            let (replies, mut stamped) = (all_of(REPLIES.into(), &mut port), 0);
            port.send(&replies, |_, _| stamped += 1)
                .map(|sent| (sent, stamped))
                .map_err(|error| error.raw_os_error())
        });
        sent.join().unwrap()
    };
    for errno in [libc::ENOSYS, libc::EBADF, libc::EFAULT, libc::ENOTSOCK] {
        assert_eq!(sent(errno), Err(Some(errno)));
    }
    for errno in [libc::EPERM, libc::EACCES, libc::EINVAL, libc::EOPNOTSUPP, libc::ENETUNREACH] {
        assert_eq!(sent(errno), Ok((Sent { refused: REPLIES.into(), ..Sent::default() }, REPLIES.into())));
    }
    // Without room for one there is none for the rest, which isn't even stamped.
    for errno in [libc::EAGAIN, libc::ENOBUFS, libc::ENOMEM] {
        assert_eq!(sent(errno), Ok((Sent { congested: REPLIES.into(), ..Sent::default() }, SEND_CHUNK)));
    }
}

/// Receives 20 times while `call` fails for want of memory: each is counted, and none returns at once.
fn pauses<P: Port>(sockets: usize, call: libc::c_long, errno: i32) {
    alone(move || {
        let sockets: Vec<_> = (0..sockets).map(|_| open("127.0.0.1:0")).collect();
        let servers: Vec<_> = sockets.iter().map(UdpSocket::address).collect();
        let mut port = P::over(sockets, 8);
        refuse(call, errno);
        if call != libc::SYS_ppoll {
            // There is something to receive, so nothing but the pause keeps the port from trying again.
            let client = client("127.0.0.1:0");
            servers.iter().for_each(|server| assert_eq!(client.send_to(&[1; 48], server).unwrap(), 48));
        }
        let start = Instant::now();
        assert_eq!(port.receive(Wait::Poll).unwrap(), 0);
        for round in 1..20 {
            let before = port.receive_failures();
            assert_eq!(port.receive(Wait::Until(LIMIT)).unwrap(), 0);
            assert!(port.receive_failures() > before, "{before} in round {round}");
        }
        let taken = start.elapsed();
        assert!((Duration::from_millis(19)..LIMIT).contains(&taken), "20 failures took {taken:?}");
    });
}

#[test]
fn a_receive_that_fails_is_counted_and_does_not_spin() {
    pauses::<MmsgPort>(1, libc::SYS_recvmmsg, libc::ENOMEM);
    pauses::<MmsgPort>(2, libc::SYS_recvmmsg, libc::ENOBUFS);
    pauses::<MmsgPort>(2, libc::SYS_ppoll, libc::ENOMEM);
    pauses::<UringPort>(1, libc::SYS_io_uring_enter, libc::EAGAIN);
}

#[test]
fn an_idle_port_counts_no_failures() {
    fn idle<P: Port>() {
        let mut port = P::over(vec![open("127.0.0.1:0"), open("127.0.0.1:0")], 8);
        for wait in [Wait::Poll, Wait::Until(SHORT)] {
            assert_eq!(port.receive(wait).unwrap(), 0);
        }
        assert_eq!(port.receive_failures(), 0);
    }
    idle::<MmsgPort>();
    idle::<UringPort>();
}

#[test]
fn a_reply_that_the_ring_could_not_take_never_leaves() {
    alone(|| {
        let (mut port, client) = asked::<UringPort>(2);
        // A submission is refused; a receive that waits for something is not, and takes what is queued along.
        refuse_where(libc::SYS_io_uring_enter, Some((2, 0)), libc::EAGAIN);
        let replies = [0, 1].map(|index| Outgoing { index, length: 48, departure: None });
        assert_eq!(port.send(&replies, |_, _| {}).unwrap(), Sent::default());
        port.receive(Wait::Until(SHORT)).unwrap();
        client.set_read_timeout(Some(SHORT)).unwrap();
        assert!(client.recv(&mut [0; 64]).is_err(), "a reply left late");
        assert_eq!(port.send(&[], |_, _| {}).unwrap(), Sent { refused: 2, ..Sent::default() });
    });
}
