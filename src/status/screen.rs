//! The live view: the server's state and its rates, redrawn once a second on a terminal, a line every ten seconds
//! elsewhere.
//!
//! [`render`] and [`Screen`] are pure; [`watch`] is the loop around them. The interval that a rate is taken over
//! comes from the two statuses' uptimes, so a late redraw or a stopped terminal doesn't falsify it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::columns::Columns;
use super::table::{core_name, offset_text, reference_name, residence_cells};
use super::units::{count, per_second, printable, seconds, uptime};
use super::{Counters, InterfaceStatus, Residence, Status, WorkerStatus, sources_table, sum, tracking_table};

/// Home, without clearing first: the lines are overwritten in place, so nothing flickers.
const HOME: &str = "\u{1b}[H";
/// Clears what an earlier, longer line left.
const TO_LINE_END: &str = "\u{1b}[K";
/// Clears what an earlier, longer screen left.
const TO_SCREEN_END: &str = "\u{1b}[J";

/// How often a terminal is redrawn.
const REDRAW: Duration = Duration::from_secs(1);
/// How many redraws a plain line stands for.
const REDRAWS_PER_LINE: u64 = 10;

/// One of a worker's groups of counters.
type Which = fn(&WorkerStatus) -> &Counters;

/// What was counted between two statuses of one run of one server.
struct Difference<'s> {
    earlier: &'s Status,
    interval_s: f64,
}

impl<'s> Difference<'s> {
    /// None if `earlier` isn't of the same run or no time has passed.
    fn new(status: &Status, earlier: &'s Status) -> Option<Self> {
        let interval_s = status.uptime_s - earlier.uptime_s;
        let same = status.version == earlier.version && status.workers.len() == earlier.workers.len();
        // NaN compares false and so is no interval.
        (same && interval_s > 0.0).then_some(Self { earlier, interval_s })
    }

    fn rate(&self, now: u64, earlier: u64) -> String {
        per_second(now.saturating_sub(earlier), self.interval_s)
    }
}

/// The screen's text, in lines of at most `width` characters; rates if there is a previous status to count from.
#[must_use]
pub fn render(status: &Status, previous: Option<&Status>, width: usize) -> String {
    let difference = previous.and_then(|earlier| Difference::new(status, earlier));
    let difference = difference.as_ref();
    let mut text = format!("maser {}, up {}\n", status.version, uptime(status.uptime_s));
    text.push_str(&clock_text(status));
    text.push_str(&ports_text(status));
    text.push('\n');
    text.push_str(&counters_text(status, difference));
    text.push('\n');
    text.push_str(&workers_text(status, difference));
    fit(&text, width)
}

/// Where it listens, a line for each way that packets take.
fn ports_text(status: &Status) -> String {
    let mut rungs: Vec<(&str, Vec<&str>)> = Vec::new();
    for port in &status.ports {
        match rungs.iter_mut().find(|(rung, _)| *rung == port.rung) {
            Some((_, addresses)) => addresses.push(&port.listen),
            None => rungs.push((&port.rung, vec![&port.listen])),
        }
    }
    let ports = rungs.iter().map(|(rung, addresses)| format!("{rung} at {}\n", addresses.join(", ")));
    let interfaces = status.interfaces.iter().map(|interface| {
        let InterfaceStatus { name, rung, mode, frames, .. } = interface;
        let how: Vec<&str> =
            [mode, frames].into_iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        format!("{rung} on {name}{}\n", how.iter().map(|word| format!(", {word}")).collect::<String>())
    });
    ports.chain(interfaces).collect()
}

/// The state in two lines.
fn clock_text(status: &Status) -> String {
    format!(
        "{}, stratum {}, reference {}, leap {}\noffset {}, root delay {}, root dispersion {}, steps {}\n",
        status.state.word(),
        status.stratum,
        reference_name(status),
        status.leap.word(),
        offset_text(status),
        seconds(status.root_delay_s),
        seconds(status.root_dispersion_s),
        count(status.steps()),
    )
}

