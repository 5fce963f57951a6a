//! The log: text on standard error, or what the journal makes entries with a priority of.
//!
//! Each place of the program that logs may do so 200 times, and then once a minute: nobody can fill a disk by having it say
//! the same thing again and again, whatever is sent or plugged in.

use maser_sys::kernel_clock::{self, KernelClock};
use nix::sys::stat::fstat;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// What a place may log at once.
const AT_ONCE: u32 = 200;
/// And then one each.
const PAUSE: Duration = Duration::from_secs(60);

/// Begins to log what is of `level` or above.
pub(crate) fn start(level: Level) {
    let is_journal = is_journal();
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(!is_journal && io::stderr().is_terminal())
        // It would panic where nobody reads standard error any more.
        .log_internal_errors(false)
        .event_format(Lines { is_journal, allowances: Mutex::default() })
        .init();
}

/// Whether standard error leads to the journal (systemd.exec(5), `$JOURNAL_STREAM`).
#[must_use]
pub fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|file| format!("{}:{}", file.st_dev, file.st_ino) == named)
}

/// The priority of what is logged, as the journal reads it at a line's beginning (sd-daemon(3)).
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// How lines look, and how many there may be.
struct Lines {
    is_journal: bool,
    /// By the place in the program.
    allowances: Mutex<HashMap<Identifier, Allowance>>,
}

/// What one place may log.
#[derive(Debug, PartialEq, Eq)]
struct Allowance {
    left: u32,
    /// Until when `left` is up to date, since the machine started.
    counted: Duration,
    withheld: u64,
}

impl Allowance {
    const fn new(now: Duration) -> Self {
        Self { left: AT_ONCE, counted: now, withheld: 0 }
    }

    /// None if nothing may be logged at `now`, else how much wasn't since the last time.
    fn take(&mut self, now: Duration) -> Option<u64> {
        let earned = now.saturating_sub(self.counted).as_secs() / PAUSE.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(AT_ONCE).min(AT_ONCE);
            self.left = (self.left + earned).min(AT_ONCE);
            self.counted = if self.left == AT_ONCE { now } else { self.counted + PAUSE * earned };
        }
        if self.left == AT_ONCE {
            self.counted = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.withheld))
            }
            None => {
                self.withheld += 1;
                None
            }
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = Duration::from_nanos(kernel_clock::read(KernelClock::Monotonic).unsigned_abs());
        let place = event.metadata().callsite();
        let taken = {
            let mut allowances = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
            allowances.entry(place).or_insert_with(|| Allowance::new(now)).take(now)
        };
        // What is empty isn't written.
        let Some(withheld) = taken else { return Ok(()) };
        let usual = Format::<Full>::default().with_target(false);
        if self.is_journal {
            let mut text = String::new();
            usual.without_time().with_level(false).format_event(context, Writer::new(&mut text), event)?;
            let priority = priority(*event.metadata().level());
            for line in text.lines() {
                writeln!(writer, "<{priority}>{}", line.trim_start())?;
            }
        } else {
            usual.format_event(context, writer.by_ref(), event)?;
        }
        if withheld > 0 {
            let prefix = if self.is_journal { "<6>" } else { "" };
            writeln!(writer, "{prefix}({withheld} lines as the last one were left out before it)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_says_so_much_at_once_and_then_a_line_a_minute() {
        let at = |seconds: u64| Duration::from_secs(1_000 + seconds);
        let mut allowance = Allowance::new(at(0));
        let logged = |allowance: &mut Allowance, tries: u32, seconds: u64| {
            (0..tries).filter(|_| allowance.take(at(seconds)).is_some()).count()
        };
        assert_eq!(logged(&mut allowance, 100_000, 0), 200);
        assert_eq!(logged(&mut allowance, 1_000, 59), 0);
        assert_eq!(allowance.take(at(60)), Some(100_800), "what was left out is told");
        assert_eq!(logged(&mut allowance, 10, 119), 0);
        let of_an_hour: usize = (120..3_720).map(|second| logged(&mut allowance, 5, second)).sum();
        assert_eq!(of_an_hour, 60);
        assert_eq!(logged(&mut allowance, 1_000, 86_400), 200, "after a quiet day all of it");
        assert_eq!(logged(&mut allowance, 1_000, 86_401), 0);
    }
}
