//! The test doubles are what they say, seen with outside means: linuxptp's phc_ctl, hwstamp_ctl and ts2phc, ethtool, plain sockets.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use maser_sys::kernel_clock::{KernelClock, read};
use maser_sys::pps::{Edge, PpsDevice};
use nix::errno::Errno;
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

use crate::double::{Double, hardware_clock, nic, pps_device};
use crate::peers::host::{ip, run};
use crate::{is_counted_or_skip, measured};

const SECOND_NS: i64 = 1_000_000_000;
/// A pulse takes a second to come, and may be a lost one.
const FETCH_LIMIT: Duration = Duration::from_secs(4);
/// A pulse is that close to the raw time it states: what remains is the reading of two clocks.
const PULSE_NS_MAX: i64 = 1_000;
/// Two frames' stamps, by two readings of two clocks that take up to this each.
const STAMP_NS_MAX: i64 = 2_000;

/// What a stamp of `CLOCK_REALTIME` was on `CLOCK_MONOTONIC_RAW`, by a reading of both now.
fn raw_of_realtime(stamp_ns: i64) -> i64 {
    let before = read(KernelClock::MonotonicRaw);
    let realtime = read(KernelClock::Realtime);
    before.midpoint(read(KernelClock::MonotonicRaw)) + stamp_ns - realtime
}

/// The next pulse: its number, how far its stamp is from the raw time stated, and that raw time.
fn pulse(device: &mut PpsDevice, double: &Double) -> (u32, i64, i64) {
    let event = device.fetch(FETCH_LIMIT).unwrap().expect("a pulse within some seconds");
    let stated_ns = double.parameter("told_raw_ns").number();
    (event.sequence, raw_of_realtime(event.realtime_ns) - stated_ns, stated_ns)
}

fn is_on_time(off_ns: i64) -> bool {
    off_ns.abs() <= PULSE_NS_MAX
}

/// busybox has clock_adjtime(2) as a command; 2⁻¹⁶ ppm.
fn steer(ppm: i64) {
    run(Command::new("busybox").args(["adjtimex", "-q", "-f", &(ppm << 16).to_string()])).unwrap();
}

#[test]
fn pulses_come_when_the_raw_clock_says_whoever_steers_the_others() {
    if !is_counted_or_skip("pulses of maser_pps") {
        return;
    }
    let double = Double::load("maser_pps", "ppb=7000");
    let mut device = PpsDevice::open(&pps_device().unwrap(), Edge::Assert).unwrap();
    let mut offs_ns = Vec::new();
    for ppm in [0, 400, -400] {
        steer(ppm);
        let (_, _, mut last_ns) = pulse(&mut device, &double);
        for _ in 0..4 {
            let (_, off_ns, stated_ns) = pulse(&mut device, &double);
            offs_ns.push(off_ns);
            // 10⁹ ns of its own: 7 ppm faster.
            assert!((stated_ns - last_ns - 999_993_000).abs() <= 1, "{stated_ns} after {last_ns}");
            last_ns = stated_ns;
        }
    }
    steer(0);
    assert!(offs_ns.iter().all(|&off_ns| is_on_time(off_ns)), "{offs_ns:?}");
    offs_ns.sort_by_key(|off_ns| off_ns.abs());
    measured(&format!("maser_pps: stamps are off by {} ns at most", offs_ns[offs_ns.len() - 1].abs()));
    // The oracle finds a pulse that is late by 2 µs: when the interrupt is served, it is later than that.
    double.parameter("latched").set("N");
    let late_ns: Vec<_> = (0..4).map(|_| pulse(&mut device, &double).1).skip(1).collect();
    measured(&format!("maser_pps: served {late_ns:?} ns after they were due"));
    double.parameter("latched").set("Y");
    double.parameter("phase_ns").set(2_000);
    pulse(&mut device, &double);
    let (.., due_ns) = pulse(&mut device, &double);
    double.parameter("phase_ns").set(0);
    pulse(&mut device, &double);
    let (.., again_ns) = pulse(&mut device, &double);
    let off_ns = (again_ns - due_ns).rem_euclid(999_993_000) - 999_993_000;
    assert!(!is_on_time(off_ns) && (off_ns + 2_000).abs() <= 2, "{off_ns}");
}

