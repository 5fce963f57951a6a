//! Who hears strangers hears them without privileges: the drivers of sources, and the process that looks names up.

#[path = "daemon/maser.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod maser;
#[allow(dead_code, reason = "shared with other tests")]
mod peers;
mod support;

use std::fs;
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use maser::{END_LIMIT, READY_LIMIT, Setting, is_root_or_skip, serving_process, text, within};
use peers::rig::end;

#[test]
fn drivers_start_after_the_lock_down() {
    let setting = Setting::nowhere();
    let config = setting.scratch.path("maser.toml");
    let lines = format!(
        "[server]\nlisten = [\"127.0.0.1:{}\"]\n[clock]\nstate = \"{}\"\n\
         [[source]]\ntype = \"gpsd\"\nname = \"gps\"\nsocket = \"{}\"\n",
        setting.port,
        text(&setting.scratch.path("state")),
        text(&setting.scratch.path("gpsd.sock")),
    );
    fs::write(&config, lines).expect("a file can be written");
    let mut server = setting.with(&["--config", text(&config)]).start();
    let place = |word: &str| within(READY_LIMIT, || server.log().find(word));
    let (heard, locked) = (place("waiting for samples"), place("locked down"));
    assert!(heard.is_some() && locked.is_some() && heard > locked, "{}", server.log());
    server.stop();
}

/// A pipe that takes no more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().expect("there are descriptors");
    let set = |flags| fcntl(writer.as_fd(), FcntlArg::F_SETFL(flags)).expect("it is open");
    set(OFlag::O_NONBLOCK);
    while matches!((&writer).write(&[0; 4096]), Ok(1..)) {}
    set(OFlag::empty());
    (reader, writer)
}

/// A shell that has the program look an address up, as a keeper would, and that waits for it.
fn keeper_of_a_resolver(out: PipeWriter) -> Child {
    let script = "MASER_PART=\"resolver $$\" \"$0\" 127.0.0.1 123 & wait";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_maser")]).stdin(Stdio::null()).stdout(out);
    command.spawn().expect("there is a shell")
}

#[test]
fn names_are_looked_up_by_nobody() {
    if !is_root_or_skip("names_are_looked_up_by_nobody") {
        return;
    }
    // So that it waits there, for as long as it is looked at.
    let (reader, writer) = full_pipe();
    let mut keeper = keeper_of_a_resolver(writer);
    let status = |process: u32| fs::read_to_string(format!("/proc/{process}/status"));
    let nobody = "\t65534\t65534\t65534\t65534";
    let lines = [&format!("Uid:{nobody}"), &format!("Gid:{nobody}"), "Groups:", "NoNewPrivs:\t1"];
    let process = within(READY_LIMIT, || {
        let process = serving_process(keeper.id());
        let status = status(process).ok()?;
        let has = |line: &str| status.lines().any(|have| have.trim_end() == line);
        (lines.into_iter().all(has) && status.contains("Name:\tmaser-resolver")).then_some(process)
    });
    let seen = status(serving_process(keeper.id()));
    end(&mut keeper);
    let process = process.unwrap_or_else(|| panic!("{lines:?} in {seen:?}"));
    // It ends with its keeper all the same.
    let is_gone = || !status(process).is_ok_and(|status| !status.contains("State:\tZ"));
    assert!(within(END_LIMIT, || is_gone().then_some(())).is_some(), "{process} lives on");
    drop(reader);
}
