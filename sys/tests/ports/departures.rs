//! When replies left, as the ports tell it afterwards.
//!
//! Each reply's name is told with a stamp that lies within the call that sent it, so a name that is given another's stamp is
//! seen. [`two_hosts`](crate::two_hosts) holds departures against the stamps that the far end's kernel gave the replies.

use std::collections::{BTreeMap, HashSet};
use std::net::{SocketAddr, UdpSocket as Client};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use maser_core::time::StampClock;
use maser_sys::alloc_count::allocations_in;
use maser_sys::datagram::{Departed, Outgoing, Sent, Wait};
use maser_sys::kernel_clock::{KernelClock, read};
use maser_sys::udp_socket::{SocketOptions, Steering, UdpSocket};
use maser_sys::uring::UringPort;

use crate::contract::raw_from_port_0;
use crate::refusals::refuse_where;
use crate::{LIMIT, Port, SHORT, client, is_root, open};

/// Where a reply has its name.
const NAME: std::ops::Range<usize> = 32..40;
/// Every third request wants to know, by an octet of its own.
const WANTS_AT: usize = 1;

/// A request with a name for its reply.
pub(crate) fn request(name: u64, wants: bool) -> [u8; 48] {
    let mut request = [0x23; 48];
    request[WANTS_AT] = wants.into();
    request[NAME].copy_from_slice(&name.to_be_bytes());
    request
}

/// Names that differ in few bits, as receive timestamps do.
pub(crate) fn name(number: u64) -> u64 {
    0xEB00_0000_0000_0001 + (number << 8)
}

pub(crate) fn name_in(octets: &[u8]) -> u64 {
    u64::from_be_bytes(octets[NAME].try_into().unwrap())
}

/// What was asked and told of replies, by name.
#[derive(Default, Debug)]
struct Log {
    /// Between which readings of `CLOCK_REALTIME` it was sent.
    asked: BTreeMap<u64, (i64, i64)>,
    unasked: HashSet<u64>,
    told: Vec<(u64, i64)>,
    /// By which interfaces.
    by: HashSet<u32>,
}

impl Log {
    /// Answers a batch, asking where the request wants it; what became of the replies.
    fn answer(&mut self, port: &mut impl Port, count: usize) -> Sent {
        let replies: Vec<Outgoing> = (0..count)
            .map(|number| {
                let octets = port.datagram(number).1;
                let (index, length) = (number.try_into().unwrap(), octets.len().try_into().unwrap());
                let wants = octets.len() == 48 && octets[WANTS_AT] == 1;
                Outgoing { index, length, departure: wants.then(|| name_in(octets)) }
            })
            .collect();
        let mut unasked = Vec::new();
        let before = read(KernelClock::Realtime);
        let sent = port
            .send(&replies, |index, octets| {
                if octets.len() == 48 && octets[WANTS_AT] != 1 {
                    unasked.push(name_in(octets));
                }
                octets[47] = index.try_into().unwrap();
            })
            .unwrap();
        let after = read(KernelClock::Realtime);
        self.unasked.extend(unasked);
        for name in replies.iter().filter_map(|reply| reply.departure) {
            assert_eq!(self.asked.insert(name, (before, after)), None, "the test gives each name once");
        }
        sent
    }

    fn hear(&mut self, port: &mut impl Port) {
        port.departures(|Departed { name, stamp, nic_stamp, interface }| {
            self.by.insert(interface);
            let stamp = stamp.unwrap();
            assert_eq!((stamp.clock, nic_stamp), (StampClock::Realtime, None));
            self.told.push((name, stamp.nanos));
        })
        .unwrap();
    }

    /// That each that asked was told once, in its window, and nobody else was; but for those `lost`.
    fn check(&self, lost: &[u64]) -> Result<(), String> {
        let mut told = HashSet::new();
        for (name, nanos) in &self.told {
            if !told.insert(*name) {
                return Err(format!("{name:#x} was told twice"));
            }
            if self.unasked.contains(name) {
                return Err(format!("{name:#x} wasn't asked for"));
            }
            match self.asked.get(name) {
                Some((before, after)) if (*before..=*after).contains(nanos) => {}
                window => return Err(format!("{name:#x} left at {nanos} by a call of {window:?}")),
            }
        }
        match self.asked.keys().find(|name| !told.contains(*name) && !lost.contains(*name)) {
            Some(name) => Err(format!("{name:#x} was never told")),
            None => Ok(()),
        }
    }
}

