//! The machine's clock, steered by the real `maser serve`: the kernel's own word and its clock against the receiver's time.
//!
//! The kernel's clock runs on the counter's oscillator, and so do its raw clock and the receiver: the frequency that is right
//! for it is exactly the receiver's.

use std::fs;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use maser_sys::adjtimex::{KernelLeap, KernelState};
use maser_sys::kernel_clock::{KernelClock, read};
use nix::sys::signal::Signal;
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::time::{ClockId, clock_settime};
use serde_json::Value;

use crate::maser::{Scratch, Server, Setting, within};
use crate::peers::host::run;
use crate::receiver::{Receiver, Truth};
use crate::served::{SETTLED, is_held, micros, offset_micros, offsets, serve_with, wait_until};
use crate::{is_counted_or_skip, measured, stop};

pub(crate) const SECOND_NS: i64 = 1_000_000_000;
/// The receiver's rate against the machine's oscillator.
pub(crate) const PPM: i64 = 7;
/// How well a frequency is learnt within a minute; what a correction of the phase adds to it by then.
const LEARNT_PPM_MAX: f64 = 0.2;
/// A pulse is stamped some microseconds late, which no clock knows: the machine's clock is as far from the receiver's time.
pub(crate) const HELD_NS_MAX: i64 = 20_000;
/// From the served clock, once it has settled.
const FOLLOWED_NS_MAX: i64 = 1_000;
/// The kernel's clock never runs faster or slower than this by itself.
const SLEW_PPM_MAX: i64 = 520;
pub(crate) const STEERED: &str = "steered";

/// Sets the clock to so much from true time.
pub(crate) fn set_off(truth: &Truth, off_ns: i64) {
    let raw_ns = read(KernelClock::MonotonicRaw);
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::nanoseconds(truth.at(raw_ns) + off_ns)).unwrap();
}

/// Steps the clock as it stands.
pub(crate) fn step(by_ns: i64) {
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::nanoseconds(read(KernelClock::Realtime) + by_ns))
        .unwrap();
}

/// Whatever another daemon may do: `adjtimex(2)` with `modes`, `freq`, `offset`, `tick` and `status`, in the kernel's units.
pub(crate) fn adjtimex(modes: u32, [frequency, offset, tick]: [i64; 3], status: i32) {
    let script = format!(
        "my $timex = pack('L x4 q q q q l x4 q q q q q q x112', {modes}, {offset}, {frequency}, 0, 0, {status}, 7, 0, 0, \
         0, 0, {tick}); syscall(159, $timex) >= 0 or die \"adjtimex: $!\""
    );
    run(Command::new("perl").args(["-e", &script])).unwrap();
}

const ADJ_OFFSET: u32 = 0x1;
const ADJ_FREQUENCY: u32 = 0x2;
pub(crate) const ADJ_STATUS: u32 = 0x10;
const ADJ_TIMECONST: u32 = 0x20;
const ADJ_TICK: u32 = 0x4000;
const ADJ_OFFSET_SINGLESHOT: u32 = 0x8001;
const STA_PLL: i32 = 0x1;
const STA_INS: i32 = 0x10;
const STA_UNSYNC: i32 = 0x40;

pub(crate) fn kernel() -> KernelState {
    KernelState::read().unwrap()
}

fn frequency_ppm() -> f64 {
    kernel().frequency.fraction() * 1e6
}

/// `CLOCK_REALTIME` less true time.
pub(crate) fn off_ns(truth: &Truth) -> i64 {
    let one = || {
        let before = read(KernelClock::MonotonicRaw);
        let clock = read(KernelClock::Realtime);
        let after = read(KernelClock::MonotonicRaw);
        (after - before, clock - truth.at(i64::midpoint(before, after)))
    };
    (0..5).map(|_| one()).min_by_key(|&(width, _)| width).unwrap().1
}

/// `CLOCK_REALTIME − CLOCK_MONOTONIC`: only steps change it.
fn apart_ns() -> i64 {
    read(KernelClock::Realtime) - read(KernelClock::Monotonic)
}

