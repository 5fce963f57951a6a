//! Frames that come and go.

use std::thread;
use std::time::Duration;

use maser_core::time::StampClock;
use maser_sys::af_xdp::{BusyPoll, XskPort, XskSetting};
use maser_sys::alloc_count::allocations_in;
use maser_sys::datagram::{Carried, Outgoing, Sent, Wait};
use maser_sys::kernel_clock::{KernelClock, read};
use maser_sys::xdp_program::AttachMode;

use crate::rig::{
    FRAMES, LISTENER, MODES, Rig, SERVICE_PORT, SETTLED, SHORT, STAMP_AT, answer, answered, echo_all, number,
    request, turn, with_rig,
};

#[test]
fn frames_are_echoed_with_what_is_known_of_them() {
    for mode in MODES {
        with_rig("an echo", 1, mode, |rig| {
            let mut port = rig.port(1, 32);
            for round in 0..20 {
                let sent = request(round, 40_000);
                assert!(rig.client.send(&sent));
                assert_eq!(port.receive(SHORT).unwrap(), 1, "{mode:?} {round}");
                let (arrival, frame) = port.datagram(0);
                assert_eq!(frame, sent, "{mode:?}: the frame as it was sent");
                assert_eq!((arrival.socket, arrival.whole, arrival.nic_stamp), (LISTENER, true, None));
                assert_eq!(arrival.carried, Carried::Frame { service_port: SERVICE_PORT });
                let stamp = arrival.stamp.unwrap();
                let age_ns = read(KernelClock::Monotonic) - stamp.nanos;
                assert_eq!(stamp.clock, StampClock::Monotonic);
                assert!((0..1_000_000_000).contains(&age_ns), "stamped {age_ns} ns ago");
                assert_eq!(answer(&mut port, 1, |_| true), Sent { sent: 1, ..Sent::default() });
                assert_eq!(rig.client.replies(1), [answered(sent)], "{mode:?}");
            }
            rig.assert_whole(&mut port);
        });
    }
}

#[test]
fn a_reply_may_be_shorter_than_its_request() {
    with_rig("a short reply", 1, AttachMode::Native, |rig| {
        let mut port = rig.port(1, 4);
        let mut long = [7; 1000];
        long[..90].copy_from_slice(&request(1, 40_000));
        // The lengths of the headers say the same.
        long[16..18].copy_from_slice(&986_u16.to_be_bytes());
        long[38..40].copy_from_slice(&966_u16.to_be_bytes());
        assert!(rig.client.send(&long));
        assert_eq!(port.receive(SHORT).unwrap(), 1);
        assert_eq!(port.datagram(0).1, long);
        turn(port.datagram(0).1);
        let sent = port.send(&[Outgoing { index: 0, length: 90, departure: None }], |_, frame| {
            assert_eq!(frame.len(), 90);
            frame[STAMP_AT] = 0x55;
        });
        assert_eq!(sent.unwrap().sent, 1);
        assert_eq!(number(&rig.client.replies(1)[0]), 1);
    });
}

#[test]
fn a_batch_may_be_smaller_than_what_waits() {
    with_rig("small batches", 1, AttachMode::Native, |rig| {
        let mut port = rig.port(1, 8);
        (0..50).for_each(|number| assert!(rig.client.send(&request(number, 40_000))));
        thread::sleep(SETTLED);
        let mut next = 0;
        for expected in [8, 8, 8, 8, 8, 8, 2, 0] {
            assert_eq!(port.receive(Wait::Poll).unwrap(), expected);
            for index in 0..expected {
                assert_eq!(number(port.datagram(index).1), next, "in order, none twice");
                next += 1;
            }
        }
        rig.assert_whole(&mut port);
    });
}

