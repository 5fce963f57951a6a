//! How fast an echo is: one core for the server and the thread that receives its requests, the other for the generator and
//! the thread that takes the replies. Run it alone:
//! `cargo test --release -p maser-sys --test af_xdp figures -- --ignored --nocapture`.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use maser_sys::af_xdp::{BusyPoll, XskPort, XskSetting};
use maser_sys::datagram::{Outgoing, Sent, Wait};
use maser_sys::kernel_clock::{KernelClock, read};
use maser_sys::live_frames::{CountSetting, Interval, LiveSender, LiveSetting, ReplyCounter};
use maser_sys::xdp_program::AttachMode;

use crate::rig::{CLIENT_RANGE, LIMIT, MODES, Rig, SERVER, SERVICE_PORT, request, turn, with_rig};

const SERVER_CORE: usize = 0;
const GENERATOR_CORE: usize = 1;
const KEY: u64 = 0xFEED_5EED_0BAD_CAFE;
const RATES: [u32; 7] = [300_000, 400_000, 500_000, 600_000, 700_000, 850_000, 1_000_000];
const STEP_MS: u64 = 500;
const BATCH: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Way {
    wait: Wait,
    busy_poll: bool,
    /// The requests are received by a thread of the server's core rather than by the generator.
    threaded: bool,
}

#[test]
#[ignore = "it takes both cores for a minute"]
fn figures() {
    let until = Wait::Until(Duration::from_millis(100));
    for mode in MODES {
        for (wait, busy_poll, threaded) in [
            (until, false, true),
            (Wait::Poll, false, true),
            (Wait::Poll, true, true),
            (until, false, false),
            (Wait::Poll, false, false),
            (Wait::Poll, true, false),
        ] {
            let way = Way { wait, busy_poll, threaded };
            with_rig("figures", 1, mode, |rig| measure(rig, mode, way));
        }
    }
}

fn measure(rig: &Rig, mode: AttachMode, way: Way) {
    place(way);
    let busy_poll = way.busy_poll.then_some(BusyPoll { microseconds: 20, budget: 64 });
    let setting = XskSetting { frames: 4096, busy_poll, ..rig.setting(0) };
    let xsk = rig.open(&setting);
    let statistics = xsk.statistics().unwrap();
    let mut port = XskPort::new(vec![xsk], BATCH).unwrap();
    let (over, mut best, mut lossless) = (AtomicBool::new(false), 0, 0);
    let mut line = String::new();
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(&mut port, way.wait, &over));
        pin(GENERATOR_CORE);
        for rate in RATES {
            let (offered, answered) = step(rig, rate);
            best = best.max(answered);
            if answered * 100 > offered * 99 {
                lossless = lossless.max(answered);
            }
            line += &format!(" {}/{}", answered / 1000, offered / 1000);
        }
        over.store(true, Ordering::Relaxed);
        let total = server.join().unwrap();
        println!(
            "{mode:?} {way:?}\n  k answered/offered:{line}; best {best}, with ≤ 1 % loss {lossless}; {total:?}"
        );
    });
    println!("  {:?}", statistics.read().unwrap());
    rig.assert_whole(&mut port);
}

/// Echoes until it is over.
fn serve(port: &mut XskPort, wait: Wait, over: &AtomicBool) -> Sent {
    pin(SERVER_CORE);
    let (mut replies, mut total) = (Vec::with_capacity(BATCH), Sent::default());
    while !over.load(Ordering::Relaxed) {
        let received = port.receive(wait).unwrap();
        replies.clear();
        for index in 0..received {
            let frame = port.datagram(index).1;
            turn(frame);
            let (from, to) = frame[26..34].split_at_mut(4);
            from.swap_with_slice(to);
            let (from, to) = frame[34..38].split_at_mut(2);
            from.swap_with_slice(to);
            let length = frame.len().try_into().unwrap();
            replies.push(Outgoing { index: index.try_into().unwrap(), length, departure: None });
        }
        let sent = port.send(&replies, |_, _| {}).unwrap();
        total.sent += sent.sent;
        total.congested += sent.congested;
        total.refused += sent.refused;
    }
    total
}