pub(crate) fn steer(scratch: &Scratch, more: &str) -> Server {
    serve_with(Setting::nowhere().setting_the_clock(), scratch, &format!("steer = true\n{more}"))
}

fn steering(server: &Server) -> Value {
    server.status()["tracking"]["steering"].clone()
}

pub(crate) fn is_steered(status: &Value) -> bool {
    status["tracking"]["steering"]["state"] == STEERED
}

/// What the clock's distance is, ten times a second for so long.
fn watch(truth: &Truth, seconds: u64) -> Vec<i64> {
    let look = |_| {
        thread::sleep(Duration::from_millis(100));
        off_ns(truth)
    };
    (0..seconds * 10).map(look).collect()
}

fn sorted(mut found: Vec<i64>) -> Vec<i64> {
    found.sort_unstable_by_key(|off| off.abs());
    found
}

/// Within a limit in seconds of the VM's.
pub(crate) fn wait_for(what: &str, server: &Server, limit_s: u64, mut is: impl FnMut() -> bool) -> f64 {
    let begun_ns = read(KernelClock::MonotonicRaw);
    let came = within(Duration::from_secs(limit_s), || {
        thread::sleep(Duration::from_millis(250));
        is().then_some(())
    });
    assert!(
        came.is_some(),
        "not {what} after {limit_s} s: {}\n{:?}\n{}",
        steering(server),
        kernel(),
        server.log()
    );
    (read(KernelClock::MonotonicRaw) - begun_ns) as f64 / 1e9
}

/// How far the machine's clock is from the served one by the server's own word, once a second.
#[expect(clippy::cast_possible_truncation, reason = "nanoseconds of a small offset")]
fn followed_ns(server: &Server, seconds: u64) -> Vec<i64> {
    let look = |_| {
        thread::sleep(Duration::from_secs(1));
        (steering(server)["offset_s"].as_f64().unwrap() * 1e9) as i64
    };
    (0..seconds).map(look).collect()
}

#[test]
fn a_clock_is_taken_over_kept_and_handed_on() {
    if !is_counted_or_skip("steering the clock") {
        return;
    }
    let scratch = Scratch::new();
    let receiver = Receiver::start_at(PPM, read(KernelClock::Realtime) + 100_000 * SECOND_NS, None);
    let truth = &receiver.truth;
    set_off(truth, 400_000_000);
    // What an ntpd of old leaves behind: 80 ppm too fast, its loop and an adjtime slewing, a leap second.
    adjtimex(ADJ_FREQUENCY | ADJ_TICK, [-(20 << 16), 0, 10_001], 0);
    adjtimex(ADJ_STATUS | ADJ_OFFSET | ADJ_TIMECONST, [0, 100_000, 0], STA_PLL | STA_INS | STA_UNSYNC);
    adjtimex(ADJ_OFFSET_SINGLESHOT, [0, 300_000, 0], 0);
    let left = kernel();
    assert!(left.offset.as_nanos() > 0 && left.adjtime_left.as_nanos() > 0, "{left:?}");
    assert_eq!((left.synchronised, left.leap, left.frequency.units()), (false, KernelLeap::Insert, 80 << 16));
    let mut server = steer(&scratch, "");
    taken_over(&server, truth);
    stop(&mut server);
    let learnt = frequency_ppm();
    assert!((learnt - PPM as f64).abs() < LEARNT_PPM_MAX, "{learnt} ppm");
    measured(&format!("the frequency that is left: {learnt:+.4} ppm of {PPM}"));
    step(50_000_000);
    let mut server = steer(&scratch, "");
    slewed(&mut server, truth);
    killed(&mut server, truth);
    // As after a reboot, and the receiver is silent.
    adjtimex(ADJ_FREQUENCY | ADJ_STATUS, [0; 3], STA_UNSYNC);
    receiver.faults.mute.store(true, Ordering::Relaxed);
    let mut server = steer(&scratch, "");
    let is_learnt = || (frequency_ppm() - PPM as f64).abs() < LEARNT_PPM_MAX;
    let took = wait_for("at the frequency that was kept", &server, 40, is_learnt);
    measured(&format!("without a receiver it runs at the frequency that was kept after {took:.1} s"));
    thread::sleep(Duration::from_secs(15));
    assert!(is_learnt() && !kernel().synchronised && !is_steered(&server.status()), "{}", server.log());
    receiver.faults.mute.store(false, Ordering::Relaxed);
    wait_until(&server, STEERED, is_steered);
    wait_for("within 20 us", &server, 240, || off_ns(truth).abs() < HELD_NS_MAX);
    assert_eq!(steering(&server)["steps"], 0);
    stop(&mut server);
}

