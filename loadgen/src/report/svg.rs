//! One picture of a run, or of several over one another: what was answered of what was offered, how long it took, and
//! how far the served time was out.
//!
//! The text is SVG with its colours for light and dark built in: it needs no font, script or file beside it. What went
//! wrong is drawn: the gap to what was offered is shaded, steps that fell short have hollow points, and steps where
//! the generator itself fell short have crosses.

use super::scale::Scale;
use super::series::{self, Point};
use super::units::{percent, plural, short, time};
use crate::outcome::approximate;
use crate::summary::{Document, Summary};
use std::fmt::Write;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 76.0;
/// Leaves room for the names at the lines' ends.
const RIGHT: f64 = WIDTH - 62.0;
const PANEL_HEIGHT: f64 = 210.0;
/// From one panel's lower edge to the next one's upper edge: tick labels, and the next panel's title.
const PANEL_GAP: f64 = 62.0;
const LINE_HEIGHT: f64 = 20.0;
/// With more points than this, only those where something went wrong are drawn as points.
const POINTS_MAX: usize = 60;
const COLOURS: usize = 6;

/// Colours that people with any kind of colour vision can tell apart, a shade lighter where it is dark.
const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;\
font-size:12px;fill:#57606a}\
.back{fill:#ffffff}.title{font-size:17px;font-weight:600;fill:#1f2328}.strong{font-size:13px;font-weight:600;fill:#1f2328}\
.grid{stroke:#d8dee4;stroke-width:1}.axis{stroke:#8c959f;stroke-width:1}\
.ideal{stroke:#8c959f;stroke-width:1.5;stroke-dasharray:5 4;fill:none}\
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.p99{stroke-dasharray:7 5}.p999{stroke-dasharray:1 5}\
.gap{opacity:.13}.hollow{fill:#ffffff;stroke-width:2}.cross{stroke-width:2;fill:none}.end{font-size:11px}\
.s0{stroke:#0969da}.f0{fill:#0969da}.s1{stroke:#d1570a}.f1{fill:#d1570a}.s2{stroke:#0b8a5f}.f2{fill:#0b8a5f}\
.s3{stroke:#a23fa0}.f3{fill:#a23fa0}.s4{stroke:#a87900}.f4{fill:#a87900}.s5{stroke:#4f6d7a}.f5{fill:#4f6d7a}\
@media (prefers-color-scheme:dark){text{fill:#9198a1}.back,.hollow{fill:#0d1117}.title,.strong{fill:#f0f6fc}\
.grid{stroke:#2a3038}.axis,.ideal{stroke:#6e7681}.gap{opacity:.22}\
.s0{stroke:#58a6ff}.f0{fill:#58a6ff}.s1{stroke:#ff9f52}.f1{fill:#ff9f52}.s2{stroke:#3ecf98}.f2{fill:#3ecf98}\
.s3{stroke:#e48be0}.f3{fill:#e48be0}.s4{stroke:#e3b341}.f4{fill:#e3b341}.s5{stroke:#9fb8c4}.f5{fill:#9fb8c4}}";

/// A distribution's percentile: its name, its line's style, and the value where there is one.
type Curve = (&'static str, &'static str, fn(&Summary) -> Option<f64>);

const LATENCIES: [Curve; 3] = [
    ("p50", "p50", |step| (step.latency_ns.count > 0).then(|| approximate(step.latency_ns.p50))),
    ("p99", "p99", |step| (step.latency_ns.count > 0).then(|| approximate(step.latency_ns.p99))),
    ("p99.9", "p999", |step| (step.latency_ns.count > 0).then(|| approximate(step.latency_ns.p999))),
];

const OFFSETS: [Curve; 2] = [
    ("p50", "p50", |step| step.offset_error_ns.map(|errors| approximate(errors.p50))),
    ("p99", "p99", |step| step.offset_error_ns.map(|errors| approximate(errors.p99))),
];

/// The picture of these runs, each under its label.
#[must_use]
pub fn svg(documents: &[(&str, &Document)]) -> String {
    let by_time = series::by_time(documents.iter().map(|(_, document)| *document));
    let runs: Vec<_> = documents.iter().map(|(_, document)| series::points(document, by_time)).collect();
    let all = || runs.iter().flatten();
    let (x, x_title) = horizontal(&all().map(|point| point.x).collect::<Vec<_>>(), by_time);
    let mut picture = Picture { body: String::new(), x, y: Scale::linear([]), top: 0.0, by_time };
    picture.top = heading(&mut picture.body, documents, &runs) + 44.0;
    let rates: Vec<_> = all().flat_map(|point| [point.step.rate_offered, point.step.rate_answered]).collect();
    // Always linear: a logarithm would make half of the requests lost look like little.
    picture.x = Scale::linear(all().map(|point| point.x));
    picture.y = Scale::linear(rates);
    picture.frame("Valid replies a second, against what was offered", &short);
    picture.rates(&runs);
    picture.x = x;
    let mut curves = vec![("Latency from due to reply", &LATENCIES[..])];
    if all().any(|point| point.step.offset_error_ns.is_some()) {
        curves.push(("Offset error that a client would compute (magnitude)", &OFFSETS[..]));
    }
    for (title, curves) in curves {
        let values = all().flat_map(|point| curves.iter().filter_map(|(_, _, value)| value(point.step)));
        // Below a nanosecond nothing is measured, and 0 has no logarithm.
        picture.y = Scale::logarithmic(values.map(|value| value.max(1.0)));
        picture.top += PANEL_HEIGHT + PANEL_GAP;
        picture.frame(title, &time);
        picture.curves(&runs, curves);
    }
    let foot = picture.top + PANEL_HEIGHT + 40.0;
    let _ = writeln!(
        picture.body,
        r#"<text x="{:.1}" y="{foot:.1}" text-anchor="middle" class="strong">{x_title}</text>"#,
        f64::midpoint(LEFT, RIGHT)
    );
    legend_of_marks(&mut picture.body, foot + 26.0, &runs);
    let height = foot + 42.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<style>{STYLE}</style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n{}</svg>\n",
        picture.body
    )
}

/// The axis that all panels share, and its title.
fn horizontal(values: &[f64], by_time: bool) -> (Scale, &'static str) {
    if by_time {
        (Scale::linear(values.iter().copied()), "seconds from the start")
    } else {
        (Scale::of_rates(values), "offered, requests a second")
    }
}

/// Title and legend; returns where they end.
fn heading(body: &mut String, documents: &[(&str, &Document)], runs: &[Vec<Point<'_>>]) -> f64 {
    let title = match documents {
        [] => "No run".to_owned(),
        [(_, one)] => format!("{} of {}", capital(&one.setting.mode), one.setting.target),
        several => format!("{} runs compared", several.len()),
    };
    let _ = writeln!(body, r#"<text x="24" y="34" class="title">{}</text>"#, escaped(&title));
    let mut y = 38.0;
    for (index, ((label, document), points)) in documents.iter().zip(runs).enumerate() {
        y += LINE_HEIGHT;
        let colour = index % COLOURS;
        let (swatch, text) = (y - 10.0, format!("{}: {}", setting(document), outcome(document, points)));
        let _ = writeln!(
            body,
            r#"<rect x="24" y="{swatch:.1}" width="11" height="11" rx="2.5" class="f{colour}"/><text x="42" y="{y:.1}"><tspan class="strong">{}</tspan> {}</text>"#,
            escaped(label),
            escaped(&text)
        );
    }
    y
}

fn setting(document: &Document) -> String {
    let setting = &document.setting;
    let threads = plural(approximate_count(setting.threads), "thread", "threads");
    format!("mix {}, {} by {threads}", setting.mix, setting.sender)
}

fn approximate_count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The best that a run came to, and the worst.
fn outcome(document: &Document, points: &[Point<'_>]) -> String {
    let peak = points.iter().map(|point| point.step.rate_answered).fold(0.0, f64::max);
    let mut text = format!("at most {}/s answered", short(peak));
    let worst = points.iter().max_by(|one, other| one.step.loss().total_cmp(&other.step.loss()));
    if let Some(worst) = worst.filter(|worst| worst.step.lost > 0) {
        let expected = worst.step.sent.saturating_sub(worst.step.silence_expected);
        let _ = write!(text, ", up to {} lost", percent(worst.step.lost, expected));
    }
    if document.setting.closed_loop {
        text += ", closed loop";
    }
    if document.interrupted {
        text += ", interrupted";
    }
    text
}

/// What the points mean, as far as there are such.
fn legend_of_marks(body: &mut String, y: f64, runs: &[Vec<Point<'_>>]) {
    let any = |which: fn(&Point<'_>) -> bool| runs.iter().flatten().any(which);
    let mut marks = vec!["dashed: all that was offered; shaded: offered and not validly answered"];
    if any(|point| point.fell_short()) {
        marks.push("hollow: more than 1 % went wrong");
    }
    if any(|point| point.generator_short()) {
        marks.push("cross: the generator itself fell short");
    }
    let _ = writeln!(body, r#"<text x="{LEFT}" y="{y:.1}" class="end">{}</text>"#, marks.join(" · "));
}

/// A picture in the making: its elements, and the panel that is being drawn.
struct Picture {
    body: String,
    x: Scale,
    y: Scale,
    top: f64,
    by_time: bool,
}

impl Picture {
    fn across(&self, x: f64) -> f64 {
        LEFT + self.x.place(x) * (RIGHT - LEFT)
    }

    fn down(&self, y: f64) -> f64 {
        self.top + (1.0 - self.y.place(y)) * PANEL_HEIGHT
    }

    /// The panel's title, grid and tick labels.
    fn frame(&mut self, title: &str, y_text: &dyn Fn(f64) -> String) {
        let (top, bottom) = (self.top, self.top + PANEL_HEIGHT);
        let _ = writeln!(
            self.body,
            r#"<text x="{:.1}" y="{:.1}" class="strong">{title}</text>"#,
            LEFT - 52.0,
            top - 14.0
        );
        for tick in self.y.ticks() {
            let (y, text) = (self.down(tick), y_text(tick));
            let _ = writeln!(
                self.body,
                r#"<path d="M{LEFT} {y:.1}H{RIGHT}" class="grid"/><text x="{:.1}" y="{:.1}" text-anchor="end">{text}</text>"#,
                LEFT - 8.0,
                y + 4.0
            );
        }
        for tick in self.x.ticks() {
            let (x, text) = (self.across(tick), self.x_text(tick));
            let _ = writeln!(
                self.body,
                r#"<path d="M{x:.1} {top:.1}V{bottom:.1}" class="grid"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{text}</text>"#,
                bottom + 17.0
            );
        }
        let _ = writeln!(
            self.body,
            r#"<path d="M{LEFT} {top:.1}V{bottom:.1}H{RIGHT}" fill="none" class="axis"/>"#
        );
    }

    fn x_text(&self, tick: f64) -> String {
        if self.by_time && tick >= 1000.0 { format!("{tick:.0}") } else { short(tick) }
    }

    /// What was offered, what was answered, and the gap between them.
    fn rates(&mut self, runs: &[Vec<Point<'_>>]) {
        if !self.by_time {
            // Of rates all runs have the same ideal: what is offered is answered.
            let (low, high) = self.x.ends();
            let ideal = self.path(&[(low, low), (high, high)]);
            let _ = writeln!(self.body, r#"<path d="{ideal}" class="ideal"/>"#);
        }
        for (index, points) in runs.iter().enumerate() {
            let colour = index % COLOURS;
            let offered: Vec<_> = points.iter().map(|point| (point.x, point.step.rate_offered)).collect();
            let answered: Vec<_> = points.iter().map(|point| (point.x, point.step.rate_answered)).collect();
            let around: Vec<_> = offered.iter().chain(answered.iter().rev()).copied().collect();
            let gap = self.path(&around);
            let _ = writeln!(self.body, r#"<path d="{gap}Z" class="gap f{colour}"/>"#);
            if self.by_time {
                let offered = self.path(&offered);
                let _ = writeln!(self.body, r#"<path d="{offered}" class="ideal"/>"#);
            }
            let line = self.path(&answered);
            let _ = writeln!(self.body, r#"<path d="{line}" class="line s{colour}"/>"#);
            for point in points {
                self.point(point, point.step.rate_answered, colour, points.len());
            }
        }
    }

    /// A line a percentile and run, with its name at its end.
    fn curves(&mut self, runs: &[Vec<Point<'_>>], curves: &[Curve]) {
        let mut ends: Vec<(f64, usize, &str)> = Vec::new();
        for (index, points) in runs.iter().enumerate() {
            let colour = index % COLOURS;
            for (name, style, value) in curves {
                // A step without a value breaks the line: nothing is made up between its neighbours.
                for part in points.split(|point| value(point.step).is_none()) {
                    let values: Vec<_> = part
                        .iter()
                        .filter_map(|point| Some((point.x, value(point.step)?.max(1.0))))
                        .collect();
                    let line = self.path(&values);
                    let _ = writeln!(self.body, r#"<path d="{line}" class="line {style} s{colour}"/>"#);
                }
                let mut valued = points.iter().filter_map(|point| Some((point, value(point.step)?.max(1.0))));
                for (point, value) in valued.clone() {
                    self.point(point, value, colour, points.len());
                }
                if let Some((_, value)) = valued.next_back() {
                    ends.push((self.down(value), colour, name));
                }
            }
        }
        self.names(ends);
    }

    /// Names right of the lines' ends, pushed apart where they would lie over one another.
    fn names(&mut self, mut ends: Vec<(f64, usize, &str)>) {
        ends.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut free_from = f64::NEG_INFINITY;
        for (y, colour, name) in ends {
            let y = y.max(free_from);
            free_from = y + 13.0;
            let _ = writeln!(
                self.body,
                r#"<text x="{:.1}" y="{:.1}" class="end f{colour}">{name}</text>"#,
                RIGHT + 9.0,
                y + 4.0
            );
        }
    }

    /// A step's point, which tells its figures when it is pointed at.
    fn point(&mut self, point: &Point<'_>, y: f64, colour: usize, of: usize) {
        let marked = point.fell_short() || point.generator_short();
        if of > POINTS_MAX && !marked {
            return;
        }
        let (x, y) = (self.across(point.x), self.down(y));
        let fill = if point.fell_short() { format!("hollow s{colour}") } else { format!("f{colour}") };
        let about = escaped(&figures(point.step));
        let _ = writeln!(
            self.body,
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" class="{fill}"><title>{about}</title></circle>"#
        );
        if point.generator_short() {
            let _ = writeln!(
                self.body,
                r#"<path d="M{:.1} {:.1}l12 12m0 -12l-12 12" class="cross s{colour}"/>"#,
                x - 6.0,
                y - 6.0
            );
        }
    }

    /// Straight lines from point to point, in the picture's coordinates.
    fn path(&self, values: &[(f64, f64)]) -> String {
        let corners = values.iter().map(|(x, y)| format!("{:.1} {:.1}", self.across(*x), self.down(*y)));
        format!("M{}", corners.collect::<Vec<_>>().join("L"))
    }
}

/// A step in words.
fn figures(step: &Summary) -> String {
    let expected = step.sent.saturating_sub(step.silence_expected);
    let mut text = format!(
        "{}/s offered, {}/s answered, {} lost, {} invalid, {} kisses",
        short(step.rate_offered),
        short(step.rate_answered),
        percent(step.lost, expected),
        percent(step.invalid, expected),
        percent(step.kod, expected),
    );
    if step.unsent + step.unseen > 0 {
        let _ = write!(text, ", {} unsent, {} unseen", step.unsent, step.unseen);
    }
    text
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Text that may stand in an element: labels and mixes come from outside.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn occurrences(text: &str, of: &str) -> usize {
        text.matches(of).count()
    }

    #[test]
    fn losses_are_hollow_and_shaded_and_in_the_heading() {
        let good = svg(&[("maser", &sample::past_knee(200_000))]);
        assert_eq!((occurrences(&good, "class=\"hollow"), occurrences(&good, " lost</text>")), (0, 0));
        let lossy = svg(&[("maser", &sample::past_knee(100_000))]);
        // Four steps lie beyond the knee, each with a point on six lines.
        assert_eq!(occurrences(&lossy, "class=\"hollow"), 4 * 6);
        assert!(lossy.contains("up to 50 % lost") && lossy.contains("hollow: more than 1 %"));
    }

    #[test]
    fn what_the_generator_missed_is_crossed() {
        let mut document = sample::past_knee(200_000);
        document.steps[3].unseen = 1;
        document.interrupted = true;
        let picture = svg(&[("maser", &document)]);
        assert_eq!(occurrences(&picture, "class=\"cross"), 6);
        assert!(picture.contains("the generator itself fell short") && picture.contains("interrupted"));
    }

    #[test]
    fn offsets_have_a_panel_only_where_they_were_measured() {
        let mut document = sample::past_knee(100_000);
        assert!(svg(&[("a", &document)]).contains("Offset error"));
        for step in &mut document.steps {
            step.offset_error_ns = None;
        }
        assert!(!svg(&[("a", &document)]).contains("Offset error"));
    }

    #[test]
    fn labels_are_text_and_no_figure_is_other_than_a_number() {
        let mut dead = sample::ladder(vec![Summary::default(), sample::lossy(1_000, 1_000)]);
        dead.steps[1].latency_ns.count = 0;
        let picture =
            svg(&[("<b>&\"", &dead), ("soak", &sample::soak(5)), ("none", &sample::ladder(vec![]))]);
        assert!(picture.contains("&lt;b&gt;&amp;&quot;") && !picture.contains("<b>"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        assert!(!svg(&[]).contains("NaN"));
    }
}
