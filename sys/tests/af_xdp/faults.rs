//! What goes wrong: links that go down, kernels that take nothing, interfaces that are removed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use maser_sys::af_xdp::XskPort;
use maser_sys::datagram::{Sent, Wait};
use maser_sys::xdp_program::AttachMode;

use crate::rig::{
    FRAMES, LIMIT, MODES, Rig, SETTLED, SHORT, answer, echo_all, ip, number, request, with_rig,
};

#[test]
fn no_frame_is_lost_when_the_link_goes_down_and_up() {
    for mode in MODES {
        with_rig("200,000 packets", 1, mode, |rig| {
            let mut port = rig.port(1, 64);
            let over = AtomicBool::new(false);
            let (mut came, mut total) = (0_u64, Sent::default());
            thread::scope(|scope| {
                let far = &*rig;
                let asker = scope.spawn(|| ask(far, &over));
                while !over.load(Ordering::Relaxed) {
                    let received = port.receive(SHORT).unwrap();
                    let sent = answer(&mut port, received, |number| number % 10 != 0);
                    came += received as u64;
                    total.sent += sent.sent;
                    total.congested += sent.congested;
                    total.refused += sent.refused;
                }
                let (asked, replies) = asker.join().unwrap();
                println!("{mode:?}: {asked} asked, {came} came, {total:?}, {replies} replies");
                assert!(asked >= 200_000 && came > asked * 3 / 4, "{asked} {came}");
                assert!(replies > came * 8 / 10, "{came} came, {replies} were answered");
            });
            rig.wait_for_link();
            while port.receive(Wait::Poll).unwrap() > 0 {}
            rig.assert_whole(&mut port);
            // Every frame can still be used: more than there are come and are answered.
            for round in 0..2 * u64::from(FRAMES) / 32 {
                (0..32).for_each(|number| assert!(rig.client.send(&request(round * 32 + number, 40_000))));
                echo_all(&mut port, 32);
            }
        });
    }
}

/// Asks 200,000 times, in bursts that fit the queues, while the link goes down and up three times with requests and
/// replies on the way; how often it asked and was answered.
fn ask(rig: &Rig, over: &AtomicBool) -> (u64, u64) {
    let (mut asked, mut replies) = (0, 0);
    let (asks, end) = (AtomicU64::new(0), Instant::now() + 6 * LIMIT);
    thread::scope(|scope| {
        let breaker = scope.spawn(|| {
            for fall in [50_000, 100_000, 150_000] {
                while asks.load(Ordering::Relaxed) < fall && Instant::now() < end {
                    thread::sleep(Duration::from_micros(100));
                }
                ip("link set far down");
                thread::sleep(Duration::from_millis(100));
                ip("link set far up");
            }
        });
        while asked < 200_000 && Instant::now() < end {
            let before = asked;
            for _ in 0..64 {
                asked += u64::from(rig.client.send(&request(asked, 40_000)));
            }
            asks.store(asked, Ordering::Relaxed);
            let wanted = replies + (asked - before) * 9 / 10;
            let patience = Instant::now() + Duration::from_millis(5);
            while replies < wanted && Instant::now() < patience {
                replies += u64::from(rig.client.reply().is_some());
            }
        }
        breaker.join().unwrap();
    });
    thread::sleep(Duration::from_millis(100));
    while rig.client.reply().is_some() {
        replies += 1;
    }
    over.store(true, Ordering::Relaxed);
    (asked, replies)
}

/// Receives `count` frames as one batch.
fn one_batch(rig: &Rig, port: &mut XskPort, first: u64, count: u64) {
    (first..first + count).for_each(|number| assert!(rig.client.send(&request(number, 40_000))));
    thread::sleep(SETTLED);
    assert_eq!(port.receive(Wait::Poll).unwrap() as u64, count);
}

