//! The terminal: taken, drawn on, and given back as it was, on every way out.
//!
//! Signals come as readable octets, and so do keys, so that one wait sees both. Raw mode keeps Ctrl-C and Ctrl-Z from being signals.

use std::env;
use std::io::{self, IsTerminal, Stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::read;
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use thiserror::Error;

use super::view::Key;

const CONTROL_C: u8 = 0x03;
const CONTROL_Z: u8 = 0x1A;
const ESCAPE: u8 = 0x1B;
/// What is read at a time; nobody types more in the meantime.
const KEYS_MAX: usize = 64;

/// Why there is no screen.
#[derive(Debug, Error)]
pub enum TerminalError {
    /// Nobody would see it.
    #[error(
        "{0} isn't a terminal, and this is a screen to look at; for a file or a pipe there are `maser status`, \
         `maser status --watch` and `maser status --json`"
    )]
    NotATerminal(&'static str),
    /// It can't place the cursor.
    #[error(
        "this terminal calls itself {0:?}, on which nothing can be drawn; set TERM to what it is, or take `maser status`"
    )]
    Dumb(String),
    /// There is no telling what fits.
    #[error("the terminal doesn't say how large it is; tell it, for instance with `stty columns 80 rows 24`")]
    NoSize,
    /// Anything else that the kernel says.
    #[error("the terminal can't be used: {0}")]
    Failed(#[from] io::Error),
}

impl From<Errno> for TerminalError {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno.into())
    }
}

/// What came while waiting.
#[derive(Clone, Debug, Default)]
pub(super) struct Input {
    /// Keys that mean something, in their order.
    pub(super) keys: Vec<Key>,
    /// Whether the process is to end: it was told so, or the terminal is gone.
    pub(super) is_over: bool,
}

/// The terminal while it is ours; dropping it gives it back.
pub struct Terminal {
    screen: ratatui::Terminal<CrosstermBackend<Stdout>>,
    signals: SignalFd,
}

impl Terminal {
    /// Takes the terminal. Threads that are started from now on leave signals to it.
    pub fn enter() -> Result<Self, TerminalError> {
        for (is_terminal, name) in
            [(io::stdin().is_terminal(), "standard input"), (io::stdout().is_terminal(), "standard output")]
        {
            if !is_terminal {
                return Err(TerminalError::NotATerminal(name));
            }
        }
        if let Some(name) = env::var("TERM").ok().filter(|name| name == "dumb" || name.is_empty()) {
            return Err(TerminalError::Dumb(name));
        }
        let (columns, rows) = size()?;
        if columns == 0 || rows == 0 {
            return Err(TerminalError::NoSize);
        }
        let signals = SigSet::from_iter([
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGTSTP,
            Signal::SIGCONT,
            Signal::SIGWINCH,
        ]);
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            give_back();
            told(what);
        }));
        // Before anything is changed, so that a failure half way is put right, too.
        let terminal = Self { screen: ratatui::Terminal::new(CrosstermBackend::new(io::stdout()))?, signals };
        take()?;
        Ok(terminal)
    }

    /// Draws a frame; of what is there already, nothing is sent.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.screen.draw(draw)?;
        Ok(())
    }

    /// Waits until a key is pressed, a signal comes, `other` is readable, or so long.
    pub(super) fn wait(
        &mut self,
        other: BorrowedFd<'_>,
        longest: Option<Duration>,
    ) -> Result<Input, TerminalError> {
        let stdin = io::stdin();
        let mut waiting = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(other, PollFlags::POLLIN),
        ];
        let longest = longest.map_or(PollTimeout::NONE, |longest| {
            // Rounded up: there is nothing to do a part of a millisecond before.
            let millis = longest.as_micros().div_ceil(1_000);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut waiting, longest) {
            Err(Errno::EINTR) => return Ok(Input::default()),
            came => _ = came?,
        }
        let keys_wait = waiting[0].any().unwrap_or(true);
        let mut input = Input::default();
        // After a signal somebody else may have read the keys that waited.
        let has_signal = self.take_signals(&mut input)?;
        if keys_wait && !has_signal {
            let mut octets = [0; KEYS_MAX];
            match read(stdin.as_fd(), &mut octets) {
                // The terminal is gone.
                Ok(0) | Err(Errno::EIO) => input.is_over = true,
                Ok(length) => input.keys = keys(octets.get(..length).unwrap_or_default()),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(input)
    }

    /// Gives whether there were any.
    fn take_signals(&mut self, input: &mut Input) -> Result<bool, TerminalError> {
        let mut has_signal = false;
        while let Some(signal) = self.signals.read_signal()? {
            has_signal = true;
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            match Signal::try_from(number) {
                // A new size is found when the next frame is drawn.
                Ok(Signal::SIGWINCH) => {}
                Ok(Signal::SIGTSTP) => self.suspend()?,
                // Whoever stopped us may have used the terminal.
                Ok(Signal::SIGCONT) => self.take_again()?,
                Ok(_) | Err(_) => input.is_over = true,
            }
        }
        Ok(has_signal)
    }

    /// Gives the terminal back, stops the process until it is told to go on, and takes it again. Where nobody could tell it so,
    /// the kernel doesn't stop it.
    pub(super) fn suspend(&mut self) -> Result<(), TerminalError> {
        give_back();
        let stop = SigSet::from_iter([Signal::SIGTSTP]);
        stop.thread_unblock()?;
        raise(Signal::SIGTSTP)?;
        stop.thread_block()?;
        self.take_again()
    }

    fn take_again(&mut self) -> Result<(), TerminalError> {
        // What it is set to now isn't what we had made of it.
        disable_raw_mode()?;
        // One that knows of nothing drawn yet, so that all of it is; to have the old one cleared would ask the terminal where its
        // cursor is, and wait for an answer.
        self.screen = ratatui::Terminal::new(CrosstermBackend::new(io::stdout()))?;
        take()?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All), Hide)
}

/// As it was, as far as it is still there; once more does no harm.
fn give_back() {
    let _shown = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _cooked = disable_raw_mode();
}

/// The keys among what was typed. What begins with an escape is an arrow or a function key, none of which means anything.
fn keys(octets: &[u8]) -> Vec<Key> {
    match octets {
        [ESCAPE] => vec![Key::Back],
        [ESCAPE, ..] => Vec::new(),
        octets => octets.iter().filter_map(|octet| key(*octet)).collect(),
    }
}

fn key(octet: u8) -> Option<Key> {
    Some(match octet {
        b'q' | b'Q' | CONTROL_C => Key::Quit,
        b'p' | b'P' | b' ' => Key::Pause,
        b's' | b'S' => Key::Scale,
        b'?' | b'h' | b'H' => Key::Help,
        CONTROL_Z => Key::Suspend,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_arrows() {
        assert_eq!(keys(b"p?q"), [Key::Pause, Key::Help, Key::Quit]);
        assert_eq!(keys(b"\x03"), [Key::Quit]);
        assert_eq!(keys(b"\x1b"), [Key::Back]);
        for sequence in [&b"\x1b[A"[..], b"\x1bOP", b"\x1b[1;5q", b"xyz", b"\xc3\xbc"] {
            assert_eq!(keys(sequence), [], "{sequence:?}");
        }
    }
}