fn taken_over(server: &Server, truth: &Truth) {
    wait_until(server, STEERED, is_steered);
    let took = wait_for("within a microsecond of the served clock", server, 90, || {
        steering(server)["offset_s"].as_f64().is_some_and(|offset| offset.abs() < 1e-6)
    });
    let log = server.log();
    assert_eq!((log.matches("was stepped by").count(), &steering(server)["steps"]), (1, &1.into()), "{log}");
    assert!(!log.contains("isn't as it was left"), "{log}");
    thread::sleep(Duration::from_secs(10));
    let followed = sorted(followed_ns(server, 20));
    let held = sorted(watch(truth, 20));
    measured(&format!(
        "stepped from 400 ms, within 1 us of the served clock {took:.1} s after it was first steered, then off by {}; by \
         true time {}",
        micros(&followed),
        micros(&held)
    ));
    assert!(followed[followed.len() * 95 / 100].abs() < FOLLOWED_NS_MAX, "{followed:?}");
    assert!(held.iter().all(|off| off.abs() < HELD_NS_MAX), "{held:?}");
    let (told, kernel) = (steering(server)["frequency_ppm"].as_f64().unwrap(), kernel());
    let found = kernel.frequency.fraction() * 1e6;
    assert!((found - told).abs() < LEARNT_PPM_MAX, "{found} ppm, told {told}");
    assert!(kernel.synchronised && !kernel.pps_fault, "{kernel:?}");
    assert_eq!((kernel.leap, kernel.tai_offset_s), (KernelLeap::None, Some(37)));
    assert_eq!((kernel.offset.as_nanos(), kernel.adjtime_left.as_nanos()), (0, 0));
    let (most, probable) = (kernel.maxerror.as_nanos(), kernel.esterror.as_nanos());
    measured(&format!("the kernel says at most {most} ns, probably {probable} ns; {found:+.4} ppm"));
    // It grows by half a millisecond a second (`MAXFREQ`) until the next order.
    assert!(followed[followed.len() - 1].abs() < most && most < 1_000_000, "{most}");
    assert!(probable <= 10_000, "{probable}");
    let tai_ns = read(KernelClock::Tai) - read(KernelClock::Realtime);
    assert!((tai_ns - 37 * SECOND_NS).abs() < SECOND_NS / 1_000, "{tai_ns}");
    // The kernel sets the hardware clock, which stood 100,000 s behind, as soon as its clock is synchronised.
    let hardware = fs::read_to_string("/sys/class/rtc/rtc0/since_epoch").unwrap();
    let hardware_off_s =
        hardware.trim().parse::<i64>().unwrap() - truth.at(read(KernelClock::MonotonicRaw)) / SECOND_NS;
    assert!(hardware_off_s.abs() <= 1, "{hardware_off_s} s");
}