#[test]
fn what_the_kernel_does_not_take_is_counted_and_never_arrives() {
    for mode in MODES {
        with_rig("a kernel that takes nothing", 1, mode, |rig| {
            let mut port = rig.port(1, 64);
            one_batch(rig, &mut port, 0, 40);
            ip("link set far down");
            let sent = answer(&mut port, 40, |_| true);
            // One chunk waits in the ring; behind it nothing is queued, or stamped.
            assert_eq!(sent, Sent { sent: 0, congested: 24, refused: 16 });
            for _ in 0..3 {
                assert_eq!(port.receive(Wait::Poll).unwrap(), 0);
            }
            assert_eq!(port.frames_missing(), 0);
            ip("link set far up");
            rig.wait_for_link();
            thread::sleep(SETTLED);
            assert_eq!(port.receive(Wait::Poll).unwrap(), 0);
            let late: Vec<u64> = rig.client.replies(40).iter().map(|reply| number(reply)).collect();
            assert_eq!(late, Vec::<u64>::new(), "their stamps are old");
            one_batch(rig, &mut port, 100, 40);
            assert_eq!(answer(&mut port, 40, |_| true), Sent { sent: 40, ..Sent::default() });
            assert_eq!(rig.client.replies(40).len(), 40);
            port.receive(Wait::Poll).unwrap();
            rig.assert_whole(&mut port);
        });
    }
}

#[test]
fn replies_that_the_device_drops_are_counted() {
    with_rig("a device that drops", 1, AttachMode::Native, |rig| {
        let mut port = rig.port(1, 64);
        one_batch(rig, &mut port, 0, 40);
        // The peer is down: this end is up but has no carrier, and drops each packet.
        ip("link set near down");
        let sent = answer(&mut port, 40, |_| true);
        assert_eq!(sent, Sent { congested: 40, ..Sent::default() });
        port.receive(Wait::Poll).unwrap();
        rig.assert_whole(&mut port);
    });
}

#[test]
fn an_interface_that_is_removed_ends_the_port() {
    with_rig("an interface that is removed", 1, AttachMode::Native, |rig| {
        let mut port = rig.port(1, 64);
        one_batch(rig, &mut port, 0, 40);
        ip("link delete far");
        let end = Instant::now() + LIMIT;
        while port.receive(SHORT).is_ok() {
            assert!(Instant::now() < end, "nothing said that the interface is gone");
        }
    });
}

#[test]
fn what_is_dropped_for_want_of_frames_is_counted_and_nothing_is_lost() {
    for mode in MODES {
        with_rig("a want of frames", 1, mode, |rig| {
            let xsk = rig.open(&rig.setting(0));
            let statistics = xsk.statistics().unwrap();
            assert_eq!(statistics.read().unwrap().rx_dropped, 0);
            let mut port = XskPort::new(vec![xsk], 1024).unwrap();
            for number in 0..2 * u64::from(FRAMES) {
                assert!(rig.client.send(&request(number, 40_000)));
                if number % 64 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            thread::sleep(SETTLED);
            let counts = statistics.read().unwrap();
            assert_eq!(counts.rx_dropped, u64::from(FRAMES), "{counts:?}");
            assert!(counts.rx_fill_ring_empty_descs > 0, "{counts:?}");
            assert_eq!(port.receive(Wait::Poll).unwrap(), FRAMES as usize);
            answer(&mut port, FRAMES as usize, |_| true);
            rig.client.replies(FRAMES as usize);
            assert_eq!(port.receive(Wait::Poll).unwrap(), 0);
            rig.assert_whole(&mut port);
            let counts = statistics.read().unwrap();
            assert_eq!((counts.rx_invalid_descs, counts.tx_invalid_descs, counts.rx_ring_full), (0, 0, 0));
        });
    }
}

#[test]
fn a_reply_that_is_being_sent_cannot_be_changed() {
    with_rig("a reply that is being sent", 1, AttachMode::Native, |rig| {
        let mut port = rig.port(1, 4);
        one_batch(rig, &mut port, 0, 1);
        answer(&mut port, 1, |_| true);
        let changed = catch_unwind(AssertUnwindSafe(|| port.datagram(0).1.fill(0)));
        let why = *changed.unwrap_err().downcast::<String>().unwrap();
        assert!(why.contains("is being sent"), "{why}");
    });
}