#[test]
fn pulses_are_lost_and_doubled_and_their_device_comes_back() {
    if !is_counted_or_skip("faults of maser_pps") {
        return;
    }
    let double = Double::load("maser_pps", "");
    let mut device = PpsDevice::open(&pps_device().unwrap(), Edge::Assert).unwrap();
    let seconds_to_next = |device: &mut PpsDevice| {
        let (first, _, begun_ns) = pulse(device, &double);
        let (next, _, ended_ns) = pulse(device, &double);
        assert_eq!(next, first + 1);
        (ended_ns - begun_ns) as f64 / SECOND_NS as f64
    };
    assert!((seconds_to_next(&mut device) - 1.0).abs() < 1e-6);
    double.parameter("lose").set(2);
    assert!(
        (seconds_to_next(&mut device) - 1.0).abs() < 1e-6,
        "that one isn't lost: it came after two that were"
    );
    let begun_ns = pulse(&mut device, &double).2;
    double.parameter("lose").set(2);
    assert!((pulse(&mut device, &double).2 - begun_ns - 3 * SECOND_NS).abs() < 10, "two were lost");
    double.parameter("double_ns").set(300_000_000);
    pulse(&mut device, &double);
    let apart = [seconds_to_next(&mut device), seconds_to_next(&mut device)];
    assert!(apart.iter().all(|apart| (apart - 0.3).abs() < 1e-6 || (apart - 0.7).abs() < 1e-6), "{apart:?}");
    double.parameter("double_ns").set(0);
    double.parameter("silent").set("Y");
    while device.fetch(Duration::from_millis(1_100)).unwrap().is_some() {}
    assert_eq!(device.fetch(FETCH_LIMIT).unwrap(), None, "silent");
    double.parameter("silent").set("N");
    pulse(&mut device, &double);
    // Gone while it is open; what comes back is another one.
    double.parameter("plugged").set("N");
    assert_eq!(pps_device(), None);
    assert_eq!(device.fetch(FETCH_LIMIT).unwrap(), None, "gone");
    for _ in 0..20 {
        double.parameter("plugged").set("Y");
        double.parameter("plugged").set("N");
    }
    double.parameter("plugged").set("Y");
    let mut again = PpsDevice::open(&pps_device().unwrap(), Edge::Assert).unwrap();
    assert_eq!(pulse(&mut again, &double).0, 1);
    assert_eq!(device.fetch(Duration::ZERO).unwrap(), None, "it isn't the one that went");
    drop(double);
    assert_eq!(pps_device(), None);
}

/// A hardware clock, as clock_gettime(2) reads it.
struct HardwareClock {
    device: PathBuf,
    file: File,
}

impl HardwareClock {
    fn of(interface: &str) -> Self {
        let device = hardware_clock(interface);
        let file = File::options().read(true).write(true).open(&device).unwrap();
        Self { device, file }
    }

    fn read(&self) -> Result<i64, Errno> {
        let clock = ClockId::from_raw((!self.file.as_raw_fd() << 3) | 3);
        clock_gettime(clock).map(|time| time.num_nanoseconds())
    }

    /// How far it is ahead of the raw clock.
    fn ahead_ns(&self) -> i64 {
        let before = read(KernelClock::MonotonicRaw);
        let time = self.read().unwrap();
        time - before.midpoint(read(KernelClock::MonotonicRaw))
    }

    /// How much faster it is than the raw clock, over some seconds.
    fn ppm(&self) -> f64 {
        let (raw, ahead) = (read(KernelClock::MonotonicRaw), self.ahead_ns());
        thread::sleep(Duration::from_secs(3));
        (self.ahead_ns() - ahead) as f64 / (read(KernelClock::MonotonicRaw) - raw) as f64 * 1e6
    }

    fn control(&self, commands: &[&str]) {
        run(Command::new("phc_ctl").arg(&self.device).arg("--").args(commands)).unwrap();
    }
}

fn is_near(ppm: f64, wanted: f64) -> bool {
    (ppm - wanted).abs() < 1.0
}

