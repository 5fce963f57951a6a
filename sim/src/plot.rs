//! A picture of a run: how far off the served clock was beside what it advertised, and how steady it was beside its
//! oscillator.
//!
//! SVG without fonts, scripts or files of its own. What was noted every second is thinned out to what a screen can show,
//! keeping the extremes.

use crate::allan;
use plotters::coord::Shift;
use plotters::element::Polygon;
use plotters::prelude::{
    BindKeyPoints as _, ChartBuilder, DrawingArea, IntoDrawingArea as _, IntoLogRange as _, LineSeries,
    PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
};
use plotters::style::{Color as _, IntoFont as _};

const SIZE: (u32, u32) = (960, 820);
/// So many points side by side; more can't be told apart.
const POINTS_MAX: usize = 800;
const FONT: &str = "sans-serif";

const ERROR: RGBColor = RGBColor(9, 105, 218);
const DISTANCE: RGBColor = RGBColor(209, 87, 10);
const UNSYNCHRONISED: RGBColor = RGBColor(140, 149, 159);
const GRID: RGBColor = RGBColor(216, 222, 228);
const TEXT: RGBColor = RGBColor(31, 35, 40);

/// The served clock's error, and its root distance while it is synchronised; none without a time.
type Served = Option<(f64, Option<f64>)>;

/// What is noted of a run, every second.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// The counter's seconds less the true ones.
    counter: Vec<f64>,
    served: Vec<Served>,
}

impl Track {
    /// Notes a second.
    pub fn push(&mut self, counter: f64, served: Served) {
        self.counter.push(counter);
        self.served.push(served);
    }

    /// Error and root distance over time, thinned out; none where there was no time.
    fn buckets(&self) -> Vec<Option<Bucket>> {
        let length = self.served.len().div_ceil(POINTS_MAX).max(1);
        let bucket = |(index, seconds): (usize, &[Served])| {
            let known: Vec<_> = seconds.iter().copied().flatten().collect();
            let first = known.first()?;
            let errors = known.iter().map(|(error, _)| *error);
            let distances = known.iter().map(|(_, distance)| *distance);
            Some(Bucket {
                at: crate::float((index * length) as u64),
                low: errors.clone().fold(first.0, f64::min),
                high: errors.fold(first.0, f64::max),
                distance: distances.reduce(|one, other| Some(one?.max(other?))).flatten(),
            })
        };
        self.served.chunks(length).enumerate().map(bucket).collect()
    }

    /// The longest stretch for which it was synchronised without a break, but for its beginning, when it still settled.
    fn steady(&self) -> std::ops::Range<usize> {
        let is_synchronised = |second: &Served| second.is_some_and(|(_, distance)| distance.is_some());
        let mut longest = 0..0;
        let mut from = 0;
        for (at, second) in self.served.iter().enumerate() {
            if !is_synchronised(second) {
                from = at + 1;
            } else if at + 1 - from > longest.len() {
                longest = from..at + 1;
            }
        }
        let settling =
            usize::try_from(crate::judge::SETTLED_FROM).unwrap_or(usize::MAX).min(longest.len() / 4);
        longest.start + settling..longest.end
    }
}

/// Some seconds together.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Bucket {
    at: f64,
    low: f64,
    high: f64,
    /// The greatest; none where it was unsynchronised at any time.
    distance: Option<f64>,
}

/// The picture could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the picture can't be drawn: {0}")]
pub struct PlotError(String);

type Drawn<T> = Result<T, PlotError>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn fault<E: std::error::Error>(error: E) -> PlotError {
    PlotError(error.to_string())
}

/// The picture of a run.
///
/// # Errors
/// When the drawing library refuses, which no figures make it do.
pub fn svg(track: &Track, title: &str) -> Drawn<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(fault)?;
        let area = area.titled(title, (FONT, 18).into_font().color(&TEXT)).map_err(fault)?;
        let (upper, lower) = area.split_vertically(SIZE.1 / 2);
        draw_errors(&upper, &track.buckets())?;
        draw_deviations(&lower, track)?;
        area.present().map_err(fault)?;
    }
    Ok(text)
}