fn counters_text(status: &Status, difference: Option<&Difference<'_>>) -> String {
    let mut columns = Columns::new(1);
    let mut rate_row = |name: String, now: u64, before: Option<u64>| {
        let rate = difference.zip(before).map(|(difference, before)| difference.rate(now, before));
        columns.row([name, rate.unwrap_or_else(|| "-".to_owned()), count(now)]);
    };
    let sections: [(&str, Which); 3] = [
        ("answers", |worker| &worker.answers),
        ("drops", |worker| &worker.drops),
        ("events", |worker| &worker.events),
    ];
    for (title, which) in sections {
        let now = status.total(which);
        let earlier = difference.map(|difference| difference.earlier.total(which));
        let has_sum = title != "events";
        // Events are of unlike kinds, so their sum would say nothing.
        if has_sum {
            rate_row(title.to_owned(), sum(&now), earlier.as_ref().map(sum));
        }
        let shown: Vec<_> = now.iter().filter(|&(_, &value)| value > 0).collect();
        // One kind of answer would be the same figures twice.
        if title == "answers" && shown.len() == 1 {
            continue;
        }
        for (name, &value) in shown {
            let before = earlier.as_ref().map(|earlier| earlier.get(name).copied().unwrap_or_default());
            let indent = if has_sum { "  " } else { "" };
            rate_row(format!("{indent}{name}"), value, before);
        }
    }
    columns.text()
}

/// A line a worker; residence is that of the interval, so that it shows what happens now. A last line is of the whole
/// run.
fn workers_text(status: &Status, difference: Option<&Difference<'_>>) -> String {
    let mut columns = Columns::new(1);
    columns.row(["port", "core", "answers", "drops", "p50", "p99", "p99.9", "max"]);
    let mut recent = Vec::new();
    for (index, worker) in status.workers.iter().enumerate() {
        let before =
            difference.and_then(|difference| Some((difference, difference.earlier.workers.get(index)?)));
        let (answers, drops, residence) = match before {
            Some((difference, earlier)) => (
                difference.rate(worker.answered(), earlier.answered()),
                difference.rate(worker.dropped(), earlier.dropped()),
                worker.residence.since(&earlier.residence),
            ),
            None => (count(worker.answered()), count(worker.dropped()), worker.residence.clone()),
        };
        let mut cells = vec![worker.port.clone(), core_name(worker.core), answers, drops];
        cells.extend(residence_cells(&residence));
        columns.row(cells);
        recent.push(residence);
    }
    if recent.len() > 1 {
        let mut cells = vec!["all".to_owned(), String::new(), String::new(), String::new()];
        cells.extend(residence_cells(&Residence::together(&recent)));
        columns.row(cells);
    }
    if difference.is_some() {
        let total = |which: Which| count(sum(&status.total(which)));
        let mut cells = vec![
            "run".to_owned(),
            String::new(),
            total(|worker| &worker.answers),
            total(|worker| &worker.drops),
        ];
        cells.extend(residence_cells(&status.residence()));
        columns.row(cells);
    }
    columns.text()
}

/// No control characters, and no line that wraps: a wrapped one would push the others down at every redraw.
fn fit(text: &str, width: usize) -> String {
    let fitted = |line: &str| printable(line).chars().take(width).collect::<String>() + "\n";
    text.lines().map(fitted).collect()
}