#[test]
fn frames_that_are_not_answered_are_received_into_again() {
    for mode in MODES {
        with_rig("unanswered frames", 1, mode, |rig| {
            let mut port = rig.port(1, 64);
            // Each frame is needed some ten times.
            for round in 0..10 * u64::from(FRAMES) / 32 {
                for index in 0..32 {
                    assert!(rig.client.send(&request(round * 32 + index, 40_000)));
                }
                let mut came = 0;
                while came < 32 {
                    let received = port.receive(SHORT).unwrap();
                    assert!(received > 0, "{mode:?}: {came} came in round {round}");
                    came += received;
                }
            }
            port.receive(Wait::Poll).unwrap();
            // Now as many wait as there are frames.
            for number in 0..u64::from(FRAMES) {
                assert!(rig.client.send(&request(number, 40_000)));
                if number % 64 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            echo_all(&mut port, FRAMES as usize);
            assert_eq!(rig.client.replies(FRAMES as usize).len(), FRAMES as usize);
            port.receive(Wait::Poll).unwrap();
            rig.assert_whole(&mut port);
        });
    }
}

#[test]
fn every_queue_has_its_turn() {
    with_rig("two queues", 2, AttachMode::Native, |rig| {
        let mut port = rig.port(2, 4);
        for number in 0..64 {
            // The sender spreads flows over its queues, each of which leads to one of ours.
            assert!(rig.client.send(&request(number, 40_000 + u16::try_from(number).unwrap())));
        }
        thread::sleep(SETTLED);
        let mut batches: Vec<Vec<u64>> = Vec::new();
        loop {
            let received = port.receive(Wait::Poll).unwrap();
            if received == 0 {
                break;
            }
            batches.push((0..received).map(|index| number(port.datagram(index).1)).collect());
            answer(&mut port, received, |_| true);
        }
        let mut all = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..64).collect::<Vec<_>>(), "what comes by either queue is received");
        // While both have something, every other batch is one queue's, in its order, and the next goes back to what came
        // by the other meanwhile.
        let both = &batches[..8];
        let of = |parity| both.iter().skip(parity).step_by(2).flatten();
        assert!(of(0).is_sorted() && of(1).is_sorted(), "not in turn: {batches:?}");
        assert!(!both.concat().is_sorted(), "one after the other: {batches:?}");
        assert_eq!(rig.client.replies(64).len(), 64);
        port.receive(Wait::Poll).unwrap();
        rig.assert_whole(&mut port);
    });
}

/// Sends requests and answers them without allocating anything itself.
fn batches(rig: &Rig, port: &mut XskPort, replies: &mut Vec<Outgoing>, wait: Wait) -> usize {
    let mut answered = 0;
    for round in 0..50 {
        (0..16).for_each(|number| assert!(rig.client.send(&request(round * 16 + number, 40_000))));
        let received = port.receive(wait).unwrap();
        replies.clear();
        for index in 0..received {
            let length = port.datagram(index).1.len().try_into().unwrap();
            replies.push(Outgoing { index: index.try_into().unwrap(), length, departure: None });
        }
        answered += port.send(replies, |_, frame| frame[STAMP_AT] = 0x55).unwrap().sent;
    }
    answered
}

#[test]
fn batches_allocate_nothing() {
    with_rig("batches without allocations", 1, AttachMode::Native, |rig| {
        let mut port = rig.port(1, 64);
        let mut replies = Vec::with_capacity(64);
        for wait in [SHORT, Wait::Poll] {
            let (answered, allocations) = allocations_in(|| batches(rig, &mut port, &mut replies, wait));
            assert!(answered > 100, "{answered} were answered");
            assert_eq!(allocations, 0);
        }
    });
}

#[test]
fn a_socket_may_poll_the_driver_itself() {
    with_rig("busy polling", 1, AttachMode::Native, |rig| {
        let busy_poll = Some(BusyPoll { microseconds: 20, budget: 64 });
        let xsk = rig.open(&XskSetting { busy_poll, ..rig.setting(0) });
        let mut port = XskPort::new(vec![xsk], 32).unwrap();
        (0..100).for_each(|number| assert!(rig.client.send(&request(number, 40_000))));
        thread::sleep(SETTLED);
        let mut came = 0;
        for _ in 0..100 {
            let received = port.receive(Wait::Poll).unwrap();
            came += received;
            answer(&mut port, received, |_| true);
        }
        assert_eq!((came, rig.client.replies(100).len()), (100, 100));
        port.receive(Wait::Poll).unwrap();
        rig.assert_whole(&mut port);
    });
}