/// Requests a second that were offered and that were answered.
fn step(rig: &Rig, rate: u32) -> (u64, u64) {
    let interval = Interval::of_rate(rate).unwrap();
    let setting = CountSetting {
        interface: rig.near,
        target: (SERVER, SERVICE_PORT).into(),
        key: KEY,
        echo: true,
        sample: 1000,
        interval,
        versions: 1 << 4,
        modes: 1 << 3,
    };
    let replies = ReplyCounter::attach(&setting).unwrap_or_else(|error| panic!("{error}"));
    let mut frame = request(0, 40_000);
    frame[26..30].copy_from_slice(&CLIENT_RANGE.octets());
    frame[42] = 0x23;
    let live = LiveSetting { interface: rig.near, frame: &frame, clients: 10_000, variants: &[], key: KEY };
    let mut sender = LiveSender::new(&live).unwrap_or_else(|error| panic!("{error}"));
    let count = u64::from(rate) * STEP_MS / 1000;
    let begun = Instant::now();
    sender.schedule(read(KernelClock::Monotonic) + 1_000_000, interval, count).unwrap();
    while !sender.run().unwrap() {
        assert!(begun.elapsed() < LIMIT, "{:?}", sender.counts());
    }
    let elapsed_us = u64::try_from(begun.elapsed().as_micros()).unwrap();
    thread::sleep(Duration::from_millis(50));
    let (sent, counts) = (sender.counts().unwrap().sent, replies.counts().unwrap());
    let answered = counts.valid + counts.duplicate + counts.order + counts.stratum + counts.unsynchronised;
    if answered == 0 {
        println!("{counts:?}");
    }
    (sent * 1_000_000 / elapsed_us, answered * 1_000_000 / elapsed_us)
}

/// Puts the threads that receive where they belong.
fn place(way: Way) {
    let settings = |end: &str, polls: u32, pause: u32| {
        format!(
            "echo {polls} > /sys/class/net/{end}/napi_defer_hard_irqs;
             echo {pause} > /sys/class/net/{end}/gro_flush_timeout;
             echo 1 > /sys/class/net/{end}/threaded;"
        )
    };
    let far = if way.threaded { settings("far", 0, 0) } else { String::new() };
    // A view of the namespace's own interfaces, for this shell only.
    let script = format!(
        "mount -t sysfs none /sys && ethtool -K near tx off gro on && ethtool -K far tx off gro on; {far} {}",
        settings("near", 100, 50_000)
    );
    run("unshare", &["--mount", "sh", "-c", &script]);
    thread::sleep(Duration::from_millis(50));
    if way.threaded {
        let thread = napi_thread("far");
        run("taskset", &["-pc", &SERVER_CORE.to_string(), &thread]);
        run("renice", &["-n", "-19", "-p", &thread]);
    }
    let thread = napi_thread("near");
    run("taskset", &["-pc", &GENERATOR_CORE.to_string(), &thread]);
    run("chrt", &["-f", "-p", "50", &thread]);
}

/// The newest thread that receives for an interface of this name.
fn napi_thread(interface: &str) -> String {
    let wanted = format!("napi/{interface}-");
    let number = |entry: fs::DirEntry| -> Option<u32> {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        name.starts_with(&wanted).then(|| entry.file_name().to_string_lossy().parse().ok())?
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(number)
        .max()
        .expect("a thread that receives")
        .to_string()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// Puts this thread on a core, ahead of what else runs there.
fn pin(core: usize) {
    assert!(core_affinity::set_for_current(core_affinity::CoreId { id: core }));
    // SAFETY: the call takes plain numbers; 0 is this thread.
    assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -19) }, 0);
}