/// One line for a log or a file.
fn plain_line(status: &Status, previous: Option<&Status>) -> String {
    let difference = previous.and_then(|earlier| Difference::new(status, earlier));
    let total = |status: &Status| {
        (sum(&status.total(|worker| &worker.answers)), sum(&status.total(|worker| &worker.drops)))
    };
    let (answers, drops) = total(status);
    let (answers, drops, residence) = match difference {
        Some(difference) => {
            let (answers_before, drops_before) = total(difference.earlier);
            (
                difference.rate(answers, answers_before),
                difference.rate(drops, drops_before),
                status.residence().since(&difference.earlier.residence()),
            )
        }
        None => (count(answers), count(drops), status.residence()),
    };
    let [p50, p99, ..] = residence_cells(&residence);
    let state = if status.state.is_followable() {
        format!("{}, stratum {}", status.state.word(), status.stratum)
    } else {
        status.state.word().to_owned()
    };
    let line = format!(
        "up {}: {state}, offset {}, dispersion {}, answers {answers}, drops {drops}, p50 {p50}, p99 {p99}\n",
        uptime(status.uptime_s),
        offset_text(status),
        seconds(status.root_dispersion_s),
    );
    fit(&line, usize::MAX)
}

/// What is shown, again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// The state and the rates; in a file, a line of them.
    Status,
    /// The sources.
    Sources,
    /// How the served clock follows them.
    Tracking,
}

impl Page {
    fn text(self, status: &Status, previous: Option<&Status>, width: Option<usize>) -> String {
        let table = match (self, width) {
            (Self::Status, Some(width)) => return render(status, previous, width),
            (Self::Status, None) => return plain_line(status, previous),
            (Self::Sources, _) => sources_table(status, false),
            (Self::Tracking, _) => tracking_table(status),
        };
        match width {
            Some(width) => fit(&table, width),
            // In a file a table needs a moment, and an empty line after it.
            None => format!("up {}\n{table}\n", uptime(status.uptime_s)),
        }
    }
}

/// Turns one status after another into what goes to the output.
#[derive(Debug)]
pub struct Screen {
    page: Page,
    /// The width of the terminal; none if the output isn't one.
    width: Option<usize>,
    previous: Option<Status>,
    frames: u64,
}

impl Screen {
    /// For a terminal of that many columns, or for a file or pipe.
    #[must_use]
    pub const fn new(page: Page, terminal_width: Option<usize>) -> Self {
        Self { page, width: terminal_width, previous: None, frames: 0 }
    }

    /// What to write for the status of this second; none when it isn't a plain line's turn.
    #[must_use]
    pub fn frame(&mut self, status: Status) -> Option<String> {
        let turn = self.width.is_some() || self.frames.is_multiple_of(REDRAWS_PER_LINE);
        self.frames += 1;
        if !turn {
            return None;
        }
        let text = self.page.text(&status, self.previous.as_ref(), self.width);
        let text = if self.width.is_some() { redraw(&text) } else { text };
        self.previous = Some(status);
        Some(text)
    }

    /// What to write when no status came, with the reason; the screen goes on.
    #[must_use]
    pub fn failure(&mut self, reason: &str) -> String {
        self.previous = None;
        match self.width {
            Some(width) => redraw(&fit(&format!("{reason}\ntrying again"), width)),
            None => fit(reason, usize::MAX),
        }
    }
}

/// The text in the place of what stood there before.
fn redraw(text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("{line}{TO_LINE_END}\n")).collect();
    format!("{HOME}{lines}{TO_SCREEN_END}")
}

