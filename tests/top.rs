//! `maser top` as a person meets it: the program in a terminal, before a real server.
//!
//! The terminal is read as an emulator would show it (`top/screen.rs`), so what is checked is what stands on the screen.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "daemon/maser.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod maser;
#[allow(dead_code, reason = "of the peers' rig only what starts and reads processes is used here")]
mod peers;
#[path = "top/screen.rs"]
mod screen;
mod support;
#[path = "top/terminal.rs"]
mod terminal;

use maser::{
    Client, END_LIMIT, READY_LIMIT, Scratch, Server, Setting, finish, now, text, within, works_or_skip,
};
use nix::sys::signal::Signal;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;
use std::time::Duration;
use terminal::Terminal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_maser");
/// Requests a second of the known load.
const RATE: u32 = 100;
/// How far a rate on the screen may be off it: the load itself comes in steps.
const RATE_ERROR: f64 = 0.15;

/// `maser top` before this server, in a terminal of that size.
fn top(server: &Server, arguments: &[&str], columns: u16, rows: u16) -> Terminal {
    let socket = text(server.setting.status_socket()).to_owned();
    let command = [&[PROGRAM, "top", "--status-socket", &socket], arguments].concat();
    Terminal::run(&command, &[], columns, rows)
}

fn appears(terminal: &mut Terminal) -> String {
    terminal.shows("screen", READY_LIMIT, |text| text.contains("Traffic") && text.contains(", up "))
}

/// The figure in the line of the traffic panel that begins with this word.
fn figure(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("│{name} ")))?;
    let told = line.split('│').next()?.trim().strip_suffix("/s")?;
    told.replace(',', "").parse().ok()
}

/// Asks at [`RATE`] for so long, evenly by the clock, each reply awaited.
fn load(server: &Server, seconds: u32) {
    let client = Client::at(Ipv4Addr::new(127, 9, 0, 1));
    let begin = now();
    for sent in 0..RATE * seconds {
        let due = Duration::from_secs(1) * sent / RATE;
        thread::sleep(due.saturating_sub(begin.elapsed()));
        assert!(client.ask(server.address()).is_some(), "a reply");
    }
}

#[test]
fn it_appears_shows_the_rates_of_a_known_load_and_who_makes_it() {
    let server = Setting::new().with(&["--workers", "1"]).start();
    // Two seconds each, so that twice the load would be shown by a rate that isn't divided by it.
    let mut terminal = top(&server, &["--interval", "2"], 80, 24);
    let first = appears(&mut terminal);
    assert!(first.contains("stratum") && first.contains("q quit"), "{first}");
    assert!(terminal.screen.is_alternate && !terminal.screen.has_cursor);
    let is_right =
        |rate: Option<f64>| rate.is_some_and(|rate| (rate / f64::from(RATE) - 1.0).abs() < RATE_ERROR);
    let mut shown = None;
    // Again where the machine was too busy for an even load.
    for _ in 0..3 {
        load(&server, 7);
        let text = terminal.text();
        println!("{text}");
        if is_right(figure(&text, "Requests")) && is_right(figure(&text, "Replies")) {
            shown = Some(text);
            break;
        }
    }
    let text = shown.expect("the rate of the load on the screen");
    assert_eq!((figure(&text, "Limited"), figure(&text, "Dropped")), (Some(0.0), Some(0.0)), "{text}");
    assert!(text.contains("│127.9.0.1 ") && text.contains("127.9.0.0/24 "), "{text}");
    assert!(!text.contains("all "), "one worker isn't summed up: {text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(terminal.screen.was_coloured);
    terminal.press(b"q");
    assert!(terminal.ended(END_LIMIT).success());
    assert!(terminal.is_given_back());
}

#[test]
fn it_finds_a_restarted_server_again() {
    let mut server = Setting::new().start();
    let mut terminal = top(&server, &["--interval", "0.5"], 80, 24);
    appears(&mut terminal);
    load(&server, 3);
    let peak = figure(&terminal.shows("rate", READY_LIMIT, |text| figure(text, "Peak") > Some(0.0)), "Peak");
    server.stop();
    let gone = terminal.shows("NO ANSWER", READY_LIMIT, |text| text.starts_with("NO ANSWER for "));
    assert!(gone.contains("asking again: ") && gone.contains("status.sock"), "{gone}");
    // What was known stays.
    assert!(figure(&gone, "Peak") >= peak && figure(&gone, "Requests").is_none(), "{gone}");
    let setting = std::mem::replace(&mut server.setting, Setting::nowhere());
    let server = setting.start();
    let back = terminal.shows("answer", READY_LIMIT, |text| {
        !text.contains("NO ANSWER") && figure(text, "Requests").is_some()
    });
    assert!(figure(&back, "Requests").unwrap() < 10.0, "no leap of the rate: {back}");
    assert!(figure(&back, "Peak") >= peak && figure(&back, "Peak").unwrap() < 1_000.0, "{back}");
    drop(server);
}

#[test]
fn it_gives_the_terminal_back_on_every_way_out() {
    let server = Setting::new().start();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        let mut terminal = top(&server, &[], 80, 24);
        appears(&mut terminal);
        assert!(!terminal.is_as_before(), "it is taken");
        terminal.signal(signal);
        assert!(terminal.ended(END_LIMIT).success(), "after {signal}");
        assert!(terminal.is_given_back(), "after {signal}");
    }
    for key in [&b"\x03"[..], b"q"] {
        let mut terminal = top(&server, &[], 80, 24);
        appears(&mut terminal);
        terminal.press(key);
        assert!(terminal.ended(END_LIMIT).success(), "after {key:?}");
        assert!(terminal.is_given_back(), "after {key:?}");
    }
}

