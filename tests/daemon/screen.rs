//! The live screen, on a terminal and elsewhere.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::maser::{Client, END_LIMIT, READY_LIMIT, Setting, within, works_or_skip};
use crate::peers::rig::end;

const ESCAPE: char = '\u{1b}';
/// Where each redraw begins and ends.
const HOME: &str = "\u{1b}[H";
const TO_SCREEN_END: &str = "\u{1b}[J";
/// What the key Ctrl-C sends to a terminal.
const CONTROL_C: &[u8] = b"\x03";

#[test]
fn without_a_terminal_it_prints_plain_lines() {
    let mut server = Setting::new().with(&["--screen"]).start();
    let line = server.line(READY_LIMIT).expect("a line of the screen");
    assert!(line.starts_with("up 00:00:0") && line.contains("answers "), "{line}");
    assert!(!line.contains(ESCAPE), "{line:?}");
    server.signal(Signal::SIGINT);
    server.ends_well();
}

#[test]
fn on_a_terminal_it_draws_until_control_c() {
    let name = "on_a_terminal_it_draws_until_control_c";
    if !works_or_skip(name, &["script", "-qec", "true", "/dev/null"]) {
        return;
    }
    let setting = Setting::new().with(&["--screen"]);
    // No word has a space or a quote in it.
    let line = format!("stty columns 100 rows 30; exec {}", setting.command_line().join(" "));
    let drawn = setting.scratch.path("drawn");
    let mut terminal = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(fs::File::create(&drawn).expect("a file can be made"))
        .stderr(Stdio::null())
        .spawn()
        .expect("script is there");
    // A character may be written by halves at the moment.
    let shown = || String::from_utf8_lossy(&fs::read(&drawn).expect("it draws")).into_owned();
    let seen = within(READY_LIMIT, || (shown().matches(HOME).count() >= 2).then_some(()));
    let answer = Client::at(Ipv4Addr::LOCALHOST).ask((Ipv4Addr::LOCALHOST, setting.port).into());
    let keys = terminal.stdin.as_mut().expect("a pipe was asked for");
    keys.write_all(CONTROL_C).expect("the terminal takes keys");
    let status = within(END_LIMIT, || terminal.try_wait().expect("it is our child"));
    end(&mut terminal);

    let text = shown();
    assert!(seen.is_some(), "two redraws: {text:?}");
    assert!(answer.is_some(), "it serves meanwhile: {text:?}");
    assert!(status.is_some_and(|status| status.success()), "{status:?} after Ctrl-C: {text:?}");
    let frame = text.rsplit(HOME).next().unwrap_or_default();
    assert!(
        frame.contains("stratum") && frame.contains("answers") && frame.contains(TO_SCREEN_END),
        "{frame:?}"
    );
    assert!(!text.contains("INFO"), "no log over the screen: {text:?}");
    // The shell's prompt comes below the screen, at the beginning of a line.
    let tail = frame.rsplit(TO_SCREEN_END).next().unwrap_or_default();
    assert!(tail.trim_start_matches("^C").chars().all(|c| c.is_ascii_whitespace()), "{tail:?}");
    assert!(!setting.status_socket().exists());
}
