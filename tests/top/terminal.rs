//! A pseudo terminal with a program in it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

use crate::maser::{END_LIMIT, within};
use crate::peers::rig::end;
use crate::screen::Screen;

/// The terminal's end that a person has, and the program. Dropping it ends the program.
pub(crate) struct Terminal {
    keys: File,
    written: Receiver<Vec<u8>>,
    /// The program's end, so that the terminal outlives it.
    line: OwnedFd,
    pub(crate) process: Child,
    pub(crate) screen: Screen,
    before: Termios,
}

const fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    /// Runs the command in a session of its own, whose terminal this is.
    pub(crate) fn run(command: &[&str], environment: &[(&str, &str)], columns: u16, rows: u16) -> Self {
        let ends = openpty(&size(columns, rows), None).expect("there are pseudo terminals");
        let before = tcgetattr(&ends.slave).expect("it is a terminal");
        let line = || Stdio::from(ends.slave.try_clone().expect("a descriptor can be copied"));
        let process = Command::new("setpriv")
            .args(["--pdeathsig=KILL", "--", "setsid", "--ctty"])
            .args(command)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied())
            .stdin(line())
            .stdout(line())
            .stderr(line())
            .spawn()
            .expect("the command is there");
        let keys = File::from(ends.master);
        let mut reader = keys.try_clone().expect("a descriptor can be copied");
        let (sender, written) = channel();
        thread::spawn(move || {
            let mut octets = [0; 4_096];
            // Ends when the test closes the terminal, and so do reads of what the program left.
            while let Ok(length @ 1..) = reader.read(&mut octets) {
                if sender.send(octets[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let screen = Screen::new(columns.into(), rows.into());
        Self { keys, written, line: ends.slave, process, screen, before }
    }

    /// What is on the screen now.
    pub(crate) fn text(&mut self) -> String {
        while let Ok(octets) = self.written.try_recv() {
            self.screen.feed(&octets);
        }
        self.screen.text()
    }

    /// Waits until what is on the screen is as wanted, and gives it.
    pub(crate) fn shows(&mut self, what: &str, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let seen = within(limit, || {
            let text = self.text();
            wanted(&text).then_some(text)
        });
        seen.unwrap_or_else(|| panic!("no {what} within {limit:?}:\n{}", self.screen.text()))
    }

    pub(crate) fn press(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).expect("the terminal takes keys");
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.text();
        self.screen.resize(columns.into(), rows.into());
        // By the terminal's line, as a terminal emulator does it: the kernel then tells the program.
        let done = Command::new("stty")
            .args(["columns", &columns.to_string(), "rows", &rows.to_string()])
            .stdin(Stdio::from(self.line.try_clone().expect("a descriptor can be copied")))
            .status();
        assert!(done.is_ok_and(|status| status.success()), "stty sets the size");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = i32::try_from(self.process.id()).expect("process ids are small");
        kill(Pid::from_raw(process), signal).expect("the program is there to be told");
    }

    /// Waits for the program's end, and gives it.
    pub(crate) fn ended(&mut self, limit: Duration) -> ExitStatus {
        let ended = within(limit, || self.process.try_wait().expect("it is our child"));
        ended.unwrap_or_else(|| panic!("runs after {limit:?}:\n{}", self.text()))
    }

    /// Waits until it is: the last of what the program wrote may be on its way when it has ended.
    pub(crate) fn is_given_back(&mut self) -> bool {
        within(END_LIMIT, || self.is_as_before().then_some(())).is_some()
    }

    /// Whether the terminal is set as it was before the program.
    pub(crate) fn is_as_before(&mut self) -> bool {
        self.text();
        let is_cooked = tcgetattr(&self.line).is_ok_and(|now| now == self.before);
        is_cooked && !self.screen.is_alternate && self.screen.has_cursor
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}