/// 50 ms: never stepped, and never turned back.
fn slewed(server: &mut Server, truth: &Truth) {
    let apart = apart_ns();
    wait_until(server, STEERED, is_steered);
    wait_for("slewed", server, 10, || frequency_ppm() < -400.0);
    let mut last = (read(KernelClock::MonotonicRaw), read(KernelClock::Realtime));
    let begun = off_ns(truth);
    for _ in 0..600 {
        thread::sleep(Duration::from_millis(25));
        let next = (read(KernelClock::MonotonicRaw), read(KernelClock::Realtime));
        let (raw, clock) = (next.0 - last.0, next.1 - last.1);
        let off = (clock - raw).abs();
        assert!(clock > 0 && off <= raw * SLEW_PPM_MAX / 1_000_000 + 20_000, "{clock} ns in {raw} ns");
        last = next;
    }
    let slewed_ns = begun - off_ns(truth);
    measured(&format!("of 50 ms it slewed {:.3} ms in 15 s, without a step", slewed_ns as f64 / 1e6));
    assert!((6_500_000..8_500_000).contains(&slewed_ns), "{slewed_ns}");
    assert!((apart_ns() - apart).abs() < 100_000, "it was stepped");
    assert_eq!(steering(server)["steps"], 0);
}

/// While a slew goes on: the server stands still, is killed, and its keeper is.
fn killed(server: &mut Server, truth: &Truth) {
    let is_learnt = || (frequency_ppm() - PPM as f64).abs() < LEARNT_PPM_MAX;
    assert!(!is_learnt() && off_ns(truth).abs() > 20_000_000);
    server.signal_server(Signal::SIGSTOP);
    let took = wait_for_learnt(is_learnt);
    measured(&format!("a server that stands still: no correction of the phase after {took:.2} s"));
    server.signal_server(Signal::SIGCONT);
    wait_for("slewing again", server, 10, || !is_learnt());
    let before = server.server_id();
    server.signal_server(Signal::SIGKILL);
    let took = wait_for_learnt(is_learnt);
    measured(&format!("a server that was killed: no correction of the phase after {took:.3} s"));
    let again = wait_for("slewing again", server, 60, || !is_learnt());
    measured(&format!("the next server slews after {again:.1} s"));
    assert_ne!(server.server_id(), before);
    let child = server.server_id();
    server.signal(Signal::SIGKILL);
    let ended = within(Duration::from_secs(5), || server.has_ended());
    assert!(ended.is_some());
    thread::sleep(Duration::from_secs(4));
    assert!(fs::metadata(format!("/proc/{child}")).is_err(), "it goes along");
    measured(&format!("a keeper that was killed leaves {:+.3} ppm", frequency_ppm()));
}

/// Without asking the server, which can't answer.
fn wait_for_learnt(is_learnt: impl Fn() -> bool) -> f64 {
    let begun_ns = read(KernelClock::MonotonicRaw);
    let learnt = within(Duration::from_millis(3_300), || is_learnt().then_some(()));
    assert!(learnt.is_some(), "{} ppm", frequency_ppm());
    (read(KernelClock::MonotonicRaw) - begun_ns) as f64 / 1e9
}

#[test]
fn what_is_too_large_or_not_allowed_is_left_alone_and_told() {
    if !is_counted_or_skip("steering a clock that is far off") {
        return;
    }
    let scratch = Scratch::new();
    let receiver = Receiver::start_at(PPM, read(KernelClock::Realtime) + 2_000 * SECOND_NS, None);
    adjtimex(ADJ_FREQUENCY | ADJ_TICK | ADJ_STATUS, [3 << 16, 0, 10_000], STA_UNSYNC);
    set_off(&receiver.truth, -2_000 * SECOND_NS);
    let untouched = (apart_ns(), kernel());
    let is_untouched = || {
        assert!((apart_ns() - untouched.0).abs() < 100_000);
        let now = kernel();
        let told =
            |kernel: &KernelState| (kernel.frequency, kernel.synchronised, kernel.tai_offset_s, kernel.leap);
        assert_eq!(told(&now), told(&untouched.1));
    };
    let mut server = steer(&scratch, "");
    let state = |server: &Server| steering(server)["state"].as_str().unwrap_or_default().to_owned();
    wait_for("refused", &server, 60, || state(&server).contains("clock.first_step_unlimited"));
    let log = server.log();
    assert!(log.contains("-2000 s off") && log.contains("set it by hand"), "{log}");
    is_untouched();
    stop(&mut server);
    // Without the capability: what every other test runs with.
    let mut server = serve_with(Setting::nowhere(), &scratch, "steer = true\nfirst_step_unlimited = true\n");
    wait_for("refused", &server, 60, || !steering(&server)["problem"].is_null());
    let (told, shown) = (steering(&server)["problem"].to_string(), server.ask_status(&[]).output);
    assert!(told.contains("CAP_SYS_TIME") && told.contains("clock.steer"), "{told}");
    assert!(shown.contains("CAP_SYS_TIME") && server.log().contains("CAP_SYS_TIME"), "{shown}");
    is_untouched();
    wait_until(&server, "locked", |status| status["state"] == "locked");
    thread::sleep(SETTLED);
    let (offsets, unsynchronised) = offsets(&server, &receiver.truth, 3);
    let told = offset_micros(&offsets);
    assert!(is_held(&offsets) && unsynchronised == 0, "served all the same: {told}, {unsynchronised} not");
    stop(&mut server);
    let mut server = steer(&scratch, "first_step_unlimited = true\n");
    wait_until(&server, STEERED, is_steered);
    wait_for("set", &server, 60, || off_ns(&receiver.truth).abs() < HELD_NS_MAX);
    assert!(server.log().contains("was stepped by +2000"), "{}", server.log());
    stop(&mut server);
}