/// Sends requests numbered from `first` in bursts of growing size and has them answered.
fn exchange(log: &mut Log, port: &mut impl Port, ask: &dyn Fn(u64), first: u64, count: u64) {
    let (mut next, mut burst, end) = (first, 1, Instant::now() + LIMIT);
    while next < first + count {
        let burst_end = (next + burst).min(first + count);
        (next..burst_end).for_each(ask);
        while next < burst_end {
            assert!(Instant::now() < end, "{next} of {count} came");
            let came = port.receive(Wait::Until(SHORT)).unwrap();
            let sent = log.answer(port, came);
            assert_eq!(sent, Sent { sent: came, ..Sent::default() });
            log.hear(port);
            next += came as u64;
        }
        burst = burst % 40 + 3;
    }
}

fn those_who_ask_are_told_once<P: Port>() {
    let ways =
        [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.2"), ("[::1]:0", "::1"), ("[::]:0", "::1")];
    // The NIC's stamps are waited for in vain, and the kernel's are told then.
    for (nic_stamps, (text, to)) in [false, true].into_iter().flat_map(|nics| ways.map(|way| (nics, way))) {
        let options = SocketOptions { nic_stamps, ..SocketOptions::default() };
        let open = || UdpSocket::open(text.parse().unwrap(), options).unwrap();
        let sockets = vec![open(), open()];
        let servers =
            [0, 1].map(|index: usize| SocketAddr::new(to.parse().unwrap(), sockets[index].address().port()));
        let mut port = P::over(sockets, 32);
        let client = client(text);
        let ask = |number: u64| {
            let request = request(name(number), number.is_multiple_of(3));
            client.send_to(&request, servers[usize::from(number.is_multiple_of(7))]).unwrap();
        };
        let mut log = Log::default();
        exchange(&mut log, &mut port, &ask, 0, 600);
        for _ in 0..3 {
            thread::sleep(SHORT);
            log.hear(&mut port);
        }
        assert_eq!(log.told.len(), 200, "{text}");
        let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
        assert!(!nic_stamps || log.by.iter().all(|by| *by == loopback), "{:?}", log.by);
        log.check(&[]).unwrap();
        for (fault, expected) in FAULTS {
            assert!(fault(&log).unwrap_err().contains(expected), "the oracle sees {expected}");
        }
        port.assert_whole();
    }
}

type Fault = fn(&Log) -> Result<(), String>;
/// What the oracle must see: stamps given to the next name, one told twice, one that nobody asked for, one not told.
const FAULTS: [(Fault, &str); 4] = [
    (|log| changed(log, |told| (1..told.len()).rev().for_each(|at| told[at].0 = told[at - 1].0)), "twice"),
    (
        |log| {
            changed(log, |told| {
                let first = told[0].0;
                (1..told.len()).for_each(|at| told[at - 1].0 = told[at].0);
                told.last_mut().unwrap().0 = first;
            })
        },
        "left at",
    ),
    (|log| changed(log, |told| told[7].0 = *log.unasked.iter().next().unwrap()), "wasn't asked"),
    (|log| changed(log, |told| assert!(told.pop().is_some())), "never told"),
];

fn changed(log: &Log, change: impl FnOnce(&mut Vec<(u64, i64)>)) -> Result<(), String> {
    let mut told = log.told.clone();
    change(&mut told);
    Log { told, asked: log.asked.clone(), unasked: log.unasked.clone(), by: HashSet::new() }.check(&[])
}

fn replies_that_cannot_leave_shift_no_names<P: Port>() {
    if !is_root("a datagram from port 0") {
        return;
    }
    let socket = open("0.0.0.0:0");
    let port_number = socket.address().port();
    let mut port = P::over(vec![socket], 64);
    let client = client("127.0.0.1:0");
    let (mut log, mut refused, mut lost) = (Log::default(), 0, Vec::new());
    for round in 0..20 {
        for number in 20 * round..20 * (round + 1) {
            client.send_to(&request(name(number), number % 3 > 0), ("127.0.0.1", port_number)).unwrap();
            if number % 5 == round % 5 {
                let broken = name(1_000_000 + number);
                raw_from_port_0(port_number, &request(broken, true))();
                lost.push(broken);
            }
            if number % 7 == 0 {
                // Closed before the reply comes: the kernel answers it with an ICMP error.
                let gone = Client::bind("127.0.0.1:0").unwrap();
                gone.send_to(&request(name(2_000_000 + number), true), ("127.0.0.1", port_number)).unwrap();
            }
        }
        let end = Instant::now() + LIMIT;
        loop {
            let came = port.receive(Wait::Until(SHORT)).unwrap();
            refused += log.answer(&mut port, came).refused;
            log.hear(&mut port);
            if came == 0 {
                break;
            }
            assert!(Instant::now() < end);
        }
    }
    assert_eq!(refused, lost.len());
    assert!(log.told.len() > 300, "{}", log.told.len());
    assert!(log.told.iter().all(|(name, _)| !lost.contains(name)), "what never left was told");
    log.check(&lost).unwrap();
    port.assert_whole();
}

/// What [`Port::departures`] calls with.
const ERROR_QUEUE: u32 = (libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT).cast_unsigned();

/// Runs `case` in a thread that a filter may be set in.
fn alone(case: impl FnOnce() + Send + 'static) {
    thread::spawn(case).join().unwrap();
}

/// A port, its client and its address; a second descriptor of its socket.
fn with_thief<P: Port>() -> (P, Client, SocketAddr, OwnedFd) {
    let socket = open("127.0.0.1:0");
    let server = socket.address();
    let thief = socket.as_fd().try_clone_to_owned().unwrap();
    (P::over(vec![socket], 32), client("127.0.0.1:0"), server, thief)
}

/// Takes the stamps away that wait for the port; how many.
fn steal(thief: &OwnedFd) -> usize {
    let mut octets = [0; 256];
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    std::iter::from_fn(|| {
        // SAFETY: the buffer is as long as said and lives to the end of the call.
        let got = unsafe { libc::recv(thief.as_raw_fd(), octets.as_mut_ptr().cast(), octets.len(), flags) };
        (got > 0).then_some(())
    })
    .count()
}

fn the_kernel_is_asked_only_while_something_is_to_come<P: Port>() {
    alone(|| {
        let (mut port, client, server, thief) = with_thief::<P>();
        let mut log = Log::default();
        let ask = |number| {
            client.send_to(&request(name(number), number < 10), server).unwrap();
        };
        exchange(&mut log, &mut port, &ask, 0, 10);
        assert_eq!(log.told.len(), 10);
        // Some that are lost are forgotten.
        for number in 105..110 {
            client.send_to(&request(name(number), true), server).unwrap();
        }
        while log.asked.len() < 15 {
            let came = port.receive(Wait::Until(SHORT)).unwrap();
            log.answer(&mut port, came);
        }
        assert_eq!(steal(&thief), 5);
        let end = Instant::now() + Duration::from_millis(2_300);
        while Instant::now() < end {
            log.hear(&mut port);
            thread::sleep(SHORT);
        }
        assert_eq!(log.told.len(), 10);
        refuse_where(libc::SYS_recvmmsg, Some((3, ERROR_QUEUE)), libc::EBADF);
        port.departures(|_| {}).unwrap();
        exchange(&mut log, &mut port, &ask, 50, 30);
        assert_eq!(log.told.len(), 10, "nobody asked");
        // The oracle sees a call.
        client.send_to(&request(name(90), true), server).unwrap();
        assert_eq!(port.receive(Wait::Until(LIMIT)).unwrap(), 1);
        log.answer(&mut port, 1);
        assert_eq!(port.departures(|_| {}).unwrap_err().raw_os_error(), Some(libc::EBADF));
    });
}

fn a_filter_that_refuses_stamps_ends_nothing_else<P: Port>() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        alone(move || {
            let (mut port, client, server, thief) = with_thief::<P>();
            refuse_where(libc::SYS_recvmmsg, Some((3, ERROR_QUEUE)), errno);
            let mut log = Log::default();
            let ask = |number| {
                client.send_to(&request(name(number), true), server).unwrap();
            };
            exchange(&mut log, &mut port, &ask, 0, 1);
            assert_eq!((log.told.len(), steal(&thief)), (0, 1));
            exchange(&mut log, &mut port, &ask, 1, 100);
            assert_eq!((log.told.len(), steal(&thief)), (0, 0), "nothing is asked for any more");
        });
    }
}

