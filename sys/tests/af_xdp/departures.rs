//! When replies left, as the port tells it afterwards: within the call that sent them, and close to the moment when the far
//! end's kernel received them.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use maser_core::time::StampClock;
use maser_sys::af_xdp::XskPort;
use maser_sys::alloc_count::allocations_in;
use maser_sys::datagram::{Departed, Outgoing, Sent, Wait};
use maser_sys::kernel_clock::{KernelClock, read};
use maser_sys::outbox::Outbox;
use maser_sys::udp_client::UdpClient;
use maser_sys::xdp_program::AttachMode;

use crate::rig::{
    CLIENT, LIMIT, MODES, SERVER, SERVICE_PORT, SETTLED, SHORT, ip, number, request, turn, with_rig,
};

/// What was asked and told of replies, by name.
#[derive(Clone, Default, Debug)]
struct Log {
    /// Between which readings of `CLOCK_MONOTONIC` it was sent, and its place among the replies.
    asked: BTreeMap<u64, (i64, i64, usize)>,
    told: Vec<(u64, i64)>,
}

impl Log {
    /// Answers a batch, asking for those that are `wanted`.
    fn answer(&mut self, port: &mut XskPort, count: usize, wanted: impl Fn(u64) -> bool) -> Sent {
        let replies: Vec<Outgoing> = (0..count)
            .map(|index| {
                let frame = port.datagram(index).1;
                turn_whole(frame);
                let departure = Some(number(frame)).filter(|number| wanted(*number));
                let length = frame.len().try_into().unwrap();
                Outgoing { index: index.try_into().unwrap(), length, departure }
            })
            .collect();
        let before = read(KernelClock::Monotonic);
        let sent = port.send(&replies, |_, _| {}).unwrap();
        let after = read(KernelClock::Monotonic);
        for (place, reply) in replies.iter().enumerate() {
            if let Some(name) = reply.departure {
                assert_eq!(self.asked.insert(name, (before, after, place)), None);
            }
        }
        sent
    }

    fn hear(&mut self, port: &mut XskPort) {
        port.departures(|Departed { name, stamp, nic_stamp, .. }| {
            let stamp = stamp.unwrap();
            assert_eq!((stamp.clock, nic_stamp), (StampClock::Monotonic, None));
            self.told.push((name, stamp.nanos));
        })
        .unwrap();
    }

    /// That those told had asked, once, and left within their call, one after the other.
    fn check(&self) -> Result<(), String> {
        let mut last: BTreeMap<i64, (usize, i64)> = BTreeMap::new();
        for (index, (name, nanos)) in self.told.iter().enumerate() {
            if self.told[..index].iter().any(|(other, _)| other == name) {
                return Err(format!("{name} was told twice"));
            }
            let Some((before, after, place)) = self.asked.get(name) else {
                return Err(format!("{name} wasn't asked for"));
            };
            if !(*before..=*after).contains(nanos) {
                return Err(format!("{name} left at {nanos} by a call of {before} to {after}"));
            }
            if let Some((other, earlier)) = last.insert(*before, (*place, *nanos))
                && (other >= *place || earlier >= *nanos)
            {
                return Err(format!("{name} left out of turn"));
            }
        }
        Ok(())
    }
}

/// Makes a frame one that the far end's network stack takes for a reply.
fn turn_whole(frame: &mut [u8]) {
    turn(frame);
    let (from, to) = frame[26..34].split_at_mut(4);
    from.swap_with_slice(to);
    let (from, to) = frame[34..38].split_at_mut(2);
    from.swap_with_slice(to);
    // No checksum: that of the request may have been left to a NIC.
    frame[40..42].fill(0);
}