#[test]
fn another_daemon_is_noticed_and_left_alone() {
    if !is_counted_or_skip("two that steer one clock") {
        return;
    }
    let scratch = Scratch::new();
    let receiver = Receiver::start_at(PPM, read(KernelClock::Realtime) + 5_000 * SECOND_NS, None);
    let truth = &receiver.truth;
    set_off(truth, 10_000_000);
    let mut server = steer(&scratch, "");
    wait_until(&server, STEERED, is_steered);
    let noticed = |what: &str, count: usize| {
        wait_for(what, &server, 5, || server.log().contains(what));
        assert_eq!(server.log().matches("isn't as it was left").count(), count, "{}", server.log());
        let (offsets, unsynchronised) = offsets(&server, truth, 4);
        measured(&format!("{what}: served time is off by {}", offset_micros(&offsets)));
        assert!(is_held(&offsets) && unsynchronised == 0, "{offsets:?}");
    };
    adjtimex(ADJ_FREQUENCY, [50 << 16, 0, 0], 0);
    noticed("somebody set its frequency to +50.000 ppm", 1);
    step(-30_000_000);
    noticed("somebody stepped it by -30.0 ms", 2);
    adjtimex(ADJ_OFFSET_SINGLESHOT, [0, 20_000, 0], 0);
    noticed("somebody has it slewed by", 3);
    assert!(server.log().contains("not steered until maser is started again"), "{}", server.log());
    assert!(steering(&server)["state"].as_str().unwrap().contains("chronyd"));
    // From now on it is theirs.
    adjtimex(ADJ_FREQUENCY, [-(90 << 16), 0, 0], 0);
    step(200_000_000);
    let (off, apart) = (off_ns(truth), apart_ns());
    let (offsets, unsynchronised) = offsets(&server, truth, 5);
    assert!(is_held(&offsets) && unsynchronised == 0, "{offsets:?}");
    assert_eq!(kernel().frequency.units(), -(90 << 16), "it was left alone; {off} {apart}");
    assert!((apart_ns() - apart).abs() < 100_000);
    // The next server doesn't take it back.
    server.signal_server(Signal::SIGKILL);
    let is_left = || server.log().matches("not steered until maser is started again").count() == 2;
    wait_for("left alone by the next server, too", &server, 60, is_left);
    wait_until(&server, "locked again", |status| status["state"] == "locked");
    thread::sleep(Duration::from_secs(5));
    assert!(steering(&server)["state"].as_str().unwrap().contains("chronyd"), "{}", server.log());
    assert_eq!(kernel().frequency.units(), -(90 << 16), "by the next server, too");
    assert!((apart_ns() - apart).abs() < 100_000);
    stop(&mut server);
    assert_eq!(kernel().frequency.units(), -(90 << 16), "at the end, too");
}