#[test]
fn a_hardware_clock_is_off_as_it_was_told_to_and_its_user_sets_it() {
    if !is_counted_or_skip("hardware clocks of maser_nic") {
        return;
    }
    let _double = Double::load("maser_nic", "pairs=2");
    let (clock, other) = (HardwareClock::of("mnic0"), HardwareClock::of("mnic3"));
    let apart_ns = |clock: &HardwareClock| clock.ahead_ns() - other.ahead_ns();
    let before_ns = apart_ns(&clock);
    nic("mnic0", "phc_jump_ns").set(37 * SECOND_NS);
    let jumped_ns = apart_ns(&clock) - before_ns;
    assert!((jumped_ns - 37 * SECOND_NS).abs() < STAMP_NS_MAX, "{jumped_ns}");
    nic("mnic0", "phc_ppb").set(5_000);
    let found = [clock.ppm(), other.ppm()];
    measured(&format!(
        "maser_nic: clocks of 5 and 0 ppm are found {:.3} and {:.3} ppm fast",
        found[0], found[1]
    ));
    assert!(is_near(found[0], 5.0) && is_near(found[1], 0.0));
    assert!(!is_near(found[0], 0.0), "the oracle can tell them apart");
    clock.control(&["freq", "-5000"]);
    assert!(is_near(clock.ppm(), 0.0));
    let before_ns = clock.ahead_ns();
    clock.control(&["adj", "-1.5"]);
    let moved_ns = clock.ahead_ns() - before_ns;
    assert!((moved_ns + 1_500_000_000).abs() < STAMP_NS_MAX, "{moved_ns}");
    clock.control(&["set", "1000.0"]);
    assert!((1_000..1_010).contains(&(clock.read().unwrap() / SECOND_NS)));
    nic("mnic0", "phc_stopped").set(1);
    assert_eq!(clock.read(), clock.read());
    nic("mnic0", "phc_stopped").set(0);
    assert_ne!(clock.read(), clock.read());
    nic("mnic0", "phc_fails").set(1);
    assert_eq!(clock.read(), Err(Errno::EIO));
}