/// A unit in which figures up to `greatest` have few digits.
fn unit(greatest: f64, units: &[(f64, &'static str)]) -> (f64, &'static str) {
    let fits = units.iter().rev().find(|(unit, _)| greatest >= 2.0 * unit);
    fits.or(units.first()).copied().unwrap_or((1.0, "s"))
}

/// How far up the picture goes: to what matters for most of the time.
fn reach(buckets: &[Option<Bucket>]) -> f64 {
    let known = || buckets.iter().flatten();
    let quantile = |values: Vec<f64>| {
        let values = crate::units::sorted(values);
        if values.is_empty() { 0.0 } else { crate::units::quantile(&values, 98, 100) }
    };
    let distance = quantile(known().filter_map(|bucket| bucket.distance).collect());
    let error = quantile(known().map(|bucket| bucket.high.max(-bucket.low)).collect());
    // A clock that ran away while it was unsynchronised must not hide the rest.
    let reach = if distance > 0.0 { distance.max(error.min(3.0 * distance)) } else { error };
    if reach > 0.0 { 1.35 * reach } else { 1e-9 }
}

/// A tick's figure without zeros for their own sake.
fn label(tick: f64) -> String {
    let text = format!("{tick:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn draw_errors(area: &Area<'_>, buckets: &[Option<Bucket>]) -> Drawn<()> {
    let reach = reach(buckets);
    let (scale, name) = unit(reach, &[(1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1.0, "s")]);
    let end = buckets.iter().flatten().last().map_or(1.0, |last| last.at.max(1.0));
    let (long, long_name) = unit(end, &[(1.0, "s"), (60.0, "min"), (3_600.0, "h")]);
    let limit = reach / scale;
    let mut chart = ChartBuilder::on(area)
        .caption("Error of the served clock within its root distance", (FONT, 14).into_font().color(&TEXT))
        .margin(12)
        .margin_right(28)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end / long, -limit..limit)
        .map_err(fault)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .x_desc(format!("time, {long_name}"))
        .y_desc(format!("error, {name}"))
        .y_label_formatter(&|error| label(*error))
        .x_label_formatter(&|time| label(*time))
        .label_style((FONT, 12).into_font().color(&TEXT))
        .draw()
        .map_err(fault)?;
    let place = |at: f64, value: f64| (at / long, (value / scale).clamp(-limit, limit));
    let alike = |one: &Option<Bucket>, other: &Option<Bucket>| {
        let kind = |bucket: &Option<Bucket>| bucket.map(|bucket| bucket.distance.is_some());
        kind(one) == kind(other)
    };
    let mut named = [false; 2];
    for stretch in buckets.chunk_by(alike) {
        let known: Vec<Bucket> = stretch.iter().copied().flatten().collect();
        let Some(first) = known.first() else { continue };
        let distances = || known.iter().filter_map(|bucket| Some((bucket.at, bucket.distance?)));
        let above = distances().map(|(at, distance)| place(at, distance));
        let below = distances().rev().map(|(at, distance)| place(at, -distance));
        let around: Vec<_> = above.chain(below).collect();
        if !around.is_empty() {
            chart.draw_series([Polygon::new(around, DISTANCE.mix(0.18).filled())]).map_err(fault)?;
        }
        let synchronised = first.distance.is_some();
        let (colour, label) = if synchronised {
            (ERROR, "error, synchronised")
        } else {
            (UNSYNCHRONISED, "error, unsynchronised")
        };
        let line =
            known.iter().flat_map(|bucket| [place(bucket.at, bucket.low), place(bucket.at, bucket.high)]);
        let drawn = chart.draw_series(LineSeries::new(line, colour)).map_err(fault)?;
        if !std::mem::replace(&mut named[usize::from(synchronised)], true) {
            drawn
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
    }
    let band = DISTANCE.mix(0.4).stroke_width(8);
    chart
        .draw_series(LineSeries::new([], band))
        .map_err(fault)?
        .label("root distance, either way")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], band));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .label_font((FONT, 12).into_font().color(&TEXT))
        .draw()
        .map_err(fault)
}