#[test]
fn those_who_ask_are_told_once() {
    for mode in MODES {
        with_rig("departures", 1, mode, |rig| {
            let mut port = rig.port(1, 64);
            let (mut log, mut next) = (Log::default(), 0);
            for burst in [1, 2, 5, 16, 17, 40, 3, 1].repeat(8) {
                (next..next + burst).for_each(|number| assert!(rig.client.send(&request(number, 40_000))));
                next += burst;
                let (mut came, end) = (0, Instant::now() + LIMIT);
                while came < burst {
                    let received = port.receive(SHORT).unwrap();
                    let sent = log.answer(&mut port, received, |number| number % 3 == 1);
                    assert_eq!(sent, Sent { sent: received, ..Sent::default() });
                    log.hear(&mut port);
                    came += received as u64;
                    assert!(Instant::now() < end);
                }
            }
            log.hear(&mut port);
            log.check().unwrap_or_else(|fault| panic!("{mode:?}: {fault}"));
            let (told, asked) = (log.told.len(), log.asked.len());
            assert!(told * 10 >= asked * 9, "{mode:?}: {told} of {asked} were told");
            for (fault, expected) in FAULTS {
                let mut log = log.clone();
                fault(&mut log);
                assert!(log.check().unwrap_err().contains(expected), "the oracle sees {expected}");
            }
            rig.assert_whole(&mut port);
        });
    }
}

type Fault = fn(&mut Log);
/// What the oracle must see: stamps given to the next name, one told twice, one that nobody asked for, two of a call
/// exchanged.
const FAULTS: [(Fault, &str); 4] = [
    (
        |log| {
            let last = log.told.last().unwrap().1;
            (1..log.told.len()).for_each(|at| log.told[at - 1].1 = log.told[at].1);
            log.told.last_mut().unwrap().1 = last;
        },
        "by a call of",
    ),
    (|log| log.told.push(log.told[0]), "twice"),
    (|log| log.told[3].0 = 3, "wasn't asked"),
    (
        |log| {
            let at = (1..log.told.len()).find(|at| {
                let call = |at: usize| log.asked[&log.told[at].0].0;
                call(at - 1) == call(*at)
            });
            let at = at.unwrap();
            (log.told[at].1, log.told[at - 1].1) = (log.told[at - 1].1, log.told[at].1);
        },
        "out of turn",
    ),
];

#[test]
fn what_never_left_is_never_told() {
    with_rig("departures of what stays", 1, AttachMode::Native, |rig| {
        let mut port = rig.port(1, 64);
        let mut log = Log::default();
        for (first, broken, mended) in
            [(0, "link set far down", "link set far up"), (1_000, "link set near down", "link set near up")]
        {
            (first..first + 40).for_each(|number| assert!(rig.client.send(&request(number, 40_000))));
            thread::sleep(SETTLED);
            assert_eq!(port.receive(Wait::Poll).unwrap(), 40);
            ip(broken);
            let sent = log.answer(&mut port, 40, |_| true);
            assert_eq!((sent.sent, sent.failed()), (0, 40));
            log.hear(&mut port);
            ip(mended);
            rig.wait_for_link();
            thread::sleep(SETTLED);
            while port.receive(Wait::Poll).unwrap() > 0 {}
            log.hear(&mut port);
            assert_eq!(log.told, [], "{broken}");
            echo_all_that_waits(&mut port);
        }
        (2_000..2_016).for_each(|number| assert!(rig.client.send(&request(number, 40_000))));
        thread::sleep(SETTLED);
        let received = port.receive(Wait::Poll).unwrap();
        log.answer(&mut port, received, |_| true);
        log.hear(&mut port);
        log.check().unwrap();
        assert!(log.told.iter().all(|(name, _)| *name >= 2_000) && log.told.len() >= 12, "{log:?}");
    });
}

fn echo_all_that_waits(port: &mut XskPort) {
    while port.receive(SHORT).unwrap() > 0 {}
}