fn what_cannot_be_told_apart_is_not_told<P: Port>() {
    let (mut port, client, server, _) = with_thief::<P>();
    let mut other_name = request(name(8), true);
    other_name[NAME].copy_from_slice(&name(9).to_be_bytes());
    for sent in
        [request(name(7), true), request(name(7), true), request(name(8), true), request(name(5), true)]
    {
        client.send_to(&sent, server).unwrap();
    }
    let mut came = 0;
    while came < 4 {
        let count = port.receive(Wait::Until(LIMIT)).unwrap();
        let replies: Vec<_> = (0..count)
            .map(|index| {
                let found = name_in(port.datagram(index).1);
                // One reply is given another name than it carries; one is cut before its name.
                let departure = Some(if found == name(8) { name(9) } else { found });
                let length = if found == name(5) { 39 } else { 48 };
                Outgoing { index: index.try_into().unwrap(), length, departure }
            })
            .collect();
        assert_eq!(port.send(&replies, |_, _| {}).unwrap().sent, count);
        came += count;
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        port.departures(|departed| told.push(departed)).unwrap();
        thread::sleep(SHORT);
    }
    assert_eq!(told, []);
}

fn a_stamp_that_waits_keeps_no_port_from_waiting<P: Port>() {
    for count in [1, 2] {
        let sockets: Vec<_> = (0..count).map(|_| open("127.0.0.1:0")).collect();
        let server = sockets[0].address();
        let (mut port, client, mut log) = (P::over(sockets, 8), client("127.0.0.1:0"), Log::default());
        for round in 0..5 {
            client.send_to(&request(name(round), true), server).unwrap();
            assert_eq!(port.receive(Wait::Until(LIMIT)).unwrap(), 1);
            log.answer(&mut port, 1);
            // The stamp may end the first wait, until it has been heard.
            assert_eq!(port.receive(Wait::Until(SHORT)).unwrap(), 0);
            log.hear(&mut port);
            let start = Instant::now();
            assert_eq!(port.receive(Wait::Until(SHORT)).unwrap(), 0);
            assert!(start.elapsed() >= SHORT, "it waited for {:?}", start.elapsed());
        }
        log.check(&[]).unwrap();
    }
}

