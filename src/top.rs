//! `maser top`: a running server on a live screen.
//!
//! ```text
//! the server's answer, once a second → what was counted since the last one → what is shown → a frame
//! asking.rs                            rates.rs                              view.rs         draw.rs
//! ```
//!
//! Drawing is a pure function of the view, and the view of answers and keys; only [`run`] and what it calls directly touch the
//! terminal and the status socket. The server is asked one question at a time, and none while the screen is paused.

mod asking;
mod draw;
mod figures;
mod grid;
mod history;
mod paint;
mod panels;
mod plot;
mod rates;
mod terminal;
mod view;

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use maser_sys::kernel_clock::{self, KernelClock};

pub use draw::{COLUMNS_MIN, ROWS_MIN};
pub use paint::Paint;
pub use terminal::{Terminal, TerminalError};

use asking::Asking;
use view::{Key, View};

/// Shows the server whose status socket is at `path`, asking it once in `interval`, until somebody leaves.
pub fn run(path: &Path, interval: Duration, paint: Paint) -> Result<(), TerminalError> {
    // First of all, since it takes the signals that a thread would get otherwise.
    let mut terminal = Terminal::enter()?;
    let asking = Asking::start(path)?;
    let mut view = View::new(interval);
    let mut asked_s = None;
    let mut is_asked = false;
    loop {
        if let Some(told) = asking.told()? {
            is_asked = false;
            match told {
                Ok(answer) => view.heard(answer),
                Err(error) => view.failed(error.to_string(), now_s()),
            }
        }
        // One question at a time: a server that is slow isn't asked again before it has answered.
        let next_s = view.next_ask_s(asked_s).filter(|_| !is_asked);
        if next_s.is_some_and(|next_s| next_s <= now_s()) {
            asking.ask()?;
            (is_asked, asked_s) = (true, Some(now_s()));
            continue;
        }
        terminal.draw(|frame| draw::draw(&view, paint, frame))?;
        let longest = next_s.map(|next_s| Duration::from_secs_f64((next_s - now_s()).max(0.0)));
        let input = terminal.wait(asking.as_fd(), longest)?;
        for key in &input.keys {
            match key {
                Key::Quit => return Ok(()),
                Key::Suspend => terminal.suspend()?,
                Key::Pause | Key::Scale | Key::Help | Key::Back => view.press(*key),
            }
        }
        if input.is_over {
            return Ok(());
        }
    }
}

/// Seconds since the machine started, by a clock that nobody steps.
fn now_s() -> f64 {
    Duration::from_nanos(kernel_clock::read(KernelClock::Monotonic).unsigned_abs()).as_secs_f64()
}
