//! A server that stands still: an open loop sees it in the percentiles, a closed loop doesn't.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::load::{measure, number, settles};
use crate::maser::Setting;

const STOPPED: Duration = Duration::from_millis(100);
const RUNNING: Duration = Duration::from_millis(900);

#[test]
fn a_server_stopped_for_100_ms_a_second_shows_in_p99_and_not_in_a_closed_loop() {
    let server = Setting::new().start();
    let process = Pid::from_raw(server.server_id().cast_signed());
    let measured = |words: &str| {
        number(&measure(&format!("fixed {} --time 5 --stamps 0 {words}", server.address())), "latency_ns.p99")
            / 1e6
    };
    settles(|| {
        let done = AtomicBool::new(false);
        let (open_ms, closed_ms) = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    thread::sleep(RUNNING);
                    kill(process, Signal::SIGSTOP).expect("it runs");
                    thread::sleep(STOPPED);
                    kill(process, Signal::SIGCONT).expect("it is there");
                }
            });
            let both = (measured("--rate 10k"), measured("--rate 10k --closed-loop"));
            done.store(true, Ordering::Relaxed);
            both
        });
        crate::peers::log(&format!(
            "stopped for 100 ms a second: p99 {open_ms:.1} ms, in a closed loop {closed_ms:.1} ms"
        ));
        // A tenth of all requests meet the stop, evenly spread over it: the 99th percentile is nine tenths of it.
        if (70.0..=130.0).contains(&open_ms) && closed_ms < 20.0 {
            Ok(())
        } else {
            Err(format!("{open_ms} ms, {closed_ms} ms"))
        }
    });
}