fn asking_allocates_nothing<P: Port>() {
    let (mut port, client, server, _) = with_thief::<P>();
    let mut replies = Vec::with_capacity(32);
    let mut told = 0;
    for round in 0..50 {
        for number in 0..20 {
            client.send_to(&request(name(20 * round + number), true), server).unwrap();
        }
        let ((), allocations) = allocations_in(|| {
            let count = port.receive(Wait::Until(SHORT)).unwrap();
            replies.clear();
            for index in 0..count {
                let departure = Some(name_in(port.datagram(index).1));
                replies.push(Outgoing { index: index.try_into().unwrap(), length: 48, departure });
            }
            port.send(&replies, |_, _| {}).unwrap();
            port.departures(|_| told += 1).unwrap();
        });
        assert_eq!(allocations, 0);
    }
    assert!(told > 900, "{told}");
}

/// A stamp in the error queue of a socket that receives would wake the ring's receive before the reply has left.
#[test]
fn stamped_replies_leave_a_ring_by_sockets_of_their_own_if_it_has_any() {
    let options = SocketOptions::default();
    let group = UdpSocket::open_group(([127, 0, 0, 1], 0).into(), 1, Steering::new(0), options).unwrap();
    let [receiving] = <[UdpSocket; 1]>::try_from(group).unwrap();
    let departing = UdpSocket::join(receiving.address(), options).unwrap();
    let [thief_here, thief_there] =
        [&receiving, &departing].map(|socket| socket.as_fd().try_clone_to_owned().unwrap());
    let server = receiving.address();
    let mut port = UringPort::new(vec![receiving], vec![departing], 32).unwrap();
    let client = client("127.0.0.1:0");
    let ask = |number| {
        client.send_to(&request(name(number), number % 2 == 0), server).unwrap();
    };
    let mut log = Log::default();
    exchange(&mut log, &mut port, &ask, 0, 100);
    for _ in 0..100 {
        assert_eq!(client.recv_from(&mut [0; 64]).unwrap(), (48, server));
    }
    log.check(&[]).unwrap();
    (100..110).for_each(&ask);
    while log.asked.len() < 55 {
        let came = port.receive(Wait::Until(SHORT)).unwrap();
        log.answer(&mut port, came);
    }
    assert_eq!((steal(&thief_here), steal(&thief_there)), (0, 5));
}

macro_rules! through_both {
    ($($case:ident),* $(,)?) => {
        mod mmsg { $(#[test] fn $case() { super::$case::<maser_sys::mmsg::MmsgPort>(); })* }
        mod uring { $(#[test] fn $case() { super::$case::<maser_sys::uring::UringPort>(); })* }
    };
}
through_both!(
    those_who_ask_are_told_once,
    replies_that_cannot_leave_shift_no_names,
    the_kernel_is_asked_only_while_something_is_to_come,
    a_filter_that_refuses_stamps_ends_nothing_else,
    what_cannot_be_told_apart_is_not_told,
    a_stamp_that_waits_keeps_no_port_from_waiting,
    asking_allocates_nothing,
);