/// What the test below runs in a terminal: not by itself.
#[test]
#[ignore = "a part of another test"]
fn a_program_that_panics_on_the_screen() {
    let _terminal = ::maser::top::Terminal::enter().unwrap();
    panic!("planted");
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_readable() {
    let this = std::env::current_exe().unwrap();
    let name = "a_program_that_panics_on_the_screen";
    let command = [text(&this), "--exact", name, "--ignored", "--nocapture"];
    let mut terminal = Terminal::run(&command, &[("RUST_BACKTRACE", "0")], 80, 24);
    assert!(!terminal.ended(READY_LIMIT).success());
    let told = terminal.shows("message", END_LIMIT, |text| text.contains("planted"));
    assert!(terminal.is_given_back(), "{told}");
}

#[test]
fn a_shell_can_stop_it_and_let_it_go_on() {
    let name = "a_shell_can_stop_it_and_let_it_go_on";
    if !works_or_skip(name, &["bash", "-c", "true"]) {
        return;
    }
    let server = Setting::new().start();
    let socket = text(server.setting.status_socket());
    let run = format!("set -m; {PROGRAM} top --status-socket {socket}; echo stopped; read; fg; echo done");
    let mut terminal = Terminal::run(&["bash", "-c", &run], &[], 80, 24);
    appears(&mut terminal);
    terminal.press(b"\x1a");
    terminal.shows("shell", END_LIMIT, |text| text.contains("stopped"));
    assert!(terminal.is_given_back(), "while it is stopped");
    terminal.press(b"\n");
    let again = appears(&mut terminal);
    assert!(terminal.screen.is_alternate && again.contains("q quit"), "drawn as a whole: {again}");
    terminal.press(b"q");
    assert!(terminal.ended(END_LIMIT).success());
    assert!(terminal.is_given_back());
}

#[test]
fn it_is_drawn_anew_when_the_terminal_becomes_larger_or_smaller() {
    let server = Setting::new().start();
    let mut terminal = top(&server, &[], 80, 24);
    appears(&mut terminal);
    terminal.resize(120, 40);
    let large = terminal.shows("larger screen", END_LIMIT, |text| {
        text.lines().nth(39).is_some_and(|foot| foot.starts_with("q quit") && foot.len() == 120)
    });
    assert!(large.contains("Traffic"), "{large}");
    terminal.resize(70, 20);
    terminal.shows("refusal", END_LIMIT, |text| {
        text.starts_with("maser top needs a terminal of 80 x 24; this one is 70 x 20")
            && !text.contains("Traffic")
    });
    terminal.resize(80, 24);
    terminal.shows("screen", END_LIMIT, |text| text.contains("Traffic") && text.contains("q quit"));
}

#[test]
fn a_pause_asks_nothing_and_keys_explain() {
    let mut server = Setting::new().start();
    let mut terminal = top(&server, &["--interval", "0.2"], 80, 24);
    appears(&mut terminal);
    terminal.press(b"?");
    terminal.shows("help", END_LIMIT, |text| text.contains("What this shows") && text.contains("suspend"));
    terminal.press(b"?");
    terminal.shows("screen", END_LIMIT, |text| !text.contains("What this shows"));
    terminal.press(b"p");
    let paused = terminal.shows("pause", END_LIMIT, |text| text.contains("PAUSED"));
    server.stop();
    let _gone = fs::remove_file(server.setting.status_socket());
    let listener = UnixListener::bind(server.setting.status_socket()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let asked = |limit| within(limit, || listener.accept().is_ok().then_some(()));
    assert_eq!(asked(Duration::from_secs(2)), None, "a question in the pause");
    assert_eq!(terminal.text(), paused);
    terminal.press(b"p");
    assert_eq!(asked(READY_LIMIT), Some(()), "a question after it");
    drop(listener);
    terminal.shows("NO ANSWER", READY_LIMIT, |text| text.starts_with("NO ANSWER"));
}

#[test]
fn it_has_no_colours_where_none_are_wanted() {
    let server = Setting::new().start();
    let socket = text(server.setting.status_socket());
    let command = [PROGRAM, "top", "--status-socket", socket];
    let mut terminal = Terminal::run(&command, &[("NO_COLOR", "1")], 80, 24);
    appears(&mut terminal);
    assert!(!terminal.screen.was_coloured, "{}", terminal.screen.text());
}

#[test]
fn what_cannot_be_drawn_on_is_refused_in_words() {
    let server = Setting::new().start();
    let refused = |command: &mut Command| {
        let socket = server.setting.status_socket();
        command.env_remove("NO_COLOR").args(["top", "--status-socket"]).arg(socket);
        finish(std::mem::replace(command, Command::new("true")), &Scratch::new(), READY_LIMIT)
    };
    let piped = refused(&mut Command::new(PROGRAM));
    assert_eq!((piped.code, piped.output.as_str()), (Some(1), ""));
    assert!(
        piped.errors.contains("isn't a terminal") && piped.errors.contains("maser status"),
        "{}",
        piped.errors
    );
    let socket = text(server.setting.status_socket());
    let command = [PROGRAM, "top", "--status-socket", socket];
    for (environment, size, word) in
        [(&[("TERM", "dumb")][..], (80, 24), "\"dumb\""), (&[], (0, 0), "stty columns 80 rows 24")]
    {
        let mut terminal = Terminal::run(&command, environment, size.0, size.1);
        if size.0 == 0 {
            terminal.screen.resize(80, 24);
        }
        assert_eq!(terminal.ended(READY_LIMIT).code(), Some(1));
        // Its lines are broken at the terminal's edge.
        terminal.shows(word, END_LIMIT, |text| text.replace('\n', "").contains(word));
        assert!(terminal.is_given_back());
    }
    let nowhere = server.setting.scratch.path("nowhere.sock");
    let mut terminal = Terminal::run(&[PROGRAM, "top", "--status-socket", text(&nowhere)], &[], 200, 24);
    assert_eq!(terminal.ended(READY_LIMIT).code(), Some(1));
    terminal.shows("reason", END_LIMIT, |text| text.contains("no such socket; is maser running?"));
}
