//! What ends the keeper, and what doesn't.

use super::maser::{Client, READY_LIMIT, Setting, now, serving_process, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// The keeper waits for 10 s.
const KILLED_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_server_that_hangs_is_killed_at_the_stop_and_that_is_told() {
    let mut server = Setting::new().start();
    server.signal_server(Signal::SIGSTOP);
    server.signal(Signal::SIGTERM);
    let ended = within(KILLED_LIMIT, || server.has_ended());
    let log = server.log();
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "{log}");
    assert!(log.contains("hasn't stopped in 10 s: it is killed"), "{log}");
    assert!(!log.contains("please report"), "{log}");
}

#[test]
fn readers_that_are_gone_end_nothing() {
    let setting = Setting::new();
    let words = setting.command_line();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut keeper = command.spawn().expect("the command is there");
    drop((keeper.stdout.take(), keeper.stderr.take()));
    let tell = |process: u32, signal| kill(Pid::from_raw(process.try_into().unwrap()), signal).unwrap();
    let address = (Ipv4Addr::LOCALHOST, setting.port).into();
    let mut served = None;
    for _ in 0..2 {
        let another = || {
            let process = serving_process(keeper.id());
            let asked = (process != keeper.id() && Some(process) != served)
                .then(|| Client::at(Ipv4Addr::LOCALHOST).ask(address));
            asked.flatten().map(|_| process)
        };
        served = within(READY_LIMIT, another);
        assert!(served.is_some(), "nobody answers; {:?}", keeper.try_wait());
        // The keeper logs this end, and the next server its start.
        tell(served.unwrap(), Signal::SIGKILL);
    }
    let begin = now();
    thread::sleep(Duration::from_millis(500));
    tell(keeper.id(), Signal::SIGTERM);
    let ended = within(READY_LIMIT, || keeper.try_wait().unwrap());
    assert!(ended.is_some_and(|status| status.success()), "{ended:?} after {:?}", begin.elapsed());
}
