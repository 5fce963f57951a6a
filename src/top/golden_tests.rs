//! Whole screens, from fixed documents: each is a committed file, which a person can read and compare.
//!
//! `MASER_WRITE_GOLDEN=1` writes them anew; what has changed is then to be looked at, not believed.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::super::view::{Answer, Key};
use super::*;
use crate::status::tests::plausible;
use crate::status::{ByFate, ClientStatus, ClientsStatus, LeapStatus, Residence, State, WorkerStatus};

fn buffer_of(view: &View, width: u16, height: u16, has_colours: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(view, Paint { has_colours }, frame)).unwrap();
    terminal.backend().buffer().clone()
}

/// What a person reads.
fn text_of(buffer: &Buffer) -> String {
    let row = |y| -> String { (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect() };
    (0..buffer.area.height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
}

fn screen(view: &View, width: u16, height: u16) -> String {
    text_of(&buffer_of(view, width, height, true))
}

fn is_golden(name: &str, view: &View, width: u16, height: u16) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/top/golden").join(format!("{name}.txt"));
    let shown = screen(view, width, height);
    if std::env::var_os("MASER_WRITE_GOLDEN").is_some() {
        fs::write(&path, &shown).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(shown == golden, "{} is\n{golden}and the screen\n{shown}", path.display());
}

fn clients() -> ClientsStatus {
    let client = |client: &str, rate, limited, share| ClientStatus {
        client: client.to_owned(),
        rate: ByFate { served: rate - limited, limited, ..ByFate::default() },
        share,
        ..ClientStatus::default()
    };
    ClientsStatus {
        limiting: true,
        addresses: vec![
            client("192.0.2.1", 910.0, 900.0, 0.006),
            client("2001:db8:1234:5678::/64", 64.25, 0.0, 0.000_4),
            client("198.51.100.200", 8.0, 0.0, 0.000_05),
            client("203.0.113.9", 0.0156, 0.0, 1e-7),
        ],
        prefixes: vec![
            client("198.51.100.0/24", 12_345.0, 900.0, 0.08),
            client("2001:db8:1234::/48", 640.0, 0.0, 0.004),
            client("192.0.2.0/24", 9.0, 0.0, 0.000_06),
        ],
        ..ClientsStatus::default()
    }
}

/// What the clock says at each second of a run: that it is in this state, its source so far ahead, itself at most so far off.
type Course = fn(u32) -> (State, Option<f64>, f64);

/// As the source of a locked clock does: some noise around nothing.
fn noise_s(second: u32) -> f64 {
    1e-9 * (f64::from((second * 7_919) % 401) - 200.0)
}

fn locked(second: u32) -> (State, Option<f64>, f64) {
    (State::Locked, Some(noise_s(second)), 1.21e-6)
}

/// The answer of that second: 150,000 requests in each, and a tenth more in those of every other minute.
fn answer(second: u32, course: Course) -> Answer {
    let mut status = plausible();
    let at_s = f64::from(second);
    status.uptime_s += at_s;
    let (state, offset_s, bound_s) = course(second);
    status.state = state;
    status.tracking.state = state;
    status.tracking.offset_s = offset_s;
    status.sources[0].offset_s = offset_s.or(status.sources[0].offset_s);
    status.tracking.root_distance_s = bound_s;
    status.tracking.since_s = status.tracking.since_s.map(|since_s| since_s + at_s);
    let busy = second / 120 * 60 + (second % 120).saturating_sub(60);
    let rate = |count: u32| u64::from(second * count + busy * count / 10);
    *status.workers[0].answers.get_mut("server").unwrap() += rate(100_000);
    *status.workers[1].answers.get_mut("server").unwrap() += rate(50_000);
    *status.workers[1].drops.get_mut("short").unwrap() += u64::from(second * 3);
    status.workers[0].drops.insert("rate-limited".to_owned(), u64::from(second * 900));
    *status.interfaces[0].verdicts.get_mut("dropped-limited").unwrap() += u64::from(second * 400);
    for worker in &mut status.workers {
        let stayed = [(0, 0), (2_048, u64::from(second * 99)), (4_096, u64::from(second * 2)), (8_192, 0)];
        worker.residence = Residence::together([&worker.residence, &Residence::from_buckets(&stayed)]);
    }
    Answer { status, clients: Ok(clients()), asked_s: at_s, answered_s: at_s }
}

/// After so many seconds.
fn run(seconds: u32, course: Course) -> View {
    let mut view = View::new(Duration::from_secs(1));
    for second in 1..=seconds {
        view.heard(answer(second, course));
    }
    view
}

/// Reworks the last answer.
fn with(mut view: View, change: impl FnOnce(&mut Status)) -> View {
    change(&mut view.answer.as_mut().unwrap().status);
    view
}

#[test]
fn a_locked_server() {
    is_golden("locked-80x24", &run(400, locked), 80, 24);
    is_golden("locked-120x40", &run(400, locked), 120, 40);
    is_golden("locked-200x60", &run(400, locked), 200, 60);
}

#[test]
fn a_server_in_holdover() {
    fn course(second: u32) -> (State, Option<f64>, f64) {
        if second < 200 {
            locked(second)
        } else {
            (State::Holdover, Some(1e-7), 1.21e-6 + 2e-8 * f64::from(second - 200))
        }
    }
    let view = with(run(400, course), |status| {
        status.tracking.holdover_left_s = Some(100_000.0);
        status.sources[0].verdict = "unreachable".to_owned();
        status.sources[1].verdict = "unreachable".to_owned();
    });
    is_golden("holdover", &view, 80, 24);
}

#[test]
fn a_server_that_does_not_know_the_time() {
    fn course(second: u32) -> (State, Option<f64>, f64) {
        if second < 350 { locked(second) } else { (State::Unsynchronised, None, 16.0) }
    }
    let view = with(run(400, course), |status| {
        (status.stratum, status.leap) = (16, LeapStatus::Unsynchronised);
        status.reference_id.clear();
        status.tracking.since_s = Some(93_784.0);
        status.sources[0].verdict = "wrong by 0.250000 s at least".to_owned();
    });
    is_golden("unsynchronised", &view, 80, 24);
}

#[test]
fn a_server_that_is_gone_and_one_that_is_back() {
    let mut view = run(250, locked);
    for second in 251..300 {
        view.failed(
            "/run/maser/status.sock: nobody listens there; maser was killed".to_owned(),
            f64::from(second),
        );
    }
    is_golden("no-server", &view, 80, 24);
    for second in 300..400 {
        view.heard(answer(second, locked));
    }
    is_golden("back-again", &view, 80, 24);
}

#[test]
fn a_server_that_has_not_answered_yet_and_one_that_has_once() {
    is_golden("asking", &View::new(Duration::from_secs(1)), 80, 24);
    is_golden("first-answer", &run(1, locked), 80, 24);
}

#[test]
fn a_paused_screen_and_an_explained_one() {
    let mut view = run(400, locked);
    view.press(Key::Pause);
    is_golden("paused", &view, 80, 24);
    view.press(Key::Help);
    is_golden("help", &view, 80, 24);
    view.press(Key::Back);
    view.press(Key::Scale);
    is_golden("scaled-to-offset", &view, 80, 24);
}

#[test]
fn a_terminal_that_is_too_small_is_told_so() {
    let view = run(10, locked);
    is_golden("too-small", &view, 79, 23);
    for (width, height) in [(79, 24), (80, 23), (20, 5), (1, 1), (300, 23)] {
        let text = screen(&view, width, height);
        assert!(!text.contains("Traffic"), "{text}");
        assert!(width < 40 || text.contains(&format!("is {width} x {height}")), "{text}");
    }
}

/// As many and as long as there can be: every column keeps its place and every figure is whole.
#[test]
fn a_large_server_with_long_names() {
    let mut view = run(400, locked);
    let answer = view.answer.as_mut().unwrap();
    let long = "ntp-source-with-a-name-that-is-long.example.net";
    let status = &mut answer.status;
    for (index, source) in (0..).zip(&mut status.sources) {
        source.name = format!("{index}-{long}");
    }
    status.sources[1].name = "2001:db8:1234:5678:9abc:def0:1234:5678".to_owned();
    let extra = status.sources[1].clone();
    status.sources.extend(vec![extra; 20]);
    let worker =
        |core| WorkerStatus { core: Some(core), port: "af-xdp".to_owned(), ..WorkerStatus::default() };
    status.workers = (0..128).map(worker).collect();
    answer.clients.as_mut().unwrap().addresses[0].client = "2001:db8:1234:5678:9abc:def0::/64".to_owned();
    answer.clients.as_mut().unwrap().addresses[1].rate.served = 123_456_789.0;
    let rates = view.rates.as_mut().unwrap();
    (rates.requests, rates.replies) = (123_456_789.0, 9_876_543_210.0);
    let worker = rates.workers[0].clone();
    rates.workers = vec![worker; 128];
    rates.workers[0].rate = 98_765_432.0;
    rates.workers[1].residence =
        Residence::from_buckets(&[(0, 0), (59_999_999_999, 100), (60_000_000_000, 0)]);
    is_golden("large", &view, 80, 24);
    is_golden("large-120x40", &view, 120, 40);
}

/// The row and the column of the cell that is drawn like this, from the top left corner on.
fn cells(buffer: &Buffer, wanted: impl Fn(&ratatui::buffer::Cell) -> bool) -> Vec<(u16, u16)> {
    let area = buffer.area;
    let all = (0..area.height).flat_map(|y| (0..area.width).map(move |x| (y, x)));
    all.filter(|&(y, x)| wanted(&buffer[(x, y)])).collect()
}

const BRAILLE: std::ops::RangeInclusive<char> = '\u{2801}'..='\u{28FF}';

fn is_braille(cell: &ratatui::buffer::Cell) -> bool {
    cell.symbol().chars().next().is_some_and(|first| BRAILLE.contains(&first))
}

#[test]
fn an_offset_above_nothing_is_drawn_above_the_middle_within_the_bounds() {
    fn ahead(_: u32) -> (State, Option<f64>, f64) {
        (State::Locked, Some(5e-7), 1e-6)
    }
    fn behind(_: u32) -> (State, Option<f64>, f64) {
        (State::Locked, Some(-5e-7), 1e-6)
    }
    for (course, is_ahead) in [(ahead as Course, true), (behind, false)] {
        let buffer = buffer_of(&run(400, course), 120, 40, true);
        let text = text_of(&buffer);
        let row_of = |label: &str| text.lines().position(|line| line.contains(label)).unwrap();
        let middle = u16::try_from(row_of(" 0│")).unwrap();
        let offsets = cells(&buffer, is_braille);
        let bounds = cells(&buffer, |cell| cell.symbol() == "•");
        let bounds: Vec<_> = bounds.into_iter().filter(|(y, _)| *y > 1).collect();
        assert!(offsets.len() > 20 && bounds.len() > 40, "{text}");
        assert!(offsets.iter().all(|(y, _)| (*y < middle) == is_ahead && *y != middle), "{text}");
        let (upper, lower): (Vec<_>, Vec<_>) = bounds.iter().partition(|(y, _)| *y < middle);
        assert_eq!(upper.len(), lower.len(), "{text}");
        let between =
            |y: u16| upper.iter().all(|(bound, _)| *bound < y) && lower.iter().all(|(bound, _)| *bound > y);
        assert!(offsets.iter().all(|(y, _)| between(*y)), "{text}");
    }
}

#[test]
fn colours_mean_something_and_are_never_alone() {
    let unsynchronised = |_| (State::Unsynchronised, None, 16.0);
    let mut gone = run(5, locked);
    gone.failed("gone".to_owned(), 6.0);
    for (view, word, colour) in [
        (run(5, locked), "locked", Color::Green),
        (run(5, |_| (State::Holdover, None, 1e-6)), "holdover", Color::Yellow),
        (run(5, unsynchronised), "unsynchronised", Color::Red),
        (gone, "NO ANSWER", Color::Red),
    ] {
        let buffer = buffer_of(&view, 80, 24, true);
        assert!(text_of(&buffer).starts_with(word), "{}", text_of(&buffer));
        assert_eq!(buffer[(0, 0)].fg, colour, "{word}");
        let without = buffer_of(&view, 80, 24, false);
        assert_eq!(text_of(&buffer), text_of(&without), "{word}");
        assert_eq!(cells(&without, |cell| cell.fg != Color::Reset || cell.bg != Color::Reset), []);
    }
    let mut paused = run(5, locked);
    paused.press(Key::Pause);
    let reversed =
        cells(&buffer_of(&paused, 80, 24, false), |cell| cell.modifier.contains(Modifier::REVERSED));
    assert_eq!(reversed.len(), "PAUSED".len());
}

#[test]
fn text_from_the_server_cannot_drive_the_terminal() {
    let evil = "\u{1b}]0;title\u{7}".to_owned();
    let mut view = with(run(5, locked), |status| {
        for text in [&mut status.version, &mut status.reference_id, &mut status.workers[0].port] {
            text.clone_from(&evil);
        }
        let source = &mut status.sources[0];
        for text in [&mut source.name, &mut source.kind, &mut source.verdict] {
            text.clone_from(&evil);
        }
    });
    view.rates.as_mut().unwrap().reasons.insert(0, (evil.clone(), 1e9));
    view.answer.as_mut().unwrap().clients.as_mut().unwrap().addresses[0].client.clone_from(&evil);
    let shown = screen(&view, 120, 40);
    view.failed(evil.clone(), 6.0);
    view.answer.as_mut().unwrap().clients = Err(evil);
    for text in [shown, screen(&view, 120, 40)] {
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    }
}