/// Shows a status a second until `stop` is set or the output is closed (which is no error).
///
/// Where the output isn't a terminal, a status that doesn't come ends it: its reader would wait for nothing.
pub fn watch<E: std::error::Error>(
    page: Page,
    mut status: impl FnMut() -> Result<Status, E>,
    out: &mut dyn Write,
    terminal_width: Option<usize>,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut screen = Screen::new(page, terminal_width);
    while !stop.load(Ordering::Relaxed) {
        let text = match status() {
            Ok(status) => screen.frame(status),
            Err(error) if terminal_width.is_none() => return Err(io::Error::other(error.to_string())),
            Err(error) => Some(screen.failure(&error.to_string())),
        };
        if let Some(text) = text
            && let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        {
            return if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) };
        }
        thread::sleep(REDRAW);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::plausible;
    use super::*;

    /// Ten seconds after [`plausible`].
    fn later() -> Status {
        let mut status = plausible();
        status.uptime_s += 10.0;
        *status.workers[0].answers.get_mut("server").unwrap() += 1_512_340;
        *status.workers[1].drops.get_mut("short").unwrap() += 5;
        status.workers[0].residence = Residence::together([
            &status.workers[0].residence,
            &Residence::from_buckets(&[(0, 0), (2_048, 99), (4_096, 1), (8_192, 0)]),
        ]);
        status
    }

    #[test]
    fn a_plausible_screen_looks_like_this() {
        let expected = "\
maser 0.1.0, up 3 d 04:12:19
locked, stratum 1, reference PPS, leap none
offset -12.3 ns, root delay 0 ns, root dispersion 1.21 us, steps 1
io-uring at 0.0.0.0:123
socket at [::]:123
af-xdp on eth0, native, copy
socket on eth1, generic

answers          151,234/s  20,737,031
drops                0.5/s       1,048
  not_a_request        0/s       1,040
  short              0.5/s           8
snapshot_retry         0/s          12

port    core     answers  drops      p50      p99    p99.9      max
af-xdp     0   151,234/s    0/s  4.10 us  4.10 us  8.19 us  8.19 us
socket     1         0/s  0.5/s        -        -        -        -
all                              4.10 us  4.10 us  8.19 us  8.19 us
run           20,737,031  1,048  1.02 us  4.10 us  16.4 us  1.05 ms
";
        let text = render(&later(), Some(&plausible()), 80);
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn without_an_earlier_status_there_are_no_rates() {
        for previous in [None, Some(&plausible()), Some(&later())] {
            // The same moment, or a server that was started anew.
            let text = render(&plausible(), previous, 80);
            assert!(!text.contains("/s"), "{text}");
            assert!(text.contains("12,345,678"), "{text}");
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [0, 1, 20, 79] {
            let text = render(&later(), Some(&plausible()), width);
            assert!(text.lines().all(|line| line.chars().count() <= width));
        }
    }

    #[test]
    fn a_terminal_is_redrawn_every_time_and_a_file_gets_every_tenth() {
        let mut screen = Screen::new(Page::Status, Some(80));
        let frame = screen.frame(plausible()).unwrap();
        assert!(frame.starts_with(HOME) && frame.ends_with(TO_SCREEN_END));
        assert!(screen.frame(later()).unwrap().contains("151,234/s"));

        let mut lines = Screen::new(Page::Status, None);
        let mut frame = |status| lines.frame(status);
        assert!(frame(plausible()).is_some());
        assert!((0..9).all(|_| frame(plausible()).is_none()));
        let line = frame(later()).unwrap();
        assert_eq!(
            line,
            "up 3 d 04:12:19: locked, stratum 1, offset -12.3 ns, dispersion 1.21 us, answers 151,234/s, \
             drops 0.5/s, p50 4.10 us, p99 4.10 us\n"
        );
    }

    #[test]
    fn the_tables_are_pages_too() {
        for (page, first) in [(Page::Sources, "  Source  Type"), (Page::Tracking, "State           : locked")]
        {
            let frame = Screen::new(page, Some(30)).frame(plausible()).unwrap();
            assert!(frame.starts_with(&format!("{HOME}{first}")), "{frame}");
            let text = page.text(&plausible(), None, Some(30));
            assert!(text.lines().all(|line| line.chars().count() <= 30), "{text}");
            let text = page.text(&plausible(), None, None);
            assert!(
                text.starts_with(&format!("up 3 d 04:12:09\n{first}")) && text.ends_with("\n\n"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_closed_output_ends_the_watch_and_a_lost_server_ends_a_plain_one() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let stop = AtomicBool::new(false);
        watch(Page::Status, || Ok::<_, io::Error>(plausible()), &mut Closed, Some(80), &stop).unwrap();
        let lost = || Err(io::Error::other("gone"));
        let error = watch(Page::Status, lost, &mut io::sink(), None, &stop).unwrap_err();
        assert_eq!(error.to_string(), "gone");
    }
}
