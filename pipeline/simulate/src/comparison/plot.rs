//! Pieces of SVG that plots are made of. Colours and fonts come from the page's style sheet, by class.

use super::format::escaped;
use super::scale::{Scale, TimeScale};
use super::steps::Point;

/// Colours of the style sheet for policies.
const COLOURS: usize = 7;
/// Dash patterns, so that policies can be told apart without colour; the first is a solid line.
const DASHES: [&str; 8] = ["", "7 3", "2 2.5", "9 3 2 3", "12 4", "4 4", "7 2 2 2 2 2", "1 4"];

/// Class and dash pattern of a policy's line, as attributes.
pub(super) fn line_style(policy: usize) -> String {
    let dash = DASHES[policy % DASHES.len()];
    let pattern = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
    format!("class=\"line c{}\"{pattern}", policy % COLOURS)
}

/// Class of what is filled in a policy's colour.
pub(super) fn fill_class(policy: usize) -> String {
    format!("fill f{}", policy % COLOURS)
}

/// A place to a tenth of a pixel.
pub(super) fn pixel(place: f64) -> String {
    let text = format!("{place:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// The path of a step function until the end of the time axis; empty without points.
pub(super) fn path(points: &[Point], time: &TimeScale, value: &Scale) -> String {
    let mut out = String::new();
    for (at, height) in points {
        let (x, y) = (pixel(time.at(*at)), pixel(value.at(*height)));
        out += &if out.is_empty() { format!("M{x} {y}") } else { format!("H{x}V{y}") };
    }
    if !out.is_empty() {
        out += &format!("H{}", pixel(time.right));
    }
    out
}

/// The path of the area below a step function.
pub(super) fn area(points: &[Point], time: &TimeScale, value: &Scale) -> String {
    let line = path(points, time, value);
    match points.first() {
        Some(first) => format!("{line}V{}H{}Z", pixel(value.from), pixel(time.at(first.0))),
        None => line,
    }
}

/// A line.
pub(super) fn rule(class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(pixel);
    format!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>")
}

/// Words at a place; classes `end` and `middle` move them to the left of it.
pub(super) fn words(class: &str, x: f64, y: f64, text: &str) -> String {
    format!("<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>", pixel(x), pixel(y), escaped(text))
}