#[test]
fn a_clock_is_steered_by_the_pulses_on_its_pin() {
    if !is_counted_or_skip("external timestamps of maser_nic") {
        return;
    }
    let _double = Double::load("maser_nic", "");
    nic("mnic0", "phc_ppb").set(-2_000);
    nic("mnic0", "pulse_ppb").set(3_000);
    let command = ["-s", "INT", "30", "ts2phc", "-m", "-q", "-s", "generic", "-c"];
    let ended = Command::new("timeout")
        .args(command)
        .arg(hardware_clock("mnic0"))
        .args(["-l", "7"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    // Its last words: … master offset NS s2 freq PPB
    let last = said.lines().rfind(|line| line.contains("master offset")).unwrap_or_else(|| panic!("{said}"));
    let words: Vec<_> = last.split_whitespace().collect();
    let [.., offset_ns, state, _, ppb] = words[..] else { panic!("{last}") };
    measured(&format!("maser_nic: ts2phc follows its pulses to {offset_ns} ns, at {ppb} ppb"));
    let (offset_ns, ppb): (i64, i64) = (offset_ns.parse().unwrap(), ppb.parse().unwrap());
    // It shows what it takes off.
    assert!(state == "s2" && offset_ns.abs() < 100 && (ppb + 5_000).abs() < 100, "{said}");
}

/// The pair with its ends on two hosts, stamping. Dropping it puts them back on one.
struct Wire(Double);

const FAR_HOST: &str = "maser-vm-far";
const NEAR: &str = "10.55.2.17";
const FAR: &str = "10.55.2.18";

impl Wire {
    fn new() -> Self {
        let wire = Self(Double::load("maser_nic", ""));
        for command in [
            format!("netns add {FAR_HOST}"),
            format!("link set mnic1 netns {FAR_HOST}"),
            format!("address add {NEAR}/28 dev mnic0"),
            format!("-n {FAR_HOST} address add {FAR}/28 dev mnic1"),
            "link set mnic0 up".to_owned(),
            format!("-n {FAR_HOST} link set mnic1 up"),
        ] {
            ip(&command).unwrap();
        }
        run(Command::new("hwstamp_ctl").args(["-i", "mnic0", "-t", "1", "-r", "1"])).unwrap();
        run(Command::new("ip")
            .args(["netns", "exec", FAR_HOST, "hwstamp_ctl"])
            .args(["-i", "mnic1", "-t", "1", "-r", "1"]))
        .unwrap();
        wire
    }

    /// Frames that were sent over it, stamps as raw time.
    fn frames(&self, count: usize) -> Vec<Frame> {
        let clocks = ["mnic0", "mnic1"].map(hardware_clock);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/stamps.py");
        let mut command = Command::new("python3");
        let ended = command
            .arg(script)
            .args([FAR_HOST, NEAR, FAR])
            .args(clocks)
            .arg(count.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
        let frames: Vec<_> = said.lines().map(Frame::of).collect();
        assert_eq!(frames.len(), count);
        // The first one waits for the other end's address.
        frames[1..].to_vec()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // What is left fails the next test; the module takes its interfaces along.
        let _ = ip(&format!("netns delete {FAR_HOST}"));
        let _ = &self.0;
    }
}

/// When a frame passed, on the raw clock.
#[derive(Clone, Copy, Debug)]
struct Frame {
    transmitted: Option<i64>,
    received: Option<i64>,
    noticed: i64,
    /// How well that is known.
    open_ns: i64,
}

impl Frame {
    fn of(line: &str) -> Self {
        let figures: Vec<Option<i64>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
        let [transmitted, received, Some(noticed), Some(open_ns)] = figures[..] else { panic!("{line}") };
        Self { transmitted, received, noticed, open_ns }
    }

    fn took_ns(&self) -> i64 {
        self.received.unwrap() - self.transmitted.unwrap()
    }

    fn waited_ns(&self) -> i64 {
        self.noticed - self.received.unwrap()
    }
}

fn took(frames: &[Frame], wanted_ns: i64) -> bool {
    frames.iter().all(|frame| (frame.took_ns() - wanted_ns).abs() < STAMP_NS_MAX + frame.open_ns)
}

#[test]
fn frames_are_stamped_at_their_beginning_at_both_ends() {
    if !is_counted_or_skip("stamps of maser_nic") {
        return;
    }
    let wire = Wire::new();
    // Their clocks have nothing to do with one another, nor with the machine's.
    nic("mnic0", "phc_jump_ns").set(37 * SECOND_NS);
    nic("mnic0", "phc_ppb").set(5_000);
    nic("mnic1", "phc_ns").set(1_000 * SECOND_NS);
    nic("mnic0", "cable_ns").set(50_000);
    let frames = wire.frames(6);
    assert!(took(&frames, 50_000), "{frames:?}");
    let [first, .., last] = frames[..] else { panic!("{frames:?}") };
    measured(&format!(
        "maser_nic: a wire of 50 us took {} and {} ns by the stamps of both ends, and a frame was noticed {} ns after its stamp",
        first.took_ns(),
        last.took_ns(),
        last.waited_ns()
    ));
    let quick_ns = last.waited_ns();
    // 94 octets at 10 Mbit/s.
    nic("mnic0", "link_mbps").set(10);
    let frames = wire.frames(4);
    assert!(took(&frames, 50_000), "{frames:?}");
    let longer_ns = frames[2].waited_ns() - quick_ns;
    assert!((longer_ns - (75_200 - 752)).abs() < 20_000, "{longer_ns}");
}

#[test]
fn stamps_are_as_bad_as_they_were_told_to_be() {
    if !is_counted_or_skip("bad stamps of maser_nic") {
        return;
    }
    let wire = Wire::new();
    assert!(took(&wire.frames(3), 0));
    nic("mnic1", "rx_error_ns").set(10_000);
    let frames = wire.frames(3);
    assert!(took(&frames, 10_000) && !took(&frames, 0), "{frames:?}");
    nic("mnic1", "rx_error_ns").set(0);
    nic("mnic0", "tx_error_ns").set(-SECOND_NS);
    assert!(took(&wire.frames(3), SECOND_NS));
    nic("mnic0", "tx_error_ns").set(0);
    for fault in ["none", "zero"] {
        nic("mnic1", "rx_stamps").set(fault);
        assert!(wire.frames(3).iter().all(|frame| frame.received.is_none()), "{fault}");
    }
    nic("mnic1", "rx_stamps").set("good");
    nic("mnic0", "tx_stamps").set("none");
    assert!(wire.frames(3).iter().all(|frame| frame.transmitted.is_none()));
    nic("mnic0", "tx_stamps").set("last");
    let frames = wire.frames(4);
    let stale_ns = frames[1].transmitted.unwrap() - frames[0].received.unwrap();
    assert!(stale_ns.abs() < STAMP_NS_MAX + frames[1].open_ns, "{frames:?}");
    nic("mnic0", "tx_stamps").set("good");
    // As ethtool tells it, and a NIC that refuses.
    let told = || run_for_output("ethtool", &["-T", "mnic0"]);
    assert!(told().contains("hardware-receive") && told().contains("all"), "{}", told());
    nic("mnic0", "rx_filters").set("none");
    assert!(!told().contains("\tall"), "{}", told());
    let refused = Command::new("hwstamp_ctl").args(["-i", "mnic0", "-r", "1"]).output().unwrap();
    assert!(!refused.status.success());
}

fn run_for_output(program: &str, arguments: &[&str]) -> String {
    let ended = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr)
}