#[test]
fn asking_allocates_nothing_and_nobody_need_listen() {
    with_rig("departures without allocations", 1, AttachMode::Native, |rig| {
        let mut port = rig.port(1, 64);
        let mut replies = Vec::with_capacity(64);
        let mut told = 0;
        for round in 0..60 {
            (0..16).for_each(|number| assert!(rig.client.send(&request(round * 16 + number, 40_000))));
            let ((), allocations) = allocations_in(|| {
                let received = port.receive(SHORT).unwrap();
                replies.clear();
                for index in 0..received {
                    let name = Some(number(port.datagram(index).1));
                    replies.push(Outgoing { index: index.try_into().unwrap(), length: 90, departure: name });
                }
                port.send(&replies, |_, _| {}).unwrap();
                if round >= 40 {
                    port.departures(|_| told += 1).unwrap();
                }
            });
            assert_eq!(allocations, 0);
        }
        assert!(told >= 256, "{told}");
    });
}

/// Quantiles of how long after the told departures the far end received the replies, in nanoseconds.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "they are printed")]
struct Behind {
    count: usize,
    mean: i64,
    deviation: i64,
    least: i64,
    median: i64,
    nine_of_ten: i64,
    most: i64,
    untold: usize,
}

impl Behind {
    fn of(mut behind: Vec<i64>, untold: usize) -> Self {
        behind.sort_unstable();
        let count = behind.len();
        let total = i64::try_from(count).unwrap();
        let mean = behind.iter().sum::<i64>() / total;
        let variance = behind.iter().map(|ns| (ns - mean) * (ns - mean)).sum::<i64>() / total;
        Self {
            count,
            mean,
            deviation: variance.isqrt(),
            least: behind[0],
            median: behind[count / 2],
            nine_of_ten: behind[count * 9 / 10],
            most: behind[count - 1],
            untold,
        }
    }
}

#[test]
fn the_far_end_receives_just_after_the_departure() {
    for mode in MODES {
        with_rig("departures beside receive stamps", 1, mode, |rig| {
            ip("link set lo up");
            ip(&format!("address add {CLIENT}/24 dev near"));
            ip(&format!("neigh add {SERVER} lladdr 02:00:00:00:00:01 dev near"));
            // The program passes on what has no checksum yet.
            let made = Command::new("ethtool").args(["-K", "near", "tx", "off"]).output().unwrap();
            assert!(made.status.success(), "{made:?}");
            let mut port = rig.port(1, 64);
            for burst in [1, 4, 16, 64] {
                let behind = behind(&mut port, burst, 2_000 / burst.max(4));
                println!("{mode:?}, bursts of {burst}: {behind:?}");
                assert!(behind.untold * 10 <= behind.count, "{behind:?}");
                assert!(behind.median.abs() < 1_500, "{behind:?}");
            }
        });
    }
}

fn behind(port: &mut XskPort, burst: u64, rounds: u64) -> Behind {
    let mut client = UdpClient::open(CLIENT.into(), (SERVER, SERVICE_PORT).into(), 64).unwrap();
    let mut outbox = Outbox::new(64);
    let (mut log, mut received, mut next) = (Log::default(), BTreeMap::new(), 0_u64);
    for _ in 0..rounds {
        for _ in 0..burst {
            outbox.push(None, false, |slot| {
                slot[..48].fill(0x23);
                slot[..8].copy_from_slice(&next.to_be_bytes());
                48
            });
            next += 1;
        }
        client.send(&mut outbox).unwrap();
        let (mut came, end) = (0, Instant::now() + LIMIT);
        while came < burst && Instant::now() < end {
            let count = port.receive(SHORT).unwrap();
            log.answer(port, count, |_| true);
            log.hear(port);
            came += count as u64;
        }
        assert_eq!(came, burst, "not all came");
        thread::sleep(Duration::from_micros(200));
        // The far end's clock as the port's.
        let offset = read(KernelClock::Realtime) - read(KernelClock::Monotonic);
        client
            .receive(|reply| {
                let name = u64::from_be_bytes(*reply.payload.first_chunk().unwrap());
                received.extend(reply.stamp.map(|stamp| (name, stamp.nanos - offset)));
            })
            .unwrap();
    }
    log.check().unwrap();
    let told: Vec<i64> =
        log.told.iter().filter_map(|(name, nanos)| Some(received.get(name)? - nanos)).collect();
    Behind::of(told, log.asked.len() - log.told.len())
}