/// The powers of ten from one to another.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let all = std::iter::successors(Some(low), |decade| Some(10.0 * decade));
    all.take_while(|&decade| decade <= high * 1.001).collect()
}

fn draw_deviations(area: &Area<'_>, track: &Track) -> Drawn<()> {
    let steady = track.steady();
    let served: Vec<f64> = track.served[steady.clone()].iter().flatten().map(|(error, _)| *error).collect();
    let curves = [
        ("oscillator", UNSYNCHRONISED, allan::deviations(&track.counter[steady])),
        ("served clock", ERROR, allan::deviations(&served)),
    ];
    // A perfect one has no logarithm.
    let curves = curves.map(|(name, colour, mut curve)| {
        curve.retain(|(_, deviation)| *deviation > 0.0);
        (name, colour, curve)
    });
    let all = || curves.iter().flat_map(|(_, _, curve)| curve);
    let least = all().map(|(_, deviation)| *deviation).fold(1e-9, f64::min);
    let greatest = all().map(|(_, deviation)| *deviation).fold(least, f64::max);
    let longest = all().map(|(span, _)| *span).fold(10.0, f64::max);
    let low = least.log10().floor();
    let high = greatest.log10().ceil().max(low + 1.0);
    let (low, high) = (10_f64.powf(low), 10_f64.powf(high));
    let mut chart = ChartBuilder::on(area)
        .caption("Allan deviation (overlapping), once settled", (FONT, 14).into_font().color(&TEXT))
        .margin(12)
        .margin_right(28)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (1.0..longest).log_scale().with_key_points(decades(1.0, longest)),
            (low..high).log_scale().with_key_points(decades(low, high)),
        )
        .map_err(fault)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .x_desc("span, s")
        .y_desc("Allan deviation")
        .y_label_formatter(&|deviation| format!("{deviation:.0e}"))
        .x_label_formatter(&|span| format!("{span:.0}"))
        .label_style((FONT, 12).into_font().color(&TEXT))
        .draw()
        .map_err(fault)?;
    for (name, colour, curve) in curves {
        chart
            .draw_series(LineSeries::new(curve, colour.stroke_width(2)))
            .map_err(fault)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperMiddle)
        .background_style(WHITE.mix(0.85))
        .label_font((FONT, 12).into_font().color(&TEXT))
        .draw()
        .map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinned_out_the_extremes_are_kept() {
        let mut track = Track::default();
        for second in 0..8_000 {
            let error = if second == 4_321 { 5e-6 } else { 1e-7 };
            track.push(0.0, Some((error, (second != 1_234).then_some(1e-6))));
        }
        let buckets = track.buckets();
        assert_eq!(buckets.len(), POINTS_MAX);
        assert_eq!(buckets[432].map(|bucket| (bucket.low, bucket.high)), Some((1e-7, 5e-6)));
        assert_eq!(buckets[123].and_then(|bucket| bucket.distance), None);
        assert_eq!(buckets[124].and_then(|bucket| bucket.distance), Some(1e-6));
        assert_eq!(track.steady().end, 8_000);
        assert!(track.steady().start > 1_234);
    }

    #[test]
    fn nothing_at_all_has_a_picture_too() {
        let mut nothing = Track::default();
        let never = |track: &Track| svg(track, "a < b").expect("drawn");
        assert!(never(&nothing).contains("</svg>"));
        for _ in 0..100 {
            nothing.push(0.0, None);
        }
        let picture = never(&nothing);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        assert!(picture.contains("a &lt; b"));
    }
}
