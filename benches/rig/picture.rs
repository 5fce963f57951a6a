//! One picture of a run: what each server answered of what it was offered, a panel for each placement.
//!
//! A step of the ladder is a point: its median over the rounds. The SVG needs no font, script or file beside it, and
//! has a background of its own, so that it is readable on light and dark pages.

use std::fmt::Write as _;

use crate::figures::Figure;
use crate::hosts::Placement;
use crate::measure::Sample;
use crate::servers::SERVERS;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 505.0;
const LEGEND_LINE: f64 = 20.0;
const PANEL: f64 = 400.0;
const PANEL_HEIGHT: f64 = 320.0;
const TOP: f64 = 84.0;
const LEFTS: [f64; 2] = [60.0, 530.0];
/// At most so many intervals on an axis.
const TICKS_MAX: f64 = 6.0;

/// Told apart with any kind of colour vision; by the order of the servers.
const COLOURS: [&str; 9] =
    ["#57606a", "#a23fa0", "#8c959f", "#b3282d", "#d1570a", "#c0a98e", "#a87900", "#0969da", "#0b8a5f"];

/// A server's line: its colour and its points, offered and answered in thousands a second.
struct Line {
    server: &'static str,
    colour: &'static str,
    points: Vec<(f64, f64)>,
}

/// The picture of these samples under a title.
pub(crate) fn svg(samples: &[Sample], title: &str) -> String {
    let panels = Placement::ALL.map(|placement| (placement, lines(samples, placement)));
    let all = || panels.iter().flat_map(|(_, lines)| lines).flat_map(|line| &line.points);
    let scale = Scale {
        offered_max: all().map(|point| point.0).fold(1.0, f64::max) * 1.03,
        answered_max: all().map(|point| point.1).fold(1.0, f64::max) * 1.1,
    };
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui,sans-serif" font-size="12" fill="#57606a">
<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>
<text x="{}" y="28" font-size="16" font-weight="600" fill="#1f2328">{title}</text>
"##,
        LEFTS[0]
    );
    for (left, (placement, lines)) in LEFTS.into_iter().zip(&panels) {
        panel(&mut svg, left, placement.name(), &scale, lines);
    }
    legend(&mut svg, panels.first().map_or(&[], |(_, lines)| lines));
    svg += "</svg>\n";
    svg
}

fn lines(samples: &[Sample], placement: Placement) -> Vec<Line> {
    let of = |server: &'static str| {
        samples.iter().filter(move |sample| sample.server == server && sample.placement == placement.name())
    };
    let servers = SERVERS.iter().filter(|server| server.is_pictured()).zip(COLOURS);
    let line = |server: &'static str, colour| {
        let steps = of(server).map(|sample| sample.ladder.len()).min().unwrap_or(0);
        let point = |step: usize| {
            let steps = || {
                of(server).filter_map(|sample| sample.ladder.get(step)).filter(|step| step.is_on_schedule())
            };
            let offered = Figure::of(steps().map(|step| step.rate_offered / 1e3))?;
            let answered = Figure::of(steps().map(|step| step.rate_answered / 1e3))?;
            Some((offered.median, answered.median))
        };
        let mut points: Vec<(f64, f64)> = (0..steps).filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { server, colour, points }
    };
    servers.map(|(server, colour)| line(server.name, colour)).collect()
}

struct Scale {
    offered_max: f64,
    answered_max: f64,
}

impl Scale {
    fn x(&self, left: f64, offered: f64) -> f64 {
        left + PANEL * offered / self.offered_max
    }

    fn y(&self, answered: f64) -> f64 {
        TOP + PANEL_HEIGHT * (1.0 - answered / self.answered_max)
    }
}

fn panel(svg: &mut String, left: f64, title: &str, scale: &Scale, lines: &[Line]) {
    let (right, bottom) = (left + PANEL, TOP + PANEL_HEIGHT);
    let mut put = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    put(format!(r##"<text x="{left}" y="{}" font-weight="600" fill="#1f2328">{title}</text>"##, TOP - 26.0));
    for tick in ticks(scale.answered_max) {
        let y = scale.y(tick);
        put(format!(r##"<path d="M{left} {y:.1}H{right}" stroke="#d8dee4"/>"##));
        put(format!(r#"<text x="{}" y="{:.1}" text-anchor="end">{tick}</text>"#, left - 6.0, y + 4.0));
    }
    for tick in ticks(scale.offered_max) {
        let x = scale.x(left, tick);
        put(format!(r##"<path d="M{x:.1} {TOP}V{bottom}" stroke="#eaeef2"/>"##));
        put(format!(r#"<text x="{x:.1}" y="{}" text-anchor="middle">{tick}</text>"#, bottom + 17.0));
    }
    let ideal = scale.answered_max.min(scale.offered_max);
    put(format!(
        r##"<path d="M{left} {bottom}L{:.1} {:.1}" stroke="#8c959f" stroke-dasharray="5 4"/>"##,
        scale.x(left, ideal),
        scale.y(ideal)
    ));
    for Line { colour, points, .. } in lines {
        let at: Vec<_> = points
            .iter()
            .map(|point| format!("{:.1},{:.1}", scale.x(left, point.0), scale.y(point.1)))
            .collect();
        put(format!(
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            at.join(" ")
        ));
        for point in points {
            let (x, y) = (scale.x(left, point.0), scale.y(point.1));
            put(format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#));
        }
    }
    put(format!(r#"<text x="{right}" y="{}" text-anchor="end">offered, thousand/s</text>"#, bottom + 34.0));
    put(format!(r#"<text x="{left}" y="{}">answered, thousand/s</text>"#, TOP - 8.0));
}

fn legend(svg: &mut String, lines: &[Line]) {
    let (mut x, mut y) = (LEFTS[0], HEIGHT - 2.0 * LEGEND_LINE);
    for Line { server, colour, .. } in lines {
        let width = 52.0 + 7.0 * server.chars().map(|_| 1.0).sum::<f64>();
        if x + width > WIDTH {
            (x, y) = (LEFTS[0], y + LEGEND_LINE);
        }
        // Writing to a string doesn't fail.
        let _ = writeln!(
            svg,
            r##"<path d="M{x} {}h22" stroke="{colour}" stroke-width="3"/><text x="{}" y="{y}" fill="#1f2328">{server}</text>"##,
            y - 4.0,
            x + 28.0
        );
        x += width;
    }
    let _ = writeln!(
        svg,
        r##"<path d="M{x} {}h22" stroke="#8c959f" stroke-dasharray="5 4"/><text x="{}" y="{y}">all answered</text>"##,
        y - 4.0,
        x + 28.0
    );
}

/// Round values from 0 up to the axis's end.
fn ticks(max: f64) -> impl Iterator<Item = f64> {
    let power = 10_f64.powf((max / TICKS_MAX).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| max / step <= TICKS_MAX).unwrap_or(max);
    (0_u32..).map(move |number| f64::from(number) * step).take_while(move |tick| *tick <= max)
}
